"""pytest fixtures for those who test their own app: `ecwid_sandbox`, `ecwid_app`, `ecwid_client`.

pytest imports this module wherever the package is installed, needed or not: what it costs to make
a store is imported when a test asks for one. docs/testing.md shows how it is used.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from flask import Flask

    from .client import EcwidClient
    from .sandbox import Entry, Fault

# A creation whose reply is lost is looked up for 3 s, a stall takes 10 s: a test has no such time.
_QUICK = {"ECWID_DEADLINE_S": "2", "ECWID_READ_TIMEOUT_S": "1"}


class EcwidSandbox:
    """A simulated Ecwid store, empty at first, in a new file at `path`.

    What a test does with it goes past Ecwid's API: no fault befalls it, no ledger shows it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        from .sandbox import Orders
        from .sandbox.store import Store

        self._path = os.path.abspath(path)
        self._store = Store(self._path)
        self._store.fill(list)
        self._orders = Orders(self._path)

    @property
    def config(self) -> dict[str, str]:
        """What leads an app here, for its `config` or for the environment that it reads: texts.

        Who may call stays as the app has it.
        """
        # No Redis: what is shared there would be shared with other tests.
        return {"ECWID_SANDBOX": self._path, "ECWID_REDIS_URL": "", **_QUICK}

    def add_customer(self, customer: Mapping[str, Any]) -> int:
        """Have a customer there already; gives its id. Beside what a creation may set it may hold
        what Ecwid sets: `id`, `registered`, `updated`, `totalOrderCount`, `stats`, `favorites`.

        Raises:
            ValueError: a store could have no such customer, or not this one too.
        """
        from .sandbox.documents import known_customer

        [customer_id] = self._store.put([(known_customer(dict(customer), time.time()), [])])
        return customer_id

    def seed(self, generated: int = 0) -> None:
        """Have many there: the four that `ECWID_SANDBOX=on` has, and generated ones, always the
        same.
        """
        from .sandbox import seed

        self._store.put(seed.customers(generated))

    def customers(self) -> list[dict[str, Any]]:
        """All customers, by their ids, as Ecwid's search shows them."""
        return self._store.customers()

    def order(self, *faults: Fault) -> None:
        """Let faults befall the calls from now on; `nth` counts from here."""
        self._orders.order(*faults)

    def clear(self) -> None:
        """No more faults."""
        self._orders.clear()

    def switch(self, **switches: Any) -> None:
        """Set `search_lag_s`, `duplicate_emails` or `calls_per_minute` of `sandbox.Switches`.

        Raises:
            ValueError: there is no such switch, or no such value of it.
        """
        self._orders.switch(**switches)

    def ledger(self) -> list[Entry]:
        """Every call that came in, in order; `sandbox.Entry` says what is known of each."""
        return self._orders.ledger()

    def clear_ledger(self) -> None:
        self._orders.clear_ledger()


@pytest.fixture
def ecwid_sandbox(tmp_path_factory: pytest.TempPathFactory) -> EcwidSandbox:
    """An empty store of this test alone; put its `config` into that of your app."""
    # A name that no run before had: outcomes of Idempotency-Keys are kept for a day by its path.
    return EcwidSandbox(tmp_path_factory.mktemp("ecwid") / f"{uuid.uuid4().hex}.sqlite3")


@pytest.fixture
def ecwid_app(ecwid_sandbox: EcwidSandbox) -> Flask:
    """A Flask app with nothing but the plugin, on `ecwid_sandbox`; anybody may call."""
    from flask import Flask

    from .extension import Ecwid

    app = Flask("ecwid_app")
    app.config.update(ecwid_sandbox.config, TESTING=True)
    Ecwid(app)
    return app


@pytest.fixture
def ecwid_client(ecwid_app: Flask) -> EcwidClient:
    """The `EcwidClient` of `ecwid_app`, for code that is given one."""
    client: EcwidClient = ecwid_app.extensions["ecwid"]["ecwid"].client
    return client
