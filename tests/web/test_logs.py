"""Tests that no log below the mount holds a value of a caller, even at DEBUG."""

from __future__ import annotations

import logging

import pytest
from pytest_httpserver import HTTPServer

from flask_ecwid import clock
from flask_ecwid.web.sampling import MOST_LINES, WINDOW_S

from ..conftest import STORE, TOKEN, Api, Config, app_of
from ..helpers.ordered_store import OrderedStore
from .test_auth import ENTRIES, KEY, bearer

CANARY = "canary"


def test_no_logger_shows_a_value(
    ecwid: HTTPServer, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    """No log record of the plugin or connexion holds a value of a request or the token."""
    caplog.set_level(logging.DEBUG)
    page = {"total": 1, "items": [{"id": 5, "email": f"{CANARY}@example.com"}]}
    ecwid.expect_request(f"{STORE}/customers", method="GET").respond_with_json(page)
    ecwid.expect_request(f"{STORE}/customers", method="POST").respond_with_json({"id": 5})
    api = Api(app_of(config).test_client())
    headers = {"X-API-Key": CANARY, "Idempotency-Key": f"{CANARY}-{CANARY}-{CANARY}-{CANARY}"}
    assert api.get(f"/customers?keyword={CANARY}").status_code == 200
    assert api.get(f"/customers?{CANARY}={CANARY}").status_code == 400
    body = {"email": f"{CANARY}@example.com"}
    assert api.post("/add_customer", body, headers=headers).status_code == 200
    assert api.post("/add_customer", {CANARY: CANARY}, headers=headers).status_code == 400
    records = [r for r in caplog.records if r.name.split(".")[0] in ("connexion", "flask_ecwid")]
    assert {r.name.split(".")[0] for r in records} == {"connexion", "flask_ecwid"}
    for record in records:
        shown = repr({**vars(record), "message": record.getMessage()})
        assert CANARY not in shown, record.name
        assert TOKEN not in shown, record.name


def test_refused_requests_do_not_fill_the_log(
    ordered: OrderedStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10,000 requests without a caller write few lines, and the log has their exact number.

    The lines of a known caller are complete.
    """
    caplog.set_level(logging.INFO, "flask_ecwid")
    now = clock.now
    later = [0.0]
    monkeypatch.setattr(clock, "now", lambda: now() if not later[0] else later[0])
    api = ordered.api(ECWID_API_KEYS=ENTRIES)
    refused = [
        ("GET", "/customers", 401),
        ("POST", "/delete_customer/7", 401),
        ("GET", "/nothing", 404),
        ("PUT", "/customers", 405),
    ]
    later[0] = now()  # A busy machine may need more than a minute for the requests.
    for method, path, status in refused * 2500:
        assert api.open(method, path).status_code == status
    records = [r for r in caplog.records if r.name.startswith("flask_ecwid")]
    assert len(records) <= 2 * MOST_LINES
    caplog.clear()
    for _ in range(3):
        assert api.get("/customers?limit=0", headers=bearer(KEY)).status_code == 400
    assert len(caplog.records) == 6  # a request line and an audit line each
    later[0] = now() + WINDOW_S
    api.get("/openapi.json")
    [line] = [vars(r) for r in caplog.records if "left_out" in vars(r)]
    assert line["left_out"] == 10_000 - MOST_LINES
    assert line["events"] == "Refused requests of unknown callers at ecwid"
