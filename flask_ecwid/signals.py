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
from collections.abc import Iterator
from contextlib import contextmanager
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
_OF_CALLS = (call_started, call_finished, call_held_back, attempt_started, attempt_finished)


def tell(signal: NamedSignal, sender: object, **facts: object) -> None:
    """Send a signal to each receiver; what one raises is logged, by its name and place."""
    if signal.is_muted:
        return
    for receiver in signal.receivers_for(sender):
        try:
            receiver(sender, **facts)
        except Exception as exc:
            name, where = type(exc).__name__, place_of(exc)
            log.error("a receiver of %s raised %s at %s", signal.name, name, where)


class Count:
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


_request: ContextVar[Count | None] = ContextVar("flask_ecwid_count", default=None)


@contextmanager
def counted(count: Count) -> Iterator[None]:
    """Let everything that is sent inside be counted there, too, if anybody wants to know."""
    if not operation_finished.receivers:
        yield
        return
    token = _request.set(count)
    try:
        yield
    finally:
        _request.reset(token)


class CallSignals:
    """The signals of one client's calls."""

    def __init__(self, client: object, store: str) -> None:
        self._client = weakref.ref(client)  # which has us: it must go when nobody else has it
        self._store = store

    def of(self, operation: str, *, reads: bool) -> CallTold:
        """For a `with` around the call."""
        if _request.get() is None and not any(signal.receivers for signal in _OF_CALLS):
            return _NOBODY
        return CallTold(self._client(), self._store, operation, reads=reads)


class Told:
    """For a `with` around what is told of. `status` is to be set when there is a reply."""

    __slots__ = ("status",)

    status: int | None

    def __enter__(self) -> Told:
        return self

    def __exit__(
        self, kind: object, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        return


class CallTold(Told):
    """A call that is told of while it is made."""

    __slots__ = ("_begun", "_client", "_count", "_operation", "_outer", "_reads", "_store")

    def __init__(self, client: object, store: str, operation: str, *, reads: bool) -> None:
        self._client = client
        self._store = store
        self._operation = operation
        self._reads = reads
        self._count = Count()
        self._outer = _request.get()
        self._begun = clock.now()
        self.status: int | None = None

    def __enter__(self) -> CallTold:
        if call_started.receivers:
            self.tell(call_started)
        return self

    def __exit__(
        self, kind: object, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if call_finished.receivers:
            self.tell(
                call_finished,
                attempts=self._count.attempts,
                lookups=self._count.lookups,
                status=self.status,
                problem=_problem(exc),
                executed=None if self._reads else _executed(exc),
                duration_s=clock.now() - self._begun,
            )

    def tell(self, signal: NamedSignal, **facts: object) -> None:
        tell(signal, self._client, operation=self._operation, store=self._store, **facts)

    def held_back(self, error: HeldBack, *, lookup: bool = False) -> None:
        """An attempt, or a lookup, is not made."""
        if call_held_back.receivers:
            self.tell(
                call_held_back,
                lookup=lookup,
                attempts=self._count.attempts,
                lookups=self._count.lookups,
                problem=error.slug,
            )

    def attempt(self, *, lookup: bool = False) -> Told:
        """For a `with` around one sending of the call, or of a lookup."""
        self._count.add(lookup=lookup)
        if self._outer is not None:
            self._outer.add(lookup=lookup)
        reads = lookup or self._reads
        return _AttemptTold(self, self._count, lookup=lookup, reads=reads)


class _AttemptTold(Told):
    """An attempt that is told of while it is made."""

    __slots__ = ("_begun", "_call", "_facts", "_reads")

    def __init__(self, call: CallTold, count: Count, *, lookup: bool, reads: bool) -> None:
        self._call = call
        self._facts = (lookup, count.attempts, count.lookups)
        self._reads = reads
        self._begun = clock.now()
        self.status: int | None = None

    def __enter__(self) -> _AttemptTold:
        if attempt_started.receivers:
            lookup, attempts, lookups = self._facts
            self._call.tell(attempt_started, lookup=lookup, attempts=attempts, lookups=lookups)
        return self

    def __exit__(
        self, kind: object, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call.status = self.status
        if attempt_finished.receivers:
            lookup, attempts, lookups = self._facts
            self._call.tell(
                attempt_finished,
                lookup=lookup,
                attempts=attempts,
                lookups=lookups,
                status=self.status,
                problem=_problem(exc),
                executed=None if self._reads else _executed(exc),
                duration_s=clock.now() - self._begun,
            )


class _Nobody(CallTold):
    """A call that nobody wants to be told of: one for all."""

    __slots__ = ()

    def __init__(self) -> None:
        pass

    def __enter__(self) -> CallTold:
        return self

    __exit__ = Told.__exit__

    def held_back(self, error: HeldBack, *, lookup: bool = False) -> None:
        pass

    def attempt(self, *, lookup: bool = False) -> Told:
        return self


_NOBODY = _Nobody()


def _problem(exc: BaseException | None) -> str | None:
    if exc is None:
        return None
    return exc.slug if isinstance(exc, EcwidError) else Defect.slug


def _executed(exc: BaseException | None) -> str:
    if exc is None:
        return "yes"
    return exc.executed if isinstance(exc, EcwidError) else "unknown"
