"""Flask responses for cached responses."""

from __future__ import annotations

from flask import Response, request

from .cache import CachedResponse


def cached(response: CachedResponse, request_id: str) -> Response:
    """Return Flask's response with the ETag, or a 304 if the caller already has the body."""
    if request.if_none_match.contains_weak(response.etag):
        flask_response = Response(status=304)
        del flask_response.headers["Content-Type"]
    else:
        flask_response = Response(response.body(request_id), content_type="application/json")
    # The tag is weak, because each response with a page has its own id.
    flask_response.set_etag(response.etag, weak=True)
    flask_response.headers["Age"] = str(response.age_s)
    # The caller's cache may store the response, but has to ask this service before each use.
    # Otherwise the cache would show old data after a change.
    flask_response.headers["Cache-Control"] = "private, no-cache"
    return flask_response
