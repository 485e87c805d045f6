"""Read the deletions of a store in the order of their dates, and each once.

Ecwid documents no order of the list, and new deletions move its entries. So the list is read in
windows of time. A window with more deletions than a page is made narrower. Only a single second is
read by offset, and new deletions can only show its entries again.
https://docs.ecwid.com/api-reference/rest-api/store-profile/store-reports/get-deleted-items-history
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from .. import clock
from ..errors import ContractBroken, Violation
from . import dates
from .change_cursor import Part
from .overlap_ids import LAG_S, UNDATED
from .types import DeletionPage

FOREVER = 2**62  # later than every second
# Without deletions, the floor is so much older than the reading. Without this, a clock that is
# ahead of Ecwid's would lose deletions.
_IDLE_S = 12 * 3600


class Entry(NamedTuple):
    """A deletion, with its second in UNIX time."""

    second: int
    customer_id: int


class Deletions:
    """The deletions since a place. The reading raises the floor of the place as it goes on."""

    def __init__(
        self,
        list_deleted: Callable[..., DeletionPage],
        before_call: Callable[[], None],
        limit: int,
        part: Part,
    ) -> None:
        """Begin at the place.

        Args:
            list_deleted: Returns Ecwid's page of deletions for a query.
            before_call: Is called before each call of `list_deleted`.
            limit: The deletions on a page.
            part: The part of the place for the deletions, which changes.
        """
        self._list_deleted = list_deleted
        self._before_call = before_call
        self._limit = limit
        self._part = part
        self._started_at = 0
        self._width_s = 0  # of the window in memory, if it has an end
        self._to: int | None = None  # The end of the window in memory, or None if it is open.
        self._is_whole = False  # The open window was read, so the list has no more deletions.
        self._window: deque[Entry] = deque()
        self._newest = 0  # The second of the latest deletion that Ecwid has shown.
        self.until = UNDATED  # Each deletion up to this second has come or is in memory.
        self.is_cut = False  # The reading ended because the place was full.

    @property
    def second(self) -> int | None:
        """The second of the next deletion in memory, or None if there is none."""
        while self._window and not self._is_new(self._window[0]):
            self._window.popleft()
        return self._window[0].second if self._window else None

    def take(self) -> Entry | None:
        """Return the next deletion in memory, and remember that it has come.

        The result is None if the place is full.
        """
        entry = self._window.popleft()
        if self._part.is_full() and entry.second >= self._started_at - LAG_S:
            self._window.clear()
            self.until = FOREVER
            self.is_cut = True
            return None
        self._part.ids.add(entry.customer_id, entry.second)
        return entry

    def has(self, customer_id: int) -> bool:
        """Return whether the deletion of a customer has come a short time ago."""
        return self._part.ids.has_anywhere(customer_id)

    def read(self, newest: int) -> None:
        """Read the next window. At the end, `until` is `newest` or later.

        Args:
            newest: The newest update that Ecwid has shown before this call.

        Raises:
            EcwidError: The window cannot be read. Calling `read` again reads the same window.
        """
        if self._to is None:
            self.finish()
            self._started_at = int(clock.wall())
            begin, end = self._part.floor, None
        else:
            begin = self._to + 1
            self._part.settle(self._started_at, begin)
            # The windows grow again after each.
            end = begin + 2 * self._width_s
        if end is not None and end >= self._newest:
            end = None
        self._is_whole = False
        found, end = self._read_window(begin, end)
        self._window.extend(sorted(found))
        self._to, self._is_whole = end, end is None
        self.until = max(newest, self._started_at) if end is None else end

    def finish(self) -> None:
        """Raise the floor of the place, if the whole list was read. Its deletions have come."""
        if self._is_whole:
            reached = max(self._newest, self._started_at - _IDLE_S)
            self._part.settle(self._started_at, reached)

    def _read_window(self, begin: int, end: int | None) -> tuple[set[Entry], int | None]:
        """Return the deletions of a window, or of its first part, and the end of the window."""
        while True:
            found, is_whole = self._read(begin, end)
            self._newest = max([self._newest, *(entry.second for entry in found)])
            if is_whole:
                self._width_s = 0 if end is None else end - begin + 1
                return {entry for entry in found if _is_within(entry, begin, end)}, end
            end = _narrower(found, begin, end)

    def _read(self, begin: int, end: int | None) -> tuple[list[Entry], bool]:
        """Return deletions of a window, and whether there are no more."""
        # Ecwid does not say whether a bound includes its own second.
        query: dict[str, int] = {"from_date": max(0, begin - 1), "limit": self._limit}
        if end is not None:
            query["to_date"] = end + 1
        found: list[Entry] = []
        while True:
            self._before_call()
            page = self._list_deleted(**query, offset=len(found))
            found += _entries(page)
            count = len(page["items"])
            if not count or len(found) >= page["total"]:
                return found, True
            if count >= self._limit and end != begin:
                return found, False

    def _is_new(self, entry: Entry) -> bool:
        return entry.second >= self._part.floor and not self._part.ids.has(
            entry.customer_id, entry.second
        )


def _entries(page: DeletionPage) -> list[Entry]:
    """Return the deletions of a page.

    Raises:
        ContractBroken: A date cannot be read.
    """
    entries = []
    for index, item in enumerate(page["items"]):
        second = dates.to_seconds(item["date"])
        if second is None:
            place = Violation(f"/items/{index}/date", "format")
            raise ContractBroken([place]).changed(executed="no")
        entries.append(Entry(max(0, second), item["id"]))
    return entries


def _is_within(entry: Entry, begin: int, end: int | None) -> bool:
    return begin <= entry.second and (end is None or entry.second <= end)


def _narrower(found: list[Entry], begin: int, end: int | None) -> int:
    """Return an earlier end of a window, in which a page showed these deletions.

    If the list begins with the earliest, the page itself is the window. Otherwise the window is
    halved.
    """
    inside = [entry.second for entry in found if _is_within(entry, begin, end)]
    latest = max(inside, default=begin if end is None else end)
    if found[0].second < found[-1].second and inside:
        return max(begin, latest - 1)
    return (begin + latest) // 2
