"""The questions for customers whom a reading of all customers did not show.

A list may miss a customer, so a customer counts as deleted only after a 404 of Ecwid.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from functools import partial

from .. import clock
from ..client import Change, CustomerDeleted, CustomerUnreadable, CustomerUpdated, EcwidClient
from ..errors import BadReply, ContractBroken, CustomerNotFound


def ask(client: EcwidClient, customer_id: int) -> Change:
    """Ask Ecwid for a customer, and return the reply as a change.

    The question waits for its turn, as all bulk work does.

    Args:
        client: The client of the store.
        customer_id: The id of the customer.

    Raises:
        BadReply: Ecwid sent another customer. Or a proxy sent the 404, so Ecwid may have the
            customer.
        EcwidError: Nobody knows whether Ecwid has the customer.
    """
    client.wait_for_budget()
    try:
        customer = client.wait_while_unavailable(partial(client.get_customer, customer_id))
    except CustomerNotFound as exc:
        if not exc.by_ecwid:
            fault = BadReply("A proxy sent a 404, so Ecwid may still have the customer.")
            raise fault.changed(executed="no") from None
        return CustomerDeleted(customer_id, datetime.fromtimestamp(clock.wall(), timezone.utc))
    except ContractBroken as exc:
        return CustomerUnreadable(customer_id, exc.errors)
    if customer["id"] != customer_id:
        raise BadReply("Ecwid sent another customer.").changed(executed="no")
    return CustomerUpdated(customer)


def check_404s(client: EcwidClient, seen: Sequence[int]) -> None:
    """Check that Ecwid has a customer whom its list has shown, so that its 404s say something.

    Args:
        client: The client of the store.
        seen: The ids of customers whom the list has shown. Without any, nothing is checked.

    Raises:
        BadReply: Each of them gets a 404 as well.
        EcwidError: Ecwid has not answered.
    """
    if seen and all(isinstance(ask(client, each), CustomerDeleted) for each in seen):
        error = BadReply("Ecwid sent a 404 for customers that its list shows.")
        raise error.changed(executed="no")
