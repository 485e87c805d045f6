"""An adapter through which `requests` calls a WSGI app in this process, without a socket."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson
import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPHeaderDict, HTTPResponse
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder, run_wsgi_app

from . import wire

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class InProcessAdapter(BaseAdapter):
    """Sends every request to a WSGI app, whatever host its URL names.

    `response.raw` is an object of urllib3, as over a socket. The adapter ignores certificates and
    proxies, and a timeout ends only the fault `stall`. An exception of the app reaches the caller.
    """

    def __init__(self, app: WSGIApplication) -> None:
        super().__init__()
        self._app = app

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Return the response of the WSGI app to a prepared request."""
        body = _bytes(request.body)
        headers = Headers(list(request.headers.items()))
        headers.remove("Transfer-Encoding")  # the whole body is here, so its length is known
        url = urlsplit(request.url or "")
        environ = EnvironBuilder(
            path=url.path,
            base_url=f"{url.scheme}://{url.netloc}",
            query_string=url.query,
            method=request.method or "GET",
            headers=headers,
            input_stream=io.BytesIO(body),
            content_length=len(body),
        ).get_environ()
        environ[wire.IN_PROCESS] = True
        chunks, status, fields = run_wsgi_app(self._app, environ, buffered=True)
        content = io.BytesIO(b"".join(chunks))
        if marked := fields.get(wire.MARK):
            kind, seconds = orjson.loads(marked)
            wire.raise_fault(kind, seconds, timeout)
            content = wire.damaged_body(kind, seconds, content.getvalue())
        response = requests.Response()
        response.raw = HTTPResponse(
            body=content,
            headers=HTTPHeaderDict(list(fields)),
            status=int(status[:3]),
            reason=status[4:],
            preload_content=False,
            request_method=request.method,
        )
        response.status_code = response.raw.status
        response.reason = status[4:]
        response.headers = CaseInsensitiveDict(response.raw.headers)
        response.encoding = requests.utils.get_encoding_from_headers(response.headers)
        response.url = request.url or ""
        response.request = request
        return response

    def close(self) -> None:
        """Do nothing, because the adapter holds no connection."""


def _bytes(body: Any) -> bytes:
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    return body if isinstance(body, bytes) else b"".join(body)
