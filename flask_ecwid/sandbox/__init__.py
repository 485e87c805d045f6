"""Simulated Ecwid stores, which are SQLite behind Ecwid's own HTTP API for customers.

    app = create_sandbox("store.sqlite3", customers=1000)

Serve the app on a port like any other Flask app, or call it from `requests` in the same process
with `InProcessAdapter(app)`. The sandbox imports nothing of the client, because the client reaches
it only over HTTP. Of the package, the sandbox imports only `private_files`. The sandbox injects
faults on demand, and records every call in a ledger:

    controls = Controls("store.sqlite3")
    controls.inject(Fault("reset", operation="add_customer", nth=1, after=True))
    controls.ledger()

A sandbox has one store, `STORE_ID` with `TOKEN`, and any number of further stores. Each store has
customers, ids, a ledger, faults, switches and tokens of its own:

    create_sandbox("store.sqlite3", stores=["1004", "1005"])
    token_of("1004")
    Controls(path_of("store.sqlite3", "1004"))

Each change leaves a webhook event in the file of its store. A sandbox with a URL sends the events:

    with Deliveries("http://127.0.0.1:5000/webhooks", CLIENT_SECRET) as deliveries:
        create_sandbox("store.sqlite3", deliveries=deliveries, send_events=True)

The sandbox behaves as Ecwid's documents say. Comments name the source of a fact by a letter:

    D26  docs.ecwid.com of March 2026, the newest
    R24  api-docs.ecwid.com, 2021 to 2024
    S20  developers.ecwid.com, 2014 to 2020
    J    Ecwid's own Java client, ecwid-java-api-client 0.326
    F    Ecwid's framework rest4j, on which the API runs
    W    seen on the live API by others
    I    inferred
"""

from __future__ import annotations

from .app import create_sandbox
from .controls import Controls, Entry, Switches
from .deliveries import Deliveries
from .events import EVENT_TYPES, Event, SignedEvent
from .faults import Fault
from .inprocess import InProcessAdapter
from .oauth import CLIENT_ID, CLIENT_SECRET
from .stores import path_of
from .tokens import ALL_SCOPES, STORE_ID, TOKEN, token_of

__all__ = [
    "ALL_SCOPES",
    "CLIENT_ID",
    "CLIENT_SECRET",
    "EVENT_TYPES",
    "STORE_ID",
    "TOKEN",
    "Controls",
    "Deliveries",
    "Entry",
    "Event",
    "Fault",
    "InProcessAdapter",
    "SignedEvent",
    "Switches",
    "create_sandbox",
    "path_of",
    "token_of",
]
