"""The commands of `flask ecwid`, with one module for each."""

from __future__ import annotations

import logging
from importlib import import_module

import click

# A command has the name of its module, except import, because Python reserves that word.
_MODULES = {
    "check": "check",
    "export": "export",
    "import": "import_",
    "key": "key",
    "openapi": "openapi",
    "sandbox": "sandbox",
}
COMMANDS = tuple(_MODULES)
_NO_LOG = logging.NullHandler()


def load_command(name: str) -> click.Command | None:
    """Return the command of this name, or None. Import only the module of this command."""
    module = _MODULES.get(name)
    if module is None:
        return None
    command: click.Command = getattr(import_module(f".{module}", __name__), module)
    return command


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return load_command(cmd_name)


@click.group(cls=_Commands)
def ecwid() -> None:
    """An Ecwid store's customers."""
    # Each command reports its own failures. Without this handler, Python would also print the
    # plugin's log lines. A host that has set up logging still gets them.
    logging.getLogger("flask_ecwid").addHandler(_NO_LOG)
