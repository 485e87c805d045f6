"""Turn the body that a caller sends into the body of the call to Ecwid. Pure, without I/O.

A customer that was read may be changed and sent back. The module drops the members that only Ecwid
sets. A name never gets lost, because Ecwid would drop a misplaced member without an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..contract import load
from ..contract.misplaced import instead
from ..contract.schema import MAX_VIOLATIONS, pointer
from ..errors import InvalidRequest, Violation

Path = tuple[str | int, ...]


class Prepared(NamedTuple):
    """A body to send, and the pointers of the caller's members that the body lacks."""

    body: dict[str, Any]
    dropped: list[str]


def prepare(operation_name: str, body: Mapping[str, Any]) -> Prepared:
    """Return the body to send for a creation or an update. The given body stays as it is.

    Args:
        operation_name: `add_customer` or `update_customer`.
        body: The members that the caller sends.

    Raises:
        InvalidRequest: Ecwid would drop a member that the caller wants to set. Or a new contact of
            an update lacks a member.
    """
    found = _Found()
    prepared = found.settable(load().operations[operation_name].body_node, dict(body), ())
    if "name" in prepared:
        _place_name(prepared, found)
    elif isinstance(person := body.get("billingPerson"), Mapping) and person.get("name") is None:
        _join_name(prepared["billingPerson"], person)
    if "customerGroupName" in prepared:
        _drop_group_name(prepared, found)
    if operation_name == "update_customer":
        _check_new_contacts(prepared, found)
    if found.violations:
        raise InvalidRequest(found.violations[:MAX_VIOLATIONS])
    return Prepared(prepared, found.dropped)


@dataclass
class _Found:
    """The dropped members and the violations of one body."""

    dropped: list[str] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)

    def settable(self, schema: Mapping[str, Any], value: Any, path: Path) -> Any:
        """Return a copy of a value without its read-only members, at every depth."""
        if isinstance(value, Mapping):
            return self._settable_members(schema.get("properties", {}), value, path)
        if isinstance(value, (list, tuple)):
            items = schema.get("items", {})
            return [self.settable(items, item, (*path, n)) for n, item in enumerate(value)]
        return value

    def _settable_members(
        self, schemas: Mapping[str, Any], members: Mapping[str, Any], path: Path
    ) -> dict[str, Any]:
        kept = {}
        for name, member in members.items():
            schema = schemas.get(name)
            if schema is None and (other := instead(path, name)):
                self.refuse(pointer(path), "additionalProperties", f"Use {other} instead.")
            elif schema and schema.get("readOnly"):
                self.dropped.append(pointer((*path, name)))
            elif member is None or isinstance(member, (str, int, float)):
                kept[name] = member
            else:
                kept[name] = self.settable(schema or {}, member, (*path, name))
        return kept

    def refuse(self, place: str, keyword: str, expected: str) -> None:
        self.violations.append(Violation(place, keyword, expected))


def _place_name(body: dict[str, Any], found: _Found) -> None:
    """Make the top-level `name` the name of billingPerson, because Ecwid reads no other name."""
    name, person = body["name"], body.get("billingPerson")
    if person is not None and not isinstance(person, dict):
        return  # Ecwid refuses this body.
    del body["name"]
    if name is None:
        return
    person = person or {}
    if person.get("name") is None:
        body["billingPerson"] = {**person, "name": name}
    elif person["name"] == name:
        found.dropped.append("/name")
    else:
        expected = "Send billingPerson.name only, because Ecwid reads no other name."
        found.refuse("/name", "const", expected)


def _join_name(prepared: dict[str, Any], person: Mapping[str, Any]) -> None:
    """Make a name of the first and the last name, because Ecwid would drop both without an error.

    A single part is dropped, because the part would replace the whole name of a customer.
    """
    first, last = person.get("firstName"), person.get("lastName")
    if isinstance(first, str) and isinstance(last, str) and first.strip() and last.strip():
        prepared["name"] = f"{first} {last}"


def _drop_group_name(body: dict[str, Any], found: _Found) -> None:
    """Drop `customerGroupName` beside `customerGroupId`, because Ecwid reads only the id."""
    if body.pop("customerGroupName") is None:
        return
    if body.get("customerGroupId") is None:
        expected = "Use customerGroupId instead, because Ecwid does not read the name of a group."
        found.refuse("/customerGroupName", "dependencies", expected)
    else:
        found.dropped.append("/customerGroupName")


def _check_new_contacts(body: dict[str, Any], found: _Found) -> None:
    """Check that each contact without an id has the members that a new contact needs.

    The schema cannot express this rule without a union, which generated clients do not read.
    """
    contacts = body.get("contacts")
    for number, contact in enumerate(contacts if isinstance(contacts, list) else ()):
        if isinstance(contact, dict) and contact.get("id") is None:
            for name in ("contact", "type"):
                if contact.get(name) is None:
                    expected = "A new contact needs `contact` and `type`, unless it has its `id`."
                    found.refuse(pointer(("contacts", number, name)), "required", expected)
