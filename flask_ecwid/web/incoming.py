"""Query and body of Flask's request, read within limits and without guessing."""

from __future__ import annotations

from urllib.parse import parse_qsl

from flask import current_app, request
from werkzeug.exceptions import ClientDisconnected, HTTPException

from ..errors import BodyTooLarge, InvalidRequest, Misfit, UnsupportedMediaType


def read_query() -> list[tuple[str, str]]:
    """Return the query's names and values in their order, repeated ones too.

    connexion keeps the last of repeated parameters, and werkzeug puts another character in the
    place of bytes that are not UTF-8.

    Raises:
        InvalidRequest: The query is not UTF-8.
    """
    raw = request.query_string
    if not raw:
        return []
    try:
        return parse_qsl(raw.decode("utf-8"), keep_blank_values=True, errors="strict")
    except ValueError:
        pass
    raise InvalidRequest([Misfit("/query", "type")])  # out here, without the text as its context


def has_body() -> bool:
    """Return whether the request may have a body."""
    environ = request.environ
    return bool(environ.get("CONTENT_LENGTH") or environ.get("HTTP_TRANSFER_ENCODING"))


def read_body(max_bytes: int) -> bytes:
    """Return the request's body, of `max_bytes` or of the host's limit at most.

    Raises:
        UnsupportedMediaType: The body is encoded. A small one may be large once it is decoded.
        BodyTooLarge: The body is larger than the limit.
        InvalidRequest: The body cannot be read.
    """
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
