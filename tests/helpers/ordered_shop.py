"""The plugin in front of a sandbox that fails on demand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask_ecwid.testing import EcwidSandbox

from ..conftest import Api, app_of


class Shop:
    """A store, its orders, and what it was asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.orders = EcwidSandbox(path)
        self.orders.seed()

    def api(self, **settings: Any) -> Api:
        """A caller of a new app in front of it: another worker, or host."""
        return Api(app_of({"ECWID_SANDBOX": str(self.path), **settings}).test_client())

    def asked(self) -> list[str]:
        """The operations of the calls that it got, in their order."""
        return [entry.operation for entry in self.orders.ledger()]

    def calls(self) -> int:
        return len(self.asked())

    def creations(self) -> list[int]:
        """The ids of all customers that were created."""
        return [
            entry.customer_id
            for entry in self.orders.ledger()
            if entry.operation == "add_customer" and entry.done and entry.customer_id
        ]
