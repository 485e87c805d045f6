"""The mount, which is everything at one URL prefix, and the stores behind the mount."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..client import EcwidClient
from ..client.open_stores import OpenStores
from ..client.opening import OpenStore
from ..contract import Contract
from ..settings import Settings, StoreCredentials
from .authentication import Authenticator
from .cache import Cache
from .context import current_request
from .idempotency import Idempotency, OwedOutcomes
from .sampling import Sampler
from .store_choice import StoreChoice


@dataclass(frozen=True)
class StoreRuntime:
    """The parts of an open store that the endpoints use."""

    opened: OpenStore  # stays open as long as the request refers to it
    client: EcwidClient
    cache: Cache | None
    idempotency: Idempotency


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
    choice: StoreChoice  # the store of each request
    stores: OpenStores
    client: EcwidClient | None  # of the single store, or None if there are many
    refusals: Sampler  # the requests that are refused before their caller is known
    webhook_path: str | None = None  # where Ecwid delivers events, or None if it delivers none
    owed: OwedOutcomes = field(default_factory=OwedOutcomes)  # of the idempotency keys

    @property
    def identity(self) -> tuple[str, ...]:
        """Texts that are equal in every process that serves the mount, also after a restart."""
        return self.app_name, self.name, self.url_prefix

    def runtime(self, credentials: StoreCredentials) -> StoreRuntime:
        """Return the parts of the store of these credentials, which is opened if necessary."""
        opened = self.stores.get(credentials)
        responses = opened.reads.responses
        return StoreRuntime(
            opened,
            self.client or EcwidClient.of(self.stores, credentials),
            Cache(responses, opened.reads, credentials.token) if responses else None,
            self._idempotency(opened.digest),
        )

    def forget(self, store_id: str) -> None:
        """Forget what is kept of a store, but neither running leases nor the rate limit's counts.

        Raises:
            Throttled: The storage cannot be reached, so a part may be left.
        """
        self.stores.forget(store_id)
        self._idempotency(self.stores.upstream.settings.digest_of(store_id)).forget()

    def _idempotency(self, digest: str) -> Idempotency:
        shared = self.stores.upstream.storage.shared
        return Idempotency(shared, digest, self.settings.deadline_s, self.owed)


def current_store() -> StoreRuntime:
    """Return the store of the request under way."""
    store = current_request().store
    assert store is not None, "the store was chosen before the handler ran"
    return store
