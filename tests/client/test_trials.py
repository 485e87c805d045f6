"""Tokens that Ecwid refuses, and the limit of such calls for all stores of a host."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from flask_ecwid import clock
from flask_ecwid.errors import DeadlineExceeded, EcwidError, ServiceRefused, Throttled, Unreachable
from flask_ecwid.settings import Settings, StoreCredentials
from flask_ecwid.storage.file_state import FileState
from flask_ecwid.storage.memory_state import MemoryState
from flask_ecwid.storage.opening import Storage
from flask_ecwid.storage.redis_connection import RedisConnection
from flask_ecwid.storage.redis_state import RedisState
from flask_ecwid.storage.state import StateUnavailable, Stored
from flask_ecwid.throttling.guard import Guard, Guards, Permit
from flask_ecwid.throttling.trials import AGAIN_MOST, REFUSALS_MOST

from ..helpers.redis_server import RedisServer

REFUSED = ServiceRefused(reason="token", ecwid_code="INVALID_API_TOKEN", pause_s=30.0)
STORE_ID = "1003"
Later = Callable[[float], None]


def settings() -> Settings:
    return Settings(stores="host")


class Host:
    """A host, or several hosts with one Redis, on which time passes at command."""

    def __init__(self, folder: Path, redis: RedisServer | None, later: Later) -> None:
        self._folder = folder
        self._redis = redis
        self._later = later

    def process(self) -> Guards:
        """Return the guards of a new process."""
        file = FileState(self._folder / "state.sqlite3")
        if self._redis is None:
            return Guards(settings(), Storage(file, file))
        # A busy machine may need longer than the plugin waits.
        url = f"{self._redis.url}?socket_timeout=20&socket_connect_timeout=20"
        redis = RedisConnection(url)
        return Guards(settings(), Storage(RedisState(redis), file, redis))

    def later(self, seconds: float) -> None:
        self._later(seconds)
        if self._redis:
            self._redis.age(seconds)


@pytest.fixture(params=["file", "redis"])
def host(request: pytest.FixtureRequest, tmp_path: Path, redis: RedisServer, later: Later) -> Host:
    """Return a host without Redis, and then a host with Redis."""
    folder = tmp_path / "own"
    folder.mkdir(mode=0o700)
    return Host(folder, redis if request.param == "redis" else None, later)


def token(number: object) -> StoreCredentials:
    return StoreCredentials(STORE_ID, f"secret_{number}_12345678")


def acquire(guard: Guard) -> Permit:
    return guard.acquire(clock.now() + 20)


def refuse(guard: Guard, error: EcwidError = REFUSED) -> None:
    guard.record_failure(acquire(guard), error)


def accept(guard: Guard) -> None:
    guard.record_success(acquire(guard), first=True)


def wait_s(guard: Guard) -> float:
    """Return for how long the guard refuses calls."""
    with pytest.raises(Throttled) as refusal:
        acquire(guard)
    return refusal.value.wait_s


def refused_in_turn(processes: list[Guards], numbers: range) -> int:
    """Return how many of these tokens Ecwid gets and refuses, at the same time."""

    def ask(number: int) -> int:
        try:
            refuse(processes[number % len(processes)].guard_of(token(number)))
        except Throttled:
            return 0
        return 1

    with ThreadPoolExecutor(16) as threads:
        return sum(threads.map(ask, numbers))


def test_a_refused_token_is_tried_again_more_and_more_rarely(host: Host) -> None:
    """A token is tried after 1, 5 and 30 minutes, 2 hours and then daily, also after a restart."""
    for pause_s in (60, 300, 1800, 7200, 86400, 86400):
        guard = host.process().guard_of(token(1))
        refuse(guard)
        for each in (guard, host.process().guard_of(token(1))):
            assert pause_s - 5 < wait_s(each) <= pause_s
        host.later(pause_s - 10)
        assert 0 < wait_s(host.process().guard_of(token(1))) <= 10
        host.later(10.5)
    accept(host.process().guard_of(token(1)))
    guard = host.process().guard_of(token(1))
    refuse(guard)
    assert 55 < wait_s(guard) <= 60


def test_the_count_of_refusals_is_kept(host: Host) -> None:
    """A store without requests for days after a refusal is not tried more often afterwards."""
    guard = host.process().guard_of(token(1))
    for later_s in (61, 301, 3 * 86400):
        refuse(guard)
        host.later(later_s)
    refuse(host.process().guard_of(token(1)))
    assert 7195 < wait_s(host.process().guard_of(token(1))) <= 7200


def test_a_probe_whose_process_is_gone(host: Host) -> None:
    """A worker that dies while it tries a refused token delays the next try by a minute."""
    guard = host.process().guard_of(token(1))
    for later_s in (61, 301, 1801, 7201):
        refuse(guard)
        host.later(later_s)
    acquire(host.process().guard_of(token(1)))
    host.later(61)
    acquire(host.process().guard_of(token(1)))


def test_one_thread_tries_a_token(host: Host) -> None:
    """The other threads wait for the outcome, so a refused token costs one call."""
    guard = host.process().guard_of(token(1))
    sent = count()

    def ask(_: int) -> None:
        permit = acquire(guard)
        next(sent)
        clock.sleep(0.05)
        guard.record_failure(permit, REFUSED)

    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(ask, number) for number in range(8)]
    assert sum(isinstance(each.exception(), Throttled) for each in asked) == 7
    assert next(sent) == 1


def test_few_refusals_in_a_minute(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """Ecwid gets 60 refused tokens a minute, of all processes together and exactly.

    Each process warns that new merchants have to wait.
    """
    processes = [host.process() for _ in range(3)]
    assert refused_in_turn(processes, range(90)) == REFUSALS_MOST
    new = host.process().guard_of(token("new"))
    assert 50 < wait_s(new) <= 62
    warnings = [each for each in caplog.messages if "unproven tokens have to wait" in each]
    assert 1 <= len(warnings) <= 4
    assert "secret" not in caplog.text
    host.later(63)
    assert refused_in_turn(processes, range(100, 190)) == REFUSALS_MOST


@pytest.mark.parametrize("error", [DeadlineExceeded(), ServiceRefused(suspicions=1)])
def test_what_counts_like_a_refusal(host: Host, error: EcwidError) -> None:
    """A call without a reply may have been refused, and a refusal without a reason counts."""
    process = host.process()
    for number in range(REFUSALS_MOST):
        refuse(process.guard_of(token(number)), error)
    assert wait_s(process.guard_of(token("new"))) > 50


def test_a_call_from_before_proves_nothing(host: Host) -> None:
    """A good reply to a call from before the refusal of the token does not prove the token."""
    guard = host.process().guard_of(token("rotated"))
    accept(guard)
    slow = acquire(guard)
    host.later(1)
    refuse(guard, REFUSED)
    guard.record_success(slow, first=True)
    assert not guard.is_proven
    host.later(61)
    accept(guard)
    assert guard.is_proven


def test_what_counts_for_nothing(host: Host) -> None:
    """A call that was not sent gives its place back."""
    process = host.process()
    for number in range(REFUSALS_MOST + 5):
        guard = process.guard_of(token(number))
        guard.release(acquire(guard))
        accept(guard)
    for _ in range(3):
        refuse(process.guard_of(token("bad")), Unreachable())
    accept(process.guard_of(token("new")))


def test_many_new_merchants(host: Host) -> None:
    """Any number of good tokens may come at the same time, although each takes a place."""
    processes = [host.process() for _ in range(3)]

    def ask(number: int) -> None:
        guard = processes[number % 3].guard_of(token(number))
        permit = acquire(guard)
        clock.sleep(0.01)
        guard.record_success(permit, first=True)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(ask, range(200)))
    assert all(host.process().guard_of(token(number)).is_proven for number in (0, 199))


def test_a_token_that_was_accepted(host: Host) -> None:
    """The refusals of other tokens hold no token back that Ecwid has accepted before."""
    accept(host.process().guard_of(token("good")))
    assert refused_in_turn([host.process()], range(70)) == REFUSALS_MOST
    for _ in range(3):
        accept(host.process().guard_of(token("good")))


def test_an_accepted_token_that_is_refused_counts(host: Host) -> None:
    """The refusal of a token that was accepted before leaves fewer places for the others."""
    process = host.process()
    guards = [process.guard_of(token(number)) for number in range(10)]
    for guard in guards:
        accept(guard)
    for guard in guards:
        refuse(guard)
        assert not guard.is_proven
    assert not host.process().guard_of(token(0)).is_proven
    assert refused_in_turn([process], range(100, 190)) == REFUSALS_MOST - 10


def test_places_for_new_merchants(host: Host) -> None:
    """Tokens that were refused before take a third of the places, so new tokens have the rest."""
    process = host.process()
    assert refused_in_turn([process], range(REFUSALS_MOST)) == REFUSALS_MOST
    host.later(63)
    assert refused_in_turn([process], range(REFUSALS_MOST)) == AGAIN_MOST
    new = refused_in_turn([process], range(100, 190))
    assert new == REFUSALS_MOST - AGAIN_MOST


def test_the_place_of_a_process_that_is_gone(host: Host) -> None:
    """A killed worker takes its place along for a minute beyond the deadline of its call."""
    process = host.process()
    held = [process.guard_of(token(number)) for number in range(REFUSALS_MOST)]
    for guard in held:
        acquire(guard)
    host.later(settings().deadline_s + 55)
    assert wait_s(host.process().guard_of(token("new"))) == 1
    host.later(10)
    accept(host.process().guard_of(token("new")))


class Leaving(MemoryState):
    """A storage that fails at command."""

    gone = False
    is_there = True

    def get(self, key: str) -> Stored | None:
        self._fail()
        return super().get(key)

    def compare_and_swap(
        self, key: str, before: bytes | None, after: bytes | None, ttl_s: float
    ) -> bool:
        self._fail()
        return super().compare_and_swap(key, before, after, ttl_s)

    def _fail(self) -> None:
        if self.gone:
            raise StateUnavailable(is_there=self.is_there)


def test_a_storage_that_fails(later: Later, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the storage, each process keeps to its share, after a minute without any trial."""
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    state = Leaving()
    process = Guards(settings(), Storage(state, state))
    assert refused_in_turn([process], range(1)) == 1
    state.gone = True
    assert refused_in_turn([process], range(10, 20)) == 0
    later(63)
    share = REFUSALS_MOST // 4
    assert refused_in_turn([process], range(20, 50)) == share
    state.gone = False
    assert refused_in_turn([process], range(100, 190)) == REFUSALS_MOST - share


def test_places_that_a_failing_storage_did_not_get_back() -> None:
    """A place that the storage did not get back is free when the process takes the next one."""
    state = Leaving()
    process = Guards(settings(), Storage(state, state))
    held = [process.guard_of(token(number)) for number in range(REFUSALS_MOST)]
    permits = [acquire(guard) for guard in held]
    state.gone = True
    for guard, permit in zip(held, permits, strict=True):
        guard.record_success(permit, first=True)
    state.gone = False
    accept(process.guard_of(token("new")))
    assert refused_in_turn([process], range(100, 190)) == REFUSALS_MOST


def test_a_storage_that_is_not_there() -> None:
    """Where no file can be made, a process keeps to its share at once."""
    state = Leaving()
    state.gone, state.is_there = True, False
    process = Guards(settings(), Storage(state, state))
    assert refused_in_turn([process], range(70)) == REFUSALS_MOST


def test_an_accepted_token_while_redis_is_down(tmp_path: Path, redis: RedisServer) -> None:
    """A later process of the host knows the accepted tokens from the file of the host."""
    file = FileState(tmp_path / "state.sqlite3")
    for state in (RedisState(RedisConnection(redis.url)), Leaving()):
        guard = Guards(settings(), Storage(state, file)).guard_of(token(1))
        if isinstance(state, Leaving):
            state.gone = True
            assert guard.is_proven
        else:
            accept(guard)


def test_a_token_that_another_host_tried_first(tmp_path: Path, redis: RedisServer) -> None:
    """A host that has used an accepted token knows the token while Redis is down."""
    shared = RedisState(RedisConnection(redis.url))
    hosts = [Storage(shared, FileState(tmp_path / f"{name}.sqlite3")) for name in "ab"]
    for storage in hosts:
        accept(Guards(settings(), storage).guard_of(token(1)))
    gone = Leaving()
    gone.gone = True
    for storage in hosts:
        assert Guards(settings(), Storage(gone, storage.host)).guard_of(token(1)).is_proven


def test_an_acceptance_that_redis_misses() -> None:
    """The next accepted call writes the proof that Redis did not get, so other hosts know it."""
    shared = Leaving()
    guard = Guards(settings(), Storage(shared, MemoryState())).guard_of(token(1))
    permit = acquire(guard)
    shared.gone = True
    guard.record_success(permit, first=True)
    shared.gone = False
    other = Guards(settings(), Storage(shared, MemoryState()))
    assert not other.guard_of(token(1)).is_proven
    accept(guard)
    assert other.guard_of(token(1)).is_proven


def test_a_refusal_that_the_storage_misses(later: Later) -> None:
    """A mark that could not be removed proves nothing in the process that saw the refusal."""
    state = Leaving()
    guard = Guards(settings(), Storage(state, state)).guard_of(token(1))
    accept(guard)
    permit = acquire(guard)
    state.gone = True
    guard.record_failure(permit, REFUSED)
    state.gone = False
    later(1)
    assert not guard.is_proven


def test_the_store_of_the_settings(later: Later) -> None:
    """The store of the settings needs no proof, takes no place, and keeps its pause of 30 s."""
    state = Leaving()
    own = Settings(store_id=STORE_ID, token=token(1).token)
    guards = Guards(own, Storage(state, state))
    guard = guards.guard_of(token(1))
    assert guard.is_proven
    for _ in range(3):
        refuse(guard)
        assert 25 < wait_s(guard) <= 30
        later(31)
    assert not guards.guard_of(token(2)).is_proven
