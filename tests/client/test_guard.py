"""Tests of the guard, which stops calls by pause, breaker and retry budget, and of waits."""

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
from itertools import cycle
from pathlib import Path

import pytest
import requests
from pytest_httpserver import HTTPServer
from werkzeug import Response
from werkzeug.test import TestResponse

from flask_ecwid import clock
from flask_ecwid.errors import (
    SUSPICIONS_MOST,
    EcwidError,
    EcwidFailed,
    RateLimited,
    ServiceRefused,
    Throttled,
)
from flask_ecwid.sandbox import Fault
from flask_ecwid.sandbox.store import Store
from flask_ecwid.settings import Settings
from flask_ecwid.storage.file_state import FileState
from flask_ecwid.storage.memory_state import MemoryState
from flask_ecwid.storage.opening import Storage
from flask_ecwid.storage.redis_connection import RedisConnection
from flask_ecwid.storage.redis_state import RedisState
from flask_ecwid.storage.state import State, StateUnavailable, Stored, Taken
from flask_ecwid.throttling import guard, pause
from flask_ecwid.throttling.guard import Guards
from flask_ecwid.throttling.pause import Pause, SharedPause

from ..conftest import (
    PREFIX,
    ROOT,
    Api,
    app_of,
    config_of,
    environment,
    free_port,
    is_throttled,
    wait_for,
)
from ..helpers.hold import Hold
from ..helpers.ordered_store import OrderedStore
from ..helpers.redis_server import RedisServer
from ..helpers.waiting import happens

CANARY = "canary@example.com"
ID = 172890169
OPERATIONS: dict[str, Callable[[Api], TestResponse]] = {
    "list_customers": lambda api: api.get("/customers"),
    "get_customer": lambda api: api.get(f"/customer/{ID}"),
    "add_customer": lambda api: api.post("/add_customer", {"email": CANARY}),
    "update_customer": lambda api: api.post(f"/update_customer/{ID}", {"lang": "en"}),
    "delete_customer": lambda api: api.post("/delete_customer/5"),
}
REFUSED_TOKEN = Fault("status", status=403, code="INVALID_API_TOKEN")
EMPTY_403 = Fault("status", status=403, empty=True)


class Later:
    """A function that moves the clock forward."""

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


NEUTRAL = ["list_customers"]  # The ledger shows the neutral question as a list.
PAUSES = [
    (EMPTY_403, 30, NEUTRAL),
    (Fault("status", status=402, empty=True), 60, NEUTRAL),
    (REFUSED_TOKEN, 30, []),
    (Fault("status", status=402, code="STORE_IS_SUSPENDED"), 60, []),
    (Fault("status", status=404, code="STORE_NOT_FOUND"), 60, []),
    (Fault("status", status=429, retry_after="3"), 3, []),
    (Fault("status", status=429), 10, []),
    (Fault("status", status=429, retry_after="canary"), 10, []),
    (Fault("status", status=429, retry_after="-1"), 10, []),
    (Fault("status", status=429, retry_after="999999"), 3600, []),
    (Fault("status", status=503, retry_after="40"), 40, []),
]


@pytest.mark.parametrize(("fault", "seconds", "neutral"), PAUSES)
@pytest.mark.usefixtures("no_waiting")
def test_the_pause(
    ordered: OrderedStore,
    later: Later,
    caplog: pytest.LogCaptureFixture,
    fault: Fault,
    seconds: int,
    neutral: list[str],
) -> None:
    """No call is sent during a pause that a refusal or a Retry-After of Ecwid began.

    A refusal without a code begins the pause when the neutral question is refused as well.
    """
    caplog.set_level("DEBUG")
    api = ordered.api()
    ordered.orders.inject(fault)
    assert OPERATIONS["get_customer"](api).status_code in (429, 502, 503)
    assert is_throttled(OPERATIONS["get_customer"](api), seconds)
    assert ordered.asked() == ["get_customer", *neutral]
    made = ordered.calls()
    later(seconds - 1)
    for ask in OPERATIONS.values():
        response = ask(api)
        assert is_throttled(response, seconds)
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
        EMPTY_403,
        Fault("status", status=401, empty=True),
        Fault("status", status=404, empty=True),
        Fault("status", status=405),
        Fault("status", status=409),
    ],
)
def test_what_begins_no_pause(ordered: OrderedStore, fault: Fault) -> None:
    """A refusal of a single operation or customer begins no pause."""
    api = ordered.api()
    ordered.orders.inject(replace(fault, times=1))
    assert OPERATIONS["get_customer"](api).status_code in (404, 502)
    assert OPERATIONS["list_customers"](api).status_code == 200


def test_the_scope_is_named(ordered: OrderedStore) -> None:
    """The problem names a missing scope, so that the operator can grant it."""
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


def test_a_single_probe(ordered: OrderedStore, later: Later) -> None:
    """After a pause for a refused token, only the neutral question is sent, and only once.

    Its refusal renews the pause.
    """
    api = ordered.api()
    ordered.orders.inject(REFUSED_TOKEN)
    api.get(f"/customer/{ID}")
    for round in (1, 2, 3):
        later(31)
        # The requests are writes, because equal reads would share a call.
        assert at_once(lambda: api.post("/delete_customer/5")) == [503] * 16
        assert ordered.asked() == ["get_customer"] + NEUTRAL * round


def test_a_single_probe_over_all_hosts(
    ordered: OrderedStore, later: Later, redis: RedisServer
) -> None:
    """Of all hosts that share Redis a single host sends the neutral question after a pause."""
    apis = [ordered.api(ECWID_REDIS_URL=redis.url) for _ in range(4)]
    ordered.orders.inject(REFUSED_TOKEN)
    apis[0].get(f"/customer/{ID}")
    later(1)
    assert all(is_throttled(api.get("/customers"), 30) for api in apis)
    assert ordered.asked() == ["get_customer"]
    later(31)
    redis.age(31)
    hosts = cycle(apis)
    assert at_once(lambda: next(hosts).post("/delete_customer/5")) == [503] * 16
    assert ordered.asked() == ["get_customer", *NEUTRAL]
    ordered.orders.clear_faults()
    later(31)
    redis.age(31)
    statuses = [api.get(f"/customer/{ID}").status_code for api in apis for _ in range(2)]
    assert statuses == [200] * 8


def test_a_refused_token_is_its_own(ecwid: HTTPServer, redis: RedisServer) -> None:
    """A refused token stops only calls with the same token, also through Redis."""
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
    assert is_throttled(refused.get("/customer/5"), 30)
    for api in (good, restarted):
        response = api.get("/customer/5")
        assert response.status_code == 200
        remaining = response.headers["RateLimit"].split(";")[1]
    assert remaining == "r=99998", "the refused token's calls are counted for another one"


def test_the_pause_without_its_redis(ordered: OrderedStore, later: Later) -> None:
    """A pause that this process has seen continues when Redis is gone."""
    with RedisServer() as redis:
        api = ordered.api(ECWID_REDIS_URL=redis.url)
        ordered.orders.inject(REFUSED_TOKEN)
        api.get(f"/customer/{ID}")
        redis.stop()
        later(1)
        assert is_throttled(api.get("/customers"), 30)
    assert ordered.calls() == 1
    ordered.orders.clear_faults()
    later(30)
    assert api.get("/customers").status_code == 200


def test_apps_in_a_process_share_no_pause(ordered: OrderedStore) -> None:
    """Two apps in a process without Redis share no pause."""
    one, other = ordered.api(), ordered.api()
    ordered.orders.inject(replace(REFUSED_TOKEN, times=1))
    one.get("/customers")
    assert other.get("/customers").status_code == 200


REFUSAL, PAUSE = ServiceRefused(pause_s=30), RateLimited(60, brief=False)


def pause_that_has_passed(shared_pause: SharedPause, later: Later) -> Pause:
    """Begin a pause for a refused token, and return the pause when its probe may be claimed."""
    shared_pause.begin(REFUSAL, REFUSAL.pause_s)
    later(31)
    current = shared_pause.check()
    assert current is not None
    return current


@pytest.mark.parametrize("errors", [(REFUSAL, PAUSE), (PAUSE, REFUSAL)])
def test_a_pause_and_a_refusal(later: Later, errors: tuple[EcwidError, ...]) -> None:
    """A pause and a refusal together last for the longer time and still end with a probe."""
    shared_pause = SharedPause(MemoryState(), "name")
    for error in errors:
        shared_pause.begin(error, error.pause_s)
    with pytest.raises(Throttled) as caught:
        shared_pause.check()
    assert (caught.value.retry_after_s or 0) > 50
    later(61)
    current = shared_pause.check()
    assert current is not None
    assert 25 < shared_pause.claim_probe(current).left_s() <= 30


def test_pauses_at_the_same_moment() -> None:
    """Of several pauses that begin at the same moment the longest wins."""

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


def test_one_of_two_hosts_claims_the_probe(later: Later) -> None:
    """A single host claims the probe, even if both hosts know of an earlier probe."""
    shared = MemoryState()
    one, other = SharedPause(shared, "name"), SharedPause(shared, "name")
    current = Pause.of(30, probed=True, detail="dead")
    shared.compare_and_swap("name", None, current.to_json(), 3630)
    later(31)
    assert (one.check(), other.check()) == (current, current)
    one.claim_probe(current)
    with pytest.raises(Throttled):
        other.claim_probe(current)


DAY_S = 24 * 3600


@pytest.mark.parametrize("step_s", [-30 * DAY_S, -61, 61, 30 * DAY_S])
@pytest.mark.parametrize("kind", ["memory", "file", "redis"])
def test_wall_clocks_change_no_pause(
    kind: str, step_s: int, tmp_path: Path, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wall clock that is stepped, or that differs between hosts, changes no pause."""
    states: dict[str, State] = {
        "memory": MemoryState(),
        "file": FileState(tmp_path / "own" / "state.sqlite3"),
        "redis": RedisState(RedisConnection(f"{redis.url}?socket_timeout=20")),
    }
    state = states[kind]
    one, other = SharedPause(state, "name"), SharedPause(state, "name")
    one.begin(PAUSE, PAUSE.pause_s)
    wall = clock.wall
    monkeypatch.setattr(clock, "wall", lambda: wall() + step_s)
    for each in (one, other, SharedPause(state, "name")):
        with pytest.raises(Throttled) as caught:
            each.check()
        assert 30 < (caught.value.retry_after_s or 0) <= 60
    other.begin(REFUSAL, REFUSAL.pause_s)
    monkeypatch.setattr(clock, "wall", wall)
    with pytest.raises(Throttled) as caught:
        SharedPause(state, "name").check()
    assert 30 < (caught.value.retry_after_s or 0) <= 60


def test_no_pause_lasts_over_an_hour(redis: RedisServer) -> None:
    """No pause lasts longer than an hour, even if a state keeps its value for ten hours."""
    state = RedisState(RedisConnection(f"{redis.url}?socket_timeout=20"))
    value = Pause.of(36_000, probed=False, detail="dead").to_json()
    state.compare_and_swap("name", None, value, 36_000)
    with pytest.raises(Throttled) as caught:
        SharedPause(state, "name").check()
    assert 3000 < (caught.value.retry_after_s or 0) <= 3600


def pause_by_others(state: MemoryState) -> None:
    SharedPause(state, "name").begin(PAUSE, PAUSE.pause_s)


def stored_pause(seconds: object) -> MemoryState:
    """Return a state with a pause of this length, which is over and waits for its probe."""
    state = MemoryState()
    members = {"id": "a", "seconds": seconds, "probed": True, "detail": ""}
    state.compare_and_swap("name", None, json.dumps(members).encode(), 60)
    return state


@pytest.mark.parametrize("seconds", ["inf", "1e400", 1e308, 3601])
def test_a_pause_that_others_made_too_long(seconds: object) -> None:
    """A pause of an impossible length is renewed for an hour at most while its probe is sent."""
    state = stored_pause(seconds)
    shared_pause = SharedPause(state, "name")
    found = shared_pause.check()
    assert found is not None
    shared_pause.claim_probe(found)
    with pytest.raises(Throttled) as caught:
        SharedPause(state, "name").check()
    assert 3000 < caught.value.wait_s <= 3600


@pytest.mark.parametrize("seconds", ["nan", -1, None, [], "x"])
def test_a_pause_without_a_length(seconds: object) -> None:
    """A value without a credible length is no pause, and the next pause replaces the value."""
    state = stored_pause(seconds)
    assert SharedPause(state, "name").check() is None
    SharedPause(state, "name").begin(PAUSE, PAUSE.pause_s)
    with pytest.raises(Throttled):
        SharedPause(state, "name").check()


def test_between_two_reads() -> None:
    """A pause that was read from the shared state stays in force between two reads."""
    state = MemoryState()
    shared_pause = SharedPause(state, "name")
    pause_by_others(state)
    for _ in range(100):
        with pytest.raises(Throttled):
            shared_pause.check()


def test_calls_wait_for_a_read(later: Later) -> None:
    """Calls that come during a read of the shared state wait for its result."""

    class Slow(MemoryState):
        def get(self, key: str) -> Stored | None:
            time.sleep(0.1)
            return super().get(key)

    state = Slow()
    shared_pause = SharedPause(state, "name")
    pause_by_others(state)

    barrier = threading.Barrier(16)

    def throttled() -> bool:
        barrier.wait()
        try:
            shared_pause.check()
        except Throttled:
            return True
        return False

    with ThreadPoolExecutor(16) as threads:
        asked = [threads.submit(throttled) for _ in range(16)]
        assert all(each.result() for each in asked)


class Leaving(MemoryState):
    """A shared state that becomes unavailable and available again."""

    gone = False

    def get(self, key: str) -> Stored | None:
        if self.gone:
            raise StateUnavailable
        return super().get(key)

    def compare_and_swap(
        self, key: str, before: bytes | None, after: bytes | None, ttl_s: float
    ) -> bool:
        if self.gone:
            raise StateUnavailable
        return super().compare_and_swap(key, before, after, ttl_s)


def test_a_pause_that_is_known_from_others(later: Later) -> None:
    """A pause from another process continues here when the shared state is gone."""
    state = Leaving()
    shared_pause = SharedPause(state, "name")
    pause_by_others(state)
    with pytest.raises(Throttled):
        shared_pause.check()
    state.gone = True
    later(1)
    with pytest.raises(Throttled):
        shared_pause.check()
    later(60)
    assert shared_pause.check() is None


def test_a_pause_while_the_state_was_gone(later: Later) -> None:
    """Other processes learn of a pause when the shared state is available again."""
    state = Leaving()
    shared_pause, other = SharedPause(state, "name"), SharedPause(state, "name")
    state.gone = True
    shared_pause.begin(PAUSE, PAUSE.pause_s)
    state.gone = False
    assert other.check() is None
    later(1)
    for each in (shared_pause, other):
        with pytest.raises(Throttled):
            each.check()


def test_a_pause_that_another_process_ends(later: Later) -> None:
    """A successful probe ends the pause in every process at its next read."""
    state = MemoryState()
    one, other = SharedPause(state, "name"), SharedPause(state, "name")
    current = pause_that_has_passed(one, later)
    renewed = one.claim_probe(current)
    with pytest.raises(Throttled):
        other.check()
    one.end(renewed)
    later(0.2)
    assert other.check() is None


class Meanwhile(MemoryState):
    """A shared state that runs a function during its first read or swap."""

    def __init__(self) -> None:
        super().__init__()
        self.after_read: Callable[[], object] | None = None
        self.before_swap: Callable[[], object] | None = None
        self.after_swap: Callable[[], object] | None = None

    def get(self, key: str) -> Stored | None:
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


def test_a_pause_that_begins_during_a_read() -> None:
    """A read that began before a pause does not end the pause."""
    state = Meanwhile()
    shared_pause = SharedPause(state, "name")
    state.after_read = lambda: shared_pause.begin(PAUSE, PAUSE.pause_s)
    for _ in range(2):
        with pytest.raises(Throttled):
            shared_pause.check()


def test_a_pause_that_ends_during_a_read(later: Later) -> None:
    """A read that began before a successful probe does not renew the pause."""
    state = Meanwhile()
    shared_pause = SharedPause(state, "name")
    current = pause_that_has_passed(shared_pause, later)
    renewed = shared_pause.claim_probe(current)
    later(1)
    state.after_read = lambda: shared_pause.end(renewed)
    assert shared_pause.check() is None
    assert shared_pause.check() is None


def test_a_pause_that_is_being_shared() -> None:
    """A pause begins in its own process before other processes know of it."""
    state = Meanwhile()
    shared_pause = SharedPause(state, "name")

    def ask() -> None:
        with pytest.raises(Throttled):
            shared_pause.check()

    state.after_read = ask
    shared_pause.begin(PAUSE, PAUSE.pause_s)
    assert state.after_read is None


def test_a_probe_that_is_being_claimed(later: Later) -> None:
    """A probe is alone in its process before other processes know of it."""
    state = Meanwhile()
    shared_pause = SharedPause(state, "name")
    current = pause_that_has_passed(shared_pause, later)

    def ask() -> None:
        later(1)
        for _ in range(2):
            with pytest.raises(Throttled):
                shared_pause.check()

    state.before_swap = ask
    shared_pause.claim_probe(current)
    assert state.before_swap is None


def test_two_threads_that_claim_the_probe(later: Later) -> None:
    """Of two threads a single thread claims the probe, even if the state fails for one of them."""

    class Going(Meanwhile):
        gone = False

        def compare_and_swap(
            self, key: str, before: bytes | None, after: bytes | None, ttl_s: float
        ) -> bool:
            if self.gone:
                raise StateUnavailable
            return super().compare_and_swap(key, before, after, ttl_s)

    state = Going()
    shared_pause = SharedPause(state, "name")
    current = pause_that_has_passed(shared_pause, later)

    def claim_too() -> None:
        state.gone = True
        with pytest.raises(Throttled):
            shared_pause.claim_probe(current)

    state.after_swap = claim_too
    shared_pause.claim_probe(current)
    assert state.gone


def test_a_read_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call waits long for a read that hangs, and the late result of the read is dropped."""
    monkeypatch.setattr(pause, "LOOK_MOST_S", 0.1)
    begun, goes_on = clock.Event(), clock.Event()

    def hang() -> None:
        begun.set()
        goes_on.wait(30)

    state = Meanwhile()
    state.after_read = hang
    shared_pause = SharedPause(state, "name")
    with ThreadPoolExecutor(2) as threads:
        late = threads.submit(shared_pause.check)
        begun.wait(30)
        assert threads.submit(shared_pause.check).result(60) is None
        pause_by_others(state)
        with pytest.raises(Throttled):
            shared_pause.check()
        goes_on.set()
        with pytest.raises(Throttled):
            late.result()
    with pytest.raises(Throttled):
        shared_pause.check()


def test_a_pause_begins_before_the_searches(
    ordered: OrderedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A creation that meets a pause still searches for its customer, but no other call is sent."""
    may_search_again = clock.Event()
    # The second search is a second after the first, and waits for the test here.
    monkeypatch.setattr(clock, "sleep", lambda s: s < 1 or may_search_again.wait(60))
    pause = Fault("status", operation="add_customer", status=503, retry_after="30", after=True)
    ordered.orders.inject(pause)
    ordered.orders.switch(search_lag_s=60)
    api = ordered.api()
    with ThreadPoolExecutor(1) as threads:
        creation = threads.submit(lambda: api.post("/add_customer", {"email": CANARY}))
        assert happens(lambda: "list_customers" in ordered.asked())
        assert is_throttled(api.get(f"/customer/{ID}"), 30)
        ordered.orders.switch(search_lag_s=0)
        may_search_again.set()
        assert creation.result().status_code == 200
    assert ordered.asked() == ["add_customer", "list_customers", "list_customers"]
    assert is_throttled(api.get(f"/customer/{ID}"), 30)


UNEXPLAINED = [
    Fault("status", status=401),
    Fault("status", status=401, code="UNAUTHORIZED"),
    Fault("status", status=403),
    Fault("html", status=403),
]


@pytest.mark.parametrize("fault", UNEXPLAINED, ids=lambda fault: f"{fault.status} {fault.kind}")
def test_unexplained_refusals(ordered: OrderedStore, later: Later, fault: Fault) -> None:
    """Three refusals in a row that may concern the token lead to the neutral question.

    If the neutral question is refused as well, a pause begins. A good reply starts the count again.
    """
    api = ordered.api()

    def ask() -> int:
        return api.get(f"/customer/{ID}").status_code

    ordered.orders.inject(replace(fault, times=2))
    assert [ask() for _ in range(3)] == [502, 502, 200]
    ordered.orders.inject(replace(fault, times=5))
    assert [ask() for _ in range(3)] == [502, 502, 502]
    assert ordered.asked() == ["get_customer"] * 6
    for neutral in (1, 2):  # before the pause, and as its probe
        for _ in range(3):
            assert is_throttled(api.get(f"/customer/{ID}"), 30)
        assert ordered.asked() == ["get_customer"] * 6 + NEUTRAL * neutral
        later(31)
    assert ask() == 200
    assert ordered.asked() == ["get_customer"] * 6 + NEUTRAL * 3 + ["get_customer"]


PROVES_THE_TOKEN = [
    ("get_customer", Fault("status", status=404)),
    ("add_customer", Fault("status", status=409)),
    ("add_customer", Fault("status", status=400)),
    ("get_customer", Fault("status", status=403, code="INSUFFICIENT_APP_SCOPE")),
]


@pytest.mark.parametrize(("operation", "fault"), PROVES_THE_TOKEN)
def test_what_proves_the_token(ordered: OrderedStore, operation: str, fault: Fault) -> None:
    """A refusal for a call's own reasons starts the count of unexplained refusals again."""
    api = ordered.api()
    for _ in range(2):
        ordered.orders.inject(Fault("status", status=401, times=2))
        for _ in range(2):
            assert OPERATIONS["delete_customer"](api).status_code == 502
        ordered.orders.inject(replace(fault, times=1))
        assert OPERATIONS[operation](api).status_code == (502 if fault.code else fault.status)
    assert ordered.asked() == (["delete_customer"] * 2 + [operation]) * 2


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", status=400),
        Fault("status", status=403, code="INSUFFICIENT_APP_SCOPE"),
    ],
)
def test_what_ends_a_pause(ordered: OrderedStore, later: Later, fault: Fault) -> None:
    """A refusal of the neutral question for its own reasons proves the token and ends the pause."""
    api = ordered.api()
    ordered.orders.inject(replace(REFUSED_TOKEN, times=1))
    api.get(f"/customer/{ID}")
    later(31)
    ordered.orders.inject(replace(fault, times=1))
    assert api.get(f"/customer/{ID}").status_code == 200
    assert ordered.asked() == ["get_customer", *NEUTRAL, "get_customer"]
    assert [ask(api).status_code == 503 for ask in OPERATIONS.values()] == [False] * 5


@pytest.mark.usefixtures("no_waiting")
def test_what_does_not_end_a_pause(ordered: OrderedStore, later: Later) -> None:
    """A neutral question that fails or is rate limited does not end the pause."""
    api = ordered.api()
    ordered.orders.inject(replace(REFUSED_TOKEN, times=1))
    api.get(f"/customer/{ID}")
    for fault in (Fault("status", status=500), Fault("reset"), Fault("status", status=429)):
        ordered.orders.inject(replace(fault, times=1))
        later(31)
        assert is_throttled(api.get(f"/customer/{ID}"), 30)
        assert is_throttled(api.get("/customers"), 30)
    assert ordered.asked() == ["get_customer"] + NEUTRAL * 3


def test_a_call_from_before_does_not_end_the_pause(
    ordered: OrderedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that was sent before the pause does not end it."""
    page = Hold(monkeypatch, Store, "list_customers")
    ordered.orders.inject(replace(REFUSED_TOKEN, operation="get_customer"))
    api = ordered.api()
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(lambda: api.get("/customers").status_code)
        page.wait()
        api.get(f"/customer/{ID}")
        page.release()
        assert slow.result() == 200
    assert is_throttled(api.get("/customers"), 30)


def test_a_call_from_before_ends_no_suspicion(later: Later) -> None:
    """A good reply to a call from before the first of the refusals does not start the count again.

    A good reply to a later call does.
    """
    settings, state = Settings(store_id="1003", token="secret_canary"), MemoryState()
    one = Guards(settings, Storage(state, state)).guard_of(settings.credentials)
    refusal = ServiceRefused(suspicions=1)
    slow = one.acquire(clock.now() + 15)
    later(1)
    for _ in range(SUSPICIONS_MOST):
        one.record_failure(one.acquire(clock.now() + 15), refusal)
    one.record_success(slow, first=True)
    question = one.acquire(clock.now() + 15)
    assert question.is_probe
    one.record_success(question, first=False)
    assert not one.acquire(clock.now() + 15).is_probe


class Gone:
    def get(self, key: str) -> Stored | None:
        raise StateUnavailable

    def compare_and_swap(self, *_: object) -> bool:
        raise StateUnavailable

    def take(self, key: str, limit: int, *, host: str = "", seen: str = "") -> Taken:
        raise StateUnavailable

    def keys(self, prefix: str) -> list[str]:
        raise StateUnavailable


def test_a_pause_without_its_state(later: Later) -> None:
    """A pause begins, is probed and ends in its process even if the shared state is gone."""
    shared_pause = SharedPause(Gone(), "name")
    assert shared_pause.check() is None
    current = pause_that_has_passed(shared_pause, later)
    renewed = shared_pause.claim_probe(current)
    with pytest.raises(Throttled):
        shared_pause.claim_probe(current)
    shared_pause.end(renewed)
    assert shared_pause.check() is None


def test_the_state_is_not_read_all_the_time(later: Later) -> None:
    """A process reads the shared state ten times per second at most."""

    class Counting(MemoryState):
        reads = 0

        def get(self, key: str) -> Stored | None:
            self.reads += 1
            return super().get(key)

    state = Counting()
    shared_pause = SharedPause(state, "name")
    for _ in range(100):
        shared_pause.check()
    assert state.reads <= 3
    later(0.2)
    shared_pause.check()
    assert state.reads <= 4


# The breaker


@pytest.mark.usefixtures("no_waiting")
def test_the_breaker(ordered: OrderedStore, later: Later) -> None:
    """Five failures in a row and a failed neutral question open the breaker for 10 s.

    Then the neutral question is sent once. If it fails, the time doubles, up to 60 s. A good reply
    to it closes the breaker.
    """
    api = ordered.api()
    ordered.orders.inject(Fault("status", status=500))
    assert api.get(f"/customer/{ID}").status_code == 502  # three calls
    assert api.get(f"/customer/{ID}").status_code == 502  # two calls, and then doubt
    asked = ["get_customer"] * 5
    assert ordered.asked() == asked
    assert is_throttled(api.get(f"/customer/{ID}"), 10)
    asked += NEUTRAL
    for seconds in (10, 20, 40, 60, 60):
        later(seconds - 1)
        assert is_throttled(api.get(f"/customer/{ID}"), 1)
        assert ordered.asked() == asked
        later(1.5)
        assert at_once(lambda: api.post("/delete_customer/5")) == [503] * 16
        asked += NEUTRAL
        assert ordered.asked() == asked
    later(61)
    ordered.orders.clear_faults()
    assert [api.get(f"/customer/{ID}").status_code for _ in range(3)] == [200] * 3
    assert ordered.asked() == [*asked, *NEUTRAL] + ["get_customer"] * 3


@pytest.mark.parametrize(
    "between",
    [
        Fault("status", status=404, nth=5),
        Fault("status", status=429, retry_after="0", nth=5),
        Fault("shape", nth=5),
    ],
)
@pytest.mark.usefixtures("no_waiting")
def test_what_is_no_failure(ordered: OrderedStore, later: Later, between: Fault) -> None:
    """A reply other than a server error starts the count of failures again.

    So the calls are repeated as before, and no neutral question is sent.
    """
    api = ordered.api()
    ordered.orders.inject(between, Fault("status", status=500, times=8))
    for _ in range(3):
        response = api.get(f"/customer/{ID}")
        assert response.status_code in (404, 429, 502)
        assert response.get_json()["origin"] == "ecwid"
        later(2)  # so that the brief pause of a 429 is over
    assert ordered.asked() == ["get_customer"] * 8


# The retry budget


def test_the_retry_budget(ordered: OrderedStore, no_waiting: list[float]) -> None:
    """A retry takes 5 of 50 units from the retry budget, and a good first attempt gives 1 back."""
    api = ordered.api()
    repeated = 0
    for _ in range(13):  # each fails once and succeeds on its retry, if there is a retry
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
    """A retry after a timeout costs twice as much."""
    retry_budget = guard.RetryBudget()
    assert [retry_budget.take(guard.TIMEOUT_COST) for _ in range(6)] == [True] * 5 + [False]
    assert guard.TIMEOUT_COST == 2 * guard.RETRY_COST


# Waits


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_stopping", False)  # The old value comes back after the test.
    clock.interrupt_sleeps()


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault("status", status=429, retry_after="2"), 429),
        (Fault("status", status=500), 502),
    ],
)
@pytest.mark.usefixtures("ending")
def test_waits_end(ordered: OrderedStore, fault: Fault, status: int) -> None:
    """A request stops waiting and returns its last error when the process is about to end."""
    ordered.orders.inject(fault)
    assert ordered.api().get("/customers").status_code == status
    assert ordered.calls() == 1


@pytest.mark.usefixtures("ending")
def test_searches_end(ordered: OrderedStore) -> None:
    """A creation stops its searches when the process ends, and its outcome is unknown then."""
    ordered.orders.inject(Fault("reset", operation="add_customer"))
    response = ordered.api().post("/add_customer", {"email": CANARY})
    assert response.status_code == 504
    assert response.get_json()["executed"] == "unknown"


# Real workers


@pytest.fixture
def gunicorn(
    ordered: OrderedStore, tmp_path: Path
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start three workers with the shipped configuration, in front of the store, without Redis."""
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


def test_workers_share_the_pause(
    ordered: OrderedStore, gunicorn: tuple[str, subprocess.Popen[bytes]]
) -> None:
    """A refused token that one worker has seen stops the calls of all workers."""
    url, _ = gunicorn
    ordered.orders.inject(REFUSED_TOKEN)
    with ThreadPoolExecutor(4) as threads:
        ask = lambda _: requests.get(f"{url}/customers", timeout=30).status_code  # noqa: E731
        statuses = list(threads.map(ask, range(120)))
    assert set(statuses) == {502, 503}
    assert ordered.calls() <= 12


def test_workers_share_the_rate_limit(
    ordered: OrderedStore, gunicorn: tuple[str, subprocess.Popen[bytes]]
) -> None:
    """Three workers without Redis together send exactly as many calls as the rate limit allows."""
    url, _ = gunicorn
    with ThreadPoolExecutor(6) as threads:
        ask = lambda n: requests.get(f"{url}/customers?offset={n}", timeout=30)  # noqa: E731
        responses = list(threads.map(ask, range(200)))
    assert {response.headers["RateLimit-Policy"] for response in responses} == {'"calls";q=90;w=60'}
    assert ordered.calls() == sum(response.status_code == 200 for response in responses) == 90
    assert {response.status_code for response in responses} == {200, 429}


def test_a_worker_that_is_terminated(
    ordered: OrderedStore, gunicorn: tuple[str, subprocess.Popen[bytes]]
) -> None:
    """A request that waits to retry is answered at once when its worker gets SIGTERM."""
    url, process = gunicorn
    ordered.orders.inject(Fault("status", status=429, retry_after="2"))
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(requests.get, f"{url}/customers", timeout=30)
        while not ordered.calls():
            time.sleep(0.01)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        response = waiting.result()
    assert response.status_code == 429
    assert response.json()["origin"] == "ecwid"
    assert ordered.calls() == 1


def test_errors_that_trip_the_breaker() -> None:
    """Each error class says if it counts as a failure for the breaker."""
    assert EcwidFailed.trips_breaker
    assert not RateLimited.trips_breaker
