"""flask ecwid check | key | openapi | sandbox"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import BinaryIO

import click
from flask.cli import ScriptInfo, pass_script_info
from werkzeug.serving import WSGIRequestHandler, make_server

from . import api_keys, contract, published
from .errors import EcwidError
from .extension import URL_PREFIX, Mount
from .sandbox import STORE_ID, TOKEN, Fault, Orders, create_sandbox
from .settings import SettingsError
from .stores import private_file

_SAID = {True: "granted", False: "missing", None: "not known without read_customers"}


class _QuietHandler(WSGIRequestHandler):
    """Logs no requests: their lines hold query strings."""

    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass


@click.group()
def ecwid() -> None:
    """An Ecwid store's customers."""


@ecwid.command()
@click.option("--store", default="ecwid", show_default=True, help="The name of the store's mount.")
@pass_script_info
def check(info: ScriptInfo, store: str) -> None:
    """Say whether the configured store answers, and what the token may do.

    Changes nothing in the store. Exit status: 0 when all five operations can work, 1 when one
    cannot, 2 when the settings are at fault.

    \b
    Example:
      flask ecwid check && systemctl start shop
    """
    try:
        app = info.load_app()
    except SettingsError as exc:
        for fault in exc.faults:
            click.echo(fault, err=True)
        sys.exit(2)
    mounts: dict[str, Mount] = app.extensions.get("ecwid", {})
    if store not in mounts:
        raise click.UsageError(f"the app has no Ecwid store named {store!r}")
    try:
        scopes = mounts[store].client.granted_scopes()
    except EcwidError as exc:
        click.echo(f"store: no good answer ({exc})")
        sys.exit(1)
    click.echo("store: answers")
    for scope, granted in scopes.items():
        click.echo(f"{scope}: {_SAID[granted]}")
    sys.exit(0 if all(scopes.values()) else 1)


@ecwid.command()
@click.argument("name")
@click.option(
    "--scopes",
    default="read",
    show_default=True,
    help=f"What it is good for, joined by +: {', '.join(api_keys.SCOPES)}.",
)
def key(name: str, scopes: str) -> None:
    """Make a key for the caller NAME.

    The key is printed once, for the caller, and kept nowhere. Add the entry to ECWID_API_KEYS and
    start anew; to replace a key let both entries stand until the caller has the new one.

    \b
    Example:
      flask ecwid key warehouse --scopes read+write
    """
    try:
        made, entry = api_keys.make(name, scopes.split("+"))
    except ValueError:
        raise click.UsageError(
            "NAME is letters, digits, '.', '_' and '-'; the scopes are some of "
            f"{'+'.join(api_keys.SCOPES)}"
        ) from None
    click.echo(f"key: {made}")
    click.echo(f"entry: {entry.entry()}")


@ecwid.command()
@click.option("--json", "as_json", is_flag=True, help="JSON instead of YAML.")
@click.option("--mount", default=URL_PREFIX, show_default=True, help="The URL it is served under.")
def openapi(as_json: bool, mount: str) -> None:
    """Print the contract.

    \b
    Example:
      flask ecwid openapi --mount https://shop.example.com/api/json/v1/ecwid > customers.yaml
    """
    document = published.at_mount(contract.load().document, mount)
    click.echo(
        json.dumps(document, ensure_ascii=False, indent=2)
        if as_json
        else published.to_yaml(document)
    )


@ecwid.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8100,
    show_default=True,
    help="0 takes any free one.",
)
@click.option(
    "--customers",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="How many generated ones a new store gets; one that is there stays as it is.",
)
@click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The SQLite file to keep the store in. Default: a private one, gone at the end.",
)
@click.option(
    "--calls-per-minute",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Refuse a token's calls above it; Ecwid's limit is 600. 0 lets any number pass.",
)
@click.option(
    "--search-lag",
    type=click.FloatRange(0, 3600),
    default=0.0,
    show_default=True,
    help="Seconds until a new customer shows in searches.",
)
@click.option("--duplicate-emails", is_flag=True, help="Let two customers have the same e-mail.")
@click.option(
    "--faults", type=click.File("rb"), help="A JSON file with a list of faults to order at once."
)
def sandbox(
    port: int,
    customers: int,
    path: Path | None,
    calls_per_minute: int,
    search_lag: float,
    duplicate_emails: bool,
    faults: BinaryIO | None,
) -> None:
    """Serve a simulated Ecwid store on 127.0.0.1.

    Prints the settings that point a plugin at it; and to the standard error where faults can
    be ordered and the calls it got be read: GET, POST and DELETE there.

    \b
    Examples:
      flask ecwid sandbox --port 8100 --customers 1000
      flask ecwid sandbox --port 8100 --calls-per-minute 600 --search-lag 2
      curl http://127.0.0.1:8100/admin/faults -d '{"kind": "reset", "operation": "add_customer"}'
      curl http://127.0.0.1:8100/admin/ledger
    """
    try:
        ordered = [Fault.read(each) for each in json.load(faults)] if faults else []
    except (ValueError, TypeError) as exc:
        raise click.BadParameter(str(exc), param_hint="--faults") from None
    path = path or private_file()
    store = create_sandbox(
        path,
        customers=customers,
        calls_per_minute=calls_per_minute,
        search_lag_s=search_lag,
        duplicate_emails=duplicate_emails,
    )
    Orders(path).order(*ordered)
    server = make_server("127.0.0.1", port, store, threaded=True, request_handler=_QuietHandler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # or the private file would stay behind
    try:
        click.echo(f"ECWID_API_URL=http://127.0.0.1:{server.server_port}/api/v3")
        click.echo(f"ECWID_STORE_ID={STORE_ID}")
        click.echo(f"ECWID_TOKEN={TOKEN}")
        click.echo("ECWID_AUTH=none")
        click.echo(f"orders: http://127.0.0.1:{server.server_port}/admin/faults", err=True)
        sys.stdout.flush()
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
