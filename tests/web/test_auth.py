"""Tests of access control by API keys or by the host's authorize."""

from __future__ import annotations

import contextvars
import hashlib
import json
import logging
import re
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flask
import pytest
from flask_cors import CORS
from werkzeug.exceptions import Unauthorized, abort
from werkzeug.test import TestResponse

from flask_ecwid import Caller, Ecwid, Settings, SettingsError, contract, signals

from ..conftest import PREFIX, Api
from ..helpers.ordered_store import OrderedStore

OPERATIONS = {
    "list_customers": ("GET", "/customers", None),
    "get_customer": ("GET", "/customer/172890169", None),
    "add_customer": ("POST", "/add_customer", {"email": "new@example.com"}),
    "update_customer": ("POST", "/update_customer/172890169", {"acceptMarketing": False}),
    "delete_customer": ("POST", "/delete_customer/172890169", None),
}
SCOPES = {name: each.scope for name, each in contract.load().operations.items()}
KEY, OLD_KEY, READ_KEY = (f"canary-key-{name}" for name in ("all", "old", "read"))
Headers = list[tuple[str, str]]


@pytest.fixture(autouse=True)
def _no_key_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that no log holds a key that a test has sent."""
    caplog.set_level(logging.DEBUG)
    yield
    assert "canary" not in "".join(each.getMessage() for each in caplog.get_records("call"))


def entry(name: str, scopes: str, key: str) -> str:
    return f"{name}:{scopes}:{hashlib.sha256(key.encode()).hexdigest()}"


ENTRIES = [
    entry("warehouse", "read+write+delete", KEY),
    entry("warehouse", "read+write+delete", OLD_KEY),
    entry("newsletter", "read", READ_KEY),
]


def call(api: Api, operation: str, headers: Headers | None = None) -> TestResponse:
    method, path, body = OPERATIONS[operation]
    return api.open(method, path, json=body, headers=headers or [])


def bearer(key: str) -> Headers:
    return [("Authorization", f"Bearer {key}")]


def alone(key: str) -> Headers:
    return [("X-API-Key", key)]


def check_refused(response: TestResponse, operation: str, status: int, slug: str) -> None:
    body = response.get_json()
    assert (response.status_code, body["type"]) == (status, f"urn:flask-ecwid:problem:{slug}")
    assert response.content_type == "application/problem+json"
    assert body["origin"] == "request"
    assert body.get("executed") == (None if SCOPES[operation] == "read" else "no")
    assert "canary" not in response.get_data(as_text=True) + str(response.headers)
    assert "RateLimit" not in response.headers
    contract.load().operations[operation].validate_response(status, body)


NO_KEY = 'Bearer realm="ecwid"'
TWO_KEYS = f'{NO_KEY}, error="invalid_request"'
WRONG_KEY = f'{NO_KEY}, error="invalid_token"'
NO_VALID_KEY: dict[str, Headers] = {
    "none": [],
    "a wrong one": bearer("canary-wrong"),
    "a wrong one alone": alone("canary-wrong"),
    "empty": alone(""),
    "an empty bearer": [("Authorization", "Bearer ")],
    "no scheme": [("Authorization", KEY)],
    "basic": [("Authorization", "Basic Y2FuYXJ5OmNhbmFyeQ==")],
    "digest": [("Authorization", f"Digest {KEY}")],
    "two, both good": bearer(KEY) + alone(KEY),
    "two, one good": bearer(KEY) + alone("canary-wrong"),
    "a good one beside basic": [*alone(KEY), ("Authorization", "Basic Y2FuYXJ5OmNhbmFyeQ==")],
    "a good one beside nothing": [*alone(KEY), ("Authorization", "")],
    "two alone": alone(KEY) + alone(KEY),
    "two in one": bearer(f"{KEY}, Bearer {KEY}"),
    "its digest": bearer(ENTRIES[0].rpartition(":")[2]),
    "its entry": alone(ENTRIES[0]),
    "more behind it": bearer(f"{KEY}x"),
    "less of it": bearer(KEY[:-1]),
    "in capitals": bearer(KEY.upper()),
    "10 kB": bearer("canary" * 1700),
    "10 kB alone": alone("canary" * 1700),
    "unicode": alone("canary-ключ"),
    "latin-1": alone("canary-é"),
    "a tab": alone(f"{KEY}\t"),
}


# The start of the detail, and the challenge. Any other credential is a wrong API key.
FAULTS = {
    "The request has no API key.": (NO_KEY, ["none", "empty", "an empty bearer"]),
    "The scheme of Authorization is not Bearer.": (NO_KEY, ["no scheme", "basic", "digest"]),
    "The request has two credentials.": (
        TWO_KEYS,
        [
            *("two, both good", "two, one good", "two alone", "two in one"),
            *("a good one beside basic", "a good one beside nothing"),
        ],
    ),
}


def fault_of(given: str) -> tuple[str, str]:
    for detail, (challenge, credentials) in FAULTS.items():
        if given in credentials:
            return detail, challenge
    return "The API key is not known.", WRONG_KEY


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("given", NO_VALID_KEY)
def test_a_request_without_a_valid_key(ordered: OrderedStore, given: str, operation: str) -> None:
    """A request without a valid key gets a 401 with a challenge, and no call is sent.

    The 401 tells apart no key, two keys, a wrong key and another scheme.
    """
    api = ordered.api(ECWID_API_KEYS=ENTRIES)
    response = call(api, operation, NO_VALID_KEY[given])
    check_refused(response, operation, 401, "unauthorized")
    detail, challenge = fault_of(given)
    assert response.get_json()["detail"].startswith(f"{detail} Send ")
    assert response.headers["WWW-Authenticate"] == challenge
    assert ordered.calls() == 0


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "headers",
    [bearer(KEY), alone(KEY), bearer(OLD_KEY), [("authorization", f"bearer   {KEY}")]],
    ids=["bearer", "alone", "the key before", "any case"],
)
def test_a_valid_key(ordered: OrderedStore, headers: Headers, operation: str) -> None:
    """A valid key with the scope is accepted in either header. A caller may have several keys."""
    response = call(ordered.api(ECWID_API_KEYS=ENTRIES), operation, headers)
    assert response.status_code == 200
    assert "RateLimit" in response.headers


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("scopes", ["read", "write", "delete", "read+write", "write+delete"])
def test_scopes(ordered: OrderedStore, scopes: str, operation: str) -> None:
    """Each operation needs one scope. A key without the scope gets a 403 that names the scope."""
    api = ordered.api(ECWID_API_KEYS=entry("a", scopes, KEY))
    response = call(api, operation, bearer(KEY))
    if SCOPES[operation] in scopes.split("+"):
        assert response.status_code == 200
        return
    check_refused(response, operation, 403, "forbidden")
    assert response.get_json()["detail"] == f"The operation needs the scope {SCOPES[operation]}."
    assert f'scope="{SCOPES[operation]}"' in response.headers["WWW-Authenticate"]
    assert ordered.calls() == 0


def test_the_scope_of_each_operation() -> None:
    """Reading, writing and deleting have separate scopes."""
    assert SCOPES == {
        "list_customers": "read",
        "get_customer": "read",
        "add_customer": "write",
        "update_customer": "write",
        "delete_customer": "delete",
    }


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_key_that_was_taken_away(ordered: OrderedStore, operation: str) -> None:
    """A key without an entry is refused."""
    api = ordered.api(ECWID_API_KEYS=[ENTRIES[0], ENTRIES[2]])
    check_refused(call(api, operation, bearer(OLD_KEY)), operation, 401, "unauthorized")
    assert call(api, operation, bearer(KEY)).status_code == 200


def test_the_remaining_calls_need_a_key(ordered: OrderedStore) -> None:
    """A request that fails before its key is checked does not get the number of remaining calls."""
    api = ordered.api(ECWID_API_KEYS=ENTRIES)
    hidden = {"RAW_URI": f"{PREFIX}%2Fcustomers"}
    response = api.get("/customers", environ_overrides=hidden)
    assert response.status_code == 404
    assert "RateLimit" not in response.headers


def test_the_digest_of_nothing(ordered: OrderedStore) -> None:
    """An empty key lets no request pass, and its entry stops the start."""
    api = ordered.api(ECWID_API_KEYS=ENTRIES)
    for headers in ([], alone(""), [("Authorization", "Bearer ")], [("Authorization", "")]):
        assert call(api, "list_customers", headers).status_code == 401
    with pytest.raises(SettingsError, match="API key that anybody could guess"):
        ordered.api(ECWID_API_KEYS=[*ENTRIES, entry("nobody", "read", "")])


def test_the_key_is_checked_first(ordered: OrderedStore) -> None:
    """The plugin checks the key before all other parts of a request."""
    api = ordered.api(ECWID_API_KEYS=ENTRIES)
    for path, options in (
        ("/add_customer?canary=1", {"data": b"canary", "content_type": "text/plain"}),
        ("/update_customer/canary", {"json": {"canary": 1}}),
        ("/delete_customer/0", {}),
        ("/add_customer", {"data": b"x" * 300_000}),
    ):
        assert api.post(path, **options).status_code == 401


def test_every_operation_of_the_contract_is_closed(ordered: OrderedStore) -> None:
    """Every route of an operation refuses requests without a key, with every method."""
    app = flask.Flask("host")
    app.config.update(ECWID_SANDBOX=str(ordered.path), ECWID_API_KEYS=ENTRIES)
    Ecwid(app)
    asked = 0
    for rule in app.url_map.iter_rules():
        operation = rule.endpoint.removeprefix("ecwid.")
        if operation not in SCOPES:
            continue
        path = rule.rule.replace("<customer_id>", "172890169")
        for method in rule.methods or ():
            response = app.test_client().open(path, method=method, json={"email": "a@example.com"})
            assert response.status_code == 401, (method, path)
            asked += 1
    assert asked == 7  # five operations, and HEAD for the two reads
    assert ordered.calls() == 0


def test_the_rest_below_the_mount_is_open(ordered: OrderedStore) -> None:
    """The contract, the UI and unknown paths need no key."""
    api = ordered.api(ECWID_API_KEYS=ENTRIES)
    paths = ("/openapi.json", "/openapi.yaml", "/openapi-3.1.json", "/ui/", "/nothing")
    assert [api.get(path).status_code for path in paths] == [200, 200, 200, 200, 404]
    assert api.open("OPTIONS", "/customers").status_code == 204


def test_callers_have_their_own_idempotency_keys(ordered: OrderedStore) -> None:
    """Two callers with the same Idempotency-Key create two customers.

    Two API keys of one caller create one customer.
    """
    keys = [*ENTRIES, entry("other", "write", "canary-key-other")]
    api = ordered.api(ECWID_API_KEYS=keys)

    def add(key: str, email: str) -> TestResponse:
        headers = [*bearer(key), ("Idempotency-Key", "the-same")]
        return api.post("/add_customer", {"email": email}, headers=headers)

    assert add(KEY, "one@example.com").status_code == 200
    assert "Idempotency-Replayed" in add(OLD_KEY, "one@example.com").headers
    assert "Idempotency-Replayed" not in add("canary-key-other", "two@example.com").headers
    assert len(ordered.creations()) == 2


# The settings


@pytest.mark.parametrize(
    "written",
    [",".join(ENTRIES), "\n".join(ENTRIES), " ,\t".join(ENTRIES) + ",\n", ENTRIES, tuple(ENTRIES)],
    ids=["commas", "lines", "both", "list", "tuple"],
)
def test_how_entries_are_written(written: object) -> None:
    """Commas or white space separate the entries in a text, and a list has an entry per item."""
    settings = Settings.from_config({**REAL, "ECWID_API_KEYS": written})
    assert [key.entry() for key in settings.api_keys] == ENTRIES
    assert "warehouse" not in repr(settings)


REAL = {"ECWID_STORE_ID": "1003", "ECWID_TOKEN": "secret_x"}
DIGEST = "0" * 64


@pytest.mark.parametrize(
    "bad",
    [
        "canary",
        f"canary:{DIGEST}",
        f"canary:read:{DIGEST}0",
        f"canary:read:{DIGEST[1:]}",
        f"canary:read:{DIGEST[1:]}g",
        f"canary:admin:{DIGEST}",
        f"canary:read+:{DIGEST}",
        f"canary::{DIGEST}",
        f":read:{DIGEST}",
        f"canary:READ:{DIGEST}",
        f"ca/nary:read:{DIGEST}",
        f"{'c' * 65}:read:{DIGEST}",
        f"canary:read:{DIGEST}:more",
        f"canary:read:{DIGEST},canary",
        [f"canary:read:{DIGEST}", 5],
        {"canary": DIGEST},
        7,
        f"canary:read:{DIGEST} canary2:write:{DIGEST}",
    ],
)
def test_malformed_entries(bad: object) -> None:
    """A malformed entry stops the start, and the message does not repeat the entry."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_config({**REAL, "ECWID_API_KEYS": bad})
    [fault] = caught.value.faults
    assert fault.startswith("ECWID_API_KEYS ")
    assert "canary" not in fault


def started(authorize: Any = None, **config: Any) -> Settings:
    app = flask.Flask("host")
    app.config.update(config)
    Ecwid(app, authorize=authorize)
    settings: Settings = app.extensions["ecwid"]["ecwid"].settings
    return settings


def test_a_real_store_without_access_control() -> None:
    """A real store with neither keys nor authorize does not start."""
    for auth in ({}, {"ECWID_AUTH": "keys"}, {"ECWID_API_KEYS": " , "}):
        with pytest.raises(SettingsError, match="ECWID_AUTH is keys, but ECWID_API_KEYS is empty"):
            started(**REAL, **auth)


def test_one_kind_of_access_control() -> None:
    """A store takes only one of API keys, authorize and ECWID_AUTH none."""

    def authorize(scope: str) -> bool:
        return True

    assert started(**REAL, ECWID_API_KEYS=ENTRIES).auth == "keys"
    assert started(authorize, **REAL).auth == "keys"
    assert started(**REAL, ECWID_AUTH="none").auth == "none"
    for given, config in (
        (None, {"ECWID_AUTH": "none", "ECWID_API_KEYS": ENTRIES}),
        (authorize, {"ECWID_AUTH": "none"}),
        (authorize, {"ECWID_API_KEYS": ENTRIES}),
    ):
        with pytest.raises(SettingsError):
            started(given, **REAL, **config)


def test_the_sandbox_is_open_unless_it_is_closed() -> None:
    """The sandbox needs no key unless the settings ask for keys."""
    assert started(ECWID_SANDBOX=True).auth == "none"
    assert started(ECWID_SANDBOX=True, ECWID_API_KEYS=ENTRIES).auth == "keys"
    assert started(lambda scope: True, ECWID_SANDBOX=True).auth == "keys"
    with pytest.raises(SettingsError, match="ECWID_API_KEYS is empty"):
        started(ECWID_SANDBOX=True, ECWID_AUTH="keys")


def test_an_open_store_warns(caplog: pytest.LogCaptureFixture) -> None:
    """A real store that any caller can use logs a warning at each start."""
    started(**REAL, ECWID_AUTH="none")
    assert "any caller of this service may change the store" in caplog.text
    caplog.clear()
    started(**REAL, ECWID_API_KEYS=ENTRIES)
    started(ECWID_SANDBOX=True)
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


def test_a_sandbox_in_place_of_a_store(caplog: pytest.LogCaptureFixture) -> None:
    """The log says so when the sandbox replaces a configured store."""
    started(**REAL, ECWID_SANDBOX=True)
    assert "ECWID_SANDBOX is on, so ECWID_STORE_ID and ECWID_TOKEN have no effect" in caplog.text


# The host's own authorize


def hosted(store: OrderedStore, authorize: Callable[[str], Any], **options: Any) -> Api:
    app = flask.Flask("host")
    app.config["ECWID_SANDBOX"] = str(store.path)
    Ecwid(app, authorize=authorize, **options)
    return Api(app.test_client(use_cookies=False))  # so that the Cookie headers of tests are sent


def check_no_key_is_mentioned(text: str) -> None:
    assert not re.search(r"API.key|X-API|a key|invalid_token|as Authorization", text, re.IGNORECASE)


def raising(scope: str) -> bool:
    raise ValueError("canary")


def aborting(scope: str) -> bool:
    abort(404)


def ending(error: BaseException) -> Callable[[str], bool]:
    def authorize(scope: str) -> bool:
        raise error

    return authorize


class Truthy:
    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


REFUSING: dict[str, Callable[[str], Any]] = {
    "False": lambda scope: False,
    "None": lambda scope: None,
    "1": lambda scope: 1,
    "text": lambda scope: "True",
    "list": lambda scope: [True],
    "truthy": lambda scope: Truthy(),
    "the class": lambda scope: Caller,
    "a response": lambda scope: flask.Response("canary"),
    "raising": raising,
    "aborting": aborting,
    "exiting": ending(SystemExit(3)),
    "interrupted": ending(KeyboardInterrupt()),
    "cancelled": ending(CancelledError()),
    "ended": ending(GeneratorExit()),
    "no argument": lambda: True,  # type: ignore[misc, dict-item]
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("result", REFUSING)
def test_the_host_refuses(
    ordered: OrderedStore, operation: str, result: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Only True or a Caller grants access, so every other result or error of authorize refuses."""
    response = call(hosted(ordered, REFUSING[result]), operation)
    check_refused(response, operation, 403, "forbidden")
    check_no_key_is_mentioned(response.get_data(as_text=True) + str(response.headers))
    assert "WWW-Authenticate" not in response.headers
    assert "canary" not in caplog.text
    assert ordered.calls() == 0


def test_an_authorize_that_fails_is_logged(
    ordered: OrderedStore, caplog: pytest.LogCaptureFixture
) -> None:
    """The log holds the place of an exception in authorize, and not its text."""
    call(hosted(ordered, raising), "list_customers")
    [line] = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert line.startswith("authorize raised ValueError at ")
    assert "test_auth.py" in line


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_401_of_authorize(ordered: OrderedStore, operation: str) -> None:
    """A 401 that authorize raises reaches the caller with its challenge."""

    def authorize(scope: str) -> bool:
        raise Unauthorized("canary")

    response = call(hosted(ordered, authorize), operation)
    check_refused(response, operation, 401, "unauthorized")
    assert response.headers["WWW-Authenticate"] == NO_KEY
    check_no_key_is_mentioned(response.get_data(as_text=True) + str(response.headers))


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("granted", [True, Caller("anna")])
def test_the_host_grants(ordered: OrderedStore, operation: str, granted: bool | Caller) -> None:
    """authorize grants access, and runs inside the request with the scope."""
    asked = []

    def authorize(scope: str) -> bool | Caller:
        asked.append((scope, flask.request.endpoint))
        return granted

    assert call(hosted(ordered, authorize), operation).status_code == 200
    assert asked == [(SCOPES[operation], f"ecwid.{operation}")]


@pytest.mark.parametrize("name", ["", "two\nlines", "é", "x" * 65, None, 5])
def test_callers_names(name: Any) -> None:
    """A caller's name must fit into a line of the log."""
    with pytest.raises(ValueError, match="printable"):
        Caller(name)


OWN = "http://localhost"
CROSS_SITE: dict[str, Headers] = {
    "another site": [("Sec-Fetch-Site", "cross-site")],
    "a site beside": [("Sec-Fetch-Site", "same-site"), ("Origin", OWN)],
    "another origin": [("Origin", "https://evil.example.com")],
    "another scheme": [("Origin", "https://localhost")],
    "another port": [("Origin", "http://localhost:8080")],
    "no origin": [("Origin", "null")],
    "a cookie alone": [("Cookie", "session=canary")],
    "basic alone": [("Authorization", "Basic Y2FuYXJ5OmNhbmFyeQ==")],
    "a form": [("Cookie", "session=canary"), ("Content-Type", "text/plain")],
}
OWN_SITE: dict[str, Headers] = {
    "its own site": [("Sec-Fetch-Site", "same-origin"), ("Cookie", "session=x")],
    "its own origin": [("Origin", OWN), ("Cookie", "session=x")],
    "JSON": [("Content-Type", "application/json"), ("Cookie", "session=x")],
    "no browser": [("Authorization", "Bearer x")],
}


# Only a page sends these headers. Each other row of CROSS_SITE may be a client without a browser.
SENT_BY_PAGES = ["another site", "a site beside", "another origin", "another scheme"]
SENT_BY_PAGES += ["another port", "no origin"]
FORMS = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]


def open_store(store: OrderedStore) -> Api:
    """Return a caller of a store with ECWID_AUTH none, without a cookie jar of its own."""
    app = flask.Flask("host")
    app.config.update(ECWID_SANDBOX=str(store.path), ECWID_AUTH="none")
    Ecwid(app)
    return Api(app.test_client(use_cookies=False))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("given", SENT_BY_PAGES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_another_sites_page_and_an_open_store(
    ordered: OrderedStore, operation: str, given: str, form: str
) -> None:
    """An open store refuses each write that another site's page can send without asking first."""
    method, path, _ = OPERATIONS[operation]
    headers = [*CROSS_SITE[given], *([("Content-Type", form)] if form else [])]
    response = open_store(ordered).open(method, path, data=b"{}", headers=headers)
    if SCOPES[operation] == "read":
        assert response.status_code == 200
        return
    check_refused(response, operation, 403, "cross-site")
    assert ordered.calls() == 0


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Cookie", "session=x")],
        [("Authorization", "Basic Y2FuYXJ5OmNhbmFyeQ==")],
        [("Authorization", "Bearer x")],
        *OWN_SITE.values(),
        [("Sec-Fetch-Site", "none")],
        [("Content-Type", "application/json"), ("Origin", "https://evil.example.com")],
    ],
)
def test_a_client_and_an_open_store(ordered: OrderedStore, headers: Headers) -> None:
    """An open store lets clients without a browser write, with a cookie or a login as well.

    A page of the store's own site may write, too. A page of another site may send JSON only after a
    preflight request, which no origin passes.
    """
    api = open_store(ordered)
    assert api.post("/delete_customer/172890169", headers=headers).status_code == 200
    asking = [("Origin", "https://evil.example.com"), ("Access-Control-Request-Method", "POST")]
    assert cors_headers(api.open("OPTIONS", "/add_customer", headers=asking)) == []


@pytest.mark.parametrize("given", CROSS_SITE)
def test_another_sites_page(ordered: OrderedStore, given: str) -> None:
    """A deletion that the page of another site may have sent is refused.

    The refusal comes before authorize, because browsers add credentials by themselves.
    """

    def authorize(scope: str) -> bool:
        raise AssertionError

    api = hosted(ordered, authorize)
    response = api.post("/delete_customer/172890169", headers=CROSS_SITE[given])
    check_refused(response, "delete_customer", 403, "cross-site")
    assert ordered.calls() == 0


@pytest.mark.parametrize("given", OWN_SITE)
def test_its_own_page(ordered: OrderedStore, given: str) -> None:
    """A request from a page of the same site, or from outside of a browser, is accepted."""
    api = hosted(ordered, lambda scope: True)
    response = api.post("/delete_customer/172890169", headers=OWN_SITE[given])
    assert response.status_code == 200


def test_keys_may_come_from_other_origins(ordered: OrderedStore) -> None:
    """Requests with keys may come from other origins, because browsers add no key by themselves."""
    headers = [*bearer(KEY), ("Origin", "https://app.example.com"), ("Cookie", "session=x")]
    assert call(ordered.api(ECWID_API_KEYS=ENTRIES), "delete_customer", headers).status_code == 200


# The served contract


def test_the_served_contract_shows_keys(ordered: OrderedStore) -> None:
    """The contract of a store with keys is served with its security schemes."""
    served = ordered.api(ECWID_API_KEYS=ENTRIES).get("/openapi.json").get_json()
    assert served["components"]["securitySchemes"] == {
        "bearer": {**served["components"]["securitySchemes"]["bearer"], "scheme": "bearer"},
        "apiKey": {**served["components"]["securitySchemes"]["apiKey"], "name": "X-API-Key"},
    }
    for item in served["paths"].values():
        for node in item.values():
            scope = SCOPES[node["operationId"]]
            assert node["security"] == [{"bearer": [scope]}, {"apiKey": [scope]}]


def test_the_served_contract_shows_that_it_is_open(ordered: OrderedStore) -> None:
    """The contract of an open store has no security schemes."""
    served = ordered.api().get("/openapi.json").get_json()
    assert served["components"]["securitySchemes"] == {}
    nodes = [node for item in served["paths"].values() for node in item.values()]
    assert [node["security"] for node in nodes] == [[]] * 5


def test_the_served_contract_shows_what_the_host_says(ordered: OrderedStore) -> None:
    """The contract of a store with authorize shows the host's security scheme."""
    session = {"type": "apiKey", "in": "cookie", "name": "session"}
    api = hosted(ordered, lambda scope: True, security_scheme=session)
    served = api.get("/openapi.json").get_json()
    assert served["components"]["securitySchemes"] == {"host": session}
    assert served["paths"]["/customers"]["get"]["security"] == [{"host": ["read"]}]
    del served["components"]["securitySchemes"]
    check_no_key_is_mentioned(json.dumps(served).replace("Idempotency-Key", ""))
    unsaid = hosted(ordered, lambda scope: True).get("/openapi.json").get_json()
    assert list(unsaid["components"]["securitySchemes"]) == ["host"]


# Other origins


def cors_headers(response: TestResponse) -> list[str]:
    return [name for name, _ in response.headers if name.startswith("Access-Control-")]


def test_no_other_origin_may_read(ordered: OrderedStore) -> None:
    """No response lets the page of another origin read the plugin's data."""
    api = ordered.api(ECWID_API_KEYS=ENTRIES)
    origin = [("Origin", "https://app.example.com")]
    asking = [*origin, ("Access-Control-Request-Method", "GET")]
    for response in (
        api.open("OPTIONS", "/customers", headers=asking),
        call(api, "list_customers", [*bearer(KEY), *origin]),
        call(api, "list_customers", origin),
    ):
        assert cors_headers(response) == []


def test_a_configured_origin_may_read(ordered: OrderedStore) -> None:
    """flask-cors lets only its configured origins read responses."""
    app = flask.Flask("host")
    app.config.update(ECWID_SANDBOX=str(ordered.path), ECWID_API_KEYS=ENTRIES)
    CORS(app, resources={rf"{PREFIX}/.*": {"origins": ["https://app.example.com"]}})
    Ecwid(app)
    api = Api(app.test_client())
    good, bad = (
        [*bearer(KEY), ("Origin", f"https://{name}.example.com")] for name in ("app", "evil")
    )
    assert call(api, "list_customers", good).headers["Access-Control-Allow-Origin"] == good[1][1]
    assert cors_headers(call(api, "list_customers", bad)) == []
    asking = [good[1], ("Access-Control-Request-Method", "GET")]
    response = api.open("OPTIONS", "/customers", headers=asking)
    assert response.status_code == 204
    assert response.headers["Access-Control-Allow-Origin"] == good[1][1]


@pytest.mark.parametrize("where", ["same thread", "another thread"])
def test_a_host_that_copies_its_context(ordered: OrderedStore, where: str) -> None:
    """An `authorize` that works in a copy of Flask's request context changes no request."""
    finished: list[int] = []

    def on_finished(_: object, status: int, **facts: object) -> None:
        finished.append(status)

    def authorize(scope: str) -> Caller:
        def sent_name() -> str:
            return flask.request.headers["X-Caller"]

        name = flask.copy_current_request_context(sent_name)
        if where == "same thread":
            return Caller(name())
        with ThreadPoolExecutor(1) as threads:
            return Caller(threads.submit(contextvars.copy_context().run, name).result(20))

    app = flask.Flask("host")
    app.config["ECWID_SANDBOX"] = str(ordered.path)
    Ecwid(app, authorize=authorize)
    api = Api(app.test_client())
    with signals.operation_finished.connected_to(on_finished):
        for path in ("/customer/172890169", "/customers"):
            response = api.get(path, headers={"X-Caller": "warehouse"})
            assert response.status_code == 200
            assert "RateLimit" in response.headers
    assert finished == [200, 200]
