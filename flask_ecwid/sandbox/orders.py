"""What is ordered of a store, and what it was asked: rules, switches and the ledger.

They are in the store's file, so that every process that serves it, and a test outside, has them.
"""

from __future__ import annotations

import hashlib
import math
import os
import sqlite3
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from .faults import Fault
from .store import Store

WINDOW_S = 60
# By D25: a token that goes on calling while it is not working is blocked "for much longer" after 20
# calls a minute. How much longer no document says.
BAD_CALLS = 20
BLOCK_S = 600


class Switches(NamedTuple):
    """How the store behaves where Ecwid's documents are silent, or differ.

    A new customer shows in searches after `search_lag_s`; `duplicate_emails` are allowed; more
    than `calls_per_minute` of a token are refused with a 429 (0: any number passes).
    """

    search_lag_s: float = 0.0
    duplicate_emails: bool = False
    calls_per_minute: int = 0


_SWITCH_KINDS: dict[str, Callable[[Any], bool]] = {
    "search_lag_s": lambda value: type(value) in (int, float) and 0 <= value <= 3600,
    "duplicate_emails": lambda value: type(value) is bool,
    "calls_per_minute": lambda value: type(value) is int and value >= 0,
}


class Entry(NamedTuple):
    """One call that came in. `at` is UNIX seconds; `done` says whether its work was done.

    `customer_id` is the one asked for, or the new one; `email` is of a creation.
    """

    number: int
    at: float
    operation: str
    customer_id: int | None
    status: int
    fault: str | None
    done: bool
    email: str | None
    token_known: bool


class Orders:
    """The orders of the store in a file.

    Raises:
        sqlite3.Error: in each method, where there is no such store.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._store = Store(path)

    def order(self, *faults: Fault) -> None:
        """Add rules; of those that befall a call, the one that was ordered first does."""
        rows = [[orjson.dumps(fault.written()).decode()] for fault in faults]
        with self._store.transaction("BEGIN IMMEDIATE") as db:
            db.executemany("INSERT INTO faults (rule, matched, befell) VALUES (?, 0, 0)", rows)

    def faults(self) -> list[Fault]:
        with self._store.transaction("BEGIN") as db:
            rows = db.execute("SELECT rule FROM faults ORDER BY id").fetchall()
        return [Fault.read(orjson.loads(rule)) for (rule,) in rows]

    def clear(self) -> None:
        """Every rule is gone."""
        with self._store.transaction("BEGIN IMMEDIATE") as db:
            db.execute("DELETE FROM faults")

    def switches(self) -> Switches:
        with self._store.transaction("BEGIN") as db:
            return _switches(db)

    def switch(self, **given: Any) -> None:
        """Set some of the switches.

        Raises:
            ValueError: there is no such switch, or no such value of it.
        """
        for name, value in given.items():
            if name not in _SWITCH_KINDS or not _SWITCH_KINDS[name](value):
                raise ValueError(f"{name if name in _SWITCH_KINDS else 'a switch'} cannot be so")
        with self._store.transaction("BEGIN IMMEDIATE") as db:
            db.executemany("REPLACE INTO switches VALUES (?, ?)", list(given.items()))

    def ledger(self) -> list[Entry]:
        """Every call, in the order of their coming."""
        with self._store.transaction("BEGIN") as db:
            rows = db.execute("SELECT * FROM ledger ORDER BY at, number").fetchall()
        entries = (Entry(*row) for row in rows)
        return [
            each._replace(done=bool(each.done), token_known=bool(each.token_known))
            for each in entries
        ]

    def clear_ledger(self) -> None:
        with self._store.transaction("BEGIN IMMEDIATE") as db:
            db.execute("DELETE FROM ledger")

    def befalling(self, operation: str) -> Fault | None:
        """The fault that befalls a call that has come in, if any."""
        with self._store.transaction("BEGIN") as db:
            [[ordered]] = db.execute("SELECT count(*) FROM faults")
        if not ordered:
            return None
        with self._store.transaction("BEGIN IMMEDIATE") as db:
            chosen = None
            for id, rule, matched, befell in db.execute("SELECT * FROM faults ORDER BY id"):
                fault = Fault.read(orjson.loads(rule))
                if fault.operation not in (None, operation):
                    continue
                befalls = chosen is None and fault.befalls(matched + 1, befell)
                chosen = fault if befalls else chosen
                db.execute(
                    "UPDATE faults SET matched = matched + 1, befell = befell + ? WHERE id = ?",
                    [befalls, id],
                )
        return chosen

    def too_many(self, token: str | None, known: bool) -> int:
        """Seconds to wait, for a token that has called too often; 0 if the call may pass."""
        limit = self.switches().calls_per_minute
        if not limit:
            return 0
        now = time.time()
        name = hashlib.sha256((token or "").encode()).hexdigest()
        with self._store.transaction("BEGIN IMMEDIATE") as db:
            db.execute("DELETE FROM calls WHERE at <= ?", [now - max(WINDOW_S, BLOCK_S)])
            since = [name, now - WINDOW_S]
            [[blocked]] = db.execute(
                "SELECT coalesce(max(at), 0) FROM calls WHERE token = ? AND kind = 'block'", [name]
            )
            [[passed, oldest]] = db.execute(
                "SELECT count(*), min(at) FROM calls WHERE token = ? AND at > ? AND kind = 'good'",
                since,
            )
            [[bad]] = db.execute(
                "SELECT count(*) FROM calls WHERE token = ? AND at > ? AND kind = 'bad'", since
            )
            good = known and not blocked and passed < limit
            kind = "good" if good else "bad"
            db.execute("INSERT INTO calls VALUES (?, ?, ?)", [name, now, kind])
            if not blocked and not good and bad + 1 > BAD_CALLS:
                db.execute("INSERT INTO calls VALUES (?, ?, 'block')", [name, now])
                blocked = now
        if blocked:
            return max(1, math.ceil(float(blocked) + BLOCK_S - now))
        if good or not known:
            return 0
        return max(1, math.ceil(float(oldest) + WINDOW_S - now))

    def note(self, *entry: Any) -> None:
        """Write an entry into the ledger: all of its fields but its number."""
        with self._store.transaction("BEGIN IMMEDIATE") as db:
            db.execute("INSERT INTO ledger VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", entry)


def _switches(db: sqlite3.Connection) -> Switches:
    given = dict(db.execute("SELECT name, value FROM switches").fetchall())
    return Switches(
        float(given.get("search_lag_s", 0)),
        bool(given.get("duplicate_emails", 0)),
        int(given.get("calls_per_minute", 0)),
    )
