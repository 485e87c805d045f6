"""The signals of requests: sent for each request of an operation, once, whatever came of it."""

from __future__ import annotations

import time

from flask import Blueprint, current_app, request

from ..contract import Contract
from ..signals import operation_finished, operation_started, tell
from . import audit
from .context import notes


def attach(blueprint: Blueprint, contract: Contract) -> None:
    """Tell of every request of an operation that the host did not answer before."""
    operations = {f"{blueprint.name}.{name}": each for name, each in contract.operations.items()}

    def begin() -> None:
        operation = operations.get(request.endpoint or "")
        if operation and operation_started.receivers:
            tell(
                operation_started,
                current_app._get_current_object(),  # type: ignore[attr-defined]
                operation=operation.operation_id,
                store=blueprint.name,
            )

    # Not after the request: what a host does then may fail, and another answer be made.
    def end(_: BaseException | None) -> None:
        operation = operations.get(request.endpoint or "")
        noted = notes()
        if operation and operation_finished.receivers and noted.begun is not None:
            status = noted.status or 500  # no answer was made: the server makes one
            tell(
                operation_finished,
                current_app._get_current_object(),  # type: ignore[attr-defined]
                operation=operation.operation_id,
                store=blueprint.name,
                status=status,
                problem=noted.problem,
                attempts=noted.calls.attempts,
                lookups=noted.calls.lookups,
                executed=audit.executed(operation, noted, status),
                duration_s=time.perf_counter() - noted.begun,
            )

    blueprint.before_request(begin)
    blueprint.teardown_request(end)
