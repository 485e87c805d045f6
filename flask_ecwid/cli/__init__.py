"""The commands of `flask ecwid`, with one module for each command.

The group itself is in `flask_ecwid_plugins/commands.py`, because every `flask` command loads it.
"""

from __future__ import annotations

import ast
import inspect
from importlib import import_module

import click

# A module has the name of its command, except import_, because Python reserves the word import.
_MODULES = {
    "check": "check",
    "export": "export",
    "import": "import_",
    "key": "key",
    "openapi": "openapi",
    "sandbox": "sandbox",
    "stores": "stores",
    "sync": "sync",
    "webhook": "webhook",
}
COMMANDS = tuple(_MODULES)


def load_command(name: str) -> click.Command | None:
    """Return the command of this name, or None if there is none. Import only its module."""
    module = _MODULES.get(name)
    if module is None:
        return None
    command: click.Command = getattr(import_module(f".{module}", __name__), module)
    for each in (command, *getattr(command, "commands", {}).values()):
        if each.help is None:
            each.help = _docstring_of(each)
    return command


def _docstring_of(command: click.Command) -> str | None:
    """Return the docstring of a command from its source, because `python -OO` drops docstrings."""
    assert command.callback is not None
    [function] = ast.parse(inspect.getsource(inspect.unwrap(command.callback))).body
    assert isinstance(function, ast.FunctionDef)
    return ast.get_docstring(function)
