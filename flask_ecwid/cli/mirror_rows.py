"""The rows that changes write into the tables of a copy. Pure, without a database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

import orjson

from ..client import Change, CustomerDeleted, CustomerUpdated, dates
from ..errors import Violation

NO_ID = 0  # Stands for a customer whose id Ecwid does not show.
_MOST_ID = 2**63 - 1
_MOST_EMAIL = 320  # PostgreSQL refuses to index a long text, and no e-mail is longer.
EMPTY_ROW = {"email": None, "updated": None, "document": None, "deleted_at": None}


class Written(NamedTuple):
    """The rows to write for some changes. The gaps of all `ids` are deleted before."""

    ids: list[int]
    rows: list[dict[str, Any]]
    gaps: list[dict[str, Any]]


def fold(store_id: str, changes: Sequence[Change]) -> Written:
    """Return what the changes write. The last change of each customer counts."""
    rows: dict[int, dict[str, Any]] = {}
    gaps: dict[int, dict[str, Any]] = {}
    ids: dict[int, None] = {}
    for change in changes:
        id = change.customer_id
        if id is None or id > _MOST_ID:
            id = NO_ID
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
            rows[id] = {**EMPTY_ROW, **key, **row}
    return Written(list(ids), list(rows.values()), list(gaps.values()))


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
