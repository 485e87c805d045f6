"""Tests that no lock is held during I/O or while another lock is taken, by one request or many."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from flask_ecwid import clock
from flask_ecwid.sandbox import Fault

from ..conftest import Api, app_of, config_of
from ..helpers.lock_watch import LockWatch
from ..helpers.ordered_store import OrderedStore
from ..helpers.redis_server import RedisServer

REFUSED = Response(json.dumps({"errorCode": "INVALID_API_TOKEN"}), 403)
CUSTOMER = {"id": 7, "email": "canary@example.com"}
PAGE = {"total": 1, "count": 1, "offset": 0, "limit": 100, "items": [CUSTOMER]}
GOOD = {"POST": {"id": 7}, "PUT": {"updateCount": 1}, "DELETE": {"deleteCount": 1}}


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> LockWatch:
    return LockWatch(monkeypatch)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the seconds by which the clock is moved forward."""
    by = [0.0]
    now, wall = clock.now, clock.wall
    monkeypatch.setattr(clock, "now", lambda: now() + by[0])
    monkeypatch.setattr(clock, "wall", lambda: wall() + by[0])
    return by


class Store:
    """A simulated Ecwid over real sockets, which accepts or refuses the token."""

    def __init__(self, server: HTTPServer) -> None:
        self.refuses = False
        server.expect_request(re.compile(".*")).respond_with_handler(self._reply)

    def _reply(self, request: Request) -> Response:
        if self.refuses:
            return REFUSED
        found = PAGE if request.path.endswith("customers") else CUSTOMER
        return Response(json.dumps(GOOD.get(request.method, found)))


def ask_at_once(apps: list[Flask], threads: int = 8) -> set[int]:
    """Send every operation to several apps from several threads at once."""

    def ask(number: int) -> list[int]:
        api = Api(apps[number % len(apps)].test_client())
        key = {"Idempotency-Key": f"key-{number}"}
        email = {"email": f"canary{number}@example.com"}
        return [
            api.get("/customers").status_code,
            api.get("/customer/7").status_code,
            api.post("/add_customer", email).status_code,
            api.post("/add_customer", email, headers=key).status_code,
            api.post("/update_customer/7", {"lang": "en"}).status_code,
            api.post("/delete_customer/7").status_code,
        ]

    with ThreadPoolExecutor(threads) as pool:
        return {status for statuses in pool.map(ask, range(2 * threads)) for status in statuses}


def use(
    store: Store, apps: list[Flask], later: list[float], redis: RedisServer | None = None
) -> None:
    """Let Ecwid accept the token, refuse it, and accept it again."""

    def pass_time(seconds: float) -> None:
        later[0] += seconds
        if redis:
            redis.age(seconds)

    assert 200 in ask_at_once(apps)
    store.refuses = True
    pass_time(1)
    assert ask_at_once(apps) <= {200, 502, 503}
    pass_time(31)
    assert ask_at_once(apps) <= {200, 502, 503}
    store.refuses = False
    pass_time(31)
    ask_at_once(apps)
    assert 200 in ask_at_once(apps)


def test_a_lock_under_a_lock(watch: LockWatch) -> None:
    """The watch notices a lock that is taken while another is held, because a fork takes all."""
    first, second = clock.Lock(), clock.Lock()
    with first:
        pass
    with second:
        assert watch.violations == set()
        with first:
            pass
    place = "test_locks.test_a_lock_under_a_lock"
    assert watch.violations == {f"the lock of {place} under the lock of {place}"}


def test_in_memory(ecwid: HTTPServer, watch: LockWatch, later: list[float]) -> None:
    """No lock is held while a call is sent or a request waits, without Redis."""
    config = {**config_of(ecwid), "ECWID_CACHE_TTL_S": 5}
    use(Store(ecwid), [app_of(config) for _ in range(2)], later)
    assert watch.made >= 10
    assert watch.seen >= {"RequestsTransport.send", "socket.connect", "sqlite3.execute"}
    assert watch.violations == set()


def test_in_the_file(
    ecwid: HTTPServer, watch: LockWatch, later: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No lock is held while processes share a pause through the host's file."""
    monkeypatch.setenv("FLASK_ECWID_SERVICE", "locks")
    use(Store(ecwid), [app_of(config_of(ecwid)) for _ in range(2)], later)
    assert watch.seen >= {"RequestsTransport.send", "sqlite3.execute"}
    assert watch.violations == set()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def test_in_redis(
    ecwid: HTTPServer, watch: LockWatch, later: list[float], own_redis: RedisServer
) -> None:
    """No lock is held during calls to Redis, even when Redis stops and comes back."""
    config = {**config_of(ecwid), "ECWID_REDIS_URL": own_redis.url, "ECWID_CACHE_TTL_S": 5}
    store, apps = Store(ecwid), [app_of(config) for _ in range(2)]
    use(store, apps, later, own_redis)
    own_redis.stop()
    assert 200 in ask_at_once(apps)
    own_redis.start_again()
    later[0] += 6  # Redis is tried again, and its count of calls is not trusted
    use(store, apps, later, own_redis)
    assert watch.seen >= {"RequestsTransport.send", "RedisConnection.connection", "socket.sendall"}
    assert watch.violations == set()


def test_in_the_sandbox(ordered: OrderedStore, watch: LockWatch) -> None:
    """No lock is held while a call fails and is retried in the sandbox."""
    ordered.orders.inject(Fault("status", operation="get_customer", status=500, nth=3))
    assert 200 in ask_at_once([ordered.api()._client.application])
    assert watch.seen >= {"RequestsTransport.send", "sqlite3.execute"}
    assert watch.violations == set()
