"""The circuit breaker, which stops all calls for a while after several failures in a row."""

from __future__ import annotations

from .. import clock
from ..errors import Throttled

BREAKER_FAILURES = 5  # in a row
BREAKER_OPEN_S = 10.0  # doubled after each probe that fails
BREAKER_OPEN_MOST_S = 60.0


class Breaker:
    """The breaker of one process.

    After `BREAKER_FAILURES` failures in a row the breaker is in doubt, because one question may
    have caused all of them. The breaker opens if the neutral question then fails as well. When its
    time is over, the neutral question goes first as a probe. Success closes the breaker, and
    failure opens it for longer.
    """

    def __init__(self) -> None:
        self._lock = clock.Lock()
        self.failures = 0  # in a row
        self._open_until = 0.0
        self._open_s = BREAKER_OPEN_S
        self.has_opened = False  # since the last success

    @property
    def is_in_doubt(self) -> bool:
        """True if the neutral question has to decide whether the breaker opens."""
        return self.failures >= BREAKER_FAILURES and not self.has_opened

    @property
    def is_open(self) -> bool:
        """True if no call may be made now, except a probe."""
        return self.has_opened and self._open_until > clock.now()

    def check(self) -> None:
        """Check whether a call may be made.

        Raises:
            Throttled: The breaker is open.
        """
        if self.has_opened:
            left_s = self._open_until - clock.now()
            if left_s > 0:
                raise Throttled(left_s, "Ecwid has failed several times in a row.")

    def claim_probe(self) -> None:
        """Make the call the probe, while the breaker stays open for all other calls.

        Raises:
            Throttled: Another call is the probe.
        """
        with self._lock:
            self.check()
            self._open_until = clock.now() + self._open_s

    def release_probe(self) -> None:
        """Let another call be the probe at once, because the probe is not sent."""
        with self._lock:
            self._open_until = 0.0

    def record_success(self) -> None:
        """Close the breaker."""
        with self._lock:
            self.failures = 0
            self._open_s = BREAKER_OPEN_S
            self.has_opened = False

    def record_failure(self, *, is_probe: bool) -> None:
        """Count a failure, and open the breaker if it was the last of several and the probe."""
        with self._lock:
            self.failures += 1
            if is_probe and self.failures >= BREAKER_FAILURES:
                self._open_until = clock.now() + self._open_s
                self._open_s = min(2 * self._open_s, BREAKER_OPEN_MOST_S)
                self.has_opened = True
