"""Signals (blinker) around each request of an operation, each call to Ecwid, each of its attempts.

All carry `operation` and `store` (the mount's name). What is over also carries `status` (of the
HTTP answer or reply; None if there was none), `problem` (the failure's slug, or None), `attempts`
and `lookups` (calls that were made to Ecwid: the call itself, and those that look for a lost
creation), `executed` (`yes`, `no`, `unknown`; None for reads) and `duration_s`. Nothing of a
customer: no body, no query, no id.

The sender is the app for operations, and the `EcwidClient` for the rest. A receiver is called in
the thread that does the work; when one fails it is logged, and what is done is done.
"""

from __future__ import annotations

import logging
import weakref
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType

from blinker import NamedSignal, Namespace

from . import clock
from .errors import Defect, EcwidError, Throttled, place_of

log = logging.getLogger("flask_ecwid")

_ours = Namespace()

operation_started = _ours.signal(
    "operation-started", "A request of an operation begins. Sender: the app."
)
operation_finished = _ours.signal("operation-finished", "It has been answered.")
call_started = _ours.signal(
    "call-started",
    "A call to Ecwid begins, with all its attempts and lookups. Sender: the EcwidClient.",
)
call_finished = _ours.signal("call-finished", "Its outcome is known, or will not be.")
call_throttled = _ours.signal(
    "call-throttled",
    "The guard lets an attempt, or a lookup (`lookup`), of a call not through: it is not made.",
)
attempt_started = _ours.signal(
    "attempt-started",
    "An attempt of a call is about to be sent; `lookup`: one that looks for a lost creation. "
    "`attempts` and `lookups` count it already.",
)
attempt_finished = _ours.signal("attempt-finished", "It has a reply, or has none.")


def send(signal: NamedSignal, sender: object, **facts: object) -> None:
    """Send a signal to each receiver; what one raises is logged, by its name and place."""
    if signal.is_muted:
        return
    for receiver in signal.receivers_for(sender):
        try:
            receiver(sender, **facts)
        except Exception as exc:
            name, where = type(exc).__name__, place_of(exc)
            log.error("a receiver of %s raised %s at %s", signal.name, name, where)


@dataclass(slots=True)
class CallCount:
    """How many calls to Ecwid were made, and how many of them were lookups."""

    attempts: int = 0
    lookups: int = 0


# Where the calls of the request under way are counted, if there is one.
call_count: ContextVar[CallCount | None] = ContextVar("flask_ecwid_call_count", default=None)


class CallSignals:
    """The sender of one client's signals."""

    def __init__(self, client: object, store: str) -> None:
        self._client = weakref.ref(client)  # a plain reference would keep a dropped client alive
        self._store = store

    def send(self, signal: NamedSignal, operation: str, **facts: object) -> None:
        """Send a signal of a call of this operation."""
        send(signal, self._client(), operation=operation, store=self._store, **facts)


@dataclass
class CallSpan:
    """A call while it is made, for a `with`. `status` is to be set when there is a reply."""

    signals: CallSignals
    operation: str
    reads: bool
    started_at: float  # of `clock.now()`
    attempts: int = 0
    lookups: int = 0
    status: int | None = None

    def __enter__(self) -> CallSpan:
        if call_started.receivers:
            self.signals.send(call_started, self.operation)
        return self

    def __exit__(
        self, kind: object, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if count := call_count.get():
            count.attempts += self.attempts
            count.lookups += self.lookups
        if call_finished.receivers:
            self._send(
                call_finished,
                status=self.status,
                problem=_problem(exc),
                executed=None if self.reads else _executed(exc),
                duration_s=clock.now() - self.started_at,
            )

    def send_attempt_started(self, *, lookup: bool) -> None:
        """Send `attempt_started` for an attempt, or a lookup, that is counted already."""
        self._send(attempt_started, lookup=lookup)

    def send_attempt_finished(
        self, exc: BaseException | None, started_at: float, *, lookup: bool
    ) -> None:
        """Send `attempt_finished` for an attempt, or a lookup, with what it raised, if anything."""
        self._send(
            attempt_finished,
            lookup=lookup,
            status=self.status,
            problem=_problem(exc),
            executed=None if lookup or self.reads else _executed(exc),
            duration_s=clock.now() - started_at,
        )

    def throttled(self, error: Throttled, *, lookup: bool = False) -> None:
        """Send `call_throttled` for an attempt, or a lookup, that is not made."""
        if call_throttled.receivers:
            self._send(call_throttled, lookup=lookup, problem=error.slug)

    def _send(self, signal: NamedSignal, **facts: object) -> None:
        counts = {"attempts": self.attempts, "lookups": self.lookups}
        self.signals.send(signal, self.operation, **counts, **facts)


def _problem(exc: BaseException | None) -> str | None:
    if exc is None:
        return None
    return exc.slug if isinstance(exc, EcwidError) else Defect.slug


def _executed(exc: BaseException | None) -> str:
    if exc is None:
        return "yes"
    return exc.executed if isinstance(exc, EcwidError) else "unknown"
