"""The gunicorn worker and logger classes that gunicorn.conf.py names, and its hooks.

    worker_class = "flask_ecwid.server.ProblemWorker"
    logger_class = "flask_ecwid.server.RedactingLogger"

gunicorn imports this module in its master process. A reload (SIGHUP) keeps the package's code,
because new workers are forks of the same master.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from logging.config import dictConfig
from ssl import SSLError
from types import FrameType
from typing import Any

from gunicorn.glogging import Logger
from gunicorn.http import message
from gunicorn.http.errors import ParseException
from gunicorn.util import http_date, write_nonblock
from gunicorn.workers.gthread import ThreadWorker
from werkzeug.http import HTTP_STATUS_CODES

from . import chance, clock
from .errors import Defect, HttpFailure
from .web.sampling import Sampler

# The master passes these variables to its workers. docs/deployment.md has a table of them. No name
# begins with FLASK_ or ECWID_, because Flask's `from_prefixed_env` and wsgi.py copy such variables
# into the app's config.
SERVICE = "GUNICORN_ECWID_SERVICE"
WORKERS = "GUNICORN_ECWID_WORKERS"
THREADS = "GUNICORN_ECWID_THREADS"
TEMPORARY = "GUNICORN_ECWID_TEMPORARY"
_PIN_WORKERS = "ECWID_PIN_WORKERS"
_SANDBOX = "ECWID_SANDBOX"
_COUNTS = "PROMETHEUS_MULTIPROC_DIR"

# Statuses by the name of gunicorn's error, because older versions do not define every class.
_STATUSES = {
    "LimitRequestLine": 414,
    "LimitRequestHeaders": 431,
    "ExpectationFailed": 417,
    "UnsupportedTransferCoding": 501,
    "ForbiddenProxyRequest": 403,
    "ConfigurationProblem": 500,
    "InvalidResponseHeader": 500,  # The app sent this header, so the caller is not at fault.
    "InvalidResponseHeaderName": 500,
}

# One JSON object per line, with the fields that flask_ecwid adds to a record.
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"class": "flask_ecwid.web.log_lines.JsonFormatter"}},
    "handlers": {
        "stderr": {"class": "flask_ecwid.web.log_lines.StderrHandler", "formatter": "json"}
    },
    "root": {"level": "INFO", "handlers": ["stderr"]},
    "loggers": {"gunicorn.error": {"handlers": ["stderr"], "propagate": False}},
}


class RedactingLogger(Logger):
    """A logger of JSON lines that leaves out gunicorn's request lines, which hold query strings."""

    def setup(self, cfg: Any) -> None:
        """Configure JSON lines, unless gunicorn's settings name a log configuration."""
        super().setup(cfg)
        if not (cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json):
            dictConfig(LOGGING)

    def access(self, *_: Any) -> None:
        """Write nothing, because `flask_ecwid.request` logs every request without its query."""

    def warning(self, msg: object, *args: object, **options: Any) -> None:
        """Cut the text of a malformed request, which gunicorn's own workers log."""
        if str(msg).startswith("Invalid request from"):
            msg, args = "Invalid request", ()
        super().warning(msg, *args, **options)

    def exception(self, msg: object, *args: object, **options: Any) -> None:
        """Log only the error's name when a request fails outside of the app."""
        if str(msg).startswith("Error handling"):
            self.error("Error handling a request: %s", getattr(sys.exc_info()[0], "__name__", ""))
        else:
            super().exception(msg, *args, **options)


class ProblemWorker(ThreadWorker):
    """A worker that responds to malformed requests with a problem and ends sleeps at shutdown."""

    @classmethod
    def setup(cls) -> None:
        """Name the service. gunicorn calls this method in the master before it loads an app."""
        name_service()

    def __init__(self, *args: Any, **options: Any) -> None:
        """Pass the numbers of workers and threads on. gunicorn makes this object in the master."""
        super().__init__(*args, **options)
        self._invalid = Sampler("Invalid requests", logging.WARNING)
        os.environ[WORKERS] = str(self.cfg.workers)
        os.environ[THREADS] = str(self.cfg.threads)

    def init_process(self) -> None:
        """Apply the setting `limit_request_line`, which gunicorn caps at a constant of 8190."""
        limit = max(message.MAX_REQUEST_LINE, self.cfg.limit_request_line)
        message.MAX_REQUEST_LINE = limit  # type: ignore[misc]  # The stubs call it final.
        super().init_process()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End every sleep before a retry, so that requests under way get a response at once."""
        clock.interrupt_sleeps()
        super().handle_exit(sig, frame)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """End every sleep, as `handle_exit` does."""
        clock.interrupt_sleeps()
        super().handle_quit(sig, frame)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Send a problem instead of gunicorn's HTML page, which repeats parts of the request."""
        kind, request_id = type(exc).__name__, str(chance.uuid4())
        status = _STATUSES.get(kind, 400 if isinstance(exc, (ParseException, SSLError)) else 500)
        phrase = HTTP_STATUS_CODES[status]
        if status == 500:
            self.log.error("Error handling a request: %s request_id=%s", kind, request_id)
            problem = Defect().problem(request_id, write=False)
        else:
            if self._invalid.takes():
                self.log.warning("Invalid request: %s request_id=%s", kind, request_id)
            problem = HttpFailure(status, phrase).problem(request_id, write=False)
            problem["detail"] = "The server received a request that is not valid HTTP."
        body = json.dumps(problem).encode()
        head = (
            f"HTTP/1.1 {status} {phrase}",
            f"Date: {http_date()}",
            "Connection: close",
            "Content-Type: application/problem+json",
            f"Content-Length: {len(body)}",
            f"X-Request-ID: {request_id}",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "Referrer-Policy: no-referrer",
        )
        with suppress(OSError):  # The caller may have closed the connection.
            write_nonblock(client, "\r\n".join((*head, "", "")).encode() + body)


def name_service() -> None:
    """Give all workers of this master the same name, under which they share a pause."""
    os.environ.setdefault(SERVICE, chance.token_hex(16))


def share() -> None:
    """Prepare the name, the file and the folder that all workers share, before an app is loaded.

    Without one file, each worker would open its own sandbox. Without one folder, each worker
    would show only its own metrics, because prometheus_client reads the variable at import.
    """
    name_service()
    if _is_on(_SANDBOX):
        os.environ[_SANDBOX] = os.path.join(_temporary_folder("sandbox"), "store.sqlite3")
    if _is_on("ECWID_METRICS") and not os.environ.get(_COUNTS):
        os.environ[_COUNTS] = _temporary_folder("metrics")


def on_starting(server: Any) -> None:
    """Delete the metrics of earlier processes, unless an old master still counts (SIGUSR2)."""
    folder = os.environ.get(_COUNTS)
    if folder and not server.master_pid:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        for name in os.listdir(folder):
            if re.fullmatch(r"(counter|histogram|summary|gauge_[a-z]+)_[0-9]+\.db", name):
                os.unlink(os.path.join(folder, name))


def pre_fork(server: Any, worker: Any) -> None:
    """Pass on the number of workers, with the workers that SIGTTIN added, and choose a core."""
    os.environ[WORKERS] = str(server.num_workers)
    if _is_on(_PIN_WORKERS):
        worker.core = _least_used_core(server.WORKERS.values())


def post_fork(server: Any, worker: Any) -> None:
    """Keep the worker on its core, so that its threads hand the interpreter over at less cost."""
    if getattr(worker, "core", None) is not None:
        os.sched_setaffinity(0, {worker.core})


def child_exit(server: Any, worker: Any) -> None:
    """Take the requests of a worker that has ended out of the gauge, but keep its counters."""
    if os.environ.get(_COUNTS):
        with suppress(ImportError):  # Without prometheus_client no worker counts.
            from prometheus_client.multiprocess import mark_process_dead

            mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def pre_exec(server: Any) -> None:
    """Hand the shared files to a new master (SIGUSR2), because gunicorn resets its environment."""
    for name in (TEMPORARY, _SANDBOX, _COUNTS):
        if name in os.environ:
            server.cfg.env_orig[name] = os.environ[name]


def on_exit(server: Any) -> None:
    """Delete the folders that `share` made, unless another master still uses them."""
    if server.reexec_pid or os.getppid() == server.master_pid:
        return
    for folder in filter(None, os.environ.get(TEMPORARY, "").split(os.pathsep)):
        shutil.rmtree(folder, ignore_errors=True)


def _temporary_folder(name: str) -> str:
    """Make a folder, and store its path for `on_exit` of this master and of its successors."""
    folder = tempfile.mkdtemp(prefix=f"flask-ecwid-{name}-")
    os.environ[TEMPORARY] = os.pathsep.join(filter(None, [os.environ.get(TEMPORARY), folder]))
    return folder


def _least_used_core(workers: Iterable[Any]) -> int | None:
    """Return the core of the fewest workers, or None where a process cannot be kept on a core.

    Among equal cores any is chosen, because another service may choose a core of the same host.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    used = Counter(getattr(each, "core", None) for each in workers)
    return min(os.sched_getaffinity(0), key=lambda core: (used[core], chance.uniform(0, 1)))


def _is_on(name: str) -> bool:
    return os.environ.get(name, "").strip().lower() in ("1", "true", "yes", "on")
