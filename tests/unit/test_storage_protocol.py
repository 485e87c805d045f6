"""All states keep the same protocol, and the script in Redis takes the steps of `Window`.

The models of the simulator keep the protocol, too. Otherwise a simulation would prove its models.

Memory and file get their time from a clock that the tests set. No command sets the clock of Redis.
So the tests move the times to live in Redis, and let the script read its second from a key. A test
of its own shows that the script without this change uses the clock of Redis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from flask_ecwid import clock
from flask_ecwid.storage import file_state, redis_state
from flask_ecwid.storage.file_state import FileState
from flask_ecwid.storage.memory_state import MemoryState
from flask_ecwid.storage.redis_connection import RedisConnection
from flask_ecwid.storage.redis_state import RedisState
from flask_ecwid.storage.state import State, Stored, Taken
from flask_ecwid.storage.window import HOST_S, SPAN_S, Window

from ..helpers.redis_server import RedisServer
from ..simulation import storage_model as simulated
from ..simulation.setting import Setting
from ..simulation.storage_model import HostFile, HostFileState, SimulatedConnection
from ..simulation.world import Host, Process, Task, World

START = 1_800_000_000  # the second in which each test begins
KEYS = ("one", "other", "the third")
PREFIXES = ("a", "ab", "b:", "a*", "a?", "[ab]", "a\\", "B", "\u00e9")
VALUES = (None, b"", b"a", b"b", b"\x00\xff {}")
# A value differs from a value at the same moment of another state by the time that the test takes.
# All times to live are therefore odd multiples of this number, and all passes even multiples.
STEP_S = 100


class Played:
    """A memory, a file, a Redis and two models with the same clock, which get the same calls."""

    def __init__(self, redis: RedisServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._redis = redis
        self.second = START
        monkeypatch.setattr(clock, "now", lambda: float(self.second))
        # The file drops an idle window sooner than Redis does.
        monkeypatch.setattr(file_state, "_SWEEP_EVERY_S", math.inf)
        self.redis = RedisState(RedisConnection(f"{redis.url}?socket_timeout=20"))
        self.states: list[State] = [
            MemoryState(),
            FileState(folder / "own" / "state.sqlite3"),
            self.redis,
        ]
        script = redis_state._TAKE.replace("redis.call('TIME')[1]", "redis.call('GET', 'second')")
        assert script != redis_state._TAKE
        monkeypatch.setattr(redis_state, "_TAKE", script)
        self._world = World(seed=0)
        host = Host("A", 0.0, file=HostFile())
        process = Process("A1", host, 1)
        # The only task of this world is always the next one, so no message of the model waits.
        self._world.current = Task("A1/r1", process, 1, self._world.generator("A1/r1"))
        model = SimulatedConnection(simulated.RedisServer(self._world, Setting(redis=True)))
        self.states += [HostFileState(self._world, host), RedisState(model)]
        self.let_pass(0)

    def let_pass(self, seconds: int) -> None:
        """Let time pass in all of them."""
        self.second += seconds
        self._world.time = self.second - START
        for key in self._redis.client.scan_iter():
            if self._redis.client.type(key) == b"string" and key != b"second":
                left_ms = self._redis.client.pttl(key)
                self._redis.client.pexpire(key, max(0, left_ms - 1000 * seconds))
        self._redis.client.set("second", self.second)

    def get(self, key: str) -> Stored | None:
        """Return the value of all of them, with the fewest seconds left."""
        found = [state.get(key) for state in self.states]
        values = {each and each.value for each in found}
        assert len(values) == 1, f"{key}: {found}"
        left_s = [each.left_s for each in found if each]
        assert not left_s or max(left_s) - min(left_s) < STEP_S, left_s
        return min((each for each in found if each), key=lambda each: each.left_s, default=None)

    def compare_and_swap(
        self, key: str, before: bytes | None, after: bytes | None, ttl_s: float
    ) -> bool:
        """Swap in all of them, and return their result."""
        swapped = [state.compare_and_swap(key, before, after, ttl_s) for state in self.states]
        assert len(set(swapped)) == 1, f"{key}: {swapped}"
        return swapped[0]

    def keys(self, prefix: str) -> set[str]:
        """Return the keys of all of them."""
        found = [sorted(state.keys(prefix)) for state in self.states]
        assert all(each == found[0] for each in found), f"{prefix}: {found}"
        return set(found[0])

    def take(self, key: str, limit: int, host: str, seen: list[str]) -> list[Taken]:
        """Take from all of them, and compare the replies.

        The epochs are random, so they are left out of the comparison. Only Redis has several hosts.
        """
        taken = [
            state.take(key, limit, host=host if isinstance(state, RedisState) else "", seen=epoch)
            for state, epoch in zip(self.states, seen, strict=True)
        ]
        of_redis = [isinstance(state, RedisState) for state in self.states]
        hosts = {each[4:] for each, has_hosts in zip(taken, of_redis, strict=True) if has_hosts}
        of_any_host = {each._replace(epoch="", hosts=0, is_new=False) for each in taken}
        assert len(of_any_host) == len(hosts) == 1, f"{key}, second {self.second - START}: {taken}"
        return taken


@pytest.fixture
def played(redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    return Played(redis, tmp_path, monkeypatch)


@pytest.mark.parametrize("seed", range(8))
def test_get_and_compare_and_swap(played: Played, seed: int) -> None:
    """Each storage and each model gives equal results for equal calls of `get` and the swap."""
    random = Random(seed)
    results = set()
    for _ in range(120):
        key, step = random.choice(KEYS), random.random()
        if step < 0.2:
            played.let_pass(2 * STEP_S * random.randrange(4))
        before = found.value if (found := played.get(key)) else None
        results.add(("get", found is not None))
        if random.random() < 0.3:
            before = random.choice(VALUES)
        after, ttl_s = random.choice(VALUES), STEP_S * random.choice((1, 3, 9))
        results.add(("swap", played.compare_and_swap(key, before, after, ttl_s)))
    assert len(results) == 4, "one result never came"


@pytest.mark.parametrize("seed", range(4))
def test_keys(played: Played, seed: int) -> None:
    """Each storage and each model gives the keys that begin with a prefix, and no other keys.

    A prefix may have the signs of a pattern. A value that has expired or is deleted has no key.
    """
    random = Random(seed)
    names = [prefix + end for prefix in PREFIXES for end in ("", "1", ":once:2")]
    ends: dict[str, int] = {}
    for _ in range(60):
        name = random.choice(names)
        found = played.get(name)
        ttl_s = STEP_S * random.choice((1, 3, 9))
        after = random.choice((b"value", b"value", None))
        assert played.compare_and_swap(name, found and found.value, after, ttl_s)
        ends[name] = played.second + ttl_s if after else 0
        if random.random() < 0.3:
            played.let_pass(2 * STEP_S)
        prefix = random.choice(PREFIXES)
        there = {name for name, end in ends.items() if end > played.second}
        assert played.keys(prefix) == {name for name in there if name.startswith(prefix)}


def test_keys_of_windows(played: Played) -> None:
    """The keys of windows are among the keys, and a long list is whole."""
    count = len(played.states)
    played.take("a:window", 5, "", [""] * count)
    names = {f"a:{number}" for number in range(1_500)}
    redis, other = played.redis, played.states[0]
    for name in names:
        assert redis.compare_and_swap(name, None, b"", 900)
        assert other.compare_and_swap(name, None, b"", 900)
    assert {*redis.keys("a:")} == {*other.keys("a:")} == {"a:window", *names}
    assert played.states[1].keys("a:") == ["a:window"]


@pytest.mark.parametrize("seed", range(8))
def test_take(played: Played, seed: int) -> None:
    """Each storage and each model gives equal results for equal calls of `take`.

    The calls differ in key, limit, host and epoch, and come at any second up to the hour in which
    a host is forgotten.
    """
    random = Random(seed)
    count = len(played.states)
    seen = {
        key: ([""] * count, START) for key in KEYS
    }  # The epochs, and the second of their reply.
    results = set()

    def take(key: str) -> None:
        epochs, at = seen[key]
        if random.random() < 0.05:
            epochs = ["lost"] * count
        elif played.second - at >= SPAN_S or random.random() < 0.2:
            epochs = [""] * count
        host = random.choice(("", "a", "b", "lab", "c0"))
        taken = played.take(key, random.choice((1, 4, 5, 30)), host, epochs)
        seen[key] = [each.epoch for each in taken], played.second
        results.add((taken[2].granted, taken[2].is_new, taken[2].remaining == 0))

    for _ in range(150):
        if random.random() < 0.5:
            played.let_pass(random.choice((1, 1, 2, 9, 30, SPAN_S - 1, SPAN_S, SPAN_S + 1)))
        if random.random() < 0.1:
            # Each window gets a call after an hour, so that no storage drops a window meanwhile.
            played.let_pass(random.choice((HOST_S - 1, HOST_S, HOST_S + 1)))
            for key in KEYS:
                take(key)
        take(random.choice(KEYS))
    assert len(results) >= 6, results


@pytest.mark.parametrize("seed", range(20))
def test_the_script_takes_the_steps_of_window(
    played: Played, redis: RedisServer, seed: int
) -> None:
    """From any window, the script and `Window.take` give the same reply and the same window.

    The window may have times of the future, as after the clock of Redis was set back.
    """
    random = Random(seed)

    def second(spread: int) -> int:
        return played.second + random.randint(-spread, spread // 3)

    for _ in range(10):
        counts = {str(second(90)): random.randint(1, 4) for _ in range(random.randrange(12))}
        hosts = {
            id: sorted((second(2 * HOST_S), second(2 * HOST_S)))
            for id in random.sample(("a", "b", "cc", "f9"), random.randrange(4))
        }
        window = Window("epoch", second(90), random.choice((0, second(90))), counts, hosts)
        put_window(redis, window)
        for _ in range(4):
            limit = random.choice((1, 5, 10, 20, 40))
            host, seen = random.choice(("", "a", "b")), random.choice(("", "epoch", "lost"))
            taken = window.take(played.second, limit, host, seen)
            assert played.redis.take("window", limit, host=host, seen=seen) == taken
            assert window_in(redis) == window
            played.let_pass(random.choice((-61, -1, 0, 1, 5, 61, 62, HOST_S)))


def put_window(redis: RedisServer, window: Window) -> None:
    """Write a window into Redis, as the script does."""
    members: dict[Any, Any] = {"epoch": window.epoch, "began": window.began}
    if window.closed_until:
        members["closed_until"] = window.closed_until
    members.update({f"c{at}": count for at, count in window.counts.items()})
    for id, (first, last) in window.hosts.items():
        members.update({f"f{id}": first, f"l{id}": last})
    redis.client.delete("window")
    redis.client.hset("window", mapping=members)


def window_in(redis: RedisServer) -> Window:
    """Return the window whose members the script left in Redis."""
    members: dict[Any, Any] = redis.client.hgetall("window")
    found = {name.decode(): value.decode() for name, value in members.items()}
    window = Window(found.pop("epoch"), int(found.pop("began")), int(found.pop("closed_until")))
    for name, value in sorted(found.items()):
        if name[0] == "c":
            window.counts[name[1:]] = int(value)
        else:
            window.hosts.setdefault(name[1:], []).append(int(value))  # The first, then the last.
    return window


def test_the_script_uses_the_clock_of_redis(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call is counted in the second of the clock of Redis, whatever the clocks of hosts show."""
    for step_s in (-90, 90):
        monkeypatch.setattr(clock, "wall", lambda s=step_s: START + s)
        before = redis.client.time()[0]
        RedisState(RedisConnection(f"{redis.url}?socket_timeout=20")).take("window", 5)
        assert redis.client.hexists("window", f"c{before}") or before < redis.client.time()[0]
    assert redis.client.hget("window", "began") is not None


@pytest.mark.parametrize("suspended_s", [0, 45])
def test_the_file_tells_how_long_its_clock_has_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suspended_s: int
) -> None:
    """The file tells how many seconds its clock has missed while the host was suspended.

    A wall clock that is set back makes no such time.
    """
    state = FileState(tmp_path / "own" / "state.sqlite3")
    now, wall = clock.now(), clock.wall()
    monkeypatch.setattr(clock, "now", lambda: now)
    monkeypatch.setattr(clock, "wall", lambda: wall)
    assert state.compare_and_swap("key", None, b"value", 3600)
    now, wall = now + 5, wall + 5 + suspended_s
    assert state.get("key") == pytest.approx((b"value", 3595, suspended_s), abs=1e-6)
    wall -= 300
    assert state.get("key") == pytest.approx((b"value", 3595, 0), abs=1e-6)


def storages(redis: RedisServer, folder: Path) -> Iterator[State]:
    yield MemoryState()
    yield FileState(folder / "own" / "state.sqlite3")
    yield RedisState(RedisConnection(f"{redis.url}?socket_timeout=20"))


def test_an_epoch_is_of_one_window(redis: RedisServer, tmp_path: Path) -> None:
    """Every reply of a window has the same epoch, and no other window has this epoch."""
    epochs = [
        {state.take(key, 5).epoch for _ in range(3)}
        for state in storages(redis, tmp_path)
        for key in KEYS
    ]
    assert all(len(each) == 1 for each in epochs)
    assert len(set.union(*epochs)) == len(epochs)


def test_a_window_of_another_version(redis: RedisServer) -> None:
    """A window with members of another version keeps its calls in Redis."""
    now = redis.client.time()[0]
    members: dict[Any, Any] = {"epoch": "epoch", "began": "?", "closed_until": "?", "colour": "red"}
    redis.client.hset("window", mapping={**members, f"c{now}": 3})
    state = RedisState(RedisConnection(f"{redis.url}?socket_timeout=20"))
    assert [state.take("window", 5).remaining for _ in range(3)] == [1, 0, 0]
    assert state.take("window", 5).epoch == "epoch"
