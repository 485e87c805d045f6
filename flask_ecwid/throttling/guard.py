"""May a call be made now, and may a failed one be repeated?

The order of the checks is breaker, pause, rate limit. The pause is shared by every worker and host
that shares the storage. The breaker and the retry budget are of this process.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from .. import clock
from ..errors import REFUSED_TOKEN_S, DeadlineExceeded, EcwidError, Throttled
from ..settings import Settings
from ..storage.opening import Storage
from .breaker import Breaker
from .pause import Pause, SharedPause
from .rate_limit import RateLimit

RETRY_BUDGET = 50
RETRY_COST = 5
TIMEOUT_COST = 10
SUSPICIONS_MOST = 3  # refusals in a row that may be of the token, until it counts as refused


@dataclass(frozen=True)
class Permit:
    """A call that may be made. It goes to `record_success`, `record_failure` or `release`."""

    pause: Pause | None = None  # that the others keep while this call goes first
    is_probe: bool = False  # whether the breaker is open for the others meanwhile


class Guard:
    """Stands between a call and the transport. Safe to share between threads."""

    def __init__(self, rate_limit: RateLimit, pause: SharedPause) -> None:
        self.rate_limit = rate_limit
        self._pause = pause
        self._breaker = Breaker()
        self._retry_budget = RetryBudget()
        self._suspicions = 0  # in a row

    def acquire(self) -> Permit:
        """Permit a call that is about to be made.

        Raises:
            Throttled: The call must not be made.
        """
        if self._breaker.failures:
            self._breaker.check()
        pause = self._pause.check()
        self.rate_limit.acquire()
        if not self._breaker.failures and pause is None:
            return Permit()
        permit = Permit(is_probe=self._breaker.claim_probe())
        if pause is None:
            return permit
        try:
            return replace(permit, pause=self._pause.claim_probe(pause))
        except Throttled:
            self.release(permit)
            raise

    def acquire_for_search(self) -> Permit:
        """Permit a search for the customer of a failed creation, whatever breaker and pause say.

        Raises:
            BudgetSpent: No call remains.
        """
        self.rate_limit.acquire()
        return Permit()

    def release(self, permit: Permit) -> None:
        """Let another call go first, because the permitted call is not made.

        Otherwise no call would be made until breaker and pause are over again.
        """
        if permit.is_probe:
            self._breaker.release_probe()
        if permit.pause:
            self._pause.release_probe(permit.pause)

    def record_success(self, permit: Permit, *, first: bool) -> None:
        """Record a good reply, which came to the first attempt or to a later one."""
        if self._breaker.failures:
            self._breaker.record_success()
        self._suspicions = 0
        if permit.pause:
            self._pause.end(permit.pause)
        if first:
            self._retry_budget.give()

    def record_failure(self, permit: Permit, error: EcwidError) -> None:
        """Record that no good reply came, and pause all calls if the error asks for it."""
        if error.trips_breaker:
            self._breaker.record_failure()
        else:
            self._breaker.record_success()  # Ecwid has replied, whatever the reply says
        pause_s = error.pause_s
        if error.suspects_token:
            self._suspicions += 1
            if self._suspicions >= SUSPICIONS_MOST:
                pause_s = REFUSED_TOKEN_S
        if pause_s:
            self._pause.begin(error, pause_s)
        elif error.proves_token:
            self._suspicions = 0
            if permit.pause:
                self._pause.end(permit.pause)

    def may_repeat(self, error: EcwidError) -> bool:
        """Take the cost of a repetition from the retry budget, and return whether it had enough."""
        timed_out = isinstance(error, DeadlineExceeded)
        return self._retry_budget.take(TIMEOUT_COST if timed_out else RETRY_COST)


class RetryBudget:
    """Limits repetitions, so that they never become most of the calls.

    Each first attempt that succeeds gives one, up to `RETRY_BUDGET`.
    """

    def __init__(self) -> None:
        self._lock = clock.Lock()
        self._level = RETRY_BUDGET

    def take(self, cost: int) -> bool:
        """Take the cost, or return False if the budget has less."""
        with self._lock:
            if self._level < cost:
                return False
            self._level -= cost
            return True

    def give(self) -> None:
        """Add one."""
        if self._level < RETRY_BUDGET:
            with self._lock:
                self._level = min(self._level + 1, RETRY_BUDGET)


def open_guard(settings: Settings, storage: Storage) -> Guard:
    """Return the guard of one token's calls. Opens no connection.

    The pause is shared through Redis, or else by the workers of one gunicorn, whose master names
    their service. Without either it is of this process.
    """
    name = settings.token_digest
    rate_limit = RateLimit(settings.calls_per_minute, settings.processes, storage.redis, name)
    service = os.environ.get("GUNICORN_ECWID_SERVICE")
    if storage.redis is not None:
        return Guard(rate_limit, SharedPause(storage.shared, f"{name}:pause"))
    if service:
        return Guard(rate_limit, SharedPause(storage.shared, f"{name}:pause:{service}"))
    return Guard(rate_limit, SharedPause(None, name))
