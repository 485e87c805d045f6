"""The receiver of Ecwid's webhook events.

Ecwid takes every status but 200, 201, 202, 204 and 209 for a failure, and then delivers the event
again for 24 hours. The store, the customer and the type of an event are not signed. So nobody loses
data or access because of an event, and the host reads the customer again.
https://docs.ecwid.com/api-reference/webhooks
"""

from __future__ import annotations

import re
from contextlib import suppress

from flask import Blueprint, Response, current_app, request
from flask.blueprints import BlueprintSetupState

from .. import clock
from ..errors import EventsUnavailable, ReceiverFailed, ServiceRefused
from ..settings import Secret, StoreCredentials
from ..signals import customer_changed, personal_data_requested, send_event, store_uninstalled
from ..storage.event_mark import EventMark
from ..storage.redis_connection import COOLDOWN_S
from ..storage.state import StateUnavailable
from . import incoming, webhook_event
from .context import RequestContext, flask_request, request_under_way
from .mount import Mount
from .webhook_event import Event
from .webhook_record import begin_delivery

MAX_BODY_BYTES = 64 * 1024
CALL_S = 5.0  # The longest call of an event, because Ecwid gives up after 10 s.
# No converter, no query and no slash at the end. Ecwid takes a redirect for a failure. A client may
# leave out the segments "." and "..", so the request would come to another path.
_PATH = re.compile(r"(/(?!\.\.?(/|$))[A-Za-z0-9._~-]+)+")


def path_fault(path: str) -> str:
    """Return why a text cannot be a `webhook_path`, or an empty text."""
    if "<" in path:
        return "must have no converters, because Ecwid knows one URL for an app"
    if not _PATH.fullmatch(path):
        return "must be a path such as /ecwid/events, without a slash at its end"
    return ""


def add_route(blueprint: Blueprint, path: str) -> None:
    """Receive events at this path of the app, which may be outside of the mount's prefix.

    Raises:
        ValueError: Another route of the app receives what is posted to the path, when the blueprint
            is registered.
    """

    def add(state: BlueprintSetupState) -> None:
        rules = state.app.url_map.iter_rules()
        if any(rule.rule == path and "POST" in (rule.methods or {"POST"}) for rule in rules):
            raise ValueError(f"the app already has a route at {path!r}")
        state.app.add_url_rule(
            path,
            f"{state.blueprint.name}.{receive_event.__name__}",
            receive_event,
            methods=["POST"],
            provide_automatic_options=False,
        )

    blueprint.record(add)


def receive_event() -> Response:
    """Verify the event and let it have its effect once. The response to a good event is empty.

    Raises:
        BadSignature: The event is not signed by Ecwid.
        InvalidRequest: The body is not strict JSON, or a member is missing or wrong.
        BodyTooLarge: The body is larger than `MAX_BODY_BYTES`.
        EventUnderWay: Another delivery of the event is under way.
        EventsUnavailable: The storage cannot be reached.
        StoreLookupFailed: The host could not look up the store.
        ReceiverFailed: A receiver of the signal raised an exception.
        EcwidError: The call for an uninstalled app had no reply.
    """
    context = request_under_way()
    mount = context.mount
    context.store_id = None  # A mount with one store would else name it for any event.
    event = webhook_event.read_event(
        incoming.read_body(incoming.Received(flask_request()), MAX_BODY_BYTES),
        Secret(request.headers.get(webhook_event.SIGNATURE, "")),
        mount.settings.client_secret,
        clock.wall(),
    )
    context.event = event.type
    if event.type:
        _take(event, context)
    response = Response(status=200)
    del response.headers["Content-Type"]
    return response


def _take(event: Event, context: RequestContext) -> None:
    """Let an event have its effect, unless an earlier delivery has had the effect."""
    mount = context.mount
    delivery = begin_delivery(mount.stores.upstream.storage.shared, event.signed)
    if delivery is None:
        return
    try:
        credentials = mount.choice.find(event.store_id)
        if credentials is not None:
            context.store_id = credentials.store_id
            _react(event, mount, credentials)
    except BaseException:
        delivery.release()
        raise
    delivery.finish()


def _react(event: Event, mount: Mount, credentials: StoreCredentials) -> None:
    """Invalidate the cached responses of the store, or ask Ecwid, and then tell the host.

    Raises:
        EventsUnavailable: The other processes cannot be told of the change.
        ReceiverFailed: A receiver of the signal raised an exception.
        EcwidError: Ecwid has not said whether the token still works.
    """
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    facts: dict[str, object] = {"store_id": credentials.store_id, "event_id": event.event_id}
    has_succeeded = True
    if event.type in webhook_event.CUSTOMER_CHANGES:
        store = mount.stores.get(credentials)
        if not store.reads.invalidate():
            raise EventsUnavailable(COOLDOWN_S)  # because other processes show old responses
        # A copy without the mark is late by one interval, so the event counts all the same.
        with suppress(StateUnavailable):
            EventMark(mount.stores.upstream.storage.shared, store.digest).leave()
        facts |= {
            "customer_id": event.customer_id,
            "kind": webhook_event.CUSTOMER_CHANGES[event.type],
        }
        has_succeeded = send_event(customer_changed, app, **facts)
    elif event.type in webhook_event.PERSONAL_DATA:
        facts |= {
            "customer_id": event.customer_id,
            "kind": webhook_event.PERSONAL_DATA[event.type],
            "verified": False,
        }
        has_succeeded = send_event(personal_data_requested, app, **facts)
    elif _refuses_token(mount, credentials):
        has_succeeded = send_event(store_uninstalled, app, **facts)
    if not has_succeeded:
        raise ReceiverFailed


def _refuses_token(mount: Mount, credentials: StoreCredentials) -> bool:
    """Ask Ecwid whether it refuses the token, as it does after the app was uninstalled.

    Raises:
        EcwidError: There is no reply, or Ecwid refuses the call for another reason.
    """
    sender = mount.stores.get(credentials).sender
    try:
        sender.ask_neutral(clock.now() + min(CALL_S, mount.settings.deadline_s))
    except ServiceRefused as exc:
        if exc.reason not in ("token", "ecwid-scope"):
            raise
        return exc.reason == "token"
    return False
