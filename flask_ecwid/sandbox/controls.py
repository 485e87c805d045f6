"""The controls of a store, which are its tokens, the faults to inject, the switches and the ledger.

The controls are in the SQLite file of the store. So all processes that serve the store share the
controls, and a test outside of these processes can use them.
"""

from __future__ import annotations

import math
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import orjson

from .faults import Fault
from .store import Store
from .tokens import digest

WINDOW_S = 60
# Ecwid blocks a token "for much longer" after 20 bad calls a minute (D25). A call is bad if its
# token is unknown, above its limit, or blocked. No document says how long the block lasts.
BAD_CALLS = 20
BLOCK_S = 600


class Switches(NamedTuple):
    """The behaviour of the store where Ecwid's documents are silent or disagree.

    Searches find a new customer after `search_lag_s` seconds. With `duplicate_emails`, two
    customers may have the same e-mail. Calls of a token above `calls_per_minute` get a 429, and 0
    means no limit. With `send_events`, a sandbox with a webhook URL sends each new event by itself.
    """

    search_lag_s: float = 0.0
    duplicate_emails: bool = False
    calls_per_minute: int = 0
    send_events: bool = False


_VALID_SWITCHES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "search_lag_s": (
        lambda value: type(value) in (int, float) and 0 <= value <= 3600,
        "a number from 0 to 3600",
    ),
    "duplicate_emails": (lambda value: type(value) is bool, "True or False"),
    "calls_per_minute": (
        lambda value: type(value) is int and value >= 0,
        "a whole number from 0",
    ),
    "send_events": (lambda value: type(value) is bool, "True or False"),
}


class Entry(NamedTuple):
    """A received call.

    Attributes:
        number: the place of the call in the ledger.
        at: the UNIX time in seconds.
        operation: the name of the operation.
        customer_id: the id in the URL, or the id of the new customer.
        status: the status of the store's reply, also if a fault replaced the reply.
        fault: the kind of the fault that the call met.
        done: whether the store executed the call.
        email: the e-mail of a creation.
        token_known: whether the store knows the token of the call.
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


class Admission(NamedTuple):
    """The reply of a store to the token of a call, which the store has counted.

    Args:
        scopes: the scopes of the token, or None if the store refuses the token.
        wait_s: the seconds to wait, or 0 if the call is within the limit.
    """

    scopes: frozenset[str] | None
    wait_s: int


class Controls:
    """The controls of the store in a file. `stores.path_of` names the file of a further store.

    Raises:
        sqlite3.Error: the file is not a store. Each method can raise this error.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._store = Store(path)

    def inject(self, *faults: Fault) -> None:
        """Inject faults into later calls. A call gets at most one fault, the first that applies.

        Raises:
            ValueError: an argument is not a `Fault`.
        """
        for each in faults:
            if not isinstance(each, Fault):
                raise ValueError(f"A fault must be a Fault, such as Fault('reset'); got {each!r}")
        rows = [[orjson.dumps(fault.to_json()).decode()] for fault in faults]
        with self._store.transaction("BEGIN IMMEDIATE") as db:
            db.executemany("INSERT INTO faults (rule, matched, befell) VALUES (?, 0, 0)", rows)

    def faults(self) -> list[Fault]:
        """Return the faults that were given to `inject` and not cleared, in this order."""
        with self._store.transaction("BEGIN") as db:
            rows = db.execute("SELECT rule FROM faults ORDER BY id").fetchall()
        return [Fault.from_json(orjson.loads(rule)) for (rule,) in rows]

    def clear_faults(self) -> None:
        """Stop injecting faults."""
        with self._store.transaction("BEGIN IMMEDIATE") as db:
            db.execute("DELETE FROM faults")

    def switches(self) -> Switches:
        """Return the current switches."""
        with self._store.transaction("BEGIN") as db:
            return _switches(db)

    def switch(self, **given: Any) -> None:
        """Set some of the switches.

        Raises:
            ValueError: a switch or its value is invalid. The message names both and the choices.
        """
        for name, value in given.items():
            if name not in _VALID_SWITCHES:
                raise ValueError(
                    f"A switch must be one of {', '.join(_VALID_SWITCHES)}; got {name!r}"
                )
            is_valid, expected = _VALID_SWITCHES[name]
            if not is_valid(value):
                raise ValueError(f"Switch {name} must be {expected}; got {value!r}")
        with self._store.transaction("BEGIN IMMEDIATE") as db:
            db.executemany("REPLACE INTO switches VALUES (?, ?)", list(given.items()))

    def ledger(self) -> list[Entry]:
        """Return all received calls in the order in which they arrived."""
        with self._store.transaction("BEGIN") as db:
            rows = db.execute("SELECT * FROM ledger ORDER BY at, number").fetchall()
        entries = (Entry(*row) for row in rows)
        return [
            each._replace(done=bool(each.done), token_known=bool(each.token_known))
            for each in entries
        ]

    def clear_ledger(self) -> None:
        """Forget all received calls."""
        with self._store.transaction("BEGIN IMMEDIATE") as db:
            db.execute("DELETE FROM ledger")

    def next_fault(self, operation: str) -> Fault | None:
        """Count a received call for each fault, and return the fault to inject into it, if any."""
        with self._store.transaction("BEGIN") as db:
            [[number_of_faults]] = db.execute("SELECT count(*) FROM faults")
        if not number_of_faults:
            return None
        with self._store.transaction("BEGIN IMMEDIATE") as db:
            chosen = None
            for id, rule, matched, injected in db.execute("SELECT * FROM faults ORDER BY id"):
                fault = Fault.from_json(orjson.loads(rule))
                if fault.operation not in (None, operation):
                    continue
                applies = chosen is None and fault.applies_to(matched + 1, injected)
                chosen = fault if applies else chosen
                db.execute(
                    "UPDATE faults SET matched = matched + 1, befell = befell + ? WHERE id = ?",
                    [applies, id],
                )
        return chosen

    def set_tokens(self, tokens: Mapping[str, Collection[str]]) -> None:
        """Let only these tokens open the store. Without any, the store refuses every token.

        The mapping has the scopes of each token.

        Raises:
            ValueError: a scope is invalid. The message names the choices and the value.
        """
        self._store.set_tokens(tokens)

    def knows(self, token: str | None) -> bool:
        """Return whether the token opens the store. The call is not counted."""
        with self._store.transaction("BEGIN") as db:
            return _scopes(db, token) is not None

    def admit(self, token: str | None) -> Admission:
        """Count a call of the token, and return whether the call may pass."""
        with self._store.transaction("BEGIN") as db:
            scopes = _scopes(db, token)
            limit = _switches(db).calls_per_minute
        return Admission(scopes, self._wait_s(token, scopes is not None, limit) if limit else 0)

    def _wait_s(self, token: str | None, known: bool, limit: int) -> int:
        name = digest(token or "")
        now = time.time()
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

    def record(self, *entry: Any) -> None:
        """Write a call into the ledger. `entry` has the fields of `Entry` without the number."""
        with self._store.transaction("BEGIN IMMEDIATE") as db:
            db.execute("INSERT INTO ledger VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", entry)


def _scopes(db: sqlite3.Connection, token: str | None) -> frozenset[str] | None:
    if not token:
        return None
    row = db.execute("SELECT scopes FROM tokens WHERE digest = ?", [digest(token)]).fetchone()
    return frozenset(row[0].split()) if row else None


def _switches(db: sqlite3.Connection) -> Switches:
    given = dict(db.execute("SELECT name, value FROM switches").fetchall())
    return Switches(
        float(given.get("search_lag_s", 0)),
        bool(given.get("duplicate_emails", 0)),
        int(given.get("calls_per_minute", 0)),
        bool(given.get("send_events", 0)),
    )
