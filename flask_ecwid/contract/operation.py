"""One operation of the contract: are its requests and its answers as they must be?

Knows nothing of Flask or connexion.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import Defect, InvalidRequest, UnsupportedMediaType, Violation
from . import strict_json
from .schema import MAX_VIOLATIONS, Schema

IDEMPOTENCY_KEY = "Idempotency-Key"

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


class Headers(Protocol):
    """The headers of a request, found in any case."""

    def get(self, name: str, /) -> str | None:
        """Return the value of a header, or None."""


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

    def read(self, text: str) -> tuple[object, list[Violation]]:
        """The text as a value of the declared type, and where it does not fit."""
        try:
            value = self._value(text)
        except ValueError:
            return None, [Violation(self.pointer, "type")]
        if self.schema.is_valid(value):
            return value, []
        return value, [
            Violation(self.pointer, keyword) for _, keyword in self.schema.violations(value)
        ]

    def _value(self, text: str) -> object:
        """Strictly: an integer is no `+5`, `007`, `1_0` or `1e2`, a boolean no `True` or `1`."""
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
    scope: str  # what a caller must be allowed to
    parameters: Mapping[tuple[str, str], Parameter]
    body: Schema | None
    responses: Mapping[int, Schema]
    envelope: Schema  # of a good response, without the customers of a page
    key: Parameter | None = None  # the header Idempotency-Key, if it is declared

    def read_parameters(
        self, path: Mapping[str, str], query: Iterable[tuple[str, str]]
    ) -> dict[str, Any]:
        """The parameters of the path and of the query, by name, as values of their declared types.

        Raises:
            InvalidRequest: a parameter is unknown, repeated, missing or does not fit.
        """
        given: dict[tuple[str, str], list[str]] = {}
        for name, text in path.items():
            given["path", name] = [text]
        for name, text in query:
            given.setdefault(("query", name), []).append(text)

        values: dict[str, Any] = {}
        violations = [
            Violation(parameter.pointer, "required")
            for key, parameter in self.parameters.items()
            if parameter.required and key not in given
        ]
        for (location, name), texts in given.items():
            parameter = self.parameters.get((location, name))
            if parameter is None:  # its name is the caller's text: not repeated
                violations.append(Violation(f"/{location}", "additionalProperties"))
            elif len(texts) > 1:
                violations.append(Violation(parameter.pointer, "uniqueItems"))
            else:
                values[name], found = parameter.read(texts[0])
                violations += found
        if violations:
            raise InvalidRequest(violations[:MAX_VIOLATIONS])
        return values

    def read_key(self, headers: Headers) -> str | None:
        """Return the request's Idempotency-Key, or None where there is none or it has no meaning.

        Raises:
            InvalidRequest: The key does not fit the contract.
        """
        if self.key is None or (text := headers.get(self.key.name)) is None:
            return None
        _, violations = self.key.read(text)
        if violations:
            raise InvalidRequest(violations)
        return text

    def read_body(self, media_type: str, charset: str, body: bytes) -> Any:
        """The request's body, parsed and checked.

        Raises:
            UnsupportedMediaType: it is not `application/json` in UTF-8.
            InvalidRequest: it is not strictly JSON (see strict_json.py), or does not fit.
        """
        if media_type != "application/json" or charset.lower() not in ("", "utf-8", "utf8"):
            raise UnsupportedMediaType
        document = strict_json.read(body)
        self.validate_body(document)
        return document

    def validate_body(self, document: object) -> None:
        """Check a parsed request body.

        Raises:
            InvalidRequest: it does not fit.
        """
        if self.body is not None and not self.body.is_valid(document):
            raise InvalidRequest(self.body.violations(document))

    def validate_response(self, status: int, document: object) -> None:
        """Validate a response before it leaves.

        Raises:
            Defect: The contract does not declare this status for the operation.
            ContractBroken: The response does not fit.
        """
        schema = self.responses.get(status)
        if schema is None:
            raise Defect(f"The contract does not declare status {status} for this operation.")
        schema.check_reply(document)
