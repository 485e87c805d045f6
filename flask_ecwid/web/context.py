"""The context of a request: its id, its caller, and how far it has come."""

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
    """What is known of one request below a mount. It holds nothing of a customer but the id."""

    mount: Mount
    environ: object  # the WSGI environ of the request, which tells requests inside requests apart
    operation: Operation | None  # None for a path that is no operation
    request_id: str  # a UUID, version 4
    started_at: float | None = None  # of `clock.now()`; None if the host answered before its start
    caller: str | None = None  # as `ECWID_API_KEYS` or `authorize` names them, once authenticated
    customer_id: object = None  # of the path, or of the customer that was created
    idempotency_key: str | None = None
    handler_has_run: bool = False  # from then on the store may have changed
    executed: str | None = None  # as the problem tells it
    problem: str | None = None  # the problem's slug
    status: int | None = None  # of the response, once there is one
    calls: CallCount = field(default_factory=CallCount)  # to Ecwid
    tokens: tuple[Token[RequestContext], Token[CallCount | None]] | None = None


request_var: ContextVar[RequestContext] = ContextVar("flask_ecwid_request")
# Returns the context of the request under way, and raises a LookupError outside of any.
current_request = request_var.get


def enter_request() -> RequestContext:
    """Make the context of Flask's request, which holds until `leave_request`.

    The request's id is the caller's `X-Request-ID` if that is a UUID, version 4, or a new one.
    """
    blueprint, _, endpoint = (request.endpoint or "").rpartition(".")
    mount: Mount = current_app.extensions["ecwid"][blueprint]
    given = request.headers.get("X-Request-ID", "")
    context = RequestContext(
        mount=mount,
        environ=request.environ,
        operation=mount.contract.operations.get(endpoint),
        request_id=given.lower() if _UUID4.fullmatch(given) else str(chance.uuid4()),
    )
    # A request may be made inside of another one, which is under way again afterwards.
    context.tokens = request_var.set(context), call_count.set(context.calls)
    return context


def request_under_way() -> RequestContext:
    """Return the context of Flask's request, and make it if the host answered before its start."""
    context = request_var.get(None)
    if context is None or context.environ is not request.environ:
        return enter_request()
    return context


def leave_request() -> RequestContext:
    """End the context of Flask's request and return it.

    An outer request, if there is one, is under way again.
    """
    context = request_under_way()
    if context.tokens:
        request_var.reset(context.tokens[0])
        call_count.reset(context.tokens[1])
    return context
