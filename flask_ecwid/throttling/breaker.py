"""The circuit breaker, which stops all calls for a while after several failures in a row."""

from __future__ import annotations

from .. import clock
from ..errors import Throttled

BREAKER_FAILURES = 5  # in a row
BREAKER_OPEN_S = 10.0  # doubled after each probe that fails
BREAKER_OPEN_MOST_S = 60.0


class Breaker:
    """The breaker of one process.

    The breaker opens after `BREAKER_FAILURES` failures in a row. When its time is over, a single
    call goes first as a probe. Success closes the breaker, and failure opens it for longer.
    """

    def __init__(self) -> None:
        self._lock = clock.Lock()
        self.failures = 0  # in a row
        self._open_until = 0.0
        self._open_s = BREAKER_OPEN_S
        self._probing = False

    def check(self) -> None:
        """Check whether a call may be made.

        Raises:
            Throttled: The breaker is open.
        """
        if self.failures >= BREAKER_FAILURES:
            left_s = self._open_until - clock.now()
            if left_s > 0:
                raise Throttled(left_s, "Ecwid has failed several times in a row.")

    def claim_probe(self) -> bool:
        """Make the call the probe, if the time of an open breaker is over.

        Returns:
            True if the call is the probe. The breaker stays open for all other calls meanwhile.
            False if the breaker is closed.

        Raises:
            Throttled: Another call is the probe.
        """
        if self.failures < BREAKER_FAILURES:
            return False
        with self._lock:
            self.check()
            self._probing = True
            self._open_until = clock.now() + self._open_s
        return True

    def release_probe(self) -> None:
        """Let another call be the probe at once, because the probe is not sent."""
        with self._lock:
            if self._probing:
                self._probing = False
                self._open_until = 0.0

    def record_success(self) -> None:
        """Close the breaker."""
        with self._lock:
            self.failures = 0
            self._open_s = BREAKER_OPEN_S
            self._probing = False

    def record_failure(self) -> None:
        """Count a failure, and open the breaker if it was the last of several, or the probe."""
        with self._lock:
            self.failures += 1
            if self.failures == BREAKER_FAILURES:
                self._open_until = clock.now() + self._open_s
            elif self._probing:
                self._probing = False
                self._open_s = min(2 * self._open_s, BREAKER_OPEN_MOST_S)
                self._open_until = clock.now() + self._open_s
