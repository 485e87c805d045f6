"""The app of docs/many-stores.md, with a sandbox of three stores as Ecwid on a real port."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from flask_login import login_user
from flask_wtf.csrf import generate_csrf

from flask_ecwid import EcwidClient, Settings, StoreCredentials
from flask_ecwid.sandbox import TOKEN

from ..conftest import ROOT, Api, free_port, wait_for
from ..helpers.pages import blocks, running, sh

PAGE = ROOT / "docs" / "many-stores.md"
[APP] = blocks(PAGE, "An app for an agency", "python")
[SHOPS] = blocks(PAGE, "A prefix with the merchant", "python")
[COMMANDS] = blocks(PAGE, "An app for an agency")
[FILE] = blocks(PAGE, "A file of stores")
[SERVE] = blocks(PAGE, "Try it")
MOST_LINES = 60


@pytest.fixture(scope="module")
def settings() -> Iterator[dict[str, str]]:
    """Run the sandbox as the page does, and return the settings that it prints."""
    port = free_port()
    with running(f"{SERVE.strip()} --port {port}") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip().partition("=") for _ in range(5)]
        wait_for(f"http://127.0.0.1:{port}/", process)
        yield {key: value for key, _, value in lines}


@pytest.fixture
def names(
    settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """Run the code of the page, and return its names. Two users have signed up."""
    monkeypatch.setenv("SECRET_KEY", secrets.token_hex())
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/agency.db")
    for key, value in settings.items():
        if key != "ECWID_STORES":
            monkeypatch.setenv(key, value)
    names: dict[str, Any] = {"__name__": "agency"}
    exec(APP, names)
    app: Flask = names["app"]

    @app.get("/login/<int:user_id>")
    def login(user_id: int) -> str:
        login_user(names["load_user"](user_id))
        return str(generate_csrf())

    with app.app_context():
        names["db"].create_all()
        names["db"].session.add_all([names["User"](), names["User"]()])
        names["db"].session.commit()
    yield names
    with app.app_context():
        names["db"].engine.dispose()


def browser_of(names: dict[str, Any], user_id: int) -> FlaskClient:
    browser: FlaskClient = names["app"].test_client()
    assert browser.get(f"/login/{user_id}").status_code == 200
    return browser


def connect(browser: FlaskClient, store_id: str) -> int:
    """Connect a store as a merchant does, and return the status of the last page."""
    page = browser.get("/connect").headers["Location"]
    back = requests.get(f"{page}&store_id={store_id}", allow_redirects=False, timeout=30)
    return browser.get(back.headers["Location"]).status_code


def test_the_app_is_short() -> None:
    """The app of the page has 60 lines of code at most."""
    assert len([line for line in APP.splitlines() if line.strip()]) <= MOST_LINES


def test_merchants_come_and_go(names: dict[str, Any]) -> None:
    """Two merchants connect their stores while the app runs, and each reaches only their own."""
    ann, bob = browser_of(names, 1), browser_of(names, 2)
    assert Api(ann).get("/customers").get_json()["type"].endswith("no-store-assigned")
    assert [connect(ann, "1003"), connect(bob, "1004")] == [302, 302]
    body = {"email": "new@example.com"}
    assert Api(ann).post("/add_customer", body).status_code == 200
    emails = [
        [
            customer["email"]
            for customer in Api(user).get("/customers").get_json()["data"]["attributes"]["items"]
        ]
        for user in (ann, bob)
    ]
    assert "new@example.com" in emails[0]
    assert "new@example.com" not in emails[1]
    assert ann.post("/disconnect").status_code == 400
    csrf = {"X-CSRFToken": ann.get("/login/1").text}
    assert ann.post("/disconnect", headers=csrf).status_code == 302
    assert Api(ann).get("/customers").status_code == 403
    assert Api(bob).get("/customers").status_code == 200


@pytest.fixture
def no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a Redis that cannot be reached."""
    monkeypatch.setenv("ECWID_REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")


def test_a_store_that_cannot_be_forgotten(no_redis: None, names: dict[str, Any]) -> None:
    """While Redis fails, the user can send the form again, and no request uses the store."""
    ann, bob = browser_of(names, 1), browser_of(names, 2)
    assert connect(ann, "1003") == 302
    csrf = {"X-CSRFToken": ann.get("/login/1").text}
    for _ in range(2):
        response = ann.post("/disconnect", headers=csrf)
        assert (response.status_code, "again later" in response.text) == (503, True)
        assert Api(ann).get("/customers").status_code == 403
    assert connect(bob, "1003") == 403
    bobs = {"X-CSRFToken": bob.get("/login/2").text}
    assert bob.post("/disconnect", headers=bobs).status_code == 404


def test_a_user_with_several_stores(names: dict[str, Any]) -> None:
    """The store of the URL is served only if the user owns the store."""
    exec(SHOPS, names)
    ann, bob = browser_of(names, 1), browser_of(names, 2)
    connect(ann, "1003")
    connect(bob, "1004")
    with names["app"].app_context():
        names["db"].create_all()
        for user in map(names["load_user"], (1, 2)):
            shop = names["Shop"](owner_id=user.id, store_id=user.store_id, token=user.token)
            names["db"].session.add(shop)
        names["db"].session.commit()
    statuses = [
        [Api(user, f"/shops/{shop}").get("/customers").status_code for shop in (1, 2, 3)]
        for user in (ann, bob)
    ]
    assert statuses == [[200, 403, 403], [403, 200, 403]]
    assert Api(ann, "/shops/1").post("/add_customer", {"email": "a@example.com"}).status_code == 200


def test_a_store_of_another_merchant(names: dict[str, Any]) -> None:
    """No user can connect the store of another user, or use a link of somebody else."""
    ann, bob = browser_of(names, 1), browser_of(names, 2)
    assert [connect(ann, "1003"), connect(bob, "1003")] == [302, 403]
    assert bob.get("/connected?state=guessed&code=x&store_id=1004").status_code == 403
    assert bob.get("/connected?error=access_denied").status_code == 403
    from_ecwid = bob.get("/connected?code=x&store_id=1004")
    assert from_ecwid.headers["Location"] == "/connect"
    assert names["app"].test_client().get("/connect").status_code == 401


def test_the_functions_for_a_store(names: dict[str, Any]) -> None:
    """`find_store` finds the connected stores, and `client_for` gives a client of one."""
    connect(browser_of(names, 1), "1005")
    with names["app"].app_context():
        credentials: StoreCredentials = names["find_store"]("1005")
        client: EcwidClient = names["ecwid"].client_for(credentials)
        assert client.list_customers()["total"] > 0
        assert names["find_store"]("1004") is None


def test_the_commands_of_an_agency(names: dict[str, Any], tmp_path: Path) -> None:
    """The commands of the page find a store in the database of the app."""
    connect(browser_of(names, 1), "1003")
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    done = sh(f"set -e\n{COMMANDS}", tmp_path, **ecwid_settings(names))
    assert (done.returncode, "token: accepted" in done.stdout) == (0, True), done.stderr
    assert len((tmp_path / "customers.csv").read_text(encoding="utf-8").splitlines()) > 1


def test_the_file_of_stores(settings: dict[str, str], tmp_path: Path) -> None:
    """The commands of the page add a store to the file, check it and remove it."""
    (tmp_path / "token.txt").write_text(TOKEN, encoding="utf-8")
    (tmp_path / "wsgi.py").write_text((ROOT / "wsgi.py").read_text(encoding="utf-8"))
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    block = FILE.replace("/etc/shop", str(folder))
    done = sh(f"set -e\n{block}", tmp_path, ECWID_API_URL=settings["ECWID_API_URL"])
    assert done.returncode == 0, done.stderr
    key, listed, checked = done.stdout.splitlines()
    assert key.startswith("key: ")
    assert listed == "1003 warehouse:read+write"
    assert checked == "1003: ok"
    assert json.loads((folder / "stores.json").read_text(encoding="utf-8")) == {"stores": []}


def ecwid_settings(names: dict[str, Any]) -> dict[str, str]:
    """Return the environment of the app of the page."""
    config = names["app"].config
    kept = {key: value for key, value in config.items() if key.startswith("ECWID_")}
    return {
        **{key: str(value) for key, value in kept.items()},
        "SECRET_KEY": config["SECRET_KEY"],
        "DATABASE_URL": config["SQLALCHEMY_DATABASE_URI"],
    }


def test_the_numbers_of_the_page(settings: dict[str, str]) -> None:
    """The page has the default of the open stores, and the ids of the simulated stores."""
    page = PAGE.read_text(encoding="utf-8")
    [most] = [each.default for each in fields(Settings) if each.name == "max_open_stores"]
    assert f"A process keeps {most} stores open" in page
    [named] = re.findall(r"a file with the stores (\d+), (\d+) and (\d+)", page)
    listed = json.loads(Path(settings["ECWID_STORES"]).read_text(encoding="utf-8"))["stores"]
    assert [store["id"] for store in listed] == [*named]
