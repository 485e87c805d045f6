"""A simulated list of customers that changes while it is read."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from flask_ecwid.client.page_reader import PAGE_SIZE

NOW = 1_790_000_000  # when each reading begins


@functools.lru_cache(maxsize=1000)
def date(moment: int) -> str:
    return f"{datetime.fromtimestamp(moment, timezone.utc):%Y-%m-%d %H:%M:%S} +0000"


class MovingStore:
    """A simulated list of customers that changes between two pages."""

    def __init__(
        self,
        registered: list[int],
        happens: Callable[[MovingStore], None] = lambda store: None,
        *,
        most: int = PAGE_SIZE,
        exclusive: bool = False,
        total_is: int | None = None,
    ) -> None:
        self.customers = {id: (at, at) for id, at in enumerate(registered, start=1)}
        self.hidden: set[int] = set()  # from searches, which lag
        self.undated: set[int] = set()  # without a readable date of registration
        self.pages = 0
        self.now = NOW
        self._next = len(registered) + 1
        self._happens = happens
        self._most = most
        self._exclusive = exclusive
        self._total_is = total_is

    def add(self, *, hidden: bool = False) -> int:
        id, self._next = self._next, self._next + 1
        self.customers[id] = (self.now, self.now)
        if hidden:
            self.hidden.add(id)
        return id

    def change(self, id: int) -> None:
        self.customers[id] = (self.customers[id][0], self.now)

    def list_page(self, **query: Any) -> Any:
        self.pages += 1
        assert self.pages < 5_000, "without an end"
        self._happens(self)
        column = 1 if query.get("sortBy") == "UPDATED_DATE_ASC" else 0
        less = int(self._exclusive)
        found = sorted(
            (moments[column], id)
            for id, moments in self.customers.items()
            if id not in self.hidden
            and moments[0] >= query.get("createdFrom", -math.inf) + less
            and moments[1] >= query.get("updatedFrom", -math.inf) + less
            and moments[1] <= query.get("updatedTo", math.inf) - less
        )
        limit = min(query["limit"], self._most)
        ids = [id for _, id in found[query["offset"] :][:limit]]
        items = [
            {
                "id": id,
                "registered": "?" if id in self.undated else date(created),
                "updated": date(at),
            }
            for id in ids
            for created, at in [self.customers[id]]
        ]
        total = len(found) if self._total_is is None else self._total_is
        return {"total": total, "count": len(items), "items": items, **query}
