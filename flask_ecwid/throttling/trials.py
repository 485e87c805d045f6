"""A limit of the calls with tokens that Ecwid may refuse, for all stores of a host.

Ecwid blocks an IP address after 600 requests with refused tokens. A trial is a call with a token
that Ecwid has not accepted. Before its sending, each trial takes one of `REFUSALS_MOST` places. If
Ecwid refuses the token, or gives no reply, the place is free again a minute later. Otherwise the
place is free at once. So any number of good tokens may come, and few refusals are sent.

All processes with the same storage share the places, which are one small value. The value has no
moments, because the clocks of hosts differ. Each place has the seconds for which it is still taken,
and the storage tells how old the value is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import orjson

from .. import chance, clock
from ..errors import Throttled
from ..storage.memory_state import process_state
from ..storage.opening import Storage
from ..storage.redis_connection import COOLDOWN_S
from ..storage.state import State, StateUnavailable, Stored
from ..storage.window import SPAN_S
from .absence import Absence
from .rate_limit import worker_count

log = logging.getLogger("flask_ecwid")

REFUSALS_MOST = 60  # in a minute
# The places for tokens that Ecwid has refused before. The other places stay for new merchants.
AGAIN_MOST = 20
WAIT_MOST_S = 2.0  # The longest time that a trial waits for the replies to other trials.
_WAIT_STEP_S = 0.05
_KEY = "flask-ecwid:trials"
_KEPT_S = 3600.0
_TRIES = 20  # A try fails if another process changes the places meanwhile.
_TRY_STEP_S = 0.01
# The threads of a process change the places one after the other. Otherwise many threads would try
# again and again, and some of them in vain.
_turns = clock.Slots(1)
_TURN_MOST_S = 5.0


@dataclass(frozen=True)
class Trial:
    """A place that a call has taken, in the storage or in the memory of this process."""

    id: str
    state: State


@dataclass
class Places:
    """The places that are taken. The values are seconds until each place is free again."""

    under_way: dict[str, float] = field(default_factory=dict)
    refused: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_stored(cls, stored: Stored | None) -> Places:
        """Return the places that are still taken. A value that holds no places has none."""
        if stored is None:
            return cls()
        age_s = max(0.0, _KEPT_S - stored.left_s)
        try:
            members = orjson.loads(stored.value)
            return cls(
                *(
                    {str(id): float(left_s) - age_s for id, left_s in members[name].items()}
                    for name in ("under_way", "refused")
                )
            ).later(0.0)
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls()

    def later(self, seconds: float) -> Places:
        """Return the places that are still taken after so many seconds."""
        return Places(
            *(
                {id: left_s - seconds for id, left_s in places.items() if left_s > seconds}
                for places in (self.under_way, self.refused)
            )
        )

    def to_json(self) -> bytes:
        """Return the places as JSON."""
        return orjson.dumps(self)

    def __len__(self) -> int:
        return len(self.under_way) + len(self.refused)

    def refuse(self, id: str) -> None:
        """Keep a place for a minute, because Ecwid has refused the token or has not replied."""
        self.under_way.pop(id, None)
        self.refused[id] = SPAN_S
        newest = sorted(self.refused.items(), key=lambda place: place[1])[-REFUSALS_MOST:]
        self.refused = dict(newest)

    def give_back(self, *ids: str) -> None:
        """Let other trials have the places."""
        for id in ids:
            self.under_way.pop(id, None)

    def wait_s(self, most: int) -> float:
        """Return in how many seconds refusals leave one of so many places, or 0 if they do now."""
        ends = sorted(self.refused.values())
        return ends[len(ends) - most] if len(ends) >= most else 0.0


class Trials:
    """The trials of all processes that share a storage."""

    def __init__(self, storage: Storage, hosts: int, deadline_s: float) -> None:
        """Make the limit, without a connection.

        Args:
            storage: Where all processes take their places.
            hosts: How many hosts share the places, if they share a Redis.
            deadline_s: The longest time of a call. The place of a call whose process is gone is
                free again a minute later.
        """
        self._state = storage.shared
        self._hosts = hosts if storage.shared is not storage.host else 1
        self._under_way_s = deadline_s + SPAN_S
        self._absences: dict[int, Absence] = {}  # of the storage. The keys are process ids.
        # The ids of places that the storage did not get back, because it failed. Without them, no
        # new merchant would be served until these places are free by themselves.
        self._owed: set[str] = set()
        self._lock = clock.Lock()  # guards `_owed`, and is not held during I/O
        self._warn_next = 0.0

    def begin(self, deadline: float, *, again: bool) -> Trial:
        """Take a place for a call that is about to be made.

        Args:
            deadline: The moment of `clock.now()` at which the call must have ended.
            again: True if Ecwid has refused the token before.

        Raises:
            Throttled: No place is free.
        """
        patient_until = 0.0 if again else min(deadline, clock.now() + WAIT_MOST_S)
        most = AGAIN_MOST if again else REFUSALS_MOST
        while True:
            try:
                return self._begin(most)
            except Throttled as exc:
                if exc.wait_s > _WAIT_STEP_S:
                    self._warn(again)
                    raise
            if clock.now() >= patient_until or not clock.sleep(_WAIT_STEP_S):
                raise Throttled(1, _DETAIL)

    def _warn(self, again: bool) -> None:
        """Log once a minute that new merchants have to wait, because the app may have to act."""
        now = clock.now()
        if not again and now >= self._warn_next:
            self._warn_next = now + SPAN_S
            log.warning("Stores with unproven tokens have to wait. %s", _DETAIL)

    def _begin(self, most: int) -> Trial:
        """Take a place in the storage, or in memory while the storage cannot be used.

        Raises:
            Throttled: No place is free. If `wait_s` is short, other trials are under way.
        """
        absence = self._absences.setdefault(clock.process_id(), Absence())
        try:
            self._give_back_owed()
            trial = self._take(self._state, most)
        except StateUnavailable as exc:
            if absence.is_too_short(exc):
                raise Throttled(COOLDOWN_S, _DETAIL) from None
            return self._take(process_state(), max(1, most // (worker_count() * self._hosts)))
        absence.end()
        return trial

    def _give_back_owed(self) -> None:
        """Give the places back that the storage did not get back before.

        Raises:
            StateUnavailable: The storage cannot be used.
        """
        with self._lock:
            owed = set(self._owed)
        if owed and _change(self._state, lambda places: places.give_back(*owed)):
            with self._lock:
                self._owed -= owed

    def _take(self, state: State, most: int) -> Trial:
        trial = Trial(chance.token_hex(4), state)
        # The storage does not know the places that this process has taken in memory.
        memory = process_state()
        in_memory = len(_read(memory)[0]) if state is not memory else 0

        def take(places: Places) -> None:
            if wait_s := places.wait_s(most):
                raise Throttled(max(wait_s, 1.0), _DETAIL)
            if len(places) + in_memory >= most:
                raise Throttled(_WAIT_STEP_S, _DETAIL)
            places.under_way[trial.id] = self._under_way_s

        if not _change(state, take):
            raise Throttled(1, _DETAIL)
        return trial

    def give_back(self, trial: Trial) -> None:
        """Give the place back, because the call was not sent, or Ecwid did not refuse it."""
        with suppress(StateUnavailable):
            if _change(trial.state, lambda places: places.give_back(trial.id)):
                return
        with self._lock:
            self._owed.add(trial.id)

    def keep(self, trial: Trial) -> None:
        """Keep the place for a minute, because Ecwid has refused the token, or did not reply."""
        with suppress(StateUnavailable):
            _change(trial.state, lambda places: places.refuse(trial.id))

    def count(self) -> None:
        """Count a refusal of a token that Ecwid had accepted before, which took no place."""
        with suppress(StateUnavailable):
            _change(self._state, lambda places: places.refuse(chance.token_hex(4)))


_DETAIL = "Ecwid has not accepted this store's token yet, and has refused too many tokens of late."


def _read(state: State) -> tuple[Places, bytes | None]:
    stored = state.get(_KEY)
    return Places.from_stored(stored), stored and stored.value


def _change(state: State, change: Callable[[Places], None]) -> bool:
    """Change the places, or return False if other processes change them all the time.

    Raises:
        StateUnavailable: The state cannot be reached.
    """
    try:
        with _turns.take(_TURN_MOST_S):
            for attempt in range(_TRIES):
                places, before = _read(state)
                read_at = clock.now()
                change(places)
                after = places.later(clock.now() - read_at).to_json()
                if state.compare_and_swap(_KEY, before, after, _KEPT_S):
                    return True
                clock.sleep(chance.uniform(0, _TRY_STEP_S * (1 + attempt)))
    except TimeoutError:
        pass
    return False
