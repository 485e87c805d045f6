"""The blueprint of a mount, with every hook of a request in the order in which it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response
from werkzeug.exceptions import NotFound

from .. import clock
from ..signals import operation_finished, operation_started
from ..throttling.rate_limit import WINDOW_S, RateLimit
from . import audit, connexion_api, openapi, problems, swagger_ui, webhooks
from .context import begin_request, flask_request, request_under_way
from .mount import Mount

# The scheme and host of a request target in absolute form.
_ORIGIN = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/]*")


def make_blueprint(mount: Mount) -> Blueprint:
    """Return the blueprint with every route and hook of the mount.

    Raises:
        connexion.exceptions.ResolverError: An operation of the contract has no handler.
    """
    blueprint = connexion_api.make_blueprint(mount)
    blueprint.before_request(before_request)
    blueprint.after_request(after_request)
    blueprint.teardown_request(teardown_request)
    openapi.add_routes(blueprint, mount.document)
    if mount.settings.ui:
        swagger_ui.add_routes(blueprint)
    if mount.webhook_path:
        webhooks.add_route(blueprint, mount.webhook_path)
    problems.add_handlers(blueprint)
    return blueprint


def before_request() -> None:
    """Make the request's context, before connexion's chain runs."""
    context = begin_request(flask_request())
    context.started_at = clock.now()
    refuse_hidden_slashes()
    if operation_started.receivers:
        audit.send_started(context)


def after_request(response: Response) -> Response:
    """Complete the response and log the request.

    The host's own hooks may have made the response before `before_request` ran.
    """
    context = request_under_way()
    context.status = response.status_code
    response.headers["X-Request-ID"] = context.request_id
    add_privacy_headers(response)
    if context.store:
        add_rate_limit(response, context.store.opened.guard.rate_limit)
    audit.write_lines(response, context)
    return response


def teardown_request(exc: BaseException | None) -> None:
    """Send the last signal, once for each request.

    Teardown runs after every hook of the host. An earlier signal could have a wrong status, because
    the host's hooks may replace the response. Flask also tears down each copy of its own request
    context, which a host may make at any time.
    """
    if operation_finished.receivers:
        context = request_under_way()
        is_over = context.status is not None or exc is not None
        if is_over and not context.has_ended:
            context.has_ended = True
            audit.send_finished(context)


def refuse_hidden_slashes() -> None:
    """Refuse a path that a proxy in front of the service may have read as another path.

    WSGI decodes an encoded slash before the routing, and werkzeug drops one of two leading slashes.
    A proxy that protects a path could be bypassed in both ways.

    Raises:
        NotFound: The path has an encoded slash, or begins with two slashes.
    """
    # The headers and the query are no variables of this function, which a traceback may show.
    if _hides_slashes(flask_request().environ):
        raise NotFound


def _hides_slashes(environ: Mapping[str, Any]) -> bool:
    # gunicorn sets RAW_URI, and other servers set REQUEST_URI. Some servers drop a leading slash of
    # PATH_INFO, so both are looked at.
    raw: str = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    path = _ORIGIN.sub("", raw.partition("?")[0])
    return "%2f" in path.lower() or path.startswith("//") or environ["PATH_INFO"].startswith("//")


def add_privacy_headers(response: Response) -> None:
    """Keep personal data out of shared caches, and the path of a customer out of referrers."""
    headers = response.headers
    if not headers.getlist("Cache-Control"):
        headers.add("Cache-Control", "no-store")
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"


def add_rate_limit(response: Response, rate_limit: RateLimit) -> None:
    """Add the number of calls to Ecwid that remain, for callers that are known.

    https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
    """
    calls = rate_limit.remaining()
    response.headers["RateLimit-Policy"] = f'"calls";q={calls.limit};w={WINDOW_S}'
    response.headers["RateLimit"] = f'"calls";r={calls.remaining};t={calls.reset_s}'
