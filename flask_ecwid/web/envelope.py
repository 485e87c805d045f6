"""Pure functions that wrap Ecwid's reply in `{"data": {"id", "type", "attributes"}}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from ..errors import Undecodable

Envelope = dict[str, Any]


def page(reply: Mapping[str, Any], request_id: str) -> Envelope:
    """Return Ecwid's page as it is, under the request's id."""
    return _envelope(request_id, reply)


def customer(reply: Mapping[str, Any]) -> Envelope:
    """Return the customer under their id, and leave the id out of the attributes."""
    attributes = {name: value for name, value in reply.items() if name != "id"}
    return _envelope(reply["id"], attributes)


def added(reply: Mapping[str, Any]) -> Envelope:
    """Return the new customer's id as a decimal string, without attributes."""
    return _envelope(str(reply["id"]), {})


def updated(reply: Mapping[str, Any], request_id: str) -> Envelope:
    """Return `updateCount` alone, under the request's id.

    Until 2014 Ecwid sent a `success` beside it.
    """
    return _envelope(request_id, {"updateCount": reply["updateCount"]})


def deleted(reply: Mapping[str, Any], request_id: str) -> Envelope:
    """Return `deleteCount` alone, under the request's id.

    Until 2014 Ecwid sent a `success` beside it.
    """
    return _envelope(request_id, {"deleteCount": reply["deleteCount"]})


def encode(document: object) -> bytes:
    """Return the document as JSON.

    Raises:
        Undecodable: The document is nested deeper than JSON can be written.
    """
    try:
        return orjson.dumps(document)
    except orjson.JSONEncodeError:  # orjson can read deeper documents than it can write
        pass
    raise Undecodable("Ecwid's reply is nested too deep.")


def pointer_in_envelope(pointer: str) -> str:
    """Return the pointer into the envelope for a pointer into Ecwid's reply."""
    if pointer.startswith("/data/"):
        return pointer
    return "/data/id" if pointer == "/id" else f"/data/attributes{pointer}"


def _envelope(id: object, attributes: object) -> Envelope:
    return {"data": {"id": id, "type": "ecwid", "attributes": attributes}}
