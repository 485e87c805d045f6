"""A copy of the customers in a database, and the only module that imports SQLAlchemy.

The rows and the cursor of the change feed are written in the same transaction. So a process may end
at any moment, and the next process continues where the rows end. No transaction is open while Ecwid
is called.

    ecwid_customers    the customers. A deleted customer keeps only the id and the date
    ecwid_sync         the cursor of each store
    ecwid_sync_gaps    the customers whose row may be wrong

A gap is `unreadable` if the customer's data violates the contract. The row then shows an earlier
version. A gap is `unseen` while all customers are read again and the customer has not come yet.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from .. import chance, clock, private_files
from ..client import (
    Change,
    ChangeIterator,
    CursorExpired,
    CustomerDeleted,
    CustomerUpdated,
    EcwidClient,
    dates,
)
from ..errors import EcwidError, Violation

BATCH = 100  # The changes of a transaction.
_NO_ID = 0  # Stands for a customer whose id Ecwid does not show.
_MOST_ID = 2**63 - 1
_MOST_EMAIL = 320  # PostgreSQL refuses to index a long text, and no e-mail is longer.
_WAIT_S = 30  # How long a transaction waits for the lock of another program.
_STATEMENT_S = 120  # How long a server of PostgreSQL works on a statement, or waits for the next.
_LOCK_KEY = 0xEC_01D  # PostgreSQL's advisory lock while the tables are created.
_MAGIC = b"SQLite format 3\0"
_PSYCOPG = "postgresql+psycopg"
_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    **dict.fromkeys(["postgres", "postgresql", _PSYCOPG, "postgresql+psycopg2"], _PSYCOPG),
}
# The parameters of libpq that end the wait for a server that is gone, unless the URL has others.
_PATIENCE = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
# The first statement of each transaction. In SQLite, the transaction takes the lock for writing at
# once. Without that, a transaction that reads before it writes could fail although it waits. A
# server of PostgreSQL gives up as the command does, and would otherwise hold the lock of a command
# that is gone.
_BEGIN = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": (
        f"SELECT set_config('lock_timeout', '{_WAIT_S}s', true),"
        f" set_config('statement_timeout', '{_STATEMENT_S}s', true),"
        f" set_config('idle_in_transaction_session_timeout', '{_STATEMENT_S}s', true)"
    ),
}
_DAMAGED = (
    "the copy belongs to another store with the same number, or its cursor is damaged. Delete the"
    " row of the store in ecwid_sync to read all customers again"
)
# The messages of SQLite that hold no name and no value.
_SQLITE_REASONS = {
    "attempt to write a readonly database",
    "database disk image is malformed",
    "database is locked",
    "database or disk is full",
    "disk I/O error",
    "file is not a database",
    "unable to open database file",
}

_tables = sa.MetaData()
_json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_customers = sa.Table(
    "ecwid_customers",
    _tables,
    sa.Column("store_id", sa.Text, primary_key=True),
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("email", sa.Text),
    sa.Column("updated", sa.DateTime(timezone=True)),
    sa.Column("document", _json),
    sa.Column("deleted_at", sa.DateTime(timezone=True)),
    sa.Index("ecwid_customers_email", "store_id", "email"),
    sa.Index("ecwid_customers_updated", "store_id", "updated"),
)
_sync = sa.Table(
    "ecwid_sync",
    _tables,
    sa.Column("store_id", sa.Text, primary_key=True),
    sa.Column("cursor", sa.Text),  # None before the first changes.
    sa.Column("revision", sa.Text, nullable=False),  # Each transaction writes another one.
    sa.Column("synced_at", sa.DateTime(timezone=True)),  # None until all customers have come.
)
_gaps = sa.Table(
    "ecwid_sync_gaps",
    _tables,
    sa.Column("store_id", sa.Text, primary_key=True),
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("places", sa.Text),  # Where the data violates the contract.
)

P = ParamSpec("P")
T = TypeVar("T")


class WrongDatabase(Exception):
    """The database cannot hold the copy. The text says why, without a part of the URL."""


class DatabaseFailed(Exception):
    """The database cannot be used now. The text says why, without any value."""


class AnotherSync(Exception):
    """Another command has continued the copy of the store meanwhile."""

    def __init__(self) -> None:
        super().__init__("another command updates the copy of the same store")


class Gap(NamedTuple):
    """A customer who is unreadable, with the places that violate the contract.

    The id is None if Ecwid does not show the id.
    """

    customer_id: int | None
    places: str


def _without_values(method: Callable[P, T]) -> Callable[P, T]:
    """Let a method raise DatabaseFailed in place of an error that may hold values.

    The new error has no context, because the messages of a driver quote rows and the user.
    """

    @functools.wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except SQLAlchemyError as exc:
            reason = _reason(exc)
        except OSError as exc:
            reason = exc.strerror or "the file cannot be used"
        raise DatabaseFailed(f"the database failed ({reason})")

    return wrapper


def _reason(error: SQLAlchemyError) -> str:
    cause = getattr(error, "orig", None)
    if str(cause) in _SQLITE_REASONS:
        return str(cause)
    sqlstate = getattr(cause, "sqlstate", None)
    is_lost = isinstance(error, DBAPIError) and error.connection_invalidated
    if sqlstate and not is_lost:
        return f"{type(cause).__name__}, SQLSTATE {sqlstate}"
    if isinstance(error, OperationalError) and hasattr(cause, "sqlstate"):
        return (
            "no connection, because the server cannot be reached, does not reply, or refuses the"
            " user or the database"
        )
    return type(cause or error).__name__


def open_engine(url: str) -> sa.Engine:
    """Return an engine for the URL, without a connection. A new SQLite file is private.

    Each transaction has a connection of its own, so a server that restarts does no harm.

    Args:
        url: The URL of the database, as SQLAlchemy writes it. `postgres://` and `postgresql://`
            mean psycopg.

    Raises:
        WrongDatabase: The URL cannot be used. The text has no part of the URL but the path of a
            SQLite file.
    """
    parsed = _parse(url)
    if parsed.drivername == _PSYCOPG:
        missing = {name: each for name, each in _PATIENCE.items() if name not in parsed.query}
        parsed = parsed.update_query_dict(missing)
        # Documents are sent in UTF-8. PGCLIENTENCODING or the URL may name another encoding.
        # A pool between here and the server may give each transaction another session.
        options: dict[str, Any] = {"prepare_threshold": None, "client_encoding": "utf8"}
    else:
        _claim_file(parsed)
        options = {"timeout": _WAIT_S, "isolation_level": None}
    fault = "DATABASE_URL has a parameter that cannot be used"
    engine = None
    try:
        engine = sa.create_engine(
            parsed,
            connect_args=options,
            poolclass=NullPool,
            hide_parameters=True,
            json_serializer=lambda document: orjson.dumps(document).decode(),
        )
    except ImportError:
        fault = "psycopg is missing, so install flask-ecwid[sync]"
    except (ArgumentError, TypeError, ValueError):
        pass
    if engine is None:
        raise WrongDatabase(fault)
    if engine.dialect.name == "sqlite":
        path = Path(parsed.database or "")
        # Somebody may remove the file meanwhile, and SQLite would create one that all can read.
        sa.event.listen(engine, "do_connect", lambda *_: private_files.claim_database(path))
    else:
        from . import bounded_postgres  # psycopg is there

        named = parsed.translate_connect_args(username="user", database="dbname")
        if not bounded_postgres.are_usable({**named, **parsed.query}):
            raise WrongDatabase(fault)
        sa.event.listen(engine, "do_connect", bounded_postgres.connect)
    begin = _BEGIN[engine.dialect.name]
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _parse(url: str) -> sa.URL:
    """Return the URL with the driver that is used.

    Raises:
        WrongDatabase: The text is no URL of a database that is supported.
    """
    parsed = None
    with suppress(ArgumentError, ValueError):  # The error would be a context with the password.
        parsed = sa.make_url(url)
    if parsed is None:
        raise WrongDatabase(
            "DATABASE_URL is no URL such as sqlite:///customers.sqlite or"
            " postgresql://user@host/database"
        )
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise WrongDatabase("DATABASE_URL names neither SQLite nor PostgreSQL")
    if driver == "sqlite":
        path = parsed.database
        is_file = path and path != ":memory:" and not path.startswith("file:")
        if not is_file or parsed.host or parsed.query:
            raise WrongDatabase(
                "DATABASE_URL names no file, so write sqlite:///NAME or sqlite:////PATH"
            )
    return parsed.set(drivername=driver)


def _claim_file(url: sa.URL) -> None:
    """Create the file of a SQLite database, or check that only this user can have made it.

    Raises:
        WrongDatabase: The file must not be used, cannot be created, or is no database.
    """
    path = Path(url.database or "")
    fault = ""
    try:
        begin = private_files.peek(path, len(_MAGIC))
        if begin and begin != _MAGIC:
            fault = f"{path}: the file is no SQLite database"
        else:
            private_files.claim_database(path)
    except private_files.UnsafeFile as exc:
        fault = str(exc)
    except OSError as exc:
        fault = f"{path}: {exc.strerror}"
    if fault:
        raise WrongDatabase(fault)


class Mirror:
    """The copy of one store. Only one command at a time can continue the copy."""

    def __init__(self, engine: sa.Engine, store_id: str) -> None:
        """Make the object, without a connection.

        Args:
            engine: The engine of `open_engine`.
            store_id: The number of the store.
        """
        self._engine = engine
        self._store_id = store_id
        self._revision = ""
        # The end of the last reading that was complete, or None if customers have still to come.
        self.synced_at: datetime | None = None
        self.is_complete = False  # True if the last reading has reached the latest change.

    @_without_values
    def create_tables(self) -> None:
        """Create the tables that are missing. All customers have to come if one was missing.

        Raises:
            WrongDatabase: The database has a table of the same name with another purpose.
            DatabaseFailed: The database cannot be used.
        """
        with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                # Two commands would otherwise fail when both create the same table.
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_KEY)))
                _check_encoding(connection)
            inspector = sa.inspect(connection)
            found = [each for each in _tables.sorted_tables if inspector.has_table(each.name)]
            for table in found:
                _check_table(inspector, table)
            _tables.create_all(connection)
            if len(found) < len(_tables.sorted_tables):
                # Somebody may have dropped a table, and the cursors count on its rows.
                connection.execute(sa.delete(_sync))

    @_without_values
    def start(self) -> str | None:
        """Return the cursor of the copy, or None if all customers have to come.

        If the database has rows of the store but no cursor, the rows count as unseen.

        Raises:
            WrongDatabase: The row of the store is damaged.
            DatabaseFailed: The database cannot be used.
        """
        self.is_complete = False
        new = _new_revision()
        with self._engine.begin() as connection:
            insert = _insert(connection)(_sync).values(store_id=self._store_id, revision=new)
            connection.execute(insert.on_conflict_do_nothing())
            query = sa.select(_sync).where(_sync.c.store_id == self._store_id)
            row = None
            with suppress(TypeError, ValueError):  # SQLite keeps any value as a date.
                row = connection.execute(query).one()
            if row is None:
                raise WrongDatabase(_DAMAGED)
            # psycopg's rowcount of an INSERT is -1 here, whether there was a row before or not.
            if row.revision == new:
                self._expect_all(connection)
        self._revision = row.revision
        self.synced_at = row.synced_at and _in_utc(row.synced_at)
        return str(row.cursor) if row.cursor is not None else None

    @_without_values
    def store(self, changes: Sequence[Change], cursor: str) -> None:
        """Write the changes, and the cursor behind them, in one transaction.

        Args:
            changes: The changes in their order.
            cursor: The cursor behind the last change.

        Raises:
            AnotherSync: Another command has continued the copy. Nothing is written.
            DatabaseFailed: The database cannot be used. Nothing is written, unless the connection
                broke at the very end. `start` says which cursor the copy has.
        """
        written = _fold(self._store_id, changes)
        with self._engine.begin() as connection:
            revision = self._claim(connection, cursor=cursor)
            if written.rows:
                _upsert(connection, written.rows)
            self._close_gaps(connection, written.ids)
            if written.gaps:
                connection.execute(sa.insert(_gaps), written.gaps)
        self._revision = revision

    @_without_values
    def begin_again(self) -> None:
        """Forget the cursor, so that all customers come. Each row counts as unseen until then.

        Raises:
            AnotherSync: Another command has continued the copy. Nothing is written.
            DatabaseFailed: The database cannot be used.
        """
        with self._engine.begin() as connection:
            revision = self._claim(connection, cursor=None, synced_at=None)
            self._expect_all(connection)
        self._revision = revision
        self.synced_at = None

    @_without_values
    def finish(self) -> None:
        """Note that the copy is complete. Rows that are still unseen count as deleted.

        Raises:
            AnotherSync: Another command has continued the copy. Nothing is written.
            DatabaseFailed: The database cannot be used.
        """
        now = datetime.fromtimestamp(clock.wall(), timezone.utc)
        other = _gaps.alias()
        # A customer whose id Ecwid does not show may be any of the rows.
        nameless = sa.exists().where(other.c.store_id == self._store_id, other.c.id == _NO_ID)
        unseen = sa.and_(_gaps.c.store_id == self._store_id, _gaps.c.reason == "unseen", ~nameless)
        with self._engine.begin() as connection:
            revision = self._claim(connection, synced_at=now)
            connection.execute(
                sa.update(_customers)
                .where(
                    _customers.c.store_id == self._store_id,
                    _customers.c.id.in_(sa.select(_gaps.c.id).where(unseen)),
                )
                .values(email=None, updated=None, document=None, deleted_at=now)
            )
            connection.execute(sa.delete(_gaps).where(unseen))
        self._revision = revision
        self.synced_at = now
        self.is_complete = True

    @_without_values
    def gaps(self) -> list[Gap]:
        """Return the customers that are unreadable, in the order of their ids.

        Raises:
            DatabaseFailed: The database cannot be used.
        """
        query = (
            sa.select(_gaps.c.id, _gaps.c.places)
            .where(_gaps.c.store_id == self._store_id, _gaps.c.reason == "unreadable")
            .order_by(_gaps.c.id)
        )
        with self._engine.begin() as connection:
            rows = connection.execute(query).all()
        return [Gap(row.id or None, row.places or "") for row in rows]

    @_without_values
    def count(self) -> int:
        """Return how many customers the copy has, without the deleted and the unseen ones.

        Raises:
            DatabaseFailed: The database cannot be used.
        """
        unseen = sa.select(_gaps.c.id).where(
            _gaps.c.store_id == self._store_id, _gaps.c.reason == "unseen"
        )
        query = sa.select(sa.func.count()).where(
            _customers.c.store_id == self._store_id,
            _customers.c.deleted_at.is_(None),
            _customers.c.id.not_in(unseen),
        )
        with self._engine.begin() as connection:
            return int(connection.execute(query).scalar_one())

    def _claim(self, connection: sa.Connection, **values: Any) -> str:
        """Change the row of the store as the first step, and return the new revision.

        The row stays locked until the end of the transaction.

        Raises:
            AnotherSync: The row has another revision than this command has seen.
        """
        revision = _new_revision()
        changed = connection.execute(
            sa.update(_sync)
            .where(_sync.c.store_id == self._store_id, _sync.c.revision == self._revision)
            .values(revision=revision, **values)
        )
        if not changed.rowcount:
            raise AnotherSync
        return revision

    def _expect_all(self, connection: sa.Connection) -> None:
        """Let each row that is not deleted count as unseen, and drop all other gaps.

        A customer who is unreadable comes again, and gets a gap again.
        """
        connection.execute(sa.delete(_gaps).where(_gaps.c.store_id == self._store_id))
        rows = sa.select(_customers.c.store_id, _customers.c.id, sa.literal("unseen")).where(
            _customers.c.store_id == self._store_id, _customers.c.deleted_at.is_(None)
        )
        connection.execute(sa.insert(_gaps).from_select(["store_id", "id", "reason"], rows))

    def _close_gaps(self, connection: sa.Connection, ids: Sequence[int]) -> None:
        connection.execute(
            sa.delete(_gaps).where(_gaps.c.store_id == self._store_id, _gaps.c.id.in_(ids))
        )


def update(client: EcwidClient, mirror: Mirror) -> Iterator[int]:
    """Update the copy, and yield the number of changes after each transaction.

    At the end, `mirror.is_complete` is False if the changes of a burst are left. A later update
    brings them.

    Args:
        client: The client of the store.
        mirror: The copy of the same store, whose tables exist.

    Raises:
        EcwidError: Ecwid's changes cannot be read. The changes before are stored.
        WrongDatabase: The cursor of the copy is damaged, or belongs to another store.
        AnotherSync: Another command has continued the copy.
        DatabaseFailed: The database cannot be used.
    """
    changes = _open(client, mirror)
    is_over = False
    while not is_over:
        batch, failure = _take(changes)
        mirror.store(batch, changes.cursor)
        yield len(batch)
        if failure is not None:
            raise failure
        is_over = len(batch) < BATCH
    if not changes.ended_early:
        mirror.finish()


def _open(client: EcwidClient, mirror: Mirror) -> ChangeIterator:
    cursor = mirror.start()
    try:
        return client.iter_changes(cursor)
    except CursorExpired:
        is_expired = True
    except ValueError:
        is_expired = False
    if not is_expired:
        raise WrongDatabase(_DAMAGED)
    mirror.begin_again()
    return client.iter_changes()


def _take(changes: ChangeIterator) -> tuple[list[Change], EcwidError | None]:
    """Return the next changes, and the error that came after them."""
    batch: list[Change] = []
    try:
        for change in islice(changes, BATCH):
            batch.append(change)
    except EcwidError as exc:
        return batch, exc
    return batch, None


class _Written(NamedTuple):
    """The rows to write for some changes. The gaps of all `ids` are deleted before."""

    ids: list[int]
    rows: list[dict[str, Any]]
    gaps: list[dict[str, Any]]


def _fold(store_id: str, changes: Sequence[Change]) -> _Written:
    """Return what the changes write. The last change of each customer counts."""
    rows: dict[int, dict[str, Any]] = {}
    gaps: dict[int, dict[str, Any]] = {}
    ids: dict[int, None] = {}
    for change in changes:
        id = change.customer_id
        if id is None or id > _MOST_ID:
            id = _NO_ID
        ids[id] = None
        key = {"store_id": store_id, "id": id}
        places: Sequence[Violation] = ()
        if isinstance(change, CustomerUpdated):
            row = _row(change)
            if row is None:
                places = [Violation("", "json")]
        elif isinstance(change, CustomerDeleted):
            row = {"deleted_at": change.deleted_at}
        else:
            row, places = None, change.violations
        if row is None:
            text = " ".join(each.place for each in places)
            gaps[id] = {**key, "reason": "unreadable", "places": text}
        else:
            gaps.pop(id, None)
            rows[id] = {**_EMPTY_ROW, **key, **row}
    return _Written(list(ids), list(rows.values()), list(gaps.values()))


_EMPTY_ROW = {"email": None, "updated": None, "document": None, "deleted_at": None}


def _row(change: CustomerUpdated) -> dict[str, Any] | None:
    """Return the row of a customer, or None if a database cannot hold the document."""
    customer: dict[str, Any] = dict(change.customer)
    try:
        if b"\\u0000" in orjson.dumps(customer):  # PostgreSQL stores no NUL.
            customer = _without_nul(customer)
    except (orjson.JSONEncodeError, RecursionError):
        return None  # The customer is nested too deep.
    email = customer.get("email")
    return {
        "email": email[:_MOST_EMAIL] if isinstance(email, str) else None,
        "updated": _moment(customer.get("updated")),
        "document": customer,
    }


def _without_nul(value: Any) -> Any:
    """Return a value with U+FFFD in place of each NUL."""
    if isinstance(value, dict):
        return {_without_nul(name): _without_nul(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_without_nul(member) for member in value]
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _moment(date: object) -> datetime | None:
    """Return a date of Ecwid in UTC, or None if it cannot be read."""
    seconds = dates.to_seconds(date)
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, timezone.utc)
    except (OverflowError, OSError, ValueError):
        return None


def _insert(connection: sa.Connection) -> Callable[[sa.Table], Any]:
    """Return the `insert` of the database, which can resolve a conflict."""
    return sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert


def _upsert(connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
    insert = _insert(connection)(_customers)
    new = {name: insert.excluded[name] for name in _EMPTY_ROW}
    upsert = insert.on_conflict_do_update(index_elements=["store_id", "id"], set_=new)
    connection.execute(upsert, rows)


def _check_encoding(connection: sa.Connection) -> None:
    """Raise WrongDatabase if a text of a customer could be outside of the database's encoding."""
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding not in ("UTF8", "SQL_ASCII"):
        raise WrongDatabase(
            f"the database has the encoding {encoding}, which lacks letters of other languages."
            " Create a database with the encoding UTF8"
        )


def _check_table(inspector: sa.Inspector, table: sa.Table) -> None:
    """Raise WrongDatabase if a table that exists has not the columns of the package."""
    columns = {each["name"] for each in inspector.get_columns(table.name)}
    key = set(inspector.get_pk_constraint(table.name)["constrained_columns"])
    if not columns >= set(table.c.keys()) or key != set(table.primary_key.columns.keys()):
        raise WrongDatabase(
            f"the database has another table with the name {table.name}, so use another database"
            " or rename the table"
        )


def _in_utc(moment: datetime) -> datetime:
    # SQLite keeps no zone. PostgreSQL shows the zone of the session.
    return moment.astimezone(timezone.utc) if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _new_revision() -> str:
    return chance.token_hex(8)
