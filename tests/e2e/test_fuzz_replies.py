"""Fuzz tests of the responses to damaged replies of Ecwid."""

from __future__ import annotations

import gzip
import json
import logging
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_schema_validator import OAS30ReadValidator
from werkzeug.test import TestResponse

from flask_ecwid import contract

from ..conftest import TOKEN, Api, app_of, payload
from ..helpers.fuzzing import nearly, rounds, tries
from ..helpers.raw_server import Call, ScriptedServer

pytestmark = pytest.mark.usefixtures("no_waiting")

CANARY = "canary"  # occurs in every kind of reply
DOCUMENT = contract.load().document
REQUESTS: dict[str, tuple[str, str, Any]] = {
    "list_customers": ("GET", "/customers", None),
    "get_customer": ("GET", "/customer/172890169", None),
    "add_customer": ("POST", "/add_customer", {"email": "a@example.com"}),
    "update_customer": ("POST", "/update_customer/172890169", {"taxExempt": True}),
    "delete_customer": ("POST", "/delete_customer/172890169", None),
}


def marked(document: Any) -> Any:
    """Return the document with the canary in each text and in a member of its own."""
    if isinstance(document, dict):
        changed = {name: marked(value) for name, value in document.items()}
        return {**changed, f"{CANARY}Name": CANARY}
    if isinstance(document, list):
        return [marked(item) for item in document]
    return f"{CANARY} {document}" if isinstance(document, str) else document


ERRORS = [
    payload("error.404.store-not-found"),
    {"errorCode": "INVALID_API_TOKEN", "errorMessage": CANARY},
    {"errorCode": f"{CANARY} 1", "errorMessage": None},
]
FOUND = {"id": 5, "email": "a@example.com", "registered": "2999-01-01 00:00:00 +0000"}
PAGE = {"total": 1, "count": 1, "offset": 0, "limit": 100, "items": [FOUND]}
GOOD: dict[str, list[Any]] = {
    "list_customers": [
        marked(payload("search-customers.response")),
        marked(payload("2019-03-18.search-customers.response")),
        marked(payload("2015-12-08.search-customers.response")),
        marked(payload("seed.customers")),
        marked(payload("search-customers.response.responseFields")),
    ],
    "get_customer": [
        marked(payload("get-customer.response")),
        marked(payload("2019-03-18.get-customer.response")),
        marked(payload("2015-12-03.get-customer.response")),
        marked(payload("get-customer.response.responseFields")),
    ],
    "add_customer": [marked(payload("create-customer.response")), {"id": 5}],
    "update_customer": [marked(payload("update-customer.response")), {"updateCount": 1}],
    "delete_customer": [marked(payload("2014-12-02.delete-customer.response")), {"deleteCount": 1}],
    "reconcile": [
        {**marked(PAGE), "items": [FOUND]},
        {**PAGE, "items": [{**FOUND, "email": CANARY}, FOUND, marked(FOUND)]},
        {**PAGE, "items": [{**FOUND, "registered": CANARY}]},
        {**PAGE, "total": 0, "items": []},
    ],
}
STATUSES = [
    *(201, 204, 206, 299, 301, 304, 307, 400, 401, 402, 403, 404, 405, 408, 409, 410, 413, 415),
    *(422, 429, 451, 500, 501, 502, 503, 504, 520, 599, 600, 999),
]
HEADERS = [
    *("Content-Type: text/html", "Content-Type: application/json; charset=utf-7", "Content-Type:"),
    *("Content-Encoding: gzip", "Content-Encoding: br", f"Content-Encoding: {CANARY}"),
    *("Content-Encoding: gzip, gzip", "Transfer-Encoding: chunked", f"X-Other: {CANARY}"),
    *("Retry-After: 1", "Retry-After: 60", "Retry-After: -1", f"Retry-After: {CANARY}"),
    *("Retry-After: Wed, 21 Oct 2099 07:28:00 GMT", "Retry-After: " + "9" * 400),
    *(f"Location: https://elsewhere.example/{CANARY}", f"Location: //[{CANARY}", "Location: "),
    *(f"Set-Cookie: {CANARY}={CANARY}", f"{CANARY} without a colon", f" folded {CANARY}"),
    *("Content-Length: 0", "Content-Length: 3", "Content-Length: 99999999999", "Content-Length: x"),
    *(f"X-Long: {CANARY * 12_000}", "X-\xff: \xff", "Trailer: x"),
]
LENGTH = "Content-Length: "
LINES = ["HTTP/1.1 {} OK", "HTTP/1.0 {}", "HTTP/1.1 {} canary", "HTTP/2 {} ok", "canary", "", "{}"]


@st.composite
def replies(draw: st.DrawFn, kind: str) -> bytes:
    """Draw all bytes of a reply."""
    status = draw(st.sampled_from(STATUSES)) if draw(st.integers(0, 2)) == 2 else 200
    originals = (
        GOOD[kind] if draw(st.integers(0, 9)) < 9 else GOOD[draw(st.sampled_from(list(GOOD)))]
    )
    body = draw(nearly(originals if 200 <= status < 300 else [*ERRORS, *originals]))
    # Both sides close the connection. Without it, a call on a closing connection would be lost.
    headers = ["Content-Type: application/json", LENGTH, "Connection: close"]
    line = LINES[0]
    if draw(st.integers(0, 3)) == 3:
        if draw(st.integers(0, 3)) == 3:
            line = draw(st.sampled_from(LINES))
        for _ in range(draw(st.integers(1, 3))):
            header = draw(st.sampled_from(HEADERS))
            if header == "Content-Encoding: gzip" and draw(st.booleans()):
                body = gzip.compress(body)
            replaced = header.partition(":")[0]
            if draw(st.booleans()):
                headers = [each for each in headers if each.partition(":")[0] != replaced]
            headers.insert(draw(st.integers(0, len(headers))), header)
    text = "\r\n".join([line.format(status), *headers]).replace(LENGTH, f"{LENGTH}{len(body)}")
    head = text.encode("latin-1")
    whole = head + b"\r\n\r\n" + body
    if draw(st.integers(0, 15)) == 15:
        whole = whole[: draw(st.integers(0, len(whole)))]
    return whole


class Case(NamedTuple):
    """A request, the reply to its call and the reply to a search."""

    operation: str
    reply: bytes
    search: bytes


CASES = st.sampled_from(list(REQUESTS)).flatmap(
    lambda operation: st.builds(
        Case,
        st.just(operation),
        replies(operation),
        replies("reconcile") if operation == "add_customer" else st.just(b""),
    )
)


def settings_of(ecwid: Ecwid) -> dict[str, Any]:
    return {
        "ECWID_STORE_ID": "1003",
        "ECWID_TOKEN": TOKEN,
        "ECWID_AUTH": "none",
        "ECWID_API_URL": ecwid.url,
        "ECWID_CALLS_PER_MINUTE": 1_000_000,
    }


class Ecwid(ScriptedServer):
    """A server that sends the bytes of a case and closes the connection."""

    def __init__(self) -> None:
        super().__init__(self._send)
        self.case = Case("", b"", b"")

    def _send(self, connection: socket.socket, call: Call) -> bool:
        connection.sendall(self.case.search if call.kind == "reconcile" else self.case.reply)
        return False


@contextmanager
def logged() -> Iterator[list[str]]:
    """Record all logging with every traceback."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(logging.Formatter().format(record))

    collector, root = Collector(), logging.getLogger()
    root.addHandler(collector)
    try:
        yield lines
    finally:
        root.removeHandler(collector)


def validator(schema: str) -> Any:
    root = {"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]}
    return OAS30ReadValidator(root)


PROBLEM = validator("Problem")
ENVELOPES = {
    "list_customers": validator("CustomerPageEnvelope"),
    "get_customer": validator("CustomerEnvelope"),
    "add_customer": validator("AddedCustomerEnvelope"),
    "update_customer": validator("UpdatedCustomerEnvelope"),
    "delete_customer": validator("DeletedCustomerEnvelope"),
}


def check(operation: str, response: TestResponse, lines: list[str]) -> None:
    document = json.loads(response.data.decode("utf-8"))
    if response.status_code == 200:
        assert response.content_type == "application/json"
        assert ENVELOPES[operation].is_valid(document)
    else:
        assert response.status_code != 500
        assert response.status_code in contract.load().operations[operation].responses
        assert response.content_type == "application/problem+json"
        assert PROBLEM.is_valid(document)
        assert document["status"] == response.status_code
        assert CANARY not in response.text
    assert CANARY not in str(response.headers)
    for text in lines:
        assert CANARY not in text
        assert TOKEN not in text
    assert not [
        text for text in lines if text.startswith(("unexpected", "not in the contract", "defect"))
    ]


@pytest.mark.parametrize("_round", rounds(4))
def test_any_reply(_round: int) -> None:
    """Any reply of Ecwid becomes a valid 200 or a declared problem.

    No failure shows or logs a value of the reply.
    """
    seen: dict[str, Counter[int]] = {operation: Counter() for operation in REQUESTS}
    fresh: list[Api] = []  # empty after a failure, because the failure would affect the next call
    ecwid = Ecwid()
    with ecwid:

        @tries(200, 5_000)
        @given(CASES)
        def holds(case: Case) -> None:
            ecwid.case = case
            ecwid.heard.clear()
            api = fresh.pop() if fresh else Api(app_of(settings_of(ecwid)).test_client())
            method, path, body = REQUESTS[case.operation]
            with logged() as lines:
                response = api.open(method, path, json=body)
            check(case.operation, response, lines)
            # Ecwid received the call, so the client has read the reply.
            assert ecwid.count()[case.operation], (response.text, lines, ecwid.heard)
            seen[case.operation][response.status_code] += 1
            if response.status_code == 200 and len(ecwid.heard) == 1:
                fresh.append(api)

        holds()

    for counts in seen.values():
        assert 0 < counts[200] < counts.total()
    print(seen)
