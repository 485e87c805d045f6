"""The sandbox's HTTP interface, which is Ecwid's API for customers at `/api/v3/<store_id>`.

The app records every call in the ledger, and injects faults into calls (controls.py). The paths
below `/admin` set faults and switches over HTTP, and accept requests from this host only. The
letters in comments, for example D26, name the sources that `sandbox/__init__.py` lists.
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

from . import oauth, seed
from .controls import Controls
from .documents import Document, settable
from .errors import CustomerNotFound, EmailTaken, WrongParameter
from .fault_replies import faulty_reply
from .faults import OPERATIONS, Fault
from .search import read_search
from .selection import read_selection, selected
from .store import Store
from .wire import SocketFaults

STORE_ID = "1003"  # the store in the examples of Ecwid's documents
TOKEN = "secret_thisIsNoSecretItOpensTheSandbox0"
ALL_SCOPES = frozenset({"read_customers", "create_customers", "update_customers"})

# D26 says this. R24 asked for update_customers only. Ecwid has no scope delete_customers.
_SCOPES = {
    "list_customers": ("read_customers",),
    "get_customer": ("read_customers",),
    "add_customer": ("create_customers",),
    "update_customer": ("read_customers", "update_customers"),
    "delete_customer": ("read_customers", "update_customers"),
}
# Errors outside of any operation have these codes and messages, by D26's table and by F.
_FAILURES = {
    404: (None, "File not found"),
    405: ("METHOD_NOT_ALLOWED", "Method not allowed"),
    415: (None, "Unsupported content-type: expected either application/json or text/json"),
    500: ("INTERNAL_ERROR", "Internal error"),
}


@dataclass(frozen=True)
class _Sandbox:
    store: Store
    controls: Controls
    store_id: str
    tokens: Mapping[str, Collection[str]]


class _CustomerId(IntegerConverter):
    """Matches digits that fit SQLite's 64 bits. The API has no path with any other id."""

    regex = "[0-9]{1,18}"


def create_sandbox(
    path: str | os.PathLike[str],
    *,
    store_id: str = STORE_ID,
    tokens: Mapping[str, Collection[str]] | None = None,
    customers: int = 0,
    **switches: Any,
) -> Flask:
    """Return a Flask app that behaves as Ecwid does for one store.

    Args:
        path: the SQLite file of the store. A new file gets the four customers of the seed. Several
            processes may open the same file at the same time.
        store_id: the number of the store in the URL.
        tokens: the scopes of each token. Without it, `TOKEN` has all scopes.
        customers: the number of generated customers that a new file gets in addition.
        switches: the members of `Switches` to set.

    Raises:
        ValueError: another version of the sandbox wrote the file, or an argument is invalid. The
            message names the choices and the value.
        sqlite3.Error: the file cannot be opened, or is not a SQLite file.
        OSError: the file cannot be created, or another user may have made the file.
    """
    for scope in (scope for scopes in (tokens or {}).values() for scope in scopes):
        if scope not in ALL_SCOPES:
            known = ", ".join(sorted(ALL_SCOPES))
            raise ValueError(f"The scopes of a token must be some of {known}; got {scope!r}")
    generated = seed.customers(customers)
    store = Store(path)
    store.fill(lambda: generated)
    app = Flask(__name__, static_folder=None)
    tokens = {TOKEN: ALL_SCOPES} if tokens is None else tokens
    controls = Controls(path)
    if switches:
        controls.switch(**switches)
    app.extensions["sandbox"] = _Sandbox(store, controls, store_id, tokens)
    app.url_map.merge_slashes = False  # Ecwid redirects no path with `//`.
    app.url_map.converters["customer_id"] = _CustomerId
    app.before_request(_begin)
    app.before_request(_admit)
    app.after_request(_end)
    app.wsgi_app = SocketFaults(app.wsgi_app)  # type: ignore[method-assign]
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
    token, scopes = next(iter(tokens.items()), ("", frozenset()))
    oauth.add_routes(app, store_id, lambda id: (token, scopes) if id == store_id else None)
    app.add_url_rule("/admin/faults", view_func=_admin_faults, methods=["GET", "POST", "DELETE"])
    app.add_url_rule("/admin/switches", view_func=_admin_switches, methods=["GET", "PATCH"])
    app.add_url_rule("/admin/ledger", view_func=_admin_ledger, methods=["GET", "DELETE"])
    return app


def list_customers() -> Response:
    """Return a page of the customers that match."""
    search = read_search(request.args)
    return _selection(_sandbox().store.list_customers(search))


def get_customer(customer_id: int) -> Response:
    """Return one customer."""
    return _selection(_sandbox().store.get_customer(customer_id))


def add_customer() -> Response:
    """Create a customer and return the id."""
    return _reply({"id": _sandbox().store.add_customer(_body())})


def update_customer(customer_id: int) -> Response:
    """Change the members of a customer that the body names."""
    _sandbox().store.update_customer(customer_id, _body())
    return _reply({"updateCount": 1})


def delete_customer(customer_id: int) -> Response:
    """Delete a customer."""
    _sandbox().store.delete_customer(customer_id)
    return _reply({"deleteCount": 1})


def _begin() -> Response | None:
    """Choose the fault for this call, and reply at once if the fault prevents the call."""
    operation = str(request.endpoint)
    if operation not in OPERATIONS:
        return None
    g.begun = time.time()
    g.fault = fault = _sandbox().controls.next_fault(operation)
    if fault is None or fault.executes_call:
        if fault and fault.kind == "latency" and not fault.after:
            time.sleep(fault.seconds)
        return None
    return faulty_reply(fault, operation, None)


def _end(response: Response) -> Response:
    """Inject the fault into the reply of an executed call, and record the call in the ledger."""
    operation = str(request.endpoint)
    if operation not in OPERATIONS:
        return response
    fault: Fault | None = g.fault
    done = response.status_code == 200 and (fault is None or fault.executes_call)
    customer_id = (request.view_args or {}).get("customer_id")
    if done and operation == "add_customer":
        customer_id = orjson.loads(response.get_data())["id"]
    if fault and fault.executes_call:
        if fault.kind == "latency" and fault.after:
            time.sleep(fault.seconds)
        response = faulty_reply(fault, operation, response)
    sandbox = _sandbox()
    sandbox.controls.record(
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
    """Check the store, the token and its scopes, and return an error reply, or None to go on.

    Flask calls this before the view reads the body. The store is checked first, because the live
    API tells anybody that a store does not exist (W). The token counts only in its header,
    because Ecwid has switched off tokens in the URL (D26, 2025-03-20).
    """
    if request.view_args is None:
        return None  # the path or method is unknown, so Flask replies next
    if str(request.endpoint) not in OPERATIONS:
        return None if _is_of_this_host() else _error(403, None, "Only this host may use /admin")
    sandbox = _sandbox()
    if request.view_args.pop("store_id") != sandbox.store_id:
        return _error(404, "STORE_NOT_FOUND", "Store not found")
    token = _token()
    known = token in sandbox.tokens
    if wait_s := sandbox.controls.rate_limit_wait_s(token, known):
        response = _error(429, "RATE_LIMITED", "Too many requests")
        response.headers["Retry-After"] = str(wait_s)
        return response
    if token is None or not known:
        return _empty(403)
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
    controls = _sandbox().controls
    if request.method == "DELETE":
        controls.clear_faults()
    if request.method == "POST":
        given = _admin_body()
        try:
            controls.inject(*(Fault.from_json(each) for each in _listed(given)))
        except (ValueError, TypeError) as exc:
            return _error(400, None, str(exc))
    return _reply([fault.to_json() for fault in controls.faults()])


def _admin_switches() -> Response:
    controls = _sandbox().controls
    if request.method == "PATCH":
        given = _admin_body()
        try:
            controls.switch(**given if isinstance(given, dict) else {"": 0})
        except (ValueError, TypeError) as exc:
            return _error(400, None, str(exc))
    return _reply(controls.switches()._asdict())


def _admin_ledger() -> Response:
    controls = _sandbox().controls
    if request.method == "DELETE":
        controls.clear_ledger()
    return _reply([entry._asdict() for entry in controls.ledger()])


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
    """Return the members of the body that a caller can set.

    A request without a content type counts as JSON (F).
    """
    if request.mimetype not in ("", "application/json", "text/json"):
        abort(415)
    try:
        return settable(orjson.loads(request.get_data()))
    except orjson.JSONDecodeError:
        raise WrongParameter("Wrong JSON format: it cannot be parsed") from None


def _selection(document: Document) -> Response:
    fields = request.args.get("responseFields")
    return _reply(document if fields is None else selected(document, read_selection(fields)))


def _reply(document: Any, status: int = 200) -> Response:
    content_type = "application/json; charset=utf-8"
    return Response(orjson.dumps(document), status, content_type=content_type)


def _error(status: int, code: str | None, message: str) -> Response:
    """Return an error with Ecwid's body. Without a documented code, the body has no code."""
    named = {} if code is None else {"errorCode": code}
    return _uncached(_reply({**named, "errorMessage": message}, status))


def _empty(status: int) -> Response:
    """Return a status without a body, as the live API does for a missing or false token (W)."""
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
    """Return Ecwid's reply for an error that Flask found, or for a bug of the sandbox."""
    status = exc.code or 500
    response = _error(status, *_FAILURES.get(status, (None, exc.name)))
    if allow := exc.get_response().headers.get("Allow"):
        response.headers["Allow"] = allow
    return response
