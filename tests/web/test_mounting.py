"""Tests of mounting in one app or several, at any prefix, beside the routes of the host."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import warnings
from typing import Any

import flask
import pytest
import yaml
from click.testing import CliRunner
from flask.cli import FlaskGroup
from flask.json.provider import DefaultJSONProvider
from pytest_httpserver import HTTPServer
from swagger_ui_bundle import swagger_ui_path
from werkzeug.exceptions import NotFound
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_ecwid import Ecwid, contract
from flask_ecwid.web.openapi_31 import openapi_31

from ..conftest import PREFIX, STORE, Api, Config, app_of


def test_factory(ecwid: HTTPServer, config: Config) -> None:
    """An extension object may serve several apps, each with its own settings."""
    extension = Ecwid()

    def create_app(store_id: str) -> flask.Flask:
        app = flask.Flask("host")
        app.config.update(config, ECWID_STORE_ID=store_id)
        extension.init_app(app)
        return app

    for store_id in ("1003", "2004"):
        ecwid.expect_request(f"/api/v3/{store_id}/customers/7").respond_with_json({"id": 7})
    apps = [create_app("1003"), create_app("2004")]
    for app in apps:
        assert Api(app.test_client()).get("/customer/7").status_code == 200
    assert [request.path for request, _ in ecwid.log] == [
        "/api/v3/1003/customers/7",
        "/api/v3/2004/customers/7",
    ]
    assert apps not in list(vars(extension).values())


def test_client_of_the_current_app(ecwid: HTTPServer, config: Config) -> None:
    """The host can use the mounted store's client in its own views."""
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json({"id": 7})
    extension = Ecwid()
    app = flask.Flask("host")
    app.config.update(config)
    extension.init_app(app)
    with app.app_context():
        assert extension.client.get_customer(7) == {"id": 7}


def test_url_for(app: flask.Flask) -> None:
    """Operations have plain endpoint names."""
    with app.test_request_context():
        assert flask.url_for("ecwid.list_customers", limit=5) == f"{PREFIX}/customers?limit=5"
        assert flask.url_for("ecwid.get_customer", customer_id=7) == f"{PREFIX}/customer/7"
        assert flask.url_for("ecwid.ui") == f"{PREFIX}/ui/"


def test_flask_routes(app: flask.Flask) -> None:
    """`flask routes` lists the five operations."""
    command = FlaskGroup(create_app=lambda: app, load_dotenv=False)
    printed = CliRunner().invoke(command, ["routes"]).output
    for operation in contract.load().operations:
        assert f"ecwid.{operation} " in printed


def test_another_prefix(ecwid: HTTPServer, config: Config) -> None:
    """The mount may have another prefix, and the served contract names the prefix."""
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json({"id": 7})
    app = flask.Flask("host")
    app.config.update(config)
    Ecwid(app, url_prefix="/shop/v2")
    client = app.test_client()
    assert client.get("/shop/v2/customer/7").status_code == 200
    served = client.get("/shop/v2/openapi.json").json
    assert served is not None
    assert served["servers"] == [{"url": "/shop/v2"}]
    assert client.get(f"{PREFIX}/customer/7").content_type.startswith("text/html")


@pytest.mark.parametrize("prefix", ["", "/", "shop", "/shop/"])
def test_prefixes_that_cannot_work(prefix: str) -> None:
    """A prefix begins with a slash and ends without one."""
    with pytest.raises(ValueError, match="url_prefix"):
        Ecwid(url_prefix=prefix)


def test_two_stores(ecwid: HTTPServer, config: Config) -> None:
    """Two stores in one app have their own settings, names, prefixes and tokens."""
    app = flask.Flask("host")
    app.config.update(config)
    app.config.update({f"OUTLET_{key}": value for key, value in config.items()})
    app.config.update(OUTLET_ECWID_STORE_ID="2004", OUTLET_ECWID_TOKEN="secret_outlet")
    Ecwid(app)
    Ecwid(app, name="outlet", url_prefix="/outlet", config_prefix="OUTLET_")
    ecwid.expect_request("/api/v3/1003/customers/7").respond_with_json({"id": 7, "lang": "en"})
    ecwid.expect_request("/api/v3/2004/customers/7").respond_with_json({"id": 7, "lang": "fr"})
    client = app.test_client()
    languages = [
        client.get(path).json["data"]["attributes"]["lang"]  # type: ignore[index]
        for path in (f"{PREFIX}/customer/7", "/outlet/customer/7")
    ]
    assert languages == ["en", "fr"]
    assert ecwid.log[1][0].headers["Authorization"] == "Bearer secret_outlet"
    with app.test_request_context():
        assert flask.url_for("outlet.get_customer", customer_id=7) == "/outlet/customer/7"


def test_two_sandboxes_do_not_mix() -> None:
    """Two apps in one process share no sandbox."""
    callers = []
    for name in ("one", "other"):
        app = flask.Flask(name)
        app.config["ECWID_SANDBOX"] = True
        Ecwid(app)
        callers.append(Api(app.test_client()))
    assert callers[0].post("/delete_customer/172890169").status_code == 200
    assert callers[0].get("/customer/172890169").status_code == 404
    assert callers[1].get("/customer/172890169").status_code == 200


@pytest.mark.parametrize(
    "again", [{}, {"url_prefix": "/other"}, {"name": "other"}], ids=["both", "name", "prefix"]
)
def test_the_same_mount_twice(app: flask.Flask, again: dict[str, Any]) -> None:
    """A second store of the same name or prefix is refused."""
    with pytest.raises(ValueError, match="already"):
        Ecwid(app, **again)


def test_served_contract(config: Config) -> None:
    """The contract is served unchanged as JSON and YAML, in the file's order."""
    closed = {"ECWID_AUTH": "keys", "ECWID_API_KEYS": f"a:read:{'0' * 64}"}
    api = Api(app_of({**config, **closed}).test_client())
    served = api.get("/openapi.json")
    assert served.content_type == "application/json"
    document = contract.load().document
    assert json.dumps(json.loads(served.data)) == json.dumps(document)
    as_yaml = api.get("/openapi.yaml")
    assert as_yaml.content_type == "application/yaml"
    assert yaml.safe_load(as_yaml.data) == document


def test_served_contract_in_openapi_31(config: Config) -> None:
    """The contract is also served in OpenAPI 3.1, with the security schemes of the mount."""
    api = Api(app_of({**config, "ECWID_AUTH": "none"}).test_client())
    served = api.get("/openapi-3.1.json")
    assert served.content_type == "application/json"
    document = json.loads(served.data)
    assert document == openapi_31(json.loads(api.get("/openapi.json").data))
    assert document["components"]["securitySchemes"] == {}
    assert "customer.updated" in document["webhooks"]


def test_behind_a_proxy_prefix(app: flask.Flask) -> None:
    """The served contract names the outer path behind a proxy's prefix."""
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]
    client = app.test_client()
    outer = {"X-Forwarded-Prefix": "/eu"}
    for path, read in (
        ("openapi.json", json.loads),
        ("openapi.yaml", yaml.safe_load),
        ("openapi-3.1.json", json.loads),
    ):
        served = read(client.get(f"{PREFIX}/{path}", headers=outer).data)
        assert served["servers"] == [{"url": f"/eu{PREFIX}"}]
        served = read(client.get(f"{PREFIX}/{path}").data)
        assert served["servers"] == [{"url": PREFIX}]


UI_FILES = (
    "index.css",
    "swagger-ui.css",
    "narrow.css",
    "swagger-ui-bundle.js",
    "start.js",
    "favicon-32x32.png",
)
POLICY = "default-src 'self'; frame-ancestors 'none'"


def test_swagger_ui(api: Api) -> None:
    """Swagger UI needs nothing from the network, and loads the contract beside it."""
    page = api.get("/ui/")
    assert page.status_code == 200
    assert '"../openapi.json"' in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text
    named = re.findall(r'(?:src|href)="\./([^"]+)"', page.text)
    assert sorted(named) == sorted(UI_FILES)
    redirect = api.get("/ui?email=canary", headers={"Host": "evil.example"})
    assert (redirect.status_code, redirect.headers["Location"]) == (308, "ui/")
    assert redirect.headers["Cache-Control"] == "no-store"
    assert redirect.get_data() == b""


def test_the_policy_of_swagger_ui(api: Api) -> None:
    """The page and its files have a policy, and need no inline script, style or image."""
    page = api.get("/ui/")
    assert "<style" not in page.text
    assert re.findall(r"<script(?! src)|\son\w+=|style=", page.text) == []
    images = []
    for file in ("swagger-ui.css", "swagger-ui-bundle.js"):
        text = api.get(f"/ui/{file}").text
        assert "data:image" not in text
        images += re.findall(rf"{file}\.\d+\.(?:png|jpeg|svg)", text)
    assert len(images) > 5
    for file in ("", *UI_FILES, *images):
        response = api.get(f"/ui/{file}")
        assert response.status_code == 200
        assert response.headers["Content-Security-Policy"] == POLICY
        assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_only_the_files_of_the_page(api: Api) -> None:
    """No file of Swagger UI's package is served that the page does not need."""
    packaged = {path.name for path in swagger_ui_path.iterdir()} - set(UI_FILES)
    assert len(packaged) > 10
    for name in (*packaged, "..%2f__init__.py", "../__init__.py", "start.js/", "/start.js"):
        assert api.get(f"/ui/{name}").status_code == 404, name


def test_swagger_ui_off(config: Config) -> None:
    """ECWID_UI off removes the UI and leaves the contract."""
    app = flask.Flask("host")
    app.config.update(config, ECWID_UI="off")
    Ecwid(app)
    api = Api(app.test_client())
    assert api.get("/ui/").status_code == 404
    assert api.get("/openapi.json").status_code == 200


class Host:
    """An app with error pages, a JSON provider, a converter and routes of its own."""

    def __init__(self, config: Config, *, with_ecwid: bool) -> None:
        app = flask.Flask("host")
        app.config.update(config)

        class Provider(DefaultJSONProvider):
            def dumps(self, obj: Any, **options: Any) -> str:
                return "provided:" + super().dumps(obj, **options)

        app.json = Provider(app)

        @app.errorhandler(404)
        def not_found(exc: NotFound) -> tuple[str, int]:
            return "the host's 404", 404

        @app.errorhandler(405)
        def not_allowed(exc: Exception) -> tuple[str, int]:
            return "the host's 405", 405

        @app.errorhandler(Exception)
        def failed(exc: Exception) -> tuple[str, int]:
            return "the host's 500", 500

        @app.get("/json")
        def some_json() -> flask.Response:
            return flask.jsonify(a=1)

        @app.get("/boom")
        def boom() -> str:
            raise RuntimeError("boom")

        @app.get("/api/json/v1/other")
        def near() -> str:
            return "near"

        if with_ecwid:
            Ecwid(app)
        self.client = app.test_client()

    def seen(self) -> list[tuple[int, bytes]]:
        paths = ("/json", "/boom", "/nope", "/api/json/v1/other", "/api/json/v1/nope")
        responses = [self.client.get(path) for path in paths]
        responses.append(self.client.post("/json"))
        responses.append(self.client.options("/json"))
        return [(response.status_code, response.data) for response in responses]


def test_the_host_stays_as_it_was(config: Config) -> None:
    """A host's pages, errors and JSON are the same with and without the plugin."""
    assert Host(config, with_ecwid=True).seen() == Host(config, with_ecwid=False).seen()


def test_the_host_changes_nothing_below_the_mount(ecwid: HTTPServer, config: Config) -> None:
    """A host's error pages and JSON provider do not reach below the mount."""
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json({"id": 7})
    client = Host(config, with_ecwid=True).client
    assert json.loads(client.get(f"{PREFIX}/customer/7").data)["data"]["id"] == 7
    for method, path, status in (
        ("GET", "/nope", 404),
        ("GET", "/ui/nope.js", 404),
        ("POST", "/customers", 405),
        ("GET", "/customer/8", 502),
        ("GET", "/customers?limit=0", 400),
    ):
        response = client.open(PREFIX + path, method=method)
        assert response.status_code == status
        assert response.content_type == "application/problem+json"


def test_mounting_opens_nothing(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mounting opens no socket, so a host may fork after the mount."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    app = flask.Flask("host")
    app.config.update(config)
    Ecwid(app)


def test_import_does_nothing() -> None:
    """Importing the package starts no thread and configures no logging."""
    script = """
import logging, threading
from flask_ecwid import *
assert threading.active_count() == 1
assert logging.getLogger().handlers == []
assert logging.getLogger("flask_ecwid").handlers == []
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_warnings_as_errors(config: Config) -> None:
    """A host whose warnings are errors can import and mount the plugin."""
    del config["ECWID_AUTH"]  # An open store logs a warning,
    del config["ECWID_CALLS_PER_MINUTE"]  # and so does a limit above Ecwid's.
    script = f"""
import flask, flask_ecwid
app = flask.Flask("host")
app.config.update({config!r})
flask_ecwid.Ecwid(app, authorize=lambda scope: True)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_only_connexions_warnings_are_silenced() -> None:
    """Mounting leaves the process's warning filters unchanged."""
    before = list(warnings.filters)
    app = flask.Flask("host")
    app.config["ECWID_SANDBOX"] = True
    Ecwid(app)
    assert list(warnings.filters) == before
