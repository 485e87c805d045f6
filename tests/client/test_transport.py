"""Tests of network faults between the client and Ecwid, over real sockets."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import flask
import pytest
import requests
import trustme

from flask_ecwid import Ecwid, EcwidClient, Settings, clock
from flask_ecwid.client.calls import build_call
from flask_ecwid.client.replies import read_reply
from flask_ecwid.client.transport import RequestsTransport
from flask_ecwid.errors import (
    BadReply,
    ConnectionLost,
    DeadlineExceeded,
    EcwidError,
    NotJson,
    OutcomeUnknown,
    Rejected,
    TlsFailed,
    Unreachable,
)

from ..conftest import PREFIX, TOKEN, free_port
from ..helpers.raw_server import RawServer, Script, fill, receive_request, resets, sends, stalls

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
GOOD = HEAD + b'Content-Length: 8\r\n\r\n{"id":7}'
CANARY = "canary@example.com"
SLACK_S = 20  # far below the 60 s of a fault, but enough for a busy machine


Limits = dict[str, float]


def limits_of(error: type[EcwidError], read_timeout_s: float, deadline_s: float) -> Limits:
    """Return these limits for a fault that takes time. Any other reply comes in a usual time."""
    if error is not DeadlineExceeded:
        return {}
    return {"read_timeout_s": read_timeout_s, "deadline_s": deadline_s}


def settings_of(url: str, **options: Any) -> Settings:
    limits = {"read_timeout_s": 20.0, "deadline_s": 40.0, **options}
    limits.setdefault("connect_timeout_s", min(20.0, limits["deadline_s"]))
    return Settings(store_id="1003", token=TOKEN, api_url=url, **limits)


def client_of(url: str, **options: Any) -> EcwidClient:
    return EcwidClient(settings_of(url, **options))


def receive(url: str, **options: Any) -> Any:
    """Make a single call without the retries of the client."""
    settings = settings_of(url, **options)
    call = build_call("get_customer", 7)
    reply = RequestsTransport(settings).send(
        call, settings.credentials, clock.now() + settings.deadline_s, lambda: None
    )
    return read_reply(build_call("get_customer", 7), reply)


def drips(connection: socket.socket) -> None:
    """Send a byte of the headers every 0.1 s, so that only the whole reply is late."""
    receive_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    for _ in range(600):
        connection.sendall(b"a")
        time.sleep(0.1)


def drips_the_body(connection: socket.socket) -> None:
    receive_request(connection)
    connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
    for _ in range(600):
        connection.sendall(b" ")
        time.sleep(0.1)


FAULTS: list[tuple[str, Script, type[EcwidError]]] = [
    ("closed before any byte", sends(), ConnectionLost),
    ("reset before any byte", resets, ConnectionLost),
    ("no first byte", stalls(), DeadlineExceeded),
    ("stalled in the headers", stalls(HEAD), DeadlineExceeded),
    ("stalled in the body", stalls(HEAD + b"Content-Length: 8\r\n\r\n{"), DeadlineExceeded),
    ("dripping headers", drips, DeadlineExceeded),
    ("dripping body", drips_the_body, DeadlineExceeded),
    ("body cut short", sends(HEAD + b"Content-Length: 99\r\n\r\n{"), BadReply),
    ("bad chunk", sends(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}"), BadReply),
    ("chunks cut short", sends(HEAD + b"Transfer-Encoding: chunked\r\n\r\n8\r\n{"), BadReply),
    ("garbage for a status line", sends(b"garbage\r\n\r\n"), BadReply),
    ("200 headers", sends(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"), BadReply),
    ("headers cut", sends(b"HTTP/1.1 200 OK\r\nContent-Type: appl"), BadReply),
    ("no body at all", sends(HEAD + b"\r\n"), NotJson),
]


@pytest.mark.parametrize(("fault", "script", "error"), FAULTS, ids=[row[0] for row in FAULTS])
def test_fault(fault: str, script: Script, error: type[EcwidError]) -> None:
    """Each fault raises its error by the deadline, and not when the fault ends."""
    with RawServer(script) as server:
        begun = time.monotonic()
        with pytest.raises(EcwidError) as caught:
            receive(server.url, **limits_of(error, 0.5, 1.0))
        assert time.monotonic() - begun < SLACK_S
    assert type(caught.value) is error
    assert caught.value.executed == "unknown"


# A dripping reply is left out, because it takes all of the time.
ONCE_MORE = [row for row in FAULTS if "dripping" not in row[0]]


@pytest.mark.parametrize(("fault", "script", "error"), ONCE_MORE, ids=[row[0] for row in ONCE_MORE])
def test_after_a_fault(fault: str, script: Script, error: type[EcwidError]) -> None:
    """The client retries a failed read over a fresh connection."""
    with RawServer(script, sends(GOOD)) as server:
        client = client_of(server.url, **limits_of(error, 2.0, 20.0))
        assert client.get_customer(7) == {"id": 7}
        assert server.connections == 2


@pytest.mark.parametrize("first", [b"", HEAD, HEAD + b"Content-Length: 8\r\n\r\n{"])
def test_one_receive_does_not_outlast_the_deadline(first: bytes) -> None:
    """The deadline ends a receive whose own timeout is longer."""
    with RawServer(stalls(first)) as server:
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            client_of(server.url, read_timeout_s=30, deadline_s=1).get_customer(7)
        assert time.monotonic() - begun < SLACK_S


def test_refused() -> None:
    """A refused connection raises Unreachable, so nothing can have happened."""
    with pytest.raises(Unreachable) as caught:
        client_of(f"http://127.0.0.1:{free_port()}").add_customer({"email": CANARY})
    assert caught.value.executed == "no"
    assert caught.value.retry_after_s == 10


def test_no_such_name() -> None:
    """A name that does not resolve raises Unreachable."""
    with pytest.raises(Unreachable):
        client_of("https://ecwid.invalid/api/v3").get_customer(7)


def test_connect_timeout() -> None:
    """A connection that is not made in time raises Unreachable."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        with fill(listener):
            client = client_of(
                f"http://127.0.0.1:{listener.getsockname()[1]}", connect_timeout_s=0.5
            )
            begun = time.monotonic()
            with pytest.raises(Unreachable):
                client.get_customer(7)
            assert time.monotonic() - begun < SLACK_S


@pytest.fixture
def authority() -> trustme.CA:
    """Make a certificate authority that no client trusts yet."""
    return trustme.CA()


def over_tls(authority: trustme.CA, script: Script) -> Script:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def wrapped(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            script(secure)

    return wrapped


def test_untrusted_certificate(authority: trustme.CA) -> None:
    """An untrusted certificate ends the call before anything is sent."""
    heard: list[bytes] = []
    script = over_tls(authority, lambda connection: heard.append(receive_request(connection)))
    with RawServer(script) as server, pytest.raises(TlsFailed) as caught:
        client_of(server.url.replace("http:", "https:")).get_customer(7)
    assert caught.value.executed == "no"
    assert heard == []


@pytest.mark.parametrize("reply", [b"no TLS at all", b"\x17\x03\x03\x00\x05abcde"])
def test_tls_broken_after_the_call(authority: trustme.CA, tmp_path: Path, reply: bytes) -> None:
    """A TLS failure after the call was sent leaves the outcome unknown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    heard: list[bytes] = []

    def script(connection: socket.socket) -> None:
        with (
            connection.dup() as below,
            context.wrap_socket(connection, server_side=True) as secure,
        ):
            heard.append(receive_request(secure))
            below.sendall(reply)
            below.shutdown(socket.SHUT_WR)
            below.recv(1)

    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with RawServer(script) as server:
        url = server.url.replace("http:", "https:")
        client = client_of(url, ca_bundle=str(tmp_path / "ca.pem"))
        with pytest.raises(EcwidError) as caught:
            client.add_customer({"email": CANARY})
    assert heard[0].startswith(b"POST ")
    assert caught.value.executed == "unknown"
    assert type(caught.value) is OutcomeUnknown


def test_tls_handshake_reset() -> None:
    """A broken handshake raises Unreachable, because nothing was sent."""

    def resets_soon(connection: socket.socket) -> None:
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01" + bytes(7))

    with RawServer(resets_soon) as server, pytest.raises(Unreachable):
        client_of(server.url.replace("http:", "https:")).add_customer({"email": CANARY})


def test_a_connection_that_comes_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call whose deadline passes during the connect is not sent."""
    late_s = [0.0]
    connect, now = socket.socket.connect, clock.now

    def connects_late(sock: socket.socket, address: Any) -> None:
        connect(sock, address)
        late_s[0] = 10.0

    with RawServer(sends(GOOD)) as server, monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", connects_late)
        patch.setattr(clock, "now", lambda: now() + late_s[0])
        with pytest.raises(Unreachable) as caught:
            receive(server.url, deadline_s=5)
    assert caught.value.executed == "no"


def test_many_dead_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline ends the attempts to connect to a host's addresses."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    with listener, fill(listener):
        port = listener.getsockname()[1]
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        real = socket.getaddrinfo

        def many(host: str, *args: Any, **kwargs: Any) -> Any:
            if host != "many.test":
                return real(host, *args, **kwargs)
            return [(*kind, (f"127.0.0.{last}", port)) for last in range(1, 31)]

        monkeypatch.setattr(socket, "getaddrinfo", many)
        tried: list[str] = []
        connect = socket.socket.connect

        class Stalling(socket.socket):
            def connect(self, address: Any) -> None:
                tried.append(address[0])
                connect(self, ("127.0.0.1", port))

        monkeypatch.setattr(socket, "socket", Stalling)
        settings = Settings(
            store_id="1003",
            token=TOKEN,
            api_url="https://many.test:" + str(port),
            connect_timeout_s=0.5,
            deadline_s=1,
        )
        with pytest.raises(Unreachable):
            EcwidClient(settings).get_customer(7)
        assert 0 < len(tried) < 30


def test_a_resolver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is not resolved in time raises Unreachable.

    Calls that need the same name meanwhile share one thread.
    """
    gate, asked = threading.Event(), []
    real = socket.getaddrinfo

    def hangs(host: str, *args: Any, **kwargs: Any) -> Any:
        if host != "slow.test" or kwargs.get("flags"):
            return real(host, *args, **kwargs)
        asked.append(host)
        gate.wait(60)
        return real("127.0.0.1", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = Settings(
            store_id="1003",
            token=TOKEN,
            api_url=f"https://slow.test:{listener.getsockname()[1]}",
            connect_timeout_s=0.4,
            deadline_s=1,
        )

        def ask(_: int) -> type[EcwidError] | None:
            with pytest.raises(EcwidError) as caught:
                EcwidClient(settings).get_customer(7)
            return caught.type

        begun = time.monotonic()
        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(ask, range(8))) == {Unreachable}
        assert time.monotonic() - begun < SLACK_S
        assert asked == ["slow.test"]
        gate.set()
        until = time.monotonic() + 60
        while any(thread.name == "call-within" for thread in threading.enumerate()):
            assert time.monotonic() < until
            time.sleep(0.01)


def test_no_thread_for_the_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call raises Unreachable if no thread can start for the resolver. The next call works."""
    with RawServer(sends(GOOD)) as server:
        client = client_of(server.url.replace("127.0.0.1", "localhost"))
        client.get_customer(7)
        with monkeypatch.context() as patch:

            def start(_: threading.Thread) -> None:
                raise RuntimeError("can't start new thread")

            patch.setattr(threading.Thread, "start", start)
            patch.setattr(clock, "sleep", lambda seconds: True)
            with pytest.raises(Unreachable):
                client.get_customer(7)
        assert client.get_customer(7) == {"id": 7}


def test_malformed_headers_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A reply with malformed headers is not valid, and the log shows neither them nor the query."""
    caplog.set_level(logging.DEBUG)
    page = b'{"total":0,"items":[]}'
    head = HEAD + b"Content-Length: %d\r\nX-Customer canary@example.com\r\n\r\n" % len(page)
    with RawServer(sends(head + page)) as server, pytest.raises(BadReply):
        client_of(server.url).list_customers(email=CANARY)
    assert "canary" not in caplog.text


def test_ca_bundle(authority: trustme.CA, tmp_path: Path) -> None:
    """The client trusts a certificate of the configured bundle, and TLS keeps the deadline."""
    with RawServer(over_tls(authority, sends(GOOD)), over_tls(authority, drips)) as server:
        url = server.url.replace("http:", "https:")
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        client = client_of(url, ca_bundle=str(tmp_path / "ca.pem"), deadline_s=3)
        assert client.get_customer(7) == {"id": 7}
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            client.get_customer(7)
        assert time.monotonic() - begun < SLACK_S


def keeps_alive(connection: socket.socket) -> None:
    """Reply to each call, and keep the connection open."""
    while receive_request(connection):
        connection.sendall(GOOD)


ENDLESS = {
    "no length": b"\r\n",
    "a chunk below zero": b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    "a large length": b"Content-Length: 99999999999\r\n\r\n",
    "a large chunk": b"Transfer-Encoding: chunked\r\n\r\nfffffffffff\r\n",
    "headers": b"".join(b"X-%d: %b\r\n" % (number, b"a" * 60_000) for number in range(90)),
    "100s": b"",
}


@pytest.mark.parametrize("endless", ENDLESS)
def test_memory_of_a_reply_without_end(endless: str) -> None:
    """A reply without an end is given up after a bounded number of bytes."""
    sent = [0]
    piece = b"HTTP/1.1 100 Continue\r\n\r\n" * 2_000 if endless == "100s" else b" " * 65_536
    first = b"" if endless == "100s" else HEAD + ENDLESS[endless]

    def script(connection: socket.socket) -> None:
        receive_request(connection)
        connection.sendall(first)
        while sent[0] < 64 << 20:
            connection.sendall(piece)
            sent[0] += len(piece)

    with RawServer(script) as server, pytest.raises(BadReply):
        receive(server.url, read_timeout_s=20, deadline_s=40)
    assert sent[0] < 24 << 20


def test_an_early_refusal() -> None:
    """A refusal counts although the server closes before all of a large body has come."""

    def refuses(connection: socket.socket) -> None:
        connection.recv(1_000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}")

    with RawServer(refuses) as server, pytest.raises(Rejected):
        client_of(server.url).update_customer(7, {"privateAdminNotes": "x" * 4_000_000})
    assert server.connections == 1


@pytest.mark.parametrize("before", [b"100 Continue", b"102 Processing", b"103 Early Hints"])
def test_a_reply_after_another_status(before: bytes) -> None:
    """A status 1xx announces the reply, which counts.

    https://www.rfc-editor.org/rfc/rfc9110#section-15.2
    """
    with RawServer(sends(b"HTTP/1.1 %b\r\nLink: </a>\r\n\r\n%b" % (before, GOOD))) as server:
        assert receive(server.url) == {"id": 7}


@pytest.mark.parametrize("status", [204, 304])
def test_a_late_body_answers_no_other_call(status: int) -> None:
    """A connection whose reply has a length but no body carries no other call."""
    length = b"Content-Length: %d\r\n\r\n" % len(GOOD)

    def late(connection: socket.socket) -> None:
        receive_request(connection)
        connection.sendall(b"HTTP/1.1 %d No\r\n%b" % (status, length))
        if receive_request(connection):
            connection.sendall(GOOD.replace(b"7", b"9"))

    with RawServer(late, keeps_alive) as server:
        client = client_of(server.url)
        with suppress(EcwidError):  # A 204 is repeated, and a 304 is not.
            assert client.get_customer(7) == {"id": 7}
        assert client.add_customer({"email": CANARY}) == {"id": 7}


def test_connections_are_kept() -> None:
    """Consecutive calls share one connection."""
    with RawServer(keeps_alive) as server:
        client = client_of(server.url)
        for _ in range(3):
            client.get_customer(7)
        assert server.connections == 1


def test_each_process_has_its_own_connections() -> None:
    """A forked worker does not share its parent's connections."""
    with RawServer(keeps_alive) as server:
        client = client_of(server.url)
        client.get_customer(7)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = int(client.get_customer(7) != {"id": 7})
            finally:  # Otherwise a child that fails would go on with the other tests.
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        client.get_customer(7)
        assert server.connections == 2


def test_proxy() -> None:
    """Calls go through the configured proxy."""
    heard: list[bytes] = []

    def script(connection: socket.socket) -> None:
        heard.append(receive_request(connection))
        connection.sendall(GOOD)

    with RawServer(script) as server:
        client = client_of("http://127.0.0.1:9/api/v3", proxy_url=f"http://127.0.0.1:{server.port}")
        assert client.get_customer(7) == {"id": 7}
    assert heard[0].startswith(b"GET http://127.0.0.1:9/api/v3/1003/customers/7 HTTP/1.1")


@pytest.mark.parametrize(
    ("fault", "script", "error"), FAULTS[:4], ids=[row[0] for row in FAULTS[:4]]
)
def test_no_secret_in_an_error(fault: str, script: Script, error: type[EcwidError]) -> None:
    """No error carries the query, the token or the error of a library, which holds the URL."""
    with RawServer(script) as server, pytest.raises(error) as caught:
        client_of(server.url, **limits_of(error, 0.5, 1.0)).list_customers(email=CANARY)
    chain = chain_of(caught.value)
    # A busy machine may leave no time for a repetition, and the context is then our own error.
    assert all(isinstance(each, EcwidError) for each in chain)
    assert CANARY not in "".join(repr(each) + str(each) for each in chain)


def chain_of(error: BaseException) -> list[BaseException]:
    """Return an error, and the errors that were handled when it was raised."""
    inner = error.__cause__ or error.__context__
    return [error, *(chain_of(inner) if inner else [])]


STATUSES = [(sends(), 504), (stalls(), 504), (drips, 504), (resets, 504)]


@pytest.mark.parametrize(("script", "status"), STATUSES)
def test_fault_in_a_mounted_app(
    script: Script, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets the problem by the deadline, and no thread stays behind."""
    caplog.set_level(logging.DEBUG, "flask_ecwid")
    with RawServer(script) as server:
        app = flask.Flask("host")
        app.config.update(
            ECWID_STORE_ID="1003",
            ECWID_TOKEN=TOKEN,
            ECWID_AUTH="none",
            ECWID_API_URL=server.url,
            ECWID_READ_TIMEOUT_S="1",
            ECWID_DEADLINE_S="2",
        )
        Ecwid(app)
        threads = set(threading.enumerate())
        response = app.test_client().post(f"{PREFIX}/add_customer", json={"email": CANARY})
    assert response.status_code == status
    assert response.json is not None
    assert response.json["executed"] == "unknown"
    assert CANARY not in response.text + caplog.text
    until = time.monotonic() + 60
    while any("_run" not in each.name for each in set(threading.enumerate()) - threads):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_requests_is_a_transport_and_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client makes no requests session, which would bring cookies, redirects and proxies."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a session was made")

    monkeypatch.setattr(requests.Session, "__init__", refuse)
    with RawServer(sends(GOOD)) as server:
        assert client_of(server.url).get_customer(7) == {"id": 7}
