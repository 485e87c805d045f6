"""Tests of the values that Ecwid may send, and of the conversions of odd values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from flask_ecwid import contract
from flask_ecwid.client import conversions
from flask_ecwid.client.operations import OPERATIONS

from ..conftest import STORE, Api

pytestmark = pytest.mark.usefixtures("no_waiting")

SCHEMAS: dict[str, Any] = contract.load().document["components"]["schemas"]
REQUESTS: dict[str, tuple[str, str, Any]] = {
    "list_customers": ("GET", "/customers", None),
    "get_customer": ("GET", "/customer/7", None),
    "add_customer": ("POST", "/add_customer", {"email": "a@example.com"}),
    "update_customer": ("POST", "/update_customer/7", {}),
    "delete_customer": ("POST", "/delete_customer/7", None),
}
SMALLEST: dict[str, dict[str, Any]] = {
    "list_customers": {"total": 1, "count": 1, "offset": 0, "limit": 100, "items": []},
    "get_customer": {"id": 7},
    "add_customer": {"id": 7},
    "update_customer": {"updateCount": 1},
    "delete_customer": {"deleteCount": 1},
}
VALUES: dict[str, list[Any]] = {
    "integer": [0, 1, -1, 2**31, 2**53, 2**63 - 1, -(2**63)],
    "number": [0, -1, 0.1, -2014.97, 1e300, -1e-300, 2**63 - 1],
    "string": ["", " ", "x" * 100_000, "\0\x1f\x7f\n", "ü€😀", "[DEMO]", "0"],
    "boolean": [True, False],
    "array": [[]],
    "object": [{}, {"brandNew": [1, None, {"a": "b"}]}],
}
ANYTHING = [None, *(value for values in VALUES.values() for value in values), [{"a": [1]}]]

Path = tuple[str | int, ...]


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with the parts behind its `$ref` and `allOf`."""
    while "$ref" in node:
        node = SCHEMAS[node["$ref"].rpartition("/")[2]]
    whole: dict[str, Any] = {**node, "properties": dict(node.get("properties", {}))}
    for part in map(resolved, node.get("allOf", [])):
        whole["properties"] |= part["properties"]
        whole |= {name: value for name, value in part.items() if name != "properties"}
    return whole


def places(node: dict[str, Any], path: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each place below a schema, with the schema of the place. A list has one item."""
    node = resolved(node)
    if path:
        yield path, node
    for name, member in node["properties"].items():
        yield from places(member, (*path, name))
    if "items" in node:
        yield from places(node["items"], (*path, 0))


PLACES = [
    (operation.name, path, node)
    for operation in map(OPERATIONS.__getitem__, REQUESTS)
    for path, node in places(SCHEMAS[operation.reply])
]


def with_value(operation: str, path: Path, value: Any) -> Any:
    """Return the smallest good reply of an operation with the value at a place."""
    for step in reversed(path[1:]):
        value = [value] if isinstance(step, int) else {step: value}
    document = {**SMALLEST[operation], str(path[0]): value}
    for item in document.get("items") or []:
        if isinstance(item, dict):
            item.setdefault("id", 7)
    return document


def serve(ecwid: HTTPServer, body: str | bytes) -> None:
    ecwid.clear()
    ecwid.expect_request(f"{STORE}/customers", method="GET").respond_with_data(body)
    ecwid.expect_request(f"{STORE}/customers", method="POST").respond_with_data(body)
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_data(body)


def ask(api: Api, operation: str) -> Any:
    method, path, body = REQUESTS[operation]
    return api.open(method, path, json=body)


def shown(operation: str, reply: Any) -> tuple[Any, Any]:
    """Return the id and the attributes of the envelope of a reply."""
    if operation == "add_customer":
        return str(reply["id"]), {}
    if operation == "get_customer":
        return reply["id"], {name: value for name, value in reply.items() if name != "id"}
    return None, reply


def check_shown(api: Api, operation: str, reply: Any, about: object) -> None:
    """Check that the response to an operation shows this reply of Ecwid."""
    response = ask(api, operation)
    assert response.status_code == 200, (operation, about, response.text[:500])
    data = response.json["data"]
    id, attributes = shown(operation, reply)
    assert data["attributes"] == attributes, (operation, about)
    assert id is None or (data["id"], type(data["id"])) == (id, type(id)), (operation, about)


@pytest.mark.parametrize("operation", REQUESTS)
def test_every_value_of_the_declared_types_passes(
    ecwid: HTTPServer, api: Api, operation: str
) -> None:
    """Each member of a reply may have every value of its declared types."""
    tried = 0
    for name, path, node in PLACES:
        if name != operation:
            continue
        values = [*VALUES[node["type"]]] if "type" in node else ANYTHING
        values = values if node["properties"].get("id") is None else [{"id": 7, "new": {}}]
        values = [*values, None] if node.get("nullable") else values
        for value in values:
            reply = with_value(operation, path, value)
            serve(ecwid, json.dumps(reply))
            check_shown(api, operation, reply, (path, str(value)[:80]))
            tried += 1
    assert tried >= {"list_customers": 300, "get_customer": 300}.get(operation, 7)


@pytest.mark.parametrize("operation", ["list_customers", "get_customer"])
def test_every_member_may_be_absent(ecwid: HTTPServer, api: Api, operation: str) -> None:
    """Each object below a customer may lack all of its members."""
    for name, path, node in PLACES:
        if name == operation and node.get("type") == "object" and "required" not in node:
            reply = with_value(operation, path, {})
            serve(ecwid, json.dumps(reply))
            check_shown(api, operation, reply, path)


def customer(members: str) -> str:
    return '{"id": 7, ' + members + "}"


CONVERTED: dict[str, dict[str, Any]] = {
    # A text that is a number, where a number is declared.
    '"totalOrderCount": "0"': {"totalOrderCount": 0},
    '"totalOrderCount": "-12"': {"totalOrderCount": -12},
    '"totalOrderCount": "3.0"': {"totalOrderCount": 3},
    '"totalOrderCount": "1e3"': {"totalOrderCount": 1000},
    '"totalOrderCount": "9223372036854775807"': {"totalOrderCount": 2**63 - 1},
    '"stats": {"salesValue": "2014.97"}': {"stats": {"salesValue": 2014.97}},
    '"stats": {"salesValue": "97"}': {"stats": {"salesValue": 97}},
    '"contacts": [{"id": "5"}, {"id": 6}]': {"contacts": [{"id": 5}, {"id": 6}]},
    # A whole number with a point, where an integer is declared.
    '"totalOrderCount": 2.0': {"totalOrderCount": 2},
    '"totalOrderCount": -0.0': {"totalOrderCount": 0},
    '"customerGroupId": 1.5E7': {"customerGroupId": 15_000_000},
    # A number where a text is declared.
    '"taxId": 12': {"taxId": "12"},
    '"taxId": 12.0': {"taxId": "12"},
    '"taxId": -0.5': {"taxId": "-0.5"},
    '"taxId": 1.23456789E7': {"taxId": "12345678.9"},
    '"taxId": 1e21': {"taxId": "1" + "0" * 21},
    '"taxId": 1e-7': {"taxId": "0.0000001"},
    '"taxId": 123456789012345678901234567890': {"taxId": "123456789012345678901234567890"},
    '"billingPerson": {"postalCode": 1234}': {"billingPerson": {"postalCode": "1234"}},
    # An empty list where an object is declared.
    '"stats": []': {},
    '"stats": [], "billingPerson": [], "lang": "en"': {"lang": "en"},
    '"shippingAddresses": [[], {"id": 1}]': {"shippingAddresses": [{"id": 1}]},
    # Half a surrogate pair, at any place, beside whole pairs and escaped backslashes.
    r'"lang": "a\ud83d"': {"lang": "a\ufffd"},
    r'"lang": "\ude00\ud83d\ude00"': {"lang": "\ufffd😀"},
    r'"lang": "\\ud83d\ud83dx"': {"lang": "\\ud83d\ufffdx"},
    r'"new\ud83d": {"a": ["\udfff"]}': {"new\ufffd": {"a": ["\ufffd"]}},
    # Other members stay as they are.
    '"lang": 5, "new": {"id": "5", "a": 2.0, "b": [], "c": 1e9}': {
        "lang": "5",
        "new": {"id": "5", "a": 2.0, "b": [], "c": 1e9},
    },
    '"lang": 5, "extrafields": [{"value": 5, "orderBy": "1", "entityTypes": []}]': {
        "lang": "5",
        "extrafields": [{"value": 5, "orderBy": "1", "entityTypes": []}],
    },
    '"lang": 5, "contacts": [], "taxExempt": null': {
        "lang": "5",
        "contacts": [],
        "taxExempt": None,
    },
}


@pytest.mark.parametrize("members", CONVERTED)
@pytest.mark.parametrize("operation", ["list_customers", "get_customer"])
def test_conversions(ecwid: HTTPServer, api: Api, operation: str, members: str) -> None:
    """A value whose meaning is certain is converted, and every other member stays as it is."""
    expected: dict[str, Any] = {"id": 7, **CONVERTED[members]}
    body = customer(members)
    if operation == "list_customers":
        page: dict[str, Any] = {"total": 1, "count": 1, "offset": 0, "limit": 100}
        body = json.dumps(page)[:-1] + f', "items": [{body}]}}'
        expected = {**page, "items": [expected]}
    serve(ecwid, body)
    response = ask(api, operation)
    assert response.status_code == 200
    _, attributes = shown(operation, expected)
    found = response.json["data"]["attributes"]
    assert json.dumps(found, sort_keys=True) == json.dumps(attributes, sort_keys=True)
    assert len(ecwid.log) == 1


@pytest.mark.parametrize("operation", REQUESTS)
def test_good_replies_are_not_converted(
    ecwid: HTTPServer, api: Api, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """A reply that fits is neither parsed again nor walked, so it costs no more than the check."""
    converted: list[object] = []
    monkeypatch.setattr(conversions, "parse", converted.append)
    serve(ecwid, json.dumps(SMALLEST[operation]))
    assert ask(api, operation).status_code == 200
    assert converted == []


def test_halves_of_a_pair_as_bytes(ecwid: HTTPServer, api: Api) -> None:
    """Half a surrogate pair becomes U+FFFD if Ecwid sends it as bytes."""
    serve(ecwid, b'{"id": 7, "lang": "\xed\xa0\xbd", "taxId": "\xed\xa0\xbd\xed\xb8\x80"}')
    assert ask(api, "get_customer").json["data"]["attributes"] == {"lang": "\ufffd", "taxId": "😀"}


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("add_customer", '{"id": "123"}'),
        ("add_customer", '{"id": 123.0}'),
        ("add_customer", '{"id": 123, "lang": "\\ud83d"}'),
    ],
)
def test_the_id_of_a_new_customer(ecwid: HTTPServer, api: Api, operation: str, body: str) -> None:
    """The id in the reply to a creation is converted, so the creation is not searched for."""
    serve(ecwid, body)
    assert ask(api, operation).json["data"]["id"] == "123"
    assert len(ecwid.log) == 1


REFUSED = {
    '"totalOrderCount": ""': "/totalOrderCount",
    '"totalOrderCount": " 1"': "/totalOrderCount",
    '"totalOrderCount": "01"': "/totalOrderCount",
    '"totalOrderCount": "+1"': "/totalOrderCount",
    '"totalOrderCount": "1.5"': "/totalOrderCount",
    '"totalOrderCount": 1.5': "/totalOrderCount",
    '"totalOrderCount": "\u0661"': "/totalOrderCount",
    '"totalOrderCount": "18446744073709551616"': "/totalOrderCount",
    '"totalOrderCount": 18446744073709551616': "/totalOrderCount",
    '"totalOrderCount": 1e17': "/totalOrderCount",
    '"totalOrderCount": true': "/totalOrderCount",
    '"totalOrderCount": []': "/totalOrderCount",
    '"stats": {"salesValue": "1e999"}': "/stats/salesValue",
    '"stats": {"salesValue": "NaN"}': "/stats/salesValue",
    '"stats": {"salesValue": "1,5"}': "/stats/salesValue",
    '"lang": true': "/lang",
    '"lang": {}': "/lang",
    '"lang": []': "/lang",
    '"taxExempt": "true"': "/taxExempt",
    '"taxExempt": 0': "/taxExempt",
    '"contacts": {}': "/contacts",
    '"contacts": ""': "/contacts",
    '"contacts": [null]': "/contacts/0",
    '"stats": ""': "/stats",
    '"stats": [[]]': "/stats",
}


@pytest.mark.parametrize("members", REFUSED)
def test_the_rest_is_refused(ecwid: HTTPServer, api: Api, members: str) -> None:
    """Every other value of a wrong type is refused, and the problem names the place."""
    serve(ecwid, customer(members))
    response = ask(api, "get_customer")
    assert response.status_code == 502
    places = [each["pointer"] for each in response.json["errors"]]
    assert places == ["/data/attributes" + REFUSED[members]]


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        '{"id": 7, "x": NaN}',
        '{"id": 7, "x": -Infinity}',
        '{"id": 7, "x": 1e999}',
        '{"id": 7, "x": ' + "9" * 400 + "}",
        '{"id": 7, "lang": "\\ud83d"',
        b'{"id": 7, "lang": "\xff"}',
        '{"id": 7, "lang": 5, "x": ' + "[" * 100_000,
        '{"id": 7, "lang": "\\ud83d", "x": ' + "[" * 3000 + "]" * 3000 + "}",
    ],
)
def test_no_json_object(ecwid: HTTPServer, api: Api, body: str | bytes) -> None:
    """A body that is not JSON stays a bad reply, also beside values that could be converted."""
    serve(ecwid, body)
    response = ask(api, "get_customer")
    assert response.status_code == 502
    assert response.json["type"] == "urn:flask-ecwid:problem:upstream-bad-reply"


def test_replies_with_many_values_are_not_converted(ecwid: HTTPServer, api: Api) -> None:
    """A reply with more values than any customer has is only checked, because time is limited."""
    for count, status in ((100_000, 200), (200_000, 502)):
        serve(ecwid, customer('"taxId": 5, "new": [' + "0," * count + "0]"))
        response = ask(api, "get_customer")
        assert response.status_code == status
    assert [each["pointer"] for each in response.json["errors"]] == ["/data/attributes/taxId"]


def test_large_integers_of_unknown_members(ecwid: HTTPServer, api: Api) -> None:
    """An integer beyond 64 bits in an unknown member becomes a number of double precision."""
    large = 123456789012345678901234567890
    for other in ('"lang": "en"', '"lang": 5'):
        serve(ecwid, customer(f'{other}, "new": {large}, "known": {2**64 - 1}'))
        found = ask(api, "get_customer").json["data"]["attributes"]
        assert (found["new"], found["known"]) == (float(large), 2**64 - 1)
