"""Storage of cached responses, in the memory of one process or in Redis for all processes.

Each value belongs to a generation. A value is found only while the store has the same generation,
so one step invalidates all values.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol

from cachetools import TTLCache

from .. import chance, clock
from .redis_connection import COOLDOWN_S, RedisConnection, RedisUnavailable

MAX_BYTES = 32 * 1024 * 1024  # of the responses of one store, in memory


class CacheBackend(Protocol):
    """Storage of the cached responses of one store."""

    def get(self, key: str) -> tuple[str, bytes | None, float]:
        """Look up a value.

        Returns:
            The generation of the store, the value or None, and the age of the value in seconds.
        """

    def set(self, key: str, generation: str, value: bytes) -> None:
        """Keep a value, if the store still has this generation."""

    def invalidate_all(self) -> None:
        """Begin a new generation, so that no earlier value is found."""


def open_cache_backend(
    ttl_s: float, redis: RedisConnection | None, store_digest: str
) -> CacheBackend | None:
    """Return the storage of one store's responses, without a connection.

    Args:
        ttl_s: How long a response is kept. With 0, no response is kept, and the result is None.
        redis: Where all processes keep the responses, if the settings name a Redis.
        store_digest: The prefix of the keys in Redis.
    """
    if not ttl_s:
        return None
    return _Memory(ttl_s) if redis is None else _Redis(redis, store_digest, ttl_s)


class _Memory:
    """Storage in the memory of this process."""

    def __init__(self, ttl_s: float) -> None:
        self._lock = clock.Lock()
        self._generation = 0
        self._values: TTLCache[str, tuple[float, bytes]] = TTLCache(
            MAX_BYTES, ttl_s, clock.now, getsizeof=lambda entry: len(entry[1])
        )

    def get(self, key: str) -> tuple[str, bytes | None, float]:
        with self._lock:
            set_at, value = self._values.get(key, (0.0, None))
            return str(self._generation), value, clock.now() - set_at

    def set(self, key: str, generation: str, value: bytes) -> None:
        with self._lock:
            if generation == str(self._generation) and len(value) <= MAX_BYTES:
                self._values[key] = (clock.now(), value)

    def invalidate_all(self) -> None:
        with self._lock:
            self._generation += 1
            self._values.clear()


class _Redis:
    """Storage that every worker and host shares.

    After a failure of Redis, reads go to Ecwid until the cooldown is over.
    """

    def __init__(self, redis: RedisConnection, store_digest: str, ttl_s: float) -> None:
        self._redis = redis
        self._store_digest = store_digest
        self._ttl_s = ttl_s
        self._outdated_until = 0.0  # Until then, values in Redis may be older than our last write.

    def get(self, key: str) -> tuple[str, bytes | None, float]:
        if clock.now() < self._outdated_until:
            return "", None, 0
        full_key = f"{self._store_digest}:{key}"

        def read(client: Any) -> tuple[bytes, bytes | None, int]:
            pipeline = client.pipeline(transaction=False)
            pipeline.get(f"{self._store_digest}:generation")
            pipeline.get(full_key)
            pipeline.pttl(full_key)
            generation, entry, left_ms = pipeline.execute()
            return generation or self._first_generation(client), entry, left_ms

        try:
            generation, entry, left_ms = self._redis.run(read)
        except RedisUnavailable:
            return "", None, 0
        entry_generation, _, value = (entry or b" ").partition(b" ")
        if entry_generation != generation:
            return generation.decode(), None, 0
        return generation.decode(), value, max(0.0, self._ttl_s - left_ms / 1000)

    def _first_generation(self, client: Any) -> bytes:
        """Begin a generation if there is none, and return the generation that counts.

        Both commands are one transaction. Without it, Redis could be emptied between the commands.
        """
        # A generation is random, because a number could come again after Redis was emptied.
        pipeline = client.pipeline(transaction=True)
        pipeline.set(f"{self._store_digest}:generation", chance.token_hex(16), nx=True)
        pipeline.get(f"{self._store_digest}:generation")
        generation: bytes = pipeline.execute()[1]
        return generation

    def set(self, key: str, generation: str, value: bytes) -> None:
        if not generation:
            return
        entry = generation.encode() + b" " + value
        full_key, ttl_ms = f"{self._store_digest}:{key}", int(self._ttl_s * 1000)
        with suppress(RedisUnavailable):
            self._redis.run(lambda client: client.set(full_key, entry, px=ttl_ms))

    def invalidate_all(self) -> None:
        name, generation = f"{self._store_digest}:generation", chance.token_hex(16)
        try:
            self._redis.run(lambda client: client.set(name, generation))
        except RedisUnavailable:
            # The values in Redis are older than the write that calls this method, so this process
            # ignores them until they have expired. Other processes may still return them.
            self._outdated_until = clock.now() + max(self._ttl_s, COOLDOWN_S)
