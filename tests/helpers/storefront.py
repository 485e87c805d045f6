"""A simulated Ecwid store on a port, whose customers change without the plugin.

The store sends signed events to an app. A test orders which events are sent, and when.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from .command import begin_sandbox
from .holding_relay import HoldingRelay, Part
from .raw_server import Gate


class Storefront:
    """The store, as its customers, its merchant and Ecwid itself see it.

    `settings` are those of an app, whose calls go through a relay. The calls of a test do not.
    """

    def __init__(self, settings: dict[str, str], file: Path, relay: HoldingRelay) -> None:
        self.settings = {**settings, "ECWID_API_URL": relay.url}
        self.file = file
        self._relay = relay
        self._url = f"{settings['ECWID_API_URL']}/{settings['ECWID_STORE_ID']}/customers"
        self._admin = settings["ECWID_API_URL"].replace("/api/v3", "/admin")

    def add(self, **members: Any) -> int:
        """Register a customer, and return the id."""
        customer_id: int = self._send("POST", self._url, members)["id"]
        return customer_id

    def change(self, customer_id: int, **members: Any) -> None:
        """Change a customer, in a later second than each change before."""
        wait_for_next_second()
        self.change_now(customer_id, **members)

    def change_now(self, customer_id: int, **members: Any) -> None:
        self._send("PUT", f"{self._url}/{customer_id}", members)

    def delete(self, customer_id: int) -> None:
        self._send("DELETE", f"{self._url}/{customer_id}")

    def customer(self, customer_id: int) -> dict[str, Any]:
        customer: dict[str, Any] = self._send("GET", f"{self._url}/{customer_id}")
        return customer

    def accepts(self, customer_id: int) -> bool:
        """Return whether the customer gives consent in Ecwid."""
        return self.customer(customer_id).get("acceptMarketing") is True

    def fail(self, **fault: Any) -> None:
        """Inject a fault into later calls, also into those of `customer`."""
        self._send("POST", f"{self._admin}/faults", fault)

    def recover(self) -> None:
        self._send("DELETE", f"{self._admin}/faults")

    def hold(self, part: Part, method: str, customer_id: int) -> AbstractContextManager[Gate]:
        """Hold this part of the app's next call about a customer, until the gate is opened."""
        url = urlsplit(f"{self._url}/{customer_id}")
        return self._relay.hold(part, f"{method} {url.path} ")

    def send_events(self, is_on: bool) -> None:
        """Send each later event at once, or let the events wait for `deliver`."""
        self._send("PATCH", f"{self._admin}/switches", {"send_events": is_on})

    def events(self) -> list[str]:
        """Return the ids of all events, in the order of the changes."""
        return [event["eventId"] for event in self._send("GET", f"{self._admin}/events")]

    def deliver(self, *events: str) -> list[int]:
        """Send these events in this order, or the last one, and return the app's statuses."""
        sent = self._send("POST", f"{self._admin}/deliveries", events or self.events()[-1:])
        return [each["status"] for each in sent]

    def hint(self, customer_id: int) -> list[int]:
        """Deliver a new event about a customer without a change, and return the app's status."""
        self._send(
            "POST",
            f"{self._admin}/events",
            {"eventType": "customer.updated", "entityId": customer_id},
        )
        return self.deliver()

    def _send(self, method: str, url: str, body: Any = None) -> Any:
        token = {"Authorization": f"Bearer {self.settings['ECWID_TOKEN']}"}
        response = requests.request(method, url, json=body, headers=token, timeout=60)
        response.raise_for_status()
        return response.json()


def wait_for_next_second() -> None:
    """Wait until the dates of Ecwid, which have whole seconds, are later than now."""
    time.sleep(1.01 - time.time() % 1)


@contextmanager
def open_storefront(folder: Path, webhook_url: str) -> Iterator[Storefront]:
    """Run a store that sends its events to this URL."""
    file = folder / "store.sqlite3"
    process = begin_sandbox(folder, "--webhook-url", webhook_url, "--file", str(file))
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip().partition("=") for _ in range(8)]
        settings = {key: value for key, _, value in lines if key != "ECWID_AUTH"}
        relay = HoldingRelay(urlsplit(settings["ECWID_API_URL"]).port or 0)
        with relay:
            yield Storefront(settings, file, relay)
    finally:
        process.kill()
        process.communicate(timeout=60)
