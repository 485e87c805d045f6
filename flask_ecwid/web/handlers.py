"""The five operations, named after their operationId: ask Ecwid, wrap the answer, let it out.

routes.py binds the client and calls them with the request's parameters by name. What the client
gives has been checked: as the envelope that it becomes here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..client import EcwidClient
from ..contract import Contract
from . import envelope
from .envelope import Envelope

_ENVELOPES: dict[str, Callable[[dict[str, Any], str], Envelope]] = {
    "list_customers": envelope.page,
    "get_customer": envelope.customer,
    "add_customer": envelope.added,
    "update_customer": envelope.updated,
    "delete_customer": envelope.deleted,
}
_ANY_ID = "00000000-0000-4000-8000-000000000000"


def check_by(contract: Contract) -> Callable[[str, dict[str, Any]], None]:
    """What checks Ecwid's answers, as the envelopes that they become."""

    def check(operation: str, value: dict[str, Any]) -> None:
        document = _ENVELOPES[operation](value, _ANY_ID)
        contract.operations[operation].check_answer(200, document)

    return check


def list_customers(client: EcwidClient, request_id: str, **filters: Any) -> Envelope:
    page = client.list_customers(**filters)
    return envelope.page(page, request_id)


def get_customer(
    client: EcwidClient,
    request_id: str,
    customer_id: int,
    responseFields: str | None = None,  # noqa: N803  # the parameter's name in the contract
) -> Envelope:
    customer = client.get_customer(customer_id, responseFields=responseFields)
    return envelope.customer(customer, request_id)


def add_customer(
    client: EcwidClient, request_id: str, body: dict[str, Any], since: float | None = None
) -> Envelope:
    reply = client.add_customer(body, since=since)
    return envelope.added(reply, request_id)


def update_customer(
    client: EcwidClient, request_id: str, customer_id: int, body: dict[str, Any]
) -> Envelope:
    reply = client.update_customer(customer_id, changes=body)
    return envelope.updated(reply, request_id)


def delete_customer(client: EcwidClient, request_id: str, customer_id: int) -> Envelope:
    reply = client.delete_customer(customer_id)
    return envelope.deleted(reply, request_id)
