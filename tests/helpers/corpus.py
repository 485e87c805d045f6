"""Valid and invalid documents as (operation, "body" or "answer", is_valid, document, name)."""

from __future__ import annotations

from typing import Any

from ..conftest import REQUEST_ID, payload


def envelope(id: object, attributes: object, **more: object) -> dict[str, object]:
    return {"data": {"id": id, "type": "ecwid", "attributes": attributes, **more}}


def page(*customers: object, **more: object) -> dict[str, object]:
    count = len(customers)
    ours = {"total": count, "count": count, "offset": 0, "limit": 100, "items": list(customers)}
    return envelope(REQUEST_ID, {**ours, **more})


def without(document: dict[str, Any], member: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != member}


NEW = {"email": "a@example.com"}
PAGE = payload("search-customers.response")
CUSTOMER = without(payload("get-customer.response"), "id")

Row = tuple[str, str, bool, Any, str]

CORPUS: list[Row] = [
    # Bodies of add_customer.
    ("add_customer", "body", True, NEW, "an e-mail is enough"),
    ("add_customer", "body", True, payload("create-customer.request"), "Ecwid's example"),
    ("add_customer", "body", True, payload("2015-12-03.create-customer.request"), "of 2015"),
    ("add_customer", "body", True, payload("2019-03-18.create-customer.request"), "of 2019"),
    ("add_customer", "body", True, {"email": "ü+tag@exämple.com"}, "an international e-mail"),
    ("add_customer", "body", True, {"email": "a" * 242 + "@example.com"}, "254 characters"),
    ("add_customer", "body", True, {**NEW, "password": "s"}, "a password may be sent"),
    ("add_customer", "body", True, {**NEW, "taxId": ""}, "an empty text"),
    ("add_customer", "body", True, {**NEW, "billingPerson": {"countryCode": ""}}, "no country"),
    (
        "add_customer",
        "body",
        True,
        {**NEW, "contacts": [{"contact": "1", "type": "PHONE", "default": True, "orderBy": 0}]},
        "a contact",
    ),
    (
        "add_customer",
        "body",
        True,
        {**NEW, "extrafields": [{"key": "k", "value": "v", "type": "TEXT"}]},
        "an extra field",
    ),
    (
        "add_customer",
        "body",
        True,
        {**NEW, "shippingAddresses": [{"name": "<b>", "defaultAddress": True, "note": "x"}]},
        "an address, with any text",
    ),
    ("add_customer", "body", False, {}, "no e-mail"),
    ("add_customer", "body", False, None, "null"),
    ("add_customer", "body", False, [], "an array"),
    ("add_customer", "body", False, "a@example.com", "a text"),
    ("add_customer", "body", False, {"email": None}, "a null e-mail"),
    ("add_customer", "body", False, {"email": ""}, "an empty e-mail"),
    ("add_customer", "body", False, {"email": 5}, "a number as e-mail"),
    ("add_customer", "body", False, {"email": "a@b@c"}, "two @"),
    ("add_customer", "body", False, {"email": "a b@example.com"}, "a blank in the e-mail"),
    ("add_customer", "body", False, {"email": "a@example.com\r\nX: y"}, "a line in the e-mail"),
    ("add_customer", "body", False, {"email": "a" * 243 + "@example.com"}, "255 characters"),
    ("add_customer", "body", False, {**NEW, "__proto__": {}}, "an unknown member"),
    ("add_customer", "body", False, {**NEW, "taxExempt": "true"}, "a text for a boolean"),
    ("add_customer", "body", False, {**NEW, "taxExempt": 1}, "a number for a boolean"),
    ("add_customer", "body", False, {**NEW, "customerGroupId": -1}, "a negative group"),
    ("add_customer", "body", False, {**NEW, "customerGroupId": True}, "a boolean for a number"),
    ("add_customer", "body", False, {**NEW, "customerGroupId": 1.5}, "half a group"),
    ("add_customer", "body", False, {**NEW, "customerGroupId": 2**53}, "more than 2^53-1"),
    ("add_customer", "body", False, {**NEW, "b2b_b2c": "b2g"}, "not one of the enum"),
    ("add_customer", "body", False, {**NEW, "privateAdminNotes": "x" * 100_001}, "too long"),
    ("add_customer", "body", False, {**NEW, "privateAdminNotes": "x\0"}, "a NUL"),
    ("add_customer", "body", False, {**NEW, "password": "\0"}, "a NUL as password"),
    ("add_customer", "body", True, {**NEW, "privateAdminNotes": "x\ny\n"}, "lines"),
    ("add_customer", "body", False, {**NEW, "billingPerson": None}, "null does not clear"),
    ("add_customer", "body", False, {**NEW, "billingPerson": {"age": 5}}, "an unknown member"),
    ("add_customer", "body", False, {**NEW, "billingPerson": {"countryCode": "USA"}}, "3 letters"),
    ("add_customer", "body", False, {**NEW, "shippingAddresses": {}}, "an object for a list"),
    ("add_customer", "body", False, {**NEW, "contacts": [{"type": "EMAIL"}]}, "an empty contact"),
    (
        "add_customer",
        "body",
        True,
        {**NEW, "contacts": [{"contact": "1", "type": "PIGEON"}]},
        "an unknown type of contact",
    ),
    # Bodies of update_customer.
    ("update_customer", "body", True, {}, "nothing to change"),
    ("update_customer", "body", True, payload("update-customer.request"), "Ecwid's example"),
    ("add_customer", "body", True, {**NEW, "electronicInvoiceSdiCode": "1"}, "an e-invoice"),
    ("add_customer", "body", True, {**NEW, "privateAdminNotes": "x" * 100_000}, "a long note"),
    ("add_customer", "body", True, {**NEW, "taxId": "x" * 1000}, "a long line"),
    ("add_customer", "body", False, {**NEW, "taxId": "x" * 1001}, "too long a line"),
    ("add_customer", "body", False, {**NEW, "firstName": "A"}, "a first name at the top"),
    (
        "add_customer",
        "body",
        True,
        {**NEW, "extrafields": [{"key": "k", "value": 5, "type": "text"}]},
        "an extra field in small letters, with a number",
    ),
    (
        "add_customer",
        "body",
        False,
        {**NEW, "extrafields": [{"key": "k", "type": "Text"}]},
        "an unknown type of extra field",
    ),
    ("update_customer", "body", True, {"electronicInvoiceSdiCode": "1"}, "an e-invoice"),
    ("update_customer", "body", True, {"email": ""}, "no e-mail"),
    (
        "update_customer",
        "body",
        True,
        {"contacts": [{"id": 5, "note": "x"}]},
        "a contact by its id",
    ),
    (
        "update_customer",
        "body",
        True,
        {"shippingAddresses": [{"id": 0, "orderBy": -1}, {"orderBy": True}]},
        "both forms of orderBy",
    ),
    (
        "update_customer",
        "body",
        True,
        {"billingPerson": {"stateOrProvinceName": "Kyiv"}},
        "the name of a state",
    ),
    ("update_customer", "body", True, {"shippingAddresses": [{"id": 5}]}, "an address by its id"),
    ("update_customer", "body", False, {"acceptMarketing": None}, "null does not clear"),
    ("update_customer", "body", False, {"updateCount": 1}, "an unknown member"),
    # Replies of list_customers.
    ("list_customers", "answer", True, page(), "no customers"),
    ("list_customers", "answer", True, envelope(REQUEST_ID, PAGE), "Ecwid's example"),
    ("list_customers", "answer", True, page({"id": 1}), "an id is enough"),
    ("list_customers", "answer", True, page({"id": 2**53 - 1, "email": None}), "no e-mail"),
    ("list_customers", "answer", True, page({"id": 0}, total=-1), "numbers out of any range"),
    (
        "list_customers",
        "answer",
        True,
        page({"id": 1, "shippingAddresses": [{"orderBy": -1, "defaultAddress": False}]}),
        "an incomplete address",
    ),
    (
        "list_customers",
        "answer",
        True,
        page({"id": 1, "extrafields": [{"value": 5}, {"value": ["a"]}, {"value": None}]}),
        "any value of an extra field",
    ),
    ("list_customers", "answer", True, page({"id": 1}, cursor="x"), "a new member of the page"),
    ("list_customers", "answer", True, page({"id": 1, "tomorrow": {"a": [1]}}), "a new member"),
    ("list_customers", "answer", True, page({"id": 1, "billingPerson": None}), "nobody to bill"),
    ("list_customers", "answer", True, page({"id": 1, "stats": {"x": None}}), "a new figure"),
    (
        "list_customers",
        "answer",
        True,
        page({"id": 1, "contacts": [{"type": "PIGEON", "orderBy": True}, {"orderBy": 3}]}),
        "a type of tomorrow, and both forms of orderBy",
    ),
    (
        "list_customers",
        "answer",
        True,
        page({"id": 1, "extrafields": [{"entityTypes": "CUSTOMERS"}, {"entityTypes": ["X"]}]}),
        "both forms of entityTypes",
    ),
    (
        "list_customers",
        "answer",
        True,
        page(
            {"id": 1, "shippingAddresses": payload("2024.search-customers.item-shippingAddresses")}
        ),
        "an address of 2024",
    ),
    ("list_customers", "answer", False, page({"email": "a@example.com"}), "no id"),
    ("list_customers", "answer", False, page({"id": "1"}), "a text as id"),
    ("list_customers", "answer", False, page({"id": None}), "a null id"),
    ("list_customers", "answer", False, page(None), "a null customer"),
    ("list_customers", "answer", False, page({"id": 1, "email": 5}), "a number as e-mail"),
    ("list_customers", "answer", False, page({"id": 1, "contacts": {}}), "an object for a list"),
    ("list_customers", "answer", False, page({"id": 1, "taxExempt": "no"}), "a text for a boolean"),
    ("list_customers", "answer", False, page(total=None), "a null total"),
    ("list_customers", "answer", False, page(items=None), "no list"),
    *(
        ("list_customers", "answer", False, envelope(REQUEST_ID, without(PAGE, name)), f"no {name}")
        for name in ("total", "count", "offset", "limit", "items")
    ),
    ("list_customers", "answer", False, envelope("5", PAGE), "an id that is no UUID"),
    ("list_customers", "answer", False, envelope(5, PAGE), "a number as id"),
    ("list_customers", "answer", False, envelope(REQUEST_ID, PAGE, meta={}), "a larger envelope"),
    ("list_customers", "answer", False, {**page(), "meta": {}}, "a larger envelope"),
    ("list_customers", "answer", False, {"data": []}, "another envelope"),
    # Replies of get_customer.
    ("get_customer", "answer", True, envelope(5, CUSTOMER), "Ecwid's example"),
    ("get_customer", "answer", True, envelope(5, {}), "nothing but an id"),
    ("get_customer", "answer", True, envelope(5, payload("seed.customer")), "the seed's"),
    ("get_customer", "answer", False, envelope("5", CUSTOMER), "a text as id"),
    ("get_customer", "answer", False, envelope(None, CUSTOMER), "no id"),
    ("get_customer", "answer", False, envelope(5, None), "no attributes"),
    ("get_customer", "answer", False, envelope(5, {"lang": 5}), "a number as language"),
    # Replies of the writes.
    ("add_customer", "answer", True, envelope("15319442", {}), "the seed's"),
    ("add_customer", "answer", False, envelope(15319442, {}), "a number as id"),
    ("add_customer", "answer", False, envelope("5", {"success": True}), "an attribute"),
    ("update_customer", "answer", True, envelope(REQUEST_ID, {"updateCount": 1}), "the seed's"),
    ("update_customer", "answer", False, envelope(REQUEST_ID, {"updateCount": None}), "null"),
    ("update_customer", "answer", False, envelope(REQUEST_ID, {}), "no count"),
    ("update_customer", "answer", False, envelope(REQUEST_ID, {"deleteCount": 1}), "the other"),
    ("delete_customer", "answer", True, envelope(REQUEST_ID, {"deleteCount": 0}), "nothing done"),
    ("delete_customer", "answer", False, envelope(REQUEST_ID, {"deleteCount": "1"}), "a text"),
]
