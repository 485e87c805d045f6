"""Tests of EcwidClient without Flask, and of its functions that do no I/O."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from flask_ecwid import EcwidClient, EcwidError, Settings
from flask_ecwid.client.calls import Call, build_call
from flask_ecwid.client.operations import OPERATIONS
from flask_ecwid.client.replies import Reply, read_reply
from flask_ecwid.errors import (
    BadReply,
    ContractBroken,
    CustomerNotFound,
    EmailTaken,
    InvalidRequest,
    RateLimited,
    Violation,
)

from ..conftest import STORE, TOKEN


@pytest.fixture
def client(ecwid: HTTPServer) -> EcwidClient:
    return EcwidClient(Settings(store_id="1003", token=TOKEN, api_url=ecwid.url_for("/api/v3")))


def test_five_calls(ecwid: HTTPServer, client: EcwidClient) -> None:
    """The client has a method for each operation, which returns the body of Ecwid's reply."""
    page = {"total": 1, "count": 1, "offset": 0, "limit": 5, "items": [{"id": 7}]}
    one = f"{STORE}/customers/7"
    ecwid.expect_request(f"{STORE}/customers", method="GET").respond_with_json(page)
    ecwid.expect_request(f"{STORE}/customers", method="POST").respond_with_json({"id": 7})
    ecwid.expect_request(one, method="GET").respond_with_json({"id": 7})
    ecwid.expect_request(one, method="PUT").respond_with_json({"updateCount": 1})
    ecwid.expect_request(one, method="DELETE").respond_with_json({"deleteCount": 1})
    assert client.list_customers(limit=5, email=None) == page
    assert client.get_customer(7) == {"id": 7}
    assert client.add_customer({"email": "a@example.com"}) == {"id": 7}
    assert client.update_customer(7, {"lang": "en"}) == {"updateCount": 1}
    assert client.delete_customer(7) == {"deleteCount": 1}
    assert dict(ecwid.log[0][0].args) == {"limit": "5", "offset": "0"}


def test_flask_is_not_needed_to_be_running(ecwid: HTTPServer) -> None:
    """A script without an app can make each call, and no call makes an app context."""
    everything = {"total": 1, "items": [{"id": 7}], "id": 7, "updateCount": 1, "deleteCount": 1}
    ecwid.expect_request(re.compile(f"{STORE}/customers(/7)?")).respond_with_json(everything)
    script = f"""
from flask_ecwid.client import EcwidClient
from flask_ecwid.settings import Settings
settings = Settings(store_id="1003", token="secret_x", api_url={ecwid.url_for("/api/v3")!r})
with EcwidClient(settings) as client:
    assert client.list_customers()["total"] == 1
    assert client.get_customer(7)["id"] == 7
    assert client.add_customer({{"email": "a@example.com"}})["id"] == 7
    assert client.update_customer(7, {{}}) == {{"updateCount": 1}}
    assert client.delete_customer(7) == {{"deleteCount": 1}}
from flask import has_app_context
print(has_app_context())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


class PagedStore:
    """A simulated store that serves its list in pages, as Ecwid does."""

    def __init__(self, ecwid: HTTPServer, ids: list[int], most: int = 100) -> None:
        self.ids = ids
        self.most = most
        self.queries: list[dict[str, str]] = []
        ecwid.expect_request(f"{STORE}/customers").respond_with_handler(self.page)

    def page(self, request: Request) -> Response:
        self.queries.append(dict(request.args))
        offset, limit = int(request.args["offset"]), int(request.args["limit"])
        ids = self.ids[offset : offset + min(limit, self.most)]
        page = {"total": 999_999, "count": len(ids), "offset": offset, "limit": limit}
        body = json.dumps({**page, "items": [{"id": id} for id in ids]})
        return Response(body, content_type="application/json")


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
def test_all_pages(ecwid: HTTPServer, client: EcwidClient, count: int) -> None:
    """iter_customers reads all pages and does not rely on `total`."""
    PagedStore(ecwid, list(range(1, count + 1)))
    assert [customer["id"] for customer in client.iter_customers()] == list(range(1, count + 1))


def test_short_pages(ecwid: HTTPServer, client: EcwidClient) -> None:
    """iter_customers reads on after a page that is shorter than its limit.

    Only an empty page ends the list.
    """
    PagedStore(ecwid, list(range(1, 8)), most=3)
    assert [customer["id"] for customer in client.iter_customers()] == list(range(1, 8))


def test_each_id_once(ecwid: HTTPServer, client: EcwidClient) -> None:
    """iter_customers yields a customer once, even if two pages show the customer."""
    PagedStore(ecwid, [1, 2, 2, 3])
    assert [customer["id"] for customer in client.iter_customers(limit=2)] == [1, 2, 3]


def test_filters_on_every_page(ecwid: HTTPServer, client: EcwidClient) -> None:
    """iter_customers sends the filters with every page, in an order that stays stable meanwhile."""
    store = PagedStore(ecwid, [1, 2, 3])
    list(client.iter_customers(taxExempt=True, limit=2))
    orders = [query.pop("sortBy") for query in store.queries[:-1]]
    assert orders == sorted(orders)
    assert {*orders} == {"REGISTERED_DATE_ASC", "UPDATED_DATE_ASC"}
    assert {query["taxExempt"] for query in store.queries} == {"true"}
    assert {query["limit"] for query in store.queries[:-1]} == {"2"}


@pytest.mark.parametrize("name", ["accept_marketing", "acceptmarketing", "colour", "customer_id"])
def test_a_misspelt_filter(ecwid: HTTPServer, client: EcwidClient, name: str) -> None:
    """A misspelt filter is refused before any call, because Ecwid would return all customers."""
    filters: dict[str, Any] = {name: True}
    for ask in (client.list_customers, client.iter_customers):
        with pytest.raises(TypeError, match=name):
            ask(**filters)
    assert ecwid.log == []


@pytest.mark.parametrize("items", [None, {}, [None], [{"email": "x"}], ["x"]])
def test_a_page_without_customers(ecwid: HTTPServer, client: EcwidClient, items: Any) -> None:
    """A page without valid customers raises ContractBroken, not KeyError."""
    ecwid.expect_request(f"{STORE}/customers").respond_with_json({"total": 1, "items": items})
    with pytest.raises(ContractBroken) as caught:
        list(client.iter_customers())
    assert caught.value.executed == "no"


def test_build_call() -> None:
    """The arguments alone determine a call."""
    assert build_call(
        "list_customers", query={"taxExempt": True, "name": None, "limit": 5}
    ) == Call(OPERATIONS["list_customers"], "/customers", (("taxExempt", "true"), ("limit", "5")))
    assert build_call("update_customer", 7, body={"lang": "ü"}) == Call(
        OPERATIONS["update_customer"], "/customers/7", (), '{"lang":"ü"}'.encode()
    )


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (0.00001, "0.00001"),
        (5.0, "5"),
        (1e12, "1000000000000"),
        (19.99, "19.99"),
        (["US", "MX"], "US,MX"),
        ((0, 12345), "0,12345"),
        (False, "false"),
    ],
)
def test_values_of_a_query(value: object, sent: str) -> None:
    """A query holds numbers without an exponent, lists with commas and booleans in lower case."""
    assert build_call("list_customers", query={"x": value}).query == (("x", sent),)


def test_a_limit_of_none(ecwid: HTTPServer, client: EcwidClient) -> None:
    """The client leaves out a filter that is None.

    Limit and offset have their defaults then.
    """
    ecwid.expect_request(f"{STORE}/customers").respond_with_json({"total": 0, "items": []})
    client.list_customers(limit=None, offset=None, email=None)
    assert dict(ecwid.log[0][0].args) == {"limit": "100", "offset": "0"}


def test_the_sandbox() -> None:
    """A client whose settings name the sandbox calls the sandbox, and not the real Ecwid."""
    client = EcwidClient(Settings(sandbox="on"))
    assert client.list_customers()["total"] == 4


def test_the_same_page_again(ecwid: HTTPServer, client: EcwidClient) -> None:
    """A store that ignores the offset raises BadReply instead of an endless reading."""
    ecwid.expect_request(f"{STORE}/customers").respond_with_json({"total": 1, "items": [{"id": 1}]})
    with pytest.raises(BadReply) as caught:
        list(client.iter_customers())
    assert caught.value.executed == "no"
    assert len(ecwid.log) == 6


@pytest.mark.parametrize("customer_id", [0, -1, True, "7", "7/../8", 7.0])
def test_a_malformed_id(customer_id: Any) -> None:
    """Only a positive integer is put into a path."""
    with pytest.raises(InvalidRequest):
        build_call("get_customer", customer_id)


@pytest.mark.parametrize(
    "fields", ["", "a,", "a(", "a(b", "a()", "(a)", "a b", "a)", "a(b))", "a,,b", "é"]
)
def test_malformed_fields(fields: str) -> None:
    """The client refuses responseFields that break Ecwid's syntax before any call."""
    with pytest.raises(InvalidRequest) as caught:
        build_call("get_customer", 7, query={"responseFields": fields})
    assert caught.value.errors == [Violation("/query/responseFields", "pattern")]


def test_read_reply() -> None:
    """Status, headers and body alone determine if a reply gives a value or an error."""
    add, get = build_call("add_customer", body={}), build_call("get_customer", 7)
    assert read_reply(add, Reply(200, {}, b'{"id":7}')) == {"id": 7}
    with pytest.raises(CustomerNotFound):
        read_reply(get, Reply(404))
    with pytest.raises(EmailTaken):
        read_reply(add, Reply(409))
    with pytest.raises(RateLimited) as caught:
        read_reply(get, Reply(429, {"retry-after": "5"}))
    assert caught.value.retry_after_s == 5


def test_reprs_hold_nothing() -> None:
    """No repr shows a token, a query or a body."""
    call = build_call("list_customers", query={"email": "canary@example.com"})
    add = build_call("add_customer", body={"email": "canary@example.com"})
    reply = Reply(200, {"set-cookie": "canary"}, b"canary")
    settings = Settings(store_id="1003", token=TOKEN, proxy_url="http://u:canary@127.0.0.1:1")
    shown = repr([call, add, reply, settings, EcwidClient(settings), vars(EcwidClient(settings))])
    assert "canary" not in shown.lower()


def test_granted_scopes(ecwid: HTTPServer, client: EcwidClient) -> None:
    """granted_scopes finds out the token's scopes without a call that can change anything."""
    lacking = {"errorCode": "INSUFFICIENT_APP_SCOPE"}
    ecwid.expect_request(f"{STORE}/customers", method="GET").respond_with_json(
        {"total": 0, "items": []}
    )
    ecwid.expect_request(f"{STORE}/customers", method="POST").respond_with_json(lacking, 403)
    ecwid.expect_request(f"{STORE}/customers/0", method="PUT").respond_with_json({}, 400)
    assert client.granted_scopes() == {
        "read_customers": True,
        "create_customers": False,
        "update_customers": True,
    }
    for request, _ in ecwid.log[1:]:
        with pytest.raises(json.JSONDecodeError):
            json.loads(request.data)


def test_granted_scopes_without_reading(ecwid: HTTPServer, client: EcwidClient) -> None:
    """granted_scopes cannot find out the scope to update without the scope to read."""
    lacking = {"errorCode": "INSUFFICIENT_APP_SCOPE"}
    ecwid.expect_request(f"{STORE}/customers", method="GET").respond_with_json(lacking, 403)
    ecwid.expect_request(f"{STORE}/customers", method="POST").respond_with_json({}, 400)
    ecwid.expect_request(f"{STORE}/customers/0", method="PUT").respond_with_json(lacking, 403)
    assert client.granted_scopes() == {
        "read_customers": False,
        "create_customers": True,
        "update_customers": None,
    }


def test_granted_scopes_of_an_unknown_token(ecwid: HTTPServer, client: EcwidClient) -> None:
    """A token that Ecwid does not know raises an error, and is not reported as a missing scope."""
    ecwid.expect_request(f"{STORE}/customers").respond_with_data("", 403)
    with pytest.raises(EcwidError, match="token"):
        client.granted_scopes()


@pytest.mark.parametrize("limit", ["abc", True, 1.5, [1, 2], "", "9" * 5000])
def test_a_limit_that_is_no_number(ecwid: HTTPServer, client: EcwidClient, limit: Any) -> None:
    """Ecwid judges the values of filters, and the client passes on a valid page."""
    page: dict[str, Any] = {"total": 0, "count": 0, "offset": 0, "limit": 100, "items": []}
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(page)
    assert dict(client.list_customers(limit=limit)) == page
    ecwid.clear()
    incomplete = {"total": 0, "items": []}
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(incomplete)
    with pytest.raises(ContractBroken):
        client.list_customers(limit=limit)
