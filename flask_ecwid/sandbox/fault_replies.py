"""The reply that a call gets when a fault is injected into the call. The module is pure."""

from __future__ import annotations

import gzip
from functools import cache
from typing import Any

import orjson
from flask import Response

from .faults import BELOW_HTTP, Fault
from .wire import MARK, mark

_SHAPES: dict[str, dict[str, Any]] = {
    "list_customers": {"total": "x", "items": 7},
    "get_customer": {"id": "x"},
    "add_customer": {"id": "x"},
    "update_customer": {"updateCount": "x"},
    "delete_customer": {"deleteCount": "x"},
    "list_deleted": {"total": "x", "items": 7},
}


def faulty_reply(fault: Fault, operation: str, good: Response | None) -> Response:
    """Return the reply to a call of the operation when this fault is injected.

    Args:
        fault: the fault to inject.
        operation: the name of the operation that was called.
        good: the reply without the fault, if the store has executed the call.
    """
    if fault.kind in BELOW_HTTP:
        response = good or Response(b"{}", 200, content_type="application/json")
        response.headers[MARK] = mark(fault)
        return response
    if fault.kind == "latency":
        assert good is not None
        return good
    if fault.kind == "bomb":
        headers = {"Content-Encoding": "gzip"}
        return Response(_bomb(fault.size), 200, headers, content_type="application/json")
    if fault.kind == "html":
        page = "<html><h1>Maintenance</h1></html>"
        return Response(page, fault.status or 200, content_type="text/html")
    if fault.kind == "shape":
        return _json(_SHAPES[operation], 200)
    if fault.kind == "redirect":
        return Response(b"", fault.status or 302, {"Location": fault.location})
    status = fault.status or 500
    if fault.empty:
        response = Response(b"", status)
    else:
        response = _json({"errorCode": fault.code, "errorMessage": "Injected fault"}, status)
    if fault.retry_after is not None:
        response.headers["Retry-After"] = str(fault.retry_after)
    return response


def _json(document: dict[str, Any], status: int) -> Response:
    named = {name: value for name, value in document.items() if value is not None}
    return Response(orjson.dumps(named), status, content_type="application/json; charset=utf-8")


@cache
def _bomb(size: int) -> bytes:
    return gzip.compress(b'{"x":"' + b" " * size + b'"}')
