"""Tests of the contract's links, which say where the id of the next request comes from."""

from __future__ import annotations

from typing import Any

import pytest

from flask_ecwid import contract

from ..conftest import Api

DOCUMENT = contract.load().document
OPERATIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    node["operationId"]: (method.upper(), path, node)
    for path, item in DOCUMENT["paths"].items()
    for method, node in item.items()
}
LINKS = [
    (operation, link["$ref"].rpartition("/")[2])
    for operation, (_, _, node) in OPERATIONS.items()
    for link in node["responses"]["200"].get("links", {}).values()
]
CUSTOMER = "172890169"  # a customer of every new sandbox


def ask(sandboxed: Api, operation: str, customer_id: str) -> Any:
    method, path, node = OPERATIONS[operation]
    body = {"email": "new@example.com"} if "requestBody" in node else None
    response = sandboxed.open(method, path.format(customer_id=customer_id), json=body)
    assert response.status_code == 200
    return response.json


def value_of(expression: str, value: Any, customer_id: str) -> str:
    """Return the value of a runtime expression of OpenAPI."""
    source, _, pointer = expression.partition("#/")
    if source == "$request.path.customer_id":
        return customer_id
    assert source == "$response.body"
    for step in pointer.split("/"):
        value = value[int(step)] if isinstance(value, list) else value[step]
    return str(value)


@pytest.mark.parametrize(("operation", "link"), LINKS)
def test_a_link_leads_to_a_customer(sandboxed: Api, operation: str, link: str) -> None:
    """The id that a link takes from a response is the id of a customer."""
    node = DOCUMENT["components"]["links"][link]
    response = ask(sandboxed, operation, CUSTOMER)
    [(name, expression)] = node["parameters"].items()
    assert name == "customer_id"
    ask(sandboxed, node["operationId"], value_of(expression, response, CUSTOMER))


def test_every_link_is_used() -> None:
    """Every response that names a customer links to all operations on the customer."""
    assert {link for _, link in LINKS} == set(DOCUMENT["components"]["links"])
    assert {operation for operation, _ in LINKS} == set(OPERATIONS) - {"delete_customer"}
