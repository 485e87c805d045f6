"""Prometheus metrics of requests and calls, from the signals. Needs `flask-ecwid[metrics]`.

    from flask_ecwid import metrics
    metrics.attach()
    app.add_url_rule("/metrics", view_func=metrics.view)

The metrics stand in `prometheus_client.REGISTRY` and cover all apps and clients of the process. If
PROMETHEUS_MULTIPROC_DIR is set before the import of this module, the metrics cover all processes
that share the folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from flask import Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from . import signals

# The last buckets lie above the default deadline of 20 s. Prometheus stores each bucket as a series
# per operation, so more buckets cost memory.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 25)
_LABELS = ("store", "operation")

_requests = Counter(
    "flask_ecwid_requests",
    "Requests of an operation, by the status of the response.",
    (*_LABELS, "status"),
)
_request_seconds = Histogram(
    "flask_ecwid_request_duration_seconds",
    "Duration of the requests of an operation.",
    _LABELS,
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
    "Calls to Ecwid with all their attempts, by outcome, which is ok or the slug of the problem.",
    (*_LABELS, "outcome"),
)
_call_seconds = Histogram(
    "flask_ecwid_call_duration_seconds",
    "Duration of the calls to Ecwid, with all their attempts and waits.",
    _LABELS,
    buckets=_BUCKETS,
)
_attempts = Counter(
    "flask_ecwid_attempts",
    "HTTP requests to Ecwid, by kind (call or reconcile) and outcome.",
    (*_LABELS, "kind", "outcome"),
)
_throttled = Counter(
    "flask_ecwid_throttled",
    "Attempts that the plugin did not send, by kind and the slug of the problem.",
    (*_LABELS, "kind", "problem"),
)


def attach() -> None:
    """Begin to count the requests and calls of this process. A second call changes nothing."""
    signals.operation_started.connect(_on_operation_started)
    signals.operation_finished.connect(_on_operation_finished)
    signals.call_finished.connect(_on_call_finished)
    signals.attempt_finished.connect(_on_attempt_finished)
    signals.call_throttled.connect(_on_call_throttled)


def view() -> Response:
    """Return the metrics as Flask's response, for all processes that share the folder."""
    registry = REGISTRY
    if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        registry.register(_AllProcesses(Path(folder)))
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class _AllProcesses(Collector):
    """The metrics of all processes that share a folder, each of which has files of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """Read the files that have counts. A file is empty when its process has just begun."""
        files = [str(each) for each in self._folder.glob("*.db") if _has_begun(each)]
        return MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call,no-any-return]


def _has_begun(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:  # The process has ended meanwhile, and the master removed the file.
        return False


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
    _: object, store: str, operation: str, problem: str | None, reconciling: bool, **facts: object
) -> None:
    _attempts.labels(store, operation, _kind(reconciling), problem or "ok").inc()


def _on_call_throttled(
    _: object, store: str, operation: str, problem: str, reconciling: bool, **facts: object
) -> None:
    _throttled.labels(store, operation, _kind(reconciling), problem).inc()


def _kind(reconciling: bool) -> str:
    return "reconcile" if reconciling else "call"
