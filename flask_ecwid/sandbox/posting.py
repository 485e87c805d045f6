"""A request that carries an event over a socket, with Ecwid's limits.

Ecwid follows no redirect, and needs only the status of a response. A proxy of the environment is
not used.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from contextlib import suppress
from urllib.parse import urlsplit

from .events import SignedEvent

CONNECT_S = 3.0  # D26
RESPOND_S = 10.0  # D26


class NoResponse(Exception):
    """The app did not respond. The message says why, and holds no part of the URL."""


class Posting:
    """One request. Another thread may end it with `cut`.

    Args:
        request: the signed event.
        respond_s: seconds until the response must have arrived.
    """

    def __init__(self, request: SignedEvent, respond_s: float = RESPOND_S) -> None:
        self._request = request
        self._respond_s = respond_s
        url = urlsplit(request.url)
        is_https = url.scheme == "https"
        kind = http.client.HTTPSConnection if is_https else http.client.HTTPConnection
        self._connection = kind(url.hostname or "", url.port, timeout=CONNECT_S)
        self._target = url._replace(scheme="", netloc="").geturl() if url.path else f"/?{url.query}"
        self._is_cut = False

    def send(self) -> int:
        """Send the request once, and return the status of the response.

        Raises:
            NoResponse: no complete response came in time.
        """
        # A timeout of the socket would begin anew with each byte, so a timer limits the whole.
        timer = threading.Timer(self._respond_s, self.cut)
        timer.name, timer.daemon = "sandbox-timer", True
        try:
            self._connection.connect()
            timer.start()
            if self._is_cut:
                raise ConnectionAbortedError
            self._connection.sock.settimeout(None)
            self._connection.request(
                "POST", self._target, self._request.body, self._request.headers
            )
            status = self._connection.getresponse().status
            if self._is_cut:
                raise ConnectionAbortedError  # http.client takes half of the headers for all
        except (OSError, http.client.HTTPException) as exc:
            # Outside of this clause, the error has no context that would show the URL.
            reason = self._reason(exc, has_connected=timer.ident is not None)
        else:
            return status
        finally:
            timer.cancel()
            if timer.ident is not None:
                timer.join()
            self._connection.close()
        raise NoResponse(reason)

    def cut(self) -> None:
        """End the request at once."""
        self._is_cut = True
        sock = self._connection.sock
        if sock is not None:
            with suppress(OSError):
                # The method of a TLS socket would take away the object that the other thread reads.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _reason(self, exc: Exception, *, has_connected: bool) -> str:
        if self._is_cut:
            return f"the app did not respond within {self._respond_s:g} seconds"
        if isinstance(exc, ssl.SSLError):
            return "TLS with the app failed, for example because of its certificate"
        if not has_connected:
            return f"no connection to the app was possible within {CONNECT_S:g} seconds"
        if isinstance(exc, OSError):
            return "the app closed the connection without a response"
        return "the app did not respond with HTTP"
