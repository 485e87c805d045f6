"""The tables of the copies in a database.

    ecwid_customers    the customers. A deleted customer keeps only the id and the date
    ecwid_sync         the cursor of each store
    ecwid_sync_gaps    the customers whose row may be wrong

A gap is `unreadable` if the customer's data violates the contract. The row then shows an earlier
version. A gap is `unseen` while all customers are read again and the customer has not come yet. At
the end of the reading, the command asks Ecwid for each unseen customer, and only a 404 of Ecwid
means a deletion.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from .database import WrongDatabase
from .mirror_rows import EMPTY_ROW

_LOCK_KEY = 0xEC_01D  # PostgreSQL's advisory lock while the tables are created.
tables = sa.MetaData()
_json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
customers = sa.Table(
    "ecwid_customers",
    tables,
    sa.Column("store_id", sa.Text, primary_key=True),
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("email", sa.Text),
    sa.Column("updated", sa.DateTime(timezone=True)),
    sa.Column("document", _json),
    sa.Column("deleted_at", sa.DateTime(timezone=True)),
    sa.Index("ecwid_customers_email", "store_id", "email"),
    sa.Index("ecwid_customers_updated", "store_id", "updated"),
)
sync = sa.Table(
    "ecwid_sync",
    tables,
    sa.Column("store_id", sa.Text, primary_key=True),
    sa.Column("cursor", sa.Text),  # None before the first changes.
    sa.Column("revision", sa.Text, nullable=False),  # Each transaction writes another one.
    sa.Column("synced_at", sa.DateTime(timezone=True)),  # None until all customers have come.
)
gaps = sa.Table(
    "ecwid_sync_gaps",
    tables,
    sa.Column("store_id", sa.Text, primary_key=True),
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("places", sa.Text),  # The places that violate the contract.
)


def create_tables(connection: sa.Connection) -> None:
    """Create the tables that are missing.

    Raises:
        WrongDatabase: The database has a table of the same name with another purpose.
    """
    if connection.dialect.name == "postgresql":
        # Two commands would otherwise fail when both create the same table.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_KEY)))
        _check_encoding(connection)
    inspector = sa.inspect(connection)
    found = [each for each in tables.sorted_tables if inspector.has_table(each.name)]
    for table in found:
        _check_table(inspector, table)
    tables.create_all(connection)
    if len(found) < len(tables.sorted_tables):
        # Somebody may have dropped a table, and the cursors count on its rows.
        connection.execute(sa.delete(sync))


def insert_of(connection: sa.Connection) -> Callable[[sa.Table], Any]:
    """Return the `insert` of the database, which can resolve a conflict."""
    return sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert


def upsert(connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
    """Insert rows of customers, or replace the rows with their ids."""
    insert = insert_of(connection)(customers)
    new = {name: insert.excluded[name] for name in EMPTY_ROW}
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
