"""Tests that a 400 says what the contract expects, and never what the caller has sent."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any, NamedTuple

import pytest
from pytest_httpserver import HTTPServer

from flask_ecwid.contract import load
from flask_ecwid.contract.misplaced import INSTEAD
from flask_ecwid.contract.operation import IDEMPOTENCY_KEY, Operation, Parameter
from flask_ecwid.errors import InvalidRequest
from flask_ecwid.settings import nearest

from ..conftest import REQUEST_ID, Api

CANARY = "canary"
ADDED = "/add_customer"
UPDATED = "/update_customer/7"
DOCUMENT = load().document
OPERATIONS = load().operations
SCHEMAS = DOCUMENT["components"]["schemas"]


def violations(response: Any) -> list[dict[str, str]]:
    assert response.status_code == 400
    assert CANARY not in response.text.lower()
    found: list[dict[str, str]] = response.json["errors"]
    return found


# Every rule of the contract for a value


class Rule(NamedTuple):
    """A keyword at a place, a value that violates it, and the words that the 400 must have."""

    pointer: str
    keyword: str
    value: Any
    words: list[str]


def facts_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema merged with the schemas of its `allOf` and its reference."""
    if "$ref" in node:
        return facts_of(SCHEMAS[node["$ref"].rpartition("/")[2]])
    facts = dict(node)
    for part in node.get("allOf", ()):
        facts = {**facts_of(part), **facts}
    return facts


WRONG_TYPES = {"string": 77077, "object": [], "array": {}}
WORDS_OF_TYPES = {
    "string": "text",
    "object": "An object",
    "array": "A list",
    "boolean": "`true` or `false`",
    "integer": "A whole number",
    "number": "A number",
}


def rules_of(pointer: str, node: Mapping[str, Any]) -> Iterator[Rule]:
    """Yield a rule for each keyword of a schema, without the places below."""
    facts = facts_of(node)
    words = [f"`{facts['example']}`"] if "example" in facts else []
    if "description" in facts:
        words.append(" ".join(facts["description"].split()))
    values = {
        "minimum": facts.get("minimum", 0) - 1,
        "maximum": facts.get("maximum", 0) + 1,
        "maxLength": CANARY + "x" * facts.get("maxLength", 0),
        "minLength": "",
        "enum": CANARY,
        "pattern": f"{CANARY}\n{CANARY} (",
    }
    for keyword, value in values.items():
        limit = facts.get(keyword)
        if limit is None or (keyword == "pattern" and re.search(limit, value)):
            continue
        if keyword == "enum":
            named = [f"`{each}`" for each in limit]
        elif keyword in ("minLength", "maxLength"):
            named = [f"{limit:,}"]
        else:
            named = [] if keyword == "pattern" else [str(limit)]
        yield Rule(pointer, keyword, value, words + named)
    if kind := facts.get("type"):
        is_listed = "enum" in facts or facts.get("pattern", "").startswith("^(TEXT")
        named = [] if is_listed else [WORDS_OF_TYPES[kind]]
        yield Rule(pointer, "type", WRONG_TYPES.get(kind, CANARY), words + named)


def rules_below(pointer: str, node: Mapping[str, Any]) -> Iterator[Rule]:
    """Yield the rules of a schema and of all members below, except those that Ecwid alone sets."""
    yield from rules_of(pointer, node)
    facts = facts_of(node)
    if "items" in facts:
        yield from rules_below(f"{pointer}/0", facts["items"])
    members = facts.get("properties", {})
    settable = {name: each for name, each in members.items() if not each.get("readOnly")}
    if settable:
        names = [f"`{name}`" for name in settable]
        yield Rule(pointer, "additionalProperties", {CANARY: CANARY}, names)
    for name, member in settable.items():
        yield from rules_below(f"{pointer}/{name}", member)
        if name in facts.get("required", ()):
            yield Rule(f"{pointer}/{name}", "required", {}, ["This member is required."])


def body_with(rule: Rule) -> Any:
    """Return a body that violates the rule."""
    steps = rule.pointer.split("/")[1:]
    value = rule.value
    for step in reversed(steps[:-1] if rule.keyword == "required" else steps):
        value = [value] if step == "0" else {step: value}
    good = {} if rule.pointer == "/email" else {"email": "a@example.com"}
    return {**good, **value} if isinstance(value, dict) else value


def body_rules(operation: str) -> list[Rule]:
    component = {"add_customer": "CustomerInput", "update_customer": "CustomerChanges"}[operation]
    rules = rules_below("", {"$ref": f"#/components/schemas/{component}"})
    # An integer beyond 2^53 - 1 is no strict JSON, so the schema never sees the integer.
    return [rule for rule in rules if rule.value != 2**53]


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        pytest.param(name, rule, id=f"{name[:3]}{rule.pointer}:{rule.keyword}")
        for name in ("add_customer", "update_customer")
        for rule in body_rules(name)
    ],
)
def test_every_rule_of_a_body(name: str, rule: Rule) -> None:
    """For each rule of a body, the 400 says the limit, the allowed values or an example."""
    body = json.dumps(body_with(rule)).encode()
    with pytest.raises(InvalidRequest) as caught:
        OPERATIONS[name].parse_body("application/json", "", body)
    check_expected(caught.value, rule.pointer, rule)


def check_expected(error: InvalidRequest, pointer: str, rule: Rule) -> None:
    [text] = [
        each.expected or ""
        for each in error.errors
        if (each.pointer, each.keyword) == (pointer, rule.keyword)
    ]
    for word in rule.words:
        assert word in text
    assert CANARY not in text
    assert "77077" not in text


def parameter_rules() -> list[Rule]:
    found = []
    for item in DOCUMENT["paths"].values():
        for node in item.values():
            for reference in node["parameters"]:
                name = reference["$ref"].rpartition("/")[2]
                parameter = DOCUMENT["components"]["parameters"][name]
                is_ours = parameter["in"] in ("query", "path") or name == "IdempotencyKey"
                pointer = f"/{parameter['in']}/{parameter['name']}"
                description = {"description": parameter.get("description", "")}
                for rule in rules_of(pointer, {"allOf": [parameter["schema"]], **description}):
                    if is_ours and not (rule.keyword == "type" and rule.value == 77077):
                        found.append(rule._replace(pointer=f"{node['operationId']} {pointer}"))
    return found


def parameter_of(operation: Operation, pointer: str) -> Parameter:
    _, location, name = pointer.split("/")
    if location == "header":
        assert operation.idempotency_key is not None
        return operation.idempotency_key
    return operation.parameters[location, name]


@pytest.mark.parametrize("rule", parameter_rules(), ids=lambda rule: f"{rule[0]}:{rule[1]}")
def test_every_rule_of_a_parameter(rule: Rule) -> None:
    """For each rule of a parameter, the 400 says the limit, the allowed values or an example."""
    name, _, pointer = rule.pointer.partition(" ")
    operation = OPERATIONS[name]
    parameter = parameter_of(operation, pointer)
    text = str(rule.value)
    path = {name: "7" for place, name in operation.parameters if place == "path"}
    query = []
    if parameter.location == "path":
        path[parameter.name] = text
    elif parameter.location == "query":
        query.append((parameter.name, text))

    def parse() -> None:
        operation.parse_parameters(path, query)
        operation.parse_idempotency_key({IDEMPOTENCY_KEY: text})

    with pytest.raises(InvalidRequest) as caught:
        parse()
    check_expected(caught.value, pointer, rule)


def test_a_parameter_that_comes_twice(api: Api) -> None:
    """The 400 for a repeated parameter says to give the parameter once, and the valid values."""
    [found] = violations(api.get(f"/customers?limit={CANARY}&limit=5"))
    assert found["expected"].startswith("Give this parameter once. A whole number from 1 to 100.")


def test_a_query_that_is_not_utf_8(api: Api) -> None:
    """The 400 for a query that is not UTF-8 says how a query is written."""
    [found] = violations(api.get(f"/customers?{CANARY}=%ff"))
    assert found["expected"] == "A query in UTF-8 with percent-encoding."


def test_the_example_of_the_contract(api: Api) -> None:
    """The contract's example of a 400 is what the service sends."""
    example = DOCUMENT["components"]["examples"]["InvalidProblem"]["value"]
    response = api.get("/customers?limit=101", headers={"X-Request-ID": REQUEST_ID})
    assert response.json == example


# Unknown names

NEAREST_PARAMETERS = {
    "Limit": "limit",
    "lmit": "limit",
    "sort": "sortBy",
    "sort_by": "sortBy",
    "emails": "email",
    "created_from": "createdFrom",
    "customerGroupID": "customerGroupIds",
    "group": "customerGroup",
    "state": "stateOrProvinceCode",
    "postcode": "postalCode",
    "marketing": "acceptMarketing",
    "fields": "responseFields",
    CANARY: None,
    "x" * 2000: None,
    "limit" * 50: None,
    "": None,
    "邮件": None,
}


@pytest.mark.parametrize(("sent", "nearest"), NEAREST_PARAMETERS.items())
def test_the_nearest_parameter(api: Api, sent: str, nearest: str | None) -> None:
    """The 400 for an unknown parameter names the nearest known parameter, and all of them."""
    response = api.get("/customers", query_string={sent: CANARY})
    [found] = violations(response)
    text = found["expected"]
    assert text.startswith(
        f"The nearest known name is `{nearest}`. " if nearest else "The known names are "
    )
    for location, name in OPERATIONS["list_customers"].parameters:
        assert (f"`{name}`" in text) == (location == "query")
    assert f"`{sent}`" not in text


def test_an_operation_without_parameters(api: Api) -> None:
    """The 400 of an operation without query parameters says that no name is known."""
    [found] = violations(api.post(f"{ADDED}?{CANARY}=1", {"email": "a@example.com"}))
    assert found["expected"] == "No name is known."


NEAREST_MEMBERS: list[tuple[dict[str, Any], str]] = [
    ({"emial": 1}, "The nearest known name is `email`. "),
    ({"accept_marketing": 1}, "The nearest known name is `acceptMarketing`. "),
    ({"extraFields": 1}, "The nearest known name is `extrafields`. "),
    ({"emial": 1, "lnag": 2}, "The nearest known names are `email`, `lang`. "),
    ({CANARY: 1, "emial": 1}, "The nearest known name is `email`. "),
    ({"first_name": 1}, "Use billingPerson.name instead. "),
    ({CANARY: 1}, "The known names are "),
    ({"": 1}, "The known names are "),
    ({f"a/b~{CANARY}": 1}, "The known names are "),
    ({f"{CANARY}{n}": 1 for n in range(900)}, "The known names are "),
]


@pytest.mark.parametrize(("members", "start"), NEAREST_MEMBERS, ids=lambda part: repr(part)[:40])
@pytest.mark.parametrize("path", [ADDED, UPDATED], ids=["add", "update"])
def test_the_nearest_members(api: Api, path: str, members: dict[str, Any], start: str) -> None:
    """The 400 for unknown members names the nearest known members, and never the sent names."""
    [found] = violations(api.post(path, {"email": "a@example.com", **members}))
    assert found["expected"].startswith(start)
    assert "`registered`" not in found["expected"]  # because only Ecwid sets this member
    for name in members:
        assert f"`{name}`" not in found["expected"]


def test_the_nearest_members_of_inner_objects(api: Api) -> None:
    """The known members are those of the object that has the unknown member."""
    body = {
        "email": "a@example.com",
        "billingPerson": {"phnoe": 1},
        "contacts": [{"contact": "x", "type": "URL"}, {"contact": "x", "type": "URL", "txpe": 1}],
    }
    texts = {each["pointer"]: each["expected"] for each in violations(api.post(ADDED, body))}
    assert set(texts) == {"/billingPerson", "/contacts/1"}
    assert texts["/billingPerson"].startswith("The nearest known name is `phone`. ")
    assert texts["/contacts/1"].startswith("The nearest known name is `type`. ")
    assert "`street`" in texts["/billingPerson"]
    assert "`street`" not in texts["/contacts/1"]


@pytest.mark.parametrize(
    ("place", "name"), [(place, name) for place, names in INSTEAD.items() for name in names]
)
@pytest.mark.parametrize("path", [ADDED, UPDATED], ids=["add", "update"])
def test_misplaced_members(api: Api, path: str, place: str, name: str) -> None:
    """The 400 for a misplaced member says which member to use."""
    body: Any = {name: CANARY}
    for step in reversed(place.split("/")[1:]):
        body = {step: [body] if step == "shippingAddresses" else body}
    response = api.post(path, {"email": "a@example.com", **body})
    [text] = [
        each["expected"]
        for each in violations(response)
        if each["keyword"] == "additionalProperties"
    ]
    assert text.startswith(f"Use {INSTEAD[place][name]} instead. ")


def test_the_search_for_near_names_is_bounded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many unknown names a request has, the plugin compares few of them."""
    compared = []

    class Counted(SequenceMatcher):  # type: ignore[type-arg]
        def __init__(self, _: None, sent: str, name: str, autojunk: bool) -> None:
            compared.append(sent)
            super().__init__(None, sent, name, autojunk)

    monkeypatch.setattr(nearest, "SequenceMatcher", Counted)
    members = {f"member{n}": 1 for n in range(900)}
    violations(api.post(ADDED, {"email": "a@example.com", **members}))
    assert 1 <= len(set(compared)) <= 3
    compared.clear()
    response = api.get("/customers", query_string={f"member{n}": 1 for n in range(900)})
    assert len(violations(response)) == 20
    assert len(set(compared)) == 20
    compared.clear()
    violations(api.post(ADDED, {"email": "a@example.com", "member" * 20_000: 1}))
    assert compared == []


# The log


def request_record(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    [record] = [each for each in caplog.records if each.name == "flask_ecwid.request"]
    return record


def test_the_request_line_names_the_places(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """The line of a refused request has pointers and keywords, as text and as a field."""
    caplog.set_level(logging.INFO, "flask_ecwid")
    violations(api.get(f"/customers?limit=101&minOrderCount={CANARY}&{CANARY}=1"))
    record = request_record(caplog)
    places = "/query/limit:maximum,/query/minOrderCount:type,/query:additionalProperties"
    assert record.getMessage().endswith(f" problem=invalid-request places={places}")
    assert vars(record)["places"] == places
    assert vars(record)["problem"] == "invalid-request"
    assert CANARY not in repr(vars(record))


def test_the_request_line_is_bounded(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """The line of a request with many violations names the first ten."""
    caplog.set_level(logging.INFO, "flask_ecwid")
    found = violations(api.post(UPDATED, {"extrafields": [1] * 30}))
    assert len(found) == 20
    places = vars(request_record(caplog))["places"]
    assert places.split(",") == [f"/extrafields/{n}:type" for n in range(10)]


def test_the_line_of_a_good_request_has_no_failure(
    ecwid: HTTPServer, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """The line of a good request has neither a problem nor a reason nor places."""
    caplog.set_level(logging.INFO, "flask_ecwid")
    ecwid.expect_request("/api/v3/1003/customers/7").respond_with_json({"id": 7})
    assert api.get("/customer/7").status_code == 200
    assert not {"problem", "reason", "places"} & set(vars(request_record(caplog)))


NAMES = {
    *(name for node in SCHEMAS.values() for name in node.get("properties", ())),
    *(each["name"] for each in DOCUMENT["components"]["parameters"].values()),
    *("query", "path", "header"),
}
HOSTILE = f"{CANARY}@example.com"
CANARY_BODIES: list[Any] = [
    {HOSTILE: HOSTILE},
    {"email": HOSTILE, "billingPerson": {HOSTILE: {HOSTILE: HOSTILE}}},
    {"email": {HOSTILE: HOSTILE}, "lang": [HOSTILE], "contacts": {HOSTILE: [HOSTILE]}},
    {"email": HOSTILE, "shippingAddresses": [{HOSTILE: 1, "name": {HOSTILE: 1}}, HOSTILE]},
    {
        "email": HOSTILE,
        "extrafields": [{"value": {HOSTILE: {HOSTILE: [HOSTILE]}}, "type": HOSTILE, HOSTILE: 1}],
    },
    {"email": HOSTILE, "taxExempt": HOSTILE, "stats": {HOSTILE: HOSTILE}, "b2b_b2c": HOSTILE},
    {"email": f"{HOSTILE} {HOSTILE}", "customerGroupId": HOSTILE},
    [HOSTILE, {HOSTILE: HOSTILE}],
    HOSTILE,
]


@pytest.mark.parametrize("body", CANARY_BODIES, ids=lambda body: repr(body)[:50])
@pytest.mark.parametrize("path", [ADDED, UPDATED], ids=["add", "update"])
def test_no_text_of_the_caller_gets_out(
    api: Api, caplog: pytest.LogCaptureFixture, path: str, body: Any
) -> None:
    """Neither a problem nor a log line repeats a name or a value of a refused request.

    The places have only names of the contract and numbers.
    """
    caplog.set_level(logging.DEBUG)
    headers = {"Idempotency-Key": CANARY}
    found = violations(api.post(f"{path}?{CANARY}={CANARY}", body, headers=headers))
    found += violations(api.post(path, body, headers=headers))
    for each in found:
        steps = set(each["pointer"].split("/")[1:])
        assert all(step in NAMES or step.isdecimal() for step in steps)
        assert each["expected"]
    for record in caplog.records:
        assert CANARY not in repr({**vars(record), "message": record.getMessage()}).lower()
