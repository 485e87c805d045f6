"""The mount, which is everything at one URL prefix, and the open store behind the mount."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..client import EcwidClient
from ..client.transport import Transport
from ..contract import Contract
from ..settings import Settings
from ..storage.opening import Storage
from ..throttling.rate_limit import RateLimit
from .authentication import Authenticator
from .cache import Cache
from .context import current_request
from .idempotency import Idempotency
from .sampling import Sampler


@dataclass(frozen=True)
class StoreRuntime:
    """The parts of an open store that the endpoints use."""

    client: EcwidClient
    cache: Cache | None
    idempotency: Idempotency
    rate_limit: RateLimit


@dataclass(frozen=True)
class Mount:
    """Everything at one URL prefix of one app, stored as `app.extensions["ecwid"][name]`."""

    app_name: str
    name: str
    url_prefix: str
    settings: Settings
    warnings: tuple[str, ...]  # about the settings, without their values
    contract: Contract
    document: dict[str, Any]  # the contract as the mount serves it
    authenticator: Authenticator
    store: StoreRuntime
    refusals: Sampler  # the requests that are refused before their caller is known

    @property
    def identity(self) -> tuple[str, ...]:
        """Texts that are equal in every process that serves the mount, also after a restart."""
        return self.app_name, self.name, self.url_prefix

    @property
    def client(self) -> EcwidClient:
        """The client of the mount's store."""
        return self.store.client


def open_runtime(
    settings: Settings,
    name: str,
    *,
    transport: Transport | None = None,
    storage: Storage | None = None,
) -> StoreRuntime:
    """Open the store that the settings name, for the mount of this name. Opens no connection.

    `EcwidClient` describes the transport and the storage.

    Raises:
        SettingsError: The store cannot be opened with these settings.
    """
    client = EcwidClient(settings, name=name, transport=transport, storage=storage)
    opened = client.store
    responses = opened.storage.responses
    return StoreRuntime(
        client,
        Cache(responses, opened.reads, settings.token) if responses else None,
        Idempotency(opened.storage.shared, opened.digest, settings.deadline_s),
        opened.guard.rate_limit,
    )


def current_store() -> StoreRuntime:
    """Return the store of the request under way."""
    return current_request().mount.store
