"""Tests of the problem that a caller gets for each of Ecwid's replies."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from flask_ecwid import EcwidClient, EcwidError, Settings
from flask_ecwid.errors import ContractBroken, OutcomeUnknown
from flask_ecwid.web import handlers

from ..conftest import REQUEST_ID, STORE, TOKEN, Api, Config, app_of, payload

CANARY = "canary@example.com"
URN = "urn:flask-ecwid:problem:"

pytestmark = pytest.mark.usefixtures("no_waiting")

OPERATIONS = {
    "list_customers": ("GET", "/customers", None),
    "get_customer": ("GET", "/customer/7", None),
    "add_customer": ("POST", "/add_customer", {"email": CANARY}),
    "update_customer": ("POST", "/update_customer/7", {"email": CANARY}),
    "delete_customer": ("POST", "/delete_customer/7", None),
}
WRITES = ("add_customer", "update_customer", "delete_customer")


def ask(api: Api, operation: str) -> Any:
    method, path, body = OPERATIONS[operation]
    return api.open(method, path, json=body, headers={"X-Request-ID": REQUEST_ID})


def reply_with(
    ecwid: HTTPServer,
    status: int,
    body: bytes | str = b"",
    content_type: str = "application/json",
    **headers: str,
) -> None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    ecwid.expect_request(f"{STORE}/customers").respond_with_data(
        body, status, named, content_type=content_type
    )
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_data(
        body, status, named, content_type=content_type
    )


def error(code: str) -> str:
    return json.dumps({"errorCode": code, "errorMessage": f"about {CANARY}"})


# (operation or * for all, Ecwid's status, its body, our status, the problem's type, executed)
REFUSALS = [
    ("*", 400, error("WRONG_PARAMETER"), 400, "rejected-by-ecwid", "no"),
    ("*", 400, "", 400, "rejected-by-ecwid", "no"),
    ("*", 402, error("STORE_IS_SUSPENDED"), 502, "service-refused", "no"),
    ("*", 403, error("INVALID_API_TOKEN"), 502, "service-refused", "no"),
    ("*", 403, error("INSUFFICIENT_APP_SCOPE"), 502, "service-refused", "no"),
    ("*", 403, "", 502, "service-refused", "no"),
    ("*", 401, "", 502, "service-refused", "no"),
    ("*", 404, error("STORE_NOT_FOUND"), 502, "service-refused", "no"),
    ("list_customers", 404, "", 502, "service-refused", "no"),
    ("add_customer", 404, "", 502, "service-refused", "no"),
    ("get_customer", 404, "", 404, "customer-not-found", "no"),
    ("update_customer", 404, '{"errorMessage":"x"}', 404, "customer-not-found", "no"),
    ("delete_customer", 404, "<html>", 404, "customer-not-found", "no"),
    ("*", 405, error("METHOD_NOT_ALLOWED"), 502, "service-refused", "no"),
    ("*", 408, error("TIMEOUT"), 504, "upstream-timed-out", "unknown"),
    ("add_customer", 409, error("CONSTRAINT_VIOLATION"), 409, "email-taken", "no"),
    ("update_customer", 409, "", 409, "email-taken", "no"),
    ("delete_customer", 409, "", 502, "service-refused", "no"),
    ("list_customers", 409, "", 502, "service-refused", "no"),
    ("*", 413, "", 413, "rejected-by-ecwid", "no"),
    ("*", 415, "", 502, "service-refused", "no"),
    ("*", 422, error("WRONG_URL"), 422, "rejected-by-ecwid", "no"),
    ("*", 500, error("INTERNAL_ERROR"), 502, "upstream-failed", "unknown"),
    ("*", 502, "<html>502</html>", 502, "upstream-failed", "unknown"),
    ("*", 503, "", 502, "upstream-failed", "unknown"),
    ("*", 504, "", 504, "upstream-timed-out", "unknown"),
    ("*", 520, "", 502, "upstream-failed", "unknown"),
    ("*", 299, "<html>", 502, "upstream-bad-reply", "unknown"),
    ("*", 200, "", 502, "upstream-bad-reply", "unknown"),
    ("*", 204, "", 502, "upstream-bad-reply", "unknown"),
    ("*", 200, "<html>maintenance</html>", 502, "upstream-bad-reply", "unknown"),
    ("*", 200, "null", 502, "upstream-bad-reply", "unknown"),
    ("*", 200, "[]", 502, "upstream-bad-reply", "unknown"),
    ("*", 200, f'"{CANARY}"', 502, "upstream-bad-reply", "unknown"),
    ("*", 200, '{"id": NaN}', 502, "upstream-bad-reply", "unknown"),
    ("*", 200, '{"id": 5', 502, "upstream-bad-reply", "unknown"),
    ("*", 200, "{}", 502, "contract-broken", "unknown"),
]
CASES = [
    # The client searches for a creation that may have happened, and does not find it.
    (operation, *row[1:3], 504, "outcome-unknown", "unknown")
    if operation == "add_customer" and row[5] == "unknown"
    else (operation, *row[1:])
    for row in REFUSALS
    for operation in (OPERATIONS if row[0] == "*" else [row[0]])
]


@pytest.mark.parametrize(("operation", "theirs", "body", "ours", "slug", "executed"), CASES)
def test_refusal(
    ecwid: HTTPServer,
    api: Api,
    caplog: pytest.LogCaptureFixture,
    operation: str,
    theirs: int,
    body: str,
    ours: int,
    slug: str,
    executed: str,
) -> None:
    """Each reply that is no success becomes its problem, without Ecwid's message."""
    caplog.set_level("DEBUG")
    reply_with(ecwid, theirs, body)
    response = ask(api, operation)
    assert response.status_code == ours
    assert response.content_type == "application/problem+json"
    problem = response.json
    assert problem["type"] == URN + slug
    assert problem["status"] == ours
    assert problem["origin"] == "ecwid"
    assert problem["request_id"] == REQUEST_ID == response.headers["X-Request-ID"]
    assert problem["instance"] == f"urn:uuid:{REQUEST_ID}"
    assert problem.get("executed") == (executed if operation in WRITES else None)
    ours_logged = [r.getMessage() for r in caplog.records if r.name.startswith("flask_ecwid")]
    for text in (response.text, *ours_logged):
        assert CANARY not in text
        assert TOKEN not in text


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (error("WRONG_PARAMETER"), "WRONG_PARAMETER"),
        ('{"errorMessage": "x"}', None),
        ('{"errorCode": null}', None),
        ('{"errorCode": 5}', None),
        (error(CANARY), None),
        (error("X" * 65), None),
        ("[]", None),
        ("", None),
    ],
)
def test_ecwids_code(ecwid: HTTPServer, api: Api, body: str, code: str | None) -> None:
    """A problem passes on Ecwid's error code if the code is well-formed."""
    reply_with(ecwid, 400, body)
    assert ask(api, "add_customer").json.get("ecwid_code") == code


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("7", "7"),
        ("0", "1"),
        (" 7 ", "7"),
        ("86400", "3600"),
        ("", "10"),
        ("soon", "10"),
        ("-1", "10"),
        ("1.5", "10"),
        ("Wed, 21 Oct 2026 07:28:00 GMT", "10"),
        (None, "10"),
    ],
)
def test_rate_limited(ecwid: HTTPServer, api: Api, given: str | None, sent: str) -> None:
    """A 429 from Ecwid becomes the plugin's 429, which always says how long to wait."""
    headers = {} if given is None else {"Retry_After": given}
    reply_with(ecwid, 429, error("RATE_LIMITED"), **headers)
    response = ask(api, "get_customer")
    assert response.status_code == 429
    assert response.headers["Retry-After"] == sent
    assert response.json["origin"] == "ecwid"


def test_ecwid_asks_to_come_back(ecwid: HTTPServer, api: Api) -> None:
    """A 503 with Retry-After from Ecwid becomes the plugin's 503 with the same Retry-After."""
    reply_with(ecwid, 503, "", Retry_After="30")
    response = ask(api, "add_customer")
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "30"
    assert response.json["executed"] == "unknown"


@pytest.mark.parametrize(
    ("status", "code", "word", "reason"),
    [
        (402, "STORE_IS_SUSPENDED", "plan", "store"),
        (402, "NOT_AVAILABLE_ON_CURRENT_PLAN", "plan", "plan"),
        (402, None, "plan", "plan"),
        (401, None, "only the operator", "token"),
        (403, "INSUFFICIENT_APP_SCOPE", "scope", "ecwid-scope"),
        (403, "INVALID_API_TOKEN", "token", "token"),
        (403, None, "token", "token"),
        (404, "STORE_NOT_FOUND", "store", "store"),
        (404, "PROFILE_NOT_FOUND", "store", "store"),
        (405, "METHOD_NOT_ALLOWED", "only the operator", "unknown"),
    ],
)
def test_a_refused_service_says_why(
    ecwid: HTTPServer,
    api: Api,
    caplog: pytest.LogCaptureFixture,
    status: int,
    code: str | None,
    word: str,
    reason: str,
) -> None:
    """When Ecwid refuses this service, the detail of the 502 names the cause to fix.

    The log names the thing that Ecwid refused, at the call and at the request.
    """
    caplog.set_level("INFO")
    reply_with(ecwid, status, "" if code is None else error(code))
    response = ask(api, "add_customer")
    assert response.status_code == 502
    assert response.json.get("ecwid_code") == code
    assert word in response.json["detail"]
    lines = [r.getMessage() for r in caplog.records if f" reason={reason}" in r.getMessage()]
    failed = "call failed operation=add_customer store_id=1003"
    assert lines[0] == f"{failed} service-refused reason={reason}"
    assert lines[1].endswith(f" problem=service-refused reason={reason}")
    [record] = [r for r in caplog.records if r.name == "flask_ecwid.request"]
    assert vars(record)["reason"] == reason


BROKEN = [
    ("list_customers", {"total": 0}, "/data/attributes/items", "required"),
    (
        "list_customers",
        {**payload("seed.customers"), "total": CANARY},
        "/data/attributes/total",
        "type",
    ),
    (
        "list_customers",
        {**payload("seed.customers"), "items": [{"id": 1}, {"id": 2, "lang": {CANARY: 1}}]},
        "/data/attributes/items/1/lang",
        "type",
    ),
    ("get_customer", {"email": CANARY}, "/data/id", "required"),
    ("get_customer", {"id": CANARY}, "/data/id", "type"),
    ("get_customer", {"id": 7, "stats": CANARY}, "/data/attributes/stats", "type"),
    ("add_customer", {"id": CANARY}, "/id", "type"),
    ("add_customer", {"ok": True}, "/id", "required"),
    ("update_customer", {"updateCount": CANARY}, "/data/attributes/updateCount", "type"),
    ("delete_customer", {"updateCount": 1}, "/data/attributes/deleteCount", "required"),
]


@pytest.mark.parametrize(("operation", "reply", "pointer", "keyword"), BROKEN)
def test_contract_broken(
    ecwid: HTTPServer,
    api: Api,
    caplog: pytest.LogCaptureFixture,
    operation: str,
    reply: Any,
    pointer: str,
    keyword: str,
) -> None:
    """A reply that breaks the contract is not passed on.

    The 502 and the log name the pointer and the keyword.
    """
    caplog.set_level("DEBUG")
    reply_with(ecwid, 200, json.dumps(reply))
    response = ask(api, operation)
    if operation == "add_customer":  # a search did not find the customer
        assert response.json["type"] == f"{URN}outcome-unknown"
        assert f"{pointer}:{keyword}" in caplog.text
        return
    assert response.status_code == 502
    assert response.json["type"] == URN + "contract-broken"
    assert {"pointer": pointer, "keyword": keyword} in response.json["errors"]
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("flask_ecwid")]
    assert any(pointer in line and keyword in line and REQUEST_ID in line for line in ours)
    assert CANARY not in response.text + "".join(ours)


ON_CLIENT: dict[str, Callable[[EcwidClient], object]] = {
    "list_customers": lambda client: client.list_customers(),
    "get_customer": lambda client: client.get_customer(7),
    "add_customer": lambda client: client.add_customer({"email": CANARY}),
    "update_customer": lambda client: client.update_customer(7, {"email": CANARY}),
    "delete_customer": lambda client: client.delete_customer(7),
}
MALFORMED = {"id": "not-a-number", "email": 5}


@pytest.mark.parametrize(
    ("operation", "reply"),
    [(operation, MALFORMED) for operation in OPERATIONS] + [row[:2] for row in BROKEN],
)
def test_a_client_without_flask(
    ecwid: HTTPServer, config: Config, api: Api, operation: str, reply: Any
) -> None:
    """EcwidClient without Flask refuses each reply that the mounted client refuses."""
    reply_with(ecwid, 200, json.dumps(reply))
    client = EcwidClient(Settings.from_config(config))
    with client, pytest.raises(EcwidError) as caught:
        ON_CLIENT[operation](client)
    # A creation without a good reply is searched for, and the search does not find the customer.
    error = OutcomeUnknown if operation == "add_customer" else ContractBroken
    assert type(caught.value) is error
    assert ask(api, operation).json["type"] == caught.value.urn


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_envelope_that_breaks_the_contract(
    config: Config, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """An envelope that breaks the contract is never sent.

    The caller gets a 502 that names the place.
    """
    broken = {"data": {"id": [CANARY], "type": "ecwid", "attributes": {}}}
    monkeypatch.setattr(handlers, operation, lambda **arguments: broken)
    response = ask(Api(app_of(config).test_client()), operation)
    assert response.status_code == 502
    assert response.json["type"] == URN + "contract-broken"
    assert {"pointer": "/data/id", "keyword": "type"} in response.json["errors"]
    assert CANARY not in response.text


def test_large_ids_pass(ecwid: HTTPServer, api: Api) -> None:
    """The plugin passes on an id of 63 bits, and refuses an id beyond 64 bits."""
    reply_with(ecwid, 200, f'{{"id": {2**63 - 1}}}')
    assert ask(api, "add_customer").json["data"]["id"] == "9223372036854775807"
    assert ask(api, "get_customer").json["data"]["id"] == 2**63 - 1
    ecwid.clear()
    reply_with(ecwid, 200, f'{{"id": {2**64}}}')
    assert ask(api, "get_customer").status_code == 502


def test_gzip(ecwid: HTTPServer, api: Api) -> None:
    """The client asks Ecwid for gzip and reads a gzipped reply."""
    reply_with(ecwid, 200, gzip.compress(b'{"id": 7}'), Content_Encoding="gzip")
    assert ask(api, "get_customer").json["data"]["id"] == 7
    assert "gzip" in ecwid.log[0][0].headers["Accept-Encoding"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_corrupt_compression(ecwid: HTTPServer, api: Api, encoding: str) -> None:
    """A reply that cannot be decompressed is a bad reply."""
    reply_with(ecwid, 200, b"not compressed at all", Content_Encoding=encoding)
    response = ask(api, "get_customer")
    assert response.status_code == 502
    assert response.json["type"] == URN + "upstream-bad-reply"


def test_compression_bomb(ecwid: HTTPServer, api: Api) -> None:
    """A small reply that decompresses to more than any page is a bad reply."""
    reply_with(ecwid, 200, gzip.compress(b'{"id": 7}' + b" " * 20_000_000), Content_Encoding="gzip")
    response = ask(api, "get_customer")
    assert response.status_code == 502
    assert response.json["type"] == URN + "upstream-bad-reply"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_redirect(ecwid: HTTPServer, api: Api, operation: str, status: int) -> None:
    """The client never follows a redirect, because a redirected POST would become a GET."""
    elsewhere = ecwid.url_for("/elsewhere")
    ecwid.expect_request("/elsewhere").respond_with_json({"id": 7})
    reply_with(ecwid, status, "", Location=elsewhere)
    response = ask(api, operation)
    assert response.status_code == 502
    assert [request.path for request, _ in ecwid.log if request.path == "/elsewhere"] == []
    assert response.json.get("executed") == ("unknown" if operation in WRITES else None)


def test_cookies_are_not_kept(ecwid: HTTPServer, api: Api) -> None:
    """The client never sends back Ecwid's cookies, because cookies would link callers' sessions."""
    reply_with(ecwid, 200, '{"id": 7}', Set_Cookie="session=1; Path=/")
    ask(api, "get_customer")
    ask(api, "get_customer")
    assert ["Cookie" in request.headers for request, _ in ecwid.log] == [False, False]


def test_netrc_and_environment_proxies(
    ecwid: HTTPServer, api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """A .netrc cannot replace the token, and the environment's proxies have no effect."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login eve password eve\n", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    reply_with(ecwid, 200, '{"id": 7}')
    assert ask(api, "get_customer").status_code == 200
    assert ecwid.log[0][0].headers["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("depth", [200, 300, 900, 2000])
def test_deep_replies(ecwid: HTTPServer, api: Api, depth: int) -> None:
    """A reply that is nested too deeply to be written again is a bad reply."""
    reply_with(ecwid, 200, '{"id": 7, "x": ' + "[" * depth + "]" * depth + "}")
    response = ask(api, "get_customer")
    assert response.status_code == (200 if depth == 200 else 502)


def test_next_request_is_clean(ecwid: HTTPServer, api: Api) -> None:
    """A bad reply has no effect on the next request."""
    ecwid.expect_ordered_request(f"{STORE}/customers/7").respond_with_response(
        Response(b"garbage", 200, content_type="text/html")
    )
    ecwid.expect_ordered_request(f"{STORE}/customers/7").respond_with_json({"id": 7})
    assert ask(api, "get_customer").status_code == 200  # the second attempt succeeds
    assert len(ecwid.log) == 2
