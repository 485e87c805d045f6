"""Tests of customers that are read, changed and sent back."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from pytest_httpserver import HTTPServer

from flask_ecwid.testing import EcwidSandbox

from ..conftest import PAYLOADS, STORE, Api, payload

Customer = dict[str, Any]

# The members that only Ecwid sets, for each object of a customer.
ECWIDS = {
    "": {
        *("id", "registered", "updated", "totalOrderCount", "stats", "favorites"),
        *("externalReferenceId", "customerGroupName"),
    },
    "billingPerson": {"firstName", "lastName"},
    "shippingAddresses": {"addressFormatted", "createdDate"},
    "contacts": {"timestamp"},
    "extrafields": {"orderBy", "entityTypes"},
}
CHANGE = {"privateAdminNotes": "Changed.", "acceptMarketing": False}
# A customer with every oddity that stores have shown.
ODD: Customer = {
    "id": 310808192,
    "name": "Ada",
    "email": "",
    "customerGroupId": 25614001,
    "customerGroupName": "VIP",
    "externalReferenceId": "x",
    "billingPerson": {"name": "Ada", "stateOrProvinceName": "Kyiv", "countryName": "Ukraine"},
    "shippingAddresses": [
        {"id": 1, "orderBy": -1, "defaultAddress": False, "addressFormatted": "<b>"},
        {"id": 2, "note": "", "createdDate": "2024-05-17 10:00:00 +0000"},
    ],
    "contacts": [
        {"id": 218353636, "contact": "x", "type": "PIGEON", "orderBy": True, "timestamp": "x"},
        {"id": 218353636, "handle": "", "orderBy": 3},
    ],
    "extrafields": [
        {"key": "6r0fUGw", "value": 5, "type": "text", "orderBy": 1, "entityTypes": ["CUSTOMERS"]}
    ],
    "stats": {"numberOfOrders": 0, "numberOfCanceledOrders": 1},
    "electronicInvoicePecEmail": "",
}


def customers() -> Iterator[tuple[str, Customer]]:
    """Yield each customer in the payloads of Ecwid's documents, with a name for the test."""
    for path in sorted(PAYLOADS.glob("*.json")):
        if any(word in path.stem for word in ("get-customer", "search-customers.response", "seed")):
            document = payload(path.stem)
            for number, each in enumerate(document.get("items", [document])):
                yield f"{path.stem} {number}", each
    addresses = payload("2024.search-customers.item-shippingAddresses")
    yield "addresses of 2024", {"id": 7, "email": "a@b", "shippingAddresses": addresses}
    yield "odd", ODD


CUSTOMERS = dict(customers())


def settable(customer: Customer) -> Customer:
    """Return what Ecwid should get if the customer is sent back."""

    def without(place: str, value: Any) -> Any:
        if isinstance(value, list):
            return [without(place, each) for each in value]
        return {name: each for name, each in value.items() if name not in ECWIDS[place]}

    kept: Customer = without("", customer)
    for place in ECWIDS:
        if place in kept:
            kept[place] = without(place, kept[place])
    name = kept.pop("name", None)
    if name is not None:
        kept["billingPerson"] = {**kept.get("billingPerson", {}), "name": name}
    return kept


def test_there_are_payloads() -> None:
    """The payloads have customers of all years and all their kinds of members."""
    assert len(CUSTOMERS) > 15
    names = {name for customer in CUSTOMERS.values() for name in customer}
    assert {*ECWIDS, *ECWIDS[""]} - {""} <= names


@pytest.mark.parametrize("name", CUSTOMERS)
@pytest.mark.parametrize("way", ["get", "list"])
def test_read_change_send_back(ecwid: HTTPServer, api: Api, name: str, way: str) -> None:
    """A customer may be sent back with a change, and Ecwid gets all members but its own."""
    customer = {"id": 7, **copy.deepcopy(CUSTOMERS[name])}
    path = f"/customers/{customer['id']}"
    page = {"total": 1, "count": 1, "offset": 0, "limit": 100, "items": [customer]}
    ecwid.expect_request(f"{STORE}{path}", method="GET").respond_with_json(customer)
    ecwid.expect_request(f"{STORE}/customers", method="GET").respond_with_json(page)
    ecwid.expect_request(f"{STORE}{path}", method="PUT").respond_with_json({"updateCount": 1})
    if way == "get":
        read = api.get(f"/customer/{customer['id']}").json
        attributes = read["data"]["attributes"]  # type: ignore[index]
    else:
        read = api.get("/customers").json
        [attributes] = read["data"]["attributes"]["items"]  # type: ignore[index]
    response = api.post(f"/update_customer/{customer['id']}", {**attributes, **CHANGE})
    assert response.status_code == 200, response.json
    assert json.loads(ecwid.log[-1][0].data) == {**settable(customer), **CHANGE}


@pytest.mark.parametrize("name", [name for name in CUSTOMERS if CUSTOMERS[name].get("email")])
def test_read_create_again(ecwid: HTTPServer, api: Api, name: str) -> None:
    """A customer that was read may be created in another store, and no member is lost."""
    customer = copy.deepcopy(CUSTOMERS[name])
    ecwid.expect_request(f"{STORE}/customers", method="POST").respond_with_json({"id": 8})
    response = api.post("/add_customer", customer)
    assert response.status_code == 200, response.json
    assert json.loads(ecwid.log[-1][0].data) == settable(customer)


def test_in_the_sandbox(ecwid_sandbox: EcwidSandbox, ecwid_app: Flask) -> None:
    """Sending a customer back changes nothing but the changed members."""
    ecwid_sandbox.seed(generated=60)
    known = {name: value for name, value in ODD.items() if name != "externalReferenceId"}
    known |= {"customerGroupId": 9367001, "contacts": ODD["contacts"][:1]}
    odd = ecwid_sandbox.add_customer(known)
    api = Api(ecwid_app.test_client())
    ids = [customer["id"] for customer in ecwid_sandbox.customers()]
    assert odd in ids
    for customer_id in ids:
        path = f"/customer/{customer_id}"
        before = api.get(path).json["data"]["attributes"]  # type: ignore[index]
        response = api.post(f"/update_customer/{customer_id}", {**before, **CHANGE})
        assert response.status_code == 200, response.json
        after = api.get(path).json["data"]["attributes"]  # type: ignore[index]
        if "name" in before:  # The name of a guest becomes the name of a person.
            person = after["billingPerson"]
            assert person["name"] == before["name"]
            if "billingPerson" not in before:
                before["billingPerson"] = person
        assert after == {**before, **CHANGE, "updated": after["updated"]}


def test_an_empty_email(ecwid_sandbox: EcwidSandbox, ecwid_app: Flask) -> None:
    """An unchanged empty e-mail is accepted, and Ecwid refuses to clear an e-mail."""
    without = ecwid_sandbox.add_customer({"email": "", "lang": "de"})
    having = ecwid_sandbox.add_customer({"email": "a@example.com", "lang": "de"})
    api = Api(ecwid_app.test_client())
    body = {"email": "", "lang": "fr"}
    assert api.post(f"/update_customer/{without}", body).status_code == 200
    refused = api.post(f"/update_customer/{having}", body)
    assert refused.json is not None
    assert (refused.status_code, refused.json["origin"]) == (400, "ecwid")


@pytest.mark.parametrize("path", ["/add_customer", "/update_customer/7"])
@pytest.mark.parametrize(
    ("more", "pointer", "keyword", "word"),
    [
        ({"name": "A", "billingPerson": {"name": "B"}}, "/name", "const", "billingPerson.name"),
        ({"customerGroupName": "V"}, "/customerGroupName", "dependencies", "customerGroupId"),
    ],
)
def test_what_ecwid_would_drop(
    ecwid: HTTPServer, api: Api, path: str, more: Customer, pointer: str, keyword: str, word: str
) -> None:
    """A member that Ecwid would drop is a 400 that names the member to send."""
    response = api.post(path, {"email": "a@example.com", **more})
    assert response.status_code == 400
    assert response.json is not None
    [error] = response.json["errors"]
    assert (error["pointer"], error["keyword"]) == (pointer, keyword)
    assert word in error["expected"]
    assert response.json["executed"] == "no"
    assert ecwid.log == []


def test_a_key_of_a_refused_body(ecwid: HTTPServer, api: Api) -> None:
    """A body that Ecwid would drop a part of leaves its Idempotency-Key free for a better body."""
    ecwid.expect_request(f"{STORE}/customers").respond_with_json({"id": 7})
    headers = {"Idempotency-Key": "3f0f7f8e-5d3b-4b43-9d0e-0d2f5b7b6a11"}
    two = {"email": "a@example.com", "name": "A", "billingPerson": {"name": "B"}}
    assert api.post("/add_customer", two, headers=headers).status_code == 400
    one = {"email": "a@example.com", "name": "A"}
    responses = [api.post("/add_customer", one, headers=headers) for _ in range(2)]
    assert [response.status_code for response in responses] == [200, 200]
    assert len(ecwid.log) == 1


@pytest.mark.parametrize("path", ["/add_customer", "/update_customer/7"])
@pytest.mark.parametrize(
    "more",
    [
        *({name: "x"} for name in ("firstName", "lastName", "phone", "companyName", "city")),
        {"billingPerson": {"company": "x"}},
        {"shippingAddresses": [{"firstName": "x"}]},
    ],
    ids=str,
)
def test_misplaced_members(ecwid: HTTPServer, api: Api, path: str, more: Customer) -> None:
    """A member at a wrong place is a 400 in both writes."""
    response = api.post(path, {"email": "a@example.com", **more})
    assert response.status_code == 400
    assert response.json is not None
    assert [each["keyword"] for each in response.json["errors"]] == ["additionalProperties"]
    assert ecwid.log == []


def test_a_new_contact_of_an_update(ecwid: HTTPServer, api: Api) -> None:
    """A contact without an id needs a contact and a type in an update."""
    response = api.post("/update_customer/7", {"contacts": [{"id": 5}, {"note": "x"}]})
    assert response.json is not None
    assert [(each["pointer"], each["keyword"]) for each in response.json["errors"]] == [
        ("/contacts/1/contact", "required"),
        ("/contacts/1/type", "required"),
    ]
    assert ecwid.log == []


# Each body that was refused in 1.0.0 although Ecwid accepts it.
LENIENT: list[Customer] = [
    {"billingPerson": {"stateOrProvinceName": "Kyiv"}},
    {"shippingAddresses": [{"id": 0, "stateOrProvinceName": "Kyiv", "orderBy": -1}]},
    {"shippingAddresses": [{"orderBy": True}]},
    {"contacts": [{"id": 5, "contact": "x", "type": "PIGEON", "orderBy": False}]},
    {"extrafields": [{"key": "k", "type": "radio_buttons", "value": 5}]},
    {"fiscalCode": "x", "electronicInvoicePecEmail": "x", "electronicInvoiceSdiCode": "x"},
    {"taxId": "x" * 1000, "privateAdminNotes": "x" * 100_000, "lang": "x" * 1000},
    {"billingPerson": {"street": "x" * 1000}},
]


@pytest.mark.parametrize("path", ["/add_customer", "/update_customer/7"])
@pytest.mark.parametrize("more", LENIENT, ids=lambda more: repr(more)[:60])
def test_bodies_that_ecwid_accepts(ecwid: HTTPServer, api: Api, path: str, more: Customer) -> None:
    """A body that Ecwid accepts is sent as it is."""
    ecwid.expect_request(f"{STORE}/customers").respond_with_json({"id": 7})
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json({"updateCount": 1})
    body = {"email": "a@example.com", **more}
    assert api.post(path, body).status_code == 200
    assert json.loads(ecwid.log[-1][0].data) == body
