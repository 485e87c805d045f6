"""The customers of a new store.

Four of them are from the original description, and the others are generated.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from .documents import Document, format_date, new_customer

_DEMO = "[DEMO] Actualización para desbloquear"
_GENERAL = {"customerGroupId": 0, "customerGroupName": "General"}

# The original description has these customers, but with other e-mails.
SEED: tuple[Document, ...] = (
    {
        "id": 172867214,
        "name": _DEMO,
        "email": "customer@example.com",
        "registered": "2021-11-03 19:53:12 +0000",
        "updated": "2021-11-03 19:53:12 +0000",
        "totalOrderCount": 2,
        **_GENERAL,
        "billingPerson": {"name": _DEMO, "firstName": "[DEMO]", "lastName": "desbloquear"},
        "shippingAddresses": [],
        "acceptMarketing": True,
    },
    {
        "id": 172890169,
        "name": _DEMO,
        "email": "demo.second@example.com",
        "registered": "2021-11-04 05:28:26 +0000",
        "updated": "2021-11-05 23:00:01 +0000",
        "totalOrderCount": 0,
        **_GENERAL,
        "billingPerson": {
            "name": _DEMO,
            "firstName": "[DEMO]",
            "lastName": "desbloquear",
            "street": _DEMO,
            "city": _DEMO,
        },
        "shippingAddresses": [],
        "acceptMarketing": True,
    },
    {
        "id": 172781539,
        "name": "Eugene K",
        "email": "example@example.com",
        "registered": "2021-11-03 22:22:45 +0000",
        "updated": "2021-11-03 22:22:45 +0000",
        "totalOrderCount": 1,
        **_GENERAL,
        "billingPerson": {"name": "Eugene K", "firstName": "Eugene", "lastName": "K"},
        "shippingAddresses": [],
        "acceptMarketing": False,
    },
    {
        "id": 172889711,
        "email": "demo.fourth@example.com",
        "registered": "2021-11-04 05:28:20 +0000",
        "updated": "2021-11-04 05:28:20 +0000",
        "totalOrderCount": 0,
        **_GENERAL,
        "billingPerson": {"countryCode": "MX", "countryName": "Mexico"},
        "shippingAddresses": [],
    },
)

_FIRST_DAY, _LAST_DAY = 1636070400, 1767225600  # 2021-11-05, just after the seed, and 2026-01-01
_PRODUCTS = range(689454040, 689454080)
# Each first name has the local part of an e-mail.
_FIRST_NAMES = {
    "Ana": "ana",
    "Bruno": "bruno",
    "Chloë": "chloe",
    "Dmitri": "dmitri",
    "Giulia": "giulia",
    "Jürgen": "juergen",
    "María": "maria",
    "Søren": "soren",
    "ნინო": "nino",
}
_LAST_NAMES = ("Beridze", "Brown", "Großmann", "Lefèvre", "O'Brien", "Peña", "Rossi", "Wójcik")
_PLACES = (
    ("US", "NY", "New York", "10001", "W 3d st"),
    ("US", "MO", "Bridgeton", "63044", "12840 Pennridge Dr"),
    ("CA", "QC", "Montréal", "H2X 1Y4", "88 Rue Émery"),
    ("MX", "JAL", "Guadalajara", "44100", "Calle Hidalgo 12\nInterior 3"),
    ("DE", "BY", "München", "80331", "Rosenstraße 7"),
    ("IT", "MI", "Milano", "20121", "Via Brera 28"),
    ("GE", "TB", "Tbilisi", "0105", "Rustaveli Ave 5"),
    ("BR", "SP", "São Paulo", "01310-100", "Avenida Paulista 1000"),
)
_COMPANIES = ("Unreal Company", "Hedgehog & Bucket", "Peña e Hijos", "100% Wolle GmbH")
_LANGUAGES = ("en", "es", "de", "it", "pt_BR", "es_419")
_GROUP_IDS = (0, 0, 0, 0, 9367001, 2595001, 12345, 7000001)  # the last group has no name


def customers(count: int) -> Iterator[tuple[Document, list[int]]]:
    """Return the seed and `count` generated customers, which are the same in every run.

    Each customer comes with the ids of the products that they bought. Generated customers come in
    the order of their registration.

    Raises:
        ValueError: `count` is not a number of customers.
    """
    if type(count) is not int or count < 0:
        raise ValueError(f"Generated customers must be a whole number from 0; got {count!r}")
    return _customers(count)


def _customers(count: int) -> Iterator[tuple[Document, list[int]]]:
    for document in SEED:
        yield document, []
    random = Random(1003)
    for number in range(count):
        share = (number + random.random()) / count
        registered = _FIRST_DAY + int(share * (_LAST_DAY - _FIRST_DAY))
        yield _customer(random, number, registered)


def _customer(random: Random, number: int, registered: int) -> tuple[Document, list[int]]:
    first = random.choice(tuple(_FIRST_NAMES))
    name = first if random.random() < 0.05 else f"{first} {random.choice(_LAST_NAMES)}"
    email = f"{_FIRST_NAMES[first]}.{number}@example.com"
    is_guest = random.random() < 0.2
    orders = int(is_guest) + (random.randrange(1, 12) if random.random() < 0.4 else 0)
    given: Document = {"email": email} if is_guest else _registered(random, number, name, email)
    # Guests and a quarter of the others have no acceptMarketing, which is often absent (D26).
    if not is_guest and random.random() < 0.75:
        given["acceptMarketing"] = random.random() < 0.7
    document = {
        "name": name,  # a guest has no billingPerson, which would set the name
        **new_customer(given, registered),
        "updated": format_date(random.randint(registered, _LAST_DAY)),
        # The two counts of orders can disagree (as in D26's sample).
        "totalOrderCount": 0 if random.random() < 0.02 else orders,
        "stats": _stats(random, orders, registered, is_guest),
    }
    if is_guest:  # a guest has no addresses (D26's second sample)
        del document["shippingAddresses"]
    elif random.random() < 0.1:
        added = format_date(random.randint(registered, _LAST_DAY))
        favorite = random.choice(_PRODUCTS)
        document["favorites"] = [{"productId": favorite, "addedTimestamp": added}]
    return document, sorted(random.sample(_PRODUCTS, min(orders, 3)))


def _registered(random: Random, number: int, name: str, email: str) -> Document:
    """Return a body that creates a customer with an account."""
    is_company = random.random() < 0.15
    address = {**_address(random), "name": name, "phone": f"+1 314 {number:07d}"}
    if is_company:
        address["companyName"] = random.choice(_COMPANIES)
    return {
        "email": email,
        "lang": random.choice(_LANGUAGES),
        "customerGroupId": random.choice(_GROUP_IDS),
        "billingPerson": address,
        "shippingAddresses": [
            {**address, **_address(random), "defaultAddress": position == 0, "orderBy": position}
            for position in range(random.choice((0, 1, 1, 2)))
        ],
        "contacts": [
            {"contact": email, "type": "EMAIL"},
            {"contact": address["phone"], "type": "PHONE", "note": "mornings"},
        ],
        "b2b_b2c": "b2b" if is_company else "b2c",
        "taxId": f"GB{number:09d}" if is_company else "",
        "taxExempt": is_company and random.random() < 0.5,
        "fiscalCode": f"RSSMRA{number:06d}" if address["countryCode"] == "IT" else "",
        "privateAdminNotes": "Calls before noon." if random.random() < 0.1 else "",
    }


def _address(random: Random) -> dict[str, str]:
    country, state, city, postal_code, street = random.choice(_PLACES)
    return {
        "street": street,
        "city": city,
        "countryCode": country,
        "postalCode": postal_code,
        "stateOrProvinceCode": state,
    }


def _stats(random: Random, orders: int, registered: int, is_guest: bool) -> dict[str, Any]:
    """Return the statistics of a customer. The first order of a guest is the registration."""
    if not orders:
        return {"numberOfOrders": 0, "salesValue": 0, "averageOrderValue": 0}
    sales = random.choice((97, 19.99, 120.5, 1207.49)) * orders
    first = registered if is_guest else random.randint(registered, _LAST_DAY)
    last = first if orders == 1 else random.randint(first, _LAST_DAY)
    return {
        "numberOfOrders": orders,
        "salesValue": _money(sales),
        "averageOrderValue": _money(sales / orders),
        "firstOrderDate": format_date(first),
        "lastOrderDate": format_date(last),
    }


def _money(value: float) -> float:
    """Return an amount as Ecwid writes it, which is `97` and not `97.0` for a whole amount."""
    value = round(value, 2)
    return int(value) if value == int(value) else value
