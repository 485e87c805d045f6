"""Random values. No other module imports `random`, `secrets` or `uuid`.

A test or a simulation replaces these names to choose the random values.
"""

from __future__ import annotations

import random
import secrets
import uuid

uniform = random.uniform  # for waits that must not end at the same time
token_hex = secrets.token_hex  # for names that nobody can guess
token_urlsafe = secrets.token_urlsafe  # for API keys


def uuid4() -> uuid.UUID:
    """Return the id of a request, which need not be secret.

    `uuid.uuid4` makes a system call, which hands the interpreter over to another thread.
    """
    return uuid.UUID(int=random.getrandbits(128), version=4)
