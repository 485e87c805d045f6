"""Generators of every language can read the contract, and the page names the versions."""

from __future__ import annotations

import configparser
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import pytest

from flask_ecwid import contract

from ..conftest import ROOT
from ..helpers.samples import ROOTS, SCHEMAS, all_samples, flat, nodes, patterns

CONTRACT = contract.load()
OPERATIONS: dict[str, dict[str, Any]] = {
    operation["operationId"]: operation
    for path in CONTRACT.document["paths"].values()
    for operation in path.values()
}
PARAMETERS = CONTRACT.document["components"]["parameters"]
PAGE = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")

# Names that each object of a language, or each generated class, has anyway.
TAKEN_MEMBERS = """
    additionalproperties class clone container display equals extend finalize freeze fromdict
    fromjson gethashcode gettype hash hashcode instancevariableget isnil marshaljson method methods
    notify objectid self send toarray todict tohash tojson tomap tostring unmarshaljson validate
    wait
"""
TAKEN_SCHEMAS = """
    any apiclient apierror apiexception apiresponse array boolean class client configuration date
    datetime double enum error exception file float function integer list long map model module
    none null number object option pair record request response set string time type unset void
"""
# Words that generators put before or behind the name of a schema or of an operation.
BEFORE = ("New", "Nullable", "Api", "Inline")
BEHIND = ("AllOf", "Builder", "Dto", "Enum", "Inner", "Option", "WithDefaults")
OF_OPERATIONS = ("", "Body", "Data", "Error", "Params", "Request", "Response", "Success")
FORMATS = {"int32", "int64", "double", "uuid", "uri", "password"}


def plain(name: str) -> str:
    """Return a name as generators compare names, which change case and separators."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def pascal(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", name))


def same(names: Iterable[str]) -> list[str]:
    """Return the names that occur more than once."""
    return [name for name, count in Counter(map(plain, names)).items() if count > 1]


def nodes_with(key: str, kind: type) -> list[dict[str, Any]]:
    """Return the objects of the contract that have this key with a value of this type."""
    return [node for node in nodes() if isinstance(node.get(key), kind)]


def test_no_two_names_are_the_same_without_case_and_separators() -> None:
    """Schemas, members, enums and parameters have names that stay apart in any casing."""
    assert same(SCHEMAS) == []
    assert same(OPERATIONS) == []
    for name in SCHEMAS:
        assert same(flat(SCHEMAS[name])["properties"]) == [], name
    for node in nodes_with("enum", list):
        assert same(map(str, node["enum"])) == [], node
    for operation in OPERATIONS.values():
        refs = [each["$ref"].rpartition("/")[2] for each in operation["parameters"]]
        names = [PARAMETERS[ref]["name"] for ref in refs]
        assert same([*names, "body", "client"]) == [], operation["operationId"]


def test_no_name_is_taken_by_a_language() -> None:
    """No schema or member has a name that a language or a generated class has anyway."""
    members = {plain(name) for schema in SCHEMAS.values() for name in schema.get("properties", {})}
    assert len(members) > 50
    assert members & set(TAKEN_MEMBERS.split()) == set()
    assert {plain(name) for name in SCHEMAS} & set(TAKEN_SCHEMAS.split()) == set()


def test_no_name_is_made_by_a_generator() -> None:
    """No schema has the name of a helper that a generator makes of another name."""
    made = {
        *(plain(word + name) for word, name in product(BEFORE, SCHEMAS)),
        *(plain(name + word) for name, word in product(SCHEMAS, BEHIND)),
        *(plain(name + word) for name, word in product(OPERATIONS, OF_OPERATIONS)),
    }
    inline = {
        plain(name + pascal(member))
        for name, schema in SCHEMAS.items()
        for member, node in schema.get("properties", {}).items()
        if "enum" in node
    }
    assert inline >= {"problemorigin", "problemexecuted"}
    assert {plain(name) for name in SCHEMAS} & (made | inline) == set()


def test_formats() -> None:
    """Each format is one that every generator knows, and none changes the text of a date."""
    found = {node["format"] for node in nodes_with("format", str)}
    assert {"int64", "uuid"} <= found <= FORMATS


def test_patterns_need_no_feature_that_an_engine_lacks() -> None:
    """Each pattern can be compiled by RE2, which knows neither lookaround nor large counts."""
    assert len(patterns()) > 5
    for pattern in patterns():
        assert not re.search(r"\(\?|\\[1-9kKpPuGzZAbB]|[*+?}]\+|&&|\[\[", pattern), pattern
        assert all(int(n) <= 1000 for n in re.findall(r"[{,](\d+)}", pattern)), pattern
        assert "/" not in pattern  # delimits a pattern in PHP, Ruby and JavaScript


def test_a_schema_with_parts_says_itself_whether_it_is_open() -> None:
    """A schema of several parts has its own additionalProperties, because Go reads no other."""
    composed = {n: s for n, s in SCHEMAS.items() if len(s.get("allOf", [])) > 1}
    assert set(composed) == {"Customer"}
    for name, schema in composed.items():
        [is_open] = {flat(part)["additionalProperties"] for part in schema["allOf"]}
        assert (schema["type"], schema["additionalProperties"]) == ("object", is_open), name
    for node in nodes_with("allOf", list):
        assert node in composed.values() or len(node["allOf"]) == 1, node


def below(name: str) -> set[str]:
    """Return the names of all schemas that a schema refers to, directly or through others."""
    refs = {node["$ref"] for node in nodes(SCHEMAS[name]) if "$ref" in node}
    names = {ref.rpartition("/")[2] for ref in refs}
    return names.union(*map(below, names))


def test_samples_meet_each_object_of_the_contract() -> None:
    """The documents for the generated models hold every object of the contract."""
    objects = {name for name, schema in SCHEMAS.items() if schema.get("type") == "object"}
    assert len(objects) > 20
    assert objects - {*ROOTS}.union(*map(below, ROOTS)) == set()


def judge(operation: str, name: str) -> Callable[[object], None] | None:
    """Return the validator of an operation for documents of this schema, if there is one."""
    compiled, node = CONTRACT.operations[operation], OPERATIONS[operation]
    if node.get("requestBody", {}).get("$ref", "").endswith(f"/{name}"):
        return compiled.validate_body
    good = node["responses"]["200"]["content"]["application/json"]["schema"]
    status = 400 if name == "Problem" else 200 if good["$ref"].endswith(f"/{name}") else None
    return None if status is None else lambda document: compiled.validate_response(status, document)


@pytest.mark.parametrize("name", ROOTS)
def test_samples_are_valid(name: str) -> None:
    """Each document for the generated models is valid, and a model may expect the document."""
    judges = [found for operation in OPERATIONS if (found := judge(operation, name))]
    assert judges
    for document in all_samples()[name]:
        for validate in judges:
            validate(document)


# For each object of a request the object of Ecwid's replies that has the same members.
REPLIES = {
    "CustomerInput": "Customer",
    "CustomerChanges": "Customer",
    "PersonInput": "Person",
    "ShippingAddressInput": "ShippingAddress",
    "ContactInput": "CustomerContact",
    "ContactChanges": "CustomerContact",
    "ExtraFieldInput": "ExtraField",
}


@pytest.mark.parametrize("name", REPLIES)
def test_a_member_that_only_ecwid_sets_has_a_type(name: str) -> None:
    """In a request, a member that only Ecwid sets has the type that it has in Ecwid's replies."""
    in_replies = flat(SCHEMAS[REPLIES[name]])["properties"]
    found = 0
    for member, node in SCHEMAS[name]["properties"].items():
        if node.get("readOnly"):
            assert type_of(node) == type_of(in_replies[member]), member
            found += 1
    assert found


def type_of(node: dict[str, Any]) -> tuple[object, ...]:
    schema = flat(node)
    names = ("type", "format", "nullable", "items", "properties")
    return tuple(schema.get(name) for name in names)


def versions() -> dict[str, set[str]]:
    """Return the versions of each package that `make clients` uses."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = setup["options.extras_require"]
    found: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"^([\w-]+)==([^;\s]+)", extras["test"] + extras["clients"], re.M
    ):
        found.setdefault(name, set()).add(version)
    package = json.loads((ROOT / "clients" / "package.json").read_text(encoding="utf-8"))
    return {**found, **{name: {each} for name, each in package["devDependencies"].items()}}


def test_the_page_names_the_versions_that_make_clients_uses() -> None:
    """Each command that installs a package names the version that `make clients` uses."""
    used = versions()
    lines = re.findall(r"\b(?:pip|npm) install (.*)$", PAGE, re.M)
    words = [word for line in lines for word in line.split()]
    packages = [word for word in words if not word.startswith(("-", "./"))]
    assert len(packages) >= 10
    for package in packages:
        name, _, version = package.replace("==", "@").rpartition("@")
        assert version in used.get(name, ()), package
