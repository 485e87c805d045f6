"""The sandbox's HTTP face: Ecwid's API for customers, below `/api/v3/<store_id>`.

Every call goes into the ledger, and a fault that was ordered may befall it (orders.py). What is
ordered over HTTP is below `/admin`, for this host alone.
"""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from flask import Flask, Response, abort, current_app, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import IntegerConverter

from . import seed
from .documents import Document, writable
from .errors import CustomerNotFound, EmailTaken, WrongParameter
from .faults import OPERATIONS, Fault
from .misbehaving import befallen
from .orders import Orders
from .search import read_search
from .selection import read_selection, selected
from .store import Store
from .wire import OnTheSocket

STORE_ID = "1003"  # of the store in Ecwid's documents
TOKEN = "secret_thisIsNoSecretItOpensTheSandbox0"
ALL_SCOPES = frozenset({"read_customers", "create_customers", "update_customers"})

# By D26. R24 asked for update_customers alone; there is no delete_customers.
_SCOPES = {
    "list_customers": ("read_customers",),
    "get_customer": ("read_customers",),
    "add_customer": ("create_customers",),
    "update_customer": ("read_customers", "update_customers"),
    "delete_customer": ("read_customers", "update_customers"),
}
# What D26's table and the framework (F) say of the failures that belong to no operation.
_FAILURES = {
    404: (None, "File not found"),
    405: ("METHOD_NOT_ALLOWED", "Method not allowed"),
    415: (None, "Unsupported content-type: expected either application/json or text/json"),
    500: ("INTERNAL_ERROR", "Internal error"),
}


@dataclass(frozen=True)
class _Sandbox:
    store: Store
    orders: Orders
    store_id: str
    tokens: Mapping[str, Collection[str]]


class _CustomerId(IntegerConverter):
    """Digits that fit SQLite's 64 bits; any other path is none of the API's."""

    regex = "[0-9]{1,18}"


def create_sandbox(
    path: str | os.PathLike[str],
    *,
    store_id: str = STORE_ID,
    tokens: Mapping[str, Collection[str]] | None = None,
    customers: int = 0,
    **switches: Any,
) -> Flask:
    """An app that answers as Ecwid would for one store.

    `path` is its SQLite file; where there is none it is made, with the seed's four customers and
    as many generated ones as `customers` says. Any number of processes may open the same file, at
    the same time. `tokens` maps each token to its scopes; `switches` are those of `Switches`.

    Raises:
        ValueError: the file is of another version of the sandbox; there is no such switch.
        sqlite3.Error: the file cannot be opened, or is no SQLite file.
    """
    store = Store(path)
    store.fill(lambda: seed.customers(customers))
    app = Flask(__name__, static_folder=None)
    tokens = {TOKEN: ALL_SCOPES} if tokens is None else tokens
    orders = Orders(path)
    if switches:
        orders.switch(**switches)
    app.extensions["sandbox"] = _Sandbox(store, orders, store_id, tokens)
    app.url_map.merge_slashes = False  # Ecwid does not redirect
    app.url_map.converters["customer_id"] = _CustomerId
    app.before_request(_begin)
    app.before_request(_admit)
    app.after_request(_end)
    app.wsgi_app = OnTheSocket(app.wsgi_app)  # type: ignore[method-assign]
    app.register_error_handler(WrongParameter, _wrong_parameter)
    app.register_error_handler(CustomerNotFound, _customer_not_found)
    app.register_error_handler(EmailTaken, _email_taken)
    app.register_error_handler(HTTPException, _failed)
    all_customers = "/api/v3/<store_id>/customers"
    one_customer = f"{all_customers}/<customer_id:customer_id>"
    app.get(all_customers)(list_customers)
    app.post(all_customers)(add_customer)
    app.get(one_customer)(get_customer)
    app.put(one_customer)(update_customer)
    app.delete(one_customer)(delete_customer)
    app.add_url_rule("/admin/faults", view_func=_admin_faults, methods=["GET", "POST", "DELETE"])
    app.add_url_rule("/admin/switches", view_func=_admin_switches, methods=["GET", "PATCH"])
    app.add_url_rule("/admin/ledger", view_func=_admin_ledger, methods=["GET", "DELETE"])
    return app


def list_customers() -> Response:
    search = read_search(request.args)
    return _selection(_sandbox().store.list_customers(search))


def get_customer(customer_id: int) -> Response:
    return _selection(_sandbox().store.get_customer(customer_id))


def add_customer() -> Response:
    return _reply({"id": _sandbox().store.add_customer(_body())})


def update_customer(customer_id: int) -> Response:
    _sandbox().store.update_customer(customer_id, _body())
    return _reply({"updateCount": 1})


def delete_customer(customer_id: int) -> Response:
    _sandbox().store.delete_customer(customer_id)
    return _reply({"deleteCount": 1})


def _begin() -> Response | None:
    """A call comes in: what befalls it, unless its work must be done first."""
    operation = str(request.endpoint)
    if operation not in OPERATIONS:
        return None
    g.begun = time.time()
    g.fault = fault = _sandbox().orders.befalling(operation)
    if fault is None or fault.needs_work:
        if fault and fault.kind == "latency" and not fault.after:
            time.sleep(fault.seconds)
        return None
    return befallen(fault, operation, None)


def _end(response: Response) -> Response:
    """What befalls a call whose work is done; and its entry in the ledger."""
    operation = str(request.endpoint)
    if operation not in OPERATIONS:
        return response
    fault: Fault | None = g.fault
    done = response.status_code == 200 and (fault is None or fault.needs_work)
    customer_id = (request.view_args or {}).get("customer_id")
    if done and operation == "add_customer":
        customer_id = orjson.loads(response.get_data())["id"]
    if fault and fault.needs_work:
        if fault.kind == "latency" and fault.after:
            time.sleep(fault.seconds)
        response = befallen(fault, operation, response)
    sandbox = _sandbox()
    sandbox.orders.note(
        g.begun,
        operation,
        customer_id,
        response.status_code,
        fault.kind if fault else None,
        done,
        _email() if operation == "add_customer" else None,
        _token() in sandbox.tokens,
    )
    return response


def _email() -> str | None:
    try:
        email = orjson.loads(request.get_data())["email"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return email if isinstance(email, str) else None


def _admit() -> Response | None:
    """Every request comes by here, before its body is read; a reply from here is the end of it.

    The store comes first: the live API tells anyone that there is none of this id (W). The token
    counts in its header only: in the URL it has been switched off (D26, 2025-03-20).
    """
    if request.view_args is None:
        return None  # no such path or method; Flask says so next
    if str(request.endpoint) not in OPERATIONS:
        return None if _is_of_this_host() else _error(403, None, "Only for this host")
    sandbox = _sandbox()
    if request.view_args.pop("store_id") != sandbox.store_id:
        return _error(404, "STORE_NOT_FOUND", "Store not found")
    token = _token()
    known = token in sandbox.tokens
    if wait_s := sandbox.orders.too_many(token, known):
        response = _error(429, "RATE_LIMITED", "Too many requests")
        response.headers["Retry-After"] = str(wait_s)
        return response
    if token is None or not known:
        return _nothing(403)
    needed = _SCOPES[str(request.endpoint)]
    if missing := [scope for scope in needed if scope not in sandbox.tokens[token]]:
        message = f"The token lacks a scope: {', '.join(missing)}"
        return _error(403, "INSUFFICIENT_APP_SCOPE", message)
    return None


def _token() -> str | None:
    bearer = request.authorization
    return bearer.token if bearer and bearer.type == "bearer" else None


def _is_of_this_host() -> bool:
    try:
        return ipaddress.ip_address(request.remote_addr or "").is_loopback
    except ValueError:
        return False


def _admin_faults() -> Response:
    orders = _sandbox().orders
    if request.method == "DELETE":
        orders.clear()
    if request.method == "POST":
        given = _admin_body()
        try:
            orders.order(*(Fault.read(each) for each in _listed(given)))
        except (ValueError, TypeError) as exc:
            return _error(400, None, str(exc))
    return _reply([fault.written() for fault in orders.faults()])


def _admin_switches() -> Response:
    orders = _sandbox().orders
    if request.method == "PATCH":
        given = _admin_body()
        try:
            orders.switch(**given if isinstance(given, dict) else {"": 0})
        except (ValueError, TypeError) as exc:
            return _error(400, None, str(exc))
    return _reply(orders.switches()._asdict())


def _admin_ledger() -> Response:
    orders = _sandbox().orders
    if request.method == "DELETE":
        orders.clear_ledger()
    return _reply([entry._asdict() for entry in orders.ledger()])


def _admin_body() -> Any:
    try:
        return orjson.loads(request.get_data())
    except orjson.JSONDecodeError:
        return None


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _sandbox() -> _Sandbox:
    sandbox: _Sandbox = current_app.extensions["sandbox"]
    return sandbox


def _body() -> Document:
    """What the request's body may set. No content type is as good as JSON's (F)."""
    if request.mimetype not in ("", "application/json", "text/json"):
        abort(415)
    try:
        return writable(orjson.loads(request.get_data()))
    except orjson.JSONDecodeError:
        raise WrongParameter("Wrong JSON format: it cannot be parsed") from None


def _selection(document: Document) -> Response:
    fields = request.args.get("responseFields")
    return _reply(document if fields is None else selected(document, read_selection(fields)))


def _reply(document: Any, status: int = 200) -> Response:
    content_type = "application/json; charset=utf-8"
    return Response(orjson.dumps(document), status, content_type=content_type)


def _error(status: int, code: str | None, message: str) -> Response:
    """Ecwid's body of an error; where no document says its code, there is none."""
    named = {} if code is None else {"errorCode": code}
    return _uncached(_reply({**named, "errorMessage": message}, status))


def _nothing(status: int) -> Response:
    """A status without a body, as the live API refuses a missing or false token (W)."""
    response = Response(b"", status)
    del response.headers["Content-Type"]
    return _uncached(response)


def _uncached(response: Response) -> Response:
    response.headers["Cache-Control"] = "must-revalidate,no-cache,no-store"
    return response


def _wrong_parameter(exc: WrongParameter) -> Response:
    return _error(400, "WRONG_PARAMETER", str(exc))


def _customer_not_found(exc: CustomerNotFound) -> Response:
    return _error(404, None, f"Customer #{exc.args[0]} not found")


def _email_taken(exc: EmailTaken) -> Response:
    return _error(409, None, "Customer with the given email already exists")


def _failed(exc: HTTPException) -> Response:
    """What Flask found wrong, a defect of ours included; that one it has logged."""
    status = exc.code or 500
    response = _error(status, *_FAILURES.get(status, (None, exc.name)))
    if allow := exc.get_response().headers.get("Allow"):
        response.headers["Allow"] = allow
    return response
