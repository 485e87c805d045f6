"""The context of a request, with its id, its caller and its progress."""

from __future__ import annotations

import re
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flask import current_app, request

from .. import chance
from ..signals import CallCount, call_count

if TYPE_CHECKING:
    from ..contract.operation import Operation
    from .mount import Mount


_UUID4 = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE
)


@dataclass(slots=True)
class RequestContext:
    """The context of one request below a mount, without any data of a customer but the id."""

    mount: Mount
    environ: object  # the WSGI environ, which differs for a request inside of another request
    operation: Operation | None  # None for any other path below the mount
    request_id: str  # a UUID, version 4
    started_at: float | None = None  # a value of `clock.now()`, or None before `before_request`
    caller: str | None = None  # the name of the caller, or None before the authentication
    customer_id: object = None  # the id in the path, or the id of the new customer
    idempotency_key: str | None = None
    handler_has_run: bool = False  # True if the store may have changed
    executed: str | None = None  # the member `executed` of the problem, if there is a problem
    problem: str | None = None  # the slug of the problem
    status: int | None = None  # the status of the response
    calls: CallCount = field(default_factory=CallCount)  # the calls to Ecwid
    tokens: tuple[Token[RequestContext], Token[CallCount | None]] | None = None


request_var: ContextVar[RequestContext] = ContextVar("flask_ecwid_request")
# Returns the context of the request under way, and raises a LookupError outside of a request.
current_request = request_var.get


def enter_request() -> RequestContext:
    """Make the context of Flask's request, which lasts until `leave_request`.

    The request's id is the caller's `X-Request-ID`, or a new id if that is not a UUID of version 4.
    """
    blueprint, _, endpoint = (request.endpoint or "").rpartition(".")
    mount: Mount = current_app.extensions["ecwid"][blueprint]
    sent_id = request.headers.get("X-Request-ID", "")
    context = RequestContext(
        mount=mount,
        environ=request.environ,
        operation=mount.contract.operations.get(endpoint),
        request_id=sent_id.lower() if _UUID4.fullmatch(sent_id) else str(chance.uuid4()),
    )
    # A host may make a request inside of another request. The tokens bring the outer context back.
    context.tokens = request_var.set(context), call_count.set(context.calls)
    return context


def request_under_way() -> RequestContext:
    """Return the context of Flask's request.

    If a hook of the host made the response early, `before_request` did not run and the context is
    made here.
    """
    context = request_var.get(None)
    if context is None or context.environ is not request.environ:
        return enter_request()
    return context


def leave_request() -> RequestContext:
    """End the context of Flask's request and return it.

    The context of an outer request, if any, is the current context again.
    """
    context = request_under_way()
    if context.tokens:
        request_var.reset(context.tokens[0])
        call_count.reset(context.tokens[1])
    return context
