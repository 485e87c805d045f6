"""The command `flask ecwid check`, which tests whether a store can be used.

The command changes nothing in the store.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import NamedTuple

import click
from flask.cli import ScriptInfo, pass_script_info

from ..client.client import Ping
from ..errors import EcwidError, ServiceRefused
from ..storage.redis_connection import RedisConnection, RedisUnavailable
from ..web.mount import StoreRuntime
from .options import load_mount, store_option

CLOCKS_DIFFER_S = 5.0  # a larger difference is a warning
_SCOPES = {True: "granted", False: "missing", None: "unknown without read_customers"}


@click.command()
@store_option
@pass_script_info
def check(info: ScriptInfo, store: str) -> None:
    """Say whether Ecwid replies for the configured store, and what the token may do.

    The command also shows how long Ecwid takes and whether the clocks of Ecwid and of this host
    agree. A further line shows how many calls of ECWID_CALLS_PER_MINUTE are left. If Redis is
    configured, the command says whether Redis replies. The command changes nothing in the store.

    The exit status is 0 if all five operations can work, 1 if an operation cannot work, and 2 if
    the settings are wrong.

    \b
    Example:
      flask ecwid check && systemctl start shop
    """
    mount = load_mount(info, store)
    ok = True
    for finding in findings(mount.store):
        click.echo(f"{finding.about}: {finding.text}")
        ok = ok and finding.ok
    sys.exit(0 if ok else 1)


class Finding(NamedTuple):
    """One line of the output. `ok` is False where an operation cannot work."""

    about: str
    text: str
    ok: bool = True


def findings(store: StoreRuntime) -> Iterator[Finding]:
    """Yield the findings in order. After a failure, leave out those that need Ecwid's replies."""
    try:
        ping = store.client.ping()
        yield Finding("store", f"Ecwid replied in {ping.duration_s * 1000:.0f} ms")
        scopes = store.client.granted_scopes()
    except ServiceRefused as exc:
        yield Finding("store", f"refuses this service, reason={exc.reason} ({exc})", ok=False)
    except EcwidError as exc:
        yield Finding("store", f"no valid reply ({exc})", ok=False)
    else:
        yield Finding("token", "accepted")
        for scope, granted in scopes.items():
            yield Finding(scope, _SCOPES[granted], ok=bool(granted))
        yield _clock(ping)
        left = store.client.remaining_calls()
        yield Finding("rate limit", f"{left.remaining} of {left.limit} calls a minute are left")
    redis = store.client.store.storage.redis
    if redis is not None:
        yield _redis(redis)


def _clock(ping: Ping) -> Finding:
    ahead_s = ping.clock_ahead_s
    if ahead_s is None:
        return Finding("clock", "unknown, because Ecwid's reply has no date")
    # A Date header has whole seconds, so Ecwid's time is up to a second later than the header.
    # The reply also took some time. Without this allowance, equal clocks would seem to differ.
    if -1 - ping.duration_s <= ahead_s <= 0:
        return Finding("clock", "agrees with Ecwid's")
    text = f"{abs(ahead_s):.0f} s {'behind' if ahead_s > 0 else 'ahead of'} Ecwid's"
    if abs(ahead_s) > CLOCKS_DIFFER_S:
        text = f"warning: {text}, so synchronize this host with NTP"
    return Finding("clock", text)


def _redis(link: RedisConnection) -> Finding:
    try:
        with link.connection() as redis:
            redis.ping()
    except RedisUnavailable:
        return Finding("redis", "did not reply", ok=False)
    return Finding("redis", "replied")
