"""Which store the settings mean: Ecwid's, or the sandbox in this process."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from .cache import Cache
from .client import EcwidClient
from .settings import SANDBOX_ON, Settings, SettingsError
from .transport import Transport


def open_store(settings: Settings, cache: Cache | None = None) -> EcwidClient:
    """The client of the store that the settings name; its writes empty the cache.

    Raises:
        SettingsError: the sandbox's file cannot be opened, or is none.
    """
    if settings.sandbox:
        settings, transport = _sandboxed(settings)
    else:
        transport = Transport(settings)
    if cache is None:
        return EcwidClient(settings, transport)
    return EcwidClient(settings, transport, after_write=cache.forget)


def _sandboxed(settings: Settings) -> tuple[Settings, Transport]:
    import sqlite3  # here, so that a real store does not wait for them

    from .sandbox import STORE_ID, TOKEN, InProcessAdapter, create_sandbox

    path = private_file() if settings.sandbox == SANDBOX_ON else Path(settings.sandbox)
    try:
        sandbox = create_sandbox(path)
    except (sqlite3.Error, ValueError) as exc:
        raise SettingsError(["ECWID_SANDBOX names a file that cannot be a store"]) from exc
    settings = replace(
        settings, store_id=STORE_ID, token=TOKEN, api_url="https://sandbox.invalid/api/v3"
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
