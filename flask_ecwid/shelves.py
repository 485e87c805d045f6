"""Where answers are kept: in the memory of one process, or in Redis for all of them.

Each value is of a generation, and is found only while the store's generation is the same.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
import uuid
import weakref
from typing import Protocol

from cachetools import TTLCache

from .settings import SANDBOX_ON, Settings, SettingsError

log = logging.getLogger("flask_ecwid")

MAX_BYTES = 32 * 1024 * 1024  # of one store's answers in memory
_REDIS_TIMEOUT_S = 0.5  # for each answer of Redis; a broken connection is tried once more
_REDIS_REST_S = 5.0  # how long to go on without it when it fails


class Shelf(Protocol):
    """Where answers are kept."""

    def find(self, key: str) -> tuple[str, bytes | None, float]:
        """The store's generation, and what is kept in it under the key, with its age in seconds."""

    def keep(self, key: str, generation: str, value: bytes) -> None:
        """Keep a value, if the store's generation is still this one."""

    def begin_generation(self) -> None:
        """Nothing that was kept so far is found from now on."""


def open_shelf(settings: Settings) -> Shelf:
    """The shelf for one store's answers. Opens no connection.

    Raises:
        SettingsError: it is to be in Redis, and redis-py is not installed or refuses the URL.
    """
    if not settings.redis_url:
        return _Memory(settings.cache_ttl_s)
    try:
        return _Redis(settings.redis_url, _name(settings), settings.cache_ttl_s)
    except ImportError:
        fault = "needs redis-py: flask-ecwid[redis]"
    except ValueError:  # an option in it; the error would repeat the URL
        fault = "holds an option that redis-py does not take"
    raise SettingsError([f"ECWID_REDIS_URL {fault}"])


def _name(settings: Settings) -> str:
    """The same for every process that serves the same store."""
    private = uuid.uuid4().hex if settings.sandbox == SANDBOX_ON else settings.sandbox
    where = f"{settings.api_url}/{settings.store_id} {private}"
    return f"flask-ecwid:{hashlib.blake2b(where.encode(), digest_size=16).hexdigest()}"


class _Memory:
    """Of this process alone."""

    def __init__(self, ttl_s: float) -> None:
        self._lock = threading.Lock()
        self._generation = 0
        self._values: TTLCache[str, tuple[float, bytes]] = TTLCache(
            MAX_BYTES, ttl_s, time.monotonic, getsizeof=lambda entry: len(entry[1])
        )

    def find(self, key: str) -> tuple[str, bytes | None, float]:
        with self._lock:
            since, value = self._values.get(key, (0.0, None))
            return str(self._generation), value, time.monotonic() - since

    def keep(self, key: str, generation: str, value: bytes) -> None:
        with self._lock:
            if generation == str(self._generation) and len(value) <= MAX_BYTES:
                self._values[key] = (time.monotonic(), value)

    def begin_generation(self) -> None:
        with self._lock:
            self._generation += 1
            self._values.clear()


class _Redis:
    """Shared by every worker and host. Where Redis fails, reads go to Ecwid for a while."""

    def __init__(self, url: str, name: str, ttl_s: float) -> None:
        import redis  # here: it is an extra, for those who have a Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._failures = (redis.RedisError, OSError)
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=_REDIS_TIMEOUT_S,
            socket_connect_timeout=_REDIS_TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),
        )
        weakref.finalize(self, self._redis.close)  # with the app, as in a host's tests
        self._name = name
        self._ttl_s = ttl_s
        self._rests_until = 0.0

    def find(self, key: str) -> tuple[str, bytes | None, float]:
        if time.monotonic() < self._rests_until:
            return "", None, 0
        name = f"{self._name}:{key}"
        try:
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.get(f"{self._name}:generation")
            pipeline.get(name)
            pipeline.pttl(name)
            generation, entry, left_ms = pipeline.execute()
            generation = generation or self._first_generation()
        except self._failures:
            self._rest(_REDIS_REST_S)
            return "", None, 0
        of, _, value = (entry or b" ").partition(b" ")
        if of != generation:
            return generation.decode(), None, 0
        return generation.decode(), value, max(0.0, self._ttl_s - left_ms / 1000)

    def keep(self, key: str, generation: str, value: bytes) -> None:
        if not generation:
            return
        try:
            entry = generation.encode() + b" " + value
            self._redis.set(f"{self._name}:{key}", entry, px=int(self._ttl_s * 1000))
        except self._failures:
            self._rest(_REDIS_REST_S)

    def begin_generation(self) -> None:
        try:
            self._redis.set(f"{self._name}:generation", uuid.uuid4().hex)
        except self._failures:
            # What is kept there is of before this write: outlive it, if only in this process.
            self._rest(max(self._ttl_s, _REDIS_REST_S))

    def _first_generation(self) -> bytes:
        # At random, not counted: a number could come again after Redis was emptied.
        self._redis.set(f"{self._name}:generation", uuid.uuid4().hex, nx=True)
        return bytes(self._redis.get(f"{self._name}:generation") or b"")  # type: ignore[arg-type]

    def _rest(self, seconds: float) -> None:
        if time.monotonic() >= self._rests_until:
            log.warning("cache: Redis fails; reads go to Ecwid for %.0f s", seconds)
        self._rests_until = max(self._rests_until, time.monotonic() + seconds)
