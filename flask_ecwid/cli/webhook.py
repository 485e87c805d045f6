"""The command `flask ecwid webhook send`, which sends an event to an app as Ecwid does."""

from __future__ import annotations

import sys

import click
from flask.cli import ScriptInfo, pass_script_info

from .. import chance, clock
from ..sandbox.events import EVENT_TYPES, is_delivered, new_event, sign, url_fault
from ..sandbox.posting import NoResponse, Posting
from . import terminal
from .options import find_store, load_mount, read_store_id, store_id_option, store_option

_REPEATED = "Ecwid counts the event as failed and sends it again"
_OF_STATUS = {
    400: f"the app takes the event for invalid, so {_REPEATED}",
    401: "the app refuses the signature, so give it the same ECWID_CLIENT_SECRET as here",
    404: "the app has no receiver at this URL, so check the URL and ECWID_WEBHOOKS",
    405: "the app takes no POST at this URL, so check the URL",
}


@click.group()
def webhook() -> None:
    """Send webhook events to an app, as Ecwid does.

    \b
    Example:
      flask ecwid webhook send --type customer.updated --customer-id 5 --url URL
    """


@webhook.command()
@click.option(
    "--url",
    required=True,
    help="The webhook URL of the app, without a query for the type of the event.",
)
@click.option(
    "--type",
    "event_type",
    type=click.Choice(EVENT_TYPES),
    required=True,
    metavar="TYPE",
    help=f"The type of the event, from {', '.join(EVENT_TYPES)}.",
)
@click.option(
    "--customer-id", type=click.IntRange(1), metavar="ID", help="The customer of the event."
)
@store_id_option
@store_option
@pass_script_info
def send(
    info: ScriptInfo,
    url: str,
    event_type: str,
    customer_id: int | None,
    store_id: str | None,
    store: str,
) -> None:
    """Send one signed event to an app, and say whether Ecwid would count it as delivered.

    The event is signed with ECWID_CLIENT_SECRET of the settings, and is about the store of the
    settings or of --store-id. The event is sent once, over a connection of at most 3 seconds, and
    the response may take 10 seconds. No redirect is followed, because Ecwid follows none. The
    e-mail in an event of a customer is invented.

    The output is the status of the app and a sentence. No other part of the response is printed.
    The exit status is 0 if Ecwid would count the event as delivered, and otherwise 1. The status is
    2 if an argument or a setting is wrong.

    \b
    Examples:
      URL=http://127.0.0.1:5000/api/json/v1/ecwid/webhooks
      flask ecwid webhook send --type customer.updated --customer-id 5 --url $URL
      flask ecwid webhook send --type application.uninstalled --store-id 1004 --url $URL
    """
    if fault := url_fault(url):
        raise click.UsageError(f"the value of --url {fault}")
    if event_type.startswith("customer.") != (customer_id is not None):
        raise click.UsageError("the events of a customer, and no other events, need --customer-id")
    if store_id is not None:
        store_id = read_store_id(store_id)
    mount = load_mount(info, store)
    secret = mount.settings.client_secret
    if not secret:
        raise click.UsageError(
            "ECWID_CLIENT_SECRET is missing, so set the client_secret of your app in Ecwid"
        )
    # A number is not looked up, because an app gets events of unknown stores as well.
    store_id = store_id or find_store(info, mount, None).store_id
    event_id = str(chance.uuid4())
    event = new_event(event_id, int(clock.wall()), store_id, event_type, customer_id)
    try:
        status = Posting(sign(event, url, secret)).send()
    except NoResponse as exc:
        terminal.show(f"no status: {exc}, so {_REPEATED}.")
        sys.exit(1)
    terminal.show(f"{status}: {_meaning(status)}.")
    sys.exit(0 if is_delivered(status) else 1)


def _meaning(status: int) -> str:
    if is_delivered(status):
        return "Ecwid counts the event as delivered"
    if 300 <= status < 400:
        return "Ecwid follows no redirect, so give Ecwid the URL to which the app redirects"
    return _OF_STATUS.get(status, _REPEATED)
