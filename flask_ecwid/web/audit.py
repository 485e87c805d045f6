"""Who did what: a line for each request of an operation, and one before each deletion.

On the logger `flask_ecwid.audit`; the lines of reads on `flask_ecwid.audit.reads`. A line names the
caller as ECWID_API_KEYS or `authorize` has it, and the customer by its id: nothing personal.
"""

from __future__ import annotations

import json
import logging
import re

from flask import Blueprint, Response, request

from ..contract import Contract
from ..contract.operation import Operation
from .context import Notes, notes

log = logging.getLogger("flask_ecwid.audit")
log_of_reads = log.getChild("reads")


def attach(blueprint: Blueprint, contract: Contract) -> None:
    """Give every request of an operation its line, whatever came of it."""
    operations = {f"{blueprint.name}.{name}": each for name, each in contract.operations.items()}

    def after(response: Response) -> Response:
        if operation := operations.get(request.endpoint or ""):
            _write(operation, "after", response.status_code)
        return response

    blueprint.after_request(after)


def before(operation: Operation) -> None:
    """A deletion is about to be asked for: what comes of it may never be known here."""
    _write(operation, "before", None)


def executed(operation: Operation, noted: Notes, status: int | None) -> str | None:
    """Whether a write happened: as the problem tells it, or else by the answer's status."""
    if operation.writes and noted.executed is None and status == 200:
        return "yes"
    return noted.executed


def _write(operation: Operation, phase: str, status: int | None) -> None:
    noted = notes()
    facts = {
        "phase": phase,
        "store": request.blueprint,
        "caller": noted.caller or "-",
        "operation": operation.operation_id,
        "customer_id": noted.customer_id or "-",
        "result": status or "-",
        "executed": executed(operation, noted, status) or "-",
        "request_id": noted.request_id,
    }
    line = " ".join(f"{name}={_shown(value)}" for name, value in facts.items())
    (log if operation.writes else log_of_reads).info(line, extra=facts)


def _shown(value: object) -> object:
    """A name that the host gave may hold blanks, and then looks like more than one member."""
    plain = not isinstance(value, str) or re.fullmatch(r"[!-<>-~]+", value)
    return value if plain else json.dumps(value)
