"""The circuit breaker: no calls for a while after Ecwid's gateway failed several times in a row."""

from __future__ import annotations

from .. import clock
from ..errors import Throttled

BREAKER_FAILURES = 5  # in a row
BREAKER_OPEN_S = 10.0  # doubled with each probe that fails
BREAKER_OPEN_MOST_S = 60.0


class Breaker:
    """Opens after failures in a row. After its time one call at a time tries again."""

    def __init__(self) -> None:
        self._lock = clock.Lock()
        self.failures = 0  # in a row
        self._open_until = 0.0
        self._open_s = BREAKER_OPEN_S
        self._probing = False

    def check(self) -> None:
        """Let a call pass.

        Raises:
            Throttled: The breaker is open.
        """
        if self.failures >= BREAKER_FAILURES:
            left_s = self._open_until - clock.now()
            if left_s > 0:
                raise Throttled(left_s, "Ecwid has failed several times in a row.")

    def claim_probe(self) -> bool:
        """Return whether the call goes first, while the breaker stays open for the others.

        Raises:
            Throttled: Another call goes first.
        """
        if self.failures < BREAKER_FAILURES:
            return False
        with self._lock:
            self.check()
            self._probing = True
            self._open_until = clock.now() + self._open_s
        return True

    def release_probe(self) -> None:
        """Let another call go first at once."""
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
        """Count a failure, and open the breaker, or open it for longer after a probe."""
        with self._lock:
            self.failures += 1
            if self.failures == BREAKER_FAILURES:
                self._open_until = clock.now() + self._open_s
            elif self._probing:
                self._probing = False
                self._open_s = min(2 * self._open_s, BREAKER_OPEN_MOST_S)
                self._open_until = clock.now() + self._open_s
