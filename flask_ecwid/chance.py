"""Chance: the only module that imports `random`, `secrets` and `uuid`."""

from __future__ import annotations

import random
import secrets
import uuid


def uniform(low: float, high: float) -> float:
    """Return a number between both, for waits that must not fall together."""
    return random.uniform(low, high)


def token(size_bytes: int) -> str:
    """Return a hexadecimal text that nobody can guess, of this many random bytes."""
    return secrets.token_hex(size_bytes)


def api_key_text(size_bytes: int) -> str:
    """Return a URL-safe text that nobody can guess, of this many random bytes."""
    return secrets.token_urlsafe(size_bytes)


def uuid4() -> str:
    """Return a new UUID, version 4, in lower case."""
    return str(uuid.uuid4())
