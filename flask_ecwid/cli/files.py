"""Customers in files: JSON Lines and CSV, written and read. Knows nothing of a store.

CSV is RFC 4180: commas, CR LF, every cell in quotes, in UTF-8. Reading also takes what spreadsheets
make of it: semicolons or tabs, with or without a byte order mark.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, TextIO

import orjson

from ..contract import strict_json
from ..errors import InvalidRequest, Misfit
from .columns import Column, Columns

Form = Literal["jsonl", "csv"]

ENDINGS: dict[str, Form] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}
_BOM = "\ufeff".encode()
_MAX_CELL = 8 * 1024 * 1024  # as large as a reply of Ecwid's


class NotACustomerFile(Exception):
    """The file as a whole cannot be read. Says why, without a value."""


@dataclass(frozen=True)
class Row:
    """A row of a file: the line that it begins in, and what it says, or why that cannot be read."""

    line: int
    customer: Any = None
    misfit: Misfit | None = None


class Writer:
    """Turns customers into the bytes of a file."""

    def __init__(self, form: Form, columns: Columns) -> None:
        self._form = form
        self._columns = columns

    def head(self, *, marked: bool) -> bytes:
        """What stands before the first customer; `marked`: with the mark by which a spreadsheet
        knows UTF-8.
        """
        if self._form == "jsonl":
            return b""
        return (_BOM if marked else b"") + _csv_line(self._columns.header)

    def row(self, customer: dict[str, Any]) -> bytes:
        if self._form == "jsonl":
            return orjson.dumps(customer, option=orjson.OPT_APPEND_NEWLINE)
        return _csv_line(self._columns.cells(customer))


def read(file: BinaryIO, form: Form, columns: Columns) -> Iterator[Row]:
    """The rows of a file; empty ones are left out.

    Raises:
        NotACustomerFile: its header names what no customer has.
    """
    return _read_json_lines(file) if form == "jsonl" else _read_csv(file, columns)


def _read_json_lines(file: BinaryIO) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        text = line.removeprefix(_BOM) if number == 1 else line
        if text.strip():
            yield _strictly(number, text)


def _read_csv(file: BinaryIO, columns: Columns) -> Iterator[Row]:
    # Bytes that are no UTF-8 become half surrogate pairs, which the strict reader then refuses.
    text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield from _csv_rows(text, columns)
    finally:
        text.detach()  # the file is the caller's to close


def _csv_rows(text: TextIO, columns: Columns) -> Iterator[Row]:
    csv.field_size_limit(_MAX_CELL)
    first = text.readline()
    separator = max(",;\t", key=first.count)
    header = _header(next(csv.reader([first], delimiter=separator), []), columns)
    reader = csv.reader(text, delimiter=separator, strict=True)
    while True:
        line = reader.line_num + 2  # the header is the first
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:  # a quote in the wrong place, or none at the end
            yield Row(line, misfit=Misfit("", "csv"))
            continue
        if not any(cells):
            continue
        if len(cells) > len(header) and any(cells[len(header) :]):
            yield Row(line, misfit=Misfit("", "maxItems"))
            continue
        yield _strictly(line, json.dumps(columns.customer(header, cells)).encode())


def _header(names: Iterable[str], columns: Columns) -> list[Column]:
    found: list[Column] = []
    for number, name in enumerate(names, start=1):
        column = columns.named(name.strip())
        if column is None:  # its name may be a customer's, where there is no header
            raise NotACustomerFile(f"column {number} of the header is no member of a customer's")
        if column in found:
            raise NotACustomerFile(f"column {number} of the header is there twice")
        found.append(column)
    if not any(column.name == "email" for column in found):
        raise NotACustomerFile("the header has no column email")
    return found


def _strictly(line: int, text: bytes) -> Row:
    try:
        return Row(line, strict_json.read(text))
    except InvalidRequest:
        return Row(line, misfit=Misfit("", "json"))


def _csv_line(cells: Iterable[str]) -> bytes:
    line = io.StringIO()
    # All in quotes: one that splits cells by semicolons still takes these for whole.
    csv.writer(line, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow(cells)
    return line.getvalue().encode()
