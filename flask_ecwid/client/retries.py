"""Sends a call, and repeats it where that is safe.

The promise to the caller: before the deadline they learn whether the call had an effect, cannot
have had one, or may have had one. No customer is created twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

import orjson

from .. import chance, clock
from ..errors import (
    CustomerNotFound,
    EcwidError,
    EcwidUnavailable,
    EmailTaken,
    OutcomeUnknown,
    RateLimited,
    Throttled,
)
from ..signals import CallSignals, CallSpan, attempt_finished, attempt_started
from ..throttling.guard import Guard, Permit
from .calls import Call
from .reconcile import WAITS_S, clock_ahead, find_created, lookup_call
from .replies import Reply, read_reply
from .transport import Transport

log = logging.getLogger("flask_ecwid")

BACKOFF_S = 0.25  # at most, before the first repetition, and doubled with each
BACKOFF_MOST_S = 4.0

Value = dict[str, Any]


class Found(NamedTuple):
    """What Ecwid's search shows of a creation whose outcome is not known."""

    answered: bool  # whether the search was answered at all
    reply: Reply | None  # that the creation would have had, if its customer is there


class RetryingSender:
    """Sends the calls of one store. Safe to share between threads."""

    def __init__(self, transport: Transport, guard: Guard, signals: CallSignals) -> None:
        self._transport = transport
        self._guard = guard
        self._signals = signals

    def send(
        self, call: Call, deadline: float, *, first_attempt_at: float | None = None
    ) -> tuple[Reply, Value]:
        """Return a good reply and its value.

        Args:
            call: The call.
            deadline: When the call must have ended, of `clock.now()`.
            first_attempt_at: When an earlier attempt of the same creation began, in UNIX seconds,
                if its outcome is not known.

        Raises:
            EcwidError: There is no good reply. `executed` says whether the call may have had an
                effect.
        """
        operation = call.operation
        reads = operation.kind == "read"
        with CallSpan(self._signals, operation.name, reads, clock.now()) as span:
            reply, value = self._send(call, deadline, first_attempt_at, span)
            span.status = reply.status
            return reply, value

    def _send(
        self, call: Call, deadline: float, first_attempt_at: float | None, span: CallSpan
    ) -> tuple[Reply, Value]:
        # The deadline is checked on both clocks. The monotonic clock stops during suspend, and the
        # wall clock can be changed.
        started_at = clock.wall()
        ends_at = started_at + deadline - clock.now()
        may_have_executed = first_attempt_at is not None
        if first_attempt_at is not None:
            started_at = first_attempt_at
            found = self._search(call, started_at, deadline, self._guard.acquire, span)
            if found.reply:
                return found.reply, read_reply(call, found.reply)
            if not found.answered:
                raise OutcomeUnknown
        previous: EcwidError | None = None
        for attempt in count(1):
            try:
                permit = self._acquire(call, deadline, ends_at)
            except Throttled as exc:
                span.throttled(exc)
                raise _outcome(call, previous or exc, may_have_executed) from None
            error: EcwidError
            try:
                reply, value = self._attempt(call, deadline, span)
            except EcwidError as exc:
                error = exc
            else:
                self._guard.record_success(permit, first=attempt == 1)
                return reply, value
            self._guard.record_failure(permit, error)
            if first_attempt_at is not None and isinstance(error, EmailTaken):
                # Most likely the customer of the earlier attempt has the e-mail.
                error = OutcomeUnknown().changed(needs_reconciliation=True)
            known = self._inferred(call, error, started_at, deadline, span, may_have_executed)
            if known:
                return known, read_reply(call, known)
            log.warning("call failed operation=%s %s", call.operation.name, _described(error))
            if not self._may_repeat(call, error, attempt) or not _wait(error, attempt, deadline):
                raise _outcome(call, error, may_have_executed)
            previous = error
            may_have_executed = may_have_executed or error.executed == "unknown"
        raise AssertionError

    def _attempt(
        self, call: Call, deadline: float, span: CallSpan, *, lookup: bool = False
    ) -> tuple[Reply, Value]:
        """Send a call once and read its reply, between two signals.

        Raises:
            EcwidError: There is no good reply.
        """
        span.attempts += not lookup
        span.lookups += lookup
        span.status = None
        started_at = clock.now()
        failure: BaseException | None = None
        if attempt_started.receivers:
            span.send_attempt_started(lookup=lookup)
        try:
            reply = self._transport.send(call, deadline)
            span.status = reply.status
            return reply, read_reply(call, reply)
        except BaseException as exc:
            failure = exc
            raise
        finally:
            if attempt_finished.receivers:
                span.send_attempt_finished(failure, started_at, lookup=lookup)

    def _acquire(self, call: Call, deadline: float, ends_at: float) -> Permit:
        """Return the permit of a call whose time is not over.

        The time is checked after the guard, because its checks may take long where Redis or the
        state file is slow. Ecwid is not to blame for a call that is then not sent. A change is
        never sent late on either clock, because its caller has gone and may have sent it elsewhere.

        Raises:
            Throttled: The call must not be made, or its time is over.
        """
        permit = self._guard.acquire()
        is_late = call.operation.kind != "read" and clock.wall() >= ends_at
        if is_late or clock.now() >= deadline:
            self._guard.release(permit)
            raise Throttled(1, "No time was left for the call.")
        return permit

    def _inferred(
        self,
        call: Call,
        error: EcwidError,
        started_at: float,
        deadline: float,
        span: CallSpan,
        may_have_executed: bool,
    ) -> Reply | None:
        """Return the reply that Ecwid would have sent, if it can be inferred.

        For example, a 404 on a repeated delete means that the first attempt deleted the customer.
        """
        if call.operation.kind == "create" and error.needs_reconciliation:
            # The search ignores a pause that this very failure may have begun, because it is the
            # end of one creation.
            return self._search(
                call, started_at, deadline, self._guard.acquire_for_search, span
            ).reply
        gone = isinstance(error, CustomerNotFound) and error.by_ecwid
        if gone and may_have_executed and call.operation.reply_if_gone is not None:
            return Reply(200, {}, call.operation.reply_if_gone)
        return None

    def _search(
        self,
        call: Call,
        started_at: float,
        deadline: float,
        acquire: Callable[[], Permit],
        span: CallSpan,
    ) -> Found:
        """Search for the customer of a creation that began at `started_at`, in UNIX seconds.

        Raises:
            EmailTaken: A customer with the e-mail is older, or another.
        """
        sent = orjson.loads(call.body or b"{}")
        answered = False
        taken: EmailTaken | None = None
        for wait_s in WAITS_S:
            if clock.now() + wait_s >= deadline or not clock.sleep(wait_s):
                break
            try:
                permit = acquire()
            except Throttled as exc:
                span.throttled(exc, lookup=True)
                break
            if clock.now() >= deadline:
                self._guard.release(permit)
                break
            try:
                page, ahead_s = self._look_up(permit, str(sent.get("email", "")), deadline, span)
            except EcwidError:
                continue
            answered = True
            try:
                created = find_created(sent, page, started_at + ahead_s)
            except EmailTaken as exc:
                taken = exc  # unless ours shows beside it later, because some stores allow two
                continue
            if created is not None:
                return Found(True, Reply(200, {}, b'{"id":%d}' % created))
        if taken:
            # The customer that was found is not ours, but ours may show beside it later.
            raise taken.changed(executed="unknown")
        return Found(answered, None)

    def _look_up(
        self, permit: Permit, email: str, deadline: float, span: CallSpan
    ) -> tuple[Value, float]:
        """Return the page of the e-mail, and by how many seconds Ecwid's clock is ahead."""
        asked_at = clock.wall()
        call = lookup_call(email)
        error: EcwidError
        try:
            reply, page = self._attempt(call, deadline, span, lookup=True)
        except EcwidError as exc:
            error = exc
        else:
            self._guard.record_success(permit, first=False)
            return page, clock_ahead(reply, asked_at, clock.wall())
        self._guard.record_failure(permit, error)
        raise error

    def _may_repeat(self, call: Call, error: EcwidError, attempts: int) -> bool:
        """Return whether the error allows one more attempt, and the retry budget has it."""
        allowed = {
            "read": error.retries.reads,
            "change": error.retries.changes,
            "create": error.retries.creations,
        }[call.operation.kind]
        return attempts <= allowed and self._guard.may_repeat(error)


def _wait(error: EcwidError, attempts: int, deadline: float) -> bool:
    """Wait as long as Ecwid asks, or a random time. Return False if the deadline forbids it."""
    if isinstance(error, RateLimited):
        wait_s = float(error.retry_after_s or 0)
    else:
        wait_s = chance.uniform(0, min(BACKOFF_MOST_S, BACKOFF_S * 2 ** (attempts - 1)))
    return clock.now() + wait_s < deadline and clock.sleep(wait_s)


def _described(error: EcwidError) -> str:
    """Return the error's kind and the places that do not fit, and nothing of a customer."""
    places = " ".join(f"{violation.pointer}:{violation.keyword}" for violation in error.errors)
    return f"{error.slug} places={places}" if places else error.slug


def _outcome(call: Call, error: EcwidError, may_have_executed: bool) -> EcwidError:
    """Return the error as the caller learns of it."""
    if call.operation.kind == "create" and error.needs_reconciliation:
        return error if isinstance(error, EcwidUnavailable) else OutcomeUnknown()
    return error.changed(executed="unknown") if may_have_executed else error
