"""A total deadline below `requests`, whose own timeouts hold for a single receive only.

Under `timeout=1` a server that drips a byte every half second can hold a thread for ever. Here
every receive, of headers and body alike, and each address that is tried, gets what is left of the
whole, `until(moment)`. The attempt also remembers whether anything may have been sent.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from .. import clock
from ..storage import names


@dataclass
class Attempt:
    """One sending of a call: when it must end, and how far it has come."""

    moment: float  # of clock.now()
    sent: bool = False  # whether a byte of the call may have left: a connection was up before
    received: bool = False  # whether a byte of a reply has come
    rest: bool = False  # whether more came than the reply: then it is not to be trusted

    def left(self) -> float:
        """Seconds left; 0 or less when there are none."""
        return self.moment - clock.now()


_attempt: ContextVar[Attempt | None] = ContextVar("flask_ecwid_attempt", default=None)


@contextmanager
def until(moment: float) -> Iterator[Attempt]:
    """Let everything that is connected and received inside end at `moment`."""
    attempt = Attempt(moment)
    token = _attempt.set(attempt)
    try:
        yield attempt
    finally:
        _attempt.reset(token)


def is_set() -> bool:
    """Whether this is inside of `until`."""
    return _attempt.get() is not None


class DeadlineAdapter(HTTPAdapter):
    """`requests`' own adapter over connections that keep the deadline."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


class _Raw(io.RawIOBase):
    """What a socket receives, until the deadline; each receive also keeps the socket's timeout."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._held = sock.makefile("rb", buffering=0)  # keeps the socket open until it is closed
        self._timeout = sock.gettimeout()
        self.ended = False  # no more comes, or is to be read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.ended:
            return 0
        attempt = _attempt.get()
        if attempt:
            seconds = attempt.left()
            if seconds <= 0:
                raise TimeoutError("the deadline has passed")
            if self._timeout is None or seconds < self._timeout:  # a system call each time
                self._sock.settimeout(seconds)
        size = self._sock.recv_into(buffer)
        if not size:
            self.ended = True
        elif attempt:
            attempt.received = True
        return size

    def hang_up(self) -> None:
        """The pool finds the connection dead, and does not use it again."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._held.close()
        super().close()


class _Reader(io.BufferedReader):
    """A reply, read through a buffer; closed when the reply is complete, or given up."""

    raw: _Raw

    def close(self) -> None:
        if not self.closed:
            self.raw.ended = True  # so that this looks into the buffer alone
            if self.peek(1):
                if attempt := _attempt.get():
                    attempt.rest = True
                self.raw.hang_up()
        super().close()


class _Receiver:
    """What `http.client` asks of a socket to read a response: `makefile`, and nothing else."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def makefile(self, mode: str) -> _Reader:
        return _Reader(_Raw(self._sock))


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(_Receiver(sock), *args, **kwargs)  # type: ignore[arg-type]

    def begin(self) -> None:
        """`http.client` takes headers that end with the connection for whole ones, and the first of
        several lengths for the right one.
        """
        super().begin()
        if self.fp is not None and self.fp.raw.ended:  # type: ignore[attr-defined]
            raise http.client.HTTPException("the headers are cut short")
        lengths = set(self.headers.get_all("Content-Length", []))
        framings = len(lengths) + ("Transfer-Encoding" in self.headers)
        if framings > 1 or not all(re.fullmatch("[0-9]+", length) for length in lengths):
            raise http.client.HTTPException("the length is not clear")


class _HttpConnection(HTTPConnection):
    response_class = _Response

    def _new_conn(self) -> socket.socket:
        return _first_connected(self, super()._new_conn)

    def request(self, *args: Any, **kwargs: Any) -> None:
        _connect_and_note(self)
        super().request(*args, **kwargs)


class _HttpsConnection(HTTPSConnection):
    response_class = _Response

    def _new_conn(self) -> socket.socket:
        return _first_connected(self, super()._new_conn)

    def request(self, *args: Any, **kwargs: Any) -> None:
        _connect_and_note(self)
        super().request(*args, **kwargs)


def _connect_and_note(connection: HTTPConnection) -> None:
    """Connect first, which sends nothing of the call; from then on it may have been sent."""
    if connection.sock is None:
        connection.connect()
    if attempt := _attempt.get():
        if attempt.left() <= 0:
            raise TimeoutError("the deadline has passed")
        attempt.sent = True


def _first_connected(
    connection: HTTPConnection, connect: Callable[[], socket.socket]
) -> socket.socket:
    """urllib3 gives each address of a name the whole connect timeout, and the resolver any time:
    give them what is left.
    """
    attempt, name, timeout = _attempt.get(), connection._dns_host, connection.timeout
    if attempt is None or not isinstance(timeout, (int, float)):
        return connect()
    unknown: socket.gaierror | None = None
    try:
        addresses = names.addresses(name, max(min(timeout, attempt.left()), 0.001))
    except socket.gaierror as exc:
        unknown = exc
    except TimeoutError:
        unknown = socket.gaierror(socket.EAI_AGAIN, "no answer")
    if unknown:
        raise NameResolutionError(name, connection, unknown)
    try:
        for address in addresses[:-1]:
            connection._dns_host = address
            connection.timeout = max(min(timeout, attempt.left()), 0.001)
            with suppress(NewConnectionError, ConnectTimeoutError):
                return connect()
        connection._dns_host = addresses[-1]
        connection.timeout = max(min(timeout, attempt.left()), 0.001)
        return connect()
    finally:
        connection._dns_host, connection.timeout = name, timeout


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


_POOLS = {"http": _HttpPool, "https": _HttpsPool}
