"""The Python client through all five operations and their failures; each type is asserted for mypy.

Runs beside what openapi-python-client has generated: tests/e2e/test_python_client.py.
"""

from __future__ import annotations

import os
from uuid import UUID

from ecwid_customers_client import AuthenticatedClient
from ecwid_customers_client.api.customers import (
    add_customer,
    delete_customer,
    get_customer,
    list_customers,
    update_customer,
)
from ecwid_customers_client.models import (
    AddedCustomerEnvelope,
    CommercialRelationship,
    ContactInput,
    Customer,
    CustomerChanges,
    CustomerContact,
    CustomerEnvelope,
    CustomerInput,
    CustomerPageEnvelope,
    DeletedCustomerEnvelope,
    ListCustomersSortBy,
    Person,
    PersonInput,
    Problem,
    ProblemError,
    ProblemExecuted,
    ProblemOrigin,
    ShippingAddress,
    Stats,
    UpdatedCustomerEnvelope,
)
from ecwid_customers_client.types import Unset
from typing_extensions import assert_type

URL = os.environ["SHOP_URL"]
shop = AuthenticatedClient(URL, os.environ["SHOP_KEY"])
reader = AuthenticatedClient(URL, os.environ["READER_KEY"])
stranger = AuthenticatedClient(URL, "canary")


def add() -> int:
    """Its id is a text; the same key gives the same customer, and no other one."""
    contact = ContactInput(contact="+49 30 1", type_="PHONE")
    body = CustomerInput(
        email="proof@example.com",
        billing_person=PersonInput(name="Ada Proof"),
        contacts=[contact],
        b2b_b2c=CommercialRelationship.B2B,
    )
    added = add_customer.sync(client=shop, body=body, idempotency_key="proof-1")
    assert_type(added, AddedCustomerEnvelope | Problem | None)
    assert isinstance(added, AddedCustomerEnvelope), added
    assert_type(added.data.id, str)
    again = add_customer.sync_detailed(client=shop, body=body, idempotency_key="proof-1")
    assert again.parsed == added
    assert again.headers["Idempotency-Replayed"] == "true"
    other = CustomerInput(email="proof.other@example.com")
    misused = add_customer.sync(client=shop, body=other, idempotency_key="proof-1")
    assert isinstance(misused, Problem), misused
    assert (misused.status, misused.executed) == (422, ProblemExecuted.NO)
    twice = add_customer.sync(client=shop, body=body)
    assert isinstance(twice, Problem), twice
    assert (twice.status, twice.origin) == (409, ProblemOrigin.ECWID)
    return int(added.data.id)


def get(customer_id: int) -> None:
    got = get_customer.sync(customer_id, client=shop)
    assert isinstance(got, CustomerEnvelope), got
    assert_type(got.data.id, int)
    assert got.data.id == customer_id
    customer = got.data.attributes
    assert_type(customer.email, str | Unset | None)
    assert_type(customer.accept_marketing, bool | Unset | None)
    assert_type(customer.billing_person, Person | Unset | None)
    assert_type(customer.stats, Stats | Unset | None)
    assert_type(customer.contacts, list[CustomerContact] | Unset | None)
    assert_type(customer.shipping_addresses, list[ShippingAddress] | Unset | None)
    assert customer.email == "proof@example.com"
    assert isinstance(customer.billing_person, Person)
    assert_type(customer.billing_person.name, str | Unset | None)
    assert customer.billing_person.name == "Ada Proof"


def change(customer_id: int) -> None:
    changes = CustomerChanges(accept_marketing=True, lang="de")
    updated = update_customer.sync(customer_id, client=shop, body=changes)
    assert_type(updated, UpdatedCustomerEnvelope | Problem | None)
    assert isinstance(updated, UpdatedCustomerEnvelope), updated
    assert_type(updated.data.id, UUID)
    assert_type(updated.data.attributes.update_count, int)
    assert updated.data.attributes.update_count == 1


def search(customer_id: int) -> None:
    page = list_customers.sync(
        client=shop,
        email="proof@example.com",
        use_exact_email_match=True,
        accept_marketing=True,
        b2b_b2c=CommercialRelationship.B2B,
        sort_by=ListCustomersSortBy.REGISTERED_DATE_ASC,
        limit=5,
    )
    assert isinstance(page, CustomerPageEnvelope), page
    assert_type(page.data.id, UUID)
    assert_type(page.data.attributes.total, int)
    assert_type(page.data.attributes.items, list[Customer])
    [customer] = page.data.attributes.items
    assert_type(customer.id, int)
    assert (customer.id, page.data.attributes.total) == (customer_id, 1)


def fail(customer_id: int) -> None:
    """What is declared is typed, field by field."""
    refused = update_customer.sync(customer_id, client=shop, body=CustomerChanges(email="none"))
    assert isinstance(refused, Problem), refused
    assert_type(refused.status, int)
    assert_type(refused.request_id, UUID)
    assert_type(refused.origin, ProblemOrigin)
    assert_type(refused.executed, ProblemExecuted | Unset)
    assert_type(refused.errors, list[ProblemError] | Unset)
    assert refused.executed is ProblemExecuted.NO
    assert not isinstance(refused.errors, Unset)
    assert_type(refused.errors[0].pointer, str)
    assert [(each.pointer, each.keyword) for each in refused.errors] == [("/email", "pattern")]
    wide = list_customers.sync(client=shop, limit=101)
    assert isinstance(wide, Problem), wide
    assert not isinstance(wide.errors, Unset)
    assert wide.errors[0].pointer == "/query/limit"
    unknown = get_customer.sync(customer_id, client=stranger)
    assert isinstance(unknown, Problem), unknown
    assert unknown.status == 401
    forbidden = delete_customer.sync_detailed(customer_id, client=reader)
    assert_type(forbidden.parsed, DeletedCustomerEnvelope | Problem | None)
    assert isinstance(forbidden.parsed, Problem), forbidden
    assert forbidden.status_code == forbidden.parsed.status == 403


def delete(customer_id: int) -> None:
    deleted = delete_customer.sync(customer_id, client=shop)
    assert isinstance(deleted, DeletedCustomerEnvelope), deleted
    assert_type(deleted.data.attributes.delete_count, int)
    assert deleted.data.attributes.delete_count == 1
    gone = get_customer.sync(customer_id, client=shop)
    assert isinstance(gone, Problem), gone
    assert gone.status == 404
    assert gone.type_ == "urn:flask-ecwid:problem:customer-not-found"


ada = add()
get(ada)
change(ada)
search(ada)
fail(ada)
delete(ada)
print("proven")
