"""What `flask ecwid check` finds out about a store; changes nothing in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..client.client import Look
from ..errors import EcwidError, ServiceRefused
from ..storage.redis_connection import RedisGone, RedisLink
from ..web.mount import StoreRuntime

CLOCKS_DIFFER_S = 5.0  # from here on it is worth a word
_SCOPES = {True: "granted", False: "missing", None: "not known without read_customers"}


class Finding(NamedTuple):
    """One line; `good` is False where something cannot work."""

    about: str
    told: str
    good: bool = True


def findings(store: StoreRuntime) -> Iterator[Finding]:
    """One by one; what cannot be known without the one before is left out."""
    try:
        look = store.client.look()
        yield Finding("store", f"answers in {look.seconds * 1000:.0f} ms")
        scopes = store.client.granted_scopes()
    except ServiceRefused as exc:
        yield Finding("store", f"refuses this service ({exc})", good=False)
    except EcwidError as exc:
        yield Finding("store", f"no good answer ({exc})", good=False)
    else:
        yield Finding("token", "accepted")
        for scope, granted in scopes.items():
            yield Finding(scope, _SCOPES[granted], good=bool(granted))
        yield _clock(look)
        left = store.client.remaining_calls()
        yield Finding("budget", f"{left.remaining} of {left.limit} calls a minute are left")
    redis = store.client.store.storage.redis
    if redis is not None:
        yield _redis(redis)


def _clock(look: Look) -> Finding:
    ahead_s = look.clock_ahead_s
    if ahead_s is None:
        return Finding("clock", "not known, for Ecwid's answer has no date")
    # A date is a whole second, up to one old; and the answer was under way.
    if -1 - look.seconds <= ahead_s <= 0:
        return Finding("clock", "as Ecwid's")
    told = f"{abs(ahead_s):.0f} s {'behind' if ahead_s > 0 else 'ahead of'} Ecwid's"
    differ = abs(ahead_s) > CLOCKS_DIFFER_S
    return Finding("clock", f"warning: {told}; set this host's by NTP" if differ else told)


def _redis(link: RedisLink) -> Finding:
    try:
        with link.asked() as redis:
            redis.ping()
    except RedisGone:
        return Finding("redis", "does not answer", good=False)
    return Finding("redis", "answers")
