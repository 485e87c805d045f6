"""Storage of cached responses, in the memory of one process or in Redis for all processes.

Each value belongs to a generation. A value is found only while the store has the same generation,
so one step invalidates all values. A generation that has ended never comes back.

A write invalidates all values, for every process that shares the storage. Without Redis, a mark in
the host's file names the generation for all processes of the host. A process that does not know the
generation finds no value.

If a process cannot tell the others of a write, the invalidation is undelivered. The process
remembers that, and delivers the invalidation before its next use of the storage. With Redis, the
host's file has a mark then, so another process of the host can deliver the invalidation.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from .. import chance, clock
from .host_mark import HostMark
from .process_memory import ProcessWide
from .redis_connection import RedisConnection, RedisUnavailable
from .state import State, StateUnavailable
from .store_memory import StoreMemory, store_memory

_VERSION = "1"  # of an entry in Redis, and of the bytes that web/cache.py makes
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

    def invalidate_all(self) -> bool:
        """Begin a new generation, so that no process finds an earlier value.

        The write ends in the memory of the store as well, which forgets the reads under way.

        Returns:
            False if the invalidation is undelivered.
        """

    def deliver(self) -> bool:
        """Deliver the invalidations that have not reached the storage, or return False."""


def open_cache_backend(
    ttl_s: float, redis: RedisConnection | None, redis_url: str, store_digest: str, host: State
) -> CacheBackend | None:
    """Return the storage of one store's responses, without a connection.

    Args:
        ttl_s: How long a response is kept. With 0, no response is kept, and the result is None.
        redis: Where all processes keep the responses, if the settings name a Redis.
        redis_url: The URL of that Redis.
        store_digest: The prefix of the keys in Redis and in the host's file.
        host: Keeps the generation, or with Redis the mark of an undelivered invalidation.
    """
    if not ttl_s:
        return None
    memory = store_memory(store_digest)
    delivered = ProcessWide(_Delivered, f"{store_digest} {redis_url}")
    if redis is None:
        mark = HostMark(host, f"{store_digest}:generation")
        return _Memory(memory, ttl_s, delivered, mark)
    mark = HostMark(host, f"{store_digest}:undelivered")
    return _Redis(redis, store_digest, ttl_s, memory, delivered, mark)


class _Delivered:
    """How many writes of this process have invalidated the values in one storage."""

    def __init__(self) -> None:
        self._lock = clock.Lock()
        self.writes = 0

    def up_to(self, writes: int) -> None:
        """Note that so many writes have invalidated the values."""
        with self._lock:
            self.writes = max(self.writes, writes)


class _Memory:
    """Storage in the memory of this process, which all mounts of the store share.

    The mark in the host's file names the generation, so a write of any process of the host is seen.
    """

    def __init__(
        self,
        memory: ProcessWide[StoreMemory],
        ttl_s: float,
        delivered: ProcessWide[_Delivered],
        mark: HostMark,
    ) -> None:
        self._memory = memory
        self._ttl_s = ttl_s
        self._delivered = delivered
        self._mark = mark

    def get(self, key: str) -> tuple[str, bytes | None, float]:
        if not self._follow():
            return "", None, 0
        number, value, age_s = self._memory.get().get(key, self._ttl_s)
        return str(number), value, age_s

    def set(self, key: str, generation: str, value: bytes, age_s: float) -> None:
        if generation:
            self._memory.get().set(key, self._ttl_s, int(generation), value, age_s)

    def invalidate_all(self) -> bool:
        self._memory.get().end_write()
        return self.deliver()

    def deliver(self) -> bool:
        delivered, memory = self._delivered.get(), self._memory.get()
        writes = memory.writes
        if delivered.writes >= writes:
            return True
        try:
            mark = self._mark.leave()
        except StateUnavailable:
            return False
        memory.follow(mark)
        delivered.up_to(writes)
        return True

    def _follow(self) -> bool:
        """Follow the writes of the other processes, or return False if they are not known."""
        if not self.deliver():
            return False
        memory = self._memory.get()
        try:
            # Without a first mark, a file that has lost its values would look as before a write.
            mark = self._mark.find() or self._mark.leave()
        except StateUnavailable:
            # Another process may owe an invalidation now. So this process owes one as well, for a
            # third process that does not notice the failure of the file.
            memory.end_write()
            return False
        memory.follow(mark)
        return True


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
        mark: HostMark,
    ) -> None:
        self._redis = redis
        self._store_digest = store_digest
        self._ttl_ms = int(ttl_s * 1000)
        self._memory = memory
        self._delivered = delivered
        self._mark = mark

    def get(self, key: str) -> tuple[str, bytes | None, float]:
        if not self.deliver():
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
        if not generation or left_ms <= 0 or not self.deliver():
            return
        values = generation.encode("latin-1"), _VERSION, value, left_ms
        with suppress(RedisUnavailable):
            self._run(SET, [self._key(key)], values)

    def invalidate_all(self) -> bool:
        self._memory.get().end_write()
        if self.deliver():
            return True
        # The mark comes before the caller learns of the write. Each write leaves a mark of its own.
        # Otherwise a process that began to deliver before the write could remove the mark of the
        # write. Without the file, this process alone remembers the write.
        with suppress(StateUnavailable):
            self._mark.leave()
        return False

    def deliver(self) -> bool:
        delivered = self._delivered.get()
        writes = self._memory.get().writes
        mark = None
        with suppress(StateUnavailable):
            mark = self._mark.find()
        if delivered.writes >= writes and mark is None:
            return True
        try:
            self._run(INVALIDATE, [], [chance.token_hex(16)])
        except RedisUnavailable:
            return False
        delivered.up_to(writes)
        if mark is not None:
            # A mark that cannot be removed costs no more than another invalidation.
            with suppress(StateUnavailable):
                self._mark.remove(mark)
        return True

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
