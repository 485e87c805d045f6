"""customers.yaml: find it, load it, compile it once; check requests and answers by it.

Knows nothing of Flask or connexion.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import yaml

from .errors import ContractBroken, Defect, InvalidRequest, Misfit, UnsupportedMediaType
from .schema import MAX_MISFITS, Direction, Schema, json_schema

_METHODS = ("get", "put", "post", "delete", "patch")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def spec_path() -> Path:
    """Where customers.yaml is: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
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
        compiler = _Compiler(document)
        self.operations: dict[str, Operation] = {
            item[method]["operationId"]: compiler.operation(item[method], method)
            for item in document["paths"].values()
            for method in _METHODS
            if method in item
        }


@dataclass(frozen=True)
class Parameter:
    """A declared parameter of the path or the query."""

    location: str
    name: str
    type: str
    required: bool
    schema: Schema

    @property
    def pointer(self) -> str:
        return f"/{self.location}/{self.name}"

    def misfits(self, text: str) -> list[Misfit]:
        try:
            value = self.value(text)
        except ValueError:
            return [Misfit(self.pointer, "type")]
        return [Misfit(self.pointer, misfit.keyword) for misfit in self.schema.misfits(value)]

    def value(self, text: str) -> object:
        """The text as the declared type, read strictly: no `+5`, `007`, `1_0`, `1e2` or `True`.

        Raises:
            ValueError: the text is not of that type.
        """
        if self.type == "integer" and _INTEGER.fullmatch(text):
            return int(text)
        if self.type == "number" and _NUMBER.fullmatch(text) and math.isfinite(float(text)):
            return float(text)
        if self.type == "boolean" and text in ("true", "false"):
            return text == "true"
        if self.type == "string":
            return text
        raise ValueError


@dataclass(frozen=True)
class Operation:
    """One operation: what its requests and its answers must look like."""

    operation_id: str
    writes: bool  # whether it may change the store
    parameters: Mapping[tuple[str, str], Parameter]
    body: Schema | None
    answers: Mapping[int, Schema]

    def read_parameters(
        self, path: Mapping[str, str], query: Iterable[tuple[str, str]]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The parameters of the path and of the query as values of their declared types.

        Raises:
            InvalidRequest: a parameter is unknown, repeated, missing or does not fit.
        """
        given: dict[tuple[str, str], list[str]] = {}
        for name, text in path.items():
            given["path", name] = [text]
        for name, text in query:
            given.setdefault(("query", name), []).append(text)

        values: dict[str, dict[str, Any]] = {"path": {}, "query": {}}
        misfits = [
            Misfit(parameter.pointer, "required")
            for key, parameter in self.parameters.items()
            if parameter.required and key not in given
        ]
        for (location, name), texts in given.items():
            parameter = self.parameters.get((location, name))
            if parameter is None:  # its name is the caller's text: not repeated
                misfits.append(Misfit(f"/{location}", "additionalProperties"))
            elif len(texts) > 1:
                misfits.append(Misfit(parameter.pointer, "uniqueItems"))
            elif found := parameter.misfits(texts[0]):
                misfits += found
            else:
                values[location][name] = parameter.value(texts[0])
        if misfits:
            raise InvalidRequest(misfits[:MAX_MISFITS])
        return values["path"], values["query"]

    def read_body(self, media_type: str, charset: str, body: bytes) -> Any:
        """The request's body, parsed and checked.

        Raises:
            UnsupportedMediaType: it is not `application/json` in UTF-8.
            InvalidRequest: it is not JSON, or does not fit.
        """
        if media_type != "application/json" or charset.lower() not in ("", "utf-8", "utf8"):
            raise UnsupportedMediaType
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            malformed = True
        else:
            malformed = False
        if malformed:  # raised out here: the decoder's error, which holds the body, stays behind
            raise InvalidRequest(detail="The body is not JSON.")
        self.check_body(document)
        return document

    def check_body(self, document: object) -> None:
        """Check a parsed request body.

        Raises:
            InvalidRequest: it does not fit.
        """
        if self.body is not None and not self.body.fits(document):
            raise InvalidRequest(self.body.misfits(document))

    def check_answer(self, status: int, document: object) -> None:
        """Check an answer before it leaves.

        Raises:
            Defect: the contract does not declare this status for the operation.
            ContractBroken: the answer does not fit.
        """
        schema = self.answers.get(status)
        if schema is None:
            raise Defect(f"The contract does not declare status {status} for this operation.")
        if not schema.fits(document):
            raise ContractBroken(schema.misfits(document))


class _Compiler:
    """Turns the document's operations into compiled ones."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        schemas = document["components"]["schemas"]
        self.schemas: dict[Direction, Any] = {
            "request": json_schema(schemas, "request"),
            "answer": json_schema(schemas, "answer"),
        }

    def operation(self, node: dict[str, Any], method: str) -> Operation:
        parameters = [self.parameter(self.resolved(each)) for each in node["parameters"]]
        answers = {
            int(status): self.schema(content["schema"], "answer")
            for status, response in node["responses"].items()
            for content in self.resolved(response)["content"].values()
        }
        body = None
        if "requestBody" in node:
            content = self.resolved(node["requestBody"])["content"]["application/json"]
            body = self.schema(content["schema"], "request")
        return Operation(
            operation_id=node["operationId"],
            writes=method != "get",
            parameters={
                (parameter.location, parameter.name): parameter
                for parameter in parameters
                if parameter.location in ("path", "query")
            },
            body=body,
            answers=answers,
        )

    def parameter(self, node: dict[str, Any]) -> Parameter:
        return Parameter(
            location=node["in"],
            name=node["name"],
            type=self.resolved(node["schema"])["type"],
            required=node.get("required", False),
            schema=self.schema(node["schema"], "request"),
        )

    def schema(self, schema: dict[str, Any], direction: Direction) -> Schema:
        return Schema(schema, self.schemas[direction], direction)

    def resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            step: Any = self.document
            for name in node["$ref"].removeprefix("#/").split("/"):
                step = step[name]
            node = step
        return node
