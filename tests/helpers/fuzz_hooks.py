"""A hook of schemathesis that follows the rules of bodies that no schema expresses.

docs/errors.md lists the rules. Without the hook, a refused body would count as a fault, because the
body fits the schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import schemathesis

from flask_ecwid.contract import strict_json
from flask_ecwid.errors import InvalidRequest


@schemathesis.hook
def before_call(context: object, case: Any, **_: object) -> None:
    """Give a body one name, the id of its group, whole new contacts, and readable free values."""
    body = case.body
    if not isinstance(body, dict):
        return
    person = body.get("billingPerson")
    if isinstance(body.get("name"), str) and isinstance(person, dict) and "name" in person:
        body["name"] = person["name"]
    if "customerGroupName" in body:
        body.setdefault("customerGroupId", 0)
    if case.operation.definition.raw["operationId"] == "update_customer":
        if (
            body.get("email") == ""
        ):  # The store's customers have an e-mail, which cannot be cleared.
            del body["email"]
        for contact in items(body, "contacts"):  # A generated id is not an id of the customer.
            contact.setdefault("contact", "x")
            contact.setdefault("type", "OTHER")
    # These values have no type, so a generated value may hold an integer beyond 2^53 - 1.
    for place, name in FREE:
        for item in items(body, place):
            if name in item and not is_readable(item[name]):
                item[name] = "x"


FREE = [("extrafields", "value"), ("contacts", "orderBy"), ("shippingAddresses", "orderBy")]


def items(body: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    found = body.get(name)
    yield from (item for item in found if isinstance(item, dict)) if isinstance(found, list) else ()


def is_readable(value: object) -> bool:
    try:
        strict_json.parse(json.dumps(value).encode())
    except InvalidRequest:
        return False
    return True
