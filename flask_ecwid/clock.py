"""The clock, and everything that a thread can wait for."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoResult
from typing import Any, TypeVar

Lock = threading.Lock
Event = threading.Event
ThreadLocal = threading.local
now = time.monotonic  # seconds that only go forward, of this process alone, for deadlines
wall = time.time  # UNIX seconds, for values that processes share and for Ecwid's dates

_T = TypeVar("_T")

_stopping = Event()
_under_way: dict[tuple[int, str], Future[Any]] = {}  # by process, because no thread survives a fork


def is_stopping() -> bool:
    """Whether the process is about to end: see `interrupt_sleeps`."""
    return _stopping.is_set()


def sleep(seconds: float) -> bool:
    """Wait; False, and at once, when the process is about to end."""
    return not _stopping.wait(max(seconds, 0.0))


def call_within(timeout_s: float, key: str, function: Callable[..., _T], *args: object) -> _T:
    """Return the result of a blocking function that takes no timeout of its own.

    The function runs in a daemon thread. Calls with the same key share a thread and its result
    while the function runs, so a function that hangs costs one thread.

    Raises:
        TimeoutError: there was no result in time, or no thread could be started.
        Exception: the exception that the function raised.
    """
    mine: Future[_T] = Future()
    name = os.getpid(), key
    shared: Future[_T] = _under_way.setdefault(name, mine)
    if shared is mine:

        def run() -> None:
            try:
                result = function(*args)
            except Exception as exc:
                del _under_way[name]
                mine.set_exception(exc)
            else:
                del _under_way[name]
                mine.set_result(result)

        try:
            threading.Thread(target=run, name="call-within", daemon=True).start()
        except RuntimeError:
            del _under_way[name]
            mine.set_exception(TimeoutError("no thread could be started"))
    try:
        return shared.result(timeout_s)
    except NoResult:  # which is not the built-in TimeoutError before Python 3.11
        pass
    raise TimeoutError("no result in time")


class Cooldown:
    """What has failed is left alone for a while: whoever needs it goes on without, at once."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until = 0.0

    def begin(self) -> None:
        self._until = now() + self._seconds

    def is_over(self) -> bool:
        return now() >= self._until


def interrupt_sleeps() -> None:
    """The process is about to end: every wait of this process ends now, and none begins.

    server.py calls it when a worker is told to go, and an import when it is.
    """
    _stopping.set()
