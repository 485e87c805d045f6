"""The view of docs/oauth.md, with the sandbox as Ecwid on a real port."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_ecwid import EcwidClient, Settings, oauth
from flask_ecwid.sandbox import ALL_SCOPES, STORE_ID

from ..conftest import ROOT, free_port, run_python, wait_for
from ..helpers.pages import blocks, running

PAGE = ROOT / "docs" / "oauth.md"
[VIEW] = blocks(PAGE, "The view", "python")
[SERVE] = blocks(PAGE, "Try it")
[SCRIPT] = blocks(PAGE, "Without an app", "python")


@pytest.fixture(scope="module")
def settings() -> Iterator[dict[str, str]]:
    """Run the sandbox as the page does, and return the settings that it prints."""
    port = free_port()
    with running(SERVE.strip().replace("8100", str(port))) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip().partition("=") for _ in range(7)]
        wait_for(f"http://127.0.0.1:{port}/", process)
        yield {key: value for key, _, value in lines}


@pytest.fixture
def view(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the code of the page, and return its names."""
    for key, value in {**settings, "SECRET_KEY": secrets.token_hex()}.items():
        monkeypatch.setenv(key, value)
    names: dict[str, Any] = {"__name__": "view"}
    exec(VIEW, names)
    return names


def user(view: dict[str, Any], account: str) -> FlaskClient:
    """Return the browser of a user who is logged in."""
    app: Flask = view["app"]
    browser = app.test_client()
    with browser.session_transaction() as session:
        session["account"] = account
    return browser


def at_ecwid(started: TestResponse | str, more: str = "") -> str:
    """Open Ecwid's page, and return the path and the query to which Ecwid sends the merchant."""
    url = started if isinstance(started, str) else started.headers["Location"]
    back = requests.get(url + more, allow_redirects=False, timeout=30)
    assert back.status_code == 302
    parts = urlsplit(back.headers["Location"])
    assert parts.netloc == "localhost"
    return f"{parts.path}?{parts.query}"


def installed(view: dict[str, Any]) -> str:
    """Install the app from Ecwid's pages, and return where Ecwid sends the merchant."""
    with view["app"].test_request_context():
        url = oauth.authorize_url(view["redirect_uri"](), "x")
    return at_ecwid(url.removesuffix("&state=x"))


def form_of(page: TestResponse) -> dict[str, str]:
    return dict(re.findall(r'name="(\w+)" value="([^"]*)"', page.text))


def test_a_merchant_connects_a_store(view: dict[str, Any], settings: dict[str, str]) -> None:
    """The token of a connected store opens the store."""
    anna = user(view, "anna")
    done = anna.get(at_ecwid(anna.get("/connect")))
    assert (done.status_code, done.text) == (200, "The store 1003 is connected.")
    owner, credentials = view["stores"][STORE_ID]
    assert owner == "anna"
    assert credentials.scopes == {*ALL_SCOPES, "read_store_profile"}
    store = Settings(
        store_id=credentials.store_id, token=credentials.token, api_url=settings["ECWID_API_URL"]
    )
    with EcwidClient(store) as client:
        assert client.list_customers()["total"] > 0


def test_the_view_needs_a_user(view: dict[str, Any]) -> None:
    """Nobody starts, ends or confirms the flow without a login."""
    nobody = view["app"].test_client()
    assert nobody.get("/connect").status_code == 401
    assert nobody.get(installed(view)).status_code == 401
    anna = user(view, "anna")
    form = form_of(anna.get(installed(view)))
    with anna.session_transaction() as session:
        del session["account"]
    assert anna.post("/ecwid", data=form).status_code == 401
    assert view["stores"] == {}


def test_a_state_is_valid_once(view: dict[str, Any]) -> None:
    """A state of another user, and a state that was used before, connect nothing."""
    anna, eve = user(view, "anna"), user(view, "eve")
    link = at_ecwid(eve.get("/connect"))
    assert anna.get(link).status_code == 403
    anna.get("/connect")
    assert anna.get(link).status_code == 403
    assert view["stores"] == {}
    assert eve.get(link).status_code == 200
    assert eve.get(link).status_code == 403


def test_an_installation_needs_a_confirmation(view: dict[str, Any]) -> None:
    """Without a state, only a form with a CSRF token connects the store that the page shows."""
    anna = user(view, "anna")
    page = anna.get(installed(view))
    assert page.status_code == 200
    assert "the Ecwid store 1003 to the account anna?" in page.text
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    form = form_of(page)
    assert view["stores"] == {}
    without = {name: form[name] for name in ("store_id", "code")}
    for token in (
        {},
        {"csrf_token": "x"},
        {"csrf_token": form_of(user(view, "eve").get("/ecwid"))},
    ):
        assert anna.post("/ecwid", data={**without, **token}).status_code == 400
        assert view["stores"] == {}
    assert anna.post("/ecwid", data=form).status_code == 200
    assert view["stores"][STORE_ID][0] == "anna"


def test_a_store_of_another_account(view: dict[str, Any], settings: dict[str, str]) -> None:
    """A store belongs to the first account, and the code of another account stays unused."""
    anna, eve = user(view, "anna"), user(view, "eve")
    assert anna.get(at_ecwid(anna.get("/connect"))).status_code == 200
    link = at_ecwid(eve.get("/connect"))
    refused = eve.get(link)
    assert refused.status_code == 409
    assert "Another account has connected this store." in refused.text
    [code] = parse_qs(urlsplit(link).query)["code"]
    assert oauth.exchange_code(STORE_ID, code, "http://localhost/ecwid", config=settings)
    assert anna.get(at_ecwid(anna.get("/connect"))).status_code == 200
    assert view["stores"][STORE_ID][0] == "anna"


def test_two_accounts_at_the_same_time(
    view: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two accounts that exchange codes of one store at the same time, one gets the store."""
    anna, eve = user(view, "anna"), user(view, "eve")
    links = at_ecwid(anna.get("/connect")), at_ecwid(eve.get("/connect"))
    exchange = oauth.exchange_code

    def meanwhile(*sent: str) -> Any:
        monkeypatch.setattr(oauth, "exchange_code", exchange)
        assert anna.get(links[0]).status_code == 200
        return exchange(*sent)

    monkeypatch.setattr(oauth, "exchange_code", meanwhile)
    assert eve.get(links[1]).status_code == 409
    assert view["stores"][STORE_ID][0] == "anna"


def test_a_merchant_who_refuses(view: dict[str, Any]) -> None:
    """A merchant who refuses the access gets a page that says so."""
    anna = user(view, "anna")
    refused = anna.get(at_ecwid(anna.get("/connect"), "&deny=1"))
    assert refused.status_code == 403
    assert "You did not let the app use your store." in refused.text


def test_a_code_of_another_store(view: dict[str, Any]) -> None:
    """The code of one store does not connect another store, and the page says what to do."""
    anna = user(view, "anna")
    link = at_ecwid(anna.get("/connect")).replace("store_id=1003", "store_id=1004")
    refused = anna.get(link)
    assert refused.status_code == 400
    assert "so connect the store again" in refused.text
    [code] = parse_qs(urlsplit(link).query)["code"]
    assert code not in refused.text
    assert view["stores"] == {}


def test_a_second_name_of_a_store(view: dict[str, Any]) -> None:
    """A store has one name only, so no account connects a store of another under a second name."""
    anna, eve = user(view, "anna"), user(view, "eve")
    assert anna.get(at_ecwid(anna.get("/connect"))).status_code == 200
    for name in ("01003", "%201003", "1003%20", "%2B1003", "%EF%BC%91003"):
        link = at_ecwid(eve.get("/connect")).replace("store_id=1003", f"store_id={name}")
        assert eve.get(link).status_code == 400, name
    assert list(view["stores"]) == [STORE_ID]


def test_a_script(settings: dict[str, str]) -> None:
    """A script without an app exchanges a code with the settings of the environment."""
    uri = "https://app.example.com/ecwid"
    page = oauth.authorize_url(uri, "x", config=settings)
    back = requests.get(page, allow_redirects=False, timeout=30).headers["Location"]
    [code] = parse_qs(urlsplit(back).query)["code"]
    done = run_python(
        f"import builtins\nbuiltins.input = lambda _: {code!r}\n{SCRIPT}",
        **settings,
        STORE_ID=STORE_ID,
        REDIRECT_URI=uri,
    )
    assert done.stdout.split() == [STORE_ID, *sorted({*ALL_SCOPES, "read_store_profile"})]
