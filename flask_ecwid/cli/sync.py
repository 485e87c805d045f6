"""The command `flask ecwid sync`, which keeps a copy of the customers in a database."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import click
from flask.cli import ScriptInfo, pass_script_info

from .. import clock
from ..web.mount import Mount
from . import terminal
from .options import find_store, load_mount, say_that_the_store_ends, store_option

if TYPE_CHECKING:
    from .store_copy import StoreCopy

LOOK_EVERY_S = 1.0  # The time between two looks for an event, and the least time between readings.


@click.command()
@click.argument("database_url", envvar="ECWID_DATABASE_URL")
@click.option(
    "--follow",
    "follow_s",
    type=click.IntRange(1, 86_400),
    metavar="SECONDS",
    help="Go on, and read the changes again after so many seconds, or at once after a webhook "
    "event.",
)
@store_option
@click.option(
    "--store-id",
    "store_ids",
    multiple=True,
    metavar="ID",
    help="The number of the store, if the mount serves many stores. May be repeated.",
)
@pass_script_info
def sync(
    info: ScriptInfo,
    database_url: str,
    follow_s: int | None,
    store: str,
    store_ids: tuple[str, ...],
) -> None:
    """Keep a copy of the customers in the database at DATABASE_URL.

    DATABASE_URL is a file of SQLite, such as sqlite:///customers.sqlite, or a database of
    PostgreSQL, such as postgresql://user@host/database. All users of a host can see the arguments
    of a command, so give a URL with a password in the variable ECWID_DATABASE_URL.

    The first run reads all customers into the table ecwid_customers. Each later run reads only the
    changes. A run may be stopped at any moment, even by kill -9, and the same command continues. A
    run uses at most half of ECWID_CALLS_PER_MINUTE, and waits when this half is used up.

    A customer whose data Ecwid sends in a form outside of the contract keeps the earlier row. Each
    run names the ids and the places, and goes on with the other customers.

    The exit status is 0 if the copy is in sync. The status 1 means that a customer is unreadable,
    or that Ecwid or the database failed. The status 2 means that the command, the settings or the
    database are wrong, or that the server refuses the first connection. After a signal the status
    is 128 plus the signal's number.

    \b
    Examples:
      flask ecwid sync sqlite:///customers.sqlite
      flask ecwid sync postgresql://shop@db.internal/shop --follow 60
      flask ecwid sync sqlite:///customers.sqlite --store-id 1003 --store-id 1004
    """
    mount = load_mount(info, store)
    found = [find_store(info, mount, each).store_id for each in store_ids or (None,)]
    copies = _open_copies(info, mount, list(dict.fromkeys(found)), database_url)
    say_that_the_store_ends(mount, "the copy gets invented customers")
    try:
        with terminal.stop_at_once() as raise_again:
            if follow_s is not None:
                _follow(copies, follow_s, raise_again)
            are_in_sync = [each.update() for each in copies]
    except terminal.Stopped as exc:
        terminal.say("stopped\nThe same command continues the copy.")
        sys.exit(exc.status)
    sys.exit(0 if all(are_in_sync) else 1)


def _open_copies(
    info: ScriptInfo, mount: Mount, store_ids: list[str], database_url: str
) -> list[StoreCopy]:
    """Return the copies of the stores, without a connection to the database.

    Raises:
        click.UsageError: The URL cannot be used, or SQLAlchemy is missing.
    """
    # The import is here, because `flask ecwid --help` works without SQLAlchemy.
    try:
        from .store_copy import open_copies
    except ModuleNotFoundError as exc:
        missing = exc.name
    else:
        return open_copies(info, mount, store_ids, database_url)
    raise click.UsageError(f"{missing} is missing, so install flask-ecwid[sync]")


def _follow(copies: list[StoreCopy], interval_s: int, raise_again: Callable[[], None]) -> NoReturn:
    """Update each copy when it is due, until a signal ends the command."""
    while True:
        raise_again()
        for each in copies:
            if each.is_due():
                each.follow(interval_s)
        clock.sleep(LOOK_EVERY_S)
