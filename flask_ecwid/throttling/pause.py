"""The pause of all calls with one token, which all processes with the same state share.

A pause begins when Ecwid asks for it, or when Ecwid refuses the token or the store. After the pause
for a refusal, a single call goes first as a probe. If one of many tokens is refused again and
again, the pauses become longer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from .. import chance, clock
from ..errors import EcwidError, Throttled
from ..storage.state import State, StateUnavailable, Stored

LOOK_EVERY_S = 0.1  # The time between two looks into the shared state, because a look costs I/O.
LOOK_MOST_S = 2.0  # The longest time that a thread waits for the look of another thread.
_PAUSE_MOST_S = 3600.0  # The longest pause. MAX_RETRY_AFTER_S in replies.py is the same.
_REFUSED_S = (60.0, 300.0, 1800.0, 7200.0, 86400.0)  # The pauses after refusals in a row.
_PROBE_S = 60.0  # How long a probe may hold a refused token, because its process may be gone.
_PUBLISH_ATTEMPTS = 5  # An attempt fails if another process changes the pause meanwhile.
_KEPT_S = 3600.0  # How long the state keeps a pause that is over and waits for its probe.
_REFUSED_KEPT_S = 7 * 86400.0  # The same for a pause that counts the refusals.


@dataclass(frozen=True)
class Pause:
    """A pause of all calls with one token.

    The state tells how long a pause still lasts, because the clocks of hosts differ.
    """

    id: str  # random
    seconds: float  # The length of the pause, and of its renewal while a probe is sent.
    probed: bool  # True if a single call has to succeed before other calls.
    detail: str  # The detail of the problem that a throttled request gets.
    ends_at: float = field(compare=False)  # A moment of `clock.now()`.
    stored_as: bytes = field(default=b"", compare=False)  # If the pause comes from the state.
    refusals: int = 0  # How often in a row Ecwid has refused the token, if anybody counts.

    @classmethod
    def of(cls, seconds: float, *, probed: bool, detail: str, refusals: int = 0) -> Pause:
        """Return a pause that begins now."""
        ends_at = clock.now() + seconds
        return cls(chance.token_hex(8), seconds, probed, detail, ends_at, refusals=refusals)

    @classmethod
    def from_stored(cls, stored: Stored, asked_at: float) -> Pause | None:
        """Return the pause of a value of the state, or None if the value is no pause.

        Another version may have written the value, so only its known members are read.

        Args:
            stored: The value, and for how long the state keeps the value.
            asked_at: The moment of `clock.now()` before the state was asked.
        """
        try:
            members = orjson.loads(stored.value)
            probed = bool(members["probed"])
            refusals = max(0, int(members.get("refusals", 0)))
            most_s = max(_PAUSE_MOST_S, _refused_s(refusals) if refusals else 0.0)
            seconds = min(float(members["seconds"]), most_s)
            if not seconds >= 0:  # NaN compares as False.
                return None
            left_s = min(stored.left_s - _kept_s(probed, refusals), most_s)
            return cls(
                str(members["id"]),
                seconds,
                probed,
                str(members["detail"]),
                asked_at + left_s,
                stored.value,
                refusals,
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    def to_json(self) -> bytes:
        """Return the pause as JSON, for the shared state."""
        names = ("id", "seconds", "probed", "detail", "refusals")
        return self.stored_as or orjson.dumps({name: getattr(self, name) for name in names})

    def left_s(self) -> float:
        """Return the seconds that are left."""
        return self.ends_at - clock.now()

    def throttled(self) -> Throttled:
        """Return the error of a call that the pause holds."""
        error = Throttled(self.left_s(), self.detail)
        return error.changed(reason="token") if self.refusals else error

    def again(self, seconds: float) -> Pause:
        """Return the same pause, which ends in this many seconds."""
        return self._changed(ends_at=clock.now() + seconds)

    def joined(self, other: Pause | None) -> Pause:
        """Return the longer of two pauses, with a probe after it if either pause has a probe."""
        if other is None:
            return self
        longer, shorter = (self, other) if self.ends_at >= other.ends_at else (other, self)
        if shorter.probed and not longer.probed:
            return longer._changed(seconds=shorter.seconds, probed=True, refusals=shorter.refusals)
        if shorter.refusals > longer.refusals:
            return longer._changed(refusals=shorter.refusals)
        return longer

    def _changed(self, **members: Any) -> Pause:
        return replace(self, id=chance.token_hex(8), stored_as=b"", **members)


class SharedPause:
    """The pause of all processes that share a state.

    Each process remembers the pause that it saw last. While the state is unavailable, a process
    uses only this memory.

    A look reads the shared state. The lock guards memory alone, so a look can overlap a change that
    another thread makes. Such a look is discarded, because its result may be older than the change.
    Without that, a call would be sent during a pause that this process has seen.
    """

    def __init__(self, shared: State, key: str, known: Pause | None = None) -> None:
        """Store the key, without a look.

        Args:
            shared: The state of all processes that share the pause.
            key: The key of the pause in the state.
            known: The pause that this process knew when it closed the store.
        """
        self._shared = shared
        self._key = key
        self._lock = clock.Lock()
        self._known = known  # As of the last look or change.
        self._owed: Pause | None = None  # Begun by this process, and not published yet.
        self._look_next = 0.0
        # The keys are process ids. Without them, a forked process would wait for looks of threads
        # that it does not have, and discard each look because of their changes.
        self._looking: dict[int, clock.Event] = {}  # A look under way sets its event at its end.
        self._changing: Counter[int] = Counter()  # Changes that are under way.
        self._changed = 0  # Changes that are over.

    @property
    def known(self) -> Pause | None:
        """The pause as this process has seen it last, or None."""
        return self._known

    @property
    def is_owed(self) -> bool:
        """True if this process has begun a pause that the state does not know yet."""
        return self._owed is not None

    def check(self) -> Pause | None:
        """Check whether a call may be made.

        Returns:
            None if every call may be made. A pause that is over if a single call must go first as
            its probe. The caller then calls `claim_probe`.

        Raises:
            Throttled: The pause holds.
        """
        # `_look_next` is read first, and once. Otherwise the end of another thread's look could
        # fall between the two, and the old pause would count as current.
        look_next = self._look_next
        pause = self._known
        if _is_outdated(pause, look_next):
            pause = self._look()
        if pause is None:
            return None
        if pause.left_s() > 0:
            raise pause.throttled()
        return pause if pause.probed else None

    def claim_probe(self, pause: Pause) -> Pause:
        """Make the caller's call the probe, and return the pause that now holds all other calls.

        Raises:
            Throttled: Another call is the probe.
        """
        renewed = pause.again(_PROBE_S if pause.refusals else pause.seconds)
        if not self._replaced(pause, renewed):
            raise renewed.throttled()
        return renewed

    def release_probe(self, pause: Pause) -> None:
        """Let another call be the probe at once, because the probe is not sent."""
        self._replaced(pause, pause.again(0.0))

    def begin(self, error: EcwidError, pause_s: float) -> None:
        """Begin a pause for all processes, or make the present pause longer."""
        self._begin(Pause.of(pause_s, probed=error.probed, detail=_detail(error)))

    def begin_after_refusal(self, error: EcwidError, probe: Pause | None) -> None:
        """Begin the pause of a refused token, which is longer after each refusal in a row.

        Args:
            error: The refusal.
            probe: The pause whose probe was refused, or None if another call was refused.
        """
        refusals = 1 + (probe.refusals if probe else 0)
        pause_s, detail = _refused_s(refusals), _detail(error)
        self._begin(Pause.of(pause_s, probed=True, detail=detail, refusals=refusals))

    def _begin(self, begun: Pause) -> None:
        with self._change():
            with self._lock:
                self._known = begun.joined(self._known)
                self._owed = owed = begun.joined(self._owed)
            with suppress(StateUnavailable):
                after = self._published(owed)
                with self._lock:
                    if self._owed == owed:  # Otherwise another thread has begun a longer pause.
                        self._known, self._owed = after, None

    def end(self, pause: Pause) -> None:
        """End the pause for all processes, because Ecwid accepted the probe."""
        with self._change():
            with suppress(StateUnavailable):
                self._swapped(pause.to_json(), None)
            with self._lock:
                if self._known == pause:
                    self._known = self._owed = None

    def forget(self) -> None:
        """Forget the pause in this process, because somebody has deleted it from the state."""
        with self._change(), self._lock:
            self._known = self._owed = None
            self._look_next = 0.0

    def _replaced(self, before: Pause, after: Pause) -> bool:
        """Replace the pause `before` for all processes, or return False if another pause holds.

        Memory decides between the threads of this process, so only one thread goes on. Then the
        shared state decides between the processes.
        """
        with self._change():
            with self._lock:
                mine = self._known == before
                if mine:
                    self._known = after
            if mine:
                with suppress(StateUnavailable):
                    mine = self._swapped(before.to_json(), after)
            if not mine:
                with self._lock:
                    if self._known == after:
                        self._known = before
                    self._look_next = 0.0
        return mine

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Discard the result of each look that overlaps the block, because the block changes."""
        process = clock.process_id()
        with self._lock:
            self._changing[process] += 1
        try:
            yield
        finally:
            with self._lock:
                self._changing[process] -= 1
                self._changed += 1

    def _look(self) -> Pause | None:
        """Read the shared state in one thread, and let the others wait for its result.

        Without the wait, the others would send calls during a pause that they have not seen yet.
        """
        process = clock.process_id()
        with self._lock:
            if not _is_outdated(self._known, self._look_next):
                return self._known
            looking = self._looking.get(process)
            if looking is None:
                self._looking[process] = mine = clock.Event()
        if looking is None:
            try:
                self._update()
            finally:
                with self._lock:
                    self._look_next = clock.now() + LOOK_EVERY_S
                    if self._looking.get(process) is mine:
                        del self._looking[process]
                mine.set()
        elif not looking.wait(LOOK_MOST_S):
            with self._lock:
                if self._looking.get(process) is looking:  # Its thread hangs.
                    del self._looking[process]
                    self._changed += 1  # A late result of the look is discarded.
        return self._known

    def _update(self) -> None:
        """Read the shared pause, after publishing a pause that other processes do not know yet."""
        with self._lock:
            owed, changed = self._owed, self._changed
        with suppress(StateUnavailable):
            found = self._published(owed) if owed else self._read()[0]
            with self._lock:
                if not self._changing[clock.process_id()] and self._changed == changed:
                    self._known, self._owed = found, None

    def _published(self, owed: Pause) -> Pause:
        """Publish a pause, and return the pause that then holds for all processes.

        Raises:
            StateUnavailable: The state cannot be reached, or every attempt failed.
        """
        for _ in range(_PUBLISH_ATTEMPTS):
            pause, value = self._read()
            after = owed.joined(pause)
            if after == pause or self._swapped(value, after):
                return after
        raise StateUnavailable

    def _read(self) -> tuple[Pause | None, bytes | None]:
        """Return the pause and its value. A value that is no pause has no pause."""
        asked_at = clock.now()
        stored = self._shared.get(self._key)
        if stored is None:
            return None, None
        return Pause.from_stored(stored, asked_at), stored.value

    def _swapped(self, before: bytes | None, after: Pause | None) -> bool:
        ttl_s = 0.0
        if after:
            ttl_s = max(after.left_s(), 0.001) + _kept_s(after.probed, after.refusals)
        return self._shared.compare_and_swap(
            self._key, before, after.to_json() if after else None, ttl_s
        )


def _is_outdated(pause: Pause | None, look_next: float) -> bool:
    """Return whether other processes may have begun or ended a pause since the last look."""
    return clock.now() >= look_next or (pause is not None and pause.left_s() <= 0)


def _detail(error: EcwidError) -> str:
    return f"An earlier call failed. {error.detail}"


def _kept_s(probed: bool, refusals: int) -> float:
    """Return how long the state keeps a pause that is over."""
    if refusals:
        return _REFUSED_KEPT_S
    return _KEPT_S if probed else 0.0


def _refused_s(refusals: int) -> float:
    """Return the pause in seconds after so many refusals in a row."""
    return _REFUSED_S[min(refusals, len(_REFUSED_S)) - 1]
