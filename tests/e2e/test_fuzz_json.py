"""Fuzz tests of the strict JSON reader, against a second implementation of its rules."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

import flask
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_ecwid import Ecwid
from flask_ecwid.contract import strict_json
from flask_ecwid.errors import InvalidRequest

from ..conftest import Api, payload
from ..helpers.fuzzing import PIECES, Members, nearly, nested, rounds, tries

BODIES = [
    payload("create-customer.request"),
    payload("2015-12-03.create-customer.request"),
    payload("2019-03-18.create-customer.request"),
    {"email": "a@example.com", "taxExempt": True, "customerGroupId": 9007199254740991},
    {"email": "a@example.com", "contacts": [{"contact": "\U0001f600", "type": "PHONE"}]},
]
TOKENS = ['"', "\\", "{", "}", "[", "]", ",", ":", " ", "\n", "\ufeff", '"a"', '"b"', '"a":1', "-"]

Bytes = st.SearchStrategy[bytes]


def soup() -> Bytes:
    """Draw JSON's own pieces in any order."""
    pieces = st.lists(st.sampled_from(TOKENS) | PIECES, max_size=12)
    return pieces.map(lambda parts: "".join(parts).encode("utf-8", "surrogatepass"))


def many(names: int) -> bytes:
    return b"{" + b",".join(b'"%d":[]' % name for name in range(names)) + b"}"


def at_the_limits() -> Bytes:
    """Draw documents at the limits of depth, size and number, or one beyond."""
    depths = st.builds(
        nested,
        st.integers(28, 36),
        st.text("[{", min_size=1, max_size=5),
        st.sampled_from(["1", "[]", "{}", '"\\u0000"', str(2**53)]),
    )
    integers = st.integers(-3, 3).map(lambda step: str(2**53 + step))
    signed = st.tuples(st.sampled_from(["", "-"]), integers).map("".join)
    return depths.map(str.encode) | signed.map(str.encode) | st.integers(998, 1003).map(many)


ANYTHING: Bytes = st.one_of(
    st.binary(max_size=100),
    st.text(st.characters(), max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")),
    soup(),
    at_the_limits(),
    nearly(BODIES),
)


def allowed(body: bytes) -> tuple[bool, Any]:
    """Return whether the rules allow a body, and its document, by a second implementation."""
    try:
        read = json.loads(body.decode("utf-8"), object_pairs_hook=Members)
        document = plain(read)
    except (ValueError, RecursionError):
        return False, None
    return True, document


def plain(value: Any, depth: int = 0) -> Any:
    """Return a value as the standard library reads it.

    Raises:
        ValueError: The value breaks a rule.
    """
    if isinstance(value, list) and depth == 32:
        raise ValueError("too deep")
    if isinstance(value, Members):
        names = [plain(name) for name, _ in value]
        if len(set(names)) != len(names):
            raise ValueError("twice")
        document = {name: plain(member, depth + 1) for name, member in value}
        if depth == 0 and names_in(document) > 1000:
            raise ValueError("too many")
        return document
    if isinstance(value, list):
        items = [plain(item, depth + 1) for item in value]
        if depth == 0 and names_in(items) > 1000:
            raise ValueError("too many")
        return items
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= sign <= "\udfff" for sign in value):
            raise ValueError("no text")
    elif isinstance(value, float) and value in (float("inf"), float("-inf")):
        raise ValueError("too large")
    elif isinstance(value, float) and value != value:
        raise ValueError("no number")
    elif isinstance(value, int) and not -(2**53) < value < 2**53:
        raise ValueError("beyond")
    return value


def names_in(document: Any) -> int:
    if isinstance(document, dict):
        return len(document) + sum(map(names_in, document.values()))
    return sum(map(names_in, document)) if isinstance(document, list) else 0


def outcome(body: bytes) -> tuple[bool, Any]:
    """Return the result of the reader. An exception of another class ends the test."""
    try:
        return True, strict_json.parse(body)
    except InvalidRequest as exc:
        refusal = exc
    assert refusal.__context__ is None  # because the context would hold the body
    return False, None


@pytest.mark.parametrize("_round", rounds(10))
def test_what_is_read_is_what_is_allowed(_round: int) -> None:
    """The reader accepts exactly the allowed documents and reads them as the standard library.

    The reader refuses all other documents with InvalidRequest.
    """
    seen: Counter[bool] = Counter()

    @tries(2_000, 20_000)
    @given(ANYTHING)
    def holds(body: bytes) -> None:
        read = outcome(body)
        assert repr(read) == repr(allowed(body))  # repr tells 1, 1.0 and True apart
        seen[read[0]] += 1

    holds()
    assert min(seen[True], seen[False]) > sum(seen.values()) / 10


LARGE = 262_144  # the largest body in bytes


@pytest.mark.parametrize(
    "piece",
    [
        *("[", "{", '{"a":', '[{"a":', "9", "-9", "1.", "0.0", "1e9", '"', '"\\u0000', "\\", "\n"),
        *('"a",', '"\\ud800', "[],", '{"a":1},', '"\ufeff', "\x00", "NaN,", "[1e999,", "{}{}"),
    ],
)
def test_the_worst_of_the_largest_bodies(piece: str) -> None:
    """No body up to the largest size keeps the reader busy for long."""
    begun = time.monotonic()
    for head, tail in (("", ""), ("[", "1]"), ('"', '"'), ('{"a":', "}")):
        body = (head + piece * (LARGE // len(piece)) + tail).encode()
        assert outcome(body)[0] == allowed(body)[0]
    assert time.monotonic() - begun < 60


def test_any_body_of_a_creation() -> None:
    """Any body of a creation gets a 200 or a refusal of the request."""
    app = flask.Flask("shop")
    app.config.update(ECWID_SANDBOX=True, ECWID_CALLS_PER_MINUTE=1_000_000)
    Ecwid(app)
    api = Api(app.test_client())
    seen: Counter[int] = Counter()

    @tries(300, 5_000)
    @given(nearly(BODIES, most=1) | ANYTHING)
    def holds(body: bytes) -> None:
        response = api.post("/add_customer", data=body, content_type="application/json")
        assert response.status_code in (200, 400, 409)
        assert (response.status_code == 400) or allowed(body)[0]
        seen[response.status_code] += 1

    holds()
    assert seen[200]
    assert seen[400]
