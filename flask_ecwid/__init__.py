"""An Ecwid store's customers behind five validated endpoints, in any Flask app.

    from flask_ecwid import Ecwid
    Ecwid(app)

A package imports only the packages below it. The sandbox stands apart. The packages are:

    cli         the commands of `flask ecwid`
    server      gunicorn's worker, logger and hooks
    web         the endpoints, in front of the client
    client      `EcwidClient`, which needs no app
    throttling  the limits on calls to Ecwid
    storage     the state that processes share
    contract    customers.yaml, compiled
    settings    the settings of a store
    sandbox     a simulated Ecwid store
"""

from __future__ import annotations

from .client import EcwidClient
from .contract import spec_path
from .errors import EcwidError
from .extension import Ecwid
from .settings import Settings, SettingsError, StoreCredentials
from .web.authentication import Caller

__all__ = [
    "Caller",
    "Ecwid",
    "EcwidClient",
    "EcwidError",
    "Settings",
    "SettingsError",
    "StoreCredentials",
    "spec_path",
]
