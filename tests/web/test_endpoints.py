"""Tests of the five endpoints against a server that speaks Ecwid's API."""

from __future__ import annotations

import re

import pytest
from pytest_httpserver import HTTPServer

from ..conftest import REQUEST_ID, STORE, TOKEN, Api, Config, app_of, payload

SEED_PAGE = payload("seed.customers")
SEED_CUSTOMER = payload("seed.customer")
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
HEADERS = {"X-Request-ID": REQUEST_ID}


def test_list_customers(ecwid: HTTPServer, api: Api) -> None:
    """A page is Ecwid's, whole, in an envelope with the request's id."""
    ecwid.expect_request(f"{STORE}/customers", method="GET").respond_with_json(SEED_PAGE)
    response = api.get("/customers", headers=HEADERS)
    assert response.status_code == 200
    assert response.content_type == "application/json"
    assert response.json == {
        "data": {"id": REQUEST_ID, "type": "ecwid", "attributes": SEED_PAGE},
    }


def test_get_customer(ecwid: HTTPServer, api: Api) -> None:
    """The envelope holds the customer's id as an integer. The other members are attributes."""
    ecwid.expect_request(f"{STORE}/customers/172890169", method="GET").respond_with_json(
        {"id": 172890169, **SEED_CUSTOMER}
    )
    response = api.get("/customer/172890169", headers=HEADERS)
    assert response.status_code == 200
    assert response.json == {
        "data": {"id": 172890169, "type": "ecwid", "attributes": SEED_CUSTOMER},
    }


def test_add_customer(ecwid: HTTPServer, api: Api) -> None:
    """The envelope of a creation holds the new id as a decimal string, without attributes."""
    body = payload("2019-03-18.create-customer.request")
    ecwid.expect_request(f"{STORE}/customers", method="POST", json=body).respond_with_json(
        {"id": 15319442}
    )
    response = api.post("/add_customer", body, headers=HEADERS)
    assert response.status_code == 200
    assert response.json == {"data": {"id": "15319442", "type": "ecwid", "attributes": {}}}


def test_update_customer(ecwid: HTTPServer, api: Api) -> None:
    """The response to an update holds the request's id and Ecwid's count."""
    changes = payload("2019-03-18.update-customer.request")
    ecwid.expect_request(f"{STORE}/customers/7", method="PUT", json=changes).respond_with_json(
        {"updateCount": 1}
    )
    response = api.post("/update_customer/7", changes, headers=HEADERS)
    assert response.status_code == 200
    assert response.json == {
        "data": {"id": REQUEST_ID, "type": "ecwid", "attributes": {"updateCount": 1}},
    }


def test_delete_customer(ecwid: HTTPServer, api: Api) -> None:
    """A deletion needs no body, and its response holds the request's id and Ecwid's count."""
    ecwid.expect_request(f"{STORE}/customers/7", method="DELETE", data=b"").respond_with_json(
        {"deleteCount": 1}
    )
    response = api.post("/delete_customer/7", headers=HEADERS)
    assert response.status_code == 200
    assert response.json == {
        "data": {"id": REQUEST_ID, "type": "ecwid", "attributes": {"deleteCount": 1}},
    }


@pytest.mark.parametrize("operation", ["update", "delete"])
def test_old_success_member(ecwid: HTTPServer, api: Api, operation: str) -> None:
    """The envelope leaves out the `success` that Ecwid sent until 2014."""
    reply = {"success": True, f"{operation}Count": 0}
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json(reply)
    response = api.post(f"/{operation}_customer/7", {} if operation == "update" else None)
    assert response.status_code == 200
    assert response.json is not None
    assert response.json["data"]["attributes"] == {f"{operation}Count": 0}


@pytest.mark.parametrize(
    "given",
    [None, "", "42", "not-a-uuid", REQUEST_ID.replace("-4901-", "-1901-"), "{" + REQUEST_ID],
)
def test_new_request_id(ecwid: HTTPServer, api: Api, given: str | None) -> None:
    """A request without a valid UUID v4 gets a new id in the header and in the envelope."""
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(SEED_PAGE)
    headers = {} if given is None else {"X-Request-ID": given}
    first = api.get("/customers", headers=headers)
    second = api.get("/customers", headers=headers)
    assert first.json is not None
    assert UUID4.fullmatch(first.headers["X-Request-ID"])
    assert first.json["data"]["id"] == first.headers["X-Request-ID"]
    assert first.headers["X-Request-ID"] != second.headers["X-Request-ID"]


def test_a_request_id_in_capitals(ecwid: HTTPServer, api: Api) -> None:
    """A request id in capitals is accepted, and the response has the id in small letters."""
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(SEED_PAGE)
    response = api.get("/customers", headers={"X-Request-ID": REQUEST_ID.upper()})
    assert (response.status_code, response.headers["X-Request-ID"]) == (200, REQUEST_ID)


def test_requests_in_one_app_context(ecwid: HTTPServer, config: Config) -> None:
    """Requests that share an app context do not share an id."""
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(SEED_PAGE)
    app = app_of(config)
    with app.app_context():
        responses = [Api(app.test_client()).get("/customers") for _ in range(2)]
    assert len({response.headers["X-Request-ID"] for response in responses}) == 2


def test_token_in_the_header(ecwid: HTTPServer, api: Api) -> None:
    """The token is sent as a bearer in the header, and never in the URL."""
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(SEED_PAGE)
    api.get("/customers?email=a@example.com")
    request = ecwid.log[0][0]
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in request.url


def test_limit_is_always_sent(ecwid: HTTPServer, api: Api) -> None:
    """The client always sends a limit, because Ecwid's documents disagree about the default."""
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(SEED_PAGE)
    api.get("/customers")
    api.get("/customers?limit=7&offset=14")
    queries = [dict(request.args) for request, _ in ecwid.log]
    assert queries == [{"limit": "100", "offset": "0"}, {"limit": "7", "offset": "14"}]


FILTERS = {
    "keyword": "Straße & Söhne",
    "name": "a+b=c%20",
    "email": "joe+tag@example.com",
    "useExactEmailMatch": "true",
    "phone": "+1 314",
    "city": "São Paulo",
    "postalCode": "63044",
    "stateOrProvinceCode": "MO",
    "countryCodes": "US,MX",
    "companyName": "Unreal",
    "acceptMarketing": "false",
    "lang": "pt_BR",
    "customerGroupIds": "0,1,2",
    "customerGroup": "0",
    "minOrderCount": "0",
    "maxOrderCount": "9007199254740991",
    "minSalesValue": "0.5",
    "maxSalesValue": "19.99",
    "purchasedProductIds": "689454040",
    "b2b_b2c": "b2b",
    "taxExempt": "true",
    "fiscalCode": "X",
    "electronicInvoicePecEmail": "pec@example.com",
    "electronicInvoiceSdiCode": "1",
    "createdFrom": "1447804800",
    "createdTo": "2023-01-15 19:27:50",
    "updatedFrom": "2023-01-15",
    "updatedTo": "2023-01-15 19:27:50 +0000",
    "usePrecalculatedOrderCount": "true",
    "checkOnlyCustomerId": "false",
    "sortBy": "LAST_ORDER_DATE_DESC",
    "offset": "200",
    "limit": "1",
    "responseFields": "total,count,offset,limit,items(id,email)",
}


def test_every_filter_reaches_ecwid(ecwid: HTTPServer, api: Api) -> None:
    """Every search parameter of Ecwid is passed on with its value unchanged."""
    ecwid.expect_request(f"{STORE}/customers").respond_with_json({"total": 0, "items": []})
    response = api.get("/customers", query_string=FILTERS)
    assert response.status_code == 200
    assert dict(ecwid.log[0][0].args) == FILTERS


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("total", "total,count,offset,limit,items(id)"),
        ("items", "items,total,count,offset,limit"),
        ("items(email)", "items(email,id),total,count,offset,limit"),
        (
            "items(name,billingPerson(city)),total",
            "items(name,billingPerson(city),id),total,count,offset,limit",
        ),
        ("items(id),items(name)", "items(id,name),total,count,offset,limit"),
        ("items(name),items", "items,total,count,offset,limit"),
        ("b2b_b2c", "b2b_b2c,total,count,offset,limit,items(id)"),
    ],
)
def test_fields_of_a_page(ecwid: HTTPServer, api: Api, asked: str, sent: str) -> None:
    """The client asks for the required members of a page together with the selected fields."""
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(SEED_PAGE)
    assert api.get("/customers", query_string={"responseFields": asked}).status_code == 200
    assert ecwid.log[0][0].args["responseFields"] == sent


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("email", "email,id"),
        ("id,email", "id,email"),
        ("email,stats(numberOfOrders)", "email,stats(numberOfOrders),id"),
    ],
)
def test_fields_of_a_customer(ecwid: HTTPServer, api: Api, asked: str, sent: str) -> None:
    """The client asks for the id together with the selected fields."""
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json({"id": 7, "email": ""})
    assert api.get("/customer/7", query_string={"responseFields": asked}).status_code == 200
    assert dict(ecwid.log[0][0].args) == {"responseFields": sent}


def test_a_page_with_selected_fields_only(ecwid: HTTPServer, api: Api) -> None:
    """The plugin adds count, offset and limit to a page that lacks the three."""
    page = payload("search-customers.response.responseFields")
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(page)
    response = api.get("/customers?limit=20&offset=40")
    assert response.json is not None
    assert response.json["data"]["attributes"] == {**page, "count": 2, "offset": 40, "limit": 20}


@pytest.mark.parametrize(
    "name",
    [
        "2015-12-08.search-customers.response",
        "2019-03-18.search-customers.response",
        "search-customers.response",
    ],
)
def test_documented_pages(ecwid: HTTPServer, api: Api, name: str) -> None:
    """Every page in Ecwid's documents of ten years passes unchanged."""
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(payload(name))
    response = api.get("/customers")
    assert response.status_code == 200
    assert response.json is not None
    assert response.json["data"]["attributes"] == payload(name)


@pytest.mark.parametrize(
    "name",
    [
        "2015-12-03.get-customer.response",
        "2019-03-18.get-customer.response",
        "get-customer.response",
        "get-customer.response.responseFields",
    ],
)
def test_documented_customers(ecwid: HTTPServer, api: Api, name: str) -> None:
    """Every customer in Ecwid's documents of ten years passes unchanged."""
    customer = payload(name)
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json(customer)
    response = api.get("/customer/7")
    assert response.status_code == 200
    assert response.json is not None
    assert {"id": response.json["data"]["id"], **response.json["data"]["attributes"]} == customer


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/add_customer", "2015-12-03.create-customer.request"),
        ("/add_customer", "2019-03-18.create-customer.request"),
        ("/update_customer/7", "2015-12-03.update-customer.request"),
        ("/update_customer/7", "2019-03-18.update-customer.request"),
    ],
)
def test_documented_bodies(ecwid: HTTPServer, api: Api, path: str, name: str) -> None:
    """Every body of Ecwid's documents reaches Ecwid unchanged, unless Ecwid would drop a part."""
    ecwid.expect_request(f"{STORE}/customers", json=payload(name)).respond_with_json({"id": 1})
    ecwid.expect_request(f"{STORE}/customers/7", json=payload(name)).respond_with_json(
        {"updateCount": 1}
    )
    assert api.post(path, payload(name)).status_code == 200


@pytest.mark.parametrize("status", [200, 201, 202, 203])
def test_any_success_of_ecwid(ecwid: HTTPServer, api: Api, status: int) -> None:
    """Any 2xx of Ecwid with a valid body becomes a 200."""
    ecwid.expect_request(f"{STORE}/customers").respond_with_json({"id": 1}, status=status)
    assert api.post("/add_customer", {"email": "a@example.com"}).status_code == 200


def test_head(ecwid: HTTPServer, api: Api) -> None:
    """HEAD is GET without a body."""
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(SEED_PAGE)
    response = api.open("HEAD", "/customers")
    assert response.status_code == 200
    assert response.data == b""
    assert int(response.headers["Content-Length"]) > 100


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/customers", 200),
        ("/customers?limit=0", 400),
        ("/customer/7", 502),
        ("/add_customer", 405),
        ("/nothing", 404),
        ("/openapi.json", 200),
        ("/ui/", 200),
    ],
)
def test_responses_are_private(ecwid: HTTPServer, api: Api, path: str, status: int) -> None:
    """Every response forbids caching, content sniffing and the Referer header."""
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(SEED_PAGE)
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_data("")
    response = api.get(path)
    assert response.status_code == status
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert "Access-Control-Allow-Origin" not in response.headers
