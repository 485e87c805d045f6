"""The database of the mirror in a world: a SQLite in memory, with a point at each statement.

A transaction of the mirror takes SQLite's lock with its first statement, so no other task goes on
until its end. A fault may kill the process at each statement and at the commit. SQLite then rolls
the transaction back. The connection may also break so late that the transaction is committed.
Before each transaction, other tasks may go on.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime, timezone
from functools import lru_cache
from itertools import count

import orjson
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from .ledger import Copy, Row
from .world import World

_OPENING_S = 0.02  # the most seconds until a connection is open
_numbers = count()


class Database:
    """A database that all processes of a history use. One history is played at a time."""

    _now: Database  # the database of the history that is played

    def __init__(self, world: World) -> None:
        Database._now = self
        self.world = world
        self.loses_commit = False  # The connection of the next commit breaks after the commit.
        self._uri = f"file:mirror{next(_numbers)}?mode=memory&cache=shared"
        self._memory = self.connect()  # SQLite keeps the memory while this connection is open.

    @property
    def engine(self) -> sa.Engine:
        return _engine()

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._uri, uri=True, isolation_level=None)

    def close(self) -> None:
        self._memory.close()

    def has(self, customer_id: int) -> bool:
        """Return whether the mirror has a row of a customer who is not deleted."""
        if not self._memory.execute("SELECT 1 FROM sqlite_master").fetchall():
            return False
        query = "SELECT 1 FROM ecwid_customers WHERE id = ? AND deleted_at IS NULL"
        return self._memory.execute(query, [customer_id]).fetchone() is not None

    def copy(self) -> Copy:
        """Return what the tables hold. The rows are read without SQLAlchemy."""
        read = self._memory.execute
        rows = read("SELECT id, email, updated, document, deleted_at FROM ecwid_customers")
        gaps = read("SELECT id, reason FROM ecwid_sync_gaps")
        return Copy(
            {
                id: Row(email, _second(updated), document and orjson.loads(document), _second(gone))
                for id, email, updated, document, gone in rows
            },
            dict(gaps.fetchall()),
        )


@lru_cache(1)
def _engine() -> sa.Engine:
    """Return the engine of all histories, because SQLAlchemy compiles each statement only once.

    The real `open_engine` would make a file, which would cost more than all the rest.
    """
    engine = sa.create_engine(
        "sqlite://", creator=lambda: Database._now.connect(), poolclass=sa.NullPool
    )
    for name, listener in _LISTENERS.items():
        sa.event.listen(engine, name, listener)
    return engine


def _open(_: sa.Connection) -> None:
    world = Database._now.world
    world.begin_transaction(_OPENING_S * world.random.random())


def _begin(connection: sa.Connection) -> None:
    Database._now.world.me().locks += 1  # No call to Ecwid may be made within a transaction.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _execute(*_: object) -> None:
    Database._now.world.pass_point()


def _commit(connection: sa.Connection) -> None:
    database = Database._now
    database.world.pass_point()
    database.world.me().locks -= 1  # SQLAlchemy tells of no rollback after a failed commit.
    if database.loses_commit:
        database.loses_commit = False
        connection.connection.commit()
        raise OperationalError("COMMIT", {}, ConnectionError())


def _roll_back(_: sa.Connection) -> None:
    if task := Database._now.world.current:
        task.locks -= 1


_LISTENERS = {
    "engine_connect": _open,
    "begin": _begin,
    "before_cursor_execute": _execute,
    "commit": _commit,
    "rollback": _roll_back,
}


def _second(date: str | None) -> float | None:
    """Return a date of SQLite, which keeps no zone, in UNIX seconds."""
    if date is None:
        return None
    return datetime.fromisoformat(date).replace(tzinfo=timezone.utc).timestamp()
