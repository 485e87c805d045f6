"""Which store the settings mean, Ecwid's or the sandbox in this process, and all that serves it."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from ..client import EcwidClient
from ..client.transport import Transport
from ..contract import Contract
from ..settings import SANDBOX_ON, Settings, SettingsError
from ..storage.cache_backend import open_shelf
from ..storage.redis_connection import RedisLink, open_link
from ..storage.state import RedisState, host_state
from ..throttling.guard import Guard, open_guard
from .cache import Cache
from .handlers import check_by
from .idempotency import Idempotency


@dataclass(frozen=True)
class Store:
    """One store, ready to be served."""

    client: EcwidClient
    guard: Guard
    idempotency: Idempotency
    cache: Cache | None
    redis: RedisLink | None
    name: str  # the same in every process


def open_store(settings: Settings, contract: Contract, name: str) -> Store:
    """The store that the settings mean, by the name of its mount; what it answers is checked by the
    contract. Opens no connection.

    Raises:
        SettingsError: the sandbox's file cannot be opened, or is none; redis-py is not installed.
    """
    if settings.sandbox:
        settings, transport = _sandboxed(settings)
    else:
        transport = Transport(settings)
    link = open_link(settings.redis_url)
    guard = open_guard(settings, link)
    shelf = open_shelf(settings.cache_ttl_s, link, settings.store_name)
    client = EcwidClient(
        settings,
        transport,
        guard=guard,
        name=name,
        check=check_by(contract),
        shelf=shelf,
    )
    cache = None if shelf is None else Cache(shelf, client.calls, settings.token)
    state = RedisState(link) if link else host_state()
    idempotency = Idempotency(state, settings.store_name, settings.deadline_s)
    return Store(client, guard, idempotency, cache, link, settings.store_name)


def _sandboxed(settings: Settings) -> tuple[Settings, Transport]:
    import sqlite3  # here, so that a real store does not wait for them

    from ..sandbox import STORE_ID, TOKEN, InProcessAdapter, create_sandbox

    path = private_file() if settings.sandbox == SANDBOX_ON else Path(settings.sandbox)
    try:
        sandbox = create_sandbox(path)
    except (sqlite3.Error, ValueError) as exc:
        raise SettingsError(["ECWID_SANDBOX names a file that cannot be a store"]) from exc
    settings = replace(
        settings,
        sandbox=str(path),
        store_id=STORE_ID,
        token=TOKEN,
        api_url="https://sandbox.invalid/api/v3",
    )
    return settings, Transport(settings, lambda: InProcessAdapter(sandbox))


def private_file() -> Path:
    """A new file for a sandbox, gone when the process that asked for it ends."""
    folder = tempfile.mkdtemp(prefix="flask-ecwid-sandbox-")
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not when a worker ends that was forked from it
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return Path(folder) / "store.sqlite3"
