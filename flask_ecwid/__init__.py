"""An Ecwid store's customers behind five validated endpoints, in any Flask app.

    from flask_ecwid import Ecwid
    Ecwid(app)

`EcwidClient` makes the same five calls without Flask. Each name is imported when it is asked for,
since pytest imports this package at its start, to find the fixtures of testing.py.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .client import EcwidClient
    from .contract import spec_path
    from .errors import EcwidError
    from .extension import Ecwid
    from .settings import Settings, SettingsError
    from .web.authentication import Caller

__all__ = ["Caller", "Ecwid", "EcwidClient", "EcwidError", "Settings", "SettingsError", "spec_path"]
_MODULES = {
    **{
        "Caller": "web.authentication",
        "Ecwid": "extension",
        "EcwidClient": "client",
        "EcwidError": "errors",
    },
    **{"Settings": "settings", "SettingsError": "settings", "spec_path": "contract"},
}

if not TYPE_CHECKING:  # or a name that is not there would be one to a type checker

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
