"""The plugin in front of a sandbox that fails on demand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask_ecwid.testing import EcwidSandbox

from ..conftest import Api, app_of


class OrderedStore:
    """A simulated store, the faults that a test orders from it, and its ledger."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.orders = EcwidSandbox(path)
        self.orders.seed()

    def api(self, **settings: Any) -> Api:
        """Return a caller of a new app in front of the store, like another worker or host."""
        return Api(app_of({"ECWID_SANDBOX": str(self.path), **settings}).test_client())

    def asked(self) -> list[str]:
        """Return the operations of the calls to the store in order."""
        return [entry.operation for entry in self.orders.ledger()]

    def calls(self) -> int:
        return len(self.asked())

    def creations(self) -> list[int]:
        """Return the ids of all created customers."""
        return [
            entry.customer_id
            for entry in self.orders.ledger()
            if entry.operation == "add_customer" and entry.done and entry.customer_id
        ]
