"""A connection, which carries one call at a time and ends each receive at the call's deadline.

The timeout of a socket holds for a single receive. So a server that sends a byte now and then would
hold a thread forever. Most checks of a reply have a row in tests/helpers/faults.py.
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

_MOST_BYTES = 9 << 20  # More than the largest reply with its headers and its usual chunks.
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
        self.rest = bytearray()  # The bytes that were received and not yet read.
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self.is_reusable = False  # The server keeps the connection open after its last reply.
        self.used_at = clock.Moment.seconds_ago()  # The moment of the last reply.

    def exchange(self, request: bytes, attempt: Attempt) -> tuple[int, dict[str, str], bytes]:
        """Send a request, and return the status, the headers and the body of its reply.

        The request is checked after the connection was made, because a connection takes seconds.

        Raises:
            NotSent: The check fails. The connection can carry another request.
            OSError: The connection broke, or the time is over.
            ValueError: The reply is not valid, or more bytes follow.
            ReplyTooLarge: The reply is larger than any of Ecwid's.
        """
        attempt.check()
        status, headers = self.begin(request, attempt)
        match headers.get("transfer-encoding"), headers.get("content-length"):
            case coding, length if status in (204, 304):
                body = b""  # A body that the server sends all the same would answer the next call.
                self.is_reusable &= coding is None and length is None
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
        """Send a request, read the head of its reply, and return the status and the headers.

        The names of the headers are in lower case. A repeated header has all of its values.

        Raises:
            OSError: The connection broke, or the time is over.
            ValueError: The status line or a header is not valid.
        """
        self._attempt, self._left_bytes = attempt, _MOST_BYTES
        self._set_timeout()
        attempt.sent = True
        # A server may refuse a body, and close, before all of it has come.
        with suppress(ConnectionError, ssl.SSLError):
            self._sock.sendall(request)
        head = None
        while head is None or (head[2][0] == "1" and head[2] != "101"):  # The reply follows.
            head = _HEAD.fullmatch(self._until(b"\r\n\r\n"))
            if head is None:
                raise ValueError("the status line or a header is not valid")
        if head[2] < "200":
            raise ValueError("the status is not that of a reply")
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
        # TLS within TLS is no socket, and may have received bytes already that no poll shows.
        if isinstance(self._sock, socket.socket) and not self._poll.poll(0):
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
            while self._until(b"\r\n"):  # Only trailers follow, after the last chunk.
                if size:
                    raise ValueError("a chunk is longer than its size")

    def _exactly(self, size: int) -> bytes:
        received = self._read(size)
        if len(received) < size:
            raise ValueError("the body is cut short")
        return received

    def _read(self, size: int) -> bytes:
        """Return this number of bytes, or fewer at the end of the connection."""
        if size > _MOST_BYTES:
            raise ReplyTooLarge
        while len(self.rest) < size and (part := self._receive()):
            self.rest += part
        return self._taken(size)

    def _taken(self, size: int) -> bytes:
        """Take this number of the received bytes. A bytearray drops its first bytes at once."""
        with memoryview(self.rest) as received:
            taken = received[:size].tobytes()
        del self.rest[:size]
        return taken

    def _until(self, end: bytes) -> str:
        """Return the text up to an end, which is removed."""
        while (size := self.rest.find(end, 0, _MOST_HEAD_BYTES)) < 0:
            if len(self.rest) >= _MOST_HEAD_BYTES or not (part := self._receive()):
                raise ValueError("the head or the line of a chunk is cut short, or too long")
            self.rest += part
        return self._taken(size + len(end))[:size].decode("latin-1")

    def _receive(self) -> bytes:
        """Return the next bytes, or no byte at the end of the connection."""
        self._set_timeout()
        part = self._sock.recv(65_536) or b""  # TLS within TLS returns 0 at the end.
        self._attempt.received |= bool(part)
        self._left_bytes -= len(part)
        if self._left_bytes < 0:  # Without a limit, a reply without an end would fill the memory.
            raise ReplyTooLarge
        return part

    def _set_timeout(self) -> None:
        timeout_s = self._attempt.within(self._attempt.read_timeout)
        if timeout_s != self._sock.gettimeout():  # Only then, because a change is a system call.
            self._sock.settimeout(timeout_s)
