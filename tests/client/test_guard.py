"""Whether a call is made at all: latch, breaker, bucket; and waits that end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from pytest_httpserver import HTTPServer
from werkzeug import Response
from werkzeug.test import TestResponse

from flask_ecwid import clock
from flask_ecwid.errors import EcwidError, EcwidFailed, RateLimited, ServiceRefused, Throttled
from flask_ecwid.sandbox import Fault
from flask_ecwid.storage.state import MemoryState, StateUnavailable
from flask_ecwid.throttling import guard, pause
from flask_ecwid.throttling.pause import Pause, SharedPause

from ..conftest import (
    PREFIX,
    ROOT,
    Api,
    app_of,
    config_of,
    environment,
    free_port,
    wait_for,
)
from ..helpers.ordered_shop import Shop
from ..helpers.redis_server import RedisServer

CANARY = "canary@example.com"
ID = 172890169
OPERATIONS: dict[str, Callable[[Api], TestResponse]] = {
    "list_customers": lambda api: api.get("/customers"),
    "get_customer": lambda api: api.get(f"/customer/{ID}"),
    "add_customer": lambda api: api.post("/add_customer", {"email": CANARY}),
    "update_customer": lambda api: api.post(f"/update_customer/{ID}", {"lang": "en"}),
    "delete_customer": lambda api: api.post("/delete_customer/5"),
}
DEAD = Fault("status", status=403, empty=True)


class Later:
    """Moves the clock on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._by = 0.0
        now, wall = clock.now, clock.wall
        monkeypatch.setattr(clock, "now", lambda: now() + self._by)
        monkeypatch.setattr(clock, "wall", lambda: wall() + self._by)

    def __call__(self, seconds: float) -> None:
        self._by += seconds


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    return Later(monkeypatch)


def is_held_back(response: TestResponse, most_s: int) -> bool:
    body = response.get_json()
    return (
        response.status_code == 503
        and body["type"] == "urn:flask-ecwid:problem:throttled"
        and body["origin"] == "service"
        and body.get("executed", "no") == "no"
        and 1 <= int(response.headers["Retry-After"]) <= most_s
    )


CLOSING = [
    (DEAD, 30),
    (Fault("status", status=403, code="INVALID_API_TOKEN"), 30),
    (Fault("status", status=402, code="STORE_IS_SUSPENDED"), 60),
    (Fault("status", status=404, code="STORE_NOT_FOUND"), 60),
    (Fault("status", status=429, retry_after="3"), 3),
    (Fault("status", status=429), 10),
    (Fault("status", status=429, retry_after="canary"), 10),
    (Fault("status", status=429, retry_after="-1"), 10),
    (Fault("status", status=429, retry_after="999999"), 3600),
    (Fault("status", status=503, retry_after="40"), 40),
]


@pytest.mark.parametrize(("fault", "seconds"), CLOSING)
@pytest.mark.usefixtures("no_waiting")
def test_the_latch(
    ordered: Shop, later: Later, caplog: pytest.LogCaptureFixture, fault: Fault, seconds: int
) -> None:
    """When Ecwid refuses this service, or asks for a pause, no call is made meanwhile."""
    caplog.set_level("DEBUG")
    api = ordered.api()
    ordered.orders.inject(fault)
    assert OPERATIONS["get_customer"](api).status_code in (429, 502, 503)
    made = ordered.calls()
    later(seconds - 1)
    for ask in OPERATIONS.values():
        response = ask(api)
        assert is_held_back(response, seconds)
        assert "canary" not in response.text + caplog.text
    assert ordered.calls() == made
    ordered.orders.clear_faults()
    later(2)
    assert OPERATIONS["get_customer"](api).status_code == 200
    assert OPERATIONS["get_customer"](api).status_code == 200


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", status=403, code="INSUFFICIENT_APP_SCOPE"),
        Fault("status", status=403, code="SOMETHING_ELSE"),
        Fault("status", status=401, empty=True),
        Fault("status", status=404, empty=True),
        Fault("status", status=405),
        Fault("status", status=409),
    ],
)
def test_what_does_not_close_it(ordered: Shop, fault: Fault) -> None:
    """A refusal of one operation, or one customer, is no reason to hold back the others."""
    api = ordered.api()
    ordered.orders.inject(replace(fault, times=1))
    assert OPERATIONS["get_customer"](api).status_code in (404, 502)
    assert OPERATIONS["list_customers"](api).status_code == 200


def test_the_scope_is_named(ordered: Shop) -> None:
    """A missing scope is named, for the operator to grant."""
    ordered.orders.inject(Fault("status", status=403, code="INSUFFICIENT_APP_SCOPE"))
    scopes = ("read_customers", "read_customers", "create_customers", *["update_customers"] * 2)
    for ask, scope in zip(OPERATIONS.values(), scopes, strict=True):
        assert scope in ask(ordered.api()).get_json()["detail"]


def at_once(ask: Callable[[], TestResponse], times: int = 16) -> list[int]:
    barrier = threading.Barrier(times)

    def one(_: int) -> int:
        barrier.wait()
        return ask().status_code

    with ThreadPoolExecutor(times) as threads:
        return list(threads.map(one, range(times)))


def test_one_goes_first(ordered: Shop, later: Later) -> None:
    """When a dead token's time is over a single call goes first, and its refusal closes again."""
    api = ordered.api()
    ordered.orders.inject(DEAD)
    api.get(f"/customer/{ID}")
    for round in (1, 2, 3):
        later(31)
        statuses = at_once(lambda: api.post("/delete_customer/5"))  # which no two share
        assert ordered.calls() == 1 + round
        assert sorted(statuses) == [502] + [503] * 15


def test_one_goes_first_over_the_fleet(ordered: Shop, later: Later, redis: RedisServer) -> None:
    """Of all hosts that share Redis a single one sends the call that goes first."""
    apis = [ordered.api(ECWID_REDIS_URL=redis.url) for _ in range(4)]
    ordered.orders.inject(DEAD)
    apis[0].get(f"/customer/{ID}")
    later(1)
    assert all(is_held_back(api.get("/customers"), 30) for api in apis)
    assert ordered.calls() == 1
    later(31)
    at_once(lambda: apis[threading.get_ident() % 4].get("/customers"))
    assert ordered.calls() == 2
    ordered.orders.clear_faults()
    later(31)
    statuses = [api.get(f"/customer/{ID}").status_code for api in apis for _ in range(2)]
    assert statuses == [200] * 8


def test_a_refused_token_is_its_own(ecwid: HTTPServer, redis: RedisServer) -> None:
    """A refused token stops its own calls, through Redis too, and none with another token."""
    refuse = json.dumps({"errorCode": "INVALID_API_TOKEN"})
    for token, reply in (("refused", Response(refuse, 403)), ("good", Response('{"id": 5}'))):
        ecwid.expect_request(
            "/api/v3/1003/customers/5", headers={"Authorization": f"Bearer secret_{token}"}
        ).respond_with_response(reply)
    shared = {**config_of(ecwid), "ECWID_REDIS_URL": redis.url}
    refused, good, restarted = (
        Api(app_of({**shared, "ECWID_TOKEN": f"secret_{token}"}).test_client())
        for token in ("refused", "good", "good")
    )
    assert refused.get("/customer/5").status_code == 502
    assert is_held_back(refused.get("/customer/5"), 30)
    for api in (good, restarted):
        response = api.get("/customer/5")
        assert response.status_code == 200
        remaining = response.headers["RateLimit"].split(";")[1]
    assert remaining == "r=99998", "the refused token's calls are counted for another one"


def test_the_latch_without_its_redis(ordered: Shop, later: Later) -> None:
    """What this process saw holds, though Redis is gone."""
    with RedisServer() as redis:
        api = ordered.api(ECWID_REDIS_URL=redis.url)
        ordered.orders.inject(DEAD)
        api.get(f"/customer/{ID}")
        redis.stop()
        later(1)
        assert is_held_back(api.get("/customers"), 30)
    assert ordered.calls() == 1
    ordered.orders.clear_faults()
    later(30)
    assert api.get("/customers").status_code == 200


def test_apps_in_a_process_share_no_latch(ordered: Shop) -> None:
    """Without Redis each app has its own."""
    one, other = ordered.api(), ordered.api()
    ordered.orders.inject(replace(DEAD, times=1))
    one.get("/customers")
    assert other.get("/customers").status_code == 200


REFUSAL, PAUSE = ServiceRefused(pause_s=30), RateLimited(60, brief=False)


@pytest.mark.parametrize("errors", [(REFUSAL, PAUSE), (PAUSE, REFUSAL)])
def test_a_pause_and_a_refusal(later: Later, errors: tuple[EcwidError, ...]) -> None:
    """Together they hold for the longer time, and a single call still goes first."""
    latch = SharedPause(None, "name")
    for error in errors:
        latch.begin(error, error.pause_s)
    with pytest.raises(Throttled) as caught:
        latch.check()
    assert (caught.value.retry_after_s or 0) > 50
    later(61)
    held = latch.check()
    assert held is not None
    assert 25 < latch.claim_probe(held).left_s() <= 30


def test_closed_at_the_same_moment() -> None:
    """Of several that close it at the same moment the longest wins."""

    class Beaten(MemoryState):
        times = 0

        def compare_and_swap(
            self, key: str, before: bytes | None, after: bytes | None, ttl_s: float
        ) -> bool:
            self.times += 1
            if self.times == 1:
                SharedPause(self, key).begin(RateLimited(3, brief=False), 3)
            return super().compare_and_swap(key, before, after, ttl_s)

    shared = Beaten()
    SharedPause(shared, "name").begin(PAUSE, PAUSE.pause_s)
    with pytest.raises(Throttled) as caught:
        SharedPause(shared, "name").check()
    assert (caught.value.retry_after_s or 0) > 50


def test_one_of_two_hosts_goes_first(later: Later) -> None:
    """Also where both keep what was claimed by one of them already."""
    shared = MemoryState()
    one, other = SharedPause(shared, "name"), SharedPause(shared, "name")
    held = Pause(clock.wall() + 30, 30, probed=True, detail="dead")
    shared.compare_and_swap("name", None, held.to_json(), 3600)
    later(31)
    assert (one.check(), other.check()) == (held, held)
    one.claim_probe(held)
    with pytest.raises(Throttled):
        other.claim_probe(held)


def test_a_clock_that_is_set_back(later: Later) -> None:
    """Nobody is held back for longer than anybody may be."""
    latch = SharedPause(None, "name")
    latch.begin(REFUSAL, REFUSAL.pause_s)
    later(-30 * 24 * 3600)
    held = latch.check()
    assert held is not None
    assert latch.claim_probe(held).left_s() <= 30


def closed_by_others(state: MemoryState) -> None:
    SharedPause(state, "name").begin(PAUSE, PAUSE.pause_s)


def test_between_two_looks() -> None:
    """What a look has found holds until the next one finds it gone."""
    state = MemoryState()
    latch = SharedPause(state, "name")
    closed_by_others(state)
    for _ in range(100):
        with pytest.raises(Throttled):
            latch.check()


def test_nobody_passes_a_look(later: Later) -> None:
    """Who comes while one looks waits for what it finds."""

    class Slow(MemoryState):
        def get(self, key: str) -> bytes | None:
            time.sleep(0.1)
            return super().get(key)

    state = Slow()
    latch = SharedPause(state, "name")
    closed_by_others(state)

    barrier = threading.Barrier(16)

    def throttled() -> bool:
        barrier.wait()
        try:
            latch.check()
        except Throttled:
            return True
        return False

    with ThreadPoolExecutor(16) as threads:
        asked = [threads.submit(throttled) for _ in range(16)]
        assert all(each.result() for each in asked)


class Leaving(MemoryState):
    """A state that goes and comes back."""

    gone = False

    def get(self, key: str) -> bytes | None:
        if self.gone:
            raise StateUnavailable
        return super().get(key)

    def compare_and_swap(
        self, key: str, before: bytes | None, after: bytes | None, ttl_s: float
    ) -> bool:
        if self.gone:
            raise StateUnavailable
        return super().compare_and_swap(key, before, after, ttl_s)


def test_a_latch_that_is_known_from_others(later: Later) -> None:
    """What others have closed holds here, too, when the state is gone."""
    state = Leaving()
    latch = SharedPause(state, "name")
    closed_by_others(state)
    with pytest.raises(Throttled):
        latch.check()
    state.gone = True
    later(1)
    with pytest.raises(Throttled):
        latch.check()
    later(60)
    assert latch.check() is None


def test_closed_while_the_state_was_gone(later: Later) -> None:
    """The others learn of it when the state is back."""
    state = Leaving()
    latch, other = SharedPause(state, "name"), SharedPause(state, "name")
    state.gone = True
    latch.begin(PAUSE, PAUSE.pause_s)
    state.gone = False
    assert other.check() is None
    later(1)
    for each in (latch, other):
        with pytest.raises(Throttled):
            each.check()


def test_opened_by_another(later: Later) -> None:
    """When the call that went first was let in, it is open for all at their next look."""
    state = MemoryState()
    one, other = SharedPause(state, "name"), SharedPause(state, "name")
    one.begin(REFUSAL, REFUSAL.pause_s)
    later(31)
    held = one.check()
    assert held is not None
    renewed = one.claim_probe(held)
    with pytest.raises(Throttled):
        other.check()
    one.end(renewed)
    later(0.2)
    assert other.check() is None


class Meanwhile(MemoryState):
    """A state during whose first read or swap something else happens."""

    def __init__(self) -> None:
        super().__init__()
        self.after_read: Callable[[], object] | None = None
        self.before_swap: Callable[[], object] | None = None
        self.after_swap: Callable[[], object] | None = None

    def get(self, key: str) -> bytes | None:
        value = super().get(key)
        happens, self.after_read = self.after_read, None
        if happens:
            happens()
        return value

    def compare_and_swap(
        self, key: str, before: bytes | None, after: bytes | None, ttl_s: float
    ) -> bool:
        happens, self.before_swap = self.before_swap, None
        if happens:
            happens()
        swapped = super().compare_and_swap(key, before, after, ttl_s)
        happens, self.after_swap = self.after_swap, None
        if happens:
            happens()
        return swapped


def test_closed_during_a_look() -> None:
    """A look that began before a pause does not end the pause."""
    state = Meanwhile()
    latch = SharedPause(state, "name")
    state.after_read = lambda: latch.begin(PAUSE, PAUSE.pause_s)
    for _ in range(2):
        with pytest.raises(Throttled):
            latch.check()


def test_opened_during_a_look(later: Later) -> None:
    """A look that began before the call that went first was let in does not close the latch."""
    state = Meanwhile()
    latch = SharedPause(state, "name")
    latch.begin(REFUSAL, REFUSAL.pause_s)
    later(31)
    held = latch.check()
    assert held is not None
    renewed = latch.claim_probe(held)
    later(1)
    state.after_read = lambda: latch.end(renewed)
    assert latch.check() is None
    assert latch.check() is None


def test_a_pause_that_is_being_told() -> None:
    """A pause holds in this process before the others know of it."""
    state = Meanwhile()
    latch = SharedPause(state, "name")

    def ask() -> None:
        with pytest.raises(Throttled):
            latch.check()

    state.after_read = ask
    latch.begin(PAUSE, PAUSE.pause_s)
    assert state.after_read is None


def test_a_call_that_is_about_to_go_first(later: Later) -> None:
    """A call goes first alone in its process before the others know of it."""
    state = Meanwhile()
    latch = SharedPause(state, "name")
    latch.begin(REFUSAL, REFUSAL.pause_s)
    later(31)
    held = latch.check()
    assert held is not None

    def ask() -> None:
        later(1)
        for _ in range(2):
            with pytest.raises(Throttled):
                latch.check()

    state.before_swap = ask
    latch.claim_probe(held)
    assert state.before_swap is None


def test_two_threads_that_go_first(later: Later) -> None:
    """Of two threads a single one goes first, also where the state is gone for one of them."""

    class Going(Meanwhile):
        gone = False

        def compare_and_swap(
            self, key: str, before: bytes | None, after: bytes | None, ttl_s: float
        ) -> bool:
            if self.gone:
                raise StateUnavailable
            return super().compare_and_swap(key, before, after, ttl_s)

    state = Going()
    latch = SharedPause(state, "name")
    latch.begin(REFUSAL, REFUSAL.pause_s)
    later(31)
    held = latch.check()
    assert held is not None

    def claim_too() -> None:
        state.gone = True
        with pytest.raises(Throttled):
            latch.claim_probe(held)

    state.after_swap = claim_too
    latch.claim_probe(held)
    assert state.gone


def test_a_look_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a look that hangs, and its late result is not believed."""
    monkeypatch.setattr(pause, "LOOK_MOST_S", 0.1)
    begun, goes_on = clock.Event(), clock.Event()

    def hang() -> None:
        begun.set()
        goes_on.wait(30)

    state = Meanwhile()
    state.after_read = hang
    latch = SharedPause(state, "name")
    with ThreadPoolExecutor(2) as threads:
        late = threads.submit(latch.check)
        begun.wait(30)
        assert threads.submit(latch.check).result(60) is None
        closed_by_others(state)
        with pytest.raises(Throttled):
            latch.check()
        goes_on.set()
        with pytest.raises(Throttled):
            late.result()
    with pytest.raises(Throttled):
        latch.check()


def test_a_pause_begins_before_the_lookups(ordered: Shop) -> None:
    """A creation that meets a pause is looked up in spite of it; meanwhile nobody else calls."""
    pause = Fault("status", operation="add_customer", status=503, retry_after="30", after=True)
    ordered.orders.inject(pause)
    ordered.orders.switch(search_lag_s=0.7)
    api = ordered.api()
    with ThreadPoolExecutor(1) as threads:
        creation = threads.submit(lambda: api.post("/add_customer", {"email": CANARY}))
        time.sleep(0.4)
        assert is_held_back(api.get(f"/customer/{ID}"), 30)
        assert creation.result().status_code == 200
    assert ordered.asked() == ["add_customer", "list_customers", "list_customers"]
    assert is_held_back(api.get(f"/customer/{ID}"), 30)


UNEXPLAINED = [
    Fault("status", status=401),
    Fault("status", status=401, code="UNAUTHORIZED"),
    Fault("status", status=403),
    Fault("html", status=403),
]


@pytest.mark.parametrize("fault", UNEXPLAINED, ids=lambda fault: f"{fault.status} {fault.kind}")
def test_unexplained_refusals(ordered: Shop, later: Later, fault: Fault) -> None:
    """A refusal that may be of the token holds the calls back when it comes three times in a row;
    a good answer ends the row.
    """
    api = ordered.api()
    ordered.orders.inject(replace(fault, times=2))
    assert [api.get(f"/customer/{ID}").status_code for _ in range(3)] == [502, 502, 200]
    ordered.orders.inject(replace(fault, times=4))
    assert [api.get(f"/customer/{ID}").status_code for _ in range(3)] == [502, 502, 502]
    assert is_held_back(api.get("/customers"), 30)
    assert ordered.calls() == 6
    later(31)
    assert api.get(f"/customer/{ID}").status_code == 502
    assert is_held_back(api.get("/customers"), 30)
    later(31)
    assert api.get("/customers").status_code == 200


LET_IN = [
    ("get_customer", Fault("status", status=404)),
    ("add_customer", Fault("status", status=409)),
    ("add_customer", Fault("status", status=400)),
    ("get_customer", Fault("status", status=403, code="INSUFFICIENT_APP_SCOPE")),
]


@pytest.mark.parametrize(("operation", "fault"), LET_IN)
def test_what_opens_it(ordered: Shop, later: Later, operation: str, fault: Fault) -> None:
    """A call that goes first and is refused for itself alone shows that the token is taken."""
    api = ordered.api()
    ordered.orders.inject(replace(DEAD, times=1))
    api.get("/customers")
    ordered.orders.inject(replace(fault, times=1))
    later(31)
    assert not is_held_back(OPERATIONS[operation](api), 30)
    assert [ask(api).status_code == 503 for ask in OPERATIONS.values()] == [False] * 5


@pytest.mark.usefixtures("no_waiting")
def test_what_does_not_open_it(ordered: Shop, later: Later) -> None:
    """A call that goes first and has no answer says nothing."""
    api = ordered.api()
    ordered.orders.inject(replace(DEAD, times=1))
    api.get("/customers")
    for fault in (Fault("status", status=500), Fault("reset"), Fault("status", status=429)):
        ordered.orders.inject(replace(fault, times=1))
        later(31)
        assert api.get(f"/customer/{ID}").status_code != 200
        assert is_held_back(api.get("/customers"), 30)
    assert ordered.calls() == 4


def test_a_call_from_before_does_not_open_it(ordered: Shop) -> None:
    """Only the call that went first opens it, not one that was under way when it was closed."""
    ordered.orders.inject(Fault("latency", operation="list_customers", seconds=0.6))
    ordered.orders.inject(replace(DEAD, operation="get_customer"))
    api = ordered.api()
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(lambda: api.get("/customers").status_code)
        time.sleep(0.2)
        api.get(f"/customer/{ID}")
        assert slow.result() == 200
    assert is_held_back(api.get("/customers"), 30)


class Gone:
    def get(self, key: str) -> bytes | None:
        raise StateUnavailable

    def compare_and_swap(self, *_: object) -> bool:
        raise StateUnavailable


def test_a_latch_without_its_state(later: Later) -> None:
    """A state that is gone stops nobody from closing, going first, and opening."""
    latch = SharedPause(Gone(), "name")
    assert latch.check() is None
    latch.begin(ServiceRefused(pause_s=30), 30)
    later(31)
    held = latch.check()
    assert held is not None
    renewed = latch.claim_probe(held)
    with pytest.raises(Throttled):
        latch.claim_probe(held)
    latch.end(renewed)
    assert latch.check() is None


def test_the_state_is_not_asked_all_the_time(later: Later) -> None:
    """What others have seen is looked at ten times a second at most."""

    class Counting(MemoryState):
        reads = 0

        def get(self, key: str) -> bytes | None:
            self.reads += 1
            return super().get(key)

    state = Counting()
    latch = SharedPause(state, "name")
    for _ in range(100):
        latch.check()
    assert state.reads <= 3
    later(0.2)
    latch.check()
    assert state.reads <= 4


# The breaker


@pytest.mark.usefixtures("no_waiting")
def test_the_breaker(ordered: Shop, later: Later) -> None:
    """After five failures in a row no call is made for 10 s; then one goes first. If it fails, the
    time is doubled, up to 60 s; a good one closes it.
    """
    api = ordered.api()
    ordered.orders.inject(Fault("status", status=500))
    assert api.get("/customers").status_code == 502  # three calls
    assert api.get("/customers").status_code == 502  # two, and then it is open
    made = ordered.calls()
    assert made == 5
    assert is_held_back(api.get("/customers"), 10)
    for seconds in (10, 20, 40, 60, 60):
        later(seconds - 1)
        assert is_held_back(api.get("/customers"), 1)
        later(1.5)
        statuses = at_once(lambda: api.post("/delete_customer/5"))
        made += 1
        assert ordered.calls() == made
        assert sorted(statuses) == [502] + [503] * 15
    later(61)
    ordered.orders.clear_faults()
    assert [api.get("/customers").status_code for _ in range(3)] == [200] * 3


@pytest.mark.parametrize(
    "between",
    [
        Fault("status", status=404, nth=5),
        Fault("status", status=429, retry_after="0", nth=5),
        Fault("shape", nth=5),
    ],
)
@pytest.mark.usefixtures("no_waiting")
def test_what_ends_the_row(ordered: Shop, between: Fault) -> None:
    """An answer of Ecwid's, whatever it says, is no failure of the gateway."""
    api = ordered.api()
    ordered.orders.inject(between, Fault("status", status=500, times=8))
    for _ in range(3):
        response = api.get(f"/customer/{ID}")
        assert response.status_code in (404, 429, 502)
        assert response.get_json()["origin"] == "ecwid"


# The bucket


def test_the_bucket(ordered: Shop, no_waiting: list[float]) -> None:
    """Repeated calls are paid for, 5 of 50 each, and a good first call gives 1 back."""
    api = ordered.api()
    repeated = 0
    for _ in range(13):  # each fails once, and is good when it is asked again, if it is
        ordered.orders.clear_faults()
        ordered.orders.inject(Fault("status", status=500, times=1))
        repeated += api.get(f"/customer/{ID}").status_code == 200
    assert repeated == 10
    ordered.orders.clear_faults()
    for _ in range(5):
        assert api.get(f"/customer/{ID}").status_code == 200
    ordered.orders.inject(Fault("status", status=500, times=1))
    assert api.get(f"/customer/{ID}").status_code == 200


def test_what_a_timeout_costs() -> None:
    """A repeated call after a timeout costs twice as much."""
    bucket = guard.RetryBudget()
    assert [bucket.take(guard.TIMEOUT_COST) for _ in range(6)] == [True] * 5 + [False]
    assert guard.TIMEOUT_COST == 2 * guard.RETRY_COST


# Waits


@pytest.fixture
def ending() -> Iterator[None]:
    clock.interrupt_sleeps()
    yield
    clock._stopping.clear()


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault("status", status=429, retry_after="2"), 429),
        (Fault("status", status=500), 502),
    ],
)
@pytest.mark.usefixtures("ending")
def test_waits_end(ordered: Shop, fault: Fault, status: int) -> None:
    """When the process is about to end, who would wait answers with what he knows."""
    ordered.orders.inject(fault)
    assert ordered.api().get("/customers").status_code == status
    assert ordered.calls() == 1


@pytest.mark.usefixtures("ending")
def test_lookups_end(ordered: Shop) -> None:
    """A creation that cannot be looked up any more is told as it is: nobody knows."""
    ordered.orders.inject(Fault("reset", operation="add_customer"))
    response = ordered.api().post("/add_customer", {"email": CANARY})
    assert response.status_code == 504
    assert response.get_json()["executed"] == "unknown"


# Real workers


@pytest.fixture
def gunicorn(ordered: Shop, tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Three workers, as shipped, in front of the shop, without Redis."""
    port = free_port()
    program = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "-w", "3"]
    settings = {"ECWID_SANDBOX": str(ordered.path), "TMPDIR": str(tmp_path)}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*program, "--bind", f"127.0.0.1:{port}", "wsgi:app"],
            cwd=ROOT,
            env=environment(**settings, ECWID_CALLS_PER_MINUTE="90"),
            stdout=log,
            stderr=log,
        )
        try:
            wait_for(f"http://127.0.0.1:{port}/healthz", process)
            yield f"http://127.0.0.1:{port}{PREFIX}", process
        finally:
            process.terminate()
            process.wait(60)


def test_workers_share_the_latch(
    ordered: Shop, gunicorn: tuple[str, subprocess.Popen[bytes]]
) -> None:
    """A dead token that one worker has seen stops the calls of all of them."""
    url, _ = gunicorn
    ordered.orders.inject(DEAD)
    with ThreadPoolExecutor(4) as threads:
        ask = lambda _: requests.get(f"{url}/customers", timeout=30).status_code  # noqa: E731
        statuses = list(threads.map(ask, range(120)))
    assert set(statuses) == {502, 503}
    assert ordered.calls() <= 12


def test_workers_divide_the_budget(
    ordered: Shop, gunicorn: tuple[str, subprocess.Popen[bytes]]
) -> None:
    """Without Redis each of three workers has a third of the budget, and no more in all."""
    url, _ = gunicorn
    with ThreadPoolExecutor(6) as threads:
        ask = lambda n: requests.get(f"{url}/customers?offset={n}", timeout=30)  # noqa: E731
        answers = list(threads.map(ask, range(200)))
    assert {answer.headers["RateLimit-Policy"] for answer in answers} == {'"calls";q=30;w=60'}
    assert ordered.calls() == sum(answer.status_code == 200 for answer in answers) <= 90
    assert {answer.status_code for answer in answers} == {200, 429}


def test_a_worker_that_is_told_to_go(
    ordered: Shop, gunicorn: tuple[str, subprocess.Popen[bytes]]
) -> None:
    """A request that waits to ask Ecwid again is answered at once when its worker is told to go."""
    url, process = gunicorn
    ordered.orders.inject(Fault("status", status=429, retry_after="2"))
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(requests.get, f"{url}/customers", timeout=30)
        while not ordered.calls():
            time.sleep(0.01)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        answer = waiting.result()
    assert answer.status_code == 429
    assert answer.json()["origin"] == "ecwid"
    assert ordered.calls() == 1


def test_failures_that_are_none_of_the_gateways() -> None:
    """What the breaker counts stands with each error."""
    assert EcwidFailed.trips_breaker
    assert not RateLimited.trips_breaker
