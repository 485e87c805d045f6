"""Tests of refusals and failures that may be the fault of one question, counted at a fake Ecwid."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from email.utils import formatdate
from functools import partial
from typing import Any

import pytest

from flask_ecwid import EcwidClient, Settings, clock
from flask_ecwid.errors import EcwidError, OutcomeUnknown
from flask_ecwid.storage import file_state
from flask_ecwid.storage.file_state import FileState
from flask_ecwid.throttling import guard

from ..conftest import ROOT, TOKEN, environment
from ..helpers import faults
from ..helpers.faults import EMAIL, GOOD_BODIES, HTML, error, nobody, reply, wait
from ..helpers.raw_server import Answer, RawServer, ScriptedServer
from ..helpers.raw_server import Call as Heard
from ..helpers.redis_server import RedisServer

good = faults.reply(200, GOOD_BODIES)
NEUTRAL = "offset=0&limit=1&"


class FakeEcwid(ScriptedServer):
    """A store on which `fails` says whether a call fails, and `failure` is the reply then."""

    def __init__(self) -> None:
        super().__init__(good)
        self.fails: Callable[[Heard], bool] = lambda call: False
        self.failure: Answer = reply(500)

    def _answer(self, call: Heard) -> Answer:
        return self.failure if self.fails(call) else super()._answer(call)

    def asked(self) -> list[str]:
        """Return the kinds of the calls in order, with `neutral` for the neutral question."""
        return ["neutral" if is_neutral(call) else call.kind for call in self.heard]


def is_neutral(call: Heard) -> bool:
    return call.kind == "list_customers" and call.query.startswith(NEUTRAL)


@pytest.fixture
def ecwid() -> Iterator[FakeEcwid]:
    server = FakeEcwid()
    with server:
        yield server


def client_of(server: RawServer, **options: Any) -> EcwidClient:
    return EcwidClient(Settings(store_id="1003", token=TOKEN, api_url=server.url, **options))


def outcome(ask: Callable[[], object]) -> str:
    """Return `good`, or the slug of the failure."""
    try:
        ask()
    except EcwidError as exc:
        return exc.slug
    return "good"


# A failure of one question concerns no other question

REFUSALS = {
    "401": error(401, "UNAUTHORIZED"),
    "401, empty": reply(401),
    "402, HTML": reply(402, HTML),
    "403, HTML": reply(403, HTML),
    "403, empty": reply(403),
    "404, HTML": reply(404, HTML),
}
FAILURES = {
    "500": reply(500, HTML),
    "502": reply(502, HTML),
    "200, HTML": reply(200, HTML),
    "reset": faults.resets,
    "closed": faults.closes,
    "redirect": faults.redirect(302, "here"),
}
ALIKE = pytest.mark.parametrize("varied", [False, True], ids=["one question", "many questions"])


@ALIKE
@pytest.mark.parametrize("failure", {**REFUSALS, **FAILURES}.values(), ids=[*REFUSALS, *FAILURES])
@pytest.mark.usefixtures("no_waiting")
def test_a_caller_whose_questions_fail(ecwid: FakeEcwid, failure: Answer, varied: bool) -> None:
    """A caller whose searches fail stops no other call, even if each search differs."""
    ecwid.fails = lambda call: "keyword" in call.query
    ecwid.failure = failure
    client = client_of(ecwid, calls_per_minute=10_000)
    for number in range(25):
        keyword = str(number) if varied else "canary"
        assert outcome(partial(client.list_customers, keyword=keyword)) != "good"
        if number % 5 == 4:  # so that many failures come in a row
            assert client.get_customer(7)["id"] == 7


@pytest.mark.parametrize("failure", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_of_every_question(
    ecwid: FakeEcwid, later: Callable[[float], None], failure: Answer
) -> None:
    """Refusals without a code begin a pause after the neutral question is refused as well.

    At most three calls and the neutral question are sent. After the pause, only the neutral
    question is sent until Ecwid accepts it.
    """
    ecwid.fails, ecwid.failure = lambda call: True, failure
    client = client_of(ecwid)
    ask = lambda: client.list_customers(keyword="canary")  # noqa: E731
    assert [outcome(ask) for _ in range(20)][-16:] == ["throttled"] * 16
    assert 2 <= len(ecwid.heard) <= 4
    assert [is_neutral(call) for call in ecwid.heard].index(True) == len(ecwid.heard) - 1
    for _ in range(3):
        ecwid.heard.clear()
        later(61)
        assert [outcome(ask) for _ in range(5)] == ["throttled"] * 5
        assert ecwid.asked() == ["neutral"]
    ecwid.fails = lambda call: False
    later(61)
    assert client.get_customer(7)["id"] == 7


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
@pytest.mark.usefixtures("no_waiting")
def test_an_outage_with_one_busy_question(
    ecwid: FakeEcwid, later: Callable[[float], None], failure: Answer
) -> None:
    """An outage opens the breaker after five failures and the neutral question.

    Then the neutral question is the only call, until Ecwid replies to it.
    """
    ecwid.fails, ecwid.failure = lambda call: True, failure
    client = client_of(ecwid)
    ask = lambda: client.get_customer(7)  # noqa: E731
    assert [outcome(ask) for _ in range(20)][-14:] == ["throttled"] * 14
    assert ecwid.asked() == ["get_customer"] * 5 + ["neutral"]
    for seconds in (10, 20, 40, 60, 60):
        ecwid.heard.clear()
        later(seconds - 1)
        assert outcome(ask) == "throttled"
        assert ecwid.asked() == []
        later(1.5)
        assert [outcome(ask) for _ in range(3)] == ["throttled"] * 3
        assert ecwid.asked() == ["neutral"]
    ecwid.fails = lambda call: False
    later(61)
    assert [outcome(ask) for _ in range(3)] == ["good"] * 3


@pytest.mark.parametrize("failure", [reply(403), error(403, "INVALID_API_TOKEN"), reply(500)])
@pytest.mark.usefixtures("no_waiting")
def test_a_question_that_fails_after_an_outage(
    ecwid: FakeEcwid, later: Callable[[float], None], failure: Answer
) -> None:
    """A question that fails on its own prolongs neither a pause nor the time of the breaker."""
    ecwid.fails, ecwid.failure = lambda call: True, failure
    client = client_of(ecwid)
    ask = lambda: client.list_customers(keyword="canary")  # noqa: E731
    while outcome(ask) != "throttled":
        pass
    ecwid.fails, ecwid.failure = lambda call: "keyword" in call.query, reply(403, HTML)
    later(61)
    assert outcome(ask) == "service-refused"
    assert client.get_customer(7)["id"] == 7


def test_the_neutral_question_counts(ecwid: FakeEcwid) -> None:
    """The neutral question takes a call from the rate limit, and holds no value of a caller."""
    ecwid.fails, ecwid.failure = lambda call: "keyword" in call.query, reply(403)
    client = client_of(ecwid, calls_per_minute=20)
    for _ in range(4):
        outcome(lambda: client.list_customers(keyword="canary"))
    assert ecwid.asked() == ["list_customers", "neutral"] * 3 + ["list_customers"]
    assert client.remaining_calls().remaining == 20 - len(ecwid.heard)
    neutral = {(call.path, call.query, call.body) for call in ecwid.heard if is_neutral(call)}
    assert len(neutral) == 1
    assert "canary" not in str(neutral)


def test_calls_wait_for_the_neutral_question(ecwid: FakeEcwid) -> None:
    """While the neutral question is asked, other calls wait, so a refused token makes no more."""
    ecwid.fails = lambda call: True
    release = threading.Event()

    def refuse(connection: Any, call: Heard) -> bool:
        if is_neutral(call):
            release.wait(20)
        return reply(403)(connection, call)

    ecwid.failure = refuse
    client = client_of(ecwid)
    assert outcome(lambda: client.delete_customer(7)) == "service-refused"
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(outcome, lambda: client.delete_customer(7)) for _ in range(8)]
        while len(ecwid.heard) < 2:
            time.sleep(0.01)
        time.sleep(0.2)
        release.set()
        assert [each.result() for each in asked] == ["throttled"] * 8
    assert ecwid.asked() == ["delete_customer", "neutral"]


def test_no_call_remains_for_the_neutral_question(
    ecwid: FakeEcwid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no call of the rate limit remains for the neutral question, each waiting call learns so.

    A busy state file holds the call that has to ask, so that the others wait for the question.
    """
    monkeypatch.setattr(file_state, "_BUSY_S", 60.0)
    ecwid.fails = lambda call: True
    ecwid.failure = reply(401)
    client = client_of(ecwid, calls_per_minute=3)
    ask = partial(outcome, lambda: client.delete_customer(7))
    assert [ask() for _ in range(3)] == ["service-refused"] * 3
    with (
        ThreadPoolExecutor(4) as threads,
        closing(sqlite3.connect(FileState().try_out(), isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        asked = [threads.submit(ask) for _ in range(4)]
        time.sleep(0.3)
        other.execute("ROLLBACK")
        assert [each.result() for each in asked] == ["budget-spent"] * 4
    assert len(ecwid.heard) == 3


# A brief 429


HAMMER = """
import sys, threading, time
from flask_ecwid import EcwidClient, Settings
from flask_ecwid.errors import EcwidError
url, redis, seconds = sys.argv[1], sys.argv[2] or None, float(sys.argv[3])
client = EcwidClient(Settings(store_id="1003", token="secret_x", api_url=url, redis_url=redis))
def hammer():
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            client.delete_customer(7)
        except EcwidError:
            pass
        time.sleep(0.001)
threads = [threading.Thread(target=hammer) for _ in range(4)]
[each.start() for each in threads]
[each.join() for each in threads]
"""


def run_at_once(program: str, processes: int, *arguments: str) -> list[str]:
    """Run a program in several processes at once, and return what each process printed."""
    begun = [
        subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    printed = [each.communicate(timeout=120)[0] for each in begun]
    assert [each.returncode for each in begun] == [0] * processes
    return printed


@pytest.mark.parametrize("seconds", [b"0", b"1", b"2"])
def test_a_brief_429_pauses_every_process(
    ecwid: FakeEcwid, redis: RedisServer, seconds: bytes
) -> None:
    """A 429 with a Retry-After of 2 s or less pauses all processes for that time.

    Each thread of each process has a first call, and ten calls of a process may be repeated. In
    each later second, only the calls that begin at the same moment are refused.
    """
    ecwid.fails, ecwid.failure = lambda call: True, error(429, "LIMITED", wait(seconds))
    run_at_once(HAMMER, 3, ecwid.url, redis.url, "6")
    rounds = 6 / max(int(seconds), 1) + 1
    threads, repeated = 3 * 4, 3 * guard.RETRY_BUDGET // guard.RETRY_COST
    assert len(ecwid.heard) <= rounds * threads + repeated


def test_a_brief_429_is_waited_for(ecwid: FakeEcwid, monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls that got a brief 429 are repeated after it, and other calls are throttled."""
    # All four calls are heard before the first 429, which would throttle the others.
    meeting, refused, waits = threading.Barrier(4), threading.Event(), threading.Event()
    sleep = clock.sleep

    def sleeps(seconds: float) -> bool:
        if seconds > 1:  # a 429, and no busy file
            waits.set()
        return sleep(seconds)

    monkeypatch.setattr(clock, "sleep", sleeps)

    def limited(connection: Any, call: Heard) -> bool:
        meeting.wait(20)
        refused.set()
        return error(429, "LIMITED", wait(b"2"))(connection, call)

    ecwid.fails, ecwid.failure = lambda call: not refused.is_set(), limited
    client = client_of(ecwid)
    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(outcome, lambda: client.delete_customer(7)) for _ in range(4)]
        assert waits.wait(20)
        assert outcome(lambda: client.get_customer(7)) == "throttled"
        assert [each.result() for each in waiting] == ["good"] * 4
    assert ecwid.asked() == ["delete_customer"] * 8


# The retry budget

REPEATING = """
import sys
from flask_ecwid import EcwidClient, Settings
from flask_ecwid.errors import EcwidError
client = EcwidClient(Settings(store_id="1003", token="secret_x", api_url=sys.argv[1]))
good = 0
for number in range(60):
    try:
        good += bool(client.get_customer(int(sys.argv[2]) + number))
    except EcwidError:
        pass
print(good)
"""


@pytest.mark.parametrize("fails_every", [1, 2], ids=["no success", "each second succeeds"])
def test_the_bound_of_repeated_calls(ecwid: FakeEcwid, fails_every: int) -> None:
    """All processes together repeat 10 calls each, and one more for 5 successful first attempts."""
    lock, seen = threading.Lock(), Counter[str]()

    def fails(call: Heard) -> bool:
        """Fail the first call for a customer, and let the repetition succeed."""
        if is_neutral(call):
            return False
        with lock:
            seen[call.path] += 1
            return seen[call.path] == 1 and int(call.path[-3:]) % fails_every == 0

    ecwid.fails = fails
    processes = [
        threading.Thread(target=run_at_once, args=(REPEATING, 1, ecwid.url, f"{number}000"))
        for number in (1, 2, 3)
    ]
    for each in processes:
        each.start()
    for each in processes:
        each.join()
    first = 3 * 60
    succeeded = first - first // fails_every
    repeated = sum(count - 1 for count in seen.values())
    assert len(seen) == first
    assert 3 * 10 <= repeated <= 3 * 10 + succeeded / 5


@pytest.mark.usefixtures("no_waiting")
def test_time_fills_no_retry_budget(ecwid: FakeEcwid, later: Callable[[float], None]) -> None:
    """A process that was idle for a day repeats no more calls than before."""
    seen = Counter[str]()

    def fails(call: Heard) -> bool:
        """Fail the first call for a customer, and let the repetition succeed."""
        seen[call.path] += 1
        return seen[call.path] == 1 and not is_neutral(call)

    ecwid.fails = fails
    client = client_of(ecwid)
    found = []
    for number in range(1, 61):
        found.append(outcome(partial(client.get_customer, number)))
        later(24 * 3600 if number % 20 == 0 else 0)
    assert found.count("good") == 10


# Dates


OFF_S = 25 * 60


@pytest.mark.parametrize("off_s", [-OFF_S, 0, OFF_S])
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Date": 0, "Retry-After": 30}, 30),
        ({"Date": 0, "Retry-After": 7200}, 3600),
        ({"Date": 0, "Retry-After": 2}, 2),
        ({"Date": 0, "Retry-After": 0}, 1),
        ({"Date": 0, "Retry-After": -30}, 10),
    ],
)
def test_a_date_is_on_the_clock_of_ecwid(
    ecwid: FakeEcwid,
    monkeypatch: pytest.MonkeyPatch,
    off_s: float,
    status: int,
    headers: dict[str, float],
    seconds: int,
) -> None:
    """A pause until a date lasts as Ecwid's clock says, whatever the clock of this host shows."""
    wall = clock.wall
    monkeypatch.setattr(clock, "wall", lambda: wall() + off_s)
    now = time.time()  # once, because a second may end between two headers
    lines = [
        f"{name}: {formatdate(now + at, usegmt=True)}".encode() for name, at in headers.items()
    ]
    ecwid.fails, ecwid.failure = lambda call: True, error(status, "LIMITED", *lines)
    with pytest.raises(EcwidError) as caught:
        client_of(ecwid, deadline_s=0.9).get_customer(7)
    assert caught.value.retry_after_s == seconds
    assert caught.value.pause_s == seconds


@pytest.mark.parametrize("kept", [False, True], ids=["without a Date", "with an Age"])
def test_a_date_without_the_clock_of_ecwid(ecwid: FakeEcwid, kept: bool) -> None:
    """A date counts from this host's clock if the reply does not tell its own time."""
    lines = [f"Retry-After: {http_date(40)}".encode()]
    if kept:
        lines += [f"Date: {http_date(-600)}".encode(), b"Age: 600"]
    ecwid.fails, ecwid.failure = lambda call: True, error(429, "LIMITED", *lines)
    with pytest.raises(EcwidError) as caught:
        client_of(ecwid).get_customer(7)
    assert 30 <= (caught.value.retry_after_s or 0) <= 40


def http_date(from_now_s: float) -> str:
    return formatdate(time.time() + from_now_s, usegmt=True)


# Searches


BAD = {**REFUSALS, "INVALID_API_TOKEN": error(403, "INVALID_API_TOKEN")}


@pytest.mark.parametrize("refusal", BAD.values(), ids=BAD)
@pytest.mark.parametrize("earlier", [None, 5.0], ids=["its reply is lost", "an earlier attempt"])
@pytest.mark.usefixtures("no_waiting")
def test_no_search_after_a_refused_token(
    ecwid: FakeEcwid, refusal: Answer, earlier: float | None
) -> None:
    """A creation under way makes at most one bad call after the token was refused."""
    ecwid.script = {"add_customer": [faults.resets], "reconcile": [refusal]}
    with pytest.raises(OutcomeUnknown):
        client_of(ecwid).add_customer({"email": EMAIL}, first_attempt_age_s=earlier)
    assert ecwid.asked() == (["add_customer"] if earlier is None else []) + ["reconcile"]


@pytest.mark.parametrize("failure", [reply(500), faults.resets, reply(200, HTML), reply(403)])
@pytest.mark.usefixtures("no_waiting")
def test_no_creation_without_its_last_search(ecwid: FakeEcwid, failure: Answer) -> None:
    """A creation is repeated only if the last search for its customer had a good reply."""
    ecwid.script = {"reconcile": [nobody, nobody, failure]}
    with pytest.raises(OutcomeUnknown):
        client_of(ecwid).add_customer({"email": EMAIL}, first_attempt_age_s=5.0)
    assert ecwid.asked() == ["reconcile"] * 3
    ecwid.script = {"reconcile": [nobody]}
    assert client_of(ecwid).add_customer({"email": EMAIL}, first_attempt_age_s=5.0) == {"id": 7}
    assert ecwid.asked().count("add_customer") == 1


def test_no_creation_while_the_process_ends(
    ecwid: FakeEcwid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A creation is not repeated if the end of the process leaves out a search."""
    monkeypatch.setattr(clock, "_stopping", False)  # The old value comes back after the test.

    def ends_the_process(connection: socket.socket, call: Heard) -> bool:
        clock.interrupt_sleeps()
        return nobody(connection, call)

    ecwid.script = {"reconcile": [ends_the_process]}
    with pytest.raises(OutcomeUnknown):
        client_of(ecwid).add_customer({"email": EMAIL}, first_attempt_age_s=0.0)
    assert ecwid.asked() == ["reconcile"]
