"""The search for customers by filters, in an order, page by page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from flask_ecwid.sandbox import TOKEN, create_sandbox

CUSTOMERS = "/api/v3/1003/customers"
SEED = ("customer@example.com", "demo.second@example.com", "example@example.com")
NAMELESS = "demo.fourth@example.com"
ADA, BOB, CYD = "Ada.Lovelace@example.com", "bob_1@example.com", "bobx1@example.com"
ADDED: list[dict[str, Any]] = [
    {
        "email": ADA,
        "billingPerson": {"name": "Ada Lovelace", "city": "London", "phone": "020 7946"},
        "shippingAddresses": [
            {
                "city": "São Paulo",
                "postalCode": "01310-100",
                "countryCode": "BR",
                "stateOrProvinceCode": "SP",
                "companyName": "100% Wolle_GmbH",
                "phone": "+55 11 5555",
            }
        ],
        "contacts": [{"contact": "+1 (314) 209", "type": "PHONE"}],
        "acceptMarketing": True,
        "lang": "pt_BR",
        "customerGroupId": 9367001,
        "b2b_b2c": "b2b",
        "taxExempt": True,
        "fiscalCode": "RSSMRA85",
        "electronicInvoicePecEmail": "Ada@pec.example.com",
        "electronicInvoiceSdiCode": "SDI0001",
    },
    {
        "email": BOB,
        "billingPerson": {"name": "Bob Großmann"},
        "shippingAddresses": [
            {"city": "New York", "postalCode": "10001", "countryCode": "US"},
            {"city": "Guadalajara", "countryCode": "MX", "stateOrProvinceCode": "JAL"},
        ],
        "contacts": [{"contact": "314-159", "type": "URL"}],
        "acceptMarketing": False,
        "lang": "en",
        "customerGroupId": 12345,
    },
    {"email": CYD},
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """Return a caller of a store with the seed and three customers with known members."""
    client = create_sandbox(tmp_path_factory.mktemp("store") / "store.sqlite3").test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {TOKEN}"
    for body in ADDED:
        assert client.post(CUSTOMERS, json=body).status_code == 200
    return client


def search(client: FlaskClient, **query: Any) -> dict[str, Any]:
    response = client.get(CUSTOMERS, query_string=query)
    assert response.status_code == 200, response.json
    page: dict[str, Any] = response.json  # type: ignore[assignment]
    return page


def emails(page: dict[str, Any]) -> list[str]:
    return [customer["email"] for customer in page["items"]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"keyword": "lovelace"}, {ADA}),
        ({"keyword": "EXAMPLE.COM"}, {*SEED, NAMELESS, ADA, BOB, CYD}),
        ({"keyword": "grossmann"}, {BOB}),
        ({"keyword": "london"}, set()),
        ({"name": "ada"}, {ADA}),
        ({"name": "GROSSMANN"}, {BOB}),
        ({"name": "actualización"}, set(SEED[:2])),
        ({"name": "ACTUALIZACIÓN"}, set(SEED[:2])),
        ({"name": "bobx1"}, set()),
        ({"name": "%"}, set()),
        ({"email": "ada.love"}, {ADA}),
        ({"email": "bob_1"}, {BOB}),
        ({"email": "bob%1"}, set()),
        ({"email": "BOB_1@EXAMPLE.COM", "useExactEmailMatch": "true"}, {BOB}),
        ({"email": "bob_1@example", "useExactEmailMatch": "true"}, set()),
        ({"email": "bob_1@example", "useExactEmailMatch": "false"}, {BOB}),
        ({"useExactEmailMatch": "true", "name": "ada"}, {ADA}),
        ({"phone": "11 5555"}, {ADA}),
        ({"phone": "(314)"}, {ADA}),
        ({"phone": "314"}, {ADA}),
        ({"phone": "7946"}, set()),
        ({"city": "são paulo"}, {ADA}),
        ({"city": "SÃO"}, {ADA}),
        ({"city": "guada"}, {BOB}),
        ({"city": "london"}, set()),
        ({"postalCode": "1000"}, {BOB}),
        ({"postalCode": "01310"}, {ADA}),
        ({"stateOrProvinceCode": "jal"}, {BOB}),
        ({"companyName": "100%"}, {ADA}),
        ({"companyName": "wolle_"}, {ADA}),
        ({"companyName": "wolleX"}, set()),
        ({"countryCodes": "MX"}, {BOB}),
        ({"countryCodes": "br,us"}, {ADA, BOB}),
        ({"countryCodes": "M"}, set()),
        ({"city": "new york", "stateOrProvinceCode": "JAL"}, {BOB}),
        ({"acceptMarketing": "true"}, {SEED[0], SEED[1], ADA}),
        ({"acceptMarketing": "false"}, {SEED[2], BOB}),
        ({"lang": "PT_br"}, {ADA}),
        ({"lang": "pt"}, set()),
        ({"customerGroupIds": "9367001,12345"}, {ADA, BOB}),
        ({"customerGroupIds": "0"}, {*SEED, NAMELESS, CYD}),
        ({"customerGroupIds": "1"}, set()),
        ({"customerGroup": "12345"}, {BOB}),
        ({"b2b_b2c": "b2b"}, {ADA}),
        ({"b2b_b2c": "b2c"}, {*SEED, NAMELESS, BOB, CYD}),
        ({"taxExempt": "yes"}, {ADA}),
        ({"taxExempt": "off"}, {*SEED, NAMELESS, BOB, CYD}),
        ({"fiscalCode": "rssmra"}, {ADA}),
        ({"electronicInvoicePecEmail": "ada@pec"}, {ADA}),
        ({"electronicInvoiceSdiCode": "sdi0001"}, {ADA}),
        ({"minOrderCount": "1"}, {SEED[0], SEED[2]}),
        ({"minOrderCount": "1", "maxOrderCount": "1"}, {SEED[2]}),
        ({"maxOrderCount": "0", "acceptMarketing": "1"}, {SEED[1], ADA}),
        ({"name": "ada", "city": "new york"}, set()),
        (
            dict.fromkeys(("keyword", "email", "phone", "city", "countryCodes", "lang"), ""),
            {*SEED, NAMELESS, ADA, BOB, CYD},
        ),
        ({"nonsense": "1", "keyword": "ada"}, {ADA}),
        ({"usePrecalculatedOrderCount": "on", "checkOnlyCustomerId": "no", "name": "ada"}, {ADA}),
    ],
)
def test_filters(store: FlaskClient, query: dict[str, str], found: set[str]) -> None:
    """Filters ignore case, have no wildcards, and match only customers that meet all of them."""
    page = search(store, **query)
    assert set(emails(page)) == found
    assert (page["total"], page["count"]) == (len(found), len(found))
    assert page["allCustomerCount"] == 7


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"createdFrom": "1636003706", "createdTo": "1636003706"}, {SEED[1]}),
        ({"createdFrom": "2021-11-04 05:28:26", "createdTo": "2021-11-04 05:28:26"}, {SEED[1]}),
        ({"createdFrom": "2021-11-04 05:28:21", "createdTo": "2022-01-01"}, {SEED[1]}),
        ({"createdTo": "2021-11-04 05:28:19"}, {SEED[0], SEED[2]}),
        ({"createdTo": "2021-11-04 05:28:20 +0000"}, {SEED[0], SEED[2], NAMELESS}),
        ({"createdTo": "2021-11-04 08:28:20 +0300"}, {SEED[0], SEED[2], NAMELESS}),
        ({"createdTo": "2021-11-04"}, {SEED[0], SEED[2]}),
        ({"createdTo": "2021-11-03"}, set()),
        ({"createdFrom": "2022-01-01"}, {ADA, BOB, CYD}),
        ({"updatedFrom": "2021-11-05", "updatedTo": "2021-11-06"}, {SEED[1]}),
        ({"updatedFrom": "1636153201", "updatedTo": "2021-11-06"}, {SEED[1]}),
        ({"updatedFrom": "1636153201", "updatedTo": "1636153201"}, {SEED[1]}),
        ({"updatedFrom": "1636153202", "updatedTo": "2021-11-06"}, set()),
        ({"updatedTo": "2021-11-05 23:00:00"}, {SEED[0], SEED[2], NAMELESS}),
    ],
)
def test_dates(store: FlaskClient, query: dict[str, str], found: set[str]) -> None:
    """Dates have four forms, default to UTC, and both bounds belong to the range."""
    assert set(emails(search(store, **query))) == found


def test_money_spent(crowd: FlaskClient) -> None:
    """Bounds on the money spent are decimal and inclusive."""
    spent = [
        customer["stats"]["salesValue"]
        for customer in everybody(crowd, minSalesValue="19.99", maxSalesValue="120.5")
    ]
    assert min(spent) == 19.99
    assert max(spent) == 120.5
    assert search(crowd, minSalesValue="20", maxSalesValue="39")["total"] == 0


def test_purchased_products(crowd: FlaskClient) -> None:
    """A filter by products finds customers who bought any of them."""
    one = {c["id"] for c in everybody(crowd, purchasedProductIds="689454040")}
    other = {c["id"] for c in everybody(crowd, purchasedProductIds="689454041")}
    both = everybody(crowd, purchasedProductIds="689454040,689454041")
    assert one
    assert other - one
    assert {customer["id"] for customer in both} == one | other
    assert all(customer["stats"]["numberOfOrders"] > 0 for customer in both)
    assert search(crowd, purchasedProductIds="1")["total"] == 0


WRONG = [
    *(
        (name, text)
        for name in ("limit", "offset", "minOrderCount", "maxOrderCount", "customerGroup")
        for text in (
            "",
            "abc",
            "1e2",
            "1_0",
            "1.5",
            "\u0661",
            "0x1",
            "9223372036854775808",
            "9" * 5000,
        )
    ),
    *((name, text) for name in ("minSalesValue", "maxSalesValue") for text in ("", "x", "nan")),
    *((name, text) for name in ("customerGroupIds", "purchasedProductIds") for text in ("", "1,x")),
    *(
        (name, text)
        for name in ("useExactEmailMatch", "acceptMarketing", "taxExempt", "checkOnlyCustomerId")
        for text in ("", "True", "2", "maybe")
    ),
    *(
        (name, text)
        for name in ("createdFrom", "createdTo", "updatedFrom", "updatedTo")
        for text in ("", "yesterday", "2021-13-01", "2021-11-04T05:28:26", "9" * 30)
    ),
    ("limit", "0"),
    ("limit", "-1"),
    ("offset", "-1"),
    ("b2b_b2c", "b2x"),
    ("b2b_b2c", ""),
    ("sortBy", ""),
    ("sortBy", "NAME"),
    ("sortBy", "name_asc"),
    ("sortBy", "NAME_ASC, id"),
    ("responseFields", ""),
]


@pytest.mark.parametrize(("name", "text"), WRONG)
def test_wrong_parameter(store: FlaskClient, name: str, text: str) -> None:
    """An invalid value is a 400 that names the parameter and not the value."""
    response = store.get(CUSTOMERS, query_string={name: text})
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["errorCode"] == "WRONG_PARAMETER"
    message = response.json["errorMessage"]
    assert f"parameter '{name}' value" in message
    assert len(text) < 3 or text not in message.replace("NAME_", "")


@pytest.mark.parametrize("text", ["true", "yes", "on", "1"])
def test_yes(store: FlaskClient, text: str) -> None:
    """The boolean true can be written in four ways."""
    assert emails(search(store, taxExempt=text)) == [ADA]


@pytest.mark.parametrize("text", ["false", "no", "off", "0"])
def test_no(store: FlaskClient, text: str) -> None:
    """The boolean false can be written in four ways."""
    assert search(store, taxExempt=text)["total"] == 6


@pytest.mark.parametrize(("given", "effective"), [(None, 100), ("7", 7), ("101", 100), ("+5", 5)])
def test_limit(crowd: FlaskClient, given: str | None, effective: int) -> None:
    """A page holds 100 customers or the number that the caller asks for, and states its limit."""
    page = search(crowd, **({} if given is None else {"limit": given}))
    assert (page["limit"], page["count"], len(page["items"])) == (effective,) * 3
    assert page["offset"] == 0
    assert (page["total"], page["allCustomerCount"]) == (1004, 1004)


def test_beyond_the_end(store: FlaskClient) -> None:
    """A page beyond the last customer is empty and still has the total."""
    page = search(store, offset=700)
    assert page == {
        "total": 7,
        "count": 0,
        "offset": 700,
        "limit": 100,
        "items": [],
        "allCustomerCount": 7,
    }


def test_order_of_members(store: FlaskClient) -> None:
    """The members of a page are in Ecwid's order."""
    names = ["total", "count", "offset", "limit", "items", "allCustomerCount"]
    assert list(search(store)) == names


SORTED_BY: dict[str, Callable[[dict[str, Any]], Any]] = {
    "NAME": lambda c: c.get("name", "").casefold(),
    "EMAIL": lambda c: c["email"].casefold(),
    "ORDER_COUNT": lambda c: c.get("stats", {}).get("numberOfOrders", c["totalOrderCount"]),
    "REGISTERED_DATE": lambda c: c["registered"],
    "UPDATED_DATE": lambda c: c["updated"],
    "SALES_VALUE": lambda c: c.get("stats", {}).get("salesValue", 0),
    "FIRST_ORDER_DATE": lambda c: c.get("stats", {}).get("firstOrderDate", ""),
    "LAST_ORDER_DATE": lambda c: c.get("stats", {}).get("lastOrderDate", ""),
}


@pytest.mark.parametrize("direction", ["ASC", "DESC"])
@pytest.mark.parametrize("kind", SORTED_BY)
def test_order(crowd: FlaskClient, kind: str, direction: str) -> None:
    """Every order sorts by its member and then by id, so pages neither overlap nor leave gaps."""
    customers = everybody(crowd, sortBy=f"{kind}_{direction}")
    key = SORTED_BY[kind]
    keys = [(key(customer), customer["id"]) for customer in customers]
    assert keys == sorted(keys, reverse=direction == "DESC")
    assert len({customer["id"] for customer in customers}) == 1004


def test_default_order(crowd: FlaskClient) -> None:
    """Customers are sorted by name unless the caller names another order."""
    assert everybody(crowd) == everybody(crowd, sortBy="NAME_ASC")


def test_paging_a_search(crowd: FlaskClient) -> None:
    """A filter applies to every page, and its total equals the sum of the pages."""
    customers = everybody(crowd, acceptMarketing="true")
    assert all(customer["acceptMarketing"] is True for customer in customers)
    assert len(customers) == search(crowd, acceptMarketing="true")["total"] > 100


def everybody(client: FlaskClient, **query: str) -> list[dict[str, Any]]:
    customers: list[dict[str, Any]] = []
    while items := search(client, offset=len(customers), **query)["items"]:
        customers += items
    return customers
