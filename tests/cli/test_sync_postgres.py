"""The command `flask ecwid sync` and a real PostgreSQL that fails, hangs or refuses."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_ecwid import EcwidClient, Settings
from flask_ecwid.cli import bounded_postgres

from ..helpers.command import Command
from ..helpers.postgres_relay import PostgresRelay, When
from ..helpers.postgres_server import PASSWORD, PostgresServer

CUSTOMERS = 250  # Three transactions, and the seed of the sandbox.
WHEN: list[When] = ["before", "during", "after"]


class Copy:
    """A database of the real server, and the copy of the store of a command."""

    def __init__(self, server: PostgresServer, command: Command) -> None:
        self.server = server
        self.command = command
        self.database = server.create_database()
        self.url = server.url(self.database)

    def client(self) -> EcwidClient:
        return EcwidClient(Settings(sandbox=str(self.command.store), calls_per_minute=100_000))

    def rows(self, columns: str = "id, document") -> list[tuple[Any, ...]]:
        return self.server.execute(
            self.database, f"SELECT {columns} FROM ecwid_customers ORDER BY store_id, id"
        )

    def is_in_sync(self) -> bool:
        """Return whether each customer of the store has a row, and no other customer has one."""
        documents = {id: document for id, document in self.rows() if document is not None}
        store = {id: {"id": id, **each} for id, each in self.command.customers().items()}
        return documents == store

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
    assert len(copy.rows()) >= min(100 * complete, CUSTOMERS)
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


def test_two_commands_at_once(copy: Copy) -> None:
    """Two commands on one store neither double nor lose a customer."""
    processes = [begin(copy), begin(copy)]
    messages = [process.communicate(timeout=60)[1] for process in processes]
    statuses = [process.returncode for process in processes]
    assert 0 in statuses
    assert all(
        status == 0 or "another" in text for status, text in zip(statuses, messages, strict=True)
    )
    assert copy.is_in_sync()


def no_database(copy: Copy) -> str:
    return copy.server.url("no_such_canary")


def wrong_password(copy: Copy) -> str:
    return copy.server.url(copy.database, password="wrong-canary")


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


@pytest.mark.parametrize("url_of", [no_database, wrong_password, no_rights, only_reading])
def test_a_server_that_refuses(copy: Copy, url_of: Any) -> None:
    """A refusal has a plain message without the password, the user and the URL."""
    url = url_of(copy)
    status, out, messages = copy.command.run("sync", url)
    assert status == 1
    assert messages.startswith("failed: the database") or "database" in messages
    shown = out + messages
    assert "canary" not in shown
    assert PASSWORD not in shown
    assert "127.0.0.1" not in shown
    assert "Traceback" not in shown


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
