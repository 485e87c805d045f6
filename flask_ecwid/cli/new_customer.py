"""The body that creates an exported customer. The module is pure.

An export has members that a creation does not set. A null sets nothing, and the ids of addresses
and contacts belong to the exported customer. A member that the contract does not know stays, and
violates the schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..client import bodies
from ..contract import Contract


def creation_body(contract: Contract, customer: Any) -> dict[str, Any]:
    """Return the body that creates this customer.

    Raises:
        InvalidRequest: The customer violates the contract.
    """
    operation = contract.operations["add_customer"]
    body = _given(operation.body_node, customer)
    operation.validate_body(body)
    return bodies.prepare("add_customer", body).body


def _given(schema: Mapping[str, Any], value: Any) -> Any:
    """Return a value without the nulls of known members and without the ids below it."""
    if isinstance(value, list):
        return [_without_id(_given(schema.get("items", {}), item)) for item in value]
    if not isinstance(value, dict):
        return value
    members = schema.get("properties", {})
    return {
        name: _given(members.get(name, {}), member)
        for name, member in value.items()
        if not (member is None and name in members)
    }


def _without_id(item: Any) -> Any:
    """Return an item of a list without its id, because a new customer must not reuse the id."""
    if not isinstance(item, dict):
        return item
    return {name: member for name, member in item.items() if name != "id"}
