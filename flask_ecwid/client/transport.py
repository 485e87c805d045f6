"""Bytes out and in through `requests`: connection pool, timeouts, deadline, size cap.

`requests` as a transport, not as a session: no cookies, no redirects, no `.netrc`, no proxies from
the environment. A call is sent once: whether it is sent again is the gateway's to say.
"""

from __future__ import annotations

import logging
import os
import re
import zlib
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import requests
import urllib3
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from .. import clock
from ..errors import BadReply, EcwidError, NoReply, Undecodable
from ..settings import Secret, Settings
from . import deadline
from .calls import Call
from .replies import Reply, error_from_exception

log = logging.getLogger("flask_ecwid")

MAX_REPLY_BYTES = 8 * 1024 * 1024  # decoded; a page of 100 customers is about 176 kB
_CHUNK_BYTES = 65_536
_GZIP = 16 + zlib.MAX_WBITS  # gzip's header, and no other
_POOL_SIZE = 256  # connections kept, one for each thread: more than a worker can make use of


class Transport:
    """Sends calls to one store. Safe to share between threads; opens nothing before the first call.

    `make_adapter` is what stands between a prepared request and its response; the sandbox puts
    itself there.
    """

    def __init__(
        self, settings: Settings, make_adapter: Callable[[], BaseAdapter] | None = None
    ) -> None:
        self._settings = settings
        self._make_adapter = make_adapter or _http_adapter
        self._adapter: BaseAdapter | None = None
        self._process = 0
        self._lock = clock.Lock()
        self._timeout: Any = urllib3.Timeout(
            connect=settings.connect_timeout_s, read=settings.read_timeout_s
        )
        self._url = f"{settings.api_url}/{settings.store_id}"
        self._headers = CaseInsensitiveDict(
            {
                "Authorization": Secret(f"Bearer {settings.token}"),
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
                "User-Agent": f"flask-ecwid/{version('flask-ecwid')}",
            }
        )

    def send(self, call: Call, moment: float) -> Reply:
        """Send a call once and receive its reply, whatever its status; it ends at `moment`.

        Raises:
            NotSent: no byte of the call reached Ecwid.
            NoReply: it may have, and no complete reply came back.
        """
        request = self._prepared(call)
        failure: EcwidError
        with deadline.until(moment) as attempt:
            try:
                return self._exchange(request, attempt)
            except NoReply as exc:
                failure = exc
            except Exception as exc:  # by its phase, because a negative chunk size is a ValueError
                failure = error_from_exception(exc, sent=attempt.sent, received=attempt.received)
        # Raised out here, so that it does not carry the library's error along as its context: that
        # one holds the URL with its query.
        raise failure

    def close(self) -> None:
        """Close the connections of this process. A later call opens new ones."""
        with self._lock:
            adapter, self._adapter = self._adapter, None
        if adapter is not None and self._process == os.getpid():
            adapter.close()

    def _prepared(self, call: Call) -> requests.PreparedRequest:
        """Filled in as it is: `requests.Request` would parse and encode everything once more."""
        request = requests.PreparedRequest()
        request.method = call.operation.method
        request.url = self._url + call.path
        if call.query:
            request.url += f"?{urlencode(call.query)}"
        request.headers = self._headers.copy()
        request.body = call.body
        if call.body is not None:
            request.headers["Content-Type"] = "application/json"
            request.headers["Content-Length"] = str(len(call.body))
        return request

    def _exchange(self, request: requests.PreparedRequest, attempt: deadline.Attempt) -> Reply:
        settings = self._settings
        proxies = {"http": settings.proxy_url, "https": settings.proxy_url}
        adapter = self._process_adapter()
        if not isinstance(adapter, deadline.DeadlineAdapter):
            attempt.sent = True  # there is no connection that could say so
        response = adapter.send(
            request,
            stream=True,
            timeout=self._timeout,
            verify=settings.ca_bundle or True,
            proxies=proxies if settings.proxy_url else {},
        )
        attempt.received = True
        try:
            body = _received(response.raw, response.headers.get("content-encoding", ""))
        finally:
            response.raw.close()
        if attempt.rest:
            raise BadReply("More came from Ecwid than one answer.")
        if 300 <= response.status_code < 400:
            log.warning("redirect not followed: to host %s", _host(response.headers))
        return Reply(response.status_code, response.headers, body)

    def _process_adapter(self) -> BaseAdapter:
        """This process's own: it must not share sockets with the process it was forked from."""
        own = self._process == os.getpid()  # read first, because it is written last
        adapter = self._adapter
        if adapter is None or not own:
            made = self._make_adapter()
            with self._lock:
                if self._adapter is None or self._process != os.getpid():
                    self._adapter = made
                    self._process = os.getpid()
                adapter = self._adapter
        return adapter


class _NotOurs(logging.Filter):
    """urllib3 logs URLs, and at WARNING headers it cannot read: drops what it logs of our calls,
    whose queries and replies may hold a name.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return not deadline.is_set()


_NOT_OURS = _NotOurs()


def _http_adapter() -> BaseAdapter:
    for name in ("urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry"):
        logging.getLogger(name).addFilter(_NOT_OURS)
    return _OneHostAdapter(pool_connections=1, pool_maxsize=_POOL_SIZE, max_retries=0)


class _Response(NamedTuple):
    """As much of a `requests.Response` as is read here: no cookies, no encoding, no history."""

    status_code: int
    headers: Mapping[str, str]
    raw: Any


class _OneHostAdapter(deadline.DeadlineAdapter):
    """All calls go to one host by one way, so what `requests` finds out for each of them (which
    pool, which proxy, which certificates) is found out once.
    """

    _pool: Any = None

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        if self._pool is None:
            self._pool = super().get_connection_with_tls_context(*args, **kwargs)
        return self._pool

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        return super().request_url(request, proxies) if proxies else request.path_url

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> Any:
        return _Response(resp.status, resp.headers, resp)


def _received(raw: Any, encoding: str) -> bytes:
    """The body, decompressed piece by piece: what comes may be a thousand times what was sent."""
    encoding = encoding.strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise Undecodable
    inflate = zlib.decompressobj(_GZIP) if encoding.endswith("gzip") else None
    chunks: list[bytes] = []
    left = MAX_REPLY_BYTES
    for received in raw.stream(_CHUNK_BYTES, decode_content=False):
        chunk = received if inflate is None else _inflated(inflate, received, left + 1)
        left -= len(chunk)
        if left < 0:
            raise Undecodable
        chunks.append(chunk)
    if inflate is not None and chunks and (not inflate.eof or inflate.unused_data):
        raise BadReply
    return b"".join(chunks)


def _inflated(inflate: Any, chunk: bytes, most: int) -> bytes:
    try:
        inflated: bytes = inflate.decompress(chunk, most)
    except zlib.error:
        pass
    else:
        return inflated
    raise Undecodable  # out here, without the library's error as its context


def _host(headers: Mapping[str, str]) -> str:
    """Of a Location: its host, and nothing that could be a value."""
    try:
        host = urlsplit(headers.get("location", "")).hostname
    except ValueError:
        host = None
    return host if host and re.fullmatch(r"[a-z0-9.:-]{1,253}", host) else "none"
