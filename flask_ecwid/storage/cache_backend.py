"""Where answers are kept: in the memory of one process, or in Redis for all of them.

Each value is of a generation, and is found only while the store's generation is the same.
"""

from __future__ import annotations

from typing import Any, Protocol

from cachetools import TTLCache

from .. import chance, clock
from .redis_connection import COOLDOWN_S, RedisConnection, RedisUnavailable

MAX_BYTES = 32 * 1024 * 1024  # of one store's answers in memory


class CacheBackend(Protocol):
    """Where answers are kept."""

    def get(self, key: str) -> tuple[str, bytes | None, float]:
        """The store's generation, and what is kept in it under the key, with its age in seconds."""

    def set(self, key: str, generation: str, value: bytes) -> None:
        """Keep a value, if the store's generation is still this one."""

    def invalidate_all(self) -> None:
        """Nothing that was kept so far is found from now on."""


def open_cache_backend(
    ttl_s: float, link: RedisConnection | None, name: str
) -> CacheBackend | None:
    """Return the backend for one store's answers, in Redis if there is a way to it.

    Without a time to live nothing is kept and there is no backend. Opens no connection.
    """
    if not ttl_s:
        return None
    return _Memory(ttl_s) if link is None else _Redis(link, name, ttl_s)


class _Memory:
    """Of this process alone."""

    def __init__(self, ttl_s: float) -> None:
        self._lock = clock.Lock()
        self._generation = 0
        self._values: TTLCache[str, tuple[float, bytes]] = TTLCache(
            MAX_BYTES, ttl_s, clock.now, getsizeof=lambda entry: len(entry[1])
        )

    def get(self, key: str) -> tuple[str, bytes | None, float]:
        with self._lock:
            since, value = self._values.get(key, (0.0, None))
            return str(self._generation), value, clock.now() - since

    def set(self, key: str, generation: str, value: bytes) -> None:
        with self._lock:
            if generation == str(self._generation) and len(value) <= MAX_BYTES:
                self._values[key] = (clock.now(), value)

    def invalidate_all(self) -> None:
        with self._lock:
            self._generation += 1
            self._values.clear()


class _Redis:
    """Shared by every worker and host. Where Redis fails, reads go to Ecwid for a while."""

    def __init__(self, link: RedisConnection, name: str, ttl_s: float) -> None:
        self._link = link
        self._name = name
        self._ttl_s = ttl_s
        self._outdated_until = 0.0  # what is kept there is of before a write of ours

    def get(self, key: str) -> tuple[str, bytes | None, float]:
        if clock.now() < self._outdated_until:
            return "", None, 0
        name = f"{self._name}:{key}"
        try:
            with self._link.connection() as redis:
                pipeline = redis.pipeline(transaction=False)
                pipeline.get(f"{self._name}:generation")
                pipeline.get(name)
                pipeline.pttl(name)
                generation, entry, left_ms = pipeline.execute()
                if not generation:
                    generation = self._first_generation(redis)
        except RedisUnavailable:
            return "", None, 0
        of, _, value = (entry or b" ").partition(b" ")
        if of != generation:
            return generation.decode(), None, 0
        return generation.decode(), value, max(0.0, self._ttl_s - left_ms / 1000)

    def _first_generation(self, redis: Any) -> bytes:
        """Begin a generation unless another process just has, and return the one that counts.

        Both commands are one transaction, because Redis may be emptied between two.
        """
        # At random, not counted, because a number could come again after Redis was emptied.
        pipeline = redis.pipeline(transaction=True)
        pipeline.set(f"{self._name}:generation", chance.token_hex(16), nx=True)
        pipeline.get(f"{self._name}:generation")
        generation: bytes = pipeline.execute()[1]
        return generation

    def set(self, key: str, generation: str, value: bytes) -> None:
        if not generation:
            return
        entry = generation.encode() + b" " + value
        try:
            with self._link.connection() as redis:
                redis.set(f"{self._name}:{key}", entry, px=int(self._ttl_s * 1000))
        except RedisUnavailable:
            pass

    def invalidate_all(self) -> None:
        try:
            with self._link.connection() as redis:
                redis.set(f"{self._name}:generation", chance.token_hex(16))
        except RedisUnavailable:
            # What is kept there is of before this write: outlive it, if only in this process.
            self._outdated_until = clock.now() + max(self._ttl_s, COOLDOWN_S)
