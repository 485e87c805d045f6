"""The address of the store and the form of the envelope, which every contender needs."""

from __future__ import annotations

import os
import uuid
from typing import Any

STORE = f"{os.environ['ECWID_API_URL']}/{os.environ['ECWID_STORE_ID']}"
HEADERS = {"Authorization": f"Bearer {os.environ['ECWID_TOKEN']}"}
PREFIX = "/api/json/v1/ecwid"
TIMEOUT = (3, 10)


def envelope(attributes: dict[str, Any], id: object = None) -> dict[str, Any]:
    if id is None:
        id = str(uuid.uuid4())
    return {"data": {"id": id, "type": "ecwid", "attributes": attributes}}


def customer_envelope(customer: dict[str, Any]) -> dict[str, Any]:
    return envelope(customer, customer.pop("id"))


def added_envelope(reply: dict[str, Any]) -> dict[str, Any]:
    return envelope({}, str(reply["id"]))
