"""The contract in OpenAPI 3.1 is the contract in another notation, with the webhook events."""

from __future__ import annotations

import re
from typing import Any

import pytest
from openapi_spec_validator import validate

from flask_ecwid import contract
from flask_ecwid.web import openapi
from flask_ecwid.web.openapi_31 import openapi_31

DOCUMENT = contract.load().document
MOUNTS = {
    "as it is": DOCUMENT,
    "an open mount": openapi.secured(DOCUMENT, {}),
    "a mount with a required key": openapi.with_required_idempotency_key(DOCUMENT),
    "a prefix with a variable": openapi.at_mount(DOCUMENT, "/shops/{shop}", {"shop": "7"}),
}


def in_openapi_30(node: Any) -> Any:
    """Return a part of a document in OpenAPI 3.1 in the notation of OpenAPI 3.0."""
    if isinstance(node, list):
        return [in_openapi_30(item) for item in node]
    if not isinstance(node, dict):
        return node
    translated = {key: in_openapi_30(value) for key, value in node.items()}
    match node.get("type"):
        case [kind, "null"]:
            translated |= {"type": kind, "nullable": True}
    return translated


@pytest.mark.parametrize("mount", MOUNTS)
def test_the_notation_is_the_only_difference(mount: str) -> None:
    """Without the events, and in the notation of OpenAPI 3.0, the document is the contract."""
    document = openapi_31(MOUNTS[mount])
    assert document.pop("openapi") == "3.1.0"
    assert document.pop("webhooks")
    assert document["components"]["schemas"].pop("WebhookEvent")
    before = {name: value for name, value in MOUNTS[mount].items() if name != "openapi"}
    assert in_openapi_30(document) == before


@pytest.mark.parametrize("mount", MOUNTS)
def test_the_document_is_valid(mount: str) -> None:
    """The document of each mount is valid in OpenAPI 3.1."""
    validate(openapi_31(MOUNTS[mount]))


def test_every_event_has_an_operation_of_its_own() -> None:
    """The operationIds differ also where a generator changes their case and separators."""
    document = openapi_31(DOCUMENT)
    items = [*document["paths"].values(), *document["webhooks"].values()]
    ids = [node["operationId"] for item in items for node in item.values()]
    names = [re.sub("[^a-z]", "", each.lower()) for each in ids]
    assert len(names) == len(set(names)) > 5
