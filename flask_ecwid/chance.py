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
uuid4 = uuid.uuid4  # for the ids of requests
