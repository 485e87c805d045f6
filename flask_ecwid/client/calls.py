"""What goes to Ecwid and what comes back, pure: arguments -> call, reply -> value or error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import orjson

from ..errors import InvalidRequest, Misfit, NotJson
from . import fields, replies

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
        selection = _completed(str(given["responseFields"]), _REQUIRED_FIELDS[operation])
        given["responseFields"] = selection
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
        NotJson: a good status, but no JSON object.
        EcwidError: any other status, as the error it stands for.
    """
    value = _parsed(reply.body)
    if not 200 <= reply.status < 300:
        code = value.get("errorCode") if isinstance(value, dict) else None
        raise replies.of_refusal(
            operation,
            reply.status,
            code if isinstance(code, str) and _CODE.fullmatch(code) else None,
            reply.headers.get("retry-after"),
            body="object" if isinstance(value, dict) else "other" if reply.body else "none",
        )
    if not isinstance(value, dict):
        raise NotJson
    return value


def _completed(selection: str, required: str) -> str:
    try:
        return fields.complete(selection, required)
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
