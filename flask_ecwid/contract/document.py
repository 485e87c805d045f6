"""customers.yaml: find it, load it, compile it once."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import orjson
import yaml

from .operation import IDEMPOTENCY_KEY, Operation, Parameter
from .schema import Direction, Schema, json_schema

_METHODS = ("get", "put", "post", "delete", "patch")


def spec_path() -> Path:
    """Where customers.yaml is: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "openapi" / "customers.yaml"
    return inside if inside.exists() else package.parent / "openapi" / "customers.yaml"


@cache
def load() -> Contract:
    """The contract, compiled once per process."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return Contract(yaml.load(spec_path().read_bytes(), Loader=loader))


class Contract:
    """The compiled contract: `document` is the parsed YAML, `operations` go by operationId."""

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
        """Return a schema of the document by its name, compiled for what Ecwid replies with."""
        return self._compiler.schema({"$ref": f"#/components/schemas/{name}"}, "response")

    def members(self, *schemas: str) -> frozenset[str]:
        """The names of the members that these schemas of the document have."""
        nodes = [self.document["components"]["schemas"][name] for name in schemas]
        return frozenset(name for node in nodes for name in node["properties"])


class _Compiler:
    """Turns the document's operations into compiled ones."""

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
        body = None
        if "requestBody" in node:
            content = self.resolved(node["requestBody"])["content"]["application/json"]
            body = self.schema(content["schema"], "request")
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
            responses=responses,
            envelope=self.envelope(node),
            key=next((each for each in parameters if each.name == IDEMPOTENCY_KEY), None),
        )

    def envelope(self, node: dict[str, Any]) -> Schema:
        """Compile the schema of a good response without the customers of a page.

        The client has checked them, and a second check costs 13 % of a page.
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
        )

    def schema(self, schema: dict[str, Any], direction: Direction) -> Schema:
        """Each once: the operations share most of what they answer."""
        key = (direction, orjson.dumps(schema))
        if key not in self.compiled:
            self.compiled[key] = Schema(schema, self.schemas[direction], direction)
        return self.compiled[key]

    def resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            step: Any = self.document
            for name in node["$ref"].removeprefix("#/").split("/"):
                step = step[name]
            node = step
        return node


def _scope(node: dict[str, Any]) -> str:
    """What all the alternatives of an operation's `security` ask for: one scope, and none for
    nothing. OpenAPI 3.0 has scopes for OAuth alone; 3.1 has these names for every scheme.
    """
    [[scope]] = {tuple(scopes) for each in node["security"] for scopes in each.values()}
    return str(scope)
