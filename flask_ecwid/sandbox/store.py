"""The store's customers in a SQLite file that several processes may share.

A customer is kept as the JSON document that Ecwid shows, beside it in columns what is sorted by or
bounded, and `folded`: what is searched of the rest. Every method opens and closes a connection of
its own, so that nothing is shared across threads or a fork.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from .documents import Document, changed_customer, new_customer
from .errors import CustomerNotFound, EmailTaken
from .search import Search, moment

_VERSION = 2  # of the schema; 0 is a new file
_BUSY_TIMEOUT_S = 5.0
_FILL_TIMEOUT_S = 60.0  # as long as another process may take to fill the file with customers
_FIRST_ID = 188278629  # of D26's example of a creation
_FIRST_INNER_ID = 199463290  # of addresses and contacts: the highest one seen, and 1

_SCHEMA = (
    # AUTOINCREMENT: a deleted customer's id is never given again.
    """CREATE TABLE customers (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        email TEXT NOT NULL,
        registered INTEGER NOT NULL,
        updated INTEGER NOT NULL,
        found_from REAL NOT NULL,
        order_count INTEGER NOT NULL,
        sales_value REAL NOT NULL,
        first_order INTEGER,
        last_order INTEGER,
        folded TEXT NOT NULL,
        purchased TEXT NOT NULL,
        document TEXT NOT NULL
    )""",
    *(
        f"CREATE INDEX customers_{column} ON customers ({column})"
        for column in (
            "name",
            "email",
            "registered",
            "updated",
            "order_count",
            "sales_value",
            "first_order",
            "last_order",
        )
    ),
    # What is ordered, and what was asked: orders.py.
    "CREATE TABLE faults (id INTEGER PRIMARY KEY, rule TEXT, matched INTEGER, befell INTEGER)",
    "CREATE TABLE switches (name TEXT PRIMARY KEY, value)",
    "CREATE TABLE calls (token TEXT, at REAL, kind TEXT)",
    "CREATE INDEX calls_token ON calls (token, at)",
    """CREATE TABLE ledger (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL,
        operation TEXT,
        customer_id INTEGER,
        status INTEGER,
        fault TEXT,
        done INTEGER,
        email TEXT,
        token_known INTEGER
    )""",
    "CREATE TABLE inner_id (last INTEGER NOT NULL)",
    f"INSERT INTO inner_id VALUES ({_FIRST_INNER_ID - 1})",
    f"INSERT INTO sqlite_sequence VALUES ('customers', {_FIRST_ID - 1})",
)
_SEARCHED = (
    "customerGroupId",
    "shippingAddresses",
    "contacts",
    "taxExempt",
    "b2b_b2c",
    "fiscalCode",
    "electronicInvoicePecEmail",
    "electronicInvoiceSdiCode",
    "acceptMarketing",
    "lang",
)


class Store:
    """Raises `sqlite3.Error` where the file is gone, broken or busy for more than 5 seconds."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._uri = Path(path).absolute().as_uri()

    def fill(self, customers: Callable[[], Iterable[tuple[Document, list[int]]]]) -> None:
        """Make a new file a store with these customers, once: who comes second finds it done.

        Each customer comes with the ids of the products they bought, which no document shows.

        Raises:
            ValueError: the file is of another version of the sandbox.
        """
        with self._connection("rwc", _FILL_TIMEOUT_S) as db:
            if _is_new(db):
                _write_ahead(db)
                db.execute("BEGIN IMMEDIATE")
                if _is_new(db):  # still, now that nobody else can write
                    for statement in _SCHEMA:
                        db.execute(statement)
                    for document, purchased in customers():
                        _insert(db, document, purchased)
                    db.execute(f"PRAGMA user_version = {_VERSION}")
                db.execute("COMMIT")

    def put(self, customers: Iterable[tuple[Document, list[int]]]) -> list[int]:
        """Add customers as they are, with what they bought, all or none; gives their ids.

        Raises:
            ValueError: one's id or e-mail is there already.
        """
        with self.transaction("BEGIN IMMEDIATE") as db:
            try:
                ids = []
                for document, purchased in customers:
                    _refuse_taken(db, document["email"], None)
                    ids.append(_insert(db, document, purchased))
            except (EmailTaken, sqlite3.IntegrityError):
                raise ValueError("a customer with this id or e-mail is there already") from None
        return ids

    def customers(self) -> list[Document]:
        """All of them, by their ids, each as on a page."""
        with self.transaction("BEGIN") as db:
            rows = db.execute("SELECT id, document FROM customers ORDER BY id").fetchall()
        return [_document(*row) for row in rows]

    def list_customers(self, search: Search) -> Document:
        """Ecwid's page of the customers that match."""
        with self.transaction("BEGIN") as db:
            [[everybody]] = db.execute("SELECT count(*) FROM customers")
            where, arguments = f"FROM customers WHERE {search.where}", {**search.arguments}
            if _switch(db, "search_lag_s"):
                where, arguments["now"] = f"{where} AND found_from <= :now", time.time()
            [[total]] = db.execute(f"SELECT count(*) {where}", arguments)
            rows = db.execute(
                f"SELECT id, document {where} ORDER BY {search.order_by}"
                f" LIMIT {search.limit} OFFSET {search.offset}",
                arguments,
            ).fetchall()
        return {
            "total": total,
            "count": len(rows),
            "offset": search.offset,
            "limit": search.limit,
            "items": [_document(*row) for row in rows],
            "allCustomerCount": everybody,
        }

    def get_customer(self, customer_id: int) -> Document:
        """One customer: as on a page, but without its `totalOrderCount` (D26)."""
        with self.transaction("BEGIN") as db:
            customer = _find(db, customer_id)
        customer.pop("totalOrderCount", None)
        return customer

    def add_customer(self, given: Document) -> int:
        """The id of the new customer; `given` is what `writable` leaves of a body."""
        customer = new_customer(given, time.time())
        with self.transaction("BEGIN IMMEDIATE") as db:
            _refuse_taken(db, customer["email"], None)
            lag_s = _switch(db, "search_lag_s")
            return _insert(db, customer, [], time.time() + lag_s if lag_s else 0)

    def update_customer(self, customer_id: int, changes: Document) -> None:
        """`changes` is what `writable` leaves of a body."""
        with self.transaction("BEGIN IMMEDIATE") as db:
            customer = changed_customer(_find(db, customer_id), changes, time.time())
            _refuse_taken(db, customer["email"], customer_id)
            columns = _columns(_numbered(db, customer))
            values = ", ".join(f"{name} = :{name}" for name in columns)
            db.execute(
                f"UPDATE customers SET {values} WHERE id = :id", {**columns, "id": customer_id}
            )

    def delete_customer(self, customer_id: int) -> None:
        with self.transaction("BEGIN IMMEDIATE") as db:
            if not db.execute("DELETE FROM customers WHERE id = ?", [customer_id]).rowcount:
                raise CustomerNotFound(customer_id)

    @contextmanager
    def transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        """What is done inside is done as a whole, or not at all if it raises."""
        with self._connection("rw", _BUSY_TIMEOUT_S) as db:
            db.execute(begin)
            yield db
            db.execute("COMMIT")

    @contextmanager
    def _connection(self, mode: str, timeout_s: float) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(
            f"{self._uri}?mode={mode}", uri=True, timeout=timeout_s, isolation_level=None
        )
        try:
            db.execute("PRAGMA synchronous = OFF")  # a simulated store need not survive a power cut
            yield db
        finally:
            db.close()  # rolls back what is not committed


def _is_new(db: sqlite3.Connection) -> bool:
    [[version]] = db.execute("PRAGMA user_version")
    if version not in (0, _VERSION):
        raise ValueError("the file is a store of another version of the sandbox")
    return bool(version == 0)


def _write_ahead(db: sqlite3.Connection) -> None:
    """Readers and a writer at the same time, for good: the mode stays with the file."""
    give_up = time.monotonic() + _FILL_TIMEOUT_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:  # this statement does not wait for others to be done
            if time.monotonic() > give_up:
                raise
            time.sleep(0.01)


def _switch(db: sqlite3.Connection, name: str) -> float:
    row = db.execute("SELECT value FROM switches WHERE name = ?", [name]).fetchone()
    return float(row[0]) if row else 0.0


def _refuse_taken(db: sqlite3.Connection, email: str, customer_id: int | None) -> None:
    """Whether the live API always does, no document says: hence the switch."""
    others = "SELECT 1 FROM customers WHERE email = ? AND id IS NOT ?"
    taken = db.execute(others, [email.casefold(), customer_id]).fetchone()
    if taken and not _switch(db, "duplicate_emails"):
        raise EmailTaken


def _find(db: sqlite3.Connection, customer_id: int) -> Document:
    row = db.execute("SELECT id, document FROM customers WHERE id = ?", [customer_id]).fetchone()
    if row is None:
        raise CustomerNotFound(customer_id)
    return _document(*row)


def _document(customer_id: int, document: str) -> Document:
    return {"id": customer_id, **orjson.loads(document)}


def _insert(
    db: sqlite3.Connection, document: Document, purchased: list[int], found_from: float = 0
) -> int:
    """A customer without an id gets the next one."""
    columns = {
        "id": document.get("id"),
        "found_from": found_from,
        "purchased": orjson.dumps(purchased).decode(),
        **_columns(_numbered(db, document)),
    }
    names = ", ".join(columns)
    places = ", ".join(f":{name}" for name in columns)
    inserted = db.execute(f"INSERT INTO customers ({names}) VALUES ({places})", columns)
    assert inserted.lastrowid is not None
    return inserted.lastrowid


def _numbered(db: sqlite3.Connection, document: Document) -> Document:
    """With ids for the addresses and contacts whose id is None; both draw from one sequence."""
    lists: Document = {
        name: [
            {**item, "id": _next_inner_id(db)} if item["id"] is None else item
            for item in document[name]
        ]
        for name in ("shippingAddresses", "contacts")
        if name in document
    }
    return {**document, **lists}


def _next_inner_id(db: sqlite3.Connection) -> int:
    db.execute("UPDATE inner_id SET last = last + 1")
    [[last]] = db.execute("SELECT last FROM inner_id")
    return int(last)


def _columns(document: Document) -> dict[str, Any]:
    searched = {name: document[name] for name in _SEARCHED if name in document}
    stats = document.get("stats", {})
    return {
        "name": document.get("name", "").casefold(),
        "email": document["email"].casefold(),
        "registered": moment(document["registered"]),
        "updated": moment(document["updated"]),
        "order_count": stats.get("numberOfOrders", document.get("totalOrderCount")),
        "sales_value": stats.get("salesValue", 0),
        "first_order": moment(stats.get("firstOrderDate", "")),
        "last_order": moment(stats.get("lastOrderDate", "")),
        # The whole text, names of members and all; JSON's own marks do not change by it.
        "folded": orjson.dumps(searched).decode().casefold(),
        "document": orjson.dumps({k: v for k, v in document.items() if k != "id"}).decode(),
    }
