"""Storage of cached responses, in the memory of one process or in Redis for all processes.

Each value belongs to a generation. A value is found only while the store has the same generation,
so one step invalidates all values. A generation that has ended never comes back.

A write invalidates all values. If the process cannot reach Redis then, the invalidation is
undelivered. The process remembers that, and delivers the invalidation before its next use of Redis.
The host's file has a mark too, so another process of the host can deliver the invalidation.

A store that is forgotten has no value in any process of the host. Without Redis, a mark in the
host's file tells the other processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from .. import chance, clock
from .process_memory import ProcessWide
from .redis_connection import RedisConnection, RedisUnavailable
from .state import State, StateUnavailable
from .store_memory import StoreMemory, store_memory

_VERSION = "1"  # of an entry in Redis, and of the bytes that web/cache.py makes
_LOOK_S = 1.0  # How often a process looks for the mark of another process.
_REST_S = 60.0  # How often a process that cannot use the file tries the file again.
_MARK_S = 2 * 3600.0  # Every value in Redis has expired when a mark expires.
_MARK_TRIES = 10
# How long Redis keeps a generation, which is longer than any value. After that, the next read
# begins another generation. Without it, each store id that a merchant has ever entered would stay.
GENERATION_S = 24 * 3600

# In each script, KEYS[1] is the generation and KEYS[2] is an entry. Each script is one atomic step,
# so Redis cannot be emptied between two commands. A script may run again after a lost reply,
# because each new generation has the time of Redis, and differs at each run. `pcall` returns a
# table for a value of another type, so a foreign value is no failure of Redis.
_BEGIN = f"""
local function begin()
  local now = redis.call('TIME')
  local generation = ARGV[1] .. '.' .. now[1] .. '.' .. now[2]
  redis.call('SET', KEYS[1], generation, 'EX', {GENERATION_S})
  return generation
end
"""
# The arguments are a random word and the version. The reply is the generation, and the value with
# its time to live in milliseconds if there is a value of this generation.
GET = f"""{_BEGIN}
local generation = redis.pcall('GET', KEYS[1])
if type(generation) ~= 'string' or generation == '' then generation = begin() end
local entry = redis.pcall('GET', KEYS[2])
local head = ARGV[2] .. ' ' .. generation .. ' '
if type(entry) ~= 'string' or entry:sub(1, #head) ~= head then return {{generation}} end
return {{generation, entry:sub(#head + 1), redis.call('PTTL', KEYS[2])}}
"""
# The arguments are the generation, the version, the value and its time to live in milliseconds.
SET = """
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2] .. ' ' .. ARGV[1] .. ' ' .. ARGV[3], 'PX', ARGV[4])
return 1
"""
# The argument is a random word.
INVALIDATE = f"{_BEGIN}return begin()"


class CacheBackend(Protocol):
    """Storage of the cached responses of one store."""

    def get(self, key: str) -> tuple[str, bytes | None, float]:
        """Look up a value.

        Returns:
            The generation of the store, the value or None, and the age of the value in seconds.
        """

    def set(self, key: str, generation: str, value: bytes, age_s: float) -> None:
        """Keep a value of this age, if the store still has this generation."""

    def invalidate_all(self) -> None:
        """Begin a new generation, so that no earlier value is found.

        The write ends in the memory of the store as well, which forgets the reads under way.
        """

    def deliver(self) -> None:
        """Deliver the invalidations that have not reached the storage, if that is possible now."""

    def forget(self) -> None:
        """Invalidate all values, also those in the memory of other processes of the host.

        Raises:
            StateUnavailable: The other processes cannot be told.
        """


def open_cache_backend(
    ttl_s: float,
    redis: RedisConnection | None,
    redis_url: str,
    store_digest: str,
    host: State,
    *,
    can_be_forgotten: bool = False,
) -> CacheBackend | None:
    """Return the storage of one store's responses, without a connection.

    Args:
        ttl_s: How long a response is kept. With 0, no response is kept, and the result is None.
        redis: Where all processes keep the responses, if the settings name a Redis.
        redis_url: The URL of that Redis.
        store_digest: The prefix of the keys in Redis.
        host: Keeps the marks of undelivered invalidations and of forgotten stores.
        can_be_forgotten: The store is one of many, so another process may forget the store.
    """
    if not ttl_s:
        return None
    memory = store_memory(store_digest)
    if redis is None:
        return _Memory(memory, ttl_s, store_digest, host, can_be_forgotten)
    delivered = ProcessWide(_Delivered, f"{store_digest} {redis_url}")
    return _Redis(redis, store_digest, ttl_s, memory, delivered, host)


class _Memory:
    """Storage in the memory of this process, which all mounts of the store share."""

    def __init__(
        self,
        memory: ProcessWide[StoreMemory],
        ttl_s: float,
        store_digest: str,
        host: State,
        looks: bool,
    ) -> None:
        self._memory = memory
        self._ttl_s = ttl_s
        self._mark_key = f"{store_digest}:forgotten"
        self._host = host
        self._looks = looks

    def get(self, key: str) -> tuple[str, bytes | None, float]:
        if self._looks:
            self._look()
        writes, value, age_s = self._memory.get().get(key, self._ttl_s)
        return str(writes), value, age_s

    def set(self, key: str, generation: str, value: bytes, age_s: float) -> None:
        self._memory.get().set(key, self._ttl_s, int(generation), value, age_s)

    def invalidate_all(self) -> None:
        self._memory.get().end_write()

    def deliver(self) -> None:
        """Do nothing, because no invalidation of this storage can fail."""

    def forget(self) -> None:
        self.invalidate_all()
        _leave_mark(self._host, self._mark_key)

    def _look(self) -> None:
        """Forget the responses if another process has left a mark that is new to this process."""
        memory = self._memory.get()
        mark = _found_mark(self._host, self._mark_key, memory) if memory.has_responses else None
        if mark is not None and mark != memory.forgotten:
            memory.forgotten = mark
            memory.end_write()


class _Delivered:
    """How many writes of this process have invalidated the values in one Redis."""

    def __init__(self) -> None:
        self._lock = clock.Lock()
        self.writes = 0
        self.next_look_at = 0.0  # When this process looks for a mark again.

    def up_to(self, writes: int) -> None:
        """Note that so many writes have invalidated the values."""
        with self._lock:
            self.writes = max(self.writes, writes)


class _Redis:
    """Storage that every worker and host shares.

    After a failure of Redis, reads go to Ecwid until the cooldown is over.
    """

    def __init__(
        self,
        redis: RedisConnection,
        store_digest: str,
        ttl_s: float,
        memory: ProcessWide[StoreMemory],
        delivered: ProcessWide[_Delivered],
        host: State,
    ) -> None:
        self._redis = redis
        self._store_digest = store_digest
        self._ttl_ms = int(ttl_s * 1000)
        self._memory = memory
        self._delivered = delivered
        self._host = host
        self._mark_key = f"{store_digest}:undelivered"

    def get(self, key: str) -> tuple[str, bytes | None, float]:
        if not self._deliver():
            return "", None, 0
        try:
            found = self._run(GET, [self._key(key)], [chance.token_hex(16), _VERSION])
        except RedisUnavailable:
            return "", None, 0
        generation = found[0].decode("latin-1")  # A foreign generation may have any bytes.
        left_ms = found[2] if len(found) > 1 else 0
        if left_ms <= 0:  # A value that never expires has an unknown age.
            return generation, None, 0
        return generation, found[1], max(0, self._ttl_ms - left_ms) / 1000

    def set(self, key: str, generation: str, value: bytes, age_s: float) -> None:
        left_ms = self._ttl_ms - int(age_s * 1000)
        if not generation or left_ms <= 0 or not self._deliver():
            return
        values = generation.encode("latin-1"), _VERSION, value, left_ms
        with suppress(RedisUnavailable):
            self._run(SET, [self._key(key)], values)

    def invalidate_all(self) -> None:
        self._memory.get().end_write()
        if not self._deliver():
            self._leave_mark()

    def deliver(self) -> None:
        self._deliver()

    def forget(self) -> None:
        self.invalidate_all()

    def _deliver(self) -> bool:
        """Deliver what is undelivered, and return False if that fails.

        The values in Redis are then older than a write of this host.
        """
        delivered = self._delivered.get()
        writes = self._memory.get().writes
        mark = self._mark(delivered)
        if delivered.writes >= writes and mark is None:
            return True
        try:
            self._run(INVALIDATE, [], [chance.token_hex(16)])
        except RedisUnavailable:
            return False
        delivered.up_to(writes)
        if mark is not None:
            # A mark that is newer than the invalidation stays, because it differs. A mark that
            # cannot be removed costs no more than another invalidation.
            with suppress(StateUnavailable):
                self._host.compare_and_swap(self._mark_key, mark, None, _MARK_S)
        return True

    def _mark(self, delivered: _Delivered) -> bytes | None:
        """Return the mark of an undelivered invalidation in the host's file, or None."""
        mark = _found_mark(self._host, self._mark_key, delivered)
        if mark is not None:
            delivered.next_look_at = 0.0  # The mark stays in force until the delivery.
        return mark

    def _leave_mark(self) -> None:
        """Leave a mark in the host's file, before the caller learns of the write.

        Each write leaves a mark of its own. Otherwise a process that began to deliver before the
        write could remove the mark of the write.
        """
        # Without the file, this process alone remembers the write.
        with suppress(StateUnavailable):
            _leave_mark(self._host, self._mark_key)
            self._delivered.get().next_look_at = 0.0

    def _key(self, key: str) -> str:
        # The age of a value is what has passed of its time to live. Therefore processes with
        # another time to live have values of their own.
        return f"{self._store_digest}:{self._ttl_ms}:{key}"

    def _run(self, script: str, keys: Sequence[str], values: Sequence[bytes | str | int]) -> Any:
        """Run a script.

        Raises:
            RedisUnavailable: Redis cannot be used.
        """
        all_keys = [f"{self._store_digest}:generation", *keys]
        return self._redis.run(
            lambda client: client.eval(script, len(all_keys), *all_keys, *values)
        )


def _found_mark(host: State, key: str, looks: StoreMemory | _Delivered) -> bytes | None:
    """Return a mark in the host's file, or None. Look now and then, because a look costs I/O."""
    if clock.now() < looks.next_look_at:
        return None
    try:
        found = host.get(key)
    except StateUnavailable:
        looks.next_look_at = clock.now() + _REST_S
        return None
    looks.next_look_at = clock.now() + _LOOK_S
    return found and found.value


def _leave_mark(host: State, key: str) -> None:
    """Leave a mark that differs from every earlier mark.

    Raises:
        StateUnavailable: The file cannot be used.
    """
    mark = chance.token_hex(8).encode()
    for _ in range(_MARK_TRIES):
        found = host.get(key)
        if host.compare_and_swap(key, found and found.value, mark, _MARK_S):
            return
