"""The clock, and everything that a thread can wait for."""

from __future__ import annotations

import threading
import time

Lock = threading.Lock
Event = threading.Event
ThreadLocal = threading.local

_stopping = Event()


def now() -> float:
    """Seconds that only go forward, of this process alone: for deadlines."""
    return time.monotonic()


def wall() -> float:
    """UNIX seconds: for what several processes share, and for Ecwid's dates."""
    return time.time()


def is_stopping() -> bool:
    """Whether the process is about to end: see `stop_waiting`."""
    return _stopping.is_set()


def pause(seconds: float) -> bool:
    """Wait; False, and at once, when the process is about to end."""
    return not _stopping.wait(max(seconds, 0.0))


class Rest:
    """What has failed is left alone for a while: whoever needs it goes on without, at once."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until = 0.0

    def begin(self) -> None:
        self._until = now() + self._seconds

    def is_over(self) -> bool:
        return now() >= self._until


def stop_waiting() -> None:
    """The process is about to end: every wait of this process ends now, and none begins.

    gunicorn.conf.py calls it when a worker is told to go, and an import when it is.
    """
    _stopping.set()
