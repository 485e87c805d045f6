"""A call is checked again right before it is sent, because time passes between count and send."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from flask_ecwid import EcwidClient, Settings, clock
from flask_ecwid.client.connection import Connection
from flask_ecwid.errors import EcwidError, Throttled
from flask_ecwid.web.idempotency import Idempotency

from ..conftest import TOKEN, Api, app_of, is_throttled
from ..helpers.raw_server import Call, RawServer, ScriptedServer, receive_request

LIMIT = 100
CALLS: dict[str, Callable[[EcwidClient], object]] = {
    "get_customer": lambda client: client.get_customer(7),
    "add_customer": lambda client: client.add_customer({"email": "someone@example.com"}),
    "update_customer": lambda client: client.update_customer(7, {"lang": "en"}),
    "delete_customer": lambda client: client.delete_customer(7),
}
BODIES = {
    "get_customer": b'{"id":7}',
    "add_customer": b'{"id":7}',
    "update_customer": b'{"updateCount":1}',
    "delete_customer": b'{"deleteCount":1}',
}


def answers(connection: socket.socket, call: Call) -> bool:
    body = BODIES[call.kind]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    connection.sendall(head % len(body) + body)
    return True


def client_of(url: str, **options: Any) -> EcwidClient:
    return EcwidClient(
        Settings(store_id="1003", token=TOKEN, api_url=url, calls_per_minute=LIMIT, **options)
    )


class Jump:
    """A clock that jumps once in the next connection, or when a kept connection is taken."""

    def __init__(self, patch: pytest.MonkeyPatch, *clocks: str) -> None:
        self._by_s = 0.0
        self._pending_s = 0.0
        for name in clocks:
            real = getattr(clock, name)
            patch.setattr(clock, name, lambda real=real: real() + self._by_s)
        for owner, name in ((socket, "create_connection"), (Connection, "is_quiet")):
            patch.setattr(owner, name, self._jumping(getattr(owner, name)))

    def next(self, seconds: float) -> None:
        self._pending_s = seconds

    def _jumping(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def jumping(*args: Any, **options: Any) -> Any:
            result = real(*args, **options)
            self._by_s += self._pending_s
            self._pending_s = 0.0
            return result

        return jumping


@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
@pytest.mark.parametrize("name", CALLS)
def test_the_wall_clock_passes_the_deadline(
    monkeypatch: pytest.MonkeyPatch, no_waiting: list[float], name: str, kept: bool
) -> None:
    """A change is not sent after its deadline on the wall clock, and a read is sent.

    The host may have been suspended, and the caller may have given up.
    """
    jump = Jump(monkeypatch, "wall")
    with ScriptedServer(answers) as server:
        client = client_of(server.url)
        if kept:
            client.get_customer(8)
        jump.next(31)
        if name == "get_customer":
            CALLS[name](client)
            assert server.count()[name] == 1 + kept
            return
        with pytest.raises(Throttled) as caught:
            CALLS[name](client)
        assert caught.value.executed == "no"
        assert server.count()[name] == 0


@pytest.mark.parametrize("name", CALLS)
def test_a_deadline_that_passes_while_connecting(
    monkeypatch: pytest.MonkeyPatch, no_waiting: list[float], name: str
) -> None:
    """A call whose deadline passed before it was sent is no failure of Ecwid."""
    jump = Jump(monkeypatch, "now", "wall")
    with ScriptedServer(answers) as server:
        client = client_of(server.url)
        for _ in range(6):
            jump.next(31)
            with pytest.raises(Throttled) as caught:
                CALLS[name](client)
            assert (caught.value.executed, caught.value.retry_after_s) == ("no", 1)
        assert server.count()[name] == 0
        CALLS[name](client)
        assert server.count()[name] == 1


@pytest.mark.parametrize("name", CALLS)
def test_a_count_that_is_too_old(
    monkeypatch: pytest.MonkeyPatch, no_waiting: list[float], name: str
) -> None:
    """A call that was counted over a second before its sending is counted again and sent once."""
    jump = Jump(monkeypatch, "wall")
    with ScriptedServer(answers) as server:
        client = client_of(server.url)
        jump.next(1.1)
        CALLS[name](client)
        assert server.count() == {name: 1}
        assert client.remaining_calls().remaining == LIMIT - 2


def over_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return authority


def test_a_slow_handshake(authority: trustme.CA, tmp_path: Path) -> None:
    """The connection of a handshake that took over a second is kept for the next attempt."""
    context = over_tls(authority)

    def connects(connection: socket.socket) -> socket.socket:
        time.sleep(1.2)
        return context.wrap_socket(connection, server_side=True)

    with ScriptedServer(answers, connects=connects) as server:
        url = server.url.replace("http:", "https:")
        client = client_of(url, ca_bundle=str(tmp_path / "ca.pem"))
        assert client.add_customer({"email": "someone@example.com"}) == {"id": 7}
        assert (server.connections, server.count()) == (1, {"add_customer": 1})
        assert client.remaining_calls().remaining == LIMIT - 2


def test_a_peer_that_reads_slowly(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sending of a body ends at the deadline, although the peer reads a little at a time."""
    connect = socket.create_connection

    def with_a_small_buffer(*args: Any) -> socket.socket:
        connected = connect(*args)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        return connected

    monkeypatch.setattr(socket, "create_connection", with_a_small_buffer)
    context = over_tls(authority)
    over = threading.Event()

    def reads_slowly(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as near:
            receive_request(near)
            while not over.wait(0.1):
                for _ in range(4):
                    near.recv(16_384)

    with RawServer(reads_slowly) as server:
        url = server.url.replace("http:", "https:")
        client = client_of(url, ca_bundle=str(tmp_path / "ca.pem"), deadline_s=2, read_timeout_s=30)
        begun = time.monotonic()
        with pytest.raises(EcwidError) as caught:
            client.update_customer(7, {"privateAdminNotes": "x" * 40_000_000})
        assert time.monotonic() - begun < 12
        over.set()
    assert caught.value.executed == "unknown"


def test_a_record_that_is_older_than_the_deadline(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A creation is not sent when its key was taken longer ago than the deadline.

    Another host may have taken over the key meanwhile.
    """
    wall, begin = clock.wall, Idempotency._begin

    def suspended(*args: Any) -> Any:
        record = begin(*args)
        monkeypatch.setattr(clock, "wall", lambda: wall() + 31)
        return record

    monkeypatch.setattr(Idempotency, "_begin", suspended)
    with ScriptedServer(answers) as server:
        api = Api(app_of({**config, "ECWID_API_URL": server.url}).test_client())
        response = api.post(
            "/add_customer",
            {"email": "someone@example.com"},
            headers={"Idempotency-Key": "0123456789abcdef0123"},
        )
        assert is_throttled(response, 1)
        assert server.heard == []
