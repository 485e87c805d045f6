"""The command `flask ecwid sandbox`, which serves simulated Ecwid stores on a local port."""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

import click
from werkzeug.serving import make_server

from .. import private_files
from ..client.opening import private_file
from ..sandbox import (
    ALL_SCOPES,
    CLIENT_ID,
    CLIENT_SECRET,
    STORE_ID,
    TOKEN,
    Controls,
    Deliveries,
    Fault,
    create_sandbox,
    path_of,
    token_of,
)
from ..sandbox.events import url_fault
from ..sandbox.wire import RequestHandler
from ..settings import api_keys, stores_document
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
    "--stores",
    type=click.IntRange(1, 1000),
    help="Serve this number of stores, and write a file for ECWID_STORES.",
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
    help="The SQLite file of the store. Files beside it have the other stores of --stores. Without"
    " --file, the stores are deleted at the end.",
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
    "--faults",
    type=click.File("rb"),
    help="A JSON file with a list of faults to inject into the calls of each store.",
)
@click.option(
    "--webhook-url",
    metavar="URL",
    help="Send a signed event to this URL after each change of any store.",
)
def sandbox(
    port: int,
    stores: int | None,
    customers: int,
    path: Path | None,
    calls_per_minute: int,
    search_lag: float,
    duplicate_emails: bool,
    faults: BinaryIO | None,
    webhook_url: str | None,
) -> None:
    """Serve a simulated Ecwid store on 127.0.0.1, or several.

    The standard output gets the settings that connect a plugin to the store. The standard error
    gets the URL for faults, where POST injects faults, GET lists them, and DELETE removes them. At
    /admin/ledger, GET lists all calls, and DELETE forgets them.

    With --stores, the sandbox has the stores 1003, 1004 and so on, each with customers, a token,
    faults and a ledger of its own. Their URLs for faults and calls are at /admin/stores/ID. The
    command writes a file with the stores, their tokens and an API key for each. The setting
    ECWID_STORES names the file. The standard error gets the API keys, because the file has only
    their digests. The file is deleted at the end.

    A PUT at /admin/stores/ID sets the tokens of a store, and adds a store that is new.

    With --webhook-url, the sandbox signs the events with the ECWID_CLIENT_SECRET that it prints,
    and sends an event again 5 seconds after a failure. At /admin/events, GET lists the events of a
    store with the statuses of the app, and POST adds an event of any type. A POST of ids at
    /admin/deliveries sends these events in this order. A PATCH at /admin/switches that sets
    `send_events` to false lets later events wait for such a POST.

    \b
    Examples:
      flask ecwid sandbox --port 8100 --customers 1000
      flask ecwid sandbox --port 8100 --calls-per-minute 600 --search-lag 2
      curl http://127.0.0.1:8100/admin/faults -d '{"kind": "reset", "operation": "add_customer"}'
      curl http://127.0.0.1:8100/admin/ledger
      flask ecwid sandbox --port 8100 --stores 3
      curl http://127.0.0.1:8100/admin/stores/1004/faults -d '{"kind": "status", "status": 402}'
      curl -X PUT http://127.0.0.1:8100/admin/stores/1009 -d '{"tokens": ["secret_invented"]}'
      flask ecwid sandbox --webhook-url http://127.0.0.1:5000/api/json/v1/ecwid/webhooks
      curl http://127.0.0.1:8100/admin/events -d '{"eventType": "application.uninstalled"}'
    """
    try:
        injected = [Fault.from_json(each) for each in json.load(faults)] if faults else []
    except (ValueError, TypeError) as exc:
        raise click.BadParameter(str(exc), param_hint="--faults") from None
    if webhook_url is not None and (fault := url_fault(webhook_url)):
        raise click.BadParameter(f"the URL {fault}", param_hint="--webhook-url")
    deliveries = None if webhook_url is None else Deliveries(webhook_url, CLIENT_SECRET)
    path = path or private_file()
    ids = [str(int(STORE_ID) + number) for number in range(stores or 1)]
    try:
        app = create_sandbox(
            path,
            stores=ids[1:],
            customers=customers,
            calls_per_minute=calls_per_minute,
            search_lag_s=search_lag,
            duplicate_emails=duplicate_emails,
            deliveries=deliveries,
            send_events=deliveries is not None,
        )
    except (sqlite3.Error, OSError, ValueError) as exc:
        raise click.BadParameter(str(exc), param_hint="--file") from None
    for store_id in ids:
        controls = Controls(path if store_id == STORE_ID else path_of(path, store_id))
        # A request may have changed the tokens of this file before. The output names these tokens.
        controls.set_tokens({token_of(store_id): ALL_SCOPES})
        controls.inject(*injected)
        controls.switch(send_events=deliveries is not None)
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=RequestHandler)
    # sys.exit runs the exit handlers, which delete the private files. Without this handler, SIGTERM
    # would leave the files behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    host = f"http://127.0.0.1:{server.server_port}"
    try:
        if stores:
            _show_stores(host, ids)
        else:
            terminal.show(
                f"ECWID_API_URL={host}/api/v3\n"
                f"ECWID_STORE_ID={STORE_ID}\nECWID_TOKEN={TOKEN}\nECWID_AUTH=none"
            )
            terminal.say(f"faults: {host}/admin/faults")
        terminal.show(
            f"ECWID_OAUTH_URL={host}/api/oauth\n"
            f"ECWID_CLIENT_ID={CLIENT_ID}\nECWID_CLIENT_SECRET={CLIENT_SECRET}"
        )
        if deliveries:
            terminal.show("ECWID_WEBHOOKS=on")
            terminal.say(f"events: {host}/admin/events")
        with deliveries or nullcontext():
            server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


def _show_stores(host: str, ids: list[str]) -> None:
    """Write the file of the stores, and print its settings and the new API keys."""
    listed, lines = [], []
    for store_id in ids:
        api_key, entry = api_keys.make(f"sandbox-{store_id}", api_keys.SCOPES)
        listed.append({"id": store_id, "token": token_of(store_id), "api_keys": [entry.entry()]})
        faults = f"{host}/admin/stores/{store_id}/faults"
        lines.append(f"store {store_id}: key {api_key}, faults {faults}")
    path = private_file().with_name("stores.json")
    private_files.replace(path, stores_document.dump({"stores": listed}))
    terminal.show(f"ECWID_API_URL={host}/api/v3\nECWID_STORES={path}")
    terminal.say("\n".join(lines))
