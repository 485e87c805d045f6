"""The audit line, the request line and the signals of each request.

A line names the caller as `ECWID_API_KEYS` or `authorize` names them, and the customer by the id.
No line holds a path, a query or a body, and none holds anything else of a customer.
"""

from __future__ import annotations

import json
import logging
import re

from flask import Response, current_app, request

from .. import clock
from ..contract.operation import Operation
from ..signals import operation_finished, operation_started, send
from .context import RequestContext, current_request

request_log = logging.getLogger("flask_ecwid.request")
log = logging.getLogger("flask_ecwid.audit")
log_of_reads = log.getChild("reads")


def write_audit_line(response: Response) -> Response:
    """Log who called the operation, for which customer, and with what result."""
    context = current_request()
    if context.operation:
        _write(context, context.operation, "after", response.status_code)
    return response


def write_line_before_delete() -> None:
    """Log that a deletion is about to be sent, because its result may never be known here."""
    context = current_request()
    if context.operation:
        _write(context, context.operation, "before", None)


def write_request_line(response: Response) -> Response:
    """Log the operation, the status and the duration of the request."""
    if request_log.isEnabledFor(logging.INFO):
        context = current_request()
        started_at = context.started_at
        facts = {
            "store": context.mount.name,
            "operation": (request.endpoint or "").rpartition(".")[2],
            "status": response.status_code,
            "duration_ms": started_at and round((clock.now() - started_at) * 1000, 1),
            "request_id": context.request_id,
        }
        request_log.info(" ".join(f"{name}={value}" for name, value in facts.items()), extra=facts)
    return response


def send_started() -> None:
    """Send `operation_started` for a request of an operation."""
    context = current_request()
    if context.operation and operation_started.receivers:
        send(
            operation_started,
            current_app._get_current_object(),  # type: ignore[attr-defined]
            operation=context.operation.operation_id,
            store=context.mount.name,
        )


def send_finished(context: RequestContext) -> None:
    """Send `operation_finished` for a request of an operation that has begun."""
    operation = context.operation
    if operation and operation_finished.receivers and context.started_at is not None:
        status = context.status or 500  # no response was made, so the server makes one
        send(
            operation_finished,
            current_app._get_current_object(),  # type: ignore[attr-defined]
            operation=operation.operation_id,
            store=context.mount.name,
            status=status,
            problem=context.problem,
            attempts=context.calls.attempts,
            lookups=context.calls.lookups,
            executed=_executed(context, operation, status),
            duration_s=clock.now() - context.started_at,
        )


def _executed(context: RequestContext, operation: Operation, status: int | None) -> str | None:
    """Return whether a write happened, as the problem tells it, or else by the status."""
    if operation.writes and context.executed is None and status == 200:
        return "yes"
    return context.executed


def _write(context: RequestContext, operation: Operation, phase: str, status: int | None) -> None:
    facts = {
        "phase": phase,
        "store": context.mount.name,
        "caller": context.caller or "-",
        "operation": operation.operation_id,
        "customer_id": context.customer_id or "-",
        "result": status or "-",
        "executed": _executed(context, operation, status) or "-",
        "request_id": context.request_id,
    }
    line = " ".join(
        f"{name}={_quoted(str(value)) if name in ('caller', 'store') else value}"
        for name, value in facts.items()
    )
    (log if operation.writes else log_of_reads).info(line, extra=facts)


def _quoted(name: str) -> str:
    """Return the name in quotes where a blank would make it look like two members."""
    return name if re.fullmatch(r"[!-<>-~]+", name) else json.dumps(name)
