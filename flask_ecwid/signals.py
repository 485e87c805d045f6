"""Signals (blinker) around each request of an operation, each call and attempt, and of events.

Every signal but those of events carries `operation` and `store` (the name of the mount). The
signals of the end also carry:

    status              the HTTP status of the response or reply, or None without one
    problem             the slug of the failure, or None
    attempts            the number of attempts, not counting the reconcile attempts
    reconcile_attempts  the number of searches for the customer of a creation without a good reply
    executed            yes, no or unknown, and None for reads
    duration_s          the duration in seconds

None of them carries a body, a query or an id of a customer. The sender is the app for operations,
and the `EcwidClient` for all other signals. Each receiver runs in the thread that does the work. If
a receiver fails, the failure is logged and the work goes on.

The signals of events carry the `store_id` and the `event_id` of a webhook event. The sender is the
app. If a receiver fails, the response is a 500, and Ecwid delivers the event again. Ecwid may also
deliver an event twice, late or never, and in any order. https://docs.ecwid.com/api-reference/webhooks
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
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
operation_finished = _ours.signal("operation-finished", "The response of the request is complete.")
call_started = _ours.signal(
    "call-started",
    "A call to Ecwid begins, before its first attempt. Sender: the EcwidClient.",
)
call_finished = _ours.signal(
    "call-finished", "The last attempt or reconcile attempt of the call is over."
)
call_throttled = _ours.signal(
    "call-throttled",
    "The guard refuses an attempt, or a reconcile attempt (`reconciling`), so the plugin does not"
    " send it.",
)
attempt_started = _ours.signal(
    "attempt-started",
    "An attempt, or a reconcile attempt (`reconciling`), is about to be sent. `attempts` and"
    " `reconcile_attempts` include it.",
)
attempt_finished = _ours.signal("attempt-finished", "The attempt has a reply or has failed.")
customer_changed = _ours.signal(
    "customer-changed",
    "An event says that the customer `customer_id` was created, updated or deleted (`kind`). Nobody"
    " has signed that, so read the customer. Sender: the app.",
)
store_uninstalled = _ours.signal(
    "store-uninstalled",
    "An event says that a merchant has uninstalled the app, and Ecwid refuses the token.",
)
personal_data_requested = _ours.signal(
    "personal-data-requested",
    "An event says that the customer `customer_id` wants their data to be removed or exported"
    " (`kind` is removal or export). Nobody has signed that, so `verified` is False.",
)

SLOW_S = 3.0  # A receiver of an event that takes longer is logged. Ecwid gives up after 10 s.


def send(signal: NamedSignal, sender: object, **facts: object) -> None:
    """Send a signal to each receiver, and log the name and the place of each receiver's error."""
    if signal.is_muted:
        return
    for receiver in signal.receivers_for(sender):
        _call(receiver, signal, sender, facts)


def send_event(signal: NamedSignal, sender: object, **facts: object) -> bool:
    """Send a signal as `send` does, and log each receiver that takes more than `SLOW_S`.

    Returns:
        False if a receiver has raised an exception, so that the event has to be delivered again.
    """
    if signal.is_muted:
        return True
    has_succeeded = True
    for receiver in signal.receivers_for(sender):
        started_at = clock.now()
        has_succeeded = _call(receiver, signal, sender, facts) and has_succeeded
        duration_s = clock.now() - started_at
        if duration_s > SLOW_S:
            name = getattr(receiver, "__qualname__", type(receiver).__qualname__)
            log.warning("the receiver %s of %s took %.1f s", name, signal.name, duration_s)
    return has_succeeded


def _call(
    receiver: Callable[..., object], signal: NamedSignal, sender: object, facts: dict[str, object]
) -> bool:
    """Call a receiver, and return False after its exception was logged."""
    try:
        receiver(sender, **facts)
    except Exception as exc:
        name, where = type(exc).__name__, place_of(exc)
        log.error("a receiver of %s raised %s at %s", signal.name, name, where)
        return False
    return True


@dataclass(slots=True)
class CallCount:
    """The number of calls to Ecwid during a request, with reconcile attempts counted apart."""

    attempts: int = 0
    reconcile_attempts: int = 0


# The counts of the request under way, or None outside of a request.
call_count: ContextVar[CallCount | None] = ContextVar("flask_ecwid_call_count", default=None)


class CallSignals:
    """The sender of one store's signals."""

    def __init__(self, client: object, store: str, store_id: str) -> None:
        """Make the sender of the signals.

        Args:
            client: The client or the open stores that make the calls.
            store: The name of the mount.
            store_id: The number of the store.
        """
        self._client = weakref.ref(client)  # a plain reference would keep a dropped client alive
        self._store = store
        self._store_id = store_id

    def send(self, signal: NamedSignal, operation: str, **facts: object) -> None:
        """Send a signal about a call of this operation."""
        names = {"store": self._store, "store_id": self._store_id}
        send(signal, self._client(), operation=operation, **names, **facts)


@dataclass
class CallSpan:
    """A call under way, as a context manager that sends the signals of its start and its end."""

    signals: CallSignals
    operation: str
    reads: bool  # True if the operation changes nothing
    started_at: float  # a value of `clock.now()`
    attempts: int = 0
    reconcile_attempts: int = 0
    status: int | None = None  # the status of the last reply, set by the code that sends the call

    def __enter__(self) -> CallSpan:
        if call_started.receivers:
            self.signals.send(call_started, self.operation)
        return self

    def __exit__(
        self, kind: object, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if count := call_count.get():
            count.attempts += self.attempts
            count.reconcile_attempts += self.reconcile_attempts
        if call_finished.receivers:
            self._send(
                call_finished,
                status=self.status,
                problem=_problem(exc),
                executed=None if self.reads else _executed(exc),
                duration_s=clock.now() - self.started_at,
            )

    def send_attempt_started(self, *, reconciling: bool) -> None:
        """Send `attempt_started` for an attempt of either kind that the span has counted."""
        self._send(attempt_started, reconciling=reconciling)

    def send_attempt_finished(
        self, exc: BaseException | None, started_at: float, *, reconciling: bool
    ) -> None:
        """Send `attempt_finished` for an attempt of either kind.

        Args:
            exc: The exception of the attempt, or None after a good reply.
            started_at: The start of the attempt, as a value of `clock.now()`.
            reconciling: The attempt is a reconcile attempt.
        """
        self._send(
            attempt_finished,
            reconciling=reconciling,
            status=self.status,
            problem=_problem(exc),
            executed=None if reconciling or self.reads else _executed(exc),
            duration_s=clock.now() - started_at,
        )

    def throttled(self, error: Throttled, *, reconciling: bool = False) -> None:
        """Send `call_throttled` for an attempt of either kind that the guard refused."""
        if call_throttled.receivers:
            self._send(call_throttled, reconciling=reconciling, problem=error.slug)

    def _send(self, signal: NamedSignal, **facts: object) -> None:
        counts = {"attempts": self.attempts, "reconcile_attempts": self.reconcile_attempts}
        self.signals.send(signal, self.operation, **counts, **facts)


def _problem(exc: BaseException | None) -> str | None:
    if exc is None:
        return None
    return exc.slug if isinstance(exc, EcwidError) else Defect.slug


def _executed(exc: BaseException | None) -> str:
    if exc is None:
        return "yes"
    return exc.executed if isinstance(exc, EcwidError) else "unknown"
