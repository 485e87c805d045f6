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
from flask_ecwid.cli.columns import (
    OTHER,
    Columns,
    escape_blanks,
    escape_formula,
    unescape_blanks,
    unescape_formula,
)
from flask_ecwid.cli.files import Format, Row, Writer, read_rows
from flask_ecwid.cli.header import NotACustomerFile, described_columns, parse_mappings
from flask_ecwid.cli.shop_columns import GROUP_NAMES, SHOPS, WITHOUT_MEMBER, plain
from flask_ecwid.errors import Violation
from flask_ecwid.sandbox.seed import customers

COLUMNS = Columns(contract.load())
FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\n=x", "＝1", "=cmd|' /C calc'!A0")  # noqa: RUF001


def parsed(
    text: bytes, file_format: Format = "csv", *mappings: str, encoding: str = "UTF-8"
) -> list[Row]:
    named = parse_mappings(mappings, COLUMNS)
    file = io.BytesIO(text)
    return list(read_rows(file, file_format, COLUMNS, mappings=named, encoding=encoding))


def customers_of(text: str, *mappings: str) -> list[Any]:
    """Return the customers of a CSV file, all of whose rows can be read."""
    rows = parsed(text.encode(), "csv", *mappings)
    assert [row.violation for row in rows if row.violation] == []
    return [row.customer for row in rows]


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


def test_texts_are_kept() -> None:
    """An export keeps every text, with the blanks and apostrophes at its ends. No cell changes it.

    Only an empty text is lost, because its cell is empty.
    """
    chance = random.Random(5)
    hard = "' \t\n;=+0a\u00a0"
    texts = ["".join(chance.choices(hard, k=length % 7)) for length in range(9_000)]
    documents = [{"email": "a@example.com", "lang": text, "name": text} for text in texts]
    rows = parsed(written(*documents))
    assert [row.customer for row in rows] == [without_empty_values(each) for each in documents]
    assert unescape_blanks(escape_blanks(" ")) == " "


@pytest.mark.parametrize("cell", ["'01067", " '01067 ", "01067", '"01067 "', "\t01067\u00a0"])
@pytest.mark.parametrize(
    "header", ["billingPerson.postalCode", "Billing postcode", "zip", "postal code"]
)
def test_blanks_and_text_marks(header: str, cell: str) -> None:
    """Blanks around a cell and the apostrophe before its digits are dropped in each column."""
    [customer] = customers_of(f"email,{header}\na@example.com,{cell}\n")
    assert customer["billingPerson"] == {"postalCode": "01067"}


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
NUL = "control" if sys.version_info >= (3, 11) else "csv"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (b'email\n"a"b@example.com\nc@example.com\n', {2: "csv"}),
        (b'email\na@example.com\n"b@example.com\n', {3: "csv"}),
        (b"email\na@example.com,x\nc@example.com\n", {2: "maxItems"}),
        (b"email,lang\n\xff@example.com,de\nc@example.com,de\n", {2: "encoding"}),
        (b'email,contacts\na@example.com,"[{\xff}]"\n', {2: "encoding"}),
        (b"email,,lang\na@example.com,x,de\nc@example.com, ,de\n", {2: "maxItems"}),
        (b'email,lang\n"a\nb",de\na@example.com\0,de\n', {4: NUL}),
    ],
)
def test_rows_that_cannot_be_read(text: bytes, lines: dict[int, str]) -> None:
    """An unreadable row of CSV is reported by its first line, and the other rows are read."""
    rows = parsed(text)
    assert {row.line: row.violation.keyword for row in rows if row.violation} == lines


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("email,canary@example.com", "line 1: Column 2 (B) of the header is not known.\n--columns"),
        ("email,canary", "line 1: Column 2 (B) of the header is not known.\n--columns"),
        ("email,,canaryPhone", "Column 3 (C) of the header is not known.\n--columns"),
        ("email,Maiden name", "Column 2 (B) of the header is not known.\n--columns"),
        ("email,name,name", "both `name`. The columns `first name`, `middle name` and `last name`"),
        ("email;lang,canary", "Column 1 (A) of the header is not known."),
        ("email,emial", "The nearest known column is `email`"),
        ("email,Phone nr", "The nearest known column is `billingPerson.phone`"),
        ("email,lang,Canary,fone", "Column 3 (C) of the header is not known.\nColumn 4 (D)"),
        ("\nemail,canary", "line 2: Column 2 (B)"),
        ("sep=;\n;\nemail;canary", "line 3: Column 2 (B)"),
        ("email,Canary,Customer Group", "Column 3 (C) of the header has names of groups"),
        ('{"email": "canary"}', "line 1: the file looks like JSON Lines, for which use --format"),
        ("email,Email", "columns 1 and 2 of the header are both `email`"),
        ("email,shippingAddresses,shipping_city", "beside a column of one address"),
        ("lang", "the header has no column `email`"),
        ("canary@example.com,Canary,5", "the file may have no header"),
        ('email,"canary', "a quote of the header is misplaced or missing"),
    ],
)
def test_an_invalid_header(header: str, told: str) -> None:
    """A refused header is told by line, column and nearest known column, and no cell is quoted."""
    with pytest.raises(NotACustomerFile) as refused:
        parsed(header.encode() + b"\na@example.com\n")
    assert told in str(refused.value)
    assert "canary" not in str(refused.value).lower()


@pytest.mark.parametrize("unknown", [1, 2, 18, 19, 500])
def test_many_unknown_columns(unknown: int) -> None:
    """A refused header has a line for each unknown column, and 20 lines at most."""
    with pytest.raises(NotACustomerFile) as refused:
        parsed(f"email,{','.join(f'canary {n}' for n in range(unknown))}\n".encode())
    lines = str(refused.value).splitlines()
    assert len(lines) == min(unknown + 1, 20)
    shown = sum(line.endswith(") of the header is not known.") for line in lines)
    left = [f"{unknown - shown} more columns of the header are not known."]
    assert lines[shown:-1] == (left if unknown > shown else [])


@pytest.mark.parametrize("text", ["", "\n\n", ";;\n,\n", "sep=,\n"])
def test_a_file_without_a_line(text: str) -> None:
    """A CSV file without any text is refused, because its columns are not known."""
    with pytest.raises(NotACustomerFile, match="no header"):
        parsed(text.encode())


BOOLEANS = "`true`, `false`, `yes`, `no`, `ja`, `nein`, `wahr`, `falsch`"
WOOCOMMERCE_REPORT = """\
Name,Username,"Last Active","Sign Up",Email,Orders,"Total Spend",AOV,"Country / Region",City,\
Region,"Postal Code","Billing Phone","Shipping Phone",Role
"Ada L",ada,"2026-01-01 00:00:00","2025-01-01 00:00:00",ada@example.com,5,10.00,2.00,DE,Ulm,BY,\
89073,"'+49 170",,customer
" ",,"2026-01-01 00:00:00",,guest@example.com,1,1.00,1.00,,,,,,"1",
"""
WOOCOMMERCE_PLUGIN = """\
customer_id;user_login;user_email;first_name;last_name;billing_first_name;billing_last_name;\
billing_company;billing_address_1;billing_address_2;billing_city;billing_state;billing_postcode;\
billing_country;billing_email;billing_phone;shipping_first_name;shipping_last_name;\
shipping_address_1;shipping_city;shipping_country
7;ada;ada@example.com;A;;Ada;L;Engines;High St 1;Floor 2;Ulm;BY;89073;DE;bill@example.com;1;Bob;K;\
Low St 2;Bonn;DE
8;bob;;Bob;K;;;;;;;;;;bob@example.com;;;;;;
"""


def test_files_of_woocommerce() -> None:
    """The reader knows the columns of WooCommerce's report and of plugins for WooCommerce.

    Of two columns for one member, the more specific column counts if the column has a value.
    """
    person = {
        "countryCode": "DE",
        "city": "Ulm",
        "stateOrProvinceCode": "BY",
        "postalCode": "89073",
    }
    assert customers_of(WOOCOMMERCE_REPORT) == [
        {
            "name": "Ada L",
            "email": "ada@example.com",
            "billingPerson": {**person, "phone": "+49 170"},
        },
        {"email": "guest@example.com", "shippingAddresses": [{"phone": "1"}]},
    ]
    billing = {"companyName": "Engines", "street": "High St 1\nFloor 2", "phone": "1"}
    address = {"name": "Bob K", "street": "Low St 2", "city": "Bonn", "countryCode": "DE"}
    assert customers_of(WOOCOMMERCE_PLUGIN) == [
        {
            "email": "ada@example.com",
            "name": "Ada L",
            "billingPerson": {**person, **billing},
            "shippingAddresses": [address],
        },
        {"email": "bob@example.com", "name": "Bob K"},
    ]


NAMES = {"first name": "Ann", "last name": "Smith", "billing first name": "Anna"}
STREETS = {"Address 1": "High St", "Billing address 2": "Apt 2"}
# The cells below each header, the member that they set, and the headers without use.
MEMBERS: list[tuple[dict[str, str], str, str, list[str]]] = [
    ({**NAMES, "billing last name": ""}, "name", "Anna Smith", ["first name"]),
    ({**NAMES, "billing last name": "Jones"}, "name", "Anna Jones", ["first name", "last name"]),
    ({"first name": "Ann", "billing first name": " Ann "}, "name", "Ann", []),
    ({"billing last name": "Smith", "first name": "Ann"}, "name", "Ann Smith", []),
    ({"last name": "Smith", "Middle Name": "B", "first name": "Ann"}, "name", "Ann B Smith", []),
    ({"name": "Ann S", "first name": "Ann"}, "name", "Ann", ["name"]),
    ({"Display name": "Annie S", "first name": "Ann"}, "name", "Ann", ["Display name"]),
    ({"Display name": "Ann S", "first name": "Ann", "last name": "S"}, "name", "Ann S", []),
    ({"Display name": "Annie S", "first name": " "}, "name", "Annie S", []),
    (
        {"Display name": "x", "Billing name": "y", "Full name": "z"},
        "name",
        "y",
        ["Display name", "Full name"],
    ),
    (STREETS, "street", "High St\nApt 2", []),
    ({"Address 2": "Apt 2", "billingPerson.street": "High St"}, "street", "High St\nApt 2", []),
    ({**STREETS, "Address 2": "Apt 1"}, "street", "High St\nApt 2", ["Address 2"]),
    ({**STREETS, "billing street": "Low St"}, "street", "Low St\nApt 2", ["Address 1"]),
    ({"phone": "1", "billing phone": "2"}, "phone", "2", ["phone"]),
    ({"Created at": "1", "phone": "1"}, "phone", "1", []),
]


@pytest.mark.parametrize(("cells", "member", "value", "unused"), MEMBERS)
def test_several_columns_of_a_member(
    cells: dict[str, str], member: str, value: str, unused: list[str]
) -> None:
    """The most specific column of each part counts, and the whole counts only without a part.

    A column whose value is not in the member is unused.
    """
    for order in (list(cells), list(reversed(cells))):
        line = ",".join(cells[name] for name in order)
        [row] = parsed(f"email,{','.join(order)}\na@example.com,{line}\n".encode())
        assert row.cells is not None
        person = {**row.customer, **row.customer.get("billingPerson", {})}
        assert person[member] == value
        assert sorted(row.cells.unused()) == sorted(unused)
        used = set(order) - set(unused) - {name for name in cells if not cells[name].strip()}
        place = "/name" if member == "name" else f"/billingPerson/{member}"
        assert set(row.cells.columns(Violation(place, "x"))) <= used - {"Created at"}


@pytest.mark.parametrize(
    ("names", "left_out"),
    [
        ("email,lang", []),
        ("email,Created at,,Order count", ["Created at", "Order count"]),
        ("id,email,stats.numberOfOrders,favorites", ["id", "stats.numberOfOrders", "favorites"]),
        ("email,billingPerson.firstName,billingPerson.lastName", []),
        ("email,billingPerson.firstName", ["billingPerson.firstName"]),
        ("email,tags,Tags,TAGS", ["tags", "Tags", "TAGS"]),
    ],
)
def test_columns_that_set_nothing(names: str, left_out: list[str]) -> None:
    """The header knows its columns that set no member, with their names in the file."""
    [row] = parsed(f"{names}\n{','.join(['a@example.com'] * (names.count(',') + 1))}\n".encode())
    assert row.cells is not None
    assert row.cells.header.left_out == left_out


def test_columns_in_any_form() -> None:
    """Case, blanks and underscores of a header do not matter, and no cell below a name is lost."""
    for header in (
        "E-Mail,Accepts Marketing,BILLINGPERSON.CITY",
        "EMAIL,acceptmarketing,billing city",
    ):
        text = f"{header},,\n a@example.com ,Yes,Ulm,,\n"
        [customer] = customers_of(text)
        assert customer == {
            "email": "a@example.com",
            "acceptMarketing": True,
            "billingPerson": {"city": "Ulm"},
        }


SHOPIFY = """\
Customer ID,First Name,Last Name,Email,Accepts Email Marketing,Default Address Company,\
Default Address Address1,Default Address Address2,Default Address City,\
Default Address Province Code,Default Address Country Code,Default Address Zip,\
Default Address Phone,Phone,Accepts SMS Marketing,Total Spent,Total Orders,Note,Tax Exempt,Tags
'7,Ann,Smith,a@example.com,yes,Engines,High St 1,Floor 2,Ulm,BY,DE,'01067,'+49 1,,no,5.00,1,x,no,a
"""
GOOGLE = """\
First Name,Middle Name,Last Name,Organization Name,Notes,E-mail 1 - Label,E-mail 1 - Value,\
Phone 1 - Label,Phone 1 - Value,Address 1 - Label,Address 1 - Formatted,Address 1 - Street,\
Address 1 - City,Address 1 - Region,Address 1 - Postal Code,Address 1 - Country
Ann,,Smith,Engines,x,* Work,a@example.com,Home,+49 1,Home,High St 1 Ulm,High St 1,Ulm,BY,01067,DE
"""
GERMAN = """\
Vorname;Nachname;Straße;PLZ;Ort;Land;Telefon;E-Mail;Firma;Tax Exempt
Ann;Smith;High St 1;01067;Ulm;DE;+49 1;a@example.com;Engines;FALSCH
"""


@pytest.mark.parametrize(
    ("text", "street", "more"),
    [
        (
            SHOPIFY,
            "High St 1\nFloor 2",
            {"acceptMarketing": True, "taxExempt": False, "privateAdminNotes": "x"},
        ),
        (GOOGLE, "High St 1", {"privateAdminNotes": "x"}),
        (GERMAN, "High St 1", {"taxExempt": False}),
    ],
)
def test_files_of_others(text: str, street: str, more: dict[str, Any]) -> None:
    """The reader knows the columns of Shopify, of Google's contacts and of German spreadsheets."""
    [customer] = customers_of(text)
    person = customer.pop("billingPerson")
    assert customer == {"email": "a@example.com", "name": "Ann Smith", **more}
    region = person.pop("stateOrProvinceCode", "BY")
    assert (region, person) == (
        "BY",
        {
            "companyName": "Engines",
            "street": street,
            "city": "Ulm",
            "countryCode": "DE",
            "postalCode": "01067",
            "phone": "+49 1",
        },
    )


def test_every_column_of_a_shop() -> None:
    """Each column of the tables sets the member of its target, or is left out."""
    for words, source in SHOPS.items():
        value = {"acceptMarketing": "no"}.get(source.target, "x")
        email = source.target == "email"
        [customer] = customers_of(
            f"{words}{'' if email else ',email'}\n{value},a@example.com\n"
            if not email
            else f"{words}\nx\n"
        )
        for step in source.target.split("."):
            customer = customer[step]
            customer = customer[0] if isinstance(customer, list) else customer
        assert customer == {"no": False}.get(value, value), words
    for words in WITHOUT_MEMBER:
        assert customers_of(f"email,{words}\na@example.com,x\n") == [{"email": "a@example.com"}]
    refused = {*map(plain, GROUP_NAMES)}
    assert not {plain(words) for words in SHOPS} & {plain(words) for words in WITHOUT_MEMBER}
    assert not refused & {*map(plain, SHOPS), *map(plain, WITHOUT_MEMBER)}


def test_the_names_of_shops_hide_no_member() -> None:
    """No name of a shop is the plain name of a column, and no two columns have one plain name."""
    assert (
        len(COLUMNS.by_plain_name)
        == len({*COLUMNS.header, *(c.name for c in COLUMNS.settable)}) - 1
    )
    assert not {plain(words) for words in SHOPS} & COLUMNS.by_plain_name.keys()


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        *(("yes", True), ("NO", False), ("1", True), ("0", False), ("True", True)),
        *(("Ja", True), ("nein", False), ("WAHR", True), ("FALSCH", False), ("maybe", "maybe")),
    ],
)
def test_booleans(cell: str, value: object) -> None:
    """A boolean is one of ten words in any case. Another text stays a text."""
    [customer] = customers_of(f"email,taxExempt\na@example.com, {cell}\n")
    assert customer["taxExempt"] == value


@pytest.mark.parametrize(("cell", "group"), [("General", 0), ("5", 5), ("VIP", "VIP")])
def test_the_name_of_a_group(cell: str, group: object) -> None:
    """The group General is the group 0. Another name violates the contract, and is not lost."""
    text = f"email,Customer group\na@example.com,{cell}\n"
    [customer] = customers_of(text, "Customer group=customerGroupId")
    assert customer["customerGroupId"] == group


@pytest.mark.parametrize(
    ("cell", "code"), [("us", "US"), (" De ", "DE"), ("GB", "GB"), ("usa", "usa"), ("ß", "ß")]
)
@pytest.mark.parametrize("header", ["billingPerson.countryCode", "Shipping country", "country"])
def test_country_codes(header: str, cell: str, code: str) -> None:
    """A code of two letters is read in capitals, and every other text stays for the contract."""
    [customer] = customers_of(f"email,{header}\na@example.com,{cell}\n")
    address = customer.get("billingPerson") or customer["shippingAddresses"][0]
    assert address == {"countryCode": code}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (b"email,Billing phone,phone\na@example.com, ,\xff\n", ["phone"]),
        (b"email,Billing phone,phone\na@example.com,\xff,\xff\n", ["Billing phone", "phone"]),
        (b"email,,lang\na@example.com,x,de,y\n", ["B", "D"]),
    ],
)
def test_the_columns_of_an_unreadable_row(text: bytes, names: list[str]) -> None:
    """An unreadable row names the columns as the file has them, or by letter without a header."""
    [row] = parsed(text)
    assert row.violation
    assert row.columns == names


@pytest.mark.parametrize(
    ("header", "cells", "violation", "names"),
    [
        ("E-Mail,lang", "x,de", Violation("/email", "pattern"), ["E-Mail"]),
        ("E-Mail,lang", ",de", Violation("/email", "required"), ["E-Mail"]),
        ("email,Phone,Billing phone", "a,b,", Violation("/billingPerson/phone", "x"), ["Phone"]),
        ("email,Phone,Billing phone", "a,b,c", Violation("/billingPerson/phone", "x"), None),
        (
            "email,First name,Last name",
            "a,b,c",
            Violation("/name", "x"),
            ["First name", "Last name"],
        ),
        ("email,Ship to", "a,b", Violation("/shippingAddresses/0/city", "x"), ["Ship to"]),
        ("email,contacts", "a,b", Violation("/contacts/3/type", "x"), ["contacts"]),
        ("email,Ship to", "a,b", Violation("", "x"), []),
    ],
)
def test_the_columns_of_a_violation(
    header: str, cells: str, violation: Violation, names: list[str] | None
) -> None:
    """A violation has the headers of exactly the columns that have set the member."""
    mappings = ["Ship to=shippingAddresses.city"] if "Ship to" in header else []
    [row] = parsed(f"{header}\n{cells}\n".encode(), "csv", *mappings)
    assert row.cells is not None
    expected = ["Billing phone"] if names is None else names
    assert row.cells.columns(violation) == expected


@pytest.mark.parametrize(
    ("pointer", "keyword", "expected"),
    [
        ("/taxExempt", "type", f"{BOOLEANS}, `1` or `0`, in any case."),
        ("/contacts", "type", "JSON in the cell. X."),
        ("/contacts", "maxItems", "X."),
        ("/contacts/0", "type", "X."),
        ("/lang", "type", "X."),
    ],
)
def test_the_values_of_a_cell(pointer: str, keyword: str, expected: str) -> None:
    """A violation says all that a cell may be, where the contract says what JSON may be."""
    [row] = parsed(b"email,taxExempt,contacts,lang\na,b,c,d\n")
    assert row.cells is not None
    explained = row.cells.explained(Violation(pointer, keyword, "X."))
    assert explained == Violation(pointer, keyword, expected)


def test_mappings() -> None:
    """A mapping names the column of a header in any case, or leaves the column out."""
    text = "email,Phone nr,Points,a=b\na@example.com,1,2,3\n"
    mappings = ("phone NR=billingperson.phone", "Points=", "a=b=taxId")
    expected = {"email": "a@example.com", "billingPerson": {"phone": "1"}, "taxId": "3"}
    assert customers_of(text, *mappings) == [expected]
    text = "Mail,email\na@example.com,canary\n"
    assert customers_of(text, "Mail=email", "email=") == [{"email": "a@example.com"}]
    with pytest.raises(NotACustomerFile) as refused:
        customers_of(text, "Mail=lang", "E-Male=taxId", "Fax=taxId")
    assert str(refused.value) == (
        "line 1: --map number 2 names a header that the file lacks. The nearest header is that of"
        " column 2 (B). --map number 3 names a header that the file lacks."
    )


def test_a_line_with_the_separator() -> None:
    """The separator of a line `sep=` counts, although the header has more of another one."""
    text = 'sep=|\nemail|lang|"a,b;c,d"\na@example.com|de|x\n'
    assert customers_of(text, "a,b;c,d=") == [{"email": "a@example.com", "lang": "de"}]
    text = "sep=;\nemail;a,b,c\na@example.com;x\n"
    assert customers_of(text, "a,b,c=") == [{"email": "a@example.com"}]


@pytest.mark.parametrize("mapping", ["canary", "=email", "canary=canary", "canary=emial"])
def test_malformed_mappings(mapping: str) -> None:
    """A malformed mapping is refused with its number and the nearest known column."""
    with pytest.raises(ValueError, match="number 2") as caught:
        parse_mappings(["Mail=email", mapping], COLUMNS)
    assert "canary" not in str(caught.value)
    assert ("`email`" in str(caught.value)) == mapping.endswith("emial")


@pytest.mark.parametrize("encoding", ["windows-1252", "utf-16", "latin-1", "mac-roman"])
@pytest.mark.parametrize("first", ["", "sep=;\n", "\n\n", "sep=;\n;;;\n"])
def test_encodings(encoding: str, first: str) -> None:
    """A file in another encoding is read with that encoding, and refused without it."""
    text = f"{first}email;Stadt;\na@example.com;Köln\n".encode(encoding)
    [row] = parsed(text, "csv", "Stadt=billingPerson.city", encoding=encoding)
    assert row.customer == {"email": "a@example.com", "billingPerson": {"city": "Köln"}}
    assert row.line == first.count("\n") + 2
    if encoding == "utf-16":
        with pytest.raises(NotACustomerFile, match="--encoding"):
            parsed(text, "csv", "Stadt=billingPerson.city")
    else:
        [row] = parsed(text, "csv", "Stadt=billingPerson.city")
        assert row.violation is not None
        assert "UTF-8" in str(row.violation.expected)
        assert "--encoding windows-1252" in str(row.violation.expected)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16"])
@pytest.mark.parametrize("given", ["UTF-8", "windows-1252"])
@pytest.mark.parametrize("first", ["", "sep=;\n", "\n", "\ufeff"])
def test_utf_16_in_another_encoding(first: str, given: str, encoding: str) -> None:
    """A file that looks like UTF-16 is refused with its encoding, also without a mark."""
    with pytest.raises(NotACustomerFile, match="looks like UTF-16") as refused:
        parsed(f"{first}email\na@example.com\n".encode(encoding), encoding=given)
    is_marked = encoding == "utf-16" or first == "\ufeff"
    assert ("utf-16" if is_marked else encoding) in str(refused.value)


def test_the_hint_at_another_encoding() -> None:
    """The hint at another encoding does not name the encoding that was used."""
    for encoding in ("UTF-8", "windows-1252", "cp1252"):
        [row] = parsed(b"email,lang\nb@c.de,\xfc\x81\n", encoding=encoding)
        assert row.violation
        hint = str(row.violation.expected).partition("--encoding ")[2]
        assert hint == ("windows-1252." if encoding == "UTF-8" else "iso-8859-15.")


def test_a_header_in_another_encoding() -> None:
    """A header that is not in the encoding is refused with the expected encoding."""
    with pytest.raises(NotACustomerFile, match="not in UTF-8"):
        parsed("email,Straße\n".encode("windows-1252"))
    with pytest.raises(NotACustomerFile, match="not in utf-16"):
        parsed(b"email,lang\na@example.com,de\n", encoding="utf-16")


UTF_8_FILES = {
    "a name in the last of many rows": b"email,city\n"
    + b"a@example.com,Ulm\n" * 9999
    + b"b,K\xc3\xb6ln",
    "a header": "email,Straße\n".encode(),
    "two pieces": b"email,city\n" + b"b,\xe2\x82\xac" * 5000,
    "the mark": b"\xef\xbb\xbfemail,city\na@example.com,Ulm\n",
    "the mark before damaged text": b"\xef\xbb\xbfemail,city\na@example.com,\xff\n",
}
NOT_UTF_8 = ("windows-1252", "latin-1", "cp1251", "mac-roman", "gb18030", "utf-16-le")


@pytest.mark.parametrize("encoding", NOT_UTF_8)
@pytest.mark.parametrize("text", UTF_8_FILES.values(), ids=UTF_8_FILES)
def test_utf_8_in_another_encoding(text: bytes, encoding: str) -> None:
    """A file that is UTF-8 is refused with another encoding, which would garble its names."""
    with pytest.raises(NotACustomerFile, match=r"the file is in UTF-8\. Leave out --encoding"):
        parsed(text, encoding=encoding)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("email,city\na@example.com,Ulm\n", "windows-1252"),
        ("email,city\na@example.com,Köln\nb@example.com,Köln\n", "windows-1252"),
        ("email,city\na@example.com,KölnÃ¶\nb@example.com,K\u00e3", "windows-1252"),
        ("email,city\na@example.com,\u80c3\n", "utf-16-le"),
    ],
)
def test_text_that_is_no_utf_8(text: str, encoding: str) -> None:
    """A file is read in its encoding if it is ASCII, or as a whole no UTF-8."""
    rows = parsed(text.encode(encoding), encoding=encoding)
    assert [row.violation for row in rows] == [None] * (text.count("@"))


@pytest.mark.parametrize("encoding", ["windows-1252", "latin-1", "iso-8859-15", "mac-roman"])
@pytest.mark.parametrize("name", ["Müller", "Kołek", "Ann \u2013 Bob", "Öz"])
def test_a_cell_in_utf_8(name: str, encoding: str) -> None:
    """A cell in UTF-8 within a file of another encoding refuses its row, and no other row."""
    text = "email,city,Created at\na@example.com,Köln,\nb@example.com,".encode(encoding)
    left_out = b"\nc@example.com,Ulm," + name.encode()
    rows = parsed(text + name.encode() + b"," + left_out, encoding=encoding)
    refused = {row.line: (row.violation.keyword, *row.columns) for row in rows if row.violation}
    assert refused == {3: ("encoding", "city")}


@pytest.mark.parametrize(
    ("encoding", "text", "other"),
    [
        ("windows-1252", "MÜLLER É Ã ¼ «Â» Müller\u2019s ÃO “São”", "Ü"),
        ("windows-1251", "Лі", "й"),
        ("windows-1250", "Łódź Żółć ŠĎŤ", "Ü"),
        ("koi8-r", "её", "й"),
        ("utf-16", "Ã¼", "Ü"),
        ("UTF-8", "Ã¼", "Ü"),
    ],
)
def test_text_that_resembles_utf_8(encoding: str, text: str, other: str) -> None:
    """A text of an encoding stays, if its bytes are no pairs of UTF-8 or a word of its own."""
    file = f"email,city\nb@c.de,{other}\na@b.de,{text}\n".encode(encoding)
    [_, row] = parsed(file, encoding=encoding)
    assert (row.violation, row.customer["billingPerson"]["city"]) == (None, text)


@pytest.mark.parametrize("character", ["\x1b", "\x08", "\x0b", "\x7f", "\x80", "\x85", "\x9f"])
@pytest.mark.parametrize("encoding", ["UTF-8", "utf-16", "latin-1"])
def test_control_characters(character: str, encoding: str) -> None:
    """A control character in a cell refuses its row. A tab and a line end are no such characters.

    In Latin-1, the upper ones are the letters of windows-1252, which the sentence names.
    """
    lines = ["email,city,Points", 'b@c.de,"a\tb\r\nc",', f"a@b.de,x{character},", "c@b.de,é,\x1b"]
    rows = parsed("\n".join(lines).encode(encoding), "csv", "Points=", encoding=encoding)
    [row] = [row for row in rows if row.violation]
    assert row.violation is not None
    assert (row.line, row.columns, row.violation.keyword) == (4, ["city"], "control")
    is_hinted = "--encoding windows-1252" in str(row.violation.expected)
    assert is_hinted == (encoding == "latin-1" and character >= "\x80")


@pytest.mark.parametrize(
    "text",
    [
        "email,lang\n{}\n",
        '"email"\n"a@example.com"\n',
        "\n\ufeffemail\n",
        '[{"email": "canary"}]\n',
        '[\n{"email": "canary"}]\n',
        '{\n  "email": "canary"\n}\n',
    ],
)
def test_a_file_that_is_no_json_lines(text: str) -> None:
    """A file whose first line is no object is refused as a whole, and not line by line.

    The sentence says how to convert JSON, or how to read CSV.
    """
    hint = "jq -c" if text[0] in "[{" else "use --format csv"
    with pytest.raises(NotACustomerFile, match=hint) as refused:
        parsed(text.encode(), "jsonl")
    assert "canary" not in str(refused.value)


def test_described_columns() -> None:
    """The list of columns has each settable member, and each is a column of an import."""
    lines = list(described_columns(COLUMNS))
    names = [line.split()[0] for line in lines[:-1]]
    assert {"email", "billingPerson.phone", "shippingAddresses.city", "contacts"} <= set(names)
    assert not {"id", "registered", "stats.numberOfOrders", "shippingAddresses.id"} & set(names)
    for name in names:
        assert COLUMNS.named(name), name


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
