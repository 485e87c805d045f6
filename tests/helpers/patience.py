"""The time for Redis in tests, because a busy machine would otherwise take Redis for slow."""

from __future__ import annotations

from typing import Any

from flask_ecwid.storage import redis_connection, work

PATIENCE: list[tuple[Any, str, float]] = [
    (work, "REDIS_S", 60.0),
    (work, "TRIP_S", 20.0),
    (redis_connection, "TRIP_S", 20.0),
]
