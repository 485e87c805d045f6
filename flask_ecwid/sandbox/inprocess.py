"""`requests` into a WSGI app of this process, without a socket."""

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
    """Answers prepared requests with what a WSGI app says, whatever host they name.

    `response.raw` is urllib3's, as from a socket. Certificates and proxies have no meaning here,
    and time limits only for a `stall` to order; what the app raises is raised on.
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
        body = _bytes(request.body)
        headers = Headers(list(request.headers.items()))
        headers.remove("Transfer-Encoding")  # the body is here, whole
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
            wire.raised(kind, seconds, timeout)
            content = wire.spoiled(kind, seconds, content.getvalue())
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
        """There is nothing to close."""


def _bytes(body: Any) -> bytes:
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    return body if isinstance(body, bytes) else b"".join(body)
