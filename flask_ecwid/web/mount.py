"""A mount: everything at one URL prefix, and the open store that serves its requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import current_app, request

from ..client import EcwidClient
from ..contract import Contract
from ..settings import Settings
from .authentication import Authenticator
from .cache import Cache
from .context import RequestContext, current_request, enter, find_request, request_id_of
from .idempotency import Idempotency


@dataclass(frozen=True)
class StoreRuntime:
    """An open store as the endpoints use it."""

    client: EcwidClient
    cache: Cache
    idempotency: Idempotency


@dataclass(frozen=True)
class Mount:
    """Everything at one URL prefix of one app, found as `app.extensions["ecwid"][name]`."""

    name: str
    url_prefix: str
    settings: Settings
    contract: Contract
    document: dict[str, Any]  # the contract as the mount serves it
    authenticator: Authenticator
    store: StoreRuntime

    @property
    def client(self) -> EcwidClient:
        """The client of the mount's store."""
        return self.store.client


def open_runtime(settings: Settings, name: str) -> StoreRuntime:
    """Open the store that the settings name, for the mount of this name. Opens no connection.

    Raises:
        SettingsError: The store cannot be opened with these settings.
    """
    client = EcwidClient(settings, name=name)
    opened = client.store
    return StoreRuntime(
        client,
        Cache(opened.storage.responses, opened.reads, settings.token),
        Idempotency(opened.storage.shared, opened.digest, settings.deadline_s),
    )


def current_store() -> StoreRuntime:
    """Return the store that the request under way is about."""
    return current_request().mount.store


def request_under_way() -> RequestContext:
    """Return the context of Flask's request, and make it if it is not there yet.

    A host may answer a request before any hook of the blueprint runs.
    """
    context = find_request()
    if context is None or context.environ is not request.environ:
        context = _new_context()
        enter(context)
    return context


def _new_context() -> RequestContext:
    blueprint, _, endpoint = (request.endpoint or "").rpartition(".")
    mount: Mount = current_app.extensions["ecwid"][blueprint]
    return RequestContext(
        mount=mount,
        environ=request.environ,
        operation=mount.contract.operations.get(endpoint),
        request_id=request_id_of(request.headers.get("X-Request-ID", "")),
    )
