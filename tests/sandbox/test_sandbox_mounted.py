"""The five endpoints on the sandbox."""

from __future__ import annotations

from typing import Any

from ..conftest import Api, payload


def attributes(response: Any) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json["data"]["attributes"]
    return found


def test_a_customers_life(sandboxed: Api) -> None:
    """A caller can create, read, update, list and delete a customer, who is a 404 afterwards."""
    added = sandboxed.post(
        "/add_customer", {"email": "new@example.com", "billingPerson": {"name": "A B"}}
    )
    assert added.json is not None
    customer_id = added.json["data"]["id"]
    found = attributes(sandboxed.get(f"/customer/{customer_id}"))
    assert found["email"] == "new@example.com"
    assert found["billingPerson"] == {"name": "A B", "firstName": "A", "lastName": "B"}
    changes = {"acceptMarketing": False, "billingPerson": {"city": "Bucket"}}
    assert attributes(sandboxed.post(f"/update_customer/{customer_id}", changes)) == {
        "updateCount": 1
    }
    page = attributes(sandboxed.get("/customers?email=new@&acceptMarketing=false"))
    assert [item["id"] for item in page["items"]] == [int(customer_id)]
    assert page["items"][0]["billingPerson"]["city"] == "Bucket"
    assert page["items"][0]["billingPerson"]["name"] == "A B"
    assert attributes(sandboxed.post(f"/delete_customer/{customer_id}")) == {"deleteCount": 1}
    assert sandboxed.get(f"/customer/{customer_id}").status_code == 404
    assert sandboxed.post(f"/delete_customer/{customer_id}").status_code == 404
    assert attributes(sandboxed.get("/customers?email=new@"))["total"] == 0


def test_seeded(sandboxed: Api) -> None:
    """The store begins with the four customers of the original description."""
    page = attributes(sandboxed.get("/customers"))
    seed = payload("seed.customers")
    assert (page["total"], page["count"], page["offset"], page["limit"]) == (4, 4, 0, 100)
    assert sorted(item["id"] for item in page["items"]) == sorted(c["id"] for c in seed["items"])
    by_id = {item["id"]: item for item in page["items"]}
    assert all(by_id[customer["id"]] == customer for customer in seed["items"])


def test_duplicate_email(sandboxed: Api) -> None:
    """An e-mail that is taken is a 409, in upper or lower case."""
    response = sandboxed.post("/add_customer", {"email": "CUSTOMER@example.com"})
    assert response.status_code == 409
    assert response.json is not None
    assert response.json["executed"] == "no"
    response = sandboxed.post("/update_customer/172890169", {"email": "customer@example.com"})
    assert response.status_code == 409


def test_selected_fields(sandboxed: Api) -> None:
    """A selection of fields never breaks the contract."""
    page = attributes(sandboxed.get("/customers?responseFields=items(email)&limit=1"))
    assert set(page) == {"total", "count", "offset", "limit", "items"}
    assert set(page["items"][0]) == {"id", "email"}
    assert set(attributes(sandboxed.get("/customer/172890169?responseFields=email"))) == {"email"}


def test_dates_and_orders(sandboxed: Api) -> None:
    """Filters and orders reach the store."""
    page = attributes(
        sandboxed.get(
            "/customers?createdFrom=2021-11-04&sortBy=REGISTERED_DATE_DESC&minOrderCount=0"
        )
    )
    assert [item["id"] for item in page["items"]] == [172890169, 172889711]
