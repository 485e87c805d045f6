"""The wait for a PostgreSQL that takes every byte and does not reply."""

from __future__ import annotations

import psycopg
import pytest

from flask_ecwid.cli import bounded_postgres
from flask_ecwid.cli.bounded_postgres import BoundedConnection
from flask_ecwid.cli.database import open_engine

from ..helpers.postgres_server import PostgresServer
from ..helpers.relay import Relay

LIMITS = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")


@pytest.mark.parametrize("method", ["commit", "rollback", "execute"])
def test_a_server_that_does_not_reply(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """A wait for a reply ends as the loss of the connection, which is then closed."""
    monkeypatch.setattr(bounded_postgres, "REPLY_S", 2.0)
    with Relay(postgres.port, "silence") as relay:
        url = postgres.url("postgres", port=relay.port)
        with BoundedConnection.connect(url) as connection:
            connection.execute("SELECT 1")
            relay.forget()
            arguments = ["SELECT 1"] if method == "execute" else []
            with pytest.raises(psycopg.OperationalError, match="does not reply") as caught:
                getattr(connection, method)(*arguments)
            assert connection.closed
            assert caught.value.__context__ is None


def test_a_statement_may_take_its_time(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait is counted for each statement, so many statements may take longer."""
    monkeypatch.setattr(bounded_postgres, "REPLY_S", 2.0)
    with BoundedConnection.connect(postgres.url("postgres")) as connection:
        for _ in range(3):
            connection.execute("SELECT pg_sleep(0.8)")
        assert connection.execute("SELECT 1").fetchall() == [(1,)]


def test_the_server_gives_up_too(postgres_url: str) -> None:
    """A transaction limits its waits and statements, because the command may be gone."""
    with open_engine(postgres_url).begin() as connection:
        for limit in LIMITS:
            shown = connection.exec_driver_sql(f"SHOW {limit}").scalar_one()
            assert shown.endswith(("s", "min")), limit
