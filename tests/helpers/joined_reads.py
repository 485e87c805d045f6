"""Reads that join another read under way, so that a test can wait for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flask_ecwid import clock
from flask_ecwid.client import shared_reads

JOIN_MOST_S = 30.0  # On a busy machine, a second read may begin seconds after the first.


def count_joined(patch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let a read join another for `JOIN_MOST_S`, and return the number of reads that have."""
    joined: list[float | None] = []

    class End(clock.Event):
        def wait(self, timeout: float | None = None) -> bool:
            joined.append(timeout)
            return super().wait(timeout)

    class UnderWay(shared_reads._UnderWay):
        def __init__(self, began: clock.Moment, done: clock.Event) -> None:
            super().__init__(began, End())

    patch.setattr(shared_reads, "_UnderWay", UnderWay)
    patch.setattr(shared_reads, "JOIN_MOST_S", JOIN_MOST_S)
    return lambda: len(joined)
