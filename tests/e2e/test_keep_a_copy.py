"""The commands and the queries of docs/keep-a-copy.md."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from flask_ecwid import EcwidClient, Settings

from ..conftest import ROOT
from ..helpers.command import Command, change_customer
from ..helpers.copied_rows import CopiedRows
from ..helpers.pages import blocks, running, sh

PAGE = ROOT / "docs" / "keep-a-copy.md"
TEXT = PAGE.read_text(encoding="utf-8")
[START] = blocks(PAGE, "Start")
[FOLLOW] = blocks(PAGE, "Follow the changes")
[OF_STORES] = blocks(PAGE, "Many stores")
URL = "sqlite:///customers.sqlite"

ANN = {
    "email": "ann@example.com",
    "acceptMarketing": True,
    "billingPerson": {"name": "Ann Example", "city": "Berlin"},
    "shippingAddresses": [{"countryCode": "AT"}, {"countryCode": "DE"}],
}
# Each resembles Ann, and none of the questions for Ann finds them.
OTHERS = [
    {**ANN, "email": "bob@example.com", "acceptMarketing": False, "shippingAddresses": []},
    {
        "email": "ann@example.com.invalid",
        "acceptMarketing": True,
        "billingPerson": {"name": "Eve", "city": "Bern"},
        "shippingAddresses": [{"countryCode": "AT", "city": "DE"}],
    },
]


def queries(heading: str) -> dict[str, str]:
    """Return the statements below a heading by their titles."""
    text = "".join(blocks(PAGE, heading, "sql"))
    found = re.findall(r"(?:^-- (.*)\n)?^([A-Z][^;]*);$", text, re.M)
    assert len(found) == text.count(";")
    return {title or f"{number}": statement for number, (title, statement) in enumerate(found)}


@pytest.fixture
def command(tmp_path: Path) -> Command:
    shutil.copy(ROOT / "wsgi.py", tmp_path)
    return Command(tmp_path)


def client_of(command: Command) -> EcwidClient:
    return EcwidClient(Settings(sandbox=str(command.store), calls_per_minute=100_000))


def wait_until(has_come: Callable[[], bool]) -> None:
    """Wait until something is true. The tables may be missing yet."""
    ends_at = time.monotonic() + 60
    while time.monotonic() < ends_at:
        with suppress(DBAPIError):
            if has_come():
                return
        time.sleep(0.1)
    raise AssertionError("nothing has come")


def ids(rows: list[Any]) -> set[int]:
    return {row.id for row in rows}


def test_start_and_follow(command: Command) -> None:
    """The commands of the page make the copy and follow the changes."""
    install, start = START.splitlines()
    assert install == "pip install '.[sync]'"
    done = sh(start, command.folder, **command.settings)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    copy = CopiedRows(f"sqlite:///{command.folder}/customers.sqlite")
    assert len(copy.documents()) == 4
    line = FOLLOW.strip()
    assert line.endswith(" --follow 60")
    with running(
        line.replace("60", "1"), command.folder, stderr=DEVNULL, **command.settings
    ) as process:
        client_of(command).delete_customer(min(command.customers()))
        wait_until(lambda: len(copy.documents()) == 3)
        assert process.poll() is None


def test_the_service(command: Command) -> None:
    """The command of the unit follows the changes, and ends with the status of the unit."""
    [unit] = blocks(PAGE, "Follow the changes", "ini")
    [line] = re.findall("^ExecStart=/opt/shop/.venv/bin/(.*)$", unit, re.M)
    line = line.replace("/var/lib/shop", str(command.folder))
    copy = CopiedRows(f"sqlite:///{command.folder}/customers.sqlite")
    with running(f"exec {line}", command.folder, stderr=DEVNULL, **command.settings) as process:
        wait_until(lambda: len(copy.documents()) == 4)
        process.terminate()
        assert f"SuccessExitStatus={process.wait(60)}\n" in unit
        process.communicate()


def test_a_wrong_unit(command: Command) -> None:
    """The unit does not start again after the status of wrong settings."""
    [unit] = blocks(PAGE, "Follow the changes", "ini")
    command.settings["ECWID_SANDBOX"] = "relative/path"
    done = sh(FOLLOW, command.folder, **command.settings)
    assert f"RestartPreventExitStatus={done.returncode}\n" in unit


def test_many_stores(command: Command) -> None:
    """The command of the page takes several stores, and its statements delete one of them."""
    folder = command.folder
    start = f"flask ecwid sandbox --port 0 --stores 2 --file {folder}/stores.sqlite3"
    with running(start, folder) as sandbox:
        assert sandbox.stdout is not None
        lines = [sandbox.stdout.readline().strip().partition("=") for _ in range(5)]
        settings = {key: value for key, _, value in lines if key.startswith("ECWID_")}
        done = sh(OF_STORES, folder, **settings)
        assert (done.returncode, done.stderr) == (0, "")
        copy = CopiedRows(f"sqlite:///{folder}/customers.sqlite")
        assert len(copy.documents("1003")) == len(copy.documents("1004")) == 4
        for store_id in ("1003", "1004"):
            copy.change(f"INSERT INTO ecwid_sync_gaps VALUES ('{store_id}', 7, 'unseen', '')")
        for statement in queries("Many stores").values():
            copy.change(statement)
        for table in ("ecwid_customers", "ecwid_sync_gaps", "ecwid_sync"):
            assert copy.ask(f"SELECT DISTINCT store_id FROM {table}") == [("1003",)]


def test_everything_is_read_again(command: Command) -> None:
    """After the statement of the page, the next run mends rows that were changed by hand."""
    [statement] = queries("After six months").values()
    assert command.run("sync", URL) == (0, "", "")
    copy = CopiedRows(f"sqlite:///{command.folder}/customers.sqlite")
    before = copy.documents()
    copy.change("UPDATE ecwid_customers SET document = NULL")
    copy.change(statement)
    assert command.run("sync", URL) == (0, "", "")
    assert copy.documents() == before


def test_the_queries(command: Command, database_url: str) -> None:
    """Each query of the page finds exactly what its title says."""
    client = client_of(command)
    gone = min(command.customers())
    for customer in OTHERS:
        client.add_customer(customer)
    ann = client.add_customer(ANN)["id"]
    assert command.run("sync", database_url) == (0, "", "")
    client.delete_customer(gone)
    assert command.run("sync", database_url) == (0, "", "")
    copy = CopiedRows(database_url)
    copy.change(  # The same customers in another store, with ids of their own.
        "INSERT INTO ecwid_customers SELECT '1004', id + 10000000000, email, updated, document,"
        " deleted_at FROM ecwid_customers"
    )
    is_sqlite = database_url.startswith("sqlite")
    asked = queries("SQLite" if is_sqlite else "PostgreSQL")
    statements = [title for title, text in asked.items() if text.startswith("CREATE")]
    found = {title: copy.ask(text) for title, text in asked.items() if title not in statements}
    assert ids(found.pop("The customer with an e-mail")) == {ann}
    changed = ids(found.pop("The customers that have changed since a day"))
    assert changed == {
        id for id, each in command.customers().items() if each["updated"] >= "2026-01-01"
    }
    assert ann in changed
    assert found.pop("The newsletter's readers in a city") == [("ann@example.com", "Ann Example")]
    assert ids(found.pop("The customers with a shipping address in a country")) == {ann}
    counts = dict(found.pop("The customers in each city"))
    assert (counts["Berlin"], counts["Bern"]) == (4, 2)
    assert sum(counts.values()) == 2 * len(command.customers())
    assert [*counts.values()] == sorted(counts.values(), reverse=True)
    assert ids(found.pop("The deleted customers")) == {gone}
    [(store_id, age_s)] = found.pop("The age of the copy in seconds")
    assert store_id == "1003"
    assert 0 <= age_s < 600
    assert found == {}
    for title in statements:
        copy.change(asked[title])
    assert len(statements) == 1


def test_the_e_mail_is_indexed(command: Command) -> None:
    """The query for an e-mail reads no other rows."""
    assert command.run("sync", URL) == (0, "", "")
    copy = CopiedRows(f"sqlite:///{command.folder}/customers.sqlite")
    for title, index in (
        ("The customer with an e-mail", "ecwid_customers_email"),
        ("The customers that have changed since a day", "ecwid_customers_updated"),
    ):
        plan = str(copy.ask(f"EXPLAIN QUERY PLAN {queries('SQLite')[title]}"))
        assert f"USING INDEX {index} " in plan


def test_an_unreadable_customer(command: Command) -> None:
    """The message of the page names the customer by the id and the places."""
    odd = min(command.customers())
    change_customer(command.store, odd, lang=[5])
    [message] = blocks(PAGE, "Unreadable customers", "")
    status, out, err = command.run("sync", URL)
    assert (status, out) == (1, "")
    assert err.startswith(message.replace("customer 7", f"customer {odd}"))


def test_the_columns_are_explained(command: Command) -> None:
    """The page explains every column of the tables."""
    assert command.run("sync", URL) == (0, "", "")
    copy = CopiedRows(f"sqlite:///{command.folder}/customers.sqlite")
    tables = TEXT.partition("## The tables\n")[2].partition("\n## ")[0]
    for table in ("ecwid_customers", "ecwid_sync", "ecwid_sync_gaps"):
        assert f"`{table}` has a row for each" in tables
        for _, name, *_ in copy.ask(f"PRAGMA table_info({table})"):
            assert f"`{name}`" in tables, (table, name)
