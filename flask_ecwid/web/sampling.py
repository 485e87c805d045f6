"""A sample of the log lines that anybody can cause, with the number of the others."""

from __future__ import annotations

import atexit
import logging
from weakref import WeakSet

from .. import clock

log = logging.getLogger("flask_ecwid")

MOST_LINES = 20
WINDOW_S = 60.0


class Sampler:
    """Lets the first events of each minute be logged, and counts the others.

    The number of the others is logged with the first event after the minute, or when the process
    ends. Each process samples its own events.
    """

    def __init__(self, events: str, level: int) -> None:
        """Make a sampler.

        Args:
            events: The name of the events in the log, as a plural without any value of a caller.
            level: The level of the lines of the events, and of the line with the number.
        """
        self._events = events
        self._level = level
        self._lock = clock.Lock()
        self._ends_at = 0.0
        self._written = 0
        self._left_out = 0
        _samplers.add(self)

    def takes(self) -> bool:
        """Count an event, and return True if the event is to be logged."""
        self.report()
        with self._lock:
            if self._written == 0:
                self._ends_at = clock.now() + WINDOW_S
            is_taken = self._written < MOST_LINES
            if is_taken:
                self._written += 1
            else:
                self._left_out += 1
        return is_taken

    def report(self, *, at_exit: bool = False) -> None:
        """Log the number of the events that were left out, if the minute is over."""
        if not self._written:
            return  # before the lock, because each request comes here
        with self._lock:
            if clock.now() < self._ends_at and not at_exit:
                return
            left_out, self._left_out, self._written = self._left_out, 0, 0
        if left_out:
            facts = {"events": self._events, "left_out": left_out}
            text = "%s without a log line: %d"
            log.log(self._level, text, self._events, left_out, extra=facts)


_samplers: WeakSet[Sampler] = WeakSet()


@atexit.register
def _report_all() -> None:
    for sampler in list(_samplers):
        sampler.report(at_exit=True)
