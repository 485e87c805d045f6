"""The handlers of the five operations. connexion finds each handler by its operationId.

Each handler calls the client and wraps Ecwid's reply in an envelope. The client has checked the
reply, and connexion's chain checks the envelope afterwards.
"""

from __future__ import annotations

from typing import Any

from ..client.calls import build_call
from . import audit, envelope
from .cache import CachedResponse
from .context import current_request
from .envelope import Envelope
from .mount import current_store


def list_customers(**filters: Any) -> Envelope | CachedResponse:
    """Return a page of the customers that match."""
    store = current_store()
    lookup = None
    if store.cache:
        lookup = store.cache.get(build_call("list_customers", query=filters))
    if lookup and lookup.response:
        return lookup.response
    page = store.client.list_customers(**filters)
    document = envelope.page(page, current_request().request_id)
    return store.cache.set(lookup, document) if store.cache and lookup else document


def get_customer(
    customer_id: int,
    responseFields: str | None = None,  # noqa: N803  # the parameter's name in the contract
) -> Envelope | CachedResponse:
    """Return one customer."""
    store = current_store()
    lookup = None
    if store.cache:
        query = {"responseFields": responseFields}
        lookup = store.cache.get(build_call("get_customer", customer_id, query=query))
    if lookup and lookup.response:
        return lookup.response
    customer = store.client.get_customer(customer_id, responseFields=responseFields)
    document = envelope.customer(customer)
    return store.cache.set(lookup, document) if store.cache and lookup else document


def add_customer(body: dict[str, Any]) -> Envelope | tuple[Envelope, dict[str, str]]:
    """Create a customer, once for each Idempotency-Key."""
    store, context = current_store(), current_request()

    def create(age_s: float | None = None) -> Envelope:
        return envelope.added(store.client.add_customer(body, first_attempt_age_s=age_s))

    headers = {}
    if context.idempotency_key is None:
        document = create()
    else:
        # Otherwise an invented token could replay what another token of the store has created.
        store.opened.reads.prove()
        owner = (*context.mount.identity, context.caller or "")
        document, replayed = store.idempotency.run(owner, context.idempotency_key, body, create)
        headers = {"Idempotency-Replayed": "true"} if replayed else {}
        context.replayed = replayed
    context.customer_id = document["data"]["id"]
    return document, headers


def update_customer(customer_id: int, body: dict[str, Any]) -> Envelope:
    """Change the members of a customer that the body names."""
    reply = current_store().client.update_customer(customer_id, body)
    return envelope.updated(reply, current_request().request_id)


def delete_customer(customer_id: int) -> Envelope:
    """Delete a customer."""
    audit.write_line_before_delete()
    reply = current_store().client.delete_customer(customer_id)
    return envelope.deleted(reply, current_request().request_id)
