"""The one clock, and the one place where a thread waits of its own accord."""

from __future__ import annotations

import threading
import time

_stopping = threading.Event()


def now() -> float:
    """Seconds that only go forward, of this process alone: for deadlines."""
    return time.monotonic()


def wall() -> float:
    """UNIX seconds: for what several processes share, and for Ecwid's dates."""
    return time.time()


def pause(seconds: float) -> bool:
    """Wait; False, and at once, when the process is about to end."""
    return not _stopping.wait(max(seconds, 0.0))


def stop_waiting() -> None:
    """The process is about to end: every wait of this process ends now, and none begins.

    gunicorn.conf.py calls it when a worker is told to go.
    """
    _stopping.set()
