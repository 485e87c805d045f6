"""Tests of Idempotency-Key, which gives each idempotency key one outcome."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast
from urllib.parse import urljoin

import flask
import pytest
import requests
from werkzeug.test import TestResponse

from flask_ecwid import Caller, Ecwid, EcwidClient, Settings, StoreCredentials, clock
from flask_ecwid.sandbox import TOKEN, Fault, create_sandbox
from flask_ecwid.sandbox.store import Store
from flask_ecwid.storage.file_state import host_state
from flask_ecwid.storage.redis_state import RedisState
from flask_ecwid.web.idempotency import Idempotency

from ..conftest import (
    PREFIX,
    ROOT,
    Api,
    Config,
    app_of,
    environment,
    free_port,
    wait_for,
)
from ..helpers.hold import Hold
from ..helpers.ordered_store import OrderedStore
from ..helpers.redis_server import RedisServer

CANARY = "canary@example.com"
NEW = {"email": CANARY, "billingPerson": {"name": "Canary Name"}}
URN = "urn:flask-ecwid:problem:"

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.fixture
def key() -> str:
    return str(uuid.uuid4())


def add(api: Api, key: str, body: Any = NEW, **options: Any) -> TestResponse:
    return api.post("/add_customer", body, headers={"Idempotency-Key": key}, **options)


def slug(response: TestResponse) -> str:
    return str(response.get_json()["type"]).removeprefix(URN)


def test_a_repeated_request(ordered: OrderedStore, shared: Config, key: str) -> None:
    """A repeated request creates once, in any worker, and gets the same response."""
    first = add(ordered.api(**shared), key)
    again = add(ordered.api(**shared), key, dict(reversed(NEW.items())))
    assert first.status_code == again.status_code == 200
    assert first.get_json() == again.get_json()
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["X-Request-ID"] != first.headers["X-Request-ID"]
    assert ordered.asked() == ["add_customer"]


def test_another_body(ordered: OrderedStore, shared: Config, key: str) -> None:
    """A reused idempotency key with another body gets a 422 and sends no call."""
    api = ordered.api(**shared)
    add(api, key)
    response = add(api, key, {"email": "other@example.com"})
    assert (response.status_code, slug(response)) == (422, "idempotency-key-reused")
    assert response.get_json()["executed"] == "no"
    assert ordered.asked() == ["add_customer"]


def test_under_way(
    ordered: OrderedStore, shared: Config, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request gets a 409 and sends no call while another request with its key is under way."""
    creation = Hold(monkeypatch, Store, "add_customer")
    first: list[TestResponse] = []
    api, other = ordered.api(**shared), ordered.api(**shared)
    thread = threading.Thread(target=lambda: first.append(add(api, key)))
    thread.start()
    creation.wait()
    response = add(other, key)
    creation.release()
    assert (response.status_code, slug(response)) == (409, "idempotency-key-in-use")
    assert response.headers["Retry-After"] == "1"
    assert response.get_json()["executed"] == "unknown"
    thread.join()
    assert first[0].status_code == 200
    assert len(ordered.asked()) == 1


@pytest.mark.parametrize(
    ("status", "code"), [(400, "WRONG_PARAMETER"), (409, None), (413, None), (422, "X")]
)
def test_final_refusals_are_kept(
    ordered: OrderedStore, shared: Config, key: str, status: int, code: str | None
) -> None:
    """A final refusal by Ecwid is replayed."""
    ordered.orders.inject(Fault("status", status=status, code=code, times=1))
    first = add(ordered.api(**shared), key)
    again = add(ordered.api(**shared), key)
    assert first.status_code == again.status_code == status
    names = ("type", "title", "detail", "ecwid_code", "executed")
    assert [first.get_json().get(name) for name in names] == [
        again.get_json().get(name) for name in names
    ]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert ordered.asked() == ["add_customer"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("refuse", times=3),
        Fault("status", status=429, retry_after="1", times=2),
        Fault("status", status=403, code="INSUFFICIENT_APP_SCOPE", times=1),
    ],
)
def test_what_had_no_effect_leaves_no_record(
    ordered: OrderedStore, shared: Config, key: str, fault: Fault
) -> None:
    """A request that had no effect can be sent again with its key."""
    ordered.orders.inject(fault)
    api = ordered.api(**shared)
    first = add(api, key)
    assert first.status_code in (429, 502, 503)
    assert first.get_json()["executed"] == "no"
    time.sleep(int(fault.retry_after or 0))  # A 429 pauses all calls for this time.
    again = add(api, key)
    assert again.status_code == 200
    assert "Idempotency-Replayed" not in again.headers
    assert len(ordered.creations()) == 1


def test_a_used_up_rate_limit_leaves_no_record(ordered: OrderedStore, key: str) -> None:
    """A request that the rate limit stops leaves no record."""
    poor = ordered.api(ECWID_CALLS_PER_MINUTE=1)
    poor.get("/customers")
    assert add(poor, key).status_code == 429
    assert add(ordered.api(), key).status_code == 200


def lose_all(after: bool) -> list[Fault]:
    """Return faults that lose the first creation's reply and fail its searches."""
    return [
        Fault("reset", operation="add_customer", nth=1, after=after),
        Fault("status", operation="list_customers", status=500, times=3),
    ]


def test_a_lost_creation_is_found(ordered: OrderedStore, shared: Config, key: str) -> None:
    """A repeated request finds the customer of a lost creation and creates no second customer."""
    ordered.orders.inject(*lose_all(after=True))
    first = add(ordered.api(**shared), key)
    assert (first.status_code, slug(first)) == (504, "outcome-unknown")
    again = add(ordered.api(**shared), key)
    assert again.status_code == 200
    assert [again.get_json()["data"]["id"]] == [str(each) for each in ordered.creations()]
    assert add(ordered.api(**shared), key).headers["Idempotency-Replayed"] == "true"


def test_a_refusal_of_the_second_attempt_is_not_kept(
    ordered: OrderedStore, shared: Config, key: str
) -> None:
    """A refusal is not kept while the outcome of an earlier attempt is unknown.

    No response says that nothing happened.
    """
    ordered.orders.inject(*lose_all(after=False))
    ordered.orders.inject(Fault("status", operation="add_customer", status=400, nth=2))
    assert add(ordered.api(**shared), key).status_code == 504
    refused = add(ordered.api(**shared), key)
    assert (refused.status_code, refused.get_json()["executed"]) == (400, "unknown")
    again = add(ordered.api(**shared), key)
    assert again.status_code == 200
    assert "Idempotency-Replayed" not in again.headers
    assert len(ordered.creations()) == 1


def test_a_customer_with_the_same_email(ordered: OrderedStore, key: str) -> None:
    """An older customer with the same e-mail hides the new customer only while the search lags."""
    ordered.orders.switch(duplicate_emails=True)
    twin = {"email": CANARY, "billingPerson": {"name": "Canary Twin"}}
    assert ordered.api().post("/add_customer", twin).status_code == 200
    ordered.orders.switch(search_lag_s=60)
    time.sleep(1.1)
    ordered.orders.inject(Fault("reset", operation="add_customer", nth=1, after=True))
    hidden = add(ordered.api(), key)
    assert (hidden.status_code, hidden.get_json()["executed"]) == (409, "unknown")
    ordered.orders.switch(search_lag_s=0)
    shown = add(ordered.api(), key)
    assert shown.status_code == 200
    assert shown.get_json()["data"]["id"] == str(ordered.creations()[1])
    assert len(ordered.creations()) == 2


def test_a_creation_that_did_not_happen(ordered: OrderedStore, shared: Config, key: str) -> None:
    """A repeated request creates the customer once if the search finds none."""
    ordered.orders.inject(*lose_all(after=False))
    assert add(ordered.api(**shared), key).status_code == 504
    assert add(ordered.api(**shared), key).status_code == 200
    assert len(ordered.creations()) == 1
    calls = ordered.asked()
    assert calls[-4:-1] == ["list_customers"] * 3  # before the second creation
    assert calls.count("add_customer") == 2


def test_a_creation_that_shows_late(ordered: OrderedStore, key: str) -> None:
    """A 409 for the second attempt means that the first attempt succeeded, if the search lags."""
    ordered.orders.switch(search_lag_s=600)
    ordered.orders.inject(Fault("reset", operation="add_customer", nth=1, after=True))
    assert add(ordered.api(), key).status_code == 504
    assert add(ordered.api(), key).status_code == 504  # a 409, and the search still lags
    ordered.orders.switch(search_lag_s=0)
    response = add(ordered.api(), key)
    assert response.status_code == 200
    assert len(ordered.creations()) == 1


def test_a_search_that_fails(ordered: OrderedStore, key: str) -> None:
    """A creation that may have happened is not sent again while the search fails."""
    ordered.orders.inject(Fault("reset", operation="add_customer", nth=1))
    ordered.orders.inject(Fault("status", operation="list_customers", status=500))
    for _ in range(2):
        assert add(ordered.api(), key).status_code == 504
    assert ordered.asked().count("add_customer") == 1


def test_a_worker_that_was_killed(
    ordered: OrderedStore,
    shared: Config,
    key: str,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """A request whose worker died is searched for after its lease."""

    class Killed(BaseException):
        pass

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    api = ordered.api(**shared)
    ordered.orders.inject(Fault("latency", seconds=0, after=True))
    with monkeypatch.context() as patch:
        # The worker dies between the creation and its record, as after a kill -9.
        patch.setattr("flask_ecwid.web.idempotency.Idempotency._settle", killed)
        with pytest.raises(Killed):
            add(api, key)
    assert len(ordered.creations()) == 1
    assert slug(add(ordered.api(**shared), key)) == "idempotency-key-in-use"
    if shared:  # The clock of Redis tells how old a record is.
        redis: RedisServer = request.getfixturevalue("redis")
        redis.age(31)
    else:
        real = clock.now
        monkeypatch.setattr(clock, "now", lambda: real() + 31)
    response = add(ordered.api(**shared), key)
    assert response.status_code == 200
    assert len(ordered.creations()) == 1


CREATES_IN_A_PROCESS = """
import sys
from flask_ecwid.signals import attempt_started
from tests.conftest import Api, app_of
attempt_started.connect(lambda *_, **__: print("sent", flush=True), weak=False)
store, redis_url, key = sys.argv[1:]
api = Api(app_of({"ECWID_SANDBOX": store, "ECWID_REDIS_URL": redis_url}).test_client())
api.post(
    "/add_customer",
    {"email": "canary@example.com", "billingPerson": {"name": "Canary Name"}},
    headers={"Idempotency-Key": key},
)
"""


@pytest.mark.parametrize("after", [True, False], ids=["created", "perhaps not created"])
def test_a_process_that_was_killed(
    ordered: OrderedStore, shared: Config, key: str, after: bool
) -> None:
    """The next request takes over at once from a process of this host that is gone."""
    ordered.orders.inject(
        Fault("latency", operation="add_customer", seconds=60, after=after, nth=1)
    )
    with subprocess.Popen(
        [
            *(sys.executable, "-c", CREATES_IN_A_PROCESS),
            *(str(ordered.path), shared.get("ECWID_REDIS_URL", ""), key),
        ],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
    ) as process:
        api = ordered.api(**shared)
        assert process.stdout
        assert process.stdout.readline() == b"sent\n"
        while after and CANARY not in [each["email"] for each in ordered.orders.customers()]:
            time.sleep(0.05)
        assert slug(add(api, key)) == "idempotency-key-in-use"
        process.kill()
        while not gone(process.pid):
            time.sleep(0.05)
        ordered.orders.clear_faults()
        response = add(api, key)
    assert response.status_code == 200
    ids = [each["id"] for each in ordered.orders.customers() if each["email"] == CANARY]
    assert [response.get_json()["data"]["id"]] == [str(each) for each in ids]
    assert add(api, key).headers["Idempotency-Replayed"] == "true"


def gone(process: int) -> bool:
    """Return whether a process has ended, although its parent may not have reaped it."""
    return b") Z " in Path(f"/proc/{process}/stat").read_bytes()


def test_an_outcome_after_the_lease(
    ordered: OrderedStore, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late outcome does not overwrite the record of a request that has taken over."""
    from flask_ecwid.storage.memory_state import MemoryState
    from flask_ecwid.web.idempotency import Idempotency, _Record

    state = MemoryState()
    keys = Idempotency(state, "store", 20)

    def slow(since: float | None) -> dict[str, Any]:
        assert since is None
        later = clock.now() + 60
        monkeypatch.setattr(clock, "now", lambda: later)
        again, replayed = Idempotency(state, "store", 20).run(
            ("caller",), key, NEW, lambda _: {"id": "2"}
        )
        assert (again, replayed) == ({"id": "2"}, False)
        return {"id": "1"}

    assert keys.run(("caller",), key, NEW, slow) == ({"id": "1"}, False)
    assert keys.run(("caller",), key, NEW, slow) == ({"id": "2"}, True)
    assert _Record.from_json(next(iter(state._values.values()))[0]).state == "done"


def test_a_record_that_was_written_late(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record tells the age of the first attempt, although the host slept during the writing."""
    from flask_ecwid.storage.memory_state import MemoryState
    from flask_ecwid.web.idempotency import Idempotency

    class Killed(BaseException):
        pass

    ages: list[float | None] = []

    def killed(*arguments: Any) -> Any:
        ages.append(arguments[0])
        raise Killed

    state = MemoryState()
    now, wall, swap = clock.now, clock.wall, state.compare_and_swap
    elapsed_s = slept_s = 0.0

    def swap_late(name: str, before: bytes | None, *rest: Any) -> bool:
        nonlocal slept_s
        if before is not None:
            slept_s = 45.0
        return swap(name, before, *rest)

    monkeypatch.setattr(clock, "now", lambda: now() + elapsed_s)
    monkeypatch.setattr(clock, "wall", lambda: wall() + elapsed_s + slept_s)
    monkeypatch.setattr(state, "compare_and_swap", swap_late)
    monkeypatch.setattr(Idempotency, "_settle", lambda *_: None)
    for _ in range(3):  # Each process is killed, and the next one comes after the lease.
        with pytest.raises(Killed):
            Idempotency(state, "store", 20).run(("caller",), key, NEW, killed)
        elapsed_s += 31
    first, second, third = ages
    assert first is None
    assert second is not None
    assert third is not None
    assert second >= 31
    assert third >= 31 + 45 + 31


@pytest.mark.parametrize(
    "good",
    [
        "x",
        "k" * 255,
        "a key, with: blanks",
        "~!@#$%^&*()",
        '"quoted"',
        f'"{"k" * 255}"',
        '"not closed',
        '"two", "of them"',
    ],
)
def test_keys(ordered: OrderedStore, good: str) -> None:
    """An idempotency key is any printable ASCII text of up to 255 characters, quoted or not."""
    assert add(ordered.api(), good).status_code == 200


@pytest.mark.parametrize(
    "bad",
    ["", "k" * 256, "tab\tin", "\x7f", "\xe9", "canary\x01", '""', f'"{"k" * 256}"', '"tab\tin"'],
)
def test_malformed_keys(ordered: OrderedStore, bad: str) -> None:
    """A malformed idempotency key gets a 400 that names the header and not its value."""
    response = add(ordered.api(), bad)
    assert response.status_code == 400
    assert {each["pointer"] for each in response.get_json()["errors"]} == {
        "/header/Idempotency-Key"
    }
    assert "canary" not in response.text
    assert ordered.asked() == []


@pytest.mark.parametrize(
    ("quoted", "plain"),
    [
        ('"8e03978e-40d5-43e8-bc93-6894a57f9324"', "8e03978e-40d5-43e8-bc93-6894a57f9324"),
        (r'"a \"word\" and a \\"', 'a "word" and a \\'),
        ('"a, b; c=d"', "a, b; c=d"),
    ],
)
@pytest.mark.parametrize("quoted_first", [True, False])
def test_quotes_are_no_part_of_a_key(
    ordered: OrderedStore, quoted: str, plain: str, quoted_first: bool
) -> None:
    """A key in quotes, a String of Structured Fields, is the same key as without quotes."""
    first, again = (quoted, plain) if quoted_first else (plain, quoted)
    assert "Idempotency-Replayed" not in add(ordered.api(), first).headers
    assert add(ordered.api(), again).headers["Idempotency-Replayed"] == "true"
    assert slug(add(ordered.api(), again, {"email": "b@example.com"})) == "idempotency-key-reused"


@pytest.mark.parametrize(
    "text", ['"key', 'key"', "'key'", '"key";a=1', '"key", "key"', r'"k\ey"', '""key""', "Key"]
)
def test_a_text_that_is_no_string_is_a_key_as_it_stands(ordered: OrderedStore, text: str) -> None:
    """A text other than one whole String of Structured Fields is a key with all its characters."""
    ordered.orders.switch(duplicate_emails=True)
    for each in (text, "key"):
        assert "Idempotency-Replayed" not in add(ordered.api(), each).headers
    assert add(ordered.api(), text).headers["Idempotency-Replayed"] == "true"
    assert len(ordered.creations()) == 2


# A key that each request needs

REQUIRED = {"ECWID_REQUIRE_IDEMPOTENCY_KEY": "on"}


def test_a_missing_key(ordered: OrderedStore) -> None:
    """A creation without a key gets a 400 and sends no call if the settings require a key."""
    response = ordered.api(**REQUIRED).post("/add_customer", NEW)
    assert (response.status_code, slug(response)) == (400, "idempotency-key-required")
    body = response.get_json()
    assert (body["origin"], body["executed"]) == ("request", "no")
    assert CANARY not in response.text
    assert ordered.asked() == []
    assert ordered.api().post("/add_customer", NEW).status_code == 200


def test_a_required_key(ordered: OrderedStore, shared: Config, key: str) -> None:
    """A creation with the required key is made once, and is replayed afterwards."""
    settings = {**shared, **REQUIRED}
    assert add(ordered.api(**settings), key).status_code == 200
    assert add(ordered.api(**settings), key).headers["Idempotency-Replayed"] == "true"
    assert ordered.asked() == ["add_customer"]


@pytest.mark.parametrize("settings", [{}, REQUIRED], ids=["optional", "required"])
@pytest.mark.parametrize("empty", ["", '""'])
def test_an_empty_key_is_invalid(ordered: OrderedStore, settings: Config, empty: str) -> None:
    """An empty key is invalid and not missing, whether or not the settings require a key."""
    response = add(ordered.api(**settings), empty)
    assert (response.status_code, slug(response)) == (400, "invalid-request")
    assert [each["keyword"] for each in response.get_json()["errors"]] == ["minLength"]
    assert ordered.asked() == []


def test_only_creations_require_a_key(ordered: OrderedStore) -> None:
    """The other operations and the client need no key, whatever the settings say."""
    api = ordered.api(**REQUIRED)
    assert api.get("/customers").status_code == 200
    customer = "customer/172890169"
    assert api.get(f"/{customer}").status_code == 200
    assert api.post(f"/update_{customer}", {"taxExempt": True}).status_code == 200
    assert api.post(f"/delete_{customer}").status_code == 200
    settings = Settings(sandbox=str(ordered.path), require_idempotency_key=True)
    with EcwidClient(settings) as client:
        assert client.add_customer({"email": CANARY})["id"]


@pytest.mark.parametrize("required", [False, True])
@pytest.mark.parametrize("authenticated", [False, True])
def test_the_served_contract_says_if_a_key_is_required(
    ordered: OrderedStore, required: bool, authenticated: bool
) -> None:
    """The header is required in the served contract if the settings require a key."""
    app = flask.Flask("host")
    app.config.update(ECWID_SANDBOX=str(ordered.path), ECWID_REQUIRE_IDEMPOTENCY_KEY=required)
    Ecwid(app, authorize=bool if authenticated else None)
    served = Api(app.test_client()).get("/openapi.json").get_json()
    [header] = [
        each
        for each in served["components"]["parameters"].values()
        if each["in"] == "header" and each["name"] == "Idempotency-Key"
    ]
    assert header.get("required", False) is required
    [reference] = [
        each["$ref"]
        for each in served["paths"]["/add_customer"]["post"]["parameters"]
        if each["$ref"].endswith("IdempotencyKey")
    ]
    assert reference == "#/components/parameters/IdempotencyKey"


def test_problems_of_keys_lead_to_the_contract(
    ordered: OrderedStore, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each problem about a key has a link to the served contract, and no other problem has one."""
    api = ordered.api(**REQUIRED)
    missing = api.post("/add_customer", NEW)
    with monkeypatch.context() as patch:  # The record stays in the state running.
        patch.setattr("flask_ecwid.web.idempotency.Idempotency._settle", lambda *_: None)
        assert add(api, key).status_code == 200
    in_use, reused = add(api, key), add(api, key, {"email": "other@example.com"})
    assert [each.status_code for each in (missing, in_use, reused)] == [400, 409, 422]
    for response in (missing, in_use, reused):
        assert response.content_type == "application/problem+json"
        target, *parameters = response.headers["Link"].split("; ")
        assert parameters == ['rel="describedby"', 'type="application/json"']
        path = urljoin(f"{PREFIX}/add_customer", target.strip("<>"))
        assert path == f"{PREFIX}/openapi.json"
    assert api.get("/openapi.json").status_code == 200
    assert "Link" not in add(api, "x", {}).headers


def test_other_operations_take_no_key(ordered: OrderedStore, key: str) -> None:
    """Operations other than a creation ignore the header."""
    headers = {"Idempotency-Key": key}
    for _ in range(2):
        response = ordered.api().get("/customers", headers=headers)
        assert response.status_code == 200
        assert "Idempotency-Replayed" not in response.headers


def kept_bytes(shared: Config, redis: RedisServer | None) -> bytes:
    """Return all raw bytes of the stored records."""
    if redis is not None:
        names = list(redis.client.scan_iter())
        values = [redis.client.get(n) for n in names if redis.client.type(n) == b"string"]
        return b"".join(names) + b"".join(bytes(value) for value in values if value)  # type: ignore[arg-type]
    return b"".join(each.read_bytes() for each in host_state().try_out().parent.iterdir())


def test_a_record_holds_no_secret(
    ordered: OrderedStore, shared: Config, key: str, request: pytest.FixtureRequest
) -> None:
    """No record holds the key, the body, the e-mail or the token. A record expires after 24 h."""
    redis = request.getfixturevalue("redis") if shared else None
    add(ordered.api(**shared), key)
    kept = kept_bytes(shared, redis)
    assert b"done" in kept
    for secret in (key, CANARY, "Canary", TOKEN):
        assert secret.encode() not in kept
    if redis is not None:
        [name] = redis.client.keys("*:once:*")
        assert 0 < redis.client.ttl(name) <= 24 * 3600


def test_without_a_key_nothing_is_kept(ordered: OrderedStore, redis: RedisServer) -> None:
    """A creation without a key leaves no record."""
    ordered.api(ECWID_REDIS_URL=redis.url).post("/add_customer", NEW)
    assert redis.client.keys("*:once:*") == []


def test_stores_have_their_own_keys(tmp_path: Path, shared: Config, key: str) -> None:
    """The same idempotency key at two stores creates two customers."""
    for name in ("one", "two"):
        store = OrderedStore(tmp_path / f"{name}.sqlite3")
        assert "Idempotency-Replayed" not in add(store.api(**shared), key).headers
        assert len(store.creations()) == 1


MOUNT = ("host", "ecwid", PREFIX)  # an app's name, a mount's name and its URL prefix
OTHERS = [
    ("billing", "ecwid", PREFIX),
    ("host", "outlet", PREFIX),
    ("host", "ecwid", "/outlet"),
]


def mounted(store: OrderedStore, shared: Config, mount: tuple[str, str, str]) -> Api:
    """Return a caller of the store at this mount of a new app."""
    app, name, prefix = mount
    host = flask.Flask(app)
    host.config.update({"ECWID_SANDBOX": str(store.path), **shared})
    Ecwid(host, name=name, url_prefix=prefix)
    return Api(host.test_client(), prefix)


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_mounts_have_their_own_keys(
    ordered: OrderedStore, shared: Config, key: str, other: tuple[str, str, str]
) -> None:
    """Mounts that differ in a name or the URL prefix share no key, with the same store and caller.

    A mount with the same names and prefix is the same mount, in another worker or after a restart.
    """
    ordered.orders.switch(duplicate_emails=True)
    for mount in (MOUNT, other):
        response = add(mounted(ordered, shared, mount), key)
        assert response.status_code == 200
        assert "Idempotency-Replayed" not in response.headers
    for mount in (MOUNT, other):
        again = add(mounted(ordered, shared, mount), key)
        assert again.headers["Idempotency-Replayed"] == "true"
    assert len(ordered.creations()) == 2


def test_two_mounts_of_one_app(ordered: OrderedStore, shared: Config, key: str) -> None:
    """Two mounts of one app share no key, although they have the same store and caller."""
    ordered.orders.switch(duplicate_emails=True)
    settings = {"ECWID_SANDBOX": str(ordered.path), **shared}
    app = app_of({**settings, **{f"OUTLET_{name}": value for name, value in settings.items()}})
    Ecwid(app, name="outlet", url_prefix="/outlet", config_prefix="OUTLET_")
    apis = [Api(app.test_client(), prefix) for prefix in (PREFIX, "/outlet")]
    for replayed in (None, "true"):
        for api in apis:
            assert add(api, key).headers.get("Idempotency-Replayed") == replayed
    # The other mount does not see the record, so another body with the key is no misuse there.
    assert slug(add(apis[0], key, {"email": "b@example.com"})) == "idempotency-key-reused"
    assert len(ordered.creations()) == 2


@pytest.mark.parametrize(
    ("first", "second", "shares"),
    [
        (True, True, True),
        (Caller("ada"), Caller("ada"), True),
        (Caller("ada"), Caller("bob"), False),
        (True, Caller("ada"), False),
    ],
)
def test_callers_of_the_hosts_authorize(
    ordered: OrderedStore,
    shared: Config,
    key: str,
    first: bool | Caller,
    second: bool | Caller,
    shares: bool,
) -> None:
    """All users whom True lets pass share their keys, and each name of a Caller has its own."""
    ordered.orders.switch(duplicate_emails=True)
    responses = []
    for granted in (first, second):
        app = flask.Flask("host")
        app.config.update({"ECWID_SANDBOX": str(ordered.path), **shared})
        Ecwid(app, authorize={"write": granted}.get)  # type: ignore[arg-type]
        responses.append(add(Api(app.test_client()), key))
    assert [response.status_code for response in responses] == [200, 200]
    assert ("Idempotency-Replayed" in responses[1].headers) is shares
    assert len(ordered.creations()) == (1 if shares else 2)


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.mark.parametrize("fault", ["stopped", "halted"])
def test_redis_gone(ordered: OrderedStore, own_redis: RedisServer, key: str, fault: str) -> None:
    """A request with a key is refused soon and without a call when Redis is gone.

    Requests without a key go on.
    """
    api = ordered.api(ECWID_REDIS_URL=own_redis.url)
    (own_redis.stop if fault == "stopped" else own_redis.halt)()
    begun = time.monotonic()
    response = add(api, key)
    assert time.monotonic() - begun < 15
    assert (response.status_code, slug(response)) == (503, "idempotency-unavailable")
    body = response.get_json()
    assert (body["origin"], body["executed"]) == ("service", "no")
    assert 1 <= int(response.headers["Retry-After"]) <= 10
    assert ordered.asked() == []
    assert api.post("/add_customer", NEW).status_code == 200
    if fault == "halted":
        own_redis.go_on()


@pytest.mark.parametrize(
    "members",
    [
        {"state": "unknown", "tried_s": None},
        {"state": "running", "lease_s": "30"},
        {"state": "running", "process": 5},
        {"ecwid_code": 5},
        {"envelope": 5},
        {"envelope": {"data": 5}},
        {"envelope": {"data": {"id": 5}}},
        {"envelope": None},
        {"envelope": None, "status": 500},
        None,
    ],
)
def test_a_damaged_record(
    ordered: OrderedStore,
    redis: RedisServer,
    key: str,
    caplog: pytest.LogCaptureFixture,
    members: dict[str, Any] | None,
) -> None:
    """A record with a member of another type is a 503 for its own key, and for no other key."""
    api = ordered.api(ECWID_REDIS_URL=redis.url)
    add(api, key)
    [name] = redis.client.scan_iter("*:once:*")
    record = json.loads(cast("bytes", redis.client.get(name)))
    redis.client.delete(name)
    if members is None:
        redis.client.rpush(name, "x")
    else:
        redis.client.set(name, json.dumps({**record, **members}), ex=60)
    for _ in range(2):
        response = add(api, key)
        assert (response.status_code, slug(response)) == (503, "idempotency-unavailable")
    assert add(api, str(uuid.uuid4())).status_code != 503
    assert "Redis has failed" not in caplog.text


@pytest.mark.usefixtures("patience")
def test_redis_slow(ordered: OrderedStore, own_redis: RedisServer, key: str) -> None:
    """A request with a key waits for a slow Redis."""
    api = ordered.api(ECWID_REDIS_URL=own_redis.url)
    own_redis.client.client_pause(100)
    assert add(api, key).status_code == 200
    own_redis.client.client_pause(100)
    again = add(api, key)
    assert again.headers["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize("outcome", ["created", "refused", "unknown", "no effect"])
def test_redis_read_only_meanwhile(
    ordered: OrderedStore,
    own_redis: RedisServer,
    key: str,
    monkeypatch: pytest.MonkeyPatch,
    outcome: str,
) -> None:
    """The process that could not store an outcome knows the outcome, and stores it later."""
    monkeypatch.setattr("flask_ecwid.storage.redis_connection.COOLDOWN_S", 0.0)
    url = own_redis.url
    api, other = ordered.api(ECWID_REDIS_URL=url), ordered.api(ECWID_REDIS_URL=url)
    if outcome == "refused":
        ordered.orders.inject(Fault("status", operation="add_customer", status=400, nth=1))
    elif outcome == "unknown":
        ordered.orders.inject(Fault("reset", operation="add_customer", nth=1, after=False))
    elif outcome == "no effect":
        ordered.orders.inject(Fault("status", status=403, code="INSUFFICIENT_APP_SCOPE", nth=1))
    settle: Callable[..., None] = Idempotency._settle

    def while_read_only(*arguments: Any) -> None:
        own_redis.client.replicaof("127.0.0.1", "1")
        settle(*arguments)
        own_redis.client.replicaof("NO", "ONE")

    with monkeypatch.context() as patch:
        patch.setattr(Idempotency, "_settle", while_read_only)
        first = add(api, key)
    assert slug(add(other, key)) == "idempotency-key-in-use"
    again = add(api, key)
    last = add(other, key)
    assert again.status_code == last.status_code
    assert last.headers["Idempotency-Replayed"] == "true"
    is_final = outcome in ("created", "refused")
    assert ("Idempotency-Replayed" in again.headers) == is_final
    assert (first.status_code == again.status_code) == is_final
    assert len(ordered.creations()) == (0 if outcome == "refused" else 1)


@pytest.mark.parametrize("is_second", [False, True])
def test_redis_halted_meanwhile(
    ordered: OrderedStore,
    own_redis: RedisServer,
    key: str,
    monkeypatch: pytest.MonkeyPatch,
    is_second: bool,
) -> None:
    """A refused request whose record reaches Redis later does not keep its key under way.

    A lost creation before the refused request is not forgotten.
    """
    monkeypatch.setattr("flask_ecwid.storage.redis_connection.COOLDOWN_S", 0.0)
    api = ordered.api(ECWID_REDIS_URL=own_redis.url)
    if is_second:
        ordered.orders.inject(
            Fault("reset", operation="add_customer", nth=1, after=True),
            Fault("status", operation="list_customers", status=500, times=3),
        )
        assert slug(add(api, key)) == "outcome-unknown"
    swap = RedisState.compare_and_swap

    def halted(self: RedisState, key: str, before: bytes | None, *rest: Any) -> bool:
        if (before is not None) == is_second:
            own_redis.halt()
        return swap(self, key, before, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(RedisState, "compare_and_swap", halted)
        assert slug(add(api, key)) == "idempotency-unavailable"
    own_redis.go_on()
    until = time.monotonic() + 60
    while not any(
        b'"running"' in cast("bytes", own_redis.client.get(name))
        for name in own_redis.client.keys("*:once:*")
    ):
        assert time.monotonic() < until, "Redis does not execute the command"
        time.sleep(0.01)
    assert slug(add(ordered.api(ECWID_REDIS_URL=own_redis.url), key)) == "idempotency-key-in-use"
    assert add(api, key).status_code == 200
    assert len(ordered.creations()) == 1


def test_a_file_that_cannot_be_kept(
    ordered: OrderedStore, key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A request with a key is refused if the host can keep no file.

    A request without a key goes on.
    """
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file" / "missing"))
    api = ordered.api()
    assert slug(add(api, key)) == "idempotency-unavailable"
    assert api.post("/add_customer", NEW).status_code == 200


def test_redis_lost_after_the_creation(
    ordered: OrderedStore, own_redis: RedisServer, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller gets the outcome even if Redis fails before the record is written."""
    api = ordered.api(ECWID_REDIS_URL=own_redis.url)
    settle: Callable[..., None] = Idempotency._settle

    def without_redis(*arguments: Any) -> None:
        own_redis.stop()
        settle(*arguments)

    monkeypatch.setattr(Idempotency, "_settle", without_redis)
    assert add(api, key).status_code == 200


def test_redis_emptied_meanwhile(
    ordered: OrderedStore, redis: RedisServer, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outcome is kept even if Redis loses the record during the request."""
    creation = Hold(monkeypatch, Store, "add_customer")
    api = ordered.api(ECWID_REDIS_URL=redis.url)
    thread = threading.Thread(target=lambda: add(api, key))
    thread.start()
    creation.wait()
    redis.client.flushall()
    creation.release()
    thread.join()
    assert add(api, key).headers["Idempotency-Replayed"] == "true"
    assert len(ordered.creations()) == 1


def test_another_token(tmp_path: Path, key: str) -> None:
    """A record stays valid after the token of its store changes."""
    sandbox = create_sandbox(tmp_path / "s.sqlite3", tokens={"secret_a": {"create_customers"}})
    assert sandbox is not None
    settings = Settings(store_id="1003", token="secret_a", api_url=f"https://{key}.example.com")
    names = {
        settings.store_digest(StoreCredentials("1003", token)) for token in ("secret_a", "secret_b")
    }
    [name] = names
    keys = [Idempotency(host_state(), name, 20) for _ in range(2)]
    assert keys[0].run(("caller",), key, NEW, lambda _: {"id": "1"}) == ({"id": "1"}, False)
    assert keys[1].run(("caller",), key, NEW, lambda _: {"id": "2"}) == ({"id": "1"}, True)


@pytest.mark.parametrize("where", ["file", "redis"])
def test_four_workers(tmp_path: Path, where: str, redis: RedisServer) -> None:
    """The same key from 50 threads at once over four gunicorn workers creates one customer."""
    store = OrderedStore(tmp_path / "store.sqlite3")
    port = free_port()
    settings = {"ECWID_SANDBOX": str(store.path), "TMPDIR": str(tmp_path)}
    if where == "redis":
        settings["ECWID_REDIS_URL"] = redis.url
    program = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "-w", "4"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*program, "--bind", f"127.0.0.1:{port}", "wsgi:app"],
            cwd=ROOT,
            env=environment(**settings),
            stdout=log,
            stderr=log,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(f"{url}/healthz", process)

            def create(key: str, number: int) -> requests.Response:
                return requests.post(
                    f"{url}{PREFIX}/add_customer",
                    json={"email": f"new-{number}@example.com"},
                    headers={"Idempotency-Key": key},
                    timeout=60,
                )

            with ThreadPoolExecutor(50) as threads:
                for number in range(3):
                    key = str(uuid.uuid4())
                    responses = list(
                        threads.map(lambda _, k=key, n=number: create(k, n), range(50))
                    )
                    responses.append(create(key, number))
                    assert {response.status_code for response in responses} <= {200, 409}
                    ids = {a.json()["data"]["id"] for a in responses if a.status_code == 200}
                    assert len(ids) == 1
                    assert responses[-1].headers["Idempotency-Replayed"] == "true"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    assert len(store.creations()) == 3


def test_the_file_outlives_the_process(ordered: OrderedStore, key: str) -> None:
    """A record outlives its process, so a restart leads to no second creation."""
    add(ordered.api(), key)
    db = sqlite3.connect(host_state().try_out())
    values = [value for (value,) in db.execute("SELECT value FROM state")]
    db.close()
    assert any(b"done" in value for value in values)
