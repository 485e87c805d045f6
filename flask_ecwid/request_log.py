"""Each request's id, how far it has come, and its one line in the log.

The line names the operation, the status, the time it took and the id: no path, no query, no body,
nothing of a customer.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Any

from flask import Blueprint, Response, request

log = logging.getLogger("flask_ecwid.request")

_UUID4 = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE
)


def request_id() -> str:
    """The id of the request under way: the caller's `X-Request-ID` if it is a UUID v4, else new."""
    notes = _notes()
    if "id" not in notes:
        given = request.headers.get("X-Request-ID", "")
        notes["id"] = given.lower() if _UUID4.fullmatch(given) else str(uuid.uuid4())
    return str(notes["id"])


def note_handler() -> None:
    """The operation's handler is about to run: from here on something may have happened."""
    _notes()["handler"] = True


def handler_has_run() -> bool:
    return "handler" in _notes()


def _notes() -> dict[str, Any]:
    """What is remembered of this request. Not in `g`, which outlives it in a pushed app context."""
    notes: dict[str, Any] = request.environ.setdefault("flask_ecwid", {})
    return notes


def attach(blueprint: Blueprint) -> None:
    """Give every request below the mount its id and its line."""
    blueprint.before_request(_begin)
    blueprint.after_request(_end)


def _begin() -> None:
    _notes()["begun"] = time.perf_counter()


def _end(response: Response) -> Response:
    response.headers["X-Request-ID"] = request_id()
    begun = _notes().get("begun")  # absent when the host answered before it was our turn
    facts = {
        "store": request.blueprint,
        "operation": (request.endpoint or "").rpartition(".")[2],
        "status": response.status_code,
        "duration_ms": None if begun is None else round((time.perf_counter() - begun) * 1000, 1),
        "request_id": request_id(),
    }
    log.info(" ".join(f"{name}={value}" for name, value in facts.items()), extra=facts)
    return response
