"""A pause that Ecwid asks for or that a refused token needs, for all processes that share it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import orjson

from .. import clock
from ..errors import EcwidError, Throttled
from ..storage.state import MemoryState, State, StateUnavailable

LOOK_EVERY_S = 0.1  # between looks into the shared state, because each is a system call or more
LOOK_MOST_S = 2.0  # that a thread waits for the look of another thread
_PAUSE_MOST_S = 3600.0  # replies.py caps the seconds that Ecwid asks for at the same figure
_PUBLISH_ATTEMPTS = 5  # while other processes change the pause at the same moment
_KEPT_S = 3600.0  # after the pause, while the state waits for a probe


@dataclass(frozen=True)
class Pause:
    """A pause of all calls with one token."""

    until: float  # UNIX seconds
    seconds: float  # for which the pause began, and for which a failed probe begins it again
    probed: bool  # whether one call goes first after the pause
    detail: str  # for the problem of a call that is pause back

    @classmethod
    def from_json(cls, value: bytes) -> Pause:
        """Read what `to_json` wrote."""
        return cls(**orjson.loads(value))

    def to_json(self) -> bytes:
        """Return the bytes that the shared state keeps."""
        return orjson.dumps(self)

    def left_s(self) -> float:
        """Return the seconds that are left.

        More seconds than any pause has mean that a clock was set back, and count as none.
        """
        left_s = self.until - clock.wall()
        return left_s if left_s <= _PAUSE_MOST_S else 0.0

    def joined(self, other: Pause | None) -> Pause:
        """Return the longer of both pauses, with a probe after it if either has one."""
        if other is None:
            return self
        longer, shorter = (self, other) if self.until >= other.until else (other, self)
        if shorter.probed and not longer.probed:
            return replace(longer, seconds=shorter.seconds, probed=True)
        return longer


class SharedPause:
    """The pause of all processes that share a state.

    Each process goes by what it knows of the pause, and by that alone while the state is
    unavailable.

    The lock guards memory alone, and the shared state is read and changed outside of it. So a look
    can overlap a change of this process. Such a look is discarded, because its result may be older
    than the change. Without that, a call would be sent during a pause that this process has seen.
    """

    def __init__(self, shared: State | None, name: str) -> None:
        self._shared = shared or MemoryState()
        self._name = name
        self._lock = clock.Lock()
        self._known: Pause | None = None  # as of the last look or change
        self._owed: Pause | None = None  # begun here, and not published yet
        self._look_next = 0.0
        self._looking: clock.Event | None = None  # set at the end of the look that is under way
        self._changing = 0  # changes of this process that are under way
        self._changed = 0  # changes of this process that are over

    def check(self) -> Pause | None:
        """Return the pause that is over, if one call must go first now, and None otherwise.

        Raises:
            Throttled: The pause holds.
        """
        pause = self._known
        if pause is None and clock.now() < self._look_next:
            return None
        if self._is_outdated(pause):
            pause = self._look()
        if pause is None:
            return None
        if pause.left_s() > 0:
            raise Throttled(pause.left_s(), pause.detail)
        return pause if pause.probed else None

    def claim_probe(self, pause: Pause) -> Pause:
        """Begin the pause again while one call goes first, and return it.

        Raises:
            Throttled: Another call goes first already.
        """
        renewed = replace(pause, until=clock.wall() + pause.seconds)
        if not self._replaced(pause, renewed):
            raise Throttled(pause.seconds, pause.detail)
        return renewed

    def release_probe(self, pause: Pause) -> None:
        """Let another call go first at once, because the one that claimed it is not made."""
        self._replaced(pause, replace(pause, until=clock.wall()))

    def begin(self, error: EcwidError, pause_s: float) -> None:
        """Begin a pause for all, or make the present one longer."""
        until = clock.wall() + pause_s
        begun = Pause(until, pause_s, error.probed, f"Ecwid, a moment ago: {error.detail}")
        with self._change():
            with self._lock:
                self._known = begun.joined(self._known)
                self._owed = owed = begun.joined(self._owed)
            with suppress(StateUnavailable):
                after = self._published(owed)
                with self._lock:
                    if self._owed == owed:  # otherwise a later pause is longer
                        self._known, self._owed = after, None

    def end(self, pause: Pause) -> None:
        """End the pause for all, because Ecwid accepted the call that went first."""
        with self._change():
            with suppress(StateUnavailable):
                self._compare_and_swap(pause, None)
            with self._lock:
                if self._known == pause:
                    self._known = self._owed = None

    def _replaced(self, before: Pause, after: Pause) -> bool:
        """Replace the pause for all, and return False if it is not `before` any more.

        This process goes first by its own memory, so only one of its threads can win. Then the
        shared state decides between the processes.
        """
        with self._change():
            with self._lock:
                mine = self._known == before
                if mine:
                    self._known = after
            if mine:
                with suppress(StateUnavailable):
                    mine = self._compare_and_swap(before, after)
            if not mine:
                with self._lock:
                    if self._known == after:
                        self._known = before
                    self._look_next = 0.0
        return mine

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Discard the result of each look that overlaps the change made inside."""
        with self._lock:
            self._changing += 1
        try:
            yield
        finally:
            with self._lock:
                self._changing -= 1
                self._changed += 1

    def _is_outdated(self, pause: Pause | None) -> bool:
        """Return whether other processes may have begun or ended a pause since the last look."""
        return clock.now() >= self._look_next or (pause is not None and pause.left_s() <= 0)

    def _look(self) -> Pause | None:
        """Read the shared state in one thread, and let the others wait for its result.

        Without the wait, the others would send calls during a pause that they have not seen yet.
        """
        with self._lock:
            if not self._is_outdated(self._known):
                return self._known
            looking = self._looking
            if looking is None:
                self._looking = mine = clock.Event()
        if looking is None:
            try:
                self._update()
            finally:
                with self._lock:
                    self._look_next = clock.now() + LOOK_EVERY_S
                    if self._looking is mine:
                        self._looking = None
                mine.set()
        elif not looking.wait(LOOK_MOST_S):
            with self._lock:
                if self._looking is looking:  # its thread hangs, or did not survive a fork
                    self._looking = None
                    self._changed += 1  # so that a late result is discarded
        return self._known

    def _update(self) -> None:
        """Read the pause of the other processes, and publish one that they do not know yet."""
        with self._lock:
            owed, changed = self._owed, self._changed
        with suppress(StateUnavailable):
            found = self._published(owed) if owed else self._read()
            with self._lock:
                if not self._changing and self._changed == changed:
                    self._known, self._owed = found, None

    def _published(self, owed: Pause) -> Pause:
        """Publish a pause, and return the one that holds for all then.

        Raises:
            StateUnavailable: The state is unavailable, or other processes change it all the time.
        """
        for _ in range(_PUBLISH_ATTEMPTS):
            pause = self._read()
            after = owed.joined(pause)
            if after == pause or self._compare_and_swap(pause, after):
                return after
        raise StateUnavailable

    def _read(self) -> Pause | None:
        value = self._shared.read(self._name)
        return Pause.from_json(value) if value else None

    def _compare_and_swap(self, before: Pause | None, after: Pause | None) -> bool:
        ttl_s = 0.0
        if after:
            ttl_s = max(after.left_s(), 0.001) + (_KEPT_S if after.probed else 0.0)
        return self._shared.compare_and_swap(
            self._name,
            before.to_json() if before else None,
            after.to_json() if after else None,
            ttl_s,
        )
