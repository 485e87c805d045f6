"""A simulated Ecwid store: SQLite behind Ecwid's own HTTP API for customers.

    app = create_sandbox("store.sqlite3", customers=1000)

The app is served on a port like any other, or put under `requests` with `InProcessAdapter(app)`.
It stands on the other side of HTTP and imports nothing of the client.
"""

from __future__ import annotations

from .app import ALL_SCOPES, STORE_ID, TOKEN, create_sandbox
from .inprocess import InProcessAdapter

__all__ = ["ALL_SCOPES", "STORE_ID", "TOKEN", "InProcessAdapter", "create_sandbox"]
