"""The selection of members by responseFields."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

CUSTOMERS = "/api/v3/1003/customers"
ONE = f"{CUSTOMERS}/172890169"
PERSON = {"city": "[DEMO] Actualización para desbloquear", "firstName": "[DEMO]"}


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ("id", {"id": 172890169}),
        ("email,id", {"id": 172890169, "email": "demo.second@example.com"}),
        ("billingPerson(city,firstName)", {"billingPerson": PERSON}),
        ("billingPerson(city),billingPerson(firstName)", {"billingPerson": PERSON}),
        ("id,stats(numberOfOrders)", {"id": 172890169}),
        ("id(x)", {"id": 172890169}),
        ("shippingAddresses(city)", {"shippingAddresses": []}),
        ("billingPerson(nothing)", {"billingPerson": {}}),
        ("nothing", {}),
        ("b2b_b2c,acceptMarketing", {"acceptMarketing": True}),
    ],
)
def test_fields_of_a_customer(store: FlaskClient, fields: str, left: dict[str, Any]) -> None:
    """A reply with one customer has only the selected members, and unknown names are ignored."""
    assert store.get(ONE, query_string={"responseFields": fields}).json == left


@pytest.mark.parametrize(
    "fields",
    ["billingPerson", "billingPerson(city),billingPerson", "billingPerson,billingPerson(city)"],
)
def test_whole_member(store: FlaskClient, fields: str) -> None:
    """A member that is named without a list is complete, even if another mention has a list."""
    whole = store.get(ONE).json
    assert whole is not None
    selected = store.get(ONE, query_string={"responseFields": fields}).json
    assert selected == {"billingPerson": whole["billingPerson"]}
    assert len(whole["billingPerson"]) == 5


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ("total", {"total": 4}),
        ("count,limit,allCustomerCount", {"count": 2, "limit": 2, "allCustomerCount": 4}),
        ("items(id),total", {"total": 4, "items": [{"id": 172889711}, {"id": 172867214}]}),
        (
            "items(billingPerson(countryCode))",
            {"items": [{"billingPerson": {"countryCode": "MX"}}, {"billingPerson": {}}]},
        ),
    ],
)
def test_fields_of_a_page(store: FlaskClient, fields: str, left: dict[str, Any]) -> None:
    """A page has only the selected members of its own and of its customers."""
    query = {"limit": "2", "responseFields": fields}
    assert store.get(CUSTOMERS, query_string=query).json == left


def test_fields_inside_a_list(crowd: FlaskClient) -> None:
    """A selection inside a list applies to each element."""
    query = {"city": "Milano", "responseFields": "items(shippingAddresses(city))", "limit": "5"}
    page = crowd.get(CUSTOMERS, query_string=query).json
    assert page is not None
    assert len(page["items"]) == 5
    for customer in page["items"]:
        assert "Milano" in [address.pop("city") for address in customer["shippingAddresses"]]
        assert not any(customer["shippingAddresses"])


@pytest.mark.parametrize("path", [CUSTOMERS, ONE])
@pytest.mark.parametrize(
    "fields",
    [
        "",
        ",",
        "id,",
        ",id",
        "id,,name",
        "id, name",
        "items(",
        "items()",
        "items(id",
        "items(id,)",
        "items)",
        "items(id))",
        "items(id)name",
        "items(id)(name)",
        "items[id]",
        "items.id",
        "id\n",
        "(" * 5000,
        "a(" * 5000,
    ],
)
def test_malformed(store: FlaskClient, path: str, fields: str) -> None:
    """A selection with invalid syntax is a 400."""
    response = store.get(path, query_string={"responseFields": fields})
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["errorCode"] == "WRONG_PARAMETER"


def test_deep_selection(store: FlaskClient) -> None:
    """A selection may be deeper than any customer."""
    fields = "a(" * 50 + "b" + ")" * 50 + ",id"
    assert store.get(ONE, query_string={"responseFields": fields}).json == {"id": 172890169}
    endless = "a(" * 5000 + "b" + ")" * 5000
    assert store.get(ONE, query_string={"responseFields": endless}).status_code == 400
