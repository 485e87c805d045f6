"""gunicorn's settings for `gunicorn wsgi:app`. Safe with and without --preload."""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import uuid
from contextlib import suppress
from ssl import SSLError
from typing import Any

from gunicorn.glogging import Logger
from gunicorn.http import message
from gunicorn.http.errors import ParseException
from gunicorn.util import http_date, write_nonblock
from gunicorn.workers.gthread import ThreadWorker
from werkzeug.http import HTTP_STATUS_CODES

bind = "127.0.0.1:8000"
threads = 32  # each waits for Ecwid most of its time
graceful_timeout = 30  # keep it above ECWID_DEADLINE_S: a request under way can end
keepalive = 5
forwarder_headers = ""  # nobody moves the app by a header SCRIPT_NAME, not even from this host
# Nor says that a request came by https, whatever forwarded_allow_ips is (a UNIX socket is always on
# it): that is wsgi.py's to believe, by ECWID_TRUSTED_PROXIES.
secure_scheme_headers: dict[str, str] = {}
control_socket_disable = True  # since 25.1 there is one in the user's home, to command the server
# A search may use all of its parameters, each with its longest term of any letters: 51 kB, encoded.
# gunicorn by itself has no limit between 8 kB and none at all.
limit_request_line = 65_536
message.MAX_REQUEST_LINE = limit_request_line  # type: ignore[misc]  # final, to its types


class DiscreetLogger(Logger):
    """gunicorn's own lines about requests would hold query strings."""

    def access(self, *_: Any) -> None:
        """Nothing: flask_ecwid.request has a line for every request."""

    def warning(self, msg: object, *args: object, **options: Any) -> None:
        """Of a request that is no HTTP, not the text: as other workers than ours log it."""
        if str(msg).startswith("Invalid request from"):
            msg, args = "Invalid request", ()
        super().warning(msg, *args, **options)

    def exception(self, msg: object, *args: object, **options: Any) -> None:
        """Of a request that failed outside of the app, the error's name alone."""
        if str(msg).startswith("Error handling"):
            self.error("Error handling a request: %s", getattr(sys.exc_info()[0], "__name__", ""))
        else:
            super().exception(msg, *args, **options)


logger_class = DiscreetLogger


class ProblemWorker(ThreadWorker):
    """gunicorn's own answers would be HTML, with pieces of the request in it."""

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """What is no HTTP, or failed outside of the app, gets a problem that repeats nothing."""
        from flask_ecwid.errors import Defect, HttpFailure  # here, so that a reload finds new code

        kind, request_id = type(exc).__name__, str(uuid.uuid4())
        status = _STATUSES.get(kind, 400 if isinstance(exc, (ParseException, SSLError)) else 500)
        phrase = HTTP_STATUS_CODES[status]
        if status == 500:
            self.log.error("Error handling a request: %s request_id=%s", kind, request_id)
            problem = Defect().problem(request_id, write=False)
        else:
            self.log.warning("Invalid request: %s request_id=%s", kind, request_id)
            problem = HttpFailure(status, phrase).problem(request_id, write=False)
            problem["detail"] = "What came is no HTTP request that this server takes."
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
        with suppress(OSError):  # the caller has hung up
            write_nonblock(client, "\r\n".join((*head, "", "")).encode() + body)


worker_class = ProblemWorker

# By name, since older versions of gunicorn do not have all. Any other that is no HTTP is a 400.
_STATUSES = {
    "LimitRequestLine": 414,
    "LimitRequestHeaders": 431,
    "ExpectationFailed": 417,
    "UnsupportedTransferCoding": 501,
    "ForbiddenProxyRequest": 403,
    "ConfigurationProblem": 500,
    "InvalidResponseHeader": 500,  # these two are the app's fault
    "InvalidResponseHeaderName": 500,
}

# One JSON object a line, with the fields that flask_ecwid gives: operation, status, request_id ...
logconfig_dict: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {
            "class": "pythonjsonlogger.orjson.OrjsonFormatter",
            "format": "%(asctime)s %(levelname)s %(process)d %(name)s %(message)s",
        }
    },
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "json",
            "stream": "ext://sys.stderr",
        },
    },
    "root": {"level": "INFO", "handlers": ["stderr"]},
    "loggers": {"gunicorn.error": {"level": "INFO", "handlers": ["stderr"], "propagate": False}},
}


def post_worker_init(worker: Any) -> None:
    """What was made at the start lives as long as the worker: the collector need not look at it
    again, nor come by for every page of customers.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        _end_waits_at(number)


def _end_waits_at(number: int) -> None:
    """A worker that is told to go does not wait to ask Ecwid once more: it answers and ends."""
    from flask_ecwid.clock import stop_waiting  # here, so that a reload finds new code

    before: Any = signal.getsignal(number)

    def handle(*arguments: Any) -> None:
        stop_waiting()
        before(*arguments)

    signal.signal(number, handle)


# What the workers share when there is no Redis: they know each other by this name, also after a
# reload, and each takes its part of the calls a minute.
os.environ.setdefault("FLASK_ECWID_SERVICE", uuid.uuid4().hex)


def pre_fork(server: Any, worker: Any) -> None:
    os.environ["FLASK_ECWID_PROCESSES"] = str(server.num_workers)


def _is_on(name: str) -> bool:
    return os.environ.get(name, "").strip().lower() in ("1", "true", "yes", "on")


# Without a path every worker would open a sandbox of its own: here, before they start, give one to
# all. gunicorn hands the environment on to its workers, and to this file when it is read again.
_FOLDER = "FLASK_ECWID_SANDBOX_FOLDER"
if _is_on("ECWID_SANDBOX"):
    os.environ[_FOLDER] = tempfile.mkdtemp(prefix="flask-ecwid-sandbox-")
    os.environ["ECWID_SANDBOX"] = os.path.join(os.environ[_FOLDER], "store.sqlite3")


# Where prometheus_client's workers count together; it looks for this when it is imported.
_COUNTS = "PROMETHEUS_MULTIPROC_DIR"
_OUR_COUNTS = "FLASK_ECWID_METRICS_FOLDER"
if _is_on("ECWID_METRICS") and not os.environ.get(_COUNTS):
    os.environ[_OUR_COUNTS] = os.environ[_COUNTS] = tempfile.mkdtemp(prefix="flask-ecwid-metrics-")


def on_starting(server: Any) -> None:
    """Not at a reload, nor in a new master beside the old one: there others are counting."""
    folder = os.environ.get(_COUNTS)
    if folder and not server.master_pid:
        os.makedirs(folder, exist_ok=True)
        for name in os.listdir(folder):
            if re.fullmatch(r"(counter|histogram|summary|gauge_[a-z]+)_[0-9]+\.db", name):
                os.unlink(os.path.join(folder, name))


def child_exit(server: Any, worker: Any) -> None:
    """A worker that is gone has nothing under way; what it has counted stays."""
    if os.environ.get(_COUNTS):
        with suppress(ImportError):  # then nobody counts
            from prometheus_client.multiprocess import mark_process_dead

            mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def pre_exec(server: Any) -> None:
    """A new master beside this one (SIGUSR2) would get the environment of before this file."""
    for name in (_FOLDER, "ECWID_SANDBOX", _OUR_COUNTS, _COUNTS):
        if name in os.environ:
            server.cfg.env_orig[name] = os.environ[name]


def on_exit(server: Any) -> None:
    if server.reexec_pid or os.getppid() == server.master_pid:
        return  # another master goes on with the files
    for folder in (_FOLDER, _OUR_COUNTS):
        if folder in os.environ:
            shutil.rmtree(os.environ[folder], ignore_errors=True)
