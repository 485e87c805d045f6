"""A mark in the host's file, which tells all processes of the host of an invalidation.

Each mark differs from every earlier mark. Without Redis, the mark names the generation of a store's
responses. With Redis, the mark says that Redis does not know of a write yet. The mark of webhook
events is the only one that may be in Redis.
"""

from __future__ import annotations

from typing import NamedTuple

from .. import chance, clock
from .process_memory import ProcessWide
from .state import State, StateUnavailable

LOOK_EVERY_S = 0.1  # The time between two looks into the file, because a look costs I/O.
_KEPT_S = 2 * 3600.0  # Every cached response has expired when a mark expires.
_TRIES = 10  # A try fails if another process changes the mark meanwhile.


class _Look(NamedTuple):
    mark: bytes | None
    began: clock.Moment  # The host may be suspended, and its monotonic clock stops then.


class _LastLook:
    """The last look of this process, or None before the first look."""

    def __init__(self) -> None:
        self.look: _Look | None = None


class HostMark:
    """One mark of one store. All mounts and clients of a process share the looks."""

    def __init__(self, host: State, key: str) -> None:
        """Store the place of the mark, without a look.

        Args:
            host: The state that keeps the mark.
            key: The key of the mark, with the digest of the store.
        """
        self._host = host
        self._key = key
        self._last = ProcessWide(_LastLook, key)

    def find(self) -> bytes | None:
        """Return the mark as it was within the last `LOOK_EVERY_S`, or None if there is no mark.

        Raises:
            StateUnavailable: The file cannot be used.
        """
        last = self._last.get()
        look = last.look
        if look is None or look.began.elapsed_s() >= LOOK_EVERY_S:
            # The look is noted when it has ended, because a thread that comes meanwhile must not do
            # without a look.
            began = clock.Moment.seconds_ago()
            look = last.look = _Look(self._read(), began)
        return look.mark

    def leave(self) -> bytes:
        """Leave a mark that differs from every earlier mark, and return it.

        Raises:
            StateUnavailable: The file cannot be used.
        """
        mark = chance.token_hex(8).encode()
        for _ in range(_TRIES):
            began = clock.Moment.seconds_ago()
            if self._host.compare_and_swap(self._key, self._read(), mark, _KEPT_S):
                self._last.get().look = _Look(mark, began)
                return mark
        raise StateUnavailable

    def remove(self, mark: bytes) -> None:
        """Remove a mark, unless another process has left a newer mark.

        Raises:
            StateUnavailable: The file cannot be used.
        """
        self._last.get().look = None
        self._host.compare_and_swap(self._key, mark, None, 0.0)

    def _read(self) -> bytes | None:
        found = self._host.get(self._key)
        return found and found.value
