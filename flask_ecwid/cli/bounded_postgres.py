"""A connection to PostgreSQL that waits a bounded time, and the only module that imports psycopg.

libpq gives up on a host that is gone. A server or a proxy that hangs still confirms each byte, and
libpq would wait for its reply without an end.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo

from .. import clock

# The time for a reply. The server ends a statement a little earlier, and then says the reason.
REPLY_S = 150.0

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
    """Return whether libpq has these parameters, and whether their values can be sent.

    psycopg has parameters of its own, which would change the transactions.
    """
    try:
        make_conninfo(**options)
        float(options["connect_timeout"])
        for host in str(options.get("host", "")).split(","):
            if not host.startswith("/"):
                host.encode("idna")  # A host that fails here has no address.
    except (psycopg.ProgrammingError, TypeError, ValueError):
        return False
    return True


def connect(dialect: object, record: object, args: Any, options: Any) -> BoundedConnection:
    """Connect for SQLAlchemy, as its event `do_connect` wants it."""
    return BoundedConnection.connect(*args, **options)


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
