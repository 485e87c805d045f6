"""The command `flask ecwid key`, which makes an API key for a caller."""

from __future__ import annotations

import click

from ..settings import api_keys
from . import options, terminal


@click.command()
@click.argument("name")
@click.option(
    "--scopes",
    default="read",
    show_default=True,
    help=f"The scopes of the API key, joined by +, from {', '.join(api_keys.SCOPES)}.",
)
def key(name: str, scopes: str) -> None:
    """Make an API key for the caller NAME.

    The command prints the API key once and stores it nowhere. Give the API key to the caller. Add
    the printed entry to ECWID_API_KEYS, and restart the service. To replace an API key, keep both
    entries until the caller uses the new API key.

    \b
    Example:
      flask ecwid key warehouse --scopes read+write
    """
    secret, entry = options.make_api_key(name, scopes)
    terminal.show(f"key: {secret}\nentry: {entry.entry()}")
