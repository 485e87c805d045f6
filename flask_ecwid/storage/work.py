"""A piece of work, which is a request, or a call of the client outside of a request.

All trips to Redis of a piece of work share one bound of time. Otherwise a slow Redis would delay a
read by each of its trips. Only the waits for Redis count. Otherwise a process with too little CPU
would take Redis for slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

from .. import clock

REDIS_S = 0.3  # for all trips to Redis of a piece of work
OUTCOME_S = 0.1  # of these, kept for the outcome of an idempotency key
TRIP_S = 0.2  # for one trip, with the connection, the handshake and a repetition

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Work:
    """A piece of work under way, of which one thread at a time does a part."""

    def __init__(self) -> None:
        self.begun = clock.Moment.seconds_ago()
        self.stores_outcome = False  # The last trips of the work are under way.
        self.reached_redis = False  # A trip of the work has succeeded.
        self._redis_left_s = REDIS_S
        self._kept_s = 0.0
        self._trip_left_s = 0.0

    def keep_time_for_outcome(self) -> None:
        """Keep a part of the time for `begin_outcome`, because the work has an outcome to store."""
        self._kept_s = OUTCOME_S

    def begin_outcome(self) -> None:
        """Let the trips use the kept part, because they store the outcome of the work."""
        self._kept_s = 0.0
        self.stores_outcome = True

    def begin_trip(self) -> bool:
        """Begin a trip to Redis, or return False if no time is left for it."""
        self._trip_left_s = min(TRIP_S, self._redis_left_s - self._kept_s)
        return self._trip_left_s > 0

    @contextmanager
    def wait(self, most_s: float | None) -> Iterator[float]:
        """Give the seconds that a wait of the trip may take, and count the time of the block.

        Raises:
            TimeoutError: The time of the trip is over.
        """
        if self._trip_left_s <= 0:
            raise TimeoutError("the time of the trip is over")
        started_at = clock.now()
        try:
            yield self._trip_left_s if most_s is None else min(most_s, self._trip_left_s)
        finally:
            waited_s = clock.now() - started_at
            self._trip_left_s -= waited_s
            self._redis_left_s -= waited_s


_work: ContextVar[Work | None] = ContextVar("flask_ecwid_work", default=None)


def current_work() -> Work:
    """Return the piece of work under way, or a new one outside of any."""
    return _work.get() or Work()


@contextmanager
def piece_of_work() -> Iterator[Work]:
    """Make the block a piece of work, or a part of the piece of work around the block."""
    around = _work.get()
    if around is not None:
        yield around
        return
    token = _work.set(Work())
    try:
        yield current_work()
    finally:
        _work.reset(token)


def in_piece_of_work(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Make each call of the function a piece of work, or a part of the piece around the call."""

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        if _work.get() is not None:
            return function(*args, **kwargs)
        with piece_of_work():
            return function(*args, **kwargs)

    return call
