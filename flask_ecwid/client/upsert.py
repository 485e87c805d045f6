"""Find a customer by the e-mail, and bring the customer to the members that a caller sets.

Ecwid's search by e-mail also finds longer e-mails, and shows changes late. So the module compares
each e-mail itself, and reads the customer by the id before the customer counts as found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .. import clock
from ..errors import (
    BadReply,
    ContractBroken,
    CustomerNotFound,
    EcwidError,
    EmailTaken,
    InvalidRequest,
    Violation,
)
from . import merge
from .reconcile import WAITS_S, same_email
from .types import Customer

if TYPE_CHECKING:
    from .client import EcwidClient

_SEVERAL = (
    "An e-mail that one customer has. Several customers of the store have the e-mail, so nobody"
    " knows which of them is meant."
)
BeforeCall = Callable[[], None]


class Put(NamedTuple):
    """The customer of a put, and whether the put created, updated or only found the customer."""

    id: int
    outcome: Literal["created", "updated", "unchanged"]


def list_with_email(
    client: EcwidClient, email: str, before_call: BeforeCall, *, exact: bool = True
) -> list[dict[str, Any]]:
    """Return all customers with this e-mail as Ecwid's search shows them, the oldest first.

    Args:
        client: Makes the calls.
        email: The e-mail, in any case.
        before_call: Is called before each call.
        exact: Ask Ecwid for exact matches only. Ecwid does not say whether their case counts, so a
            search with False can find more.

    Raises:
        BadReply: Ecwid shows the same page again and again.
        InvalidRequest: The e-mail is empty, and Ecwid would return all customers.
    """
    if not email.strip():
        raise InvalidRequest([Violation("/email", "minLength", "An e-mail that is not empty.")])
    query = {"email": email.strip(), "sortBy": "REGISTERED_DATE_ASC"}
    found: dict[int, dict[str, Any]] = {}
    seen: set[int] = set()
    offset = 0
    while True:
        before_call()
        page = client.list_with_unfit(
            **query, useExactEmailMatch=True if exact else None, offset=offset
        )
        ids = {item["id"] for item in page["items"] if isinstance(item.get("id"), int)}
        if ids and ids <= seen:
            raise BadReply().changed(executed="no")
        seen |= ids
        for item in page["items"]:
            if item.get("id") in ids and same_email({"email": email}, item):
                found[item["id"]] = dict(item)
        offset += len(page["items"])
        if not page["items"] or offset >= page["total"]:
            return [found[customer_id] for customer_id in sorted(found)]


def find(client: EcwidClient, email: str, before_call: BeforeCall) -> Customer | None:
    """Return the oldest customer with this e-mail, or None."""
    for exact in (True, False):
        listed = list_with_email(client, email, before_call, exact=exact)
        if customer := next(_existing(client, email, listed, before_call), None):
            return customer
    return None


def put(
    client: EcwidClient,
    body: Mapping[str, Any],
    before_call: BeforeCall,
    *,
    only_one: bool = False,
) -> Put:
    """Create the customer, or bring the customer with this e-mail to the members of the body.

    Args:
        client: Makes the calls.
        body: The prepared body of a creation.
        before_call: Is called before each call.
        only_one: Refuse an e-mail that several customers have. Otherwise the oldest is meant.

    Raises:
        EmailTaken: Ecwid refuses the e-mail, and Ecwid's search shows no customer with the e-mail.
            With `only_one`, several customers have the e-mail.
        InvalidRequest: The body has no e-mail.
    """
    email = body.get("email")
    if not isinstance(email, str):
        raise InvalidRequest([Violation("/email", "required", "The e-mail of the customer.")])
    listed = list_with_email(client, email, before_call)
    customers = _existing(client, email, listed, before_call)
    customer = next(customers, None)
    if only_one and next(customers, None):
        raise EmailTaken().changed(errors=[Violation("/email", "uniqueItems", _SEVERAL)])
    if customer is None:
        before_call()
        try:
            return Put(client.add_customer(body)["id"], "created")
        except EmailTaken as exc:
            taken = exc
        # Another caller may have created the customer just now, and the search shows some new
        # customers late.
        try:
            customer = _find_taken(client, email, before_call)
            if customer is not None:
                return _update(client, body, customer, before_call)
        except EcwidError as exc:
            if taken.executed == "no":
                raise
            # The later call may have had no effect, but the creation may have happened.
            raise exc.changed(executed=taken.executed) from None
        raise taken
    return _update(client, body, customer, before_call)


def _update(
    client: EcwidClient, body: Mapping[str, Any], customer: Customer, before_call: BeforeCall
) -> Put:
    changes = merge.changes(body, customer)
    if not changes:
        return Put(customer["id"], "unchanged")
    before_call()
    client.update_customer(customer["id"], changes)
    return Put(customer["id"], "updated")


def _find_taken(client: EcwidClient, email: str, before_call: BeforeCall) -> Customer | None:
    for wait_s in WAITS_S:
        if not clock.sleep(wait_s):
            break
        listed = list_with_email(client, email, before_call, exact=False)
        if customer := next(_existing(client, email, listed, before_call), None):
            return customer
    return None


def _existing(
    client: EcwidClient, email: str, listed: Iterable[Mapping[str, Any]], before_call: BeforeCall
) -> Iterator[Customer]:
    """Yield the listed customers that still exist and still have the e-mail.

    Raises:
        ContractBroken: The customer violates the contract. The error names the customer.
    """
    for item in listed:
        before_call()
        try:
            customer = client.get_customer(item["id"])
        except CustomerNotFound:
            continue
        except ContractBroken as exc:
            raise exc.changed(customer_ids=[item["id"]]) from None
        if same_email({"email": email}, customer):
            yield customer
