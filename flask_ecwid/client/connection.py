"""A connection, which carries one call at a time and ends each receive at the call's deadline.

The timeout of a socket holds for a single receive. So a server that sends a byte now and then would
hold a thread forever. The rows of tests/helpers/faults.py need the checks of a reply.
"""

from __future__ import annotations

import re
import select
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from .. import clock
from ..errors import ReplyTooLarge

_MOST_BYTES = 9 << 20  # More than the largest reply with its headers.
_MOST_HEAD_BYTES = 65_536
_HEAD = re.compile(
    r"HTTP/1\.([01]) ([0-9]{3})(?: [^\r\n]*)?"
    r"((?:\r\n[!#$%&'*+.^_`|~\w-]+:[^\r\n\0]*){0,100})",
    re.ASCII,
)
_CHUNK = re.compile(r"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")


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
        self.rest = b""  # The bytes that were received and not yet read.
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self.is_reusable = False  # The server keeps the connection open after its last reply.
        self.used_at = clock.Moment.seconds_ago()  # The moment of the last reply.

    def exchange(self, request: bytes, attempt: Attempt) -> tuple[int, dict[str, str], bytes]:
        """Send a request, and return the status, the headers and the body of its reply.

        The request is checked after the connection was made, because a connection takes seconds.

        Raises:
            NotSent: The check fails. The connection can carry another request.
            ValueError: The reply is not valid, or more bytes follow.
        """
        attempt.check()
        status, headers = self.begin(request, attempt)
        match headers.get("transfer-encoding"), headers.get("content-length"):
            case _ if status in (204, 304):
                body = b""
            case None, None:
                self.is_reusable = False  # The end of the connection is the end of the body.
                body = self._read(_MOST_BYTES)
            case None, str(length) if length.isdecimal():
                body = self._exactly(int(length))
            case str(coding), None if coding.lower() == "chunked":
                body = b"".join(self._chunks())
            case _:
                raise ValueError("the length of the body is unclear")
        if self.rest:
            raise ValueError("more bytes follow than one reply")
        self.used_at = clock.Moment.seconds_ago()
        return status, headers, body

    def begin(self, request: bytes, attempt: Attempt) -> tuple[int, dict[str, str]]:
        """Send a request, and return the status and the headers of its reply.

        The names of the headers are in lower case. A repeated header has all of its values.

        Raises:
            ValueError: The status line or a header is not valid.
        """
        self._attempt, self._left_bytes = attempt, _MOST_BYTES
        self._set_timeout()
        attempt.sent = True
        with suppress(BrokenPipeError):  # A server may refuse a body before all of it has come.
            self._sock.sendall(request)
        head = None
        while head is None or head[2] == "100":  # "Continue" precedes the reply.
            head = _HEAD.fullmatch(self._until(b"\r\n\r\n"))
            if head is None:
                raise ValueError("the status line or a header is not valid")
        if head[2] < "200":
            raise ValueError("another reply follows")
        headers: dict[str, str] = {}
        for line in head[3].split("\r\n")[1:]:
            name, _, value = line.partition(":")
            name, value = name.lower(), value.strip(" \t")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        closes = "close" in headers.get("connection", "").lower()
        self.is_reusable = head[1] == "1" and not closes
        return int(head[2]), headers

    def is_quiet(self) -> bool:
        """Return whether the server has neither hung up nor sent a byte that nobody asked for.

        Messages of TLS itself do not count. A server sends tickets after the handshake, so a
        connection that has not carried a call would never be quiet.
        """
        tls = getattr(self._sock, "sslobj", self._sock)
        if not self._poll.poll(0) and not getattr(tls, "pending", int)():
            return True
        self._sock.settimeout(0)
        try:
            self._sock.recv(1)
        except OSError as exc:
            return isinstance(exc, (BlockingIOError, ssl.SSLWantReadError))
        return False

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def _chunks(self) -> Iterator[bytes]:
        size = 1
        while size:
            line = _CHUNK.fullmatch(self._until(b"\r\n"))
            if line is None:
                raise ValueError("the size of a chunk is not valid")
            size = int(line[1], 16)
            yield self._exactly(size)
            while self._until(b"\r\n"):  # Only the last chunk has headers, which are not needed.
                if size:
                    raise ValueError("a chunk is longer than its size")

    def _exactly(self, size: int) -> bytes:
        received = self._read(size)
        if len(received) < size:
            raise ValueError("the body is cut short")
        return received

    def _read(self, size: int) -> bytes:
        """Return this number of bytes, or fewer at the end of the connection."""
        parts, left = [self.rest], size - len(self.rest)
        while left > 0 and (part := self._receive()):
            parts.append(part)
            left -= len(part)
        received = b"".join(parts)
        self.rest = received[size:]
        return received[:size]

    def _until(self, end: bytes) -> str:
        """Return the text up to an end, which is removed."""
        while (size := self.rest.find(end, 0, _MOST_HEAD_BYTES)) < 0:
            part = self._receive()
            if not part or len(self.rest) >= _MOST_HEAD_BYTES:
                raise ValueError("the headers or a chunk are cut short, or too long")
            self.rest += part
        text, self.rest = self.rest[:size], self.rest[size + len(end) :]
        return text.decode("latin-1")

    def _receive(self) -> bytes:
        """Return the next bytes, or no byte at the end of the connection."""
        self._set_timeout()
        part = self._sock.recv(65_536)
        self._attempt.received |= bool(part)
        self._left_bytes -= len(part)
        if self._left_bytes < 0:  # Without a limit, a reply without an end would fill the memory.
            raise ReplyTooLarge
        return part

    def _set_timeout(self) -> None:
        timeout_s = self._attempt.within(self._attempt.read_timeout)
        if timeout_s != self._sock.gettimeout():  # Only then, because a change is a system call.
            self._sock.settimeout(timeout_s)
