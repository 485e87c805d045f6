"""Creating a customer."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from flask.testing import FlaskClient

CUSTOMERS = "/api/v3/1003/customers"
EMAIL = "new@example.com"
MALFORMED = [b"", b"{", b"\xff", b"\xef\xbb\xbf{}", b'{"email": "\\ud800"}', b'{"a": NaN}']


def created(store: FlaskClient, body: dict[str, Any]) -> dict[str, Any]:
    response = store.post(CUSTOMERS, json=body)
    assert response.status_code == 200, response.json
    assert response.json is not None
    assert list(response.json) == ["id"]
    path = f"{CUSTOMERS}/{response.json['id']}"
    customer: dict[str, Any] | None = store.get(path).json
    assert customer is not None
    return customer


def refused(store: FlaskClient, body: Any) -> str:
    """Return the message of a 400."""
    response = store.post(CUSTOMERS, json=body)
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["errorCode"] == "WRONG_PARAMETER"
    assert response.headers["Cache-Control"] == "must-revalidate,no-cache,no-store"
    assert store.get(CUSTOMERS).json["total"] == 4  # type: ignore[index]
    return str(response.json["errorMessage"])


def test_only_an_email(store: FlaskClient) -> None:
    """A customer needs only an e-mail, and gets the members that Ecwid gives a new customer."""
    customer = created(store, {"email": EMAIL})
    now = customer["registered"]
    [contact] = customer["contacts"]
    assert list(customer.items()) == [
        ("id", 188278629),
        ("email", EMAIL),
        ("registered", now),
        ("updated", now),
        ("customerGroupId", 0),
        ("customerGroupName", "General"),
        ("shippingAddresses", []),
        ("contacts", [contact]),
        ("taxExempt", False),
        ("taxId", ""),
        ("taxIdValid", True),
        ("b2b_b2c", "b2c"),
        ("fiscalCode", ""),
        ("electronicInvoicePecEmail", ""),
        ("electronicInvoiceSdiCode", ""),
        ("stats", {"numberOfOrders": 0, "salesValue": 0, "averageOrderValue": 0}),
        ("privateAdminNotes", ""),
        ("favorites", []),
    ]
    assert contact == {
        "id": contact["id"],
        "contact": EMAIL,
        "type": "EMAIL",
        "default": True,
        "orderBy": 0,
        "timestamp": now,
    }
    assert contact["id"] > 0


def test_registered_now(store: FlaskClient) -> None:
    """A new customer is registered at the current time, in Ecwid's format of dates."""
    registered = created(store, {"email": EMAIL})["registered"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000", registered)
    age = datetime.now(timezone.utc) - datetime.strptime(registered, "%Y-%m-%d %H:%M:%S %z")
    assert timedelta(0) <= age < timedelta(seconds=10)


def test_on_a_page(store: FlaskClient) -> None:
    """A page shows a new customer with the same members and the number of orders."""
    customer = created(store, {"email": EMAIL, "billingPerson": {"name": "Support team"}})
    page = store.get(CUSTOMERS, query_string={"email": EMAIL}).json
    assert page is not None
    assert page["items"] == [{**customer, "totalOrderCount": 0}]


def test_name(store: FlaskClient) -> None:
    """A customer's name comes from billingPerson, and `name` and `customerGroupName` are
    ignored."""
    body = {
        "name": "Example customer",
        "email": EMAIL,
        "customerGroupId": 0,
        "customerGroupName": "Wholesale",
        "billingPerson": {"name": "Support team"},
        "taxExempt": False,
    }
    customer = created(store, body)
    assert customer["name"] == "Support team"
    assert customer["customerGroupName"] == "General"
    assert "name" not in created(store, {"email": "b@example.com", "name": "Example customer"})


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Support team", {"firstName": "Support", "lastName": "team"}),
        ("Ana María  Pérez Gil", {"firstName": "Ana", "lastName": "Gil"}),
        ("Prince", {}),
    ],
)
def test_first_and_last_name(store: FlaskClient, name: str, parts: dict[str, str]) -> None:
    """A name of two words or more gets a first and a last name, which no caller can write."""
    person = {"name": name, "firstName": "X", "lastName": "Y"}
    customer = created(store, {"email": EMAIL, "billingPerson": person})
    assert customer["billingPerson"] == {"name": name, **parts}


def test_address(store: FlaskClient) -> None:
    """The store gives an address its id, its date and the names of country and state."""
    home = {
        "name": "John Smith",
        "companyName": "",
        "street": "W 3d st",
        "city": "New York",
        "countryCode": "US",
        "countryName": "Elsewhere",
        "postalCode": "10001",
        "stateOrProvinceCode": "NY",
        "phone": "11111111111",
    }
    away = {"id": 1, "city": "Atlantis", "countryCode": "ZZ", "defaultAddress": True, "orderBy": 1}
    body = {"email": EMAIL, "billingPerson": home, "shippingAddresses": [home, away]}
    customer = created(store, body)
    first, second = customer["shippingAddresses"]
    named = {**home, "countryName": "United States", "stateOrProvinceName": "New York"}
    now = customer["registered"]
    assert first == {"id": first["id"], **named, "createdDate": now}
    assert second == {**away, "id": second["id"], "createdDate": now}
    assert 1 < first["id"] < second["id"]
    del named["companyName"]  # billingPerson leaves an empty text out
    assert customer["billingPerson"] == {**named, "firstName": "John", "lastName": "Smith"}


def test_contacts(store: FlaskClient) -> None:
    """Each type of contact has one default, and the contacts contain the customer's e-mail."""
    contacts = [
        {"contact": "1", "type": "PHONE", "note": "work"},
        {"contact": "2", "type": "PHONE", "default": True, "id": 7},
        {"contact": "3", "type": "PHONE", "default": True, "orderBy": 9},
        {"contact": "@x", "type": "TELEGRAM", "handle": "x", "default": False},
        {"contact": "other@example.com", "type": "EMAIL", "default": True},
    ]
    customer = created(store, {"email": EMAIL, "contacts": contacts})
    shown = [(c["contact"], c["default"], c["orderBy"]) for c in customer["contacts"]]
    assert shown == [
        ("1", False, 0),
        ("2", True, 1),
        ("3", False, 9),
        ("@x", True, 3),
        ("other@example.com", True, 4),
        (EMAIL, False, 5),
    ]
    ids = [contact["id"] for contact in customer["contacts"]]
    assert len(set(ids)) == 6
    assert min(ids) > 7
    assert customer["contacts"][0]["note"] == "work"
    assert customer["contacts"][3]["handle"] == "x"


def test_email_already_among_the_contacts(store: FlaskClient) -> None:
    """The store does not add an e-mail that is already among the contacts."""
    contacts = [{"contact": EMAIL, "type": "EMAIL"}]
    assert len(created(store, {"email": EMAIL, "contacts": contacts})["contacts"]) == 1


@pytest.mark.parametrize(
    ("group_id", "named"),
    [
        (0, {"customerGroupName": "General"}),
        (9367001, {"customerGroupName": "VIP"}),
        (2595001, {"customerGroupName": "Platinum 228"}),
        (12345, {"customerGroupName": "Extra Gold"}),
        (4711, {}),
    ],
)
def test_group(store: FlaskClient, group_id: int, named: dict[str, str]) -> None:
    """A known group has a name beside its id, and an unknown group has only its id."""
    customer = created(store, {"email": EMAIL, "customerGroupId": group_id})
    assert customer["customerGroupId"] == group_id
    assert {k: v for k, v in customer.items() if k == "customerGroupName"} == named


@pytest.mark.parametrize(("given", "shown"), [(-1, -1), (7, 7), (True, 1), (False, 0), ("x", "x")])
@pytest.mark.parametrize("place", ["contacts", "shippingAddresses"])
def test_sorting_numbers(store: FlaskClient, place: str, given: Any, shown: Any) -> None:
    """The store accepts any value of orderBy, and shows a number for a boolean."""
    item = {"contact": "1", "type": "PHONE", "orderBy": given}
    first = created(store, {"email": EMAIL, place: [item]})[place][0]
    assert first["orderBy"] == shown
    assert type(first["orderBy"]) is type(shown)


def test_an_unknown_type_of_contact(store: FlaskClient) -> None:
    """The store accepts a type of contact that no document lists."""
    contacts = [{"contact": "1", "type": "pigeon"}]
    assert created(store, {"email": EMAIL, "contacts": contacts})["contacts"][0]["type"] == "pigeon"


@pytest.mark.parametrize("value", ["v", 5, 0.5, True, ["a"], {"a": 1}])
def test_extra_fields(store: FlaskClient, value: Any) -> None:
    """An extra field keeps any value, shows its type in capitals, and ignores its order."""
    field = {"key": "k", "value": value, "type": "toggle_button_group", "orderBy": 9}
    customer = created(store, {"email": EMAIL, "extrafields": [field]})
    assert customer["extrafields"] == [{"key": "k", "value": value, "type": "TOGGLE_BUTTON_GROUP"}]


def test_name_of_a_state(store: FlaskClient) -> None:
    """The store ignores the name of a state, and derives the name from the code."""
    person = {"stateOrProvinceName": "Elsewhere", "city": "Kyiv"}
    assert created(store, {"email": EMAIL, "billingPerson": person})["billingPerson"] == {
        "city": "Kyiv"
    }


WRITTEN = {
    "taxExempt": True,
    "taxId": "GB999 9999 73",
    "taxIdValid": False,
    "b2b_b2c": "b2b",
    "fiscalCode": "RSSMRA",
    "electronicInvoicePecEmail": "a@pec.example.com",
    "electronicInvoiceSdiCode": "0000000",
    "acceptMarketing": False,
    "lang": "pt_BR",
    "privateAdminNotes": "<b>Straße</b>\n'; DROP TABLE customers --",
    "extrafields": [{"key": "6r0fUGw", "title": "T", "value": "v", "type": "TEXT"}],
}


@pytest.mark.parametrize("member", WRITTEN)
def test_written_members(store: FlaskClient, member: str) -> None:
    """A member that a caller may write comes back unchanged."""
    customer = created(store, {"email": EMAIL, member: WRITTEN[member]})
    assert customer[member] == WRITTEN[member]


READ_ONLY = {
    "id": 1,
    "registered": "2001-01-01 00:00:00 +0000",
    "updated": "2001-01-01 00:00:00 +0000",
    "totalOrderCount": 9,
    "stats": {"numberOfOrders": 9},
    "favorites": [{"productId": 1}],
    "externalReferenceId": "x",
    "password": "ecwidiscool",
    "primaryPhone": "+1 314",
    "__proto__": {},
    "nested": [[[[[[]]]]]],
}


@pytest.mark.parametrize("member", READ_ONLY)
def test_dropped_members(store: FlaskClient, member: str) -> None:
    """The store accepts unknown, read-only and secret members, and never returns them."""
    customer = created(store, {"email": EMAIL, member: READ_ONLY[member]})
    assert customer.get(member) != READ_ONLY[member]


def test_null_is_not_given(store: FlaskClient) -> None:
    """A null counts as a missing member, at every depth."""
    body = {"lang": None, "taxId": None, "billingPerson": {"name": None, "city": "Bucket"}}
    customer = created(store, {"email": EMAIL, **body})
    assert "lang" not in customer
    assert customer["taxId"] == ""
    assert customer["billingPerson"] == {"city": "Bucket"}


@pytest.mark.parametrize("body", [{}, {"email": None}, {"email": ""}, {"billingPerson": {}}])
def test_without_an_email(store: FlaskClient, body: dict[str, Any]) -> None:
    """A creation without an e-mail is refused."""
    assert "Customer.email" in refused(store, body)


@pytest.mark.parametrize("body", [None, [], "text", 1, True, [{"email": EMAIL}]])
def test_no_object(store: FlaskClient, body: Any) -> None:
    """A JSON body that is not an object is a 400."""
    assert refused(store, body).startswith("Wrong JSON format: ")


@pytest.mark.parametrize("data", [*MALFORMED, b'{"a":' * 3000])
def test_no_json(store: FlaskClient, data: bytes) -> None:
    """A body that is not JSON is a 400."""
    response = store.post(CUSTOMERS, data=data, content_type="application/json")
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["errorMessage"].startswith("Wrong JSON format: ")


PERSON_TEXT = "canary-in-the-body"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"email": 1}, "Customer.email"),
        ({"email": [PERSON_TEXT]}, "Customer.email"),
        ({"customerGroupId": PERSON_TEXT}, "Customer.customerGroupId"),
        ({"customerGroupId": True}, "Customer.customerGroupId"),
        ({"customerGroupId": 1.0}, "Customer.customerGroupId"),
        ({"customerGroupId": -1}, "Customer.customerGroupId"),
        ({"customerGroupId": 2**63}, "Customer.customerGroupId"),
        ({"customerGroupId": 2**70}, "Customer.customerGroupId"),
        ({"taxExempt": "true"}, "Customer.taxExempt"),
        ({"acceptMarketing": 1}, "Customer.acceptMarketing"),
        ({"lang": {}}, "Customer.lang"),
        ({"password": 1}, "Customer.password"),
        ({"b2b_b2c": PERSON_TEXT}, "Customer.b2b_b2c"),
        ({"b2b_b2c": {}}, "Customer.b2b_b2c"),
        ({"billingPerson": PERSON_TEXT}, "Customer.billingPerson"),
        ({"billingPerson": {"name": [PERSON_TEXT]}}, "Customer.billingPerson.name"),
        ({"shippingAddresses": {}}, "Customer.shippingAddresses"),
        ({"shippingAddresses": [None]}, "Customer.shippingAddresses"),
        ({"shippingAddresses": [{"city": 1}]}, "Customer.shippingAddresses.city"),
        ({"shippingAddresses": [{"id": "1"}]}, "Customer.shippingAddresses.id"),
        ({"contacts": [{"contact": PERSON_TEXT}]}, "Contact.type"),
        ({"contacts": [{"type": "PHONE"}]}, "Contact.contact"),
        ({"contacts": [{"contact": "", "type": "PHONE"}]}, "Contact.contact"),
        ({"contacts": [{"contact": "1", "type": 1}]}, "Customer.contacts.type"),
        ({"contacts": [{"contact": "1", "type": "PHONE", "id": "1"}]}, "Customer.contacts.id"),
    ],
)
def test_wrong_type(store: FlaskClient, wrong: dict[str, Any], field: str) -> None:
    """A member of a wrong type is a 400 that names the member without its value."""
    message = refused(store, {"email": EMAIL, **wrong})
    assert field in message
    assert PERSON_TEXT not in message


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        (None, 200),
        ("application/json", 200),
        ("application/json;charset=utf-8", 200),
        ("Application/JSON; charset=UTF-8", 200),
        ("text/json", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/vnd.api+json", 415),
    ],
)
def test_content_type(store: FlaskClient, content_type: str | None, status: int) -> None:
    """A body must be JSON or have no media type, and is otherwise a 415."""
    data = b'{"email": "new@example.com"}'
    response = store.post(CUSTOMERS, data=data, content_type=content_type)
    assert response.status_code == status
    if status == 415:
        assert response.json == {
            "errorMessage": "Unsupported content-type: expected either application/json or"
            " text/json"
        }


@pytest.mark.parametrize("email", ["new@example.com", "NEW@Example.com"])
def test_email_taken(store: FlaskClient, email: str) -> None:
    """A creation with an e-mail that a customer already has is a 409, in upper or lower case."""
    created(store, {"email": EMAIL})
    response = store.post(CUSTOMERS, json={"email": email})
    assert response.status_code == 409
    assert response.json == {"errorMessage": "Customer with the given email already exists"}
    assert response.headers["Cache-Control"] == "must-revalidate,no-cache,no-store"
    assert store.get(CUSTOMERS).json["total"] == 5  # type: ignore[index]


def test_ids_are_never_given_again(store: FlaskClient) -> None:
    """Ids increase, even after the newest customer is deleted."""
    first = created(store, {"email": "a@example.com"})["id"]
    second = created(store, {"email": "b@example.com"})["id"]
    assert store.delete(f"{CUSTOMERS}/{second}").status_code == 200
    third = created(store, {"email": "b@example.com"})["id"]
    assert first < second < third
