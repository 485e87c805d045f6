"""A customer as a row of cells, by the contract, and back. Pure.

    a text, a number, true, false   a cell; a member of a member has its path, `billingPerson.city`
    a list                          a cell of JSON
    what the contract does not name all of it as JSON in the last cell, so that nothing is lost
    absent, null, an empty text     an empty cell

The columns follow from the contract, not from the customers. A text that a spreadsheet would take
for a formula gets an apostrophe, which is taken away again when it is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ..contract import strict_json
from ..contract import Contract
from ..errors import InvalidRequest

OTHER = "(other)"  # no member's name: none has parentheses

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,15})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,15})(\.[0-9]{1,15})?")
# Where a formula begins: in a spreadsheet that parts cells by `;` or tabs, and so knows none of our
# quotes, behind these and line ends as well.
# The wide forms count where they are typed. An apostrophe that stands there already gets another.
_FORMULA = r"(?='*[=+\-@\t\r\n＝＋－＠])"  # noqa: RUF001
_HARMFUL = re.compile(rf"(?<![^;\t\r\n]){_FORMULA}")
_HARMLESS = re.compile(rf"(?<![^;\t\r\n])'{_FORMULA}")


@dataclass(frozen=True)
class Column:
    """One scalar member, or one list; `type` is the contract's, `json` of anything else."""

    path: tuple[str, ...]
    type: str

    @property
    def name(self) -> str:
        return ".".join(self.path)

    def cell(self, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, str) and self.type == "string":
            return harmless(value)
        text = orjson.dumps(value).decode()
        return text if self.type in ("integer", "number", "boolean") else harmless(text)

    def value(self, cell: str) -> Any:
        """Of the column's type; what cannot be is left a text, which then does not fit."""
        text = original(cell)
        if self.type == "string":
            return text
        if self.type == "integer" and _INTEGER.fullmatch(text):
            return int(text)
        if self.type == "number" and _NUMBER.fullmatch(text):
            return float(text)
        if self.type == "boolean" and text.lower() in ("true", "false"):  # spreadsheets shout
            return text.lower() == "true"
        return _json(text) if self.type == "json" else text


class Columns:
    """Those that an export has, in their order, and those that an import knows besides."""

    def __init__(self, contract: Contract) -> None:
        schemas = contract.document["components"]["schemas"]
        self.exported = tuple(_columns(schemas, schemas["Customer"]))
        known = {column.name: column for column in _columns(schemas, schemas["NewCustomer"])}
        self._known = {**known, **{column.name: column for column in self.exported}}
        self._known[OTHER] = Column((OTHER,), "json")

    @property
    def header(self) -> list[str]:
        return [column.name for column in self.exported] + [OTHER]

    def cells(self, customer: Mapping[str, Any]) -> list[str]:
        """One for each column of the header."""
        left = _copied(customer)
        cells = [column.cell(_taken(left, column.path)) for column in self.exported]
        parents = {column.path[0] for column in self.exported if len(column.path) > 1}
        other = {k: v for k, v in left.items() if not (k in parents and v in ({}, None))}
        return [*cells, harmless(orjson.dumps(other).decode()) if other else ""]

    def named(self, name: str) -> Column | None:
        return self._known.get(name)

    def customer(self, columns: Sequence[Column], cells: Sequence[str]) -> dict[str, Any]:
        """What the cells under these columns say; an empty one says nothing."""
        customer: dict[str, Any] = {}
        other: Any = {}
        for column, cell in zip(columns, cells, strict=False):
            if cell == "":
                continue
            if column.path == (OTHER,):
                other = column.value(cell)
                continue
            parent = customer
            for step in column.path[:-1]:
                parent = parent.setdefault(step, {})
            parent[column.path[-1]] = column.value(cell)
        return _joined(customer, other) if isinstance(other, dict) else {**customer, OTHER: other}


def harmless(text: str) -> str:
    """The text so that no spreadsheet takes it for a formula."""
    return _HARMFUL.sub("'", text)


def original(text: str) -> str:
    """The text that `harmless` was given."""
    return _HARMLESS.sub("", text)


def _columns(
    schemas: Mapping[str, Any], schema: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[Column]:
    for name, member in _members(schemas, schema).items():
        if _members(schemas, member):
            yield from _columns(schemas, member, (*path, name))
        else:
            scalar = _type(schemas, member) in ("string", "integer", "number", "boolean")
            yield Column((*path, name), _type(schemas, member) if scalar else "json")


def _members(schemas: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The members of an object; none of anything else."""
    members: dict[str, Any] = {}
    for part in _parts(schemas, schema):
        members.update(part.get("properties", {}))
    return members


def _type(schemas: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    return next((str(part["type"]) for part in _parts(schemas, schema) if "type" in part), "json")


def _parts(schemas: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The schema itself, and those that it leads to by `$ref` and `allOf`."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    yield schema
    for each in schema.get("allOf", ()):
        yield from _parts(schemas, each)


def _copied(value: Any) -> Any:
    """Of the objects, not of the lists: these go into their cells whole."""
    if isinstance(value, Mapping):
        return {name: _copied(member) for name, member in value.items()}
    return value


def _taken(left: dict[str, Any], path: Sequence[str]) -> Any:
    parent: Any = left
    for step in path[:-1]:
        parent = parent.get(step)
        if not isinstance(parent, dict):
            return None
    return parent.pop(path[-1], None)


def _joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    joined = {**one, **other}
    for name in one.keys() & other.keys():
        if isinstance(one[name], dict) and isinstance(other[name], dict):
            joined[name] = _joined(one[name], other[name])
    return joined


def _json(text: str) -> Any:
    try:
        # Half a surrogate pair, which stands for bytes that are no UTF-8, is told for the row.
        return strict_json.read(text.encode("utf-8", "surrogatepass"))
    except InvalidRequest:
        return text
