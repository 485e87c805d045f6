"""Faults below HTTP, on the socket of the server or as errors of `requests` in this process.

The app marks an answer with a fault. The middleware or the adapter between the app and the caller
makes the fault.
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
    """The header's value."""
    return orjson.dumps([fault.kind, fault.seconds]).decode()


class RequestHandler(WSGIRequestHandler):
    """A handler for werkzeug's server, without request lines, because they hold query strings."""

    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass

    def connection_dropped(
        self, error: BaseException, environ: WSGIEnvironment | None = None
    ) -> None:
        """End the connection. Otherwise the server reads its next request and logs the failure."""
        self.close_connection = True


class OnTheSocket:
    """Middleware of a served sandbox. It spoils marked answers on the server's own socket."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
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
            return [b"This server gives no way to do this."]
        lines = [f"HTTP/1.1 {status}", *(f"{k}: {v}" for k, v in headers if k != MARK)]
        head = "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")
        with suppress(OSError):  # The caller may have hung up.
            _spoil(sock, kind, seconds, head, b"".join(chunks))
        # werkzeug and gunicorn end a connection silently after this error. Without it, the server
        # would send an answer of its own, or log the failure to send one.
        raise ConnectionResetError(errno.ECONNRESET, "the sandbox has ended the connection")


def _spoil(sock: socket.socket, kind: str, seconds: float, head: bytes, body: bytes) -> None:
    """Send the part of the answer that the fault lets through, and end the connection."""
    if kind == "reset":
        # Closing with a linger time of 0 sends a reset. The server must not close the socket,
        # because the server shuts it down first, and a shutdown sends an ordinary end.
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


def raised(kind: str, seconds: float, timeout: Any) -> None:
    """Raise what `requests` does over a real socket, where a fault lets no answer through."""
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


def spoiled(kind: str, seconds: float, body: bytes) -> io.BytesIO:
    """The body of an answer that comes through in part, or slowly."""
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
    """Of what `requests` is given: urllib3's object, a pair, or a number."""
    if isinstance(timeout, tuple):
        timeout = timeout[1]
    seconds = getattr(timeout, "read_timeout", timeout)
    return float(seconds) if isinstance(seconds, (int, float)) else None
