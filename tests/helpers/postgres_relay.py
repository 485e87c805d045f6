"""A relay to a real PostgreSQL, where a test acts before, during or after a commit of customers."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import Literal

from .postgres_server import PostgresServer
from .raw_server import RawServer

When = Literal["before", "during", "after"]

_WRITE = b"INTO ecwid_customers "
_COMMIT = b"COMMIT"


class PostgresRelay(RawServer):
    """A relay that carries everything until the commit of a test, and counts those commits.

    At commit number `nth` of rows of customers, the relay calls `act` and closes the connection.
    The server gets the commit after `act` if `when` is "after"

    - before: the server never gets the commit.
    - during: the server gets the commit, and the relay acts at the same moment.
    - after: the server has committed, and the command never gets the reply.
    """

    def __init__(self, postgres: PostgresServer) -> None:
        super().__init__(self._carry)
        self._postgres = postgres
        self._when: When = "before"
        self._nth = 0
        self._act: Callable[[], object] = lambda: None
        self.commits = 0

    def __enter__(self) -> PostgresRelay:
        super().__enter__()
        return self

    def database_url(self, database: str) -> str:
        """Return the URL of a database behind this relay."""
        return self._postgres.url(database, port=self.port)

    def at_commit(self, when: When, nth: int, act: Callable[[], object]) -> None:
        """Act around a commit.

        Args:
            when: Whether the server gets the commit, and the command its reply.
            nth: The number of the commit, from 1 on, since the relay was made.
            act: The function to call.
        """
        self._when, self._nth, self._act = when, nth, act

    def _carry(self, caller: socket.socket) -> None:
        writes = False
        with socket.create_connection(("127.0.0.1", self._postgres.port)) as target:
            while True:
                for end in select.select([caller, target], [], [], 20)[0]:
                    received = end.recv(1 << 20)
                    if not received:
                        return
                    if end is target:
                        caller.sendall(received)
                        continue
                    writes = writes or _WRITE in received
                    if not (writes and _COMMIT in received):
                        target.sendall(received)
                        continue
                    writes = False
                    self.commits += 1
                    if self.commits != self._nth:
                        target.sendall(received)
                        continue
                    if self._when != "before":
                        target.sendall(received)
                    if self._when == "after":
                        target.recv(65_536)
                    self._act()
                    return
