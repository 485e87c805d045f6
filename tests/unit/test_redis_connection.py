"""The connection to Redis: name resolution in bounded time, TCP, TLS and sockets."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme
from pytest_httpserver import HTTPServer

from flask_ecwid import clock
from flask_ecwid.storage import work
from flask_ecwid.storage.redis_connection import RedisConnection, RedisUnavailable

from ..conftest import Api, app_of, config_of
from ..helpers.raw_server import RawServer, Script, fill
from ..helpers.redis_server import RedisServer

HOST = "redis.test"


class Resolver:
    """A resolver that hangs on the name of the Redis host, or knows its addresses."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        self.addresses: list[str] = []  # None while the resolver hangs
        self.answers = clock.Event()
        self._real = socket.getaddrinfo
        patch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: Any, *args: Any, **options: Any) -> Any:
        if host != HOST or options.get("flags"):
            return self._real(host, *args, **options)
        self.asked += 1
        if not self.addresses:
            self.answers.wait(100)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return [found for address in self.addresses for found in self._real(address, 0)]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    resolver = Resolver(monkeypatch)
    yield resolver
    resolver.answers.set()


def responds(link: RedisConnection) -> bool:
    try:
        with link.connection() as redis:
            return bool(redis.ping())
    except RedisUnavailable:
        return False


def test_a_resolver_that_hangs(ecwid: HTTPServer, resolver: Resolver) -> None:
    """A resolver that hangs on the name of the Redis host stops no read and opens no breaker."""
    ecwid.expect_request("/api/v3/1003/customers/7").respond_with_json({"id": 7})
    config = {**config_of(ecwid), "ECWID_REDIS_URL": f"redis://{HOST}:6379/0"}
    app = app_of({**config, "ECWID_CACHE_TTL_S": 5})

    def ask(_: int) -> int:
        return Api(app.test_client()).get("/customer/7").status_code

    begun = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, range(40))) == {200}
    assert [ask(0) for _ in range(20)] == [200] * 20
    assert time.monotonic() - begun < 60
    assert resolver.asked == 1


def test_a_name_with_a_dead_address(
    redis: RedisServer, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that does not reply leaves time for the next address of the same name."""
    monkeypatch.setattr(work, "TRIP_S", 4.0)
    port = int(redis.url.rpartition(":")[2].partition("/")[0])
    resolver.addresses = ["127.0.0.2", "127.0.0.1"]
    with socket.socket() as listener:
        listener.bind(("127.0.0.2", port))
        with fill(listener):
            assert responds(RedisConnection(f"redis://{HOST}:{port}/0"))


def test_a_name_without_an_address(resolver: Resolver) -> None:
    """A Redis whose name is invalid or does not resolve counts as unavailable."""
    resolver.answers.set()
    assert not responds(RedisConnection(f"redis://{HOST}:6379/0"))
    assert not responds(RedisConnection("redis://a..b:6379/0"))


def forwards_to(redis: RedisServer, name: str, authority: trustme.CA) -> Script:
    """Return a script that puts TLS with a certificate of this name in front of a Redis."""
    port = int(redis.url.rpartition(":")[2].partition("/")[0])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)

    def script(connection: socket.socket) -> None:
        with (
            context.wrap_socket(connection, server_side=True) as near,
            socket.create_connection(("127.0.0.1", port)) as far,
        ):
            while True:
                for ready in select.select([near, far], [], [])[0]:
                    received = ready.recv(65_536)
                    if not received:
                        return
                    (far if ready is near else near).sendall(received)

    return script


@pytest.mark.parametrize(("name", "good"), [(HOST, True), ("other.test", False)])
def test_tls_checks_the_name(
    redis: RedisServer,
    resolver: Resolver,
    tmp_path: Path,
    name: str,
    good: bool,
) -> None:
    """TLS accepts only a certificate with the name in the URL."""
    resolver.addresses = ["127.0.0.1"]
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with RawServer(forwards_to(redis, name, authority)) as server:
        url = f"rediss://{HOST}:{server.port}/0?ssl_ca_certs={tmp_path / 'ca.pem'}"
        assert responds(RedisConnection(url)) is good


def test_a_unix_socket(tmp_path: Path) -> None:
    """A Redis at a UNIX socket needs no host name."""
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as threads:
        listener.bind(str(tmp_path / "redis.sock"))
        listener.listen()
        link = RedisConnection(f"unix://{tmp_path / 'redis.sock'}")
        asked = threads.submit(responds, link)
        listener.settimeout(30)
        listener.accept()[0].close()
        assert asked.result() is False
