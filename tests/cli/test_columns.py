"""Customers as rows of cells."""

from __future__ import annotations

import csv
import io
import json
import random
import sys
from typing import Any

import pytest

from flask_ecwid import contract
from flask_ecwid.cli.columns import OTHER, Columns, escape_formula, unescape_formula
from flask_ecwid.cli.files import Format, NotACustomerFile, Row, Writer, read_rows
from flask_ecwid.sandbox.seed import customers

COLUMNS = Columns(contract.load())
FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\n=x", "＝1", "=cmd|' /C calc'!A0")  # noqa: RUF001


def parsed(text: bytes, file_format: Format = "csv") -> list[Row]:
    return list(read_rows(io.BytesIO(text), file_format, COLUMNS))


def written(*documents: dict[str, Any]) -> bytes:
    writer = Writer("csv", COLUMNS)
    return writer.header(bom=True) + b"".join(writer.row(each) for each in documents)


def without_empty_values(value: Any) -> Any:
    """Return a customer without the values that an empty cell stands for."""
    if not isinstance(value, dict):
        return value
    members = {name: without_empty_values(member) for name, member in value.items()}
    return {name: member for name, member in members.items() if member not in ("", None, {})}


def test_there_and_back() -> None:
    """Customers that are written as CSV are read back equal, except for empty values."""
    documents = [{"id": id, **each} for id, (each, _) in enumerate(customers(500), start=1)]
    rows = parsed(written(*documents))
    assert [row.customer for row in rows] == [without_empty_values(each) for each in documents]


def test_every_difficulty_of_csv() -> None:
    """A customer with every difficulty of CSV is read back unchanged."""
    hard = '"a";b,\r\nc\rd\n\te\'=\u2028é\U0001f600'
    document = {
        "id": 1,
        "email": "a@example.com",
        "name": hard,
        "billingPerson": {"name": "=1", "street": f"12\n{hard}", "companyName": "'=1"},
        "shippingAddresses": [{"street": hard, "id": 5, "orderBy": True}],
        "contacts": [],
        "stats": {"salesValue": 19.99, "numberOfOrders": 0},
        "acceptMarketing": False,
    }
    assert parsed(written(document))[0].customer == document


def test_the_header_follows_from_the_contract() -> None:
    """The columns are the same for all customers."""
    assert (
        written().splitlines()
        == written({"id": 1, "billingPerson": {"name": "x"}}).splitlines()[:1]
    )
    names = written().decode("utf-8-sig").strip().replace('"', "").split(",")
    assert names[:3] == ["id", "name", "email"]
    assert {"billingPerson.city", "stats.numberOfOrders", "shippingAddresses"} <= set(names)
    shown = contract.load().members("CustomerIdentity", "CustomerAttributes")
    assert {name.partition(".")[0] for name in names} == shown | {OTHER}


def test_new_members_are_not_lost() -> None:
    """The last column holds members that Ecwid has added since, at any depth."""
    document = {
        "id": 1,
        "email": "a@example.com",
        "loyalty": {"points": 5, "of": [None]},
        "billingPerson": {"city": "Ulm", "floor": 3},
    }
    lines = written(document).decode("utf-8-sig").splitlines()
    assert json.loads(next(csv.DictReader(lines))[OTHER]) == {
        "loyalty": {"points": 5, "of": [None]},
        "billingPerson": {"floor": 3},
    }
    assert parsed(written(document))[0].customer == document


@pytest.mark.parametrize("text", FORMULAS)
@pytest.mark.parametrize("where", ["", "a;", "a\t", "'"])
@pytest.mark.parametrize("separator", [",", ";"])
def test_no_formula(text: str, where: str, separator: str) -> None:
    """No cell begins like a formula, whatever separator a spreadsheet uses."""
    document = {
        "email": where + text,
        "privateAdminNotes": where + text,
        "billingPerson": {"name": where + text},
        "extrafields": [{"key": where + text}],
        "new": where + text,
    }
    lines = written(document).decode("utf-8-sig").split("\r\n", 1)[1]
    for cells in csv.reader(io.StringIO(lines, newline=""), delimiter=separator):
        assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r\n＝＋－＠")]  # noqa: RUF001
    assert parsed(written(document))[0].customer == document


def test_escaped_formulas_are_restored() -> None:
    """Unescaping removes the apostrophes that escaping has added, and no others."""
    chance = random.Random(3)
    for _ in range(20_000):
        text = "".join(chance.choice("''==+-@\t\r\n;,ab ") for _ in range(chance.randrange(9)))
        assert unescape_formula(escape_formula(text)) == text
    town = "'s-Hertogenbosch"
    assert unescape_formula(town) == escape_formula(town) == town
    assert unescape_formula("+49 170") == "+49 170"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_as_spreadsheets_save_it(separator: str, bom: bytes, end: str) -> None:
    """The reader accepts the separators, line ends, marks and booleans of spreadsheets."""
    lines = ["email;acceptMarketing;customerGroupId", "a@example.com;TRUE;5", ";;", "b@example.com"]
    text = end.join(lines).replace(";", separator).encode()
    assert [(row.line, row.customer) for row in parsed(bom + text)] == [
        (2, {"email": "a@example.com", "acceptMarketing": True, "customerGroupId": 5}),
        (4, {"email": "b@example.com"}),
    ]


# csv itself rejects NUL before Python 3.11.
NUL = "json" if sys.version_info >= (3, 11) else "csv"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (b'email\n"a"b@example.com\nc@example.com\n', {2: "csv"}),
        (b'email\na@example.com\n"b@example.com\n', {3: "csv"}),
        (b"email\na@example.com,x\nc@example.com\n", {2: "maxItems"}),
        (b"email,lang\n\xff@example.com,de\nc@example.com,de\n", {2: "json"}),
        (b'email,contacts\na@example.com,"[{\xff}]"\n', {2: "json"}),
        (b'email,lang\n"a\nb",de\na@example.com\0,de\n', {4: NUL}),
    ],
)
def test_rows_that_cannot_be_read(text: bytes, lines: dict[int, str]) -> None:
    """An unreadable row of CSV is reported by its first line, and the other rows are read."""
    rows = parsed(text)
    assert {row.line: row.violation.keyword for row in rows if row.violation} == lines


@pytest.mark.parametrize(
    "header", ["", "email,canary@example.com", "email,email", "lang", "email;lang,x"]
)
def test_an_invalid_header(header: str) -> None:
    """A header with an unknown column is refused, and the error has only the column's number."""
    with pytest.raises(NotACustomerFile) as refused:
        parsed(header.encode() + b"\na@example.com\n")
    assert "canary" not in str(refused.value)


def test_json_lines() -> None:
    """The reader of JSON Lines is strict, and skips empty lines and a byte order mark."""
    text = b'\xef\xbb\xbf{"a":1}\r\n\n{"a":1,"a":2}\n{"a":NaN}\n  \n[1]\n{"a":"\xff"}\n{"a":1}'
    rows = parsed(text, "jsonl")
    assert [(row.line, row.customer) for row in rows if not row.violation] == [
        (1, {"a": 1}),
        (6, [1]),
        (8, {"a": 1}),
    ]
    assert [(row.line, row.violation.keyword) for row in rows if row.violation] == [
        (3, "json"),
        (4, "json"),
        (7, "json"),
    ]
