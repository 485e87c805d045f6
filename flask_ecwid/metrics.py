"""Prometheus metrics of requests and calls, fed by the signals. Needs `flask-ecwid[metrics]`.

    from flask_ecwid import metrics
    metrics.attach()
    app.add_url_rule("/metrics", view_func=metrics.view)

They are of the process, in `prometheus_client.REGISTRY`, for all its apps and clients together;
where PROMETHEUS_MULTIPROC_DIR is set before this is imported, of all processes that have it.
"""

from __future__ import annotations

import os

from flask import Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from . import signals

# Up to the deadline, and a little more. Each is a series for every operation.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 25)
_WHOSE = ("store", "operation")

_requests = Counter(
    "flask_ecwid_requests",
    "Requests of an operation, by the status of their answer.",
    (*_WHOSE, "status"),
)
_request_seconds = Histogram(
    "flask_ecwid_request_duration_seconds",
    "How long requests of an operation took.",
    _WHOSE,
    buckets=_BUCKETS,
)
_under_way = Gauge(
    "flask_ecwid_requests_in_progress",
    "Requests of an operation that are under way.",
    ("store",),
    multiprocess_mode="livesum",
)
_calls = Counter(
    "flask_ecwid_calls",
    "Calls to Ecwid with all their attempts, by their outcome: ok, or the problem's name.",
    (*_WHOSE, "outcome"),
)
_call_seconds = Histogram(
    "flask_ecwid_call_duration_seconds",
    "How long calls to Ecwid took, with all their attempts and waits.",
    _WHOSE,
    buckets=_BUCKETS,
)
_attempts = Counter(
    "flask_ecwid_attempts",
    "What was sent to Ecwid, by its outcome; a lookup looks for a lost creation.",
    (*_WHOSE, "kind", "outcome"),
)
_throttled = Counter(
    "flask_ecwid_throttled",
    "Attempts and lookups that were not made: budget spent, latch closed or breaker open.",
    (*_WHOSE, "kind", "problem"),
)


def attach() -> None:
    """Count from now on what happens in this process; once more changes nothing."""
    signals.operation_started.connect(_on_operation_started)
    signals.operation_finished.connect(_on_operation_finished)
    signals.call_finished.connect(_on_call_finished)
    signals.attempt_finished.connect(_on_attempt_finished)
    signals.call_throttled.connect(_on_call_throttled)


def view() -> Response:
    """A view that answers with the metrics of all processes."""
    registry = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _on_operation_started(_: object, store: str, **facts: object) -> None:
    _under_way.labels(store).inc()


def _on_operation_finished(
    _: object, store: str, operation: str, status: int, duration_s: float, **facts: object
) -> None:
    _under_way.labels(store).dec()
    _requests.labels(store, operation, status).inc()
    _request_seconds.labels(store, operation).observe(duration_s)


def _on_call_finished(
    _: object, store: str, operation: str, problem: str | None, duration_s: float, **facts: object
) -> None:
    _calls.labels(store, operation, problem or "ok").inc()
    _call_seconds.labels(store, operation).observe(duration_s)


def _on_attempt_finished(
    _: object, store: str, operation: str, problem: str | None, lookup: bool, **facts: object
) -> None:
    _attempts.labels(store, operation, _kind(lookup), problem or "ok").inc()


def _on_call_throttled(
    _: object, store: str, operation: str, problem: str, lookup: bool, **facts: object
) -> None:
    _throttled.labels(store, operation, _kind(lookup), problem).inc()


def _kind(lookup: bool) -> str:
    return "lookup" if lookup else "call"
