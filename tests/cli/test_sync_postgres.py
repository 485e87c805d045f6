"""The command `flask ecwid sync` and a real PostgreSQL that fails, hangs or refuses."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from flask_ecwid import EcwidClient, Settings
from flask_ecwid.cli import bounded_postgres
from flask_ecwid.cli.database import open_engine
from flask_ecwid.cli.mirror import AnotherSync, Mirror
from flask_ecwid.client import CustomerUpdated
from flask_ecwid.sandbox import TOKEN, create_sandbox, path_of, token_of

from ..helpers.command import Command, change_customer
from ..helpers.copied_rows import CopiedRows
from ..helpers.postgres_relay import PostgresRelay, When
from ..helpers.postgres_server import PASSWORD, PostgresServer, SmallDisk

CUSTOMERS = 250  # Three transactions, and the seed of the sandbox.
WHEN: list[When] = ["before", "during", "after"]


class Copy:
    """A database of the real server, and the copy of a command's store in the database."""

    def __init__(self, server: PostgresServer, command: Command, options: str = "") -> None:
        self.server = server
        self.command = command
        self.database = server.create_database(options)
        self.url = server.url(self.database)
        self.copied = CopiedRows(f"{self.url}?client_encoding=utf8")

    def client(self) -> EcwidClient:
        return EcwidClient(Settings(sandbox=str(self.command.store), calls_per_minute=100_000))

    def is_in_sync(self) -> bool:
        """Return whether each customer of the store has a row, and no other customer has one."""
        customers = self.command.customers().items()
        return self.copied.documents() == {id: {"id": id, **each} for id, each in customers}

    def wait_until_in_sync(self, follower: subprocess.Popen[str]) -> None:
        until = time.monotonic() + 60
        while not self.is_in_sync():
            assert follower.poll() is None, follower.communicate()
            assert time.monotonic() < until
            time.sleep(0.1)


@pytest.fixture
def copy(postgres: PostgresServer, tmp_path: Path) -> Copy:
    return Copy(postgres, Command(tmp_path, CUSTOMERS))


@pytest.fixture
def relay(postgres: PostgresServer) -> Iterator[PostgresRelay]:
    with PostgresRelay(postgres) as relay:
        yield relay


def begin(copy: Copy, *args: str, url: str = "") -> subprocess.Popen[str]:
    """Start the command in a process of its own."""
    copy.command.settings["ECWID_DATABASE_URL"] = url or copy.url
    return copy.command.begin("sync", *args)


def end(follower: subprocess.Popen[str]) -> str:
    """End the command by SIGTERM, and return its messages."""
    follower.terminate()
    messages = follower.communicate(timeout=60)[1]
    assert follower.returncode == 128 + 15, messages
    return messages


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("nth", [1, 3])
def test_a_server_that_is_killed(copy: Copy, relay: PostgresRelay, when: When, nth: int) -> None:
    """If the server dies around a commit, the same command later completes the copy."""
    relay.at_commit(when, nth, copy.server.kill)
    status, _, messages = copy.command.run("sync", relay.database_url(copy.database))
    assert status == 1
    assert "database" in messages
    assert "same command" in messages
    copy.server.start_again()
    complete = {"before": nth - 1, "after": nth}.get(when, 0)
    assert len(copy.copied.rows()) >= min(100 * complete, CUSTOMERS)
    assert copy.command.run("sync", copy.url)[0] == 0
    assert copy.is_in_sync()


@pytest.mark.parametrize("when", WHEN)
def test_a_follower_waits_for_a_server_that_is_killed(
    copy: Copy, relay: PostgresRelay, when: When
) -> None:
    """A follower says once that the database is away, waits for it, and goes on."""
    relay.at_commit(when, 2, copy.server.kill)
    follower = begin(copy, "--follow", "1", url=relay.database_url(copy.database))
    while copy.server.is_running():
        assert follower.poll() is None, follower.communicate()
        time.sleep(0.05)
    time.sleep(2)  # Several attempts fail.
    copy.server.start_again()
    copy.wait_until_in_sync(follower)
    copy.client().update_customer(172890169, {"privateAdminNotes": "after"})
    copy.wait_until_in_sync(follower)
    assert end(follower).count("the database failed") == 1


def test_a_follower_says_once_that_its_server_is_lost(copy: Copy) -> None:
    """The end of a connection and the refusal of the next one are the same failure."""
    assert copy.command.run("sync", copy.url)[0] == 0
    other = psycopg.connect(copy.url)
    other.execute("LOCK TABLE ecwid_sync IN EXCLUSIVE MODE")
    follower = begin(copy, "--follow", "1")
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    while not copy.server.execute(copy.database, waiting):
        assert follower.poll() is None, follower.communicate()
        time.sleep(0.05)
    copy.server.shut_down()
    other.close()
    time.sleep(2)  # Several attempts fail.
    copy.server.start_again()
    copy.client().update_customer(172890169, {"privateAdminNotes": "after"})
    copy.wait_until_in_sync(follower)
    assert end(follower).count("the database failed") == 1


@pytest.mark.parametrize("when", WHEN)
def test_a_server_that_falls_silent(
    copy: Copy, relay: PostgresRelay, when: When, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command whose server takes every byte and never replies ends with a message."""
    over = threading.Event()
    relay.at_commit(when, 2, lambda: over.wait(60))
    with monkeypatch.context() as patch:
        patch.setattr(bounded_postgres, "REPLY_S", 4.0)
        status, _, messages = copy.command.run("sync", relay.database_url(copy.database))
    over.set()
    assert status == 1
    assert "database" in messages
    assert copy.command.run("sync", copy.url)[0] == 0
    assert copy.is_in_sync()


def test_a_server_that_never_says_a_word(copy: Copy) -> None:
    """A command whose server accepts the connection and says nothing ends with a message."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        url = copy.server.url(copy.database, port=port)
        status, _, messages = copy.command.run("sync", f"{url}?connect_timeout=2")
    assert status == 1
    assert "database" in messages


def test_commands_at_the_same_moment(database_url: str) -> None:
    """Of commands that begin on an empty database together, exactly one stores its changes."""
    count = 6
    together = threading.Barrier(count, timeout=60)

    def run(number: int) -> str:
        copy = Mirror(open_engine(database_url), "1003")
        together.wait()
        copy.create_tables()
        copy.start()
        together.wait()
        change = CustomerUpdated({"id": number, "email": f"{number}@example.com"})
        try:
            copy.store([change], f"cursor {number}")
        except AnotherSync:
            return "another"
        return f"cursor {number}"

    with ThreadPoolExecutor(count) as pool:
        ends = list(pool.map(run, range(1, count + 1)))
    assert ends.count("another") == count - 1
    copied = CopiedRows(database_url)
    [id] = copied.documents()
    assert copied.cursor() == f"cursor {id}"
    assert copied.cursor() in ends


def test_two_stores_at_once(copy: Copy) -> None:
    """The copies of two stores grow in the same tables at the same time."""
    command = copy.command
    create_sandbox(command.store, stores=["1004"], customers=CUSTOMERS)
    stores = [{"id": "1003", "token": TOKEN}, {"id": "1004", "token": token_of("1004")}]
    path = command.folder / "stores.json"
    path.write_text(json.dumps({"stores": stores}), encoding="utf-8")
    path.chmod(0o600)
    command.settings["ECWID_STORES"] = str(path)
    processes = [begin(copy, "--store-id", each["id"]) for each in stores]
    for process in processes:
        messages = process.communicate(timeout=60)[1]
        assert process.returncode == 0, messages
    for id, file in {"1003": command.store, "1004": path_of(command.store, "1004")}.items():
        with sqlite3.connect(file) as db:
            customers = {row[0] for row in db.execute("SELECT id FROM customers")}
        db.close()
        assert set(copy.copied.documents(id)) == customers


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk(tmp_path: Path) -> None:
    """A disk that is full ends the run with its reason, and the next run continues the copy."""
    server = SmallDisk()
    with server:
        copy = Copy(server, Command(tmp_path, CUSTOMERS), "TABLESPACE small")
        server.execute(copy.database, "SELECT 1")  # The first connection needs the disk.
        server.fill()
        status, _, messages = copy.command.run("sync", copy.url)
        assert status == 1
        assert "DiskFull" in messages
        server.empty()
        assert copy.command.run("sync", copy.url) == (0, "", "")
        assert copy.is_in_sync()


@pytest.mark.parametrize(("encoding", "status"), [("LATIN1", 2), ("SQL_ASCII", 0)])
def test_the_encoding_of_a_database(
    postgres: PostgresServer, tmp_path: Path, encoding: str, status: int
) -> None:
    """A database whose encoding lacks letters is refused before a customer cannot be written."""
    options = f"ENCODING '{encoding}' TEMPLATE template0"
    copy = Copy(postgres, Command(tmp_path), options)
    change_customer(copy.command.store, 172890169, name="Łódź, Ελλάδα, 日本")
    done, _, messages = copy.command.run("sync", copy.url)
    assert done == status, messages
    if status == 0:
        assert copy.is_in_sync()
    else:
        assert f"has the encoding {encoding}" in " ".join(messages.split())


def test_a_user_who_may_not_create_tables(copy: Copy) -> None:
    """The rights to read and write rows are enough once the tables exist."""
    assert copy.command.run("sync", copy.url)[0] == 0
    url = user_with(copy, "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public")
    copy.client().update_customer(172890169, {"lang": "pl"})
    assert copy.command.run("sync", url) == (0, "", "")
    assert copy.is_in_sync()


def test_a_signal_while_the_server_is_silent(copy: Copy, relay: PostgresRelay) -> None:
    """SIGTERM ends a command that waits for a reply of the database."""
    over = threading.Event()
    relay.at_commit("before", 1, lambda: over.wait(60))
    waiting = begin(copy, url=relay.database_url(copy.database))
    while not relay.commits:
        assert waiting.poll() is None, waiting.communicate()
        time.sleep(0.05)
    end(waiting)
    over.set()


def no_database(copy: Copy) -> str:
    return copy.server.url("no_such_canary")


def wrong_password(copy: Copy) -> str:
    return copy.server.url(copy.database, password="wrong-canary")


def no_password(copy: Copy) -> str:
    return copy.server.url(copy.database, password="")


def no_right_to_connect(copy: Copy) -> str:
    copy.server.execute("postgres", f"REVOKE CONNECT ON DATABASE {copy.database} FROM public")
    return user_with(copy, "USAGE ON SCHEMA public")


def no_encryption(copy: Copy) -> str:
    return f"{copy.url}?sslmode=require"


def unknown_option(copy: Copy) -> str:
    return f"{copy.url}?options=-c%20canary%3D1"


def no_rights(copy: Copy) -> str:
    """Return the URL of a user who may not create a table."""
    return user_with(copy, "CONNECT ON DATABASE " + copy.database)


def only_reading(copy: Copy) -> str:
    """Return the URL of a user who may read the tables and not write them."""
    assert copy.command.run("sync", copy.url)[0] == 0
    return user_with(copy, "SELECT ON ALL TABLES IN SCHEMA public")


def user_with(copy: Copy, right: str) -> str:
    name = f"canary_{copy.database}"
    copy.server.execute(copy.database, f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    copy.server.execute(copy.database, f"GRANT {right} TO {name}")
    return copy.server.url(copy.database, user=name)


def check_is_plain(copy: Copy, messages: str) -> None:
    """Check that messages hold no password, no user, no host, no database and no traceback."""
    for each in ("canary", PASSWORD, "127.0.0.1", "postgres", copy.database, "Traceback"):
        assert each not in messages


@pytest.mark.parametrize("url_of", [no_rights, only_reading])
def test_rights_that_are_missing(copy: Copy, url_of: Any) -> None:
    """A statement that the server refuses is a failure with a plain message."""
    status, out, messages = copy.command.run("sync", url_of(copy))
    assert (status, out) == (1, "")
    assert "failed: the database failed (InsufficientPrivilege, SQLSTATE 42501)" in messages
    check_is_plain(copy, messages)


@pytest.mark.parametrize(
    ("url_of", "told"),
    [
        (no_database, "the server has no database with the name in DATABASE_URL"),
        (wrong_password, "the server refuses the user, the password or this host"),
        (no_password, "the server refuses the user, the password or this host"),
        (no_right_to_connect, "the server refuses the user, the password or this host"),
        (no_encryption, "the server does not accept a parameter of DATABASE_URL"),
        (unknown_option, "the server does not accept a parameter of DATABASE_URL"),
    ],
)
def test_a_server_that_refuses(copy: Copy, url_of: Any, told: str) -> None:
    """A refusal at the start is a wrong URL. A sentence says what to correct, and no call is made.

    The sentence has no part of the URL.
    """
    status, out, messages = copy.command.run("sync", url_of(copy))
    assert (status, out) == (2, "")
    assert told in " ".join(messages.split())
    check_is_plain(copy, messages)
    assert copy.command.orders.ledger() == []


@pytest.mark.parametrize("url_of", [no_database, wrong_password])
def test_a_follower_does_not_wait_for_a_server_that_refuses(copy: Copy, url_of: Any) -> None:
    """A refusal at the start ends a follower, because no wait helps."""
    refused = begin(copy, "--follow", "1", url=url_of(copy))
    try:
        _, messages = refused.communicate(timeout=60)
    finally:
        refused.kill()
    assert refused.returncode == 2
    check_is_plain(copy, messages)


def test_a_follower_waits_for_a_server_that_is_not_there_yet(copy: Copy) -> None:
    """A follower that starts before its server says so once, waits, and then makes the copy."""
    assert copy.command.run("sync", copy.url)[0] == 0
    copy.server.shut_down()
    copy.client().update_customer(172890169, {"privateAdminNotes": "before"})
    follower = begin(copy, "--follow", "1")
    assert follower.stderr is not None
    line = follower.stderr.readline()
    assert "failed: the database failed (the server cannot be reached, or takes no" in line
    check_is_plain(copy, line)
    copy.server.start_again()
    copy.wait_until_in_sync(follower)
    assert "failed" not in end(follower)


def test_a_follower_waits_for_a_server_that_refuses_later(copy: Copy) -> None:
    """A follower that was connected once waits while the server refuses the user."""
    assert copy.command.run("sync", copy.url)[0] == 0
    url = user_with(copy, "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public")
    follower = begin(copy, "--follow", "1", url=url)
    copy.client().update_customer(172890169, {"privateAdminNotes": "before"})
    copy.wait_until_in_sync(follower)
    copy.server.execute("postgres", f"ALTER ROLE canary_{copy.database} NOLOGIN")
    assert follower.stderr is not None
    line = follower.stderr.readline()
    copy.server.execute("postgres", f"ALTER ROLE canary_{copy.database} LOGIN")
    copy.client().update_customer(172890169, {"privateAdminNotes": "after"})
    copy.wait_until_in_sync(follower)
    assert "failed: the server refuses the user, the password or this host" in line
    end(follower)


def test_queries_of_documents(copy: Copy) -> None:
    """A document is jsonb, an index finds e-mails and dates, and an index of a user stays."""
    server, database = copy.server, copy.database
    assert copy.command.run("sync", copy.url)[0] == 0
    server.execute(database, f"ALTER DATABASE {database} SET enable_seqscan = off")
    server.execute(database, "CREATE INDEX mine ON ecwid_customers USING gin (document)")
    server.execute(database, "ANALYZE")
    for condition, index in {
        "store_id = '1003' AND email = 'a@example.com'": "ecwid_customers_email",
        "store_id = '1003' AND updated > now()": "ecwid_customers_updated",
        """document @> '{"lang": "de"}'""": "mine",
    }.items():
        plan = server.execute(database, f"EXPLAIN SELECT id FROM ecwid_customers WHERE {condition}")
        assert index in str(plan)
    found = server.execute(
        database, """SELECT id FROM ecwid_customers WHERE document @> '{"lang": "de"}'"""
    )
    german = [(id,) for id, each in copy.command.customers().items() if each.get("lang") == "de"]
    assert sorted(found) == sorted(german)
    assert copy.command.run("sync", copy.url)[0] == 0


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_an_encoding_of_the_environment(
    copy: Copy, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """Texts arrive in UTF-8, whatever encoding the URL and the variable of libpq name."""
    change_customer(copy.command.store, min(copy.command.customers()), name="\u0141\U0001f600")
    monkeypatch.setenv("PGCLIENTENCODING", encoding)
    url = f"{copy.url}?client_encoding={encoding}"
    assert [copy.command.run("sync", url) for _ in range(2)] == [(0, "", "")] * 2
    monkeypatch.undo()
    assert copy.is_in_sync()


def test_a_database_without_an_encoding(postgres: PostgresServer, tmp_path: Path) -> None:
    """A database that keeps bytes as they are holds the copy too."""
    options = "ENCODING 'SQL_ASCII' TEMPLATE template0"
    copy = Copy(postgres, Command(tmp_path), options)
    change_customer(copy.command.store, min(copy.command.customers()), name="\u0141\U0001f600")
    assert [copy.command.run("sync", copy.url) for _ in range(2)] == [(0, "", "")] * 2
    documents = CopiedRows(f"{copy.url}?client_encoding=utf8").documents()
    assert documents == {id: {"id": id, **c} for id, c in copy.command.customers().items()}


DEEP = json.loads('{"a":' * 150 + "1" + "}" * 150)
# Members that Ecwid may send, and of which a database may refuse some.
ODD: list[dict[str, Any]] = [
    {"name": "a\0b", "email": "\0@example.com", "updated": "\0"},
    {"a\0b": {"c\0": ["\0"]}},
    {"name": "\uffff \ufffe \u2028 \U0010ffff"},
    {"email": "\U0010ffff" * 5_000},
    {"email": "".join(chr(n) for n in range(33, 0xD800))},
    {"number": 1.7976931348623157e308, "small": 5e-324, "zero": -0.0},
    {"number": 2**64 - 1},
    {"number": 10**300},
    {"deep": DEEP},
    {"long": "x" * 1_000_000},
    {"updated": "0001-01-01 00:00:00 +0000"},
    {"updated": "9999-12-31 23:59:59 -1200"},
    {"updated": "999999999999"},
    {"email": None, "updated": None},
]


def test_odd_values_stop_nobody(tmp_path: Path, database_url: str) -> None:
    """A customer with odd values has a row or is named, and all others have their rows."""
    command = Command(tmp_path, 2 * len(ODD))
    ids = sorted(command.customers())
    odd = dict(zip(ids[1::2], ODD, strict=False))
    for id, members in odd.items():
        change_customer(command.store, id, **members)
    status, _, messages = command.run("sync", database_url)
    copied = CopiedRows(database_url)
    rows, gaps = copied.rows(), copied.gaps()
    assert status == (1 if gaps else 0), messages
    assert set(gaps) <= set(odd)
    for id, customer in command.customers().items():
        if id in gaps:
            assert f"customer {id} is unreadable" in messages
        else:
            document = rows[id].document
            assert document is not None
            assert id in odd or document == {"id": id, **customer}
