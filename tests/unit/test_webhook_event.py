"""A delivery of Ecwid's webhook is an event only with the signature of its id and its time."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from flask_ecwid.errors import BadSignature, InvalidRequest
from flask_ecwid.settings import Secret
from flask_ecwid.web.webhook_event import AHEAD_MOST_S, OLDEST_S, Event, read_event

from ..helpers.webhook_events import CLIENT_SECRET, event_of, signature_of

NOW = 1_700_000_000.5
CREATED = 1_700_000_000


def read(event: dict[str, Any], signature: str | None = None, now: float = NOW) -> Event:
    body = json.dumps(event).encode()
    return read_event(body, signature or signature_of(event), Secret(CLIENT_SECRET), now)


def test_a_known_signature() -> None:
    """The signature is the base64 of HMAC-SHA256 over the time, a dot and the id."""
    event = event_of(eventId="80aece08-40e8-4145-8764-6c2f0d38678", eventCreated=CREATED)
    # printf %s 1700000000.80aece08-40e8-4145-8764-6c2f0d38678 |
    #   openssl dgst -sha256 -hmac canaryClientSecretCanary1234 -binary | base64
    assert read(event, "J/8rM7XiNrdFQIqm7ZZC/+IZU0ykVGFNI0obsf5RiY0=").event_id == event["eventId"]


@pytest.mark.parametrize(
    ("type_", "entity", "expected"),
    [
        ("customer.updated", 5, ("customer.updated", 5)),
        ("customer.updated", "5", ("customer.updated", 5)),
        ("application.uninstalled", "some-app", ("application.uninstalled", None)),
        ("application.uninstalled", None, ("application.uninstalled", None)),
        ("customer.Updated", "x", (None, None)),
        ("order.updated", 5, (None, None)),
    ],
)
def test_the_members(type_: str, entity: object, expected: tuple[str | None, int | None]) -> None:
    """Only a type with an effect keeps its name, and only a customer has an id."""
    event = read(event_of(type_, entityId=entity, eventCreated=CREATED, storeId="1003"))
    assert (event.type, event.customer_id) == expected
    assert (event.store_id, event.created) == ("1003", CREATED)
    assert event.signed == f"{CREATED}.{event.event_id}"


@pytest.mark.parametrize(
    ("now", "keyword"),
    [
        (CREATED + OLDEST_S, ""),
        (CREATED + OLDEST_S + 0.1, "minimum"),
        (CREATED - AHEAD_MOST_S, ""),
        (CREATED - AHEAD_MOST_S - 0.1, "maximum"),
    ],
)
def test_the_age(now: float, keyword: str) -> None:
    """An event is at most 25 hours old, and at most 5 minutes ahead."""
    event = event_of(eventCreated=CREATED)
    if not keyword:
        assert read(event, now=now)
        return
    with pytest.raises(InvalidRequest) as caught:
        read(event, now=now)
    assert [(each.pointer, each.keyword) for each in caught.value.errors] == [
        ("/eventCreated", keyword)
    ]


def test_numbers_that_are_written_in_another_way() -> None:
    """A time that is no plain integer is refused, even if its value is signed."""
    event = event_of(eventCreated=CREATED)
    for text in (f"{CREATED}.0", "17e8", "true", f'"{CREATED}"', "null"):
        body = json.dumps({**event, "eventCreated": 0}).replace('ed": 0', f'ed": {text}').encode()
        with pytest.raises(InvalidRequest):
            read_event(body, signature_of(event), CLIENT_SECRET, NOW)


def test_every_bit_counts() -> None:
    """A signature with another bit is refused."""
    event = event_of(eventCreated=CREATED)
    digest = base64.b64decode(signature_of(event))
    for bit in range(256):
        other = bytearray(digest)
        other[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadSignature):
            read(event, base64.b64encode(other).decode())


@pytest.mark.parametrize("sent", ["", "\xe9", "\udc80", "=", "\0" * 44])
def test_an_odd_header(sent: str) -> None:
    """A header of any characters is refused, and nothing else happens."""
    event = event_of(eventCreated=CREATED)
    with pytest.raises(BadSignature):
        read_event(json.dumps(event).encode(), sent, CLIENT_SECRET, NOW)
