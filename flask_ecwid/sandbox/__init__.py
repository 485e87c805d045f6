"""A simulated Ecwid store: SQLite behind Ecwid's own HTTP API for customers.

    app = create_sandbox("store.sqlite3", customers=1000)

The app is served on a port like any other, or put under `requests` with `InProcessAdapter(app)`.
It stands on the other side of HTTP and imports nothing of the client. It misbehaves to order, and
keeps a ledger of every call:

    orders = Orders("store.sqlite3")
    orders.order(Fault("reset", operation="add_customer", nth=1, after=True))
    orders.ledger()

What it does is what Ecwid's documents say; comments name the source of a fact:
  D26  docs.ecwid.com of March 2026, the newest
  R24  api-docs.ecwid.com, 2021 to 2024
  S20  developers.ecwid.com, 2014 to 2020
  J    Ecwid's own Java client, ecwid-java-api-client 0.326
  F    Ecwid's framework rest4j, on which the API runs
  W    seen on the live API by others
  I    inferred
"""

from __future__ import annotations

from .app import ALL_SCOPES, STORE_ID, TOKEN, create_sandbox
from .faults import Fault
from .inprocess import InProcessAdapter
from .orders import Entry, Orders, Switches

__all__ = [
    "ALL_SCOPES",
    "STORE_ID",
    "TOKEN",
    "Entry",
    "Fault",
    "InProcessAdapter",
    "Orders",
    "Switches",
    "create_sandbox",
]
