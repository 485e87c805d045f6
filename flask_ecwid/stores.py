"""Which store the settings mean: Ecwid's, or the sandbox in this process."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from .client import EcwidClient
from .sandbox import STORE_ID, TOKEN, InProcessAdapter, create_sandbox
from .settings import SANDBOX_ON, Settings
from .transport import Transport


def open_store(settings: Settings) -> EcwidClient:
    """The client of the store that the settings name."""
    if not settings.sandbox:
        return EcwidClient(settings)
    path = private_file() if settings.sandbox == SANDBOX_ON else Path(settings.sandbox)
    sandbox = create_sandbox(path)
    settings = replace(
        settings, store_id=STORE_ID, token=TOKEN, api_url="https://sandbox.invalid/api/v3"
    )
    return EcwidClient(settings, Transport(settings, lambda: InProcessAdapter(sandbox)))


def private_file() -> Path:
    """A new file for a sandbox, gone when the process that asked for it ends."""
    folder = tempfile.mkdtemp(prefix="flask-ecwid-sandbox-")
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not when a worker ends that was forked from it
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return Path(folder) / "store.sqlite3"
