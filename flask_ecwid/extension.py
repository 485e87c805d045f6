"""Ecwid: how the plugin meets a Flask app."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from flask import Flask, current_app

from . import contract
from .client import EcwidClient
from .settings import Settings, SettingsError, hide_secrets
from .web import openapi
from .web.authentication import Authenticator, Authorize
from .web.blueprint import make_blueprint
from .web.mount import Mount, open_runtime

log = logging.getLogger("flask_ecwid")

URL_PREFIX = "/api/json/v1/ecwid"
_OF_THE_HOST = {
    "type": "apiKey",
    "in": "header",
    "name": "Authorization",
    "description": "The application that this is mounted in says who may call.",
}


class Ecwid:
    """An Ecwid store's customers in a Flask app.

    `Ecwid(app)`, or `Ecwid()` and `init_app(app)` in a factory; the same object may serve several
    apps, which share nothing. For a second store in one app give it another `name`, `url_prefix`
    and `config_prefix`: with `config_prefix="OUTLET_"` it reads `OUTLET_ECWID_STORE_ID` and so on.

    Who may call is said by `ECWID_API_KEYS`, or by the host: `authorize(scope)` is called for each
    request, inside of it, with the scope that the operation takes (`read`, `write` or `delete`).
    `True` or a `Caller` lets the request in; anything else, an exception too, does not.
    `security_scheme` is how the served contract then describes it, an OpenAPI Security Scheme.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        name: str = "ecwid",
        url_prefix: str = URL_PREFIX,
        config_prefix: str = "",
        authorize: Authorize | None = None,
        security_scheme: Mapping[str, Any] | None = None,
    ) -> None:
        if not url_prefix.startswith("/") or url_prefix.endswith("/"):
            raise ValueError("url_prefix must begin with a slash, and end without one")
        self.name = name
        self.url_prefix = url_prefix
        self.config_prefix = config_prefix
        self._authorize = authorize
        self._security_scheme = security_scheme
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Read the settings from `app.config` and mount the blueprint. Opens no connection.

        `config_prefix` stands before each key. The page docs/settings.md has defaults and ranges.

        - ECWID_STORE_ID: The number of the store. Needed unless the sandbox is on.
        - ECWID_TOKEN: The token of the store. Needed unless the sandbox is on.
        - ECWID_SANDBOX: A simulated store in a private file, or in the named one.
        - ECWID_API_URL: The address of Ecwid's API.
        - ECWID_AUTH: Whether callers need an API key. An open sandbox needs none.
        - ECWID_API_KEYS: The API keys of the callers, with their scopes.
        - ECWID_CONNECT_TIMEOUT_S: Seconds to connect to Ecwid.
        - ECWID_READ_TIMEOUT_S: Seconds to wait for each part of a reply.
        - ECWID_DEADLINE_S: Seconds for one request with all its calls to Ecwid.
        - ECWID_MAX_BODY_BYTES: The largest body of a request.
        - ECWID_PROXY_URL: The proxy between this host and Ecwid.
        - ECWID_CA_BUNDLE: The certificates to trust, instead of those of certifi.
        - ECWID_UI: Swagger UI at /ui/.
        - ECWID_CACHE_TTL_S: Seconds to keep the responses of reads. 0 keeps none.
        - ECWID_REDIS_URL: The Redis that all workers and hosts share.
        - ECWID_CALLS_PER_MINUTE: The share of the 600 calls that Ecwid allows a token.
        - ECWID_PROCESSES: Processes that share the calls without Redis. 0 means gunicorn's workers.

        Raises:
            SettingsError: the settings cannot work, and the error names every fault. The same error
                says that the system is not POSIX.
            ValueError: the app has a store of this name, or at this prefix, already.
        """
        _require_posix()
        mounts: dict[str, Mount] = app.extensions.setdefault("ecwid", {})
        if self.name in mounts:
            raise ValueError(f"the app has an Ecwid store named {self.name!r} already")
        if any(mount.url_prefix == self.url_prefix for mount in mounts.values()):
            raise ValueError(f"the app has an Ecwid store at {self.url_prefix!r} already")
        hide_secrets(app.config, self.config_prefix)
        settings = Settings.from_config(
            app.config, self.config_prefix, authorize=self._authorize is not None
        )
        if settings.auth == "none" and not settings.sandbox:
            log.warning("ECWID_AUTH is none: whoever reaches this service may change the store")
        if settings.sandbox and app.config.get(f"{self.config_prefix}ECWID_TOKEN"):
            log.warning("ECWID_SANDBOX is on: the store and the token that are set have no effect")
        loaded = contract.load()
        mount = Mount(
            name=self.name,
            url_prefix=self.url_prefix,
            settings=settings,
            contract=loaded,
            document=openapi.secured(loaded.document, self._security_schemes(settings)),
            authenticator=Authenticator(settings, self._authorize),
            store=open_runtime(settings, self.name),
        )
        app.register_blueprint(make_blueprint(mount))
        mounts[self.name] = mount

    def _security_schemes(self, settings: Settings) -> dict[str, Any] | None:
        """Those that the served contract shows; None for those that it has of itself."""
        if self._authorize is not None:
            return {"host": dict(self._security_scheme or _OF_THE_HOST)}
        return {} if settings.auth == "none" else None

    @property
    def client(self) -> EcwidClient:
        """The store's client in the current app, for the host's own calls.

        Raises:
            RuntimeError: there is no current app (see `app.app_context()`).
            KeyError: the current app has no store of this name.
        """
        mounts: dict[str, Mount] = current_app.extensions["ecwid"]
        return mounts[self.name].client


def _require_posix() -> None:
    """Raise SettingsError if this system lacks the functions that keep shared state private."""
    try:
        import fcntl  # noqa: F401

        missing = "" if hasattr(os, "getuid") else "os.getuid"
    except ImportError:
        missing = "fcntl"
    if missing:
        system = "a POSIX system such as Linux or macOS"
        raise SettingsError([f"flask_ecwid needs {system}, and this system has no {missing}"])
