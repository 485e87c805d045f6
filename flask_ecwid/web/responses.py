"""Envelopes and cached responses as Flask's responses."""

from __future__ import annotations

from flask import Response, request

from .cache import CachedResponse


def cached(response: CachedResponse, request_id: str) -> Response:
    """Return a response with its tag, or a 304 if the caller has it already."""
    if request.if_none_match.contains_weak(response.etag):
        made = Response(status=304)
        del made.headers["Content-Type"]
    else:
        made = Response(response.body(request_id), content_type="application/json")
    made.set_etag(response.etag, weak=True)  # weak, because each page has an id of its own
    made.headers["Age"] = str(response.age_s)
    # A cache on the way must ask each time, because nobody could empty it after a change.
    made.headers["Cache-Control"] = "private, no-cache"
    return made
