"""A total deadline for `requests`, whose own timeouts hold for a single receive only.

A server that sends a byte now and then holds a thread forever, because each receive is in time.
Here each address that is tried and each receive gets the time that the whole call has left.
"""

from __future__ import annotations

import http.client
import io
import socket
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from math import inf
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.connection import create_connection

from .. import clock
from ..storage import names


@dataclass
class Attempt:
    """The sending of a call, with its deadline and its progress."""

    deadline: float  # A moment of `clock.now()`.
    sent: bool = False  # A byte of the call may have left.
    received: bool = False  # A byte of a reply has come.
    has_rest: bool = False  # More bytes came than the reply has.

    def left_s(self) -> float:
        """Return the seconds until the deadline.

        Raises:
            TimeoutError: The deadline has passed.
        """
        left_s = self.deadline - clock.now()
        if left_s <= 0:
            raise TimeoutError("the deadline has passed")
        return left_s


# Set while a call is sent. All connecting and receiving ends at the deadline of this attempt.
current_attempt: ContextVar[Attempt] = ContextVar("flask_ecwid_attempt")


def is_set() -> bool:
    """Return whether the current thread is sending a call to Ecwid."""
    return current_attempt.get(None) is not None


class DeadlineAdapter(HTTPAdapter):
    """The adapter of `requests`, over connections that keep the deadline."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of connections that keep the deadline."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Make the pools of connections through a proxy that keep the deadline."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def build_response(self, req: Any, resp: Any) -> requests.Response:
        """Return the response without cookies, encoding and history, which no code here reads.

        `requests` offers this method to subclasses. Its own costs 30 us of a call.
        """
        response = requests.Response()
        response.status_code = resp.status
        response.headers = resp.headers
        response.raw = resp
        return response


class _Receiver(io.RawIOBase):
    """The receiving side of a socket, until the deadline of the current attempt."""

    def __init__(self, sock: socket.socket, file: io.BufferedIOBase) -> None:
        self._sock = sock
        self._file = file  # The file keeps the socket open after its connection was closed.
        self._timeout_s = sock.gettimeout() or inf
        self._attempt = current_attempt.get()
        self.has_ended = False  # The reader gets no more bytes.

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.has_ended:
            return 0
        left_s = self._attempt.left_s()
        if left_s < self._timeout_s:  # Only then, because each change is two system calls.
            self._sock.settimeout(left_s)
        size = self._sock.recv_into(buffer)
        if size:
            self._attempt.received = True
        else:
            self.has_ended = True
        return size

    def refuse_rest(self) -> None:
        """Note that bytes are left after a reply, and break the connection.

        The pool would give the connection to the next call. Without the shutdown, the next call
        could take these bytes for its own reply.
        """
        self._attempt.has_rest = True
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Reader(io.BufferedReader):
    """The bytes of a reply. `http.client` closes the reader at the end of the reply."""

    raw: _Receiver

    def close(self) -> None:
        """Close the reader, and refuse a reply that more bytes follow.

        The rows "extra bytes" and "two replies at once" of tests/helpers/faults.py need this check.
        """
        if not self.closed:
            self.raw.has_ended = True  # Otherwise `peek` would wait for more bytes.
            if self.peek(1):
                self.raw.refuse_rest()
        super().close()


class _Response(http.client.HTTPResponse):
    fp: _Reader

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = _Reader(_Receiver(sock, self.fp))

    def begin(self) -> None:
        """Read the headers, and refuse headers that are cut or whose length is unclear.

        `http.client` accepts such headers, so the end of the reply would be a guess. urllib3
        refuses a reply with several lengths. The rows "headers cut ..." and "a length ..." of
        tests/helpers/faults.py show such replies.
        """
        super().begin()
        if self.fp.raw.has_ended:
            raise http.client.HTTPException("the headers are cut short")
        length = self.headers.get("Content-Length")
        chunked = "Transfer-Encoding" in self.headers
        if length is not None and (chunked or not length.isdecimal()):
            raise http.client.HTTPException("the length is unclear")


class _HttpConnection(HTTPConnection):
    response_class = _Response

    def _new_conn(self) -> socket.socket:
        """Connect to the first address of the host that accepts.

        urllib3 would give the resolver unlimited time, and each address the whole timeout.
        """
        attempt, timeout_s = current_attempt.get(), float(self.timeout or inf)
        failure: OSError | None = None
        for address in names.addresses(self._dns_host, min(timeout_s, attempt.left_s())):
            address_timeout_s = min(timeout_s, attempt.left_s())
            try:
                return create_connection(
                    (address, self.port), address_timeout_s, socket_options=self.socket_options
                )
            except OSError as exc:
                failure = exc
        raise failure or OSError("the host has no address")

    def connect(self) -> None:
        super().connect()
        current_attempt.get().left_s()  # Without time for a reply, the call is not sent.

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Connect, and then send the call.

        `sent` is set after connecting, because connecting sends no byte of the call.
        """
        if self.sock is None:
            self.connect()
        current_attempt.get().sent = True
        super().request(*args, **kwargs)


class _HttpsConnection(_HttpConnection, HTTPSConnection):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


_POOLS = {"http": _HttpPool, "https": _HttpsPool}
