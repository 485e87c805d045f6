"""The model of what processes share: a Redis, and the file of each host.

The model of Redis stands below the real `RedisConnection`, so `RedisState` and the cache in Redis
run unchanged. A script of Lua is a function of the model here. tests/unit/test_storage_protocol.py
compares both models with the real storages.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import orjson
import redis

from flask_ecwid import chance, clock
from flask_ecwid.settings import Settings
from flask_ecwid.storage import cache_backend, file_state, redis_state
from flask_ecwid.storage.calls_ahead import CallsAhead
from flask_ecwid.storage.opening import Storage
from flask_ecwid.storage.redis_connection import COOLDOWN_S, RedisConnection
from flask_ecwid.storage.redis_state import RedisState
from flask_ecwid.storage.state import StateUnavailable, Stored, Taken
from flask_ecwid.storage.window import KEPT_S, Window
from flask_ecwid.storage.work import current_work

from .setting import Setting
from .world import EPOCH_S, Host, Process, Task, World

# How Redis fares, by the names in a plan.
MODES = ("down", "hang", "readonly", "slow")
_Values = dict[str, tuple[bytes, float]]


@dataclass(eq=False)
class RedisServer:
    """A Redis of all hosts. Its clock is true time, until somebody sets the clock."""

    world: World
    setting: Setting
    mode: str = "up"
    healed: bool = False  # True after the faults have ended
    values: _Values = field(default_factory=dict)  # each with the time at which it expires
    older: _Values | None = None  # the data of the replica
    # The rate limit, for the judge: when each process has counted a call in each window.
    counted: list[tuple[float, Process, str]] = field(default_factory=list)
    # When a window was begun that Redis had lost, when the call was sent to Redis, and by whom.
    begun_anew: list[tuple[float, float, Process, str]] = field(default_factory=list)
    # The same as `counted` where the process got the reply, and when the reply came.
    told: list[tuple[float, float, Process, str]] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)  # the keys that Redis was emptied of or evicted
    # For the judge: how long each request has waited, each command, and each trip that took too
    # long.
    waited_s: dict[int, float] = field(default_factory=dict)
    asked: list[tuple[float, Process, str]] = field(default_factory=list)
    timeouts: list[tuple[float, Process]] = field(default_factory=list)
    asked_at: dict[Task, float] = field(default_factory=dict)  # the last command of each thread
    ahead_s: float = 0.0
    steps_s: list[float] = field(default_factory=list)  # by how much the clock was set
    evicted: set[str] = field(default_factory=set)  # the kinds of the evicted keys

    @property
    def now(self) -> float:
        return self.world.time + self.ahead_s

    # Commands

    def get(self, key: str) -> bytes | None:
        value, ends = self.values.get(key, (None, 0.0))
        return value if self.now < ends else None

    def pttl(self, key: str) -> int:
        value, ends = self.values.get(key, (None, 0.0))
        if value is None or self.now >= ends:
            return -2
        return -1 if ends == float("inf") else int((ends - self.now) * 1000)

    def scan(self, pattern: str) -> tuple[int, list[bytes]]:
        """Do what the command SCAN does, for a pattern of a prefix, in one step."""
        prefix = re.sub(r"\\(.)", r"\1", pattern.removesuffix("*"))
        return 0, [key.encode() for key in self.values if key.startswith(prefix) and self.get(key)]

    def swap(self, keys: list[str], arguments: list[Any]) -> int:
        """Do what the script `_SWAP` does."""
        self._check_writable()
        has_before, before, has_after, after, ttl_ms = arguments
        if self.get(keys[0]) != (before if has_before else None):
            return 0
        if has_after:
            self.values[keys[0]] = (bytes(after), self.now + ttl_ms / 1000)
        else:
            self.values.pop(keys[0], None)
        return 1

    def get_with_ttl(self, keys: list[str], arguments: list[Any]) -> list[Any]:
        """Do what the script `_GET` does."""
        return [self.get(keys[0]), self.pttl(keys[0])]

    def take(self, keys: list[str], arguments: list[Any]) -> list[Any]:
        """Do what the script `_TAKE` does."""
        self._check_writable()
        limit, host, seen, epoch = arguments
        found = self.get(keys[0])
        second = int(EPOCH_S + self.now)
        process = self.world.me().process
        window = _window(found)
        if window is None:
            window = Window(epoch, second)
            if keys[0] in self.lost:
                asked_at = self.asked_at[self.world.me()]
                self.begun_anew.append((self.world.time, asked_at, process, keys[0]))
                self.lost.discard(keys[0])
        self.counted.append((self.world.time, process, keys[0]))
        taken = window.take(second, limit, host, seen)
        self.values[keys[0]] = (orjson.dumps(window), self.now + KEPT_S)
        flags = int(taken.granted), int(taken.is_new)
        reply = [flags[0], taken.remaining, taken.reset_s]
        return [*reply, taken.epoch.encode(), taken.hosts, flags[1]]

    def get_response(self, keys: list[str], arguments: list[Any]) -> list[Any]:
        """Do what the script `GET` of cache_backend.py does."""
        word, version = arguments
        generation = self.get(keys[0]) or self.begin_generation(keys, [word])
        entry = self.get(keys[1]) or b""
        head = f"{version} ".encode() + generation + b" "
        if not entry.startswith(head):
            return [generation]
        return [generation, entry[len(head) :], self.pttl(keys[1])]

    def set_response(self, keys: list[str], arguments: list[Any]) -> int:
        """Do what the script `SET` of cache_backend.py does."""
        generation, version, value, ttl_ms = arguments
        if self.get(keys[0]) != generation:
            return 0
        self._check_writable()
        entry = f"{version} ".encode() + generation + b" " + value
        self.values[keys[1]] = (entry, self.now + ttl_ms / 1000)
        return 1

    def begin_generation(self, keys: list[str], arguments: list[Any]) -> bytes:
        """Do what the script `INVALIDATE` of cache_backend.py does."""
        self._check_writable()
        generation = f"{arguments[0]}.{self.now:.6f}".encode()
        self.values[keys[0]] = (generation, self.now + cache_backend.GENERATION_S)
        return generation

    def _check_writable(self) -> None:
        if self.mode == "readonly":
            raise redis.ReadOnlyError("READONLY")

    # Faults

    def set_mode(self, mode: str) -> None:
        self.mode = mode
        self.world.log("REDIS", mode)

    def snapshot(self) -> None:
        self.older = dict(self.values)

    def fail_over(self) -> None:
        if self.older is not None:
            self.values = dict(self.older)
        self.world.log("REDIS", "fails over to older data")

    def empty(self) -> None:
        self.lost.update(self.values)
        self.values = {}
        self.world.log("REDIS", "is emptied")

    def evict(self, kind: str) -> None:
        """Drop one key of a kind, as a Redis without memory does."""
        kinds = ("calls", "trials") if kind == "calls" else (kind,)
        found = sorted(key for key in self.values if _kind_of(key) in kinds)
        if not found:
            return
        key = found[int(self.world.random.random() * len(found))]
        del self.values[key]
        self.evicted.add(_kind_of(key))
        self.lost.add(key)
        self.world.log("REDIS", "evicts", _tail(key))

    def step(self, seconds: float) -> None:
        """Set the clock forward, or back with a negative number."""
        self.ahead_s += seconds
        self.steps_s.append(seconds)
        self.world.log("REDIS", "clock set", f"{seconds:+g} s")

    # The way

    def ask(self, what: str, command: Callable[[], Any]) -> Any:
        """Run a command, and wait for its result within the time of the trip under way."""
        world, task = self.world, self.world.me()
        host = task.process.host
        with current_work().wait(None) as timeout_s:
            self.asked.append((world.time, task.process, what))
            self.asked_at[task] = world.time
            begun = world.monotonic(host)
            try:
                return self._ask_within(timeout_s, what, command)
            except redis.TimeoutError:
                self.timeouts.append((world.time, task.process))
                raise
            finally:
                waited_s = world.monotonic(host) - begun
                self.waited_s[task.request] = self.waited_s.get(task.request, 0.0) + waited_s

    def _ask_within(self, timeout_s: float, what: str, command: Callable[[], Any]) -> Any:
        world, setting = self.world, self.setting
        chance = world.me().random.random
        if self.mode == "down":
            world.travel(1e-3 * chance())
            raise redis.ConnectionError("refused")
        if self.mode == "hang":
            world.travel(timeout_s)
            raise redis.TimeoutError("no reply in time")
        drawn = 1.0 if self.healed else chance()
        if drawn < setting.redis_refused_p:
            world.travel(1e-3 * chance())
            raise redis.ConnectionError("refused")
        drawn -= setting.redis_refused_p
        is_lost = 0 <= drawn < setting.redis_lost_p
        drawn -= setting.redis_lost_p
        is_late = 0 <= drawn < setting.redis_timeout_p
        most_s = 0.15 if self.mode == "slow" else 2e-3
        out_s, back_s = most_s * chance(), most_s * chance()
        if (is_late and chance() < 0.5) or out_s > timeout_s:
            world.travel(timeout_s)
            world.log("redis", what, "no reply in time, not done")
            raise redis.TimeoutError("no reply in time")
        world.travel(out_s)
        if self.mode in ("down", "hang"):
            raise redis.ConnectionError("closed")
        result = command()
        world.log("redis", what, _short(result))
        if is_late or out_s + back_s > timeout_s:
            world.travel(max(0.0, timeout_s - out_s))
            world.log("redis", what, "no reply in time, but done")
            raise redis.TimeoutError("no reply in time")
        world.travel(back_s)
        if is_lost:
            world.log("redis", what, "done, and the reply is lost")
            raise redis.ConnectionError("closed")
        return result


class Client:
    """The commands of redis-py that the package uses."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self._functions: dict[str, tuple[str, Callable[[list[str], list[Any]], Any]]] = {
            redis_state._GET: ("GET", server.get_with_ttl),
            redis_state._SWAP: ("SWAP", server.swap),
            redis_state._TAKE: ("TAKE", server.take),
            cache_backend.GET: ("GET", server.get_response),
            cache_backend.SET: ("SET", server.set_response),
            cache_backend.INVALIDATE: ("INVALIDATE", server.begin_generation),
        }

    @property
    def connection_pool(self) -> Client:
        """The client itself, because the model has no connections."""
        return self

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Do nothing."""

    def get(self, key: str) -> Any:
        return self.server.ask(f"GET {_tail(key)}", lambda: self.server.get(key))

    def scan(self, cursor: int, *, match: str, count: int) -> Any:
        return self.server.ask("SCAN", lambda: self.server.scan(match))

    def eval(self, script: str, count: int, *values: Any) -> Any:
        name, function = self._functions[script]
        keys, arguments = list(values[:count]), list(values[count:])
        executed_at: list[float] = []

        def execute() -> Any:
            executed_at.append(self.server.world.time)
            return function(keys, arguments)

        reply = self.server.ask(f"{name} {_tail(keys[-1])}", execute)
        if name == "TAKE":
            world = self.server.world
            self.server.told.append((executed_at[0], world.time, world.me().process, keys[0]))
        return reply

    def register_script(self, script: str) -> Callable[[list[str], list[Any]], Any]:
        return lambda keys, arguments: self.eval(script, len(keys), *keys, *arguments)


class SimulatedConnection(RedisConnection):
    """The real connection with its cooldown, over a client of the model."""

    def __init__(self, server: RedisServer) -> None:
        self._failures = (redis.RedisError, OSError)
        self._lost = redis.ConnectionError
        self._model = Client(server)
        self._cooldown = clock.Cooldown(COOLDOWN_S)

    def _client(self) -> Any:
        return self._model


@dataclass(eq=False)
class HostFile:
    """The state file of a host. A value expires by the monotonic clock of the host."""

    values: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    # The same moments of the host's wall clock, for the time in which the host was suspended.
    wall_ends: dict[str, float] = field(default_factory=dict)
    gone_until: float = -1.0
    slow_until: float = -1.0
    slow_s: float = 0.0  # the most that a slow step takes
    locked_until: float = -1.0  # Another program, or a process of the history, changes the file.
    # For the judge: when which process could not use the file.
    failures: list[tuple[float, Process]] = field(default_factory=list)

    @property
    def is_busy_until(self) -> float:
        return max(self.slow_until, self.locked_until)


class HostFileState:
    """The state in the file of a host, as one process uses it."""

    def __init__(self, world: World, host: Host) -> None:
        self._world = world
        self._host = host
        self._file: HostFile = host.file
        self._ahead = CallsAhead()
        self._cooldown = clock.Cooldown(COOLDOWN_S)

    def get(self, key: str) -> Stored | None:
        self._go()
        return self._find(key)

    def compare_and_swap(
        self, key: str, before: bytes | None, after: bytes | None, ttl_s: float
    ) -> bool:
        self._go(changes=True)
        found = self._find(key)
        if (found and found.value) != before:
            return False
        if after is None:
            self._file.values.pop(key, None)
        else:
            self._put(key, after, ttl_s)
        self._world.log("file", f"SWAP {_tail(key)}", _short(after))
        return True

    def take(self, key: str, limit: int, *, host: str = "", seen: str = "") -> Taken:
        taken = self._ahead.use(key, limit, self._second, seen)
        if taken is not None:
            self._world.log("file", f"TAKE {_tail(key)}", "ahead", f"{taken.remaining} left")
            return taken
        self._go(changes=True)
        second = self._second
        # The plan is a switch point, and what follows is none. The file counts in one statement.
        calls, unused = self._ahead.plan(key, limit, second)
        found = self._find(key)
        window = _window(found and found.value) or Window(chance.token_hex(8), second)
        if unused and str(unused.second) in window.counts:
            window.counts[str(unused.second)] -= unused.calls
        taken = window.take(second, limit, "", seen)
        calls = calls if taken.granted and taken.remaining >= calls - 1 else 1
        for _ in range(calls - 1):
            taken = window.take(second, limit, "", "")
        self._put(key, orjson.dumps(window), KEPT_S)
        what = "counted" if taken.granted else "refused"
        self._world.log("file", f"TAKE {_tail(key)}", what, f"{taken.remaining} left")
        return self._ahead.add(key, limit, second, calls, taken) if taken.granted else taken

    @property
    def _second(self) -> int:
        return int(self._world.monotonic(self._host))

    def keys(self, prefix: str) -> list[str]:
        self._go()
        return [key for key in self._file.values if key.startswith(prefix) and self._find(key)]

    def _find(self, key: str) -> Stored | None:
        value, ends = self._file.values.get(key, (b"", 0.0))
        left_s = ends - self._world.monotonic(self._host)
        if left_s <= 0:
            return None
        left_on_wall_s = self._file.wall_ends[key] - self._world.wall(self._host)
        return Stored(value, left_s, max(0.0, left_s - left_on_wall_s))

    def _put(self, key: str, value: bytes, ttl_s: float) -> None:
        self._file.values[key] = (value, self._world.monotonic(self._host) + ttl_s)
        self._file.wall_ends[key] = self._world.wall(self._host) + ttl_s

    def _go(self, *, changes: bool = False) -> None:
        """Go to the file. A change of a busy file waits for the lock.

        Raises:
            StateUnavailable: The file cannot be used now, or failed less than 5 s ago.
        """
        world, file = self._world, self._file
        if not self._cooldown.is_over():
            self._refuse()
        world.travel(2e-4 * world.me().random.random())
        if world.time < file.is_busy_until:
            if changes:
                self._lock(world.me())
            elif world.time < file.slow_until:
                world.travel(file.slow_s * world.me().random.random())
        if world.time < file.gone_until:
            self._fail("gone")

    def _lock(self, task: Task) -> None:
        """Lock the file for as long as the change takes."""
        world, file = self._world, self._file
        ends_at = world.monotonic(self._host) + file_state._BUSY_S
        while world.time < file.locked_until:
            left_s = min(file.locked_until - world.time, ends_at - world.monotonic(self._host))
            is_ending = task.process.stopping or world.sleep(left_s, interruptible=True)
            if is_ending or world.monotonic(self._host) >= ends_at:
                self._fail("locked")
        if world.time < file.slow_until:
            seconds = file.slow_s * task.random.random()
            file.locked_until = world.time + seconds
            world.travel(seconds)

    def _fail(self, reason: str) -> NoReturn:
        self._world.log("file", reason)
        self._cooldown.begin()
        self._refuse()

    def _refuse(self) -> NoReturn:
        self._file.failures.append((self._world.time, self._world.me().process))
        raise StateUnavailable


def open_storage(
    world: World, server: RedisServer | None, host: Host, settings: Settings
) -> Storage:
    """Return the storage of one process, as the real `open_storage` does."""
    connection = SimulatedConnection(server) if server else None
    of_host = HostFileState(world, host)
    return Storage(
        RedisState(connection) if connection else of_host,
        of_host,
        connection,
        settings.redis_url,
        settings.cache_ttl_s,
    )


def foreign(value: bytes, how: str) -> bytes:
    """Return a record as another version of the package wrote it, or garbage."""
    if how == "garbage":
        return b"\xff{"
    return value[:-1] + b',"added_later":1}' if value.endswith(b"}") else value


def _window(value: bytes | None) -> Window | None:
    return Window(**orjson.loads(value)) if value else None


def _kind_of(key: str) -> str:
    """Return the kind of a key, by which a plan names the keys that Redis evicts."""
    parts = key.split(":")
    for word in ("pause", "generation", "undelivered", "accepted", "hosts", "new-host", "host"):
        if word in parts:
            return word
    if "once" in parts:
        return "record"
    if parts[-1] == "trials":
        return "trials"
    # A cached response has its time to live before the digest. A window of calls has none.
    return "response" if "".join(parts[-2:-1]).isdecimal() else "calls"


def _tail(key: str) -> str:
    """Return the part of a key that a reader of a history needs."""
    kind, last = _kind_of(key), key.rpartition(":")[2]
    if last == "bulk":
        return last
    return f"{kind} {last[:4]}" if kind in ("record", "response", "calls") else kind


def _short(value: Any) -> object:
    """Return a value of Redis as a short text."""
    if isinstance(value, bytes):
        return value[:120].decode(errors="replace")
    if isinstance(value, list):
        return tuple(_short(each) for each in value)
    return value
