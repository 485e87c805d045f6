"""The transport of calls to Ecwid, as a protocol and as an implementation on `requests`.

`requests` only transports bytes. The transport keeps no cookies and follows no redirects.
`requests` reads no `.netrc` and no proxies from the environment. A call is sent once, because
retries.py decides on repeats.
"""

from __future__ import annotations

import logging
import os
import re
import zlib
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

import requests
import urllib3
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from ..errors import BadReply, EcwidError, NoReply, ReplyTooLarge, Undecodable
from ..settings import Secret, Settings
from .calls import Call
from .deadline import Attempt, DeadlineAdapter, current_attempt, is_set
from .replies import Reply, error_from_exception

log = logging.getLogger("flask_ecwid")

MAX_REPLY_BYTES = 8 * 1024 * 1024  # Decompressed. A page of 100 customers has about 176 kB.
_CHUNK_BYTES = 65_536
_GZIP = 16 + zlib.MAX_WBITS  # zlib's code for a body with a gzip header.
_POOL_SIZE = 256  # The connections that are kept. A worker has fewer threads.


class Transport(Protocol):
    """Sends calls to Ecwid. Threads share a transport."""

    def send(self, call: Call, deadline: float) -> Reply:
        """Send a call once, and return the reply with any status.

        Args:
            call: The call.
            deadline: The moment of `clock.now()` at which the call must have ended.

        Raises:
            NotSent: No byte of the call reached Ecwid.
            NoReply: The call may have reached Ecwid, and no complete reply came back.
        """

    def close(self) -> None:
        """Close the connections of this process. A later call opens new connections."""


class RequestsTransport(Transport):
    """A transport on `requests`. The first call opens the first connection.

    Args:
        settings: The store's URL and token, the timeouts, the proxy and the certificates.
        make_adapter: Makes the adapter that sends prepared requests. The sandbox passes its own.
    """

    def __init__(
        self, settings: Settings, make_adapter: Callable[[], BaseAdapter] | None = None
    ) -> None:
        self._make_adapter = make_adapter or _http_adapter
        self._adapters: dict[int, BaseAdapter] = {}  # The keys are process ids.
        self._url = f"{settings.api_url}/{settings.store_id}"
        self._headers = CaseInsensitiveDict(
            {
                "Authorization": Secret(f"Bearer {settings.token}"),
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
                "User-Agent": f"flask-ecwid/{version('flask-ecwid')}",
            }
        )
        proxy = settings.proxy_url
        self._options: dict[str, Any] = {
            "stream": True,
            "timeout": urllib3.Timeout(
                connect=settings.connect_timeout_s, read=settings.read_timeout_s
            ),
            "verify": settings.ca_bundle or True,
            "proxies": {"http": proxy, "https": proxy} if proxy else {},
        }

    def send(self, call: Call, deadline: float) -> Reply:
        """Send a call once and return its reply."""
        request = self._prepared(call)
        failure: EcwidError
        attempt = Attempt(deadline)
        token = current_attempt.set(attempt)
        try:
            return self._exchange(request, attempt)
        except NoReply as exc:
            failure = exc
        except Exception as exc:  # Any class. For example, a negative chunk size is a ValueError.
            failure = error_from_exception(exc, sent=attempt.sent, received=attempt.received)
        finally:
            current_attempt.reset(token)
        # The error is raised outside of the except clause. Otherwise its context would be the
        # library's error, which holds the URL with its query.
        raise failure

    def close(self) -> None:
        """Close the connections of this process."""
        adapter = self._adapters.pop(os.getpid(), None)
        if adapter is not None:
            adapter.close()

    def _prepared(self, call: Call) -> requests.PreparedRequest:
        """Return a request that needs no further preparation.

        `requests.Request.prepare` would parse and encode the URL, the headers and the body again.
        """
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

    def _exchange(self, request: requests.PreparedRequest, attempt: Attempt) -> Reply:
        adapter = self._process_adapter()
        if not isinstance(adapter, DeadlineAdapter):
            # Another adapter does not say whether the call was sent, so the call counts as sent.
            attempt.sent = True
        response = adapter.send(request, **self._options)
        attempt.received = True
        try:
            body = _received(response.raw, response.headers.get("content-encoding", ""))
        finally:
            response.raw.close()
        if attempt.has_rest:
            raise BadReply("Ecwid sent more bytes than one reply.")
        if 300 <= response.status_code < 400:
            log.warning("The redirect to host %s was not followed.", _host(response.headers))
        return Reply(response.status_code, response.headers, body)

    def _process_adapter(self) -> BaseAdapter:
        """Return the adapter of this process, which shares no socket with the parent process."""
        process = os.getpid()
        adapter = self._adapters.get(process)
        return adapter or self._adapters.setdefault(process, self._make_adapter())


class _NotOurs(logging.Filter):
    """A filter that drops urllib3's log records about calls to Ecwid.

    urllib3 logs URLs and unreadable headers. Both can hold the name of a customer.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return not is_set()


_NOT_OURS = _NotOurs()


def _http_adapter() -> BaseAdapter:
    for name in ("urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry"):
        logging.getLogger(name).addFilter(_NOT_OURS)
    return DeadlineAdapter(pool_connections=1, pool_maxsize=_POOL_SIZE, max_retries=0)


def _received(raw: Any, encoding: str) -> bytes:
    """Return the decompressed body.

    A body is decompressed in pieces, because gzip can shrink a body to a thousandth. Without the
    limit of each piece, a small reply could fill the memory.
    """
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
            raise ReplyTooLarge
        chunks.append(chunk)
    if inflate is not None and chunks and (not inflate.eof or inflate.unused_data):
        raise BadReply
    return b"".join(chunks)


def _inflated(inflate: Any, chunk: bytes, max_bytes: int) -> bytes:
    try:
        inflated: bytes = inflate.decompress(chunk, max_bytes)
    except zlib.error:
        pass
    else:
        return inflated
    # The error is raised outside of the except clause. Otherwise its context would be zlib's error,
    # which may hold a piece of the body.
    raise Undecodable


def _host(headers: Mapping[str, str]) -> str:
    """Return the host of a redirect. Unlike the path and the query, a host holds no value."""
    try:
        host = urlsplit(headers.get("location", "")).hostname
    except ValueError:
        host = None
    return host if host and re.fullmatch(r"[a-z0-9.:-]{1,253}", host) else "none"
