"""Tests that no log below the mount holds a value of a caller, even at DEBUG."""

from __future__ import annotations

import logging

import pytest
from pytest_httpserver import HTTPServer

from ..conftest import STORE, TOKEN, Api, Config, app_of

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
