"""All stores share the connections of a process."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from flask_ecwid.client import transport

from ..helpers.agency import Agency
from ..helpers.fake_stores import FakeStores

THREADS = 4


def test_connections_never_exceed_threads(agency: Callable[..., Agency], fake: FakeStores) -> None:
    """A process has as many connections as threads at most, however many stores it serves."""
    app = agency()
    clients = [app.client(str(number)) for number in range(1, 51)]

    def read(number: int) -> int:
        id: int = clients[number % len(clients)].get_customer(1 + number)["id"]
        return id

    with ThreadPoolExecutor(THREADS) as pool:
        assert [*pool.map(read, range(400))] == [*range(1, 401)]
    assert 1 <= fake.most_connections <= THREADS


def test_a_creation_takes_the_place_of_an_idle_connection(
    agency: Callable[..., Agency], fake: FakeStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A creation that needs a new connection leaves no old one behind."""
    monkeypatch.setattr(transport, "FRESH_S", -1.0)
    app = agency()
    for number in range(1, 11):
        app.client(str(number)).add_customer({"email": "ann@example.com"})
    until = time.monotonic() + 30
    while fake.connections > 1:  # The server learns of a closed connection a little later.
        assert time.monotonic() < until, fake.connections
        time.sleep(0.01)
