"""The number of customers that a bar on a terminal counts up to."""

from __future__ import annotations

from typing import Any

from ..client import EcwidClient


def count_customers(client: EcwidClient, filters: dict[str, Any]) -> int:
    """Return the number of customers that match, as Ecwid counts them."""
    client.wait_for_budget()
    query = {**filters, "responseFields": "total"}
    return client.wait_while_unavailable(lambda: client.list_with_unfit(**query))["total"]
