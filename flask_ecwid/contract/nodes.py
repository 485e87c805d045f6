"""The parts and the members of a schema of the contract. Pure, without I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

Node = Mapping[str, Any]  # a schema, or a parameter with its schema

NO_SCHEMAS: Mapping[str, Node] = MappingProxyType({})


def parts(node: Node, schemas: Mapping[str, Node] = NO_SCHEMAS) -> Iterator[Node]:
    """Yield a node and the nodes that it consists of by `$ref` and `allOf`, the outer nodes first.

    Args:
        node: The node.
        schemas: The components that a `$ref` names. A node of the compiled contract has no `$ref`.
    """
    while "$ref" in node:
        node = schemas[node["$ref"].rpartition("/")[2]]
    yield node
    for part in node.get("allOf", ()):
        yield from parts(part, schemas)


def members(node: Node, schemas: Mapping[str, Node] = NO_SCHEMAS) -> dict[str, Any]:
    """Return the members of an object by name, and no members for any other node."""
    found: dict[str, Any] = {}
    for part in parts(node, schemas):
        found.update(part.get("properties", {}))
    return found
