"""Simulated Ecwid stores for the tests of your own app.

pytest finds three fixtures by itself, and docs/testing.md shows their use:

    ecwid_sandbox   an empty EcwidSandbox for one test
    ecwid_app       a Flask app with only the plugin, on `ecwid_sandbox`
    ecwid_client    the EcwidClient of `ecwid_app`

`flask_ecwid_plugins/fixtures.py` defines them, because every test run loads that module.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from . import clock
from .sandbox import (
    ALL_SCOPES,
    CLIENT_SECRET,
    STORE_ID,
    Entry,
    Event,
    Fault,
    SignedEvent,
    seed,
    token_of,
)
from .sandbox.documents import known_customer
from .sandbox.events import sign
from .sandbox.stores import Simulated, Stores
from .settings import StoreCredentials

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.test import TestResponse

# With the defaults, the client searches for a lost creation for 3 s, and a stall takes 10 s. Tests
# would be slow.
_QUICK = {"ECWID_DEADLINE_S": "2", "ECWID_READ_TIMEOUT_S": "1"}

WEBHOOK_PATH = "/api/json/v1/ecwid/webhooks"  # of an app with the default URL prefix


class SimulatedStore:
    """One store of an `EcwidSandbox`, with its customers, faults, switches, ledger and token.

    The methods bypass the simulated API, so the ledger does not record them, and no fault affects
    them. The error of a wrong argument names the choices and the value.
    """

    def __init__(self, store_id: str, opened: Simulated) -> None:
        self._store, self._controls, self._outbox = opened
        self._given = 0  # how many tokens replaced the first token
        self._credentials = StoreCredentials(store_id, token_of(store_id), ALL_SCOPES)

    @property
    def credentials(self) -> StoreCredentials:
        """The id and the newest token of the store, as your app keeps them of a merchant."""
        return self._credentials

    @property
    def token(self) -> str:
        """The newest token of the store, as a plain string."""
        return str(self._credentials.token)

    def rotate_token(self, scopes: Collection[str] = ALL_SCOPES) -> StoreCredentials:
        """Give the store a new token, and return the new credentials. Refuse all older tokens.

        Args:
            scopes: the Ecwid scopes of the new token.

        Raises:
            ValueError: Ecwid has no such scope.
        """
        store_id = self._credentials.store_id
        token = token_of(store_id, self._given + 1)
        self._controls.set_tokens({token: scopes})
        self._given += 1
        self._credentials = StoreCredentials(store_id, token, frozenset(scopes))
        return self._credentials

    def revoke_token(self) -> None:
        """Refuse every token with a 403, as after an uninstall, until `rotate_token`."""
        self._controls.set_tokens({})

    def add_customer(self, customer: Mapping[str, Any]) -> int:
        """Put a customer into the store, and return the id.

        The customer may have the members that only Ecwid sets, which are `id`, `registered`,
        `updated`, `totalOrderCount`, `stats` and `favorites`. The e-mail may be empty, as for a
        customer who has only a phone number.

        Raises:
            ValueError: the customer is invalid, or the store already has the e-mail or the id.
        """
        [customer_id] = self._store.put([(known_customer(dict(customer), clock.wall()), [])])
        return customer_id

    def seed(self, generated: int = 0) -> None:
        """Put the four customers of `ECWID_SANDBOX=on` into the store, and generated customers.

        Every run generates the same customers.

        Raises:
            ValueError: `generated` is not a number of customers, or a customer is there already.
        """
        self._store.put(seed.customers(generated))

    def customers(self) -> list[dict[str, Any]]:
        """Return all customers in the order of their ids, as Ecwid's search shows them."""
        return self._store.customers()

    def inject(self, *faults: Fault) -> None:
        """Inject faults into later calls. `nth` counts the calls after this one."""
        self._controls.inject(*faults)

    def clear_faults(self) -> None:
        """Stop injecting faults."""
        self._controls.clear_faults()

    def switch(self, **switches: Any) -> None:
        """Set the members of `sandbox.Switches`, such as `search_lag_s` or `duplicate_emails`.

        Raises:
            ValueError: a switch or its value is invalid.
        """
        self._controls.switch(**switches)

    def ledger(self) -> list[Entry]:
        """Return all received calls in order, each as a `sandbox.Entry`."""
        return self._controls.ledger()

    def clear_ledger(self) -> None:
        """Forget all received calls."""
        self._controls.clear_ledger()

    def events(self) -> list[Event]:
        """Return all events in order, each as a `sandbox.Event`. Each change by a call has one."""
        return [sending.event for sending in self._outbox.sendings()]

    def add_event(
        self,
        event_type: str,
        customer_id: int | None = None,
        *,
        data: Mapping[str, Any] | None = None,
        age_s: int = 0,
    ) -> Event:
        """Let the store have an event without a change, and return the event.

        Args:
            event_type: one of `sandbox.EVENT_TYPES`, or any other type.
            customer_id: the id of a customer, whom the store need not have. The events of the
                application have none.
            data: the member `data`. By default, the events of a customer have an invented e-mail.
            age_s: how many seconds ago the event was created.

        Raises:
            ValueError: an argument is invalid.
        """
        return self._outbox.add(event_type, customer_id, data, age_s)

    def clear_events(self) -> None:
        """Forget all events."""
        self._outbox.clear()


class EcwidSandbox(SimulatedStore):
    """Simulated Ecwid stores in a new file at `path`, where the default store is empty at first.

    The sandbox is itself its default store, for apps whose settings name one store. `store` returns
    the others.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.path.abspath(path)
        self._stores = Stores(self._path)
        try:
            self._stores.fill({token_of(STORE_ID): ALL_SCOPES})
        except (sqlite3.Error, OSError) as exc:
            expected = "a new file in a folder that exists, or the file of a store"
            raise ValueError(f"EcwidSandbox path must be {expected}; got {path!r}") from exc
        super().__init__(STORE_ID, self._stores.default)
        self._opened: dict[str, SimulatedStore] = {STORE_ID: self}

    @property
    def config(self) -> dict[str, str]:
        """The settings that connect an app to this sandbox, as strings, for config or environment.

        The settings do not change the authentication of the app. An app that chooses no store for
        each request calls the default store.
        """
        # Redis is off, because tests would share the state in Redis.
        return {"ECWID_SANDBOX": self._path, "ECWID_REDIS_URL": "", **_QUICK}

    def store(self, store_id: str | int) -> SimulatedStore:
        """Return the store with this id, which is new and empty at the first time.

        Ecwid replies to the calls of every other store id with a 404.

        Raises:
            ValueError: `store_id` is not a number of at most 20 digits.
        """
        store_id = str(store_id)
        if store_id not in self._opened:
            opened = self._stores.add(store_id, {token_of(store_id): ALL_SCOPES})
            self._opened[store_id] = SimulatedStore(store_id, opened)
        return self._opened[store_id]

    def webhooks(
        self, app: Flask, path: str = WEBHOOK_PATH, secret: str = CLIENT_SECRET
    ) -> Webhooks:
        """Return the way of events of all stores to an app in this process.

        Args:
            app: the app that receives the events.
            path: the path of the app's webhook URL.
            secret: the client secret with which the events are signed.
        """
        return Webhooks(self._stores, app, path, secret)


class Webhooks:
    """Posts events to an app, without a socket and without a thread.

    Nothing is sent until a test calls `deliver` or `send`, so the test chooses the order.
    """

    def __init__(self, stores: Stores, app: Flask, path: str, secret: str) -> None:
        self._stores = stores
        self._app = app
        self._url = f"http://localhost{path}"
        self._secret = secret

    def deliver(self) -> list[int]:
        """Post each event that the app has not accepted, once, and return the statuses.

        The events of a store come in the order of its changes. After a failure, a further call
        posts the event again, as Ecwid does.
        """
        outboxes = [opened.outbox for opened in self._stores.opened()]
        return self.send(*(event for outbox in outboxes for event in outbox.undelivered()))

    def send(self, *events: Event) -> list[int]:
        """Post these events in this order, and return the statuses of the responses.

        An event may come twice, late, or before an older event. The stores note the statuses.
        """
        statuses = []
        for event in events:
            status = self.post(self.sign(event)).status_code
            if found := self._stores.find(event.store_id):
                found.outbox.record(event, status)
            statuses.append(status)
        return statuses

    def sign(self, event: Event) -> SignedEvent:
        """Return the request that carries an event. `_replace` changes it, as a forger would."""
        return sign(event, self._url, self._secret)

    def post(self, request: SignedEvent) -> TestResponse:
        """Post a request to the app as it is, and return the response."""
        url, headers, body = request
        return self._app.test_client(use_cookies=False).post(url, headers=headers, data=body)
