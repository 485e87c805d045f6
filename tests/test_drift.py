"""Drift: what Ecwid adds passes on, and is told in the log as numbers."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from flask_ecwid import clock

from .conftest import STORE, Api, payload

CANARY = "canary@example.com"
UNKNOWN = {"newMember": CANARY, CANARY: 1}


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if line.startswith("drift ")]


@pytest.mark.parametrize("path", ["/customers", "/customer/7"])
@pytest.mark.parametrize(
    ("more", "line"),
    [
        (UNKNOWN, "drift answers_with_unknown_members=1 answers_with_nulls=0"),
        ({"lang": None}, "drift answers_with_unknown_members=0 answers_with_nulls=1"),
    ],
)
def test_what_is_new_passes_and_is_told(
    ecwid: HTTPServer,
    api: Api,
    caplog: pytest.LogCaptureFixture,
    path: str,
    more: dict[str, Any],
    line: str,
) -> None:
    """A member that is new or null passes unchanged; the log has the number, and no name."""
    customer = {"id": 7, **more}
    page = {"total": 1, "count": 1, "offset": 0, "limit": 100, "items": [customer]}
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(page)
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json(customer)
    attributes = api.get(path).get_json()["data"]["attributes"]
    shown = attributes["items"][0] if path == "/customers" else attributes
    assert {name: shown[name] for name in more} == more
    assert told(caplog) == [line]
    assert CANARY not in caplog.text


def test_a_page_with_a_new_member(
    ecwid: HTTPServer, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """A page's own new member counts as a customer's does."""
    page = {**payload("seed.customers"), "newMember": CANARY}
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(page)
    assert api.get("/customers").status_code == 200
    assert len(told(caplog)) == 1


def test_what_is_documented_is_no_drift(
    ecwid: HTTPServer, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """Ecwid's documented page, with all that its customers leave out, is not told."""
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(payload("seed.customers"))
    assert api.get("/customers").status_code == 200
    assert told(caplog) == []


def test_once_a_minute(
    ecwid: HTTPServer,
    api: Api,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is a line a minute at most; it counts what came since the last one."""
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json({"id": 7, **UNKNOWN})
    begun = clock.now()
    for second in (0, 1, 2, 30, 61):
        monkeypatch.setattr(clock, "now", lambda second=second: begun + second)
        api.get("/customer/7")
    assert [line.split()[1] for line in told(caplog)] == [
        "answers_with_unknown_members=1",
        "answers_with_unknown_members=4",
    ]
