"""The commands `flask ecwid stores add`, `list` and `remove`, which change the stores file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from flask.cli import ScriptInfo

from .. import private_files
from ..settings import StoreCredentials, api_keys, rules, stores_document
from ..settings.stores_document import StoresFault
from ..settings.stores_file import reason
from . import options, terminal

_KEY = "ECWID_STORES"
_MOST_BYTES = 10_000  # of a token on the standard input

_file_option = click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path),
    help=f"The stores file. The default is {_KEY} of the environment, or else of the app.",
)


@click.group()
def stores() -> None:
    """Change the file of stores that ECWID_STORES names.

    A running service reads the file again within 2 seconds.

    \b
    Examples:
      flask ecwid stores add 1003 --scopes read+write
      flask ecwid stores add 1003 --replace < token.txt
      flask ecwid stores list
      flask ecwid stores remove 1003
    """


@stores.command()
@click.argument("store_id", metavar="ID")
@click.option("--name", help="The name of the caller. The default is store-ID.")
@click.option(
    "--scopes",
    help="The scopes of the API key, joined by +, from "
    f"{', '.join(api_keys.SCOPES)}. The default is read.",
)
@click.option("--replace", is_flag=True, help="Change the token of a store that is in the file.")
@_file_option
@click.pass_obj
def add(
    info: ScriptInfo,
    store_id: str,
    name: str | None,
    scopes: str | None,
    replace: bool,
    path: Path | None,
) -> None:
    """Add the store with this ID, and print an API key for its caller.

    The command asks for the token of the store, or reads the token from the standard input. The API
    key is printed once, and the file has only its digest. A file that is missing is made, for this
    user alone. With --replace, the API keys of the store stay, and --name adds another one.

    \b
    Example:
      flask ecwid stores add 1003 --name warehouse --scopes read+write
    """
    if fault := rules.store_id_fault(store_id):
        raise click.UsageError(f"the ID {fault}")
    if replace and scopes and not name:
        raise click.UsageError("With --replace, --scopes needs the --name of a new API key.")
    made = None
    if name or not replace:
        made = options.make_api_key(name or f"store-{store_id}", scopes or "read")
    path = _path_of(info, path)
    _check_presence(path, _read(path), store_id, is_there=replace)  # before the question
    try:
        credentials = StoreCredentials(store_id, _ask_for_token())
    except ValueError as exc:
        raise click.UsageError(str(exc)) from None

    def change(document: dict[str, Any]) -> None:
        entries = document["stores"]
        if replace:
            entry = entries[_position(entries, store_id)]
            entry["token"] = str(credentials.token)
        else:
            entry = {"id": store_id, "token": str(credentials.token), "api_keys": []}
            entries.append(entry)
        if made:
            keys = api_keys.parse_all(entry.get("api_keys", []))
            entry["api_keys"] = [each.entry() for each in (*keys, made[1])]

    _change(path, store_id, change, is_there=replace)
    if made:
        terminal.show(f"key: {made[0]}")
    terminal.say(f"{path} has store {store_id} with the new token.", success=True)


@stores.command("list")
@_file_option
@click.pass_obj
def list_(info: ScriptInfo, path: Path | None) -> None:
    """Print a line for each store, with its id and with the names and scopes of its API keys.

    \b
    Example:
      flask ecwid stores list
    """
    path = _path_of(info, path)
    data = _read(path)
    if data is None:
        raise click.UsageError(f"{path} is missing")
    found = _parse(path, data)
    lines = {id: [id] for id in found.by_id}
    for credentials, api_key in found.by_digest.values():
        lines[credentials.store_id].append(api_key.entry().rpartition(":")[0])
    if lines:
        terminal.show("\n".join(map(" ".join, lines.values())))


@stores.command()
@click.argument("store_id", metavar="ID")
@_file_option
@click.pass_obj
def remove(info: ScriptInfo, store_id: str, path: Path | None) -> None:
    """Remove the store with this ID, with the API keys of its callers.

    \b
    Example:
      flask ecwid stores remove 1003
    """

    def change(document: dict[str, Any]) -> None:
        entries = document["stores"]
        del entries[_position(entries, store_id)]

    path = _path_of(info, path)
    _change(path, store_id, change, is_there=True)
    terminal.say(f"{path} has store {store_id} no more.", success=True)


def _path_of(info: ScriptInfo, path: Path | None) -> Path:
    """Return the path of the stores file.

    The environment comes before the app, because the app does not start if its file is missing.

    Raises:
        click.UsageError: The path is not absolute, or no setting names a file.
    """
    if path is not None:
        return path.absolute()
    found = os.environ.get(_KEY, "").strip()
    if not found:
        with suppress(click.UsageError):  # there is no app, or the app has no mount of this name
            found = options.load_mount(info, "ecwid").settings.stores
    if not found or found == rules.BY_HOST:
        raise click.UsageError(f"Use --file PATH, because {_KEY} is not set.")
    if fault := rules.path_fault(found):
        raise click.UsageError(f"{_KEY} {fault}")
    return Path(found)


def _ask_for_token() -> str:
    """Return the token from a prompt without echo, or from the standard input.

    Raises:
        click.UsageError: The standard input is closed.
    """
    if sys.stdin is not None and sys.stdin.isatty():
        token: str = click.prompt("Token", hide_input=True, err=True)
        return token
    with terminal.open_input("-") as stream:
        return stream.read(_MOST_BYTES).decode("ascii", "replace").strip()


def _change(
    path: Path, store_id: str, change: Callable[[dict[str, Any]], None], *, is_there: bool
) -> None:
    """Change the document of a file while no other command changes the file.

    Args:
        path: The path of the file.
        store_id: The store that the change is about.
        change: Changes the document.
        is_there: The store has to be in the file before the change, or else must not.

    Raises:
        click.UsageError: The file cannot be used, or has the store or lacks it.
    """
    try:
        with private_files.locked(path.parent):
            data = _read(path)
            _check_presence(path, data, store_id, is_there=is_there)
            document = stores_document.load(data or stores_document.EMPTY)
            change(document)
            private_files.replace(path, stores_document.dump(document))
            private_files.sync_folder(path.parent)
    except OSError as exc:
        raise click.UsageError(terminal.describe_file(str(path), exc)) from None


def _check_presence(path: Path, data: bytes | None, store_id: str, *, is_there: bool) -> None:
    """Raise click.UsageError if the file cannot be used, or has the store or lacks it wrongly."""
    has_store = store_id in _parse(path, data or stores_document.EMPTY).by_id
    if has_store and not is_there:
        raise click.UsageError(
            f"{path} has store {store_id} already. To change its token, use `flask ecwid stores add"
            f" {store_id} --replace`."
        )
    if is_there and not has_store:
        raise click.UsageError(f"{path} has no store {store_id}.")


def _read(path: Path) -> bytes | None:
    """Return the content of a file, or None if there is no such file.

    Raises:
        click.UsageError: The file cannot be used.
    """
    try:
        return private_files.read_if_new(path, None)[1]
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise click.UsageError(f"{path} cannot be used ({reason(exc)})") from None


def _parse(path: Path, data: bytes) -> stores_document.Stores:
    try:
        return stores_document.parse(data)
    except StoresFault as exc:
        fault = str(exc)
    raise click.UsageError(f"{path} cannot be used ({fault})")


def _position(entries: list[dict[str, Any]], store_id: str) -> int:
    return next(n for n, each in enumerate(entries) if str(each["id"]).strip() == store_id)
