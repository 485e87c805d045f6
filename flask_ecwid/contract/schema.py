"""Check documents against a schema of the contract, and find the places that do not fit.

jsonschema-rs makes the check. `nullable`, `readOnly` and `writeOnly` of OpenAPI 3.0 do not exist in
JSON Schema, so `json_schema` translates them before a schema is compiled.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, Literal

import jsonschema_rs

from ..errors import ContractBroken, Violation

Direction = Literal["request", "response"]

MAX_VIOLATIONS = 20  # Enough to correct a document. Without it, a response could list thousands.
MAX_VALUES = 2000  # A document with more values has only its first violation listed.


class Schema:
    """One compiled schema."""

    def __init__(self, schema: dict[str, Any], components: dict[str, Any], direction: Direction):
        """Compile a schema.

        Args:
            schema: The schema in OpenAPI 3.0.
            components: The components of the contract, after `json_schema` has translated them.
            direction: The schema describes requests or responses.
        """
        translated = json_schema(schema, direction)
        needed = _needed_components(translated, components)
        root = {"allOf": [translated], "components": {"schemas": needed}}
        # `format` is not checked, because Ecwid's data holds e-mails that no strict check accepts.
        # Otherwise a read of such a customer would fail.
        self._validator = jsonschema_rs.Draft4Validator(root, validate_formats=False)

    def is_valid(self, document: object) -> bool:
        """Return whether the document fits."""
        try:
            return self._validator.is_valid(document)
        except ValueError:  # The document is nested too deep for the library.
            return False

    def validate(self, document: object) -> None:
        """Check a reply of Ecwid, or a response that was made of a reply.

        Raises:
            ContractBroken: The document does not fit.
        """
        if not self.is_valid(document):
            raise ContractBroken(self.violations(document))

    def violations(self, document: object) -> list[Violation]:
        """Return the first places that do not fit, without any value of the document.

        The list has `MAX_VIOLATIONS` places at most. For a large document, it has only one place.
        """
        violations: list[Violation] = []
        try:
            errors = self._errors(document)
        except ValueError:
            return [Violation("", "nesting")]
        for error in errors:
            path = list(error.instance_path)
            if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Required):
                path.append(error.kind.property)  # The missing member, a name of the contract.
            violations.append(Violation(pointer(path), error.kind.name))
        return violations

    def _errors(self, document: object) -> list[jsonschema_rs.ValidationError]:
        if _is_small(document):
            return list(islice(self._validator.iter_errors(document), MAX_VIOLATIONS))
        # `iter_errors` finds all errors before it returns the first. Without this limit, a page of
        # nonsense would take gigabytes.
        try:
            self._validator.validate(document)
        except jsonschema_rs.ValidationError as error:
            return [error]
        return []


def _is_small(document: object) -> bool:
    """Return whether the document has so few values that finding all violations is cheap."""
    values = [document]
    for value in values:  # The list grows during the loop.
        if isinstance(value, dict):
            values += value.values()
        elif isinstance(value, list):
            values += value
        if len(values) > MAX_VALUES:
            return False
    return True


def json_schema(schema: Any, direction: Direction) -> Any:
    """Translate OpenAPI 3.0 into JSON Schema draft 4.

    `nullable` becomes a type. A `readOnly` member of a request may have any value, because the
    client drops it before the call. A `writeOnly` member of a response fits no value. Neither
    member is required.

    Args:
        schema: A schema, or any value that holds schemas.
        direction: The schema describes requests or responses.
    """
    if isinstance(schema, list):
        return [json_schema(item, direction) for item in schema]
    if not isinstance(schema, dict):
        return schema
    translated = {key: json_schema(value, direction) for key, value in schema.items()}
    if schema.get("nullable") is True and "type" in schema:
        translated["type"] = [schema["type"], "null"]
    hidden = "readOnly" if direction == "request" else "writeOnly"
    members = schema.get("properties")
    if isinstance(members, dict):
        names = [name for name, member in members.items() if member.get(hidden) is True]
        instead: dict[str, Any] = {} if direction == "request" else {"not": {}}
        translated["properties"].update(dict.fromkeys(names, instead))
        required = [name for name in schema.get("required", []) if name not in names]
        translated.pop("required", None)
        if required:
            translated["required"] = required
    return translated


def _needed_components(schema: Any, components: dict[str, Any]) -> dict[str, Any]:
    """Return the components that the schema refers to, also through other components.

    Compiling all components with every schema would take longer.
    """
    needed: dict[str, Any] = {}
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            name = str(node.get("$ref", "")).rpartition("/")[2]
            if name and name not in needed:
                needed[name] = components[name]
                waiting.append(components[name])
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
    return needed


def pointer(path: Iterable[str | int]) -> str:
    """Return the JSON pointer of a place.

    https://www.rfc-editor.org/rfc/rfc6901
    """
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)
