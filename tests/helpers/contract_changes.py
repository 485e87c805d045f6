"""Find the changes of a contract that break callers or generated code.

A valid request must stay valid, and a response must stay one that callers expect. A change that the
comparison does not understand counts as breaking.

Existing tools do not suffice. The tools optic 1.0 and openapi-diff 0.24 allow a parameter to go and
a range to narrow. The packages of oasdiff and openapi-changes download their programs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Node = dict[str, Any]

# For each bound, True if a greater bound accepts fewer values.
_BOUNDS = {
    "minimum": True,
    "minLength": True,
    "minItems": True,
    "minProperties": True,
    "maximum": False,
    "maxLength": False,
    "maxItems": False,
    "maxProperties": False,
}
# Keywords whose values must not change. For example, generators make types of a format.
_SAME = (
    *("format", "default", "readOnly", "writeOnly", "uniqueItems", "multipleOf", "not"),
    *("anyOf", "oneOf"),
)


def refused(old: Node, new: Node) -> list[str]:
    """Return the breaking changes, or none if the major version is greater."""
    return [] if _major(new) > _major(old) else sorted(set(_document(old, new)))


def _major(document: Node) -> int:
    return int(document["info"]["version"].partition(".")[0])


def _document(old: Node, new: Node) -> Iterator[str]:
    if old["servers"] != new["servers"]:
        yield "servers: others"
    for name in set(old["components"]["schemas"]) - set(new["components"]["schemas"]):
        yield f"schema {name}: gone"  # Generated code has a class of this name.
    for path, item in old["paths"].items():
        for method, operation in item.items():
            name = operation["operationId"]
            after = new["paths"].get(path, {}).get(method)
            if after is None or after["operationId"] != name:
                yield f"{name}: gone"
                continue
            yield from _security(name, old, operation["security"], new, after["security"])
            yield from _operation(name, _whole(operation, old), _whole(after, new))


def _whole(node: Any, document: Node) -> Any:
    """Return a node without references and with its allOf merged."""
    if isinstance(node, list):
        return [_whole(each, document) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        step: Any = document
        for name in node["$ref"].removeprefix("#/").split("/"):
            step = step[name]
        return _whole(step, document)
    whole = {name: _whole(value, document) for name, value in node.items()}
    for part in whole.pop("allOf", []):
        together = {
            "properties": {**whole.get("properties", {}), **part.get("properties", {})},
            "required": [*whole.get("required", []), *part.get("required", [])],
        }
        whole = {**part, **whole, **{name: value for name, value in together.items() if value}}
    return whole


def _security(
    at: str, old: Node, before: list[Node], new: Node, after: list[Node]
) -> Iterator[str]:
    """Yield the ways to authenticate that are not enough any more."""

    def scheme(document: Node, name: str) -> Node:
        node = document["components"]["securitySchemes"][name]
        return {member: value for member, value in node.items() if member != "description"}

    def enough(way: Node, other: Node) -> bool:
        return all(
            name in way and set(scopes) <= set(way[name]) and scheme(old, name) == scheme(new, name)
            for name, scopes in other.items()
        )

    for way in before:
        if not any(enough(way, other) for other in after):
            yield f"{at}: {'+'.join(way)} is not enough"


def _operation(at: str, old: Node, new: Node) -> Iterator[str]:
    yield from _parameters(at, old["parameters"], new["parameters"])
    yield from _body(f"{at} body", old.get("requestBody"), new.get("requestBody"))
    for status, response in old["responses"].items():
        if status in new["responses"]:
            yield from _response(f"{at} {status}", response, new["responses"][status])
        else:
            yield f"{at} {status}: gone"
    for status in set(new["responses"]) - set(old["responses"]):
        if status[0] not in "45":
            yield f"{at} {status}: a success that nobody expects"


def _parameters(at: str, old: list[Node], new: list[Node]) -> Iterator[str]:
    before, after = ({(each["in"], each["name"]): each for each in side} for side in (old, new))
    for key, parameter in after.items():
        if parameter.get("required") and not before.get(key, {}).get("required"):
            yield f"{at} {key[1]}: required"
    for key, parameter in before.items():
        if key in after:
            yield from _schema(
                f"{at} {key[1]}", parameter["schema"], after[key]["schema"], "request"
            )
        else:
            yield f"{at} {key[1]}: gone"


def _body(at: str, old: Node | None, new: Node | None) -> Iterator[str]:
    if new and new.get("required") and not (old and old.get("required")):
        yield f"{at}: required"
    for kind, content in (old["content"] if old else {}).items():
        if new and kind in new["content"]:
            yield from _schema(at, content["schema"], new["content"][kind]["schema"], "request")
        else:
            yield f"{at}: no longer {kind}"


def _response(at: str, old: Node, new: Node) -> Iterator[str]:
    before, after = old.get("content", {}), new.get("content", {})
    if set(before) != set(after):
        yield f"{at}: of another type"
    for kind in set(before) & set(after):
        yield from _schema(at, before[kind]["schema"], after[kind]["schema"], "answer")
    for name, header in old.get("headers", {}).items():
        now = new.get("headers", {}).get(name)
        if now is None or (header.get("required") and not now.get("required")):
            yield f"{at} {name}: may be missing"
        else:
            yield from _schema(f"{at} {name}", header["schema"], now["schema"], "answer")


def _schema(at: str, old: Node, new: Node, side: str) -> Iterator[str]:
    """Yield the changes of a schema that break callers.

    In a request the new schema must accept all values of the old schema. In a response the old
    schema must accept all values of the new schema.
    """
    inner, outer = (old, new) if side == "request" else (new, old)
    for keyword in _SAME:
        if old.get(keyword) != new.get(keyword):
            yield f"{at}: another {keyword}"
    if inner.get("nullable") and not outer.get("nullable"):
        yield f"{at}: null"
    kinds = (inner.get("type"), outer.get("type"))
    if kinds[1] is not None and kinds[0] != kinds[1] and kinds != ("integer", "number"):
        yield f"{at}: another type"
        return
    if "enum" in outer and not set(inner.get("enum", [object()])) <= set(outer["enum"]):
        yield f"{at}: enum"
    if "pattern" in outer and inner.get("pattern") != outer["pattern"]:
        yield f"{at}: pattern"
    for bound, less in _BOUNDS.items():
        if bound in outer:
            limit, value = outer[bound], inner.get(bound)
            if value is None or (value < limit if less else value > limit):
                yield f"{at}: {bound}"
    if "items" in old and "items" in new:
        yield from _schema(f"{at}/*", old["items"], new["items"], side)
    yield from _members(at, old, new, side)


def _members(at: str, old: Node, new: Node, side: str) -> Iterator[str]:
    inner, outer = (old, new) if side == "request" else (new, old)
    before, after = old.get("properties", {}), new.get("properties", {})
    closed = [each.get("additionalProperties", True) for each in (inner, outer)]
    if closed[0] != closed[1] and closed[1] is not True:
        yield f"{at}: other members"
    for name in set(outer.get("required", [])) - set(inner.get("required", [])):
        yield f"{at}/{name}: {'required' if side == 'request' else 'may be missing'}"
    for name in set(after) - set(before):
        if side == "answer" and old.get("additionalProperties") is False:
            yield f"{at}/{name}: a member that nobody expects"
    for name, schema in before.items():
        if name in after:
            yield from _schema(f"{at}/{name}", schema, after[name], side)
        else:
            yield f"{at}/{name}: gone"
