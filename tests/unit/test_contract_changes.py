"""Only a major version of the contract may break a caller."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from flask_ecwid import contract

from ..conftest import ROOT
from ..helpers.contract_changes import refused

DOCUMENT = contract.load().document
RELEASED = ROOT / "openapi" / "released"

Change = Callable[[dict[str, Any]], object]


def at(path: str) -> Callable[[dict[str, Any]], Any]:
    """Return the node at a path whose names are separated by `|`."""

    def find(document: dict[str, Any]) -> Any:
        for name in path.split("|"):
            document = document[int(name) if isinstance(document, list) else name]
        return document

    return find


def puts(path: str, name: str, value: object) -> Change:
    return lambda document: at(path)(document).update({name: deepcopy(value)})


def drops(path: str, name: object) -> Change:
    def change(document: dict[str, Any]) -> None:
        node = at(path)(document)
        del node[node.index(name) if isinstance(node, list) else name]

    return change


def adds(path: str, value: object) -> Change:
    return lambda document: at(path)(document).append(deepcopy(value))


def renames(schema: str) -> Change:
    def change(document: dict[str, Any]) -> None:
        named = f"#/components/schemas/{schema}"
        text = json.dumps(document).replace(f'"{named}"', f'"{named}s"')
        document.update(json.loads(text))
        schemas = document["components"]["schemas"]
        schemas[f"{schema}s"] = schemas.pop(schema)

    return change


LIST, GET = "paths|/customers|get", "paths|/customer/{customer_id}|get"
ADD = "paths|/add_customer|post"
SCHEMAS, PARAMETERS = "components|schemas", "components|parameters"
NEW = f"{SCHEMAS}|CustomerInput"
TEXT = {"type": "string"}
CITY = {"$ref": "#/components/parameters/city"}
SHOE = {"name": "shoe", "in": "query", "schema": TEXT}
A_STATUS = {"description": "x"}

BREAKING: dict[str, tuple[Change, str]] = {
    "an operation is gone": (drops("paths", "/add_customer"), "add_customer: gone"),
    "a path is another": (
        lambda document: document["paths"].update({"/all": document["paths"].pop("/customers")}),
        "list_customers: gone",
    ),
    "an operationId is another": (puts(LIST, "operationId", "all"), "list_customers: gone"),
    "another server": (puts("servers|0", "url", "/v2"), "servers: others"),
    "a schema has another name": (renames("DeleteCount"), "schema DeleteCount: gone"),
    "another scope": (
        puts(LIST, "security", [{"bearer": ["write"]}, {"apiKey": ["read"]}]),
        "list_customers: bearer is not enough",
    ),
    "a scheme less": (drops(f"{LIST}|security", {"apiKey": ["read"]}), "apiKey is not enough"),
    "both schemes at once": (
        puts(LIST, "security", [{"bearer": ["read"], "apiKey": ["read"]}]),
        "bearer is not enough",
    ),
    "another header for the key": (
        puts("components|securitySchemes|apiKey", "name", "X-Key"),
        "get_customer: apiKey is not enough",
    ),
    "a parameter is gone": (drops(f"{LIST}|parameters", CITY), "list_customers city: gone"),
    "a parameter is elsewhere": (puts(f"{PARAMETERS}|city", "in", "header"), "city: gone"),
    "a parameter is required": (puts(f"{PARAMETERS}|city", "required", True), "city: required"),
    "a new one is required": (adds(f"{LIST}|parameters", {**SHOE, "required": True}), "shoe: req"),
    "a lower maximum": (puts(f"{PARAMETERS}|limit|schema", "maximum", 50), "limit: maximum"),
    "a higher minimum": (puts(f"{PARAMETERS}|limit|schema", "minimum", 2), "limit: minimum"),
    "another default": (puts(f"{PARAMETERS}|limit|schema", "default", 10), "another default"),
    "shorter": (puts(f"{SCHEMAS}|SearchTerm", "maxLength", 20), "city: maxLength"),
    "longer at least": (puts(f"{SCHEMAS}|SearchTerm", "minLength", 1), "city: minLength"),
    "another pattern": (puts(f"{SCHEMAS}|IdList", "pattern", "^0$"), "purchasedProductIds: patt"),
    "a value less": (drops(f"{PARAMETERS}|sortBy|schema|enum", "NAME_ASC"), "sortBy: enum"),
    "values are named": (puts(f"{SCHEMAS}|SearchTerm", "enum", ["x"]), "city: enum"),
    "another type": (puts(f"{SCHEMAS}|IdList", "type", "integer"), "another type"),
    "a whole number only": (puts(f"{SCHEMAS}|Money", "type", "integer"), "another type"),
    "another format": (puts(f"{SCHEMAS}|Id", "format", "int32"), "customer_id: another format"),
    "a body is required": (
        puts(GET, "requestBody", {"required": True, "content": {}}),
        "get_customer body: required",
    ),
    "no body": (drops(ADD, "requestBody"), "add_customer body: no longer application/json"),
    "a body of another type": (
        puts("components|requestBodies|CustomerInput", "content", {}),
        "add_customer body: no longer application/json",
    ),
    "a member is required": (adds(f"{NEW}|required", "lang"), "add_customer body/lang: required"),
    "a member of a body is gone": (drops(f"{NEW}|properties", "lang"), "body/lang: gone"),
    "in depth": (
        puts(f"{SCHEMAS}|ContactType", "maxLength", 9),
        "add_customer body/contacts/*/type: maxLength",
    ),
    "a value less in a body": (
        drops(f"{SCHEMAS}|CommercialRelationship|enum", "b2c"),
        "add_customer body/b2b_b2c: enum",
    ),
    "below allOf": (puts(f"{SCHEMAS}|ShortText", "maxLength", 9), "add_customer body/name: maxL"),
    "a list is shorter": (
        puts(f"{NEW}|properties|contacts", "maxItems", 3),
        "add_customer body/contacts: maxItems",
    ),
    "an answer is gone": (drops(f"{GET}|responses", "404"), "get_customer 404: gone"),
    "another success": (puts(f"{GET}|responses", "202", A_STATUS), "get_customer 202: a success"),
    "an answer of another type": (
        puts("components|responses|NotFound", "content", {"text/plain": {"schema": TEXT}}),
        "get_customer 404: of another type",
    ),
    "a header is gone": (
        drops("components|responses|Unavailable|headers", "Retry-After"),
        "list_customers 503 Retry-After: may be missing",
    ),
    "a header may be missing": (
        drops("components|headers|RetryAfter", "required"),
        "list_customers 503 Retry-After: may be missing",
    ),
    "a header with more": (puts("components|headers|RetryAfter|schema", "maximum", 9999), "Retry"),
    "a member of an answer is gone": (
        drops(f"{SCHEMAS}|CustomerAttributes|properties", "email"),
        "get_customer 200/data/attributes/email: gone",
    ),
    "a member may be missing": (
        drops(f"{SCHEMAS}|Problem|required", "detail"),
        "get_customer 404/detail: may be missing",
    ),
    "a member may be null": (
        puts(f"{SCHEMAS}|Problem|properties|detail", "nullable", True),
        "get_customer 404/detail: null",
    ),
    "a closed object has more": (
        puts(f"{SCHEMAS}|Problem|properties", "shoe", TEXT),
        "get_customer 404/shoe: a member that nobody expects",
    ),
    "a closed object is open": (
        puts(f"{SCHEMAS}|Problem", "additionalProperties", True),
        "get_customer 404: other members",
    ),
    "an id is a number": (
        puts(f"{SCHEMAS}|AddedCustomerData|properties|id", "type", "integer"),
        "add_customer 200/data/id: another type",
    ),
    "a larger number": (
        puts(f"{SCHEMAS}|Problem|properties|status", "maximum", 999),
        "get_customer 404/status: maximum",
    ),
    "no type any more": (
        drops(f"{SCHEMAS}|WholeNumber", "type"),
        "list_customers 200/data/attributes/total: another type",
    ),
    "a value more": (adds(f"{SCHEMAS}|Problem|properties|origin|enum", "moon"), "404/origin: enum"),
    "alternatives, which the comparison does not understand": (
        puts(f"{SCHEMAS}|EntityTypes", "anyOf", [TEXT]),
        "extrafields/*/entityTypes: another anyOf",
    ),
}

FINE: dict[str, Change] = {
    "nothing": lambda document: None,
    "other words": puts("info", "description", "x"),
    "an operation more": puts("paths", "/more", {"get": DOCUMENT["paths"]["/customers"]["get"]}),
    "a schema more": puts(SCHEMAS, "Shoe", TEXT),
    "a parameter more": adds(f"{LIST}|parameters", SHOE),
    "a way in more": adds(f"{LIST}|security", {"bearer": []}),
    "a higher maximum": puts(f"{PARAMETERS}|limit|schema", "maximum", 500),
    "no pattern": drops(f"{SCHEMAS}|SearchTerm", "pattern"),
    "a value more": adds(f"{PARAMETERS}|sortBy|schema|enum", "SHOE_ASC"),
    "a member more": puts(f"{NEW}|properties", "shoe", TEXT),
    "a member less is required": drops(f"{NEW}|required", "email"),
    "null is taken": puts(f"{NEW}|properties|taxExempt", "nullable", True),
    "a failure more": puts(f"{GET}|responses", "418", A_STATUS),
    "a header more": puts("components|responses|NotFound|headers", "Shoe", {"schema": TEXT}),
    "an open object has more": puts(f"{SCHEMAS}|Person|properties", "shoe", TEXT),
    "a member is always there": puts(f"{SCHEMAS}|Person", "required", ["name"]),
    "a value less": drops(f"{SCHEMAS}|Problem|properties|origin|enum", "ecwid"),
    "a type where none was": puts(f"{SCHEMAS}|EntityTypes", "type", "string"),
    "a smaller number": puts("components|headers|RetryAfter|schema", "maximum", 60),
}


def changed(change: Change) -> dict[str, Any]:
    document = deepcopy(DOCUMENT)
    change(document)
    return document


@pytest.mark.parametrize("name", BREAKING)
def test_breaking(name: str) -> None:
    """The comparison finds a change that breaks callers, and names its place."""
    change, expected = BREAKING[name]
    found = refused(DOCUMENT, changed(change))
    assert [place for place in found if expected in place], found


@pytest.mark.parametrize("name", FINE)
def test_fine(name: str) -> None:
    """The comparison allows a change that breaks no caller."""
    assert refused(DOCUMENT, changed(FINE[name])) == []


def test_an_open_body_is_closed() -> None:
    """A body that allows other members keeps allowing them, without a schema for them."""
    old = changed(puts(NEW, "additionalProperties", True))
    for closed in (False, TEXT):
        new = changed(puts(NEW, "additionalProperties", closed))
        assert refused(old, new) == ["add_customer body: other members"]


def test_a_major_version() -> None:
    """A new major version may break callers, and a minor version may not."""
    old, new = deepcopy(DOCUMENT), changed(drops("paths", "/add_customer"))
    old["info"]["version"] = "1.9.3"
    for version, found in (("1.10.0", ["add_customer: gone"]), ("2.0.0", []), ("10.0.0", [])):
        new["info"]["version"] = version
        assert refused(old, new) == found


def test_every_release_is_kept() -> None:
    """Each released version has its contract in openapi/released, and the next one may have it."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = dict(re.findall(r"^## (\d\S+)(?: (.*))?$", changelog, re.M))
    released = {name for name, day in versions.items() if day != "(unreleased)"}
    assert released <= {path.stem for path in RELEASED.glob("*.yaml")} <= set(versions)


def test_the_baseline() -> None:
    """Later contracts are compared with the contract of 1.0.0."""
    assert (RELEASED / "1.0.0.yaml").is_file()


def test_the_last_release() -> None:
    """The contract breaks no caller of the last released contract."""
    assert refused_since_last_release(RELEASED) == []


def test_a_folder_of_releases(tmp_path: Path) -> None:
    """The contract is compared with the greatest released version, if there is one."""
    assert refused_since_last_release(tmp_path) == []
    gone = changed(drops("paths", "/add_customer"))
    grown = changed(puts("paths", "/new", DOCUMENT["paths"]["/add_customer"]))
    grown["paths"]["/new"]["post"]["operationId"] = "new"
    for version, document in (("1.9.0", gone), ("1.10.0", grown), ("1.2.0", gone)):
        document["info"]["version"] = version
        (tmp_path / f"{version}.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    assert refused_since_last_release(tmp_path) == ["new: gone"]


def refused_since_last_release(folder: Path) -> list[str]:
    """Return how today's contract breaks callers of the last contract that was released."""
    released = sorted(
        folder.glob("*.yaml"), key=lambda path: [int(part) for part in path.stem.split(".")]
    )
    if not released:
        return []
    document = yaml.safe_load(released[-1].read_text(encoding="utf-8"))
    assert document["info"]["version"] == released[-1].stem
    return refused(document, DOCUMENT)
