"""Tests of retries: their number, the waits before them, and the deadline."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response
from werkzeug.test import TestResponse

from flask_ecwid import EcwidClient, Settings, clock
from flask_ecwid.client import retries
from flask_ecwid.errors import (
    BudgetSpent,
    ConnectionLost,
    EcwidError,
    OutcomeUnknown,
    RateLimited,
    Throttled,
    Unreachable,
)

from ..conftest import STORE, TOKEN, Api, Config, app_of, is_throttled
from ..helpers.raw_server import RawServer, Script, good, resets, sends, stalls

CANARY = "canary@example.com"
FOUND_NOBODY = good(b'{"total":0,"count":0,"offset":0,"limit":100,"items":[]}')


def client_of(server: RawServer, **options: object) -> EcwidClient:
    given = {"store_id": "1003", "token": TOKEN, "api_url": server.url, **options}
    return EcwidClient(Settings(**given))  # type: ignore[arg-type]


def limited(seconds: int) -> Script:
    head = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nConnection: close\r\n"
    return sends(head + b"Retry-After: %d\r\n\r\n" % seconds)


def test_waits_are_at_random_and_grow(no_waiting: list[float]) -> None:
    """The wait before a retry is random. The limit is 0.25 s at first and then 0.5 s."""
    with RawServer(resets) as server:
        for _ in range(3):  # a fourth call would be throttled, because the breaker opens
            with pytest.raises(EcwidError):
                client_of(server).get_customer(7)
        assert server.connections == 9
    firsts, seconds = no_waiting[0::2], no_waiting[1::2]
    assert all(0 <= wait <= 0.25 for wait in firsts)
    assert all(0 <= wait <= 0.5 for wait in seconds)
    assert len({*no_waiting}) == 6


def test_the_wait_that_ecwid_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call waits for as long as Retry-After says, if that is 2 s or less."""
    waits: list[float] = []
    sleep = clock.sleep

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return sleep(seconds)

    monkeypatch.setattr(clock, "sleep", wait)
    with RawServer(limited(2), sends(good(b'{"id":7}'))) as server:
        assert client_of(server).get_customer(7) == {"id": 7}
    assert waits[0] == 2.0


def test_a_wait_that_does_not_fit(no_waiting: list[float]) -> None:
    """The caller gets the error at once if the wait would end after the deadline."""
    with RawServer(limited(2), sends(good(b'{"id":7}'))) as server:
        with pytest.raises(RateLimited) as caught:
            client_of(server, deadline_s=1.5).get_customer(7)
        assert server.connections == 1
    assert caught.value.retry_after_s == 2
    assert no_waiting == []


def test_one_deadline_for_all_calls() -> None:
    """All attempts of a call together end at the deadline."""
    with RawServer(stalls()) as server:
        begun = time.monotonic()
        with pytest.raises(EcwidError):
            client_of(server, read_timeout_s=1.8, deadline_s=3).get_customer(7)
        assert time.monotonic() - begun < 15
        assert server.connections == 2


def test_one_deadline_for_a_creation_and_its_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A creation makes no search that would begin after the deadline."""
    monkeypatch.setattr(retries, "WAITS_S", (0.0, 10.0))
    with RawServer(resets, sends(FOUND_NOBODY)) as server:
        begun = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            client_of(server, deadline_s=9.5).add_customer({"email": CANARY})
        assert time.monotonic() - begun < 9.5
        assert server.connections == 2


def test_a_creation_whose_searches_fail(no_waiting: list[float]) -> None:
    """A creation that may have happened is not sent again before a search succeeds."""
    with RawServer(resets) as server:
        with pytest.raises(OutcomeUnknown):
            client_of(server).add_customer({"email": CANARY}, first_attempt_age_s=0.0)
        assert server.connections == 3  # three searches


def test_no_creation_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A creation is not sent if the searches for an earlier attempt have used up all the time."""
    monkeypatch.setattr(retries, "WAITS_S", (0.0, 0.1, 5.0))
    listing = sends(FOUND_NOBODY)
    with RawServer(listing, stalls(for_s=30)) as server:
        with pytest.raises(EcwidError) as caught:
            client_of(server, deadline_s=4, read_timeout_s=9).add_customer(
                {"email": CANARY}, first_attempt_age_s=0.0
            )
        time.sleep(0.3)
        assert server.connections == 2  # two searches
    assert caught.value.executed == "unknown"


READS: dict[str, Callable[[EcwidClient], object]] = {
    "get": lambda client: client.get_customer(7),
    "list": lambda client: client.list_customers(),
    "deleted": lambda client: client.list_deleted(),
    "find": lambda client: client.find_customer(CANARY),
    "customers": lambda client: next(client.iter_customers()),
    "changes": lambda client: next(client.iter_changes()),
    "ping": lambda client: client.ping(),
}
FAILURES = {
    "reset": resets,
    "500": sends(b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n"),
    "cut": sends(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"),
    "redirect": sends(b"HTTP/1.1 302 x\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"),
    "no json": sends(good(b"<html>")),
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_read_has_no_effect(read: str, failure: str, no_waiting: list[float]) -> None:
    """The error of a read says that nothing was executed, also after a lost reply."""
    with RawServer(FAILURES[failure]) as server:
        with client_of(server) as client, pytest.raises(EcwidError) as caught:
            READS[read](client)
        assert server.connections >= 1
    assert caught.value.executed == "no"


WRITES: dict[str, Callable[[EcwidClient], object]] = {
    "add": lambda client: client.add_customer({"email": CANARY}),
    "update": lambda client: client.update_customer(7, {"lang": "en"}),
    "delete": lambda client: client.delete_customer(7),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_clock_that_is_set_forward(monkeypatch: pytest.MonkeyPatch, write: str) -> None:
    """A write is not sent again after its deadline on either clock.

    The caller may have given up by then and may have sent the write elsewhere.
    """
    wall = clock.wall

    def pause(seconds: float) -> bool:
        monkeypatch.setattr(clock, "wall", lambda: wall() + 31)
        return True

    monkeypatch.setattr(clock, "sleep", pause)
    with RawServer(limited(2)) as server:
        client = client_of(server)
        with pytest.raises(RateLimited):
            WRITES[write](client)
        assert server.connections == 1


def test_the_error_of_the_first_attempt_counts(no_waiting: list[float]) -> None:
    """When the rate limit stops a retry, the caller gets the error of the first attempt."""
    with RawServer(resets) as server:
        client = client_of(server, calls_per_minute=1)
        with pytest.raises(ConnectionLost) as caught:
            client.delete_customer(7)
        assert caught.value.executed == "unknown"
        with pytest.raises(BudgetSpent):
            client.delete_customer(7)
        assert server.connections == 1


def test_a_refusal_after_a_loss(no_waiting: list[float]) -> None:
    """No later reply says that nothing happened if the first attempt may have had an effect."""
    for later in (limited(60), limited(1), sends(b"HTTP/1.1 400 x\r\nContent-Length: 0\r\n\r\n")):
        with RawServer(resets, later) as server:
            with pytest.raises(EcwidError) as caught:
                client_of(server).update_customer(7, {"lang": "en"})
            assert server.connections == 2
        assert caught.value.executed == "unknown"


def test_unreachable_after_a_loss(no_waiting: list[float]) -> None:
    """A retry that cannot connect does not say that nothing happened after a lost reply."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        listener.close()
        with connection:
            resets(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/api/v3"
    with pytest.raises(Unreachable) as caught:
        EcwidClient(Settings(store_id="1003", token=TOKEN, api_url=url)).delete_customer(7)
    thread.join()
    assert caught.value.executed == "unknown"


def test_a_throttled_call_says_how_long() -> None:
    """No call is sent while Ecwid asks for a pause, and the caller learns how long to wait."""
    with RawServer(limited(60)) as server:
        client = client_of(server)
        with pytest.raises(RateLimited):
            client.get_customer(7)
        with pytest.raises(Throttled) as caught:
            client.get_customer(8)
        assert server.connections == 1
    assert caught.value.executed == "no"
    assert 50 < (caught.value.retry_after_s or 0) <= 60


def test_failures_are_logged_without_values(
    no_waiting: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """Each failed attempt is logged with its operation and its error, and without any value."""
    caplog.set_level(logging.DEBUG)
    with RawServer(resets) as server, pytest.raises(EcwidError):
        client_of(server).list_customers(email=CANARY)
    lines = [r.getMessage() for r in caplog.records if r.name == "flask_ecwid"]
    assert lines == ["call failed operation=list_customers store_id=1003 upstream-lost"] * 3
    assert "canary" not in caplog.text


class SlowRedis:
    """A Redis whose name takes longer to resolve than the deadline of a call, on a moved clock."""

    URL = "redis://redis.test:6379/0"

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._by = 0.0
        now, wall, resolve = clock.now, clock.wall, socket.getaddrinfo
        patch.setattr(clock, "now", lambda: now() + self._by)
        patch.setattr(clock, "wall", lambda: wall() + self._by)

        def getaddrinfo(host: str, *args: Any, **options: Any) -> Any:
            if host != "redis.test" or options.get("flags"):
                return resolve(host, *args, **options)
            self.later(31)
            raise socket.gaierror(socket.EAI_AGAIN, "no reply")

        patch.setattr(socket, "getaddrinfo", getaddrinfo)

    def later(self, seconds: float) -> None:
        self._by += seconds


@pytest.fixture
def slow_redis(monkeypatch: pytest.MonkeyPatch) -> SlowRedis:
    return SlowRedis(monkeypatch)


def is_out_of_time(response: TestResponse) -> bool:
    detail = "No time was left for the call."
    return is_throttled(response, 1) and response.get_json()["detail"] == detail


OPERATIONS: dict[str, Callable[[Api], TestResponse]] = {
    "get": lambda api: api.get("/customer/7"),
    "list": lambda api: api.get("/customers"),
    "add": lambda api: api.post("/add_customer", {"email": CANARY}),
    "update": lambda api: api.post("/update_customer/7", {"lang": "en"}),
    "delete": lambda api: api.post("/delete_customer/7"),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_time_that_ran_out_before_the_call(
    ecwid: HTTPServer, config: Config, slow_redis: SlowRedis, operation: str
) -> None:
    """A call whose time ran out before it was sent is no failure of Ecwid, and opens no breaker."""
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json({"id": 7})
    api = Api(app_of({**config, "ECWID_REDIS_URL": slow_redis.URL}).test_client())
    for _ in range(6):
        assert is_out_of_time(OPERATIONS[operation](api))
        slow_redis.later(6)  # so that the next call tries Redis again
    assert ecwid.log == []
    assert is_out_of_time(api.get("/customer/7"))
    assert api.get("/customer/7").status_code == 200


@pytest.mark.parametrize(
    ("failure", "failures"),
    [
        (Response(status=500), 5),
        (Response('{"errorCode":"INVALID_API_TOKEN"}', 403), 1),
    ],
)
@pytest.mark.usefixtures("no_waiting")
def test_a_probe_that_ran_out_of_time(
    ecwid: HTTPServer, config: Config, slow_redis: SlowRedis, failure: Response, failures: int
) -> None:
    """If the probe of a call runs out of time, the next call sends the probe."""
    for _ in range(failures):
        ecwid.expect_oneshot_request(f"{STORE}/customers/7").respond_with_response(failure)
    if failures > 1:  # Only the neutral question then shows that every call fails.
        ecwid.expect_oneshot_request(f"{STORE}/customers").respond_with_response(failure)
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json({"id": 7})
    ecwid.expect_request(f"{STORE}/customers").respond_with_json({"total": 0, "items": []})
    api = Api(app_of({**config, "ECWID_REDIS_URL": slow_redis.URL}).test_client())
    assert is_out_of_time(api.get("/customer/7"))
    while len(ecwid.log) < failures:
        assert api.get("/customer/7").status_code == 502
    assert api.get("/customer/7").status_code == 503
    made = len(ecwid.log)
    slow_redis.later(31)
    assert is_throttled(api.get("/customer/7"), 1)
    assert len(ecwid.log) == made
    assert api.get("/customer/7").status_code == 200


def test_a_search_whose_time_ran_out(
    ecwid: HTTPServer, config: Config, slow_redis: SlowRedis
) -> None:
    """A search whose time ran out before it was sent is no failure of Ecwid."""
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json({"id": 7})
    app = app_of({**config, "ECWID_REDIS_URL": slow_redis.URL})
    client: EcwidClient = app.extensions["ecwid"]["ecwid"].client
    for _ in range(6):
        slow_redis.later(6)  # so that the next call tries Redis again
        with pytest.raises(OutcomeUnknown):
            client.add_customer({"email": CANARY}, first_attempt_age_s=0.0)
    assert ecwid.log == []
    assert client.get_customer(7) == {"id": 7}


def test_a_search_finds_a_customer_that_does_not_fit(no_waiting: list[float]) -> None:
    """A search finds the created customer even if the rest of the page breaks the contract."""
    registered = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S +0000")
    shown = {"id": 7, "email": CANARY, "registered": registered, "stats": "no object"}
    page = good(json.dumps({"total": "1", "items": [shown]}).encode())
    with RawServer(resets, sends(page)) as server:
        assert client_of(server).add_customer({"email": CANARY}) == {"id": 7}
        assert server.connections == 2
