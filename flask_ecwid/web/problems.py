"""Problems (RFC 9457) for every failure below the mount. The host's own errors stay as they are.

Flask prefers a handler of the app for a status code to a blueprint's handler for all exceptions.
The blueprint therefore has a handler for every status code. A path or method without a rule never
reaches a blueprint, so the mount adds last rules that match all of them.
"""

from __future__ import annotations

import logging
import traceback
from collections import defaultdict
from typing import Any

import orjson
from flask import Blueprint, Response, current_app, request
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import HTTPException, InternalServerError, abort, default_exceptions
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.routing import BaseConverter, Rule

from ..errors import (
    DEFAULT_RETRY_AFTER_S,
    BodyTooLarge,
    ContractBroken,
    Defect,
    EcwidError,
    HttpFailure,
    place_of,
)
from .context import RequestContext, request_under_way
from .envelope import pointer_in_envelope

log = logging.getLogger("flask_ecwid")

_KEPT_HEADERS = ("Allow", "Retry-After", "WWW-Authenticate")


def add_handlers(blueprint: Blueprint) -> None:
    """Turn every failure below the mount into a problem.

    Call it last, because it needs all rules of the blueprint.
    """
    for code in default_exceptions:
        blueprint.register_error_handler(code, _on_error)
    blueprint.register_error_handler(Exception, _on_error)
    blueprint.record(_add_last_rules)


def _on_error(exc: Exception) -> Response | HTTPException:
    if isinstance(exc, HTTPException) and (exc.response is not None or not exc.code):
        return exc  # because the host made this response on purpose
    context = request_under_way()
    operation = context.operation
    error = _error(exc, context)
    headers: dict[str, str] = {}
    if isinstance(exc, HTTPException):
        headers = {k: v for k, v in exc.get_headers() if k in _KEPT_HEADERS}
    if operation and isinstance(exc, EcwidError) and error.status not in operation.responses:
        log.error("not in the contract: status=%d request_id=%s", error.status, context.request_id)
        error = Defect()
    return _response(error, headers, context)


def _response(error: EcwidError, headers: dict[str, str], context: RequestContext) -> Response:
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    elif error.status in (429, 503):
        headers.setdefault("Retry-After", str(DEFAULT_RETRY_AFTER_S))
    if error.challenge:
        headers["WWW-Authenticate"] = error.challenge
    if error.link:
        headers["Link"] = error.link
    if error.replayed:
        headers["Idempotency-Replayed"] = "true"
    writes = context.operation is not None and context.operation.writes
    context.problem, context.reason, context.places = error.slug, error.reason, error.places
    context.replayed = error.replayed
    if writes:
        context.executed = error.executed
    body = orjson.dumps(error.problem(context.request_id, write=writes))
    return Response(body, error.status, headers, content_type="application/problem+json")


def _error(exc: Exception, context: RequestContext) -> EcwidError:
    if isinstance(exc, ContractBroken):
        # The client names places in Ecwid's reply, but the caller sees the envelope.
        exc = exc.changed(
            errors=[each._replace(pointer=pointer_in_envelope(each.pointer)) for each in exc.errors]
        )
    if isinstance(exc, EcwidError):
        if isinstance(exc, (ContractBroken, Defect)):
            log.error("%s request_id=%s", exc.described, context.request_id)
        return exc
    if isinstance(exc, HTTPException):
        if isinstance(exc, InternalServerError) and isinstance(exc.original_exception, Exception):
            # Flask wraps the exception of a host's after_request.
            return _error(exc.original_exception, context)
        if exc.code == 413:
            return _body_too_large(exc)
        return _http_failure(exc.code or 500, context, _host_reason(exc))
    name, where = type(exc).__name__, place_of(exc)
    log.error("unexpected exception %s request_id=%s at %s", name, context.request_id, where)
    return Defect()


def _body_too_large(exc: HTTPException) -> BodyTooLarge:
    """Return the error of a 413 of Flask or the host, with the limit that the body exceeds."""
    limit = current_app.config["MAX_CONTENT_LENGTH"]
    exceeded = limit is not None and (request.content_length or 0) > limit
    error, reason = BodyTooLarge(limit if exceeded else None), _host_reason(exc)
    return error if exceeded or reason is None else error.changed(detail=reason)


def _host_reason(exc: HTTPException) -> str | None:
    """Return the description that the host wrote, or None if the host wrote none.

    werkzeug and Flask also write descriptions, and some of them repeat a header or a field of the
    request. Therefore only an exception that the host's own code raised has a reason.
    """
    frames = [frame for frame, _ in traceback.walk_tb(exc.__traceback__)]
    raised_by = str(frames[-1].f_globals.get("__name__")) if frames else ""
    # abort() raises in werkzeug.exceptions, which raises nothing by itself.
    if raised_by.partition(".")[0] in ("werkzeug", "flask") and raised_by != abort.__module__:
        return None
    text = "" if exc.description is None else str(exc.description)
    default = default_exceptions.get(exc.code or 500, InternalServerError).description
    if not text.strip() or text == default:
        return None
    return text.encode("utf-8", "replace").decode()  # because half a surrogate pair is no JSON


def _http_failure(status: int, context: RequestContext, detail: str | None = None) -> HttpFailure:
    title = HTTP_STATUS_CODES.get(status, "Unknown Error")
    executed = "unknown" if context.handler_has_run else "no"
    return HttpFailure(status, title, detail, executed=executed)


def _failed(status: int, headers: dict[str, str]) -> Response:
    context = request_under_way()
    return _response(_http_failure(status, context), headers, context)


def _add_last_rules(state: BlueprintSetupState) -> None:
    """Add a rule for the other methods of each path, and rules for all other paths."""
    app, name = state.app, state.blueprint.name
    methods: dict[str, set[str]] = defaultdict(lambda: {"OPTIONS"})
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith(f"{name}."):
            methods[rule.rule] |= rule.methods or set()
    allow = {path: ", ".join(sorted(allowed)) for path, allowed in methods.items()}

    def other_method(**_: object) -> Response:
        assert request.url_rule is not None
        headers = {"Allow": allow[request.url_rule.rule]}
        if request.method == "OPTIONS":
            response = Response(status=204, headers=headers)
            del response.headers["Content-Type"]
            return response
        return _failed(405, headers)

    def not_found(**_: object) -> Response:
        return _failed(404, {})

    def no_socket(**_: object) -> Response:
        return _failed(400, {})

    app.view_functions[f"{name}.other_method"] = other_method
    app.view_functions[f"{name}.not_found"] = not_found
    for path in allow:
        app.url_map.add(app.url_rule_class(path, endpoint=f"{name}.other_method", methods=None))
    app.view_functions[f"{name}.no_socket"] = no_socket
    for path in ("", "/", "/<anything:rest>"):
        path = f"{state.url_prefix}{path}"
        app.url_map.add(_LastRule(path, endpoint=f"{name}.not_found", methods=None))
        app.url_map.add(_LastRule(path, endpoint=f"{name}.no_socket", websocket=True))


class _Anything(BaseConverter):
    """A converter for any text. Flask's own `path` accepts no line feed and no double slash."""

    regex = "(?s:.+)"
    part_isolating = False
    weight = 1000  # after every other rule


class _LastRule(Rule):
    """A rule with its own converter, because the app's map of converters belongs to the host."""

    def get_converter(
        self, variable_name: str, converter_name: str, args: Any, kwargs: Any
    ) -> BaseConverter:
        if converter_name == "anything":
            return _Anything(self.map)
        return super().get_converter(variable_name, converter_name, args, kwargs)
