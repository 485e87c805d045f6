"""The use of a storage by one process, which has to know whether others still count on the storage.

While a storage cannot be used, a process could count in its own memory. But only the storage knows
the calls of the last minute. So for a minute the process counts nowhere.
"""

from __future__ import annotations

from .. import clock
from ..storage.state import StateUnavailable
from ..storage.window import SPAN_S


class Absence:
    """When a process used a storage last, and since when the process does without."""

    def __init__(self) -> None:
        self._used_at: float | None = None
        self._since: float | None = None

    def end(self) -> None:
        """Note that the process has used the storage."""
        self._used_at, self._since = clock.now(), None

    def is_too_short(self, failure: StateUnavailable) -> bool:
        """Note that the storage failed, and return whether its calls of the last minute count.

        A storage that is not there, and that this process has not used, has no such calls.
        """
        now = clock.now()
        if self._since is None:
            self._since = now
        has_used = self._used_at is not None and now - self._used_at < SPAN_S
        return now - self._since < SPAN_S and (failure.is_there or has_used)
