"""Read the customers of a store in the order of their last update, and each version once.

Each page begins at the watermark, which is the second before the last one of the page before. No
page begins at an offset in this order, because each update moves a customer to the end.

A second with more updates than a page is a crowd. The list of a crowd is read in the order of
registration, and from its end. Customers only leave a second that has passed. So a customer who has
not come yet moves only to an earlier offset, which is read later. Ecwid's dates have whole seconds,
so a version is told by a digest of its content as well.
"""

from __future__ import annotations

import hashlib
from collections import deque
from typing import Any, NamedTuple

import orjson

from .. import clock
from ..errors import BadReply, ContractBroken, Violation
from .change_cursor import Crowd, Part, Place
from .overlap_ids import LAG_S, UNDATED
from .page_reader import PageReader, Skipped, id_of, key_of, second_of
from .replies import UnfitCustomer
from .types import Customer

_DIGEST_BYTES = 4


class _Entry(NamedTuple):
    """A customer of the page in memory, with the second of the update."""

    customer: Customer | UnfitCustomer
    key: int  # Another version of the customer has another key.
    second: int


class Updates:
    """The updates since a place. The reading raises the floor of the place as it goes on."""

    def __init__(self, reader: PageReader, limit: int, place: Place) -> None:
        """Begin at the place.

        Args:
            reader: Reads the pages.
            limit: The customers on a page.
            place: The place, whose `updates` and `crowd` change.
        """
        self._reader = reader
        self._limit = limit
        self._place = place
        self._started_at = int(clock.wall())
        self._page: deque[_Entry] = deque()
        self._next: int | None = max(0, self._part.floor - 1)  # The watermark of the next page.
        self._next_end: int | None = None  # The offset at which the page in memory begins.
        self._crowd = place.crowd  # The place has no crowd whose second may still grow.
        self._size = limit  # of the pages of a crowd
        self._done = UNDATED  # The second up to which each update of this reading has come.
        self.newest = 0  # The second of the newest update of the page in memory.
        self.is_over = False
        self.is_cut = False  # The reading ended because the place was full.

    @property
    def _part(self) -> Part:
        return self._place.updates

    @property
    def second(self) -> int | None:
        """The second of the next update in memory, or None if another page must be read."""
        while self._page and not self._is_new(self._page[0]):
            self._page.popleft()
        return self._page[0].second if self._page else None

    @property
    def customer_id(self) -> int | None:
        """The id of the next customer in memory, if Ecwid's page shows an id."""
        return id_of(self._page[0].customer)

    def take(self) -> Customer | Skipped | None:
        """Return the next customer in memory, and remember that the update has come.

        The result is None if the customer was deleted meanwhile, or if the place is full.
        """
        entry = self._page[0]
        if self._part.is_full() and not self._is_settled(entry.second):
            self._page.clear()
            self.is_over = self.is_cut = True
            return None
        found = self._reader.fitting(entry.customer)
        # The entry leaves the page only now. Otherwise an error would lose the update.
        self.leave_out()
        return found

    def leave_out(self) -> None:
        """Remove the next customer from memory, as if the update had come."""
        entry = self._page.popleft()
        crowd = self._place.crowd
        if crowd is None:
            self._part.ids.add(entry.key, entry.second)
        else:
            assert crowd.end is not None
            crowd.ids.add(entry.key, crowd.end)

    def read(self) -> None:
        """Read the next page. At the end, `is_over` is True.

        Raises:
            EcwidError: The page cannot be read. Calling `read` again reads the same page.
        """
        if self._crowd is not None:
            self._read_crowd(self._crowd)
        elif self._next is not None:
            self._part.settle(self._started_at, self._next)
            self._read_page(self._next)
        else:
            self._part.settle(self._started_at, self.newest)
            self.is_over = True

    def _read_page(self, watermark: int) -> None:
        query = {"sortBy": "UPDATED_DATE_ASC", "offset": 0, "limit": self._limit}
        if watermark:
            query["updatedFrom"] = watermark
        customers, total = self._reader.read(query)
        entries = self._entries(customers)
        if not entries:
            self._next = None
            return
        newest = max(entry.second for entry in entries)
        if newest < watermark:
            raise BadReply("Ecwid's page ignores updatedFrom.").changed(executed="no")
        self._page.extend(entries)
        self.newest = max(self.newest, newest)
        if isinstance(total, int) and len(customers) >= total:
            self._next = None
        elif newest - 1 > watermark:
            self._next = newest - 1  # Ecwid does not say whether a bound includes its own second.
        elif newest <= self._behind:
            self._next = newest + 1  # The page shows its own bound, so the bound is included.
        else:
            self._begin_crowd(newest)

    def _begin_crowd(self, second: int) -> None:
        self._crowd = Crowd(second)
        self._size = self._limit

    def _read_crowd(self, crowd: Crowd) -> None:
        """Read a page of the crowd, from its end on."""
        if self._next_end == 0:
            self._end_crowd(crowd)
            return
        if self._next_end is not None:
            crowd.move_to(self._next_end, self._limit)
        end = self._measure(crowd) if crowd.end is None else crowd.end
        size = min(self._size, end)
        offset = end - size
        customers, total = self._reader.read(self._query(crowd, offset, size))
        count = len(customers)
        if 0 < count < size and isinstance(total, int) and offset + count < total:
            self._size = max(1, min(count, size // 2))  # The page came short.
            return
        self._size = min(self._limit, size * 2)
        entries = self._entries(customers, undated=crowd.second)
        self._page.extend(entry for entry in entries if entry.second == crowd.second)
        self._next_end = offset

    def _measure(self, crowd: Crowd) -> int:
        """Ask for the size of a crowd, and return the offset behind its last customer."""
        _, total = self._reader.read(self._query(crowd, 0, self._limit))
        assert isinstance(total, int)
        crowd.end = total + self._limit  # Ecwid's total can be too small.
        if self._is_settled(crowd.second):
            # Every update before the crowd has come, and was shown for certain.
            self._part.settle(self._started_at, crowd.second)
            self._part.floor = crowd.second
            self._part.ids.forget_before(crowd.second)
            self._place.crowd = crowd
        return crowd.end

    def _end_crowd(self, crowd: Crowd) -> None:
        self._done = crowd.second
        self._next = crowd.second
        if self._place.crowd is not None:
            self._part.floor = crowd.second + 1
            self._part.ids.forget_before(self._part.floor)
        self._crowd = self._place.crowd = None
        self._next_end = None

    def _query(self, crowd: Crowd, offset: int, limit: int) -> dict[str, Any]:
        return {
            "sortBy": "REGISTERED_DATE_ASC",
            "updatedFrom": max(0, crowd.second - 1),
            "updatedTo": crowd.second + 1,
            "offset": offset,
            "limit": limit,
        }

    def _entries(
        self, customers: list[Customer | UnfitCustomer], *, undated: int | None = None
    ) -> list[_Entry]:
        """Return the entries of a page.

        A customer without a date has the second of the customer before, or the second `undated`.

        Raises:
            ContractBroken: No customer of the page has a date.
        """
        seconds = [second_of(customer, "updated") for customer in customers]
        if customers and max(seconds) == UNDATED:
            place = Violation("/items/0/updated", "required")
            raise ContractBroken([place]).changed(executed="no")
        entries: list[_Entry] = []
        before = min((each for each in seconds if each != UNDATED), default=UNDATED)
        for customer, second in zip(customers, seconds, strict=True):
            before = second if second != UNDATED else before if undated is None else undated
            entries.append(_Entry(customer, _version_key(customer), before))
        return entries

    @property
    def _behind(self) -> int:
        """The second up to which no update is new."""
        return max(self._done, self._part.floor - 1)

    def _is_new(self, entry: _Entry) -> bool:
        if entry.second <= self._behind or self._part.ids.has(entry.key, entry.second):
            return False
        crowd = self._place.crowd
        return crowd is None or not crowd.ids.has_anywhere(entry.key)

    def _is_settled(self, second: int) -> bool:
        """Return whether Ecwid shows every update of a second for certain."""
        return second < self._started_at - LAG_S


def _version_key(customer: Customer | UnfitCustomer) -> int:
    """Return a number that differs for each customer and for each content."""
    try:
        content = orjson.dumps(_ordered(customer), option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONEncodeError, RecursionError):  # The customer is nested too deep.
        content = b""
    digest = hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
    return key_of(customer) << 8 * _DIGEST_BYTES | int.from_bytes(digest, "big")


def _ordered(value: Any) -> Any:
    """Return a value with its lists in one order, because Ecwid's lists have no stable order."""
    if isinstance(value, dict):
        return {name: _ordered(member) for name, member in value.items()}
    if isinstance(value, list):
        return sorted(map(_ordered, value), key=orjson.dumps)
    return value
