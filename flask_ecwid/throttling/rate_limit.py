"""The rate limit, which counts the calls per minute of one token in a moving window.

With Redis, all workers and hosts count together. Without Redis, each process has its share of the
calls. Each process also counts its own calls, so losing Redis never raises the limit. No other
module knows `limits`, the library that counts.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from .. import clock
from ..errors import BudgetSpent
from ..storage.redis_connection import RedisConnection, RedisUnavailable

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.strategies import MovingWindowRateLimiter

WINDOW_S = 60
BULK_SHARE = 0.5  # of the limit, for reading all customers
_SURE_S = 50  # Redis has a call of the last 50 s in its window, even if Redis is slow.


class Remaining(NamedTuple):
    """How many calls of the limit remain.

    The oldest call leaves the window in `reset_s` seconds, and allows another call then.
    """

    limit: int
    remaining: int
    reset_s: int


class RateLimit:
    """The calls per minute of one token. Threads share a rate limit."""

    def __init__(
        self, per_minute: int, processes: int, redis: RedisConnection | None, token_digest: str
    ) -> None:
        """Store the limits, without a connection.

        Args:
            per_minute: How many calls a minute all processes may make together.
            processes: How many processes share the calls without Redis. With 0, the number of
                gunicorn's workers counts.
            redis: Where all processes count together, if the settings name a Redis.
            token_digest: Names the token whose calls are counted.
        """
        self._per_minute = per_minute
        self._processes = processes
        self._redis = redis
        self._token_digest = token_digest
        self._lock = clock.Lock()
        self._counters: _Counters | None = None
        self._process = 0

    def acquire(self) -> None:
        """Count a call that is about to be made.

        Raises:
            BudgetSpent: No call remains.
        """
        self._process_counters().acquire()

    def acquire_bulk(self) -> float:
        """Count a call of bulk work, which gets half of the limit.

        Returns:
            0 if the call may be made. Otherwise the seconds to wait before the next try.
        """
        return self._process_counters().acquire_bulk()

    def remaining(self) -> Remaining:
        """Return how many calls remain, as of the last call."""
        return self._process_counters().remaining()

    def _process_counters(self) -> _Counters:
        """Return the counters of this process.

        Counting in memory starts a thread, and no thread survives a fork. A forked process
        therefore makes counters of its own.
        """
        own = self._process == os.getpid()  # read first, because it is written last
        counters = self._counters
        if counters is None or not own:
            processes = self._processes or _worker_count()
            share = max(1, self._per_minute // processes)
            # The counters are made without the lock, because making them imports `limits` from
            # files. With the lock, other threads would wait for the disk.
            made = _Counters(self._per_minute, share, self._redis, self._token_digest)
            with self._lock:
                if self._counters is None or self._process != os.getpid():
                    self._counters = made
                    self._process = os.getpid()
                counters = self._counters
        return counters


def _worker_count() -> int:
    """Return how many workers server.py has counted, or how many gunicorn is to start."""
    for name in ("GUNICORN_ECWID_WORKERS", "WEB_CONCURRENCY"):
        if (text := os.environ.get(name, "")).isdecimal() and int(text):
            return int(text)
    return 1


class _Counters:
    """The calls as one process counts them, in its memory and in Redis."""

    def __init__(
        self, per_minute: int, share: int, redis: RedisConnection | None, token_digest: str
    ) -> None:
        # The import stands here, because it takes a third of the time in which the plugin starts.
        from limits import RateLimitItemPerMinute
        from limits.storage import MemoryStorage, RedisStorage
        from limits.strategies import MovingWindowRateLimiter

        class Memory(MemoryStorage):
            """A storage that starts its thread once a second at most, and not after each call.

            The thread forgets the calls that have left the window.
            """

            _next = 0.0

            def _MemoryStorage__schedule_expiry(self) -> None:  # noqa: N802
                if clock.now() >= self._next:
                    self._next = clock.now() + 1
                    with suppress(RuntimeError):  # No thread can start now. A later call tries.
                        super()._MemoryStorage__schedule_expiry()  # type: ignore[misc]

        self._token_digest = token_digest
        self._all: RateLimitItem = RateLimitItemPerMinute(per_minute, namespace="flask-ecwid")
        self._share = share
        self._bulk, self._own_bulk = (
            RateLimitItemPerMinute(max(1, int(calls * BULK_SHARE)), namespace="flask-ecwid")
            for calls in (per_minute, share)
        )
        self._memory = Memory()
        self._own_limiter = MovingWindowRateLimiter(self._memory)
        self._redis = redis
        self._redis_limiter: MovingWindowRateLimiter | None = None
        if redis is not None:
            storage = RedisStorage("redis://", connection_pool=redis.pool)
            self._redis_limiter = MovingWindowRateLimiter(storage)
        self._doubted_until = 0.0  # Until then, Redis does not know of every call.
        limit = share if redis is None else per_minute
        self._seen = (limit, limit, 0.0)  # The limit, the calls that remain, the reset time.
        self._lock = clock.Lock()  # Guards memory alone. No thread holds it while Redis works.
        self._reserved = 0  # Calls of the share that wait for Redis.

    def acquire(self) -> None:
        """Count a call, in Redis if possible, and always in memory.

        Raises:
            BudgetSpent: No call remains.
        """
        shared = self._redis_limiter is not None
        doubted = shared and clock.now() < self._doubted_until
        if shared and not doubted and self._acquire_in_redis():
            self._own_limiter.hit(self._all, self._token_digest)
            return
        with self._lock:
            self._check_share()
            # The reservation keeps the call while Redis works. Without it, another thread could
            # take the same call of the share.
            self._reserved += 1
        granted = False
        try:
            if doubted:  # Otherwise Redis has just been asked.
                self._acquire_in_redis()
            granted = True
        finally:
            with self._lock:
                self._reserved -= 1
                if granted:
                    self._own_limiter.hit(self._all, self._token_digest)

    def acquire_bulk(self) -> float:
        """Count a call of bulk work, and return the seconds to wait, or 0 if it may be made."""
        key = f"{self._token_digest}:bulk"
        try:
            if self._redis is None or self._redis_limiter is None:
                raise RedisUnavailable
            with self._redis.connection():
                return _wait_s(self._redis_limiter, self._bulk, key)
        except RedisUnavailable:
            return _wait_s(self._own_limiter, self._own_bulk, key)

    def remaining(self) -> Remaining:
        """Return how many calls remain, as of the last call."""
        limit, remaining, reset = self._seen
        reset_s = min(max(0, math.ceil(reset - clock.wall())), WINDOW_S)
        return Remaining(limit, max(0, remaining), reset_s)

    def _acquire_in_redis(self) -> bool:
        """Count a call in Redis. Return whether Redis knows of the earlier calls of this process.

        Raises:
            BudgetSpent: No call remains.
        """
        if self._redis is None or self._redis_limiter is None:
            return False
        key = self._all.key_for(self._token_digest)
        # Read this process's count before Redis counts. A later read could include newer calls of
        # other threads. Without this order, Redis would seem to have lost these calls.
        _, known = self._memory.get_moving_window(key, self._all.amount, _SURE_S)
        try:
            with self._redis.connection():
                granted = self._redis_limiter.hit(self._all, self._token_digest)
                reset, remaining = self._redis_limiter.get_window_stats(
                    self._all, self._token_digest
                )
        except RedisUnavailable:
            self._doubted_until = clock.now() + WINDOW_S
            return False
        self._seen = (self._all.amount, remaining, reset)
        if not granted:
            raise _spent(reset)
        if known >= self._all.amount - remaining:  # Redis was emptied
            self._doubted_until = clock.now() + WINDOW_S
            return False
        return True

    def _check_share(self) -> None:
        """Check that this process has a call left, and note how many remain after that call.

        Raises:
            BudgetSpent: This process has made its share of the calls.
        """
        reset, remaining = self._own_limiter.get_window_stats(self._all, self._token_digest)
        left = self._share - (self._all.amount - remaining) - self._reserved
        self._seen = (self._share, left - 1, reset)
        if left <= 0:
            raise _spent(reset)


def _spent(reset: float) -> BudgetSpent:
    """Return the error of a limit that is spent until `reset`, in UNIX seconds.

    The wait is never longer than a window, even if the wall clock was set back.
    """
    return BudgetSpent(min(reset - clock.wall(), WINDOW_S))


def _wait_s(limiter: MovingWindowRateLimiter, item: RateLimitItem, key: str) -> float:
    """Count a call, and return 0. If none remains, return the seconds until the next try."""
    if limiter.hit(item, key):
        return 0.0
    reset, _ = limiter.get_window_stats(item, key)
    return min(max(0.05, reset - clock.wall()), WINDOW_S)
