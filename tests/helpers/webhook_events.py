"""Deliveries of Ecwid's webhook, signed as Ecwid signs them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from typing import Any

CLIENT_SECRET = "canaryClientSecretCanary1234"
SIGNATURE = "X-Ecwid-Webhook-Signature"
# Settings that open the receiver.
WEBHOOKS = {"ECWID_WEBHOOKS": "on", "ECWID_CLIENT_SECRET": CLIENT_SECRET}

Event = dict[str, Any]


def event_of(event_type: str = "customer.updated", **members: Any) -> Event:
    """Return a new event for customer 5 of store 1003, with these members instead."""
    return {
        "eventId": str(uuid.uuid4()),
        "eventCreated": int(time.time()),
        "storeId": 1003,
        "entityId": 5,
        "eventType": event_type,
        "data": {"customerEmail": "canary@example.com"},
        **members,
    }


def signature_of(event: Event, secret: str = CLIENT_SECRET) -> str:
    """Return Ecwid's signature of an event."""
    text = f"{event['eventCreated']}.{event['eventId']}"
    digest = hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def delivery_of(event: Event, **headers: str) -> dict[str, Any]:
    """Return the body and the headers of a delivery, as arguments of a request."""
    return {
        "data": json.dumps(event).encode(),
        "headers": {
            "Content-Type": "application/json;charset=UTF-8",
            SIGNATURE: signature_of(event),
            **headers,
        },
    }
