"""Tests of connections that are kept between calls, behind a relay that forgets its flows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flask_ecwid import EcwidClient, Settings, clock
from flask_ecwid.errors import ConnectionLost, EcwidError, OutcomeUnknown

from ..conftest import TOKEN
from ..helpers import faults
from ..helpers.faults import EMAIL, GOOD_BODIES
from ..helpers.raw_server import Answer, RawServer, ScriptedServer
from ..helpers.raw_server import Call as Heard
from ..helpers.relay import By, Relay
from ..helpers.waiting import happens

AT_ONCE = 8
FORGOTTEN = pytest.mark.parametrize("by", ["reset", "silence"])
# A creation takes a connection that was idle for up to 3 s, and every other call for up to 60 s.
# The time that the test itself takes is added, which is seconds on a busy machine.
QUIET_S = pytest.mark.parametrize("quiet_s", [4, 50, 61, 350])
# The client waits for so long until it takes a forgotten flow for lost, and a busy machine replies.
TIMEOUT_S: dict[By, float] = {"reset": 20.0, "silence": 3.0}

keeps = faults.reply(200, GOOD_BODIES)


@pytest.fixture
def ecwid() -> Iterator[ScriptedServer]:
    """Provide a store that counts its calls and keeps each connection."""
    with ScriptedServer(keeps) as server:
        yield server


def client_of(server: RawServer, by: By = "reset", **options: Any) -> EcwidClient:
    limits = {"read_timeout_s": TIMEOUT_S[by], "deadline_s": 60.0, **options}
    return EcwidClient(Settings(store_id="1003", token=TOKEN, api_url=server.url, **limits))


def read_at_once(client: EcwidClient, number: int = AT_ONCE) -> list[object]:
    """Make different reads at once, and return the customer or the error of each."""

    def read(customer: int) -> object:
        try:
            return client.get_customer(customer)["id"]
        except EcwidError as exc:
            return exc.slug

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(read, range(1, number + 1)))


def warm(client: EcwidClient, ecwid: ScriptedServer, number: int = AT_ONCE) -> None:
    """Let the client keep several connections."""
    barrier = threading.Barrier(number)

    def meets(connection: Any, call: Heard) -> bool:
        barrier.wait(20)
        return keeps(connection, call)

    ecwid.script = {"get_customer": [meets]}
    assert read_at_once(client, number) == [7] * number
    ecwid.script = {}
    ecwid.heard.clear()


@FORGOTTEN
@QUIET_S
@pytest.mark.usefixtures("no_waiting")
def test_a_creation_after_a_quiet_time(
    ecwid: ScriptedServer, later: Callable[[float], None], by: By, quiet_s: float
) -> None:
    """A creation after more than 3 quiet seconds is sent once, over a new connection."""
    with Relay(ecwid.port, by) as relay:
        client = client_of(relay, by)
        warm(client, ecwid)
        later(quiet_s)
        relay.forget()
        assert client.add_customer({"email": EMAIL}) == {"id": 7}
        assert ecwid.count() == {"add_customer": 1}
        assert relay.connections == AT_ONCE + 1


@FORGOTTEN
@QUIET_S
@pytest.mark.usefixtures("no_waiting")
def test_reads_at_once_after_a_quiet_time(
    ecwid: ScriptedServer, later: Callable[[float], None], by: By, quiet_s: float
) -> None:
    """Reads at once after a quiet time are all good, and the breaker stays closed."""
    with Relay(ecwid.port, by, AT_ONCE) as relay:
        client = client_of(relay, by)
        warm(client, ecwid)
        later(quiet_s)
        relay.forget()
        assert read_at_once(client) == [7] * AT_ONCE
        assert ecwid.count() == {"get_customer": AT_ONCE}
        assert client.add_customer({"email": EMAIL}) == {"id": 7}


@FORGOTTEN
def test_a_neutral_question_after_a_quiet_time(
    ecwid: ScriptedServer, later: Callable[[float], None], by: By
) -> None:
    """The neutral question after a pause is sent once, over a new connection."""
    with Relay(ecwid.port, by) as relay:
        client = client_of(relay, by)
        warm(client, ecwid, 1)
        ecwid.script = {"get_customer": [faults.error(403, "INVALID_API_TOKEN")]}
        with pytest.raises(EcwidError):
            client.get_customer(7)
        ecwid.script = {}
        later(31)
        relay.forget()
        assert client.get_customer(7)["id"] == 7
        assert ecwid.count() == {"get_customer": 2, "list_customers": 1}
        assert relay.connections == 2


@pytest.mark.parametrize("number", [20, 40])
@pytest.mark.usefixtures("no_waiting")
def test_a_large_burst_of_reads(
    ecwid: ScriptedServer, later: Callable[[float], None], number: int
) -> None:
    """The retry budget has a repetition for each kept connection that was reset."""
    with Relay(ecwid.port, "reset", number) as relay:
        client = client_of(relay)
        warm(client, ecwid, number)
        later(50)
        relay.forget()
        assert read_at_once(client, number) == [7] * number


@FORGOTTEN
@pytest.mark.usefixtures("no_waiting")
def test_one_loss_closes_the_other_idle_connections(
    ecwid: ScriptedServer, later: Callable[[float], None], by: By
) -> None:
    """A change whose kept connection is lost is repeated over a new connection, and no other."""
    with Relay(ecwid.port, by) as relay:
        client = client_of(relay, by)
        warm(client, ecwid)
        later(50)
        relay.forget()
        assert client.update_customer(7, {"lang": "en"}) == {"updateCount": 1}
        assert ecwid.count() == {"update_customer": 1}
        assert happens(lambda: relay.flows() == 1)


def test_an_old_connection_is_closed(ecwid: ScriptedServer, later: Callable[[float], None]) -> None:
    """The next call closes every connection that was idle for over 60 s."""
    with Relay(ecwid.port, "reset") as relay:
        client = client_of(relay)
        warm(client, ecwid)
        later(40)
        client.get_customer(7)
        assert relay.connections == relay.flows() == AT_ONCE
        later(30)
        client.get_customer(7)
        assert happens(lambda: relay.flows() == 1)
        assert relay.connections == AT_ONCE


def test_a_connection_after_suspend(ecwid: ScriptedServer, monkeypatch: Any) -> None:
    """The idle time is counted on both clocks, because the monotonic clock stops in suspend."""
    client, wall = client_of(ecwid), clock.wall
    client.get_customer(7)
    monkeypatch.setattr(clock, "wall", lambda: wall() + 61)
    client.get_customer(7)
    assert ecwid.connections == 2


def test_a_creation_over_a_connection_that_was_just_used(ecwid: ScriptedServer) -> None:
    """A creation uses the connection of a call that has just ended."""
    client = client_of(ecwid)
    client.get_customer(7)
    client.add_customer({"email": EMAIL})
    assert ecwid.connections == 1


def test_losses_of_new_connections_open_the_breaker(ecwid: ScriptedServer) -> None:
    """Resets of kept connections open no breaker, and resets of new connections do."""
    client = client_of(ecwid)
    warm(client, ecwid)
    ecwid.script = {"get_customer": [faults.resets], "list_customers": [faults.resets]}
    found = set(read_at_once(client)) | set(read_at_once(client))
    assert found == {"upstream-lost", "throttled"}


@pytest.mark.usefixtures("no_waiting")
def test_silence_of_ecwid_opens_the_breaker(ecwid: ScriptedServer) -> None:
    """Timeouts on connections that were used just now open the breaker."""
    client = client_of(ecwid, read_timeout_s=1.5)
    warm(client, ecwid)
    ecwid.script = {"delete_customer": [faults.stops()]}
    found = []
    for _ in range(3):
        with pytest.raises(EcwidError) as caught:
            client.delete_customer(7)
        found.append(caught.value.slug)
    assert found == ["upstream-timeout"] * 3
    assert ecwid.count() == {"delete_customer": 5}


def test_a_creation_whose_kept_connection_is_reset(ecwid: ScriptedServer) -> None:
    """A creation over a connection that is reset is searched for, and is not sent again."""
    client = client_of(ecwid, deadline_s=3.5)
    client.get_customer(7)
    ecwid.script = {"add_customer": [faults.resets]}
    with pytest.raises(OutcomeUnknown):
        client.add_customer({"email": EMAIL})
    assert ecwid.count()["add_customer"] == 1


def test_the_error_of_a_kept_connection(ecwid: ScriptedServer) -> None:
    """A caller gets the same error for a kept connection as for a new one."""
    client = client_of(ecwid, calls_per_minute=2)
    client.get_customer(7)
    ecwid.script = {"delete_customer": [faults.resets]}
    with pytest.raises(ConnectionLost) as caught:
        client.delete_customer(7)
    assert (caught.value.status, caught.value.executed) == (502, "unknown")


STRAY: dict[str, Answer] = {
    "a second reply": faults.reply(200, GOOD_BODIES),
    "a byte": faults.lines(b"x", keep=True),
    "an early hint": faults.lines(b"HTTP/1.1 103 Early Hints", b"", b"", keep=True),
}


@pytest.mark.parametrize("stray", STRAY)
@pytest.mark.usefixtures("no_waiting")
def test_bytes_that_nobody_asked_for(ecwid: ScriptedServer, stray: str) -> None:
    """A connection with bytes that nobody asked for is closed, and carries no other call."""
    calls: list[tuple[Any, Heard]] = []

    def replies(connection: Any, call: Heard) -> bool:
        calls.append((connection, call))
        return keeps(connection, call)

    ecwid.script = {"get_customer": [replies]}
    client = client_of(ecwid)
    assert client.get_customer(7)["id"] == 7
    STRAY[stray](*calls[0])
    assert client.update_customer(7, {"lang": "en"}) == {"updateCount": 1}
    assert client.add_customer({"email": EMAIL}) == {"id": 7}
    assert ecwid.count() == {"get_customer": 1, "update_customer": 1, "add_customer": 1}
    assert ecwid.connections == 2


@pytest.mark.usefixtures("no_waiting")
def test_a_reply_after_an_early_hint(ecwid: ScriptedServer) -> None:
    """The reply that follows a 103 is the reply to this call, and not to the next."""
    hint = faults.lines(b"HTTP/1.1 103 Early Hints", b"", b"", keep=True)

    def hints(connection: Any, call: Heard) -> bool:
        hint(connection, call)
        time.sleep(0.05)
        return keeps(connection, call)

    ecwid.script = {"get_customer": [hints, keeps]}
    client = client_of(ecwid)
    assert client.get_customer(7)["id"] == 7
    assert client.update_customer(7, {"lang": "en"}) == {"updateCount": 1}
    assert ecwid.connections == 1


def test_keep_alive_probes(ecwid: ScriptedServer) -> None:
    """The system sends keep-alive probes over a kept connection, the first within 30 s."""
    client = client_of(ecwid)
    client.get_customer(7)
    assert happens(lambda: timer_of(ecwid)[0] == "02")  # keep-alive, after the other timers
    assert int(timer_of(ecwid)[1], 16) <= 30 * 100
    client.close()


def timer_of(server: RawServer) -> list[str]:
    """Return the kind and the ticks of the timer of the only connection to a server."""
    table = Path("/proc/net/tcp").read_text(encoding="ascii")
    rows = [line.split() for line in table.splitlines()[1:]]
    [timer] = [row[5] for row in rows if row[2].endswith(f":{server.port:04X}") and row[3] == "01"]
    return timer.split(":")
