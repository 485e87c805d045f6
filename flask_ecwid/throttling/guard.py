"""Decide whether a call may be made now, and whether a failed call may be repeated.

The order of the checks is breaker, pause, rate limit. All workers and hosts with the same storage
share the pause. Each process has its own breaker and its own retry budget.
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

RETRY_BUDGET = 50  # The most that the retry budget holds.
RETRY_COST = 5
TIMEOUT_COST = 10  # A repetition after a timeout costs more, because a timeout holds a thread.
# The first call over a kept connection has given 1. So all kept connections may be lost at once.
CONNECTION_COST = 1
SUSPICIONS_MOST = 3  # After so many refusals in a row, the token counts as refused.


@dataclass(frozen=True)
class Permit:
    """The permission to make a call.

    The holder passes the permit to `record_success`, `record_failure` or `release` afterwards.
    """

    pause: Pause | None = None  # The pause of all other calls, if this call is its probe.
    is_probe: bool = False  # The call is the probe of the breaker.


class Guard:
    """The checks before each call with one token. Threads share a guard."""

    def __init__(self, rate_limit: RateLimit, pause: SharedPause) -> None:
        self.rate_limit = rate_limit
        self._pause = pause
        self._breaker = Breaker()
        self._retry_budget = RetryBudget()
        self._suspicions = 0  # in a row

    def acquire(self) -> Permit:
        """Return the permit of a call that is about to be made.

        Raises:
            Throttled: The breaker is open, a pause holds, or no call remains.
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
        """Return the permit of a search for the customer of a failed creation.

        The search ignores breaker and pause, because only the search can find out whether the
        customer was created.

        Raises:
            BudgetSpent: No call remains.
        """
        self.rate_limit.acquire()
        return Permit()

    def release(self, permit: Permit) -> None:
        """Give a permit back, because its call is not made.

        If the call was the probe, another call may then be the probe. Otherwise the guard would
        refuse all calls until the breaker's time or the pause has passed once more.
        """
        if permit.is_probe:
            self._breaker.release_probe()
        if permit.pause:
            self._pause.release_probe(permit.pause)

    def record_success(self, permit: Permit, *, first: bool) -> None:
        """Record a good reply.

        Args:
            permit: The permit of the call.
            first: True if the reply belongs to the first attempt. Only first attempts add to the
                retry budget, so that repetitions cannot pay for more repetitions.
        """
        if self._breaker.failures:
            self._breaker.record_success()
        self._suspicions = 0
        if permit.pause:
            self._pause.end(permit.pause)
        if first:
            self._retry_budget.give()

    def record_failure(self, permit: Permit, error: EcwidError) -> None:
        """Record that a call failed, and begin a pause of all calls if the error asks for it."""
        if error.blames_connection:
            self.release(permit)  # Ecwid has neither failed nor replied.
            return
        if error.trips_breaker:
            self._breaker.record_failure()
        else:
            self._breaker.record_success()  # Ecwid has replied, so Ecwid is reachable.
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
        """Take the cost of a repetition from the retry budget, or return False if it is too low."""
        cost = TIMEOUT_COST if isinstance(error, DeadlineExceeded) else RETRY_COST
        return self._retry_budget.take(CONNECTION_COST if error.blames_connection else cost)


class RetryBudget:
    """The limit of repetitions, so that repetitions never become most of the calls.

    Each first attempt that succeeds adds one, up to `RETRY_BUDGET`.
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


def open_guard(settings: Settings, storage: Storage) -> Guard:
    """Return the guard of one token's calls, without a connection.

    With Redis, all hosts share the pause. Without Redis, the workers of one gunicorn share the
    pause through a file, under the service name that gunicorn's master gives them. Otherwise each
    process has its own pause.
    """
    digest = settings.token_digest
    rate_limit = RateLimit(settings.calls_per_minute, settings.hosts, storage, digest)
    service = os.environ.get("GUNICORN_ECWID_SERVICE")
    if storage.shared is not storage.host:
        return Guard(rate_limit, SharedPause(storage.shared, f"{digest}:pause"))
    if service:
        return Guard(rate_limit, SharedPause(storage.shared, f"{digest}:pause:{service}"))
    return Guard(rate_limit, SharedPause(None, digest))
