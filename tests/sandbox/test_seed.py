"""The customers of a new store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from flask_ecwid.sandbox import TOKEN, create_sandbox

CUSTOMERS = "/api/v3/1003/customers"
DEMO = "[DEMO] Actualización para desbloquear"
GENERAL = {"customerGroupId": 0, "customerGroupName": "General"}
# The page of the original description, with other e-mails.
PAGE: list[dict[str, Any]] = [
    {
        "id": 172867214,
        "name": DEMO,
        "email": "customer@example.com",
        "registered": "2021-11-03 19:53:12 +0000",
        "updated": "2021-11-03 19:53:12 +0000",
        "totalOrderCount": 2,
        **GENERAL,
        "billingPerson": {"name": DEMO, "firstName": "[DEMO]", "lastName": "desbloquear"},
        "shippingAddresses": [],
        "acceptMarketing": True,
    },
    {
        "id": 172781539,
        "name": "Eugene K",
        "email": "example@example.com",
        "registered": "2021-11-03 22:22:45 +0000",
        "updated": "2021-11-03 22:22:45 +0000",
        "totalOrderCount": 1,
        **GENERAL,
        "billingPerson": {"name": "Eugene K", "firstName": "Eugene", "lastName": "K"},
        "shippingAddresses": [],
        "acceptMarketing": False,
    },
    {
        "id": 172889711,
        "email": "demo.fourth@example.com",
        "registered": "2021-11-04 05:28:20 +0000",
        "updated": "2021-11-04 05:28:20 +0000",
        "totalOrderCount": 0,
        **GENERAL,
        "billingPerson": {"countryCode": "MX", "countryName": "Mexico"},
        "shippingAddresses": [],
    },
    {
        "id": 172890169,
        "name": DEMO,
        "email": "demo.second@example.com",
        "registered": "2021-11-04 05:28:26 +0000",
        "updated": "2021-11-05 23:00:01 +0000",
        "totalOrderCount": 0,
        **GENERAL,
        "billingPerson": {
            "name": DEMO,
            "firstName": "[DEMO]",
            "lastName": "desbloquear",
            "street": DEMO,
            "city": DEMO,
        },
        "shippingAddresses": [],
        "acceptMarketing": True,
    },
]


def items(client: FlaskClient, **query: str) -> list[dict[str, Any]]:
    page = client.get(CUSTOMERS, query_string={"sortBy": "REGISTERED_DATE_ASC", **query}).json
    assert page is not None
    return list(page["items"])


def test_seed(store: FlaskClient) -> None:
    """A new store has exactly the four customers of the original description."""
    assert [list(c.items()) for c in items(store)] == [list(c.items()) for c in PAGE]


def test_one_of_the_seed(store: FlaskClient) -> None:
    """A single customer has no member for the number of orders."""
    customer = {k: v for k, v in PAGE[3].items() if k != "totalOrderCount"}
    assert store.get(f"{CUSTOMERS}/172890169").json == customer


def test_generated_anew(crowd: FlaskClient, tmp_path: Path) -> None:
    """The same number of generated customers gives the same customers every time."""
    again = create_sandbox(tmp_path / "store.sqlite3", customers=1000).test_client()
    again.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {TOKEN}"
    for offset in ("0", "500", "950"):
        assert items(again, offset=offset) == items(crowd, offset=offset)


def test_generated_customers(crowd: FlaskClient) -> None:
    """Generated customers are as varied as Ecwid's, and none has a real address."""
    customers = [c for page in range(11) for c in items(crowd, offset=str(page * 100))][4:]
    guests = [c for c in customers if "billingPerson" not in c]
    asked = [c["acceptMarketing"] for c in customers if "acceptMarketing" in c]
    buyers = [c for c in customers if c["stats"]["numberOfOrders"]]
    assert len(customers) == 1000
    assert len({c["email"] for c in customers}) == 1000
    assert all(c["email"].endswith("@example.com") for c in customers)
    assert 100 < len(guests) < 300
    assert all(guest["name"] and "shippingAddresses" not in guest for guest in guests)
    assert {True, False} == set(asked)
    assert len(asked) < 900
    assert {c["b2b_b2c"] for c in customers} == {"b2b", "b2c"}
    assert len({c.get("lang") for c in customers}) > 4
    assert len({c["customerGroupId"] for c in customers}) == 5
    assert {len(c.get("shippingAddresses", [])) for c in customers} == {0, 1, 2}
    assert all("lastOrderDate" in c["stats"] for c in buyers)
    assert len({c["registered"][:4] for c in customers}) > 3
    assert max(len(c) for c in customers) >= 23
    ids = [c["id"] for c in customers]
    assert ids == sorted(ids)
    assert ids[0] == 188278629


def test_whole_money(crowd: FlaskClient) -> None:
    """Whole amounts have no decimal point."""
    raw = crowd.get(CUSTOMERS, query_string={"minSalesValue": "97", "maxSalesValue": "97"}).data
    assert b'"salesValue":97,' in raw
    assert b"97.0" not in raw
