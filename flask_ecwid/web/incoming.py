"""Query and body of Flask's request, read within limits and without guessing."""

from __future__ import annotations

from urllib.parse import parse_qsl

from flask import current_app, request
from werkzeug.exceptions import ClientDisconnected, HTTPException

from ..errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType, Violation


def read(max_body_bytes: int) -> tuple[bytes, list[tuple[str, str]]]:
    """Return the request's body, and the query's names and values in their order.

    Raises:
        UnsupportedMediaType: The body is encoded. A small one may be large once it is decoded.
        BodyTooLarge: The body is larger than the limit, or than the host's.
        InvalidRequest: The body cannot be read, or the query is not UTF-8.
    """
    environ = request.environ
    has_body = environ.get("CONTENT_LENGTH") or environ.get("HTTP_TRANSFER_ENCODING")
    body = _body(max_body_bytes) if has_body else b""
    return body, _query(request.query_string) if request.query_string else []


def _query(raw: bytes) -> list[tuple[str, str]]:
    """Parse the query with repeated parameters.

    connexion keeps the last of repeated parameters, and werkzeug puts another character in the
    place of bytes that are not UTF-8.
    """
    try:
        return parse_qsl(raw.decode("utf-8"), keep_blank_values=True, errors="strict")
    except ValueError:
        pass
    raise InvalidRequest([Violation("/query", "type")])  # out here, without the text as its context


def _body(max_bytes: int) -> bytes:
    if request.headers.get("Content-Encoding"):
        raise UnsupportedMediaType
    host_limit = current_app.config["MAX_CONTENT_LENGTH"]
    limit = max_bytes if host_limit is None else min(max_bytes, host_limit)
    # One byte more than allowed, because werkzeug cuts a chunked body at its limit without a word.
    request.max_content_length = limit + 1
    try:
        body = request.get_data(cache=False)
    except Exception as exc:  # each server has errors of its own for a body that is cut or mangled
        if isinstance(exc, HTTPException) and not isinstance(exc, ClientDisconnected):
            raise
        raise InvalidRequest(detail="The body could not be read.") from None
    if len(body) > limit:
        raise BodyTooLarge
    # gunicorn hands on the part that came of a body that was cut, and the part may be JSON.
    if len(body) < (request.content_length or 0):
        raise InvalidRequest(detail="The body could not be read.")
    return body
