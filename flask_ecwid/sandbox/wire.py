"""Faults below HTTP, on the socket of the server or as errors of `requests` in this process.

The app names the fault in a header of its reply. The middleware or the adapter between the app and
the caller reads the header and makes the fault.
"""

from __future__ import annotations

import errno
import http.client
import io
import os
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson
import requests
from urllib3.exceptions import (
    MaxRetryError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)
from werkzeug.serving import WSGIRequestHandler

from .faults import Fault

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MARK = "X-Sandbox-Fault"
IN_PROCESS = "sandbox.in_process"
_SOCKETS = ("gunicorn.socket", "werkzeug.socket")


def mark(fault: Fault) -> str:
    """Return the value of the header `MARK` for this fault."""
    return orjson.dumps([fault.kind, fault.seconds]).decode()


class RequestHandler(WSGIRequestHandler):
    """A handler for werkzeug's server that logs no request, because a query string is private."""

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Log nothing, because the lines would hold query strings."""

    def connection_dropped(
        self, error: BaseException, environ: WSGIEnvironment | None = None
    ) -> None:
        """End the connection. Otherwise the server reads its next request and logs the failure."""
        self.close_connection = True


class SocketFaults:
    """Middleware that makes the faults of marked replies on the socket of the server."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Pass a reply on, or make the fault that the reply is marked with."""
        marked: list[tuple[str, list[tuple[str, str]]]] = []

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            if MARK in dict(headers) and IN_PROCESS not in environ:
                marked.append((status, headers))
                return lambda _: None
            return start_response(status, headers, exc_info)

        chunks = self._app(environ, start)
        if not marked:
            return chunks
        [(status, headers)] = marked
        kind, seconds = orjson.loads(dict(headers)[MARK])
        sock = next((environ[name] for name in _SOCKETS if name in environ), None)
        if sock is None or kind == "refuse":
            start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
            return [b"This server cannot make this fault."]
        lines = [f"HTTP/1.1 {status}", *(f"{k}: {v}" for k, v in headers if k != MARK)]
        head = "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")
        with suppress(OSError):  # the caller may have closed the connection
            _send_damaged(sock, kind, seconds, head, b"".join(chunks))
        # werkzeug and gunicorn close a connection silently after this error. Without it, the
        # server would send a reply of its own, or log that sending failed.
        raise ConnectionResetError(errno.ECONNRESET, "the sandbox has ended the connection")


def _send_damaged(sock: socket.socket, kind: str, seconds: float, head: bytes, body: bytes) -> None:
    """Send the part of the reply that the fault lets through, and close the connection."""
    if kind == "reset":
        # Closing with a linger time of 0 sends a reset. The server must not close this socket,
        # because the server would shut down the socket first. Then the caller would get an
        # ordinary end and no reset.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        os.close(sock.detach())
        return
    if kind == "stall":
        time.sleep(seconds)
    elif kind == "drip":
        for byte in head + body:
            sock.sendall(bytes([byte]))
            time.sleep(seconds)
    elif kind == "truncate":
        sock.sendall(head + body[: len(body) // 2])
    sock.shutdown(socket.SHUT_RDWR)


def raise_fault(kind: str, seconds: float, timeout: Any) -> None:
    """Raise the error of `requests` for a fault that lets no reply through.

    The error is the same as over a real socket. For any other fault, do nothing.
    """
    if kind == "refuse":
        refused = NewConnectionError(None, "refused")  # type: ignore[arg-type]
        raise requests.ConnectionError(MaxRetryError(None, "/", refused))  # type: ignore[arg-type]
    if kind == "reset":
        raise requests.ConnectionError(ProtocolError("aborted", ConnectionResetError(104, "reset")))
    if kind == "close":
        nothing = http.client.RemoteDisconnected("closed without response")
        raise requests.ConnectionError(ProtocolError("aborted", nothing))
    if kind == "stall":
        limit = _read_timeout(timeout)
        time.sleep(seconds if limit is None else min(seconds, limit))
        raise requests.ReadTimeout(ReadTimeoutError(None, None, "timed out"))  # type: ignore[arg-type]


def damaged_body(kind: str, seconds: float, body: bytes) -> io.BytesIO:
    """Return a body that arrives slowly (`drip`) or only in part (`truncate`)."""
    return _Dripping(body, seconds) if kind == "drip" else _Truncated(body)


class _Dripping(io.BytesIO):
    def __init__(self, body: bytes, seconds: float) -> None:
        super().__init__(body)
        self._seconds = seconds

    def read(self, size: int | None = -1, /) -> bytes:
        time.sleep(self._seconds)
        return super().read(1)


class _Truncated(io.BytesIO):
    def __init__(self, body: bytes) -> None:
        super().__init__(body[: len(body) // 2])

    def read(self, size: int | None = -1, /) -> bytes:
        chunk = super().read(size)
        if not chunk:
            raise http.client.IncompleteRead(b"")
        return chunk


def _read_timeout(timeout: Any) -> float | None:
    """Return the seconds to wait for a reply.

    `requests` accepts a timeout as a number, as a pair, or as an object of urllib3.
    """
    if isinstance(timeout, tuple):
        timeout = timeout[1]
    seconds = getattr(timeout, "read_timeout", timeout)
    return float(seconds) if isinstance(seconds, (int, float)) else None
