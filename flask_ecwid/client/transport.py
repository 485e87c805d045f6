"""The transport of calls to Ecwid, as a protocol and as an implementation on `requests`.

All stores share a transport, so the credentials travel with each call.

`requests` only gives the form of an adapter, so there are no cookies, no redirects, no `.netrc` and
no proxies of the environment. A call is sent once, because retries.py decides on repeats.
"""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Callable, Mapping
from contextlib import closing
from importlib.metadata import version
from typing import Protocol
from urllib.parse import urlencode

import requests
from requests.adapters import BaseAdapter

from .. import clock
from ..errors import BadReply, ConnectionLost, EcwidError, NotSent, ReplyTooLarge, Undecodable
from ..settings import Secret, Settings, StoreCredentials
from .calls import Call
from .connection import Attempt
from .pool import FRESH_S, MOST_IDLE_S, PooledAdapter
from .replies import Reply, error_from_exception
from .route import Route

log = logging.getLogger("flask_ecwid")

MAX_REPLY_BYTES = 8 * 1024 * 1024  # Decompressed. A page of 100 customers has about 176 kB.
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "User-Agent": f"flask-ecwid/{version('flask-ecwid')}",
}
# The host of a redirect. Unlike the path and the query, the host holds no value.
_HOST = re.compile(r"(?:https?:)?//([a-z0-9.-]{1,253})(?:[:/?#]|$)", re.IGNORECASE)
_GZIP = 16 + zlib.MAX_WBITS  # zlib's code for a body with a gzip header.


class Transport(Protocol):
    """Sends calls to Ecwid. Threads share a transport."""

    def send(
        self,
        call: Call,
        credentials: StoreCredentials,
        deadline: float,
        check: Callable[[], None],
    ) -> Reply:
        """Send a call once, and return the reply with any status.

        Args:
            call: The call.
            credentials: The store that the call is for, and its token.
            deadline: The moment of `clock.now()` at which the call must have ended.
            check: The transport calls it right before the first byte of the call, because a
                connection takes time, and a host can be suspended. The check raises a `NotSent` if
                the call must not be sent any more.

        Raises:
            NotSent: No byte of the call reached Ecwid, or the check has failed.
            NoReply: The call may have reached Ecwid, and no complete reply came back.
        """

    def close(self) -> None:
        """Close the connections of this process. A later call opens new connections."""


class RequestsTransport(Transport):
    """A transport on an adapter of `requests`. The first call opens the first connection.

    Args:
        settings: The URL of Ecwid's API, the timeouts, the proxy and the certificates.
        make_adapter: Makes the adapter that sends prepared requests. The sandbox passes its own.
    """

    def __init__(
        self, settings: Settings, make_adapter: Callable[[], BaseAdapter] | None = None
    ) -> None:
        way = settings.api_url, settings.proxy_url, settings.ca_bundle
        self._make_adapter = make_adapter or (lambda: PooledAdapter(Route(*way)))
        self._adapters: dict[int, BaseAdapter] = {}  # The keys are process ids.
        self._api_url = settings.api_url
        self._timeouts_s = settings.connect_timeout_s, settings.read_timeout_s

    def send(
        self,
        call: Call,
        credentials: StoreCredentials,
        deadline: float,
        check: Callable[[], None],
    ) -> Reply:
        """Send a call once and return its reply."""
        is_fresh = call.fresh or call.operation.kind == "create"
        most_idle_s = FRESH_S if is_fresh else MOST_IDLE_S
        attempt = Attempt(deadline, *self._timeouts_s, check, most_idle_s)
        return _reply(lambda: self._response(call, credentials, attempt), attempt)

    def close(self) -> None:
        """Close the connections of this process."""
        adapter = self._adapters.pop(clock.process_id(), None)
        if adapter is not None:
            adapter.close()

    def _response(
        self, call: Call, credentials: StoreCredentials, attempt: Attempt
    ) -> requests.Response:
        url = f"{self._api_url}/{credentials.store_id}{call.path}"
        if call.query:
            url += f"?{urlencode(call.query)}"
        headers: dict[str, str] = {"Authorization": Secret(f"Bearer {credentials.token}")}
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        request = _request(call.operation.method, url, headers, call.body)
        adapter = self._process_adapter()
        if not isinstance(adapter, PooledAdapter):
            attempt.check()
            # Another adapter does not say whether the call was sent, so the call counts as sent.
            attempt.sent = True
        return adapter.send(request, stream=True, timeout=attempt)  # type: ignore[arg-type]

    def _process_adapter(self) -> BaseAdapter:
        """Return the adapter of this process, which shares no socket with the parent process."""
        process = clock.process_id()
        adapter = self._adapters.get(process)
        return adapter or self._adapters.setdefault(process, self._make_adapter())


def post_form(
    url: str, form: Mapping[str, str], attempt: Attempt, *, proxy_url: str = "", ca_bundle: str = ""
) -> Reply:
    """Send a form once over a connection of its own, and return the reply with any status.

    `Route` describes the arguments `proxy_url` and `ca_bundle`.

    Raises:
        NotSent: No byte of the form reached the host.
        NoReply: The form may have reached the host, and no complete reply came back.
    """
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    request = _request("POST", url, headers, urlencode(form).encode())

    def response() -> requests.Response:
        with closing(PooledAdapter(Route(url, proxy_url, ca_bundle))) as adapter:
            return adapter.send(request, timeout=attempt)

    return _reply(response, attempt)


def _request(
    method: str, url: str, headers: dict[str, str], body: bytes | None
) -> requests.PreparedRequest:
    """Return a request that needs no further preparation.

    `requests.Request.prepare` would parse and encode the URL, the headers and the body again.
    """
    request = requests.PreparedRequest()
    request.method, request.url, request.body = method, url, body
    request.headers = {**_HEADERS, **headers}  # type: ignore[assignment]
    if body is not None:
        request.headers["Content-Length"] = str(len(body))
    return request


def _reply(send: Callable[[], requests.Response], attempt: Attempt) -> Reply:
    """Return the reply in the response of an adapter, or raise one of our errors for any error."""
    try:
        response = send()
        attempt.received = True
        with response.raw as raw:
            body = raw.read()
        if 300 <= response.status_code < 400:
            host = _HOST.match(response.headers.get("location", ""))
            log.warning("The redirect to host %s was not followed.", host[1] if host else "none")
        encoding = response.headers.get("content-encoding", "").lower()
        return Reply(response.status_code, response.headers, _decoded(body, encoding))
    except NotSent:
        raise  # from the check
    except Exception as exc:  # Any class, because libraries change.
        failure = error_from_exception(exc, sent=attempt.sent, received=attempt.received)
    # The error is raised outside of the except clause. Otherwise its context would be the
    # library's error, which holds the URL with its query.
    raise failure.changed(blames_connection=_blames_connection(failure, attempt))


def _blames_connection(failure: EcwidError, attempt: Attempt) -> bool:
    """Return whether a kept connection may be to blame, because it was forgotten on the way.

    Silence on a connection that was used just now is Ecwid's.
    """
    if attempt.idle_s is None or attempt.received:
        return False
    return isinstance(failure, ConnectionLost) or attempt.idle_s > FRESH_S


def _decoded(body: bytes, encoding: str) -> bytes:
    """Return the decompressed body.

    gzip can shrink a body to a thousandth. Without the limit, a small reply could fill the memory.
    """
    if encoding in ("gzip", "x-gzip") and body:
        inflate = zlib.decompressobj(_GZIP)
        try:
            body = inflate.decompress(body, MAX_REPLY_BYTES + 1)
        except zlib.error:
            raise Undecodable from None
        if len(body) <= MAX_REPLY_BYTES and (not inflate.eof or inflate.unused_data):
            raise BadReply
    elif encoding not in ("", "identity", "gzip", "x-gzip"):
        raise Undecodable
    if len(body) > MAX_REPLY_BYTES:
        raise ReplyTooLarge
    return body
