"""Open the way to Ecwid, and the stores behind it. No other module opens a store."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from .. import clock
from ..errors import Throttled
from ..private_files import UnsafeFile
from ..settings import SANDBOX_ON, Settings, SettingsError, StoreCredentials
from ..signals import CallSignals
from ..storage.opening import Storage, open_storage
from ..storage.redis_connection import COOLDOWN_S
from ..storage.state import StateUnavailable
from ..storage.store_memory import store_memory
from ..throttling.concurrency import StoreThreads
from ..throttling.guard import Guard, Guards
from .retries import RetryingSender
from .shared_reads import SharedReads
from .transport import RequestsTransport, Transport


@dataclass(frozen=True)
class Upstream:
    """The way to Ecwid, which all stores of a mount share."""

    settings: Settings
    transport: Transport
    storage: Storage
    guards: Guards
    threads: StoreThreads

    def forget(self, store_id: str) -> None:
        """Forget what the storage keeps of a store, but not the counts of its rate limit.

        Raises:
            Throttled: The storage cannot be reached, so a part may not be forgotten.
        """
        digest = self.settings.digest_of(store_id)
        with suppress(StateUnavailable):
            self.storage.forget_responses(digest)
            self.guards.forget_pauses(digest)
            return
        raise Throttled(COOLDOWN_S, "The storage is unavailable, so forget the store again later.")

    def close(self) -> None:
        """Close the connections of this process."""
        self.transport.close()
        self.storage.close()


@dataclass(frozen=True)
class OpenStore:
    """One store, ready for calls. The first call opens the first connection."""

    digest: str  # Equal in every process that serves the store.
    guard: Guard
    sender: RetryingSender
    reads: SharedReads


def open_upstream(
    settings: Settings, *, transport: Transport | None = None, storage: Storage | None = None
) -> Upstream:
    """Open the way to Ecwid that the settings describe, or the sandbox in this process.

    Args:
        settings: The address of Ecwid and all limits.
        transport: Sends the calls. By default a `RequestsTransport`, to Ecwid or to the sandbox in
            this process.
        storage: Keeps the state that processes share. By default Redis if the settings name a
            Redis, and otherwise a file.

    Raises:
        SettingsError: The sandbox's file cannot be a store, or redis-py is not installed.
    """
    if settings.sandbox:
        settings, sandboxed = _open_sandbox(settings)
        transport = transport or sandboxed
    transport = transport or RequestsTransport(settings)
    storage = storage or open_storage(settings)
    guards, threads = Guards(settings, storage), StoreThreads(settings)
    return Upstream(settings, transport, storage, guards, threads)


def open_store(
    upstream: Upstream, credentials: StoreCredentials, signals: CallSignals
) -> OpenStore:
    """Open the store of these credentials.

    Args:
        upstream: The way to Ecwid.
        credentials: The store and its token.
        signals: Sends the signals of the store's calls.
    """
    settings, storage = upstream.settings, upstream.storage
    digest = settings.store_digest(credentials)
    guard = upstream.guards.guard_of(credentials)
    sender = RetryingSender(upstream.transport, credentials, guard, signals)
    reads = SharedReads(
        sender,
        settings.deadline_s,
        storage.responses(digest),
        store_memory(digest),
        partial(upstream.threads.take, settings.token_digest(credentials)),
    )
    return OpenStore(digest, guard, sender, reads)


def _open_sandbox(settings: Settings) -> tuple[Settings, Transport]:
    # The imports stand here. Otherwise a store of Ecwid would load the sandbox as well.
    import sqlite3

    from ..sandbox import STORE_ID, TOKEN, InProcessAdapter, create_sandbox

    path = private_file() if settings.sandbox == SANDBOX_ON else Path(settings.sandbox)
    try:
        sandbox = create_sandbox(path, accept_new_stores=True)
    except UnsafeFile as exc:
        reason = f"ECWID_SANDBOX names a file that cannot be used, because the file {exc.strerror}"
        raise SettingsError([reason]) from exc
    except (sqlite3.Error, OSError, ValueError) as exc:
        raise SettingsError(["ECWID_SANDBOX names a file that cannot be a store"]) from exc
    settings = replace(
        settings,
        sandbox=str(path),
        store_id=STORE_ID,
        token=TOKEN,
        api_url="https://sandbox.invalid/api/v3",
    )
    return settings, RequestsTransport(settings, lambda: InProcessAdapter(sandbox))


def private_file() -> Path:
    """Return the path of a new sandbox, which is deleted when this process ends."""
    folder = tempfile.mkdtemp(prefix="flask-ecwid-sandbox-")
    owner = clock.process_id()

    def remove() -> None:
        # A worker that was forked from this process keeps the file.
        if clock.process_id() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return Path(folder) / "store.sqlite3"
