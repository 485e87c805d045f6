"""The command `flask ecwid sandbox`, which serves a simulated Ecwid store on a local port."""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
from pathlib import Path
from typing import BinaryIO

import click
from werkzeug.serving import make_server

from ..client.opening import private_file
from ..sandbox import (
    CLIENT_ID,
    CLIENT_SECRET,
    STORE_ID,
    TOKEN,
    Controls,
    Fault,
    create_sandbox,
)
from ..sandbox.wire import RequestHandler
from . import terminal


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8100,
    show_default=True,
    help="The port to serve on. 0 takes any free port.",
)
@click.option(
    "--customers",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="The number of generated customers in a new store. An existing store stays as it is.",
)
@click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The SQLite file of the store. Without it, the store is deleted at the end.",
)
@click.option(
    "--calls-per-minute",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Refuse calls of a token above this number. Ecwid's limit is 600. 0 means no limit.",
)
@click.option(
    "--search-lag",
    type=click.FloatRange(0, 3600),
    default=0.0,
    show_default=True,
    help="The seconds until searches find a new customer.",
)
@click.option("--duplicate-emails", is_flag=True, help="Let two customers have the same e-mail.")
@click.option(
    "--faults", type=click.File("rb"), help="A JSON file with a list of faults to inject."
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

    The standard output gets the settings that connect a plugin to the store. The standard error
    gets the URL for faults, where POST injects faults, GET lists them, and DELETE removes them. At
    /admin/ledger, GET lists all calls, and DELETE forgets them.

    \b
    Examples:
      flask ecwid sandbox --port 8100 --customers 1000
      flask ecwid sandbox --port 8100 --calls-per-minute 600 --search-lag 2
      curl http://127.0.0.1:8100/admin/faults -d '{"kind": "reset", "operation": "add_customer"}'
      curl http://127.0.0.1:8100/admin/ledger
    """
    try:
        injected = [Fault.from_json(each) for each in json.load(faults)] if faults else []
    except (ValueError, TypeError) as exc:
        raise click.BadParameter(str(exc), param_hint="--faults") from None
    path = path or private_file()
    try:
        store = create_sandbox(
            path,
            customers=customers,
            calls_per_minute=calls_per_minute,
            search_lag_s=search_lag,
            duplicate_emails=duplicate_emails,
        )
    except (sqlite3.Error, OSError, ValueError) as exc:
        raise click.BadParameter(str(exc), param_hint="--file") from None
    Controls(path).inject(*injected)
    server = make_server("127.0.0.1", port, store, threaded=True, request_handler=RequestHandler)
    # sys.exit runs the exit handlers, which delete the private file. Without this handler, SIGTERM
    # would leave the file behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        terminal.show(
            f"ECWID_API_URL=http://127.0.0.1:{server.server_port}/api/v3\n"
            f"ECWID_STORE_ID={STORE_ID}\nECWID_TOKEN={TOKEN}\nECWID_AUTH=none\n"
            f"ECWID_OAUTH_URL=http://127.0.0.1:{server.server_port}/api/oauth\n"
            f"ECWID_CLIENT_ID={CLIENT_ID}\nECWID_CLIENT_SECRET={CLIENT_SECRET}"
        )
        terminal.say(f"faults: http://127.0.0.1:{server.server_port}/admin/faults")
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
