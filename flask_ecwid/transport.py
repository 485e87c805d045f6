"""Bytes out and in through `requests`: connection pool, timeouts, deadline, size cap.

`requests` as a transport, not as a session: no cookies, no redirects, no `.netrc`, no proxies from
the environment. This is the seam: what is sent again, and when, is decided here and nowhere else.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import Any, NamedTuple
from urllib.parse import urlencode

import requests
import urllib3
import urllib3.exceptions
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from . import deadline
from .calls import Call, Reply
from .errors import (
    BadReply,
    ConnectionLost,
    DeadlineExceeded,
    EcwidError,
    NoReply,
    TlsFailed,
    Unreachable,
)
from .settings import Settings

MAX_REPLY_BYTES = 8 * 1024 * 1024  # decoded; a page of 100 customers is about 176 kB
_CHUNK_BYTES = 65_536
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
        self._lock = threading.Lock()
        self._timeout: Any = urllib3.Timeout(
            connect=settings.connect_timeout_s, read=settings.read_timeout_s
        )
        self._url = f"{settings.api_url}/{settings.store_id}"
        self._headers = CaseInsensitiveDict(
            {
                "Authorization": f"Bearer {settings.token}",
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
                "User-Agent": f"flask-ecwid/{version('flask-ecwid')}",
            }
        )

    def send(self, call: Call, moment: float | None = None) -> Reply:
        """Send a call and receive its reply, whatever its status.

        It ends at `moment` of `time.monotonic()`, or when `deadline_s` has passed.

        Raises:
            NotSent: no byte of the call reached Ecwid.
            NoReply: it may have, and no complete reply came back.
        """
        request = self._prepared(call)
        failure: EcwidError
        if moment is None:
            moment = time.monotonic() + self._settings.deadline_s
        with deadline.until(moment) as attempt:
            try:
                return self._exchange(request)
            except NoReply as exc:
                failure = exc
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as exc:
                failure = _no_reply(exc) if attempt.sent else _not_sent(exc)
        # Raised out here, so that it does not carry the library's error along as its context: that
        # one holds the URL with its query.
        raise failure

    def _prepared(self, call: Call) -> requests.PreparedRequest:
        """Filled in as it is: `requests.Request` would parse and encode everything once more."""
        request = requests.PreparedRequest()
        request.method = call.method
        request.url = self._url + call.path
        if call.query:
            request.url += f"?{urlencode(call.query)}"
        request.headers = self._headers.copy()
        request.body = call.body
        if call.body is not None:
            request.headers["Content-Type"] = "application/json"
            request.headers["Content-Length"] = str(len(call.body))
        return request

    def _exchange(self, request: requests.PreparedRequest) -> Reply:
        settings = self._settings
        proxies = {"http": settings.proxy_url, "https": settings.proxy_url}
        response = self._process_adapter().send(
            request,
            stream=True,
            timeout=self._timeout,
            verify=settings.ca_bundle or True,
            proxies=proxies if settings.proxy_url else {},
        )
        try:
            body = _received(response.raw)
        finally:
            response.raw.close()
        return Reply(response.status_code, response.headers, body)

    def _process_adapter(self) -> BaseAdapter:
        """This process's own: it must not share sockets with the process it was forked from."""
        if self._adapter is None or self._process != os.getpid():
            with self._lock:
                if self._adapter is None or self._process != os.getpid():
                    self._adapter = self._make_adapter()
                    self._process = os.getpid()
        return self._adapter


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


def _received(raw: Any) -> bytes:
    chunks: list[bytes] = []
    size = 0
    for chunk in raw.stream(_CHUNK_BYTES, decode_content=True):
        size += len(chunk)
        if size > MAX_REPLY_BYTES:
            raise BadReply("Ecwid's answer is larger than any good one.")
        chunks.append(chunk)
    return b"".join(chunks)


def _not_sent(exc: Exception) -> EcwidError:
    """The library's error as ours, of a call whose connection was not up yet."""
    return TlsFailed() if _has(exc, ssl.SSLCertVerificationError) else Unreachable()


def _no_reply(exc: Exception) -> EcwidError:
    """The library's error as ours, of a call that may have been sent: whatever it is named."""
    if _has(exc, urllib3.exceptions.ReadTimeoutError, TimeoutError):
        return DeadlineExceeded()
    if _has(exc, urllib3.exceptions.DecodeError):
        return BadReply("Ecwid's answer cannot be decompressed.")
    return ConnectionLost()


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """An error and those it wraps: `requests` and urllib3 hand them on in `args` and `reason`."""
    yield exc
    for inner in (getattr(exc, "reason", None), *exc.args):
        if isinstance(inner, BaseException):
            yield from _causes(inner)


def _has(exc: BaseException, *kinds: type[BaseException]) -> bool:
    return any(isinstance(cause, kinds) for cause in _causes(exc))
