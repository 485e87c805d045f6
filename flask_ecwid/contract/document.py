"""Find, load and compile customers.yaml."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import orjson
import yaml

from . import expected
from .operation import IDEMPOTENCY_KEY, Operation, Parameter
from .schema import Direction, Schema, json_schema

_METHODS = ("get", "put", "post", "delete", "patch")


def spec_path() -> Path:
    """Return the path of customers.yaml, in the installed package or beside it in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "openapi" / "customers.yaml"
    return inside if inside.exists() else package.parent / "openapi" / "customers.yaml"


@cache
def load() -> Contract:
    """Return the contract, which each process compiles once."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return Contract(yaml.load(spec_path().read_bytes(), Loader=loader))


class Contract:
    """The compiled contract.

    `document` is the parsed YAML. The keys of `operations` are the operationIds.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._compiler = compiler = _Compiler(document)
        self.operations: dict[str, Operation] = {
            item[method]["operationId"]: compiler.operation(item[method], method)
            for item in document["paths"].values()
            for method in _METHODS
            if method in item
        }

    def component(self, name: str) -> Schema:
        """Return a schema of the document by its name, compiled for Ecwid's replies."""
        return self._compiler.schema({"$ref": f"#/components/schemas/{name}"}, "response")

    def members(self, *schemas: str) -> frozenset[str]:
        """Return the names of the members of these schemas of the document."""
        components = self.document["components"]["schemas"]
        return frozenset(name for schema in schemas for name in components[schema]["properties"])


class _Compiler:
    """Compiles the operations of the document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        schemas = document["components"]["schemas"]
        self.schemas: dict[Direction, Any] = {
            "request": json_schema(schemas, "request"),
            "response": json_schema(schemas, "response"),
        }
        self.compiled: dict[tuple[Direction, bytes], Schema] = {}

    def operation(self, node: dict[str, Any], method: str) -> Operation:
        parameters = [self.parameter(self.resolved(each)) for each in node["parameters"]]
        responses = {
            int(status): self.schema(content["schema"], "response")
            for status, response in node["responses"].items()
            for content in self.resolved(response).get("content", {}).values()
        }
        body, body_node = None, {}
        if "requestBody" in node:
            content = self.resolved(node["requestBody"])["content"]["application/json"]
            body = self.schema(content["schema"], "request")
            body_node = self.inlined(content["schema"])
        return Operation(
            operation_id=node["operationId"],
            writes=method != "get",
            scope=_scope(node),
            parameters={
                (parameter.location, parameter.name): parameter
                for parameter in parameters
                if parameter.location in ("path", "query")
            },
            body=body,
            body_node=body_node,
            responses=responses,
            envelope=self.envelope(node),
            idempotency_key=next(
                (each for each in parameters if each.name == IDEMPOTENCY_KEY), None
            ),
        )

    def envelope(self, node: dict[str, Any]) -> Schema:
        """Compile the schema of a good response without the customers of a page.

        The client has checked the customers, and a second check would cost 13 % of a page.
        """
        content = self.resolved(node["responses"]["200"])["content"]["application/json"]
        components = {**self.schemas["response"], "Customer": {}}
        return Schema(content["schema"], components, "response")

    def parameter(self, node: dict[str, Any]) -> Parameter:
        return Parameter(
            location=node["in"],
            name=node["name"],
            type=self.resolved(node["schema"])["type"],
            required=node.get("required", False),
            schema=self.schema(node["schema"], "request"),
            expected=expected.of_value({**node, "allOf": [self.inlined(node["schema"])]}),
        )

    def schema(self, schema: dict[str, Any], direction: Direction) -> Schema:
        """Return a compiled schema. Operations share most schemas, so each is compiled once."""
        key = (direction, orjson.dumps(schema))
        if key not in self.compiled:
            self.compiled[key] = Schema(schema, self.schemas[direction], direction)
        return self.compiled[key]

    def inlined(self, node: Any) -> Any:
        """Return a schema of requests in which its targets take the place of all references.

        No such schema refers to itself.
        """
        if isinstance(node, list):
            return [self.inlined(item) for item in node]
        if not isinstance(node, dict):
            return node
        return {key: self.inlined(value) for key, value in self.resolved(node).items()}

    def resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            step: Any = self.document
            for name in node["$ref"].removeprefix("#/").split("/"):
                step = step[name]
            node = step
        return node


def _scope(node: dict[str, Any]) -> str:
    """Return the scope that a caller of the operation needs.

    Every alternative of the operation's `security` names the same scope. The contract names scopes
    for API keys as OpenAPI 3.1 does, although OpenAPI 3.0 allows scopes only for OAuth.
    """
    [[scope]] = {tuple(scopes) for each in node["security"] for scopes in each.values()}
    return str(scope)
