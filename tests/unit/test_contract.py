"""The contract is valid and complete, and its validator agrees with a reference validator."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

import pytest
from openapi_schema_validator import OAS30ReadValidator, OAS30WriteValidator
from openapi_spec_validator import validate

from flask_ecwid import contract, spec_path
from flask_ecwid.client import components
from flask_ecwid.client import operations as ecwid
from flask_ecwid.contract.schema import Schema, json_schema
from flask_ecwid.errors import EcwidError

from ..helpers.corpus import CORPUS, Row, without

TYPELESS_RULES = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minLength", "maxLength", "minItems", "maxItems", "uniqueItems"),
    *("minProperties", "maxProperties"),
)
CONTRACT = contract.load()
DOCUMENT = CONTRACT.document
OPERATIONS: dict[str, dict[str, Any]] = {
    node["operationId"]: {**node, "path": path, "method": method}
    for path, item in DOCUMENT["paths"].items()
    for method, node in item.items()
}


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        step: Any = DOCUMENT
        for name in node["$ref"].removeprefix("#/").split("/"):
            step = step[name]
        node = step
    return node


def schema_of(operation: str, side: str) -> dict[str, Any]:
    """Return the schema of a body, or of a good response, as the YAML has it."""
    node = OPERATIONS[operation]
    holder = node["requestBody"] if side == "body" else node["responses"]["200"]
    schema: dict[str, Any] = resolved(holder)["content"]["application/json"]["schema"]
    return schema


def reference_judges(operation: str, side: str, document: object) -> bool:
    kind = OAS30WriteValidator if side == "body" else OAS30ReadValidator
    root = {**schema_of(operation, side), "components": DOCUMENT["components"]}
    return bool(kind(root).is_valid(document))


def ours_judges(operation: str, side: str, document: object) -> bool:
    compiled = CONTRACT.operations[operation]
    try:
        if side == "body":
            compiled.validate_body(document)
        else:
            compiled.validate_response(200, document)
    except EcwidError:
        return False
    return True


def test_valid() -> None:
    """The contract is a valid OpenAPI 3.0.3 document."""
    validate(DOCUMENT)
    assert DOCUMENT["openapi"] == "3.0.3"


def test_the_corpus_is_large() -> None:
    """The corpus has at least 40 documents, valid ones and invalid ones."""
    assert len(CORPUS) >= 40
    assert {fits for _, _, fits, _, _ in CORPUS} == {True, False}


@pytest.mark.parametrize("row", CORPUS, ids=lambda row: f"{row[0]}-{row[1]}-{row[4]}")
def test_same_verdict(row: Row) -> None:
    """The validator of the package judges each document as openapi-schema-validator does."""
    operation, side, fits, document, _ = row
    assert reference_judges(operation, side, document) is fits
    assert ours_judges(operation, side, document) is fits


@pytest.mark.parametrize(
    ("direction", "reference"), [("request", OAS30WriteValidator), ("response", OAS30ReadValidator)]
)
@pytest.mark.parametrize(
    "document",
    [{}, {"r": 1}, {"w": 1}, {"n": None}, {"n": 1}, {"n": "x"}, {"r": 1, "w": 1, "n": 1}],
)
def test_openapi_keywords(direction: Any, reference: Any, document: dict[str, Any]) -> None:
    """The keywords nullable, readOnly and writeOnly work as OpenAPI defines them.

    A read-only member of a request is the exception, because OpenAPI only advises against it.
    """
    schema = {
        "type": "object",
        "required": ["r", "w"] if document else [],
        "properties": {
            "r": {"type": "integer", "readOnly": True},
            "w": {"type": "integer", "writeOnly": True},
            "n": {"type": "integer", "nullable": True},
        },
    }
    judged = without(document, "r") if direction == "request" else document
    assert Schema(schema, {}, direction).is_valid(document) is reference(schema).is_valid(judged)


def test_read_only_members_may_have_any_value() -> None:
    """A request may hold any value for a member that only Ecwid sets."""
    for name in ("add_customer", "update_customer"):
        [schema] = [resolved(schema_of(name, "body"))]
        members = [n for n, node in schema["properties"].items() if node.get("readOnly")]
        assert {"id", "registered", "stats"} <= set(members)
        values: list[Any] = [5, "x", None, [{}], {"a": 1}, True]
        for value in values:
            body = {"email": "a@example.com", **dict.fromkeys(members, value)}
            assert ours_judges(name, "body", body), value


def test_nullable_enum() -> None:
    """A nullable enum that lists null accepts null."""
    schema = {"type": "string", "nullable": True, "enum": ["a", None]}
    assert json_schema(schema, "response")["type"] == ["string", "null"]
    assert Schema(schema, {}, "response").is_valid(None)
    assert not Schema(schema, {}, "response").is_valid("b")


def examples() -> list[Any]:
    found = []
    for operation, node in OPERATIONS.items():
        holders = [("response", status, resolved(r)) for status, r in node["responses"].items()]
        if "requestBody" in node:
            holders.append(("body", "", resolved(node["requestBody"])))
        found += [
            pytest.param(operation, side, status, resolved(example)["value"])
            for side, status, holder in holders
            for content in holder.get("content", {}).values()
            for example in content.get("examples", {}).values()
        ]
    return found


@pytest.mark.parametrize(("operation", "side", "status", "example"), examples())
def test_examples(operation: str, side: str, status: str, example: object) -> None:
    """Every example of the contract is valid against its schema."""
    compiled = CONTRACT.operations[operation]
    if side == "body":
        compiled.validate_body(example)
    else:
        compiled.validate_response(int(status), example)


def test_all_five_good_responses_have_examples() -> None:
    """Each of the five good responses has an example."""
    assert {row.values[0] for row in examples() if row.values[2] == "200"} == set(OPERATIONS)


SEED_ROUTES = {
    "list_customers": ("get", "/customers"),
    "get_customer": ("get", "/customer/{customer_id}"),
    "add_customer": ("post", "/add_customer"),
    "update_customer": ("post", "/update_customer/{customer_id}"),
    "delete_customer": ("post", "/delete_customer/{customer_id}"),
}


def test_routes() -> None:
    """The five operations have the paths and the methods of the original description."""
    assert {name: (o["method"], o["path"]) for name, o in OPERATIONS.items()} == SEED_ROUTES


@pytest.mark.parametrize("operation", OPERATIONS)
def test_described(operation: str) -> None:
    """Each operation has a tag, a summary, a description and a link to Ecwid's page."""
    node = OPERATIONS[operation]
    assert node["tags"] == ["customers"]
    assert node["summary"]
    assert node["description"]
    assert node["externalDocs"]["url"].startswith("https://")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_response_declares_its_headers(operation: str) -> None:
    """Every response declares the headers that it sends."""
    for status, response in OPERATIONS[operation]["responses"].items():
        headers = set(resolved(response)["headers"])
        if status in (
            "401",
            "403",
        ):  # a caller without a valid key does not learn the remaining calls
            assert headers == {"X-Request-ID", "WWW-Authenticate"}
            continue
        others = {"Retry-After"} if status in ("409", "429", "503") else set()
        if status in ("400", "409", "413", "422") or (operation, status) == ("add_customer", "200"):
            others |= {"Idempotency-Replayed"}
        if status in ("400", "409", "422"):
            others |= {"Link"}
        if status in ("200", "304") and operation in ("list_customers", "get_customer"):
            others = {"ETag", "Age"}
        assert headers == {"X-Request-ID", "RateLimit", "RateLimit-Policy"} | others, status


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_failure_is_the_same_problem(operation: str) -> None:
    """Every declared failure has the schema Problem."""
    for status, response in OPERATIONS[operation]["responses"].items():
        if int(status) >= 400:
            content = resolved(response)["content"]
            assert list(content) == ["application/problem+json"]
            schema = content["application/problem+json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Problem"}


def walk(node: Any, path: str = "#") -> Any:
    yield path, node
    if isinstance(node, dict):
        for name, value in node.items():
            yield from walk(value, f"{path}/{name}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from walk(value, f"{path}/{index}")


def test_integers_have_a_format() -> None:
    """Every integer has a format, so that generators choose a large enough type."""
    for path, node in walk(DOCUMENT):
        if isinstance(node, dict) and node.get("type") == "integer":
            assert node.get("format") in ("int32", "int64"), path


def schemas_below(node: Any) -> Any:
    """Yield every schema that a document of this schema may meet, each component once."""
    waiting, seen = [node], set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            if (reference := node.get("$ref")) and reference in seen:
                continue
            seen.add(node.get("$ref"))
            node = resolved(node)
            yield node
            waiting += node.values()


def test_ecwid_may_send_any_value_of_the_declared_types() -> None:
    """No bound, length, pattern or enum applies to any member of a reply."""
    names = {each.reply for each in ecwid.OPERATIONS.values()} - {*components.OWN}
    replies = [DOCUMENT["components"]["schemas"][name] for name in names]
    rules = {*TYPELESS_RULES, "pattern", "enum", "multipleOf", "not", "oneOf", "anyOf"}
    schemas = list(schemas_below(replies))
    assert len(schemas) > 20
    for node in schemas:
        assert not rules & set(node), node


def test_generators_need_no_union() -> None:
    """No schema is a choice between other schemas, because some generators lose such values."""
    for path, node in walk(DOCUMENT["components"]["schemas"]):
        if isinstance(node, dict):
            assert not {"anyOf", "oneOf"} & set(node), path


def test_no_request_schema_is_named_like_a_constructor() -> None:
    """No schema is named New plus the name of another schema, because Go would not compile."""
    names = set(DOCUMENT["components"]["schemas"])
    assert not {f"New{name}" for name in names} & names


def test_every_link_leads_to_ecwids_current_pages() -> None:
    """Every link to a document of Ecwid leads to docs.ecwid.com."""
    links = [node["url"] for _, node in walk(DOCUMENT) if isinstance(node, dict) and "url" in node]
    assert sum("ecwid" in link for link in links) > 5
    assert all("//docs.ecwid.com/" in link for link in links if "ecwid.com" in link)


def test_patterns_are_read_by_every_language() -> None:
    """No pattern has an escape beyond ASCII, because Ruby cannot load such a pattern."""
    patterns = [
        node["pattern"]
        for path, node in walk(DOCUMENT)
        if isinstance(node, dict) and isinstance(node.get("pattern"), str)
    ]
    assert len(patterns) > 5
    for pattern in patterns:
        assert re.findall(r"\\x[8-9a-f]", pattern) == []
        assert pattern.isascii()


def test_no_inline_objects() -> None:
    """Every object is a named component, so that generators give it a good name."""
    for path, node in walk(DOCUMENT):
        if isinstance(node, dict) and node.get("type") == "object":
            assert re.fullmatch(r"#/components/schemas/\w+", path), path


def test_no_vendor_members() -> None:
    """The contract has no x- members, because they would belong to a single tool."""
    assert [path for path, _ in walk(DOCUMENT) if "/x-" in path] == []


def test_envelopes_are_closed_and_ecwids_objects_are_open() -> None:
    """Envelopes, problems and bodies allow no other members, and Ecwid's objects allow more."""
    open_ones = {
        name
        for name, schema in DOCUMENT["components"]["schemas"].items()
        if schema.get("type") == "object" and schema["additionalProperties"]
    }
    assert open_ones == {
        "Customer",
        "CustomerPage",
        "CustomerIdentity",
        "CustomerAttributes",
        "Person",
        "ShippingAddress",
        "CustomerContact",
        "Stats",
        "Favorite",
        "ExtraField",
    }


def test_no_nul_in_a_request() -> None:
    """Every text in a body has a rule that rejects NUL, unless the text is an enum."""
    waiting: list[Any] = [schema_of(name, "body") for name in ("add_customer", "update_customer")]
    texts = []
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            node = resolved(node)
            if node.get("readOnly"):
                continue  # A request may hold any value there, because the service drops the value.
            waiting += node.values()
            if node.get("type") == "string" and "enum" not in node:
                texts.append(node)
    assert texts
    for node in texts:
        assert not OAS30WriteValidator({**node, "minLength": 0}).is_valid("a\0"), node


def is_a_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("year", [1000, 1200, 1500, 1900, 1904, 2000, 2023, 2024, 2100, 2400, 2999])
def test_dates(year: int) -> None:
    """A date in a query is valid if the calendar has the date."""
    moment = CONTRACT.operations["list_customers"].parameters["query", "createdFrom"]
    for month in range(14):
        for day in range(33):
            text = f"{year}-{month:02}-{day:02}"
            for written in (text, f"{text} 23:59:59", f"{text} 00:00:00 -0930"):
                assert (moment.parse(written)[1] == []) is is_a_date(text), written


def test_nothing_is_filled_in() -> None:
    """No optional parameter has an example, because Swagger UI would send the example."""
    for name, parameter in DOCUMENT["components"]["parameters"].items():
        if not parameter.get("required"):
            assert not {"example", "examples"} & {*parameter, *resolved(parameter["schema"])}, name


def test_response_fields() -> None:
    """A selection has names of at most 32 characters, and at most 20 names in an inner list.

    The pattern sets no other limit. With more limits, Swagger UI froze for 5 seconds while it made
    an example.
    """
    fields = CONTRACT.operations["list_customers"].parameters["query", "responseFields"]
    inner = ",".join(["a"] * 20)
    many = ",".join(["a"] * 100)
    for text, fits in (
        (f"{'a' * 32},b", True),
        (f"{'a' * 33},b", False),
        (f"items({many},b({inner}),c({inner})),{many}", True),
        (f"items(b({inner},a))", False),
        ("a(b(c(d)))", False),
    ):
        assert (fields.parse(text)[1] == []) is fits, text


def test_limit() -> None:
    """The parameter limit is from 1 to 100, and its default is 100."""
    limit = resolved(DOCUMENT["components"]["parameters"]["limit"])["schema"]
    assert (limit["minimum"], limit["maximum"], limit["default"]) == (1, 100, 100)


def test_password_is_write_only() -> None:
    """A caller may send a password, and no response contains a password."""
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["CustomerInput"]["properties"]["password"]["writeOnly"] is True
    assert schemas["CustomerChanges"]["properties"]["password"]["writeOnly"] is True
    assert "password" not in schemas["CustomerAttributes"]["properties"]


def test_spec_path() -> None:
    """spec_path() returns the path of the contract that the package loads."""
    assert spec_path().name == "customers.yaml"
    assert b"operationId: list_customers" in spec_path().read_bytes()
