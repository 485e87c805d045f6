"""The command `flask ecwid import`."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from flask_ecwid import contract
from flask_ecwid.cli.new_customer import creation_body
from flask_ecwid.errors import InvalidRequest
from flask_ecwid.sandbox import Fault
from flask_ecwid.storage.file_state import host_state

from ..helpers.command import GOOD, Command, change_customer, new, write

INVISIBLE = "\u200b\ufeff\u00ad\u2060\u202e\u00a0"
EXPECTED = [
    "A text of at most 254 characters, for example `customer@example",
    "A text of at most 1,000 characters",
    "The nearest known name is `email`",
    "Strict JSON",
    "An e-mail that no other row has",
    "An e-mail that no other row has",
]


def test_a_file_with_bad_rows_twice(tmp_path: Path) -> None:
    """An import creates valid rows and reports invalid rows by line, pointer and keyword.

    The report says what the contract expects, without any value.
    A second import creates no duplicates.
    """
    command = Command(tmp_path)
    rows = [
        GOOD[0],
        {"email": "canary", "lang": 5},
        {"emial": "canary@example.com", "email": "x@example.com"},
        "",
        GOOD[1],
        '{"email": "canary@example.com"',
        GOOD[0],
        {"email": "NEW-1@example.com"},
        GOOD[2],
    ]
    write(command, "new.jsonl", *rows)
    kind = "urn:flask-ecwid:problem:invalid-request"
    expected = [
        {"line": 2, "type": kind, "pointer": "/email", "keyword": "pattern"},
        {"line": 2, "type": kind, "pointer": "/lang", "keyword": "type"},
        {"line": 3, "type": kind, "pointer": "", "keyword": "additionalProperties"},
        {"line": 6, "type": kind, "pointer": "", "keyword": "json"},
        {"line": 7, "type": kind, "pointer": "/email", "keyword": "uniqueItems"},
        {"line": 8, "type": kind, "pointer": "/email", "keyword": "uniqueItems"},
    ]
    for summary in ("3 created, 0 there already", "0 created, 3 there already"):
        status, out, err = command.run("import", "new.jsonl", "--report", "report.jsonl")
        assert (status, out) == (1, "")
        assert err == f"{summary}, 5 refused, 0 unknown\n"
        lines = command.lines("report.jsonl")
        texts = [line.pop("expected") for line in lines]
        assert lines == expected
        assert [text.partition(".")[0] for text in texts] == EXPECTED
        assert "canary" not in str(texts)
        assert new(command) == [f"new-{n}@example.com" for n in range(3)]
        assert (tmp_path / "report.jsonl").stat().st_mode & 0o777 == 0o600
    status, _, err = command.run("import", "new.jsonl")
    assert "line 2: /email: pattern. A text of at most 254 characters, for example" in err
    assert "canary" not in err


def test_all_good(tmp_path: Path) -> None:
    """An import without invalid rows prints nothing and exits with 0, also when it is repeated."""
    command = Command(tmp_path)
    write(command, "new.jsonl", *GOOD)
    for _ in range(2):
        assert command.run("import", "new.jsonl", "--report", "report.jsonl") == (0, "", "")
    assert command.lines("report.jsonl") == []
    assert len(new(command)) == 6


def test_a_dry_run(tmp_path: Path) -> None:
    """The option --dry-run sends no call, and reports the rows that would be refused."""
    command = Command(tmp_path)
    write(command, "new.jsonl", *GOOD, {"email": 5})
    status, _, err = command.run("import", "new.jsonl", "--dry-run", "--report", "report.jsonl")
    assert status == 1
    assert err == "6 valid rows, 1 invalid\n"
    assert [each["line"] for each in command.lines("report.jsonl")] == [7]
    assert command.orders.ledger() == []
    write(command, "new.jsonl", *GOOD)
    assert command.run("import", "new.jsonl", "--dry-run") == (0, "", "")


@pytest.mark.parametrize("name", ["all.jsonl", "all.csv"])
def test_an_export_is_imported(tmp_path: Path, name: str) -> None:
    """An import of an export into an empty store copies every member that a creation may set.

    The name of a guest is copied too, although a guest has no billingPerson.
    """
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one, two = Command(tmp_path / "one", 60), Command(tmp_path / "two")
    assert one.run("export", name)[0] == 0
    with sqlite3.connect(two.store) as db:
        db.execute("DELETE FROM customers")
    db.close()
    status, _, err = two.run("import", f"../one/{name}")
    assert status == 0
    assert err.count("id, registered, updated, totalOrderCount,") == name.endswith(".csv")
    assert one.run("export", "one.jsonl")[0] == 0
    assert two.run("export", "two.jsonl")[0] == 0
    sides = [
        {
            line["email"]: settable(line) for line in lines if "taxId" in line
        }  # without the customers of the seed
        for lines in (one.lines("one.jsonl"), two.lines("two.jsonl"))
    ]
    seed = {line["email"] for line in one.lines("one.jsonl") if "taxId" not in line}
    assert len(sides[0]) == 60
    assert sum("billingPerson" not in line for line in one.lines("one.jsonl")) > 5
    assert sides[0] == {email: each for email, each in sides[1].items() if email not in seed}
    assert len(two.customers()) == 64


def settable(customer: dict[str, Any]) -> dict[str, Any]:
    """Return the members of a customer that a creation sets."""
    left_out = {"id", "registered", "updated", "totalOrderCount", "stats", "favorites"}
    if set(customer.get("billingPerson", {})) <= {"name", "firstName", "lastName"}:
        left_out.add("billingPerson")  # the customer may be a guest, whose name is compared
    kept = {name: value for name, value in customer.items() if name not in left_out}
    for name in ("shippingAddresses", "contacts"):
        inner = {"id", "createdDate", "timestamp"}
        kept[name] = [
            {key: value for key, value in each.items() if key not in inner}
            for each in kept.get(name, [])
        ]
    return kept


def test_what_a_creation_may_set() -> None:
    """An import omits nulls, ids and members that only Ecwid sets, and keeps the name."""
    shown = {
        "id": 5,
        "email": "a@example.com",
        "registered": "2026-01-01 00:00:00 +0000",
        "lang": None,
        "name": "A B",
        "billingPerson": {"firstName": "A", "stateOrProvinceName": "A", "city": None},
        "shippingAddresses": [{"id": 7, "city": "Ulm", "createdDate": "x"}],
        "contacts": [{"id": 8, "contact": "x", "type": "URL", "timestamp": "x", "note": None}],
        "extrafields": [{"key": "k", "orderBy": 1}],
    }
    assert creation_body(contract.load(), shown) == {
        "email": "a@example.com",
        "billingPerson": {"name": "A B", "stateOrProvinceName": "A"},
        "shippingAddresses": [{"city": "Ulm"}],
        "contacts": [{"contact": "x", "type": "URL"}],
        "extrafields": [{"key": "k"}],
    }


@pytest.mark.parametrize(
    ("more", "pointer", "keyword"),
    [
        ({"emial": None}, "", "additionalProperties"),
        ({"billingPerson": {"floor": 3}}, "/billingPerson", "additionalProperties"),
        ({"contacts": [None]}, "/contacts/0", "type"),
        ({"name": "A", "billingPerson": {"name": "B"}}, "/name", "const"),
        ({"customerGroupName": "VIP"}, "/customerGroupName", "dependencies"),
    ],
)
def test_rows_that_would_lose_a_member(more: dict[str, Any], pointer: str, keyword: str) -> None:
    """An import refuses a row with an unknown member or with two names."""
    with pytest.raises(InvalidRequest) as caught:
        creation_body(contract.load(), {"email": "a@example.com", **more})
    [violation] = caught.value.errors
    assert (violation.pointer, violation.keyword) == (pointer, keyword)


def test_contacts_that_ecwid_adds_to(tmp_path: Path) -> None:
    """An import recognizes a customer to whose contacts Ecwid has added the e-mail."""
    command = Command(tmp_path)
    command.orders.inject(Fault("reset", operation="add_customer", nth=1, after=True))
    phones = [{"type": "PHONE", "contact": str(number)} for number in (1, 2)]
    write(command, "new.jsonl", *({**row, "contacts": phones} for row in GOOD))
    assert command.run("import", "new.jsonl") == (0, "", "")
    forget(command)
    assert command.run("import", "new.jsonl") == (0, "", "")
    for contacts, status in ((phones[::-1], 0), ([*phones, {**phones[0], "contact": "3"}], 1)):
        write(command, "new.jsonl", {**GOOD[0], "contacts": contacts})
        forget(command)
        assert command.run("import", "new.jsonl")[0] == status


def forget(command: Command) -> None:
    """Remove all idempotency keys, as after 24 hours or on another host."""
    path = host_state()._path
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM state WHERE instr(CAST(value AS TEXT), '\"state\"')")
    db.close()


def test_a_required_idempotency_key(tmp_path: Path) -> None:
    """An import gives each row a key of its own, so the duty to send a key changes nothing."""
    command = Command(tmp_path, ECWID_REQUIRE_IDEMPOTENCY_KEY="on")
    write(command, "new.jsonl", *GOOD)
    assert command.run("import", "new.jsonl") == (0, "", "")
    assert new(command) == sorted(row["email"] for row in GOOD)


def test_replies_that_are_lost(tmp_path: Path) -> None:
    """An import searches for a creation whose reply is lost.

    If the search finds nothing, the next import settles the row.
    """
    command = Command(tmp_path, ECWID_DEADLINE_S="2")
    command.orders.inject(
        Fault("reset", operation="add_customer", nth=2, after=True),
        Fault("reset", operation="add_customer", nth=4),
    )
    write(command, "new.jsonl", *GOOD)
    status, _, err = command.run("import", "new.jsonl", "--report", "report.jsonl")
    assert status == 1
    assert "5 created, 0 there already, 0 refused, 1 unknown" in err
    [line] = command.lines("report.jsonl")
    assert line["line"] == 4
    assert line["type"] == "urn:flask-ecwid:problem:outcome-unknown"
    assert command.run("import", "new.jsonl") == (0, "", "")
    assert len(new(command)) == 6


@pytest.mark.parametrize("member", ["taxIdValid", "email"])
def test_odd_customers_stop_no_import(tmp_path: Path, member: str) -> None:
    """An import finds a customer who is there although Ecwid shows odd data of the customer."""
    command = Command(tmp_path)
    write(command, "new.jsonl", *GOOD)
    assert command.run("import", "new.jsonl") == (0, "", "")
    customers = command.customers()
    [found] = [id for id in customers if customers[id]["email"] == GOOD[0]["email"]]
    change_customer(command.store, found, **{member: {"canary": 1}})
    assert command.run("import", "new.jsonl") == (0, "", "")
    if member == "taxIdValid":
        forget(command)
        assert command.run("import", "new.jsonl") == (0, "", "")


def test_keys_that_are_forgotten(tmp_path: Path) -> None:
    """Without idempotency keys, an import recognizes a customer who shows all values of the row.

    The report says which values differ.
    """
    command = Command(tmp_path)
    write(command, "new.jsonl", *GOOD)
    assert command.run("import", "new.jsonl")[0] == 0
    forget(command)
    other = {**GOOD[3], "lang": "fr"}
    write(command, "new.jsonl", *GOOD[:3], other)
    status, _, err = command.run("import", "new.jsonl", "--report", "report.jsonl")
    assert status == 1
    assert err == "0 created, 3 there already, 1 refused, 0 unknown\n"
    [line] = command.lines("report.jsonl")
    assert line == {
        "line": 4,
        "type": "urn:flask-ecwid:problem:email-taken",
        "pointer": "/email",
        "keyword": "uniqueItems",
        "expected": "An e-mail that no other customer has. The store's customer does not show the"
        " row's /lang. With --update, the import writes the values of the row.",
    }
    assert len(new(command)) == 6


def test_refused_by_ecwid(tmp_path: Path) -> None:
    """A row that Ecwid refuses is reported with its code, and sent again by the next import."""
    command = Command(tmp_path)
    refusal = Fault("status", operation="add_customer", nth=2, status=400, code="WRONG_PARAMETER")
    command.orders.inject(refusal)
    write(command, "new.jsonl", *GOOD)
    status, _, err = command.run("import", "new.jsonl", "--report", "report.jsonl")
    assert status == 1
    assert "5 created, 0 there already, 1 refused" in err
    assert command.lines("report.jsonl") == [
        {
            "line": 2,
            "type": "urn:flask-ecwid:problem:rejected-by-ecwid",
            "pointer": "",
            "keyword": "rejected",
            "ecwid_code": "WRONG_PARAMETER",
        }
    ]
    assert command.run("import", "new.jsonl") == (0, "", "")
    assert len(new(command)) == 6


def test_deleted_since(tmp_path: Path) -> None:
    """An import creates a customer again who was deleted after the last import, and nobody else."""
    command = Command(tmp_path)
    write(command, "new.jsonl", *GOOD)
    assert command.run("import", "new.jsonl")[0] == 0
    with sqlite3.connect(command.store) as db:
        db.execute(
            "DELETE FROM customers WHERE email IN ('new-1@example.com', 'new-4@example.com')"
        )
    db.close()
    for _ in range(2):
        assert command.run("import", "new.jsonl") == (0, "", "")
        assert len(new(command)) == 6


def test_a_store_that_refuses_the_service(tmp_path: Path) -> None:
    """An import ends when no further row can succeed, and prints how many rows remain."""
    command = Command(tmp_path)
    command.orders.inject(Fault("status", operation="add_customer", nth=3, status=402))
    write(command, "new.jsonl", *GOOD)
    status, _, err = command.run("import", "new.jsonl")
    assert status == 1
    assert err.startswith("failed: service-refused: ")
    assert "4 rows are left" in err
    assert len(new(command)) == 2


def test_it_waits_for_ecwid(tmp_path: Path) -> None:
    """An import pauses for as long as Ecwid asks."""
    command = Command(tmp_path)
    command.orders.inject(
        Fault("status", operation="add_customer", nth=2, status=429, retry_after="3")
    )
    write(command, "new.jsonl", *GOOD)
    begun = time.monotonic()
    assert command.run("import", "new.jsonl")[0] == 0
    assert time.monotonic() - begun > 3
    assert len(new(command)) == 6


def test_invalid_files(tmp_path: Path) -> None:
    """A file that cannot be read or is no file of customers is refused before any call."""
    command = Command(tmp_path)
    write(command, "new.jsonl", *GOOD)
    (tmp_path / "new.csv").write_text("canary@example.com,Anna\n")
    for args in (
        ["none.jsonl"],
        ["new.xml"],
        ["new.csv"],
    ):
        status, _, err = command.run("import", *args)
        assert status == 2
        assert "canary" not in err
    assert command.orders.ledger() == []


def test_standard_input(tmp_path: Path) -> None:
    """The path `-` is the standard input, in both formats."""
    command = Command(tmp_path)
    text = json.dumps(GOOD[0]).encode()
    assert command.run("import", "-", stdin=text) == (0, "", "")
    text = b"email\nnew-9@example.com\n"
    assert command.run("import", "-", "--format", "csv", stdin=text) == (0, "", "")
    assert new(command) == ["new-0@example.com", "new-9@example.com"]


FULL = {
    "email": "new-guest@example.com",
    "lang": "de",
    "acceptMarketing": True,
    "billingPerson": {"name": "Ada L", "phone": "+49 170"},
}


def id_of(command: Command, email: str) -> int:
    """Return the id of the customer with this e-mail."""
    [found] = [id for id, each in command.customers().items() if each["email"] == email]
    return found


def calls(command: Command, *operations: str) -> int:
    """Return the number of calls of these operations."""
    return sum(each.operation in operations for each in command.orders.ledger())


@pytest.mark.parametrize("member", [name for name in FULL if name != "email"])
def test_a_guest_who_lacks_a_value(tmp_path: Path, member: str) -> None:
    """A customer who lacks one value of the row does not count as there, and the report says so."""
    command = Command(tmp_path)
    write(command, "guest.jsonl", {name: value for name, value in FULL.items() if name != member})
    assert command.run("import", "guest.jsonl") == (0, "", "")
    write(command, "new.jsonl", FULL)
    status, _, err = command.run("import", "new.jsonl", "--report", "report.jsonl")
    assert (status, err) == (1, "0 created, 0 there already, 1 refused, 0 unknown\n")
    [line] = command.lines("report.jsonl")
    assert line["type"] == "urn:flask-ecwid:problem:email-taken"
    assert f"/{member}" in line["expected"]
    assert "--update" in line["expected"]
    assert "new-guest" not in str(line)
    assert "Ada" not in str(line)


def test_a_customer_who_was_changed_since(tmp_path: Path) -> None:
    """A row whose key is known is refused if the store does not show its values any more."""
    command = Command(tmp_path)
    write(command, "new.jsonl", *GOOD)
    assert command.run("import", "new.jsonl") == (0, "", "")
    change_customer(command.store, id_of(command, "new-0@example.com"), lang="fr")
    status, _, err = command.run("import", "new.jsonl")
    assert status == 1
    assert "0 created, 5 there already, 1 refused" in err
    assert command.run("import", "new.jsonl", "--update") == (0, "", "")
    assert command.run("import", "new.jsonl") == (0, "", "")


def test_members_that_ecwid_never_shows(tmp_path: Path) -> None:
    """A password counts as set only if the key shows that an import has set it."""
    command = Command(tmp_path)
    write(command, "new.jsonl", {**GOOD[0], "password": "canary"})
    for _ in range(2):
        assert command.run("import", "new.jsonl") == (0, "", "")
    forget(command)
    status, _, err = command.run("import", "new.jsonl")
    assert status == 1
    assert "/password" in err
    assert "canary" not in err


def test_update(tmp_path: Path) -> None:
    """An import with --update gives customers the values of their rows, and may be repeated.

    The import clears no other value, changes no customer with a longer e-mail, and creates the
    customers who are missing.
    """
    command = Command(tmp_path)
    phone = {"type": "PHONE", "contact": "1"}
    there = {"email": FULL["email"], "lang": "fr", "taxId": "5", "contacts": [phone]}
    longer = {"email": f"x{FULL['email']}", "lang": "fr"}
    write(command, "there.jsonl", there, longer)
    assert command.run("import", "there.jsonl") == (0, "", "")
    more = {**FULL, "email": "NEW-Guest@example.com", "contacts": [{**phone, "contact": "2"}]}
    write(command, "new.jsonl", more, GOOD[0], {"email": "x"})
    for counts in ("1 created, 1 updated, 0 there", "0 created, 0 updated, 2 there"):
        status, _, err = command.run("import", "new.jsonl", "--update", "--report", "report.jsonl")
        assert (status, err) == (1, f"{counts} already, 1 refused, 0 unknown\n")
    customers = command.customers()
    updated = customers[id_of(command, "new-guest@example.com")]
    assert (updated["lang"], updated["taxId"], updated["acceptMarketing"]) == ("de", "5", True)
    assert updated["billingPerson"]["phone"] == "+49 170"
    assert [each["contact"] for each in updated["contacts"]] == ["1", FULL["email"], "2"]
    assert customers[id_of(command, "xnew-guest@example.com")]["lang"] == "fr"
    assert len(new(command)) == 2
    assert calls(command, "add_customer", "update_customer") == 4


def test_update_beside_an_odd_customer(tmp_path: Path) -> None:
    """An import with --update refuses the row of an odd customer, and goes on."""
    command = Command(tmp_path)
    write(command, "new.jsonl", *GOOD)
    assert command.run("import", "new.jsonl") == (0, "", "")
    odd = {"taxIdValid": {"canary": 1}}
    change_customer(command.store, id_of(command, "new-0@example.com"), **odd)
    write(command, "new.jsonl", *({**row, "taxId": "5"} for row in GOOD))
    status, _, err = command.run("import", "new.jsonl", "--update")
    assert status == 1
    assert "0 created, 5 updated, 0 there already, 1 refused, 0 unknown" in err
    assert "line 1: the row: unfit" in err
    assert "canary" not in err


@pytest.mark.parametrize("options", [[], ["--update"]])
def test_an_email_of_several_customers(tmp_path: Path, options: list[str]) -> None:
    """An update refuses a row whose e-mail several customers have, and changes none of them.

    Without an update, the row counts as there if a customer shows its values.
    """
    command = Command(tmp_path)
    write(command, "new.jsonl", *GOOD[:3])
    assert command.run("import", "new.jsonl") == (0, "", "")
    forget(command)
    twin = [GOOD[0]["email"]] * 2
    with sqlite3.connect(command.store) as db:
        db.execute(
            "UPDATE customers SET email = ?, document = json_set(document, '$.email', ?)"
            f" WHERE id = {id_of(command, GOOD[1]['email'])}",
            twin,
        )
    db.close()
    before = command.customers()
    write(command, "new.jsonl", GOOD[0], GOOD[2])
    status, _, err = command.run("import", "new.jsonl", *options)
    assert (status, command.customers()) == (1 if options else 0, before)
    is_said = "uniqueItems. An e-mail that one customer has. Several customers of the store" in err
    assert is_said == bool(options)


@pytest.mark.parametrize("options", [[], ["--update"]])
def test_a_store_that_takes_an_email_twice(tmp_path: Path, options: list[str]) -> None:
    """Without known keys, an import searches for the row's customer before the creation.

    So a store that takes an e-mail twice gets no customer twice.
    """
    command = Command(tmp_path)
    command.orders.switch(duplicate_emails=True)
    write(command, "new.jsonl", *GOOD)
    for _ in range(3):
        assert command.run("import", "new.jsonl", *options) == (0, "", "")
        forget(command)
    write(command, "new.jsonl", *({**row, "email": str(row["email"]).upper()} for row in GOOD))
    assert command.run("import", "new.jsonl", *options) == (0, "", "")
    assert len(new(command)) == 6
    assert calls(command, "add_customer") == 6


@pytest.mark.parametrize("name", ["all.jsonl", "all.csv"])
def test_customers_without_an_email(tmp_path: Path, name: str) -> None:
    """Customers without an e-mail are exported, and an import refuses them before any call."""
    command = Command(tmp_path)
    [first, *_] = command.customers()
    change_customer(command.store, first, email="")
    assert command.run("export", name)[0] == 0
    assert str(first) in (tmp_path / name).read_text(encoding="utf-8-sig")
    command.orders.clear_ledger()
    for options in ([], ["--update"]):
        report = ["--dry-run", *options, "--report", "report.jsonl"]
        status, _, err = command.run("import", name, *report)
        assert status == 1
        assert "1 row has no e-mail. Ecwid creates no customer without one.\n" in err
        [line] = command.lines("report.jsonl")
        assert (line["pointer"], line["keyword"]) == ("/email", "required")
    assert command.orders.ledger() == []


@pytest.mark.parametrize("row", [{}, {"email": None}, {"email": ""}, {"email": " "}])
def test_a_row_without_an_email(tmp_path: Path, row: dict[str, Any]) -> None:
    """A row without an e-mail is refused with the reason, whatever stands in the place."""
    command = Command(tmp_path)
    write(command, "new.jsonl", {"lang": "de", **row}, GOOD[0])
    status, _, err = command.run("import", "new.jsonl")
    assert status == 1
    assert "line 1: /email: required. An e-mail, because Ecwid creates no customer without" in err
    assert "1 created, 0 there already, 1 refused, 0 unknown" in err


@pytest.mark.parametrize("code", ["UK", "uk", "GB", "XK", "XX"])
@pytest.mark.parametrize("place", ["billingPerson", "shippingAddresses/0"])
def test_the_code_of_no_country(tmp_path: Path, place: str, code: str) -> None:
    """The country code UK is refused, and the reason names GB. All other codes are left to Ecwid.

    No document of Ecwid lists its codes, and XK of Kosovo is not in ISO 3166-1.
    """
    command = Command(tmp_path)
    name, _, is_item = place.partition("/")
    address = {"countryCode": code}
    write(command, "new.jsonl", {**GOOD[0], name: [address] if is_item else address})
    status, _, err = command.run("import", "new.jsonl", "--dry-run")
    is_uk = code.upper() == "UK"
    assert status == (1 if is_uk else 0)
    said = f"line 1: /{place}/countryCode: enum. A code of ISO 3166-1. The United Kingdom has"
    assert (said in err) == is_uk


@pytest.mark.parametrize("name", ["new.jsonl", "new.csv"])
@pytest.mark.parametrize(
    "email",
    ["mailto:x@example.com", " MailTo:x@example.com", *(f"x{c}@example.com" for c in INVISIBLE)],
)
def test_an_email_with_more_than_an_email(tmp_path: Path, name: str, email: str) -> None:
    """An e-mail with `mailto:` or with an invisible character is refused, and not repaired."""
    command = Command(tmp_path)
    write(command, "new.jsonl", {"email": email}, GOOD[0])
    (tmp_path / "new.csv").write_text(f"email\n{email}\n{GOOD[0]['email']}\n", encoding="utf-8")
    status, _, err = command.run("import", name, "--dry-run")
    assert status == 1
    assert ": pattern. An e-mail without `mailto:` and without invisible characters.\n" in err
    assert "1 valid rows, 1 invalid\n" in err


@pytest.mark.parametrize(
    "options", [["bad.csv"], ["new.csv", "--map", "x=emial"], ["new.csv", "--store", "other"]]
)
def test_the_report_of_an_earlier_run(tmp_path: Path, options: list[str]) -> None:
    """An import that fails at once leaves no refusal of an earlier run in the report."""
    command = Command(tmp_path)
    (tmp_path / "new.csv").write_text("email,lang\nx,de\n")
    (tmp_path / "bad.csv").write_text("email,nothing\nx,de\n")
    assert command.run("import", "new.csv", "--report", "report.jsonl")[0] == 1
    assert len(command.lines("report.jsonl")) == 1
    assert command.run("import", *options, "--report", "report.jsonl")[0] == 2
    assert command.lines("report.jsonl") == []


def test_the_file_of_a_shop(tmp_path: Path) -> None:
    """A file in a shop's columns and encoding is imported with --map and --encoding."""
    command = Command(tmp_path)
    header = "EMAIL;billing_first_name;billing_last_name;billing_city;Accepts Marketing;Fon;Punkte;"
    text = f"sep=;\n{header}\nnew-1@example.com;Zoë;Müller;Köln;Yes;0221 1;7;\n"
    (tmp_path / "new.csv").write_bytes(text.encode("windows-1252"))
    options = ["--map", "Fon=billingPerson.phone", "--map", "Punkte="]
    status, _, err = command.run("import", "new.csv", *options)
    assert status == 1
    columns = "columns billing_first_name, billing_last_name, billing_city"
    assert f"line 3: the row ({columns}): encoding. Text in UTF-8. If the file has another" in err
    status, _, err = command.run("import", "new.csv", *options, "--encoding", "windows-1252")
    assert (status, err) == (0, "")
    customer = command.customers()[id_of(command, "new-1@example.com")]
    assert customer["acceptMarketing"] is True
    person = customer["billingPerson"]
    assert (person["name"], person["city"], person["phone"]) == ("Zoë Müller", "Köln", "0221 1")


@pytest.mark.parametrize(("options", "status"), [([], 0), (["--update"], 0), (["--dry-run"], 0)])
def test_values_without_use(tmp_path: Path, options: list[str], status: int) -> None:
    """A column whose values set nothing is named at the end, with the number of such rows."""
    command = Command(tmp_path)
    lines = ["1,Annie S,Ann,1,2", "2,Bob,Bob,,", "3,Cara,,,", "4,Dan D,Dan,,"]
    text = "email,Display Name,First Name,Phone,Billing phone\n"
    text += "".join(f"new-{line[0]}@example.com{line[1:]}\n" for line in lines)
    (tmp_path / "new.csv").write_text(text)
    assert command.run("import", "new.csv", *options) == (
        status,
        "",
        "The values of the column Display Name were not used in 2 rows, because other columns set"
        " the same member.\n"
        "The values of the column Phone were not used in 1 row, because other columns set the same"
        " member.\n",
    )


@pytest.mark.parametrize("options", [[], ["--update"], ["--dry-run"]])
@pytest.mark.parametrize("status", [0, 1])
def test_columns_left_out(tmp_path: Path, options: list[str], status: int) -> None:
    """A run and a dry run name each column that is left out, and its values stay unknown.

    A column that --map leaves out is not named, because the user has named it.
    """
    command = Command(tmp_path)
    text = "email,Tags,lang,ROLE,Nickname,locale,Points,id,Tags,Total spent\n"
    text += "new-1@example.com,canary,de,,canary,de_DE,7,5,,\n" + "canary\n" * status
    (tmp_path / "new.csv").write_text(text)
    done, out, err = command.run("import", "new.csv", *options, "--map", "points=")
    assert (done, out) == (status, "")
    said = [line for line in err.splitlines() if "left out" in line]
    assert said == [
        "These columns are left out, because Ecwid has no such member or sets the member itself:"
        " Tags, ROLE, Nickname, locale, id, Total spent. --map 'HEADER=COLUMN' names another"
        " column for a header."
    ]
    assert "canary" not in err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("new.csv", "email,lang\n"),
        ("new.csv", "email\n\n,\n"),
        ("new.jsonl", ""),
        ("new.jsonl", "\n"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_file_without_a_row(tmp_path: Path, name: str, text: str, options: list[str]) -> None:
    """A file without a row is said, because such a file is mostly a mistake. The status is 0."""
    command = Command(tmp_path)
    (tmp_path / name).write_text(text)
    said = f"{name}: the file has no row, so there is nothing to import.\n"
    assert command.run("import", name, *options) == (0, "", said)


def test_a_file_of_json(tmp_path: Path) -> None:
    """A file with the ending .json is refused with the command that makes JSON Lines of it."""
    command = Command(tmp_path)
    (tmp_path / "shop.json").write_text("[]")
    status, _, err = command.run("import", "shop.json")
    assert status == 2
    assert "`jq -c '.[]' FILE.json > FILE.jsonl`" in " ".join(err.split())


def test_a_quote_that_is_not_closed(tmp_path: Path) -> None:
    """The report of a quote that is not closed says that the following lines were in the cell."""
    command = Command(tmp_path)
    (tmp_path / "new.csv").write_text('email,lang\na@example.com,"de\nb@example.com,de\n')
    status, _, err = command.run("import", "new.csv", "--dry-run")
    assert status == 1
    assert "line 2: the row: csv. " in err
    assert "After a quote that is not closed, the following lines are a part of the cell." in err


def test_printed_columns(tmp_path: Path) -> None:
    """The option --columns prints the columns, without a file and without a call."""
    command = Command(tmp_path)
    status, out, _ = command.run("import", "--columns")
    assert status == 0
    assert "billingPerson.phone" in out
    assert "also " in out
    [left_out] = [line for line in out.splitlines() if line.startswith("Left out: ")]
    assert {"id", "registered", "stats.salesValue", "tags"} <= {*left_out[10:].split(", ")}
    assert command.orders.ledger() == []


@pytest.mark.parametrize(
    "options",
    [
        ["new.csv", "--encoding", "canary"],
        ["new.csv", "--encoding", "base64"],
        ["new.csv", "--map", "canary"],
        ["new.csv", "--map", "canary=lang"],
        ["new.jsonl", "--map", "email=email"],
        ["new.jsonl", "--encoding", "windows-1252"],
    ],
)
def test_wrong_options(tmp_path: Path, options: list[str]) -> None:
    """A wrong encoding or mapping, and either beside JSON Lines, is refused without a call."""
    command = Command(tmp_path)
    write(command, "new.jsonl", *GOOD)
    (tmp_path / "new.csv").write_text("email\nnew-1@example.com\n")
    status, _, err = command.run("import", *options)
    assert status == 2
    assert "canary" not in err
    assert command.orders.ledger() == []


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("path", ["new.csv", "-"])
def test_utf_8_in_another_encoding(tmp_path: Path, path: str, mark: str) -> None:
    """A file in UTF-8 is refused with another encoding before any call, also from a pipe."""
    command = Command(tmp_path)
    rows = "".join(f"new-{n}@example.com,Ulm\n" for n in range(2000))
    text = f"{mark}email,city\n{rows}new-x@example.com,K\u00f6ln\n".encode()
    (tmp_path / "new.csv").write_bytes(text)
    options = ["--format", "csv", "--encoding", "windows-1252"]
    status, out, err = command.run("import", path, *options, stdin=text)
    assert (status, out) == (2, "")
    assert "the file is in UTF-8. Leave out --encoding" in err
    assert command.orders.ledger() == []
    options[-1] = "utf-8-sig"
    assert command.run("import", path, *options, "--dry-run", stdin=text) == (0, "", "")


# The first row of a file, its columns and its violation. The second row has the same e-mail.
REPEATED = [
    ("new-1@example.com,yes,DE", [], "uniqueItems"),
    ("new-1@example.com,maybe,DE", ["Accepts marketing"], "type"),
    ("new-1@example.com,yes,Germany", ["billing_country"], "pattern"),
    ("new-1@example.com,yes,\xff", ["billing_country"], "encoding"),
    ("new-1@example.com,yes,DE,x", ["D"], "maxItems"),
]


@pytest.mark.parametrize(("first", "columns", "keyword"), REPEATED)
@pytest.mark.parametrize("options", [[], ["--update"]])
def test_a_repeated_email(
    tmp_path: Path, first: str, columns: list[str], keyword: str, options: list[str]
) -> None:
    """The second row of an e-mail is refused with the line of the first, valid or not.

    Each refusal of a CSV file has the columns as the file names them.
    """
    command = Command(tmp_path)
    text = f"E-Mail,Accepts marketing,billing_country\n{first}\nNEW-1@example.com,no,MX\n"
    (tmp_path / "new.csv").write_bytes(text.encode("latin-1"))
    report = ["--report", "report.jsonl"]
    assert command.run("import", "new.csv", *options, *report)[0] == 1
    lines = command.lines("report.jsonl")
    assert lines[-1]["line"] == 3
    assert (lines[-1]["pointer"], lines[-1]["keyword"]) == ("/email", "uniqueItems")
    assert "Line 2 has the same e-mail." in lines[-1]["expected"]
    assert lines[-1]["columns"] == ["E-Mail"]
    refused = [(each["columns"], each["keyword"]) for each in lines[:-1]]
    assert refused == ([(columns, keyword)] if columns else [])
    assert len(new(command)) == (0 if columns else 1)
    _, _, err = command.run("import", "new.csv", "--dry-run")
    for each in columns:
        assert f"(column {each}): {keyword}. " in err


def test_the_violations_of_a_repeated_email(tmp_path: Path) -> None:
    """A repeated e-mail is reported beside the other violations of a row.

    If the text is no e-mail, only that is reported. Another program's rows often have the same
    text there.
    """
    command = Command(tmp_path)
    rows = [GOOD[0], {**GOOD[0], "lang": 5}, {"email": "none"}, {"email": "none"}]
    write(command, "new.jsonl", *rows)
    assert command.run("import", "new.jsonl", "--dry-run", "--report", "report.jsonl")[0] == 1
    found = [(line["line"], line["pointer"]) for line in command.lines("report.jsonl")]
    assert found == [(2, "/lang"), (2, "/email"), (3, "/email"), (4, "/email")]


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("shipping_first_name", "Bob"),
        ("shipping_address_1", "Low St 2"),
        ("shipping_city", "Bonn"),
        ("shipping_country", "fr"),
        ("shipping_phone", "2"),
        ("shippingAddresses.countryName", "BRD"),
    ],
)
def test_an_update_with_a_changed_address(tmp_path: Path, column: str, cell: str) -> None:
    """With --update, a changed address is added beside the old one, by the first run only."""
    command = Command(tmp_path)
    address = {
        "shipping_first_name": "Ada",
        "shipping_address_1": "High St 1",
        "shipping_city": "Ulm",
        "shipping_country": "de",
        "shipping_phone": "1",
        "shippingAddresses.countryName": "Germany",
    }
    counts = []
    for row in (address, {**address, column: cell}, {**address, column: cell}, address):
        text = f"email,{','.join(row)}\nnew-1@example.com,{','.join(row.values())}\n"
        (tmp_path / "new.csv").write_text(text)
        command.orders.clear_ledger()
        assert command.run("import", "new.csv", "--update") == (0, "", "")
        customer = command.customers()[id_of(command, "new-1@example.com")]
        writes = calls(command, "add_customer", "update_customer")
        counts.append((writes, len(customer["shippingAddresses"])))
    if column == "shippingAddresses.countryName":  # Ecwid derives the name from the code
        assert counts == [(1, 1), (0, 1), (0, 1), (0, 1)]
    else:
        assert counts == [(1, 1), (1, 2), (0, 2), (0, 2)]
    assert customer["shippingAddresses"][0]["countryCode"] == "DE"


def test_an_update_mends_a_country_code(tmp_path: Path) -> None:
    """With --update, a code that the store shows in small letters is written in capitals, once."""
    command = Command(tmp_path)
    home = {"street": "High St 1", "countryCode": "us"}
    there = {"email": "new-1@example.com", "billingPerson": home, "shippingAddresses": [home]}
    write(command, "there.jsonl", there)
    assert command.run("import", "there.jsonl") == (0, "", "")
    header = "email,billing_country,shipping_address_1,shipping_country"
    (tmp_path / "new.csv").write_text(f"{header}\nnew-1@example.com,us,High St 1,us\n")
    for _ in range(2):
        assert command.run("import", "new.csv", "--update") == (0, "", "")
    customer = command.customers()[id_of(command, "new-1@example.com")]
    assert customer["billingPerson"]["countryCode"] == "US"
    assert [each["countryCode"] for each in customer["shippingAddresses"]] == ["US"]
    assert calls(command, "update_customer") == 1


@pytest.mark.parametrize("is_private", [True, False])
def test_a_sandbox_that_ends_with_the_command(tmp_path: Path, is_private: bool) -> None:
    """An import into a store that ends with the process says so, and names the other sandboxes."""
    command = Command(tmp_path)
    if is_private:
        command.settings["ECWID_SANDBOX"] = "on"
    write(command, "new.jsonl", *GOOD)
    status, out, err = command.run("import", "new.jsonl")
    assert (status, out) == (0, "")
    assert ("ends with this command, so no customer was kept" in err) == is_private
    assert ("`flask ecwid sandbox`" in err) == is_private
    assert len(new(command)) == (0 if is_private else 6)


def test_csv_that_is_given_as_json_lines(tmp_path: Path) -> None:
    """A file of CSV without its ending is refused at its first line, with the option to use."""
    command = Command(tmp_path)
    text = "email,lang\n" + "canary@example.com,de\n" * 50
    (tmp_path / "new.jsonl").write_text(text)
    for path in ("new.jsonl", "-"):
        status, _, err = command.run("import", path, stdin=text.encode())
        assert status == 2
        assert "line 1: the file does not look like JSON Lines" in err
        assert "use --format csv" in err
        assert err.count("line") <= 3
        assert "canary" not in err
    assert command.orders.ledger() == []
