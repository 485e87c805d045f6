"""Tests of the query parameters that the client sends to Ecwid."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from flask_ecwid import EcwidClient
from flask_ecwid.client import dates
from flask_ecwid.client.calls import build_call
from flask_ecwid.contract import load
from flask_ecwid.testing import EcwidSandbox

from ..conftest import STORE, Api, Config, app_of

PARAMETERS = load().document["components"]["parameters"]
SCHEMAS = load().document["components"]["schemas"]
DATES = ["createdFrom", "createdTo", "updatedFrom", "updatedTo"]
LISTS = ["customerGroupIds", "purchasedProductIds", "countryCodes"]
BOOLEANS = ["acceptMarketing", "taxExempt", "useExactEmailMatch", "checkOnlyCustomerId"]
PAGE: dict[str, Any] = {"total": 0, "count": 0, "offset": 0, "limit": 100, "items": []}
WEST = timezone(timedelta(hours=-5, minutes=-30))

# A date as a caller of the endpoints sends it, and as Ecwid gets it.
FORMS = {
    # Ecwid's own forms
    "1447804800": "1447804800",
    "0": "0",
    "2023-01-15": "2023-01-15",
    "2023-01-15 19:27:50": "2023-01-15 19:27:50",
    "2023-01-15 19:27:50 +0000": "2023-01-15 19:27:50 +0000",
    "2023-01-15 19:27:50 -1130": "2023-01-15 19:27:50 -1130",
    # ISO 8601, and what lies between the two
    "2023-01-15T19:27:50Z": "2023-01-15 19:27:50 +0000",
    "2023-01-15T19:27:50": "2023-01-15 19:27:50 +0000",
    "2023-01-15T19:27": "2023-01-15 19:27:00 +0000",
    "2023-01-15T19:27Z": "2023-01-15 19:27:00 +0000",
    "2023-01-15T19:27:50.999Z": "2023-01-15 19:27:50 +0000",
    "2023-01-15T19:27:50.123456789+00:00": "2023-01-15 19:27:50 +0000",
    "2023-01-15T19:27:50+04:00": "2023-01-15 15:27:50 +0000",
    "2023-01-15T19:27:50+0400": "2023-01-15 15:27:50 +0000",
    "2023-01-15T19:27:50+04": "2023-01-15 15:27:50 +0000",
    "2023-01-15T19:27:50-05:30": "2023-01-16 00:57:50 +0000",
    "2024-02-29T23:59:59-14:00": "2024-03-01 13:59:59 +0000",
    "2023-01-15 19:27:50Z": "2023-01-15 19:27:50 +0000",
    "2023-01-15 19:27:50+0000": "2023-01-15 19:27:50 +0000",
    "2023-01-15 19:27:50 +04:00": "2023-01-15 15:27:50 +0000",
    "2023-01-15 19:27": "2023-01-15 19:27:00 +0000",
    "1969-12-31T23:59:59.5Z": "1969-12-31 23:59:59 +0000",
}
# A date as a program in Python gives it, and as Ecwid gets it.
OBJECTS = {
    1447804800: "1447804800",
    date(2023, 1, 15): "2023-01-15",
    datetime(2023, 1, 15, 19, 27, 50): "2023-01-15 19:27:50 +0000",
    datetime(2023, 1, 15, 19, 27, 50, 999_999, timezone.utc): "2023-01-15 19:27:50 +0000",
    datetime(2023, 1, 15, 19, 27, 50, tzinfo=WEST): "2023-01-16 00:57:50 +0000",
    # Ecwid checks other values.
    "yesterday": "yesterday",
    "2023-02-30T00:00:00Z": "2023-02-30T00:00:00Z",
    "9999-12-31T23:59:59-01:00": "9999-12-31T23:59:59-01:00",
}


def sent(ecwid: HTTPServer, api: Api, **query: str) -> dict[str, str]:
    """Return the query that Ecwid gets for the query of a caller."""
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(PAGE)
    response = api.get("/customers", query_string=query)
    assert response.status_code == 200, response.json
    received = ecwid.log[-1][0].args
    return {name: received[name] for name in query}


def test_the_parameters_of_each_form() -> None:
    """The contract declares no other dates and no other lists with commas."""
    found: dict[str, list[str]] = {"Moment": [], "list": []}
    for name, node in PARAMETERS.items():
        schema = SCHEMAS.get(node["schema"].get("$ref", "").rpartition("/")[2], node["schema"])
        if node["schema"].get("$ref", "").endswith("/Moment"):
            found["Moment"].append(name)
        elif ", *" in schema.get("pattern", "") and not name.endswith("ResponseFields"):
            found["list"].append(name)
    assert sorted(found["Moment"]) == sorted(DATES)
    assert sorted(found["list"]) == sorted(LISTS)


@pytest.mark.parametrize("name", DATES)
@pytest.mark.parametrize("form", FORMS)
def test_dates(ecwid: HTTPServer, api: Api, name: str, form: str) -> None:
    """The endpoint accepts ISO 8601, and Ecwid gets a date in one of its own forms."""
    assert sent(ecwid, api, **{name: form}) == {name: FORMS[form]}
    assert build_call("list_customers", query={name: form}).query == ((name, FORMS[form]),)


@pytest.mark.parametrize("form", OBJECTS, ids=repr)
def test_dates_of_python(form: Any) -> None:
    """The client accepts numbers, dates and datetimes, and a naive datetime is in UTC."""
    call = build_call("list_customers", query={"createdFrom": form})
    assert call.query == (("createdFrom", OBJECTS[form]),)


@pytest.mark.parametrize("form", [*FORMS, *OBJECTS], ids=repr)
def test_one_reading_of_dates(form: Any) -> None:
    """A date has the same second before and after its conversion."""
    assert dates.to_seconds(form) == dates.to_seconds(dates.to_ecwids_form(form))


@pytest.mark.parametrize(
    "form",
    [
        *("2023-01-15T19:27:50Z", "2023-01-15T21:27:50+02:00", "2023-01-15 19:27:50"),
        *(1673810870, datetime(2023, 1, 15, 19, 27, 50, 7, timezone.utc)),
    ],
    ids=repr,
)
def test_bounds_of_bulk_work(
    ecwid_sandbox: EcwidSandbox, ecwid_client: EcwidClient, form: Any
) -> None:
    """`iter_customers` reads the same forms of a bound as `list_customers`."""
    for second in (49, 50, 51):
        registered = f"2023-01-15 19:27:{second} +0000"
        ecwid_sandbox.add_customer({"email": f"{second}@example.com", "registered": registered})
    found = [c["email"] for c in ecwid_client.iter_customers(createdFrom=form)]
    assert found == ["50@example.com", "51@example.com"]
    assert ecwid_client.list_customers(createdFrom=form)["total"] == 2
    up_to = [c["email"] for c in ecwid_client.iter_customers(createdTo=form)]
    assert up_to == ["49@example.com", "50@example.com"]


@pytest.mark.parametrize(
    ("name", "form", "value"),
    [
        ("customerGroupIds", "0, 1,  2", "0,1,2"),
        ("purchasedProductIds", "689454040, 5", "689454040,5"),
        ("countryCodes", "US, mx,  DE", "US,mx,DE"),
    ],
)
def test_blanks_in_lists(ecwid: HTTPServer, api: Api, name: str, form: str, value: str) -> None:
    """Blanks after the commas of a list are removed before the call."""
    assert sent(ecwid, api, **{name: form}) == {name: value}
    for given in (form, form.split(","), tuple(form.split(", "))):
        assert build_call("list_customers", query={name: given}).query == ((name, value),)


def test_blanks_elsewhere(ecwid: HTTPServer, api: Api) -> None:
    """A search term keeps its commas and blanks."""
    assert sent(ecwid, api, keyword="a,  b ", city=" c") == {"keyword": "a,  b ", "city": " c"}


@pytest.mark.parametrize(
    ("path", "form", "value"),
    [
        ("/customer/7", "email, name", "email,name,id"),
        (
            "/customer/7",
            "stats(numberOfOrders,  salesValue), id",
            "stats(numberOfOrders,salesValue),id",
        ),
        ("/customers", "total, items(id, name)", "total,items(id,name),count,offset,limit"),
    ],
)
def test_blanks_in_fields(ecwid: HTTPServer, api: Api, path: str, form: str, value: str) -> None:
    """Blanks after the commas of responseFields are removed before the call."""
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json({"id": 7})
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(PAGE)
    assert api.get(path, query_string={"responseFields": form}).status_code == 200
    assert ecwid.log[-1][0].args["responseFields"] == value


@pytest.mark.parametrize("name", BOOLEANS)
@pytest.mark.parametrize(
    ("form", "value"),
    [
        *(("true", "true"), ("True", "true"), ("1", "true")),
        *(("false", "false"), ("False", "false"), ("0", "false")),
    ],
)
def test_booleans(ecwid: HTTPServer, api: Api, name: str, form: str, value: str) -> None:
    """A boolean of a query may be written in three ways, and Ecwid gets true or false."""
    assert sent(ecwid, api, **{name: form}) == {name: value}


def test_equal_requests_share_a_cached_response(ecwid: HTTPServer, config: Config) -> None:
    """Requests that differ only in the form of a value share a cached response."""
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(PAGE)
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json({"id": 7})
    api = Api(app_of({**config, "ECWID_CACHE_TTL_S": 60}).test_client())
    equal: list[tuple[str, list[dict[str, str]]]] = [
        ("/customers", [{"taxExempt": form} for form in ("true", "1", "True")]),
        ("/customers", [{"countryCodes": form} for form in ("US,MX", "US, MX")]),
        (
            "/customers",
            [
                {"createdTo": "2023-01-15T19:27:50Z", "lang": "de"},
                {"lang": "de", "createdTo": "2023-01-15T20:27:50.5+01:00"},
            ],
        ),
        ("/customer/7", [{"responseFields": form} for form in ("email,id", "email, id", "email")]),
    ]
    for number, (path, queries) in enumerate(equal, start=1):
        responses = [api.get(path, query_string=query) for query in queries]
        assert {response.status_code for response in responses} == {200}
        assert len(ecwid.log) == number
    api.get("/customers", query_string={"countryCodes": "MX,US"})
    assert len(ecwid.log) == len(equal) + 1
