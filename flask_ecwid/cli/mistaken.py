"""Values of a row that the contract takes, and that nobody means. The module is pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..errors import Violation

_MAILTO = re.compile(r"\s*mailto:", re.IGNORECASE)
_PLAIN_EMAIL = "An e-mail without `mailto:` and without invisible characters."
_NO_UK = "A code of ISO 3166-1. The United Kingdom has the code `GB`."


def mistaken(customer: Any) -> Iterator[Violation]:
    """Yield the violations of an e-mail that no search finds, and of a code of no country."""
    if not isinstance(customer, dict):
        return
    email = customer.get("email")
    if isinstance(email, str) and (_MAILTO.match(email) or not email.strip().isprintable()):
        yield Violation("/email", "pattern", _PLAIN_EMAIL)
    addresses = customer.get("shippingAddresses")
    places = {"/billingPerson": customer.get("billingPerson")}
    if isinstance(addresses, list):
        places |= {f"/shippingAddresses/{n}": each for n, each in enumerate(addresses)}
    for place, address in places.items():
        code = address.get("countryCode") if isinstance(address, dict) else None
        if isinstance(code, str) and code.upper() == "UK":
            yield Violation(f"{place}/countryCode", "enum", _NO_UK)
