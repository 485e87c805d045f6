"""A store that is closed and opened again has no more calls, and a pause that holds still holds."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

from ..helpers.agency import Agency
from ..helpers.fake_stores import FakeStores, Reply, rate_limited
from ..helpers.redis_server import RedisServer

STORES = [str(number) for number in range(1, 51)]
OPEN = 3
CALLS = 8


@pytest.fixture(params=["file", "service", "redis"])
def few_open(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings of a process alone, of a worker of gunicorn, and of a process with a real Redis."""
    settings: dict[str, Any] = {"ECWID_MAX_OPEN_STORES": OPEN}
    if request.param == "service":
        monkeypatch.setenv("GUNICORN_ECWID_SERVICE", "service")
    if request.param == "redis":
        redis: RedisServer = request.getfixturevalue("redis")
        settings["ECWID_REDIS_URL"] = redis.url
    return settings


def test_the_rate_limit(
    agency: Callable[..., Agency], fake: FakeStores, few_open: dict[str, Any]
) -> None:
    """Each token gets all of its calls and no more, although its store is closed all the time."""
    app = agency(**few_open, ECWID_CALLS_PER_MINUTE=CALLS)
    for number in range(CALLS + 2):
        for store in STORES:
            status = app.of(store).get(f"/customer/{number + 1}").status_code
            assert status == (200 if number < CALLS else 429)
    assert len(app.stores) == OPEN
    assert set(fake.calls.values()) == {CALLS}
    assert {len(moments) for moments in fake.moments.values()} == {CALLS}


def test_the_pause(
    agency: Callable[..., Agency], fake: FakeStores, few_open: dict[str, Any]
) -> None:
    """A pause holds for as long as Ecwid has asked, although its store is closed meanwhile."""
    app = agency(**few_open)
    for store in STORES:
        fake.faults[store] = rate_limited(3_000)
        assert app.of(store).get("/customer/7").status_code == 429
    fake.faults.clear()
    for _ in range(2):
        for store in STORES:
            response = app.of(store).get("/customer/7")
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) > 2_000
    gc.collect()  # A refused call leaves its error in a cycle, and the error uses the store.
    assert app.of(STORES[0]).get("/customer/7").status_code == 503
    assert len(app.stores) <= OPEN + 1
    assert set(fake.calls.values()) == {1}


def test_a_pause_that_no_other_process_knows(
    agency: Callable[..., Agency], fake: FakeStores
) -> None:
    """While Redis cannot be reached, the stores with a pause stay open."""
    with RedisServer() as redis:
        app = agency(ECWID_MAX_OPEN_STORES=OPEN, ECWID_REDIS_URL=redis.url)
        for store in STORES[:10]:
            assert app.of(store).get("/customer/7").status_code == 200  # which proves the token
        redis.stop()
        for store in STORES[:10]:
            fake.faults[store] = rate_limited(3_000)
            assert app.of(store).get("/customer/7").status_code == 429
        fake.faults.clear()
        for store in STORES:
            app.of(store).get("/customer/7")
    assert {fake.calls[store] for store in STORES[:10]} == {2}
    assert len(app.stores) >= 10


def test_the_breaker(agency: Callable[..., Agency], fake: FakeStores) -> None:
    """A store whose breaker is open stays open, so that the breaker holds."""
    app = agency(ECWID_MAX_OPEN_STORES=OPEN)
    fake.faults["1"] = Reply(500, {})
    while app.of("1").get("/customer/7").status_code != 503:
        pass
    calls = fake.calls["1"]
    for store in STORES[1:]:
        assert app.of(store).get("/customer/7").status_code == 200
    fake.faults.clear()
    assert app.of("1").get("/customer/7").status_code == 503
    assert fake.calls["1"] == calls


def test_the_retry_budget(agency: Callable[..., Agency], fake: FakeStores) -> None:
    """A store that is closed and opened again has no new retry budget."""
    app = agency(ECWID_MAX_OPEN_STORES=1)
    fake.faults["1"] = Reply(500, {})
    requests = 0
    for _ in range(12):
        requests += app.of("1").get("/customer/7").status_code == 502
        gc.collect()  # A failed call leaves its error in a cycle, and the error uses the store.
        app.of("2").get("/customer/7")
    assert requests == 12
    assert fake.calls["1"] == requests + 50 // 5
