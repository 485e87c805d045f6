"""Decide whether a call may be made now, and whether a failed call may be repeated.

The order of the checks is breaker, pause, rate limit. All workers and hosts with the same storage
share the pause of a token. Each process has its own breaker and its own retry budget for each
token. All stores of a process share the breaker of connections, because Ecwid is one host.

A caller's question may be the only one that fails, for example because of a firewall before Ecwid.
So the breaker opens, and a refusal without a code begins a pause, only after the neutral question
has failed as well. Otherwise one caller could stop the service for everybody.

If the stores are many, a call with a token that Ecwid has not accepted is a trial. Trials need a
place of `trials.py`, and one thread of a process tries a token while the others wait.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from enum import Enum

from cachetools import LRUCache

from .. import clock
from ..errors import (
    REFUSED_TOKEN_S,
    SUSPICIONS_MOST,
    DeadlineExceeded,
    EcwidError,
    NoReply,
    NotSent,
    ServiceRefused,
    Throttled,
    TooLate,
)
from ..settings import Settings, StoreCredentials
from ..storage.memory_state import MemoryState
from ..storage.opening import Storage
from ..storage.state import delete
from .breaker import Breaker
from .pause import Pause, SharedPause
from .proof import Proof, is_acceptance
from .rate_limit import Counters, RateLimit
from .trials import Trial, Trials

RETRY_BUDGET = 50  # The most that the retry budget holds.
RETRY_COST = 5
TIMEOUT_COST = 10  # A repetition after a timeout costs more, because a timeout holds a thread.
# The first call over a kept connection has given 1. So all kept connections may be lost at once.
CONNECTION_COST = 1
_CLOSED_MOST = 20_000  # How many stores are remembered after they were closed.
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
    is_awaited: bool = False  # Other calls with the token wait for the outcome.
    trial: Trial | None = None  # The place of the call, if Ecwid has not accepted the token.


class Guard:
    """The checks before each call with one token. Threads share a guard."""

    def __init__(
        self,
        rate_limit: RateLimit,
        pause: SharedPause,
        host: Breaker | None = None,
        retry_budget: RetryBudget | None = None,
        proof: Proof | None = None,
        trials: Trials | None = None,
    ) -> None:
        """Make a guard without failures.

        Args:
            rate_limit: The calls per minute of the token.
            pause: The pause of the token.
            host: The breaker of all stores, which failures to connect open.
            retry_budget: The limit of repetitions, which begins full by default.
            proof: The proof that Ecwid has accepted the token. By default the token needs none.
            trials: The places of all stores for calls without a proof, if there is a `proof`.
        """
        self.rate_limit = rate_limit
        self._pause = pause
        self._breaker = Breaker()
        self._host = host or Breaker()
        self._retry_budget = retry_budget or RetryBudget()
        self._proof = proof
        self._trials = trials
        self._suspicions = 0  # in a row
        self._suspected_at = 0.0  # When the first of them came, as a value of `clock.now()`.
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
        pause, asks = self._wait_for_question(deadline)
        permit = Permit(
            clock.Moment.seconds_ago(), is_probe=asks and self._is_in_doubt(), is_awaited=asks
        )
        try:
            if self._trials and not self.is_proven:
                trial = self._trials.begin(deadline, again=pause is not None)
                permit = replace(permit, trial=trial, counted_at=clock.Moment.seconds_ago())
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

    def _wait_for_question(self, deadline: float) -> tuple[Pause | None, bool]:
        """Check breaker and pause, and wait while another call asks the question of the guard.

        Returns:
            A pause that is over and waits for its probe, or None. And whether the other calls wait
            for this one.

        Raises:
            Throttled: The breaker is open, a pause holds, or the question has no reply.
        """
        waits_until = min(deadline, clock.now() + ASKING_MOST_S)
        pause = self._check()
        while pause is None and (self._is_in_doubt() or not self.is_proven):
            claim = self._question.claim(waits_until)
            if claim is _Claim.TO_ASK:
                return None, True
            pause = self._check()  # because the question of another call has failed
            if claim is _Claim.NOT_ASKED and clock.now() < waits_until:
                continue  # This call may ask, and may learn that no call of the rate limit remains.
            if pause is None and self._is_in_doubt():
                # The question has no reply. Otherwise all waiting calls would go at once.
                raise Throttled(1, "Several calls have failed in a row.")
            if pause is None and not self.is_proven and clock.now() >= waits_until:
                raise Throttled(1, "Ecwid has not accepted this store's token yet.")
        return pause, False

    @property
    def is_proven(self) -> bool:
        """True if Ecwid has accepted the token, or if the token needs no proof."""
        return self._proof is None or self._proof.is_given

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

    def acquire_despite_refusal(self) -> Permit:
        """Return the permit of a question whether Ecwid still refuses the token.

        The question ignores the pause of the refused token. Otherwise the calls of busy callers
        would prolong the pause, and nobody else could ask. Each webhook event asks once, and the
        places of the host for refused tokens count the refusal.

        Raises:
            BudgetSpent: No call remains.
        """
        permit = Permit(clock.Moment.seconds_ago(), is_probe=True)
        self.rate_limit.acquire()
        return permit

    def release(self, permit: Permit) -> None:
        """Give a permit back, because its call is not made.

        If the call was the probe, another call may then be the probe. Otherwise the guard would
        refuse all calls until the breaker's time or the pause has passed once more.
        """
        self._release(permit, was_asked=False)

    def _release(self, permit: Permit, *, was_asked: bool) -> None:
        if permit.of_breaker:  # The breaker may have opened since a permit for a question alone.
            self._breaker.release_probe()
        self._end_question(permit, was_asked=was_asked)
        self._end_trial(permit, is_counted=False)
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
        self._end_suspicions(permit)
        if permit.pause:
            self._pause.end(permit.pause)
        if self._proof:
            self._proof.accept(permit.counted_at)
        self._end_trial(permit, is_counted=False)
        self._end_question(permit)
        if first:
            self._retry_budget.give()

    def record_failure(self, permit: Permit, error: EcwidError) -> None:
        """Record that a call failed, and begin a pause of all calls if the error asks for it.

        A failure that may be the fault of one question concerns all calls only if the call was the
        neutral question.
        """
        if error.blames_connection:
            # Ecwid has neither failed nor replied.
            permit = self._end_trial(permit, is_counted=isinstance(error, NoReply))
            self._release(permit, was_asked=True)
            return
        if error.trips_breaker:
            self._breaker.record_failure(is_probe=permit.is_probe)
        else:
            self._breaker.record_success()  # Ecwid has replied, so Ecwid is reachable.
        self._record_connection(error)
        pause_s = error.pause_s
        if error.suspicions:
            self._suspected_at = self._suspected_at if self._suspicions else clock.now()
            self._suspicions += error.suspicions
            is_confirmed = permit.is_probe and self._suspicions >= SUSPICIONS_MOST
            is_confirmed = is_confirmed or permit.trial is not None
            pause_s = (pause_s or REFUSED_TOKEN_S) if is_confirmed else 0.0
        if self._proof and _is_refused_token(permit, error, pause_s):
            self._proof.withdraw()
            if self._trials and permit.trial is None:
                self._trials.count()
            self._pause.begin_after_refusal(error, permit.pause)
        elif pause_s:
            self._pause.begin(error, pause_s)
        elif error.proves_token:
            self._end_suspicions(permit)
            if permit.pause:
                self._pause.end(permit.pause)
        if self._proof and is_acceptance(error):
            self._proof.accept(permit.counted_at)
        may_be_refused = isinstance(error, (NoReply, ServiceRefused))
        self._end_trial(permit, is_counted=may_be_refused and error.reason != "ecwid-scope")
        self._end_question(permit)

    def _end_suspicions(self, permit: Permit) -> None:
        """Trust Ecwid again, because Ecwid has accepted the token.

        A slow reply to a call from before the first suspicion does not tell what Ecwid thinks now.
        """
        if permit.counted_at.monotonic >= self._suspected_at:
            self._suspicions = 0

    def _end_trial(self, permit: Permit, *, is_counted: bool) -> Permit:
        """Give the place of a trial back, or keep it for a minute if the trial counts.

        Returns:
            The permit without the place.
        """
        if self._trials and permit.trial:
            end = self._trials.keep if is_counted else self._trials.give_back
            end(permit.trial)
        return replace(permit, trial=None) if permit.trial else permit

    def _end_question(self, permit: Permit, *, was_asked: bool = True) -> None:
        """Let the calls go on that wait for the outcome of this one."""
        if permit.is_probe or permit.is_awaited:
            self._question.release(was_asked=was_asked)

    def _record_connection(self, error: EcwidError) -> None:
        """Record for all stores whether there was a connection, because Ecwid is one host.

        No question of a caller can prevent a connection, so the breaker needs no neutral question.
        """
        if isinstance(error, NotSent) and error.trips_breaker:
            self._host.record_failure(is_probe=True)
        elif self._host.failures:
            self._host.record_success()

    @property
    def pause(self) -> Pause | None:
        """The pause of the token as this process has seen it last, or None."""
        return self._pause.known

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


def _is_refused_token(permit: Permit, error: EcwidError, pause_s: float) -> bool:
    """Return whether Ecwid refuses the token, and not its plan or its store.

    A token that Ecwid has never accepted is refused for any reason that the reply does not say.
    """
    if permit.trial:
        return isinstance(error, ServiceRefused) and error.reason in ("token", "unknown")
    return error.reason == "token" and pause_s > 0


class _Claim(Enum):
    """The outcome of a claim of the question."""

    TO_ASK = "The caller has to ask."
    NOT_ASKED = "The other call did not ask, for example because no call of the limit remained."
    OVER = "The other call has asked, or has not ended in time."


class _Question:
    """The neutral question under way, for whose reply the other calls of the process wait.

    Without the wait, the others would go on making calls with a token that Ecwid refuses.
    """

    def __init__(self) -> None:
        self._lock = clock.Lock()
        self._under_way: _UnderWay | None = None

    def claim(self, deadline: float) -> _Claim:
        """Let the caller ask, or wait while another call asks.

        The wait ends after `ASKING_MOST_S`, so a question that hangs holds no other call for long.

        Args:
            deadline: The moment of `clock.now()` at which the wait must have ended.
        """
        with self._lock:
            question = self._under_way
            if question is None:
                self._under_way = _UnderWay()
                return _Claim.TO_ASK
        if question.ended.wait(max(0.0, min(ASKING_MOST_S, deadline - clock.now()))):
            return _Claim.OVER if question.was_asked else _Claim.NOT_ASKED
        with self._lock:
            if self._under_way is question:  # Its thread hangs, or did not survive a fork.
                self._under_way = None
        return _Claim.OVER

    def release(self, *, was_asked: bool) -> None:
        """Let the waiting calls go on."""
        with self._lock:
            question, self._under_way = self._under_way, None
        if question:
            question.was_asked = was_asked
            question.ended.set()


class _UnderWay:
    """A question that one call has claimed."""

    def __init__(self) -> None:
        self.ended = clock.Event()
        self.was_asked = False


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
        self._settings = settings
        self._storage = storage
        self._counters = Counters(storage, settings.redis_url)
        self._trials = Trials(storage, settings.hosts, settings.deadline_s)
        self._host = Breaker()
        self._memory = MemoryState()  # the pauses of this process, if no other process shares them
        # Closed stores. Without it, a store could fill its budget by being closed and opened.
        self._budgets: LRUCache[str, RetryBudget] = LRUCache(_CLOSED_MOST)
        # Without it, a pause would be over if the storage fails when its store is opened again.
        self._pauses: LRUCache[str, Pause] = LRUCache(_CLOSED_MOST)
        self._lock = clock.Lock()

    def guard_of(self, credentials: StoreCredentials) -> Guard:
        """Return the guard of one token's calls, without a connection.

        With Redis, all hosts share the pause. Without Redis, all processes of the host share the
        pause of one of many stores, also after a restart.

        The operator has set a store of the settings, so its token needs no proof, and a restart may
        end its pause. The workers of one gunicorn share the pause through a file, under the service
        name that gunicorn's master gives them. Otherwise each process has its own pause.
        """
        settings = self._settings
        token_digest = settings.token_digest(credentials)
        rate_limit = RateLimit(
            settings.calls_per_minute, settings.hosts, self._counters, token_digest
        )
        made = RetryBudget()
        with self._lock:
            budget = self._budgets.setdefault(token_digest, made)
            known = self._pauses.get(token_digest)
        key = f"{token_digest}:pause"
        own = settings.store_id, settings.token
        if not settings.stores and (credentials.store_id, credentials.token) == own:
            return Guard(rate_limit, self._own_pause(key), self._host, budget)
        return Guard(
            rate_limit,
            SharedPause(self._storage.shared, key, known),
            self._host,
            budget,
            Proof(self._storage, token_digest),
            self._trials,
        )

    def close(self, credentials: StoreCredentials, guard: Guard) -> None:
        """Remember the pause of a store that is about to be closed."""
        token_digest, pause = self._settings.token_digest(credentials), guard.pause
        with self._lock:
            self._pauses.pop(token_digest, None)
            if pause is not None:
                self._pauses[token_digest] = pause

    def _own_pause(self, key: str) -> SharedPause:
        """Return the pause of the store of the settings."""
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
        with self._lock:
            for token_digest in [each for each in self._pauses if each.startswith(store_digest)]:
                del self._pauses[token_digest]
        for state in (self._memory, self._storage.shared):
            delete(state, f"{store_digest}:", lambda rest: "pause" in rest.split(":"))
