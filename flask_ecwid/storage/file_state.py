"""State in a SQLite file, which all processes of this user on this host share.

The clock of the file is the monotonic clock, which all processes of a host share. Changes of the
wall clock therefore change no time. After a restart of the host, the wall clock tells how old a
value is.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .. import chance, clock, private_files
from .redis_connection import COOLDOWN_S
from .state import StateUnavailable, Stored, Taken
from .window import KEPT_S, Window

if TYPE_CHECKING:
    import sqlite3

log = logging.getLogger("flask_ecwid")


def _boot_id() -> str:
    """Return the id of this start of the host, or an empty text if the host has no such id."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().decode().strip()
    return ""


_BOOT = _boot_id()

_BUSY_S = 1.0  # How long a process waits while another process writes.
_BUSY_STEP_S = 0.005
_FILE = "state.sqlite3"
_TRIAL = "flask-ecwid:trial"
_REMOVALS = 5  # How often a file may be removed during one opening.
_FORMAT = 2  # The format of the file. `_prepare` refuses a file of another format.
# The column `boot` names the start of the host in which the value was written. `ends` is the moment
# of the monotonic clock at which the value expires. `wall_ends` is the same moment in UNIX seconds,
# and counts after the next start of the host.
_SCHEMA = (
    "CREATE TABLE state (name TEXT PRIMARY KEY, value BLOB NOT NULL, boot TEXT NOT NULL,"
    " ends REAL NOT NULL, wall_ends REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX state_ends ON state (boot, ends)",
)
# A value of an earlier start is kept for a day longer, because the wall clock may be wrong.
_EXTRA_S = 24 * 3600.0


class FileState:
    """State in a SQLite file, which all processes of this user on this host share.

    Each thread of each process keeps a connection of its own, so no thread holds a lock during I/O.
    A connection holds two file descriptors, and a process holds one more for all connections to the
    file. Therefore a worker with 32 threads holds at most 65 descriptors. When a thread ends,
    SQLite may keep one of its two descriptors, and then gives that descriptor to the next thread.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open nothing yet.

        Args:
            path: The file. Without a path, the first use in each process finds the host's file.
        """
        self._given = path
        self._found: tuple[int, Path] | None = None  # The path, after the process that found it.
        self._thread = clock.ThreadLocal()
        self._cooldown = clock.Cooldown(COOLDOWN_S)
        self._reason = ""  # why the file failed last

    def try_out(self) -> Path:
        """Write a value into the file, and return the path of the file.

        Raises:
            StateUnavailable: The file cannot be used. The text is the reason.
        """
        found = self.get(_TRIAL)
        self.compare_and_swap(_TRIAL, found and found.value, b"", 1.0)
        return self._path

    def get(self, key: str) -> Stored | None:
        """Return the value, or None."""
        with self._connection() as db:
            return _find(db, key)

    def compare_and_swap(
        self, key: str, before: bytes | None, after: bytes | None, ttl_s: float
    ) -> bool:
        """Replace a value, or return False if it has changed."""
        with self._connection() as db:
            _begin(db)
            db.execute("DELETE FROM state WHERE boot = ? AND ends <= ?", [_BOOT, _now()])
            found = _find(db, key)
            is_there = (found and found.value) == before
            if is_there and after is None:
                db.execute("DELETE FROM state WHERE name = ?", [key])
            elif is_there and after is not None:
                _put(db, key, after, ttl_s)
            db.execute("COMMIT")
        return is_there

    def take(self, key: str, limit: int, *, host: str = "", seen: str = "") -> Taken:
        """Count a call, as `State.take` describes."""
        with self._connection() as db:
            _begin(db)
            second = int(_now())
            found = _find(db, key)
            window = Window.from_json(found.value) if found else None
            if window is None or window.began > second:  # The host has started again.
                window = Window(chance.token_hex(8), second)
            taken = window.take(second, limit, host, seen)
            _put(db, key, window.to_json(), KEPT_S)
            db.execute("COMMIT")
        return taken

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection of this thread, and close the connection after any failure.

        Raises:
            StateUnavailable: The file cannot be used, or failed less than `COOLDOWN_S` ago.
        """
        import sqlite3  # The import stands here, because most processes never use the file.

        if not self._cooldown.is_over():
            raise StateUnavailable(self._reason)
        try:
            yield self._opened().db
        except (sqlite3.Error, OSError) as exc:
            self._close()
            self._fail(exc)
            raise StateUnavailable(self._reason) from None
        except BaseException:
            # A signal that stops the worker raises anywhere. Without the close, an unfinished
            # transaction would keep the file locked.
            self._close()
            raise

    def _opened(self) -> _Connection:
        connection: _Connection | None = getattr(self._thread, "connection", None)
        if connection is None or not connection.is_open or connection.process != clock.process_id():
            connection = self._thread.connection = _open(self._path)
        elif connection.file != _identity(connection.path):
            connection = self._thread.connection = _moved(connection)
        return connection

    @property
    def _path(self) -> Path:
        """The path of the file, which each process finds for itself.

        A worker may run as another user than the process that forked it. Without a search of its
        own, the worker would use a folder that belongs to the other user.
        """
        process = clock.process_id()
        if self._found is None or self._found[0] != process:
            self._found = process, self._given or _host_path()
        return self._found[1]

    def _close(self) -> None:
        connection: _Connection | None = getattr(self._thread, "connection", None)
        if connection is not None:
            connection.close()
            del self._thread.connection

    def _fail(self, exc: Exception) -> None:
        """Log the reason once, although many threads may fail together, and begin the cooldown."""
        if not self._cooldown.is_over():
            return
        self._cooldown.begin()
        if isinstance(exc, _Refused):
            self._reason = str(exc)
            log.warning("The shared state is unavailable, because %s.", exc)
            return
        detail = (isinstance(exc, OSError) and exc.strerror) or exc
        kind = type(exc).__name__
        self._reason = f"the file {self._path} cannot be used ({kind}, {detail})"
        log.warning("The state file %s is unavailable (%s, %s).", self._path, kind, detail)


def _now() -> float:
    """Return the moment on the clock of the file."""
    return clock.now() if _BOOT else clock.wall()


def _find(db: sqlite3.Connection, key: str) -> Stored | None:
    sql = "SELECT value, boot, ends, wall_ends FROM state WHERE name = ?"
    found = _patiently(db, sql, [key]).fetchone()
    if found is None:
        return None
    value, boot, ends, wall_ends = found
    left_s = ends - _now()
    if boot != _BOOT:
        left_s = wall_ends - clock.wall()
        if -_EXTRA_S < left_s < 1.0:
            left_s = 1.0
    return Stored(bytes(value), left_s) if left_s > 0 else None


def _put(db: sqlite3.Connection, key: str, value: bytes, ttl_s: float) -> None:
    row = [key, value, _BOOT, _now() + ttl_s, clock.wall() + ttl_s]
    db.execute("REPLACE INTO state VALUES (?, ?, ?, ?, ?)", row)


def _begin(db: sqlite3.Connection) -> None:
    """Begin a transaction that writes."""
    _patiently(db, "BEGIN IMMEDIATE")


def _patiently(
    db: sqlite3.Connection, sql: str, parameters: Sequence[object] = ()
) -> sqlite3.Cursor:
    """Execute a statement, and wait while another process has locked the file.

    The waits of SQLite itself would hold every greenlet of the process.

    Raises:
        sqlite3.OperationalError: The file stays locked for longer than `_BUSY_S`.
    """
    import sqlite3

    ends_at = clock.now() + _BUSY_S
    while True:
        try:
            return db.execute(sql, parameters)
        except sqlite3.OperationalError as exc:
            is_busy = "locked" in str(exc)
            if not is_busy or clock.now() >= ends_at or not clock.sleep(_BUSY_STEP_S):
                raise


class _Connection:
    """A connection to the state file for one thread of one process.

    A connection closes when its thread ends, when its state is dropped, or when its move to a new
    file fails. Nothing refers to the connection then, so its finalizer runs.
    """

    def __init__(
        self, db: sqlite3.Connection, path: Path, file: tuple[int, int], token: object
    ) -> None:
        self.db = db
        self.path = path
        self.file = file
        self.process = clock.process_id()  # A forked child must not use the connection.
        self.is_open = True
        # The finalizer alone keeps `db` alive. Otherwise the garbage collector might come to `db`
        # first, and Python 3.13 would warn of an open connection.
        self._finalizer = weakref.finalize(self, _close, db, self.process, token)

    def close(self) -> None:
        self.is_open = False
        self._finalizer()


def _close(db: sqlite3.Connection, process: int, token: object) -> None:
    if process == clock.process_id():
        db.close()
        _in_use.discard(token)
    else:
        # SQLite forbids a child to use or close a connection of its parent. Closing it could undo
        # a write that the parent has under way. https://www.sqlite.org/howtocorrupt.html
        _inherited.append(db)


_inherited: list[sqlite3.Connection] = []
_thread = clock.ThreadLocal()  # Its `open` holds all connections of a thread.
# A token for each connection of this process, from before its opening until after its closing. No
# lock guards the set, because `add` and `discard` are atomic.
_in_use: set[object] = set()
_is_cut_off = False  # True in a child that must not use the state file.


def _close_before_fork() -> None:
    """Close the connections of the thread that forks.

    A fork copies SQLite's list of its locks into the child, but not the locks themselves. Without
    the closing, parent and child would each act as the only user of the file, and lose values.
    """
    for connection in list(getattr(_thread, "open", ())):
        connection.close()


def _check_after_fork() -> None:
    """Cut the child off from the state file if another thread had a connection during the fork.

    SQLite's copied list then names locks that the child does not have. SQLite would take no lock in
    the child, not even for a new connection, and the child's writes would corrupt the file.
    """
    global _is_cut_off
    if _in_use:
        _is_cut_off = True


if hasattr(os, "register_at_fork"):  # Windows has no fork.
    os.register_at_fork(before=_close_before_fork, after_in_child=_check_after_fork)


def _open(path: Path) -> _Connection:
    """Return a new connection of this thread.

    Raises:
        sqlite3.Error: The file cannot be used. Nothing stays open.
        OSError: The file or its folder cannot be used. Nothing stays open.
    """
    if _is_cut_off:
        raise _Refused(
            "another thread kept the state file open when this process was forked. Fork the"
            " process before other threads use the store"
        )
    token = object()
    _in_use.add(token)
    try:
        for _ in range(_REMOVALS):
            _make_private(path.parent)
            with suppress(_Removed):
                file = _identity(path)
                return _connect(path, token, file) if file else _create(path, token)
        raise _Refused(f"the file {path} is removed again and again")
    except BaseException:
        _in_use.discard(token)
        raise


def _create(path: Path, token: object) -> _Connection:
    """Create a missing file after the removal of its leftovers, and return a connection.

    Somebody may have removed the main file alone. SQLite would then use the leftover `-shm` file
    for the new file and truncate it. Each process that still maps the `-shm` file would fail, or
    die of SIGBUS. A removal of the leftover files hurts no process that has them open.
    """
    with _creation_lock(path.with_suffix(".lock")):
        if _identity(path):
            raise _Removed  # Another thread or process has created the file meanwhile.
        for leftover in ("-wal", "-shm", ".new"):
            Path(f"{path}{leftover}").unlink(missing_ok=True)
        # The file gets its path after the closing. Otherwise the closing would drop the locks of a
        # thread that uses the file already.
        new = Path(f"{path}.new")
        os.close(private_files.create(new))
        new.rename(path)
        file = _identity(path)
        if file is None:
            raise _Removed
        return _connect(path, token, file)


@contextmanager
def _creation_lock(path: Path) -> Iterator[None]:
    """Let only one thread of all processes go on.

    Raises:
        OSError: The lock cannot be used, or is held for longer than `_BUSY_S`.
    """
    import fcntl  # Windows has no such module, and never comes here.

    deadline = clock.now() + _BUSY_S
    while True:
        lock = private_files.open_or_create(path)
        try:
            is_mine = False
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = os.fstat(lock)
                # Somebody may have removed the folder with the lock, and others use a new lock.
                is_mine = _identity(path) == (held.st_dev, held.st_ino)
            if is_mine:
                yield
                return
        finally:
            # A child that was forked meanwhile has the descriptor too. Without the unlocking, the
            # lock would stay until the child ends.
            fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)
        if clock.now() >= deadline or not clock.sleep(0.01):
            raise _Refused(f"another process has held the lock {path} for too long")


def _connect(path: Path, token: object, file: tuple[int, int]) -> _Connection:
    """Return a connection to this file, which may be empty.

    Raises:
        _Removed: Somebody removed or replaced the file during the opening.
    """
    import sqlite3

    db = None
    try:
        # `check_same_thread` is off, because another thread may drop the state, which closes the
        # connection.
        db = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=0.0,
            isolation_level=None,
            check_same_thread=False,
        )
        _prepare(db, path)
        if _identity(path) != file:
            raise _Removed
        connection = _Connection(db, path, file, token)
        if not hasattr(_thread, "open"):
            _thread.open = weakref.WeakSet()
        _thread.open.add(connection)
    except BaseException as exc:
        # No other code knows this connection. Without the close, each failure would cost a
        # descriptor.
        if db is not None:
            db.close()
        if isinstance(exc, sqlite3.OperationalError) and _identity(path) != file:
            raise _Removed from None
        raise
    return connection


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Give a new file its table, and refuse a file of another format unchanged."""
    if _format(db) == 0:
        _begin(db)
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
    _patiently(db, "PRAGMA journal_mode = WAL")  # The file keeps this mode.
    db.execute("PRAGMA synchronous = NORMAL")
    old = [_BOOT, clock.wall() - _EXTRA_S]
    _patiently(db, "DELETE FROM state WHERE boot <> ? AND wall_ends <= ?", old)


def _format(db: sqlite3.Connection) -> int:
    [found] = _patiently(db, "PRAGMA user_version").fetchone()
    return int(found)


def _moved(removed: _Connection) -> _Connection:
    """Move the values of a removed file into the file that now has the path, or into a new file.

    The values are deleted in the removed file, because other threads and processes may still have
    the removed file open. Otherwise they would later move a value that was deleted meanwhile.
    """
    connection = _open(removed.path)
    _begin(removed.db)
    rows = removed.db.execute("SELECT * FROM state").fetchall()
    if rows:
        log.warning("The state file was removed, so its values move to a new file.")
        _begin(connection.db)
        connection.db.executemany("INSERT OR IGNORE INTO state VALUES (?, ?, ?, ?, ?)", rows)
        connection.db.execute("COMMIT")
        removed.db.execute("DELETE FROM state")
    removed.db.execute("COMMIT")
    removed.close()
    return connection


def host_state() -> FileState:
    """Return the state in the file of this user on this host, without opening the file."""
    return FileState()


class _Removed(Exception):
    """Another thread or process removed, replaced or created the file during an opening."""


class _Refused(OSError):
    """The folder or the file must not be used. The text is the reason in a log line."""


def _host_path() -> Path:
    """Return the path of the file in the folder for state.

    systemd names that folder for a service, and the XDG standard names it for a user.
    https://specifications.freedesktop.org/basedir-spec/latest/
    """
    name = f"flask-ecwid-{os.getuid()}"
    for folder in (
        os.environ.get("STATE_DIRECTORY", "").partition(":")[0],
        os.environ.get("XDG_STATE_HOME", ""),
    ):
        if os.path.isabs(folder):
            return Path(folder) / name / _FILE
    folder = os.path.expanduser("~/.local/state")
    with suppress(OSError):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if os.stat(folder).st_uid == os.getuid() and os.access(folder, os.W_OK):
            return Path(folder) / name / _FILE
    try:
        return Path(tempfile.gettempdir()) / name / _FILE
    except FileNotFoundError:
        raise _Refused("no temporary directory can be written to") from None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _make_private(folder: Path) -> None:
    """Create the folder, and check that it belongs to this user alone.

    Any user may create the folder in /tmp first. Without the check, that user could read the state.

    Raises:
        OSError: The folder cannot be created, belongs to another user, or stays open to others.
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
    """Take away the permissions of other users.

    Kubernetes gives such permissions when it applies an fsGroup to a volume.
    """
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
