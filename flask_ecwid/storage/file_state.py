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
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from .. import clock, private_files
from ..private_files import COMPANIONS
from ..settings import SettingsError
from . import connections, file_window
from .calls_ahead import CallsAhead, Unused
from .connections import Connection, Identity
from .process import boot_id
from .redis_connection import COOLDOWN_S
from .state import StateUnavailable, Stored, Taken

if TYPE_CHECKING:
    import sqlite3

log = logging.getLogger("flask_ecwid")

_BOOT = boot_id()
_BUSY_S = 1.0  # How long a process waits while another process writes.
_BUSY_STEP_S = 0.005
# How long a thread counts calls without a look at each file, while its folder does not change. Each
# look takes four system calls, and each of them hands the interpreter over to another thread.
_LOOK_EVERY_S = 0.1
_CREATION_BUSY = 5  # On a busy host, the creation of the file takes longer than a change.
_CHECKPOINT_S = 0.05  # How long a change waits for other processes that read older values.
_CHECKPOINT_STEP_S = 0.001
_FILE = "state.sqlite3"
_TRIAL = "flask-ecwid:trial"
_REMOVALS = 5  # How often a file may be removed during one opening.
_FORMAT = 3  # The format of the file. `_prepare` refuses a file of another format.
# The column `boot` names the start of the host in which the value was written. `ends` is the moment
# of the monotonic clock at which the value expires. `wall_ends` is the same moment in UNIX seconds,
# and counts after the next start of the host.
_SCHEMA = (
    "CREATE TABLE state (name TEXT PRIMARY KEY, value BLOB NOT NULL, boot TEXT NOT NULL,"
    " ends REAL NOT NULL, wall_ends REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX state_ends ON state (boot, ends)",
    *file_window.SCHEMA,
)
# The condition that a value has not expired. A value of an earlier start of the host is kept for a
# day longer, because the wall clock may be wrong.
_LIVE = "CASE WHEN boot = :boot THEN ends > :now ELSE wall_ends > :early END"
# Each change is one statement, which SQLite executes in one atomic step.
_INSERT = f"""
INSERT INTO state VALUES (:name, :after, :boot, :ends, :wall_ends)
ON CONFLICT (name) DO UPDATE SET value = excluded.value, boot = excluded.boot,
  ends = excluded.ends, wall_ends = excluded.wall_ends
WHERE NOT {_LIVE}
"""
_UPDATE = f"""
UPDATE state SET value = :after, boot = :boot, ends = :ends, wall_ends = :wall_ends
WHERE name = :name AND value = :before AND {_LIVE}
"""
_DELETE = f"DELETE FROM state WHERE name = :name AND value = :before AND {_LIVE}"
_SWEEP_EVERY_S = 10.0
_SWEEP = (
    "DELETE FROM state WHERE boot = :boot AND ends <= :now",
    *file_window.SWEEP,
)
# How the rows of a removed file come into the new file.
_MOVES = {
    "state": "INSERT OR IGNORE INTO state VALUES (?, ?, ?, ?, ?)",
    **file_window.MOVES,
}
_OLD = "FROM state WHERE boot <> ? AND wall_ends <= ?"
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
        self._swept_at = clock.now()
        self._ahead = CallsAhead()
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
        if before is None and after is None:
            return self.get(key) is None
        values = {
            **_moment(),
            "name": key,
            "before": before,
            "after": after,
            "ends": _now() + ttl_s,
            "wall_ends": clock.wall() + ttl_s,
        }
        statement = _INSERT if before is None else _DELETE if after is None else _UPDATE
        with self._connection() as db:
            has_changed = _patiently(db, statement, values).rowcount > 0
            if has_changed:
                _checkpoint(db)
            self._sweep(db)
        return has_changed

    def take(self, key: str, limit: int, *, host: str = "", seen: str = "") -> Taken:
        """Count a call, as `State.take` describes. All callers are on one host."""
        taken = self._ahead.use(key, limit, int(_now()), seen)
        if taken is not None:
            return taken
        with self._connection(look_every_s=_LOOK_EVERY_S) as db:
            count, unused = self._ahead.plan(key, limit, int(_now()))
            if unused:
                self._take_back(db, key, unused)
            # The clock is read again, because the connection may have taken seconds.
            take = file_window.Take(key, limit, int(_now()), seen, count)
            values = take.values()
            granted = _patiently(db, file_window.COUNT, values).rowcount > 0
            found = _patiently(db, file_window.READ, values).fetchone()
            taken = file_window.reply(take, found, granted=granted)
            if taken is None:
                _patiently(db, "BEGIN IMMEDIATE")
                # No other thread has read the clock later and counted before.
                take = take._replace(calls=1, second=int(_now()))
                taken = file_window.take_and_change(db, take)
                db.execute("COMMIT")
            self._sweep(db)
            if taken.granted:
                return self._ahead.add(key, limit, take.second, take.calls, taken)
            return taken

    def _take_back(self, db: sqlite3.Connection, key: str, unused: Unused) -> None:
        _patiently(db, file_window.TAKE_BACK, [unused.calls, key, unused.second])

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with the prefix."""
        with self._connection() as db:
            values = [name for name in _names(db, "state", prefix) if _find(db, name)]
            return [*values, *_names(db, "windows", prefix)]

    @contextmanager
    def _connection(self, *, look_every_s: float = 0.0) -> Iterator[sqlite3.Connection]:
        """Lend the connection of this thread, and close the connection after any failure.

        Args:
            look_every_s: How long the connection may be used without a look at each file.

        Raises:
            StateUnavailable: The file cannot be used, or failed less than `COOLDOWN_S` ago.
        """
        import sqlite3  # The import stands here, because most processes never use the file.

        if not self._cooldown.is_over():
            raise self._unavailable()
        try:
            with connections.at_work():
                connection = self._present()
                if connection and connection.was_looked_at(look_every_s):
                    yield connection.db
                    return
            look = clock.now(), connections.changed_ns(self._path.parent)
            self._leave_removed_companions()
            with connections.at_work():
                connection = self._opened()
                connection.look = look
                yield connection.db
        except (sqlite3.Error, OSError) as exc:
            self._close()
            self._fail(exc)
            raise self._unavailable() from None
        except BaseException:
            # A signal that stops the worker raises anywhere. Without the close, an unfinished
            # transaction would keep the file locked.
            self._close()
            raise

    def _sweep(self, db: sqlite3.Connection) -> None:
        """Delete what is over, now and then."""
        if clock.now() < self._swept_at + _SWEEP_EVERY_S:
            return
        self._swept_at = clock.now()
        values = {**_moment(), **file_window.moment(int(_now()))}
        for key, unused in self._ahead.over(int(_now())):
            self._take_back(db, key, unused)
        for statement in _SWEEP:
            _patiently(db, statement, values)

    def _opened(self) -> Connection:
        connection = self._present()
        if connection is None:
            connection = self._thread.connection = _open(self._path)
        elif connection.files[0] != _identity(connection.path):
            connection = self._thread.connection = _moved(connection)
        return connection

    def _present(self) -> Connection | None:
        """Return the open connection of this thread, or None."""
        found: Connection | None = getattr(self._thread, "connection", None)
        return found if found and found.is_open and found.process == clock.process_id() else None

    def _leave_removed_companions(self) -> None:
        """Close all connections of this process if somebody removed a companion of the file.

        Other processes may open new companions. Without the closing, this process would not see
        their changes, and would write over them.
        """
        with connections.at_work():
            connection = self._present()
            if connection is None or connection.files == _identities(connection.path):
                return
            if connection.files[0] != _identity(connection.path):
                return  # `_moved` takes the values out of a removed file.
            _checkpoint(connection.db)
        connections.close_all()

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
        connection = self._present()
        if connection is not None:
            connection.close()
            del self._thread.connection

    def _unavailable(self) -> StateUnavailable:
        with suppress(OSError):
            return StateUnavailable(self._reason, is_there=self._path.is_file())
        return StateUnavailable(self._reason, is_there=False)

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
    left_s, left_on_wall_s = ends - _now(), wall_ends - clock.wall()
    missed_s = max(0.0, left_s - left_on_wall_s)
    if boot != _BOOT:
        left_s, missed_s = left_on_wall_s, 0.0
        if -_EXTRA_S < left_s < 1.0:
            left_s = 1.0
    return Stored(bytes(value), left_s, missed_s) if left_s > 0 else None


def _names(db: sqlite3.Connection, table: str, prefix: str) -> list[str]:
    rows = _patiently(db, f"SELECT name FROM {table} WHERE name >= ? ORDER BY name", [prefix])
    return list(takewhile(lambda name: name.startswith(prefix), (name for [name] in rows)))


def _moment() -> dict[str, object]:
    """Return the present moment, as `_LIVE` and the sweep compare it."""
    return {"boot": _BOOT, "now": _now(), "early": clock.wall() - _EXTRA_S}


def _checkpoint(db: sqlite3.Connection) -> None:
    """Move all changes into the main file, if no other process reads older values for long.

    A failure raises nothing, because the changes are in the `-wal` file. A later change moves them.
    """
    import sqlite3

    ends_at = clock.now() + _CHECKPOINT_S
    while True:
        with suppress(sqlite3.OperationalError):
            is_busy, written, moved = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if not is_busy and moved >= written:
                return
        if clock.now() >= ends_at or not clock.sleep(_CHECKPOINT_STEP_S):
            return


def _patiently(
    db: sqlite3.Connection, sql: str, parameters: Sequence[object] | dict[str, object] = ()
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
            is_busy = "locked" in str(exc) or "locking protocol" in str(exc)
            if not is_busy or clock.now() >= ends_at:
                raise
            _wait(_BUSY_STEP_S)


def _wait(seconds: float) -> None:
    """Wait a short time, also while the process is about to end.

    The requests under way still need the file. Without this, a reload would refuse a request
    because another worker held the file for a moment.
    """
    if not clock.sleep(seconds):
        clock.Event().wait(seconds)


def _open(path: Path) -> Connection:
    """Return a new connection of this thread.

    Raises:
        sqlite3.Error: The file cannot be used. Nothing stays open.
        OSError: The file or its folder cannot be used. Nothing stays open.
    """
    if connections.is_cut_off():
        raise _Refused(
            "another thread kept the state file open when this process was forked. Fork the"
            " process before other threads use the store"
        )
    token = connections.begin_opening()
    try:
        for _ in range(_REMOVALS):
            _make_private(path.parent)
            with suppress(_Removed):
                file = _identity(path)
                return _connect(path, token, file) if file else _create(path, token)
        raise _Refused(f"the file {path} is removed again and again")
    except BaseException:
        connections.end_opening(token)
        raise


def _create(path: Path, token: object) -> Connection:
    """Create a missing file after the removal of its leftovers, and return a connection.

    Somebody may have removed the main file alone. SQLite would then use the leftover `-shm` file
    for the new file and truncate it. Each process that still maps the `-shm` file would fail, or
    die of SIGBUS. A removal of the leftover files hurts no process that has them open.
    """
    with _creation_lock(path):
        new = f"{path}.new"
        for leftover in (*COMPANIONS, ".new", *(f".new{each}" for each in COMPANIONS)):
            Path(f"{path}{leftover}").unlink(missing_ok=True)
        # The file is complete when it gets its path, so no other thread waits for its table. The
        # file is closed before, because a later closing would drop the locks of other threads.
        os.close(private_files.create(Path(new)))
        with closing(_database(Path(new))) as db:
            _prepare(db, path)
        os.rename(new, path)
        file = _identity(path)
        if file is None:
            raise _Removed
        return _connect(path, token, file)


@contextmanager
def _creation_lock(file: Path) -> Iterator[None]:
    """Let only one thread of all processes create the file.

    Raises:
        _Removed: Another thread or process has created the file meanwhile.
        OSError: The lock cannot be used, or is held for longer than `_CREATION_BUSY` times
            `_BUSY_S`.
    """
    import fcntl  # Windows has no such module, and never comes here.

    path = file.with_suffix(".lock")
    deadline = clock.now() + _CREATION_BUSY * _BUSY_S
    while True:
        lock = private_files.open_or_create(path)
        try:
            is_mine = False
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = os.fstat(lock)
                # Somebody may have removed the folder with the lock, and others use a new lock.
                is_mine = _identity(path) == (held.st_dev, held.st_ino)
            if _identity(file):
                raise _Removed
            if is_mine:
                yield
                return
        finally:
            # A child that was forked meanwhile has the descriptor too. Without the unlocking, the
            # lock would stay until the child ends.
            fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)
        if clock.now() >= deadline:
            raise _Refused(f"another process has held the lock {path} for too long")
        _wait(0.01)


def _connect(path: Path, token: object, file: Identity) -> Connection:
    """Return a connection to this file, which may be empty.

    Raises:
        _Removed: Somebody removed or replaced the file during the opening.
    """
    import sqlite3

    db = None
    try:
        db = _database(path)
        _prepare(db, path)
        if _identity(path) != file:
            raise _Removed
        connection = Connection(db, path, _identities(path), token)
    except BaseException as exc:
        # No other code knows this connection. Without the close, each failure would cost a
        # descriptor.
        if db is not None:
            db.close()
        if isinstance(exc, sqlite3.OperationalError) and _identity(path) != file:
            raise _Removed from None
        raise
    return connection


def _database(path: Path) -> sqlite3.Connection:
    """Open a file that exists.

    SQLite waits for nothing, because its waits would hold every greenlet of the process. The check
    for the same thread is off, because any thread may close the connection.
    """
    import sqlite3

    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=0.0,
        isolation_level=None,
        check_same_thread=False,
    )


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Give a new file its table, and refuse a file of another format unchanged."""
    # A sync for each call to Ecwid would cost more than the rest of the call. Without syncs, all
    # changes outlive the process, and only a loss of power can lose or damage the latest.
    _patiently(db, "PRAGMA synchronous = OFF")
    # Each change moves into the main file at once, because somebody may remove the `-wal` file.
    _patiently(db, "PRAGMA wal_autocheckpoint = 1")
    if _format(db) == 0:
        _patiently(db, "BEGIN IMMEDIATE")
        [tables] = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            for statement in _SCHEMA:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {_FORMAT}")
        _patiently(db, "COMMIT")
    found = _format(db)
    if found != _FORMAT:
        raise _Refused(
            f"the file {path} has format {found} instead of {_FORMAT}. Stop every process that"
            " uses the file, then remove it"
        )
    _patiently(db, "PRAGMA journal_mode = WAL")  # The file keeps this mode.
    old = [_BOOT, clock.wall() - _EXTRA_S]
    [is_any] = _patiently(db, f"SELECT EXISTS (SELECT 1 {_OLD})", old).fetchone()
    if is_any:  # Otherwise each opening would wait for the other processes that write.
        _patiently(db, f"DELETE {_OLD}", old)
        _checkpoint(db)


def _format(db: sqlite3.Connection) -> int:
    [found] = _patiently(db, "PRAGMA user_version").fetchone()
    return int(found)


def _moved(removed: Connection) -> Connection:
    """Move the values of a removed file into the file that now has the path, or into a new file.

    The values are deleted in the removed file, because other threads and processes may still have
    the removed file open. Otherwise they would later move a value that was deleted meanwhile.
    """
    connection = _open(removed.path)
    _patiently(removed.db, "BEGIN IMMEDIATE")
    rows = {table: removed.db.execute(f"SELECT * FROM {table}").fetchall() for table in _MOVES}
    if any(rows.values()):
        log.warning("The state file was removed, so its values move to a new file.")
        _patiently(connection.db, "BEGIN IMMEDIATE")
        for table, statement in _MOVES.items():
            connection.db.executemany(statement, rows[table])
        connection.db.execute("COMMIT")
        _checkpoint(connection.db)
        # Somebody may have replaced the file alone. The new file then has the companions of the
        # removed one, and the deletion would empty the new file.
        if connection.files[1:] != removed.files[1:]:
            for table in _MOVES:
                removed.db.execute(f"DELETE FROM {table}")
    removed.db.execute("COMMIT")
    removed.close()
    return connection


def host_state() -> FileState:
    """Return the state in the file of this user on this host, without opening the file.

    Raises:
        SettingsError: Another user may have made the folder of the file. Every user may make
            folders in the temporary directory.
    """
    fault = ""
    if _own_folder() is None:
        with suppress(_Refused):
            folder = _host_path().parent
            with suppress(FileNotFoundError):
                fault = _fault_of_folder(folder, os.lstat(folder))
    if fault:
        raise SettingsError(
            [f"{fault}. Set STATE_DIRECTORY or XDG_STATE_HOME to the path of a folder of this user"]
        )
    return FileState()


class _Removed(Exception):
    """Another thread or process removed, replaced or created the file during an opening."""


class _Refused(OSError):
    """The folder or the file must not be used. The text is the reason in a log line."""


def _own_folder() -> str | None:
    """Return the folder for state of this service or user, or None if there is no such folder.

    systemd names the folder of a service, and the XDG standard the folder of a user.
    https://specifications.freedesktop.org/basedir-spec/latest/
    """
    service = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    for folder in (service, os.environ.get("XDG_STATE_HOME", "")):
        if os.path.isabs(folder):
            return folder
    folder = os.path.expanduser("~/.local/state")
    with suppress(OSError):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if os.stat(folder).st_uid == os.getuid() and os.access(folder, os.W_OK):
            return folder
    return None


def _host_path() -> Path:
    """Return the path of the host's file.

    Raises:
        _Refused: No folder can be written to.
    """
    try:
        folder = _own_folder() or tempfile.gettempdir()
    except FileNotFoundError:
        raise _Refused("no temporary directory can be written to") from None
    with suppress(OSError):  # The XDG standard asks for the creation of a missing folder.
        os.makedirs(folder, mode=0o700, exist_ok=True)
    return Path(folder) / f"flask-ecwid-{os.getuid()}" / _FILE


def _identity(path: str | Path) -> Identity | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _identities(path: Path) -> tuple[Identity | None, ...]:
    """Return the identities of the file and of its companions."""
    return tuple(_identity(f"{path}{ending}") for ending in ("", "-wal", "-shm"))


def _make_private(folder: Path) -> None:
    """Create the folder, and check that it belongs to this user alone.

    Any user may create the folder in /tmp first. Without the check, that user could read the state.

    Raises:
        OSError: The folder cannot be created, belongs to another user, or stays open to others.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if fault := _fault_of_folder(folder, found):
        raise _Refused(fault)
    if stat.S_IMODE(found.st_mode) & 0o077:
        _close_to_others(folder)


def _fault_of_folder(folder: Path, found: os.stat_result) -> str:
    """Return why the folder must not be used, or an empty text."""
    if not stat.S_ISDIR(found.st_mode):
        return f"{folder} is not a real directory"
    if found.st_uid != os.getuid():
        return f"the folder {folder} belongs to another user"
    return ""


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
