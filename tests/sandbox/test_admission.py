"""Authentication, scopes and routes of the sandbox."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_ecwid.sandbox import ALL_SCOPES, TOKEN, create_sandbox

CUSTOMERS = "/api/v3/1003/customers"
ONE = f"{CUSTOMERS}/172867214"
UNCACHED = "must-revalidate,no-cache,no-store"
CALLS = {
    "list_customers": ("GET", CUSTOMERS),
    "get_customer": ("GET", ONE),
    "add_customer": ("POST", CUSTOMERS),
    "update_customer": ("PUT", ONE),
    "delete_customer": ("DELETE", ONE),
    "list_deleted": ("GET", f"{CUSTOMERS}/deleted"),
}


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer secret_somethingElseOf32Characters0000"},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Token {TOKEN}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
    ],
)
def test_missing_or_false_token(sandbox: Flask, operation: str, headers: dict[str, str]) -> None:
    """A missing or false token is a 403 without a body."""
    method, path = CALLS[operation]
    response = sandbox.test_client().open(path, method=method, headers=headers)
    assert response.status_code == 403
    assert response.data == b""
    assert dict(response.headers) == {"Content-Length": "0", "Cache-Control": UNCACHED}


def test_token_in_the_url(sandbox: Flask) -> None:
    """A token in the URL is refused, as Ecwid has done since March 2025."""
    response = sandbox.test_client().get(CUSTOMERS, query_string={"token": TOKEN})
    assert (response.status_code, response.data) == (403, b"")


@pytest.mark.parametrize(
    ("operation", "scopes"),
    [
        ("list_customers", {"read_customers"}),
        ("get_customer", {"read_customers"}),
        ("add_customer", {"create_customers"}),
        ("update_customer", {"read_customers", "update_customers"}),
        ("delete_customer", {"read_customers", "update_customers"}),
        ("list_deleted", {"read_store_profile"}),
    ],
)
def test_scopes(tmp_path: Path, operation: str, scopes: set[str]) -> None:
    """Each operation needs exactly its scopes, and a missing scope is a 403."""
    tokens = {scope: ALL_SCOPES - {scope} for scope in ALL_SCOPES} | {"exactly": scopes}
    client = create_sandbox(tmp_path / "store.sqlite3", tokens=tokens).test_client()
    method, path = CALLS[operation]

    def status(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        response = client.open(path, method=method, headers=headers, json={"email": "a@b"})
        if response.status_code == 403:
            assert response.json is not None
            assert response.json["errorCode"] == "INSUFFICIENT_APP_SCOPE"
            assert token in response.json["errorMessage"]
            assert response.headers["Cache-Control"] == UNCACHED
        return response.status_code

    assert status("exactly") == 200
    assert {scope for scope in ALL_SCOPES if status(scope) == 403} == scopes


@pytest.mark.parametrize("operation", ["add_customer", "update_customer"])
def test_scope_comes_before_the_body(tmp_path: Path, operation: str) -> None:
    """A malformed body is a 403 without the scope, and a 400 with the scope."""
    tokens = {"none": set[str](), "all": ALL_SCOPES}
    client = create_sandbox(tmp_path / "store.sqlite3", tokens=tokens).test_client()
    method, path = CALLS[operation]
    statuses = {
        token: client.open(
            path, method=method, data=b"{", headers={"Authorization": f"Bearer {token}"}
        ).status_code
        for token in tokens
    }
    assert statuses == {"none": 403, "all": 400}


@pytest.mark.parametrize("store_id", ["1004", "0", "01003", "abc"])
def test_another_store(sandbox: Flask, store_id: str) -> None:
    """An unknown store is a 404 with a body of its own, with or without a token."""
    response = sandbox.test_client().get(f"/api/v3/{store_id}/customers")
    assert response.status_code == 404
    assert response.json == {"errorCode": "STORE_NOT_FOUND", "errorMessage": "Store not found"}
    assert response.headers["Cache-Control"] == UNCACHED


def test_the_store_id_is_configurable(tmp_path: Path) -> None:
    """A sandbox can have any store id."""
    client = create_sandbox(tmp_path / "s", store_id="7", tokens={"t": ALL_SCOPES}).test_client()
    headers = {"Authorization": "Bearer t"}
    assert client.get("/api/v3/7/customers", headers=headers).status_code == 200
    assert client.get(CUSTOMERS, headers=headers).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/v3/1003",
        "/api/v3/1003/orders",
        "/api/v3/1003//customers",
        f"{CUSTOMERS}/",
        f"{CUSTOMERS}/abc",
        f"{CUSTOMERS}/-1",
        f"{CUSTOMERS}/+1",
        f"{CUSTOMERS}/1.0",
        f"{CUSTOMERS}/\u0661",
        f"{CUSTOMERS}/{'9' * 19}",
        f"{CUSTOMERS}/{'9' * 5000}",
    ],
)
def test_unknown_path(store: FlaskClient, path: str) -> None:
    """An unknown path is a 404 with Ecwid's message, and never a redirect."""
    response = store.get(path)
    assert response.status_code == 404
    assert response.json == {"errorMessage": "File not found"}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", CUSTOMERS, {"GET", "HEAD", "POST", "OPTIONS"}),
        ("DELETE", CUSTOMERS, {"GET", "HEAD", "POST", "OPTIONS"}),
        ("POST", ONE, {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}),
    ],
)
def test_wrong_method(store: FlaskClient, method: str, path: str, allowed: set[str]) -> None:
    """A method that a path does not have is a 405 that lists the methods of the path."""
    response = store.open(path, method=method)
    assert response.status_code == 405
    assert response.json == {
        "errorCode": "METHOD_NOT_ALLOWED",
        "errorMessage": "Method not allowed",
    }
    assert set(response.headers["Allow"].split(", ")) == allowed


def test_defect(store: FlaskClient, tmp_path: Path) -> None:
    """An unexpected exception is a 500 in Ecwid's words, without a trace of its cause."""
    (tmp_path / "store.sqlite3").unlink()
    response = store.get(CUSTOMERS)
    assert response.status_code == 500
    assert response.json == {"errorCode": "INTERNAL_ERROR", "errorMessage": "Internal error"}
    assert response.headers["Cache-Control"] == UNCACHED
    assert not list(tmp_path.iterdir()), "nothing has come in the store's place"


@pytest.mark.parametrize(
    ("path", "query"), [(CUSTOMERS, {}), (ONE, {}), (CUSTOMERS, {"limit": "x"}), (f"{ONE}9", {})]
)
def test_content_type(store: FlaskClient, path: str, query: dict[str, Any]) -> None:
    """Good replies and errors are JSON in UTF-8, and their Content-Type says so."""
    response = store.get(path, query_string=query)
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert response.json


@pytest.mark.parametrize("path", [CUSTOMERS, ONE])
def test_head(store: FlaskClient, path: str) -> None:
    """HEAD returns the reply of GET without its body."""
    response = store.head(path)
    assert (response.status_code, response.data) == (200, b"")
    assert response.headers["Content-Length"] == str(len(store.get(path).data))
