"""The schemas of Ecwid's replies: the contract's components, and those of other calls. Pure.

The contract describes five operations. The client also calls `list_deleted`, which is no endpoint
of the plugin, so the contract has no component for its reply. That component stands here, in the
words of the contract.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ..contract import load
from ..contract.schema import Schema, json_schema

OWN: dict[str, dict[str, Any]] = {
    "Deletion": {
        "type": "object",
        "required": ["id", "date"],
        "properties": {"id": {"type": "integer"}, "date": {"type": "string"}},
    },
    "DeletionPage": {
        "type": "object",
        "required": ["total", "count", "offset", "limit", "items"],
        "properties": {
            **{name: {"type": "integer"} for name in ("total", "count", "offset", "limit")},
            "items": {"type": "array", "items": {"$ref": "#/components/schemas/Deletion"}},
        },
    },
}


@cache
def schemas() -> dict[str, Any]:
    """Return all components by their names, in OpenAPI."""
    return {**load().document["components"]["schemas"], **OWN}


@cache
def component(name: str) -> tuple[Schema, frozenset[str] | None]:
    """Return the schema of a component, and the members that a reply keeps.

    A component that allows no other members has the list of its own. For example, Ecwid sent
    `success` beside `updateCount` until 2014. For any other component, all members are kept and the
    list is None.
    """
    node = schemas()[name]
    if name in OWN:
        return Schema(node, json_schema(OWN, "response"), "response"), None
    contract = load()
    closed = node.get("additionalProperties") is False
    return contract.component(name), contract.members(name) if closed else None
