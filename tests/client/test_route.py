"""Tests of the way to Ecwid: proxies, TLS, IPv6, and hosts with several addresses."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from flask_ecwid import EcwidClient, Settings, clock
from flask_ecwid.errors import TlsFailed, Unreachable
from flask_ecwid.storage import names

from ..conftest import TOKEN
from ..helpers import faults
from ..helpers.faults import EMAIL, GOOD_BODIES
from ..helpers.raw_server import RawServer, Script, ScriptedServer, receive_request

USER, PASSWORD = "canary", "p@ss:wörd"
CREDENTIALS = f"{USER}:p%40ss%3Aw%C3%B6rd"
BASIC = b"Proxy-Authorization: Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode())

keeps = faults.reply(200, GOOD_BODIES)


class Certificates:
    """An authority, and the TLS of a server with a certificate of it."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.bundle = str(folder / "ca.pem")
        authority.cert_pem.write_to_path(self.bundle)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1", "::1", "localhost").configure_cert(self._context)

    def wrap(self, connection: socket.socket) -> socket.socket:
        return self._context.wrap_socket(connection, server_side=True)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


def client_of(url: str, **options: Any) -> EcwidClient:
    limits = {"connect_timeout_s": 2.0, "read_timeout_s": 5.0, "deadline_s": 10.0, **options}
    return EcwidClient(Settings(store_id="1003", token=TOKEN, api_url=url, **limits))


class Proxy:
    """A proxy that opens tunnels, and keeps the headers of the requests that it got."""

    def __init__(
        self, reply: bytes = b"HTTP/1.1 200 Connected\r\nX-Proxy: 1\r\n\r\n", *, opens: bool = True
    ) -> None:
        self.heard: list[bytes] = []
        self._reply = reply
        self._opens = opens

    def __call__(self, caller: socket.socket) -> None:
        head = receive_request(caller)
        self.heard.append(head)
        caller.sendall(self._reply)
        if not self._opens:
            return
        host, _, port = head.split()[1].decode().rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port))) as target:
            back = threading.Thread(target=copy, args=(target, caller), daemon=True)
            back.start()
            copy(caller, target)
            back.join(20)


def copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while received := source.recv(65_536):
            target.sendall(received)
        target.shutdown(socket.SHUT_RDWR)


def over_tls(certificates: Certificates, script: Script) -> Script:
    def talks(connection: socket.socket) -> None:
        with certificates.wrap(connection) as secure:
            script(secure)

    return talks


@pytest.fixture
def secure(certificates: Certificates) -> Iterator[ScriptedServer]:
    """Provide a store over TLS."""
    with ScriptedServer(keeps, connects=certificates.wrap) as server:
        server.url = server.url.replace("http:", "https:")
        yield server


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_tunnel(secure: ScriptedServer, certificates: Certificates, scheme: str) -> None:
    """A call over TLS goes through a tunnel of the proxy, which alone gets the password."""
    proxy = Proxy()
    script = over_tls(certificates, proxy) if scheme == "https" else proxy
    with RawServer(script) as server:
        client = client_of(
            secure.url,
            ca_bundle=certificates.bundle,
            proxy_url=f"{scheme}://{CREDENTIALS}@127.0.0.1:{server.port}",
        )
        assert client.get_customer(7)["id"] == 7
        assert client.add_customer({"email": EMAIL}) == {"id": 7}
        client.close()
    [head] = proxy.heard  # both calls share the tunnel
    place = f"127.0.0.1:{secure.port}".encode()
    assert head.startswith(b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n" % (place, place))
    assert BASIC in head.split(b"\r\n")
    assert TOKEN.encode() not in head
    assert [call.kind for call in secure.heard] == ["get_customer", "add_customer"]
    assert all(b"Proxy-Authorization" not in call.headers for call in secure.heard)


def test_a_stray_reply_within_two_layers_of_tls(certificates: Certificates) -> None:
    """A reply that nobody asked for is noticed, although TLS has received it with another.

    The proxy sends both replies in one record, so no poll of the socket shows the second.
    """
    reply = b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{"id":%d}'

    def sends_two(connection: socket.socket) -> None:
        while receive_request(connection):
            connection.sendall(reply % 7)
            connection.sendall(reply % 9)

    def joins(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while received := source.recv(65_536):
                time.sleep(0.1)
                with contextlib.suppress(BlockingIOError):
                    received += source.recv(65_536, socket.MSG_DONTWAIT)
                target.sendall(received)

    def proxy(caller: socket.socket) -> None:
        receive_request(caller)
        caller.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        with socket.create_connection(("127.0.0.1", upstream.port)) as target:
            threading.Thread(target=joins, args=(target, caller), daemon=True).start()
            copy(caller, target)

    with (
        RawServer(over_tls(certificates, sends_two)) as upstream,
        RawServer(over_tls(certificates, proxy)) as server,
    ):
        client = client_of(
            upstream.url.replace("http:", "https:"),
            ca_bundle=certificates.bundle,
            proxy_url=f"https://127.0.0.1:{server.port}",
        )
        assert [client.get_customer(7)["id"] for _ in range(3)] == [7, 7, 7]


def test_a_proxy_for_plain_http() -> None:
    """A call over plain HTTP names its whole URL, and the proxy gets the password with it."""
    proxy = Proxy(b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\n{}", opens=False)
    with RawServer(proxy) as server:
        url = f"http://{CREDENTIALS}@127.0.0.1:{server.port}"
        client = client_of("http://127.0.0.1:9/api/v3", proxy_url=url)
        with pytest.raises(Exception, match="customer-not-found"):
            client.get_customer(7)
    lines = proxy.heard[0].split(b"\r\n")
    assert lines[:2] == [
        b"GET http://127.0.0.1:9/api/v3/1003/customers/7 HTTP/1.1",
        b"Host: 127.0.0.1:9",
    ]
    assert BASIC in lines


TUNNELS = {
    "refused": b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
    "a redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\n\r\n",
    "more bytes": b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "no HTTP": b"SSH-2.0-x\r\n",
    "cut": b"HTTP/1.1 200 OK\r\nX: ",
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    "too many bytes": b"HTTP/1.1 200 OK\r\nX: " + b"y" * (10 << 20),
    "nothing": b"",
}


@pytest.mark.parametrize("opens", [False, True])
@pytest.mark.parametrize("reply", TUNNELS)
@pytest.mark.usefixtures("no_waiting")
def test_a_tunnel_that_does_not_open(secure: ScriptedServer, reply: str, opens: bool) -> None:
    """A call is not sent without a proxy's good reply, even if the proxy opens the tunnel."""
    with RawServer(Proxy(TUNNELS[reply], opens=opens)) as server:
        proxy_url = f"http://{CREDENTIALS}@127.0.0.1:{server.port}"
        client = client_of(secure.url, proxy_url=proxy_url, connect_timeout_s=0.5)
        with pytest.raises(Unreachable) as caught:
            client.add_customer({"email": EMAIL})
    assert caught.value.executed == "no"
    assert secure.heard == []


def test_the_certificate_behind_a_proxy(secure: ScriptedServer) -> None:
    """The certificate of the host is checked through a tunnel as well."""
    with RawServer(Proxy()) as server, pytest.raises(TlsFailed):
        client_of(secure.url, proxy_url=f"http://127.0.0.1:{server.port}").get_customer(7)
    assert secure.heard == []


def test_no_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment is not used."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with ScriptedServer(keeps) as server:
        assert client_of(server.url).get_customer(7)["id"] == 7


def test_what_a_call_has() -> None:
    """A call has one of each header, and its body in the same request."""
    with ScriptedServer(keeps) as server:
        client_of(server.url).add_customer({"email": EMAIL})
    [call] = server.heard
    first, *lines, _, _ = (call.headers + b"\r\n\r\n").split(b"\r\n")
    headers = dict(line.decode().split(": ", 1) for line in lines)
    agent = headers.pop("User-Agent")
    assert first == b"POST /api/v3/1003/customers HTTP/1.1"
    assert agent.startswith("flask-ecwid/")
    assert len(lines) == len(headers) + 1
    assert headers == {
        "Host": f"127.0.0.1:{server.port}",
        "Authorization": f"Bearer {TOKEN}",
        "Accept": "application/json",
        "Accept-Encoding": "gzip",
        "Content-Type": "application/json",
        "Content-Length": str(len(call.body)),
    }


def test_ipv6(certificates: Certificates) -> None:
    """The host can be an IPv6 address, over TLS too."""
    heard: list[bytes] = []

    def replies(connection: socket.socket) -> None:
        heard.append(receive_request(connection))
        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{"id":7}')

    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                over_tls(certificates, replies)(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        client = client_of(f"https://[::1]:{port}/api/v3", ca_bundle=certificates.bundle)
        assert client.get_customer(7) == {"id": 7}
        thread.join(20)
        client.close()
    assert f"\r\nHost: [::1]:{port}\r\n".encode() in heard[0]


class Host:
    """The name `localhost` with two addresses, of which one is dead, and the addresses tried."""

    DEAD, GOOD = "127.0.0.9", "127.0.0.1"

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._by = 0.0
        self._tried: list[str] = []
        resolve, connect, now = socket.getaddrinfo, socket.socket.connect, clock.now

        def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
            if host != "localhost" or options.get("flags"):
                return resolve(host, *args, **options)
            kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            return [(*kind, (address, 0)) for address in (self.DEAD, self.GOOD)]

        def notes(sock: socket.socket, address: Any) -> None:
            self._tried.append(address[0])
            connect(sock, address)

        patch.setattr(names, "_postponed", {})
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        patch.setattr(socket.socket, "connect", notes)
        patch.setattr(clock, "now", lambda: now() + self._by)

    def later(self, seconds: float) -> None:
        self._by += seconds

    def tried_by(self, call: Callable[[], object]) -> list[str]:
        """Return the addresses that a call has tried."""
        self._tried.clear()
        call()
        return [*self._tried]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


def test_a_dead_address(host: Host) -> None:
    """An address that does not answer comes last for a minute, also for another client."""
    with ScriptedServer(faults.reply(200, GOOD_BODIES, b"Connection: close", keep=False)) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        first, second = client_of(url), client_of(url)
        assert host.tried_by(lambda: first.get_customer(7)) == [host.DEAD, host.GOOD]
        assert host.tried_by(lambda: first.get_customer(7)) == [host.GOOD]
        assert host.tried_by(lambda: second.add_customer({"email": EMAIL})) == [host.GOOD]
        host.later(61)
        assert host.tried_by(lambda: first.get_customer(7)) == [host.DEAD, host.GOOD]


def test_an_address_whose_tls_does_not_answer(host: Host, certificates: Certificates) -> None:
    """An address that hangs up during the TLS handshake comes last too."""
    with ScriptedServer(keeps, connects=certificates.wrap) as server, contextlib.ExitStack() as end:
        hung_up = end.enter_context(socket.create_server((host.DEAD, server.port)))

        def serve() -> None:
            connection, _ = hung_up.accept()
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        client = client_of(f"https://localhost:{server.port}/api/v3", ca_bundle=certificates.bundle)
        assert host.tried_by(lambda: client.get_customer(7)) == [host.DEAD, host.GOOD]
        thread.join(20)
        client.close()
        other = client_of(f"https://localhost:{server.port}/api/v3", ca_bundle=certificates.bundle)
        assert host.tried_by(lambda: other.get_customer(7)) == [host.GOOD]
        other.close()


def test_all_addresses_postponed(host: Host) -> None:
    """A host whose addresses are all postponed is tried in the resolver's order."""
    for address in (host.GOOD, host.DEAD):
        names.postpone(address)
    assert names.addresses("localhost", 1) == [host.DEAD, host.GOOD]


@pytest.mark.usefixtures("host")
def test_postponed_addresses_are_few() -> None:
    """A process remembers a bounded number of addresses that have failed, and the latest first."""
    for number in range(300):
        names.postpone(f"10.0.{number // 256}.{number % 256}")
    assert len(names._postponed) <= 64
    assert "10.0.1.43" in names._postponed
