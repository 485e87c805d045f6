"""Members that callers send in a wrong place, and the members that Ecwid reads instead.

Ecwid drops a misplaced member without an error. The contract and the client refuse such a member,
because a name or a phone number would be lost otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_ADDRESS = (
    *("street", "city", "countryCode", "countryName"),
    *("postalCode", "stateOrProvinceCode", "stateOrProvinceName"),
)

# For each object of a body, the misplaced names with the members to send instead. The objects of a
# list share one entry.
INSTEAD: Mapping[str, Mapping[str, str]] = {
    "": {
        "firstName": "billingPerson.name",
        "lastName": "billingPerson.name",
        "phone": "billingPerson.phone or contacts",
        "companyName": "billingPerson.companyName",
        "company": "billingPerson.companyName",
        **{name: f"billingPerson.{name} or shippingAddresses" for name in _ADDRESS},
    },
    "/billingPerson": {"company": "billingPerson.companyName"},
    "/shippingAddresses": {
        "firstName": "shippingAddresses.name",
        "lastName": "shippingAddresses.name",
        "company": "shippingAddresses.companyName",
    },
}


def instead(path: Iterable[str | int], name: str) -> str | None:
    """Return the members to send instead of a misplaced member, or None for any other name.

    Args:
        path: The steps to the object that holds the member.
        name: The name of the member.
    """
    place = "".join(f"/{step}" for step in path if isinstance(step, str))
    return INSTEAD.get(place, {}).get(name)
