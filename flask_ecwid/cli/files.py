"""Customers in files of JSON Lines or CSV, written and read. No function here knows a store.

CSV is RFC 4180 in UTF-8, with commas, CR LF and every cell in quotes. Reading also accepts the
variants that shops and spreadsheets save. Such a file has semicolons or tabs, a line `sep=;`, blank
lines before the header, or another encoding.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, AnyStr, BinaryIO, Literal, TextIO, TypeVar

import orjson

from ..contract import strict_json
from ..errors import InvalidRequest, Violation
from .cells import Cells
from .columns import UNNAMED, Column, Columns
from .garbled import garbled
from .header import Header, NotACustomerFile, read_header
from .rows import MOST, Lines, RowTooLong
from .watched_file import WatchedFile

T = TypeVar("T")
Format = Literal["jsonl", "csv"]

JSON_TO_LINES = "To convert a JSON array, use for example `jq -c '.[]' FILE.json > FILE.jsonl`."
ENDINGS: dict[str, Format] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}
_BOM = "\ufeff".encode()
_TOO_LONG = Violation("", "maxLength", "A row of at most 8 MiB.")
_NO_CSV = Violation(
    "",
    "csv",
    "Cells with a quote at both ends. After a quote that is not closed, the following lines are a"
    " part of the cell.",
)
UTF_8 = "UTF-8"
_NO_COLUMNS: Mapping[str, Column] = {}
_SEPARATOR_LINE = re.compile(r"""["']?sep=(.)["']?\s*""", re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"')
_NOT_DECODED = re.compile("[\udc80-\udcff]")  # the bytes that the encoding does not have
_UTF_16_MARK = re.compile("\udcff\udcfe|\udcfe\udcff|ÿþ|þÿ")


@dataclass(frozen=True)
class Row:
    """A row of a file.

    Args:
        line: The first line of the row.
        customer: The customer. An unreadable row of CSV has the members that can be read.
        violation: The reason why the row is unreadable.
        columns: The headers of the columns that `violation` is about.
        cells: The cells of a row of CSV.
    """

    line: int
    customer: Any = None
    violation: Violation | None = None
    columns: Sequence[str] = ()
    cells: Cells | None = None


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


def read_rows(
    file: BinaryIO,
    file_format: Format,
    columns: Columns,
    *,
    mappings: Mapping[str, Column] = _NO_COLUMNS,
    encoding: str = UTF_8,
) -> Iterator[Row]:
    """Yield the rows of a file, without the empty rows.

    Args:
        file: The file.
        file_format: The format of the file.
        columns: The known columns of a CSV file.
        mappings: The columns that the user has named, by their header.
        encoding: The encoding of a CSV file. JSON Lines are always in UTF-8.

    Raises:
        NotACustomerFile: The header of a CSV file has an unknown column, or cannot be read. Or the
            file has another format or another encoding, which shows as late as at its end.
    """
    if file_format == "jsonl":
        yield from _read_json_lines(file)
        return
    # A byte that the encoding does not have becomes a lone surrogate, so that only its row is
    # refused. Otherwise one such byte would end the reading of the whole file.
    codec = "utf-8-sig" if encoding == UTF_8 else encoding
    watched = WatchedFile(file)
    text = io.TextIOWrapper(io.BufferedReader(watched), codec, errors="surrogateescape", newline="")
    fault = None
    try:
        yield from _csv_rows(text, columns, mappings, encoding)
    except NotACustomerFile as exc:
        fault = exc
    except UnicodeError:
        fault = NotACustomerFile(f"the file is not in {encoding}. {_say_encoding(encoding)}")
    finally:
        text.detach()  # the caller closes the file
    if encoding != UTF_8 and watched.is_utf_8:
        fault = NotACustomerFile("the file is in UTF-8. Leave out --encoding")
    if fault:
        raise fault


def _read_json_lines(file: BinaryIO) -> Iterator[Row]:
    lines = Lines(file)
    is_first = True
    for number, line in _numbered(lines, lines):
        if isinstance(line, Violation):
            yield Row(number, violation=line)
            continue
        text = line.removeprefix(_BOM) if number == 1 else line
        if not text.strip():
            continue
        if is_first and (not text.lstrip().startswith(b"{") or text.strip() == b"{"):
            # Without this check, each line of the file would be refused.
            if text.lstrip()[:1] in (b"[", b"{"):
                raise NotACustomerFile(
                    f"line {number}: the file looks like JSON, and JSON Lines have one object on"
                    f" each line. {JSON_TO_LINES}"
                )
            raise NotACustomerFile(
                f"line {number}: the file does not look like JSON Lines, which have one object on"
                " each line. If the file is CSV, use --format csv"
            )
        is_first = False
        yield _strictly(number, text)


def _numbered(lines: Lines[AnyStr], rows: Iterator[T]) -> Iterator[tuple[int, T | Violation]]:
    """Yield each row with the number of its first line. A row that cannot be read is a violation.

    Args:
        lines: The lines of the file, which limit the length of a row.
        rows: The rows that are read from these lines.
    """
    while True:
        number = lines.begin_row()
        row: T | Violation
        try:
            row = next(rows)
        except StopIteration:
            return
        except RowTooLong:
            row = _TOO_LONG
        except csv.Error:  # a quote is misplaced or missing
            row = _NO_CSV
        yield number, row


def _csv_rows(
    text: TextIO, columns: Columns, mappings: Mapping[str, Column], encoding: str
) -> Iterator[Row]:
    csv.field_size_limit(MOST)
    lines = Lines(text, quote='"')
    try:
        first, line, separator = _first_line(lines)
        reader = csv.reader(chain([first], lines), delimiter=separator, strict=True)
        header = _header(reader, columns, mappings, encoding, line)
    except RowTooLong:
        raise NotACustomerFile("the header is longer than 8 MiB") from None
    for line, cells in _numbered(lines, reader):
        if isinstance(cells, Violation):
            yield Row(line, violation=cells)
        elif any(map(str.strip, cells)):
            yield _row(line, cells, header, columns, encoding)


def _row(line: int, texts: list[str], header: Header, columns: Columns, encoding: str) -> Row:
    cells = Cells(header, texts)
    customer = columns.customer(header.columns, texts)
    if undecoded := [number for number, text in enumerate(texts) if _NOT_DECODED.search(text)]:
        violation = Violation("", "encoding", f"Text in {encoding}. {_say_encoding(encoding)}")
        return Row(line, customer, violation, cells.named(undecoded), cells)
    named = {number for number, column in enumerate(header.columns) if column != UNNAMED}
    if below := [n for n, text in enumerate(texts) if n not in named and text.strip()]:
        expected = "As many cells as the header, and none below an empty cell of the header."
        return Row(line, customer, Violation("", "maxItems", expected), cells.named(below), cells)
    faults = {
        number: fault
        for number, (column, text) in enumerate(zip(header.columns, texts, strict=False))
        if column.path and (fault := garbled(text, encoding))
    }
    for violation in faults.values():
        alike = [number for number, fault in faults.items() if fault == violation]
        return Row(line, customer, violation, cells.named(alike), cells)
    return replace(_strictly(line, json.dumps(customer).encode()), cells=cells)


def _first_line(lines: Lines[str]) -> tuple[str, int, str]:
    """Return the first line of the header, its number, and the separator."""
    separator = ""
    while True:
        number = lines.begin_row()
        line = next(lines, "")
        if not line:
            raise NotACustomerFile("the file has no header")
        if _UTF_16_MARK.match(line) or line.count("\0") * 3 > len(line):
            raise NotACustomerFile(
                f"line {number}: the file looks like UTF-16. Use --encoding {_utf_16(line, number)}"
            )
        if found := _SEPARATOR_LINE.fullmatch(line):
            separator = found[1]
        elif line.startswith("{"):
            raise NotACustomerFile(
                f"line {number}: the file looks like JSON Lines, for which use --format jsonl"
            )
        elif line.strip('\ufeff",;\t\r\n '):
            outside = _QUOTED.sub("", line)
            return line, number, separator or max(",;\t", key=outside.count)


def _header(
    reader: Iterator[list[str]],
    columns: Columns,
    mappings: Mapping[str, Column],
    encoding: str,
    line: int,
) -> Header:
    try:
        cells = next(reader)
    except csv.Error:
        cells = None
    if cells is None:
        raise NotACustomerFile(f"line {line}: a quote of the header is misplaced or missing")
    if any(map(_NOT_DECODED.search, cells)):
        hint = _say_encoding(encoding)
        raise NotACustomerFile(f"line {line}: the header is not in {encoding}. {hint}")
    return read_header(cells, columns, mappings, line)


def _say_encoding(encoding: str) -> str:
    """Return what to do if the file has another encoding than this one."""
    example = "windows-1252" if codecs.lookup(encoding).name != "cp1252" else "iso-8859-15"
    return f"If the file has another encoding, use for example --encoding {example}."


def _utf_16(line: str, number: int) -> str:
    """Return the encoding of a line with a NUL in every second byte."""
    if _UTF_16_MARK.match(line):
        return "utf-16"
    if number > 1:  # a line end has put a byte of the character before this line
        return "utf-16-le or utf-16-be"
    return "utf-16-be" if line.startswith("\0") else "utf-16-le"


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
