"""The options that several commands share, and the objects that the values of options name."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from flask.cli import ScriptInfo

from ..errors import StoreLookupFailed
from ..settings import SANDBOX_ON, SettingsError, StoreCredentials, api_keys, rules
from ..settings.api_keys import ApiKey
from ..web.mount import Mount, StoreRuntime
from . import terminal
from .files import ENDINGS, JSON_TO_LINES, Format

store_option = click.option(
    "--store", default="ecwid", show_default=True, help="The name of the store's mount in the app."
)
store_id_option = click.option(
    "--store-id", metavar="ID", help="The number of the store, if the mount serves many stores."
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


def find_store(info: ScriptInfo, mount: Mount, store_id: str | None) -> StoreCredentials:
    """Return the store of a mount that a command is about.

    Raises:
        click.UsageError: The mount has no such store, or no number can be looked up. Or the mount
            has many stores, and no number is given.
    """
    if store_id is None:
        if mount.choice.only is None:
            raise click.UsageError("the mount serves many stores, so choose one with --store-id")
        return mount.choice.only
    store_id = read_store_id(store_id)
    try:
        with info.load_app().app_context():  # The host's function may ask the app's database.
            found = mount.choice.find(store_id)
    except StoreLookupFailed:
        raise click.UsageError(
            "the app failed to look up the store, and its log says why"
        ) from None
    if found is None:
        raise click.UsageError("the mount has no store with the number of --store-id")
    return found


def read_store_id(store_id: str) -> str:
    """Return the number of `--store-id`.

    Raises:
        click.UsageError: No store can have the number.
    """
    try:
        return rules.read_store_id(store_id)
    except ValueError as exc:
        raise click.UsageError(f"--store-id is wrong, because {exc}") from None


def load_store(info: ScriptInfo, store: str, store_id: str | None) -> tuple[Mount, StoreRuntime]:
    """Return the app's mount of this name, and the store that the command is about.

    If the settings are wrong, print the errors and end the process with status 2.

    Raises:
        click.UsageError: The app has no mount of this name, or the mount has no such store.
    """
    mount = load_mount(info, store)
    return mount, mount.runtime(find_store(info, mount, store_id))


def say_that_the_store_ends(mount: Mount, consequence: str) -> None:
    """Say that the simulated store of `ECWID_SANDBOX=on` ends with the command.

    Args:
        mount: The mount, which may have another store.
        consequence: The consequence for the customers, as a clause behind "so".
    """
    if mount.settings.sandbox == SANDBOX_ON:
        terminal.say(
            f"ECWID_SANDBOX=on is a simulated store that ends with this command, so {consequence}."
            " To keep customers, set ECWID_SANDBOX to the absolute path of a file, or use the"
            " settings that `flask ecwid sandbox` prints."
        )


def make_api_key(name: str, scopes: str) -> tuple[str, ApiKey]:
    """Return a new API key and its entry.

    Args:
        name: the name of the caller.
        scopes: the scopes, joined by `+`.

    Raises:
        click.UsageError: the name or a scope is not allowed.
    """
    try:
        return api_keys.make(name, scopes.split("+"))
    except ValueError:
        raise click.UsageError(
            "NAME may have letters, digits, '.', '_' and '-'. The scopes are some of "
            f"{'+'.join(api_keys.SCOPES)}."
        ) from None


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
