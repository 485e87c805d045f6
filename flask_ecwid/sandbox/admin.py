"""The paths below `/admin`, which give the controls and the events of a store over HTTP.

`app.py` accepts their requests from this host only.
"""

from __future__ import annotations

from typing import Any

import orjson
from flask import Flask, abort, request
from flask.typing import ResponseReturnValue

from .deliveries import sender
from .faults import Fault
from .outbox import Sending
from .stores import Simulated, served_stores
from .tokens import ALL_SCOPES

# The members of an event that a test orders, and the arguments of `Outbox.add`.
_MEMBERS = {"eventType": "event_type", "entityId": "entity_id", "data": "data", "ageS": "age_s"}


def add_routes(app: Flask) -> None:
    """Add the paths of the default store and of each store to a sandbox."""
    for admin in ("/admin", "/admin/stores/<store_id>"):
        for name, view, methods in (
            ("faults", _faults, ["GET", "POST", "DELETE"]),
            ("switches", _switches, ["GET", "PATCH"]),
            ("ledger", _ledger, ["GET", "DELETE"]),
            ("events", _events, ["GET", "POST", "DELETE"]),
            ("deliveries", _deliveries, ["POST"]),
        ):
            rule = f"{admin}/{name}"
            app.add_url_rule(rule, rule, view, methods=methods)
    app.add_url_rule("/admin/stores/<store_id>", "/admin/stores", _store, methods=["PUT"])


def _faults(store_id: str | None = None) -> ResponseReturnValue:
    controls = _opened(store_id).controls
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
    controls = _opened(store_id).controls
    if request.method == "PATCH":
        given = _body()
        try:
            controls.switch(**given if isinstance(given, dict) else {"": 0})
        except (ValueError, TypeError) as exc:
            return _refusal(str(exc))
    return controls.switches()._asdict()


def _ledger(store_id: str | None = None) -> ResponseReturnValue:
    controls = _opened(store_id).controls
    if request.method == "DELETE":
        controls.clear_ledger()
    return [entry._asdict() for entry in controls.ledger()]


def _events(store_id: str | None = None) -> ResponseReturnValue:
    """Show, add or forget the events of a store."""
    outbox = _opened(store_id).outbox
    if request.method == "DELETE":
        outbox.clear()
    if request.method == "POST":
        given = _body()
        try:
            outbox.add(**_members(given))
        except (ValueError, TypeError) as exc:
            return _refusal(str(exc))
        if deliveries := sender():
            deliveries.notice(outbox)
    return [_shown(sending) for sending in outbox.sendings()]


def _deliveries(store_id: str | None = None) -> ResponseReturnValue:
    """Send the events whose ids are in the body now, in this order. The same id may come twice."""
    outbox = _opened(store_id).outbox
    events = {sending.event.event_id: sending.event for sending in outbox.sendings()}
    given = _body()
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        return _refusal("The body must be a list of ids of events")
    if not events.keys() >= set(given):
        return _refusal("The store has no event with one of these ids")
    deliveries = sender()
    if deliveries is None:
        return _refusal("The sandbox has no webhook URL", 409)
    statuses = deliveries.send(outbox, [events[each] for each in given])
    return [
        {"eventId": event_id, "status": status}
        for event_id, status in zip(given, statuses, strict=True)
    ]


def _store(store_id: str) -> ResponseReturnValue:
    """Let only the tokens of the body open a store, with all scopes. An unknown store is added."""
    given = _body()
    listed = given.get("tokens") if isinstance(given, dict) else None
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        return _refusal('The body must be {"tokens": [...]} with strings')
    tokens = dict.fromkeys(listed, ALL_SCOPES)
    try:
        served_stores().add(store_id, tokens).controls.set_tokens(tokens)
    except ValueError as exc:
        return _refusal(str(exc))
    return {"id": store_id}


def _shown(sending: Sending) -> dict[str, Any]:
    event, *others = sending
    return {**event.body(), **dict(zip(Sending._fields[1:], others, strict=True))}


def _members(given: Any) -> dict[str, Any]:
    """Return the arguments of `Outbox.add` that a JSON object gives.

    Raises:
        ValueError: the value is no object with these members. The message names the choices.
    """
    if not isinstance(given, dict) or not _MEMBERS.keys() >= given.keys():
        raise ValueError(f"The body must be an object with some of {', '.join(_MEMBERS)}")
    if "eventType" not in given:
        raise ValueError("The body must have an eventType")
    return {_MEMBERS[name]: value for name, value in given.items()}


def _opened(store_id: str | None) -> Simulated:
    if store_id is None:
        return served_stores().default
    return served_stores().find(store_id) or abort(404)


def _body() -> Any:
    try:
        return orjson.loads(request.get_data())
    except orjson.JSONDecodeError:
        return None


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _refusal(message: str, status: int = 400) -> ResponseReturnValue:
    return {"errorMessage": message}, status
