"""Tests of invalid requests, which get a place and a rule, and never reach Ecwid."""

from __future__ import annotations

import sys
from typing import Any

import flask
import pytest
from pytest_httpserver import HTTPServer

from flask_ecwid.contract import load

from ..conftest import Api

CANARY = "canary@example.com"


def problem(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    body: dict[str, Any] = response.json
    assert body["status"] == status
    assert body["request_id"] == response.headers["X-Request-ID"]
    return body


def places(body: dict[str, Any]) -> list[tuple[str, str]]:
    """Return pointer and keyword of each violation, of which every one says what is expected."""
    assert all(each["expected"] for each in body["errors"])
    return [(each["pointer"], each["keyword"]) for each in body["errors"]]


QUERIES = [
    ("limit=0", "/query/limit", "minimum"),
    ("limit=101", "/query/limit", "maximum"),
    ("limit=-1", "/query/limit", "minimum"),
    ("limit=abc", "/query/limit", "type"),
    ("limit=1e2", "/query/limit", "type"),
    ("limit=1_0", "/query/limit", "type"),
    ("limit=%D9%A1%D9%A0", "/query/limit", "type"),
    ("limit=%2B5", "/query/limit", "type"),
    ("limit=007", "/query/limit", "type"),
    ("limit=5.0", "/query/limit", "type"),
    ("limit=%205", "/query/limit", "type"),
    ("limit=", "/query/limit", "type"),
    ("limit=" + "9" * 4000, "/query/limit", "type"),
    ("limit=5&limit=6", "/query/limit", "uniqueItems"),
    ("limit=5&limit=bad", "/query/limit", "uniqueItems"),
    ("offset=-1", "/query/offset", "minimum"),
    ("offset=9007199254740992", "/query/offset", "maximum"),
    ("minSalesValue=NaN", "/query/minSalesValue", "type"),
    ("minSalesValue=Infinity", "/query/minSalesValue", "type"),
    ("minSalesValue=1e999", "/query/minSalesValue", "type"),
    ("minSalesValue=-1", "/query/minSalesValue", "minimum"),
    ("taxExempt=TRUE", "/query/taxExempt", "type"),
    ("taxExempt=yes", "/query/taxExempt", "type"),
    ("taxExempt=2", "/query/taxExempt", "type"),
    ("taxExempt=", "/query/taxExempt", "type"),
    ("sortBy=NAME", "/query/sortBy", "enum"),
    ("b2b_b2c=both", "/query/b2b_b2c", "enum"),
    ("countryCodes=USA", "/query/countryCodes", "pattern"),
    ("customerGroupIds=1,,2", "/query/customerGroupIds", "pattern"),
    ("customerGroupIds=1%20,2", "/query/customerGroupIds", "pattern"),
    ("customerGroupIds=1,%092", "/query/customerGroupIds", "pattern"),
    ("createdFrom=2023-13-01", "/query/createdFrom", "pattern"),
    ("createdFrom=2023-01-15%2024:00:00", "/query/createdFrom", "pattern"),
    ("createdFrom=yesterday", "/query/createdFrom", "pattern"),
    ("createdFrom=2023-01-15T24:00:00Z", "/query/createdFrom", "pattern"),
    ("createdFrom=2023-02-29T19:27:50Z", "/query/createdFrom", "pattern"),
    ("createdFrom=2023-01-15T19:27:50+00:00", "/query/createdFrom", "pattern"),
    ("createdFrom=20230115T192750Z", "/query/createdFrom", "pattern"),
    ("keyword=" + "x" * 1001, "/query/keyword", "maxLength"),
    ("responseFields=items(", "/query/responseFields", "pattern"),
    ("responseFields=items(id)),x", "/query/responseFields", "pattern"),
    ("responseFields=items%20,total", "/query/responseFields", "pattern"),
    ("responseFields=%20items", "/query/responseFields", "pattern"),
    ("responseFields=", "/query/responseFields", "pattern"),
    (f"{CANARY}=1", "/query", "additionalProperties"),
    ("request_id=1", "/query", "additionalProperties"),
    ("client=1", "/query", "additionalProperties"),
]


@pytest.mark.parametrize(("query", "pointer", "keyword"), QUERIES, ids=[q[0][:40] for q in QUERIES])
def test_query(ecwid: HTTPServer, api: Api, query: str, pointer: str, keyword: str) -> None:
    """An invalid parameter gets a 400 with its name and the rule, and Ecwid is not called."""
    body = problem(api.get(f"/customers?{query}"), 400)
    assert places(body) == [(pointer, keyword)]
    assert body["origin"] == "request"
    assert ecwid.log == []


@pytest.mark.parametrize(
    "customer_id",
    ["0", "-1", "+1", "01", "1.0", "1e3", "1_0", "abc", "9007199254740992", "9" * 4000, "%D9%A1"],
)
@pytest.mark.parametrize(
    "path",
    ["/customer/{}", "/update_customer/{}", "/delete_customer/{}"],
    ids=lambda path: path[1:7],
)
def test_customer_id(ecwid: HTTPServer, api: Api, path: str, customer_id: str) -> None:
    """A malformed id gets the plugin's 400, and not the host's 404."""
    method = "GET" if path.startswith("/customer/") else "POST"
    body = problem(api.open(method, path.format(customer_id), json={}), 400)
    assert body["errors"][0]["pointer"] == "/path/customer_id"
    assert ecwid.log == []


def test_unknown_parameter_of_an_operation_without_any(ecwid: HTTPServer, api: Api) -> None:
    """An operation without query parameters refuses every parameter."""
    body = problem(api.post("/add_customer?zz=1", {"email": "a@example.com"}), 400)
    assert places(body) == [("/query", "additionalProperties")]
    assert ecwid.log == []


BODIES: list[tuple[dict[str, Any], str, str]] = [
    ({}, "/email", "required"),
    ({"email": "a@example.com", "taxExempt": "x"}, "/taxExempt", "type"),
    ({"email": CANARY + "@"}, "/email", "pattern"),
    ({"email": "a@example.com", CANARY: 1}, "", "additionalProperties"),
    (
        {"email": "a@example.com", "billingPerson": {CANARY: 1}},
        "/billingPerson",
        "additionalProperties",
    ),
    (
        {"email": "a@example.com", "extrafields": [{"key": "x", "type": CANARY}]},
        "/extrafields/0/type",
        "pattern",
    ),
    ({"email": "a@example.com", "contacts": [{"contact": CANARY}]}, "/contacts/0/type", "required"),
    ({"email": "a@example.com", "customerGroupId": -1}, "/customerGroupId", "minimum"),
]


@pytest.mark.parametrize(("body", "pointer", "keyword"), BODIES)
def test_body(
    ecwid: HTTPServer,
    api: Api,
    caplog: pytest.LogCaptureFixture,
    body: dict[str, Any],
    pointer: str,
    keyword: str,
) -> None:
    """An invalid body gets a 400 with pointer and keyword and without any value."""
    response = api.post("/add_customer", body)
    refusal = problem(response, 400)
    assert places(refusal) == [(pointer, keyword)]
    assert refusal["executed"] == "no"
    assert CANARY not in response.text + caplog.text
    assert ecwid.log == []


def test_many_errors_are_cut(api: Api) -> None:
    """The 400 for a body with a thousand violations names twenty of them."""
    body = {"email": "a@example.com", "contacts": [{}] * 1000}
    assert len(problem(api.post("/add_customer", body), 400)["errors"]) == 20


NOT_JSON = "The body is not valid JSON at line 1, column {}."
NOT_UTF_8 = "The body is not UTF-8 at line 1, column {}."
TWICE = "The body names a member twice."
TOO_DEEP = "The body is nested deeper than 32 levels."
NOT_FINITE = "The body has NaN or Infinity, which are not JSON."
TOO_LARGE = "The body has a number beyond 1.7976931348623157e+308."
BEYOND = "The body has an integer beyond 2^53 - 1, which is 9007199254740991."
NO_TEXT = "The body has a text with a NUL or half a surrogate pair."
NOT_STRICT = [
    (b"", NOT_JSON.format(1)),
    (b" ", NOT_JSON.format(2)),
    (b"{", NOT_JSON.format(2)),
    (b"{'a': 1}", NOT_JSON.format(2)),
    (b'{"email":"a@b",}', NOT_JSON.format(15 if sys.version_info >= (3, 13) else 16)),
    (b'{"email":"a@b"}//', NOT_JSON.format(16)),
    (b'{"customerGroupId":01}', NOT_JSON.format(21)),
    (b'{"customerGroupId":+1}', NOT_JSON.format(20)),
    (b'\xef\xbb\xbf{"email":"a@b"}', NOT_JSON.format(1)),
    ('{"email":"a@b"}'.encode("utf-16"), NOT_UTF_8.format(1)),
    (b'{"email":"a@b"} x', NOT_JSON.format(17)),
    (b'{"email":"\xff@b"}', NOT_UTF_8.format(11)),
    (b'{"email":"\xed\xa0\x80@b"}', NOT_UTF_8.format(11)),
    (b'{"email":"a\x00@b"}', NOT_JSON.format(12)),
    (b'{"email":"a\x01@b"}', NOT_JSON.format(12)),
    (b'{"email":"a\n@b"}', NOT_JSON.format(12)),
    (b'{\n "email": x}', "The body is not valid JSON at line 2, column 11."),
    ('{"email":"é'.encode() + b'\xff"}', NOT_UTF_8.format(12)),
    (b'{\r\n"email":"\xff"}', "The body is not UTF-8 at line 2, column 10."),
    (b'{"email":NaN}', NOT_FINITE),
    (b'{"customerGroupId":-Infinity}', NOT_FINITE),
    (b'{"customerGroupId":1e999}', TOO_LARGE),
    (b'{"customerGroupId":9007199254740992}', BEYOND),
    (b'{"customerGroupId":-9007199254740992}', BEYOND),
    (b'{"customerGroupId":' + b"9" * 5000 + b"}", BEYOND),
    (b'{"email":"a@b","email":"c@d"}', TWICE),
    (b'{"email":"a@b","\\u0065mail":"c@d"}', TWICE),
    (b'{"email":"a@b","billingPerson":{"name":"x","name":"x"}}', TWICE),
    (b'{"email":"a@b","contacts":[{"contact":"x","contact":"y"}]}', TWICE),
    (b'{"email":"\\ud800@b"}', NO_TEXT),
    (b'{"email":"\\udc00\\ud800@b"}', NO_TEXT),
    (b'{"email":"a\\u0000@b"}', NO_TEXT),
    (b'{"email":"a@b","\\ud800":1}', NO_TEXT),
    (b"[" * 33 + b"]" * 33, TOO_DEEP),
    (b'{"billingPerson":' * 33 + b"1" + b"}" * 33, TOO_DEEP),
    (b'{"a":' * 900 + b"1" + b"}" * 900, TOO_DEEP),
    (b"[" * 100_000, TOO_DEEP),
    (
        b"{" + b",".join(b'"%d":1' % n for n in range(1001)) + b"}",
        "The body has more than 1,000 members.",
    ),
]


@pytest.mark.parametrize(("body", "detail"), NOT_STRICT, ids=lambda part: repr(part)[:40])
@pytest.mark.parametrize("path", ["/add_customer", "/update_customer/7"], ids=["add", "update"])
def test_not_strictly_json(
    ecwid: HTTPServer, api: Api, path: str, body: bytes, detail: str
) -> None:
    """A body that is not strict JSON gets a 400 that says why."""
    refusal = problem(api.post(path, data=body, content_type="application/json"), 400)
    assert refusal["detail"] == detail
    assert refusal["executed"] == "no"
    assert ecwid.log == []


def test_bodies_at_the_limits(api: Api) -> None:
    """A body at the limits of depth, members and integers is read and then validated."""
    for body in (
        b"[" * 32 + b"]" * 32,
        b"{" + b",".join(b'"%d":1' % n for n in range(1000)) + b"}",
        b'{"a":[9007199254740991,-9007199254740991,1e308,"\\ud83d\\ude00"]}',
    ):
        refusal = problem(
            api.post("/add_customer", data=body, content_type="application/json"), 400
        )
        assert refusal["errors"]


@pytest.mark.parametrize("encoding", ["gzip", "identity", "x"])
@pytest.mark.parametrize("path", ["/add_customer", "/update_customer/7", "/delete_customer/7"])
def test_content_encoding(ecwid: HTTPServer, api: Api, path: str, encoding: str) -> None:
    """A body with a Content-Encoding gets a 415."""
    headers = {"Content-Encoding": encoding}
    problem(api.post(path, {"email": "a@example.com"}, headers=headers), 415)
    assert ecwid.log == []


TEXTS = sorted(
    name
    for (location, name), parameter in load().operations["list_customers"].parameters.items()
    if location == "query" and parameter.type == "string"
)


@pytest.mark.parametrize("name", TEXTS)
def test_lines_in_a_query(ecwid: HTTPServer, api: Api, name: str) -> None:
    """A query value with a NUL or a line break gets a 400."""
    for character in ("%00", "%0D", "%0A", "%0d%0a"):
        for text in (f"{character}x", f"x{character}"):
            refusal = problem(api.get(f"/customers?{name}={text}"), 400)
            assert refusal["errors"][0]["pointer"] == f"/query/{name}"
    assert ecwid.log == []


@pytest.mark.parametrize("query", ["keyword=%ff", "%ff=1", "keyword=%ed%a0%80", "keyword=a%c3"])
def test_no_utf_8_in_a_query(ecwid: HTTPServer, api: Api, query: str) -> None:
    """A query that is not UTF-8 gets a 400 and is not repaired."""
    refusal = problem(api.get(f"/customers?{query}"), 400)
    assert places(refusal) == [("/query", "type")]
    assert ecwid.log == []


@pytest.mark.parametrize("body", [b"null", b"[]", b"5", b'"a@example.com"', b"true"])
def test_not_an_object(ecwid: HTTPServer, api: Api, body: bytes) -> None:
    """A JSON body that is not an object gets a 400."""
    refusal = problem(api.post("/add_customer", data=body, content_type="application/json"), 400)
    assert places(refusal) == [("", "type")]
    assert ecwid.log == []


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/vnd.api+json",
        "application/json; charset=latin-1",
        "nonsense",
    ],
)
def test_media_type(ecwid: HTTPServer, api: Api, content_type: str | None) -> None:
    """A body that is not declared as JSON in UTF-8 gets a 415."""
    body = b'{"email": "a@example.com"}'
    problem(api.post("/add_customer", data=body, content_type=content_type), 415)
    assert ecwid.log == []


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; Charset=UTF-8", "application/json;x=y"]
)
def test_json_media_types(ecwid: HTTPServer, api: Api, content_type: str) -> None:
    """The media type of JSON in UTF-8 is accepted in any spelling."""
    ecwid.expect_request("/api/v3/1003/customers").respond_with_json({"id": 1})
    body = b'{"email": "a@example.com"}'
    assert api.post("/add_customer", data=body, content_type=content_type).status_code == 200


def test_the_hosts_lower_limit(app: flask.Flask) -> None:
    """A host's body limit below ECWID_MAX_BODY_BYTES stays in force."""
    app.config["MAX_CONTENT_LENGTH"] = 20
    body = {"email": "longer.than.that@example.com"}
    refusal = problem(Api(app.test_client()).post("/add_customer", body), 413)
    assert refusal["detail"] == "Send a body of at most 20 bytes."


@pytest.mark.parametrize("control", ["\x1c", "\x7f", "\u2028", " "])
def test_control_characters_in_an_email(api: Api, control: str) -> None:
    """An e-mail with blanks or control characters gets a 400."""
    body = {"email": f"a{control}b@example.com"}
    assert places(problem(api.post("/add_customer", body), 400)) == [("/email", "pattern")]


def test_large_body(ecwid: HTTPServer, api: Api) -> None:
    """A body over the limit gets a 413, and a body at the limit is read."""
    start = b'{"email": "a@example.com", "zz": "'
    fits = start + b"x" * (262_144 - len(start) - 2) + b'"}'
    body = problem(api.post("/add_customer", data=fits, content_type="application/json"), 400)
    assert places(body) == [("", "additionalProperties")]
    body = problem(
        api.post("/add_customer", data=fits + b" ", content_type="application/json"), 413
    )
    assert body["executed"] == "no"
    assert body["detail"] == "Send a body of at most 262144 bytes."
    body = problem(
        api.post("/add_customer", data=fits + b" " * 9, content_type="application/json"), 413
    )
    assert body["detail"] == "Send a body of at most 262144 bytes."
    assert ecwid.log == []


@pytest.mark.parametrize("count", [3, 19, 80_000])
def test_many_violations(ecwid: HTTPServer, api: Api, count: int) -> None:
    """The 400 for a large body names the first violation, and for a small body up to 20.

    A search for all violations of a large body would take too much memory.
    """
    response = api.post("/update_customer/5", {"extrafields": [1] * count})
    places = [each["pointer"] for each in problem(response, 400)["errors"]]
    assert places == [f"/extrafields/{n}" for n in range(count if count < 20 else 1)]
    assert ecwid.log == []
