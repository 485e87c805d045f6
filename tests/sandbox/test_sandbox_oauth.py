"""The sandbox plays Ecwid's side of OAuth."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_ecwid.sandbox import CLIENT_ID, CLIENT_SECRET, TOKEN, create_sandbox, oauth

URI = "https://app.example.com/ecwid"
ASKED = {
    "client_id": CLIENT_ID,
    "redirect_uri": URI,
    "response_type": "code",
    "scope": "read_customers",
}


def page(ecwid: FlaskClient, **more: str) -> dict[str, str]:
    """Open the page, and return the query with which the merchant is sent back."""
    response = ecwid.get("/api/oauth/authorize", query_string={**ASKED, **more})
    assert response.status_code == 302
    path, _, query = response.headers["Location"].partition("?")
    assert path == URI
    return {name: value for name, [value] in parse_qs(query).items()}


def exchanged(ecwid: FlaskClient, code: str, store_id: str = "1003", **more: str) -> Any:
    form = {
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "code": code,
        "redirect_uri": URI,
        "grant_type": "authorization_code",
    }
    return ecwid.post(f"/api/oauth/token/{store_id}", data={**form, **more})


def test_a_code_becomes_a_token_once(sandbox: Flask) -> None:
    """A code becomes the token of its store, and is then spent."""
    ecwid = sandbox.test_client()
    sent = page(ecwid, state="s")
    assert sent.keys() == {"code", "store_id", "state"}
    assert (sent["store_id"], sent["state"]) == ("1003", "s")
    reply = exchanged(ecwid, sent["code"])
    assert reply.get_json() == {
        "access_token": TOKEN,
        "token_type": "bearer",
        "scope": "create_customers read_customers read_store_profile update_customers",
        "store_id": 1003,
    }
    again = exchanged(ecwid, sent["code"])
    assert (again.status_code, again.get_json()) == (400, {"error": "invalid_grant"})


def test_the_scopes_are_those_of_the_token(tmp_path: Any) -> None:
    """The reply names the scopes that the token has, and not those that the app asked for."""
    few = create_sandbox(tmp_path / "few.sqlite3", tokens={TOKEN: {"read_customers"}}).test_client()
    reply = exchanged(few, page(few)["code"])
    assert reply.get_json()["scope"] == "read_customers read_store_profile"


def test_an_installation_has_no_state(sandbox: Flask) -> None:
    """A merchant who comes without a state is sent back without a state."""
    assert page(sandbox.test_client()).keys() == {"code", "store_id"}


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"deny": "1"}, "access_denied"),
        ({"store_id": "1004"}, "access_denied"),
        ({"scope": ""}, "invalid_request"),
        ({"response_type": "token"}, "invalid_request"),
    ],
)
def test_no_code(sandbox: Flask, asked: dict[str, str], error: str) -> None:
    """A merchant who refuses, or whose store does not exist, is sent back without a code."""
    assert page(sandbox.test_client(), state="s", **asked) == {"error": error, "state": "s"}


@pytest.mark.parametrize("wrong", [{"client_id": "x"}, {"redirect_uri": "/ecwid"}])
def test_an_unknown_app(sandbox: Flask, wrong: dict[str, str]) -> None:
    """The page sends nobody anywhere for an unknown app or to a place that is no URL."""
    response = sandbox.test_client().get("/api/oauth/authorize", query_string={**ASKED, **wrong})
    assert response.status_code == 400


@pytest.mark.parametrize(
    ("sent", "status", "error"),
    [
        ({"client_secret": "x"}, 401, "invalid_client"),
        ({"client_id": "x"}, 401, "invalid_client"),
        ({"grant_type": "x"}, 400, "unsupported_grant_type"),
        ({"code": "x"}, 400, "invalid_grant"),
        ({"store_id": "1004"}, 400, "invalid_grant"),
        ({"redirect_uri": f"{URI}/x"}, 400, "invalid_grant"),
    ],
)
def test_a_refused_exchange(sandbox: Flask, sent: Any, status: int, error: str) -> None:
    """A code counts for its app, store and redirect_uri only."""
    ecwid = sandbox.test_client()
    reply = exchanged(ecwid, **{"code": page(ecwid)["code"], **sent})
    assert (reply.status_code, reply.get_json()) == (status, {"error": error})


def test_a_code_of_another_store() -> None:
    """The code of one store is no code of another store that exists."""
    app = Flask("ecwid")
    oauth.add_routes(app, "1003", lambda store_id: (f"{TOKEN}-{store_id}", ()))
    ecwid = app.test_client()
    code = page(ecwid, store_id="1004")["code"]
    assert exchanged(ecwid, code, "1003").get_json() == {"error": "invalid_grant"}
    code = page(ecwid, store_id="1004")["code"]
    assert exchanged(ecwid, code, "1004").get_json()["access_token"] == f"{TOKEN}-1004"


def test_an_old_code(sandbox: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A code is valid for a few minutes."""
    monkeypatch.setattr(oauth, "VALID_S", -1)
    ecwid = sandbox.test_client()
    assert exchanged(ecwid, page(ecwid)["code"]).get_json() == {"error": "invalid_grant"}


def test_the_secret_is_in_the_body(sandbox: Flask) -> None:
    """A GET exchanges nothing, and a form in the URL does not count."""
    ecwid = sandbox.test_client()
    query = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    assert ecwid.get("/api/oauth/token/1003", query_string=query).status_code == 405
    assert ecwid.post("/api/oauth/token/1003", query_string=query).status_code == 401


def test_a_redirect_uri_with_a_query(sandbox: Flask) -> None:
    """The query of the app's view stays."""
    asked = {**ASKED, "redirect_uri": f"{URI}?from=ecwid"}
    response = sandbox.test_client().get("/api/oauth/authorize", query_string=asked)
    query = parse_qs(urlsplit(response.headers["Location"]).query)
    assert query.keys() == {"from", "code", "store_id"}
