"""Tests that send each operation into each fault of tests/helpers/faults.py."""

from __future__ import annotations

import contextlib
import datetime
import gc
import logging
import os
import re
import socket
import ssl
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import flask
import pytest
import trustme
from werkzeug.test import TestResponse

from flask_ecwid import contract, signals

from ..conftest import PREFIX, REQUEST_ID, TOKEN, app_of
from ..helpers import faults
from ..helpers.faults import (
    ALL,
    ASKED,
    CLEAN,
    EITHER,
    EMAIL,
    FAULTS,
    GOOD_BODIES,
    HELD,
    NEW,
    NO_TIME,
    OPERATIONS,
    OTHERS,
    RECONCILE,
    STORIES,
    WAIT,
    WRITES,
    Fault,
    Problem,
    Story,
    envelope,
    found,
    good,
    nobody,
    resets,
)
from ..helpers.raw_server import Call, RawServer, ScriptedServer
from ..helpers.waiting import happens

T = TypeVar("T")

URN = "urn:flask-ecwid:problem:"
TIMEOUT_S = 3.0  # A busy machine replies within this time.
DEADLINE_S = 3 * TIMEOUT_S  # For faults that take time, so that three timeouts fit.
ROOMY_DEADLINE_S = 12.0  # Every wait fits, and so does a busy machine.
SLACK_S = 8.0  # A busy machine needs this extra time.

REQUESTS: dict[str, tuple[str, str, Any]] = {
    "list_customers": ("GET", f"/customers?email={EMAIL}&keyword=canary", None),
    "get_customer": ("GET", "/customer/7", None),
    "update_customer": ("POST", "/update_customer/7", NEW),
    "delete_customer": ("POST", "/delete_customer/7", None),
    "add_customer": ("POST", "/add_customer", NEW),
}


# ---------------------------------------------------------------------------------------------
# A case is an app and a store that fails, and has an outcome


@dataclass(frozen=True)
class Case:
    """An operation that meets a fault, which heals after its first time or lasts."""

    operation: str
    fault: Fault
    heals: bool

    def __str__(self) -> str:
        return f"{self.operation}-{self.fault.name}{', once' if self.heals else ''}"


@dataclass
class Outcome:
    """The response to a request, the calls that Ecwid received, and the requests that followed."""

    response: TestResponse
    took_s: float
    heard: Counter[str]
    attempts: int  # attempts to connect, if the fault comes before any call
    connections: int
    pauses: list[float]
    calls: list[Call]
    # Each response stands with the number of its calls.
    afterwards: dict[str, tuple[TestResponse, int]] = field(default_factory=dict)


class _World(threading.local):
    """The attempts and the waits in the thread of a case.

    A wait is no sign of an attempt, because a thread also waits for a busy state file.
    """

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.attempts = 0
        self.after_attempt: Callable[[], object] = lambda: None

    def begin_attempt(self, *_: object, **__: object) -> None:
        self.attempts += 1

    def end_attempt(self, *_: object, **__: object) -> None:
        self.after_attempt()


WORLD = _World()


class NAMES:
    """A switch for all threads, because the client resolves names in a thread of its own."""

    fail = False


class Pauses:
    """A replacement for the waits between attempts that records each wait and takes little time.

    A call that waits for a pause goes on waiting until the pause is over.
    """

    def __call__(self, seconds: float) -> bool:
        WORLD.pauses.append(seconds)
        time.sleep(min(seconds, 0.01))
        return True


class Log(logging.Handler):
    """A handler that keeps every log record as text."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.written: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        extra = {name: str(value) for name, value in vars(record).items() if name != "msg"}
        self.written.append(f"{record.name} {self.format(record)} {extra}")


@contextlib.contextmanager
def listening() -> Iterator[Log]:
    """Record all logging, including the records of urllib3."""
    log = Log()
    levels = dict.fromkeys(("", "flask_ecwid", "urllib3", "requests"), logging.DEBUG)
    levels["connexion"] = logging.INFO  # because connexion logs much at each start
    loggers = {name: logging.getLogger(name) for name in levels}
    before = {name: logger.level for name, logger in loggers.items()}
    for name, logger in loggers.items():
        logger.setLevel(levels[name])
    loggers[""].addHandler(log)
    try:
        yield log
    finally:
        loggers[""].removeHandler(log)
        for name, logger in loggers.items():
            logger.setLevel(before[name])


@pytest.fixture(scope="module", autouse=True)
def _waits_and_names() -> Iterator[None]:
    """Make waits take no time, and let tests make this host's name unknown."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host == "localhost" and NAMES.fail:
            raise socket.gaierror(socket.EAI_NONAME, "canary is no name")
        return resolve("127.0.0.1" if host == "localhost" else host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        patch.setattr("flask_ecwid.clock.sleep", Pauses())
        gc.collect()
        gc.freeze()  # without this, the collection after each case takes long
        with (
            signals.attempt_started.connected_to(WORLD.begin_attempt),
            signals.attempt_finished.connected_to(WORLD.end_attempt),
        ):
            yield
        gc.unfreeze()


class Certificates(NamedTuple):
    """The certificates of servers by their fault. `""` is the good certificate."""

    bundle: str
    contexts: Mapping[str, ssl.SSLContext]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Make an authority that the apps trust, and certificates of every kind."""
    ours, foreign = trustme.CA(), trustme.CA()
    yesterday = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    made = {
        "": ours.issue_cert("127.0.0.1"),
        "TLS not trusted": foreign.issue_cert("127.0.0.1"),
        "TLS expired": ours.issue_cert("127.0.0.1", not_after=yesterday),
        "TLS other host": ours.issue_cert("canary.example.com"),
    }
    contexts = {name: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for name in made}
    for name, certificate in made.items():
        certificate.configure_cert(contexts[name])
    bundle: Path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ours.cert_pem.write_to_path(str(bundle))
    return Certificates(str(bundle), contexts)


class Store:
    """A simulated store that can be out of reach and can heal."""

    def __init__(self, before: str, certificates: Certificates) -> None:
        self.before = before
        self._healed = False
        self._certificates = certificates
        self.settings: dict[str, Any] = {}
        self.server = ScriptedServer(
            good,
            connects=self._over_tls if before.startswith("TLS") else lambda connection: connection,
            opens=before != "refused",
            fills=before == "full",
        )
        self.url = self.server.url
        if before == "no name":
            NAMES.fail = True
            self.url = self.url.replace("127.0.0.1", "localhost")
        if before.startswith("TLS"):
            self.url = self.url.replace("http:", "https:")
            self.settings["ECWID_CA_BUNDLE"] = certificates.bundle

    def heal(self) -> None:
        """End every fault."""
        self._healed = True
        self.server.script = {}
        NAMES.fail = False
        if self.before in ("refused", "full"):
            self.server.open()

    def attempts(self) -> int:
        """Return the number of attempts to connect, by the client if the server sees none."""
        return self.server.connections if self.before.startswith("TLS") else WORLD.attempts

    def _over_tls(self, connection: socket.socket) -> socket.socket:
        contexts = self._certificates.contexts
        name = "" if self._healed else self.before
        if name in contexts:
            return contexts[name].wrap_socket(connection, server_side=True)
        hello = connection.recv(65_536)
        if name == "TLS stalled":
            while hello:
                hello = connection.recv(65_536)
        if name == "TLS plain":
            connection.sendall(b"HTTP/1.1 400 Canary\r\n\r\n")
        if name == "TLS reset":
            resets(connection, Call("", "", "", "", b"", b""))
        connection.close()
        raise ConnectionError("hung up before any call")


def ask(app: flask.Flask, operation: str, body: Any = None) -> TestResponse:
    method, path, usual = REQUESTS[operation]
    headers = {"X-Request-ID": REQUEST_ID, "X-Note": "canary"}
    return app.test_client().open(PREFIX + path, method=method, json=body or usual, headers=headers)


# werkzeug parses Python while an app gets its rules, and CPython 3.11.7 may fail with a SystemError
# when two threads parse at the same time (python/cpython#106905).
OPENING = threading.Lock()


def open_app(store: Store, deadline_s: float) -> flask.Flask:
    config = {
        "ECWID_STORE_ID": "1003",
        "ECWID_TOKEN": TOKEN,
        "ECWID_AUTH": "none",
        "ECWID_UI": "off",  # a quicker start
        "ECWID_API_URL": store.url,
        "ECWID_CONNECT_TIMEOUT_S": TIMEOUT_S,
        "ECWID_READ_TIMEOUT_S": TIMEOUT_S,
        "ECWID_DEADLINE_S": deadline_s,
        **store.settings,
    }
    with OPENING:
        return app_of(config)


def deadline_of(case: Case) -> float:
    return ROOMY_DEADLINE_S if case.fault.takes == NO_TIME else DEADLINE_S


def asked(app: flask.Flask, store: Store, operation: str, body: Any = None) -> Outcome:
    """Send a request and return its outcome."""
    server = store.server
    server.heard.clear()
    WORLD.pauses, WORLD.attempts = [], 0
    before, begun = server.connections, time.monotonic()
    response = ask(app, operation, body)
    took_s = time.monotonic() - begun
    return Outcome(
        response,
        took_s,
        server.count(),
        store.attempts(),
        server.connections - before,
        list(WORLD.pauses),
        list(server.heard),
    )


def run(case: Case, certificates: Certificates) -> Outcome:
    """Send the case's request, and the requests that follow when the fault is gone."""
    fault, operation = case.fault, case.operation
    store = Store(fault.before, certificates)
    with store.server as server:
        app = open_app(store, deadline_of(case))
        if fault.warm:
            warm_up(app, store, case)
        if fault.answer:
            replies = [fault.answer, good] if case.heals else [fault.answer]
            server.script = {operation: replies, "reconcile": [found() if case.heals else nobody]}
        WORLD.after_attempt = store.heal if fault.before and case.heals else lambda: None
        outcome = asked(app, store, operation)
        WORLD.after_attempt = lambda: None
        store.heal()
        wait_until_idle(fault, server)  # without this, the connection closes during the call
        for next_operation in following(case):
            server.heard.clear()
            response = ask(app, next_operation)
            outcome.afterwards[next_operation] = (response, len(server.heard))
    return outcome


def warm_up(app: flask.Flask, store: Store, case: Case) -> None:
    """Make a good call over a connection that at least the client keeps open."""
    if closes_idle(case.fault) and case.fault.answer:
        store.server.script = {case.operation: [case.fault.answer]}
    assert ask(app, case.operation).status_code == 200
    wait_until_idle(case.fault, store.server)


def wait_until_idle(fault: Fault, server: ScriptedServer) -> None:
    """Send the bytes that nobody asked for, or wait until Ecwid has closed its connections."""
    strays = faults.STRAYS[:]
    faults.STRAYS.clear()
    for send in strays:
        send()
    if closes_idle(fault) and not strays:
        server.wait_until_idle()


def closes_idle(fault: Fault) -> bool:
    """Return whether Ecwid sends good replies after which no connection can carry a call."""
    return fault.warm and fault.gets is None


def following(case: Case) -> list[str]:
    """Return the operations that are sent after the fault is gone."""
    others = [other for other in OPERATIONS if other != case.operation]
    if case.fault.next == HELD:
        return [case.operation, others[0]]
    return others[:1] if case.fault.next == OTHERS else [case.operation]


class Left(NamedTuple):
    """The threads, descriptors and log lines that a run has left behind."""

    threads: int
    descriptors: int
    when_forgotten: int  # descriptors, after the app and its connections are gone
    log: str


def measured(run: Callable[[], T]) -> tuple[T, Left]:
    """Run a function and return its result, and also what the run left behind."""
    gc.collect()
    threads, descriptors = threading.active_count(), open_descriptors()
    with listening() as log:
        result = run()
    happens(lambda: threading.active_count() <= threads)
    kept = open_descriptors() - descriptors
    gc.collect()
    return result, Left(
        threading.active_count() - threads,
        kept,
        open_descriptors() - descriptors,
        "\n".join(log.written),
    )


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# ---------------------------------------------------------------------------------------------
# Checks


def check_problem(response: TestResponse, expected: Problem, operation: str) -> None:
    """Check that the response is the whole expected problem and holds no personal value."""
    body = response.json
    assert body is not None
    assert (response.status_code, body.get("type")) == (expected.status, URN + expected.slug)
    assert response.content_type == "application/problem+json"
    assert body["status"] == expected.status
    assert body["origin"] == ("service" if expected.slug == "throttled" else "ecwid")
    assert body["request_id"] == response.headers["X-Request-ID"] == REQUEST_ID
    assert body.get("executed") == (expected.executed if operation in WRITES else None)
    assert body.get("ecwid_code") == expected.code
    assert re.search(expected.detail, body["detail"])
    assert bool(body.get("errors")) == (expected.slug == "contract-broken")
    assert all(set(violation) == {"pointer", "keyword"} for violation in body.get("errors", []))
    contract.load().operations[operation].validate_response(response.status_code, body)
    if expected.retry_after:
        least, most = expected.retry_after
        assert least <= int(response.headers["Retry-After"]) <= most
    assert "canary" not in f"{response.headers} {response.text}".casefold()


def check_good(response: TestResponse, operation: str, body: bytes) -> None:
    """Check that the response is Ecwid's body in the plugin's envelope."""
    assert (response.status_code, response.json) == (200, envelope(operation, body, REQUEST_ID))
    assert response.content_type == "application/json"
    assert response.headers["X-Request-ID"] == REQUEST_ID
    assert "canary" not in str(response.headers).casefold()


HELD_BACK = Problem(503, "throttled", "no", (1, 3600))


def check(case: Case, outcome: Outcome) -> None:
    """Check that the outcome is the one in the table."""
    fault, operation = case.fault, case.operation
    word, gets = fault.cell(operation)
    if case.heals or gets is None:
        bodies = (not case.heals and fault.bodies) or GOOD_BODIES
        check_good(outcome.response, operation, bodies[operation])
    else:
        check_problem(outcome.response, gets, operation)
    check_calls(case, outcome)
    assert outcome.took_s <= deadline_of(case) + SLACK_S
    assert all(0 <= seconds <= deadline_of(case) for seconds in outcome.pauses)
    if case.heals and word is WAIT:
        assert sum(outcome.pauses) >= fault.pause_s
    for next_operation, (response, calls) in outcome.afterwards.items():
        check_next(case, next_operation, response, calls)


STATE_FILES = 3  # The state file, and the two files that SQLite keeps beside it.


def check_left(left: Left, apps: int = 1) -> None:
    """Check that a living app keeps one connection to Ecwid and one to the state file."""
    assert left.threads <= 0
    assert left.descriptors <= apps * (1 + STATE_FILES)
    assert left.when_forgotten <= 0
    assert "canary" not in left.log.casefold()


def check_calls(case: Case, outcome: Outcome) -> None:
    fault, operation = case.fault, case.operation
    word, _ = fault.cell(operation)
    least, most = fault.attempts(operation)
    if case.heals and word is not RECONCILE:
        least = most = 2
    calls = outcome.attempts if fault.before else outcome.heard[operation]
    assert least <= calls <= most
    if operation == "add_customer" and word is not WAIT:
        # A creation is sent at most once. Only a 429 says that Ecwid has not made it.
        assert outcome.heard[operation] <= 1
    if fault.before:  # a call gets through only after the connection heals
        assert outcome.heard == ({operation: 1} if case.heals else {})
    least, most = fault.reconcile_attempts(operation)
    assert least <= outcome.heard["reconcile"] <= most
    assert set(outcome.heard) <= {operation, "reconcile"}
    if fault.fresh:
        assert outcome.connections >= calls


def check_next(case: Case, operation: str, response: TestResponse, calls: int) -> None:
    """Check the request that follows when the fault is gone."""
    word, _ = case.fault.cell(case.operation)
    heals = case.heals and (case.fault.next != HELD or word is WAIT)
    follows = CLEAN if heals else case.fault.next
    if follows == EITHER:
        follows = HELD if response.status_code == 503 else CLEAN
    if follows == HELD:
        check_problem(response, HELD_BACK, operation)
        assert calls == 0
    else:
        check_good(response, operation, GOOD_BODIES[operation])
        assert calls == (2 if follows == ASKED else 1)


# ---------------------------------------------------------------------------------------------
# The matrix

HEALING = ("get_customer", "delete_customer", "add_customer")
CASES = [
    Case(operation, fault, heals)
    for fault in FAULTS
    for operation in OPERATIONS
    if (word := fault.cell(operation)[0])
    for heals in (False, True)
    # One healing case for each kind of operation is enough, because the rule is the same.
    if not heals or (operation in HEALING and word.heals and fault.takes != ALL)
]
QUICK = [case for case in CASES if case.fault.takes == NO_TIME]
SLOW = [case for case in CASES if case.fault.takes != NO_TIME]


def test_the_table_is_whole() -> None:
    """The table has at least 80 faults, and each fault has its own name."""
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names)) >= 80


def test_every_fault_counts_creations() -> None:
    """Each fault is tried with a creation, and so the creations that reach Ecwid are counted.

    The other faults are replies that no creation gets.
    """
    tried = {case.fault.name for case in CASES if case.operation == "add_customer"}
    others = {fault.name for fault in FAULTS} - tried
    assert others == {"404 for a customer", "a count of 0"}


@pytest.mark.parametrize("case", QUICK, ids=str)
def test_fault(case: Case, certificates: Certificates) -> None:
    """Each fault leads to its response and its number of calls, and leaves nothing behind."""
    outcome, left = measured(lambda: run(case, certificates))
    check_left(left)
    check(case, outcome)


Slow = tuple[Mapping[Case, "Future[Outcome]"], Left]


@pytest.fixture(scope="module")
def slow(certificates: Certificates) -> Slow:
    """Run all cases that wait for the network at the same time."""

    def run_all() -> dict[Case, Future[Outcome]]:
        with ThreadPoolExecutor(40) as pool:
            return {case: pool.submit(run, case, certificates) for case in SLOW}

    return measured(run_all)


@pytest.mark.parametrize("case", SLOW, ids=str)
def test_fault_that_takes_time(case: Case, slow: Slow) -> None:
    """Each fault that takes time ends by the deadline with its response and its calls."""
    outcomes, _ = slow
    check(case, outcomes[case].result())


def test_faults_that_take_time_leave_nothing(slow: Slow) -> None:
    """A fault that takes time leaves no thread, no descriptor and no personal value in the log."""
    _, left = slow
    check_left(left, apps=len(SLOW))


@pytest.mark.parametrize("story", STORIES, ids=lambda story: f"{story.operation}-{story.name}")
def test_story(story: Story, certificates: Certificates) -> None:
    """The last reply determines the result, and a creation without a reply is searched for."""
    deadline_s = 20.0  # all three searches fit

    def run_it() -> Outcome:
        store = Store("", certificates)
        with store.server as server:
            server.script = story.script
            return asked(open_app(store, deadline_s), store, story.operation, story.body)

    outcome, left = measured(run_it)
    check_left(left)
    if story.gets is None:
        check_good(outcome.response, story.operation, GOOD_BODIES[story.operation])
    else:
        check_problem(outcome.response, story.gets, story.operation)
    assert set(outcome.heard) == set(story.calls)
    for kind, (least, most) in story.calls.items():
        assert least <= outcome.heard[kind] <= most
    for call in outcome.calls:
        if call.kind == "reconcile":
            assert "email=canary%40example.com" in call.query.casefold().split("&")
    if story.calls.get("reconcile") == (3, 3):
        assert 3 <= sum(outcome.pauses) <= 4.5  # at 0, 1 and 3 s
    assert outcome.took_s <= TIMEOUT_S + SLACK_S


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status: int, operation: str, certificates: Certificates) -> None:
    """A redirect is never followed, neither to another host nor to another path."""
    store = Store("", certificates)
    with RawServer(lambda connection: None) as other, store.server as server:
        for to in (other.url, "here"):
            server.script = {operation: [faults.redirect(status, to)]}
            outcome = asked(open_app(store, ROOMY_DEADLINE_S), store, operation)
            check_problem(outcome.response, faults.BAD_REPLY, operation)
            assert outcome.heard == {operation: 1}
        assert other.connections == 0


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", ["gzip bomb", "chunks over 8 MiB"])
def test_memory_stays_bounded(name: str, operation: str, certificates: Certificates) -> None:
    """The client gives up a reply that is larger than 8 MiB, so memory stays bounded."""
    fault = next(fault for fault in FAULTS if fault.name == name)
    tracemalloc.start()
    try:
        run(Case(operation, fault, heals=False), certificates)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 28 << 20
