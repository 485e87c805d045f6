"""Four workers of a real gunicorn keep the stores apart, and share what belongs to a token."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from ..helpers.app_workers import app_workers
from ..helpers.fake_stores import FakeStores, rate_limited

STORES = [str(number) for number in range(1, 21)]
CALLS = 20
THREADS = 4


@pytest.fixture(params=["file", "redis"])
def served(request: pytest.FixtureRequest, fake: FakeStores, tmp_path: Any) -> Iterator[str]:
    """Run four workers, and return their URL."""
    config: dict[str, Any] = {
        "ECWID_API_URL": fake.url,
        "ECWID_CACHE_TTL_S": 600,
        "ECWID_CALLS_PER_MINUTE": CALLS,
        "ECWID_MAX_OPEN_STORES": 5,
        "ECWID_STORE_CONCURRENCY": THREADS,
    }
    if request.param == "redis":
        config["ECWID_REDIS_URL"] = request.getfixturevalue("redis").url
    with app_workers("agency", config, tmp_path, threads=THREADS) as url:
        yield url


def test_four_workers(served: str, fake: FakeStores) -> None:
    """Equal ids, e-mails and keys cross no store, and all workers share limit and pause."""
    statuses: Counter[tuple[str, int]] = Counter()
    crossings: list[tuple[str, object]] = []
    lock = threading.Lock()

    def send(store: str, number: int) -> None:
        headers = {"Store": store}
        # Each request has a connection of its own, so any worker may get the request.
        if number % 5 == 4:
            headers["Idempotency-Key"] = f"key {number % 2}"
            body = {"email": "ann@example.com"}
            reply = requests.post(f"{served}/add_customer", json=body, headers=headers, timeout=60)
            id = reply.json().get("data", {}).get("id", f"{store}000000")
            shown: object = id[: -len("000000")]
        else:
            url = f"{served}/customer/{1 + number}"
            reply = requests.get(url, headers=headers, timeout=60)
            data = reply.json().get("data", {"attributes": {"taxId": store}})
            shown = data["attributes"]["taxId"]
        with lock:
            statuses[store, reply.status_code] += 1
            if shown != store:
                crossings.append((store, shown))

    fake.faults["1"] = rate_limited(600)
    send("1", 0)
    orders = [(store, number) for number in range(10) for store in STORES]
    orders += [("2", number) for number in range(10, 50)]
    with ThreadPoolExecutor(THREADS) as pool:
        for each in [pool.submit(send, *order) for order in orders]:
            each.result()
    assert (crossings, fake.crossings) == ([], [])
    assert fake.calls["1"] == 1
    assert fake.calls["2"] <= CALLS
    assert {status for store, status in statuses if store == "1"} == {429, 503}
    assert {status for store, status in statuses if store == "2"} <= {200, 409, 429}
    assert {status for store, status in statuses if store in STORES[2:]} <= {200, 409}
    assert all(fake.created[store] <= 2 for store in STORES)
