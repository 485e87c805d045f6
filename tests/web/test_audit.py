"""Tests of the audit log, which holds callers, operations and results, and nothing personal."""

from __future__ import annotations

import logging
from typing import Any

import flask
import pytest

from flask_ecwid import Caller, Ecwid
from flask_ecwid.sandbox import Fault

from ..conftest import REQUEST_ID, Api
from ..helpers.ordered_store import OrderedStore
from .test_auth import ENTRIES, KEY, OPERATIONS, READ_KEY, SCOPES, bearer, call

CUSTOMER = "172890169"
Lines = list[dict[str, Any]]
NAMES = ("phase", "caller", "operation", "customer_id", "result", "executed", "request_id")


@pytest.fixture
def api(ordered: OrderedStore) -> Api:
    return ordered.api(ECWID_API_KEYS=ENTRIES)


def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    records = [r for r in caplog.records if r.name.startswith("flask_ecwid.audit")]
    for record in records:
        names = (
            "phase",
            "store",
            "store_id",
            *NAMES[1:],
            *(["replayed"] if is_replay(record) else []),
        )
        assert record.getMessage() == " ".join(f"{name}={getattr(record, name)}" for name in names)
        assert "canary" not in record.getMessage()
        assert record.store_id == "1003"  # type: ignore[attr-defined]
    return [
        {name: getattr(record, name) for name in (*NAMES, "replayed") if hasattr(record, name)}
        for record in records
    ]


def is_replay(record: logging.LogRecord) -> bool:
    """Return True if a formatter for JSON would write the member `replayed`."""
    return hasattr(record, "replayed")


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "flask_ecwid.audit")


def line(operation: str, **other: Any) -> dict[str, Any]:
    has_customer = operation not in ("list_customers", "add_customer")
    return {
        "phase": "after",
        "caller": "warehouse",
        "operation": operation,
        "customer_id": int(CUSTOMER) if has_customer else "-",
        "result": 200,
        "executed": "-" if SCOPES[operation] == "read" else "yes",
        "request_id": REQUEST_ID,
        **other,
    }


def before() -> dict[str, Any]:
    return line("delete_customer", phase="before", result="-", executed="-")


HEADERS = [*bearer(KEY), ("X-Request-ID", REQUEST_ID)]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_success(api: Api, operation: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each request of an operation has a line. A deletion also has a line before its call."""
    response = call(api, operation, HEADERS)
    expected = line(operation)
    if operation == "add_customer":
        expected["customer_id"] = response.get_json()["data"]["id"]
    first = [before()] if operation == "delete_customer" else []
    assert lines(caplog) == [*first, expected]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("key", "status", "caller"), [("canary", 401, "-"), (READ_KEY, 403, "-")], ids=["401", "403"]
)
def test_a_refused_request(
    api: Api,
    operation: str,
    key: str,
    status: int,
    caller: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A refused request has a line after the refusal and none before."""
    if key == READ_KEY and SCOPES[operation] == "read":
        return
    call(api, operation, [*bearer(key), ("X-Request-ID", REQUEST_ID)])
    executed = "-" if SCOPES[operation] == "read" else "no"
    refused = {"caller": caller, "customer_id": "-", "result": status, "executed": executed}
    assert lines(caplog) == [line(operation, **refused)]


def test_a_bad_request(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """No line holds an invalid value."""
    api.post("/delete_customer/canary", headers=HEADERS)
    api.post("/add_customer", {"email": "canary"}, headers=HEADERS)
    refused = {"customer_id": "-", "result": 400, "executed": "no"}
    assert lines(caplog) == [line("delete_customer", **refused), line("add_customer", **refused)]


@pytest.mark.parametrize(
    ("fault", "result", "executed"),
    [
        (Fault("status", status=404), 404, "no"),
        (Fault("reset"), 502, "unknown"),
        (Fault("status", status=403, empty=True), 502, "no"),
    ],
)
@pytest.mark.usefixtures("no_waiting")
def test_a_failure(
    ordered: OrderedStore,
    api: Api,
    fault: Fault,
    result: int,
    executed: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The line of a failed write says whether the write may have happened."""
    ordered.orders.inject(fault)
    call(api, "delete_customer", HEADERS)
    expected = line("delete_customer", result=result, executed=executed)
    assert lines(caplog) == [before(), expected]


def test_a_replay(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """Only the line of a replay says so. It names the customer that the first request created.

    `executed` is the outcome that is replayed, so the customer exists.
    """
    headers = [*HEADERS, ("Idempotency-Key", "canary")]
    ids = {call(api, "add_customer", headers).get_json()["data"]["id"] for _ in range(2)}
    [customer_id] = ids
    first = line("add_customer", customer_id=customer_id)
    assert lines(caplog) == [first, {**first, "replayed": "yes"}]


@pytest.mark.parametrize("status", [400, 409, 413, 422])
def test_a_replayed_refusal(
    ordered: OrderedStore, api: Api, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The line of a replayed refusal says that the outcome is replayed and nothing happened."""
    ordered.orders.inject(Fault("status", status=status, times=1))
    headers = [*HEADERS, ("Idempotency-Key", "canary")]
    for _ in range(2):
        assert call(api, "add_customer", headers).status_code == status
    first = line("add_customer", customer_id="-", result=status, executed="no")
    assert lines(caplog) == [first, {**first, "replayed": "yes"}]


@pytest.mark.usefixtures("no_waiting")
def test_a_found_creation_is_no_replay(
    ordered: OrderedStore, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """No line says replayed if the first request had no outcome, or the key belongs to another."""
    ordered.orders.inject(Fault("reset", operation="add_customer", nth=1, after=True))
    ordered.orders.inject(Fault("status", operation="list_customers", status=500, times=3))
    headers = [*HEADERS, ("Idempotency-Key", "canary")]
    statuses = [call(api, "add_customer", headers).status_code for _ in range(2)]
    assert statuses == [504, 200]
    response = api.post("/add_customer", {"email": "other@example.com"}, headers=headers)
    assert response.status_code == 422
    found = lines(caplog)
    assert [each["executed"] for each in found] == ["unknown", "yes", "no"]
    assert not any("replayed" in each for each in found)


def test_an_open_store(ordered: OrderedStore, caplog: pytest.LogCaptureFixture) -> None:
    """The line of an open store names the caller `anybody`."""
    call(ordered.api(), "get_customer")
    assert [each["caller"] for each in lines(caplog)] == ["anybody"]


def test_a_name_that_looks_like_more(
    ordered: OrderedStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A caller's name with blanks stands in quotes, so the name adds no member to the line."""
    app = flask.Flask("host")
    app.config["ECWID_SANDBOX"] = str(ordered.path)
    Ecwid(app, authorize=lambda scope: Caller('bob executed=no "x"'))
    call(Api(app.test_client()), "update_customer", HEADERS)
    [record] = [r for r in caplog.records if r.name == "flask_ecwid.audit"]
    assert ' caller="bob executed=no \\"x\\"" operation=' in record.getMessage()


def test_reads_have_a_logger_of_their_own(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """The lines of reads have a logger of their own, because reads are many."""
    call(api, "get_customer", HEADERS)
    call(api, "update_customer", HEADERS)
    names = [r.name for r in caplog.records if "audit" in r.name]
    assert names == ["flask_ecwid.audit.reads", "flask_ecwid.audit"]


def test_what_has_no_operation_has_no_line(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """Requests for the contract, the UI and unknown paths have no line."""
    for path in ("/openapi.json", "/ui/", "/nothing"):
        api.get(path)
    api.open("OPTIONS", "/customers")
    assert lines(caplog) == []
