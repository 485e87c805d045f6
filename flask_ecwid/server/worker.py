"""gunicorn's threaded worker, with problems for malformed requests."""

from __future__ import annotations

import json
import logging
import os
import socket
from contextlib import suppress
from ssl import SSLError
from types import FrameType
from typing import Any

from gunicorn.http import message
from gunicorn.http.errors import ParseException
from gunicorn.util import http_date, write_nonblock
from gunicorn.workers.gthread import ThreadWorker
from werkzeug.http import HTTP_STATUS_CODES

from .. import chance, clock
from ..errors import Defect, HttpFailure
from ..web.sampling import Sampler
from .cores import OneCore
from .shared import THREADS, WORKERS, name_service

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


class ProblemWorker(ThreadWorker):
    """A worker on one core, with problems for malformed requests, which ends sleeps at shutdown."""

    core: int | None = None  # The hook `pre_fork` chooses the core.
    _one_core: OneCore | None = None

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
        """Keep to one core, and apply the limit of the request line.

        gunicorn caps its setting `limit_request_line` at a constant of 8190.
        """
        if self.core is not None:
            with suppress(OSError, ValueError):  # The system forbids it, or does not tell the use.
                self._one_core = OneCore(self.core)
        limit = max(message.MAX_REQUEST_LINE, self.cfg.limit_request_line)
        message.MAX_REQUEST_LINE = limit  # type: ignore[misc]  # The stubs call it final.
        super().init_process()

    def notify(self) -> None:
        """Tell the master that the worker is alive, and look for a better core.

        gunicorn calls this method at least once a second.
        """
        super().notify()
        if self._one_core is not None:
            with suppress(OSError, ValueError):
                self._one_core.look()

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
