"""Check the requests and responses of one operation of the contract.

The module uses neither Flask nor connexion.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import Defect, InvalidRequest, UnsupportedMediaType, Violation
from . import expected, strict_json
from .schema import MAX_VIOLATIONS, Schema

IDEMPOTENCY_KEY = "Idempotency-Key"

# A String of Structured Fields, https://www.rfc-editor.org/rfc/rfc9651#section-3.3.3
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
# Programs in Python write True, and others write 1.
_BOOLEANS = {"true": True, "True": True, "1": True, "false": False, "False": False, "0": False}


class Headers(Protocol):
    """The headers of a request. The case of a name does not matter."""

    def get(self, name: str, /) -> str | None:
        """Return the value of a header, or None."""


@dataclass(frozen=True)
class Parameter:
    """A parameter that the contract declares, in the path, the query or a header."""

    location: str
    name: str
    type: str
    required: bool
    schema: Schema
    expected: str  # the valid values, in the words of the contract

    @property
    def pointer(self) -> str:
        """Return where a problem places the parameter."""
        return f"/{self.location}/{self.name}"

    def violation(self, keyword: str) -> Violation:
        """Return the violation of this keyword by the parameter."""
        once = "Give this parameter once. " if keyword == "uniqueItems" else ""
        return Violation(self.pointer, keyword, f"{once}{self.expected}")

    def parse(self, text: str) -> tuple[object, list[Violation]]:
        """Return the text as a value of the declared type, and the violations of the schema."""
        try:
            value = self._value(text)
        except ValueError:
            return None, [self.violation("type")]
        if self.schema.is_valid(value):
            return value, []
        return value, [self.violation(each.keyword) for each in self.schema.violations(value)]

    def _value(self, text: str) -> object:
        """Return the text as a value of the declared type.

        The syntax is strict. `+5`, `007`, `1_0` and `1e2` are no integers, and `True` and `1` are
        no booleans.

        Raises:
            ValueError: The text is no value of the type.
        """
        if self.type == "integer" and _INTEGER.fullmatch(text):
            return int(text)
        if self.type == "number" and _NUMBER.fullmatch(text) and math.isfinite(float(text)):
            return float(text)
        if self.type == "boolean" and text in _BOOLEANS:
            return _BOOLEANS[text]
        if self.type == "string":
            return text
        raise ValueError


@dataclass(frozen=True)
class Operation:
    """One operation of the contract, with the checks of its requests and responses."""

    operation_id: str
    writes: bool  # The operation may change the store.
    scope: str  # The scope that a caller needs.
    parameters: Mapping[tuple[str, str], Parameter]
    body: Schema | None
    body_node: Mapping[str, Any]  # the same schema as the contract has it, without references
    responses: Mapping[int, Schema]
    envelope: Schema  # The schema of a good response, without the customers of a page.
    idempotency_key: Parameter | None = None  # The header, if the operation has it.

    def parse_parameters(
        self, path: Mapping[str, str], query: Iterable[tuple[str, str]]
    ) -> dict[str, Any]:
        """Return the parameters by name, as values of their declared types.

        Args:
            path: The texts of the path's parameters.
            query: The names and texts of the query, in order and with repetitions.

        Raises:
            InvalidRequest: A parameter is unknown, repeated, missing or does not fit.
        """
        given: dict[tuple[str, str], list[str]] = {}
        for name, text in path.items():
            given["path", name] = [text]
        for name, text in query:
            given.setdefault(("query", name), []).append(text)

        values: dict[str, Any] = {}
        unknown: list[str] = []
        violations = [
            parameter.violation("required")
            for place, parameter in self.parameters.items()
            if parameter.required and place not in given
        ]
        for (location, name), texts in given.items():
            parameter = self.parameters.get((location, name))
            if parameter is None:
                unknown.append(name)
            elif len(texts) > 1:
                violations.append(parameter.violation("uniqueItems"))
            else:
                values[name], found = parameter.parse(texts[0])
                violations += found
        if unknown:
            violations += self._unknown_parameters(unknown[: MAX_VIOLATIONS - len(violations)])
        if violations:
            raise InvalidRequest(violations[:MAX_VIOLATIONS])
        return values

    def _unknown_parameters(self, names: Iterable[str]) -> list[Violation]:
        """Return a violation for each name, without the name, because the caller has sent it."""
        known = [name for location, name in self.parameters if location == "query"]
        return [
            Violation("/query", "additionalProperties", expected.of_unknown([name], known))
            for name in names
        ]

    def parse_idempotency_key(self, headers: Headers) -> str | None:
        """Return the Idempotency-Key of the request, without the quotes that may surround the key.

        The result is None if the request has no key, or if the operation ignores the header.

        Raises:
            InvalidRequest: The key does not fit the contract.
        """
        declared = self.idempotency_key
        if declared is None or (text := headers.get(declared.name)) is None:
            return None
        key = _unquoted(text)
        _, violations = declared.parse(key)
        if violations:
            raise InvalidRequest(violations)
        return key

    def parse_body(self, media_type: str, charset: str, body: bytes) -> Any:
        """Return the document in the request's body, after checking it.

        Args:
            media_type: The media type of the header `Content-Type`.
            charset: The parameter `charset` of the same header, or an empty text.
            body: The bytes of the body.

        Raises:
            UnsupportedMediaType: The body is not `application/json` in UTF-8.
            InvalidRequest: The body is not strict JSON, or does not fit the contract.
        """
        if media_type != "application/json" or charset.lower() not in ("", "utf-8", "utf8"):
            raise UnsupportedMediaType
        document = strict_json.parse(body)
        self.validate_body(document)
        return document

    def validate_body(self, document: object) -> None:
        """Check a parsed request body.

        Raises:
            InvalidRequest: The body does not fit the contract.
        """
        if self.body is not None and not self.body.is_valid(document):
            raise InvalidRequest(
                [
                    expected.explained(violation, self.body_node, document)
                    for violation in self.body.violations(document)
                ]
            )

    def validate_response(self, status: int, document: object) -> None:
        """Check a response before the service sends it.

        Raises:
            Defect: The contract does not declare this status for the operation.
            ContractBroken: The response does not fit the contract.
        """
        schema = self.responses.get(status)
        if schema is None:
            raise Defect(f"The contract does not declare status {status} for this operation.")
        schema.validate(document)


def _unquoted(text: str) -> str:
    """Return the content of a text in quotes, or the text as it is if it is no quoted String."""
    quoted = _QUOTED.fullmatch(text)
    return re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
