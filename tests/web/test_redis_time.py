"""All trips to Redis of a request have one bound of time, and a lost reply costs no failure."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from werkzeug.test import TestResponse

from flask_ecwid import EcwidClient
from flask_ecwid.storage import redis_connection, work
from flask_ecwid.storage.redis_connection import RedisConnection, RedisUnavailable
from flask_ecwid.storage.redis_state import RedisState
from flask_ecwid.storage.state import StateUnavailable
from flask_ecwid.storage.work import OUTCOME_S, REDIS_S, TRIP_S, piece_of_work

from ..conftest import Api
from ..helpers.ordered_store import OrderedStore
from ..helpers.raw_server import RawServer
from ..helpers.redis_server import RedisServer
from ..helpers.relay import Relay
from ..helpers.slow_relay import SlowRelay

NEW = {"email": "someone@example.com"}
KEY = {"Idempotency-Key": "0123456789abcdef0123"}
REQUESTS: dict[str, Callable[[Api], TestResponse]] = {
    "get": lambda api: api.get("/customer/172889711"),
    "list": lambda api: api.get("/customers"),
    "add": lambda api: api.post("/add_customer", NEW),
    "add with a key": lambda api: api.post("/add_customer", NEW, headers=KEY),
    "update": lambda api: api.post("/update_customer/172889711", {"lang": "en"}),
    "delete": lambda api: api.post("/delete_customer/172889711"),
}


@pytest.fixture
def relay(redis: RedisServer) -> Iterator[SlowRelay]:
    with SlowRelay(redis) as relay:
        yield relay


@pytest.fixture
def bounds(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that sets the bounds of the plugin, or a multiple of each of them."""

    def multiply(by: float) -> None:
        monkeypatch.setattr(work, "REDIS_S", by * REDIS_S)
        monkeypatch.setattr(work, "OUTCOME_S", by * OUTCOME_S)
        for module in (work, redis_connection):
            monkeypatch.setattr(module, "TRIP_S", by * TRIP_S)

    multiply(1)
    return multiply


def mounted(ordered: OrderedStore, relay: SlowRelay) -> Api:
    return ordered.api(ECWID_REDIS_URL=relay.redis_url, ECWID_CACHE_TTL_S=60)


@pytest.mark.parametrize("delay_s", [0.07, 0.13, 0.19, 0.5])
@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.usefixtures("bounds")
def test_a_slow_redis(ordered: OrderedStore, relay: SlowRelay, name: str, delay_s: float) -> None:
    """A slow Redis delays a request by its bound at most, and does not delay the next request.

    Two delays go on although nobody waits for them any more, before and after the call to Ecwid.
    """
    api = mounted(ordered, relay)
    relay.delay_s = delay_s
    REQUESTS[name](api)
    assert relay.connections
    assert relay.delayed_s <= REDIS_S + 2 * delay_s
    if relay.delayed_s > REDIS_S:
        commands = relay.commands
        REQUESTS["get"](api)
        assert relay.commands == commands


@pytest.mark.parametrize("name", ["get_customer", "delete_customer"])
@pytest.mark.usefixtures("bounds")
def test_a_slow_redis_of_a_client(ordered: OrderedStore, relay: SlowRelay, name: str) -> None:
    """A call of a client is a piece of work of its own, with the same bound."""
    api = mounted(ordered, relay)
    client: EcwidClient = api._client.application.extensions["ecwid"]["ecwid"].client
    relay.delay_s = 0.13
    getattr(client, name)(172889711)
    assert relay.connections
    assert relay.delayed_s <= REDIS_S + 2 * relay.delay_s


@pytest.mark.usefixtures("bounds")
def test_a_redis_that_drips() -> None:
    """A reply that comes byte by byte ends with the time of the trip."""
    sent: list[bytes] = []

    def drips(connection: socket.socket) -> None:
        connection.recv(65_536)
        while True:
            connection.settimeout(TRIP_S / 2)
            sent.append(b"$")
            connection.sendall(b"$" if len(sent) == 1 else b"1")
            try:
                if not connection.recv(1):
                    return
            except TimeoutError:
                pass

    with RawServer(drips) as server:
        link = RedisConnection(f"redis://127.0.0.1:{server.port}/0")
        with pytest.raises(RedisUnavailable), link.connection() as client:
            client.get("a")
    assert len(sent) <= 4


def test_the_outcome_of_a_key_has_its_own_time(
    ordered: OrderedStore, relay: SlowRelay, bounds: Callable[[float], None]
) -> None:
    """The outcome of an idempotency key is stored although the trips before it were slow."""
    bounds(10)  # so that a fifth of the time for the outcome is enough for a busy machine
    api = mounted(ordered, relay)
    relay.delay_s = work.OUTCOME_S * 0.8
    assert REQUESTS["add with a key"](api).status_code == 200
    assert relay.delayed_s > work.REDIS_S - work.OUTCOME_S
    relay.delay_s = 0.0
    again = REQUESTS["add with a key"](mounted(ordered, relay))
    assert (again.status_code, again.headers.get("Idempotency-Replayed")) == (200, "true")


def test_nested_pieces_of_work() -> None:
    """A piece of work inside of another shares its time."""
    with piece_of_work() as outer, piece_of_work() as inner:
        assert inner is outer
    with piece_of_work() as later:
        assert later is not outer


@pytest.fixture
def state(relay: SlowRelay) -> RedisState:
    state = RedisState(RedisConnection(relay.redis_url))
    state.compare_and_swap("warm", None, b"x", 60)
    state.take("warm calls", 1)
    return state


@pytest.mark.parametrize(
    ("before", "after"), [(None, b"one"), (b"one", b"two"), (b"one", None)], ids=str
)
def test_a_swap_whose_reply_is_lost(
    state: RedisState,
    relay: SlowRelay,
    redis: RedisServer,
    before: bytes | None,
    after: bytes | None,
) -> None:
    """A swap that happened says so, although its reply was lost."""
    if before is not None:
        redis.client.set("a", before)
    relay.cuts = 1
    assert state.compare_and_swap("a", before, after, 60)
    assert relay.cuts == 0
    assert redis.client.get("a") == after


def test_a_swap_that_another_has_won(
    state: RedisState, relay: SlowRelay, redis: RedisServer
) -> None:
    """A swap that did not happen says so, although its reply was lost."""
    redis.client.set("a", b"other")
    relay.cuts = 1
    assert not state.compare_and_swap("a", None, b"one", 60)
    assert redis.client.get("a") == b"other"


def test_a_count_whose_reply_is_lost(state: RedisState, relay: SlowRelay) -> None:
    """A call whose count was lost counts twice at most, and no more calls than the limit go."""
    relay.cuts = 1
    taken = [state.take("a", 3).granted for _ in range(3)]
    assert taken == [True, True, False]


def test_a_value_whose_reply_is_lost(state: RedisState, relay: SlowRelay) -> None:
    """A value is read again if its reply was lost."""
    relay.cuts = 1
    found = state.get("warm")
    assert found is not None
    assert found.value == b"x"


def test_the_repetition_is_the_last(state: RedisState, relay: SlowRelay) -> None:
    """A command is repeated once."""
    relay.cuts = 100
    commands = relay.commands
    with pytest.raises(StateUnavailable):
        state.get("warm")
    assert relay.commands - commands == 2


def test_a_key_is_not_under_way_after_a_lost_reply(ordered: OrderedStore, relay: SlowRelay) -> None:
    """A creation with a key goes on when the reply to its record is lost."""
    api = mounted(ordered, relay)
    api.post("/add_customer", {"email": "b@example.com"}, headers={"Idempotency-Key": "0" * 20})
    relay.cuts = 1
    assert REQUESTS["add with a key"](api).status_code == 200
    assert relay.cuts == 0
    assert REQUESTS["add with a key"](api).headers["Idempotency-Replayed"] == "true"


STEPS: dict[str, Callable[[RedisState], Any]] = {
    "get": lambda state: state.get("a"),
    "swap": lambda state: state.compare_and_swap("a", None, b"one", 60),
    "take": lambda state: state.take("a", 3),
}


@pytest.mark.parametrize("name", STEPS)
def test_an_idle_connection_that_was_lost(redis: RedisServer, name: str) -> None:
    """A kept connection that nobody knows any more costs no failure, nor do the others."""
    port = int(redis.url.rpartition(":")[2].partition("/")[0])
    with Relay(port, "reset") as relay:
        link = RedisConnection(f"redis://127.0.0.1:{relay.port}/0")
        with link.connection() as first:
            held = [first.connection_pool.get_connection() for _ in range(3)]
            for each in held:
                first.connection_pool.release(each)
        relay.forget()
        STEPS[name](RedisState(link))
        with link.connection() as client:
            assert client.ping()
