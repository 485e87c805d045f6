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
from types import TracebackType

from blinker import NamedSignal, Namespace

from . import clock
from .errors import Defect, EcwidError, HeldBack, place_of

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
call_held_back = _ours.signal(
    "call-held-back",
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


class CallCount:
    """How many calls to Ecwid were made, and how many of them looked for a lost creation."""

    __slots__ = ("attempts", "lookups")

    def __init__(self) -> None:
        self.attempts = 0
        self.lookups = 0

    def add(self, *, lookup: bool) -> None:
        if lookup:
            self.lookups += 1
        else:
            self.attempts += 1


_request: ContextVar[CallCount | None] = ContextVar("flask_ecwid_count", default=None)


def count_calls_in(count: CallCount | None) -> None:
    """Let every call from here on in this context be counted there, too."""
    _request.set(count)


class CallSignals:
    """The signals of one client's calls."""

    def __init__(self, client: object, store: str) -> None:
        self._client = weakref.ref(client)  # a plain reference would keep a dropped client alive
        self._store = store

    def span(self, operation: str, *, reads: bool) -> CallSpan:
        """Return a span for a `with` around the call."""
        return CallSpan(self._client(), self._store, operation, reads=reads)


class CallSpan:
    """A call while it is made. `status` is to be set when there is a reply."""

    def __init__(self, client: object, store: str, operation: str, *, reads: bool) -> None:
        self.status: int | None = None
        self._client = client
        self._facts = {"operation": operation, "store": store}
        self._reads = reads
        self._count = CallCount()
        self._started_at = clock.now()

    def __enter__(self) -> CallSpan:
        if call_started.receivers:
            self._send(call_started)
        return self

    def __exit__(
        self, kind: object, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if call_finished.receivers:
            self._send(
                call_finished,
                attempts=self._count.attempts,
                lookups=self._count.lookups,
                status=self.status,
                problem=_problem(exc),
                executed=None if self._reads else _executed(exc),
                duration_s=clock.now() - self._started_at,
            )

    def held_back(self, error: HeldBack, *, lookup: bool = False) -> None:
        """Send `call_held_back` for an attempt, or a lookup, that is not made."""
        if call_held_back.receivers:
            self._send(
                call_held_back,
                lookup=lookup,
                attempts=self._count.attempts,
                lookups=self._count.lookups,
                problem=error.slug,
            )

    def attempt(self, *, lookup: bool = False) -> AttemptSpan:
        """Return a span for a `with` around one attempt of the call, or around a lookup."""
        self._count.add(lookup=lookup)
        if outer := _request.get():
            outer.add(lookup=lookup)
        return AttemptSpan(self, lookup, self._count.attempts, self._count.lookups)

    def _send(self, signal: NamedSignal, **facts: object) -> None:
        send(signal, self._client, **self._facts, **facts)


class AttemptSpan:
    """An attempt, or a lookup, while it is made. `status` is to be set when there is a reply."""

    def __init__(self, call: CallSpan, lookup: bool, attempts: int, lookups: int) -> None:
        self.status: int | None = None
        self._call = call
        self._facts = {"lookup": lookup, "attempts": attempts, "lookups": lookups}
        self._started_at = clock.now()

    def __enter__(self) -> AttemptSpan:
        if attempt_started.receivers:
            self._call._send(attempt_started, **self._facts)
        return self

    def __exit__(
        self, kind: object, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call.status = self.status
        if attempt_finished.receivers:
            reads = self._facts["lookup"] or self._call._reads
            self._call._send(
                attempt_finished,
                **self._facts,
                status=self.status,
                problem=_problem(exc),
                executed=None if reads else _executed(exc),
                duration_s=clock.now() - self._started_at,
            )


def _problem(exc: BaseException | None) -> str | None:
    if exc is None:
        return None
    return exc.slug if isinstance(exc, EcwidError) else Defect.slug


def _executed(exc: BaseException | None) -> str:
    if exc is None:
        return "yes"
    return exc.executed if isinstance(exc, EcwidError) else "unknown"
