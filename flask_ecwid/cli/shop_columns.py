"""The columns that shops have in their files, and the members of a customer that these set. Pure.

Shopify's export of customers and Google's export of contacts have columns of their own words.
The report of customers in WooCommerce has the columns of its `get_export_columns`. Plugins for
WooCommerce name their columns after its database, for example `billing_address_1`. Ecwid does not
document the columns of its admin, so the table has the words of the admin and of its neighbours.
https://github.com/woocommerce/woocommerce (Admin/API/Reports/Customers/Controller.php)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_NO_LETTER = re.compile(r"[^a-z0-9]+")


class Source(NamedTuple):
    """A column of a shop.

    Of several columns for one part of a target, the column of the lowest rank that has a value
    counts. The parts are joined in their order. The part 0 is the whole target, and counts only if
    no other part has a value.
    """

    target: str  # the name of the column that an export would have
    rank: int
    part: int = 0


def plain(header: str) -> str:
    """Return the letters and digits of a header in lower case, because shops vary the rest."""
    return _NO_LETTER.sub("", header.casefold())


_PERSON: Mapping[str, tuple[str, int]] = {
    "full name": ("name", 0),
    "first name": ("name", 1),
    "middle name": ("name", 2),
    "last name": ("name", 3),
    "company": ("companyName", 0),
    "company name": ("companyName", 0),
    "address": ("street", 1),
    "address 1": ("street", 1),
    "address line 1": ("street", 1),
    "street": ("street", 1),
    "address 2": ("street", 2),
    "address line 2": ("street", 2),
    "city": ("city", 0),
    "postcode": ("postalCode", 0),
    "postal code": ("postalCode", 0),
    "zip": ("postalCode", 0),
    "zip code": ("postalCode", 0),
    "state": ("stateOrProvinceCode", 0),
    "state / province": ("stateOrProvinceCode", 0),
    "province": ("stateOrProvinceCode", 0),
    "region": ("stateOrProvinceCode", 0),
    "country": ("countryCode", 0),
    "country code": ("countryCode", 0),
    "country / region": ("countryCode", 0),
    "phone": ("phone", 0),
    "phone number": ("phone", 0),
    "telephone": ("phone", 0),
}
_CUSTOMER: Mapping[str, Source] = {
    "email address": Source("email", 1),
    "user email": Source("email", 1),
    "customer email": Source("email", 1),
    "billing email": Source("email", 2),
    "customer name": Source("name", 1),
    "billing name": Source("name", 2),
    "customer phone": Source("billingPerson.phone", 5),
    "display name": Source("name", 5),
    "shipping name": Source("shippingAddresses.name", 1),
    "accepts marketing": Source("acceptMarketing", 1),
    "accepts email marketing": Source("acceptMarketing", 1),
    "marketing consent": Source("acceptMarketing", 1),
    "language": Source("lang", 1),
    "vat id": Source("taxId", 1),
    "vat number": Source("taxId", 1),
    "notes": Source("privateAdminNotes", 1),
    "note": Source("privateAdminNotes", 1),
    "admin notes": Source("privateAdminNotes", 1),
    "private notes": Source("privateAdminNotes", 1),
    "customer note": Source("privateAdminNotes", 1),
}
_DEFAULT_ADDRESS = {  # the words of Shopify
    "company": ("companyName", 0),
    "address1": ("street", 1),
    "address2": ("street", 2),
    "city": ("city", 0),
    "province code": ("stateOrProvinceCode", 0),
    "country code": ("countryCode", 0),
    "zip": ("postalCode", 0),
    "phone": ("phone", 0),
}
_GOOGLE: Mapping[str, Source] = {
    "e-mail 1 - value": Source("email", 3),
    "phone 1 - value": Source("billingPerson.phone", 6),
    "organization name": Source("billingPerson.companyName", 6),
    "address 1 - street": Source("billingPerson.street", 6, 1),
    "address 1 - city": Source("billingPerson.city", 6),
    "address 1 - region": Source("billingPerson.stateOrProvinceCode", 6),
    "address 1 - postal code": Source("billingPerson.postalCode", 6),
    "address 1 - country": Source("billingPerson.countryCode", 6),
}
_GERMAN: Mapping[str, Source] = {
    "vorname": Source("name", 4, 1),
    "nachname": Source("name", 4, 3),
    "firma": Source("billingPerson.companyName", 4),
    "straße": Source("billingPerson.street", 4, 1),
    "plz": Source("billingPerson.postalCode", 4),
    "ort": Source("billingPerson.city", 4),
    "land": Source("billingPerson.countryCode", 4),
    "telefon": Source("billingPerson.phone", 4),
}
# The names of groups. Ecwid sets a group by its number, and ignores its name. If the columns were
# left out, customers would lose their group without a word.
GROUP_NAMES = ("customer group", "customer groups", "group", "group name")
# Ecwid sets the values of these columns itself, or has no place for them.
WITHOUT_MEMBER = (
    *("username", "user login", "user pass", "user nicename", "user url", "user status"),
    *("user registered", "date registered", "registration date", "registered on", "last active"),
    *("sign up", "sign up date", "signed up", "created", "created at", "date created"),
    *("creation date", "updated at", "date updated", "last updated", "last update", "last login"),
    *("customer id", "user id", "role", "roles", "nickname"),
    *("locale", "avatar url", "paying customer", "is paying customer"),
    *("orders", "order count", "orders count", "total orders", "number of orders"),
    *("total spend", "total spent", "money spent", "total sales", "sales", "aov"),
    *("average order value", "last order", "last order date", "first order date"),
    *("tags", "accepts sms marketing"),
    *("e-mail 1 - label", "phone 1 - label", "address 1 - label", "address 1 - formatted"),
)


def _named() -> Iterator[tuple[str, Source]]:
    for words, (member, part) in _PERSON.items():
        # The name is sent as the top-level name, which a file may have as well.
        target = "name" if member == "name" else f"billingPerson.{member}"
        yield words, Source(target, 4, part)
        yield f"billing {words}", Source(target, 3, part)
        yield f"shipping {words}", Source(f"shippingAddresses.{member}", 1, part)
    for words, (member, part) in _DEFAULT_ADDRESS.items():
        yield f"default address {words}", Source(f"billingPerson.{member}", 6, part)
    yield from _CUSTOMER.items()
    yield from _GOOGLE.items()
    yield from _GERMAN.items()


SHOPS: Mapping[str, Source] = dict(_named())
SOURCES: Mapping[str, Source] = {plain(words): source for words, source in SHOPS.items()}
