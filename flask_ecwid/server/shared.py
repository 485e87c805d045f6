"""The name, the file and the folder that all workers of a master share."""

from __future__ import annotations

import os
import tempfile

from .. import chance

# The master passes these variables to its workers. docs/deployment.md has a table of them. No name
# begins with FLASK_ or ECWID_, because Flask's `from_prefixed_env` and wsgi.py copy such variables
# into the app's config.
SERVICE = "GUNICORN_ECWID_SERVICE"
WORKERS = "GUNICORN_ECWID_WORKERS"
THREADS = "GUNICORN_ECWID_THREADS"
TEMPORARY = "GUNICORN_ECWID_TEMPORARY"
SANDBOX = "ECWID_SANDBOX"
COUNTS = "PROMETHEUS_MULTIPROC_DIR"


def name_service() -> None:
    """Give all workers of this master the same name, under which they share a pause."""
    os.environ.setdefault(SERVICE, chance.token_hex(16))


def share() -> None:
    """Prepare the name, the file and the folder that all workers share, before an app is loaded.

    Without one file, each worker would open its own sandbox. Without one folder, each worker
    would show only its own metrics, because prometheus_client reads the variable at import.
    """
    name_service()
    if is_on(SANDBOX):
        os.environ[SANDBOX] = os.path.join(_temporary_folder("sandbox"), "store.sqlite3")
    if is_on("ECWID_METRICS") and not os.environ.get(COUNTS):
        os.environ[COUNTS] = _temporary_folder("metrics")


def is_on(name: str, default: str = "off") -> bool:
    """Return whether a variable has a word that means on. An empty variable has the default."""
    return (os.environ.get(name, "").strip() or default).lower() in ("1", "true", "yes", "on")


def _temporary_folder(name: str) -> str:
    """Make a folder, and store its path for `on_exit` of this master and of its successors."""
    folder = tempfile.mkdtemp(prefix=f"flask-ecwid-{name}-")
    os.environ[TEMPORARY] = os.pathsep.join(filter(None, [os.environ.get(TEMPORARY), folder]))
    return folder
