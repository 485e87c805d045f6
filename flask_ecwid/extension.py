"""Ecwid: how the plugin meets a Flask app."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Flask, current_app

from . import contract
from .client import EcwidClient
from .routes import make_blueprint
from .settings import Settings
from .stores import open_store

URL_PREFIX = "/api/json/v1/ecwid"


@dataclass(frozen=True)
class Mount:
    """One store in one app: `app.extensions["ecwid"][name]`."""

    url_prefix: str
    settings: Settings
    client: EcwidClient


class Ecwid:
    """An Ecwid store's customers in a Flask app.

    `Ecwid(app)`, or `Ecwid()` and `init_app(app)` in a factory; the same object may serve several
    apps, which share nothing. For a second store in one app give it another `name`, `url_prefix`
    and `config_prefix`: with `config_prefix="OUTLET_"` it reads `OUTLET_ECWID_STORE_ID` and so on.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        name: str = "ecwid",
        url_prefix: str = URL_PREFIX,
        config_prefix: str = "",
    ) -> None:
        if not url_prefix.startswith("/") or url_prefix.endswith("/"):
            raise ValueError("url_prefix must begin with a slash, and end without one")
        self.name = name
        self.url_prefix = url_prefix
        self.config_prefix = config_prefix
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Read the settings from `app.config` and mount the blueprint. Opens no connection.

        Raises:
            SettingsError: the settings cannot work; every fault is named.
            ValueError: the app has a store of this name, or at this prefix, already.
        """
        mounts: dict[str, Mount] = app.extensions.setdefault("ecwid", {})
        if self.name in mounts:
            raise ValueError(f"the app has an Ecwid store named {self.name!r} already")
        if any(mount.url_prefix == self.url_prefix for mount in mounts.values()):
            raise ValueError(f"the app has an Ecwid store at {self.url_prefix!r} already")
        settings = Settings.from_config(app.config, self.config_prefix)
        loaded = contract.load()
        store = open_store(settings, loaded)
        blueprint = make_blueprint(
            self.name,
            self.url_prefix,
            loaded,
            store,
            max_body_bytes=settings.max_body_bytes,
            ui=settings.ui,
        )
        app.register_blueprint(blueprint)
        mounts[self.name] = Mount(self.url_prefix, settings, store.client)

    @property
    def client(self) -> EcwidClient:
        """The store's client in the current app, for the host's own calls.

        Raises:
            RuntimeError: there is no current app (see `app.app_context()`).
            KeyError: the current app has no store of this name.
        """
        mounts: dict[str, Mount] = current_app.extensions["ecwid"]
        return mounts[self.name].client
