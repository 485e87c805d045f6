"""Valid documents of every kind that the contract allows, made from its schemas."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from flask_ecwid import contract

from ..conftest import REQUEST_ID

CONTRACT = contract.load().document
SCHEMAS: dict[str, dict[str, Any]] = CONTRACT["components"]["schemas"]
# The schemas of all bodies, which hold every other schema of an object.
ROOTS = [
    "AddedCustomerEnvelope",
    "CustomerChanges",
    "CustomerEnvelope",
    "CustomerInput",
    "CustomerPageEnvelope",
    "DeletedCustomerEnvelope",
    "Problem",
    "UpdatedCustomerEnvelope",
]
# Ecwid sends -1 and booleans for orderBy, a list or a text for entityTypes, and numbers for values.
UNTYPED = [-1, True, "CUSTOMERS", ["CUSTOMERS"], 2.5, False, 0, {"a": [1]}, [], None]
INTEGERS = [-1, 0, 1, 404, 2**53 - 1]
NUMBERS = [-2.5, 0.5]
TEXTS = ["Жанна 🎂", "", "DE", "ada@example.com", "TEXT", "A_CODE", "urn:x", REQUEST_ID]
UNKNOWN = "addedByEcwid"  # a member that the contract does not have


def nodes(node: Any = CONTRACT) -> Iterator[dict[str, Any]]:
    """Yield every object of the contract, or of a part of the contract."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from nodes(value)


def patterns() -> list[str]:
    """Return every pattern of the contract once."""
    found = [node.get("pattern") for node in nodes()]
    return sorted({each for each in found if isinstance(each, str)})


def flat(node: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without $ref and allOf, whose properties are all in one place."""
    if "$ref" in node:
        return flat(SCHEMAS[node["$ref"].rpartition("/")[2]])
    parts = [flat(part) for part in node.get("allOf", [])]
    whole = {key: value for part in [*parts, node] for key, value in part.items()}
    whole["properties"] = {k: v for p in [*parts, node] for k, v in p.get("properties", {}).items()}
    whole["required"] = [name for part in [*parts, node] for name in part.get("required", [])]
    return whole


def samples(node: dict[str, Any]) -> list[Any]:
    """Return values of each kind that this schema allows."""
    schema = flat(node)
    found: list[Any]
    match schema.get("type"):
        case "object":
            found = objects(schema)
        case "array":
            found = [samples(schema["items"]), []]
        case "integer":
            found = [each for each in INTEGERS if in_bounds(schema, each)]
        case "number":
            found = [each for each in NUMBERS if in_bounds(schema, each)]
        case "boolean":
            found = [True, False]
        case "string":
            found = [each for each in schema.get("enum", TEXTS) if is_a_text_of(schema, each)]
        case _:
            return UNTYPED
    assert found, schema
    return [*found, None] if schema.get("nullable") else found


def objects(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return objects with every member, in which every value of a member occurs, and a bare one."""
    columns = {name: samples(each) for name, each in schema["properties"].items()}
    if schema["additionalProperties"]:
        columns[UNKNOWN] = UNTYPED
    rows = max((len(column) for column in columns.values()), default=0)
    bare = {name: columns[name][0] for name in schema["required"]}
    return [bare, *({n: c[i % len(c)] for n, c in columns.items()} for i in range(rows))]


def in_bounds(schema: dict[str, Any], value: float) -> bool:
    return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))


def is_a_text_of(schema: dict[str, Any], text: str) -> bool:
    if schema.get("format") == "uuid":
        return text == REQUEST_ID
    if schema.get("format") == "uri":
        return text.startswith("urn:")
    return len(text) >= schema.get("minLength", 0) and bool(
        re.search(schema.get("pattern", ""), text)
    )


def all_samples() -> dict[str, list[Any]]:
    """Return documents of each root."""
    return {name: samples(SCHEMAS[name]) for name in ROOTS}


def program_input() -> str:
    """Return what the programs read that send documents through generated models."""
    return json.dumps({"documents": all_samples(), "patterns": patterns()})


def differences(read: Any, written: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield how a document differs from what a model has written of it, and the place of each.

    A kind says what has become of a member of the document: "absent", "null absent" and "unknown
    member absent" are gone, "null" and "added" were not in the document.
    """
    if isinstance(read, dict) and isinstance(written, dict):
        for name in {**read, **written}:
            here = f"{place}/{name}"
            if name not in read:
                yield ("null" if written[name] is None else "added"), here
            elif name in written:
                yield from differences(read[name], written[name], here)
            elif read[name] is None:
                yield "null absent", here
            else:
                yield ("unknown member absent" if name == UNKNOWN else "absent"), here
    elif isinstance(read, list) and isinstance(written, list) and len(read) == len(written):
        for one, other in zip(read, written, strict=True):
            yield from differences(one, other, f"{place}/*")
    elif type(read) is not type(written) or read != written:
        yield ("empty object" if read == {} and written == [] else "changed"), place


def read_only(node: dict[str, Any], place: str) -> Iterator[str]:
    """Yield the places of the members that only Ecwid sets."""
    schema = flat(node)
    if "items" in schema:
        yield from read_only(schema["items"], f"{place}/*")
    for name, each in schema["properties"].items():
        if each.get("readOnly"):
            yield f"{place}/{name}"
        else:
            yield from read_only(each, f"{place}/{name}")


def losses(output: str) -> dict[str, str]:
    """Return each kind of difference between the documents and the output, with an example."""
    spared = {place for name in ROOTS for place in read_only(SCHEMAS[name], f"/{name}/*")}
    found: dict[str, str] = {}
    for kind, place in differences(all_samples(), json.loads(output), ""):
        is_spared = kind == "absent" and place in spared
        found.setdefault("read-only member absent" if is_spared else kind, place)
    return found
