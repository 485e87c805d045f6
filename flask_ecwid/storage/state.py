"""What processes know together: small values by name, each with a time to live.

Two steps are enough for latches, leases and records: read a value, and swap it for another if it
still is what was read. Three places can keep them: Redis for all hosts, a SQLite file for all
processes of one user on this host, and the memory of one process.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .. import clock
from .redis_connection import COOLDOWN_S, RedisConnection, RedisUnavailable

if TYPE_CHECKING:
    import sqlite3

log = logging.getLogger("flask_ecwid")

_BUSY_S = 1.0  # how long to wait for another process that writes
_FORMAT = 1  # of the file; a file of another format is refused, see `_prepare`
_SCHEMA = (
    "CREATE TABLE state"
    " (name TEXT PRIMARY KEY, value BLOB NOT NULL, ends REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX state_ends ON state (ends)",
)
# KEYS: name. ARGV: whether there was a value, it; whether there is one now, it, its milliseconds.
_SWAP = """
local before = redis.call('GET', KEYS[1])
if (ARGV[1] == '0' and before) or (ARGV[1] == '1' and before ~= ARGV[2]) then return 0 end
if ARGV[3] == '0' then redis.call('DEL', KEYS[1])
else redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5]) end
return 1
"""


class StateUnavailable(Exception):
    """The place where values are kept cannot be reached."""


class State(Protocol):
    """Where values are kept."""

    def read(self, name: str) -> bytes | None:
        """The value of this name, if there is one.

        Raises:
            StateUnavailable
        """

    def compare_and_swap(
        self, name: str, before: bytes | None, after: bytes | None, ttl_s: float
    ) -> bool:
        """Put `after` (None: nothing) where `before` is, for `ttl_s`; False if it is not there.

        Raises:
            StateUnavailable
        """


class MemoryState:
    """In the memory of this process."""

    def __init__(self) -> None:
        self._lock = clock.Lock()
        self._values: dict[str, tuple[bytes, float]] = {}

    def read(self, name: str) -> bytes | None:
        value, ends = self._values.get(name, (None, 0.0))
        return value if clock.wall() < ends else None

    def compare_and_swap(
        self, name: str, before: bytes | None, after: bytes | None, ttl_s: float
    ) -> bool:
        with self._lock:
            if self.read(name) != before:
                return False
            self._values.pop(name, None)
            if after is not None:
                self._values[name] = (after, clock.wall() + ttl_s)
            return True


class FileState:
    """A SQLite file, which all processes of this user on this host share.

    Each thread of each process keeps a connection of its own, so no lock is held during I/O. A
    connection holds two descriptors, and a process one more for all connections to the file. A
    worker with 32 threads thus holds at most 65. When a thread ends, SQLite may keep one of its
    two descriptors, and gives that to the next thread.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open nothing yet.

        Args:
            path: The file. Without a path, the first use in each process finds the host's file.
        """
        self._given = path
        self._found: tuple[int, Path] | None = None  # by which process, and where
        self._thread = clock.ThreadLocal()
        self._cooldown = clock.Cooldown(COOLDOWN_S)

    def read(self, name: str) -> bytes | None:
        with self._connection() as db:
            found = db.execute(
                "SELECT value FROM state WHERE name = ? AND ends > ?", [name, clock.wall()]
            ).fetchone()
        return None if found is None else bytes(found[0])

    def compare_and_swap(
        self, name: str, before: bytes | None, after: bytes | None, ttl_s: float
    ) -> bool:
        with self._connection() as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("DELETE FROM state WHERE ends <= ?", [clock.wall()])
            found = db.execute("SELECT value FROM state WHERE name = ?", [name]).fetchone()
            is_there = (None if found is None else bytes(found[0])) == before
            if is_there and after is None:
                db.execute("DELETE FROM state WHERE name = ?", [name])
            elif is_there:
                row = [name, after, clock.wall() + ttl_s]
                db.execute("REPLACE INTO state VALUES (?, ?, ?)", row)
            db.execute("COMMIT")
        return is_there

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection of this thread, and close it if anything fails meanwhile.

        Raises:
            StateUnavailable
        """
        import sqlite3  # here: most processes never come by

        if not self._cooldown.is_over():
            raise StateUnavailable
        try:
            yield self._opened().db
        except (sqlite3.Error, OSError) as exc:
            self._close()
            self._fail(exc)
            raise StateUnavailable from None
        except BaseException:
            # A worker that is told to go raises anywhere. Without a rollback, half a swap would
            # keep the file locked.
            self._close()
            raise

    def _opened(self) -> _Connection:
        connection: _Connection | None = getattr(self._thread, "connection", None)
        if connection is None or not connection.is_open or connection.process != os.getpid():
            connection = self._thread.connection = _open(self._path)
        elif connection.file != _identity(connection.path):
            connection = self._thread.connection = _moved(connection)
        return connection

    @property
    def _path(self) -> Path:
        """The path of the file, which each process finds for itself.

        A worker may run as another user than the process that forked it. Without a look of its own,
        it would use a folder that belongs to that user.
        """
        process = os.getpid()
        if self._found is None or self._found[0] != process:
            self._found = process, self._given or _host_path()
        return self._found[1]

    def _close(self) -> None:
        connection: _Connection | None = getattr(self._thread, "connection", None)
        if connection is not None:
            connection.close()
            del self._thread.connection

    def _fail(self, exc: Exception) -> None:
        """Log the reason once, although many threads may fail together, and begin the rest."""
        if not self._cooldown.is_over():
            return
        self._cooldown.begin()
        if isinstance(exc, _Refused):
            log.warning("The shared state is unavailable, because %s.", exc)
            return
        reason = (isinstance(exc, OSError) and exc.strerror) or exc
        kind = type(exc).__name__
        log.warning("The state file %s is unavailable (%s, %s).", self._path, kind, reason)


class _Connection:
    """A connection to the state file for one thread of one process.

    It closes itself when its thread ends, its state is dropped or its move fails, because nothing
    refers to it then.
    """

    def __init__(self, db: sqlite3.Connection, path: Path, file: tuple[int, int] | None) -> None:
        self.db = db
        self.path = path
        self.file = file
        self.process = os.getpid()  # a child that was forked from it must not use the connection
        self.is_open = True
        # The finalizer alone keeps `db` alive. Otherwise the garbage collector might come to `db`
        # first, and Python 3.13 would warn of an open connection.
        self._finalizer = weakref.finalize(self, _close, db, self.process)

    def close(self) -> None:
        self.is_open = False
        self._finalizer()


def _close(db: sqlite3.Connection, process: int) -> None:
    if process == os.getpid():
        db.close()
    else:
        # SQLite forbids a child to use or close a connection of its parent. To close it could
        # undo what the parent writes at the moment.
        _inherited.append(db)


_inherited: list[sqlite3.Connection] = []
_thread = clock.ThreadLocal()  # `open`: all connections of a thread


def _close_before_fork() -> None:
    """Close the connections of the thread that forks.

    SQLite's memory of its own locks is copied into a child, but the locks are not. Without this,
    parent and child would each believe that they alone use the file, and would lose values.
    """
    for connection in list(getattr(_thread, "open", ())):
        connection.close()


if hasattr(os, "register_at_fork"):  # missing where there is no fork
    os.register_at_fork(before=_close_before_fork)


def _open(path: Path) -> _Connection:
    """Return a new connection of this thread.

    Raises:
        sqlite3.Error, OSError: The file cannot be used. Nothing stays open.
    """
    import sqlite3

    _make_private(path.parent)
    # Another thread may close the connection when it drops the state.
    db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        file = _identity(path)
        _prepare(db, path)
        connection = _Connection(db, path, file)
        if not hasattr(_thread, "open"):
            _thread.open = weakref.WeakSet()
        _thread.open.add(connection)
    except BaseException:
        # Nobody else knows this connection. Left open, each failure would cost a descriptor.
        db.close()
        raise
    return connection


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Give a new file its table, and refuse a file of another format unchanged."""
    if _format(db) == 0:
        db.execute("BEGIN IMMEDIATE")
        [tables] = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            for statement in _SCHEMA:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {_FORMAT}")
        db.execute("COMMIT")
    found = _format(db)
    if found != _FORMAT:
        raise _Refused(
            f"the file {path} has format {found} instead of {_FORMAT}. Stop every process that"
            " uses the file, then remove it"
        )
    _write_ahead(db)
    db.execute("PRAGMA synchronous = NORMAL")


def _format(db: sqlite3.Connection) -> int:
    [found] = db.execute("PRAGMA user_version").fetchone()
    return int(found)


def _write_ahead(db: sqlite3.Connection) -> None:
    """Set the journal mode, which the file keeps.

    SQLite does not wait here when another connection sets the mode of a new file at the same
    moment. Without a repeat, some of the first requests of a new worker would fail.
    """
    import sqlite3

    until = clock.now() + _BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if clock.now() >= until or not clock.sleep(0.01):
                raise


def _moved(removed: _Connection) -> _Connection:
    """Move the values of a removed file into the file that has its path now, or into a new file.

    The values leave the removed file, which other threads and processes may still have open.
    Otherwise they would later bring back a value that has been deleted meanwhile.
    """
    connection = _open(removed.path)
    removed.db.execute("BEGIN IMMEDIATE")
    rows = removed.db.execute("SELECT name, value, ends FROM state").fetchall()
    if rows:
        log.warning("The state file was removed, so its values move to a new file.")
        connection.db.execute("BEGIN IMMEDIATE")
        connection.db.executemany("INSERT OR IGNORE INTO state VALUES (?, ?, ?)", rows)
        connection.db.execute("COMMIT")
        removed.db.execute("DELETE FROM state")
    removed.db.execute("COMMIT")
    removed.close()
    return connection


class RedisState:
    """In Redis, for every worker and host."""

    def __init__(self, link: RedisConnection) -> None:
        self._link = link

    def read(self, name: str) -> bytes | None:
        try:
            with self._link.connection() as redis:
                value = redis.get(name)
        except RedisUnavailable:
            raise StateUnavailable from None
        return None if value is None else bytes(value)  # type: ignore[arg-type]

    def compare_and_swap(
        self, name: str, before: bytes | None, after: bytes | None, ttl_s: float
    ) -> bool:
        arguments: list[bytes | int] = [
            int(before is not None),
            before or b"",
            int(after is not None),
            after or b"",
            max(1, int(ttl_s * 1000)),
        ]
        try:
            with self._link.connection() as redis:
                swapped = redis.register_script(_SWAP)([name], arguments)
        except RedisUnavailable:
            raise StateUnavailable from None
        return bool(swapped)


def host_state() -> FileState:
    """Return the file that all processes of this user on this host share. Open nothing yet."""
    return FileState()


class _Refused(OSError):
    """The folder or the file is not ours to use. The text ends the sentence in the log."""


def _host_path() -> Path:
    try:
        by_systemd = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
        folder = Path(by_systemd or tempfile.gettempdir())
    except FileNotFoundError:
        raise _Refused("no temporary directory can be written to") from None
    return folder / f"flask-ecwid-{os.getuid()}" / "state.sqlite3"


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _make_private(folder: Path) -> None:
    """Make sure that the folder belongs to this user alone, because anybody may create it in /tmp.

    Raises:
        OSError: The folder cannot be made, belongs to another user, or stays open to others.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise _Refused(f"{folder} is not a real directory")
    if found.st_uid != os.getuid():
        raise _Refused(f"the folder {folder} belongs to another user")
    if stat.S_IMODE(found.st_mode) & 0o077:
        _close_to_others(folder)


def _close_to_others(folder: Path) -> None:
    """Take back what others may do with the folder, as after Kubernetes has applied an fsGroup."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        with suppress(OSError):
            os.fchmod(opened, 0o700)
        # Some file systems accept the change and ignore it.
        mode = stat.S_IMODE(os.fstat(opened).st_mode)
    finally:
        os.close(opened)
    if mode & 0o077:
        raise _Refused(f"the folder {folder} has mode {mode:04o} and cannot be set to 0700")
