"""The rows that `flask ecwid sync` has written, read with SQL and without the package."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.pool import NullPool


class Row(NamedTuple):
    """A row of ecwid_customers without its key. Times have no zone, and are in UTC."""

    email: str | None
    updated: datetime | None
    document: dict[str, Any] | None
    deleted_at: datetime | None


class CopiedRows:
    """The tables of one database, as a program beside the command reads them."""

    def __init__(self, url: str) -> None:
        url = url.replace("postgresql://", "postgresql+psycopg://")
        self.engine = sa.create_engine(url, poolclass=NullPool)

    def ask(self, query: str, **values: Any) -> list[Any]:
        """Return the rows of a query."""
        with self.engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SET LOCAL TIME ZONE 'UTC'")
            return list(connection.execute(sa.text(query), values).all())

    def change(self, statement: str, **values: Any) -> None:
        """Run a statement without a result."""
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement), values)

    def rows(self, store_id: str = "1003") -> dict[int, Row]:
        """Return all rows of a store by the ids of their customers."""
        found = self.ask(
            "SELECT id, email, updated, document, deleted_at FROM ecwid_customers"
            " WHERE store_id = :store_id",
            store_id=store_id,
        )
        rows = {
            id: Row(email, _moment(updated), _document(document), _moment(deleted_at))
            for id, email, updated, document, deleted_at in found
        }
        assert len(rows) == len(found)
        return rows

    def documents(self, store_id: str = "1003") -> dict[int, Any]:
        """Return the documents of the customers that are not deleted."""
        return {id: row.document for id, row in self.rows(store_id).items() if not row.deleted_at}

    def deleted(self, store_id: str = "1003") -> set[int]:
        """Return the ids of the deleted customers, whose rows hold nothing else."""
        rows = {id: row for id, row in self.rows(store_id).items() if row.deleted_at}
        assert all(row[:3] == (None, None, None) for row in rows.values())
        return set(rows)

    def cursor(self, store_id: str = "1003") -> str | None:
        """Return the cursor of a store, or None if there is none."""
        query = "SELECT cursor FROM ecwid_sync WHERE store_id = :store_id"
        found = self.ask(query, store_id=store_id)
        return found[0][0] if found else None

    def is_synced(self, store_id: str = "1003") -> bool:
        """Return whether all customers of a store have come."""
        query = "SELECT 1 FROM ecwid_sync WHERE store_id = :store_id AND synced_at IS NOT NULL"
        return bool(self.ask(query, store_id=store_id))

    def gaps(self, store_id: str = "1003") -> dict[int, str]:
        """Return the reasons of the gaps by the ids of the customers."""
        query = "SELECT id, reason FROM ecwid_sync_gaps WHERE store_id = :store_id"
        return {row.id: row.reason for row in self.ask(query, store_id=store_id)}


def _moment(found: Any) -> datetime | None:
    if isinstance(found, str):  # SQLite has no type for times.
        found = datetime.fromisoformat(found)
    assert found is None or isinstance(found, datetime)
    return found and found.replace(tzinfo=None)


def _document(found: Any) -> dict[str, Any] | None:
    document: dict[str, Any] | None = json.loads(found) if isinstance(found, str) else found
    return document
