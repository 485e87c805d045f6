"""The question for a customer whom a reading of all customers did not show."""

from __future__ import annotations

import pytest
from pytest_httpserver import HTTPServer

from flask_ecwid import EcwidClient, Settings
from flask_ecwid.cli.unseen import ask, check_404s
from flask_ecwid.client import CustomerDeleted
from flask_ecwid.errors import BadReply, ServiceRefused

from ..conftest import STORE, TOKEN


@pytest.fixture
def client(ecwid: HTTPServer) -> EcwidClient:
    return EcwidClient(
        Settings(store_id="1003", token=TOKEN, api_url=ecwid.url_for("/api/v3"), auth="none")
    )


def test_another_customer(ecwid: HTTPServer, client: EcwidClient) -> None:
    """A reply with another customer says nothing about the customer in question."""
    ecwid.expect_request(f"{STORE}/customers/5").respond_with_json({"id": 6, "email": "a@b.de"})
    with pytest.raises(BadReply, match="another customer") as caught:
        ask(client, 5)
    assert caught.value.executed == "no"


@pytest.mark.parametrize("code", ["STORE_NOT_FOUND", "PROFILE_NOT_FOUND"])
def test_another_store(ecwid: HTTPServer, client: EcwidClient, code: str) -> None:
    """A 404 for the whole store does not mean that the customer was deleted."""
    ecwid.expect_request(f"{STORE}/customers/5").respond_with_json({"errorCode": code}, status=404)
    with pytest.raises(ServiceRefused):
        ask(client, 5)


def test_a_deleted_customer(ecwid: HTTPServer, client: EcwidClient) -> None:
    """A 404 of Ecwid for the customer means a deletion."""
    ecwid.expect_request(f"{STORE}/customers/5").respond_with_json({}, status=404)
    found = ask(client, 5)
    assert isinstance(found, CustomerDeleted)
    assert found.customer_id == 5


def test_a_list_without_customers(ecwid: HTTPServer, client: EcwidClient) -> None:
    """Without a customer in the list, 404s count, because each customer may be deleted."""
    check_404s(client, [])
    assert ecwid.log == []


def test_one_customer_of_the_list(ecwid: HTTPServer, client: EcwidClient) -> None:
    """404s count as soon as Ecwid has one customer of the list, because others may be deleted."""
    ecwid.expect_request(f"{STORE}/customers/5").respond_with_json({}, status=404)
    ecwid.expect_request(f"{STORE}/customers/6").respond_with_json({"id": 6, "email": "a@b.de"})
    check_404s(client, [5, 6])
    with pytest.raises(BadReply) as caught:
        check_404s(client, [5, 5])
    assert caught.value.executed == "no"
