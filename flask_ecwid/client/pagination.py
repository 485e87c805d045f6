"""Reading all customers of a list that moves while it is read.

By offset, a customer that is deleted moves all behind it a place forward, and one of them is never
seen. So the list is read in the order of registration, each page from the second in which the one
before it ended; doubles are dropped by their ids. Where a second holds more than a page, that one
is read by offset, with an overlap. What has changed since the beginning is then read once more, in
the order of changes: Ecwid's search shows some customers late.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from .. import clock
from ..errors import BadReply, InvalidRequest, Misfit
from . import fields

log = logging.getLogger("flask_ecwid")

PAGE_SIZE = 100  # Ecwid's maximum. Its default is 10 or 100, by which document one reads: send it
OVERLAP_S = 1  # whether Ecwid's bounds are inclusive, no document says
OVERLAP = 20  # customers, where a page is found by its offset
SAME_PAGES = 5  # in a row: one may be as the list has moved
LAG_S = 300  # how late Ecwid's search may be, and how far its clock may be from ours
_NEEDED_FIELDS = "total,count,offset,limit,items(id,registered,updated)"
_DATES = ("%Y-%m-%d %H:%M:%S %z", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d")

Customer = dict[str, Any]


@dataclass(frozen=True)
class _Pass:
    """One way through the list: in the order of `member`, from the bound `filter`."""

    member: str
    filter: str
    sort: str


_PASSES = (
    _Pass("registered", "createdFrom", "REGISTERED_DATE_ASC"),
    _Pass("updated", "updatedFrom", "UPDATED_DATE_ASC"),
)


@dataclass(frozen=True)
class _Position:
    """Where the next page begins: the pass, its lower bound in UNIX seconds, an offset in it."""

    number: int = 0
    since: int | None = None
    offset: int = 0


class Customers(Iterator[Customer]):
    """Every customer that matches the filters, each id once.

    Those that are there during the whole reading come exactly once; those created meanwhile, if
    Ecwid's search shows them in time; of those deleted meanwhile, some. An error of a page is
    raised, and the next `next()` goes on in the same place.
    """

    def __init__(
        self,
        list_page: Callable[..., dict[str, Any]],
        filters: Mapping[str, Any],
        *,
        cursor: str | None = None,
        before_page: Callable[[], None] = lambda: None,
    ) -> None:
        """`list_page` gives Ecwid's page for a query; `before_page` is called before each.

        Raises:
            ValueError: the order or the offset is given; the cursor is none of these filters'.
        """
        self._filters = _checked(filters)
        self._list_page = list_page
        self._before_page = before_page
        self._digest = _digest(self._filters)
        self._bounds = tuple(_bound(self._filters, each.filter) for each in _PASSES)
        self._begun = int(clock.wall())
        self._seen: set[int] = set()
        self._at: _Position | None = _Position(since=self._bounds[0])
        if cursor is not None:
            self._resume(cursor)
        self._next: _Position | None = self._at  # when the page in hand has been handed out
        self._page: list[Customer] = []
        self._before: tuple[_Position, list[int]] | None = None
        self._same_pages = 0
        self.difference: int | None = None  # at the end: how many fewer came than `total` says

    @staticmethod
    def digest_of(filters: Mapping[str, Any]) -> str:
        """The same for equal filters.

        Raises:
            ValueError, InvalidRequest: these cannot be, as above.
        """
        checked = _checked(filters)
        for each in _PASSES:
            _bound(checked, each.filter)
        return _digest(checked)

    def __iter__(self) -> Customers:
        return self

    def __next__(self) -> Customer:
        while True:
            while self._page:
                customer = self._page.pop(0)
                if customer["id"] not in self._seen:
                    self._seen.add(customer["id"])
                    return customer
            self._at = self._next
            if self._at is None:
                self._compare()
                raise StopIteration
            self._turn(self._at)

    @property
    def cursor(self) -> str:
        """Where to go on after the customer that came last: ids and dates, and nothing else."""
        at = self._at or _Position(len(_PASSES))
        parts = (self._digest, self._begun, at.number, at.since or "", _packed(self._seen))
        return ".".join(map(str, parts))

    @property
    def page_is_over(self) -> bool:
        """Whether the customer that came last was the last of its page: a call comes next."""
        return not any(customer["id"] not in self._seen for customer in self._page)

    def _turn(self, at: _Position) -> None:
        """Read the page there, and find where the next one begins."""
        self._before_page()
        page = _customers(self._list_page(**self._query(at)))
        ids = [customer["id"] for customer in page]
        window = replace(at, offset=0)
        same = ids and at.offset and self._before == (window, ids)
        self._same_pages = self._same_pages + 1 if same else 0
        if self._same_pages >= SAME_PAGES:
            raise BadReply("Ecwid sent the same page again.")
        self._before = (window, ids)
        self._page = list(page)
        self._next = self._following(at, page)

    def _following(self, at: _Position, page: list[Customer]) -> _Position | None:
        if not page:  # and not a short one: Ecwid has been seen to send those in the middle
            if at.number + 1 == len(_PASSES):
                return None
            bound = self._bounds[at.number + 1]
            return _Position(at.number + 1, max(self._begun - LAG_S, bound or 0))
        moments = (_moment(customer.get(_PASSES[at.number].member)) for customer in page)
        last = max((moment for moment in moments if moment is not None), default=None)
        if last is not None and (at.since is None or last - OVERLAP_S > at.since):
            return _Position(at.number, last - OVERLAP_S)
        return replace(at, offset=at.offset + len(page) - min(len(page) // 2, OVERLAP))

    def _query(self, at: _Position) -> dict[str, Any]:
        one = _PASSES[at.number]
        query = {**self._filters, "sortBy": one.sort, "offset": at.offset}
        if at.since is not None:
            query[one.filter] = at.since
        return query

    def _compare(self) -> None:
        if self.difference is not None:
            return
        self._before_page()
        total = self._list_page(**{**self._filters, "limit": 1, "offset": 0}).get("total")
        self.difference = total - len(self._seen) if isinstance(total, int) else 0
        if self.difference:
            told = "customers read=%d total=%d: the list has moved, or Ecwid counts otherwise"
            log.warning(told, len(self._seen), total)

    def _resume(self, cursor: str) -> None:
        form = r"([0-9a-f]{16})\.([0-9]{1,12})\.([0-2])\.([0-9]{0,12})\.([A-Za-z0-9_=-]+)"
        found = re.fullmatch(form, cursor)
        ids = _unpacked(found[5]) if found else None
        if found is None or ids is None:
            raise ValueError("this is no cursor of iter_customers")
        if found[1] != self._digest:
            raise ValueError("the cursor is of other filters")
        self._begun, self._seen = int(found[2]), ids
        number, since = int(found[3]), int(found[4]) if found[4] else None
        self._at = _Position(number, since) if number < len(_PASSES) else None


def _checked(filters: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in filters.items() if value is not None}
    sort = given.pop("sortBy", _PASSES[0].sort)
    if given.pop("offset", 0) or sort != _PASSES[0].sort:
        raise ValueError("the order and the offset are what makes the reading safe: leave them out")
    if "responseFields" in given:
        try:
            selection = fields.complete(str(given["responseFields"]), _NEEDED_FIELDS)
        except (ValueError, RecursionError):
            raise InvalidRequest([Misfit("/query/responseFields", "pattern")]) from None
        given["responseFields"] = selection
    return {"limit": PAGE_SIZE, **given}


def _digest(filters: Mapping[str, Any]) -> str:
    return hashlib.blake2b(repr(sorted(filters.items())).encode(), digest_size=8).hexdigest()


def _bound(filters: Mapping[str, Any], name: str) -> int | None:
    """A lower bound that the caller gave, in UNIX seconds."""
    if name not in filters:
        return None
    moment = _moment(filters[name])
    if moment is None:
        raise ValueError(f"{name} is neither UNIX seconds nor one of Ecwid's dates")
    return moment


def _customers(page: dict[str, Any]) -> list[Customer]:
    items = page.get("items")
    if not isinstance(items, list) or not all(
        isinstance(item, dict) and isinstance(item.get("id"), int) for item in items
    ):
        raise BadReply("Ecwid's page is not a list of customers with ids.")
    return items


def _moment(value: object) -> int | None:
    """UNIX seconds, of themselves or of one of Ecwid's dates; None of anything else."""
    if isinstance(value, int) or re.fullmatch(r"[0-9]{1,12}", str(value)):
        return int(str(value))
    for form in _DATES:
        try:
            read = datetime.strptime(str(value), form)
        except ValueError:
            continue
        return int((read if read.tzinfo else read.replace(tzinfo=timezone.utc)).timestamp())
    return None


def _packed(ids: set[int]) -> str:
    """As steps from one to the next, seven bits a byte: most of them take two bytes."""
    packed = bytearray()
    before = 0
    for id in sorted(ids):
        step, before = id - before, id
        while step > 127:
            packed.append(step & 127 | 128)
            step >>= 7
        packed.append(step)
    return base64.urlsafe_b64encode(zlib.compress(bytes(packed), 9)).decode()


def _unpacked(text: str) -> set[int] | None:
    try:
        packed = zlib.decompress(base64.urlsafe_b64decode(text))
    except (ValueError, zlib.error):
        return None
    ids: set[int] = set()
    id = step = shift = 0
    for byte in packed:
        step |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            id += step
            ids.add(id)
            step = shift = 0
    return ids
