"""The context of a request: its id, its caller, and how far it has come."""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .. import chance
from ..signals import CallCount, count_calls_in

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
    outer: RequestContext | None = None  # of the request in which this one was made, if any


_current: ContextVar[RequestContext | None] = ContextVar("flask_ecwid_request", default=None)


def find_request() -> RequestContext | None:
    """Return the context of the request under way, or None outside of a request."""
    return _current.get()


def current_request() -> RequestContext:
    """Return the context of the request under way.

    Raises:
        LookupError: There is no request below a mount under way.
    """
    context = _current.get()
    if context is None:
        raise LookupError("no request below an Ecwid mount is under way")
    return context


def enter(context: RequestContext) -> None:
    """Make this the context of the request under way, until `leave`."""
    context.outer = _current.get()
    _current.set(context)
    count_calls_in(context.calls)


def leave(context: RequestContext) -> None:
    """Make the outer request, if there is one, the request under way again."""
    _current.set(context.outer)
    count_calls_in(context.outer.calls if context.outer else None)


def request_id_of(given: str) -> str:
    """Return the caller's `X-Request-ID` if it is a UUID, version 4, and a new one otherwise."""
    return given.lower() if _UUID4.fullmatch(given) else chance.uuid4()
