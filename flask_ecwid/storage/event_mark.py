"""A mark that changes with each webhook event of a store, for processes that wait for one.

The mark is independent of the cached responses, so it changes without a cache as well. All
processes that share the state see the mark, with Redis those of other hosts, too.
"""

from __future__ import annotations

from .host_mark import HostMark
from .state import State
from .work import in_piece_of_work


class EventMark:
    """The mark of one store."""

    def __init__(self, shared: State, store_digest: str) -> None:
        """Store the place of the mark, without a look.

        Args:
            shared: The state that all processes share.
            store_digest: The beginning of the store's keys.
        """
        self._mark = HostMark(shared, f"{store_digest}:event")

    @in_piece_of_work
    def leave(self) -> None:
        """Change the mark.

        Raises:
            StateUnavailable: The state cannot be used.
        """
        self._mark.leave()

    @in_piece_of_work
    def find(self) -> bytes | None:
        """Return the mark, or None if there was no event for hours.

        Raises:
            StateUnavailable: The state cannot be used.
        """
        return self._mark.find()
