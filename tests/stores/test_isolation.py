"""Nothing of one store is visible to another, although ids, e-mails and keys are equal."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from flask_ecwid.errors import BudgetSpent
from flask_ecwid.throttling.breaker import BREAKER_FAILURES

from ..helpers.agency import Agency
from ..helpers.fake_stores import FakeStores, Reply, rate_limited
from ..helpers.redis_server import RedisServer

STORES = [str(number) for number in range(1, 51)]
REQUESTS = 2_500  # for the file, and again for Redis
THREADS = 4
BODY = {"email": "ann@example.com"}


@pytest.fixture(params=["file", "redis"])
def shared(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings with a cache, on the host's file and on a real Redis."""
    if request.param == "file":
        return {"ECWID_CACHE_TTL_S": 600}
    redis: RedisServer = request.getfixturevalue("redis")
    return {"ECWID_CACHE_TTL_S": 600, "ECWID_REDIS_URL": redis.url}


class Callers:
    """Threads that send interleaved requests of all stores, and look at each response."""

    def __init__(self, app: Agency, seed: int) -> None:
        self._apis = {store: app.of(store) for store in STORES}
        self._random = Random(seed)
        self._lock = threading.Lock()
        self.crossings: list[tuple[str, str, int]] = []
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.outcomes: dict[tuple[str, str], set[int]] = {}  # the ids that each key has given

    def run(self, requests: int) -> None:
        """Send so many requests, each of a store that is chosen at random."""
        chosen = iter(
            [(self._random.choice(STORES), self._random.random()) for _ in range(requests)]
        )

        def work() -> None:
            while True:
                with self._lock:
                    store, drawn = next(chosen, ("", 0.0))
                if not store:
                    return
                self._send(store, drawn)

        with ThreadPoolExecutor(THREADS) as pool:
            for each in [pool.submit(work) for _ in range(THREADS)]:
                each.result()

    def _send(self, store: str, drawn: float) -> None:
        api = self._apis[store]
        if drawn < 0.5:
            response = api.get(f"/customer/{7 + int(drawn * 6)}")
            shown = response.get_json().get("data", {}).get("attributes", {}).get("taxId", store)
            kind = "get"
        elif drawn < 0.8:
            response = api.get("/customers?email=ann@example.com")
            data = response.get_json().get("data", {}).get("attributes", {"items": []})
            shown = "".join({each["taxId"] for each in data["items"]}) or store
            kind = "list"
        elif drawn < 0.97:
            key = f"key {int(drawn * 100)}"
            response = api.post("/add_customer", BODY, headers={"Idempotency-Key": key})
            kind, shown = "create", store
            if response.status_code == 200:
                id = int(response.get_json()["data"]["id"])
                shown = str(id // 1_000_000)
                with self._lock:
                    self.outcomes.setdefault((store, key), set()).add(id)
        else:
            response = api.post("/update_customer/7", {"lang": "de"})
            kind, shown = "update", store
        with self._lock:
            self.statuses[store, response.status_code] += 1
            if shown != store:
                self.crossings.append((kind, store, response.status_code))

    def served(self, store: str) -> set[int]:
        """Return the statuses that a store has got."""
        return {status for (found, status) in self.statuses if found == store}


def test_interleaved_requests(
    agency: Callable[..., Agency], fake: FakeStores, shared: dict[str, Any]
) -> None:
    """Each response has the data of its store, and the failures of a store are its own.

    One store is paused, one fails, one has spent its calls, and the others are served.
    """
    app = agency(**shared, ECWID_CALLS_PER_MINUTE=400)
    fake.faults["1"] = rate_limited(600)
    fake.faults["2"] = Reply(500, {})
    with suppress(BudgetSpent):
        while True:
            app.client("3").store.guard.rate_limit.acquire()
    callers = Callers(app, seed=1)
    callers.run(REQUESTS)
    assert (callers.crossings, fake.crossings) == ([], [])
    assert {len(ids) for ids in callers.outcomes.values()} == {1}
    assert {fake.created[store] for store in STORES[3:]} <= set(range(1, 19))
    served = {store: callers.served(store) for store in STORES}
    assert served.pop("1") <= {429, 503}
    assert served.pop("2") <= {502, 503, 504, 409}
    assert served.pop("3") <= {200, 429}
    assert {status for each in served.values() for status in each} <= {200, 409}
    assert fake.calls["1"] == 1
    # The cache of each store works beside the others.
    assert sum(fake.calls[store] for store in STORES[3:]) < REQUESTS


def test_the_breaker(
    agency: Callable[..., Agency], fake: FakeStores, shared: dict[str, Any]
) -> None:
    """The breaker of a store whose replies are errors holds back no other store."""
    app = agency(**shared)
    fake.faults["1"] = Reply(500, {})
    statuses = [app.of("1").get("/customer/7").status_code for _ in range(BREAKER_FAILURES + 2)]
    assert (statuses[0], statuses[-1]) == (502, 503)
    assert app.of("2").get("/customer/7").status_code == 200


def test_shared_reads(agency: Callable[..., Agency], fake: FakeStores) -> None:
    """Equal reads of two stores at the same time are two calls."""
    app = agency()
    fake.stalled.update(("1", "2"))
    with ThreadPoolExecutor(2) as pool:
        reads = [pool.submit(app.client(store).get_customer, 7) for store in ("1", "2")]
        for store in ("1", "2"):
            fake.wait_for_calls(store, 1)
        fake.go_on.set()
        assert [read.result(60)["taxId"] for read in reads] == ["1", "2"]


def test_the_cursor_of_another_store(agency: Callable[..., Agency]) -> None:
    """A cursor of one store is refused for another, and works for its own with another token."""
    app = agency()
    reading = app.client("1").iter_customers()
    next(reading)
    with pytest.raises(ValueError, match="another store"):
        app.client("2").iter_customers(cursor=reading.cursor)
    assert list(app.client("1").iter_customers(cursor=reading.cursor)) == []
