"""The audit line, the request line and the signals of each request.

A line names the caller as `ECWID_API_KEYS` or `authorize` names them, and the customer by the id.
No line holds a path, a query, a body or any other data of a customer. The line of a refused request
names the places that violate the contract. A place has only names of the contract and numbers.
"""

from __future__ import annotations

import logging

from flask import Response, current_app

from .. import clock
from ..contract.operation import Operation
from ..signals import operation_finished, operation_started, send
from .context import RequestContext, current_request
from .log_lines import Facts, together

request_log = logging.getLogger("flask_ecwid.request")
log = logging.getLogger("flask_ecwid.audit")
log_of_reads = log.getChild("reads")


def write_lines(response: Response, context: RequestContext) -> None:
    """Log the caller and the result of an operation, and the duration of any request.

    Of the requests that are refused before their caller is known, only a sample is logged.
    Otherwise anybody could fill the log.

    The lines of a write are out before its response. All other lines come a moment later.
    """
    refusals = context.mount.refusals
    if context.caller is None and 400 <= response.status_code < 500:
        if not refusals.takes():
            return
    else:
        refusals.report()
    operation = context.operation
    with together(at_once=operation is not None and operation.writes):
        if operation:
            _write_audit_line(context, operation, "after", response.status_code)
        if request_log.isEnabledFor(logging.INFO):
            _write_request_line(context, response.status_code)


def write_line_before_delete() -> None:
    """Log that a deletion is about to be sent, because its result may stay unknown."""
    context = current_request()
    if context.operation:
        _write_audit_line(context, context.operation, "before", None)


def send_started(context: RequestContext) -> None:
    """Send `operation_started` for a request of an operation."""
    if context.operation:
        send(
            operation_started,
            current_app._get_current_object(),  # type: ignore[attr-defined]
            operation=context.operation.operation_id,
            store=context.mount.name,
            store_id=context.store_id,
        )


def send_finished(context: RequestContext) -> None:
    """Send `operation_finished` for a request of an operation that has begun."""
    operation = context.operation
    if operation and context.started_at is not None:
        status = context.status or 500  # without a response of the app, the server sends a 500
        send(
            operation_finished,
            current_app._get_current_object(),  # type: ignore[attr-defined]
            operation=operation.operation_id,
            store=context.mount.name,
            store_id=context.store_id,
            status=status,
            problem=context.problem,
            attempts=context.calls.attempts,
            reconcile_attempts=context.calls.reconcile_attempts,
            executed=_executed(context, operation, status),
            duration_s=clock.now() - context.started_at,
        )


def _executed(context: RequestContext, operation: Operation, status: int | None) -> str | None:
    """Return yes, no or unknown for a write, or None for a read."""
    if operation.writes and context.executed is None and status == 200:
        return "yes"
    return context.executed


def _write_audit_line(
    context: RequestContext, operation: Operation, phase: str, status: int | None
) -> None:
    audit_log = log if operation.writes else log_of_reads
    if not audit_log.isEnabledFor(logging.INFO):
        return
    facts = {
        "phase": phase,
        "store": context.mount.name,
        "store_id": context.store_id or "-",
        "caller": context.caller or "-",
        "operation": operation.operation_id,
        "customer_id": context.customer_id or "-",
        "result": status or "-",
        "executed": _executed(context, operation, status) or "-",
        "request_id": context.request_id,
    }
    if context.replayed:
        facts["replayed"] = "yes"
    audit_log.info(Facts(facts), extra=facts)


def _write_request_line(context: RequestContext, status: int) -> None:
    started_at = context.started_at
    facts = {
        "store": context.mount.name,
        "store_id": context.store_id or "-",
        "operation": context.endpoint,
        "status": status,
        "duration_ms": started_at and round((clock.now() - started_at) * 1000, 1),
        "request_id": context.request_id,
    }
    more = {
        "event": context.event,
        "problem": context.problem,
        "reason": context.reason,
        "places": context.places,
    }
    facts |= {name: value for name, value in more.items() if value}
    request_log.info(Facts(facts), extra=facts)
