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
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .. import clock
from .redis_connection import REST_S, RedisGone, RedisLink

if TYPE_CHECKING:
    import sqlite3

log = logging.getLogger("flask_ecwid")

_BUSY_S = 1.0  # how long to wait for another process that writes
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS state"
    " (name TEXT PRIMARY KEY, value BLOB NOT NULL, ends REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS state_ends ON state (ends)",
)
# KEYS: name. ARGV: whether there was a value, it; whether there is one now, it, its milliseconds.
_SWAP = """
local before = redis.call('GET', KEYS[1])
if (ARGV[1] == '0' and before) or (ARGV[1] == '1' and before ~= ARGV[2]) then return 0 end
if ARGV[3] == '0' then redis.call('DEL', KEYS[1])
else redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5]) end
return 1
"""


class StateGone(Exception):
    """The place where values are kept cannot be reached."""


class State(Protocol):
    """Where values are kept."""

    def read(self, name: str) -> bytes | None:
        """The value of this name, if there is one.

        Raises:
            StateGone
        """

    def swap(self, name: str, before: bytes | None, after: bytes | None, ttl_s: float) -> bool:
        """Put `after` (None: nothing) where `before` is, for `ttl_s`; False if it is not there.

        Raises:
            StateGone
        """


class MemoryState:
    """In the memory of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, tuple[bytes, float]] = {}

    def read(self, name: str) -> bytes | None:
        value, ends = self._values.get(name, (None, 0.0))
        return value if clock.wall() < ends else None

    def swap(self, name: str, before: bytes | None, after: bytes | None, ttl_s: float) -> bool:
        with self._lock:
            if self.read(name) != before:
                return False
            self._values.pop(name, None)
            if after is not None:
                self._values[name] = (after, clock.wall() + ttl_s)
            return True


class FileState:
    """In a SQLite file, which all processes of this user on this host share."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._of_parent: sqlite3.Connection | None = None
        self._process = 0
        self._file: tuple[int, int] | None = None  # which one is open: device and inode
        self._rest = clock.Rest(REST_S)

    def read(self, name: str) -> bytes | None:
        with self._opened() as db:
            found = db.execute(
                "SELECT value FROM state WHERE name = ? AND ends > ?", [name, clock.wall()]
            ).fetchone()
        return None if found is None else bytes(found[0])

    def swap(self, name: str, before: bytes | None, after: bytes | None, ttl_s: float) -> bool:
        with self._opened() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                db.execute("DELETE FROM state WHERE ends <= ?", [clock.wall()])
                found = db.execute("SELECT value FROM state WHERE name = ?", [name]).fetchone()
                if (None if found is None else bytes(found[0])) != before:
                    return False
                if after is None:
                    db.execute("DELETE FROM state WHERE name = ?", [name])
                else:
                    row = [name, after, clock.wall() + ttl_s]
                    db.execute("REPLACE INTO state VALUES (?, ?, ?)", row)
                return True
            finally:
                db.execute("COMMIT")

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """This process's connection: none may be carried over a fork."""
        import sqlite3  # here: most processes never come by

        with self._lock:
            failed = not self._rest.is_over()
            if not failed:
                try:
                    if self._db is None or self._process != os.getpid():
                        self._of_parent = self._db  # kept: to close it is the parent's to do
                        self._db, self._process = self._connected(), os.getpid()
                    elif self._file != _identity(self._path):
                        self._db = self._moved(self._db)
                    yield self._db
                except (sqlite3.Error, OSError) as exc:
                    log.warning("shared state fails: %s", type(exc).__name__)
                    if self._db is not None and self._process == os.getpid():
                        self._db.close()
                    self._db = None
                    self._rest.begin()
                    failed = True
        if failed:
            raise StateGone

    def _moved(self, removed: sqlite3.Connection) -> sqlite3.Connection:
        """Somebody has removed the file under us: put what it held into the one of that path now,
        for the processes that begin later.
        """
        log.warning("the file of shared state was removed; it is made anew")
        try:
            rows = removed.execute("SELECT name, value, ends FROM state").fetchall()
        finally:
            removed.close()
        db = self._connected()
        try:
            db.executemany("INSERT OR IGNORE INTO state VALUES (?, ?, ?)", rows)
        except BaseException:
            db.close()
            raise
        return db

    def _connected(self) -> sqlite3.Connection:
        """Return a new connection. A connection that cannot be prepared is closed."""
        import sqlite3

        _make_private(self._path.parent)
        db = sqlite3.connect(
            self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            for statement in _SCHEMA:
                db.execute(statement)
            self._file = _identity(self._path)
        except BaseException:
            # Nobody else knows this connection. Left open, each failure would cost a descriptor.
            db.close()
            raise
        weakref.finalize(self, _close, db, os.getpid())  # with the app, as in a host's tests
        return db


class RedisState:
    """In Redis, for every worker and host."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    def read(self, name: str) -> bytes | None:
        try:
            with self._link.asked() as redis:
                value = redis.get(name)
        except RedisGone:
            raise StateGone from None
        return None if value is None else bytes(value)  # type: ignore[arg-type]

    def swap(self, name: str, before: bytes | None, after: bytes | None, ttl_s: float) -> bool:
        arguments: list[bytes | int] = [
            int(before is not None),
            before or b"",
            int(after is not None),
            after or b"",
            max(1, int(ttl_s * 1000)),
        ]
        try:
            with self._link.asked() as redis:
                swapped = redis.register_script(_SWAP)([name], arguments)
        except RedisGone:
            raise StateGone from None
        return bool(swapped)


def host_state() -> FileState:
    """The file that all processes of this user on this host share. Opens nothing yet."""
    by_systemd = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    folder = Path(by_systemd or tempfile.gettempdir()) / f"flask-ecwid-{os.getuid()}"
    return FileState(folder / "state.sqlite3")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _close(db: sqlite3.Connection, process: int) -> None:
    if os.getpid() == process:
        db.close()


def _make_private(folder: Path) -> None:
    """Anybody can make a folder of this name in /tmp: use it only if it is ours alone.

    Raises:
        OSError: it is somebody else's, or open to others.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not private or stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError("the folder is not this user's alone")
