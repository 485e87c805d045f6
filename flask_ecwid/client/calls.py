"""Build the call of an operation from its arguments. Pure, without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import orjson

from ..errors import InvalidRequest, Violation
from . import dates, fields
from .operations import OPERATIONS, EcwidOperation

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_DATES = frozenset({"createdFrom", "createdTo", "updatedFrom", "updatedTo", "from_date", "to_date"})
_LISTS = frozenset({"customerGroupIds", "purchasedProductIds", "countryCodes"})


@dataclass(frozen=True)
class Call:
    """A call of Ecwid's API. Its repr shows nothing personal."""

    operation: EcwidOperation
    path: str  # below the URL of the store
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes | None = field(default=None, repr=False)
    bulk: bool = False  # A page keeps the customers that violate the contract.
    fresh: bool = False  # The call takes no connection that the way may have forgotten.


def build_call(
    name: str,
    customer_id: int | None = None,
    *,
    query: Mapping[str, Any] = _NOTHING,
    body: Mapping[str, Any] | None = None,
) -> Call:
    """Return the call that an operation makes.

    Args:
        name: The operation's name in `OPERATIONS`.
        customer_id: The customer that the call is about, for an operation about one customer.
        query: Ecwid's query parameters. A parameter that is None is left out.
        body: The members of a customer.

    Raises:
        InvalidRequest: The id is not a positive integer, or `responseFields` is not in Ecwid's
            syntax.
        TypeError: The body holds a value that JSON does not have.
    """
    operation = OPERATIONS[name]
    path = operation.path
    if "{customer_id}" in path:
        if isinstance(customer_id, bool) or not isinstance(customer_id, int) or customer_id < 1:
            raise InvalidRequest([Violation("/path/customer_id", "type")])
        path = path.format(customer_id=customer_id)
    given = {name: value for name, value in query.items() if value is not None}
    if "responseFields" in given:
        given["responseFields"] = _completed(
            str(given["responseFields"]), operation.required_fields
        )
    return Call(
        operation,
        path,
        query=tuple([(name, _query_value(name, value)) for name, value in given.items()]),
        body=None if body is None else orjson.dumps(dict(body)),
    )


def neutral_call() -> Call:
    """Return the neutral question, which is a small call without any value of a caller.

    Its reply tells whether Ecwid serves this service at all. Without the fields, a first customer
    whose data is too large would fail the call. The call is not repeated, so a connection that was
    lost during a pause would cost a request.
    """
    query = {"offset": 0, "limit": 1, "responseFields": "total"}
    return replace(build_call("list_customers", query=query), fresh=True)


def _completed(selection: str, required: str) -> str:
    try:
        return fields.complete(selection, required)
    except (ValueError, RecursionError):
        raise InvalidRequest([Violation("/query/responseFields", "pattern")]) from None


def _query_value(name: str, value: object) -> str:
    """Return the value of a parameter as Ecwid expects it in a query.

    Ecwid expects dates in its own forms, lists with commas and without blanks, and numbers without
    an exponent. https://docs.ecwid.com/api-reference/rest-api/customers/search-customers
    """
    if name in _DATES:
        return dates.to_ecwids_form(value)
    if isinstance(value, (list, tuple)):
        return ",".join([_query_value(name, item) for item in value])
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{Decimal(repr(value)).normalize():f}"
    text = str(value)
    return ",".join([item.strip() for item in text.split(",")]) if name in _LISTS else text
