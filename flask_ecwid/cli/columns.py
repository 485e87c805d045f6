"""Customers as rows of cells, in both directions. The module is pure.

    a text, a number, a boolean     a cell, and a nested member has a path like `billingPerson.city`
    a list                          a cell of JSON
    members outside of the contract one JSON object in the last cell, so that nothing is lost
    absent, null, an empty text     an empty cell

The columns follow from the contract and not from the customers, so every export has the same
columns. A text that a spreadsheet would run as a formula gets an apostrophe. Blanks at the ends of
a text get one as well. Reading removes the apostrophes, and other blanks at the ends of a cell. A
column such as `shippingAddresses.city` belongs to the first address. No export has such a column.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from ..contract import Contract, nodes, strict_json
from ..errors import InvalidRequest
from .shop_columns import plain

OTHER = "(other)"  # no member has parentheses in its name

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,15})")
_COUNTRY_CODE = re.compile(r"[A-Za-z]{2}")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,15})(\.[0-9]{1,15})?")
# A formula begins at the start of a cell. Some spreadsheets split at `;`, tabs and line ends and
# ignore our quotes, so a formula can begin after these as well. Spreadsheets also accept the wide
# forms of the characters. Existing apostrophes are doubled, so that unescaping restores the text.
# Shops also mark digits as a text by an apostrophe, so an apostrophe before digits is doubled too.
_FORMULA = r"(?='*[=+\-@\t\r\n＝＋－＠])"  # noqa: RUF001
_UNESCAPED = re.compile(rf"(?<![^;\t\r\n]){_FORMULA}|\A(?='+[0-9])")
_ESCAPED = re.compile(rf"(?<![^;\t\r\n])'{_FORMULA}|\A'(?='*[0-9])")
# Other programs leave blanks around a text, so reading drops blanks at the ends of a cell. An
# apostrophe outside of them keeps the blanks of a text. Apostrophes of the text are doubled there.
_BLANK_START, _BLANK_END = re.compile(r"\A(?='*\s)"), re.compile(r"(?<=\s)'*\Z")
_KEPT_START, _KEPT_END = re.compile(r"\A'(?='*\s)"), re.compile(r"(?<=\s)('*)'\Z")

# German spreadsheets write WAHR and FALSCH.
_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "1", "ja", "wahr"), True),
    **dict.fromkeys(("false", "no", "0", "nein", "falsch"), False),
}
_GENERAL = "general"  # Ecwid's name of the group 0


@dataclass(frozen=True)
class Column:
    """A column for a scalar member or a list.

    `type` is the member's type in the contract, or `json` for a list. `rank` and `part` are those
    of a shop's column. A column that is named after its member has the rank 0. Such a column has
    the whole member, but a street is its first line, because files have the second line beside it.
    """

    path: tuple[str | int, ...]
    type: str
    rank: int = 0
    part: int = 0

    @property
    def name(self) -> str:
        """Return the column's name, which is the path of its member."""
        return ".".join(step for step in self.path if isinstance(step, str))

    def of_shop(self, rank: int, part: int) -> Column:
        """Return the column of a shop that sets the same member."""
        return replace(self, rank=rank, part=part)

    def cell(self, value: Any) -> str:
        """Return the cell for a value of this column."""
        if value is None:
            return ""
        if isinstance(value, str) and self.type == "string":
            return escape_formula(escape_blanks(value))
        text = orjson.dumps(value).decode()
        return text if self.type in ("integer", "number", "boolean") else escape_formula(text)

    def value(self, cell: str) -> Any:
        """Return the value of a cell.

        A cell of a wrong type stays a text, so that the row violates the contract.
        """
        text = unescape_formula(cell.strip())
        if self.type == "string":
            text = unescape_blanks(text)
            is_code = self.path[-1:] == ("countryCode",)
            # Ecwid's codes are in capitals, and shops also write small letters.
            return text.upper() if is_code and _COUNTRY_CODE.fullmatch(text) else text
        if self.type == "integer" and _INTEGER.fullmatch(text):
            return int(text)
        if self.type == "number" and _NUMBER.fullmatch(text):
            return float(text)
        if self.type == "boolean" and text.lower() in _BOOLEANS:  # spreadsheets write TRUE
            return _BOOLEANS[text.lower()]
        if self.path == ("customerGroupId",) and text.lower() == _GENERAL:
            return 0
        return _json(text) if self.type == "json" else text


LEFT_OUT = Column((), "")  # a column whose cells set nothing
UNNAMED = Column((), "unnamed")  # a column without a header, whose cells must be empty


class Columns:
    """The columns of an export in their order, and the further columns that an import accepts."""

    def __init__(self, contract: Contract) -> None:
        schemas = contract.document["components"]["schemas"]
        self.exported = tuple(_columns(schemas, schemas["Customer"]))
        inputs = (("CustomerInput", ()), ("ShippingAddressInput", ("shippingAddresses", 0)))
        self.settable = tuple(
            column
            for schema, path in inputs
            for column in _columns(schemas, schemas[schema], path, settable=True)
            if column.path[-1] != "id"  # an import creates new addresses
        )
        settable = {column.path for column in self.settable}
        self.read_only = tuple(each for each in self.exported if each.path not in settable)
        self._known = {column.name: column for column in (*self.settable, *self.exported)}
        self.by_plain_name = {plain(name): column for name, column in self._known.items()}
        self._known[OTHER] = Column((OTHER,), "json")

    @property
    def header(self) -> list[str]:
        """The names of the columns of an export."""
        return [column.name for column in self.exported] + [OTHER]

    def cells(self, customer: Mapping[str, Any]) -> list[str]:
        """Return a cell for each column of the header."""
        left = _copied(customer)
        cells = [column.cell(_taken(left, column.path)) for column in self.exported]
        parents = {column.path[0] for column in self.exported if len(column.path) > 1}
        other = {k: v for k, v in left.items() if not (k in parents and v in ({}, None))}
        return [*cells, escape_formula(orjson.dumps(other).decode()) if other else ""]

    def named(self, name: str) -> Column | None:
        """Return the column of this name, if an import accepts it."""
        return self._known.get(name)

    def customer(self, columns: Sequence[Column], cells: Sequence[str]) -> dict[str, Any]:
        """Return the customer that the cells under these columns describe. Ignore blank cells."""
        given: dict[tuple[str | int, ...], dict[Column, str]] = {}
        for column, cell in zip(columns, cells, strict=False):
            if column.path and cell.strip():
                given.setdefault(column.path, {})[column] = cell
        other = _value(given.pop((OTHER,), {}))
        customer: dict[str, Any] = {}
        for path, of_member in given.items():
            _put(customer, path, _value(of_member))
        if other is None:
            return customer
        return _joined(customer, other) if isinstance(other, dict) else {**customer, OTHER: other}


def counting(given: Iterable[Column]) -> list[Column]:
    """Return the columns that set a member, of those with a value for the member.

    The most specific column of each part counts. The whole counts only without a part.
    """
    of_part: dict[int, Column] = {}
    for column in sorted(given, key=lambda each: each.rank, reverse=True):
        of_part[column.part] = column
    if len(of_part) > 1:
        of_part.pop(0, None)
    return [of_part[part] for part in sorted(of_part)]


def _value(given: Mapping[Column, str]) -> Any:
    """Return the value of a member, which may be in several columns of a shop."""
    if not given:
        return None
    values = [column.value(given[column]) for column in counting(given)]
    if len(values) == 1:
        return values[0]
    between = "\n" if next(iter(given)).path[-1] == "street" else " "
    return between.join(values)


def _put(customer: dict[str, Any], path: Sequence[str | int], value: Any) -> None:
    """Set a member of a customer. A number in the path stands for the first item of a list."""
    parent = customer
    for step, following in zip(path, [*path[1:], None], strict=True):
        if step == 0:
            continue
        assert isinstance(step, str)
        if following is None:
            parent[step] = value
        elif following == 0:
            parent = parent.setdefault(step, [{}])[0]
        else:
            parent = parent.setdefault(step, {})


def escape_formula(text: str) -> str:
    """Return the text with an apostrophe before each formula, so that no spreadsheet runs it."""
    return _UNESCAPED.sub("'", text)


def unescape_formula(text: str) -> str:
    """Return the text that `escape_formula` was given. Remove the text mark of a shop as well."""
    return _ESCAPED.sub("", text)


def escape_blanks(text: str) -> str:
    """Return the text whose blanks at its ends are kept by an apostrophe outside of them."""
    return _BLANK_END.sub(r"\g<0>'", _BLANK_START.sub("'", text))


def unescape_blanks(text: str) -> str:
    """Return the text that `escape_blanks` was given."""
    return _KEPT_END.sub(r"\1", _KEPT_START.sub("", text))


def _columns(
    schemas: Mapping[str, Any],
    schema: Mapping[str, Any],
    path: tuple[str | int, ...] = (),
    *,
    settable: bool = False,
) -> Iterator[Column]:
    """Yield a column for each member, or only for the members that a caller may set."""
    for name, member in nodes.members(schema, schemas).items():
        if settable and any(part.get("readOnly") for part in nodes.parts(member, schemas)):
            continue
        if nodes.members(member, schemas):
            yield from _columns(schemas, member, (*path, name), settable=settable)
        else:
            scalar = _type(schemas, member) in ("string", "integer", "number", "boolean")
            part = 1 if name == "street" else 0
            yield Column((*path, name), _type(schemas, member) if scalar else "json", part=part)


def _type(schemas: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    return next(
        (str(part["type"]) for part in nodes.parts(schema, schemas) if "type" in part), "json"
    )


def _copied(value: Any) -> Any:
    """Copy the objects, but not the lists, because `_taken` removes members from objects only."""
    if isinstance(value, Mapping):
        return {name: _copied(member) for name, member in value.items()}
    return value


def _taken(left: dict[str, Any], path: Sequence[str | int]) -> Any:
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
        # A lone surrogate stands for a byte that is not UTF-8. The strict reader refuses the row.
        return strict_json.parse(text.encode("utf-8", "surrogatepass"))
    except InvalidRequest:
        return text
