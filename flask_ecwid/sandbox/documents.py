"""A customer as a JSON document, with the members that a body can set and those that Ecwid adds.

The module is pure. The letters in comments, for example D26, name the sources that
`sandbox/__init__.py` lists.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any

from .errors import WrongParameter
from .search import parse_date

Document = dict[str, Any]


GROUPS = {0: "General", 9367001: "VIP", 2595001: "Platinum 228", 12345: "Extra Gold"}
COUNTRIES = {
    "US": "United States",
    "CA": "Canada",
    "MX": "Mexico",
    "GB": "United Kingdom",
    "DE": "Germany",
    "FR": "France",
    "ES": "Spain",
    "IT": "Italy",
    "GE": "Georgia",
    "BR": "Brazil",
}
STATES = {
    ("US", "CA"): "California",
    ("US", "IL"): "Illinois",
    ("US", "MO"): "Missouri",
    ("US", "NY"): "New York",
    ("CA", "QC"): "Quebec",
    ("MX", "JAL"): "Jalisco",
    ("DE", "BY"): "Bavaria",
    ("ES", "M"): "Madrid",
    ("IT", "MI"): "Milano",
    ("GE", "TB"): "Tbilisi",
    ("BR", "SP"): "São Paulo",
}

# The members that a body can set have a type here, by D26, R24 and J. The order is that of D26's
# example. Members that only J has come last.
# A body cannot set a read-only member. D26 lists countryName among the writes, but without effect.
_READ_ONLY = None
_ANY = object()  # any value
_ORDER = object()  # D26 says boolean, but every sample has an integer, also -1 (L)
_PERSON = {
    "name": str,
    "firstName": _READ_ONLY,
    "lastName": _READ_ONLY,
    "companyName": str,
    "street": str,
    "city": str,
    "countryCode": str,
    "countryName": _READ_ONLY,
    "postalCode": str,
    "stateOrProvinceCode": str,
    "stateOrProvinceName": _READ_ONLY,
    "phone": str,
}
_ADDRESS = {
    "id": int,
    **_PERSON,
    "note": str,
    "createdDate": _READ_ONLY,
    "defaultAddress": bool,
    "orderBy": _ORDER,
}
_CONTACT = {
    "id": int,
    "contact": str,
    "handle": str,
    "note": str,
    "type": str,
    "default": bool,
    "orderBy": _ORDER,
    "timestamp": _READ_ONLY,
}
_CUSTOMER = {
    "name": _READ_ONLY,
    "email": str,
    "registered": _READ_ONLY,
    "updated": _READ_ONLY,
    "totalOrderCount": _READ_ONLY,
    "customerGroupId": int,
    "customerGroupName": _READ_ONLY,
    "billingPerson": _PERSON,
    "shippingAddresses": [_ADDRESS],
    "contacts": [_CONTACT],
    "taxExempt": bool,
    "taxId": str,
    "taxIdValid": bool,
    "b2b_b2c": re.compile("b2b|b2c"),
    "fiscalCode": str,
    "electronicInvoicePecEmail": str,
    "electronicInvoiceSdiCode": str,
    "acceptMarketing": bool,
    "lang": str,
    "stats": _READ_ONLY,
    "privateAdminNotes": str,
    "favorites": _READ_ONLY,
    "extrafields": [{"key": str, "title": str, "value": _ANY, "type": str}],
}
_WRITE_ONLY = {"password": str, "primaryPhone": str}


def settable(body: Any) -> Document:
    """Return the members of a parsed body that a caller can set.

    Ecwid ignores unknown and read-only members (F), and null counts as absent (J). So `name` and
    `customerGroupName` are ignored, although D26's example sends them.

    Raises:
        WrongParameter: the body is not an object, or a member is of a wrong type.
    """
    given: Document = _read(body, {**_CUSTOMER, **_WRITE_ONLY}, "Customer")
    for field in given.get("extrafields", ()):
        if "type" in field:  # D26 has small letters, and Ecwid sends capitals
            field["type"] = field["type"].upper()
    return given


def _read(value: Any, kind: Any, field: str) -> Any:
    if isinstance(kind, dict):
        if isinstance(value, dict):
            return {
                name: _read(value[name], kind[name], f"{field}.{name}")
                for name in kind
                if kind[name] is not _READ_ONLY and value.get(name) is not None
            }
    elif isinstance(kind, list):
        if isinstance(value, list):
            return [_read(item, kind[0], field) for item in value]
    elif kind is _ANY:
        return value
    elif kind is _ORDER:
        return int(value) if isinstance(value, bool) else value
    elif isinstance(kind, re.Pattern):
        if isinstance(value, str) and kind.fullmatch(value):
            return value
        raise WrongParameter(f"Wrong {field} value: expected one of {kind.pattern}")
    elif type(value) is kind and (kind is not int or 0 <= value < 2**63):
        return value
    raise WrongParameter(f"Wrong JSON format: field {field} is of a wrong type or out of range")


def new_customer(given: Document, now: float) -> Document:
    """Return the document of a customer that is created from the body `given`, without the ids.

    Raises:
        WrongParameter: `given` has no e-mail, or a contact lacks a member.
    """
    if not given.get("email"):
        raise WrongParameter("Field Customer.email is absent or empty")
    return _customer(given, now)


def _customer(given: Document, now: float) -> Document:
    email = {"contact": given["email"], "type": "EMAIL"}
    contacts = given.get("contacts", [])
    if given["email"] and not any(email.items() <= contact.items() for contact in contacts):
        contacts = [*contacts, email]
    return _derived(
        {
            "registered": format_date(now),
            "updated": format_date(now),
            "totalOrderCount": 0,
            "customerGroupId": 0,
            "taxExempt": False,
            "taxId": "",
            "taxIdValid": True,
            "b2b_b2c": "b2c",
            "fiscalCode": "",
            "electronicInvoicePecEmail": "",
            "electronicInvoiceSdiCode": "",
            "stats": {"numberOfOrders": 0, "salesValue": 0, "averageOrderValue": 0},
            "privateAdminNotes": "",
            "favorites": [],
            **given,
            "shippingAddresses": _addresses(given.get("shippingAddresses", []), [], now),
            "contacts": _contacts(contacts, [], now),
        }
    )


def known_customer(given: Document, now: float) -> Document:
    """Return the document of a customer that the store already has.

    `given` may also have the members that only Ecwid sets, for example `id`, `registered` or
    `stats`. The e-mail may be empty, because a customer may have only a phone number (J).

    Raises:
        WrongParameter: a member is unknown, of a wrong type, not a date, or missing.
    """
    kinds = {"id": _READ_ONLY, **_CUSTOMER, **_WRITE_ONLY}
    if unknown := sorted(set(given) - set(kinds)):
        raise WrongParameter(
            f"A customer has no member {', '.join(unknown)}; the members are {', '.join(kinds)}"
        )
    for name in ("registered", "updated"):
        if name in given and parse_date(str(given[name])) is None:
            raise WrongParameter(f"Field Customer.{name} is not a date such as {format_date(now)}")
    set_by_ecwid = {name: value for name, value in given.items() if kinds[name] is _READ_ONLY}
    body = settable(given)
    if "email" not in body:
        raise WrongParameter("Field Customer.email is absent")
    return {**_customer(body, now), **set_by_ecwid}


def changed_customer(customer: Document, changes: Document, now: float) -> Document:
    """Return the document of a customer after an update.

    The new billingPerson is merged into the old (F), and a new list replaces the old list (D26).
    New addresses and contacts have no id yet.

    Raises:
        WrongParameter: The changes would clear the e-mail, or a new contact lacks a member.
    """
    if changes.get("email") == "" and customer["email"]:
        raise WrongParameter("Field Customer.email is empty")
    changed = {**customer, **changes, "updated": format_date(now)}
    if "billingPerson" in changes:
        person = changes["billingPerson"]
        changed["billingPerson"] = {**customer.get("billingPerson", {}), **person}
        if "name" in person:  # otherwise the name of a guest stays
            changed.pop("name", None)
    if "shippingAddresses" in changes:
        known = customer.get("shippingAddresses", [])
        changed["shippingAddresses"] = _addresses(changes["shippingAddresses"], known, now)
    if "contacts" in changes:
        known = customer.get("contacts", [])
        changed["contacts"] = _contacts(changes["contacts"], known, now)
    return _derived(changed)


def format_date(unix_s: float) -> str:
    """Return a time in the form that Ecwid writes in a body, like `2021-12-21 06:05:58 +0000`."""
    return time.strftime("%Y-%m-%d %H:%M:%S +0000", time.gmtime(unix_s))


def _addresses(given: list[Document], known: list[Document], now: float) -> list[Document]:
    """Merge each address into the known address with its id, or make it a new address (J, I)."""
    left = {address["id"]: address for address in known}
    return [
        {**left.pop(address["id"]), **address}
        if address.get("id") in left
        else {**address, "id": None, "createdDate": format_date(now)}
        for address in given
    ]


def _contacts(given: list[Document], known: list[Document], now: float) -> list[Document]:
    """Merge each contact into the known contact with its id, or make it a new contact (J).

    Each type has one default. The default is the first contact of the type that sets `default`,
    otherwise the first contact. An id may stand twice in the list (L).

    Raises:
        WrongParameter: A new contact lacks `contact` or `type`.
    """
    by_id = {contact["id"]: contact for contact in known}
    given = [_merged(contact, by_id.get(contact.get("id"))) for contact in given]
    defaults: dict[str, Document] = {}
    for contact in given:
        first = defaults.setdefault(contact["type"], contact)
        if contact.get("default") and not first.get("default"):
            defaults[contact["type"]] = contact
    return [
        {
            "orderBy": position,
            "timestamp": format_date(now),
            **contact,
            "default": contact is defaults[contact["type"]],
        }
        for position, contact in enumerate(given)
    ]


def _merged(contact: Document, known: Document | None) -> Document:
    merged = {**(known or {}), **contact, "id": known["id"] if known else None}
    for name in ("contact", "type"):
        if not merged.get(name):
            raise WrongParameter(f"Field Contact.{name} is absent")
    return merged


def _derived(document: Document) -> Document:
    """Add the members that follow from others, remove those that are never shown, and sort.

    A guest has a name, but no billingPerson.name, so this name stays. A group without a name has
    only its id.
    """
    document = {k: v for k, v in document.items() if k != "customerGroupName"}
    if document.get("lang") == "":
        del document["lang"]
    if person := _person(document.pop("billingPerson", {})):
        document["billingPerson"] = person
        if "name" in person:
            document["name"] = person["name"]
    if "shippingAddresses" in document:
        document["shippingAddresses"] = [_with_names(a) for a in document["shippingAddresses"]]
    if "contacts" in document:
        document["contacts"] = [_ordered(c, _CONTACT) for c in document["contacts"]]
    if document["customerGroupId"] in GROUPS:
        document["customerGroupName"] = GROUPS[document["customerGroupId"]]
    return _ordered(document, _CUSTOMER)


def _person(person: Document) -> Document:
    """Leave out empty texts, and split the name into first and last name.

    A name of one word has neither (D26, the seed).
    """
    person = {k: v for k, v in person.items() if v != "" and k not in ("firstName", "lastName")}
    words = person.get("name", "").split()
    if len(words) > 1:
        person |= {"firstName": words[0], "lastName": words[-1]}
    return _with_names(person)


def _with_names(person: Document) -> Document:
    """Add the names of country and state to an address, if the sandbox knows the codes."""
    person = {k: v for k, v in person.items() if k not in ("countryName", "stateOrProvinceName")}
    country, state = person.get("countryCode", ""), person.get("stateOrProvinceCode", "")
    if country in COUNTRIES:
        person["countryName"] = COUNTRIES[country]
    if (country, state) in STATES:
        person["stateOrProvinceName"] = STATES[country, state]
    return _ordered(person, _ADDRESS)


def _ordered(document: Document, names: Iterable[str]) -> Document:
    return {name: document[name] for name in names if name in document}
