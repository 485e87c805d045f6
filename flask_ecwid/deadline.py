"""A total deadline below `requests`, whose own timeouts hold for a single receive only.

Under `timeout=1` a server that drips a byte every half second can hold a thread for ever. Here
every receive, of headers and body alike, gets what is left of the whole, `until(moment)`.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_moment: ContextVar[float] = ContextVar("flask_ecwid_deadline", default=float("inf"))


@contextmanager
def until(moment: float) -> Iterator[None]:
    """Let everything sent and received inside end at `moment`, of `time.monotonic()`."""
    token = _moment.set(moment)
    try:
        yield
    finally:
        _moment.reset(token)


def left() -> float:
    """Seconds left; 0 or less when there are none."""
    return _moment.get() - time.monotonic()


def is_set() -> bool:
    """Whether this is inside of `until`."""
    return _moment.get() != float("inf")


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
        self._received = sock.makefile("rb", buffering=0)
        self._timeout = sock.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        seconds = left()
        if seconds <= 0:
            raise TimeoutError("the deadline has passed")
        if is_set():
            self._sock.settimeout(seconds if self._timeout is None else min(seconds, self._timeout))
        return self._received.readinto(buffer)

    def close(self) -> None:
        self._received.close()
        super().close()


class _Receiver:
    """What `http.client` asks of a socket to read a response: `makefile`, and nothing else."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Raw(self._sock))


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(_Receiver(sock), *args, **kwargs)  # type: ignore[arg-type]


class _HttpConnection(HTTPConnection):
    response_class = _Response


class _HttpsConnection(HTTPSConnection):
    response_class = _Response


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


_POOLS = {"http": _HttpPool, "https": _HttpsPool}
