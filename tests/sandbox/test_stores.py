"""A sandbox with several stores, which share nothing."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_ecwid import EcwidClient, Settings, StoreCredentials
from flask_ecwid.errors import ServiceRefused
from flask_ecwid.sandbox import (
    ALL_SCOPES,
    TOKEN,
    Controls,
    Fault,
    Switches,
    create_sandbox,
    path_of,
    token_of,
)
from flask_ecwid.sandbox.stores import Stores

IDS = ["1003", "1004", "1005"]
OURS = "customers/172890169"
NEW = {"email": "new@example.com"}
UNKNOWN = {"errorCode": "STORE_NOT_FOUND", "errorMessage": "Store not found"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


@pytest.fixture
def app(path: Path) -> Flask:
    return create_sandbox(path, stores=IDS[1:])


class Caller:
    """A caller of one store."""

    def __init__(self, app: Flask, store_id: str, token: str | None = None) -> None:
        self._client: FlaskClient = app.test_client()
        self._root = f"/api/v3/{store_id}"
        self._headers = {"Authorization": f"Bearer {token or token_of(store_id)}"}

    def __call__(self, path: str = OURS, method: str = "GET", **options: Any) -> Any:
        url = f"{self._root}/{path}"
        return self._client.open(url, method=method, headers=self._headers, **options)

    def status(self, *args: Any, **options: Any) -> int:
        return int(self(*args, **options).status_code)


def controls_of(path: Path, store_id: str) -> Controls:
    return Controls(path if store_id == "1003" else path_of(path, store_id))


@pytest.mark.parametrize("changed", IDS)
def test_customers_and_ids(app: Flask, changed: str) -> None:
    """Each store has its own customers and ids, even with equal ids and e-mails."""
    callers = {store_id: Caller(app, store_id) for store_id in IDS}
    caller = callers[changed]
    created = [each("customers", "POST", json=NEW).json["id"] for each in callers.values()]
    assert len(set(created)) == 1
    assert caller.status("customers", "POST", json={"email": "more@example.com"}) == 200
    assert caller.status(OURS, "PUT", json={"lang": "de"}) == 200
    assert caller.status("customers/172867214", "DELETE") == 200
    for store_id, each in callers.items():
        is_changed = store_id == changed
        found = {customer["email"] for customer in each("customers").json["items"]}
        assert ("more@example.com" in found) == is_changed
        assert ("customer@example.com" in found) != is_changed
        assert (each().json.get("lang") == "de") == is_changed


@pytest.mark.parametrize("chosen", IDS)
def test_ledger_faults_and_switches(app: Flask, path: Path, chosen: str) -> None:
    """A fault and a switch apply to one store only, and each ledger has only its own calls."""
    controls = controls_of(path, chosen)
    controls.inject(Fault("status", status=503))
    controls.switch(duplicate_emails=True)
    for store_id in IDS:
        assert Caller(app, store_id).status() == (503 if store_id == chosen else 200)
    controls.clear_faults()
    for store_id in IDS:
        statuses = [Caller(app, store_id).status("customers", "POST", json=NEW) for _ in range(2)]
        assert statuses == [200, 200 if store_id == chosen else 409]
        ledger = controls_of(path, store_id).ledger()
        assert [entry.status for entry in ledger[1:]] == statuses
        assert [entry.fault for entry in ledger] == ["status" * (store_id == chosen) or None] + [
            None
        ] * 2


def test_the_rate_limit_is_of_one_store(app: Flask, path: Path) -> None:
    """A store that is above its limit leaves the limits of the others alone."""
    for store_id in IDS:
        controls_of(path, store_id).switch(calls_per_minute=2)
    assert [Caller(app, "1004").status() for _ in range(3)] == [200, 200, 429]
    for store_id in ("1003", "1005"):
        assert [Caller(app, store_id).status() for _ in range(2)] == [200, 200]


def test_a_false_token_blocks_one_store(app: Flask, path: Path) -> None:
    """A token that one store blocks can still be used for its own store."""
    for store_id in IDS:
        controls_of(path, store_id).switch(calls_per_minute=600)
    stranger = Caller(app, "1004", token_of("1005"))
    assert [stranger.status() for _ in range(21)] == [403] * 20 + [429]
    assert Caller(app, "1005").status() == 200


@pytest.mark.parametrize("of", IDS)
def test_a_token_opens_one_store(app: Flask, path: Path, of: str) -> None:
    """The token of one store is a 403 without a body at every other store."""
    for store_id in IDS:
        reply = Caller(app, store_id, token_of(of))()
        assert reply.status_code == (200 if store_id == of else 403)
        assert store_id == of or reply.data == b""
        [entry] = controls_of(path, store_id).ledger()
        assert entry.token_known == (store_id == of)


@pytest.mark.parametrize("token", [None, TOKEN, "secret_invented"])
def test_an_unknown_store(app: Flask, path: Path, token: str | None) -> None:
    """A call of a store that is not registered is a 404, and leaves no trace in any store."""
    before = sorted(each.name for each in path.parent.iterdir())
    for store_id in IDS:
        controls_of(path, store_id).inject(Fault("status", status=503))
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    reply = app.test_client().get("/api/v3/1006/customers", headers=headers)
    assert (reply.status_code, reply.json) == (404, UNKNOWN)
    assert [controls_of(path, store_id).ledger() for store_id in IDS] == [[], [], []]
    assert sorted(each.name for each in path.parent.iterdir()) == before


NO_IDS = ["abc", "01004", "1004x", "-1", "", " 1004", "1" * 21, "\u0661", "..", "1004\n", "x-1004"]


@pytest.mark.parametrize("store_id", NO_IDS)
def test_an_id_that_is_no_number(path: Path, store_id: str) -> None:
    """A store id that no store can have never becomes the name of a file."""
    create_sandbox(path, accept_new_stores=True)
    Path(f"{path}-x-1004").touch()
    before = sorted(each.name for each in path.parent.iterdir())
    stores = Stores(path)
    assert stores.find(store_id) is None
    assert stores.accept(store_id, "secret_invented") is None
    with pytest.raises(
        ValueError, match=r"must be 1 to 20 decimal digits without a zero in front; got "
    ):
        stores.add(store_id, {})
    with pytest.raises(
        ValueError, match=r"must be 1 to 20 decimal digits without a zero in front; got "
    ):
        create_sandbox(path, stores=[store_id])
    assert sorted(each.name for each in path.parent.iterdir()) == before


def test_the_first_token_counts(path: Path) -> None:
    """A sandbox that accepts new stores keeps the first token of each new store id."""
    app = create_sandbox(path, accept_new_stores=True)
    assert Caller(app, "1004", "secret_first").status() == 200
    assert Caller(app, "1004", "secret_second").status() == 403
    assert Caller(app, "1005", "secret_second").status() == 200
    again = create_sandbox(path)
    assert [Caller(again, "1004", f"secret_{each}").status() for each in ("first", "second")] == [
        200,
        403,
    ]
    kept = b"".join(each.read_bytes() for each in path.parent.iterdir())
    assert b"secret_first" not in kept
    assert b"secret_second" not in kept


def test_the_default_store_takes_a_token_of_the_app(path: Path) -> None:
    """The default store accepts one token of the app beside its own, and no third one."""
    app = create_sandbox(path, accept_new_stores=True)
    for _ in range(2):
        statuses = [Caller(app, "1003", each).status() for each in ("secret_a", TOKEN, "secret_b")]
        assert statuses == [200, 200, 403]
        app = create_sandbox(path)
    first, *_ = Controls(path).ledger()
    assert first.token_known
    assert b"secret_a" not in b"".join(each.read_bytes() for each in path.parent.iterdir())


def test_the_tokens_of_the_default_store_are_complete(path: Path) -> None:
    """A default store whose tokens were set accepts no other token, and none if all were taken."""
    app = create_sandbox(path, accept_new_stores=True)
    Controls(path).set_tokens({})
    assert Caller(app, "1003", "secret_a").status() == 403
    given = create_sandbox(
        path.with_name("given"), tokens={"secret_b": ALL_SCOPES}, accept_new_stores=True
    )
    statuses = [Caller(given, "1003", each).status() for each in ("secret_a", "secret_b", TOKEN)]
    assert statuses == [403, 200, 403]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer "}])
def test_no_store_without_a_token(path: Path, headers: dict[str, str]) -> None:
    """A call without a token adds no store to a sandbox that accepts new stores."""
    app = create_sandbox(path, accept_new_stores=True)
    reply = app.test_client().get("/api/v3/1004/customers", headers=headers)
    assert (reply.status_code, reply.json) == (404, UNKNOWN)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("store_id", ["1003", "1004"])
@pytest.mark.parametrize("attempt", range(4))
def test_two_tokens_at_the_same_time(path: Path, attempt: int, store_id: str) -> None:
    """One of several tokens that are used first for a store at the same time is accepted."""
    apps = [create_sandbox(path, accept_new_stores=True) for _ in range(6)]
    start = threading.Barrier(len(apps))

    def call(number: int) -> int:
        start.wait()
        return Caller(apps[number], store_id, f"secret_{number}").status()

    with ThreadPoolExecutor(len(apps)) as threads:
        assert sorted(threads.map(call, range(len(apps)))) == [200] + [403] * (len(apps) - 1)


@pytest.mark.parametrize("first", [True, False])
def test_the_file_says_whether_it_accepts(path: Path, first: bool) -> None:
    """Every process that opens a sandbox keeps the rule of the process that made the file."""
    create_sandbox(path, accept_new_stores=first)
    again = create_sandbox(path, accept_new_stores=not first)
    assert Caller(again, "1004").status() == (200 if first else 404)


def test_a_store_of_another_process(path: Path) -> None:
    """Each app over one file sees a store as soon as another app has added it."""
    one, two = create_sandbox(path), create_sandbox(path)
    assert Caller(two, "1004").status() == 404
    Stores(path).add("1004", {token_of("1004"): ALL_SCOPES})
    created = Caller(one, "1004")("customers", "POST", json=NEW).json["id"]
    assert Caller(two, "1004")(f"customers/{created}").json["email"] == NEW["email"]


def test_an_unfinished_file_is_no_store(app: Flask, path: Path) -> None:
    """A file that another process has not filled yet is an unknown store."""
    path_of(path, "1006").touch()
    assert Caller(app, "1006").status("customers") == 404
    Stores(path).add("1006", {token_of("1006"): ALL_SCOPES})
    assert Caller(app, "1006").status("customers") == 200


def test_opened_again(path: Path) -> None:
    """The stores of a sandbox that is opened again have their customers and tokens."""
    first = create_sandbox(path, stores=["1004"], customers=3)
    created = Caller(first, "1004")("customers", "POST", json=NEW).json["id"]
    Controls(path_of(path, "1004")).set_tokens({"secret_new": ALL_SCOPES})
    again = create_sandbox(path, stores=["1004"], customers=500)
    caller = Caller(again, "1004", "secret_new")
    assert caller(f"customers/{created}").json["email"] == NEW["email"]
    assert caller("customers").json["total"] == 8
    assert Caller(again, "1004").status() == 403


def test_the_arguments_are_for_every_store(path: Path) -> None:
    """Generated customers and switches are given to each store that the sandbox makes."""
    app = create_sandbox(
        path, stores=["1004"], accept_new_stores=True, customers=3, duplicate_emails=True
    )
    for store_id in IDS:
        assert Caller(app, store_id)("customers").json["total"] == 7
        assert controls_of(path, store_id).switches() == Switches(duplicate_emails=True)


@pytest.mark.parametrize("store_id", IDS)
def test_set_tokens(app: Flask, path: Path, store_id: str) -> None:
    """New tokens replace the old tokens of one store, with their scopes. No token is a 403."""
    controls_of(path, store_id).set_tokens({"secret_new": {"read_customers"}})
    caller = Caller(app, store_id, "secret_new")
    assert (caller.status(), Caller(app, store_id).status()) == (200, 403)
    assert caller("customers", "POST", json=NEW).json["errorCode"] == "INSUFFICIENT_APP_SCOPE"
    controls_of(path, store_id).set_tokens({})
    assert (caller.status(), Caller(app, store_id).status()) == (403, 403)
    assert all(Caller(app, each).status() == 200 for each in IDS if each != store_id)
    with pytest.raises(ValueError, match=r"The scopes of a token must be some of .*; got 'read'"):
        controls_of(path, store_id).set_tokens({"secret_new": {"read"}})


def test_tokens_of_a_sandbox_that_is_opened_again(path: Path) -> None:
    """The argument `tokens` replaces the tokens of the default store, also in an existing file."""
    create_sandbox(path)
    app = create_sandbox(path, tokens={"secret_a": ALL_SCOPES})
    assert [Caller(app, "1003", each).status() for each in ("secret_a", TOKEN)] == [200, 403]
    again = create_sandbox(path)
    assert [Caller(again, "1003", each).status() for each in ("secret_a", TOKEN)] == [200, 403]


def test_a_fault_hides_no_false_token(app: Flask, path: Path) -> None:
    """The ledger says whether the store knows the token of a call that got a fault instead."""
    controls_of(path, "1004").inject(Fault("status", status=503))
    for token in (token_of("1004"), TOKEN):
        assert Caller(app, "1004", token).status() == 503
    assert [each.token_known for each in controls_of(path, "1004").ledger()] == [True, False]


def test_an_empty_token_opens_nothing(app: Flask, path: Path) -> None:
    """A call without a token is a 403, even if an empty token was given."""
    Controls(path).set_tokens({"": ALL_SCOPES})
    assert app.test_client().get(f"/api/v3/1003/{OURS}").status_code == 403


def test_tokens_are_repeatable() -> None:
    """The sandbox gives each store the same tokens in each run, and every token once."""
    tokens = [token_of(store_id, number) for store_id in IDS for number in range(3)]
    assert len(set(tokens)) == len(tokens)
    assert tokens == [token_of(store_id, number) for store_id in IDS for number in range(3)]
    assert tokens[0] == TOKEN


def test_admin(app: Flask, path: Path) -> None:
    """Faults, switches and the ledger of each store are at a URL with the id of the store."""
    client = app.test_client()
    admin = "/admin/stores/1004"
    assert client.post(f"{admin}/faults", json={"kind": "html"}).status_code == 200
    assert client.patch(f"{admin}/switches", json={"duplicate_emails": True}).status_code == 200
    assert Controls(path).faults() == []
    assert Controls(path).switches() == Switches()
    Caller(app, "1003")()
    assert Caller(app, "1004")().mimetype == "text/html"
    [entry] = client.get(f"{admin}/ledger").get_json()
    assert entry["fault"] == "html"
    assert client.delete(f"{admin}/ledger").get_json() == []
    [entry] = client.get("/admin/ledger").get_json()
    assert client.get("/admin/stores/1003/ledger").get_json() == [entry]
    assert client.get("/admin/stores/1006/ledger").status_code == 404


def test_admin_sets_the_tokens(app: Flask) -> None:
    """A PUT adds a store, gives it other tokens, or takes all its tokens."""
    put: Callable[..., Any] = app.test_client().put
    url = "/admin/stores/1006"
    assert put(url, json={"tokens": ["secret_a", "secret_b"]}).get_json() == {"id": "1006"}
    assert [Caller(app, "1006", each).status() for each in ("secret_a", "secret_b")] == [200, 200]
    put(url, json={"tokens": ["secret_c"]})
    assert [Caller(app, "1006", each).status() for each in ("secret_a", "secret_c")] == [403, 200]
    put(url, json={"tokens": []})
    assert Caller(app, "1006", "secret_c").status() == 403
    assert put("/admin/stores/1003", json={"tokens": ["secret_d"]}).status_code == 200
    assert [Caller(app, "1003", each).status() for each in (TOKEN, "secret_d")] == [403, 200]


@pytest.mark.parametrize("body", [None, [], {}, {"tokens": "secret_a"}, {"tokens": [5]}])
def test_admin_refuses_a_wrong_body(app: Flask, path: Path, body: Any) -> None:
    """A PUT without a list of tokens is a 400, and adds no store."""
    assert app.test_client().put("/admin/stores/1006", json=body).status_code == 400
    wrong_id = app.test_client().put("/admin/stores/abc", json={"tokens": []})
    assert wrong_id.status_code == 400
    assert not path_of(path, "1006").exists()


@pytest.mark.parametrize("peer", ["192.0.2.1", "::ffff:192.0.2.1", ""])
def test_admin_is_for_this_host(app: Flask, path: Path, peer: str) -> None:
    """A request of another host adds no store and reads no ledger."""
    environ = {"REMOTE_ADDR": peer}
    client = app.test_client()
    url = "/admin/stores/1006"
    put = client.put(url, json={"tokens": ["secret_a"]}, environ_overrides=environ)
    got = client.get("/admin/stores/1004/ledger", environ_overrides=environ)
    assert (put.status_code, got.status_code) == (403, 403)
    assert not path_of(path, "1006").exists()


@pytest.mark.parametrize("linked", ["file", "nothing"])
def test_a_planted_file(path: Path, tmp_path: Path, linked: str) -> None:
    """A link in the place of a store is never followed, because another user may have made it."""
    app = create_sandbox(path, accept_new_stores=True)
    target = tmp_path / "elsewhere"
    if linked == "file":
        Stores(target).fill({"secret_a": ALL_SCOPES})
    path_of(path, "1004").symlink_to(target)
    before = target.read_bytes() if linked == "file" else None
    assert Caller(app, "1004", "secret_a").status("customers", "POST", json=NEW) == 500
    assert (target.read_bytes() if target.exists() else None) == before


def test_files_are_private(path: Path) -> None:
    """Only this user can read the file of a further store."""
    create_sandbox(path, stores=["1004"])
    assert path_of(path, "1004").stat().st_mode & 0o777 == 0o600


def test_another_version(path: Path) -> None:
    """The file of a store that another version of the sandbox wrote is a 500, and stays."""
    app = create_sandbox(path)
    db = sqlite3.connect(path_of(path, "1004"))
    db.execute("PRAGMA user_version = 999")
    db.close()
    before = path_of(path, "1004").read_bytes()
    assert Caller(app, "1004").status() == 500
    assert path_of(path, "1004").read_bytes() == before


@pytest.mark.parametrize("place", ["on", "file"])
def test_the_plugins_own_sandbox_accepts_every_store(path: Path, place: str) -> None:
    """With ECWID_SANDBOX each store id is a store of its own, and its first token counts."""
    client = EcwidClient(Settings(sandbox="on" if place == "on" else str(path)))

    def call(store_id: str, token: str) -> int:
        try:
            EcwidClient.of(client.stores, StoreCredentials(store_id, token)).list_customers()
        except ServiceRefused:
            return 403
        return 200

    tokens = {"1003": "secret_0", "1004": "secret_a", "1005": "secret_b"}
    assert [call(*each) for each in tokens.items()] == [200, 200, 200]
    assert [call("1003", "secret_a"), call("1004", "secret_b")] == [403, 403]
    assert client.get_customer(172890169)["id"] == 172890169, "the client calls the default store"
    client.close()
