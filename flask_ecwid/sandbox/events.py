"""Ecwid's webhook events, and the request that carries an event to an app. The module is pure.

The letters in comments, for example D26, name the sources that `sandbox/__init__.py` lists.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import orjson

# The type of the event after a change. Reads have no event.
CHANGES = {
    "add_customer": "customer.created",
    "update_customer": "customer.updated",
    "delete_customer": "customer.deleted",
}
# The documents have the first two spellings (D26), and the client the others (J).
PERSONAL_DATA = (
    "customer.personalDataRemovalRequest",
    "customer.personalDataExportRequest",
    "customer.personal_data_removal_request",
    "customer.personal_data_export_request",
)
INSTALLATIONS = ("application.installed", "application.uninstalled")
EVENT_TYPES = (*CHANGES.values(), *PERSONAL_DATA, *INSTALLATIONS)
SIGNATURE = "X-Ecwid-Webhook-Signature"
EMAIL = "user@example.com"  # the e-mail in the examples of D26

_DELIVERED = frozenset({200, 201, 202, 204, 209})  # D26 names each of them
_TYPE = re.compile(r"[A-Za-z_]+(\.[A-Za-z_]+)+")
_VISIBLE = re.compile(r"[!-~]+")


class Event(NamedTuple):
    """An event of a store.

    Attributes:
        event_id: the id of the event, which stays the same in each attempt to deliver the event.
        created: the UNIX time in whole seconds.
        store_id: the number of the store.
        event_type: for example `customer.updated`.
        entity_id: the id of the customer. An event of the application has a text.
        data: further members. The events of a customer have `customerEmail`.
    """

    event_id: str
    created: int
    store_id: str
    event_type: str
    entity_id: int | str
    data: dict[str, Any]

    def body(self) -> dict[str, Any]:
        """Return the JSON object that Ecwid posts, with its members in the order of D26."""
        return {
            "eventId": self.event_id,
            "eventCreated": self.created,
            "storeId": int(self.store_id),
            "entityId": self.entity_id,
            "eventType": self.event_type,
            "data": self.data,
        }

    def signature(self, secret: str) -> str:
        """Return the signature of the event. Neither the body nor the store is signed (D26)."""
        signed = f"{self.created}.{self.event_id}".encode()
        return base64.b64encode(hmac.digest(secret.encode(), signed, hashlib.sha256)).decode()

    def aged(self, seconds: int) -> Event:
        """Return the event as if it had been created this many seconds earlier."""
        return self._replace(created=self.created - seconds)


class SignedEvent(NamedTuple):
    """The request that carries an event. The method is POST."""

    url: str
    headers: dict[str, str]
    body: bytes


def new_event(
    event_id: str,
    created: int,
    store_id: str,
    event_type: str,
    entity_id: int | None = None,
    data: dict[str, Any] | None = None,
) -> Event:
    """Return an event of any type, also of a type that no document has.

    Args:
        event_id: the id of the event.
        created: the UNIX time in whole seconds.
        store_id: the number of the store.
        event_type: words with dots between them.
        entity_id: the id of the customer. An event of the application has the store instead (I).
        data: further members. By default, the events of a customer have an invented e-mail.

    Raises:
        ValueError: the type is invalid, or an event of a customer has no id.
    """
    if not isinstance(event_type, str) or not _TYPE.fullmatch(event_type):
        expected = "words of letters with dots between them, such as customer.updated"
        raise ValueError(f"The type of an event must be {expected}; got {event_type!r}")
    if type(entity_id) is int and entity_id > 0:
        entity: int | str = entity_id
    elif entity_id is None and event_type.startswith("application."):
        entity = store_id
    else:
        raise ValueError(f"The event {event_type} needs an id from 1; got {entity_id!r}")
    if data is None:
        data = {"customerEmail": EMAIL} if event_type.startswith("customer.") else {}
    return Event(event_id, created, store_id, event_type, entity, data)


def sign(event: Event, url: str, secret: str) -> SignedEvent:
    """Return the request that carries an event to a webhook URL.

    Args:
        event: the event.
        url: the URL that the owner of the app has given to Ecwid.
        secret: the client secret of the app.
    """
    separator = "&" if urlsplit(url).query else "?"
    url = url.partition("#")[0]
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        SIGNATURE: event.signature(secret),
    }
    named = f"{url}{separator}eventtype={quote(event.event_type)}"
    return SignedEvent(named, headers, orjson.dumps(event.body()))


def is_delivered(status: int | None) -> bool:
    """Return whether Ecwid counts an event as delivered after a response with this status.

    The status is None without a response. Every redirect, 203 and 208 are failures (D26).
    """
    return status in _DELIVERED


def url_fault(url: str) -> str:
    """Return the fault of a webhook URL, or an empty text."""
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        has_host = False
    if not has_host or parts.scheme not in ("http", "https") or not _VISIBLE.fullmatch(url):
        return "is not an http or https URL with a host"
    return ""
