"""Updates and deletions of customers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from flask_ecwid.sandbox import TOKEN, create_sandbox
from flask_ecwid.testing import EcwidSandbox

CUSTOMERS = "/api/v3/1003/customers"
SECOND = f"{CUSTOMERS}/172890169"
DEMO = "[DEMO] Actualización para desbloquear"


def read(store: FlaskClient, path: str = SECOND) -> dict[str, Any]:
    customer: dict[str, Any] | None = store.get(path).json
    assert customer is not None
    return customer


def update(store: FlaskClient, changes: dict[str, Any], path: str = SECOND) -> dict[str, Any]:
    """Return the customer after an update."""
    response = store.put(path, json=changes)
    assert (response.status_code, response.json) == (200, {"updateCount": 1})
    return read(store, path)


def add(store: FlaskClient, body: dict[str, Any]) -> str:
    """Return the path of a new customer."""
    response = store.post(CUSTOMERS, json=body)
    assert response.json is not None
    return f"{CUSTOMERS}/{response.json['id']}"


@pytest.mark.parametrize("changes", [{"acceptMarketing": False}, {"lang": "en"}, {}])
def test_partial(store: FlaskClient, changes: dict[str, Any]) -> None:
    """An update changes only the given members and the date of the last update."""
    before = read(store)
    after = update(store, changes)
    assert after == {**before, **changes, "updated": after["updated"]}
    assert after["updated"] > "2026"
    assert before["updated"] == "2021-11-05 23:00:01 +0000"


def test_billing_person_is_merged(store: FlaskClient) -> None:
    """An update of billingPerson changes single members, and the derived members follow."""
    after = update(store, {"billingPerson": {"name": "Eva Maria Roe", "countryCode": "GE"}})
    assert after["name"] == "Eva Maria Roe"
    assert list(after["billingPerson"].items()) == [
        ("name", "Eva Maria Roe"),
        ("firstName", "Eva"),
        ("lastName", "Roe"),
        ("street", DEMO),
        ("city", DEMO),
        ("countryCode", "GE"),
        ("countryName", "Georgia"),
    ]
    after = update(store, {"billingPerson": {"name": "Eva", "countryCode": "ZZ"}})
    assert after["billingPerson"] == {
        "name": "Eva",
        "street": DEMO,
        "city": DEMO,
        "countryCode": "ZZ",
    }


def test_empty_text_clears(store: FlaskClient) -> None:
    """An empty text clears a member, and an empty name in billingPerson clears the name."""
    update(store, {"lang": "en", "taxId": "X"})
    after = update(store, {"billingPerson": {"name": "", "street": ""}, "lang": "", "taxId": ""})
    assert after["billingPerson"] == {"city": DEMO}
    assert "name" not in after
    assert "lang" not in after
    assert after["taxId"] == ""
    assert "billingPerson" not in update(store, {"billingPerson": {"city": ""}})


def test_null_does_not_clear(store: FlaskClient) -> None:
    """A null changes nothing, at every depth."""
    before = read(store)
    nothing = {name: None for name in before if name not in ("id", "billingPerson")}
    after = update(store, {**nothing, "billingPerson": {"name": None, "city": None}})
    assert after == {**before, "updated": after["updated"]}
    assert update(store, {"billingPerson": None})["billingPerson"] == before["billingPerson"]


def test_name_is_dropped(store: FlaskClient) -> None:
    """An update ignores `name` and `customerGroupName`, and takes the id of the group."""
    changes = {"name": "Support team (VIP)", "customerGroupId": 9367001, "customerGroupName": "X"}
    after = update(store, changes)
    assert after["name"] == DEMO
    assert (after["customerGroupId"], after["customerGroupName"]) == (9367001, "VIP")
    assert "customerGroupName" not in update(store, {"customerGroupId": 4711})


def test_guest_keeps_the_name(tmp_path: Path) -> None:
    """A guest without a billingPerson keeps the name until billingPerson has another."""
    store = create_sandbox(tmp_path / "guests.sqlite3", customers=20).test_client()
    store.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {TOKEN}"
    guests = [c for c in read(store, CUSTOMERS)["items"] if "billingPerson" not in c]
    guest, path = guests[0], f"{CUSTOMERS}/{guests[0]['id']}"
    assert update(store, {"billingPerson": {"city": "Bucket"}}, path)["name"] == guest["name"]
    assert update(store, {"billingPerson": {"name": "Jane Roe"}}, path)["name"] == "Jane Roe"


def test_addresses_are_replaced(store: FlaskClient) -> None:
    """An update merges addresses with known ids, adds new addresses and removes the rest."""
    places = [{"city": "One", "phone": "1"}, {"city": "Two"}, {"city": "Three"}]
    path = add(store, {"email": "new@example.com", "shippingAddresses": places})
    one, two, three = read(store, path)["shippingAddresses"]
    other_path = add(store, {"email": "other@example.com", "shippingAddresses": [{"city": "X"}]})
    [foreign] = read(store, other_path)["shippingAddresses"]
    given = [
        {"id": three["id"], "street": "Hedgehog Street"},
        {"city": "Four"},
        {"id": one["id"], "city": "Uno", "countryCode": "IT"},
        {"id": foreign["id"], "city": "Five"},
        {"id": one["id"], "city": "Six"},
    ]
    after = update(store, {"shippingAddresses": given}, path)["shippingAddresses"]
    assert after[0] == {**three, "street": "Hedgehog Street"}
    assert after[2] == {**one, "city": "Uno", "countryCode": "IT", "countryName": "Italy"}
    assert [address["city"] for address in after] == ["Three", "Four", "Uno", "Five", "Six"]
    ids = [address["id"] for address in after]
    assert len(set(ids)) == 5
    assert not {two["id"], foreign["id"]} & set(ids)
    assert read(store, other_path)["shippingAddresses"] == [foreign]
    assert update(store, {"shippingAddresses": []}, path)["shippingAddresses"] == []


def test_contacts_are_replaced(store: FlaskClient) -> None:
    """An update replaces all contacts, including the e-mail's contact, and gives new ids."""
    path = add(store, {"email": "new@example.com"})
    [before] = read(store, path)["contacts"]
    contacts = [{"contact": "1", "type": "VIBER"}, {"contact": "2", "type": "VIBER"}]
    after = update(store, {"contacts": contacts}, path)["contacts"]
    assert [(c["contact"], c["default"]) for c in after] == [("1", True), ("2", False)]
    assert before["id"] not in [contact["id"] for contact in after]
    assert update(store, {"lang": "en"}, path)["contacts"] == after


def test_contacts_keep_their_ids(store: FlaskClient) -> None:
    """A contact with a known id keeps the id and the members that the update leaves out.

    Another id counts as absent, and one id may stand twice.
    """
    path = add(store, {"email": "new@example.com", "contacts": [{"contact": "1", "type": "VK"}]})
    one, mail = read(store, path)["contacts"]
    given = [mail, {"id": one["id"], "note": "x"}, {"id": one["id"]}, {**one, "id": 5}]
    after = update(store, {"contacts": given}, path)["contacts"]
    assert after[0] == mail
    assert after[1] == {**one, "note": "x"}
    assert after[2]["id"] == one["id"]
    assert after[3]["id"] > mail["id"]
    for new in ({"note": "x"}, {"id": 5, "contact": "1"}, {"id": 5, "type": "VK"}):
        response = store.put(path, json={"contacts": [new]})
        assert response.status_code == 400
        assert "Contact." in str(response.json)
    assert read(store, path)["contacts"] == after


def test_search_follows(store: FlaskClient) -> None:
    """A search finds the new values of a customer and no longer the old values."""

    def found(**query: str) -> int:
        page = store.get(CUSTOMERS, query_string=query).json
        assert page is not None
        return int(page["total"])

    update(store, {"email": "Moved@example.com", "customerGroupId": 12345, "lang": "de"})
    update(store, {"billingPerson": {"name": "Zoë"}, "shippingAddresses": [{"city": "Ulm"}]})
    assert found(email="moved") == found(name="zoë") == found(city="ulm") == found(lang="de") == 1
    assert found(customerGroup="12345") == found(updatedFrom="2026-01-01") == 1
    assert found(email="demo.second") == 0
    assert found(name="demo") == 1


def test_email_of_another(store: FlaskClient) -> None:
    """An e-mail of another customer is a 409, and nothing changes."""
    before = read(store)
    response = store.put(SECOND, json={"email": "Customer@Example.com", "lang": "de"})
    assert response.status_code == 409
    assert response.json == {"errorMessage": "Customer with the given email already exists"}
    assert read(store) == before


def test_a_customers_own_email(store: FlaskClient) -> None:
    """A customer may keep their own e-mail, in upper or lower case."""
    assert update(store, {"email": "Demo.Second@example.com"})["email"] == "Demo.Second@example.com"


def test_empty_email(store: FlaskClient, ecwid_sandbox: EcwidSandbox) -> None:
    """An update cannot clear the e-mail, but may repeat that a customer has none."""
    assert store.put(SECOND, json={"email": ""}).status_code == 400
    ids = [ecwid_sandbox.add_customer({"email": "", "lang": lang}) for lang in ("en", "fr")]
    without = create_sandbox(ecwid_sandbox.config["ECWID_SANDBOX"]).test_client()
    without.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {TOKEN}"
    for customer_id in ids:
        path = f"{CUSTOMERS}/{customer_id}"
        after = update(without, {"email": "", "lang": "de"}, path)
        assert (after["email"], after["lang"], after["contacts"]) == ("", "de", [])


@pytest.mark.parametrize("customer_id", ["0", "1", "999999999999999999"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_unknown_customer(store: FlaskClient, method: str, customer_id: str) -> None:
    """An unknown id is a 404 that names the id."""
    response = store.open(f"{CUSTOMERS}/{customer_id}", method=method, json={})
    assert response.status_code == 404
    assert response.json == {"errorMessage": f"Customer #{customer_id} not found"}
    assert response.headers["Cache-Control"] == "must-revalidate,no-cache,no-store"


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"lang": 1}'])
def test_wrong_body(store: FlaskClient, data: bytes) -> None:
    """An invalid body is a 400, even for an unknown customer."""
    for path in (SECOND, f"{CUSTOMERS}/1"):
        response = store.put(path, data=data)
        assert response.status_code == 400
        assert response.json is not None
        assert response.json["errorCode"] == "WRONG_PARAMETER"
    assert store.put(SECOND, data=b"{}", content_type="text/plain").status_code == 415


def test_delete(store: FlaskClient) -> None:
    """A deleted customer is gone from every page, and a new customer may use the e-mail."""
    response = store.delete(SECOND)
    assert (response.status_code, response.json) == (200, {"deleteCount": 1})
    assert [c.status_code for c in (store.get(SECOND), store.delete(SECOND))] == [404, 404]
    page = store.get(CUSTOMERS).json
    assert page is not None
    assert (page["total"], page["allCustomerCount"]) == (3, 3)
    assert store.post(CUSTOMERS, json={"email": "demo.second@example.com"}).status_code == 200
