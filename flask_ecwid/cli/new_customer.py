"""What a creation may set of a customer, and whether it fits the contract. Pure.

An exported customer holds more than that: what only Ecwid sets is left out, and nulls, which say
nothing. What the contract knows neither in answers nor in creations stays, and does not fit.
"""

from __future__ import annotations

from typing import Any

from ..contract import Contract
from ..errors import InvalidRequest, Misfit

# Each place of a customer with the schemas of what Ecwid shows there, and of what a creation sets.
_PLACES = {
    "": (("CustomerIdentity", "CustomerAttributes"), "NewCustomer"),
    "billingPerson": (("Person",), "NewPerson"),
    "shippingAddresses": (("ShippingAddress",), "NewShippingAddress"),
    "contacts": (("CustomerContact",), "NewContact"),
    "extrafields": (("ExtraField",), "NewExtraField"),
}


class Creatable:
    """The contract's word on creations."""

    def __init__(self, contract: Contract) -> None:
        self._operation = contract.operations["add_customer"]
        self._known = {}
        self._left_out = {}
        for place, (shown, new) in _PLACES.items():
            known, settable = contract.members(*shown), contract.members(new)
            self._known[place] = known | settable
            # An address's id is of the customer who had it.
            self._left_out[place] = known - settable | {"id"}

    def body(self, customer: Any) -> Any:
        """The body of its creation; of what is no customer, that itself."""
        if not isinstance(customer, dict):
            return customer
        body = self._settable("", customer)
        for place in _PLACES:
            if place in body:
                body[place] = self._inner(place, body[place])
        return body

    def misfits(self, body: Any) -> list[Misfit]:
        """The places where a body does not fit."""
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
