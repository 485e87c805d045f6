"""gunicorn's settings for `gunicorn wsgi:app`. Safe with and without --preload."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any

bind = "127.0.0.1:8000"
worker_class = "gthread"
threads = 32  # each waits for Ecwid most of its time
graceful_timeout = 30  # keep it above ECWID_DEADLINE_S: a request under way can end
keepalive = 5
limit_request_line = 8190  # a search may use all of its parameters, each with a long term

# One JSON object a line, with the fields that flask_ecwid gives: operation, status, request_id ...
logconfig_dict: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {
            "class": "pythonjsonlogger.json.JsonFormatter",
            "format": "%(asctime)s %(levelname)s %(process)d %(name)s %(message)s",
        }
    },
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "json",
            "stream": "ext://sys.stderr",
        }
    },
    "root": {"level": "INFO", "handlers": ["stderr"]},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": ["stderr"], "propagate": False},
        # Off: it would hold query strings, and flask_ecwid.request has a line for every request.
        "gunicorn.access": {"level": "CRITICAL", "handlers": [], "propagate": False},
    },
}

# Without a path every worker would open a sandbox of its own: here, before they start, give one to
# all. gunicorn hands the environment on to its workers, and to this file when it is read again.
_FOLDER = "FLASK_ECWID_SANDBOX_FOLDER"
if os.environ.get("ECWID_SANDBOX", "").strip().lower() in ("1", "true", "yes", "on"):
    os.environ[_FOLDER] = tempfile.mkdtemp(prefix="flask-ecwid-sandbox-")
    os.environ["ECWID_SANDBOX"] = os.path.join(os.environ[_FOLDER], "store.sqlite3")


def on_exit(server: Any) -> None:
    if _FOLDER in os.environ and not server.reexec_pid:  # else a new master goes on with the file
        shutil.rmtree(os.environ[_FOLDER], ignore_errors=True)
