"""Tests of find_customer and put_customer, which go by the e-mail."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from flask_ecwid import EcwidClient, Settings
from flask_ecwid.client import Put
from flask_ecwid.client.merge import changes, differences
from flask_ecwid.client.upsert import list_with_email
from flask_ecwid.errors import (
    BadReply,
    CustomerNotFound,
    EcwidError,
    EmailTaken,
    InvalidRequest,
    OutcomeUnknown,
    Rejected,
)
from flask_ecwid.sandbox import Fault
from flask_ecwid.testing import EcwidSandbox

from ..conftest import STORE, TOKEN

EMAIL = "ada@example.com"
PHONE = {"type": "PHONE", "contact": "+49 170 1"}
HOME = {"name": "Ada L", "street": "High St 1", "city": "Ulm"}


def writes(sandbox: EcwidSandbox) -> list[str]:
    """Return the operations of the ledger that write."""
    return [each.operation for each in sandbox.ledger() if each.operation.startswith(("add", "up"))]


def only(sandbox: EcwidSandbox) -> dict[str, Any]:
    [customer] = sandbox.customers()
    return dict(customer)


@pytest.mark.parametrize("email", [EMAIL, "ADA@Example.com", f" {EMAIL} "])
def test_find(ecwid_sandbox: EcwidSandbox, ecwid_client: EcwidClient, email: str) -> None:
    """find_customer finds exactly the e-mail in any case, and no customer whose e-mail has more."""
    for other in (f"x{EMAIL}", f"{EMAIL}.au", "a@example.com"):
        ecwid_sandbox.add_customer({"email": other})
    assert ecwid_client.find_customer(email) is None
    created = ecwid_sandbox.add_customer({"email": "Ada@Example.com", "lang": "de"})
    found = ecwid_client.find_customer(email)
    assert found is not None
    assert found == ecwid_client.get_customer(created)


@pytest.mark.parametrize("email", ["", " "])
def test_an_empty_email(ecwid_sandbox: EcwidSandbox, ecwid_client: EcwidClient, email: str) -> None:
    """An empty e-mail is refused before any call, because Ecwid would return all customers."""
    for ask in (
        ecwid_client.find_customer,
        lambda text: ecwid_client.put_customer({"email": text}),
    ):
        with pytest.raises(InvalidRequest):
            ask(email)
    for customer in ({}, {"email": None}, {"email": 5}):
        with pytest.raises(InvalidRequest):
            ecwid_client.put_customer(customer)
    assert ecwid_sandbox.ledger() == []


def test_two_letters_of_two_domains(ecwid_sandbox: EcwidSandbox, ecwid_client: EcwidClient) -> None:
    """An e-mail with `ss` is not an e-mail with `ß`."""
    ecwid_sandbox.add_customer({"email": "a@strasse.example"})
    assert ecwid_client.find_customer("a@straße.example") is None


class PartialStore:
    """A store whose search ignores `useExactEmailMatch`, and shows few customers on a page."""

    def __init__(self, ecwid: HTTPServer, emails: list[str], *, size: int = 2) -> None:
        self.emails = emails
        self.size = size
        self.calls = 0
        ecwid.expect_request(f"{STORE}/customers", method="GET").respond_with_handler(self.page)
        for number, email in enumerate(emails, start=1):
            one = f"{STORE}/customers/{number}"
            customer = {"id": number, "email": email}
            ecwid.expect_request(one, method="GET").respond_with_json(customer)
            ecwid.expect_request(one, method="PUT").respond_with_json({"updateCount": 1})
        url = ecwid.url_for("/api/v3")
        self.client = EcwidClient(Settings(store_id="1003", token=TOKEN, api_url=url))

    def page(self, request: Request) -> Response:
        self.calls += 1
        term, offset = request.args["email"].lower(), int(request.args["offset"])
        found = [
            {"id": number, "email": email}
            for number, email in enumerate(self.emails, start=1)
            if term in email.lower()
        ]
        items = found[offset : offset + self.size]
        page = {"total": len(found), "count": len(items), "offset": offset, "limit": self.size}
        return Response(json.dumps({**page, "items": items}), content_type="application/json")


def test_many_partial_matches(ecwid: HTTPServer) -> None:
    """The search goes through all pages of partial matches, and takes none of them."""
    emails = [f"{n}{EMAIL}" for n in range(5)]
    store = PartialStore(ecwid, [*emails, EMAIL.upper(), f"z{EMAIL}"])
    with store.client as client:
        found = client.find_customer(EMAIL)
        assert found is not None
        assert found["id"] == 6
        listed = list_with_email(client, EMAIL, lambda: None)
        assert [each["id"] for each in listed] == [6]
        assert client.put_customer({"email": EMAIL, "lang": "de"}) == Put(6, "updated")
        assert client.find_customer("a@example.com") is None


def test_an_email_that_was_changed_just_now(ecwid: HTTPServer) -> None:
    """A customer whose e-mail the search shows late is not taken for the customer of the e-mail."""
    page = {"total": 1, "count": 1, "offset": 0, "limit": 1, "items": [{"id": 7, "email": EMAIL}]}
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(page)
    changed = {"id": 7, "email": f"new-{EMAIL}"}
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json(changed)
    settings = Settings(store_id="1003", token=TOKEN, api_url=ecwid.url_for("/api/v3"))
    with EcwidClient(settings) as client:
        assert client.find_customer(EMAIL) is None


def test_a_store_that_repeats_a_page(ecwid: HTTPServer) -> None:
    """A store that ignores the offset raises BadReply, because no page after the first is seen."""
    page = {"total": 9, "count": 1, "offset": 0, "limit": 1, "items": [{"id": 1, "email": "x"}]}
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(page)
    url = ecwid.url_for("/api/v3")
    settings = Settings(store_id="1003", token=TOKEN, api_url=url)
    with EcwidClient(settings) as client, pytest.raises(BadReply) as caught:
        client.put_customer({"email": EMAIL})
    assert caught.value.executed == "no"
    assert {request.method for request, _ in ecwid.log} == {"GET"}


def test_put(ecwid_sandbox: EcwidSandbox, ecwid_client: EcwidClient) -> None:
    """A put creates a customer, changes only members that differ, and may be repeated."""
    created = ecwid_client.put_customer({"email": EMAIL, "name": "Ada L", "lang": "de"})
    assert created.outcome == "created"
    again = {"email": EMAIL.upper(), "lang": "de", "taxId": None}
    assert ecwid_client.put_customer(again) == Put(created.id, "unchanged")
    more = {"email": EMAIL, "billingPerson": {"phone": "1"}, "acceptMarketing": True}
    assert ecwid_client.put_customer(more) == Put(created.id, "updated")
    assert ecwid_client.put_customer(more) == Put(created.id, "unchanged")
    customer = only(ecwid_sandbox)
    assert customer["email"] == EMAIL
    assert (customer["lang"], customer["acceptMarketing"]) == ("de", True)
    person = {"name": "Ada L", "firstName": "Ada", "lastName": "L", "phone": "1"}
    assert customer["billingPerson"] == person
    assert writes(ecwid_sandbox) == ["add_customer", "update_customer"]


def test_an_empty_text_clears(ecwid_sandbox: EcwidSandbox, ecwid_client: EcwidClient) -> None:
    """Only an empty text that the caller sets clears a member."""
    ecwid_sandbox.add_customer({"email": EMAIL, "lang": "de", "taxId": "5"})
    assert ecwid_client.put_customer({"email": EMAIL, "lang": ""}).outcome == "updated"
    customer = only(ecwid_sandbox)
    assert "lang" not in customer
    assert customer["taxId"] == "5"


LISTS: list[tuple[str, list[Any], list[Any], list[Any]]] = [
    # the list that is there, the list that is put, and the list afterwards, without other members
    (
        "contacts",
        [PHONE],
        [{"type": "URL", "contact": "x"}],
        [PHONE, {"type": "URL", "contact": "x"}],
    ),
    ("contacts", [PHONE], [{**PHONE, "contact": "+49-1701", "note": "n"}], [{"note": "n"}]),
    ("contacts", [PHONE], [], [PHONE]),
    ("shippingAddresses", [HOME], [{"street": "Low St 2"}], [HOME, {"street": "Low St 2"}]),
    ("shippingAddresses", [HOME], [{**HOME, "phone": "1"}], [{**HOME, "phone": "1"}]),
    ("shippingAddresses", [HOME], [{**HOME, "name": "Bob"}], [HOME, {**HOME, "name": "Bob"}]),
    ("shippingAddresses", [HOME], [], [HOME]),
    ("shippingAddresses", [], [{**HOME, "countryName": "BRD"}], [HOME]),
    ("shippingAddresses", [], [{"city": "Ulm", "countryName": "BRD"}], [{"city": "Ulm"}]),
    (
        "shippingAddresses",
        [{**HOME, "countryCode": "de"}],
        [{**HOME, "countryCode": "DE"}],
        [{**HOME, "countryCode": "DE"}],
    ),
    *(
        ("shippingAddresses", [{**HOME, **old}], [{**HOME, **new}], [{**HOME, **new}])
        for old, new in (
            ({"note": "a"}, {"note": "b"}),
            ({"orderBy": 1}, {"orderBy": 2}),
            ({"defaultAddress": False}, {"defaultAddress": True}),
        )
    ),
    ("extrafields", [{"key": "a", "value": "1"}], [{"key": "b"}], [{"value": "1"}, {"key": "b"}]),
    ("extrafields", [{"key": "a", "value": "1"}], [{"key": "a", "value": "2"}], [{"value": "2"}]),
]


@pytest.mark.parametrize(("name", "there", "put", "after"), LISTS)
def test_lists(
    ecwid_sandbox: EcwidSandbox,
    ecwid_client: EcwidClient,
    name: str,
    there: list[Any],
    put: list[Any],
    after: list[Any],
) -> None:
    """A put adds to a list or completes its items, and removes no item. A second put is equal."""
    ecwid_sandbox.add_customer({"email": EMAIL, name: there})
    before = only(ecwid_sandbox)[name]
    first = ecwid_client.put_customer({"email": EMAIL, name: put})
    assert first.outcome == ("updated" if put else "unchanged")
    assert ecwid_client.put_customer({"email": EMAIL, name: put}).outcome == "unchanged"
    shown = [each for each in only(ecwid_sandbox)[name] if each.get("type") != "EMAIL"]
    assert len(shown) == len(after)
    for item, expected in zip(shown, after, strict=True):
        assert expected.items() <= item.items()
    ids = [each.get("id") for each in only(ecwid_sandbox)[name]]
    assert [each.get("id") for each in before if "id" in each] == ids[: len(before)] or not any(ids)


def test_a_customer_of_another_store(
    ecwid_sandbox: EcwidSandbox, ecwid_client: EcwidClient
) -> None:
    """The ids of another store's addresses and contacts change nothing, and double nothing."""
    ecwid_sandbox.add_customer({"email": EMAIL, "contacts": [PHONE], "shippingAddresses": [HOME]})
    read: dict[str, Any] = {**ecwid_client.get_customer(only(ecwid_sandbox)["id"])}
    assert ecwid_client.put_customer(read).outcome == "unchanged"
    for name in ("contacts", "shippingAddresses"):
        read[name] = [{**each, "id": each["id"] + 10_000} for each in read[name]]
    assert ecwid_client.put_customer(read).outcome == "unchanged"
    read["contacts"] = [*read["contacts"], {"id": 5, "type": "URL", "contact": "x"}]
    assert ecwid_client.put_customer(read).outcome == "updated"
    assert ecwid_client.put_customer(read).outcome == "unchanged"
    assert len(only(ecwid_sandbox)["contacts"]) == 3
    assert len(only(ecwid_sandbox)["shippingAddresses"]) == 1


def test_an_item_by_its_id(ecwid_sandbox: EcwidSandbox, ecwid_client: EcwidClient) -> None:
    """An item with the id of a shown item changes this item, although another one is alike."""
    two = [{**PHONE, "note": "a"}, {**PHONE, "note": "b"}]
    ecwid_sandbox.add_customer({"email": EMAIL, "contacts": two})
    contacts = only(ecwid_sandbox)["contacts"]
    second = {"id": contacts[1]["id"], "note": "a"}
    for outcome in ("updated", "unchanged"):
        assert ecwid_client.put_customer({"email": EMAIL, "contacts": [second]}).outcome == outcome
    assert [each.get("note") for each in only(ecwid_sandbox)["contacts"]] == ["a", "a", None]


def test_a_guest_keeps_the_name(ecwid_sandbox: EcwidSandbox, ecwid_client: EcwidClient) -> None:
    """A guest has only a top-level name, which counts as the name of the row and stays."""
    ecwid_sandbox.add_customer({"email": EMAIL, "name": "Ada L"})
    assert ecwid_client.put_customer({"email": EMAIL, "name": "Ada L"}).outcome == "unchanged"
    person = {"phone": "1"}
    assert ecwid_client.put_customer({"email": EMAIL, "billingPerson": person}).outcome == "updated"
    assert only(ecwid_sandbox)["name"] == "Ada L"


def test_two_puts_at_once(ecwid_sandbox: EcwidSandbox, ecwid_client: EcwidClient) -> None:
    """Puts of one e-mail at the same time create one customer, and all values are kept.

    Ecwid's search shows the new customer late, so each put relies on the 409.
    """
    ecwid_sandbox.switch(search_lag_s=0.5)
    members: list[Mapping[str, Any]] = [{"lang": "de"}, {"taxId": "5"}, {"fiscalCode": "7"}]
    with ThreadPoolExecutor(3) as pool:
        puts = list(pool.map(lambda m: ecwid_client.put_customer({"email": EMAIL, **m}), members))
    assert sorted(each.outcome for each in puts) == ["created", "updated", "updated"]
    customer = only(ecwid_sandbox)
    assert {each.id for each in puts} == {customer["id"]}
    assert (customer["lang"], customer["taxId"], customer["fiscalCode"]) == ("de", "5", "7")


def test_an_email_that_is_taken_by_nobody(
    ecwid_sandbox: EcwidSandbox, ecwid_client: EcwidClient
) -> None:
    """A put fails with EmailTaken if Ecwid refuses the e-mail and shows nobody, without a retry."""
    ecwid_sandbox.inject(Fault("status", operation="add_customer", status=409))
    with pytest.raises(EmailTaken) as caught:
        ecwid_client.put_customer({"email": EMAIL})
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    assert writes(ecwid_sandbox) == ["add_customer"]
    assert EMAIL not in f"{caught.value!r}"


def test_a_customer_that_the_search_still_shows(
    ecwid_sandbox: EcwidSandbox, ecwid_client: EcwidClient
) -> None:
    """A customer who was deleted, but whom the search still shows, does not count as found."""
    ecwid_sandbox.add_customer({"email": EMAIL})
    gone = Fault("status", operation="get_customer", nth=1, status=404)
    ecwid_sandbox.inject(gone)
    ecwid_sandbox.switch(duplicate_emails=True)
    assert ecwid_client.put_customer({"email": EMAIL}).outcome == "created"


def test_the_oldest_of_several(ecwid_sandbox: EcwidSandbox, ecwid_client: EcwidClient) -> None:
    """In a store that takes an e-mail twice, a put changes the oldest customer and creates none."""
    ecwid_sandbox.switch(duplicate_emails=True)
    oldest, _ = (ecwid_sandbox.add_customer({"email": EMAIL}) for _ in range(2))
    assert ecwid_client.put_customer({"email": EMAIL, "lang": "de"}) == Put(oldest, "updated")
    assert writes(ecwid_sandbox) == ["update_customer"]


@pytest.mark.parametrize("after", [False, True])
def test_a_creation_whose_reply_is_lost(
    ecwid_sandbox: EcwidSandbox, ecwid_client: EcwidClient, after: bool
) -> None:
    """A put whose creation loses its reply sends one creation, and a second put settles it."""
    ecwid_sandbox.switch(duplicate_emails=True)
    ecwid_sandbox.inject(Fault("reset", operation="add_customer", nth=1, after=after))
    outcomes: list[str] = []
    for _ in range(2):
        try:
            outcomes.append(ecwid_client.put_customer({"email": EMAIL}).outcome)
        except OutcomeUnknown:
            outcomes.append("unknown")
    assert outcomes == (["created", "unchanged"] if after else ["unknown", "created"])
    assert len(ecwid_sandbox.customers()) == 1


@pytest.mark.parametrize(("is_lost", "executed"), [(True, "unknown"), (False, "no")])
def test_a_search_that_fails_after_the_creation(
    ecwid_sandbox: EcwidSandbox, ecwid_client: EcwidClient, is_lost: bool, executed: str
) -> None:
    """The error of a search after the creation says whether the creation may have happened."""
    ecwid_sandbox.switch(duplicate_emails=is_lost)
    ecwid_sandbox.add_customer({"email": EMAIL, "registered": "2020-01-01 00:00:00 +0000"})
    # The search of the put finds a customer who seems to be deleted.
    ecwid_sandbox.inject(Fault("status", operation="get_customer", nth=1, status=404))
    if is_lost:
        ecwid_sandbox.inject(Fault("reset", operation="add_customer", nth=1))
    # Two searches for the lost creation come before the next search of the put.
    for nth in range(4 if is_lost else 2, 20):
        ecwid_sandbox.inject(Fault("status", operation="list_customers", nth=nth, status=500))
    with pytest.raises(EcwidError) as caught:
        ecwid_client.put_customer({"email": EMAIL, "lang": "de"})
    assert type(caught.value) is not EmailTaken
    assert caught.value.executed == executed


def test_an_update_that_fails_after_the_creation(
    ecwid_sandbox: EcwidSandbox, ecwid_client: EcwidClient
) -> None:
    """The error of an update without effect says that the creation before may have happened."""
    ecwid_sandbox.switch(duplicate_emails=True)
    ecwid_sandbox.add_customer({"email": EMAIL, "registered": "2020-01-01 00:00:00 +0000"})
    # The search of the put finds a customer who seems to be deleted.
    ecwid_sandbox.inject(Fault("status", operation="get_customer", nth=1, status=404))
    ecwid_sandbox.inject(Fault("reset", operation="add_customer", nth=1))
    ecwid_sandbox.inject(Fault("status", operation="update_customer", status=400))
    with pytest.raises(Rejected) as caught:
        ecwid_client.put_customer({"email": EMAIL, "lang": "de"})
    assert caught.value.executed == "unknown"


def test_a_body_that_would_lose_a_member(
    ecwid_sandbox: EcwidSandbox, ecwid_client: EcwidClient
) -> None:
    """A put refuses a misplaced member before any call."""
    with pytest.raises(InvalidRequest):
        ecwid_client.put_customer({"email": EMAIL, "phone": "1"})
    assert ecwid_sandbox.ledger() == []


@pytest.mark.parametrize("nth", [1, 2])
def test_no_reply_is_no_missing_customer(
    ecwid_sandbox: EcwidSandbox, ecwid_client: EcwidClient, nth: int
) -> None:
    """A put whose search or read fails raises the error, and creates no customer."""
    ecwid_sandbox.add_customer({"email": EMAIL})
    operation = ("list_customers", "get_customer")[nth - 1]
    ecwid_sandbox.inject(Fault("status", operation=operation, status=500))
    with pytest.raises(EcwidError) as caught:
        ecwid_client.put_customer({"email": EMAIL, "lang": "de"})
    assert not isinstance(caught.value, CustomerNotFound)
    assert caught.value.executed == "no"
    assert writes(ecwid_sandbox) == []


# The sent members, the shown members, and the pointers of the differences.
COMPARED: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    ({"lang": "de"}, {"lang": "de"}, []),
    ({"lang": "de"}, {}, ["/lang"]),
    ({"lang": "de"}, {"lang": None}, ["/lang"]),
    ({"lang": "de"}, {"lang": {"x": 1}}, ["/lang"]),
    ({"lang": ""}, {}, []),
    ({"lang": None}, {"lang": "de"}, []),
    ({"acceptMarketing": False}, {}, ["/acceptMarketing"]),
    ({"acceptMarketing": False}, {"acceptMarketing": True}, ["/acceptMarketing"]),
    ({"taxExempt": False, "customerGroupId": 0, "b2b_b2c": "b2c"}, {}, []),
    (
        {"taxExempt": True, "customerGroupId": 5, "b2b_b2c": "b2b"},
        {},
        ["/taxExempt", "/customerGroupId", "/b2b_b2c"],
    ),
    ({"password": "x", "primaryPhone": "1"}, {}, ["/password", "/primaryPhone"]),
    ({"billingPerson": {"phone": "+49 170"}}, {"billingPerson": {"phone": "+49-170"}}, []),
    (
        {"billingPerson": {"phone": "none"}},
        {"billingPerson": {"phone": "1"}},
        ["/billingPerson/phone"],
    ),
    (
        {"billingPerson": {"city": "Ulm", "phone": "1"}},
        {},
        ["/billingPerson/city", "/billingPerson/phone"],
    ),
    ({"billingPerson": {"name": "Ada"}}, {"name": "Ada"}, []),
    ({"billingPerson": {"name": "ada"}}, {"name": "Ada"}, ["/billingPerson/name"]),
    ({"billingPerson": {"name": "A  B "}}, {"billingPerson": {"name": "A B"}}, []),
    ({"billingPerson": {"countryCode": "de"}}, {"billingPerson": {"countryCode": "DE"}}, []),
    ({"billingPerson": {"countryCode": "de"}}, {"billingPerson": {"countryCode": "de"}}, []),
    (
        {"billingPerson": {"countryCode": "DE"}},
        {"billingPerson": {"countryCode": "de"}},
        ["/billingPerson/countryCode"],
    ),
    (
        {"billingPerson": {"countryCode": "DE", "countryName": "BRD"}},
        {"billingPerson": {"countryCode": "DE"}},
        [],
    ),
    ({"billingPerson": {"countryName": "BRD", "stateOrProvinceName": "Bayern"}}, {}, []),
    ({"contacts": [PHONE]}, {"contacts": [{"type": "EMAIL", "contact": EMAIL}, PHONE]}, []),
    ({"contacts": [PHONE]}, {"contacts": [{**PHONE, "contact": "2"}]}, ["/contacts"]),
    ({"contacts": [PHONE]}, {"contacts": [{**PHONE, "type": "VIBER"}]}, ["/contacts"]),
    (
        {"contacts": [{"type": "EMAIL", "contact": "a.b@x"}]},
        {"contacts": [{"type": "EMAIL", "contact": "ab@x"}]},
        ["/contacts"],
    ),
    ({"shippingAddresses": [HOME]}, {"shippingAddresses": [{"city": "Ulm"}, HOME]}, []),
    ({"shippingAddresses": [HOME]}, {}, ["/shippingAddresses"]),
    ({"shippingAddresses": [HOME]}, {"shippingAddresses": [None, "x"]}, ["/shippingAddresses"]),
    (
        {"extrafields": [{"key": "k", "type": "text"}]},
        {"extrafields": [{"key": "k", "type": "TEXT"}]},
        [],
    ),
]


@pytest.mark.parametrize(("sent", "shown", "pointers"), COMPARED)
def test_differences(sent: dict[str, Any], shown: dict[str, Any], pointers: list[str]) -> None:
    """A sent member differs unless Ecwid shows the same value, whose form a store may tidy."""
    assert differences({"email": "A@x", **sent}, {"email": "a@x", **shown}) == pointers
    assert bool(changes(sent, shown)) == bool(pointers)


def test_an_update_sends_the_other_members_of_an_object() -> None:
    """An update of billingPerson has its other members, but none that only Ecwid sets."""
    person = {"name": "A B", "firstName": "A", "city": "Ulm", "phone": None, "new": "x"}
    sent = {"billingPerson": {"street": "S", "city": None}}
    assert changes(sent, {"billingPerson": person}) == {
        "billingPerson": {"name": "A B", "city": "Ulm", "street": "S"}
    }
