"""A connection, which carries one call at a time and ends each receive at the call's deadline.

The timeout of a socket holds for a single receive. So a server that sends a byte now and then would
hold a thread forever.
"""

from __future__ import annotations

import io
import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any

from .. import clock
from ..errors import BadReply, ReplyTooLarge

_MOST_BYTES = 9 << 20  # More than the largest reply with its headers.


@dataclass
class Attempt:
    """The sending of a call, with its limits and its progress. An adapter gets it as `timeout`."""

    deadline: float  # A moment of `clock.now()`.
    connect_timeout: float  # In seconds. The adapters of `requests` know the timeouts by this name.
    read_timeout: float
    # Raises a `NotSent` if the call must not be sent any more.
    check: Callable[[], None] = lambda: None
    most_idle_s: float = 0.0  # A connection that was idle for longer does not carry the call.
    idle_s: float | None = None  # The time that the connection was idle, or None for a new one.
    sent: bool = False  # A byte of the call may have left.
    received: bool = False  # A byte of a reply has come.

    def within(self, timeout_s: float) -> float:
        """Return the timeout, or the seconds until the deadline if these are fewer.

        Raises:
            TimeoutError: The deadline has passed.
        """
        left_s = self.deadline - clock.now()
        if left_s <= 0:
            raise TimeoutError("the deadline has passed")
        return min(timeout_s, left_s)


class Connection:
    """A connection over a plain socket or a TLS socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._receiver = _Receiver(sock)
        self._reader = _Reader(self._receiver)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self.used_at = clock.Moment.seconds_ago()  # The moment of the last reply.

    def exchange(self, request: bytes, method: str, attempt: Attempt) -> tuple[HTTPResponse, bytes]:
        """Send a request, and return its reply with the body, after which no byte may follow.

        The request is checked after the connection was made, because a connection takes seconds.

        Raises:
            NotSent: The check fails. The connection can carry another request.
        """
        attempt.check()
        reply = self.begin(request, method, attempt)
        is_framed = reply.chunked or reply.length is not None
        chunks: list[bytes] = []
        while chunk := reply.read(65_536):
            chunks.append(chunk)
        if is_framed and self._receiver.has_ended:
            raise HTTPException("the body is cut short")
        if self.has_rest():
            raise BadReply("Ecwid sent more bytes than one reply.")
        self.used_at = clock.Moment.seconds_ago()
        return reply, b"".join(chunks)

    def begin(self, request: bytes, method: str, attempt: Attempt) -> HTTPResponse:
        """Send a request and read the headers of its reply, which `http.client` checks too little.

        The rows "headers cut ..." and "a length ..." of tests/helpers/faults.py need the checks.
        """
        self._receiver.begin(attempt)
        attempt.sent = True
        with suppress(BrokenPipeError):  # A server may refuse a body before all of it has come.
            self._sock.sendall(request)
        reply = HTTPResponse(self, method=method)  # type: ignore[arg-type]
        reply.begin()
        codings = reply.headers.get_all("Transfer-Encoding", [])
        lengths = {*reply.headers.get_all("Content-Length", [])}
        if self._receiver.has_ended or reply.status < 200:
            raise HTTPException("the headers are cut short, or another reply follows")
        if len(codings) + len(lengths) > 1 or (codings and not reply.chunked):
            raise HTTPException("the length is unclear")
        if not all(length.isdecimal() for length in lengths):
            raise HTTPException("the length is no number")
        return reply

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return the reader of replies. `http.client` asks a socket for it."""
        return self._reader

    def has_rest(self) -> bool:
        """Return whether bytes have come that the next call would take for its own reply."""
        self._receiver.has_ended = True  # Without it, peek would wait for the server.
        return bool(self._reader.peek(1))

    def is_quiet(self) -> bool:
        """Return whether the server has neither hung up nor sent a byte that nobody asked for.

        Messages of TLS itself do not count. A server sends tickets after the handshake, so a
        connection that has not carried a call would never be quiet.
        """
        tls = getattr(self._sock, "sslobj", self._sock)
        if not self._poll.poll(0) and not getattr(tls, "pending", int)():
            return True
        with suppress(OSError):
            return self._receiver.has_nothing()
        return False

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()


class _Receiver(io.RawIOBase):
    """The receiving side of a socket, until the deadline of the current attempt."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._timeout_s: float | None = None
        self.has_ended = False  # The reader gets no more bytes.

    def begin(self, attempt: Attempt) -> None:
        """Begin an attempt, whose timeout holds for the sending as well."""
        self._attempt = attempt
        self._left_bytes = _MOST_BYTES
        self.has_ended = False
        self._set_timeout()

    def has_nothing(self) -> bool:
        """Return whether no byte can be received now. A byte that can be received is lost.

        Raises:
            OSError: The connection is broken.
        """
        self._timeout_s = 0.0
        self._sock.settimeout(0)
        try:
            self._sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        return False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.has_ended:
            return 0
        self._set_timeout()
        size = self._sock.recv_into(buffer)
        self._attempt.received |= size > 0
        self.has_ended = not size
        self._left_bytes -= size
        if self._left_bytes < 0:  # Without a limit, a chunk of size -1 would fill the memory.
            raise ReplyTooLarge
        return size

    def _set_timeout(self) -> None:
        timeout_s = self._attempt.within(self._attempt.read_timeout)
        if timeout_s != self._timeout_s:  # Only then, because a change is a system call.
            self._sock.settimeout(timeout_s)
            self._timeout_s = timeout_s


class _Reader(io.BufferedReader):
    def close(self) -> None:
        """Stay open for the next reply. `http.client` closes its reader at the end of a reply."""
