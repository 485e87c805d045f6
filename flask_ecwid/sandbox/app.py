"""The sandbox's HTTP face: Ecwid's API for customers, below `/api/v3/<store_id>`."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from flask import Flask, Response, abort, current_app, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import IntegerConverter

from . import seed
from .documents import Document, writable
from .errors import CustomerNotFound, EmailTaken, WrongParameter
from .search import read_search
from .selection import read_selection, selected
from .store import Store

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
) -> Flask:
    """An app that answers as Ecwid would for one store.

    `path` is its SQLite file; where there is none it is made, with the seed's four customers and
    as many generated ones as `customers` says. Any number of processes may open the same file, at
    the same time. `tokens` maps each token to its scopes.

    Raises:
        ValueError: the file is of another version of the sandbox.
        sqlite3.Error: the file cannot be opened, or is no SQLite file.
    """
    store = Store(path)
    store.fill(lambda: seed.customers(customers))
    app = Flask(__name__, static_folder=None)
    tokens = {TOKEN: ALL_SCOPES} if tokens is None else tokens
    app.extensions["sandbox"] = _Sandbox(store, store_id, tokens)
    app.url_map.merge_slashes = False  # Ecwid does not redirect
    app.url_map.converters["customer_id"] = _CustomerId
    app.before_request(_admit)
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


def _admit() -> Response | None:
    """Every request comes by here, before its body is read; a reply from here is the end of it.

    The store comes first: the live API tells anyone that there is none of this id (W). The token
    counts in its header only: in the URL it has been switched off (D26, 2025-03-20).
    """
    if request.view_args is None:
        return None  # no such path or method; Flask says so next
    sandbox = _sandbox()
    if request.view_args.pop("store_id") != sandbox.store_id:
        return _error(404, "STORE_NOT_FOUND", "Store not found")
    bearer = request.authorization
    token = bearer.token if bearer and bearer.type == "bearer" else None
    if token is None or token not in sandbox.tokens:
        return _nothing(403)
    needed = _SCOPES[str(request.endpoint)]
    if missing := [scope for scope in needed if scope not in sandbox.tokens[token]]:
        message = f"The token lacks a scope: {', '.join(missing)}"
        return _error(403, "INSUFFICIENT_APP_SCOPE", message)
    return None


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
