"""The database of a copy: its URL, its engine, and errors without values."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import orjson
import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from .. import private_files

_WAIT_S = 30  # How long a transaction waits for the lock of another program.
_STATEMENT_S = 120  # How long a server of PostgreSQL works on a statement, or waits for the next.
_MAGIC = b"SQLite format 3\0"
_PSYCOPG = "postgresql+psycopg"
_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    **dict.fromkeys(["postgres", "postgresql", _PSYCOPG, "postgresql+psycopg2"], _PSYCOPG),
}
# The parameters of libpq that end the wait for a server that is gone, unless the URL has others.
_PATIENCE = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
# The first statement of each transaction. In SQLite, the transaction takes the lock for writing at
# once. Without that, a transaction that reads before it writes could fail although it waits. A
# server of PostgreSQL gives up as the command does, and would otherwise hold the lock of a command
# that is gone.
_BEGIN = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": (
        f"SELECT set_config('lock_timeout', '{_WAIT_S}s', true),"
        f" set_config('statement_timeout', '{_STATEMENT_S}s', true),"
        f" set_config('idle_in_transaction_session_timeout', '{_STATEMENT_S}s', true)"
    ),
}
# The messages of SQLite that hold no name and no value.
_SQLITE_REASONS = {
    "attempt to write a readonly database",
    "database disk image is malformed",
    "database is locked",
    "database or disk is full",
    "disk I/O error",
    "file is not a database",
    "unable to open database file",
}

P = ParamSpec("P")
T = TypeVar("T")


class WrongDatabase(Exception):
    """The database cannot hold the copy. The text says why, without a part of the URL."""


class DatabaseFailed(Exception):
    """The database cannot be used now. The text says why, without any value."""


class ServerRefuses(DatabaseFailed):
    """The server is there, and refuses the user, the database or a parameter of the URL."""


def open_engine(url: str) -> sa.Engine:
    """Return an engine for the URL, without a connection. A new SQLite file is private.

    Each transaction has a connection of its own, so a server that restarts does no harm.

    Args:
        url: The URL of the database, as SQLAlchemy writes it. `postgres://` and `postgresql://`
            mean psycopg.

    Raises:
        WrongDatabase: The URL cannot be used. The text has no part of the URL but the path of a
            SQLite file.
    """
    parsed = _parse(url)
    if parsed.drivername == _PSYCOPG:
        missing = {name: each for name, each in _PATIENCE.items() if name not in parsed.query}
        parsed = parsed.update_query_dict(missing)
        # Documents are sent in UTF-8. PGCLIENTENCODING or the URL may name another encoding.
        # A pool between here and the server may give each transaction another session.
        options: dict[str, Any] = {"prepare_threshold": None, "client_encoding": "utf8"}
    else:
        _claim_file(parsed)
        options = {"timeout": _WAIT_S, "isolation_level": None}
    fault = "DATABASE_URL has a parameter that cannot be used"
    engine = None
    try:
        engine = sa.create_engine(
            parsed,
            connect_args=options,
            poolclass=NullPool,
            hide_parameters=True,
            json_serializer=lambda document: orjson.dumps(document).decode(),
        )
    except ImportError:
        fault = "psycopg is missing, so install flask-ecwid[sync]"
    except (ArgumentError, TypeError, ValueError):
        pass
    if engine is None:
        raise WrongDatabase(fault)
    if engine.dialect.name == "sqlite":
        path = Path(parsed.database or "")
        # Somebody may remove the file meanwhile, and SQLite would create one that all can read.
        sa.event.listen(engine, "do_connect", lambda *_: private_files.claim_database(path))
    else:
        from . import bounded_postgres  # psycopg is there

        named = parsed.translate_connect_args(username="user", database="dbname")
        if not bounded_postgres.are_usable({**named, **parsed.query}):
            raise WrongDatabase(f"{fault}, or a variable such as PGSSLMODE has a wrong value")
        sa.event.listen(engine, "do_connect", bounded_postgres.connect)
    begin = _BEGIN[engine.dialect.name]
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def without_values(method: Callable[P, T]) -> Callable[P, T]:
    """Let a method raise DatabaseFailed in place of an error that may hold values.

    The new error has no context, because the messages of a driver quote rows and the user.
    """

    @functools.wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except SQLAlchemyError as exc:
            reason = _reason(exc)
        except OSError as exc:
            reason = exc.strerror or "the file cannot be used"
        raise DatabaseFailed(f"the database failed ({reason})")

    return wrapper


def _reason(error: SQLAlchemyError) -> str:
    cause = getattr(error, "orig", None)
    if str(cause) in _SQLITE_REASONS:
        return str(cause)
    sqlstate = getattr(cause, "sqlstate", None)
    is_lost = isinstance(error, DBAPIError) and error.connection_invalidated
    if sqlstate and not is_lost:
        return f"{type(cause).__name__}, SQLSTATE {sqlstate}"
    if isinstance(error, OperationalError) and hasattr(cause, "sqlstate"):
        return (
            "the server cannot be reached, or takes no connection now, so check the server, its"
            " host and its port"
        )
    return type(cause or error).__name__


def _parse(url: str) -> sa.URL:
    """Return the URL with the driver that is used.

    Raises:
        WrongDatabase: The text is no URL of a database that is supported.
    """
    parsed = None
    with suppress(ArgumentError, ValueError):  # The error would be a context with the password.
        parsed = sa.make_url(url)
    if parsed is None:
        raise WrongDatabase(
            "DATABASE_URL is no URL such as sqlite:///customers.sqlite or"
            " postgresql://user@host/database"
        )
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise WrongDatabase("DATABASE_URL names neither SQLite nor PostgreSQL")
    if driver == "sqlite":
        path = parsed.database
        is_file = path and path != ":memory:" and not path.startswith("file:")
        if not is_file or parsed.host or parsed.query:
            raise WrongDatabase(
                "DATABASE_URL names no file, so write sqlite:///NAME or sqlite:////PATH"
            )
    if "@" in (parsed.host or ""):  # The host would have a part of the password.
        raise WrongDatabase(
            "DATABASE_URL has two @ before the database, so write %40 for one in the password"
        )
    return parsed.set(drivername=driver)


def _claim_file(url: sa.URL) -> None:
    """Create the file of a SQLite database, or check that only this user can have made it.

    Raises:
        WrongDatabase: The file must not be used, cannot be created, or is no database.
    """
    path = Path(url.database or "")
    fault = ""
    try:
        begin = private_files.peek(path, len(_MAGIC))
        if begin and begin != _MAGIC:
            fault = f"{path}: the file is no SQLite database"
        else:
            private_files.claim_database(path)
    except private_files.UnsafeFile as exc:
        fault = str(exc)
    except OSError as exc:
        fault = f"{path}: {exc.strerror}"
    if fault:
        raise WrongDatabase(fault)
