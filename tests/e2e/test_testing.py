"""The pytest fixtures for apps that use the plugin."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import flask
import pytest

from flask_ecwid import Ecwid, EcwidClient, Settings, StoreCredentials
from flask_ecwid.client.transport import RequestsTransport
from flask_ecwid.errors import CustomerNotFound, ServiceRefused
from flask_ecwid.sandbox import Entry, Fault, InProcessAdapter, Switches, create_sandbox
from flask_ecwid.sandbox.faults import KINDS
from flask_ecwid.testing import EcwidSandbox

from ..conftest import ROOT, Api, environment

PAGE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
EXAMPLE: dict[str, str] = {
    name: text for text, name in re.findall(r"^```python\n(# (\S+)\n.*?)^```$", PAGE, re.M | re.S)
}
TESTS = len(re.findall(r"^def test_", "".join(EXAMPLE.values()), re.M))
ADA = {"email": "ada@example.com"}


def pytest_run(folder: Path, files: dict[str, str], *options: str, **settings: str) -> str:
    """Run pytest on these files in an empty folder, and return its output."""
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-rf", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.stdout + done.stderr


@pytest.fixture
def api(ecwid_app: flask.Flask) -> Api:
    return Api(ecwid_app.test_client())


@pytest.mark.parametrize("options", [[], ["-n", "2"]], ids=["alone", "xdist"])
def test_the_pages_example(tmp_path: Path, options: list[str]) -> None:
    """The tests of docs/testing.md pass unchanged, also in several processes."""
    assert f" {TESTS} passed in " in pytest_run(tmp_path, EXAMPLE, *options)


@pytest.mark.parametrize(
    ("right", "wrong", "noticed"),
    [
        ('"acceptMarketing": "news" in request.form', '"acceptMarketing": True', "signing_up"),
        ('if "@" not in email', "if not email", "nobody_is_asked_without_an_email"),
        ("except EmailTaken:", "except ZeroDivisionError:", "who_has_an_account"),
        ("shop.client.add_customer(", "dict(", None),
    ],
)
def test_the_pages_tests_notice(
    tmp_path: Path, right: str, wrong: str, noticed: str | None
) -> None:
    """The tests of docs/testing.md fail if the app of the page is broken."""
    assert EXAMPLE["signup.py"].count(right) == 1
    files = {**EXAMPLE, "signup.py": EXAMPLE["signup.py"].replace(right, wrong)}
    failed = re.findall(r"^FAILED test_signup\.py::test_(\w+)", pytest_run(tmp_path, files), re.M)
    assert failed == [noticed] if noticed else len(failed) >= 5


def test_the_docstrings_name_all() -> None:
    """The docstrings that docs/sandbox.md shows name each fault, each field and each switch."""
    for shown, names in (
        (Fault, (*KINDS, *(field.name for field in fields(Fault)))),
        (Switches, Switches._fields),
        (Entry, Entry._fields),
    ):
        assert [name for name in names if not re.search(rf"\b{name}\b", shown.__doc__ or "")] == []


def test_it_costs_nothing(tmp_path: Path) -> None:
    """pytest finds the fixtures by their entry point, and imports only their module."""
    look = """
import sys

def test_look(request):
    plugin = request.config.pluginmanager.get_plugin("ecwid").__name__
    assert plugin == "flask_ecwid_plugins.fixtures"
    ours = {name for name in sys.modules if name.startswith("flask_ecwid")}
    assert ours == {"flask_ecwid_plugins", plugin}
    heavy = {"flask", "werkzeug", "requests", "connexion", "jsonschema_rs", "orjson"}
    assert not {*heavy, "sqlite3", "yaml", "redis"} & set(sys.modules)
"""
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # other plugins import some of these modules
    assert " 1 passed in " in pytest_run(tmp_path, {"test_look.py": look}, "-p", "ecwid", **alone)


def test_no_run_knows_of_another(tmp_path: Path) -> None:
    """A run does not remember the Idempotency-Keys of an earlier run in the same folder."""
    once = """
def test_once(ecwid_sandbox, ecwid_app):
    url, key = "/api/json/v1/ecwid/add_customer", {"Idempotency-Key": "once"}
    post = ecwid_app.test_client().post
    for _ in range(2):
        assert post(url, json={"email": "ada@example.com"}, headers=key).status_code == 200
    assert len(ecwid_sandbox.ledger()) == len(ecwid_sandbox.customers()) == 1
"""
    for _ in range(2):
        printed = pytest_run(tmp_path, {"test_once.py": once}, "--basetemp", str(tmp_path / "same"))
        assert " 1 passed in " in printed


def test_a_new_store(ecwid_sandbox: EcwidSandbox, api: Api) -> None:
    """A new store is empty, and its ledger has no call."""
    assert (ecwid_sandbox.customers(), ecwid_sandbox.ledger()) == ([], [])
    assert api.get("/customers").get_json()["data"]["attributes"]["total"] == 0


def test_the_client(ecwid_sandbox: EcwidSandbox, ecwid_client: EcwidClient) -> None:
    """The client calls the same store."""
    customer_id = ecwid_client.add_customer(ADA)["id"]
    assert [each["id"] for each in ecwid_sandbox.customers()] == [customer_id]


def test_two_stores(ecwid_sandbox: EcwidSandbox, tmp_path: Path) -> None:
    """Two stores share no data, and a prefix selects the second."""
    outlet = EcwidSandbox(tmp_path / "outlet.sqlite3")
    app = flask.Flask("host")
    app.config.update(ecwid_sandbox.config)
    app.config.update({f"OUTLET_{name}": value for name, value in outlet.config.items()})
    Ecwid(app)
    Ecwid(app, name="outlet", url_prefix="/outlet", config_prefix="OUTLET_")
    assert app.test_client().post("/outlet/add_customer", json=ADA).status_code == 200
    assert [each["email"] for each in outlet.customers()] == ["ada@example.com"]
    assert (ecwid_sandbox.customers(), ecwid_sandbox.ledger()) == ([], [])


def caller(sandbox: EcwidSandbox, credentials: StoreCredentials) -> EcwidClient:
    """Return a client that calls the sandbox with these credentials."""
    path = Path(sandbox.config["ECWID_SANDBOX"])
    settings = Settings(
        store_id=credentials.store_id,
        token=credentials.token,
        api_url=f"https://{path.stem}.invalid/api/v3",  # so that no other test shares the pauses
        deadline_s=2.0,
    )
    # The plugin opens the file with this argument, which has no effect on the file of a test.
    served = create_sandbox(path, accept_new_stores=True)
    transport = RequestsTransport(settings, lambda: InProcessAdapter(served))
    return EcwidClient(settings, transport=transport)


def refusal(client: EcwidClient, call: Callable[[EcwidClient], Any]) -> str | None:
    """Return what Ecwid refused about the service, or None after a success."""
    try:
        call(client)
    except ServiceRefused as exc:
        return exc.reason
    return None


def test_many_stores(ecwid_sandbox: EcwidSandbox) -> None:
    """Each store of a sandbox is empty at first, and has customers, faults and a token of its own.

    The sandbox itself is the default store.
    """
    stores = [ecwid_sandbox, ecwid_sandbox.store("1004"), ecwid_sandbox.store(1005)]
    assert [store.credentials.store_id for store in stores] == ["1003", "1004", "1005"]
    assert len({store.token for store in stores}) == 3
    for number, store in enumerate(stores):
        with caller(ecwid_sandbox, store.credentials) as client:
            store.switch(duplicate_emails=True)
            store.add_customer(ADA)
            for _ in range(number):
                client.add_customer(ADA)
            store.inject(Fault("status", status=404))
            with pytest.raises(CustomerNotFound):
                client.get_customer(store.customers()[0]["id"])
    for number, store in enumerate(stores):
        assert len(store.customers()) == number + 1
        assert [entry.fault for entry in store.ledger()] == [None] * number + ["status"]
    assert stores == [ecwid_sandbox.store(each.credentials.store_id) for each in stores]


def test_a_store_that_the_test_does_not_register(ecwid_sandbox: EcwidSandbox) -> None:
    """A test registers its stores. A call of any other store fails, whatever its token is."""
    merchant = StoreCredentials("1004", ecwid_sandbox.token)
    with caller(ecwid_sandbox, merchant) as client:
        assert refusal(client, lambda client: client.get_customer(1)) == "store"
    assert ecwid_sandbox.store("1004").ledger() == []


def test_another_stores_token(ecwid_sandbox: EcwidSandbox) -> None:
    """A store refuses the token of another store, and its ledger says that the token is unknown."""
    outlet = ecwid_sandbox.store("1004")
    with caller(ecwid_sandbox, StoreCredentials("1004", ecwid_sandbox.token)) as client:
        assert refusal(client, lambda client: client.get_customer(1)) == "token"
    assert {entry.token_known for entry in outlet.ledger()} == {False}
    assert ecwid_sandbox.ledger() == []


@pytest.mark.parametrize("store_id", ["1003", "1004"])
def test_rotated_and_revoked_tokens(ecwid_sandbox: EcwidSandbox, store_id: str) -> None:
    """A new token replaces the old token, and a revoked token is refused."""
    store = ecwid_sandbox.store(store_id)
    customer_id = store.add_customer(ADA)

    def is_accepted(credentials: StoreCredentials) -> bool:
        with caller(ecwid_sandbox, credentials) as client:
            return not refusal(client, lambda client: client.get_customer(customer_id))

    old = store.credentials
    new = store.rotate_token()
    assert (store.credentials, store.token) == (new, new.token)
    assert type(store.token) is str, "a test may print its token"
    assert [is_accepted(each) for each in (old, new)] == [False, True]
    store.revoke_token()
    assert not is_accepted(new)
    newest = store.rotate_token()
    assert [is_accepted(each) for each in (old, new, newest)] == [False, False, True]


def test_a_token_with_few_scopes(ecwid_sandbox: EcwidSandbox) -> None:
    """A token may have some of Ecwid's scopes, and an unknown scope is an error."""
    store = ecwid_sandbox.store("1004")
    credentials = store.rotate_token({"read_customers"})
    assert credentials.scopes == {"read_customers"}
    customer_id = store.add_customer(ADA)
    with caller(ecwid_sandbox, credentials) as client:
        assert client.get_customer(customer_id)["id"] == customer_id
        bob = {"email": "bob@example.com"}
        assert refusal(client, lambda client: client.add_customer(bob)) == "ecwid-scope"
    with pytest.raises(ValueError, match=r"must be some of .*; got 'read'"):
        store.rotate_token({"read"})
    assert store.credentials == credentials


@pytest.mark.parametrize("store_id", ["abc", "", "01004", "1" * 21, -1, None])
def test_an_invalid_store_id(ecwid_sandbox: EcwidSandbox, store_id: Any) -> None:
    """A store id that is no number is an error in the test."""
    with pytest.raises(ValueError, match=r"must be 1 to 20 decimal digits .*; got "):
        ecwid_sandbox.store(store_id)


def test_a_customer_who_is_there(ecwid_sandbox: EcwidSandbox, api: Api) -> None:
    """A test can add a customer with members that only Ecwid sets."""
    only_ecwid = {
        "id": 42,
        "registered": "2020-02-29 12:00:00 +0000",
        "stats": {"numberOfOrders": 3, "salesValue": 97, "averageOrderValue": 32.33},
    }
    given = {**ADA, **only_ecwid, "billingPerson": {"name": "Ada Lovelace"}, "password": "secret"}
    assert ecwid_sandbox.add_customer(given) == 42
    [ada] = ecwid_sandbox.customers()
    assert {name: ada[name] for name in only_ecwid} == only_ecwid
    assert ada["billingPerson"]["firstName"] == "Ada"
    assert "password" not in ada
    found = api.get("/customers?createdTo=2020-03-01&minOrderCount=3").get_json()
    assert found["data"]["attributes"]["items"] == [ada]
    ecwid_sandbox.add_customer({"email": "bob@example.com"})
    assert ecwid_sandbox.customers()[1]["stats"]["numberOfOrders"] == 0


@pytest.mark.parametrize(
    ("customer", "said"),
    [
        ({}, "email is absent"),
        ({"email": None}, "email is absent"),
        ({**ADA, "acceptsMarketing": True}, "has no member acceptsMarketing"),
        ({**ADA, "acceptMarketing": "yes"}, "acceptMarketing is of a wrong type"),
        ({**ADA, "registered": "yesterday"}, "registered is not a date"),
        ({"email": "BOB@example.com"}, "already has this id or e-mail"),
        ({**ADA, "id": 7}, "already has this id or e-mail"),
    ],
)
def test_an_invalid_customer(
    ecwid_sandbox: EcwidSandbox, customer: dict[str, Any], said: str
) -> None:
    """An invalid customer, or a customer who exists already, is an error in the test."""
    ecwid_sandbox.add_customer({"email": "bob@example.com", "id": 7})
    with pytest.raises(ValueError, match=said):
        ecwid_sandbox.add_customer(customer)
    assert len(ecwid_sandbox.customers()) == 1


def test_seed(ecwid_sandbox: EcwidSandbox, sandboxed: Api, tmp_path: Path) -> None:
    """A seeded store has the same customers every time."""
    other = EcwidSandbox(tmp_path / "other.sqlite3")
    ecwid_sandbox.seed(50)
    other.seed(50)
    assert len(ecwid_sandbox.customers()) == 54
    assert ecwid_sandbox.customers() == other.customers()
    page = sandboxed.get("/customers?sortBy=REGISTERED_DATE_ASC")
    built_in = page.get_json()["data"]["attributes"]
    oldest = sorted(ecwid_sandbox.customers(), key=lambda each: each["registered"])[:4]
    assert oldest == built_in["items"]


def test_the_test_itself_is_not_asking(ecwid_sandbox: EcwidSandbox) -> None:
    """No fault affects the methods of the store, and the ledger does not record them."""
    ecwid_sandbox.inject(Fault("status", status=500))
    ecwid_sandbox.add_customer(ADA)
    assert len(ecwid_sandbox.customers()) == 1
    assert ecwid_sandbox.ledger() == []


def test_faults_and_ledger(ecwid_sandbox: EcwidSandbox, api: Api) -> None:
    """Calls get faults until they are cleared, and the ledger lists calls until it is cleared."""
    ecwid_sandbox.inject(Fault("status", status=404))
    assert api.post("/update_customer/42", {"lang": "en"}).status_code == 404
    ecwid_sandbox.clear_faults()
    assert api.get("/customers").status_code == 200
    calls = [
        (e.operation, e.customer_id, e.status, e.fault, e.done) for e in ecwid_sandbox.ledger()
    ]
    assert calls == [
        ("update_customer", 42, 404, "status", False),
        ("list_customers", None, 200, None, True),
    ]
    ecwid_sandbox.clear_ledger()
    assert ecwid_sandbox.ledger() == []


def test_switches(ecwid_sandbox: EcwidSandbox, api: Api) -> None:
    """A switch changes the behaviour of the store, and an unknown switch is an error."""
    ecwid_sandbox.switch(duplicate_emails=True)
    assert [api.post("/add_customer", ADA).status_code for _ in range(2)] == [200, 200]
    with pytest.raises(ValueError, match="A switch must be one of search_lag_s, "):
        ecwid_sandbox.switch(duplicate_mails=True)


def test_the_hosts_own_redis_is_left_alone(ecwid_sandbox: EcwidSandbox) -> None:
    """The app of a test writes nothing to the Redis of its settings."""
    app = flask.Flask("host")
    app.config["ECWID_REDIS_URL"] = "redis://127.0.0.1:1"
    app.config.update(ecwid_sandbox.config)
    Ecwid(app)
    key = {"Idempotency-Key": "x"}
    assert Api(app.test_client()).post("/add_customer", ADA, headers=key).status_code == 200


def test_config_is_good_for_an_environment(ecwid_sandbox: EcwidSandbox) -> None:
    """All settings are texts, as in the environment."""
    assert {type(value) for value in ecwid_sandbox.config.values()} == {str}


def test_authorize_works_in_tests(ecwid_sandbox: EcwidSandbox) -> None:
    """An app whose `authorize` refuses every caller refuses them in tests too."""
    app = flask.Flask("host")
    app.config.update(ecwid_sandbox.config)
    Ecwid(app, authorize=lambda scope: False)
    assert Api(app.test_client()).get("/customers").status_code == 403
    assert ecwid_sandbox.ledger() == []


@pytest.mark.parametrize(
    ("fault", "ask"),
    [
        (Fault("status", status=500), lambda api: api.post("/add_customer", ADA)),
        (Fault("reset"), lambda api: api.get("/customers")),
        (Fault("status", status=429, retry_after="30"), lambda api: api.get("/customers")),
    ],
    ids=["creation", "read", "pause"],
)
def test_waits_are_short(
    ecwid_sandbox: EcwidSandbox,
    api: Api,
    no_waiting: list[float],
    fault: Fault,
    ask: Callable[[Api], Any],
) -> None:
    """A test waits at most 2 seconds for a retried or reconciled call."""
    ecwid_sandbox.inject(fault)
    assert ask(api).status_code >= 429
    assert sum(no_waiting) <= 2


def test_a_stall_is_short(ecwid_sandbox: EcwidSandbox, api: Api) -> None:
    """A test waits less for a missing reply than the 10 s of production."""
    ecwid_sandbox.inject(Fault("stall", seconds=60))
    begun = time.monotonic()
    assert api.get("/customers").status_code == 504
    assert time.monotonic() - begun < 8
