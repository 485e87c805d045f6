"""The query and the body of Flask's request, read strictly and within limits."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any
from urllib.parse import parse_qsl

from flask import Request, current_app
from werkzeug.exceptions import ClientDisconnected, HTTPException, RequestEntityTooLarge
from werkzeug.wsgi import get_input_stream

from ..errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType, Violation


class Received:
    """A request of Flask. Its repr shows no URL, because a query may hold an e-mail.

    A traceback with variables shows the repr of each argument.
    """

    def __init__(self, http: Request) -> None:
        """Keep the request of Flask."""
        self.http = http


def read(received: Received, max_body_bytes: int) -> tuple[bytes, list[tuple[str, str]]]:
    """Return the request's body, and the query's names and values in their order.

    Raises:
        UnsupportedMediaType: The body is encoded. A small encoded body may decode to a large body.
        BodyTooLarge: The body is larger than `max_body_bytes` or the host's MAX_CONTENT_LENGTH.
        InvalidRequest: The body cannot be read, or the query is not UTF-8.
    """
    body = read_body(received, max_body_bytes)
    query = received.http.query_string
    return body, _query(query) if query else []


def read_body(received: Received, max_bytes: int) -> bytes:
    """Return the request's body, of whatever media type.

    Raises:
        UnsupportedMediaType: The body is encoded. A small encoded body may decode to a large body.
        BodyTooLarge: The body is larger than `max_bytes` or the host's MAX_CONTENT_LENGTH.
        InvalidRequest: The body cannot be read.
    """
    return _body(received, max_bytes) if _has_body(received.http.environ) else b""


def _has_body(environ: Mapping[str, Any]) -> bool:
    return bool(environ.get("CONTENT_LENGTH") or environ.get("HTTP_TRANSFER_ENCODING"))


def _query(raw: bytes) -> list[tuple[str, str]]:
    """Parse the query and keep repeated parameters, so that a check can refuse them.

    connexion would keep only the last of repeated parameters, and werkzeug would replace bytes that
    are not UTF-8.
    """
    try:
        return parse_qsl(raw.decode("utf-8"), keep_blank_values=True, errors="strict")
    except ValueError:
        pass
    # Raise outside of the except block, because the ValueError would show the query as context.
    raise InvalidRequest([Violation("/query", "type", "A query in UTF-8 with percent-encoding.")])


def _body(received: Received, max_bytes: int) -> bytes:
    if received.http.headers.get("Content-Encoding"):
        raise UnsupportedMediaType
    host_limit = current_app.config["MAX_CONTENT_LENGTH"]
    limit = max_bytes if host_limit is None else min(max_bytes, host_limit)
    # werkzeug cuts a chunked body at its limit without an error. With one byte more than allowed, a
    # body that is too large can be told from a body that fits.
    try:
        if _is_chunked_by_uwsgi(received.http.environ):
            body = _chunks_of_uwsgi(limit)
        else:
            body = _data(received.http, limit + 1)
    except Exception as exc:  # because each server has its own errors for a body that is cut
        if isinstance(exc, RequestEntityTooLarge):
            raise BodyTooLarge(limit) from None
        if isinstance(exc, HTTPException) and not isinstance(exc, ClientDisconnected):
            raise
        raise InvalidRequest(detail="The body could not be read.") from None
    if len(body) > limit:
        raise BodyTooLarge(limit)
    # gunicorn passes on the first part of a body that was cut. The part may be valid JSON, so a
    # wrong customer could be created without this check.
    if len(body) < (received.http.content_length or 0):
        raise InvalidRequest(detail="The body could not be read.")
    return body


def _data(request: Request, most_bytes: int) -> bytes:
    # Flask before 3.1 has no limit for a single request, so the limit is set on the stream.
    if "stream" not in request.__dict__:
        request.stream = get_input_stream(request.environ, max_content_length=most_bytes)
    return request.get_data(cache=False)


def _is_chunked_by_uwsgi(environ: Mapping[str, Any]) -> bool:
    """Return True if the body is in chunks, which uWSGI leaves out of `wsgi.input`."""
    has_length = bool(environ.get("CONTENT_LENGTH"))
    return "uwsgi.version" in environ and "HTTP_TRANSFER_ENCODING" in environ and not has_length


def _chunks_of_uwsgi(limit: int) -> bytes:
    """Return the body of a request in chunks under uWSGI, or its first part beyond the limit.

    https://uwsgi-docs.readthedocs.io/en/latest/Chunked.html
    """
    uwsgi = import_module("uwsgi")  # exists only in a process of uWSGI
    body = b""
    while len(body) <= limit and (chunk := uwsgi.chunked_read()):
        body += chunk
    return body
