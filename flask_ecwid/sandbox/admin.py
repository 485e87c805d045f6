"""The paths below `/admin`, which set faults, switches and tokens and show the ledger over HTTP.

`app.py` accepts their requests from this host only.
"""

from __future__ import annotations

from typing import Any

import orjson
from flask import Flask, abort, current_app, request
from flask.typing import ResponseReturnValue

from .controls import Controls
from .faults import Fault
from .stores import Stores
from .tokens import ALL_SCOPES


def add_routes(app: Flask) -> None:
    """Add the paths of the default store and of each store to a sandbox."""
    for admin in ("/admin", "/admin/stores/<store_id>"):
        for name, view, methods in (
            ("faults", _faults, ["GET", "POST", "DELETE"]),
            ("switches", _switches, ["GET", "PATCH"]),
            ("ledger", _ledger, ["GET", "DELETE"]),
        ):
            rule = f"{admin}/{name}"
            app.add_url_rule(rule, rule, view, methods=methods)
    app.add_url_rule("/admin/stores/<store_id>", "/admin/stores", _store, methods=["PUT"])


def _faults(store_id: str | None = None) -> ResponseReturnValue:
    controls = _controls_of(store_id)
    if request.method == "DELETE":
        controls.clear_faults()
    if request.method == "POST":
        given = _body()
        try:
            controls.inject(*(Fault.from_json(each) for each in _listed(given)))
        except (ValueError, TypeError) as exc:
            return _refusal(str(exc))
    return [fault.to_json() for fault in controls.faults()]


def _switches(store_id: str | None = None) -> ResponseReturnValue:
    controls = _controls_of(store_id)
    if request.method == "PATCH":
        given = _body()
        try:
            controls.switch(**given if isinstance(given, dict) else {"": 0})
        except (ValueError, TypeError) as exc:
            return _refusal(str(exc))
    return controls.switches()._asdict()


def _ledger(store_id: str | None = None) -> ResponseReturnValue:
    controls = _controls_of(store_id)
    if request.method == "DELETE":
        controls.clear_ledger()
    return [entry._asdict() for entry in controls.ledger()]


def _store(store_id: str) -> ResponseReturnValue:
    """Let only the tokens of the body open a store, with all scopes. An unknown store is added."""
    given = _body()
    listed = given.get("tokens") if isinstance(given, dict) else None
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        return _refusal('The body must be {"tokens": [...]} with strings')
    tokens = dict.fromkeys(listed, ALL_SCOPES)
    try:
        _stores().add(store_id, tokens).controls.set_tokens(tokens)
    except ValueError as exc:
        return _refusal(str(exc))
    return {"id": store_id}


def _controls_of(store_id: str | None) -> Controls:
    if store_id is None:
        return _stores().controls
    return (_stores().find(store_id) or abort(404)).controls


def _stores() -> Stores:
    stores: Stores = current_app.extensions["sandbox"]
    return stores


def _body() -> Any:
    try:
        return orjson.loads(request.get_data())
    except orjson.JSONDecodeError:
        return None


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _refusal(message: str) -> ResponseReturnValue:
    return {"errorMessage": message}, 400
