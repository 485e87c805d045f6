"""The command `flask ecwid export`."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import pty
import sqlite3
from pathlib import Path

import pytest

from flask_ecwid.sandbox import Fault

from ..helpers.command import Command, change_customer, checkpoint, ids, slow, wait_for_progress


@pytest.mark.parametrize("name", ["all.jsonl", "all.CSV"])
def test_export(tmp_path: Path, name: str) -> None:
    """An export has every customer once, prints nothing, and is readable only by its user."""
    command = Command(tmp_path, 250)
    assert command.run("export", name) == (0, "", "")
    exported = ids(command, name) if name == "all.jsonl" else []
    if name == "all.CSV":
        with (tmp_path / name).open(encoding="utf-8-sig", newline="") as file:
            exported = [int(row["id"]) for row in csv.DictReader(file)]
    assert len(exported) == 254
    assert set(exported) == set(command.customers())
    assert command.files() == {name}
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_json_lines_are_ecwids_customers(tmp_path: Path) -> None:
    """A line is a customer as Ecwid returns the customer."""
    command = Command(tmp_path, 50)
    assert command.run("export", "all.jsonl")[0] == 0
    shown = {**command.customers()}
    for line in command.lines("all.jsonl"):
        assert line == {"id": line["id"], **shown[line["id"]]}


def killed(folder: Path) -> Command:
    """Leave a folder in which an export was killed after its first checkpoint."""
    command = Command(folder, 300)
    slow(command, 0.3)
    process = command.begin("export", "all.jsonl")
    wait_for_progress(command, "all.jsonl", process)
    process.kill()
    process.communicate()
    return command


def test_text_after_the_checkpoint(tmp_path: Path) -> None:
    """A resumed export removes the text after the last checkpoint."""
    command = killed(tmp_path)
    with (tmp_path / "all.jsonl.part").open("ab") as file:
        file.write(b'{"id": 1, "half')
    command.orders.clear_faults()
    assert command.run("export", "all.jsonl", "--resume")[0] == 0
    assert sorted(ids(command, "all.jsonl")) == sorted(command.customers())


def test_a_failure_leaves_the_file_of_before(tmp_path: Path) -> None:
    """A failed export gives its reason, can be resumed, and keeps the last complete file."""
    command = Command(tmp_path, 300)
    (tmp_path / "all.jsonl").write_text("of before")
    command.orders.inject(*(Fault("status", status=500, nth=n) for n in range(3, 6)))
    status, out, err = command.run("export", "all.jsonl")
    assert (status, out) == (1, "")
    assert err.startswith("failed: upstream-failed: ")
    assert "--resume continues" in err
    assert (tmp_path / "all.jsonl").read_text() == "of before"
    assert command.run("export", "all.jsonl", "--resume") == (0, "", "")
    assert sorted(ids(command, "all.jsonl")) == sorted(command.customers())


def test_a_failure_at_once(tmp_path: Path) -> None:
    """An export that fails before its first customer leaves no file behind."""
    command = Command(tmp_path)
    command.orders.inject(Fault("status", status=403, empty=True))
    status, _, err = command.run("export", "all.jsonl")
    assert status == 1
    assert "does not accept this service's token" in err
    assert command.files() == set()


def test_two_at_once(tmp_path: Path) -> None:
    """Only one process at a time can write a file."""
    command = Command(tmp_path)
    with (tmp_path / "all.jsonl.part").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        status, _, err = command.run("export", "all.jsonl")
    assert status == 2
    assert "another process" in err


def test_a_part_that_was_changed(tmp_path: Path) -> None:
    """An export does not resume a part that has changed since."""
    command = killed(tmp_path)
    (tmp_path / "all.jsonl.part").write_text("x")
    status, _, err = command.run("export", "all.jsonl", "--resume")
    assert status == 2
    assert "shorter" in err
    (tmp_path / "all.jsonl.resume").write_text("[]")
    status, _, err = command.run("export", "all.jsonl", "--resume")
    assert status == 2
    assert "is not a checkpoint" in err


def test_filters(tmp_path: Path) -> None:
    """The option --where accepts every filter of list_customers, and says what is expected."""
    command = Command(tmp_path, 300)
    where = ("--where", "lang=de", "--where", "minOrderCount=1")
    assert command.run("export", "some.jsonl", *where)[0] == 0
    wanted = [
        id
        for id, each in command.customers().items()
        if each.get("lang") == "de" and each["stats"]["numberOfOrders"] >= 1
    ]
    assert wanted
    assert sorted(ids(command, "some.jsonl")) == sorted(wanted)
    for wrong, told in (
        ("canary=1", "The known names are `keyword`, `name`, `email`"),
        ("limit=canary", "/query/limit: type. A whole number from 1 to 100."),
        ("limit", "NAME=VALUE"),
        ("sortBy=NAME_ASC", "leave out sortBy"),
        ("createdFrom=canary", "a date as `2026-01-31`"),
    ):
        status, _, err = command.run("export", "none.jsonl", "--where", wrong)
        assert told in " ".join(err.split())
        assert status == 2
        assert "--where" in err
        assert "canary" not in err
    assert not (tmp_path / "none.jsonl.part").exists()


def test_filters_of_a_file(tmp_path: Path) -> None:
    """The option --where-file reads filters, as --where does, and both may be used together."""
    command = Command(tmp_path, 300)
    assert command.run("export", "a.jsonl", "--where", "lang=de", "--where", "limit=7")[0] == 0
    wanted = ids(command, "a.jsonl")
    assert wanted
    for number, data in enumerate(
        (
            b"lang=de\nlimit=7\n",
            b"\xef\xbb\xbflang=de\r\n\r\nlimit=7",  # as Windows saves the file
        )
    ):
        (tmp_path / "filters.txt").write_bytes(data)
        for more, stdin in ((["filters.txt"], None), (["-"], data)):
            name = f"{number}{more[0]}.jsonl"
            assert command.run("export", name, "--where-file", *more, stdin=stdin)[0] == 0
            assert ids(command, name) == wanted
    (tmp_path / "filters.txt").write_text("lang=de\n")
    both = ("--where", "limit=7", "--where-file", "filters.txt")
    assert command.run("export", "both.jsonl", *both)[0] == 0
    assert ids(command, "both.jsonl") == wanted


def test_a_value_keeps_its_signs(tmp_path: Path) -> None:
    """A value of --where-file may have any sign except a line end, and is searched as it is."""
    command = Command(tmp_path)
    customer = {"email": "a=b+c@example.com"}
    id = min(command.customers())
    change_customer(command.store, id, **customer)
    with sqlite3.connect(command.store) as db:
        db.execute("UPDATE customers SET email = ? WHERE id = ?", [customer["email"], id])
    db.close()
    (tmp_path / "filters.txt").write_text("email=a=b+c@example.com\n", encoding="utf-8")
    assert command.run("export", "all.jsonl", "--where-file", "filters.txt")[0] == 0
    assert ids(command, "all.jsonl") == [id]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"canary", "--where-file take NAME=VALUE"),
        (b"canary=1", "The known names are `keyword`"),
        (b"limit=canary", "/query/limit: type."),
        (b"name=canary\xff", "--where-file must be UTF-8"),
        (b"name=" + b"canary" * 20_000, "--where-file has more than 64 KiB"),
        (None, "does not exist"),
    ],
)
def test_an_invalid_file_of_filters(tmp_path: Path, data: bytes | None, told: str) -> None:
    """An invalid file of filters is a usage error without a value, before any call."""
    command = Command(tmp_path)
    if data is not None:
        (tmp_path / "filters.txt").write_bytes(data)
    status, _, err = command.run("export", "all.jsonl", "--where-file", "filters.txt")
    assert status == 2
    assert told in " ".join(err.split())
    assert "canary" not in err
    assert command.orders.ledger() == []
    assert command.files() <= {"filters.txt"}


def test_standard_output(tmp_path: Path) -> None:
    """The path `-` is the standard output, in both formats, and cannot be resumed."""
    command = Command(tmp_path, 120)
    status, out, err = command.run("export", "-")
    assert (status, err) == (0, "")
    assert sorted(json.loads(line)["id"] for line in out.splitlines()) == sorted(
        command.customers()
    )
    status, out, _ = command.run("export", "-", "--format", "csv", "--where", "limit=3")
    assert out.startswith('"id",')
    assert command.run("export", "-", "--resume")[0] == 2


def test_a_device_stays(tmp_path: Path) -> None:
    """An export does not replace a device by a file."""
    (tmp_path / "null.jsonl").symlink_to("/dev/null")
    status, _, err = Command(tmp_path).run("export", "null.jsonl")
    assert status == 2
    assert "is not a regular file" in err
    assert not Path("/dev/null").is_file()


def test_ecwid_counts_more(tmp_path: Path) -> None:
    """An export with fewer customers than Ecwid counts is reported, and is no success."""
    command = Command(tmp_path, 50)
    command.orders.switch(search_lag_s=0.0)
    status, _, _ = command.run("export", "all.jsonl", "--where", "responseFields=items(email)")
    assert status == 0
    assert set(command.lines("all.jsonl")[0]) == {"id", "email", "registered", "updated"}


def odd(command: Command, *places: int) -> list[int]:
    """Make the customers at these places of the export odd, and return their ids."""
    ordered = [
        id for _, id in sorted((c["registered"], id) for id, c in command.customers().items())
    ]
    for place in places:
        change_customer(command.store, ordered[place], lang={"canary": 1})
    return [ordered[place] for place in places]


@pytest.mark.parametrize("name", ["all.jsonl", "all.csv", "-"])
def test_odd_customers_are_left_out(tmp_path: Path, name: str) -> None:
    """An export leaves out the customers that do not fit, names them, and exits with 1."""
    command = Command(tmp_path, 60)
    first, last = sorted(odd(command, 0, -1))
    status, out, err = command.run("export", name, "--where", "limit=20")
    assert status == 1
    lines = err.splitlines()
    assert lines[-1] == "2 customers are left out, because their data violates the contract."
    assert sorted(lines[:-1]) == sorted(
        f"customer {id} is left out: /lang:type" for id in (first, last)
    )
    assert "canary" not in out + err
    if name == "-":
        found = [json.loads(line)["id"] for line in out.splitlines()]
    else:
        found = ids(command, name)
    assert sorted(found) == sorted(set(command.customers()) - {first, last})
    assert command.files() == set() if name == "-" else {name}


def test_odd_customers_of_a_resumed_export(tmp_path: Path) -> None:
    """A resumed export does not ask for odd customers again, and counts those from before."""
    command = Command(tmp_path, 100)
    early, late = odd(command, 5, 90)
    command.orders.inject(*(Fault("status", status=500, nth=n) for n in range(5, 8)))
    status, _, err = command.run("export", "all.jsonl", "--where", "limit=20")
    assert (status, command.files()) == (1, {"all.jsonl.part", "all.jsonl.resume"})
    assert err.startswith("failed: ")
    assert "canary" not in checkpoint(command, "all.jsonl").decode()
    asked = sum(entry.customer_id == early for entry in command.orders.ledger())
    assert asked > 0
    status, _, err = command.run("export", "all.jsonl", "--where", "limit=20", "--resume")
    assert status == 1
    assert err.splitlines() == [
        f"customer {early} is left out: /lang:type",
        f"customer {late} is left out: /lang:type",
        "2 customers are left out, because their data violates the contract.",
    ]
    assert sum(entry.customer_id == early for entry in command.orders.ledger()) == asked
    assert sorted(ids(command, "all.jsonl")) == sorted(set(command.customers()) - {early, late})
    assert command.files() == {"all.jsonl"}


def test_odd_customers_of_an_export_that_was_killed_at_the_end(tmp_path: Path) -> None:
    """An export whose last run only renames the file still counts the odd customers."""
    command = killed(tmp_path)
    saved = json.loads((tmp_path / "all.jsonl.resume").read_text())
    saved.update(complete=True, left_out=["customer 7 is left out: /lang:type"])
    (tmp_path / "all.jsonl.resume").write_text(json.dumps(saved))
    status, _, err = command.run("export", "all.jsonl", "--resume")
    assert status == 1
    assert err.splitlines() == [
        "customer 7 is left out: /lang:type",
        "1 customer is left out, because the data violates the contract.",
    ]
    assert command.files() == {"all.jsonl"}


def on_a_terminal(command: Command, *args: str) -> tuple[int, str]:
    """Return the exit status and the output on a terminal."""
    master, slave = pty.openpty()
    process = command.begin(*args, stderr=slave, stdout=slave)
    os.close(slave)
    shown = b""
    while True:
        try:
            some = os.read(master, 65_536)
        except OSError:  # the process has closed its side
            break
        if not some:
            break
        shown += some
    os.close(master)
    return process.wait(60), shown.decode()


def test_on_a_terminal(tmp_path: Path) -> None:
    """A terminal shows the progress, the customers per second and the time that remains."""
    command = Command(tmp_path, 300)
    slow(command, 0.7)
    status, shown = on_a_terminal(command, "export", "all.jsonl")
    assert status == 0
    assert "304/304" in shown
    assert "/s" in shown
    assert "00:00:0" in shown
    assert "304 customers in all.jsonl" in shown


def test_an_odd_customer_on_a_terminal(tmp_path: Path) -> None:
    """The progress is shown although the first customer, of whom it asks, is odd."""
    command = Command(tmp_path, 30)
    odd(command, *range(len(command.customers())))
    status, shown = on_a_terminal(command, "export", "all.jsonl")
    assert status == 1
    assert "34 customers are left out" in shown


def test_another_store(tmp_path: Path) -> None:
    """An export of one store cannot be resumed with another store."""
    command = killed(tmp_path)
    command.settings["ECWID_SANDBOX"] = str(tmp_path / "other.sqlite3")
    status, _, err = command.run("export", "all.jsonl", "--resume")
    assert status == 2
    assert "another store" in err
