"""How many calls a minute are left; the only module that knows `limits`, which counts them.

In a moving window, by token: in Redis for all workers and hosts, or by this process's share. The
share is counted in any case, so that a Redis which stops or forgets is never a way to more.
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
BULK_SHARE = 0.5  # of the budget, for reading all customers
_SURE_S = 50  # calls of so short a time are in Redis's window, too, however long an answer takes


class Remaining(NamedTuple):
    """What a caller can know: `remaining` of `limit` calls, more of them in `reset_s`."""

    limit: int
    remaining: int
    reset_s: int


class RateLimit:
    """One token's calls a minute. Safe to share between threads."""

    def __init__(
        self, per_minute: int, processes: int, link: RedisConnection | None, name: str
    ) -> None:
        """`processes` share the budget where there is no Redis; 0: as many as gunicorn says."""
        self._per_minute = per_minute
        self._processes = processes
        self._link = link
        self._name = name
        self._lock = clock.Lock()
        self._counters: _Counters | None = None
        self._process = 0

    def acquire(self) -> None:
        """One call is about to be made.

        Raises:
            BudgetSpent: none is left.
        """
        self._process_counters().acquire()

    def acquire_bulk(self) -> float:
        """One call of a reading of all customers, which gets half of the budget.

        Gives the seconds to wait before it is asked again; 0 if the call may be made.
        """
        return self._process_counters().acquire_bulk()

    def remaining(self) -> Remaining:
        """As of the last call."""
        return self._process_counters().remaining()

    def _process_counters(self) -> _Counters:
        """This process's own: counting in memory starts a thread, which no fork carries over."""
        own = self._process == os.getpid()  # read first, because it is written last
        counters = self._counters
        if counters is None or not own:
            processes = self._processes or _processes_here()
            share = max(1, self._per_minute // processes)
            # Made without the lock, because making them imports `limits` from files.
            made = _Counters(self._per_minute, share, self._link, self._name)
            with self._lock:
                if self._counters is None or self._process != os.getpid():
                    self._counters = made
                    self._process = os.getpid()
                counters = self._counters
        return counters


def _processes_here() -> int:
    """How many workers server.py has counted; or else how many gunicorn is told to start."""
    for name in ("GUNICORN_ECWID_WORKERS", "WEB_CONCURRENCY"):
        if (text := os.environ.get(name, "")).isdecimal() and int(text):
            return int(text)
    return 1


class _Counters:
    """The budget as one process counts it."""

    def __init__(
        self, per_minute: int, share: int, link: RedisConnection | None, name: str
    ) -> None:
        # Here and not above: it takes as long to import as a third of the plugin's start.
        from limits import RateLimitItemPerMinute
        from limits.storage import MemoryStorage, RedisStorage
        from limits.strategies import MovingWindowRateLimiter

        class Memory(MemoryStorage):
            """It starts a thread after each call, to forget what is over: once a second will do."""

            _next = 0.0

            def _MemoryStorage__schedule_expiry(self) -> None:  # noqa: N802
                if clock.now() >= self._next:
                    self._next = clock.now() + 1
                    with suppress(RuntimeError):  # no thread can be had: what is over waits
                        super()._MemoryStorage__schedule_expiry()  # type: ignore[misc]

        self._name = name
        self._all: RateLimitItem = RateLimitItemPerMinute(per_minute, namespace="flask-ecwid")
        self._share = share
        self._bulk, self._bulk_here = (
            RateLimitItemPerMinute(max(1, int(calls * BULK_SHARE)), namespace="flask-ecwid")
            for calls in (per_minute, share)
        )
        self._memory = Memory()
        self._here = MovingWindowRateLimiter(self._memory)
        self._link = link
        self._everywhere: MovingWindowRateLimiter | None = None
        if link is not None:
            storage = RedisStorage("redis://", connection_pool=link.pool)
            self._everywhere = MovingWindowRateLimiter(storage)
        self._doubted_until = 0.0  # Redis does not know of every call until then
        limit = share if link is None else per_minute
        self._seen = (limit, limit, 0.0)  # the limit, the calls that remain, when one is back
        self._lock = clock.Lock()  # over memory alone, never while Redis is asked
        self._reserved = 0  # calls of the share that wait for the word of Redis

    def acquire(self) -> None:
        shared = self._everywhere is not None
        doubted = shared and clock.now() < self._doubted_until
        if shared and not doubted and self._take_everywhere():
            self._here.hit(self._all, self._name)
            return
        with self._lock:
            self._check_share()
            self._reserved += 1  # so that no other thread takes this call while Redis is asked
        granted = False
        try:
            if doubted:  # otherwise Redis was asked just now
                self._take_everywhere()
            granted = True
        finally:
            with self._lock:
                self._reserved -= 1
                if granted:
                    self._here.hit(self._all, self._name)

    def acquire_bulk(self) -> float:
        name = f"{self._name}:bulk"
        try:
            if self._link is None or self._everywhere is None:
                raise RedisUnavailable
            with self._link.connection():
                return _wait(self._everywhere, self._bulk, name)
        except RedisUnavailable:
            return _wait(self._here, self._bulk_here, name)

    def remaining(self) -> Remaining:
        limit, remaining, reset = self._seen
        reset_s = min(max(0, math.ceil(reset - clock.wall())), WINDOW_S)
        return Remaining(limit, max(0, remaining), reset_s)

    def _take_everywhere(self) -> bool:
        """Whether Redis has counted the call, and knows of those that were made here before.

        Raises:
            BudgetSpent: it has no more.
        """
        if self._link is None or self._everywhere is None:
            return False
        key = self._all.key_for(self._name)
        # Looked at before Redis counts: whatever other threads do meanwhile, it knows of these.
        _, known = self._memory.get_moving_window(key, self._all.amount, _SURE_S)
        try:
            with self._link.connection():
                granted = self._everywhere.hit(self._all, self._name)
                reset, remaining = self._everywhere.get_window_stats(self._all, self._name)
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
        """Look whether there is one more call, and tell what is left after it.

        Raises:
            BudgetSpent: this process has made as many calls as it may make by itself.
        """
        reset, remaining = self._here.get_window_stats(self._all, self._name)
        left = self._share - (self._all.amount - remaining) - self._reserved
        self._seen = (self._share, left - 1, reset)
        if left <= 0:
            raise _spent(reset)


def _spent(reset: float) -> BudgetSpent:
    """Until `reset`, in UNIX seconds; never longer than a window, though a clock was set back."""
    return BudgetSpent(min(reset - clock.wall(), WINDOW_S))


def _wait(limiter: MovingWindowRateLimiter, item: RateLimitItem, name: str) -> float:
    if limiter.hit(item, name):
        return 0.0
    reset, _ = limiter.get_window_stats(item, name)
    return min(max(0.05, reset - clock.wall()), WINDOW_S)
