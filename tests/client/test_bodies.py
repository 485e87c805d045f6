"""Tests of the bodies that the client sends to Ecwid."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from flask_ecwid import EcwidClient, Settings
from flask_ecwid.contract import load
from flask_ecwid.contract.misplaced import INSTEAD
from flask_ecwid.errors import InvalidRequest, Violation
from flask_ecwid.sandbox import Fault
from flask_ecwid.testing import EcwidSandbox

from ..conftest import STORE, TOKEN

CONTRACT = load()
Path = tuple[str, ...]  # the star stands for an item of a list
CANARY = "canary"
BASE = {"email": "a@example.com"}
WRITES = ("add_customer", "update_customer")


class Caller:
    """A client, and the bodies that it sends to a server."""

    def __init__(self, ecwid: HTTPServer) -> None:
        ecwid.expect_request(f"{STORE}/customers").respond_with_json({"id": 7})
        ecwid.expect_request(f"{STORE}/customers/7").respond_with_json({"updateCount": 1})
        url = ecwid.url_for("/api/v3")
        self.client = EcwidClient(Settings(store_id="1003", token=TOKEN, api_url=url))
        self._ecwid = ecwid

    def sends(self, operation: str, body: Any) -> Any:
        """Return the body that the operation sends."""
        if operation == "add_customer":
            self.client.add_customer(body)
        else:
            self.client.update_customer(7, body)
        return json.loads(self._ecwid.log[-1][0].data)

    def refuses(self, operation: str, body: Any) -> list[Violation]:
        """Return the violations for which the operation refuses the body without a call."""
        with pytest.raises(InvalidRequest) as caught:
            self.sends(operation, body)
        assert self._ecwid.log == []
        assert CANARY not in f"{caught.value} {caught.value.errors}"
        return list(caught.value.errors)


@pytest.fixture
def caller(ecwid: HTTPServer) -> Iterator[Caller]:
    caller = Caller(ecwid)
    with caller.client:
        yield caller


def read_only(schema: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the places of the read-only members of a schema."""
    if schema.get("readOnly"):
        yield path
    for name, member in schema.get("properties", {}).items():
        yield from read_only(member, (*path, name))
    if "items" in schema:
        yield from read_only(schema["items"], (*path, "*"))


READ_ONLY = [
    (operation, path)
    for operation in WRITES
    for path in read_only(CONTRACT.operations[operation].body_node)
]
ITEM = {"id": 5, "key": "k", "contact": "x", "type": "TEXT"}


def holding(path: Path, value: Any) -> Any:
    """Return a document with a value at a place, and what the value's item needs."""
    if not path:
        return value
    if path[0] == "*":
        return [ITEM, {**ITEM, **holding(path[1:], value)}]
    return {path[0]: holding(path[1:], value)}


def test_the_walk_finds_the_members_that_only_ecwid_sets() -> None:
    """The contract declares every member as read-only that only Ecwid sets."""
    found = {"/".join(path) for operation, path in READ_ONLY if operation == "update_customer"}
    assert found == {
        *("id", "registered", "updated", "totalOrderCount", "stats", "favorites"),
        *("externalReferenceId", "billingPerson/firstName", "billingPerson/lastName"),
        *("shippingAddresses/*/addressFormatted", "shippingAddresses/*/createdDate"),
        *("contacts/*/timestamp", "extrafields/*/orderBy", "extrafields/*/entityTypes"),
    }
    assert [path for operation, path in READ_ONLY if operation == "add_customer"] == [
        path for operation, path in READ_ONLY if operation == "update_customer"
    ]


@pytest.mark.parametrize("value", [CANARY, 5, None, [{CANARY: CANARY}], {CANARY: {CANARY: 1}}])
@pytest.mark.parametrize(("operation", "path"), READ_ONLY)
def test_members_that_only_ecwid_sets(
    caller: Caller,
    caplog: pytest.LogCaptureFixture,
    operation: str,
    path: Path,
    value: Any,
) -> None:
    """A read-only member is dropped at any depth, and the log has its pointer without a value."""
    caplog.set_level(logging.INFO, "flask_ecwid")
    body = {**BASE, "lang": "de", **holding(path, value)}
    given = copy.deepcopy(body)
    without: Any = copy.deepcopy(body)
    parent = without
    for step in path[:-1]:
        parent = parent[1 if step == "*" else step]
    del parent[path[-1]]
    assert caller.sends(operation, body) == without
    assert body == given
    pointer = "/" + "/".join(path).replace("*", "1")
    [line] = [r.getMessage() for r in caplog.records if "dropped" in r.getMessage()]
    assert line == f"dropped members operation={operation} places={pointer}"


def test_all_dropped_members_in_one_line(caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    """One line of the log has the pointers of all dropped members."""
    caplog.set_level(logging.INFO, "flask_ecwid")
    person = {"name": CANARY, "firstName": CANARY}
    body = {
        **BASE,
        "stats": {},
        "name": CANARY,
        "customerGroupId": 5,
        "customerGroupName": CANARY,
        "billingPerson": person,
    }
    caller.sends("add_customer", body)
    [line] = [r.getMessage() for r in caplog.records if "dropped" in r.getMessage()]
    places = "/stats /billingPerson/firstName /name /customerGroupName"
    assert line == f"dropped members operation=add_customer places={places}"
    caplog.clear()
    caller.sends("add_customer", BASE)
    assert "dropped" not in caplog.text


@pytest.mark.parametrize("operation", WRITES)
def test_ids_stay(caller: Caller, operation: str) -> None:
    """The ids of addresses and contacts are sent, also in mappings and tuples."""
    contact = {"id": 5, "contact": "x", "type": "PIGEON", "orderBy": True}
    body = {**BASE, "shippingAddresses": [{"id": 7, "orderBy": -1}], "contacts": [contact] * 2}
    assert caller.sends(operation, body) == body
    frozen = MappingProxyType({**body, "contacts": (MappingProxyType(contact),) * 2})
    assert caller.sends(operation, frozen) == body


# The names in a body, with the names that are sent. A text is the pointer of a refusal.
NAMES: list[tuple[dict[str, Any], dict[str, Any] | str]] = [
    ({"name": "A"}, {"billingPerson": {"name": "A"}}),
    ({"name": ""}, {"billingPerson": {"name": ""}}),
    ({"name": "A", "billingPerson": {}}, {"billingPerson": {"name": "A"}}),
    ({"name": "A", "billingPerson": {"city": "B"}}, {"billingPerson": {"city": "B", "name": "A"}}),
    ({"name": "A", "billingPerson": {"firstName": "B"}}, {"billingPerson": {"name": "A"}}),
    ({"name": "A", "billingPerson": {"name": "A"}}, {"billingPerson": {"name": "A"}}),
    ({"billingPerson": {"name": "A"}}, {"billingPerson": {"name": "A"}}),
    ({"name": "A", "billingPerson": {"name": "B"}}, "/name"),
    ({"name": "A", "billingPerson": {"name": ""}}, "/name"),
    ({"name": "", "billingPerson": {"name": "A"}}, "/name"),
    ({"name": "a", "billingPerson": {"name": "A"}}, "/name"),
    # A null sets nothing.
    ({"name": None}, {}),
    ({"name": None, "billingPerson": {"name": "A"}}, {"billingPerson": {"name": "A"}}),
    ({"name": "A", "billingPerson": None}, {"billingPerson": {"name": "A"}}),
    ({"name": "A", "billingPerson": {"name": None}}, {"billingPerson": {"name": "A"}}),
    # Ecwid refuses this body.
    ({"name": "A", "billingPerson": "B"}, {"name": "A", "billingPerson": "B"}),
]


@pytest.mark.parametrize("operation", WRITES)
@pytest.mark.parametrize(("given", "sent"), NAMES, ids=repr)
def test_names(
    caller: Caller, operation: str, given: dict[str, Any], sent: dict[str, Any] | str
) -> None:
    """A name is sent as billingPerson.name, or refused, and never lost."""
    body = copy.deepcopy({**BASE, **given})
    if isinstance(sent, str):
        [violation] = caller.refuses(operation, body)
        assert violation[:2] == (sent, "const")
        assert "billingPerson.name" in str(violation.expected)
    else:
        assert caller.sends(operation, body) == {**BASE, **sent}
    assert body == {**BASE, **given}


@pytest.mark.parametrize("operation", WRITES)
@pytest.mark.parametrize("group_id", [0, 5])
def test_the_name_of_a_group(caller: Caller, operation: str, group_id: int) -> None:
    """The name of a group is dropped beside the id, and refused without the id."""
    for more in ({}, {"customerGroupId": None}):
        body = {**BASE, "customerGroupName": CANARY, **more}
        [violation] = caller.refuses(operation, body)
        assert violation[:2] == ("/customerGroupName", "dependencies")
        assert "customerGroupId" in str(violation.expected)
    named = {**BASE, "customerGroupName": CANARY, "customerGroupId": group_id}
    assert caller.sends(operation, named) == {**BASE, "customerGroupId": group_id}


MISPLACED = [
    (place, name, other) for place, names in INSTEAD.items() for name, other in names.items()
]


@pytest.mark.parametrize("operation", WRITES)
@pytest.mark.parametrize(("place", "name", "other"), MISPLACED)
def test_misplaced_members(
    caller: Caller, operation: str, place: str, name: str, other: str
) -> None:
    """A member that Ecwid would drop is refused, and the refusal names the member to send."""
    inner: dict[str, Any] = {name: CANARY}
    pointer = place
    if place == "/shippingAddresses":
        inner, pointer = {"shippingAddresses": [{}, inner]}, "/shippingAddresses/1"
    elif place:
        inner = {place[1:]: inner}
    found = caller.refuses(operation, {**BASE, **inner})
    assert found == [Violation(pointer, "additionalProperties", f"Use {other} instead.")]


def test_the_table_of_misplaced_members() -> None:
    """The table lists no member of its own place, and the members to send exist."""
    assert {"firstName", "lastName", "phone", "companyName"} <= set(INSTEAD[""])
    places = {"": "CustomerInput", "billingPerson": "PersonInput"}
    places["shippingAddresses"] = "ShippingAddressInput"
    for place, name, other in MISPLACED:
        assert name not in CONTRACT.members(places[place[1:]])
        for each in other.split(" or "):
            parent, _, member = each.rpartition(".")
            assert member in CONTRACT.members(places[parent])


def test_new_contacts_of_an_update(caller: Caller) -> None:
    """A contact without an id needs a contact and a type in an update."""
    contacts: list[dict[str, Any]] = [{"id": 5}, {"note": "x"}, {"id": None, "contact": "x"}]
    refused = caller.refuses("update_customer", {"contacts": contacts})
    assert [(each.pointer, each.keyword) for each in refused] == [
        ("/contacts/1/contact", "required"),
        ("/contacts/1/type", "required"),
        ("/contacts/2/type", "required"),
    ]
    assert all("`contact` and `type`" in (each.expected or "") for each in refused)
    whole = {"contacts": [{"contact": "x", "type": "URL"}, {"id": 5, "note": "x"}]}
    assert caller.sends("update_customer", whole) == whole


def test_many_violations(caller: Caller) -> None:
    """A refusal lists 20 violations at most."""
    assert len(caller.refuses("update_customer", {"contacts": [{}] * 1000})) == 20


def test_a_lost_creation_is_found_by_what_ecwid_keeps(
    ecwid_sandbox: EcwidSandbox, ecwid_client: EcwidClient
) -> None:
    """A lost creation is found, although Ecwid changes what it sets or derives itself."""
    ecwid_sandbox.inject(Fault("reset", operation="add_customer", after=True))
    body = {
        "email": "lost@example.com",
        "name": "Ada L",
        "stats": {"numberOfOrders": 9},
        "billingPerson": {"countryCode": "US", "countryName": "USA", "stateOrProvinceName": "x"},
        "shippingAddresses": [{"id": 1, "city": "Ulm", "orderBy": True}],
        "contacts": [
            {"id": 2, "contact": "1", "type": "PHONE", "default": True},
            {"id": 3, "contact": "2", "type": "PHONE", "default": True},
        ],
        "extrafields": [{"key": "k", "value": 5, "type": "text", "orderBy": 3}],
    }
    created = ecwid_client.add_customer(body)
    assert [created["id"]] == [customer["id"] for customer in ecwid_sandbox.customers()]


@pytest.mark.parametrize(
    ("operation", "person", "sent"),
    [
        ("add_customer", {"firstName": "Ada", "lastName": "Lovelace"}, {"name": "Ada Lovelace"}),
        ("add_customer", {"firstName": "Ada"}, {}),
        ("add_customer", {"firstName": "Ada", "lastName": " "}, {}),
        ("add_customer", {"firstName": "Ada", "name": "Ada L"}, {"name": "Ada L"}),
        ("add_customer", {"firstName": 5, "lastName": None}, {}),
        ("update_customer", {"firstName": "Ada", "lastName": "Lovelace"}, {"name": "Ada Lovelace"}),
        ("update_customer", {"firstName": "Ada"}, {}),
        ("update_customer", {"firstName": "A", "lastName": "B", "name": ""}, {"name": ""}),
    ],
)
def test_a_name_in_two_parts(
    caller: Caller, operation: str, person: dict[str, Any], sent: dict[str, Any]
) -> None:
    """A first and a last name become the name that Ecwid reads, unless the body has that name."""
    body = caller.sends(operation, {**BASE, "billingPerson": person})
    assert body["billingPerson"] == sent
    assert caller.sends(operation, {**BASE, "name": "N", "billingPerson": {"firstName": "A"}})[
        "billingPerson"
    ] == {"name": "N"}
