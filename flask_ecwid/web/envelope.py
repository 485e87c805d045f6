"""Ecwid's body -> `{"data": {id, type, attributes}}`. Pure; whether it fits, the contract says."""

from __future__ import annotations

from typing import Any

Envelope = dict[str, Any]


def page(page: dict[str, Any], request_id: str) -> Envelope:
    """Ecwid's page as it is; `id` is the request's."""
    return _envelope(request_id, page)


def customer(customer: dict[str, Any], request_id: str) -> Envelope:
    """The customer without its id, which is the envelope's."""
    attributes = {name: value for name, value in customer.items() if name != "id"}
    return _envelope(customer.get("id"), attributes)


def added(reply: dict[str, Any], request_id: str) -> Envelope:
    """No attributes; `id` is the new customer's, as a decimal string."""
    return _envelope(str(reply.get("id")), {})


def updated(reply: dict[str, Any], request_id: str) -> Envelope:
    """`updateCount` alone (until 2014 Ecwid sent a `success` beside it); `id` is the request's."""
    return _envelope(request_id, {"updateCount": reply.get("updateCount")})


def deleted(reply: dict[str, Any], request_id: str) -> Envelope:
    """`deleteCount` alone (until 2014 Ecwid sent a `success` beside it); `id` is the request's."""
    return _envelope(request_id, {"deleteCount": reply.get("deleteCount")})


def _envelope(id: object, attributes: dict[str, Any]) -> Envelope:
    return {"data": {"id": id, "type": "ecwid", "attributes": attributes}}
