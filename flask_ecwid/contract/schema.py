"""A schema of the contract, compiled: does a document fit, and if not, where and by which rule?

jsonschema-rs decides. What OpenAPI 3.0 says otherwise than JSON Schema (`nullable`, `readOnly`,
`writeOnly`) is translated before compiling.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, Literal

import jsonschema_rs

from ..errors import ContractBroken, Violation

Direction = Literal["request", "response"]

MAX_VIOLATIONS = 20  # enough to mend a document by; thousands of bad items need not all be told
MAX_VALUES = 2000  # of a document in which all violations are looked for


class Schema:
    """One compiled schema. `components` are the contract's, translated by `json_schema` already."""

    def __init__(self, schema: dict[str, Any], components: dict[str, Any], direction: Direction):
        translated = json_schema(schema, direction)
        needed = _needed(translated, components)
        root = {"allOf": [translated], "components": {"schemas": needed}}
        # `format` only annotates: Ecwid's data holds e-mails that no strict reader would take.
        self._validator = jsonschema_rs.Draft4Validator(root, validate_formats=False)

    def is_valid(self, document: object) -> bool:
        """Return whether the document fits."""
        try:
            return self._validator.is_valid(document)
        except ValueError:  # nested deeper than it can look
            return False

    def check_reply(self, document: object) -> None:
        """Check a reply of Ecwid's, or an envelope that was made of one.

        Raises:
            ContractBroken: The document does not fit.
        """
        if not self.is_valid(document):
            raise ContractBroken(self.violations(document))

    def violations(self, document: object) -> list[Violation]:
        """The places that do not fit, the first 20 of them; of a large document the first one.
        None holds a value.
        """
        violations: list[Violation] = []
        try:
            errors = self._errors(document)
        except ValueError:
            return [Violation("", "nesting")]
        for error in errors:
            path = list(error.instance_path)
            if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Required):
                path.append(error.kind.property)  # what is missing: a name of the contract's
            violations.append(Violation(_pointer(path), error.kind.name))
        return violations

    def _errors(self, document: object) -> list[jsonschema_rs.ValidationError]:
        if _is_small(document):
            return list(islice(self._validator.iter_errors(document), MAX_VIOLATIONS))
        # It finds all of them before it gives the first: gigabytes for a page of nonsense.
        try:
            self._validator.validate(document)
        except jsonschema_rs.ValidationError as error:
            return [error]
        return []


def _is_small(document: object) -> bool:
    """Whether it has so few values that it takes no time to find all that is wrong with them."""
    values = [document]
    for value in values:  # which grows meanwhile
        if isinstance(value, dict):
            values += value.values()
        elif isinstance(value, list):
            values += value
        if len(values) > MAX_VALUES:
            return False
    return True


def json_schema(schema: Any, direction: Direction) -> Any:
    """An OpenAPI 3.0 schema, or anything that holds some, as JSON Schema draft 4.

    `nullable` becomes a type; a `readOnly` member of a request and a `writeOnly` member of a
    response become members that nothing fits, and are not required.
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
        translated["properties"].update({name: {"not": {}} for name in names})
        required = [name for name in schema.get("required", []) if name not in names]
        translated.pop("required", None)
        if required:
            translated["required"] = required
    return translated


def _needed(schema: Any, components: dict[str, Any]) -> dict[str, Any]:
    """Those of the components that the schema leads to: it is compiled with nothing else."""
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


def _pointer(path: list[str | int]) -> str:
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)
