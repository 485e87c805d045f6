"""Send a call, and repeat a failed call where that is safe.

The caller learns before the deadline whether the call had an effect, had none, or may have had one.
No customer is created twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

import orjson

from .. import chance, clock
from ..errors import (
    ContractBroken,
    CustomerNotFound,
    DeadlineExceeded,
    EcwidError,
    EcwidUnavailable,
    EmailTaken,
    OutcomeUnknown,
    RateLimited,
    ServiceRefused,
    Throttled,
    TooLate,
)
from ..settings import StoreCredentials
from ..signals import CallSignals, CallSpan, attempt_finished, attempt_started
from ..storage.work import current_work, in_piece_of_work
from ..throttling.guard import Guard, Permit
from .calls import Call, neutral_call
from .reconcile import WAITS_S, ecwid_time, find_created, search_call
from .replies import BRIEF_S, Reply, parse_reply, read_reply
from .transport import Transport

log = logging.getLogger("flask_ecwid")

BACKOFF_S = 0.25  # The longest wait before the first repetition, doubled for each further one.
BACKOFF_MOST_S = 4.0
# The longest time between the count of a call and its sending. Otherwise calls that were counted
# earlier could arrive together, and exceed the limit of a minute.
COUNTED_MOST_S = 1.0

Value = dict[str, Any]


# A reply of 8 MiB can take 200 MB while it is checked. Without the slots, the threads of a process
# could together take all of the memory.
_LARGE_REPLY_BYTES = 1024 * 1024
_large_replies = clock.Slots(2)


def read_in_turn(
    call: Call,
    reply: Reply,
    deadline: float,
    read: Callable[[Call, Reply], Value] = read_reply,
) -> Value:
    """Return the value of a reply, while few other threads of the process read a large reply.

    Raises:
        DeadlineExceeded: Other threads read large replies until the deadline.
        EcwidError: The reply is not good.
    """
    if len(reply.body) <= _LARGE_REPLY_BYTES:
        return read(call, reply)
    try:
        with _large_replies.take(deadline - clock.now()):
            return read(call, reply)
    except TimeoutError:
        pass
    raise DeadlineExceeded


class Found(NamedTuple):
    """The result of a search for the customer of a creation."""

    searched: bool  # The last search had a good reply, and the process did not begin to end.
    reply: Reply | None  # The reply to the creation, inferred from the customer that was found.


class RetryingSender:
    """Sends the calls of one store. Threads share a sender."""

    def __init__(
        self,
        transport: Transport,
        credentials: StoreCredentials,
        guard: Guard,
        signals: CallSignals,
    ) -> None:
        self._transport = transport
        self._credentials = credentials
        self._guard = guard
        self._signals = signals

    @property
    def is_proven(self) -> bool:
        """True if Ecwid has accepted the token, or if the token needs no proof."""
        return self._guard.is_proven

    def prove(self, deadline: float) -> None:
        """Ask the neutral question first, if Ecwid has not accepted the token yet.

        Args:
            deadline: The moment of `clock.now()` at which the question must have ended.

        Raises:
            EcwidError: Ecwid has not accepted the token, and nothing has executed.
        """
        if self.is_proven:
            return
        try:
            self.send(neutral_call(), deadline)
        except EcwidError:
            # For example, the token may lack the Ecwid scope of the question.
            if not self.is_proven:
                raise

    @in_piece_of_work
    def send(
        self, call: Call, deadline: float, *, first_attempt_at: clock.Moment | None = None
    ) -> tuple[Reply, Value]:
        """Return a good reply and its value.

        Args:
            call: The call.
            deadline: The moment of `clock.now()` at which the call must have ended.
            first_attempt_at: When an earlier attempt of the same creation began, if its outcome is
                not known.

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
        self, call: Call, deadline: float, first_attempt_at: clock.Moment | None, span: CallSpan
    ) -> tuple[Reply, Value]:
        since = first_attempt_at or clock.Moment.seconds_ago()
        may_have_executed = first_attempt_at is not None
        if first_attempt_at is not None:
            found = self._search(call, since, deadline, span)
            if found.reply:
                return found.reply, read_reply(call, found.reply)
            if not found.searched:
                raise OutcomeUnknown
        previous: EcwidError | None = None
        for attempt in count(1):
            try:
                permit = self._acquire(call, deadline, previous)
            except Throttled as exc:
                span.throttled(exc)
                raise _outcome(call, previous or exc, may_have_executed) from None
            error: EcwidError
            try:
                reply, value = self._attempt(call, deadline, permit, span)
            except EcwidError as exc:
                error = exc
            else:
                self._guard.record_success(permit, first=attempt == 1)
                return reply, value
            self._guard.record_failure(permit, error)
            if first_attempt_at is not None and isinstance(error, EmailTaken):
                # The customer of the earlier attempt may have the e-mail, so the refusal does not
                # prove that the earlier attempt failed.
                error = OutcomeUnknown().changed(needs_reconciliation=True)
            known = self._inferred(call, error, since, deadline, span, may_have_executed)
            if known:
                return known, read_reply(call, known)
            self._log_failure(f"call failed operation={call.operation.name}", error)
            if not self._may_repeat(call, error, attempt) or not _wait(error, attempt, deadline):
                raise _outcome(call, error, may_have_executed)
            previous = error
            may_have_executed = may_have_executed or error.executed == "unknown"
        raise AssertionError

    def _attempt(
        self,
        call: Call,
        deadline: float,
        permit: Permit,
        span: CallSpan,
        *,
        read: Callable[[Call, Reply], Value] = read_reply,
        reconciling: bool = False,
    ) -> tuple[Reply, Value]:
        """Send a call once and read its reply, between two signals.

        Args:
            call: The call.
            deadline: The moment of `clock.now()` at which the call must have ended.
            permit: The permit, which says when the rate limit counted the call.
            span: Counts the attempts, and sends the signals.
            read: Reads the reply. `parse_reply` does without the check against the contract.
            reconciling: The call is a search for the customer of a creation.

        Raises:
            TooLate: The deadline has passed, or the call was counted too long ago.
            EcwidError: There is no good reply.
        """
        span.attempts += not reconciling
        span.reconcile_attempts += reconciling
        span.status = None
        started_at = clock.now()
        failure: BaseException | None = None

        def check() -> None:
            if permit.counted_at.elapsed_s() > COUNTED_MOST_S or _left_s(call, deadline) <= 0:
                raise TooLate

        if attempt_started.receivers:
            span.send_attempt_started(reconciling=reconciling)
        try:
            reply = self._transport.send(call, self._credentials, deadline, check)
            span.status = reply.status
            return reply, read_in_turn(call, reply, deadline, read)
        except BaseException as exc:
            failure = exc
            raise
        finally:
            if attempt_finished.receivers:
                span.send_attempt_finished(failure, started_at, reconciling=reconciling)

    def _acquire(self, call: Call, deadline: float, previous: EcwidError | None) -> Permit:
        """Return the permit of a call whose deadline has not passed.

        The deadline is checked after the guard, because a slow Redis or a slow file can delay the
        guard. The error is then `Throttled`, because Ecwid has not failed.

        Args:
            call: The call.
            deadline: The moment of `clock.now()` at which the call must have ended.
            previous: The failure of the previous attempt. After a brief 429, the call waits once
                more while the 429 of another call prolongs the pause.

        Raises:
            Throttled: The guard refuses the call, or the deadline has passed.
        """
        patience_s = BRIEF_S if isinstance(previous, RateLimited) else 0
        permit = self._permit(deadline, clock.now() + patience_s)
        if _left_s(call, deadline) <= 0:
            self._guard.release(permit)
            raise Throttled(1, "No time was left for the call.")
        return permit

    def _permit(self, deadline: float, patient_until: float = 0.0) -> Permit:
        """Return a permit of the guard, after the neutral question if the guard is in doubt.

        Args:
            deadline: The moment of `clock.now()` at which the call must have ended.
            patient_until: The moment of `clock.now()` until which the call begins to wait for a
                brief pause, instead of being refused.

        Raises:
            Throttled: The guard refuses the call.
        """
        while True:
            try:
                permit = self._guard.acquire(deadline)
                if permit.is_probe:
                    self._ask_neutral(permit, deadline)
                    permit = self._guard.acquire(deadline)
            except Throttled as exc:
                now = clock.now()
                if exc.wait_s > BRIEF_S or now >= min(patient_until, deadline - exc.wait_s):
                    raise
                if not clock.sleep(exc.wait_s):
                    raise
                continue
            if permit.is_probe:
                self._guard.release(permit)
                raise Throttled(1, "Several calls have failed, and the reason is not known yet.")
            return permit

    @in_piece_of_work
    def ask_neutral(self, deadline: float) -> None:
        """Ask the neutral question in one attempt, also while a refused token pauses.

        Args:
            deadline: The moment of `clock.now()` at which the question must have ended.

        Raises:
            Throttled: The guard refuses the call.
            EcwidError: The question has failed.
        """
        try:
            permit = self._guard.acquire(deadline)
        except Throttled as exc:
            if exc.reason != "token":
                raise
            permit = self._guard.acquire_despite_refusal()
        if error := self._ask_neutral(permit, deadline):
            raise error

    def _ask_neutral(self, permit: Permit, deadline: float) -> EcwidError | None:
        """Ask the neutral question, so that the guard learns whether Ecwid fails every question.

        The signals and the log show the question as a call of its own.

        Returns:
            The failure of the question, or None.
        """
        if clock.now() >= deadline:
            self._guard.release(permit)
            return TooLate()
        call = neutral_call()
        try:
            with CallSpan(self._signals, call.operation.name, True, clock.now()) as span:
                self._attempt(call, deadline, permit, span, read=parse_reply)
        except ContractBroken:
            pass  # Ecwid has replied.
        except EcwidError as exc:
            self._guard.record_failure(permit, exc)
            self._log_failure("neutral question failed", exc)
            return exc
        self._guard.record_success(permit, first=False)
        return None

    def _inferred(
        self,
        call: Call,
        error: EcwidError,
        since: clock.Moment,
        deadline: float,
        span: CallSpan,
        may_have_executed: bool,
    ) -> Reply | None:
        """Return the reply that Ecwid would have sent, if it can be inferred.

        For example, a 404 on a repeated delete means that the first attempt deleted the customer.
        """
        if call.operation.kind == "create" and error.needs_reconciliation:
            # The search ignores a pause that this failure may have begun. Otherwise the pause would
            # hide the outcome of the creation.
            return self._search(call, since, deadline, span, ignores_pause=True).reply
        gone = isinstance(error, CustomerNotFound) and error.by_ecwid
        if gone and may_have_executed and call.operation.reply_if_gone is not None:
            return Reply(200, {}, call.operation.reply_if_gone)
        return None

    def _search(
        self,
        call: Call,
        since: clock.Moment,
        deadline: float,
        span: CallSpan,
        *,
        ignores_pause: bool = False,
    ) -> Found:
        """Search for the customer of a creation whose outcome is not known.

        Args:
            call: The creation.
            since: When the creation began.
            deadline: The moment of `clock.now()` at which the search must have ended.
            span: Counts the searches.
            ignores_pause: True if breaker and pause do not hold the search back.

        Raises:
            EmailTaken: Customers with the e-mail exist, but the creation has not created them.
        """
        sent = orjson.loads(call.body or b"{}")
        searched = False
        taken: EmailTaken | None = None
        for wait_s in WAITS_S:
            if clock.now() + wait_s >= deadline:
                break
            if not clock.sleep(wait_s):
                # Ecwid may show the customer of an earlier attempt only in a later search. Without
                # this, a process that is about to end could create a second customer.
                searched = False
                break
            try:
                permit = (
                    self._guard.acquire_for_search() if ignores_pause else self._permit(deadline)
                )
            except Throttled as exc:
                span.throttled(exc, reconciling=True)
                searched = False
                break
            if clock.now() >= deadline:
                self._guard.release(permit)
                break
            try:
                email = str(sent.get("email", ""))
                reply, page = self._search_once(permit, email, deadline, span)
            except EcwidError as exc:
                # Ecwid shows some new customers late, so the last search has to succeed.
                searched = False
                if isinstance(exc, ServiceRefused):
                    break  # Ecwid would refuse the next search as well.
                continue
            searched = True
            started_at = ecwid_time(reply, clock.wall()) - since.elapsed_s()
            try:
                created = find_created(sent, page, started_at)
            except EmailTaken as exc:
                taken = exc  # A later search may still show the new customer beside the other.
                continue
            if created is not None:
                return Found(True, Reply(200, {}, b'{"id":%d}' % created))
        if taken:
            # Ecwid's search may still show the new customer later, because some stores allow two
            # customers with one e-mail. So the creation may have happened.
            raise taken.changed(executed="unknown")
        return Found(searched, None)

    def _search_once(
        self,
        permit: Permit,
        email: str,
        deadline: float,
        span: CallSpan,
    ) -> tuple[Reply, Value]:
        """Search once, and return the reply and its page."""
        call = search_call(email)
        error: EcwidError
        try:
            # A search needs no customer that fits the contract, because it compares what it finds.
            found = self._attempt(call, deadline, permit, span, read=parse_reply, reconciling=True)
        except EcwidError as exc:
            error = exc
        else:
            self._guard.record_success(permit, first=False)
            return found
        self._guard.record_failure(permit, error)
        raise error

    def _log_failure(self, what: str, error: EcwidError) -> None:
        log.warning("%s store_id=%s %s", what, self._credentials.store_id, error.described)

    def _may_repeat(self, call: Call, error: EcwidError, attempts: int) -> bool:
        """Return whether the error and the retry budget both allow one more attempt."""
        allowed = {
            "read": error.retries.reads,
            "change": error.retries.changes,
            "create": error.retries.creations,
        }[call.operation.kind]
        return attempts <= allowed and self._guard.may_repeat(error)


def _left_s(call: Call, deadline: float) -> float:
    """Return the seconds until the deadline, for a change on the clock that shows fewer.

    A change is never sent late on either clock, because its caller may have given up and sent the
    change elsewhere.
    """
    left_s = deadline - clock.now()
    if call.operation.kind == "read":
        return left_s
    begun = current_work().begun
    return min(left_s, deadline - begun.monotonic - begun.elapsed_s())


def _wait(error: EcwidError, attempts: int, deadline: float) -> bool:
    """Wait before a repetition, as long as Ecwid asks or for a random time.

    Return False if the deadline or the end of the process comes first.
    """
    if isinstance(error, RateLimited):
        wait_s = float(error.retry_after_s or 0)
    else:
        wait_s = chance.uniform(0, min(BACKOFF_MOST_S, BACKOFF_S * 2 ** (attempts - 1)))
    return clock.now() + wait_s < deadline and clock.sleep(wait_s)


def _outcome(call: Call, error: EcwidError, may_have_executed: bool) -> EcwidError:
    """Return the error that the caller gets, which says whether the call may have executed.

    A read changes nothing, so the error of a read says no.
    """
    if call.operation.kind == "read":
        return error.changed(executed="no").with_traceback(error.__traceback__)
    if call.operation.kind == "create" and error.needs_reconciliation:
        return error if isinstance(error, EcwidUnavailable) else OutcomeUnknown()
    return error.changed(executed="unknown") if may_have_executed else error
