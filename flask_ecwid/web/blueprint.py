"""The blueprint of a mount, with every hook of a request in one list."""

from __future__ import annotations

from flask import Blueprint, Response

from .. import clock
from ..throttling.rate_limit import WINDOW_S
from . import audit, connexion_api, openapi, problems
from .context import current_request, leave
from .mount import Mount, request_under_way


def make_blueprint(mount: Mount) -> Blueprint:
    """Return the blueprint with everything that is below the mount.

    Raises:
        connexion.exceptions.ResolverError: An operation of the contract has no handler.
    """
    blueprint = connexion_api.make_blueprint(mount)
    for before in BEFORE_REQUEST:
        blueprint.before_request(before)
    for after in reversed(AFTER_REQUEST):  # Flask runs the last one first
        blueprint.after_request(after)
    blueprint.teardown_request(end_request)
    openapi.add_routes(blueprint, mount.document, ui=mount.settings.ui)
    problems.add_handlers(blueprint)
    return blueprint


def begin_request() -> None:
    """Make the request's context and start its clock."""
    request_under_way().started_at = clock.now()


def add_privacy_headers(response: Response) -> Response:
    """Keep responses, which hold personal data, out of caches, and the path out of referrers."""
    headers = response.headers
    headers.setdefault("Cache-Control", "no-store")
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    return response


def add_request_id(response: Response) -> Response:
    """Name the request, also where the host has answered it before its start."""
    context = request_under_way()
    context.status = response.status_code
    response.headers["X-Request-ID"] = context.request_id
    return response


def add_rate_limit(response: Response) -> Response:
    """Say in each response to a known caller how many calls to Ecwid remain.

    https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
    """
    context = current_request()
    if context.operation and context.caller:
        remaining = context.mount.client.remaining_calls()
        response.headers["RateLimit-Policy"] = f'"calls";q={remaining.limit};w={WINDOW_S}'
        response.headers["RateLimit"] = f'"calls";r={remaining.remaining};t={remaining.reset_s}'
    return response


def end_request(_: BaseException | None) -> None:
    """Send the last signal and leave the request's context.

    Teardown runs after every hook of the host. The host may still replace the response in its own
    hooks, so the signal is not sent before.
    """
    context = request_under_way()
    audit.send_finished(context)
    leave(context)


# Every hook of a request, in the order in which they run.
BEFORE_REQUEST = (begin_request, problems.refuse_hidden_slashes, audit.send_started)
AFTER_REQUEST = (
    add_request_id,
    add_privacy_headers,
    add_rate_limit,
    audit.write_audit_line,
    audit.write_request_line,
)
