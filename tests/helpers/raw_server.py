"""A server of raw bytes, for faults below HTTP."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

Script = Callable[[socket.socket], None]


class RawServer:
    """A server that accepts connections on loopback and runs a script on each in order.

    The last script repeats.
    """

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

    def __exit__(self, *_: object) -> None:
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


def fill(listener: socket.socket) -> socket.socket:
    """Let every later connection to a bound socket hang, until the returned connection is closed.

    The listener has room for one connection, and nobody accepts it. The kernel may put the
    connection there later. Another connection that came before would not hang.
    """
    listener.listen(0)
    filler = socket.create_connection(listener.getsockname())
    assert select.select([listener], [], [], 20)[0]
    return filler


def receive_request(connection: socket.socket) -> bytes:
    """Return the headers of a request, with the part of the body that came with them."""
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(65_536)
        if not chunk:
            break
        received += chunk
    return received


def sends(*parts: bytes, pause_s: float = 0.0) -> Script:
    """Return a script that reads the request, sends the parts with pauses, and closes."""

    def script(connection: socket.socket) -> None:
        receive_request(connection)
        for part in parts:
            threading.Event().wait(pause_s)
            connection.sendall(part)

    return script


def stalls(first: bytes = b"", for_s: float = 60.0) -> Script:
    """Return a script that reads the request, sends a beginning, and then sends nothing more."""

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
    """Return a reply with this JSON, after which the connection is closed."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


class Gate:
    """A gate that holds replies back until it is opened."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    def wait(self) -> None:
        """Wait until the gate is open, for 20 seconds at most."""
        self.asked.set()
        self._open.wait(20)

    def before(self, script: Script) -> Script:
        def waits(connection: socket.socket) -> None:
            select.select([connection], [], [], 20)  # A connection is made before its call is sent.
            self.wait()
            script(connection)

        return waits


class Call(NamedTuple):
    """A whole call, whose `kind` is the name of its operation, or `reconcile`."""

    kind: str
    method: str
    path: str
    query: str
    headers: bytes
    body: bytes


# A function that replies to a call, and returns True if the connection stays open.
Answer = Callable[[socket.socket, Call], bool]


class ScriptedServer(RawServer):
    """A store that replies to each call as its script says, over connections that stay open.

    For a kind of call, `script` has the replies in order, and the last reply repeats. `otherwise`
    replies to every other kind. `connects` acts on a connection before its first call, for example
    with a TLS handshake. Until `open()`, a connection is refused with `opens=False`, and hangs with
    `fills=True`.
    """

    def __init__(
        self,
        otherwise: Answer,
        *,
        connects: Callable[[socket.socket], socket.socket] = lambda connection: connection,
        opens: bool = True,
        fills: bool = False,
    ) -> None:
        super().__init__(self._talk)
        self._otherwise = otherwise
        self._connects = connects
        self._opens = opens and not fills
        self._open: dict[threading.Thread, socket.socket] = {}
        self._filler: socket.socket | None = None
        self.script: Mapping[str, Sequence[Answer]] = {}
        self.heard: list[Call] = []
        if not self._opens:  # The port is bound without a listener, so connections are refused.
            self._listener.close()
            self._listener = socket.socket()
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(("127.0.0.1", self.port))
        if fills:
            self._filler = fill(self._listener)

    def __enter__(self) -> ScriptedServer:
        if self._opens:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up every connection, and leave no thread and no descriptor."""
        self.open()
        super().__exit__()
        for thread, connection in list(self._open.items()):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(5)

    def open(self) -> None:
        """Accept connections from now on."""
        if self._filler is not None:
            self._filler.close()
        if not self._thread.is_alive():
            self._listener.listen()
            self._thread.start()

    def count(self) -> Counter[str]:
        """Return the number of calls of each kind."""
        return Counter(call.kind for call in self.heard)

    def wait_until_idle(self) -> None:
        """Wait until neither side has an established connection, or five seconds have passed."""
        until = time.monotonic() + 5
        while time.monotonic() < until:
            table = Path("/proc/net/tcp").read_text(encoding="ascii")
            rows = [line.split() for line in table.splitlines()[1:]]
            ours = [row for row in rows if f":{self.port:04X}" in (row[1][-5:], row[2][-5:])]
            if all(row[3] != "01" for row in ours):  # ESTABLISHED
                return
            time.sleep(0.001)

    def _talk(self, connection: socket.socket) -> None:
        me = threading.current_thread()
        self._open[me] = connection
        try:
            with self._connects(connection) as talking:
                self._open[me] = talking
                while call := receive_call(talking):
                    self.heard.append(call)
                    if not self._answer(call)(talking, call):
                        return
        finally:
            del self._open[me]

    def _answer(self, call: Call) -> Answer:
        answers = self.script.get(call.kind, [self._otherwise])
        nth = sum(other.kind == call.kind for other in self.heard)
        return answers[min(nth, len(answers)) - 1]


def receive_call(connection: socket.socket) -> Call | None:
    """Return the next call with its body, or None if the caller has hung up."""
    received = receive_request(connection)
    headers, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return None
    length = re.search(rb"(?i)\r\nContent-Length: *([0-9]+)", headers)
    while length and len(body) < int(length[1]):
        chunk = connection.recv(65_536)
        if not chunk:
            return None
        body += chunk
    method, target, _ = headers.split(b"\r\n")[0].decode("latin-1").split(" ", 2)
    path, _, query = target.partition("?")
    return Call(_kind(method, path, query), method, path, query, headers, body)


def _kind(method: str, path: str, query: str) -> str:
    collection = re.fullmatch(r"/api/v3/[0-9]+/customers", path)
    one = re.fullmatch(r"/api/v3/[0-9]+/customers/[0-9]+", path)
    if method == "GET" and collection:
        return "reconcile" if "useExactEmailMatch=true" in query.split("&") else "list_customers"
    if method == "POST" and collection:
        return "add_customer"
    names = {"GET": "get_customer", "PUT": "update_customer", "DELETE": "delete_customer"}
    return names.get(method, "") if one else ""
