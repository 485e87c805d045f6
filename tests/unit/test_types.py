"""The types of Ecwid's replies agree with the contract in both directions."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints, is_typeddict

import pytest

from flask_ecwid import EcwidClient, client
from flask_ecwid.client import components, types
from flask_ecwid.client.operations import OPERATIONS

if TYPE_CHECKING:
    from typing_extensions import assert_type

    from flask_ecwid.client import Change

Schemas = dict[str, Any]

SCALARS = {"integer": int, "number": float, "string": str, "boolean": bool}
SCHEMAS: Schemas = components.schemas()


FRAMES = {"CustomerPage", "UpdateCount", "DeleteCount"}  # with a count of the contract
REF_TO_PROBLEM = {"$ref": "#/components/schemas/Problem"}  # a component without a type


class Component(NamedTuple):
    """The members of a component or of a type."""

    members: dict[str, Any]  # the Python type of each
    required: frozenset[str]


def name_of(node: dict[str, Any]) -> str | None:
    """Return the name of the component that a schema refers to."""
    ref: str | None = node.get("$ref")
    return ref and ref.removeprefix("#/components/schemas/")


def expected(schemas: Schemas, name: str) -> Component:
    """Return the members of an object in the contract, with all parts of its allOf."""
    node = schemas[name]
    members = {each: python_type(schemas, of) for each, of in node.get("properties", {}).items()}
    required = frozenset(node.get("required", ()))
    for part in node.get("allOf", ()):
        merged = expected(schemas, name_of(part) or "")
        members |= merged.members
        required |= merged.required
    return Component(members, required)


def python_type(schemas: Schemas, node: dict[str, Any]) -> Any:
    """Return the Python type of the values that fit a schema."""
    name = name_of(node)
    if name is not None:
        return python_type(schemas, {**schemas[name], "called": name})
    kind = node.get("type")
    found: Any
    if kind == "array":
        found = list[python_type(schemas, node["items"])]  # type: ignore[misc]
    elif kind in SCALARS:
        found = SCALARS[kind]
    elif "called" in node and is_object(schemas, node["called"]):
        found = getattr(types, node["called"], object)  # a component may lack its type
    elif "allOf" in node:  # of a single schema, which only adds a description
        [part] = node["allOf"]
        found = python_type(schemas, part)
    else:  # without a settled type
        return Any
    return found | None if node.get("nullable") else found


def is_object(schemas: Schemas, name: str) -> bool:
    """Return True if a component is an object, or if its allOf has objects."""
    node = schemas[name]
    parts = [name_of(part) for part in node.get("allOf", ())]
    return node.get("type") == "object" or any(part and is_object(schemas, part) for part in parts)


def objects_of_replies(schemas: Schemas) -> set[str]:
    """Return the names of all objects that good replies are made of."""
    found: set[str] = set()
    left: list[Any] = [
        {"$ref": f"#/components/schemas/{operation.reply}"} for operation in OPERATIONS.values()
    ]
    while left:
        node = left.pop()
        if isinstance(node, list):
            left += node
        elif isinstance(node, dict):
            name = name_of(node)
            left += [schemas[name]] if name and name not in found else node.values()
            found |= {name} if name else set()
    return {name for name in found if is_object(schemas, name)}


def shown(kind: Any) -> Component:
    """Return the members of a TypedDict."""
    return Component(get_type_hints(kind), kind.__required_keys__)


def differences(schemas: Schemas) -> set[str]:
    """Return the names at which a component and a type differ, or have no counterpart."""
    components = objects_of_replies(schemas)
    ours = {name: getattr(types, name) for name in types.__all__}
    both = components & set(ours)
    return components ^ set(ours) | {
        name for name in both if shown(ours[name]) != expected(schemas, name)
    }


def test_each_type_is_its_component() -> None:
    """Each object of Ecwid's replies has a type with its members, and each type has an object."""
    assert differences(SCHEMAS) == set()


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (lambda s: s["Person"]["properties"].update(title={"type": "string"}), {"Person"}),
        (lambda s: s["Person"]["properties"].pop("city"), {"Person"}),
        (lambda s: s["Person"].update(required=["city"]), {"Person"}),
        (lambda s: s["Person"].update(nullable=False), {"Customer", "CustomerAttributes"}),
        (lambda s: s["CustomerPage"]["required"].remove("limit"), {"CustomerPage"}),
        (lambda s: s["CustomerIdentity"].pop("required"), {"CustomerIdentity", "Customer"}),
        (lambda s: s["Stats"]["properties"]["salesValue"].pop("nullable"), {"Stats"}),
        (lambda s: s["Stats"]["properties"]["salesValue"].update(type="integer"), {"Stats"}),
        (lambda s: s["EntityTypes"].update(type="string"), {"ExtraField"}),
        (lambda s: s["ShippingAddress"]["properties"].update(city={}), {"ShippingAddress"}),
        (lambda s: s["WholeNumber"].update(nullable=True), FRAMES),
        (
            lambda s: s["Customer"]["allOf"].pop(),
            set(types.__all__) - FRAMES - {"CustomerIdentity", "Deletion", "DeletionPage"},
        ),
        (
            lambda s: s["Person"]["properties"].update(phone=REF_TO_PROBLEM),
            {"Person", "Problem", "ProblemError"},
        ),
    ],
)
def test_a_change_of_the_contract_is_seen(change: Any, differs: set[str]) -> None:
    """A contract with another member, requirement, type or component differs from the types."""
    changed = copy.deepcopy(SCHEMAS)
    change(changed)
    assert differences(changed) == differs


def test_every_type_is_public() -> None:
    """The package `flask_ecwid.client` exports the types, the client and what its methods give."""
    results = {"Change", "CustomerDeleted", "CustomerUnreadable", "CustomerUpdated", "Put"}
    iterators = {"ChangeIterator", "CursorExpired", "CustomerIterator"}
    assert set(client.__all__) == {"EcwidClient", *results, *iterators, *types.__all__}
    assert client.__all__ == sorted(client.__all__)
    own = {name for name, kind in vars(types).items() if is_typeddict(kind) and name[0] != "_"}
    assert own == set(types.__all__)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_method_returns_the_type_of_its_reply(operation: str) -> None:
    """A method of the client returns the type whose schema validates its operation's reply."""
    returned = get_type_hints(getattr(EcwidClient, operation))["return"]
    assert returned is getattr(types, OPERATIONS[operation].reply)


if TYPE_CHECKING:  # Only mypy reads this function, as a part of `make test`.

    def _types_as_a_caller_sees_them(client: EcwidClient) -> None:
        customer = client.get_customer(7)
        assert_type(customer["email"], str | None)
        assert_type(customer["id"], int)
        assert_type(customer.get("billingPerson"), types.Person | None)
        customer["emial"]  # type: ignore[typeddict-item]
        customer["billingPerson"]["city"]  # type: ignore[index]
        assert_type(client.list_customers()["items"], list[types.Customer])
        client.list_customers()["item"]  # type: ignore[typeddict-item]
        assert_type(client.add_customer({"email": "a@example.com"})["id"], int)
        assert_type(client.update_customer(7, {"lang": "en"})["updateCount"], int)
        assert_type(client.delete_customer(7)["deleteCount"], int)
        assert_type(next(client.iter_customers()), types.Customer)
        assert_type([each["id"] for each in client.iter_customers()], list[int])
        assert_type(client.list_deleted()["items"], list[types.Deletion])
        assert_type(next(client.iter_changes()), Change)
