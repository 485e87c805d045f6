"""The contract in OpenAPI 3.1, which also describes Ecwid's webhook events. Pure.

The contract itself stays in OpenAPI 3.0.3, because connexion reads no other version. OpenAPI 3.0
has no `webhooks`.
"""

from __future__ import annotations

import re
from typing import Any

from .webhook_event import CUSTOMER_CHANGES, PERSONAL_DATA, SIGNATURE, UNINSTALLED

_SUMMARIES = {
    **{type_: f"A customer was {kind}" for type_, kind in CUSTOMER_CHANGES.items()},
    UNINSTALLED: "A merchant has uninstalled the app",
    **{type_: f"A request for the {kind} of data" for type_, kind in PERSONAL_DATA.items()},
}
_RESPONSES = {
    "400": "The body is no JSON object, or a member is missing or wrong.",
    "401": "The signature is not Ecwid's.",
    "413": "The body is larger than 64 kB.",
    "500": "A receiver of the application has failed. Ecwid delivers the event again.",
    "503": "The storage is unavailable, or another delivery of the event is under way.",
}
_EVENT = {
    "type": "object",
    "description": "An event of Ecwid. Only `eventCreated` and `eventId` are signed.",
    "required": ["eventId", "eventCreated", "storeId", "eventType"],
    "properties": {
        "eventId": {"type": "string", "pattern": "^[A-Za-z0-9-]{1,64}$"},
        "eventCreated": {"type": "integer", "description": "UNIX seconds."},
        "storeId": {"type": "integer", "minimum": 1},
        "entityId": {"type": ["integer", "string"], "description": "The customer, as a number."},
        "eventType": {"type": "string", "enum": list(_SUMMARIES)},
        "data": {"type": "object"},
    },
}
_HEADER = {
    "name": SIGNATURE,
    "in": "header",
    "required": True,
    "description": "The base64 of HMAC-SHA256 with the client_secret over `eventCreated.eventId`.",
    "schema": {"type": "string"},
}


def openapi_31(document: dict[str, Any]) -> dict[str, Any]:
    """Return the contract, which is in OpenAPI 3.0, in OpenAPI 3.1 with the webhook events."""
    translated: dict[str, Any] = _translated(document)
    components = translated["components"]
    schemas = {**components["schemas"], "WebhookEvent": _EVENT}
    return {
        **translated,
        "openapi": "3.1.0",
        "webhooks": {type_: {"post": _operation(type_)} for type_ in _SUMMARIES},
        "components": {**components, "schemas": schemas},
    }


def _translated(node: Any) -> Any:
    """Return a part of the document, in which `nullable` became a type."""
    if isinstance(node, list):
        return [_translated(item) for item in node]
    if not isinstance(node, dict):
        return node
    translated = {key: _translated(value) for key, value in node.items()}
    if node.get("nullable") is True:
        del translated["nullable"]
        translated["type"] = [node["type"], "null"]
    return translated


def _operation(type_: str) -> dict[str, Any]:
    of_type = {"properties": {"eventType": {"const": type_}}}
    schema = {"allOf": [{"$ref": "#/components/schemas/WebhookEvent"}, of_type]}
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        "operationId": _operation_id(type_),
        "tags": ["webhooks"],
        "summary": _SUMMARIES[type_],
        "security": [],
        "parameters": [_HEADER],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "200": {"description": "The event was received."},
            **{
                status: {"description": description, "content": problem}
                for status, description in _RESPONSES.items()
            },
        },
    }


def _operation_id(type_: str) -> str:
    """Return a name which stays unique if a generator changes case and separators.

    Two events have a second spelling in camel case.
    """
    name = f"receive_{re.sub('[^A-Za-z_]', '_', type_)}"
    return name if name.islower() else f"{name}_in_camel_case"
