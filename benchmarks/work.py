"""The requests that every contender responds to."""

from __future__ import annotations

import json

MOUNT = "/api/json/v1/ecwid"
NEW_CUSTOMER = json.dumps(
    {
        "email": "new@example.com",
        "billingPerson": {"name": "Ana Peña", "countryCode": "MX", "city": "Guadalajara"},
        "acceptMarketing": True,
    }
)
# The path and the body of each work. A read ends in a number of its own, because equal reads at the
# same time would share a call.
WORK = {
    "page": (f"{MOUNT}/customers?limit=100&offset=", ""),
    "get": (f"{MOUNT}/customer/", ""),
    "add": (f"{MOUNT}/add_customer", NEW_CUSTOMER),
}
VARIETY = 1_000_000
