"""Each request's id, how far it has come, and its one line in the log.

The line names the operation, the status, the time it took and the id: no path, no query, no body,
nothing of a customer.
"""

from __future__ import annotations

import logging
import random
import re
import time
import uuid

from flask import Blueprint, Response, request

from ..signals import Count

log = logging.getLogger("flask_ecwid.request")

_UUID4 = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE
)


class Notes:
    """What is remembered of one request."""

    __slots__ = (
        "begun",
        "caller",
        "calls",
        "customer_id",
        "executed",
        "handler_has_run",
        "problem",
        "request_id",
        "status",
    )

    def __init__(self) -> None:
        given = request.headers.get("X-Request-ID", "")
        self.request_id = given.lower() if _UUID4.fullmatch(given) else _new_id()
        self.begun: float | None = None  # absent when the host answered before it was our turn
        self.handler_has_run = False  # from then on something may have happened
        self.caller: str | None = None  # who was let in
        self.customer_id: object = None  # of the path, or of the customer that was created
        self.executed: str | None = None  # as a problem tells it
        self.problem: str | None = None  # its slug
        self.status: int | None = None  # of the answer, when there is one
        self.calls = Count()  # that were made to Ecwid


def _new_id() -> str:
    # uuid.uuid4() asks the operating system, for a randomness that no id needs: at each system
    # call a busy worker's thread gives way to another one.
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def notes() -> Notes:
    """The notes of the request under way. Not in `g`, which outlives it in a pushed app context.

    Its id is the caller's `X-Request-ID` if that is a UUID v4, else a new one.
    """
    environ = request.environ
    if "flask_ecwid" not in environ:
        environ["flask_ecwid"] = Notes()
    taken: Notes = environ["flask_ecwid"]
    return taken


def attach(blueprint: Blueprint) -> None:
    """Give every request below the mount its id and its line."""
    blueprint.before_request(_begin)
    blueprint.after_request(_end)


def _begin() -> None:
    notes().begun = time.perf_counter()


def _end(response: Response) -> Response:
    noted = notes()
    noted.status = response.status_code
    response.headers["X-Request-ID"] = noted.request_id
    if log.isEnabledFor(logging.INFO):
        begun, now = noted.begun, time.perf_counter()
        facts = {
            "store": request.blueprint,
            "operation": (request.endpoint or "").rpartition(".")[2],
            "status": response.status_code,
            "duration_ms": None if begun is None else round((now - begun) * 1000, 1),
            "request_id": noted.request_id,
        }
        log.info(" ".join(f"{name}={value}" for name, value in facts.items()), extra=facts)
    return response
