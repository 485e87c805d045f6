"""The outcomes of idempotency keys that this process could not store yet."""

from __future__ import annotations

from .. import clock

_MOST = 1000


class OwedOutcomes:
    """The outcomes that a process owes to the storage, for all stores of a mount.

    Without them, a key would be in use until the lease of its record ends. The key of an outcome is
    the random owner of the record.
    """

    def __init__(self) -> None:
        self._lock = clock.Lock()
        self._outcomes: dict[str, tuple[bytes | None, clock.Moment]] = {}

    def add(self, owner: str, outcome: bytes | None) -> None:
        """Remember an outcome that could not be stored. None stands for no record."""
        with self._lock:
            self._outcomes[owner] = outcome, clock.Moment.seconds_ago()
            if len(self._outcomes) > _MOST:
                del self._outcomes[next(iter(self._outcomes))]  # the oldest

    def get(self, owner: str) -> tuple[bytes | None, clock.Moment] | None:
        """Return an outcome and its moment, or None if this process owes none."""
        return self._outcomes.get(owner)

    def drop(self, owner: str) -> None:
        """Forget an outcome, because it is stored."""
        with self._lock:
            self._outcomes.pop(owner, None)
