"""The adapter of `requests` over connections of our own, which are kept between calls."""

from __future__ import annotations

import io
import weakref
from typing import Any

import requests
from requests.adapters import BaseAdapter

from .. import clock
from ..settings import SecretBytes
from .connection import Attempt, Connection
from .route import Route

# NATs and load balancers forget an idle flow, some of them after a few minutes. A call over a
# forgotten flow is lost.
MOST_IDLE_S = 60.0
# A lost creation cannot be repeated, and nothing on the way forgets a flow so soon.
FRESH_S = 3.0


class PooledAdapter(BaseAdapter):
    """Sends requests to one host. The connection that was used last carries the next call."""

    def __init__(self, route: Route) -> None:
        super().__init__()
        self._route = route
        self._lock = clock.Lock()
        self._idle: list[Connection] = []  # The connection that was used last is at the end.
        weakref.finalize(self, _close_all, self._idle)

    def send(
        self, request: requests.PreparedRequest, *args: Any, timeout: Any = None, **kwargs: Any
    ) -> requests.Response:
        """Send a request once, and return its response with the whole body.

        The argument `timeout` is an `Attempt`. The route has the proxy and the certificates.
        """
        attempt: Attempt = timeout
        message = self._message(request)
        connection = self._take(attempt) or self._route.connect(attempt)
        is_kept = False
        try:
            status, headers, body = connection.exchange(message, attempt)
            is_kept = connection.is_reusable
        finally:
            # A new connection that carried nothing is good for the next attempt. An older one may
            # have been forgotten on the way, as those that another call has just closed.
            is_unused = not attempt.sent and attempt.idle_s is None
            if is_kept or is_unused:
                with self._lock:
                    self._idle.append(connection)
            else:
                connection.close()
            if attempt.idle_s is not None and attempt.sent and not attempt.received:
                self.close()  # Whatever has broken this kept connection may break the others.
        response = requests.Response()
        response.status_code = status
        response.headers = headers  # type: ignore[assignment]
        response.raw = io.BytesIO(body)
        return response

    def close(self) -> None:
        """Close the idle connections. A call under way closes its own when the adapter is gone."""
        with self._lock:
            idle = self._idle[:]
            self._idle.clear()
        _close_all(idle)

    def _message(self, request: requests.PreparedRequest) -> SecretBytes:
        target = (request.url or "")[self._route.skips :]
        head = f"{request.method} {target} HTTP/1.1\r\n{self._route.headers}"
        head += "".join([f"{name}: {value}\r\n" for name, value in request.headers.items()])
        body = request.body if isinstance(request.body, bytes) else b""
        # The request has the token, and a traceback with variables shows the request.
        return SecretBytes(f"{head}\r\n".encode("latin-1") + body)

    def _take(self, attempt: Attempt) -> Connection | None:
        """Return the connection that was used last, or None if the attempt needs a new one."""
        while True:
            expired = []
            with self._lock:
                if not self._idle:
                    return None
                idle_s = self._idle[-1].used_at.elapsed_s()
                is_fresh = idle_s <= attempt.most_idle_s
                # The attempt opens a new connection, so the oldest one closes. Otherwise a process
                # would hold more connections than it has threads.
                connection = self._idle.pop(-1 if is_fresh else 0)
                while self._idle and self._idle[0].used_at.elapsed_s() > MOST_IDLE_S:
                    expired.append(self._idle.pop(0))
            for each in expired:
                each.close()
            if is_fresh and connection.is_quiet():
                attempt.idle_s = idle_s
                return connection
            connection.close()
            if not is_fresh:
                return None


def _close_all(connections: list[Connection]) -> None:
    for connection in connections:
        connection.close()
