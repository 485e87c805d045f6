"""One outcome for each idempotency key, in all processes and for all repeats of a request.

A record tells how far the first request has come, and holds no personal data. The states are:

    running   The request is under way. After the lease, its process is taken for dead. A request
              on the same host sees at once that the process is gone.
    done      The record keeps the envelope, or Ecwid's final refusal, for 24 h.
    unknown   The customer may exist. The next request searches for them before it creates.

A request that certainly had no effect leaves no record. Examples are a request without any call and
a call that Ecwid refused with a request to wait.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any

import orjson

from .. import chance, clock
from ..errors import (
    EcwidError,
    EmailTaken,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    IdempotencyUnavailable,
    Rejected,
)
from ..storage import process
from ..storage.redis_connection import COOLDOWN_S
from ..storage.state import State, StateUnavailable, Stored, delete
from ..storage.work import current_work, in_piece_of_work
from .envelope import Envelope

log = logging.getLogger("flask_ecwid")

TTL_S = 24 * 3600.0
MIN_LEASE_S = 30.0
_LATE_S = 1.0  # The longest writing after which a record still tells the age of the first attempt.
_OWED_MOST = 1000
_FINAL = (400, EmailTaken.status, 413, 422)  # The statuses of the refusals that a record keeps.


@dataclass(frozen=True)
class _Record:
    """How far the first request of a key has come.

    The storage tells how old a record is, because the clocks of hosts differ.
    """

    state: str  # running, done or unknown
    body: str  # the HMAC of the request's body
    owner: str  # a random name of the request that wrote the record
    tried_s: float = 0.0  # how long before the writing of the record the first attempt began
    lease_s: float = 0.0  # how long after the writing the request may be under way
    envelope: Envelope | None = None  # the outcome, if the customer was created
    status: int = 0  # the status of Ecwid's refusal, otherwise 0
    ecwid_code: str | None = None  # the code of Ecwid's refusal
    process: str = ""  # the mark of the process in which the request runs

    @classmethod
    def from_json(cls, value: bytes) -> _Record:
        """Return the record, without the members that a newer version has added.

        Raises:
            StateUnavailable: The value is no record, so nobody knows what the key stands for.
        """
        names = {spec.name for spec in fields(cls)}
        try:
            members = orjson.loads(value)
            record = cls(**{name: members[name] for name in names & members.keys()})
            if record._is_sound():
                return record
        except (ValueError, TypeError, AttributeError, KeyError):
            pass
        raise StateUnavailable

    def _is_sound(self) -> bool:
        """Return whether the members have their types, and the record has an outcome if done."""
        texts = (self.state, self.body, self.owner, self.process, self.ecwid_code or "")
        are_texts = all(isinstance(each, str) for each in texts)
        are_seconds = all(isinstance(each, (int, float)) for each in (self.tried_s, self.lease_s))
        if not are_texts or not are_seconds:
            return False
        if self.state != "done":
            return True
        if self.envelope is None:
            return self.status in _FINAL
        if "data" in self.envelope:
            return isinstance(self.envelope["data"]["id"], str)
        return isinstance(self.envelope["id"], (str, int))  # An import keeps Ecwid's reply alone.

    def to_json(self) -> bytes:
        return orjson.dumps(self)


class OwedOutcomes:
    """The outcomes that a mount could not store, which a later request with the key stores.

    Without them, a key would be in use until the lease of its record ends. They outlive the open
    stores, because another request may open the store again.
    """

    def __init__(self) -> None:
        """Owe nothing yet."""
        self._lock = clock.Lock()
        # The outcomes and their moments, by the owners of the records.
        self._outcomes: dict[str, tuple[bytes | None, clock.Moment]] = {}

    def add(self, owner: str, outcome: bytes | None) -> None:
        """Remember the outcome of a record's owner. None stands for no record."""
        with self._lock:
            self._outcomes[owner] = outcome, clock.Moment.seconds_ago()
            if len(self._outcomes) > _OWED_MOST:
                del self._outcomes[next(iter(self._outcomes))]  # the oldest

    def find(self, owner: str) -> tuple[bytes | None, clock.Moment] | None:
        """Return the outcome of a record's owner and its moment, or None."""
        with self._lock:
            return self._outcomes.get(owner)

    def remove(self, owner: str) -> None:
        """Forget an outcome that is stored now."""
        with self._lock:
            self._outcomes.pop(owner, None)


class Idempotency:
    """The idempotency keys of one store's creations."""

    def __init__(
        self, state: State, name: str, deadline_s: float, owed: OwedOutcomes | None = None
    ) -> None:
        """Keep the records of the store with this name in a shared state.

        A lease is longer than `deadline_s`. Otherwise a second request could take over the key of a
        request that is still under way.

        Args:
            state: Keeps the records.
            name: Begins the names of the store's records.
            deadline_s: How long a request takes at most.
            owed: The outcomes that other objects for the same records could not store.
        """
        self._state = state
        self._name = name
        self._lease_s = max(MIN_LEASE_S, deadline_s + 10)
        self._owed = owed or OwedOutcomes()

    @in_piece_of_work
    def run(
        self,
        owner: tuple[str, ...],
        idempotency_key: str,
        body: Any,
        create: Callable[[float | None], Envelope],
    ) -> tuple[Envelope, bool]:
        """Return the outcome of the key, and True if an earlier request has produced the outcome.

        Args:
            owner: The mount and the caller, because two of them may choose the same key.
            idempotency_key: The value of the request's header.
            body: The request's body, because a key belongs to one body.
            create: Creates the customer and returns the envelope. The argument
                `first_attempt_age_s` says how many seconds ago an earlier attempt without a known
                outcome began.

        Raises:
            IdempotencyKeyInUse: Another request with the key is under way.
            IdempotencyKeyReused: The key was sent before with another body.
            IdempotencyUnavailable: The state cannot be reached, so `create` was not called.
            EcwidError: The error of `create`, or the same error of an earlier request (`replayed`).
        """
        name = self._record_name(owner, idempotency_key)
        # The idempotency key is the key of the HMAC, and nobody stores it. Without it, a reader of
        # the state could guess a body and check the guess.
        canonical = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
        fingerprint = hmac.new(idempotency_key.encode(), canonical, hashlib.sha256).hexdigest()
        current_work().keep_time_for_outcome()
        began = None
        with suppress(StateUnavailable):
            began = self._begin(name, fingerprint)
        if began is None:  # outside of the block, so that no context shows the state's error
            raise IdempotencyUnavailable(COOLDOWN_S)
        earlier, own, begun = began
        if own.state == "done":
            return _replay(own), True
        first_attempt_age_s = own.tried_s + begun.elapsed_s() if earlier else None
        try:
            envelope = create(first_attempt_age_s)
        except EcwidError as exc:
            outcome = _after(own, exc, tried_before=earlier is not None)
            self._settle(name, own, outcome, begun)
            raise
        except BaseException:
            self._settle(name, own, replace(own, state="unknown"), begun)
            raise
        self._settle(name, own, replace(own, state="done", envelope=envelope), begun)
        return envelope, False

    def is_known(self, owner: tuple[str, ...], idempotency_key: str) -> bool:
        """Return whether an earlier request with the key has left a record.

        Raises:
            IdempotencyUnavailable: The state cannot be reached.
        """
        try:
            return self._state.get(self._record_name(owner, idempotency_key)) is not None
        except StateUnavailable:
            pass
        raise IdempotencyUnavailable(COOLDOWN_S)

    def forget(self) -> None:
        """Delete the records of the store. A lease that runs keeps its record.

        Raises:
            IdempotencyUnavailable: The state cannot be reached, so records may be left.
        """
        with suppress(StateUnavailable):
            delete(self._state, f"{self._name}:once:", lambda rest: True, lambda s: not _runs(s))
            return
        raise IdempotencyUnavailable(COOLDOWN_S)

    def _record_name(self, owner: tuple[str, ...], idempotency_key: str) -> str:
        # JSON keeps the texts apart. Without it, two owners could share the name of a record.
        digest = hashlib.sha256(orjson.dumps([*owner, idempotency_key])).hexdigest()
        return f"{self._name}:once:{digest}"

    def _begin(self, name: str, fingerprint: str) -> tuple[_Record | None, _Record, clock.Moment]:
        """Return the earlier record of the key, and the record that this request has written.

        The second record is the earlier one if an earlier request is done. The moment is that
        before the writing, because the host may be suspended during each step.

        Raises:
            StateUnavailable: The state cannot be reached, or holds no record.
        """
        own_mark = process.own_mark()
        stored: Stored | None = None  # Most keys are new, so the first step expects no record.
        asked = begun = clock.Moment.seconds_ago()
        while True:
            earlier = None
            tried_s = 0.0
            if stored:
                earlier = _Record.from_json(stored.value)
                if earlier.state == "running" and self._deliver(name, stored.value, earlier.owner):
                    asked = clock.Moment.seconds_ago()
                    stored = self._state.get(name)
                    continue
                age_s = max(0.0, TTL_S - stored.left_s)
                if earlier.body != fingerprint:
                    raise IdempotencyKeyReused
                if earlier.state == "done":
                    return earlier, earlier, begun
                if earlier.state == "running" and age_s < earlier.lease_s:
                    if not process.is_gone(earlier.process):
                        raise IdempotencyKeyInUse
                    log.warning("The process that worked on an idempotency key is gone.")
                # A suspended host counts here, but not for the lease, because its requests have
                # stopped as well.
                tried_s = earlier.tried_s + age_s + stored.missed_s + asked.elapsed_s()
            owner = chance.token_hex(8)
            own = _Record("running", fingerprint, owner, tried_s, self._lease_s, process=own_mark)
            before = stored.value if stored else None
            begun = clock.Moment.seconds_ago()
            swapped = self._write(name, before, own)
            if swapped and stored and begun.elapsed_s() > _LATE_S:
                # The storage counts the age from its own moment of the writing, which was late, for
                # example because the host was suspended. If this process is killed, the next
                # request would take the first attempt for younger, and not find its customer.
                late = own.to_json()
                own = replace(own, tried_s=tried_s + begun.elapsed_s())
                begun = clock.Moment.seconds_ago()
                swapped = self._write(name, late, own)
            if swapped:
                return earlier, own, begun
            asked = clock.Moment.seconds_ago()
            stored = self._state.get(name)

    def _write(self, name: str, before: bytes | None, own: _Record) -> bool:
        """Write the record of a request that begins, or return False if the record has changed.

        Raises:
            StateUnavailable: The state cannot be reached, so the outcome of the record is owed.
        """
        try:
            return self._state.compare_and_swap(name, before, own.to_json(), TTL_S)
        except StateUnavailable:
            # The storage may have the record, but the request ends without a call.
            outcome = None if before is None else replace(own, state="unknown").to_json()
            self._owed.add(own.owner, outcome)
            raise

    def _settle(
        self, name: str, own: _Record, outcome: _Record | None, begun: clock.Moment
    ) -> None:
        """Replace the own record by the outcome, or delete it if there is none.

        The record of another request stays as it is.
        """
        new = None
        if outcome:
            new = replace(outcome, tried_s=own.tried_s + begun.elapsed_s()).to_json()
        current_work().begin_outcome()
        try:
            swapped = self._state.compare_and_swap(name, own.to_json(), new, TTL_S)
            if not swapped and new is not None:
                # Redis may have evicted the own record, so the outcome is written again. Nothing is
                # written if another request has taken over, because the state then has a record.
                self._state.compare_and_swap(name, None, new, TTL_S)
        except StateUnavailable:
            # In another process, the own record stays until its lease ends. The next request with
            # the key then searches for the customer, so losing the outcome creates no second one.
            self._owed.add(own.owner, new)
            log.warning("the outcome of an idempotency key could not be stored")

    def _deliver(self, name: str, running: bytes, owner: str) -> bool:
        """Store the outcome of a record under way, or return False if this process owes none.

        Raises:
            StateUnavailable: The state cannot be reached.
        """
        owed = self._owed.find(owner)
        if owed is None:
            return False
        outcome, ended = owed
        self._state.compare_and_swap(name, running, outcome, max(1.0, TTL_S - ended.elapsed_s()))
        self._owed.remove(owner)
        return True


def _runs(stored: Stored) -> bool:
    """Return whether the value is the record of a request that may be under way."""
    with suppress(StateUnavailable):  # if another version has written the value
        record = _Record.from_json(stored.value)
        return record.state == "running" and TTL_S - stored.left_s < record.lease_s
    return False


def _after(own: _Record, error: EcwidError, *, tried_before: bool) -> _Record | None:
    """Return the record of a request that failed, or None if a repeat may start afresh."""
    if error.executed == "unknown" or tried_before:
        return replace(own, state="unknown")
    if isinstance(error, (Rejected, EmailTaken)):
        return replace(own, state="done", status=error.status, ecwid_code=error.ecwid_code)
    return None


def _replay(record: _Record) -> Envelope:
    """Return the envelope of a record, or raise its refusal."""
    if record.envelope is not None:
        return record.envelope
    error: EcwidError = Rejected(record.status, ecwid_code=record.ecwid_code)
    if record.status == EmailTaken.status:
        error = EmailTaken(ecwid_code=record.ecwid_code)
    raise error.changed(replayed=True)
