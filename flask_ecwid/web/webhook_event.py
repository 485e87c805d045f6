"""A delivery of Ecwid's webhook -> the event, after its signature was verified. Pure.

The signature covers `eventCreated` and `eventId` only. The store, the customer and the type of the
event are hints that nobody has signed. https://docs.ecwid.com/api-reference/webhooks
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Any

from ..contract import strict_json
from ..errors import BadSignature, InvalidRequest, Violation

SIGNATURE = "X-Ecwid-Webhook-Signature"
# Ecwid repeats a delivery for 24 hours.
OLDEST_S = 25 * 3600
AHEAD_MOST_S = 5 * 60  # The clocks of Ecwid and of this host may differ.

# The types of the events, and the words of the signals for them.
CUSTOMER_CHANGES = {
    "customer.created": "created",
    "customer.updated": "updated",
    "customer.deleted": "deleted",
}
# Ecwid's documents and Ecwid's client spell the types differently.
PERSONAL_DATA = {
    "customer.personalDataRemovalRequest": "removal",
    "customer.personal_data_removal_request": "removal",
    "customer.personalDataExportRequest": "export",
    "customer.personal_data_export_request": "export",
}
UNINSTALLED = "application.uninstalled"

_EVENT_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_NUMBER = re.compile(r"[1-9][0-9]{0,19}")


@dataclass(frozen=True)
class Event:
    """An event of Ecwid. Only `created` and `event_id` are signed."""

    created: int  # UNIX seconds
    event_id: str
    store_id: str
    type: str | None  # None for a type without an effect
    customer_id: int | None  # None for a type that is not about a customer

    @property
    def signed(self) -> str:
        """The text that the signature covers, which names the event for all stores."""
        return f"{self.created}.{self.event_id}"


def read_event(body: bytes, signature: str, client_secret: str, now: float) -> Event:
    """Return the event of a delivery.

    Args:
        body: The body of the request.
        signature: The header `X-Ecwid-Webhook-Signature`, or an empty text.
        client_secret: The client_secret of the app.
        now: The time in UNIX seconds.

    Raises:
        BadSignature: The header is not the signature of the event.
        InvalidRequest: The body is not strict JSON, or a member is missing or wrong.
    """
    members = strict_json.parse(body)
    if not isinstance(members, dict):
        raise InvalidRequest([Violation("", "type", "A JSON object.")])
    created, event_id = _signed_members(members)
    if not _is_signature(signature, f"{created}.{event_id}", client_secret):
        raise BadSignature
    if created < now - OLDEST_S:
        raise _wrong("eventCreated", "minimum", "An event of the last 25 hours.")
    if created > now + AHEAD_MOST_S:
        raise _wrong("eventCreated", "maximum", "An event of the past, by the clock of this host.")
    type_ = members.get("eventType")
    if not isinstance(type_, str):
        raise _wrong("eventType", "type", "A text.")
    store_id = _number(members, "storeId")
    is_about_customer = type_ in CUSTOMER_CHANGES or type_ in PERSONAL_DATA
    has_effect = is_about_customer or type_ == UNINSTALLED
    return Event(
        created,
        event_id,
        store_id,
        type_ if has_effect else None,
        int(_number(members, "entityId")) if is_about_customer else None,
    )


def _signed_members(members: dict[str, Any]) -> tuple[int, str]:
    created, event_id = members.get("eventCreated"), members.get("eventId")
    if not isinstance(created, int) or isinstance(created, bool):
        raise _wrong("eventCreated", "type", "A whole number of UNIX seconds.")
    if not isinstance(event_id, str):
        raise _wrong("eventId", "type", "A text.")
    if not _EVENT_ID.fullmatch(event_id):
        raise _wrong("eventId", "pattern", "1 to 64 letters, digits and hyphens.")
    return created, event_id


def _is_signature(sent: str, text: str, client_secret: str) -> bool:
    """Return whether the header is the signature of the text, in constant time."""
    digest = hmac.new(client_secret.encode(), text.encode(), hashlib.sha256).digest()
    # Bytes, because `compare_digest` refuses a text beyond ASCII with a TypeError.
    given = sent.encode("utf-8", "surrogatepass")
    return hmac.compare_digest(given, base64.b64encode(digest))


def _number(members: dict[str, Any], name: str) -> str:
    """Return the digits of a member, which Ecwid sends as a number or as a text."""
    value = members.get(name)
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    if not _NUMBER.fullmatch(text):
        raise _wrong(name, "type", "A whole number above 0.")
    return text


def _wrong(name: str, keyword: str, expected: str) -> InvalidRequest:
    return InvalidRequest([Violation(f"/{name}", keyword, expected)])
