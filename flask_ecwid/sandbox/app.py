"""The sandbox's HTTP interface, which is Ecwid's API for customers at `/api/v3/<store_id>`.

The app records every call in the ledger of the store, and injects faults into calls (controls.py).
The paths below `/admin` (admin.py) accept requests from this host only. The letters in comments,
for example D26, name the sources that `sandbox/__init__.py` lists.
"""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Collection, Mapping
from typing import Any

import orjson
from flask import Flask, Response, abort, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import IntegerConverter

from . import admin, oauth, seed
from .controls import Controls
from .deliveries import SENDER, Deliveries, sender
from .documents import Document, settable
from .errors import CustomerNotFound, EmailTaken, WrongParameter
from .events import CHANGES
from .fault_replies import faulty_reply
from .faults import OPERATIONS, Fault
from .search import read_deletions, read_search
from .selection import read_selection, selected
from .store import Store
from .stores import STORES, Stores, served_stores
from .tokens import ALL_SCOPES, STORE_ID, TOKEN, check_scopes, token_of
from .wire import SocketFaults

# D26 says this. R24 asked for update_customers only. Ecwid has no scope delete_customers.
_SCOPES = {
    "list_customers": ("read_customers",),
    "get_customer": ("read_customers",),
    "add_customer": ("create_customers",),
    "update_customer": ("read_customers", "update_customers"),
    "delete_customer": ("read_customers", "update_customers"),
    "list_deleted": ("read_store_profile",),
}
# Errors outside of any operation have these codes and messages, by D26's table and by F.
_FAILURES = {
    404: (None, "File not found"),
    405: ("METHOD_NOT_ALLOWED", "Method not allowed"),
    415: (None, "Unsupported content-type: expected either application/json or text/json"),
    500: ("INTERNAL_ERROR", "Internal error"),
}


class _CustomerId(IntegerConverter):
    """Matches digits that fit SQLite's 64 bits. The API has no path with any other id."""

    regex = "[0-9]{1,18}"


def create_sandbox(
    path: str | os.PathLike[str],
    *,
    store_id: str = STORE_ID,
    tokens: Mapping[str, Collection[str]] | None = None,
    stores: Collection[str] = (),
    accept_new_stores: bool = False,
    customers: int = 0,
    deliveries: Deliveries | None = None,
    **switches: Any,
) -> Flask:
    """Return a Flask app that behaves as Ecwid does for one store or several.

    Each call names its store in the URL. An unknown store is a 404, as at Ecwid.

    Args:
        path: the SQLite file of the default store. A new file gets the four customers of the seed.
            Further stores have files beside this file. Several processes may open the same file at
            the same time.
        store_id: the number of the default store.
        tokens: the scopes of each token of the default store. Without it, `TOKEN` opens a new store
            with all scopes, and an existing store keeps its tokens.
        stores: the numbers of further stores. `token_of` returns the token of a new store.
        accept_new_stores: whether a new file accepts every store id. The first token that is used
            for a new id is the token of that store from then on. Without `tokens`, the default
            store accepts the first other token beside `TOKEN`. An existing file keeps its rule.
        customers: the number of generated customers that a new store gets in addition.
        deliveries: sends the events of all stores. Without it, the stores only keep their events.
        switches: the members of `Switches` to set in each of these stores.

    Raises:
        ValueError: another version of the sandbox wrote the file, or an argument is invalid. The
            message names the choices and the value.
        sqlite3.Error: the file cannot be opened, or is not a SQLite file.
        OSError: the file cannot be created, or another user may have made the file.
    """
    # A wrong argument is an error before there is a file.
    check_scopes(tokens or {})
    seed.customers(customers)
    all_stores = Stores(path, store_id, lambda: seed.customers(customers), switches)
    all_stores.fill(
        {TOKEN: ALL_SCOPES} if tokens is None else tokens, accept_new_stores=accept_new_stores
    )
    if tokens is not None:
        all_stores.controls.set_tokens(tokens)
    for each in stores:
        all_stores.add(each, {token_of(each): ALL_SCOPES})
    app = Flask(__name__, static_folder=None)
    app.extensions[STORES] = all_stores
    app.extensions[SENDER] = deliveries
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
    app.get(f"{all_customers}/deleted")(list_deleted)
    app.get(one_customer)(get_customer)
    app.put(one_customer)(update_customer)
    app.delete(one_customer)(delete_customer)
    admin.add_routes(app)

    def grant(id: str) -> tuple[str, Collection[str]] | None:
        if tokens and id == store_id:
            return next(iter(tokens.items()))
        return (token_of(id), ALL_SCOPES) if all_stores.find(id) else None

    oauth.add_routes(app, store_id, grant)
    if deliveries:
        for opened in all_stores.opened():
            deliveries.notice(opened.outbox)  # An earlier process may have left events behind.
    return app


def list_customers() -> Response:
    """Return a page of the customers that match."""
    search = read_search(request.args)
    return _selection(_store().list_customers(search))


def get_customer(customer_id: int) -> Response:
    """Return one customer."""
    return _selection(_store().get_customer(customer_id))


def add_customer() -> Response:
    """Create a customer and return the id."""
    return _reply({"id": _store().add_customer(_body())})


def update_customer(customer_id: int) -> Response:
    """Change the members of a customer that the body names."""
    _store().update_customer(customer_id, _body())
    return _reply({"updateCount": 1})


def delete_customer(customer_id: int) -> Response:
    """Delete a customer."""
    _store().delete_customer(customer_id)
    return _reply({"deleteCount": 1})


def list_deleted() -> Response:
    """Return a page of the customers that were deleted in the last six months."""
    return _reply(_store().list_deleted(read_deletions(request.args)))


def _begin() -> Response | None:
    """Find the store, choose the fault for this call, and reply at once if it prevents the call.

    The live API tells anybody that a store does not exist (W). A call of an unknown store leaves no
    trace, because each ledger belongs to one store.
    """
    operation = str(request.endpoint)
    if operation not in OPERATIONS or request.view_args is None:
        return None
    found = served_stores().accept(request.view_args.pop("store_id"), _token())
    if found is None:
        return _error(404, "STORE_NOT_FOUND", "Store not found")
    g.store, g.controls, g.outbox = found
    g.begun = time.time()
    g.fault = fault = found.controls.next_fault(operation)
    if fault is None or fault.executes_call:
        if fault and fault.kind == "latency" and not fault.after:
            time.sleep(fault.seconds)
        return None
    g.knows_token = found.controls.knows(_token())
    return faulty_reply(fault, operation, None)


def _end(response: Response) -> Response:
    """Inject the fault into the reply of an executed call, and record the call in the ledger."""
    if "store" not in g:
        return response  # the path, the method or the store is unknown
    operation = str(request.endpoint)
    fault: Fault | None = g.fault
    done = response.status_code == 200 and (fault is None or fault.executes_call)
    if done and operation in CHANGES and (deliveries := sender()):
        deliveries.notice(g.outbox)
    customer_id = (request.view_args or {}).get("customer_id")
    if done and operation == "add_customer":
        customer_id = orjson.loads(response.get_data())["id"]
    if fault and fault.executes_call:
        if fault.kind == "latency" and fault.after:
            time.sleep(fault.seconds)
        response = faulty_reply(fault, operation, response)
    _controls().record(
        g.begun,
        operation,
        customer_id,
        response.status_code,
        fault.kind if fault else None,
        done,
        _email() if operation == "add_customer" else None,
        g.knows_token,
    )
    return response


def _email() -> str | None:
    try:
        email = orjson.loads(request.get_data())["email"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return email if isinstance(email, str) else None


def _admit() -> Response | None:
    """Check the token and its scopes, and return an error reply, or None to go on.

    Flask calls this before the view reads the body. The token counts only in its header, because
    Ecwid has switched off tokens in the URL (D26, 2025-03-20).
    """
    if request.view_args is None:
        return None  # the path or method is unknown, so Flask replies next
    if str(request.endpoint) not in OPERATIONS:
        return None if _is_of_this_host() else _error(403, None, "Only this host may use /admin")
    scopes, wait_s = _controls().admit(_token())
    g.knows_token = scopes is not None
    if wait_s:
        response = _error(429, "RATE_LIMITED", "Too many requests")
        response.headers["Retry-After"] = str(wait_s)
        return response
    if scopes is None:
        return _empty(403)
    if missing := [each for each in _SCOPES[str(request.endpoint)] if each not in scopes]:
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


def _store() -> Store:
    """Return the store of the call."""
    store: Store = g.store
    return store


def _controls() -> Controls:
    """Return the controls of the store of the call."""
    controls: Controls = g.controls
    return controls


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
