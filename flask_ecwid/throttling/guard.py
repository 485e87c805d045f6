"""Whether a call may be made at all: breaker, latch, budget; and whether once more: the bucket.

The latch is closed when Ecwid asks for a pause or refuses this service, and holds for every worker
and host that shares its state. Breaker and bucket are of this process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import orjson

from .. import clock
from ..errors import DEAD_TOKEN_S, DeadlineExceeded, EcwidError, HeldBack
from ..settings import Settings
from ..storage.opening import Storage
from ..storage.state import MemoryState, State, StateGone
from .rate_limit import Budget

BREAKER_FAILURES = 5  # in a row
BREAKER_OPEN_S = 10.0  # doubled with each probe that fails
BREAKER_OPEN_MOST_S = 60.0
BUCKET_SIZE = 50
RETRY_COST = 5
TIMEOUT_COST = 10
UNEXPLAINED_MOST = 3  # refusals in a row that may be of the token, until it is taken for dead
LOOK_EVERY_S = 0.1  # at what others have seen: each look is a system call, or more
LOOK_MOST_S = 2.0  # for a thread to wait for another one's look
_HELD_MOST_S = 3600.0  # as faults.py caps what Ecwid asks for
_CLOSINGS = 5  # of a latch, at most, while others close it at the same moment
_LATCH_KEPT_S = 3600.0  # after its time has passed, while it waits for a probe


class Guard:
    """What stands between a call and the transport. Safe to share between threads."""

    def __init__(self, budget: Budget, latch: Latch) -> None:
        self.budget = budget
        self._latch = latch
        self._breaker = _Breaker()
        self._bucket = _Bucket()
        self._unexplained = 0  # in a row

    def admit(self) -> Admission:
        """Admit a call that is about to be made.

        The admission goes to `succeeded` or `failed`, or to `release` if the call is not made.

        Raises:
            HeldBack: it must not be made.
        """
        self._breaker.check()
        held = self._latch.check()
        self.budget.take()
        admission = Admission(probes=self._breaker.claim())
        if held is None:
            return admission
        try:
            return replace(admission, held=self._latch.claimed(held))
        except HeldBack:
            self.release(admission)
            raise

    def admit_lookup(self) -> Admission:
        """Admit a call that ends a creation which has failed, in spite of breaker and latch.

        Raises:
            BudgetSpent: none is left.
        """
        self.budget.take()
        return Admission()

    def release(self, admission: Admission) -> None:
        """Let another call go first, because the admitted call is not made.

        Otherwise nobody would ask Ecwid until the time of breaker and latch was over again.
        """
        if admission.probes:
            self._breaker.release()
        if admission.held:
            self._latch.release(admission.held)

    def succeeded(self, admission: Admission, *, first: bool) -> None:
        """The call had a good reply; `first`: without being made again."""
        held = admission.held
        self._breaker.succeeded()
        self._unexplained = 0
        if held:
            self._latch.open(held)
        if first:
            self._bucket.give()

    def failed(self, admission: Admission, error: EcwidError) -> None:
        """The call had none."""
        held = admission.held
        if error.of_gateway:
            self._breaker.failed()
        else:
            self._breaker.succeeded()  # Ecwid is there, whatever it said
        if error.unexplained:
            self._unexplained += 1
            if self._unexplained >= UNEXPLAINED_MOST:
                error = error.changed(holds_s=DEAD_TOKEN_S)
        if error.holds_s:
            self._latch.close(error)
        elif error.let_in:
            self._unexplained = 0
            if held:
                self._latch.open(held)

    def may_repeat(self, error: EcwidError) -> bool:
        """Whether there is any left of what this process may spend on repeated calls."""
        timed_out = isinstance(error, DeadlineExceeded)
        return self._bucket.take(TIMEOUT_COST if timed_out else RETRY_COST)


def open_guard(settings: Settings, storage: Storage) -> Guard:
    """Return the guard of one token's calls. Opens no connection.

    Its latch is shared through Redis, or else by the workers of one gunicorn, whose master names
    their service. Without either it is of this process.
    """
    name = settings.token_name
    budget = Budget(settings.calls_per_minute, settings.processes, storage.redis, name)
    service = os.environ.get("GUNICORN_ECWID_SERVICE")
    if storage.redis is not None:
        return Guard(budget, Latch(storage.shared, f"{name}:latch"))
    if service:
        return Guard(budget, Latch(storage.shared, f"{name}:latch:{service}"))
    return Guard(budget, Latch(None, name))


@dataclass(frozen=True)
class Admission:
    """An admitted call, and whether breaker or latch let it go first to see."""

    held: Held | None = None  # the latch, as it is closed for the others meanwhile
    probes: bool = False  # whether the breaker is closed for the others meanwhile


@dataclass(frozen=True)
class Held:
    """A latch that was closed: `until` UNIX seconds, for `seconds`."""

    until: float
    seconds: float
    probed: bool
    detail: str

    @classmethod
    def read(cls, value: bytes) -> Held:
        return cls(**orjson.loads(value))

    def written(self) -> bytes:
        return orjson.dumps(self)

    def left(self) -> float:
        """Seconds; none where they are more than anybody holds it for: a clock was set back."""
        left = self.until - clock.wall()
        return left if left <= _HELD_MOST_S else 0.0

    def joined(self, other: Held | None) -> Held:
        """As long as the longer of both, and with a single call first if either asks for it."""
        if other is None:
            return self
        longer, shorter = (self, other) if self.until >= other.until else (other, self)
        if shorter.probed and not longer.probed:
            return replace(longer, seconds=shorter.seconds, probed=True)
        return longer


class Latch:
    """Closed for a time, for all that share its state. Each process goes by what it knows of it,
    and while the state is gone, by that alone.

    The lock guards memory alone, and the shared state is read and changed outside of it. So a look
    can overlap a change of this process. Such a look is discarded, because its result may be older
    than the change. Without that, a call would be sent during a pause that this process has seen.
    """

    def __init__(self, shared: State | None, name: str) -> None:
        self._shared = shared or MemoryState()
        self._name = name
        self._lock = clock.Lock()
        self._known: Held | None = None  # as of the last look or change
        self._owed: Held | None = None  # closed here, and not told to the others yet
        self._look_next = 0.0
        self._looking: clock.Event | None = None  # set at the end of the look that is under way
        self._changing = 0  # changes of this process that are under way
        self._changed = 0  # changes of this process that are over

    def check(self) -> Held | None:
        """The latch as it was closed, if a call must go first now to see.

        Raises:
            HeldBack: it is closed.
        """
        held = self._known
        if self._is_outdated(held):
            held = self._look()
        if held is None:
            return None
        if held.left() > 0:
            raise HeldBack(held.left(), held.detail)
        return held if held.probed else None

    def claimed(self, held: Held) -> Held:
        """The latch, closed again while one call goes first.

        Raises:
            HeldBack: another one does already.
        """
        renewed = replace(held, until=clock.wall() + held.seconds)
        if not self._replaced(held, renewed):
            raise HeldBack(held.seconds, held.detail)
        return renewed

    def release(self, held: Held) -> None:
        """Let another call go first at once, because the one that claimed it is not made."""
        self._replaced(held, replace(held, until=clock.wall()))

    def close(self, error: EcwidError) -> None:
        until = clock.wall() + error.holds_s
        closed = Held(until, error.holds_s, error.probed, f"Ecwid, a moment ago: {error.detail}")
        with self._change():
            with self._lock:
                self._known = closed.joined(self._known)
                self._owed = owed = closed.joined(self._owed)
            with suppress(StateGone):
                after = self._told(owed)
                with self._lock:
                    if self._owed == owed:  # otherwise a later closing tells more
                        self._known, self._owed = after, None

    def open(self, held: Held) -> None:
        """The call that went first was let in."""
        with self._change():
            with suppress(StateGone):
                self._swap(held, None)
            with self._lock:
                if self._known == held:
                    self._known = self._owed = None

    def _replaced(self, before: Held, after: Held) -> bool:
        """Replace the latch for all, and return False if it is not `before` any more.

        This process goes first by its own memory, so only one of its threads can win. Then the
        shared state decides between the processes.
        """
        with self._change():
            with self._lock:
                mine = self._known == before
                if mine:
                    self._known = after
            if mine:
                with suppress(StateGone):
                    mine = self._swap(before, after)
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

    def _is_outdated(self, held: Held | None) -> bool:
        """Others may have closed it since, or, when its time has passed, opened it."""
        return clock.now() >= self._look_next or (held is not None and held.left() <= 0)

    def _look(self) -> Held | None:
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
        """Learn what others have closed or opened, and tell them what they do not know yet."""
        with self._lock:
            owed, changed = self._owed, self._changed
        with suppress(StateGone):
            found = self._told(owed) if owed else self._read()
            with self._lock:
                if not self._changing and self._changed == changed:
                    self._known, self._owed = found, None

    def _told(self, owed: Held) -> Held:
        """Tell the others of a closing, and return the latch as all know it then.

        Raises:
            StateGone: others change it all the time, or the state is gone.
        """
        for _ in range(_CLOSINGS):
            held = self._read()
            after = owed.joined(held)
            if after == held or self._swap(held, after):
                return after
        raise StateGone

    def _read(self) -> Held | None:
        value = self._shared.read(self._name)
        return Held.read(value) if value else None

    def _swap(self, before: Held | None, after: Held | None) -> bool:
        ttl_s = 0.0
        if after:
            ttl_s = max(after.left(), 0.001) + (_LATCH_KEPT_S if after.probed else 0.0)
        return self._shared.swap(
            self._name,
            before.written() if before else None,
            after.written() if after else None,
            ttl_s,
        )


class _Breaker:
    """Opens after failures of the gateway in a row; then one call at a time tries again."""

    def __init__(self) -> None:
        self._lock = clock.Lock()
        self._failures = 0
        self._open_until = 0.0
        self._open_s = BREAKER_OPEN_S
        self._probing = False

    def check(self) -> None:
        if self._failures >= BREAKER_FAILURES:
            left = self._open_until - clock.now()
            if left > 0:
                raise HeldBack(left, "Ecwid has failed several times in a row.")

    def claim(self) -> bool:
        """Return whether the call goes first, while the others are held back.

        Raises:
            HeldBack: another one does already.
        """
        if self._failures < BREAKER_FAILURES:
            return False
        with self._lock:
            self.check()
            self._probing = True
            self._open_until = clock.now() + self._open_s
        return True

    def release(self) -> None:
        """Let another call go first at once."""
        with self._lock:
            if self._probing:
                self._probing = False
                self._open_until = 0.0

    def succeeded(self) -> None:
        if self._failures:
            with self._lock:
                self._failures = 0
                self._open_s = BREAKER_OPEN_S
                self._probing = False

    def failed(self) -> None:
        with self._lock:
            self._failures += 1
            if self._failures == BREAKER_FAILURES:
                self._open_until = clock.now() + self._open_s
            elif self._probing:
                self._probing = False
                self._open_s = min(2 * self._open_s, BREAKER_OPEN_MOST_S)
                self._open_until = clock.now() + self._open_s


class _Bucket:
    """What may be spent on repeated calls, so that they never become most of the calls."""

    def __init__(self) -> None:
        self._lock = clock.Lock()
        self._level = BUCKET_SIZE

    def take(self, cost: int) -> bool:
        with self._lock:
            if self._level < cost:
                return False
            self._level -= cost
            return True

    def give(self) -> None:
        if self._level < BUCKET_SIZE:
            with self._lock:
                self._level = min(self._level + 1, BUCKET_SIZE)
