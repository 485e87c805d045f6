"""Decide whether a call may be made now, and whether a failed call may be repeated.

The order of the checks is breaker, pause, rate limit. All workers and hosts with the same storage
share the pause of a token. Each process has its own breaker and its own retry budget for each
token. All stores of a process share the breaker of connections, because Ecwid is one host.

A caller's question may be the only one that fails, for example because of a firewall before Ecwid.
So the breaker opens, and a refusal without a code begins a pause, only after the neutral question
has failed as well. Otherwise one caller could stop the service for everybody.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from cachetools import LRUCache

from .. import clock
from ..errors import (
    REFUSED_TOKEN_S,
    SUSPICIONS_MOST,
    DeadlineExceeded,
    EcwidError,
    NotSent,
    Throttled,
    TooLate,
)
from ..settings import Settings
from ..storage.memory_state import MemoryState
from ..storage.opening import Storage
from ..storage.state import delete
from .breaker import Breaker
from .pause import Pause, SharedPause
from .rate_limit import Counters, RateLimit

RETRY_BUDGET = 50  # The most that the retry budget holds.
RETRY_COST = 5
TIMEOUT_COST = 10  # A repetition after a timeout costs more, because a timeout holds a thread.
# The first call over a kept connection has given 1. So all kept connections may be lost at once.
CONNECTION_COST = 1
_BUDGETS_MOST = 20_000  # How many retry budgets are kept for stores that were closed.
ASKING_MOST_S = 2.0  # The longest time that a call waits for the reply to the neutral question.


@dataclass(frozen=True)
class Permit:
    """The permission to make a call.

    The holder passes the permit to `record_success`, `record_failure` or `release` afterwards.
    """

    counted_at: clock.Moment  # The moment before the rate limit counted the call.
    is_probe: bool = False  # The call has to be the neutral question.
    of_breaker: bool = False  # The call is the probe of the open breaker.
    pause: Pause | None = None  # The pause of all other calls, if the call is its probe.
    tests_host: bool = False  # The call is the probe of the breaker that all stores share.


class Guard:
    """The checks before each call with one token. Threads share a guard."""

    def __init__(
        self,
        rate_limit: RateLimit,
        pause: SharedPause,
        host: Breaker | None = None,
        retry_budget: RetryBudget | None = None,
    ) -> None:
        """Make a guard without failures.

        Args:
            rate_limit: The calls per minute of the token.
            pause: The pause of the token.
            host: The breaker of all stores, which failures to connect open.
            retry_budget: The limit of repetitions, which begins full by default.
        """
        self.rate_limit = rate_limit
        self._pause = pause
        self._breaker = Breaker()
        self._host = host or Breaker()
        self._retry_budget = retry_budget or RetryBudget()
        self._suspicions = 0  # in a row
        self._question = _Question()

    def acquire(self, deadline: float) -> Permit:
        """Return the permit of a call that is about to be made.

        If the permit is a probe, its holder asks the neutral question instead of its own. Then the
        holder acquires the permit of its own call.

        Args:
            deadline: The moment of `clock.now()` at which the call must have ended.

        Raises:
            Throttled: The breaker is open, a pause holds, or no call remains.
        """
        pause = self._check()
        asks = False
        if pause is None and self._is_in_doubt():
            asks = self._question.claim(deadline)
            if not asks:
                pause = self._check()  # because the neutral question of another call has failed
                if pause is None and self._is_in_doubt():
                    # The question has no reply. Otherwise all waiting calls would go at once.
                    raise Throttled(1, "Several calls have failed in a row.")
        permit = Permit(clock.Moment.seconds_ago(), is_probe=asks)
        try:
            self.rate_limit.acquire()
            if self._breaker.has_opened:
                self._breaker.claim_probe()
                permit = replace(permit, is_probe=True, of_breaker=True)
            if self._host.has_opened:
                self._host.claim_probe()
                permit = replace(permit, is_probe=True, tests_host=True)
            if pause:
                permit = replace(permit, is_probe=True, pause=self._pause.claim_probe(pause))
        except Throttled:
            self.release(permit)
            raise
        return permit

    def _check(self) -> Pause | None:
        """Check breaker and pause.

        Returns:
            A pause that is over and waits for its probe, or None.

        Raises:
            Throttled: The breaker is open, or a pause holds.
        """
        for breaker in (self._breaker, self._host):
            if breaker.failures:
                breaker.check()
        return self._pause.check()

    def _is_in_doubt(self) -> bool:
        """Return whether many calls in a row have failed, and Ecwid may fail every call."""
        return self._suspicions >= SUSPICIONS_MOST or self._breaker.is_in_doubt

    def acquire_for_search(self) -> Permit:
        """Return the permit of a search for the customer of a failed creation.

        The search ignores breaker and pause, because only the search can find out whether the
        customer was created.

        Raises:
            BudgetSpent: No call remains.
        """
        permit = Permit(clock.Moment.seconds_ago())
        self.rate_limit.acquire()
        return permit

    def release(self, permit: Permit) -> None:
        """Give a permit back, because its call is not made.

        If the call was the probe, another call may then be the probe. Otherwise the guard would
        refuse all calls until the breaker's time or the pause has passed once more.
        """
        if permit.of_breaker:  # The breaker may have opened since a permit for a question alone.
            self._breaker.release_probe()
        if permit.is_probe:
            self._question.release()
        if permit.tests_host:
            self._host.release_probe()
        if permit.pause:
            self._pause.release_probe(permit.pause)

    def record_success(self, permit: Permit, *, first: bool) -> None:
        """Record a good reply.

        Args:
            permit: The permit of the call.
            first: True if the reply belongs to the first attempt. Only first attempts add to the
                retry budget, so that repetitions cannot pay for more repetitions.
        """
        for breaker in (self._breaker, self._host):
            if breaker.failures:
                breaker.record_success()
        self._suspicions = 0
        if permit.pause:
            self._pause.end(permit.pause)
        if permit.is_probe:
            self._question.release()
        if first:
            self._retry_budget.give()

    def record_failure(self, permit: Permit, error: EcwidError) -> None:
        """Record that a call failed, and begin a pause of all calls if the error asks for it.

        A failure that may be the fault of one question concerns all calls only if the call was the
        neutral question.
        """
        if error.blames_connection:
            self.release(permit)  # Ecwid has neither failed nor replied.
            return
        if error.trips_breaker:
            self._breaker.record_failure(is_probe=permit.is_probe)
        else:
            self._breaker.record_success()  # Ecwid has replied, so Ecwid is reachable.
        self._record_connection(error)
        pause_s = error.pause_s
        if error.suspicions:
            self._suspicions += error.suspicions
            is_confirmed = permit.is_probe and self._suspicions >= SUSPICIONS_MOST
            pause_s = (pause_s or REFUSED_TOKEN_S) if is_confirmed else 0.0
        if pause_s:
            self._pause.begin(error, pause_s)
        elif error.proves_token:
            self._suspicions = 0
            if permit.pause:
                self._pause.end(permit.pause)
        if permit.is_probe:
            self._question.release()

    def _record_connection(self, error: EcwidError) -> None:
        """Record for all stores whether there was a connection, because Ecwid is one host.

        No question of a caller can prevent a connection, so the breaker needs no neutral question.
        """
        if isinstance(error, NotSent) and error.trips_breaker:
            self._host.record_failure(is_probe=True)
        elif self._host.failures:
            self._host.record_success()

    @property
    def must_stay(self) -> bool:
        """True if the guard knows something that no storage knows, so its store stays open."""
        return self._breaker.is_open or self._pause.is_owed

    def forget_pause(self) -> None:
        """Forget what this process knows of the pause, which was deleted from the storage."""
        self._pause.forget()

    def may_repeat(self, error: EcwidError) -> bool:
        """Take the cost of a repetition from the retry budget.

        Return False if the budget is too low, or if the next call has to be the neutral question.
        A later request has more time for that question than the repetition of this one.
        """
        if self._is_in_doubt():
            return False
        if isinstance(error, TooLate):
            return True  # No byte of the call was sent, so Ecwid gets no further call.
        cost = TIMEOUT_COST if isinstance(error, DeadlineExceeded) else RETRY_COST
        return self._retry_budget.take(CONNECTION_COST if error.blames_connection else cost)


class _Question:
    """The neutral question under way, for whose reply the other calls of the process wait.

    Without the wait, the others would go on making calls with a token that Ecwid refuses.
    """

    def __init__(self) -> None:
        self._lock = clock.Lock()
        self._answered: clock.Event | None = None  # Set when the question under way is answered.

    def claim(self, deadline: float) -> bool:
        """Return True if the caller has to ask, or wait while another call asks.

        The wait ends after `ASKING_MOST_S`, so a question that hangs holds no other call for long.
        """
        with self._lock:
            answered = self._answered
            if answered is None:
                self._answered = clock.Event()
                return True
        if not answered.wait(max(0.0, min(ASKING_MOST_S, deadline - clock.now()))):
            with self._lock:
                if self._answered is answered:  # Its thread hangs, or did not survive a fork.
                    self._answered = None
        return False

    def release(self) -> None:
        """Let the waiting calls go on."""
        with self._lock:
            answered, self._answered = self._answered, None
        if answered:
            answered.set()


class RetryBudget:
    """The limit of repetitions of a process, so that repetitions never become most of the calls.

    The budget begins full. Each first attempt that succeeds adds one, up to `RETRY_BUDGET`. Time
    adds nothing.
    """

    def __init__(self) -> None:
        self._lock = clock.Lock()
        self._level = RETRY_BUDGET

    def take(self, cost: int) -> bool:
        """Take the cost, or return False if the budget holds less."""
        with self._lock:
            if self._level < cost:
                return False
            self._level -= cost
            return True

    def give(self) -> None:
        """Add one to the budget, which never exceeds `RETRY_BUDGET`."""
        if self._level < RETRY_BUDGET:
            with self._lock:
                self._level = min(self._level + 1, RETRY_BUDGET)


class Guards:
    """The guards of all tokens, and what the guards share."""

    def __init__(self, settings: Settings, storage: Storage) -> None:
        """Open no guard yet."""
        self._per_minute, self._hosts = settings.calls_per_minute, settings.hosts
        self._storage = storage
        self._counters = Counters(storage, settings.redis_url)
        self._host = Breaker()
        self._memory = MemoryState()  # the pauses of this process, if no other process shares them
        # Closed stores. Without it, a store could fill its budget by being closed and opened.
        self._budgets: LRUCache[str, RetryBudget] = LRUCache(_BUDGETS_MOST)
        self._lock = clock.Lock()

    def open(self, token_digest: str) -> Guard:
        """Return the guard of one token's calls, without a connection.

        With Redis, all hosts share the pause. Without Redis, the workers of one gunicorn share the
        pause through a file, under the service name that gunicorn's master gives them. Otherwise
        each process has its own pause.
        """
        rate_limit = RateLimit(self._per_minute, self._hosts, self._counters, token_digest)
        made = RetryBudget()
        with self._lock:
            budget = self._budgets.setdefault(token_digest, made)
        return Guard(rate_limit, self._pause(f"{token_digest}:pause"), self._host, budget)

    def _pause(self, key: str) -> SharedPause:
        service = os.environ.get("GUNICORN_ECWID_SERVICE")
        if self._storage.shared is not self._storage.host:
            return SharedPause(self._storage.shared, key)
        if service:
            return SharedPause(self._storage.shared, f"{key}:{service}")
        return SharedPause(self._memory, key)

    def forget_pauses(self, store_digest: str) -> None:
        """Delete the pauses of all tokens of a store.

        Raises:
            StateUnavailable: The storage cannot be reached.
        """
        for state in (self._memory, self._storage.shared):
            delete(state, f"{store_digest}:", lambda rest: "pause" in rest.split(":"))
