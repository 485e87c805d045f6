"""How Ecwid's answers move away from the contract without breaking it: counted, told in the log.

Members that the contract does not name and members that are null pass on as they are. Absent ones
are not counted: Ecwid leaves out what it does not know of a customer, in every page.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from . import clock
from .contract import Contract

log = logging.getLogger("flask_ecwid")

TOLD_EVERY_S = 60.0
LOOK_EVERY_S = 0.1  # more answers a second than Ecwid allows calls are not worth the time


class Drift:
    """Counts for one store; a line a minute at most, with numbers only."""

    def __init__(self, contract: Contract) -> None:
        self._page = contract.members("CustomerPage")
        self._customer = contract.members("CustomerIdentity", "CustomerAttributes")
        self._lock = threading.Lock()
        self._unknown = 0
        self._null = 0
        self._told = -TOLD_EVERY_S
        self._looked = -LOOK_EVERY_S

    def look(self, operation: str, value: dict[str, Any]) -> None:
        """Look at an answer that fits the contract."""
        if clock.now() - self._looked < LOOK_EVERY_S:
            return
        self._looked = clock.now()
        if operation == "list_customers":
            items = value["items"]
            drifted = not self._page >= value.keys()
        elif operation == "get_customer":
            items, drifted = [value], False
        else:
            return
        unknown = drifted or any(not self._customer >= item.keys() for item in items)
        null = any(None in item.values() for item in items)
        if unknown or null:
            self._count(unknown, null)

    def _count(self, unknown: bool, null: bool) -> None:
        with self._lock:
            self._unknown += unknown
            self._null += null
            if clock.now() - self._told < TOLD_EVERY_S:
                return
            counts = self._unknown, self._null
            self._unknown = self._null = 0
            self._told = clock.now()
        log.warning("drift answers_with_unknown_members=%d answers_with_nulls=%d", *counts)
