"""Webhook events over the workers of a real gunicorn, with and without Redis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from flask_ecwid import EcwidClient, Settings
from flask_ecwid.testing import EcwidSandbox

from ..helpers.app_workers import app_workers
from ..helpers.webhook_events import WEBHOOKS, Event, delivery_of, event_of


class Workers:
    """Four workers on a sandbox, and the file where their receivers write the events."""

    def __init__(self, url: str, sandbox: EcwidSandbox, events: Path) -> None:
        self.url = url
        self.sandbox = sandbox
        self._events = events

    def deliver(self, event: Event) -> int:
        """Deliver an event over a connection of its own, so that any worker may get it."""
        url = f"{self.url}/webhooks?eventtype={event['eventType']}"
        response = requests.post(url, **delivery_of(event), timeout=60, allow_redirects=False)
        assert (response.content == b"") == (response.status_code == 200)
        return response.status_code

    def effects(self) -> Counter[str]:
        """Return how often each event has reached a receiver."""
        text = self._events.read_text(encoding="utf-8")
        return Counter(line.split()[0] for line in text.splitlines())

    def languages(self) -> set[str]:
        """Return the language of customer 5, as many reads over new connections show it."""

        def read(_: int) -> str:
            response = requests.get(f"{self.url}/customer/5", timeout=60)
            return str(response.json()["data"]["attributes"]["lang"])

        with ThreadPoolExecutor(8) as pool:
            return set(pool.map(read, range(40)))


@pytest.fixture(params=["file", "redis"])
def workers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workers]:
    sandbox = EcwidSandbox(tmp_path / "store.sqlite3")
    sandbox.add_customer({"id": 5, "email": "ann@example.com", "lang": "en"})
    config: dict[str, Any] = {**sandbox.config, **WEBHOOKS, "ECWID_CACHE_TTL_S": 600}
    config["ECWID_DEADLINE_S"] = 20
    if request.param == "redis":
        config["ECWID_REDIS_URL"] = request.getfixturevalue("redis").url
    events = tmp_path / "events.txt"
    events.touch()
    with app_workers("event_app", config, tmp_path, EVENTS=str(events)) as url:
        yield Workers(url, sandbox, events)


def test_doubled_deliveries(workers: Workers) -> None:
    """Each event has its effect once, although several workers get it at the same time."""
    events = [event_of(entityId=number) for number in range(1, 9)]
    orders = [event for event in events for _ in range(6)]
    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(workers.deliver, orders))
    assert set(statuses) == {200, 503}
    assert workers.effects() == {event["eventId"]: 1 for event in events}
    assert [workers.deliver(event) for event in events] == [200] * 8
    assert workers.effects().total() == 8


def test_all_workers_read_again(workers: Workers) -> None:
    """After an event, no worker shows a response from before the change."""
    assert workers.languages() == {"en"}
    settings = Settings(sandbox=workers.sandbox.config["ECWID_SANDBOX"])
    with EcwidClient(settings) as elsewhere:
        elsewhere.update_customer(5, {"lang": "de"})
    assert "en" in workers.languages()
    assert workers.deliver(event_of()) == 200
    assert workers.languages() == {"de"}
