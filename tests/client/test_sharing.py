"""Equal reads that are under way share one call, over real sockets."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest

from flask_ecwid import EcwidClient, Settings
from flask_ecwid.errors import (
    ConnectionLost,
    CustomerNotFound,
    DeadlineExceeded,
    EcwidError,
    EcwidUnavailable,
    RateLimited,
    Rejected,
    ServiceRefused,
)

from ..conftest import PREFIX, TOKEN, app_of
from ..helpers.joined_reads import JOIN_MOST_S, count_joined
from ..helpers.raw_server import Gate, RawServer, Script, good, resets, sends, stalls
from ..helpers.waiting import happens

CALLERS = 8


def client_of(server: RawServer, **options: Any) -> EcwidClient:
    return EcwidClient(Settings(store_id="1003", token=TOKEN, api_url=server.url, **options))


Together = Callable[[Gate, RawServer, list[Callable[[], Any]]], list[Future[Any]]]


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4 * CALLERS) as pool:
        yield pool


@pytest.fixture
def ask_together(callers: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> Together:
    """Return a function that sends the first read, and the others while its reply is delayed.

    Each of the others has joined the first, or has a connection of its own, before the gate opens.
    """
    joined = count_joined(monkeypatch)

    def ask(gate: Gate, server: RawServer, asks: list[Callable[[], Any]]) -> list[Future[Any]]:
        before = joined() + server.connections
        first = callers.submit(asks[0])
        assert gate.asked.wait(20)
        others = [callers.submit(ask) for ask in asks[1:]]
        assert happens(lambda: joined() + server.connections == before + len(asks))
        gate.open()
        return [first, *others]

    return ask


def test_equal_reads_share_one_call(ask_together: Together) -> None:
    """Reads of the same customer at the same time share one call.

    Each caller gets a copy of their own.
    """
    gate = Gate()
    with RawServer(gate.before(sends(good(b'{"id":7}')))) as server:
        client = client_of(server)
        asked = ask_together(gate, server, [lambda: client.get_customer(7)] * CALLERS)
        customers = [each.result(20) for each in asked]
        assert server.connections == 1
    assert customers == [{"id": 7}] * CALLERS
    assert len({id(customer) for customer in customers}) == CALLERS


def test_the_order_of_the_filters_does_not_matter(ask_together: Together) -> None:
    """Reads with the same filters in another order share one call."""
    gate = Gate()
    page = b'{"total":0,"count":0,"offset":0,"limit":100,"items":[]}'
    with RawServer(gate.before(sends(good(page)))) as server:
        client = client_of(server)
        asks = [
            lambda: client.list_customers(email="a@example.com", lang="en"),
            lambda: client.list_customers(lang="en", email="a@example.com"),
        ]
        for each in ask_together(gate, server, asks):
            each.result(20)
        assert server.connections == 1


def test_different_reads_do_not_share(ask_together: Together) -> None:
    """Reads of another customer, with other filters or other fields share no call."""
    gate = Gate()
    with RawServer(gate.before(sends(good(b'{"id":7,"total":0,"items":[]}')))) as server:
        client, other = client_of(server), client_of(server)
        asks = [
            lambda: client.get_customer(7),
            lambda: client.get_customer(8),
            lambda: client.get_customer(7, responseFields="email"),
            lambda: client.list_customers(),
            lambda: client.list_customers(offset=1),
            lambda: other.get_customer(7),
        ]
        for each in ask_together(gate, server, asks):
            each.result(20)
        assert server.connections == len(asks)


def test_writes_do_not_share(ask_together: Together) -> None:
    """Equal writes at the same time share no call."""
    gate = Gate()
    with RawServer(gate.before(sends(good(b'{"id":7}')))) as server:
        client = client_of(server)
        new = {"email": "new@example.com"}
        for each in ask_together(gate, server, [lambda: client.add_customer(new)] * CALLERS):
            each.result(20)
        assert server.connections == CALLERS


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("404 Not Found", CustomerNotFound),
        ("400 Bad", Rejected),
        ("403 Forbidden", ServiceRefused),
        ("402 Pay", ServiceRefused),
        ("429 Slow\r\nRetry-After: 30", RateLimited),
        ("503 Later\r\nRetry-After: 30", EcwidUnavailable),
    ],
)
def test_a_refusal_is_shared(ask_together: Together, status: str, error: type[EcwidError]) -> None:
    """Callers that share a call get the same refusal."""
    gate = Gate()
    refusal = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
    with RawServer(gate.before(sends(refusal))) as server:
        client = client_of(server)
        asked = ask_together(gate, server, [lambda: client.get_customer(7)] * CALLERS)
        problems = []
        for each in asked:
            refused = each.exception(20)
            assert isinstance(refused, error)
            problems.append((refused.problem("an id", write=True), refused.retry_after_s))
        assert problems == [problems[0]] * CALLERS
        assert server.connections == 1


def test_a_failure_is_not_shared(ask_together: Together) -> None:
    """If the shared call brings no reply, each other caller makes a call of their own."""
    gate = Gate()
    failing = [gate.before(resets), resets, resets]  # one for each attempt of the first caller
    with RawServer(*failing, sends(good(b'{"id":7}'))) as server:
        client = client_of(server)
        first, *others = ask_together(gate, server, [lambda: client.get_customer(7)] * CALLERS)
        assert isinstance(first.exception(20), ConnectionLost)
        assert [each.result(20) for each in others] == [{"id": 7}] * (CALLERS - 1)


def test_a_slow_call_delays_no_other_caller(callers: ThreadPoolExecutor) -> None:
    """No caller waits for the call of another caller longer than half of their own deadline."""
    gate = Gate()
    gate.open()
    with RawServer(gate.before(stalls()), sends(good(b'{"id":7}'))) as server:
        client = client_of(server, deadline_s=9, read_timeout_s=30)
        first = callers.submit(client.get_customer, 7)
        assert gate.asked.wait(20)
        begun = time.monotonic()
        assert client.get_customer(7) == {"id": 7}
        assert time.monotonic() - begun < 9
        assert not first.done()
        assert isinstance(first.exception(20), DeadlineExceeded)


def test_the_deadline_covers_waiting_and_calling(callers: ThreadPoolExecutor) -> None:
    """A caller's deadline covers the wait for a shared call and the caller's own call."""
    gate = Gate()
    gate.open()
    with RawServer(gate.before(stalls(for_s=30))) as server:
        client = client_of(server, deadline_s=9, read_timeout_s=30)
        callers.submit(client.get_customer, 7)
        assert gate.asked.wait(20)
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            client.get_customer(7)
        assert time.monotonic() - begun < 13  # half a deadline and a whole deadline would be 13.5 s


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("written", [sends(good(b'{"updateCount":1}')), resets], ids=["ok", "lost"])
def test_a_read_after_a_write_joins_no_older_read(
    callers: ThreadPoolExecutor, written: Script, same: bool
) -> None:
    """A read after a write, also of another client or without a reply, joins no older read."""
    gate = Gate()
    old, new = good(b'{"id":7,"lang":"en"}'), good(b'{"id":7,"lang":"de"}')
    with RawServer(gate.before(sends(old)), written, written, sends(new)) as server:
        client = client_of(server)
        older = callers.submit(client.get_customer, 7)
        assert gate.asked.wait(20)
        writer = client if same else client_of(server)
        for _ in range(1 if written is resets else 2):
            with contextlib.suppress(ConnectionLost):
                writer.update_customer(7, {"lang": "de"})
        newer = callers.submit(client.get_customer, 7)
        wait([newer], 1)  # a read that joins waits for the gate
        gate.open()
        assert newer.result(20)["lang"] == "de"
        assert older.result(20)["lang"] == "en"


def test_a_read_joins_no_read_that_began_long_before(
    callers: ThreadPoolExecutor, ask_together: Together, later: Callable[[float], None]
) -> None:
    """A read sees each change from before the last second, whoever made the change.

    The read joins no read that is older, and later reads join the newer read.
    """
    old_gate, new_gate = Gate(), Gate()
    old, new = good(b'{"id":7,"lang":"en"}'), good(b'{"id":7,"lang":"de"}')
    with RawServer(old_gate.before(sends(old)), new_gate.before(sends(new))) as server:
        client = client_of(server, deadline_s=300)
        older = callers.submit(client.get_customer, 7)
        assert old_gate.asked.wait(20)
        later(JOIN_MOST_S)
        newer = ask_together(new_gate, server, [lambda: client.get_customer(7)] * CALLERS)
        assert {each.result(20)["lang"] for each in newer} == {"de"}
        assert server.connections == 2
        old_gate.open()
        assert older.result(20)["lang"] == "en"


def test_consecutive_reads_share_no_call() -> None:
    """Consecutive reads share no call, because the client keeps no result."""
    with RawServer(sends(good(b'{"id":7}'))) as server:
        client = client_of(server)
        for _ in range(3):
            client.get_customer(7)
        assert server.connections == 3


def test_each_request_keeps_its_own_id(ask_together: Together) -> None:
    """Requests that share a call still respond with their own ids."""
    gate = Gate()
    page = b'{"total":0,"count":0,"offset":0,"limit":100,"items":[]}'
    with RawServer(gate.before(sends(good(page)))) as server:
        store = {"ECWID_STORE_ID": "1003", "ECWID_TOKEN": TOKEN, "ECWID_AUTH": "none"}
        app = app_of({**store, "ECWID_API_URL": server.url})
        asks = [lambda: app.test_client().get(f"{PREFIX}/customers")] * CALLERS
        responses = [each.result(20) for each in ask_together(gate, server, asks)]
        assert server.connections == 1
    ids = [response.get_json()["data"]["id"] for response in responses]
    assert ids == [response.headers["X-Request-ID"] for response in responses]
    assert len(set(ids)) == CALLERS
