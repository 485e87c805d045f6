"""The connections of this process to SQLite files, and the care that they need at a fork.

A fork copies SQLite's list of its locks into the child, but not the locks themselves. A child that
then used SQLite would act as the only user of the file, and lose values. So no connection is open
at the moment of a fork, and no thread is inside SQLite. Both processes open new connections.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .. import clock

if TYPE_CHECKING:
    import sqlite3

Identity = tuple[int, int]  # The device and the number of a file.

_WAIT_MOST_S = 2.0  # How long a fork waits for the threads that use a file.
_STEP_S = 0.001

# No lock guards these sets, because `add` and `discard` are atomic.
_open: weakref.WeakSet[Connection] = weakref.WeakSet()
_in_use: set[object] = set()  # A token of each connection, from before its opening until it closed.
_at_work: set[object] = set()  # A token of each block of `at_work`.
_closing: set[object] = set()  # A token of each `close_all` and each fork.
_of_forks: list[object] = []  # The tokens of the forks.
_inherited: list[sqlite3.Connection] = []
_is_cut_off = False  # True in a child that must not use SQLite.


class Connection:
    """A connection to a file for one thread of one process.

    A connection closes when its thread ends, when its state is dropped, when its move to a new file
    fails, and before a fork. The finalizer runs when nothing refers to the connection any more.
    """

    def __init__(
        self, db: sqlite3.Connection, path: Path, files: tuple[Identity | None, ...], token: object
    ) -> None:
        self.db = db
        self.path = path
        self.files = files  # The identities of the file and of its companions.
        self.process = clock.process_id()  # A forked child must not use the connection.
        self.is_open = True
        # When the thread last looked for the files, and when their folder had changed then.
        self.look: tuple[float, int | None] = (0.0, None)
        # The finalizer alone keeps `db` alive. Otherwise the garbage collector might come to `db`
        # first, and Python 3.13 would warn of an open connection.
        self._finalizer = weakref.finalize(self, _close, db, self.process, token)
        _open.add(self)

    def was_looked_at(self, within_s: float) -> bool:
        """Return whether a look within this time has found the files in an unchanged folder."""
        looked_at, changed = self.look
        is_recent = clock.now() < looked_at + within_s
        return is_recent and changed is not None and changed == changed_ns(self.path.parent)

    def close(self) -> None:
        """Close the connection. A second call does nothing."""
        self.is_open = False
        self._finalizer()


def changed_ns(folder: Path) -> int | None:
    """Return when an entry of the folder was last made or removed, or None without a folder."""
    try:
        return os.stat(folder).st_mtime_ns
    except FileNotFoundError:
        return None


def _close(db: sqlite3.Connection, process: int, token: object) -> None:
    if process == clock.process_id():
        db.close()
        _in_use.discard(token)
    else:
        # SQLite forbids a child to use or close a connection of its parent. Closing it could undo
        # a write that the parent has under way. https://www.sqlite.org/howtocorrupt.html
        _inherited.append(db)


def begin_opening() -> object:
    """Return the token of a connection that is about to be opened."""
    token = object()
    _in_use.add(token)
    return token


def end_opening(token: object) -> None:
    """Give back the token of a connection that could not be opened."""
    _in_use.discard(token)


def is_cut_off() -> bool:
    """Return whether this process must not use SQLite, because its parent did during the fork.

    SQLite's copied list names locks that the child does not have. SQLite would take no lock in
    the child, not even for a new connection, and the child's writes would corrupt the file.
    """
    return _is_cut_off


@contextmanager
def at_work() -> Iterator[None]:
    """Use connections in the block, after each fork that has begun and before each that begins."""
    token = object()
    ends_at = clock.now() + _WAIT_MOST_S
    _at_work.add(token)
    try:
        # The token stands in the set before the look at `_closing`. Otherwise a fork that begins
        # between the two would not see this block.
        while _closing and clock.now() < ends_at:
            _at_work.discard(token)
            is_stopping = not clock.sleep(_STEP_S)
            _at_work.add(token)
            if is_stopping:
                break
        yield
    finally:
        _at_work.discard(token)


def close_all() -> None:
    """Close each connection of this process that no thread uses within `_WAIT_MOST_S`."""
    token = object()
    _closing.add(token)
    try:
        _close_each()
    finally:
        _closing.discard(token)


def _close_each() -> None:
    ends_at = clock.now() + _WAIT_MOST_S
    while _at_work and clock.now() < ends_at:
        if not clock.sleep(_STEP_S):
            break
    if not _at_work:
        for connection in list(_open):
            connection.close()
    # Another thread may be closing the connection of a thread that has ended.
    while _in_use and not _at_work and clock.now() < ends_at:
        if not clock.sleep(_STEP_S):
            break


def _before_fork() -> None:
    token = object()
    _closing.add(token)
    _of_forks.append(token)
    _close_each()


def _after_fork_in_parent() -> None:
    # Two threads may fork at the same time. Either token holds the other threads back.
    if _of_forks:
        _closing.discard(_of_forks.pop())


def _after_fork_in_child() -> None:
    global _is_cut_off
    if _in_use:
        _is_cut_off = True
    _at_work.clear()
    _closing.clear()
    _of_forks.clear()


if hasattr(os, "register_at_fork"):  # Windows has no fork.
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
