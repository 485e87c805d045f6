"""The command `flask ecwid sync`, and the tables and transactions below it."""

from __future__ import annotations

import itertools
import json
import logging
import os
import pty
import random
import sqlite3
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from flask_ecwid import EcwidClient, Settings, chance, signals
from flask_ecwid.cli import mirror as mirror_module
from flask_ecwid.cli.database import open_engine
from flask_ecwid.cli.mirror import AnotherSync, Mirror, update
from flask_ecwid.client import (
    Change,
    CustomerDeleted,
    CustomerUnreadable,
    CustomerUpdated,
    change_cursor,
)
from flask_ecwid.errors import Violation
from flask_ecwid.sandbox import Fault

from ..helpers.command import Command, change_customer
from ..helpers.copied_rows import CopiedRows

CANARY = "canary"
GOES_ON = "The same command continues the copy.\n"


class Killed(BaseException):
    """Stands for the end of a process at a certain step."""


class Copied:
    """A store, its copy in a database, and the command that keeps the copy."""

    def __init__(self, folder: Path, url: str, customers: int = 0) -> None:
        self.command = Command(folder, customers)
        self.url = url
        self.copy = CopiedRows(url)
        settings = Settings(sandbox=str(self.command.store), calls_per_minute=100_000)
        self.client = EcwidClient(settings)

    def sync(self, *args: str) -> tuple[int, str]:
        """Run the command, and return its status and its messages."""
        status, out, err = self.command.run("sync", self.url, *args)
        assert out == ""
        assert CANARY not in err
        return status, err

    def mirror(self) -> Mirror:
        """Return the copy as the command opens it."""
        found = Mirror(open_engine(self.url), "1003")
        found.create_tables()
        return found

    def step(self) -> list[int]:
        """Update the copy without the command, and return the changes of each transaction."""
        return list(update(self.client, self.mirror()))

    def truth(self) -> dict[int, Any]:
        return {id: {"id": id, **each} for id, each in self.command.customers().items()}

    def check_is_equal(self) -> None:
        """Check that the copy shows the customers of the store, and nothing else."""
        truth, rows = self.truth(), self.copy.rows()
        assert self.copy.documents() == truth
        for id, document in truth.items():
            assert rows[id].email == (document["email"] or "")
            shown = rows[id].updated
            assert shown is not None
            assert shown.replace(tzinfo=timezone.utc) == _date(document["updated"])
        assert self.copy.deleted() == set(rows) - set(truth)

    def check_is_consistent(self) -> None:
        """Check that the changes after the cursor are exactly the rows that differ."""
        shown = self.copy.documents()
        cursor = self.copy.cursor()
        left = {
            change.customer_id: change.customer if isinstance(change, CustomerUpdated) else None
            for change in self.client.iter_changes(cursor)
        }
        truth = self.truth()
        outdated = {id for id in truth if shown.get(id) != truth[id]}
        outdated |= set(shown) - set(truth)
        assert set(left) - {id for id in left if left[id] is None and id not in shown} == outdated


def _date(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S %z")


@pytest.fixture
def make(tmp_path: Path, database_url: str) -> Callable[..., Copied]:
    """Return a function that makes a store with generated customers, and its empty copy."""
    return lambda customers=0: Copied(tmp_path, database_url, customers)


def test_the_first_and_the_second_run(make: Callable[..., Copied]) -> None:
    """The first run copies all customers, and a run without changes makes two calls."""
    store = make(250)
    assert store.sync() == (0, "")
    store.check_is_equal()
    assert len(store.copy.rows()) == 254
    before = len(store.command.orders.ledger())
    assert store.sync() == (0, "")
    assert len(store.command.orders.ledger()) == before + 2
    store.check_is_equal()


def test_every_kind_of_change(make: Callable[..., Copied]) -> None:
    """Creations, updates and deletions come, and a deleted customer keeps only id and date."""
    store = make()
    assert store.sync() == (0, "")
    changed, deleted, both, *_ = sorted(store.truth())
    client = store.client
    new = client.add_customer({"email": "canary-new@example.com"})["id"]
    client.update_customer(changed, {"lang": "de", "email": "canary-other@example.com"})
    client.update_customer(both, {"lang": "de"})
    short = client.add_customer({"email": "canary-short@example.com"})["id"]
    for id in (deleted, both, short):
        client.delete_customer(id)
    assert store.sync() == (0, "")
    store.check_is_equal()
    assert store.copy.deleted() == {deleted, both, short}
    assert store.copy.rows()[new].email == "canary-new@example.com"
    assert store.copy.rows()[changed].email == "canary-other@example.com"
    text = json.dumps(store.copy.ask("SELECT * FROM ecwid_customers"), default=str)
    assert "canary-short" not in text


@pytest.mark.parametrize("seed", range(3))
def test_random_changes(make: Callable[..., Copied], seed: int) -> None:
    """After each run, the copy equals the store, whatever has changed since the last run."""
    store = make(130)
    chance = random.Random(seed)
    for run in range(5):
        for number in range(chance.randrange(40)):
            ids = sorted(store.truth())
            kind = chance.choice(["add", "update", "update", "delete"])
            if kind == "add":
                store.client.add_customer({"email": f"canary-{run}-{number}@example.com"})
            elif kind == "update":
                store.client.update_customer(chance.choice(ids), {"taxId": f"{run}-{number}"})
            else:
                store.client.delete_customer(chance.choice(ids))
        assert store.sync() == (0, "")
        store.check_is_equal()


def test_changes_of_one_transaction(make: Callable[..., Copied], tmp_path: Path) -> None:
    """Changes that are stored together leave the same tables as changes that come one by one."""
    store = make()
    chance = random.Random(1)
    at = datetime(2026, 1, 1, tzinfo=timezone.utc)
    for number in range(30):
        changes: list[Change] = []
        for _ in range(chance.randrange(12)):
            id = chance.randrange(1, 5)
            updated: Any = {"id": id, "email": f"{chance.random()}@example.com"}
            unreadable = CustomerUnreadable(id, [Violation(f"/{chance.random()}", "type")])
            deleted = CustomerDeleted(id, at)
            kinds: list[Change] = [CustomerUpdated(updated), deleted, unreadable]
            changes.append(chance.choice(kinds))
        together, alone = (Mirror(open_engine(store.url), f"{number}{kind}") for kind in "ab")
        together.create_tables()
        together.start()
        together.store(changes, "cursor")
        alone.start()
        for change in changes:
            alone.store([change], "cursor")
        for kept in (store.copy.rows, store.copy.gaps):
            assert kept(f"{number}a") == kept(f"{number}b")
        assert together.gaps() == alone.gaps()


@contextmanager
def killed_at(step: int, steps: list[str]) -> Iterator[None]:
    """End the work at this statement or commit of any engine, and note each step before."""

    def count(name: str) -> None:
        steps.append(name)
        if len(steps) == step:
            raise Killed

    def at_statement(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        count(statement)

    def at_commit(connection: Any) -> None:
        count("COMMIT")

    sa.event.listen(sa.Engine, "before_cursor_execute", at_statement)
    sa.event.listen(sa.Engine, "commit", at_commit)
    try:
        yield
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", at_statement)
        sa.event.remove(sa.Engine, "commit", at_commit)


def test_an_end_at_each_step(make: Callable[..., Copied], monkeypatch: pytest.MonkeyPatch) -> None:
    """After an end at any statement, the cursor and the rows belong together."""
    monkeypatch.setattr(mirror_module, "BATCH", 10)
    store = make(30)
    store.step()
    ids = sorted(store.truth())
    for number in itertools.count(1):
        for id in ids[number % 7 : 28 : 2]:
            store.client.update_customer(id, {"taxId": str(number)})
        steps: list[str] = []
        try:
            with killed_at(number, steps):
                store.step()
        except Killed:
            assert len(steps) == number
            store.check_is_consistent()
        else:
            break
    assert number > 30
    assert steps.count("COMMIT") == 6
    store.check_is_equal()


def test_a_first_run_that_ends_at_each_step(
    tmp_path: Path, make: Callable[..., Copied], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that each come one step further create the tables and copy all customers."""
    monkeypatch.setattr(mirror_module, "BATCH", 10)
    store = make(20)
    ends = 0
    for number in itertools.count(1):
        try:
            with killed_at(number, []):
                store.step()
        except Killed:
            ends += 1
        else:
            break
    assert ends > 10
    store.check_is_equal()
    assert store.copy.gaps() == {}


def test_a_failure_of_ecwid(make: Callable[..., Copied]) -> None:
    """A failed run gives its reason, keeps the changes before, and is continued by the next."""
    store = make(300)
    store.command.orders.inject(
        *(Fault("status", operation="list_customers", status=500, nth=n) for n in range(3, 6))
    )
    status, err = store.sync()
    assert status == 1
    assert err.startswith("store 1003: failed: upstream-failed: ")
    assert err.endswith(GOES_ON)
    rows = len(store.copy.rows())
    assert 0 < rows < 300
    assert not store.copy.is_synced()
    store.check_is_consistent()
    before = len(store.command.orders.ledger())
    assert store.sync() == (0, "")
    store.check_is_equal()
    assert len(store.command.orders.ledger()) - before < 5


def test_no_transaction_during_a_call(make: Callable[..., Copied]) -> None:
    """While Ecwid is called, another program can write to the tables."""
    store = make(250)
    store.step()
    store.client.update_customer(min(store.truth()), {"lang": "de"})
    mirror = store.mirror()
    calls: list[object] = []

    def write(sender: object, operation: str, **_: object) -> None:
        store.copy.change("UPDATE ecwid_sync SET store_id = store_id")
        calls.append(operation)

    with signals.call_started.connected_to(write):
        assert sum(update(store.client, mirror)) == 1
    assert len(calls) >= 2


def test_another_command_has_gone_on(make: Callable[..., Copied]) -> None:
    """A command that another has overtaken writes nothing, and says why it ends."""
    store = make(30)
    first, second = store.mirror(), store.mirror()
    running = update(store.client, first)
    assert next(running) == 34
    assert sum(update(store.client, second)) == 0
    with pytest.raises(AnotherSync, match="another command"):
        list(running)
    assert store.copy.is_synced()
    # Each transaction of the slower command is refused.
    changes = [CustomerUpdated({"id": 5, "email": "canary-late@example.com"})]
    for late in (partial(first.store, changes, "late"), first.begin_again, first.finish):
        with pytest.raises(AnotherSync):
            late()
    store.check_is_equal()


def test_a_full_disk(make: Callable[..., Copied], database_url: str) -> None:
    """A full database ends the run with its reason, and the next run continues the copy."""
    if not database_url.startswith("sqlite"):
        pytest.skip("only SQLite can be filled up without filling a disk")
    store = make(400)

    def limit(connection: Any, _: object) -> None:
        connection.execute("PRAGMA max_page_count = 60")

    sa.event.listen(sa.Engine, "connect", limit)
    try:
        status, err = store.sync()
    finally:
        sa.event.remove(sa.Engine, "connect", limit)
    assert status == 1
    assert "store 1003: failed: the database failed (database or disk is full)\n" in err
    assert err.endswith(GOES_ON)
    assert len(store.copy.rows()) in (100, 200, 300)
    store.check_is_consistent()
    assert store.sync() == (0, "")
    store.check_is_equal()


def test_an_expired_cursor(make: Callable[..., Copied], later: Callable[[float], None]) -> None:
    """After six months, all customers are read again, and rows that do not come are deleted."""
    store = make(150)
    assert store.sync() == (0, "")
    changed, deleted, *_ = sorted(store.truth())
    store.client.update_customer(changed, {"lang": "de"})
    store.client.delete_customer(deleted)
    later(182 * 86_400)
    store.command.orders.inject(Fault("status", operation="list_customers", status=403, nth=2))
    assert store.sync()[0] == 1
    # The reading has not ended, so no row counts as deleted yet.
    gaps = store.copy.gaps()
    assert set(gaps.values()) == {"unseen"}
    assert deleted in gaps
    assert store.copy.deleted() == set()
    assert not store.copy.is_synced()
    later(3600)  # because Ecwid has refused the token
    assert store.sync() == (0, "")
    assert store.copy.gaps() == {}
    store.check_is_equal()
    assert store.copy.deleted() == {deleted}


def hide(store: Copied, *ids: int) -> None:
    """Let no list show these customers, although Ecwid has them."""
    store.command.orders.switch(search_lag_s=3600.0)  # Otherwise a list shows every customer.
    marks = ",".join("?" * len(ids))
    with sqlite3.connect(store.command.store) as db:
        db.execute(f"UPDATE customers SET found_from = 1e12 WHERE id IN ({marks})", ids)
    db.close()


def asked_for(store: Copied) -> set[int | None]:
    """Return the ids of the customers that were asked for alone."""
    calls = store.command.orders.ledger()
    return {call.customer_id for call in calls if call.operation == "get_customer"}


def shown_alone(store: Copied, *ids: int) -> dict[int, Any]:
    """Return all customers, these ones as Ecwid shows a customer alone."""
    truth = store.truth()
    for id in ids:
        del truth[id]["totalOrderCount"]
    return truth


def test_a_list_that_misses_customers(
    make: Callable[..., Copied], later: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A customer counts as deleted only after a 404, and not because a list misses the customer."""
    monkeypatch.setattr(mirror_module, "BATCH", 3)
    store = make(10)
    assert store.sync() == (0, "")
    changed, odd, deleted, *others = sorted(store.truth())
    later(182 * 86_400)
    store.client.update_customer(changed, {"lang": "de"})
    change_customer(store.command.store, odd, lang=[CANARY])
    store.client.delete_customer(deleted)
    row = store.copy.rows()[odd]
    hide(store, changed, odd, *others)
    status, err = store.sync()
    assert asked_for(store) == {changed, odd, deleted, *others}
    assert (status, f"customer {odd} is unreadable: /lang:type" in err) == (1, True)
    assert store.copy.deleted() == {deleted}
    assert store.copy.gaps() == {odd: "unreadable"}
    assert store.copy.rows()[odd] == row
    assert store.copy.documents() == {
        **shown_alone(store, changed, *others),
        odd: row.document,
    }


class Asked:
    """A copy in which two rows are unseen, and what one of the questions gets."""

    def __init__(self, store: Copied, fault: Fault) -> None:
        self.store = store
        assert store.sync() == (0, "")
        self.lives, self.deleted, *_ = sorted(store.truth())
        store.client.delete_customer(self.deleted)
        hide(store, self.lives)
        store.copy.change("DELETE FROM ecwid_sync")
        # The deletion is older than Ecwid's list.
        with sqlite3.connect(store.command.store) as db:
            db.execute("DELETE FROM deleted")
        db.close()
        store.command.orders.inject(fault)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault("status", operation="get_customer", times=3), "upstream-failed"),
        (
            Fault("html", operation="get_customer", status=404, times=1),
            "upstream-bad-reply: A proxy",
        ),
        (Fault("html", operation="get_customer", status=200, times=3), "upstream-bad-reply"),
        (Fault("status", operation="get_customer", status=403, times=1), ""),
    ],
    ids=["no reply", "a 404 of a proxy", "a page of a proxy", "a firewall"],
)
def test_a_question_that_fails(
    make: Callable[..., Copied], monkeypatch: pytest.MonkeyPatch, fault: Fault, told: str
) -> None:
    """A question that fails leaves the row, and the next run asks again. The others are settled."""
    monkeypatch.setattr(chance, "uniform", lambda low, _: low)  # The lowest id comes first.
    asked = Asked(make(), fault)
    store = asked.store
    status, err = store.sync()
    assert status == 1
    assert f"store 1003: failed: {told}" in err
    assert err.endswith(GOES_ON)
    assert store.copy.gaps() == {asked.lives: "unseen"}
    assert store.copy.deleted() == {asked.deleted}
    assert store.copy.documents() == store.truth()
    assert not store.copy.is_synced()
    assert store.sync() == (0, "")
    assert store.copy.is_synced()
    assert store.copy.gaps() == {}
    assert store.copy.deleted() == {asked.deleted}
    assert store.copy.documents() == shown_alone(store, asked.lives)


def test_questions_that_all_fail(make: Callable[..., Copied]) -> None:
    """After three failed questions in a row, the run ends, and no row has changed.

    The next run asks for others, because the three may fail for ever.
    """
    store = make(10)
    assert store.sync() == (0, "")
    hide(store, *store.truth())
    store.copy.change("DELETE FROM ecwid_sync")
    store.command.orders.inject(Fault("status", operation="get_customer", status=400))
    status, err = store.sync()
    assert (status, "failed: rejected-by-ecwid" in err) == (1, True)
    assert len(asked_for(store)) == 3
    assert set(store.copy.gaps()) == set(store.truth())
    store.check_is_equal()
    for _ in range(20):
        assert store.sync()[0] == 1
    assert len(asked_for(store)) > 3


def test_404s_of_a_gateway(make: Callable[..., Copied]) -> None:
    """A gateway that sends a 404 like Ecwid's for each customer deletes no row."""
    store = make(10)
    assert store.sync() == (0, "")
    hidden = sorted(store.truth())[:4]
    hide(store, *hidden)
    store.copy.change("DELETE FROM ecwid_sync")
    store.command.orders.inject(Fault("status", operation="get_customer", status=404))
    status, err = store.sync()
    assert (status, "404 for customers that its list shows" in err) == (1, True)
    assert store.copy.gaps() == dict.fromkeys(hidden, "unseen")
    store.check_is_equal()
    store.command.orders.clear_faults()
    assert store.sync() == (0, "")
    assert store.copy.deleted() == set()
    assert store.copy.documents() == shown_alone(store, *hidden)


def test_a_burst(make: Callable[..., Copied], monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading that ends early deletes no row, and is not complete."""
    store = make(0)
    store.step()
    store.copy.change("DELETE FROM ecwid_sync")  # All customers come again, and count as unseen.
    for number in range(30):
        store.client.add_customer({"email": f"canary-{number}@example.com"})
    last = max(store.truth())
    store.step()
    store.copy.change("DELETE FROM ecwid_sync")
    with monkeypatch.context() as patch:
        patch.setattr(change_cursor, "MOST_IDS", 20)
        mirror = store.mirror()
        assert sum(update(store.client, mirror)) < 34
        assert not mirror.is_complete
        assert store.copy.gaps()[last] == "unseen"
        assert store.copy.deleted() == set()
        assert not store.copy.is_synced()
    store.step()
    assert store.copy.is_synced()
    store.check_is_equal()


def test_a_removed_cursor(make: Callable[..., Copied]) -> None:
    """Without its cursor, a copy is read as a whole, and rows that do not come are deleted."""
    store = make(20)
    assert store.sync() == (0, "")
    gone = min(store.truth())
    store.copy.change("UPDATE ecwid_customers SET email = 'wrong', document = NULL")
    store.client.delete_customer(gone)
    store.copy.change("DELETE FROM ecwid_sync")
    assert store.sync() == (0, "")
    store.check_is_equal()
    assert store.copy.deleted() == {gone}


@pytest.mark.parametrize("table", ["ecwid_customers", "ecwid_sync", "ecwid_sync_gaps"])
def test_a_removed_table(make: Callable[..., Copied], table: str) -> None:
    """A table that somebody drops has its rows again after the next run."""
    store = make(150)
    damaged = min(store.truth())
    change_customer(store.command.store, damaged, lang={CANARY: 1})
    assert store.sync()[0] == 1
    store.copy.change(f"DROP TABLE {table}")
    assert store.sync()[0] == 1
    assert set(store.copy.documents()) == set(store.truth()) - {damaged}
    assert store.copy.gaps() == {damaged: "unreadable"}


@pytest.mark.parametrize("value", ["'canary'", "7"])
def test_a_damaged_date(tmp_path: Path, value: str) -> None:
    """A date that somebody has damaged is a sentence, and the status is 2."""
    store = Copied(tmp_path, f"sqlite:///{tmp_path}/copy.sqlite")
    assert store.sync() == (0, "")
    store.copy.change(f"UPDATE ecwid_sync SET synced_at = {value}")
    status, err = store.sync()
    assert status == 2
    assert "Delete the row of the store in ecwid_sync" in " ".join(err.split())


def test_unreadable_customers(make: Callable[..., Copied]) -> None:
    """An unreadable customer keeps the earlier row, and each run names the customer."""
    store = make()
    first, second, third, *_ = sorted(store.truth())
    change_customer(store.command.store, first, lang={CANARY: 1})
    lines = (
        f"store 1003: customer {first} is unreadable: /lang:type\n"
        "store 1003: 1 customer keeps an earlier row or none, because the data violates the"
        " contract.\n"
    )
    assert store.sync() == (1, lines)
    assert first not in store.copy.rows()
    for id in (second, third):
        store.client.update_customer(id, {"taxId": "new"})
    before = store.copy.rows()[second]
    for id in (second, third):
        change_customer(store.command.store, id, lang=[CANARY])
    status, err = store.sync()
    assert (status, len(err.splitlines())) == (1, 4)
    assert store.copy.gaps() == dict.fromkeys([first, second, third], "unreadable")
    assert store.copy.rows()[second] == before
    calls = len(store.command.orders.ledger())
    assert store.sync() == (1, err)
    assert len(store.command.orders.ledger()) == calls + 2
    # A readable version or a deletion ends the gap.
    change_customer(store.command.store, first, lang="de")
    store.client.update_customer(first, {"lang": "en"})
    store.client.delete_customer(third)
    status, err = store.sync()
    assert status == 1
    assert f"customer {second} is unreadable" in err
    assert store.copy.gaps() == {second: "unreadable"}
    change_customer(store.command.store, second, lang="de")
    store.client.update_customer(second, {"lang": "en"})
    assert store.sync() == (0, "")
    store.check_is_equal()


def test_an_unreadable_customer_counts_as_seen(
    make: Callable[..., Copied], later: Callable[[float], None]
) -> None:
    """A customer who is unreadable when all customers are read again keeps the row."""
    store = make()
    odd, gone, *_ = sorted(store.truth())
    assert store.sync() == (0, "")
    change_customer(store.command.store, odd, lang=[CANARY])
    store.client.delete_customer(gone)
    later(182 * 86_400)
    assert store.sync()[0] == 1
    assert store.copy.deleted() == {gone}
    assert store.copy.gaps() == {odd: "unreadable"}
    assert store.copy.rows()[odd].document is not None


def test_odd_texts(make: Callable[..., Copied]) -> None:
    """A NUL becomes U+FFFD, and a long e-mail is cut in its column but not in the document."""
    store = make()
    long, nul, *_ = sorted(store.truth())
    email = f"{'a' * 5000}@example.com"
    change_customer(store.command.store, long, email=email)
    change_customer(store.command.store, nul, taxId="a\0b\\u0000", updated="never")
    status, err = store.sync()
    rows = store.copy.rows()
    if status:  # The contract may refuse such an e-mail.
        assert f"customer {long} is unreadable" in err
    else:
        row = rows[long]
        assert row.document is not None
        assert (row.document["email"], row.email) == (email, email[:320])
    document = rows[nul].document
    assert document is not None
    assert document["taxId"] == "a\ufffdb\\u0000"


@pytest.mark.parametrize("table", ["ecwid_customers", "ecwid_sync", "ecwid_sync_gaps"])
def test_another_table_of_the_name(make: Callable[..., Copied], table: str) -> None:
    """A table of the same name with other columns is left alone, and the message names it."""
    store = make()
    store.copy.change(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, email TEXT)")
    store.copy.change(f"INSERT INTO {table} VALUES (5, 'canary@example.com')")
    status, err = store.sync()
    assert status == 2
    assert f"another table with the name {table}" in " ".join(err.split())
    assert store.copy.ask(f"SELECT * FROM {table}") == [(5, "canary@example.com")]
    assert store.command.orders.ledger() == []
    assert sa.inspect(store.copy.engine).get_table_names() == [table]


def test_a_table_with_further_columns(make: Callable[..., Copied]) -> None:
    """Columns that a host adds to a table stay as they are."""
    store = make()
    assert store.sync() == (0, "")
    store.copy.change("ALTER TABLE ecwid_customers ADD COLUMN note TEXT")
    store.copy.change("UPDATE ecwid_customers SET note = 'mine'")
    store.client.update_customer(min(store.truth()), {"lang": "de"})
    assert store.sync() == (0, "")
    store.check_is_equal()
    assert store.copy.ask("SELECT DISTINCT note FROM ecwid_customers") == [("mine",)]


def test_another_store_of_the_number(make: Callable[..., Copied], tmp_path: Path) -> None:
    """The copy of another store with the same number is not continued."""
    store = make()
    assert store.sync() == (0, "")
    rows = store.copy.rows()
    (tmp_path / "other").mkdir()
    other = Copied(tmp_path / "other", store.url)
    status, err = other.sync()
    assert status == 2
    assert "belongs to another store" in " ".join(err.split())
    assert store.copy.rows() == rows


WRONG_URLS = [
    ("mysql://canary:canary@host/shop", "neither SQLite nor PostgreSQL"),
    ("sqlite+pysqlcipher:///x.db", "neither SQLite nor PostgreSQL"),
    ("canary:canary@host", "is no URL"),
    ("postgresql://canary:canary@host:canary/shop", "is no URL"),
    ("postgresql://user:canary@canary@host/shop", "has two @"),
    ("sqlite://", "names no file"),
    ("sqlite:///:memory:", "names no file"),
    ("sqlite://canary@host/x.db", "names no file"),
    ("sqlite:///x.db?timeout=canary", "names no file"),
    ("postgresql://canary@host/shop?plugin=canary", "a parameter that cannot be used"),
    ("postgresql://canary@host/shop?canary=1", "a parameter that cannot be used"),
    # psycopg knows this parameter and libpq does not. Each statement would be a transaction.
    ("postgresql://canary@host/shop?autocommit=true", "a parameter that cannot be used"),
    ("postgresql://canary@host/shop?connect_timeout=canary", "a parameter that cannot be used"),
    ("postgresql://canary@host/shop?sslmode=canary", "a parameter that cannot be used"),
    ("postgresql://canary@host/shop?sslnegotiation=direct", "a parameter that cannot be used"),
    ("postgresql://canary@host/shop?target_session_attrs=canary", "that cannot be used"),
    ("postgresql://canary@host/shop?service=canary", "a parameter that cannot be used"),
    ("postgresql://canary@host/shop?keepalives_idle=canary", "a parameter that cannot be used"),
    ("postgresql://canary@host/shop?hostaddr=canary", "a parameter that cannot be used"),
    ("postgresql://canary@host:99999/shop", "a parameter that cannot be used"),
    ("postgresql://canary@/shop?host=a,b&port=1,2,3", "a parameter that cannot be used"),
    ("postgresql://canary:canary\udcff@host/shop", "a parameter that cannot be used"),
    ("postgresql://canary:canary@host..canary/shop", "a parameter that cannot be used"),
    ("sqlite:///missing/x.db", "missing/x.db: No such file or directory"),
    ("sqlite:///text.txt", "text.txt: the file is no SQLite database"),
    ("sqlite:///link.db", "is a link"),
]


@pytest.mark.parametrize(("url", "told"), WRONG_URLS)
def test_a_wrong_url(tmp_path: Path, url: str, told: str) -> None:
    """A URL that cannot be used is refused before any call, and no part of it is shown."""
    command = Command(tmp_path)
    (tmp_path / "text.txt").write_text("the text of somebody")
    (tmp_path / "text.txt").chmod(0o644)
    (tmp_path / "link.db").symlink_to("target.db")
    before = sorted(os.listdir(tmp_path))
    status, out, err = command.run("sync", url)
    assert (status, out) == (2, "")
    assert told in " ".join(err.split())
    assert CANARY not in err
    assert command.orders.ledger() == []
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / "text.txt").stat().st_mode & 0o777 == 0o644


def test_a_new_file_is_private(tmp_path: Path) -> None:
    """Only this user can read the SQLite file, whatever the umask is."""
    command = Command(tmp_path)
    before = os.umask(0)
    try:
        assert command.run("sync", "sqlite:///copy.sqlite") == (0, "", "")
    finally:
        os.umask(before)
    assert (tmp_path / "copy.sqlite").stat().st_mode & 0o777 == 0o600


def test_the_url_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL may be in ECWID_DATABASE_URL, and no setting is missed because of it."""
    command = Command(tmp_path)
    status, _, err = command.run("sync")
    assert (status, "DATABASE_URL" in err) == (2, True)
    monkeypatch.setenv("ECWID_DATABASE_URL", f"sqlite:///{tmp_path}/copy.sqlite")
    assert command.run("sync") == (0, "", "")
    assert len(CopiedRows(f"sqlite:///{tmp_path}/copy.sqlite").rows()) == 4
    assert "DATABASE_URL" not in command.run("check")[1]


def test_without_sqlalchemy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the command says what to install, and the help works."""
    for name in ("flask_ecwid.cli.mirror", "flask_ecwid.cli.store_copy"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delattr("flask_ecwid.cli.mirror", raising=False)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    command = Command(tmp_path)
    status, _, err = command.run("sync", "sqlite:///copy.sqlite")
    assert status == 2
    assert "sqlalchemy is missing, so install flask-ecwid[sync]" in " ".join(err.split())
    assert command.run("sync", "--help")[0] == 0
    assert command.files() == set()


def test_without_psycopg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without psycopg, PostgreSQL is refused, and SQLite works."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    command = Command(tmp_path)
    status, _, err = command.run("sync", "postgresql://canary@host/shop")
    assert status == 2
    assert "psycopg is missing, so install flask-ecwid[sync]" in " ".join(err.split())
    assert command.run("sync", "sqlite:///copy.sqlite") == (0, "", "")


def test_no_value_in_a_message(
    make: Callable[..., Copied], caplog: pytest.LogCaptureFixture
) -> None:
    """A row that the database refuses is in no message and no log line."""
    caplog.set_level(logging.DEBUG)
    for name in ("sqlalchemy", "psycopg", "flask_ecwid"):
        caplog.set_level(logging.DEBUG, name)
    store = make()
    kind = "JSON" if store.url.startswith("sqlite") else "JSONB"
    store.copy.change(
        "CREATE TABLE ecwid_customers (store_id TEXT, id BIGINT, email TEXT CHECK (email = ''),"
        f" updated TIMESTAMP, document {kind}, deleted_at TIMESTAMP, PRIMARY KEY (store_id, id))"
    )
    id = store.client.add_customer({"email": "canary@example.com", "taxId": CANARY})["id"]
    change_customer(store.command.store, id, name=CANARY)
    caplog.clear()
    status, err = store.sync()
    assert status == 1
    assert "store 1003: failed: the database failed (" in err
    assert store.copy.cursor() is None
    assert caplog.records
    assert CANARY not in caplog.text


def test_a_database_that_cannot_be_reached(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that cannot be reached is a failure without any part of the URL."""
    caplog.set_level(logging.DEBUG)
    command = Command(tmp_path)
    url = "postgresql://canary:canary@127.0.0.1:1/canary?sslmode=prefer&keepalives_idle=9"
    status, out, err = command.run("sync", url)
    assert (status, out) == (1, "")
    assert "the server cannot be reached, or takes no connection now" in " ".join(err.split())
    assert CANARY not in err + caplog.text
    assert "127.0.0.1" not in err
    assert command.orders.ledger() == []


def test_several_hosts(tmp_path: Path) -> None:
    """A URL may name several hosts, each with its port. None of these can be reached."""
    url = "postgresql://canary@/shop?host=127.0.0.1,127.0.0.1&port=1,2"
    status, _, err = Command(tmp_path).run("sync", url)
    assert (status, "cannot be reached" in err) == (1, True)


def test_another_program_writes_to_the_file(tmp_path: Path) -> None:
    """A command waits for a program that writes to the SQLite file, and then makes its tables.

    SQLite lets no transaction wait that has read before it writes.
    """
    copy = Mirror(open_engine(f"sqlite:///{tmp_path}/copy.sqlite"), "1003")
    other = sqlite3.connect(tmp_path / "copy.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(copy.create_tables)
        wait([made], timeout=1.0)  # Without the wait of the transaction, it has failed by now.
        other.execute("COMMIT")
        made.result(timeout=60)
    other.close()
    assert copy.start() is None


def test_an_invented_store(tmp_path: Path) -> None:
    """A line says that the customers of ECWID_SANDBOX=on are invented, and no line otherwise."""
    command = Command(tmp_path, ECWID_SANDBOX="on")
    status, out, err = command.run("sync", "sqlite:///copy.sqlite")
    assert (status, out) == (0, "")
    [line] = err.splitlines()
    assert "ends with this command, so the copy gets invented customers" in line


def test_a_bar(tmp_path: Path) -> None:
    """On a terminal, the command shows a bar with total, rate and time left."""
    command = Command(tmp_path, 250)
    leader, follower = pty.openpty()
    process = command.begin("sync", "sqlite:///copy.sqlite", stderr=follower)
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 1024)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    assert process.wait(60) == 0
    process.communicate()
    text = shown.decode()
    assert "/254" in text
    assert "/s" in text
    assert "254 changes, and 254 customers in the copy" in text
