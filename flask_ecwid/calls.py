"""What goes to Ecwid and what comes back, pure: arguments -> call, reply -> value or error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import orjson

from . import response_fields
from .errors import (
    DEFAULT_RETRY_AFTER_S,
    BadReply,
    CustomerNotFound,
    EcwidError,
    EcwidFailed,
    EcwidTimedOut,
    EcwidUnavailable,
    EmailTaken,
    InvalidRequest,
    Misfit,
    RateLimited,
    Rejected,
    ServiceRefused,
)

MAX_RETRY_AFTER_S = 3600

_METHODS = {
    "list_customers": "GET",
    "get_customer": "GET",
    "add_customer": "POST",
    "update_customer": "PUT",
    "delete_customer": "DELETE",
}
# `responseFields` leaves out what it does not name, even what our contract requires.
_REQUIRED_FIELDS = {
    "list_customers": "total,count,offset,limit,items(id)",
    "get_customer": "id",
}
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


@dataclass(frozen=True)
class Call:
    """What is asked of Ecwid; `path` is below the store's URL. A repr shows nothing personal."""

    operation: str
    method: str
    path: str
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Reply:
    """What Ecwid answered. The case of a header's name is of no matter, or lower."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


def build_call(
    operation: str,
    customer_id: int | None = None,
    *,
    query: Mapping[str, Any] = _NOTHING,
    body: Mapping[str, Any] | None = None,
) -> Call:
    """The call that an operation makes. Pure.

    Raises:
        InvalidRequest: the id or the `responseFields` are none.
    """
    path = "/customers"
    if customer_id is not None:
        if isinstance(customer_id, bool) or not isinstance(customer_id, int) or customer_id < 1:
            raise InvalidRequest([Misfit("/path/customer_id", "type")])
        path = f"/customers/{customer_id}"
    given = {name: value for name, value in query.items() if value is not None}
    if "responseFields" in given:
        fields = _completed(str(given["responseFields"]), _REQUIRED_FIELDS[operation])
        given["responseFields"] = fields
    return Call(
        operation=operation,
        method=_METHODS[operation],
        path=path,
        query=tuple((name, _written(value)) for name, value in given.items()),
        body=None if body is None else orjson.dumps(dict(body)),
    )


def read_reply(operation: str, reply: Reply) -> dict[str, Any]:
    """The JSON object that Ecwid answered with. Pure.

    Raises:
        BadReply: a good status, but no JSON object.
        Refused: any other status, as the error it stands for.
    """
    value = _parsed(reply.body)
    if not 200 <= reply.status < 300:
        raise _refusal(operation, reply, value)
    if not isinstance(value, dict):
        raise BadReply
    return value


def _refusal(operation: str, reply: Reply, value: Any) -> EcwidError:
    code = value.get("errorCode") if isinstance(value, dict) else None
    code = code if isinstance(code, str) and _CODE.fullmatch(code) else None
    status = reply.status
    retry_after = reply.headers.get("retry-after")
    of_one_customer = operation in ("get_customer", "update_customer", "delete_customer")
    if status in (400, 413, 422):
        return Rejected(status, ecwid_code=code)
    if status == 404 and of_one_customer and code not in ("STORE_NOT_FOUND", "PROFILE_NOT_FOUND"):
        return CustomerNotFound(ecwid_code=code)
    if status == 409 and operation in ("add_customer", "update_customer"):
        return EmailTaken(ecwid_code=code)
    if status == 429:
        return RateLimited(_seconds(retry_after), ecwid_code=code)
    if status == 503 and retry_after is not None:
        return EcwidUnavailable(_seconds(retry_after), ecwid_code=code)
    if status in (408, 504):
        return EcwidTimedOut(ecwid_code=code)
    if status >= 500:
        return EcwidFailed(ecwid_code=code)
    if status < 400:
        return BadReply("Ecwid answered with a redirect, which is not followed.")
    if code == "INSUFFICIENT_APP_SCOPE":
        detail = "This service's token lacks a scope that the operation needs."
        return ServiceRefused(detail, ecwid_code=code)
    return ServiceRefused(_SERVICE_REFUSALS.get(status), ecwid_code=code)


_SERVICE_REFUSALS = {
    402: "Ecwid's API is not available on the store's plan, or the store is suspended.",
    403: "Ecwid does not accept this service's token.",
    404: "Ecwid does not know the store.",
}


def _completed(fields: str, required: str) -> str:
    try:
        return response_fields.complete(fields, required)
    except (ValueError, RecursionError):
        raise InvalidRequest([Misfit("/query/responseFields", "pattern")]) from None


def _written(value: object) -> str:
    """A value as Ecwid reads it in a query: lists with commas, numbers without an exponent."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{Decimal(repr(value)).normalize():f}"
    if isinstance(value, (list, tuple)):
        return ",".join(_written(item) for item in value)
    return str(value)


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _seconds(retry_after: str | None) -> int:
    """Whole seconds, as Ecwid's own client reads them; anything else is the default."""
    if retry_after is None or not re.fullmatch(r"[0-9]{1,9}", retry_after.strip()):
        return DEFAULT_RETRY_AFTER_S
    return min(int(retry_after), MAX_RETRY_AFTER_S)
