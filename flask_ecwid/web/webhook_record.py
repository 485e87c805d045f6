"""One effect for each webhook event, in all processes and for all deliveries.

The record of an event is named by the signed text alone, for all stores. So whoever has seen a
signature cannot use it for another body. The states of a record are:

    running   A delivery is under way. After the lease, its process is taken for dead.
    done      The event has had its effect, so a later delivery has none.

A delivery that fails leaves no record, and the next delivery of the event starts afresh. The same
holds for a record that cannot be read, because an effect may happen twice.
"""

from __future__ import annotations

import hashlib
import logging
import math
from contextlib import suppress
from dataclasses import dataclass

import orjson

from .. import chance
from ..errors import EventsUnavailable, EventUnderWay
from ..storage.redis_connection import COOLDOWN_S
from ..storage.state import State, StateUnavailable, Stored
from ..storage.work import in_piece_of_work

log = logging.getLogger("flask_ecwid")

TTL_S = 26 * 3600.0  # The oldest event that is accepted is 25 hours old.
LEASE_S = 15.0  # Ecwid gives up after 10 s.
_TRIES = 10


@dataclass(frozen=True)
class Delivery:
    """The delivery that is about to have the effect of its event."""

    _state: State
    _name: str
    _owner: str  # a random name, so that no two records are equal

    @in_piece_of_work
    def finish(self) -> None:
        """Record that the event has had its effect.

        Without the storage, a later delivery has the effect again.
        """
        running, done = _record("running", self._owner), _record("done", self._owner)
        try:
            if not self._state.compare_and_swap(self._name, running, done, TTL_S):
                # Redis may have evicted the record. Another delivery's record stays as it is.
                self._state.compare_and_swap(self._name, None, done, TTL_S)
        except StateUnavailable:
            log.warning("the effect of a webhook event could not be recorded")

    @in_piece_of_work
    def release(self) -> None:
        """Delete the record, because the delivery has failed.

        Without the storage, the next delivery has to wait for the end of the lease.
        """
        with suppress(StateUnavailable):
            running = _record("running", self._owner)
            self._state.compare_and_swap(self._name, running, None, TTL_S)


@in_piece_of_work
def begin_delivery(state: State, signed: str) -> Delivery | None:
    """Return the delivery of an event, or None if an earlier delivery has had the effect.

    Args:
        state: Keeps the records.
        signed: The text that the signature of the event covers.

    Raises:
        EventUnderWay: Another delivery of the event is under way.
        EventsUnavailable: The state cannot be reached.
    """
    name = f"flask-ecwid:event:{hashlib.sha256(signed.encode()).hexdigest()}"
    delivery = Delivery(state, name, chance.token_hex(8))
    running = _record("running", delivery._owner)
    stored: Stored | None = None  # Most events are new, so the first step expects no record.
    with suppress(StateUnavailable):
        for _ in range(_TRIES):
            known = stored and _state_of(stored.value)
            if known == "done":
                return None
            if stored and known == "running":
                left_s = LEASE_S - abs(TTL_S - stored.left_s)
                if left_s > 0:
                    raise EventUnderWay(math.ceil(left_s))
                log.warning("The delivery of a webhook event has not ended within its lease.")
            if state.compare_and_swap(name, stored and stored.value, running, TTL_S):
                return delivery
            stored = state.get(name)
    # The error is raised outside of the block, so that no context shows the state's error.
    raise EventsUnavailable(COOLDOWN_S)


def _record(state: str, owner: str) -> bytes:
    return orjson.dumps({"state": state, "owner": owner})


def _state_of(value: bytes) -> object:
    """Return the state of a record, or None for a value that is no record."""
    with suppress(ValueError):
        record = orjson.loads(value)
        return record.get("state") if isinstance(record, dict) else None
    return None
