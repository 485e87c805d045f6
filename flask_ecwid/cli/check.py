"""The command `flask ecwid check`, which tests whether a store can be used.

The command changes nothing in the store.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, NoReturn
from urllib.parse import urlsplit

import click
from flask.cli import ScriptInfo, pass_script_info

from ..client.client import EcwidClient, Ping
from ..errors import EcwidError, ServiceRefused
from ..settings import Settings, SettingsError
from ..storage.file_state import FileState
from ..storage.opening import Storage
from ..storage.redis_connection import RedisConnection, RedisUnavailable
from ..storage.state import StateUnavailable
from ..web.mount import Mount
from . import terminal
from .options import (
    find_mount,
    find_store,
    load_mount,
    load_store,
    store_id_option,
    store_option,
)

CLOCKS_DIFFER_S = 5.0  # a larger difference is a warning
_SCOPES = {True: "granted", False: "missing", None: "unknown without read_customers"}


@click.command()
@store_option
@store_id_option
@click.option("--all", "every", is_flag=True, help="Print a line for each store of ECWID_STORES.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, also if the settings are wrong.")
@pass_script_info
def check(info: ScriptInfo, store: str, store_id: str | None, every: bool, as_json: bool) -> None:
    """Say whether Ecwid replies for the configured store, and what the token may do.

    The command names the host that it calls, and shows how long Ecwid takes. Further lines compare
    the clocks of Ecwid and of this host, and count the calls of ECWID_CALLS_PER_MINUTE that are
    left. The command writes a value into the state file of this user, or says whether Redis
    replies. The last lines are warnings about settings. The command changes nothing in the store.

    With --json, the output is an object. `ok` is true for the exit status 0. Each member of
    `findings` has `about`, `status` (ok, warning or failed) and `text`. A wrong argument is a text
    on the standard error without JSON.

    The exit status is 0 if all five operations and the state can be used. The status is 1 if one of
    them cannot be used, and 2 if the settings are wrong.

    \b
    Examples:
      flask ecwid check && systemctl start shop
      flask ecwid check --json | jq .ok
      flask ecwid check --all
    """
    if every:
        if store_id or as_json:
            raise click.UsageError("--all goes with neither --store-id nor --json")
        _check_all(info, load_mount(info, store))
    if as_json:
        _print_json(info, store, store_id)
        return
    ok = True
    mount, runtime = load_store(info, store, store_id)
    for finding in findings(mount, runtime.client):
        terminal.show(finding.line)
        ok = ok and finding.status != "failed"
    sys.exit(0 if ok else 1)


def _check_all(info: ScriptInfo, mount: Mount) -> NoReturn:
    """Print a line for each store of the file, and end the process with the exit status."""
    store_ids = mount.choice.store_ids()
    if store_ids is None:
        raise click.UsageError(
            "--all needs ECWID_STORES, because an app with `store` has no list of its stores."
            " --store-id checks a single store"
        )
    ok = True
    for store_id in store_ids:
        failed = [
            finding
            for finding in _of_ecwid(mount.runtime(find_store(info, mount, store_id)).client)
            if finding.status == "failed"
        ]
        said = "; ".join(finding.line for finding in failed)
        terminal.show(f"{store_id}: {said or 'ok'}")
        ok = ok and not failed
    sys.exit(0 if ok else 1)


class Finding(NamedTuple):
    """One finding. The status is failed where an operation or the state cannot be used."""

    about: str
    text: str
    status: Literal["ok", "warning", "failed"] = "ok"

    @property
    def line(self) -> str:
        """The line of the output."""
        warning = "warning: " if self.status == "warning" else ""
        return f"{self.about}: {warning}{self.text}"


def findings(mount: Mount, client: EcwidClient) -> Iterator[Finding]:
    """Yield the findings in order. After a failure, leave out those that need Ecwid's replies."""
    of_ecwid = _of_ecwid(client)
    yield next(of_ecwid)
    yield _host(mount.settings)
    yield from of_ecwid
    yield from _storage(mount.stores.upstream.storage)
    for warning in mount.warnings:
        yield Finding("settings", warning, "warning")


def _print_json(info: ScriptInfo, store: str, store_id: str | None) -> None:
    """Print all findings as one object, and end the process with the exit status."""
    try:
        mount = find_mount(info, store)
        client = mount.runtime(find_store(info, mount, store_id)).client
        found = list(findings(mount, client))
        status = 1 if any(finding.status == "failed" for finding in found) else 0
    except SettingsError as exc:
        found = [Finding("settings", fault, "failed") for fault in exc.faults]
        status = terminal.USAGE_ERROR
    result: dict[str, Any] = {
        "ok": status == 0,
        "store": store,
        "findings": [finding._asdict() for finding in found],
    }
    terminal.show(json.dumps(result, indent=2))
    sys.exit(status)


def _of_ecwid(client: EcwidClient) -> Iterator[Finding]:
    try:
        ping = client.ping()
        yield Finding("store", f"Ecwid replied in {ping.duration_s * 1000:.0f} ms")
        scopes = client.granted_scopes()
    except ServiceRefused as exc:
        yield Finding("store", f"refuses this service, reason={exc.reason} ({exc})", "failed")
    except EcwidError as exc:
        yield Finding("store", f"no valid reply ({exc})", "failed")
    else:
        yield Finding("token", "accepted")
        for scope, granted in scopes.items():
            yield Finding(scope, _SCOPES[granted], "ok" if granted else "failed")
        yield _deletions(client)
        yield _clock(ping)
        left = client.remaining_calls()
        yield Finding("rate limit", f"{left.remaining} of {left.limit} calls a minute are left")


def _deletions(client: EcwidClient) -> Finding:
    """Return whether `iter_changes` can read the deletions, which no operation needs."""
    try:
        if client.can_list_deleted():
            return Finding("deletions", "can be read")
        text = "cannot be read, because the token lacks the scope read_store_profile"
    except EcwidError as exc:
        text = f"cannot be read now ({exc})"
    return Finding("deletions", text, "warning")


def _host(settings: Settings) -> Finding:
    """Return the host that the calls go to, and the proxy without its password."""
    if settings.sandbox:
        return Finding("host", "none, because the sandbox is in this process")
    text = urlsplit(settings.api_url).netloc
    if settings.proxy_url:
        proxy = urlsplit(settings.proxy_url)
        text += f", through the proxy {proxy.netloc.rpartition('@')[2]}"
    return Finding("host", text)


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
        return Finding("clock", f"{text}, so synchronize this host with NTP", "warning")
    return Finding("clock", text)


def _storage(storage: Storage) -> Iterator[Finding]:
    """Yield whether the storages that processes share can be used."""
    if storage.redis is not None:
        yield _redis(storage.redis)
    assert isinstance(storage.host, FileState), "a mount has a state file"
    try:
        path = storage.host.try_out()
    except StateUnavailable as exc:
        yield Finding("state", f"cannot be used, because {exc}", "failed")
    else:
        yield Finding("state", f"can be written, in {path}")


def _redis(link: RedisConnection) -> Finding:
    try:
        with link.connection() as redis:
            redis.ping()
    except RedisUnavailable:
        return Finding("redis", "did not reply", "failed")
    return Finding("redis", "replied")
