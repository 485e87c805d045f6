"""Read all customers of a list that changes while it is read.

Reading by offset alone loses customers. A deletion moves every later customer one place forward,
so one customer falls between two pages. The iterator therefore makes two passes.

1. The first pass reads in the order of registration. Each page begins at the watermark, which is
   the second in which the page before it ended. A second with more customers than a page is read
   by offset, and consecutive pages overlap.
2. The second pass reads the customers that were updated since shortly before the beginning, because
   Ecwid's search shows some new customers late.

Pages overlap, so the iterator remembers ids. A returned customer is remembered only while a later
page may show it as new. Memory and cursor hold the same ids, so a resumed reading decides like an
uninterrupted one.

One odd customer never ends the reading, as page_reader.py describes. The iterator skips a customer
who does not fit the contract alone either.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from .. import clock
from ..errors import BadReply, ContractBroken, InvalidRequest, Violation
from . import dates, fields
from .cursors import read_cursor, write_cursor
from .overlap_ids import LAG_S, UNDATED, OverlapIds
from .page_reader import (
    NEEDED_FIELDS,
    PAGE_SIZE,
    PageReader,
    Skipped,
    id_of,
    key_of,
    second_of,
)
from .replies import UnfitCustomer
from .types import Customer, CustomerPage

log = logging.getLogger("flask_ecwid")

OVERLAP_S = 1  # Ecwid does not say whether a bound includes its own second.
OVERLAP = 20  # The customers that consecutive pages share when they are read by offset.
SAME_PAGES = 5  # A changing list can repeat a page, but not so many times with the same total.

_CURSOR = re.compile(
    r"([0-9a-f]{16})\.(\d{1,12})\.([0-2])\.(\d{0,12})\.(\d{1,12})\.([\w=-]+)", flags=re.ASCII
)


@dataclass(frozen=True)
class _Pass:
    """One way through the list, in the order `sort` and from the bound `filter`."""

    filter: str
    sort: str


_PASSES = (
    _Pass("createdFrom", "REGISTERED_DATE_ASC"),
    _Pass("updatedFrom", "UPDATED_DATE_ASC"),
)


@dataclass(frozen=True)
class _Position:
    """The place where a page begins. `watermark` is in UNIX seconds."""

    number: int = 0  # The index of the pass.
    watermark: int | None = None
    offset: int = 0


class _Entry(NamedTuple):
    """A customer of the page in memory, with the second of registration."""

    customer: Customer | UnfitCustomer
    key: int
    second: int


class CustomerIterator(Iterator[Customer]):
    """An iterator over the customers that match the filters.

    The promise is the same for an uninterrupted reading and for a resumed reading.

    - Each id comes at most once.
    - A customer comes exactly once if it matches the filters from 5 minutes before the beginning
      until the end.
    - A customer that is created later comes exactly once if Ecwid's search shows it before the
      reading ends.
    - A customer that is deleted meanwhile may be missing. A customer that is changed meanwhile, so
      that it begins or ceases to match the filters, may be missing too.

    - A customer whose data violates the contract does not come, and `skipped` names the customer.

    The promise has three conditions. The lag of the search and the difference between the clocks
    are at most 5 minutes together (`LAG_S`). `registered` never changes, and is the date that
    `createdFrom` compares. Where one second has more customers than a page, at most `OVERLAP` of
    them, or half a page, are deleted between two pages.

    `next` raises an error that occurs while a page is read. Calling `next` again continues at the
    same place.
    """

    def __init__(
        self,
        list_page: Callable[..., CustomerPage],
        filters: Mapping[str, Any],
        *,
        cursor: str | None = None,
        before_call: Callable[[], None] = lambda: None,
        get_customer: Callable[[int, str | None], Customer] | None = None,
        store: str = "",
    ) -> None:
        """Begin a reading, or resume the reading that made the cursor.

        Args:
            list_page: Returns Ecwid's page for a query.
            filters: Ecwid's search parameters, without `sortBy` and `offset`.
            cursor: The `cursor` of an earlier iterator with equal filters.
            before_call: Is called before each call of `list_page` and `get_customer`.
            get_customer: Returns a customer by the id, with the members of a selection. Without
                this function, the iterator skips each `UnfitCustomer` at once.
            store: A name of the store. The ids of a cursor mean nothing in another store.

        Raises:
            ValueError: The filters hold an order or an offset. Or the cursor is damaged, or belongs
                to other filters or to another store.
        """
        self._filters = _checked(filters)
        self._list_page = list_page
        self._before_call = before_call
        self._digest = _digest(self._filters, store)
        selection = self._filters.get("responseFields")
        of_customer = selection and fields.members_of("items", selection)
        self._reader = PageReader(list_page, before_call, get_customer, of_customer)
        self._bounds = tuple(_bound(self._filters, each.filter) for each in _PASSES)
        self._started_at = int(clock.wall())
        self._count = 0
        self._ids = OverlapIds()
        self._at: _Position | None = _Position(watermark=self._bounds[0])
        if cursor is not None:
            self._resume(cursor)
        self._next: _Position | None = self._at  # The position after the page in memory.
        self._page: deque[_Entry] = deque()
        self.skipped: list[Skipped] = []  # The customers that this iterator left out.
        self._before: tuple[_Position, list[int], object] | None = None
        self._same_pages = 0
        # At the end, Ecwid's `total` minus the customers that came or were skipped.
        self.difference: int | None = None

    @staticmethod
    def digest_of(filters: Mapping[str, Any]) -> str:
        """Return a digest that is the same for equal filters.

        Raises:
            ValueError: The iterator does not accept the filters.
            InvalidRequest: The iterator does not accept `responseFields`.
        """
        checked = _checked(filters)
        for each in _PASSES:
            _bound(checked, each.filter)
        return _digest(checked, "")

    def __iter__(self) -> CustomerIterator:
        return self

    def __next__(self) -> Customer:
        while True:
            while self._page:
                entry = self._page[0]
                is_new = self._is_new(entry)
                customer = self._fitting(entry.customer) if is_new else None
                # The entry leaves the page only now. Otherwise an error would lose the customer.
                self._page.popleft()
                if is_new:
                    self._ids.add(entry.key, entry.second)
                if customer is not None:
                    self._count += 1
                    return customer
            self._advance()
            if self._at is None:
                self._compare()
                raise StopIteration
            self._read_page(self._at)

    @property
    def cursor(self) -> str:
        """The place after the customer that came last, as a text of ids, dates and a count."""
        at = self._at or _Position(len(_PASSES))
        where = (at.number, at.watermark or "")
        return write_cursor(self._digest, self._started_at, *where, self._count, self._ids.pack())

    @property
    def page_is_over(self) -> bool:
        """True if the page in memory holds no further customer."""
        return not any(self._is_new(entry) for entry in self._page)

    def _is_new(self, entry: _Entry) -> bool:
        """Return whether the customer has not come yet.

        A customer from before the watermark has come already, because the first pass has read that
        second. Without this rule, the iterator would have to remember the ids of all customers.
        """
        is_behind = UNDATED < entry.second < self._watermark
        return not is_behind and not self._ids.has(entry.key, entry.second)

    def _fitting(self, customer: Customer | UnfitCustomer) -> Customer | None:
        """Return a customer who fits the contract, or None if the customer does not come."""
        found = self._reader.fitting(customer)
        if isinstance(found, Skipped):
            self._count += 1
            self.skipped.append(found)
            id = found.customer_id or "none"
            log.warning("customer left out customer_id=%s places=%s", id, found.places)
            return None
        return found

    @property
    def _watermark(self) -> int:
        """The second of registration before which no customer is new at this position."""
        if self._at is not None and self._at.number == 0:
            return self._at.watermark or 0
        return self._late_from

    @property
    def _late_from(self) -> int:
        """The second of registration from which the first pass may have missed customers."""
        return max(0, self._started_at - LAG_S)

    def _advance(self) -> None:
        """Go to the next position, and forget the ids that no later page shows as new."""
        self._at = self._next
        self._ids.forget_before(min(self._watermark, self._late_from))

    def _read_page(self, at: _Position) -> None:
        """Read the page at a position, and find the position after it."""
        page, total = self._reader.read(self._query(at))
        nameless = [c for c in page if isinstance(c, UnfitCustomer) and id_of(c) is None]
        if nameless and len(nameless) == len(page) and not self._count:
            # A first page without any id is no list of customers.
            raise ContractBroken(nameless[0].errors).changed(executed="no")
        keys = [key_of(customer) for customer in page]
        # A list that grows before the page repeats the page, but with another total.
        window = replace(at, offset=0)
        shown = window, keys, total
        same = keys and at.offset and self._before == shown
        self._same_pages = self._same_pages + 1 if same else 0
        if self._same_pages >= SAME_PAGES:
            # Calling `next` again begins at the first page, as the cursor does. Otherwise it would
            # fail for ever, or lose the customers of pages that were not shown.
            self._next = window
            raise BadReply("Ecwid sent the same page again.").changed(executed="no")
        self._before = shown
        registered = [second_of(customer, "registered") for customer in page]
        self._page.extend(map(_Entry, page, keys, registered))
        if at.number == 0:
            self._next = self._position_after(at, registered)
        else:
            updated = [second_of(customer, "updated") for customer in page]
            self._next = self._position_after(at, updated)

    def _position_after(self, at: _Position, seconds: list[int]) -> _Position | None:
        """Return the position after a page whose customers have these dates."""
        # Only an empty page ends a pass, because Ecwid sends short pages in the middle of a list.
        # Without that rule, the customers after a short page would be lost.
        if not seconds:
            if at.number + 1 == len(_PASSES):
                return None
            bound = self._bounds[at.number + 1]
            return _Position(at.number + 1, max(self._late_from, bound or 0))
        watermark = max(seconds) - OVERLAP_S
        if watermark > (at.watermark or 0):
            return _Position(at.number, watermark)
        overlap = min(len(seconds) // 2, OVERLAP)
        return replace(at, offset=at.offset + len(seconds) - overlap)

    def _query(self, at: _Position) -> dict[str, Any]:
        this = _PASSES[at.number]
        query = {**self._filters, "sortBy": this.sort, "offset": at.offset}
        if at.watermark is not None:
            query[this.filter] = at.watermark
        return query

    def _compare(self) -> None:
        """Compare the number of customers with Ecwid's `total`, only once."""
        if self.difference is not None:
            return
        self._before_call()
        query = {**self._filters, "offset": 0, "responseFields": "total"}
        total = self._list_page(**query).get("total")
        self.difference = total - self._count if isinstance(total, int) else 0
        if self.difference:
            text = "customers read=%d total=%d. The list changed, or Ecwid counts differently."
            log.warning(text, self._count, total)

    def _resume(self, cursor: str) -> None:
        digest, started_at, number, watermark, count, ids = read_cursor(
            cursor, _CURSOR, "iter_customers"
        )
        if digest != self._digest:
            raise ValueError("the cursor belongs to other filters or to another store")
        self._started_at, self._count = int(started_at), int(count)
        self._ids = OverlapIds.unpack(ids)
        at = _Position(int(number), int(watermark) if watermark else None)
        self._at = at if at.number < len(_PASSES) else None


def _checked(filters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the filters with the page size and the fields that the iterator needs."""
    given = {name: value for name, value in filters.items() if value is not None}
    sort = given.pop("sortBy", _PASSES[0].sort)
    if given.pop("offset", 0) or sort != _PASSES[0].sort:
        raise ValueError("leave out sortBy and offset, because the reading sets them itself")
    if "responseFields" in given:
        try:
            selection = fields.complete(str(given["responseFields"]), NEEDED_FIELDS)
        except (ValueError, RecursionError):
            raise InvalidRequest([Violation("/query/responseFields", "pattern")]) from None
        given["responseFields"] = selection
    return {"limit": PAGE_SIZE, **given}


def _digest(filters: Mapping[str, Any], store: str) -> str:
    text = repr((store, sorted(filters.items())))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _bound(filters: Mapping[str, Any], name: str) -> int | None:
    """Return the caller's `createdFrom` or `updatedFrom` in UNIX seconds, or None without it.

    Raises:
        ValueError: The bound cannot be read.
    """
    if name not in filters:
        return None
    seconds = dates.to_seconds(filters[name])
    if seconds is None:
        raise ValueError(f"{name} is neither UNIX seconds nor a date")
    return max(0, seconds)
