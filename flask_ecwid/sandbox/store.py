"""The customers of one store in a SQLite file that several processes may share.

The table stores each customer as the JSON document that Ecwid shows. Further columns hold the
members for sorting and for bounds. The column `folded` holds the other searched members in lower
case. Every method opens and closes its own connection, because threads and forked processes must
not share a connection.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from .. import private_files
from . import outbox
from .documents import Document, changed_customer, format_date, new_customer
from .errors import CustomerNotFound, EmailTaken
from .events import CHANGES
from .search import Search, parse_date
from .tokens import ALL_SCOPES, check_scopes, digest

_VERSION = 4  # the version of the schema, where 0 is a new file
_BUSY_TIMEOUT_S = 5.0
_FILL_TIMEOUT_S = 60.0  # another process may take this long to fill the file with customers

_DELETED_S = 183 * 86_400  # how long Ecwid lists a deletion
_FIRST_ID = 188278629  # the id in the example of Ecwid's documentation
_FIRST_INNER_ID = 199463290  # of an address or contact, one above the highest id ever seen

_SCHEMA = (
    # The id is AUTOINCREMENT, because Ecwid never reuses the id of a deleted customer.
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
    "CREATE TABLE deleted (id INTEGER PRIMARY KEY, date INTEGER NOT NULL)",
    # controls.py uses the following tables. `befell` counts the calls that got the fault.
    "CREATE TABLE faults (id INTEGER PRIMARY KEY, rule TEXT, matched INTEGER, befell INTEGER)",
    "CREATE TABLE switches (name TEXT PRIMARY KEY, value)",
    "CREATE TABLE tokens (digest TEXT PRIMARY KEY, scopes TEXT NOT NULL)",
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
    outbox.TABLE,
    "CREATE TABLE inner_id (last INTEGER NOT NULL)",
    f"INSERT INTO inner_id VALUES ({_FIRST_INNER_ID - 1})",
    f"INSERT INTO sqlite_sequence VALUES ('customers', {_FIRST_ID - 1})",
)
# Both names are kept beside the switches of `Switches`, but are none of them.
_ACCEPTS_NEW_STORES = "accepts_new_stores"
_ACCEPTS_A_TOKEN = "accepts_a_token"  # until the store has a token of the app, or `set_tokens`
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
    """The store in a SQLite file.

    Raises:
        sqlite3.Error: the file is missing, broken, or busy for more than 5 seconds. Each method
            can raise this error.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).absolute()
        self._uri = self._path.as_uri()

    def fill(
        self,
        customers: Callable[[], Iterable[tuple[Document, list[int]]]],
        tokens: Mapping[str, Collection[str]],
        *,
        accept_new_stores: bool = False,
    ) -> None:
        """Turn a new file into a store with these customers. Do nothing with an existing store.

        If several processes call this at the same time, only one of them fills the file.

        Args:
            customers: returns the customers, each with the ids of the products that they bought. A
                reply never shows these ids.
            tokens: the scopes of each token.
            accept_new_stores: whether a call may add stores to the sandbox in this file, and one
                token to this store.

        Raises:
            ValueError: another version of the sandbox wrote the file, or a scope is invalid.
            OSError: the file cannot be created, or another user may have made the file.
        """
        check_scopes(tokens)
        private_files.claim_database(self._path)
        with self._connection("rw", _FILL_TIMEOUT_S) as db:
            if _is_new(db):
                _write_ahead(db)
                db.execute("BEGIN IMMEDIATE")
                if _is_new(db):  # no other process has filled the file meanwhile
                    for statement in _SCHEMA:
                        db.execute(statement)
                    for document, purchased in customers():
                        _insert(db, document, purchased)
                    _insert_tokens(db, tokens)
                    for switch in (_ACCEPTS_NEW_STORES, _ACCEPTS_A_TOKEN):
                        accepts = [switch, accept_new_stores]
                        db.execute("INSERT INTO switches VALUES (?, ?)", accepts)
                    db.execute(f"PRAGMA user_version = {_VERSION}")
                db.execute("COMMIT")

    def is_complete(self) -> bool:
        """Return whether the file is there, and `fill` has ended.

        Raises:
            ValueError: another version of the sandbox wrote the file.
            OSError: another user may have made the file.
        """
        if not self._path.exists():
            return False
        private_files.claim_database(self._path)
        with self._connection("rw", _BUSY_TIMEOUT_S) as db:
            return not _is_new(db)

    def accepts_new_stores(self) -> bool:
        """Return whether a call may add stores to the sandbox in this file."""
        with self.transaction("BEGIN") as db:
            return bool(_switch(db, _ACCEPTS_NEW_STORES))

    def accept_token(self, token: str) -> None:
        """Let the token open the store, if the store still accepts one token beside its own."""
        with self.transaction("BEGIN") as db:
            if not _accepts(db, token):
                return
        with self.transaction("BEGIN IMMEDIATE") as db:
            if _accepts(db, token):  # no other process has used a token meanwhile
                _insert_tokens(db, {token: ALL_SCOPES})
                _accept_no_more(db)

    def set_tokens(self, tokens: Mapping[str, Collection[str]]) -> None:
        """Let only these tokens open the store. The mapping has the scopes of each token.

        Raises:
            ValueError: a scope is invalid.
        """
        check_scopes(tokens)
        with self.transaction("BEGIN IMMEDIATE") as db:
            db.execute("DELETE FROM tokens")
            _insert_tokens(db, tokens)
            _accept_no_more(db)

    def put(self, customers: Iterable[tuple[Document, list[int]]]) -> list[int]:
        """Add all these customers or none, and return their ids.

        Each customer comes with the ids of the products that they bought.

        Raises:
            ValueError: the store already has a customer with one of the ids or e-mails.
        """
        with self.transaction("BEGIN IMMEDIATE") as db:
            try:
                ids = []
                for document, purchased in customers:
                    _refuse_taken(db, document["email"], None)
                    ids.append(_insert(db, document, purchased))
            except (EmailTaken, sqlite3.IntegrityError):
                raise ValueError("the store already has this id or e-mail") from None
        return ids

    def customers(self) -> list[Document]:
        """Return all customers in the order of their ids, as a page shows them."""
        with self.transaction("BEGIN") as db:
            rows = db.execute("SELECT id, document FROM customers ORDER BY id").fetchall()
        return [_document(*row) for row in rows]

    def list_customers(self, search: Search) -> Document:
        """Return Ecwid's page of the customers that match."""
        with self.transaction("BEGIN") as db:
            [[all_count]] = db.execute("SELECT count(*) FROM customers")
            where, arguments = f"FROM customers WHERE {search.where}", {**search.arguments}
            if _switch(db, "search_lag_s"):
                where, arguments["now"] = f"{where} AND found_from <= :now", time.time()
            [[total]] = db.execute(f"SELECT count(*) {where}", arguments)
            rows = db.execute(
                f"SELECT id, document {where} ORDER BY {search.order_by}"
                f" LIMIT {search.limit} OFFSET {search.offset}",
                arguments,
            ).fetchall()
        page = _page(search, total, [_document(*row) for row in rows])
        return {**page, "allCustomerCount": all_count}

    def get_customer(self, customer_id: int) -> Document:
        """Return a customer as a page shows it, but without `totalOrderCount` (D26)."""
        with self.transaction("BEGIN") as db:
            customer = _find(db, customer_id)
        customer.pop("totalOrderCount", None)
        return customer

    def add_customer(self, given: Document) -> int:
        """Create a customer from the members that `settable` returned, and return the id."""
        customer = new_customer(given, time.time())
        with self.transaction("BEGIN IMMEDIATE") as db:
            _refuse_taken(db, customer["email"], None)
            lag_s = _switch(db, "search_lag_s")
            customer_id = _insert(db, customer, [], time.time() + lag_s if lag_s else 0)
            outbox.insert_change(db, CHANGES["add_customer"], customer_id, customer["email"])
        return customer_id

    def update_customer(self, customer_id: int, changes: Document) -> None:
        """Change the members of a customer that `settable` returned."""
        with self.transaction("BEGIN IMMEDIATE") as db:
            customer = changed_customer(_find(db, customer_id), changes, time.time())
            _refuse_taken(db, customer["email"], customer_id)
            columns = _columns(_with_inner_ids(db, customer))
            values = ", ".join(f"{name} = :{name}" for name in columns)
            db.execute(
                f"UPDATE customers SET {values} WHERE id = :id", {**columns, "id": customer_id}
            )
            outbox.insert_change(db, CHANGES["update_customer"], customer_id, customer["email"])

    def delete_customer(self, customer_id: int) -> None:
        """Delete a customer.

        Raises:
            CustomerNotFound: The store has no customer with this id.
        """
        with self.transaction("BEGIN IMMEDIATE") as db:
            email = _find(db, customer_id)["email"]
            db.execute("DELETE FROM customers WHERE id = ?", [customer_id])
            db.execute("INSERT INTO deleted VALUES (?, ?)", [customer_id, int(time.time())])
            outbox.insert_change(db, CHANGES["delete_customer"], customer_id, email)

    def list_deleted(self, search: Search) -> Document:
        """Return Ecwid's page of the deletions of the last six months that match."""
        known = f"FROM deleted WHERE {search.where} AND date > {int(time.time()) - _DELETED_S}"
        with self.transaction("BEGIN") as db:
            [[total]] = db.execute(f"SELECT count(*) {known}", search.arguments)
            rows = db.execute(
                f"SELECT id, date {known} ORDER BY {search.order_by}"
                f" LIMIT {search.limit} OFFSET {search.offset}",
                search.arguments,
            ).fetchall()
        return _page(search, total, [{"id": id, "date": format_date(date)} for id, date in rows])

    @contextmanager
    def transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        """Run the block in one transaction, which is rolled back if the block raises an error."""
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
            db.execute("PRAGMA synchronous = OFF")  # a test store need not survive a power cut
            yield db
        finally:
            db.close()  # rolls back an open transaction


def _is_new(db: sqlite3.Connection) -> bool:
    [[version]] = db.execute("PRAGMA user_version")
    if version not in (0, _VERSION):
        raise ValueError("another version of the sandbox wrote the file")
    return bool(version == 0)


def _write_ahead(db: sqlite3.Connection) -> None:
    """Let processes read while another process writes. The file keeps this mode."""
    deadline = time.monotonic() + _FILL_TIMEOUT_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:  # SQLite does not wait for other processes here
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _switch(db: sqlite3.Connection, name: str) -> float:
    row = db.execute("SELECT value FROM switches WHERE name = ?", [name]).fetchone()
    return float(row[0]) if row else 0.0


def _insert_tokens(db: sqlite3.Connection, tokens: Mapping[str, Collection[str]]) -> None:
    rows = [[digest(token), " ".join(sorted(scopes))] for token, scopes in tokens.items()]
    db.executemany("INSERT INTO tokens VALUES (?, ?)", rows)


def _accepts(db: sqlite3.Connection, token: str) -> bool:
    """Return whether the store may accept this token, which it does not know yet."""
    if not _switch(db, _ACCEPTS_A_TOKEN):
        return False
    return not db.execute("SELECT 1 FROM tokens WHERE digest = ?", [digest(token)]).fetchone()


def _accept_no_more(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM switches WHERE name = ?", [_ACCEPTS_A_TOKEN])


def _refuse_taken(db: sqlite3.Connection, email: str, customer_id: int | None) -> None:
    """Raise EmailTaken if another customer has the e-mail.

    A switch turns this off, because no document says whether the live API always refuses.
    """
    others = "SELECT 1 FROM customers WHERE email = ? AND email != '' AND id IS NOT ?"
    taken = db.execute(others, [email.casefold(), customer_id]).fetchone()
    if taken and not _switch(db, "duplicate_emails"):
        raise EmailTaken


def _find(db: sqlite3.Connection, customer_id: int) -> Document:
    row = db.execute("SELECT id, document FROM customers WHERE id = ?", [customer_id]).fetchone()
    if row is None:
        raise CustomerNotFound(customer_id)
    return _document(*row)


def _page(search: Search, total: int, items: list[Document]) -> Document:
    return {
        "total": total,
        "count": len(items),
        "offset": search.offset,
        "limit": search.limit,
        "items": items,
    }


def _document(customer_id: int, document: str) -> Document:
    return {"id": customer_id, **orjson.loads(document)}


def _insert(
    db: sqlite3.Connection, document: Document, purchased: list[int], found_from: float = 0
) -> int:
    """Insert a customer and return the id. A customer without an id gets the next id."""
    columns = {
        "id": document.get("id"),
        "found_from": found_from,
        "purchased": orjson.dumps(purchased).decode(),
        **_columns(_with_inner_ids(db, document)),
    }
    names = ", ".join(columns)
    places = ", ".join(f":{name}" for name in columns)
    inserted = db.execute(f"INSERT INTO customers ({names}) VALUES ({places})", columns)
    assert inserted.lastrowid is not None
    return inserted.lastrowid


def _with_inner_ids(db: sqlite3.Connection, document: Document) -> Document:
    """Return the document with ids for new addresses and contacts, from one common sequence."""
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
        "registered": parse_date(document["registered"]),
        "updated": parse_date(document["updated"]),
        "order_count": stats.get("numberOfOrders", document.get("totalOrderCount")),
        "sales_value": stats.get("salesValue", 0),
        "first_order": parse_date(stats.get("firstOrderDate", "")),
        "last_order": parse_date(stats.get("lastOrderDate", "")),
        # casefold() also changes the names of the members, so searches use lower-case names. The
        # syntax of JSON does not change.
        "folded": orjson.dumps(searched).decode().casefold(),
        "document": orjson.dumps({k: v for k, v in document.items() if k != "id"}).decode(),
    }
