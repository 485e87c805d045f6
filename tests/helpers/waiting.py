"""Waiting for what another thread or process brings about."""

from __future__ import annotations

import time
from collections.abc import Callable


def happens(holds: Callable[[], bool], within_s: float = 20) -> bool:
    """Return True as soon as a condition holds, and False if it does not hold in time."""
    until = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
