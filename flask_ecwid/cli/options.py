"""The options that several commands share, and the objects that the values of options name."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from flask.cli import ScriptInfo

from ..settings import SettingsError
from ..web.mount import Mount
from . import terminal
from .files import ENDINGS, JSON_TO_LINES, Format

store_option = click.option(
    "--store", default="ecwid", show_default=True, help="The name of the store's mount in the app."
)
format_option = click.option(
    "--format",
    "file_format",
    type=click.Choice(["jsonl", "csv"]),
    help="The default follows from the ending of PATH (.jsonl, .ndjson, .csv), and is jsonl for -.",
)


def load_mount(info: ScriptInfo, store: str) -> Mount:
    """Return the app's mount of this name.

    If the settings are wrong, print the errors and end the process with status 2.

    Raises:
        click.UsageError: the app has no mount of this name.
    """
    try:
        return find_mount(info, store)
    except SettingsError as exc:
        for error in exc.faults:
            terminal.say(error)
        sys.exit(terminal.USAGE_ERROR)


def find_mount(info: ScriptInfo, store: str) -> Mount:
    """Return the app's mount of this name.

    Raises:
        SettingsError: the settings are wrong.
        click.UsageError: the app has no mount of this name.
    """
    mounts: dict[str, Mount] = info.load_app().extensions.get("ecwid", {})
    if store not in mounts:
        raise click.UsageError(f"the app has no Ecwid store named {store!r}")
    return mounts[store]


def format_of(path: str) -> Format:
    """Return the format that the ending of the path stands for.

    Raises:
        click.UsageError: the ending is unknown.
    """
    if path == "-":
        return "jsonl"
    found = ENDINGS.get(Path(path).suffix.lower())
    if found is None:
        endings = ", ".join(ENDINGS)
        hint = f". {JSON_TO_LINES}" if path.lower().endswith(".json") else ""
        raise click.UsageError(
            f"PATH has none of the endings {endings}, so --format is needed{hint}"
        )
    return found
