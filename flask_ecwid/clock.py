"""The clock, and everything that a thread can wait for."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoResult
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

Event = threading.Event
ThreadLocal = threading.local
now = time.monotonic  # seconds for deadlines, which never go back and mean nothing elsewhere
wall = time.time  # UNIX seconds, for Ecwid's dates
cpu = time.process_time  # seconds that this process has run
process_id = os.getpid  # A forked process does without what the threads of its parent had begun.

_T = TypeVar("_T")

# This lock guards the set of locks. A fork holds it, so no other thread makes a lock meanwhile. A
# thread may take it twice, because the garbage collector can run any code at any moment.
_forking = threading.RLock()
_locks: weakref.WeakSet[threading.Lock] = weakref.WeakSet()
_taken: list[threading.Lock] = []  # by a fork that is under way
_LOCK_MOST_S = 1.0  # how long a fork waits for a lock

_STEP_S = 0.05  # how long a sleep goes on, at most, after the process has begun to end
# A plain flag, because a signal handler sets the flag. `Event.set` would wait forever for a lock
# that the interrupted thread itself may hold.
_stopping = False
# The results that a thread is working on. The key has the process id, because no thread survives a
# fork. Without the id, a forked process would wait for a thread that it does not have.
_under_way: dict[tuple[int, str], Future[Any]] = {}


def Lock() -> threading.Lock:  # noqa: N802, because the name is that of threading
    """Return a new lock, which is free in a forked child.

    A fork copies a lock as it is, without the thread that holds the lock. Nobody in the child would
    release the lock. Therefore a fork waits until it holds each lock, and both processes release
    them. The values that the locks guard are then consistent as well.

    A lock guards memory alone. No thread holds a lock during I/O, or while it takes another lock.
    """
    with _forking:
        lock = threading.Lock()
        _locks.add(lock)
    return lock


def _before_fork() -> None:
    _forking.acquire()
    ends_at = time.monotonic() + _LOCK_MOST_S
    for lock in list(_locks):
        # The time is limited, because a signal handler may fork while its own thread holds a lock.
        if lock.acquire(timeout=max(0.0, ends_at - time.monotonic())):
            _taken.append(lock)


def _after_fork() -> None:
    # Nothing is taken if the server has forked without the functions of `os.register_at_fork`.
    if _taken:
        for lock in _taken:
            lock.release()
        _taken.clear()
        _forking.release()


if hasattr(os, "register_at_fork"):  # Windows has no fork.
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )


def is_stopping() -> bool:
    """Return True after `interrupt_sleeps`, because the process is about to end."""
    return _stopping


def sleep(seconds: float) -> bool:
    """Wait, and return True. Return False as soon as the process is about to end."""
    ends_at = time.monotonic() + seconds
    while not _stopping:
        left_s = ends_at - time.monotonic()
        if left_s <= 0:
            return True
        time.sleep(min(left_s, _STEP_S))
    return False


def call_within(timeout_s: float, name: str, function: Callable[..., _T], *args: object) -> _T:
    """Return the result of a blocking function that takes no timeout of its own.

    The function runs in a daemon thread. Calls with the same name share a thread and its result
    while the function runs, so a function that hangs costs one thread.

    Args:
        timeout_s: Seconds to wait for the result.
        name: The name of the work.
        function: The function to run.
        args: The arguments of the function.

    Raises:
        TimeoutError: No result came in time, or no thread could be started.
        Exception: The exception that the function raised.
    """
    own: Future[_T] = Future()
    process_and_name = process_id(), name
    shared: Future[_T] = _under_way.setdefault(process_and_name, own)
    if shared is own:

        def run() -> None:
            try:
                result = function(*args)
            except Exception as exc:
                del _under_way[process_and_name]
                own.set_exception(exc)
            else:
                del _under_way[process_and_name]
                own.set_result(result)

        try:
            threading.Thread(target=run, name="call-within", daemon=True).start()
        except RuntimeError:
            del _under_way[process_and_name]
            own.set_exception(TimeoutError("no thread could be started"))
    try:
        return shared.result(timeout_s)
    except NoResult:  # a class of its own before Python 3.11, so the next line raises TimeoutError
        pass
    raise TimeoutError("no result in time")


def call_later(seconds: float, function: Callable[[], None]) -> None:
    """Call a function after so many seconds in a daemon thread, which no end of a process awaits.

    Raises:
        RuntimeError: No thread could be started.
    """
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()


class Moment(NamedTuple):
    """A moment on both clocks.

    The monotonic clock stops while the host is suspended, and the wall clock can be changed.
    """

    monotonic: float  # a value of `now()`
    on_wall: float  # a value of `wall()`

    @classmethod
    def seconds_ago(cls, seconds: float = 0.0) -> Moment:
        """Return the moment that was this many seconds ago."""
        return cls(now() - seconds, wall() - seconds)

    def elapsed_s(self) -> float:
        """Return the seconds since the moment, on the clock that shows more."""
        return max(now() - self.monotonic, wall() - self.on_wall)


class Cooldown:
    """A time after a failure during which callers do without the part that failed.

    Without a cooldown, each request would wait for a part that is still down.
    """

    def __init__(self, seconds: float) -> None:
        """Make a cooldown that is over until `begin` is called."""
        self._seconds = seconds
        self._until = 0.0

    def begin(self) -> None:
        """Begin the cooldown now."""
        self._until = now() + self._seconds

    def is_over(self) -> bool:
        """Return True if the part may be used again."""
        return now() >= self._until


class Slots:
    """Slots for work of which only some threads of a process may do a part at the same time."""

    def __init__(self, count: int) -> None:
        """Make the slots, none of which is taken."""
        self._count = count
        # The key is the process id, because no thread of the parent survives a fork. Without the
        # id, a forked process would wait for slots that no thread gives back.
        self._semaphores: dict[int, threading.Semaphore] = {}

    @contextmanager
    def take(self, timeout_s: float) -> Iterator[None]:
        """Take a slot, and give the slot back at the end of the block.

        Raises:
            TimeoutError: No slot became free in time.
        """
        process = process_id()
        semaphore = self._semaphores.setdefault(process, threading.Semaphore(self._count))
        if not semaphore.acquire(timeout=max(timeout_s, 0.0)):
            raise TimeoutError("no slot became free in time")
        try:
            yield
        finally:
            semaphore.release()


def interrupt_sleeps() -> None:
    """End every sleep of this process, and let no new sleep begin.

    A signal handler may call this function at any moment, because the function waits for nothing.
    The worker of gunicorn calls this function at shutdown, and so does an import that is stopped.
    """
    global _stopping
    _stopping = True
