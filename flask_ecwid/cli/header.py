"""The header of a CSV file -> the columns of its rows. The module is pure.

A message about a header that is refused never quotes a cell. If the file has no header, the cell is
a customer's value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ..settings.nearest import misspelt_name, nearest_name
from .columns import LEFT_OUT, UNNAMED, Column, Columns
from .shop_columns import GROUP_NAMES, SHOPS, SOURCES, WITHOUT_MEMBER, plain

_HELP = (
    "--columns lists the known columns. --map 'HEADER=COLUMN' names the column of a header, and"
    " --map 'HEADER=' leaves the column out."
)

# The import joins both to the name, but drops one without the other.
_NAME_PARTS = {("billingPerson", "firstName"), ("billingPerson", "lastName")}
_MOST_FAULTS = 18  # with the two further lines, a message fits on a screen
_PARTS = ". The columns `first name`, `middle name` and `last name` are parts of a name"
_TYPES = {"string": "text", "integer": "whole number", "boolean": "yes or no", "json": "JSON"}


class NotACustomerFile(Exception):
    """The file has no valid header. The message says why, without a value."""


class Header(NamedTuple):
    """The columns of a file in their order, and their names in the file.

    The names are no values of a customer, because each is known or the user has mapped it.
    `left_out` has the names of the columns that set no member, although the user has not left them
    out.
    """

    columns: list[Column]
    names: list[str]
    left_out: list[str]


def parse_mappings(texts: Iterable[str], columns: Columns) -> dict[str, Column]:
    """Return the column for each header that the texts `HEADER=COLUMN` name.

    Without a column, as in `HEADER=`, the cells below the header are left out.

    Raises:
        ValueError: A text has another form, or names an unknown column.
    """
    found: dict[str, Column] = {}
    for number, text in enumerate(texts, start=1):
        header, equals, name = text.rpartition("=")
        if not equals or not _same(header):
            raise ValueError(f"number {number} does not have the form HEADER=COLUMN")
        column = _known(name, columns) if name.strip() else LEFT_OUT
        if column is None:
            raise ValueError(f"number {number} names an unknown column.{_nearest(name, columns)}")
        if _same(header) in found:
            raise ValueError(f"number {number} names the header of an earlier one")
        found[_same(header)] = column
    return found


def read_header(
    cells: Sequence[str], columns: Columns, mappings: Mapping[str, Column], line: int
) -> Header:
    """Return the column of each cell. An empty cell names no column.

    Args:
        cells: The cells of the header.
        columns: The known columns.
        mappings: The columns that the user has named, by their header.
        line: The line of the header, for the messages.

    Raises:
        NotACustomerFile: A cell names no column, or the header has no column for the e-mail.
    """
    names = [cell.strip() for cell in cells]
    if lacking := _lacking(mappings, names):
        raise NotACustomerFile(f"line {line}: {lacking}")
    found = [mappings.get(_same(name)) or _known(name, columns) for name in names]
    unknown = [number for number, column in enumerate(found) if column is None]
    has_email = any(column and column.path == ("email",) for column in found)
    if not has_email and any("@" in name for name in names):
        raise NotACustomerFile(
            f"line {line}: the first line has an e-mail, so the file may have no header. The first"
            f" line must name the columns. {_HELP}"
        )
    if unknown:
        faults = [
            f"Column {_numbered(number)} of the header {_reason(names[number], columns)}"
            for number in unknown[:_MOST_FAULTS]
        ]
        if more := len(unknown) - len(faults):
            faults.append(f"{more} more columns of the header are not known.")
        raise NotACustomerFile("\n".join([f"line {line}: {faults[0]}", *faults[1:], _HELP]))
    header = [column for column in found if column]
    if not has_email:
        raise NotACustomerFile(f"line {line}: the header has no column `email`. {_HELP}")
    for number, column in enumerate(header):
        if column.path and column in header[:number]:
            raise NotACustomerFile(
                f"line {line}: columns {header.index(column) + 1} and {number + 1} of the header"
                f" are both `{column.name}`{_PARTS if column.path[-1] == 'name' else ''}"
            )
    paths = {column.path[:2] for column in header}
    if ("shippingAddresses",) in paths and ("shippingAddresses", 0) in paths:
        raise NotACustomerFile(
            f"line {line}: the header has `shippingAddresses` beside a column of one address"
        )
    return Header(header, names, _left_out(header, names, columns, mappings))


def described_columns(columns: Columns) -> Iterator[str]:
    """Yield a line for each column that sets a member, and a line with all other columns.

    A column has its type and its other names. The case, blanks and underscores do not matter.
    """
    for column in columns.settable:
        others = [words for words, source in SHOPS.items() if source.target == column.name]
        also = f"  also {', '.join(others)}" if others else ""
        yield f"{column.name:<40}{_TYPES.get(column.type, column.type):<14}{also}".rstrip()
    left_out = (*(column.name for column in columns.read_only), *WITHOUT_MEMBER)
    yield f"Left out: {', '.join(left_out)}"


def _known(name: str, columns: Columns) -> Column | None:
    """Return the column of a header, which may be written in any case."""
    if not name:
        return UNNAMED
    if column := columns.named(name):
        return column
    key = plain(name)
    if column := columns.by_plain_name.get(key):
        return column
    if source := SOURCES.get(key):
        column = columns.named(source.target)
        assert column is not None, "each target is a known column"
        return column.of_shop(source.rank, source.part)
    return LEFT_OUT if key in map(plain, WITHOUT_MEMBER) else None


def _left_out(
    header: Sequence[Column],
    names: Sequence[str],
    columns: Columns,
    mappings: Mapping[str, Column],
) -> list[str]:
    """Return the names of the columns that set no member. Do not name those of `--map HEADER=`."""
    read_only = {column.path for column in columns.read_only}
    if _NAME_PARTS.issubset(column.path for column in header):
        read_only -= _NAME_PARTS
    return [
        name
        for name, column in zip(names, header, strict=True)
        if column.path in read_only
        or (column == LEFT_OUT and mappings.get(_same(name)) != LEFT_OUT)
    ]


def _lacking(mappings: Iterable[str], names: Sequence[str]) -> str:
    """Return a sentence for each mapping whose header the file lacks."""
    places = {_same(name): number for number, name in reversed([*enumerate(names)])}
    sentences = []
    for number, header in enumerate(mappings, start=1):
        if header not in places:
            near = nearest_name(header, places)
            hint = (
                f" The nearest header is that of column {_numbered(places[near])}." if near else ""
            )
            sentences.append(f"--map number {number} names a header that the file lacks.{hint}")
    return " ".join(sentences)


def _reason(name: str, columns: Columns) -> str:
    """Return why a header names no column, without the header."""
    if plain(name) in map(plain, GROUP_NAMES):
        return "has names of groups. Ecwid takes only the number of a group, `customerGroupId`."
    return f"is not known.{_nearest(name, columns)}"


def _nearest(name: str, columns: Columns) -> str:
    targets = {key: column.name for key, column in columns.by_plain_name.items()}
    targets.update({key: source.target for key, source in SOURCES.items()})
    near = misspelt_name(name, targets)
    return f" The nearest known column is `{targets[near]}`." if near else ""


def _same(header: str) -> str:
    return " ".join(header.split()).casefold()


def _numbered(number: int) -> str:
    return f"{number + 1} ({letters(number)})"


def letters(number: int) -> str:
    """Return the letters of a column in a spreadsheet, for example C for 2."""
    found = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        found = chr(ord("A") + rest) + found
    return found
