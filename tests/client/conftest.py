"""A fixture of the tests of the client, which move the clocks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flask_ecwid import clock


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that moves both clocks forward."""
    by = [0.0]
    now, wall = clock.now, clock.wall
    monkeypatch.setattr(clock, "now", lambda: now() + by[0])
    monkeypatch.setattr(clock, "wall", lambda: wall() + by[0])

    def move(seconds: float) -> None:
        by[0] += seconds

    return move
