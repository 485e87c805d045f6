"""Tests that compare the plugin with connexion's own chain, row by row."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, NamedTuple

import flask
import pytest
from pytest_httpserver import HTTPServer

from flask_ecwid import contract
from flask_ecwid.client.page_reader import PAGE_SIZE
from flask_ecwid.web import handlers, openapi
from flask_ecwid.web.connexion_api import _deprecations_of_connexion

from ..conftest import PREFIX, REQUEST_ID, app_of, config_of
from ..helpers.corpus import CORPUS, envelope
from ..helpers.corpus import page as page_of

with _deprecations_of_connexion():
    from connexion import FlaskApi, FlaskApp, ProblemException, Resolver

DOCUMENT = contract.load().document
PATHS = {
    node["operationId"]: (method, path)
    for path, item in DOCUMENT["paths"].items()
    for method, node in item.items()
}
RESPONSES = {
    "list_customers": page_of(),
    "get_customer": envelope(5, {}),
    "add_customer": envelope("5", {}),
    "update_customer": envelope(REQUEST_ID, {"updateCount": 1}),
    "delete_customer": envelope(REQUEST_ID, {"deleteCount": 1}),
}
JSON = "application/json"


class Row(NamedTuple):
    """A request, whose `rest` follows the operation's fixed path."""

    operation: str
    rest: str
    body: bytes = b"{}"
    content_type: str | None = JSON


def page(query: str) -> Row:
    return Row("list_customers", f"?{query}", b"", None)


def add(body: bytes, content_type: str | None = JSON) -> Row:
    return Row("add_customer", "", body, content_type)


def ids(*values: str) -> dict[str, Row]:
    operations = ("get_customer", "update_customer", "delete_customer")
    return {f"{each} {value}": Row(each, value) for each in operations for value in values}


def bodies(fits: bool) -> dict[str, Row]:
    """Return the rows of tests/helpers/corpus.py."""
    rests = {"add_customer": "", "update_customer": "5"}
    return {
        f"{name} {number}: {about}": Row(name, rests[name], json.dumps(body).encode())
        for number, (name, side, good, body, about) in enumerate(CORPUS)
        if side == "body" and good is fits
    }


GOOD = b'{"email": "a@example.com"}'
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="email"\r\n\r\na@example.com\r\n--x--\r\n'
LINE = rb'{"billingPerson": {"countryCode": "US\n"}}'
TWICE = b'{"email": 5, "email": "a@example.com"}'
SURROGATE = rb'{"name": "\ud800"}'
FILTERS = (
    "keyword=a&name=b&email=a%40example.com&useExactEmailMatch=true&phone=%2B1&city=C&postalCode=1"
    "&stateOrProvinceCode=CA&countryCodes=US,MX&companyName=d&acceptMarketing=false&lang=en"
    "&customerGroupIds=0,1,2&customerGroup=0&minOrderCount=1&maxOrderCount=2&minSalesValue=0.5"
    "&maxSalesValue=10&purchasedProductIds=689454040&b2b_b2c=b2b&taxExempt=true&fiscalCode=e"
    "&electronicInvoicePecEmail=f&electronicInvoiceSdiCode=g&createdFrom=1447804800"
    "&createdTo=2023-01-15&updatedFrom=2023-01-15%2019:27:50&updatedTo=2023-01-15+19:27:50+%2B0000"
    "&usePrecalculatedOrderCount=true&checkOnlyCustomerId=false&sortBy=NAME_ASC&offset=5&limit=7"
    "&responseFields=total,items(name,billingPerson(city,street),email)"
)
MALFORMED = (
    b"",
    b" ",
    b"{",
    GOOD + b"x",
    b"{'email': 1}",
    b'{"email": "\xff@b"}',
    b'{"a": "\x01"}',
)
GOOD_QUERIES = """
    limit=1 limit=100 offset=0 offset=-0 offset=9007199254740991 l%69mit=5 &&limit=5&
    minSalesValue=0 minSalesValue=1.5e3 minSalesValue=1E-7 minSalesValue=-0.0 minSalesValue=1e-400
    maxSalesValue=1000000000000 maxSalesValue=0.1234567890123456789
    keyword= keyword keyword=a+b keyword=a%2Bb keyword=+a+ keyword=%C3%BC%E6%97%A5%F0%9F%98%80
    keyword=100%25%zz% keyword=a%26b%3Dc%23d=e keyword=%01%09%7F keyword=a;limit=5
    keyword=null&name=true&city=5&phone=[1] countryCodes=us%2Cmx
    createdFrom=2023-01-15%2019:27:50%20-1130 createdFrom=2023-01-15T19:27:50Z
    createdTo=2023-01-15T19:27%2B0400 updatedFrom=2023-01-15T19:27:50.123456-02:30
    taxExempt=True taxExempt=False customerGroupIds=1,+2 responseFields=total,+items(name,+email)
"""
BAD_QUERIES = """
    limit=0 limit=-1 limit=101 limit= limit=abc limit=1e2 limit=5.0 limit=0x5 limit=null limit=5,6
    offset=-1 offset=9007199254740992 minOrderCount=-1 minSalesValue=-0.01 minSalesValue=Infinity
    minSalesValue=1000000000000.01 minSalesValue=1e999 minSalesValue=ten minSalesValue=1,5
    minSalesValue= taxExempt=2 taxExempt=yes taxExempt= taxExempt=true+ sortBy=NAME sortBy=name_asc
    b2b_b2c= customerGroupIds=1,,2 customerGroupIds=1+,2 customerGroupIds= customerGroupIds=%D9%A1
    countryCodes=USA createdFrom=2023-13-01 createdFrom=2023-01-15T25:27:50Z createdFrom=x2023-01-15
    responseFields=items( responseFields=a(b(c(d))) responseFields= zz=1 Limit=5 limit[]=5 =5
    X-Request-ID=5 body=1 request_id=5
"""

ACCEPTED: dict[str, Row] = {
    "all filters": page(FILTERS),
    **{query: page(query) for query in FILTERS.split("&") + GOOD_QUERIES.split()},
    **bodies(True),
    "no filter": page(""),
    "text: most": page("keyword=" + "%F0%9F%98%80" * 1000),
    "list: most": page("customerGroupIds=" + ",".join(["1"] * 1000)),
    **ids("1", "9007199254740991"),
    "fields": Row("get_customer", "5?responseFields=email,stats(numberOfOrders)"),
    "delete: its body is not looked at": Row("delete_customer", "1", b"{"),
    "delete: nor a form": Row("delete_customer", "1", b"customer_id=2&body=x", FORM),
    "body: blanks around": add(b"\r\n\t " + GOOD + b" \n"),
    "body: UTF-8": add('{"email": "ü@example.com", "name": "日本\U0001f600"}'.encode()),
    "body: escapes": add(rb'{"em\u0061il": "a@example.com", "name": "\ud83d\ude00\/\n\u0001"}'),
    "media type: charset": add(GOOD, "application/json; charset=utf-8"),
    "media type: upper case": add(GOOD, "Application/JSON; Charset=UTF-8"),
    "media type: parameter": add(GOOD, "application/json;x=y"),
}

REFUSED: dict[str, Row] = {
    **{query: page(query) for query in BAD_QUERIES.split()},
    **bodies(False),
    "limit: 5000 digits": page("limit=" + "9" * 5000),
    "text: too long": page("keyword=" + "%F0%9F%98%80" * 1001),
    "list: too long": page("customerGroupIds=" + ",".join(["1"] * 1001)),
    **ids("0", "9007199254740992", "1?zz=1", "1?limit=5", "1?customer_id=2"),
    "unknown: of the body": Row("add_customer", "?body=1", GOOD),
    **{f"malformed {body!r}": add(body) for body in MALFORMED},
    "body: 1.0 for an integer": add(b'{"email": "a@example.com", "customerGroupId": 1.0}'),
    "media type: text": add(GOOD, "text/plain"),
    "media type: none": add(GOOD, None),
    "media type: form": add(b"email=a%40example.com", FORM),
    "media type: multipart": add(PART, MULTIPART),
}

# The rows where the plugin is stricter have connexion's status, ours, the request and a reason.
STRICTER: dict[str, tuple[int, int, Row, str]] = {
    "repeated": (200, 400, page("limit=5&limit=6"), "connexion keeps the last"),
    "integer: +5": (200, 400, page("limit=%2B5"), "Python's int takes it"),
    "integer: 007": (200, 400, page("limit=007"), "Python's int takes it"),
    "integer: 1_0": (200, 400, page("limit=1_0"), "Python's int takes it"),
    "integer: Arabic": (200, 400, page("limit=%D9%A1%D9%A0"), "Python's int takes it"),
    "number: NaN": (200, 400, page("minSalesValue=NaN"), "NaN is below no minimum"),
    "number: .5": (200, 400, page("minSalesValue=.5"), "no number of JSON's"),
    "boolean: TRUE": (200, 400, page("taxExempt=TRUE"), "connexion ignores case"),
    "pattern: line feed": (200, 400, page("countryCodes=US%0A"), "Python's $ lets it pass"),
    "body: line feed": (200, 400, Row("update_customer", "5", LINE), "Python's $"),
    "id: abc": (404, 400, Row("get_customer", "abc"), "no integer to Flask's route"),
    "id: -1": (404, 400, Row("get_customer", "-1"), "no integer to Flask's route"),
    "id: +1": (404, 400, Row("update_customer", "%2B1"), "no integer to Flask's route"),
    "id: 01": (200, 400, Row("get_customer", "01"), "Python's int takes it"),
    "id: Arabic": (200, 400, Row("delete_customer", "%D9%A1"), "Python's int takes it"),
    "latin-1": (200, 415, add(GOOD, "application/json; charset=latin-1"), "it is ignored"),
    "other JSON": (200, 415, add(GOOD, "application/vnd.api+json"), "not in the contract"),
    "no type, no body": (400, 415, add(b"", None), "connexion looks at the body first"),
    "JSON as multipart": (400, 415, add(GOOD, MULTIPART), "Flask has read the body away"),
    "byte order mark": (200, 400, add(b"\xef\xbb\xbf" + GOOD), "Python guesses encodings"),
    "UTF-16": (200, 400, add(GOOD.decode().encode("utf-16")), "Python guesses encodings"),
    "no UTF-8": (200, 400, page("keyword=%FF%C3"), "werkzeug puts another character"),
    "text: line feed": (200, 400, page("keyword=a%0A"), "Python's $ lets it pass"),
    "a member twice": (200, 400, add(TWICE), "Python keeps the last"),
    "lone surrogate": (200, 400, Row("update_customer", "5", SURROGATE), "cannot be sent on"),
}

# The rows that only the plugin accepts have the value that the handler gets.
LOOSER: dict[str, tuple[Row, dict[str, Any]]] = {
    "boolean: 1": (page("taxExempt=1"), {"taxExempt": True}),
    "boolean: 0": (page("taxExempt=0"), {"taxExempt": False}),
}

# connexion gives the contract's defaults to the handler, but here EcwidClient fills them in.
DEFAULTS = {"offset": 0, "limit": PAGE_SIZE}

Outcome = tuple[int, dict[str, Any] | None]
Ask = Callable[[Row], Outcome]


def recording(
    operation: str, seen: list[dict[str, Any]], response: object
) -> Callable[..., object]:
    """Return a handler that records its arguments and returns the given response."""

    @wraps(getattr(handlers, operation))
    def handler(**arguments: Any) -> object:
        seen.append(arguments)
        return response

    return handler


def asking(app: flask.Flask, seen: list[dict[str, Any]]) -> Ask:
    def ask(row: Row) -> Outcome:
        seen.clear()
        method, path = PATHS[row.operation]
        url = PREFIX + path.partition("{")[0] + row.rest
        with _deprecations_of_connexion():
            response = app.test_client().open(
                url, method=method, data=row.body, content_type=row.content_type
            )
        return response.status_code, seen[0] if seen else None

    return ask


@pytest.fixture(scope="module")
def ours(make_httpserver: HTTPServer) -> Ask:
    """Build an app with the plugin, whose handlers only record their arguments."""
    seen: list[dict[str, Any]] = []
    with pytest.MonkeyPatch.context() as patch:
        for operation, response in RESPONSES.items():
            patch.setattr(handlers, operation, recording(operation, seen, response))
        return asking(app_of(config_of(make_httpserver)), seen)


def stock_app(document: dict[str, Any], seen: list[dict[str, Any]]) -> flask.Flask:
    """Build an app with this contract, the same handlers and connexion's own chain."""
    headers = {"X-Request-ID": REQUEST_ID, "Content-Type": JSON}

    def handler(operation: str) -> Callable[..., object]:
        response = (RESPONSES[operation], 200, headers)
        return recording(operation, seen, response)

    with _deprecations_of_connexion():
        api = FlaskApi(
            copy.deepcopy(document),
            base_path=PREFIX,
            resolver=Resolver(handler),
            validate_responses=True,
            strict_validation=True,
            options={"serve_spec": False, "swagger_ui": False},
        )
    app = flask.Flask("stock")
    app.register_blueprint(api.blueprint)
    app.register_error_handler(ProblemException, partial(FlaskApp.common_error_handler, app))
    return app


@pytest.fixture(scope="module")
def theirs() -> Ask:
    seen: list[dict[str, Any]] = []
    return asking(stock_app(openapi.secured(DOCUMENT, {}), seen), seen)


def exact(operation: str, arguments: dict[str, Any] | None) -> str:
    """Return the arguments with the defaults as a text that tells 1, 1.0 and true apart."""
    defaults = DEFAULTS if operation == "list_customers" else {}
    assert arguments is not None
    return json.dumps({**defaults, **arguments}, sort_keys=True)


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(ours: Ask, theirs: Ask, name: str) -> None:
    """The plugin accepts every row that connexion accepts, and its handler gets the same values."""
    row = ACCEPTED[name]
    status, arguments = ours(row)
    their_status, their_arguments = theirs(row)
    assert (status, their_status) == (200, 200)
    assert exact(row.operation, arguments) == exact("", their_arguments)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(ours: Ask, theirs: Ask, name: str) -> None:
    """The plugin refuses a row with the same status as connexion, and no handler runs."""
    status, arguments = ours(REFUSED[name])
    assert 400 <= status < 500
    assert (status, arguments) == theirs(REFUSED[name]) == (status, None)


@pytest.mark.parametrize("name", STRICTER)
def test_stricter(ours: Ask, theirs: Ask, name: str) -> None:
    """The plugin refuses the rows where it is stricter than connexion, and no handler runs."""
    their_status, our_status, row, _ = STRICTER[name]
    assert theirs(row)[0] == their_status
    assert ours(row) == (our_status, None)


@pytest.mark.parametrize("name", LOOSER)
def test_looser(ours: Ask, theirs: Ask, name: str) -> None:
    """The plugin reads the rows where it is looser than connexion."""
    row, arguments = LOOSER[name]
    assert theirs(row) == (400, None)
    assert ours(row) == (200, arguments)


def test_defaults(ours: Ask, theirs: Ask) -> None:
    """The contract's defaults equal the defaults of EcwidClient."""
    assert theirs(page("")) == (200, DEFAULTS)
    assert ours(page("")) == (200, {})


def test_the_rows_are_whole(ours: Ask) -> None:
    """The rows accept and refuse every operation and use every filter."""
    operations = {
        node["operationId"] for item in DOCUMENT["paths"].values() for node in item.values()
    }
    for rows in (ACCEPTED, REFUSED):
        assert {row.operation for row in rows.values()} == operations
    filters = contract.load().operations["list_customers"].parameters
    _, arguments = ours(ACCEPTED["all filters"])
    assert arguments is not None
    assert {("query", name) for name in arguments} == set(filters)
