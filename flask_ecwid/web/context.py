"""The context of a request, with its id, its caller and its progress."""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flask import Request, current_app, request

from .. import chance
from ..signals import CallCount

if TYPE_CHECKING:
    from ..contract.operation import Operation
    from .mount import Mount, StoreRuntime


_UUID4 = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE
)


@dataclass(slots=True)
class RequestContext:
    """The context of one request below a mount, without any data of a customer but the id."""

    mount: Mount
    endpoint: str  # Flask's name for the route, without the name of the mount
    operation: Operation | None  # None for any other path below the mount
    request_id: str  # a UUID, version 4
    started_at: float | None = None  # a value of `clock.now()`, or None before `before_request`
    caller: str | None = None  # the name of the caller, or None before the authentication
    store_id: str | None = None  # the number of the store, or None before the store was chosen
    store: StoreRuntime | None = None  # the store of the request
    customer_id: object = None  # the id in the path, or the id of the new customer
    idempotency_key: str | None = None
    event: str | None = None  # the type of a webhook event that has an effect
    handler_has_run: bool = False  # True if the store may have changed
    replayed: bool = False  # True if an earlier request with the idempotency key had the outcome
    executed: str | None = None  # the member `executed` of the problem, if there is a problem
    problem: str | None = None  # the slug of the problem
    reason: str | None = None  # the thing that Ecwid refused, if Ecwid refused this service
    places: str = ""  # the places that violate the contract
    status: int | None = None  # the status of the response
    calls: CallCount = field(default_factory=CallCount)  # the calls to Ecwid
    has_ended: bool = False  # True if `operation_finished` was sent


# The key of the context in Flask's WSGI environ. A request inside of another request has an environ
# of its own. A copy of Flask's request context shares the environ.
CONTEXT = "flask_ecwid.context"
# Set while a handler runs, so that a handler needs no Flask in a unit test.
request_var: ContextVar[RequestContext] = ContextVar("flask_ecwid_request")
# Returns the context of the request whose handler runs, and raises a LookupError elsewhere.
current_request = request_var.get


def flask_request() -> Request:
    """Return the request that Flask's proxy `request` stands for.

    The proxy searches for the request at each use, which costs more than most answers.
    """
    found: Request = request._get_current_object()  # type: ignore[attr-defined]
    return found


def begin_request(http: Request) -> RequestContext:
    """Make the context of a request of Flask and return it.

    The request's id is the caller's `X-Request-ID`, or a new id if that is not a UUID of version 4.
    """
    blueprint, _, endpoint = (http.endpoint or "").rpartition(".")
    mount: Mount = current_app.extensions["ecwid"][blueprint]
    sent_id = http.headers.get("X-Request-ID", "")
    context = http.environ[CONTEXT] = RequestContext(
        mount=mount,
        endpoint=endpoint,
        operation=mount.contract.operations.get(endpoint),
        request_id=sent_id.lower() if _UUID4.fullmatch(sent_id) else str(chance.uuid4()),
        store_id=mount.choice.only.store_id if mount.choice.only else None,
    )
    return context


def request_under_way() -> RequestContext:
    """Return the context of Flask's request.

    If a hook of the host made the response early, `before_request` did not run and the context is
    made here.
    """
    http = flask_request()
    return http.environ.get(CONTEXT) or begin_request(http)
