"""Sends the events of a sandbox to the webhook URL of an app, in a thread of its own.

The events of all stores go to one URL, because an app has only one. The thread sends one event
after the other, and repeats an event that was not delivered.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Iterable
from contextlib import suppress

from flask import current_app

from .events import Event, sign, url_fault
from .outbox import Outbox
from .posting import NoResponse, Posting

SENDER = "sandbox.deliveries"  # the name of the sender among the extensions of a sandbox
# Ecwid waits 15 minutes and more (D26), which is too long for a trial.
REPEAT_S = 5.0
_END_S = 5.0  # how long `close` waits for a connection that is being opened


class Deliveries:
    """The sender of events. As a context manager, it sends until the end of the block.

    Args:
        url: the webhook URL of the app.
        secret: the client secret of the app.
        repeat_s: seconds from a failure to the next attempt.

    Raises:
        ValueError: `url` is no URL of a web server.
    """

    def __init__(self, url: str, secret: str, repeat_s: float = REPEAT_S) -> None:
        if fault := url_fault(url):
            raise ValueError(f"The webhook URL {fault}")
        self._url = url
        self._secret = secret
        self._repeat_s = repeat_s
        self._noticed: queue.SimpleQueue[Outbox | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._postings: set[Posting] = set()
        self._has_ended = False
        self._thread = threading.Thread(target=self._run, name="sandbox-events", daemon=True)

    def __enter__(self) -> Deliveries:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread, and every request that is under way."""
        with self._lock:
            self._has_ended = True
            under_way = list(self._postings)
        self._noticed.put(None)
        for posting in under_way:
            posting.cut()
        self._thread.join(_END_S)

    def notice(self, outbox: Outbox) -> None:
        """Let the thread look for new events of a store. Return at once."""
        self._noticed.put(outbox)

    def send(self, outbox: Outbox, events: Iterable[Event]) -> list[int | None]:
        """Send events in this order within the thread of the caller, each once.

        Return the status of each response, or None for an event without a response.
        """
        return [self._send(outbox, event) for event in events]

    def _run(self) -> None:
        repeat_at: dict[Outbox, float] = {}  # the stores with events that were not delivered
        while (outbox := self._next(repeat_at)) is not None:
            # A store whose file is gone or busy is left alone until its next change.
            with suppress(sqlite3.Error):
                self._send_due(outbox, repeat_at)

    def _next(self, repeat_at: dict[Outbox, float]) -> Outbox | None:
        """Wait for a store with events to send, and return it. Return None at the end."""
        first = min(repeat_at, key=lambda outbox: repeat_at[outbox], default=None)
        if first is None:
            return self._noticed.get()
        try:
            return self._noticed.get(timeout=max(repeat_at[first] - time.monotonic(), 0))
        except queue.Empty:
            return first

    def _send_due(self, outbox: Outbox, repeat_at: dict[Outbox, float]) -> None:
        """Send the new events of a store, and those whose time for the next attempt has come."""
        repeats = repeat_at.get(outbox, float("inf")) <= time.monotonic()
        if repeats:
            del repeat_at[outbox]
        for sending in outbox.due():
            if self._has_ended:
                return
            if repeats or not sending.attempts:
                self._send(outbox, sending.event)
        if outbox.due():
            repeat_at.setdefault(outbox, time.monotonic() + self._repeat_s)

    def _send(self, outbox: Outbox, event: Event) -> int | None:
        posting = Posting(sign(event, self._url, self._secret))
        with self._lock:
            if self._has_ended:
                return None
            self._postings.add(posting)
        try:
            status = posting.send()
        except NoResponse:
            status = None
        finally:
            with self._lock:
                self._postings.discard(posting)
        outbox.record(event, status)
        return status


def sender() -> Deliveries | None:
    """Return the sender of the sandbox that serves the request under way, if it sends events."""
    deliveries: Deliveries | None = current_app.extensions[SENDER]
    return deliveries
