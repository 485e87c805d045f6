"""Calls as they are really made: let through by the guard, made again where that is safe, and
creations whose outcome is not known looked up.

The promise: who asks learns, before the deadline, whether something happened, cannot have
happened, or may have happened; and nothing is created twice.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

import orjson

from .. import clock
from ..errors import (
    CustomerNotFound,
    EcwidError,
    EcwidUnavailable,
    EmailTaken,
    HeldBack,
    OutcomeUnknown,
    RateLimited,
)
from ..signals import CallSignals, CallTold
from ..throttling.guard import Guard, Held
from .calls import Call, Reply, read_reply
from .reconcile import WAITS_S, clock_ahead, find_created, lookup_call
from .transport import Transport

log = logging.getLogger("flask_ecwid")

BACKOFF_S = 0.25  # at most, before the first repeated call; doubled with each
BACKOFF_MOST_S = 4.0

Read = Callable[[Reply], dict[str, Any]]


class Gateway:
    """Makes the calls of one store. Safe to share between threads."""

    def __init__(self, transport: Transport, guard: Guard, signals: CallSignals) -> None:
        self._transport = transport
        self._guard = guard
        self._signals = signals

    def send(
        self, call: Call, read: Read, moment: float, *, since: float | None = None
    ) -> tuple[Reply, dict[str, Any]]:
        """A good reply to a call, and what `read` made of it, by `moment` of `clock.now()`.

        `read` raises where the reply is no good one. `since`, of a creation: an earlier try of the
        same began then, in UNIX seconds, and may have succeeded.

        Raises:
            EcwidError: there is none; `executed` says whether the call may have had an effect.
        """
        with self._signals.of(call.operation, reads=call.method == "GET") as told:
            reply, value = self._sent(call, read, moment, since, told)
            told.status = reply.status
            return reply, value

    def _sent(
        self, call: Call, read: Read, moment: float, since: float | None, told: CallTold
    ) -> tuple[Reply, dict[str, Any]]:
        # By both clocks: one stands still while the machine does, the other may be set meanwhile.
        ends = clock.wall() + moment - clock.now()
        if since is not None:
            looked, found = self._found(call, since, moment, self._guard.admit, told)
            if found:
                return found, read(found)
            if not looked:
                raise OutcomeUnknown
        begun = clock.wall() if since is None else since
        maybe = since is not None  # whether an earlier call may have had an effect
        before: EcwidError | None = None
        made = 0
        while True:
            made += 1
            if call.method != "GET" and (clock.now() >= moment or clock.wall() >= ends):
                # Who asked has gone, and may have asked elsewhere since.
                raise _told(call, before or HeldBack(1, "No time was left for the call."), maybe)
            try:
                held = self._guard.admit()
            except HeldBack as exc:
                told.held_back(exc)
                raise _told(call, before or exc, maybe) from None  # of the calls that were made
            error: EcwidError
            try:
                with told.attempt() as attempt:
                    reply = self._transport.send(call, moment)
                    attempt.status = reply.status
                    value = read(reply)
            except EcwidError as exc:
                error = exc
            else:
                self._guard.succeeded(held, first=made == 1)
                return reply, value
            self._guard.failed(held, error)
            if since is not None and isinstance(error, EmailTaken):
                error = OutcomeUnknown()  # taken by our own earlier try, most likely: look
                error.looked_up = True
            known = self._known(call, error, maybe, begun, moment, told)
            if known:
                return known, read(known)
            log.warning("call failed operation=%s %s", call.operation, _described(error))
            if not self._may_repeat(call, error, made) or not self._waited(error, made, moment):
                raise _told(call, error, maybe)
            before = error
            maybe = maybe or error.executed == "unknown"

    def _known(
        self,
        call: Call,
        error: EcwidError,
        maybe: bool,
        begun: float,
        moment: float,
        told: CallTold,
    ) -> Reply | None:
        """What the reply would have been, where a failure or our own repeat hid it."""
        if call.operation == "add_customer" and error.looked_up:
            # In spite of a pause that this very failure may have begun: it is one creation's end.
            return self._found(call, begun, moment, self._guard.admit_lookup, told)[1]
        gone = isinstance(error, CustomerNotFound) and error.by_ecwid
        if call.operation == "delete_customer" and gone and maybe:
            return Reply(200, {}, b'{"deleteCount":1}')  # deleted by our own call before
        return None

    def _found(
        self,
        call: Call,
        since: float,
        moment: float,
        admit: Callable[[], Held | None],
        told: CallTold,
    ) -> tuple[bool, Reply | None]:
        """Whether a creation could be looked up, and the reply that it would have had if it
        succeeded. `admit` lets each lookup through, or does not.

        Raises:
            EmailTaken: a customer with the e-mail is older, or another.
        """
        sent = orjson.loads(call.body or b"{}")
        looked = False
        taken: EmailTaken | None = None
        for wait_s in WAITS_S:
            if clock.now() + wait_s >= moment or not clock.pause(wait_s):
                break
            try:
                held = admit()
            except HeldBack as exc:
                told.held_back(exc, lookup=True)
                break
            try:
                page, ahead_s = self._looked_up(held, str(sent.get("email", "")), moment, told)
            except EcwidError:
                continue
            looked = True
            try:
                created = find_created(sent, page, since + ahead_s)
            except EmailTaken as exc:
                taken = exc  # unless ours shows beside it later: some stores may allow two
                continue
            if created is not None:
                return True, Reply(200, {}, b'{"id":%d}' % created)
        if taken:
            taken.executed = "unknown"  # that one is not ours; but ours may show beside it later
            raise taken
        return looked, None

    def _looked_up(
        self, held: Held | None, email: str, moment: float, told: CallTold
    ) -> tuple[dict[str, Any], float]:
        """The customers with the e-mail, and by how much Ecwid's clock is ahead, in seconds."""
        error: EcwidError
        asked = clock.wall()
        try:
            with told.attempt(lookup=True) as attempt:
                reply = self._transport.send(lookup_call(email), moment)
                attempt.status = reply.status
                page = read_reply("list_customers", reply)
        except EcwidError as exc:
            error = exc
        else:
            self._guard.succeeded(held, first=False)
            return page, clock_ahead(reply, asked, clock.wall())
        self._guard.failed(held, error)
        raise error

    def _may_repeat(self, call: Call, error: EcwidError, made: int) -> bool:
        """The one rule: as often as the error allows for the call, if the bucket has it."""
        if call.method == "GET":
            again = error.again.reads
        elif call.operation == "add_customer":
            again = error.again.creations
        else:
            again = error.again.changes
        return made <= again and self._guard.may_repeat(error)

    def _waited(self, error: EcwidError, made: int, moment: float) -> bool:
        """Wait as long as Ecwid asks, or at random; False if the deadline does not allow it."""
        if isinstance(error, RateLimited):
            wait_s = float(error.retry_after_s or 0)
        else:
            wait_s = random.uniform(0, min(BACKOFF_MOST_S, BACKOFF_S * 2 ** (made - 1)))
        return clock.now() + wait_s < moment and clock.pause(wait_s)


def _described(error: EcwidError) -> str:
    """Its kind, and the places that did not fit: nothing of a customer."""
    places = " ".join(f"{misfit.pointer}:{misfit.keyword}" for misfit in error.errors)
    return f"{error.slug} places={places}" if places else error.slug


def _told(call: Call, error: EcwidError, maybe: bool) -> EcwidError:
    """The error as the caller learns of it; `maybe`: a call before it may have had an effect."""
    if call.operation == "add_customer" and error.looked_up:
        return error if isinstance(error, EcwidUnavailable) else OutcomeUnknown()
    if maybe:
        error.executed = "unknown"
    return error
