"""A connection to PostgreSQL that waits a bounded time, and the only module that imports psycopg.

libpq gives up on a host that is gone. A server or a proxy that hangs still confirms each byte, and
libpq would wait for its reply without an end.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from .. import clock
from .database import ServerRefuses

# The time for a reply. The server ends a statement a little earlier, and then says the reason.
REPLY_S = 150.0

_NUMBERS = (
    *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    "tcp_user_timeout",
)
_NO_SOCKET = "/dev/null"  # A server's socket would be in a folder, so no server is there.
_REFUSES_USER = (
    "the server refuses the user, the password or this host, so correct DATABASE_URL, ~/.pgpass or"
    " the server's pg_hba.conf"
)
# A refused connection has no SQLSTATE. Only these texts of the server and of PgBouncer tell.
_REFUSALS = {
    'database ".*" does not exist|no such database': (
        "the server has no database with the name in DATABASE_URL, so correct the name or create"
        " the database"
    ),
    'authentication failed|role ".*" does not exist|no such user|not permitted to log in'
    r"|permission denied for database|pg_hba\.conf (entry|rejects)": _REFUSES_USER,
    "does not support (SSL|GSSAPI)|certificate (verify failed|file|for)|channel binding required"
    "|authentication method requirement|unrecognized configuration parameter"
    "|invalid value for parameter|invalid command-line argument": (
        "the server does not accept a parameter of DATABASE_URL, such as sslmode or options, so"
        " correct the parameter"
    ),
}

_Result = TypeVar("_Result")
_Waiting = Generator[Any, Any, _Result]  # Yields what to wait for, and gets what is ready.


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed if the server does not reply within `REPLY_S`."""

    def wait(self, gen: _Waiting[_Result], *args: Any, **options: Any) -> _Result:
        """Wait for a reply. psycopg calls this method for each statement.

        Raises:
            psycopg.OperationalError: The reply has not come in time.
        """
        try:
            return super().wait(_bounded(gen), *args, **options)
        except TimeoutError:
            self.close()  # Otherwise the end of the transaction would wait for a reply as well.
        raise psycopg.OperationalError("the server does not reply")


def are_usable(options: dict[str, Any]) -> bool:
    """Return whether libpq has these parameters, and whether libpq can use their values.

    psycopg has parameters of its own, which would change the transactions.
    """
    hosts = str(options.get("host") or options.get("hostaddr") or "").split(",")
    nowhere = {
        **options,
        "host": ",".join([_NO_SOCKET] * len(hosts)),
        "hostaddr": "",
        "port": options.get("port", ""),
    }
    try:
        make_conninfo(**options)
        # libpq checks the values before it looks for the server.
        if pq.PGconn.ping(make_conninfo(**nowhere).encode()) == pq.Ping.NO_ATTEMPT:
            return False
        float(options["connect_timeout"])
        for name in _NUMBERS:
            int(options.get(name, 0))
        for port in str(options.get("port", "")).split(","):
            if port and int(port) not in range(1, 65_536):
                return False
        for address in str(options.get("hostaddr", "")).split(","):
            if address:
                ipaddress.ip_address(address)
        for host in str(options.get("host", "")).split(","):
            if not host.startswith("/"):
                host.encode("idna")  # A host that fails here has no address.
    except (psycopg.ProgrammingError, TypeError, ValueError):
        return False
    return True


def connect(dialect: object, record: object, args: Any, options: Any) -> BoundedConnection:
    """Connect for SQLAlchemy, as its event `do_connect` wants it.

    Raises:
        ServerRefuses: The server refuses the user, the database or a parameter.
        psycopg.Error: The server cannot be reached, or takes no connection now.
    """
    try:
        return BoundedConnection.connect(*args, **options)
    except psycopg.OperationalError as exc:
        refusal = _refusal(exc)
        if refusal is None:
            raise
    raise ServerRefuses(refusal)  # without a context, because the texts of libpq hold the user


def _refusal(error: psycopg.OperationalError) -> str | None:
    """Return the text for a refusal of the server, or None if another attempt may succeed."""
    if error.pgconn is not None and error.pgconn.needs_password:
        return _REFUSES_USER  # There is no password, and the server asks for one.
    text = str(error)
    return next((told for form, told in _REFUSALS.items() if re.search(form, text)), None)


def _bounded(waiting: _Waiting[_Result]) -> _Waiting[_Result]:
    """Do as the generator does, for `REPLY_S`. psycopg resumes it several times a second.

    Raises:
        TimeoutError: The generator has not returned in time.
    """
    ends_at = clock.now() + REPLY_S
    try:
        wanted = next(waiting)
        while clock.now() < ends_at:
            ready = yield wanted
            wanted = waiting.send(ready)
    except StopIteration as exc:
        result: _Result = exc.value
        return result
    raise TimeoutError
