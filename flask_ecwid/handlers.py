"""The five operations, named after their operationId: ask Ecwid, wrap the answer, let it out.

connexion calls them with the request's parameters by name; routes.py binds the client. What they
return is checked against the contract before it leaves.
"""

from __future__ import annotations

from typing import Any

from . import envelope
from .client import EcwidClient
from .envelope import Envelope


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
    return envelope.customer(customer)


def add_customer(client: EcwidClient, request_id: str, body: dict[str, Any]) -> Envelope:
    reply = client.add_customer(body)
    return envelope.added(reply)


def update_customer(
    client: EcwidClient, request_id: str, customer_id: int, body: dict[str, Any]
) -> Envelope:
    reply = client.update_customer(customer_id, changes=body)
    return envelope.updated(reply, request_id)


def delete_customer(client: EcwidClient, request_id: str, customer_id: int) -> Envelope:
    reply = client.delete_customer(customer_id)
    return envelope.deleted(reply, request_id)
