"""Read pages of customers, in which a customer may be odd or too large.

One odd customer never ends a reading. The reader asks for a customer that does not fit the contract
alone. A page that is too large, or no JSON, is asked for again in halves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from ..errors import (
    BadReply,
    ContractBroken,
    CustomerNotFound,
    EcwidError,
    EcwidFailed,
    EcwidTimedOut,
    NotJson,
    Rejected,
    ReplyTooLarge,
    ServiceRefused,
    Violation,
)
from . import dates
from .overlap_ids import UNDATED
from .replies import UnfitCustomer
from .types import Customer, CustomerPage

# Ecwid's maximum. Ecwid's pages name two defaults, 10 and 100, so the client sends the size.
# https://docs.ecwid.com/api-reference/rest-api/customers/search-customers
PAGE_SIZE = 100
NEEDED_FIELDS = "total,count,offset,limit,items(id,registered,updated)"
# Replies that may concern a single customer, because the page with the customer was read.
_FAILURES_OF_ONE_CUSTOMER = (
    *(BadReply, ContractBroken, CustomerNotFound, EcwidFailed, EcwidTimedOut),
    *(Rejected, ServiceRefused),
)


class Skipped(NamedTuple):
    """A customer that did not come, because Ecwid's reply violates the contract in these places.

    The id is None if Ecwid's page shows no id.
    """

    customer_id: int | None
    errors: Sequence[Violation]

    @property
    def places(self) -> str:
        """The places, each with its keyword, as text."""
        return " ".join(each.place for each in self.errors)


class PageReader:
    """Reads the pages of one reading."""

    def __init__(
        self,
        list_page: Callable[..., CustomerPage],
        before_call: Callable[[], None],
        get_customer: Callable[[int, str | None], Customer] | None,
        selection: str | None,
    ) -> None:
        """Make a reader.

        Args:
            list_page: Returns Ecwid's page for a query.
            before_call: Is called before each call of `list_page` and `get_customer`.
            get_customer: Returns a customer by the id, with the members of a selection. Without
                this function, no customer is asked for alone.
            selection: The members of a customer, or None for all.
        """
        self._list_page = list_page
        self._before_call = before_call
        self._get_customer = get_customer
        self._selection = selection
        self._size: int | None = None  # The size of the pages, if smaller than the query says.

    def fitting(self, customer: Customer | UnfitCustomer) -> Customer | Skipped | None:
        """Return a customer who fits the contract, or the places that do not fit.

        A customer of a page who does not fit is asked for alone, because that reply may fit. The
        result is None if the customer was deleted meanwhile.
        """
        if not isinstance(customer, UnfitCustomer):
            return customer
        id, errors = id_of(customer), customer.errors
        if id is not None and self._get_customer is not None:
            self._before_call()
            try:
                alone = self._get_customer(id, self._selection)
            except _FAILURES_OF_ONE_CUSTOMER as exc:
                if isinstance(exc, CustomerNotFound) and exc.by_ecwid:
                    return None
                if exc.pause_s:  # Ecwid refuses all calls.
                    raise
                errors = exc.errors or ([_violation(exc)] if isinstance(exc, BadReply) else errors)
            else:
                if alone["id"] == id:
                    return alone
                errors = [Violation("/id", "const")]
        return Skipped(id, errors)

    def read(self, query: dict[str, Any]) -> tuple[list[Customer | UnfitCustomer], object]:
        """Return the customers of a page and Ecwid's `total`.

        The page is smaller if the whole page cannot be read.
        """
        limit = int(query["limit"]) if str(query["limit"]).isdecimal() else PAGE_SIZE
        while True:
            sized = query if self._size is None else {**query, "limit": self._size}
            self._before_call()
            try:
                page = self._list_page(**sized)
                customers = _customers(page)
            except (ReplyTooLarge, NotJson) as exc:
                size = limit if self._size is None else self._size
                if size <= 1:
                    return self._unreadable(query, _violation(exc))
                self._size = size // 2
            else:
                if self._size is not None:
                    self._size = self._size * 2 if self._size * 2 < limit else None
                return customers, page.get("total")

    def _unreadable(
        self, query: dict[str, Any], error: Violation
    ) -> tuple[list[Customer | UnfitCustomer], object]:
        """Return the one customer of a page that cannot be read, only with id and dates."""
        self._before_call()
        page = self._list_page(**{**query, "limit": 1, "responseFields": NEEDED_FIELDS})
        customers = [UnfitCustomer(customer, [error]) for customer in _customers(page)]
        return [*customers], page.get("total")


def _customers(page: CustomerPage) -> list[Customer | UnfitCustomer]:
    """Return the customers of a page.

    Raises:
        BadReply: The page is no list of customers with ids.
    """
    items: Any = page.get("items")
    if not isinstance(items, list) or not all(
        isinstance(item, UnfitCustomer)
        or (isinstance(item, dict) and isinstance(item.get("id"), int))
        for item in items
    ):
        error = BadReply("Ecwid's page is not a list of customers with ids.")
        raise error.changed(executed="no")
    return items


def id_of(customer: Mapping[str, Any]) -> int | None:
    """Return the id of a customer, or None if no other call could name the customer by it."""
    id = customer.get("id")
    return id if isinstance(id, int) and id is not True and id > 0 else None


def key_of(customer: Mapping[str, Any]) -> int:
    """Return the id of a customer, or a number beyond all ids that stands for the content."""
    id = id_of(customer)
    if id is not None:
        return id
    try:
        content = orjson.dumps(customer)
    except orjson.JSONEncodeError:  # The customer is nested too deep.
        content = b""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big") + 2**64


def _violation(error: EcwidError) -> Violation:
    """Return the violation that stands for a reply without a readable place."""
    return Violation("", "size" if isinstance(error, ReplyTooLarge) else "json")


def second_of(customer: Mapping[str, Any], member: str) -> int:
    """Return a date of a customer in UNIX seconds.

    A date before 1970 counts as 0, because Ecwid's filters take no negative number. Customers from
    before 1970 are therefore read by offset, like the customers of one second.
    """
    seconds = dates.to_seconds(customer.get(member))
    return UNDATED if seconds is None else max(0, seconds)
