"""Customers in files of JSON Lines or CSV, written and read. No function here knows a store.

CSV is RFC 4180 in UTF-8, with commas, CR LF and every cell in quotes. Reading also accepts the
variants that spreadsheets save, with semicolons or tabs, and with or without a byte order mark.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, TextIO

import orjson

from ..contract import strict_json
from ..errors import InvalidRequest, Violation
from .columns import Column, Columns
from .rows import MOST, Lines, RowTooLong

Format = Literal["jsonl", "csv"]

ENDINGS: dict[str, Format] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}
_BOM = "\ufeff".encode()
_TOO_LONG = Violation("", "maxLength", "A row of at most 8 MiB.")


class NotACustomerFile(Exception):
    """The file has no valid header. The message says why, without a value."""


@dataclass(frozen=True)
class Row:
    """A row of a file, with its first line, and its customer or the reason why it is unreadable."""

    line: int
    customer: Any = None
    violation: Violation | None = None


class Writer:
    """Turns customers into the bytes of a file."""

    def __init__(self, file_format: Format, columns: Columns) -> None:
        self._format = file_format
        self._columns = columns

    def header(self, *, bom: bool) -> bytes:
        """Return the bytes before the first customer.

        A spreadsheet recognizes UTF-8 by the byte order mark. A program in a pipe does not expect
        the mark.
        """
        if self._format == "jsonl":
            return b""
        return (_BOM if bom else b"") + _csv_line(self._columns.header)

    def row(self, customer: Mapping[str, Any]) -> bytes:
        """Return the line of a customer."""
        if self._format == "jsonl":
            return orjson.dumps(customer, option=orjson.OPT_APPEND_NEWLINE)
        return _csv_line(self._columns.cells(customer))


def read_rows(file: BinaryIO, file_format: Format, columns: Columns) -> Iterator[Row]:
    """Yield the rows of a file, without the empty rows.

    Raises:
        NotACustomerFile: the header of a CSV file names a member that no customer has.
    """
    return _read_json_lines(file) if file_format == "jsonl" else _read_csv(file, columns)


def _read_json_lines(file: BinaryIO) -> Iterator[Row]:
    lines = Lines(file)
    while True:
        number = lines.begin_row()
        try:
            line = next(lines)
        except StopIteration:
            return
        except RowTooLong:
            yield Row(number, violation=_TOO_LONG)
            continue
        text = line.removeprefix(_BOM) if number == 1 else line
        if text.strip():
            yield _strictly(number, text)


def _read_csv(file: BinaryIO, columns: Columns) -> Iterator[Row]:
    # Bytes that are not UTF-8 become lone surrogates, so that the strict reader refuses their row.
    # Otherwise one such byte would end the reading of the whole file.
    text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield from _csv_rows(text, columns)
    finally:
        text.detach()  # the caller closes the file


def _csv_rows(text: TextIO, columns: Columns) -> Iterator[Row]:
    csv.field_size_limit(MOST)
    lines = Lines(text, quote='"')
    try:
        first = next(lines, "")
    except RowTooLong:
        raise NotACustomerFile("the header is longer than 8 MiB") from None
    separator = max(",;\t", key=first.count)
    header = _header(next(csv.reader([first], delimiter=separator), []), columns)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        line = lines.begin_row()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except RowTooLong:
            yield Row(line, violation=_TOO_LONG)
            continue
        except csv.Error:  # a quote is misplaced or missing
            yield Row(line, violation=Violation("", "csv", "Cells with a quote at both ends."))
            continue
        if not any(cells):
            continue
        if len(cells) > len(header) and any(cells[len(header) :]):
            yield Row(line, violation=Violation("", "maxItems", "As many cells as the header."))
            continue
        yield _strictly(line, json.dumps(columns.customer(header, cells)).encode())


def _header(names: Iterable[str], columns: Columns) -> list[Column]:
    found: list[Column] = []
    for number, name in enumerate(names, start=1):
        column = columns.named(name.strip())
        if column is None:
            # The message must not quote the cell. If the file has no header, the cell is a
            # customer's value.
            raise NotACustomerFile(f"column {number} of the header is not a member of a customer")
        if column in found:
            raise NotACustomerFile(f"column {number} of the header comes twice")
        found.append(column)
    if not any(column.name == "email" for column in found):
        raise NotACustomerFile("the header has no column email")
    return found


def _strictly(line: int, text: bytes) -> Row:
    try:
        return Row(line, strict_json.parse(text))
    except InvalidRequest as exc:
        return Row(line, violation=Violation("", "json", f"Strict JSON. {exc.detail}"))


def _csv_line(cells: Iterable[str]) -> bytes:
    line = io.StringIO()
    # All cells are in quotes, because some spreadsheets split at semicolons. Without the quotes,
    # a semicolon in a text would split its cell.
    csv.writer(line, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow(cells)
    return line.getvalue().encode()
