"""The events of a store, in the SQLite file of the store.

A change and its event are one transaction. So each change that happened has an event, although its
reply was lost, and the events have the order of the changes.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from .events import Event, is_delivered, new_event

if TYPE_CHECKING:
    from .store import Store

REPEATS = 27  # in 24 hours, at growing intervals (D26)

TABLE = """CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT UNIQUE NOT NULL,
    created INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    entity_id NOT NULL,
    data TEXT NOT NULL,
    automatic INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    status INTEGER,
    delivered INTEGER NOT NULL DEFAULT 0
)"""
_EVENT = "event_id, created, event_type, entity_id, data"


class Sending(NamedTuple):
    """An event, and what became of it.

    Args:
        event: the event.
        attempts: the number of requests that carried the event.
        status: the status of the last response, or None if there was none.
        delivered: whether any response had a status that counts as delivered.
    """

    event: Event
    attempts: int
    status: int | None
    delivered: bool


def insert(db: sqlite3.Connection, event: Event) -> None:
    """Add an event. The switch `send_events` decides whether a sandbox sends it by itself."""
    db.execute(
        f"INSERT INTO events ({_EVENT}, automatic) VALUES (?, ?, ?, ?, ?,"
        " coalesce((SELECT value FROM switches WHERE name = 'send_events'), 0))",
        [
            event.event_id,
            event.created,
            event.event_type,
            event.entity_id,
            orjson.dumps(event.data).decode(),
        ],
    )


def insert_change(db: sqlite3.Connection, event_type: str, customer_id: int, email: str) -> None:
    """Add the event of a change within the transaction of the change."""
    event_id, created = str(uuid.uuid4()), int(time.time())
    # The table has no store id, because the file is that of one store.
    insert(db, Event(event_id, created, "", event_type, customer_id, {"customerEmail": email}))


class Outbox:
    """The events of one store.

    Raises:
        sqlite3.Error: as `Store`. Each method can raise this error.
    """

    def __init__(self, store_id: str, store: Store) -> None:
        self._store_id = store_id
        self._store = store

    def add(
        self,
        event_type: str,
        entity_id: int | None = None,
        data: Mapping[str, Any] | None = None,
        age_s: int = 0,
    ) -> Event:
        """Add an event without a change, and return it. The arguments are those of `new_event`.

        Args:
            event_type: any type.
            entity_id: the id of a customer, whom the store need not have.
            data: further members.
            age_s: how many seconds ago the event was created.

        Raises:
            ValueError: an argument is invalid.
        """
        if type(age_s) is not int:
            raise ValueError(f"The age of an event must be whole seconds; got {age_s!r}")
        if data is not None and not isinstance(data, Mapping):
            raise ValueError(f"The data of an event must be an object; got {data!r}")
        members = None if data is None else dict(data)
        created = int(time.time()) - age_s
        event = new_event(
            str(uuid.uuid4()), created, self._store_id, event_type, entity_id, members
        )
        with self._store.transaction("BEGIN IMMEDIATE") as db:
            insert(db, event)
        return event

    def sendings(self) -> list[Sending]:
        """Return all events in the order in which they were added."""
        return self._read("")

    def undelivered(self) -> list[Event]:
        """Return the events that no app has accepted, in order."""
        return [each.event for each in self._read("WHERE NOT delivered")]

    def due(self) -> list[Sending]:
        """Return the events that a sandbox sends by itself, and that no app has accepted."""
        return self._read(f"WHERE automatic AND NOT delivered AND attempts <= {REPEATS}")

    def record(self, event: Event, status: int | None) -> None:
        """Record an attempt to deliver an event. The status is None without a response."""
        with self._store.transaction("BEGIN IMMEDIATE") as db:
            db.execute(
                "UPDATE events SET attempts = attempts + 1, status = ?,"
                " delivered = delivered OR ? WHERE event_id = ?",
                [status, is_delivered(status), event.event_id],
            )

    def clear(self) -> None:
        """Forget all events."""
        with self._store.transaction("BEGIN IMMEDIATE") as db:
            db.execute("DELETE FROM events")

    def _read(self, where: str) -> list[Sending]:
        columns = f"{_EVENT}, attempts, status, delivered"
        with self._store.transaction("BEGIN") as db:
            rows = db.execute(f"SELECT {columns} FROM events {where} ORDER BY number").fetchall()
        return [
            Sending(
                Event(event_id, created, self._store_id, event_type, entity, orjson.loads(data)),
                attempts,
                status,
                bool(delivered),
            )
            for event_id, created, event_type, entity, data, attempts, status, delivered in rows
        ]
