"""The schema of a new customer, applied to an exported customer. The module is pure.

An export has more members than a creation may set. The module leaves out members that only Ecwid
sets. Nulls are left out too, because a null sets nothing. A member that the contract does not know
stays, and violates the schema.
"""

from __future__ import annotations

from typing import Any

from ..contract import Contract
from ..errors import InvalidRequest, Violation

# Each object of a customer, with the schemas that Ecwid's replies and creations have for it.
_PLACES = {
    "": (("CustomerIdentity", "CustomerAttributes"), "CustomerInput"),
    "billingPerson": (("Person",), "PersonInput"),
    "shippingAddresses": (("ShippingAddress",), "ShippingAddressInput"),
    "contacts": (("CustomerContact",), "ContactInput"),
    "extrafields": (("ExtraField",), "ExtraFieldInput"),
}


class NewCustomerSchema:
    """The schema of the body of add_customer."""

    def __init__(self, contract: Contract) -> None:
        self._operation = contract.operations["add_customer"]
        self._known = {}
        self._left_out = {}
        for place, (shown, new) in _PLACES.items():
            known, settable = contract.members(*shown), contract.settable_members(new)
            self._known[place] = known | settable
            # An exported object has an id, which a new customer must not reuse.
            self._left_out[place] = known - settable | {"id"}

    def body(self, customer: Any) -> Any:
        """Return the body that creates this customer. Return any other value as it is."""
        if not isinstance(customer, dict):
            return customer
        body = self._settable("", customer)
        for place in _PLACES:
            if place in body:
                body[place] = self._inner(place, body[place])
        return body

    def violations(self, body: Any) -> list[Violation]:
        """Return the places where a body violates the schema."""
        try:
            self._operation.validate_body(body)
        except InvalidRequest as exc:
            return list(exc.errors)
        return []

    def _inner(self, place: str, value: Any) -> Any:
        if isinstance(value, list):
            return [self._inner(place, each) for each in value]
        return self._settable(place, value) if isinstance(value, dict) else value

    def _settable(self, place: str, members: dict[str, Any]) -> dict[str, Any]:
        return {
            name: value
            for name, value in members.items()
            if name not in self._left_out[place]
            and not (value is None and name in self._known[place])
        }
