"""Convert a reply that does not fit the contract, where the meaning is certain. Pure, without I/O.

    "0"   for a number or an integer   0
    2.0   for an integer               2
    12.0  for a text                   "12"
    []    for an object                absent
    half a surrogate pair              U+FFFD

Every other value stays as it is. The module only runs for a reply that failed the check before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ..contract import nodes
from ..contract.nodes import Node

MAX_VALUES = 200_000

_ABSENT = object()
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_EXACT = 2**53  # A double below this number has all digits of an integer.
_INTEGERS = range(-(2**63), 2**64)  # The integers that `orjson` reads and writes.
_MAX_DIGITS = 309  # The digits of the largest double.


def has_few_values(body: bytes) -> bool:
    """Return whether the conversions of a body take little time.

    A page of 100 customers has about 10,000 values. Without the limit, the conversions of 8 MiB of
    JSON could take 15 s.
    """
    # A value follows a comma, or is the first in an object or a list.
    return body.count(b",") + body.count(b"[") + body.count(b"{") < MAX_VALUES


def parse(body: bytes) -> Any:
    """Return the JSON in a body with all digits of its numbers and all halves of surrogate pairs.

    Raises:
        ValueError: The body is not JSON.
        RecursionError: The body is nested too deep.
    """
    return json.loads(
        body.decode("utf-8", "surrogatepass"),
        parse_int=_integer,
        parse_float=_number,
        parse_constant=_constant,
    )


def convert(value: Any, node: Node, schemas: Mapping[str, Node]) -> Any:
    """Return a value of `parse` with the conversions that the module lists.

    Objects and lists are converted in place, because a copy would double the memory of a large
    reply.

    Args:
        value: The value. The reply itself is an object.
        node: The schema of the value in OpenAPI, or an empty schema for an unknown member.
        schemas: The components of the contract.

    Raises:
        RecursionError: The value is nested too deep.
    """
    node = _resolved(node, schemas)
    declared = node.get("type")
    if isinstance(value, dict):
        members = node.get("properties", {})
        converted = {
            _unicode(name): convert(member, members.get(name, {}), schemas)
            for name, member in value.items()
        }
        value.clear()
        value.update((k, v) for k, v in converted.items() if v is not _ABSENT)
        return value
    if isinstance(value, list):
        if declared == "object" and not value:
            return _ABSENT
        items = node.get("items", {})
        converted_items = (convert(item, items, schemas) for item in value)
        value[:] = [item for item in converted_items if item is not _ABSENT]
        return value
    if isinstance(value, str):
        if declared in ("integer", "number") and _NUMBER.fullmatch(value):
            return _parsed_number(value, declared)
        return _unicode(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    if declared == "string":
        return _text(value)
    if isinstance(value, float) and declared == "integer":
        return _whole(value)
    return value if isinstance(value, float) or value in _INTEGERS else float(value)


def _resolved(node: Node, schemas: Mapping[str, Node]) -> Node:
    """Return a schema with the parts behind its `$ref` and `allOf`."""
    first, *others = nodes.parts(node, schemas)
    if not others:
        return first
    merged = dict(first)
    for part in others:
        merged.update(part)
    return {**merged, "properties": nodes.members(node, schemas)}


def _integer(text: str) -> int:
    # The length is checked first, because the time of a conversion grows with the square of the
    # digits. Without the check, one long number could hold a worker.
    if len(text) > _MAX_DIGITS:
        raise ValueError("the number is too large")
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    if number - number != 0:
        raise ValueError("the number is too large")
    return number


def _constant(_: str) -> Any:
    raise ValueError("NaN and Infinity are not JSON")


def _parsed_number(text: str, declared: str) -> Any:
    """Return the number that a text holds, or the text if the number does not fit."""
    try:
        number = _number(text) if re.search("[.eE]", text) else _integer(text)
    except ValueError:
        return text
    if declared == "integer" and isinstance(number, float):
        number = _whole(number)
    if isinstance(number, int) and number not in _INTEGERS:
        return text if declared == "integer" else float(number)
    return number


def _whole(number: float) -> float:
    """Return the integer that equals a number, if there is one whose digits are certain."""
    return int(number) if number.is_integer() and abs(number) < _EXACT else number


def _text(number: float) -> str:
    """Return a number as a text without an exponent."""
    if isinstance(number, int):
        return str(number)
    whole = _whole(number)
    return str(whole) if isinstance(whole, int) else f"{Decimal(repr(number)):f}"


def _unicode(text: str) -> str:
    """Return a text in which U+FFFD replaces each half of a surrogate pair."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
