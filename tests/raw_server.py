"""A server of raw bytes, for faults below HTTP."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType

Script = Callable[[socket.socket], None]


class RawServer:
    """Accepts connections on loopback and runs a script on each, in order; the last one repeats."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._closing = threading.Event()
        self.connections = 0
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/api/v3"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> RawServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        socket.create_connection(("127.0.0.1", self.port)).close()  # wakes accept()
        self._thread.join(5)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._closing.is_set():
                connection.close()
                return
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            threading.Thread(target=self._run, args=(script, connection), daemon=True).start()

    def _run(self, script: Script, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):  # the caller has hung up
            script(connection)


def receive_request(connection: socket.socket) -> bytes:
    """The headers of a request, and its body as far as it came with them."""
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(65_536)
        if not chunk:
            break
        received += chunk
    return received


def sends(*parts: bytes, pause_s: float = 0.0) -> Script:
    """Read the request, send the parts with a pause before each, close."""

    def script(connection: socket.socket) -> None:
        receive_request(connection)
        for part in parts:
            threading.Event().wait(pause_s)
            connection.sendall(part)

    return script


def stalls(first: bytes = b"", for_s: float = 10.0) -> Script:
    """Read the request, send a beginning, then nothing more."""

    def script(connection: socket.socket) -> None:
        receive_request(connection)
        connection.sendall(first)
        connection.settimeout(for_s)
        while connection.recv(65_536):  # a body that came after its headers
            pass

    return script


def resets(connection: socket.socket) -> None:
    """Read the request, then reset the connection."""
    receive_request(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


def good(body: bytes) -> bytes:
    """A reply with this JSON, after which the connection is closed."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


class Gate:
    """Replies that wait until it is opened."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    def before(self, script: Script) -> Script:
        def waits(connection: socket.socket) -> None:
            self.asked.set()
            self._open.wait(20)
            script(connection)

        return waits
