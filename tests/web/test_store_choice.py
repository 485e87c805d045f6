"""The store of a request follows from its caller, who is known by then."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask
import pytest
from click.testing import CliRunner, Result
from flask.cli import FlaskGroup
from pytest_httpserver import HTTPServer
from werkzeug.routing import BaseConverter

from flask_ecwid import Caller, Ecwid, EcwidClient, SettingsError, StoreCredentials
from flask_ecwid.errors import EcwidError
from flask_ecwid.web import openapi

from ..conftest import PREFIX, Api, Config

ANN = StoreCredentials("1003", "secret_ann" + "1" * 8)
BOB = StoreCredentials("2004", "secret_bob" + "2" * 8)
STORES = {"ann": ANN, "bob": BOB}


@pytest.fixture
def settings(config: Config) -> dict[str, Any]:
    """Settings without a store and without API keys."""
    left_out = ("ECWID_STORE_ID", "ECWID_TOKEN", "ECWID_API_KEYS", "ECWID_AUTH")
    return {name: value for name, value in config.items() if name not in left_out}


def authorize(scope: str) -> Caller | bool:
    """Let in whoever names themselves in a header."""
    user = flask.request.headers.get("User", "")
    return Caller(user) if user else False


def store_of(caller: Caller) -> StoreCredentials | None:
    return STORES.get(caller.name)


def app_with(settings: dict[str, Any], **arguments: Any) -> tuple[flask.Flask, Ecwid]:
    app = flask.Flask("agency")
    app.config.update(settings)
    chosen: dict[str, Any] = {"authorize": authorize, "store": store_of}
    return app, Ecwid(app, **(chosen | arguments))


def as_user(name: str) -> dict[str, Any]:
    return {"headers": {"User": name}}


def test_each_caller_has_their_store(settings: dict[str, Any], ecwid: HTTPServer) -> None:
    """A request goes to the store of its caller, with the token of that store."""
    app, _ = app_with(settings)
    api = Api(app.test_client())
    for store, credentials in ((7, ANN), (8, BOB)):
        ecwid.expect_request(
            f"/api/v3/{credentials.store_id}/customers/7",
            headers={"Authorization": f"Bearer {credentials.token}"},
        ).respond_with_json({"id": 7, "taxId": str(store)})
    shown = [
        api.get("/customer/7", **as_user(user)).get_json()["data"]["attributes"]["taxId"]
        for user in ("ann", "bob", "ann")
    ]
    assert shown == ["7", "8", "7"]


def test_the_host_is_asked_once_for_a_known_caller(settings: dict[str, Any]) -> None:
    """`store` is called once in a request, after the authentication and before any other check."""
    asked: list[str] = []

    def store(caller: Caller) -> None:
        asked.append(caller.name)

    app, _ = app_with(settings, store=store)
    api = Api(app.test_client())
    assert (api.get("/customers").status_code, asked) == (403, [])
    response = api.get("/customers?limit=wrong", **as_user("ann"))
    assert (response.status_code, asked) == (403, ["ann"])


def test_a_caller_without_a_store(settings: dict[str, Any]) -> None:
    """`None` is a 403 that says what is missing."""
    app, _ = app_with(settings)
    response = Api(app.test_client()).get("/customers", **as_user("carl"))
    problem = response.get_json()
    assert (response.status_code, problem["type"]) == (
        403,
        "urn:flask-ecwid:problem:no-store-assigned",
    )


@pytest.mark.parametrize("kind", ["raises", "exits", "returns a text"])
def test_a_lookup_that_fails(
    settings: dict[str, Any], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception of `store` is a 503. The log has its place and its type, and no value."""

    def store(caller: Caller) -> Any:
        if kind == "raises":
            raise KeyError("canary")
        if kind == "exits":
            raise SystemExit("canary")
        return "canary"

    app, _ = app_with(settings, store=store)
    response = Api(app.test_client()).post(
        "/add_customer", {"email": "ann@example.com"}, **as_user("ann")
    )
    problem = response.get_json()
    assert (response.status_code, problem["type"], problem["executed"]) == (
        503,
        "urn:flask-ecwid:problem:store-lookup-failed",
        "no",
    )
    assert int(response.headers["Retry-After"]) > 0
    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    expected = {"raises": "KeyError", "exits": "SystemExit", "returns a text": "str"}
    assert expected[kind] in record.getMessage()
    assert "canary" not in caplog.text + response.get_data(as_text=True)


def test_lines_name_the_store(
    settings: dict[str, Any], ecwid: HTTPServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The audit line and the request line have the number of the request's store."""
    caplog.set_level(logging.INFO)
    ecwid.expect_request("/api/v3/2004/customers/7").respond_with_json({"id": 7})
    app, _ = app_with(settings)
    Api(app.test_client()).get("/customer/7", **as_user("bob"))
    lines = [each for each in caplog.records if hasattr(each, "store_id")]
    assert {each.name for each in lines} == {"flask_ecwid.request", "flask_ecwid.audit.reads"}
    assert {each.store_id for each in lines} == {"2004"}


def test_the_client_of_a_request(settings: dict[str, Any], ecwid: HTTPServer) -> None:
    """After a request, `client` is the client of its store. Before and elsewhere there is none."""
    ecwid.expect_request("/api/v3/2004/customers/7").respond_with_json({"id": 7})
    ecwid.expect_request("/api/v3/2004/customers/8").respond_with_json({"id": 8})
    app, extension = app_with(settings)
    seen: list[object] = []

    @app.before_request
    def look_too_early() -> None:
        if flask.request.path.startswith(PREFIX):
            with pytest.raises(RuntimeError, match="client_for"):
                _ = extension.client

    @app.after_request
    def look(response: flask.Response) -> flask.Response:
        if flask.request.path.startswith(PREFIX):
            seen.append(extension.client.get_customer(8))
        return response

    assert Api(app.test_client()).get("/customer/7", **as_user("bob")).status_code == 200
    assert seen == [{"id": 8}]
    with app.app_context(), pytest.raises(RuntimeError, match="client_for"):
        _ = extension.client


def test_a_client_by_credentials(settings: dict[str, Any], ecwid: HTTPServer) -> None:
    """`client_for` gives a client anywhere. Kept clients share the state of their store."""
    ecwid.expect_request("/api/v3/1003/customers/7").respond_with_json({"id": 7})
    app, extension = app_with(settings)
    with app.app_context():
        first, second = extension.client_for(ANN), extension.client_for(ANN)
        assert first.get_customer(7) == {"id": 7}
        assert first.store is second.store
        assert extension.client_for(BOB).store is not first.store


def test_no_credentials(settings: dict[str, Any]) -> None:
    """`client_for` refuses the None of a store that the host has not found."""
    app, extension = app_with(settings)
    with app.app_context(), pytest.raises(TypeError, match="needs StoreCredentials, and got None"):
        extension.client_for(None)  # type: ignore[arg-type]


def test_a_rotated_token(settings: dict[str, Any], ecwid: HTTPServer) -> None:
    """A new token is used from the next request on."""
    stores = {"ann": ANN}
    app, _ = app_with(settings, store=lambda caller: stores[caller.name])
    api = Api(app.test_client())
    for token in (ANN.token, BOB.token):
        ecwid.expect_ordered_request(
            "/api/v3/1003/customers/7", headers={"Authorization": f"Bearer {token}"}
        ).respond_with_json({"id": 7})
    assert api.get("/customer/7", **as_user("ann")).status_code == 200
    stores["ann"] = StoreCredentials("1003", BOB.token)
    assert api.get("/customer/7", **as_user("ann")).status_code == 200


@pytest.mark.parametrize("name", ["ECWID_STORE_ID", "ECWID_TOKEN"])
def test_a_store_by_settings_beside_the_hosts_choice(settings: dict[str, Any], name: str) -> None:
    """A setting that would have no effect is refused, because the operator relies on it."""
    value = {"ECWID_STORE_ID": "1003", "ECWID_TOKEN": str(ANN.token)}[name]
    with pytest.raises(SettingsError, match=f"{name} has no effect if store is given"):
        app_with({**settings, name: value})


def test_everybody_has_no_store(settings: dict[str, Any]) -> None:
    """Without callers there is nothing that a store could follow from."""
    with pytest.raises(SettingsError, match="ECWID_AUTH is none"):
        app_with({**settings, "ECWID_AUTH": "none"}, authorize=None)


def test_find_store_needs_store() -> None:
    """A host that finds stores by their numbers also has to choose the store of a request."""
    with pytest.raises(ValueError, match="find_store"):
        Ecwid(find_store=STORES.get)


def test_few_stores_stay_open(settings: dict[str, Any], ecwid: HTTPServer) -> None:
    """The stores that were used least recently are closed, but not while a request uses them."""
    app, extension = app_with({**settings, "ECWID_MAX_OPEN_STORES": 2})
    stores = app.extensions["ecwid"]["ecwid"].stores
    with app.app_context():
        clients = [
            extension.client_for(StoreCredentials(str(number), ANN.token)) for number in range(1, 6)
        ]
        in_use = clients[0].store
        for client in clients:
            assert client.store.digest
        assert clients[0].store is in_use
        assert len(stores) == 3  # two, and the store that is in use
        del in_use
        assert clients[1].store.digest
        assert len(stores) == 2


def test_a_prefix_with_converters(settings: dict[str, Any], ecwid: HTTPServer) -> None:
    """The values of the prefix stay in `view_args`, and the contract has them as variables."""
    ecwid.expect_request("/api/v3/1003/customers/7").respond_with_json({"id": 7})
    seen: list[object] = []

    def store(caller: Caller) -> StoreCredentials:
        seen.append(flask.request.view_args)
        return ANN

    app, _ = app_with(settings, store=store, url_prefix="/shops/<int:shop>/<name>")
    api = Api(app.test_client(), "/shops/5/ann")
    response = api.get("/customer/7", **as_user("ann"))
    assert response.status_code == 200
    assert seen == [{"shop": 5, "name": "ann", "customer_id": "7"}]
    served = api.get("/openapi.json").get_json()
    assert served["servers"] == [
        {
            "url": "/shops/{shop}/{name}",
            "variables": {"shop": {"default": "5"}, "name": {"default": "ann"}},
        }
    ]
    assert api.get("/openapi.yaml").status_code == api.get("/ui/").status_code == 200
    assert api.get("/nothing").get_json()["status"] == 404
    assert api.open("PUT", "/customers").get_json()["status"] == 405
    assert app.test_client().get("/shops/x/ann/nothing").is_json is False


class _Slug(BaseConverter):
    """A converter whose values differ from the texts in URLs."""

    def to_python(self, value: str) -> tuple[str, str]:
        return "slug", value

    def to_url(self, value: tuple[str, str]) -> str:
        return super().to_url(value[1])


@pytest.mark.parametrize(
    ("converter", "text"),
    [("int(fixed_digits=4)", "0042"), ("slug", "ann"), ("path", "a/b"), ("string", "a%20b")],
)
def test_the_variables_of_the_contract(settings: dict[str, Any], converter: str, text: str) -> None:
    """The default of a variable is the text of the URL, so a client's URL fits the prefix."""
    app = flask.Flask("agency")
    app.config.update(settings)
    app.url_map.converters["slug"] = _Slug
    Ecwid(app, authorize=authorize, store=store_of, url_prefix=f"/shops/<{converter}:shop>")
    served = app.test_client().get(f"/shops/{text}/openapi.json").get_json()
    assert served["servers"][0]["variables"] == {"shop": {"default": text}}


@pytest.mark.parametrize(
    ("url_prefix", "fault"),
    [
        ("shops", "must begin with a slash"),
        ("/shops/", "must not end with a slash"),
        ("/shops/<int:customer_id>", "the name customer_id, which a route of the plugin has"),
        ("/shops//<int:shop>", "must not have //"),
        ("/shops?shop=<int:shop>", "must not have ?"),
        ("/{shop}", "must not have {"),
    ],
)
def test_a_prefix_that_cannot_be(url_prefix: str, fault: str) -> None:
    """A prefix with which no URL would work is refused by a sentence."""
    with pytest.raises(ValueError, match=re.escape(fault)):
        Ecwid(url_prefix=url_prefix)


def test_the_variables_of_the_plugin(settings: dict[str, Any]) -> None:
    """Each variable of the plugin's own routes is refused as the name of a converter."""
    app, _ = app_with(settings)
    rules = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith(PREFIX)]
    assert frozenset().union(*(rule.arguments for rule in rules)) == openapi.OWN_VARIABLES


def test_a_client_of_a_store_fails_like_any_other(
    settings: dict[str, Any], ecwid: HTTPServer
) -> None:
    """Ecwid's refusal of one store holds back no other store."""
    ecwid.expect_request("/api/v3/1003/customers/7").respond_with_json(
        {"errorCode": "TOKEN_INVALID", "errorMessage": "no"}, status=403
    )
    ecwid.expect_request("/api/v3/2004/customers/7").respond_with_json({"id": 7})
    app, extension = app_with(settings)
    with app.app_context():
        clients: list[EcwidClient] = [extension.client_for(each) for each in (ANN, BOB)]
        for _ in range(5):
            with pytest.raises(EcwidError):
                clients[0].get_customer(7)
        assert clients[1].get_customer(7) == {"id": 7}


def check_of(settings: dict[str, Any], store_id: str, **arguments: Any) -> Result:
    """Run `flask ecwid check` for a store of an app that chooses its stores itself."""
    group = FlaskGroup(create_app=lambda: app_with(settings, **arguments)[0], load_dotenv=False)
    return CliRunner().invoke(group, ["ecwid", "check", "--store-id", store_id])


@pytest.mark.parametrize("store_id", ["01003", "x", "", "9" * 21])
def test_a_number_that_no_store_has(settings: dict[str, Any], store_id: str) -> None:
    """A wrong --store-id is refused before the host is asked, because the host may raise."""
    asked: list[str] = []
    done = check_of(settings, store_id, find_store=asked.append)
    assert (done.exit_code, asked) == (2, [])
    assert "--store-id is wrong, because the store id" in done.output


def test_a_host_that_finds_no_stores(
    settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Without `find_store`, the log says what the app lacks."""
    done = check_of(settings, "1003")
    assert (done.exit_code, "its log says why" in done.output) == (2, True)
    assert "the app has passed no find_store" in caplog.text


def test_a_host_has_no_list_of_its_stores(settings: dict[str, Any]) -> None:
    """The refusal of `check --all` names the setting and the option that the operator needs."""
    group = FlaskGroup(create_app=lambda: app_with(settings)[0], load_dotenv=False)
    done = CliRunner().invoke(group, ["ecwid", "check", "--all"])
    assert done.exit_code == 2
    said = " ".join(done.output.split())
    assert "--all needs ECWID_STORES, because an app with `store` has no list of its" in said
    assert "--store-id checks a single store" in said
    assert "host" not in said


def write_stores(path: Path, *stores: tuple[StoreCredentials, str, str]) -> None:
    """Write a stores file with the credentials, the caller's name and the API key of each store."""
    entries = [
        {
            "id": each.store_id,
            "token": str(each.token),
            "api_keys": [f"{name}:read+write:{hashlib.sha256(key.encode()).hexdigest()}"],
        }
        for each, name, key in stores
    ]
    path.write_text(json.dumps({"stores": entries}), encoding="utf-8")
    path.chmod(0o600)


@pytest.fixture
def stores_file(tmp_path: Path) -> Path:
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    write_stores(folder / "stores.json", (ANN, "shop", "k" * 43), (BOB, "shop", "l" * 43))
    return folder / "stores.json"


def with_key(key: str) -> dict[str, Any]:
    return {"headers": {"X-API-Key": key}}


def test_the_api_key_decides(
    settings: dict[str, Any], ecwid: HTTPServer, stores_file: Path
) -> None:
    """With ECWID_STORES, a caller reaches the store of the API key, and no other store."""
    for credentials in (ANN, BOB):
        ecwid.expect_request(
            f"/api/v3/{credentials.store_id}/customers/7",
            headers={"Authorization": f"Bearer {credentials.token}"},
        ).respond_with_json({"id": 7, "taxId": credentials.store_id})
    app = flask.Flask("gateway")
    app.config.update({**settings, "ECWID_STORES": str(stores_file)})
    Ecwid(app)
    api = Api(app.test_client())
    shown = [
        api.get("/customer/7", **with_key(key)).get_json()["data"]["attributes"]["taxId"]
        for key in ("k" * 43, "l" * 43)
    ]
    assert shown == ["1003", "2004"]
    assert api.get("/customer/7", **with_key("m" * 43)).status_code == 401
    assert api.get("/customer/7").status_code == 401
    assert api.post("/delete_customer/7", **with_key("k" * 43)).status_code == 403


def test_a_store_that_is_added(
    settings: dict[str, Any],
    ecwid: HTTPServer,
    stores_file: Path,
    later: Callable[[float], None],
) -> None:
    """A store that the file gets while the app runs is served without a restart."""
    ecwid.expect_request("/api/v3/3005/customers/7").respond_with_json({"id": 7})
    app = flask.Flask("gateway")
    app.config.update({**settings, "ECWID_STORES": str(stores_file)})
    Ecwid(app)
    api = Api(app.test_client())
    assert api.get("/customer/7", **with_key("n" * 43)).status_code == 401
    write_stores(stores_file, (StoreCredentials("3005", ANN.token), "shop", "n" * 43))
    later(2.0)
    assert api.get("/customer/7", **with_key("n" * 43)).status_code == 200
    assert api.get("/customer/7", **with_key("k" * 43)).status_code == 401


def test_commands_choose_a_store(
    settings: dict[str, Any], ecwid: HTTPServer, stores_file: Path
) -> None:
    """A command names its store with --store-id, and `check --all` has a line for each store."""
    ecwid.expect_request(
        "/api/v3/1003/customers", headers={"Authorization": f"Bearer {ANN.token}"}
    ).respond_with_json({"total": 0, "count": 0, "offset": 0, "limit": 1, "items": []})
    ecwid.expect_request("/api/v3/2004/customers").respond_with_json(
        {"errorCode": "TOKEN_INVALID", "errorMessage": "no"}, status=403
    )

    def create_app() -> flask.Flask:
        app = flask.Flask("gateway")
        app.config.update({**settings, "ECWID_STORES": str(stores_file)})
        Ecwid(app)
        return app

    def run(*arguments: str) -> Result:
        group = FlaskGroup(create_app=create_app, load_dotenv=False)
        return CliRunner().invoke(group, ["ecwid", *arguments])

    exported = run("export", "-", "--store-id", "1003")
    assert (exported.exit_code, exported.stdout) == (0, "")
    for arguments in (["export", "-"], ["export", "-", "--store-id", "9"], ["check"]):
        refused = run(*arguments)
        assert (refused.exit_code, "--store-id" in refused.output) == (2, True)
    checked = run("check", "--all")
    assert checked.exit_code == 1
    assert [line.partition(":")[0] for line in checked.stdout.splitlines()] == ["1003", "2004"]
    assert "refuses this service" in checked.stdout
    for secret in (ANN.token, BOB.token):
        assert secret not in checked.output
