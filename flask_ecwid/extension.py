"""The Flask extension, which mounts the endpoints of one or many Ecwid stores in an app."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from flask import Flask, current_app, has_request_context, request

from . import contract
from .client import EcwidClient
from .client.open_stores import OpenStores
from .client.opening import open_upstream
from .settings import (
    Settings,
    SettingsError,
    StoreCredentials,
    hide_secrets,
    setting_warnings,
)
from .settings.keys import key_of
from .settings.rules import read_store_id
from .settings.stores_file import StoresFile
from .web import openapi, webhooks
from .web.authentication import Authenticator, Authorize
from .web.blueprint import make_blueprint
from .web.context import CONTEXT, RequestContext
from .web.mount import Mount
from .web.sampling import Sampler
from .web.store_choice import (
    FindStore,
    HostStores,
    ListedStores,
    OnlyStore,
    StoreChoice,
    StoreOfCaller,
)

log = logging.getLogger("flask_ecwid")

URL_PREFIX = "/api/json/v1/ecwid"
_HOST_SCHEME = {
    "type": "apiKey",
    "in": "header",
    "name": "Authorization",
    "description": "The application around this service decides who may call.",
}


class Ecwid:
    """The customers of one Ecwid store, or of many, in a Flask app.

    Write `Ecwid(app)`, or `Ecwid()` and `init_app(app)` in a factory. The same object may serve
    several apps, which share nothing. A second mount in one app needs another `name`, `url_prefix`
    and `config_prefix`.

    Either `ECWID_API_KEYS` or the host decides who may call. A host passes `authorize(scope)`. The
    plugin calls this function in each request, with the scope read, write or delete. `True` or a
    `Caller` lets the request pass. Any other result, and any exception, refuses the request. All
    users whom `True` lets pass are one caller and share one space of idempotency keys. A
    `Caller(name)` has a space of their own.

    The settings name one store. If the host serves the stores of many merchants, it passes `store`,
    a function that returns the `StoreCredentials` of a caller. The plugin calls it once in each
    request, after the caller is known. docs/many-stores.md shows such an app.
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
        store: StoreOfCaller | None = None,
        find_store: FindStore | None = None,
        webhook_path: str | None = None,
    ) -> None:
        """Make the extension, and mount it if an app is given.

        Args:
            app: The app to mount the endpoints in.
            name: The name of the mount, of its blueprint and of its log lines. A name has no dot.
            url_prefix: The path above the endpoints. The prefix begins with a slash and ends
                without a slash. The values of its converters stay in `request.view_args`.
            config_prefix: Stands before each key, so `OUTLET_` reads `OUTLET_ECWID_STORE_ID`.
            authorize: The host's function that decides who may call.
            security_scheme: The OpenAPI Security Scheme that describes `authorize` in the contract.
            store: The host's function that returns the store of a caller, or None for a caller who
                has no store.
            find_store: The host's function that returns a store by its number, or None. The command
                line and webhooks need it.
            webhook_path: The path at which Ecwid delivers webhook events, if ECWID_WEBHOOKS is on.
                By default `/webhooks` below `url_prefix`. A path has no converters.

        Raises:
            ValueError: `url_prefix` cannot be a prefix, and the error says why. Or `find_store` is
                given without `store`. Or `webhook_path` is no plain path.
        """
        if fault := openapi.prefix_fault(url_prefix):
            raise ValueError(f"url_prefix {fault}")
        if find_store is not None and store is None:
            raise ValueError("find_store needs store, which returns the store of a caller")
        if webhook_path is not None and (fault := webhooks.path_fault(webhook_path)):
            raise ValueError(f"webhook_path {fault}")
        self.name = name
        self.url_prefix = url_prefix
        self.config_prefix = config_prefix
        self._authorize = authorize
        self._security_scheme = security_scheme
        self._store = store
        self._find_store = find_store
        self._webhook_path = webhook_path
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Read the settings from `app.config` and mount the blueprint. Opens no connection.

        `config_prefix` stands before each key. The page docs/settings.md has defaults and ranges.

        - ECWID_STORE_ID: The number of the store. Needed without the sandbox and ECWID_STORES.
        - ECWID_TOKEN: The token of the store. Needed without the sandbox and ECWID_STORES.
        - ECWID_SANDBOX: A simulated store in a private file, or in the named one.
        - ECWID_API_URL: The address of Ecwid's API.
        - ECWID_OAUTH_URL: The address of Ecwid's OAuth.
        - ECWID_CLIENT_ID: The client_id of your app in Ecwid. Needed for OAuth.
        - ECWID_CLIENT_SECRET: The client_secret of your app in Ecwid. For OAuth and webhooks.
        - ECWID_WEBHOOKS: Receive Ecwid's webhook events. Needs ECWID_CLIENT_SECRET.
        - ECWID_AUTH: Either keys or none. With keys, each caller needs an API key.
        - ECWID_API_KEYS: The API keys of the callers, with their scopes.
        - ECWID_CONNECT_TIMEOUT_S: Seconds to connect to Ecwid.
        - ECWID_READ_TIMEOUT_S: Seconds to wait for each part of a reply.
        - ECWID_DEADLINE_S: Seconds for one request with all its calls to Ecwid.
        - ECWID_MAX_BODY_BYTES: The largest body of a request.
        - ECWID_REQUIRE_IDEMPOTENCY_KEY: Refuse an add_customer request without an Idempotency-Key.
        - ECWID_PROXY_URL: The proxy between this host and Ecwid.
        - ECWID_CA_BUNDLE: The certificates to trust, instead of those of certifi.
        - ECWID_UI: Swagger UI at /ui/.
        - ECWID_CACHE_TTL_S: Seconds to keep the responses of reads. 0 keeps none.
        - ECWID_REDIS_URL: The Redis that all workers and hosts share.
        - ECWID_CALLS_PER_MINUTE: The share of the 600 calls that Ecwid allows a token.
        - ECWID_HOSTS: Hosts that share the calls. The processes of a host share them by themselves.
        - ECWID_STORES: A file of many stores. The API key of a request decides its store.
        - ECWID_MAX_OPEN_STORES: The stores that a process keeps open after their use.
        - ECWID_STORE_CONCURRENCY: Threads that one store may take. 0 is a quarter of gunicorn's.

        Raises:
            SettingsError: The settings cannot work, and the error names every fault. The same error
                says that the system is not POSIX.
            ValueError: The app already has a store of this name or at this prefix, or a route at
                the path of the events.
        """
        _require_posix()
        mounts: dict[str, Mount] = app.extensions.setdefault("ecwid", {})
        if self.name in mounts:
            raise ValueError(f"the app already has an Ecwid store named {self.name!r}")
        if any(mount.url_prefix == self.url_prefix for mount in mounts.values()):
            raise ValueError(f"the app already has an Ecwid store at {self.url_prefix!r}")
        hide_secrets(app.config, self.config_prefix)
        settings = Settings.from_config(
            app.config,
            self.config_prefix,
            authorize=self._authorize is not None,
            many=self._store is not None,
        )
        webhook_path = self._path_of_events() if settings.webhooks else None
        warnings = setting_warnings(settings, app.config, self.config_prefix)
        for warning in warnings:
            log.warning("%s.", warning)
        loaded = contract.load()
        client, stores, listed = self._open(settings)
        mount = Mount(
            app_name=app.name,
            name=self.name,
            url_prefix=self.url_prefix,
            settings=settings,
            warnings=warnings,
            contract=loaded,
            document=self._document(loaded.document, settings),
            authenticator=Authenticator(settings, self._authorize, listed),
            choice=self._choice(stores, listed),
            stores=stores,
            client=client,
            refusals=Sampler(f"Refused requests of unknown callers at {self.name}", logging.INFO),
            webhook_path=webhook_path,
        )
        app.register_blueprint(make_blueprint(mount))
        mounts[self.name] = mount

    def _path_of_events(self) -> str:
        """Return the path at which Ecwid delivers events, or raise SettingsError."""
        key = key_of("webhooks", self.config_prefix)
        if self._store is not None and self._find_store is None:
            raise SettingsError(
                [f"{key} is on, so pass find_store, which finds a store by its number"]
            )
        if self._webhook_path is None and "<" in self.url_prefix:
            raise SettingsError(
                [f"{key} is on and url_prefix has converters, so pass webhook_path"]
            )
        return self._webhook_path or f"{self.url_prefix}/webhooks"

    def _open(self, settings: Settings) -> tuple[EcwidClient | None, OpenStores, StoresFile | None]:
        """Open the way to Ecwid and the stores file, or raise SettingsError.

        The error has the keys of this mount.
        """
        try:
            if settings.stores:
                listed = None if self._store is not None else StoresFile(settings.stores)
                return None, OpenStores(open_upstream(settings), self.name), listed
            client = EcwidClient(settings, name=self.name)
            return client, client.stores, None
        except SettingsError as exc:
            faults = [
                f"{self.config_prefix}{fault}" if fault.startswith("ECWID_") else fault
                for fault in exc.faults
            ]
            raise SettingsError(faults) from exc.__cause__

    def _choice(self, stores: OpenStores, listed: StoresFile | None) -> StoreChoice:
        if self._store is not None:
            return HostStores(self._store, self._find_store)
        if listed is not None:
            return ListedStores(listed)
        return OnlyStore(stores.upstream.settings.credentials)

    def _document(self, document: dict[str, Any], settings: Settings) -> dict[str, Any]:
        """Return the contract as a mount with these settings serves it."""
        document = openapi.secured(document, self._security_schemes(settings))
        if settings.require_idempotency_key:
            document = openapi.with_required_idempotency_key(document)
        return document

    def _security_schemes(self, settings: Settings) -> dict[str, Any] | None:
        """Return the security schemes of the served contract, or None to keep its own."""
        if self._authorize is not None:
            return {"host": dict(self._security_scheme or _HOST_SCHEME)}
        return {} if settings.auth == "none" else None

    @property
    def client(self) -> EcwidClient:
        """The client of the store, for the host's own calls.

        If the mount serves many stores, this is the client of the request's store, during a request
        below the mount. Use `client_for` elsewhere.

        Raises:
            RuntimeError: There is no current app, so enter `app.app_context()` first. Or the mount
                serves many stores, and no request has chosen one.
            KeyError: The current app has no mount of this name.
        """
        mount = self._mount
        if mount.client is not None:
            return mount.client
        if has_request_context():
            context: RequestContext | None = request.environ.get(CONTEXT)
            if context and context.mount is mount and context.store:
                return context.store.client
        raise RuntimeError("no request has chosen a store, so use client_for(credentials)")

    def client_for(self, credentials: StoreCredentials) -> EcwidClient:
        """Return the client of a store, for the host's own calls. The client may be kept.

        Raises:
            TypeError: The argument is no `StoreCredentials`, for example the None of a store that
                the host has not found.
            RuntimeError: There is no current app. Enter `app.app_context()` first.
            KeyError: The current app has no mount of this name.
        """
        if not isinstance(credentials, StoreCredentials):
            kind = type(credentials).__name__
            raise TypeError(f"client_for needs StoreCredentials, and got {kind}")
        return EcwidClient.of(self._mount.stores, credentials)

    def forget_store(self, store_id: str) -> None:
        """Forget one of many stores, for example after its merchant has uninstalled the app.

        Cached responses, pauses and records of idempotency keys are dropped. With Redis, that holds
        for every worker and host. Otherwise it holds for this host, whose other processes notice
        within a second. A creation under way keeps its record, and the rate limit keeps its counts.

        Raises:
            Throttled: Redis or the host's file cannot be used. Call the method again later.
            ValueError: `store_id` is no store id, or the mount has only the store of its settings.
            RuntimeError: There is no current app. Enter `app.app_context()` first.
            KeyError: The current app has no mount of this name.
        """
        mount = self._mount
        if mount.choice.only is not None:
            raise ValueError("the mount serves only the store of its settings")
        mount.forget(read_store_id(store_id))

    @property
    def _mount(self) -> Mount:
        mounts: dict[str, Mount] = current_app.extensions["ecwid"]
        return mounts[self.name]


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
