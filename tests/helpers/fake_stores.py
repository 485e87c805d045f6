"""A fake Ecwid with many stores, which counts the calls of each store and of each token.

The server imports nothing of the package, so that a mistake of the package is not repeated in its
judge. Each store has its own token and its own data. Any other pair is a crossing.
"""

from __future__ import annotations

import json
import re
import socketserver
import threading
import time
from collections import Counter, defaultdict
from typing import Any, NamedTuple

TARGET = re.compile(r"/api/v3/(\d+)/customers(?:/(\d+))?")


class Reply(NamedTuple):
    """A reply of Ecwid."""

    status: int
    body: dict[str, Any]
    headers: tuple[str, ...] = ()


def token_of(store: str) -> str:
    """Return the token that a store accepts."""
    return f"secret_{store.zfill(32)}"


def rate_limited(seconds: int) -> Reply:
    """Return the reply to a call beyond the limit of calls."""
    body = {"errorCode": "RATE_LIMITED", "errorMessage": "Too many requests"}
    return Reply(429, body, (f"Retry-After: {seconds}",))


class FakeStores:
    """All stores. Every store has customers with the same ids and e-mails."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()  # of each store
        self.moments: defaultdict[str, list[float]] = defaultdict(list)  # of the calls by token
        self.crossings: list[tuple[str, str]] = []  # the calls with the token of another store
        self.created: Counter[str] = Counter()
        self.faults: dict[str, Reply] = {}  # the reply of each store that fails
        self.stalled: set[str] = set()  # the stores that do not reply before `go_on` is set
        self.go_on = threading.Event()
        self.connections = self.most_connections = 0
        self.lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.stores = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/api/v3"

    def __enter__(self) -> FakeStores:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait_for_calls(self, store: str, count: int) -> None:
        """Wait until the store has had so many calls."""
        until = time.monotonic() + 60
        while self.calls[store] < count:
            assert time.monotonic() < until, f"{self.calls[store]} of {count} calls"
            time.sleep(0.005)

    def reply(self, method: str, target: str, token: str) -> Reply:
        """Return the reply to a call."""
        found = TARGET.match(target)
        assert found, target
        store, id = found[1], int(found[2] or 0)
        with self.lock:
            self.calls[store] += 1
            self.moments[token].append(time.monotonic())
            if token != token_of(store):
                self.crossings.append((store, token))
                return Reply(403, {"errorCode": "TOKEN_INVALID", "errorMessage": "no"})
        if store in self.stalled:
            self.go_on.wait(60)
        if fault := self.faults.get(store):
            return fault
        customer = {"id": id or 7, "email": "ann@example.com", "taxId": store}
        if method == "POST":
            with self.lock:
                self.created[store] += 1
                return Reply(200, {"id": int(store) * 1_000_000 + self.created[store]})
        if method == "PUT":
            return Reply(200, {"updateCount": 1})
        if method == "DELETE":
            return Reply(200, {"deleteCount": 1})
        if id:
            return Reply(200, customer)
        first = int((re.search(r"offset=(\d+)", target) or [0, 0])[1])
        items = [customer] if not first and "From=" not in target else []
        numbers = {"total": 1, "count": len(items), "offset": first, "limit": 100}
        return Reply(200, {**numbers, "items": items})


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 128
    stores: FakeStores


class _Handler(socketserver.StreamRequestHandler):
    server: _Server
    disable_nagle_algorithm = True

    def handle(self) -> None:
        stores = self.server.stores
        with stores.lock:
            stores.connections += 1
            stores.most_connections = max(stores.most_connections, stores.connections)
        try:
            while self._serve(stores):
                pass
        except ConnectionError:
            pass
        finally:
            with stores.lock:
                stores.connections -= 1

    def _serve(self, stores: FakeStores) -> bool:
        line = self.rfile.readline().decode("latin-1").split(" ")
        if len(line) < 3:
            return False
        headers = {}
        while text := self.rfile.readline().decode("latin-1").strip():
            name, _, value = text.partition(": ")
            headers[name.lower()] = value
        self.rfile.read(int(headers.get("content-length", 0)))
        token = headers["authorization"].removeprefix("Bearer ")
        status, document, more = stores.reply(line[0], line[1], token)
        body = json.dumps(document).encode()
        head = [f"HTTP/1.1 {status} X", "Content-Type: application/json", *more]
        head.append(f"Content-Length: {len(body)}")
        self.wfile.write("\r\n".join([*head, "", ""]).encode() + body)
        return True
