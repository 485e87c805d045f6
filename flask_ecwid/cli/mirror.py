"""The copy of a store's customers in a database.

The rows and the cursor of the change feed are written in the same transaction. So a process may end
at any moment, and the next process continues where the rows end. No transaction is open while Ecwid
is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from itertools import islice
from typing import Any, NamedTuple

import sqlalchemy as sa

from .. import chance, clock
from ..client import Change, ChangeIterator, CursorExpired, CustomerDeleted, EcwidClient
from ..errors import EcwidError
from .database import WrongDatabase, without_values
from .mirror_rows import fold
from .mirror_tables import create_tables, customers, gaps, insert_of, sync, upsert
from .unseen import ask, check_404s

BATCH = 100  # The changes of a transaction.
# A question may fail because of a single customer, so the command goes on with the next customer.
# After so many failures in a row, Ecwid itself has failed.
_FAILURES_MOST = 3
# Ecwid's 404s count only if Ecwid has one of these customers of its list. A gateway may send a 404
# that looks like Ecwid's for each customer.
_WITNESSES = 3
_DAMAGED = (
    "the copy belongs to another store with the same number, or its cursor is damaged. Delete the"
    " row of the store in ecwid_sync to read all customers again"
)


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

    @without_values
    def create_tables(self) -> None:
        """Create the tables that are missing. All customers have to come if one was missing.

        Raises:
            WrongDatabase: The database has a table of the same name with another purpose.
            DatabaseFailed: The database cannot be used.
        """
        with self._engine.begin() as connection:
            create_tables(connection)

    @without_values
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
            insert = insert_of(connection)(sync).values(store_id=self._store_id, revision=new)
            connection.execute(insert.on_conflict_do_nothing())
            query = sa.select(sync).where(sync.c.store_id == self._store_id)
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

    @without_values
    def store(self, changes: Sequence[Change], cursor: str | None = None) -> None:
        """Write the changes, and the cursor behind them, in one transaction.

        Args:
            changes: The changes in their order.
            cursor: The cursor behind the last change. Without a cursor, the earlier one stays.

        Raises:
            AnotherSync: Another command has continued the copy. Nothing is written.
            DatabaseFailed: The database cannot be used. Nothing is written, unless the connection
                broke at the very end. `start` says which cursor the copy has.
        """
        written = fold(self._store_id, changes)
        values = {} if cursor is None else {"cursor": cursor}
        with self._transaction(**values) as connection:
            if written.rows:
                upsert(connection, written.rows)
            self._close_gaps(connection, written.ids)
            if written.gaps:
                connection.execute(sa.insert(gaps), written.gaps)

    @without_values
    def begin_again(self) -> None:
        """Forget the cursor, so that all customers come. Each row counts as unseen until then.

        Raises:
            AnotherSync: Another command has continued the copy. Nothing is written.
            DatabaseFailed: The database cannot be used.
        """
        with self._transaction(cursor=None, synced_at=None) as connection:
            self._expect_all(connection)
        self.synced_at = None

    @without_values
    def unseen(self) -> list[int]:
        """Return the ids of the customers whose rows are unseen.

        Raises:
            DatabaseFailed: The database cannot be used.
        """
        query = sa.select(gaps.c.id).where(self._has_gap("unseen")).order_by(gaps.c.id)
        with self._engine.begin() as connection:
            return list(connection.execute(query).scalars())

    @without_values
    def seen(self) -> list[int]:
        """Return the newest ids of customers whom Ecwid's list has shown, at most `_WITNESSES`.

        Raises:
            DatabaseFailed: The database cannot be used.
        """
        query = (
            sa.select(customers.c.id)
            .where(self._is_seen())
            .order_by(customers.c.id.desc())
            .limit(_WITNESSES)
        )
        with self._engine.begin() as connection:
            return list(connection.execute(query).scalars())

    @without_values
    def finish(self) -> None:
        """Note that the copy is complete, because no row is unseen any more.

        Raises:
            AnotherSync: Another command has continued the copy. Nothing is written.
            DatabaseFailed: The database cannot be used.
        """
        now = datetime.fromtimestamp(clock.wall(), timezone.utc)
        with self._transaction(synced_at=now):
            pass
        self.synced_at = now
        self.is_complete = True

    @without_values
    def gaps(self) -> list[Gap]:
        """Return the customers that are unreadable, in the order of their ids.

        Raises:
            DatabaseFailed: The database cannot be used.
        """
        query = (
            sa.select(gaps.c.id, gaps.c.places)
            .where(self._has_gap("unreadable"))
            .order_by(gaps.c.id)
        )
        with self._engine.begin() as connection:
            rows = connection.execute(query).all()
        return [Gap(row.id or None, row.places or "") for row in rows]

    @without_values
    def count(self) -> int:
        """Return how many customers the copy has, without the deleted and the unseen ones.

        Raises:
            DatabaseFailed: The database cannot be used.
        """
        return self._count(self._is_seen())

    @without_values
    def count_unseen(self) -> int:
        """Return how many rows are unseen.

        Raises:
            DatabaseFailed: The database cannot be used.
        """
        return self._count(self._has_gap("unseen"))

    def _count(self, condition: sa.ColumnElement[bool]) -> int:
        query = sa.select(sa.func.count()).where(condition)
        with self._engine.begin() as connection:
            return int(connection.execute(query).scalar_one())

    @contextmanager
    def _transaction(self, **values: Any) -> Iterator[sa.Connection]:
        """Open a transaction that first changes the row of the store.

        Raises:
            AnotherSync: Another command has continued the copy. Nothing is written.
        """
        with self._engine.begin() as connection:
            revision = self._claim(connection, **values)
            yield connection
        self._revision = revision

    def _has_gap(self, reason: str) -> sa.ColumnElement[bool]:
        """Return the condition for a gap of the store with this reason."""
        return sa.and_(gaps.c.store_id == self._store_id, gaps.c.reason == reason)

    def _is_seen(self) -> sa.ColumnElement[bool]:
        """Return the condition for a customer of the store who is neither deleted nor unseen."""
        unseen = sa.select(gaps.c.id).where(self._has_gap("unseen"))
        return sa.and_(
            customers.c.store_id == self._store_id,
            customers.c.deleted_at.is_(None),
            customers.c.id.not_in(unseen),
        )

    def _claim(self, connection: sa.Connection, **values: Any) -> str:
        """Change the row of the store as the first step, and return the new revision.

        The row stays locked until the end of the transaction.

        Raises:
            AnotherSync: The row has another revision than this command has seen.
        """
        revision = _new_revision()
        changed = connection.execute(
            sa.update(sync)
            .where(sync.c.store_id == self._store_id, sync.c.revision == self._revision)
            .values(revision=revision, **values)
        )
        if not changed.rowcount:
            raise AnotherSync
        return revision

    def _expect_all(self, connection: sa.Connection) -> None:
        """Let each row that is not deleted count as unseen, and drop all other gaps.

        A customer who is unreadable comes again, and gets a gap again.
        """
        connection.execute(sa.delete(gaps).where(gaps.c.store_id == self._store_id))
        rows = sa.select(customers.c.store_id, customers.c.id, sa.literal("unseen")).where(
            customers.c.store_id == self._store_id, customers.c.deleted_at.is_(None)
        )
        connection.execute(sa.insert(gaps).from_select(["store_id", "id", "reason"], rows))

    def _close_gaps(self, connection: sa.Connection, ids: Sequence[int]) -> None:
        connection.execute(
            sa.delete(gaps).where(gaps.c.store_id == self._store_id, gaps.c.id.in_(ids))
        )


def update(client: EcwidClient, mirror: Mirror) -> Iterator[int]:
    """Update the copy, and yield the number of changes after each transaction.

    At the end, `mirror.is_complete` is False if the changes of a burst are left. A later update
    brings them.

    Args:
        client: The client of the store.
        mirror: The copy of the same store, whose tables exist.

    Raises:
        EcwidError: Ecwid's changes cannot be read, or an unseen customer cannot be asked for. The
            changes before are stored.
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
        yield from _ask_for_unseen(client, mirror)
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


def _ask_for_unseen(client: EcwidClient, mirror: Mirror) -> Iterator[int]:
    """Ask Ecwid for each customer whom a whole reading did not show, because a list may miss one.

    A customer whom Ecwid still has is stored, and only a 404 of Ecwid means a deletion. Yield the
    number of replies after each transaction.

    Raises:
        EcwidError: A question has failed. The customer stays unseen, and the next update asks
            again. The other replies are stored.
    """
    ids = mirror.unseen()
    # Otherwise a few customers whose questions always fail would come first in each update.
    ids.sort(key=lambda _: chance.uniform(0, 1))
    failure = None
    in_a_row = 0
    for start in range(0, len(ids), BATCH):
        replies: list[Change] = []
        for id in ids[start : start + BATCH]:
            try:
                replies.append(ask(client, id))
            except EcwidError as exc:
                failure = failure or exc
                in_a_row += 1
                if in_a_row == _FAILURES_MOST:
                    break
            else:
                in_a_row = 0
        if any(isinstance(each, CustomerDeleted) for each in replies):
            check_404s(client, mirror.seen())
        mirror.store(replies)
        yield len(replies)
        if in_a_row == _FAILURES_MOST:
            break
    if failure:
        raise failure


def _take(changes: ChangeIterator) -> tuple[list[Change], EcwidError | None]:
    """Return the next changes, and the error that came after them."""
    batch: list[Change] = []
    try:
        for change in islice(changes, BATCH):
            batch.append(change)
    except EcwidError as exc:
        return batch, exc
    return batch, None


def _in_utc(moment: datetime) -> datetime:
    # SQLite keeps no zone. PostgreSQL shows the zone of the session.
    return moment.astimezone(timezone.utc) if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _new_revision() -> str:
    return chance.token_hex(8)
