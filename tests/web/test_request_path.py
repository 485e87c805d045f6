"""Tests that the path of a request through the package is short enough to read."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import flask_ecwid

from ..conftest import TOKEN, Api, app_of
from ..helpers.raw_server import RawServer, receive_request

PACKAGE = f"{Path(flask_ecwid.__file__).parent}/"
INLINE = {"<genexpr>", "<listcomp>", "<dictcomp>", "<setcomp>"}


def trace(request: Callable[[], Any]) -> tuple[int, int]:
    """Return the number of calls of the package's functions and of changes between modules."""
    calls = changes = 0

    def is_ours(frame: FrameType) -> bool:
        return frame.f_code.co_filename.startswith(PACKAGE) and frame.f_code.co_name not in INLINE

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls, changes
        if event != "call" or not is_ours(frame):
            return
        calls += 1
        caller = frame.f_back
        while caller is not None and not is_ours(caller):
            caller = caller.f_back
        file = frame.f_code.co_filename
        changes += caller is None or caller.f_code.co_filename != file

    sys.setprofile(profile)
    try:
        request()
    finally:
        sys.setprofile(None)
    return calls, changes


CONFIG = {"ECWID_STORE_ID": "1003", "ECWID_TOKEN": TOKEN, "ECWID_AUTH": "none"}
PAGE = b'{"total": 1, "count": 1, "offset": 0, "limit": 100, "items": [{"id": 5}]}'


def keeps_alive(connection: socket.socket) -> None:
    """Reply to each request on one connection. The body comes with the headers."""
    while request := receive_request(connection):
        connection.sendall(response(PAGE if request.startswith(b"GET") else b'{"id": 5}'))


def response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.parametrize(
    ("operation", "calls", "changes"), [("list_customers", 149, 73), ("add_customer", 264, 128)]
)
def test_the_request_path(operation: str, calls: int, changes: int) -> None:
    """A warm list and a creation with a key call few functions in few modules."""
    keys = iter(range(100))
    with RawServer(keeps_alive) as server:
        api = Api(app_of({**CONFIG, "ECWID_API_URL": server.url}).test_client())

        def request() -> None:
            if operation == "list_customers":
                response = api.get("/customers")
            else:
                key = f"{next(keys):032d}"
                body = {"email": f"{key}@example.com"}
                response = api.post("/add_customer", body, headers={"Idempotency-Key": key})
            assert response.status_code == 200

        request()  # the first request opens connections and compiles schemas
        request()
        # Take the least of several, because a reply in two parts takes two more calls.
        made, changed = min(trace(request) for _ in range(5))
        assert server.connections == 1
    assert (made <= calls, changed <= changes) == (True, True), (made, changed)
