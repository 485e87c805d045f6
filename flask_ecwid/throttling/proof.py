"""The proof that Ecwid has accepted the token of a store.

Anybody can enter the number of another store with an invented token. So a pair of store and token
is unproven until Ecwid accepts a call with the pair. An unproven pair gets nothing of the store
that does not come from Ecwid, and changes nothing of the store.
"""

from __future__ import annotations

import math
from contextlib import suppress

from .. import clock
from ..errors import ContractBroken, CustomerNotFound, EcwidError
from ..storage.opening import Storage
from ..storage.state import State, StateUnavailable

LOOK_EVERY_S = 0.1  # The time between two looks into the storage, because a look costs I/O.
_KEPT_S = 30 * 24 * 3600.0
_MARK = b"1"


class Proof:
    """The proof that Ecwid has accepted one token. Threads share a proof.

    The storage keeps a mark, so other workers and later processes know the proof. The name of the
    mark is keyed with the token, so nobody can make a mark for a token that they do not have. The
    file of each host that has used the token has the mark too, for the time when Redis cannot be
    used.
    """

    def __init__(self, storage: Storage, token_digest: str) -> None:
        """Store the name of the mark, without a look.

        Args:
            storage: Keeps the marks.
            token_digest: Names the token.
        """
        self._key = f"{token_digest}:accepted"
        self._is_given = False
        self._states: tuple[State, ...] = (storage.shared,)  # The first that works has the truth.
        if storage.host is not storage.shared:
            self._states += (storage.host,)
        self._unmarked: tuple[State, ...] = self._states  # may not have the mark
        self._withdrawals = 0
        self._withdrawn_at = 0.0  # A value of `clock.now()`.
        self._look_next = 0.0

    @property
    def is_given(self) -> bool:
        """True if Ecwid has accepted the token, as far as this process knows."""
        if self._is_given or clock.now() < self._look_next:
            return self._is_given
        withdrawals = self._withdrawals
        found = self._find()
        if withdrawals == self._withdrawals:  # Otherwise the mark may be older than a refusal.
            self._is_given = self._is_given or found is not None
            self._unmarked = tuple(each for each in self._unmarked if each is not found)
            # Only now, because a thread that comes during the look must not do without a look.
            self._look_next = clock.now() + LOOK_EVERY_S
        return self._is_given

    def _find(self) -> State | None:
        """Return the storage that has the mark, or None. The file counts only while Redis fails."""
        for state in self._states:
            with suppress(StateUnavailable):
                return state if state.get(self._key) else None
        return None

    def accept(self, asked_at: clock.Moment) -> None:
        """Remember that Ecwid has accepted the token.

        Args:
            asked_at: When the accepted call was counted. A slow reply to a call from before the
                last refusal proves nothing.
        """
        if (self._is_given and not self._unmarked) or asked_at.monotonic < self._withdrawn_at:
            return
        self._is_given = True
        self._unmarked = tuple(state for state in self._unmarked if not self._mark(state))

    def _mark(self, state: State) -> bool:
        """Write the mark, or return False if the storage cannot be used.

        Another host may have written the mark to Redis alone. Without a mark in the own file, a
        later process of this host would not know the token while Redis fails.
        """
        with suppress(StateUnavailable):
            # Each opened store looks into the file, and a look costs less than a change.
            if state is self._states[0] or state.get(self._key) is None:
                state.compare_and_swap(self._key, None, _MARK, _KEPT_S)
            return True
        return False

    def withdraw(self) -> None:
        """Forget the proof, because Ecwid has refused the token."""
        self._withdrawals += 1
        self._withdrawn_at = clock.now()
        self._look_next = math.inf  # Without it, a mark that cannot be removed would count.
        self._is_given = False
        self._unmarked = self._states
        removed = [self._unmark(state) for state in self._states]
        if all(removed):
            self._look_next = clock.now() + LOOK_EVERY_S

    def _unmark(self, state: State) -> bool:
        """Remove the mark, or return False if the storage cannot be used."""
        with suppress(StateUnavailable):
            state.compare_and_swap(self._key, _MARK, None, _KEPT_S)
            return True
        return False


def is_acceptance(error: EcwidError) -> bool:
    """Return whether only Ecwid itself can have sent the failure, after it accepted the token.

    The front of Ecwid may refuse a bad question before anybody looks at its token. So a question
    that Ecwid calls bad is no proof, and a missing customer is a proof only with a code.
    """
    if isinstance(error, CustomerNotFound):
        return error.by_ecwid and error.ecwid_code is not None
    return isinstance(error, ContractBroken) or error.reason == "ecwid-scope"
