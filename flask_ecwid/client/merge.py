"""Compare the members that a caller sets with the customer that Ecwid shows. Pure, without I/O.

An update of these members clears no other member. Ecwid replaces a list as a whole, so the update
also sends the items of a list that the caller leaves out.
https://docs.ecwid.com/api-reference/rest-api/customers/update-customer
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from ..contract import load

# Ecwid leaves out a member without a value, so an absent member has its default.
_DEFAULTS: Mapping[str, Any] = {"customerGroupId": 0, "taxExempt": False, "b2b_b2c": "b2c"}
# A customer is found by the e-mail. An id may come from another store. Ecwid keeps one default
# contact of each type. Ecwid derives both names from their codes, and ignores a name in a body. If
# these names counted, each put would send an update again, or would add the address again.
_NOT_COMPARED = frozenset({"email", "id", "default", "countryName", "stateOrProvinceName"})
# These members of an address name neither the recipient nor the place.
_NO_PART_OF_AN_ADDRESS = frozenset({"note", "defaultAddress", "orderBy"})
_NUMBERS = frozenset({"PHONE", "WHATSAPP", "VIBER"})  # the types of contacts with a phone number
_NO_DIGIT = re.compile(r"[^0-9]+")
_ITEM_KEYS = {"contacts": ("type", "contact"), "extrafields": ("key",)}


def differences(sent: Mapping[str, Any], shown: Mapping[str, Any]) -> list[str]:
    """Return the pointers of the sent members that Ecwid does not show like this.

    Args:
        sent: The members of a prepared body. `bodies.prepare` prepares a body.
        shown: The customer with the same e-mail, as Ecwid shows the customer.
    """
    found = []
    for name in _differing(sent, _with_name(shown)):
        if isinstance(sent[name], Mapping):
            inner = _object(_with_name(shown).get(name))
            found += [f"/{name}/{member}" for member in _differing(sent[name], inner)]
        else:
            found.append(f"/{name}")
    return found


def changes(sent: Mapping[str, Any], shown: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of the update after which Ecwid shows all sent members, or an empty body."""
    schemas = load().operations["update_customer"].body_node["properties"]
    body: dict[str, Any] = {}
    for name in _differing(sent, _with_name(shown)):
        value = sent[name]
        if isinstance(value, Mapping):
            # Ecwid seems to merge an object, but does not document the merging. So the update also
            # sends the shown members. Otherwise the update could clear these members.
            body[name] = {**_settable(schemas[name], shown.get(name)), **_without_nulls(value)}
        elif isinstance(value, (list, tuple)):
            items = [_settable(schemas[name]["items"], item) for item in _list(shown.get(name))]
            body[name] = _merged(name, items, value)
        else:
            body[name] = value
    return body


def _with_name(shown: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the customer with a name in billingPerson. A guest has only the top-level name."""
    person = _object(shown.get("billingPerson"))
    if person.get("name") is not None or shown.get("name") is None:
        return shown
    return {**shown, "billingPerson": {**person, "name": shown["name"]}}


def _differing(sent: Mapping[str, Any], shown: Mapping[str, Any]) -> list[str]:
    """Return the names of the sent members that Ecwid shows differently or not at all."""
    kind = str(shown.get("type", sent.get("type", ""))).upper()
    return [
        name
        for name, value in sent.items()
        if value is not None
        and name not in _NOT_COMPARED
        and not _shows(name, kind, value, shown.get(name))
    ]


def _shows(name: str, kind: str, sent: Any, shown: Any) -> bool:
    if isinstance(sent, Mapping):
        return not _differing(sent, _object(shown))
    if isinstance(sent, (list, tuple)):
        # The order does not count, because Ecwid's order of the addresses is not stable.
        return all(_is_shown(item, _list(shown)) for item in sent)
    if isinstance(sent, str):
        shown = _DEFAULTS.get(name, "") if shown is None else shown
        if not isinstance(shown, str):
            return False
        mine, theirs = _tidied(name, kind, sent), _tidied(name, kind, shown)
        # A store may write `us` as `US`. The other way round, the store shows a code that it has
        # not understood, and an update mends the code.
        return theirs in (mine, mine.upper()) if name == "countryCode" else mine == theirs
    return bool(sent == (_DEFAULTS.get(name) if shown is None else shown))


def _is_shown(item: Any, shown: list[Any]) -> bool:
    """Return whether a list has an item with all members of the sent item."""
    if not isinstance(item, Mapping):
        return item in shown
    others = [other for other in shown if isinstance(other, Mapping)]
    meant = [other for other in others if _has_id_of(item, other)] or others
    return any(not _differing(item, other) for other in meant)


def _has_id_of(item: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return item.get("id") is not None and item["id"] == other.get("id")


def _tidied(name: str, kind: str, text: str) -> str:
    """Return a text without the differences that a store may make by tidying the text.

    Args:
        name: The name of the member.
        kind: The type of the contact, if the member belongs to a contact.
        text: The value of the member.
    """
    tidy = " ".join(unicodedata.normalize("NFC", text).split())
    if (name == "phone" or (name == "contact" and kind in _NUMBERS)) and _NO_DIGIT.sub("", tidy):
        return _NO_DIGIT.sub("", tidy)
    if name == "type" or (name == "contact" and kind == "EMAIL"):
        return tidy.lower()
    return tidy


def _merged(name: str, shown: list[dict[str, Any]], sent: Any) -> list[Any]:
    """Return the shown items with the members of the sent items, and the new items after them."""
    items: list[Any] = list(shown)
    for item in sent:
        given = _without_nulls(item) if isinstance(item, Mapping) else item
        place = _place(name, given, shown)
        if place is not None:
            items[place] = {**items[place], **given, "id": items[place].get("id")}
        elif isinstance(given, dict):
            # The id is not one of this customer, so the item is new.
            items.append({member: value for member, value in given.items() if member != "id"})
        else:
            items.append(given)
    return [_without_nulls(item) if isinstance(item, dict) else item for item in items]


def _place(name: str, item: Any, shown: list[dict[str, Any]]) -> int | None:
    """Return the place of the shown item that the sent item is, or None for a new item."""
    if not isinstance(item, Mapping):
        return None
    by_id = [place for place, other in enumerate(shown) if _has_id_of(item, other)]
    alike = [place for place, other in enumerate(shown) if _is_same(name, item, other)]
    return next(iter(by_id + alike), None)


def _is_same(name: str, sent: Mapping[str, Any], shown: Mapping[str, Any]) -> bool:
    """Return whether both items of a list are the same address, contact or field."""
    differing = _differing(sent, shown)
    if not differing:
        return True
    if name in _ITEM_KEYS:
        return not set(_ITEM_KEYS[name]) & set(differing)
    # An address is the same if only members are added. Another value may be another recipient.
    others = [
        member
        for member in differing
        if member not in _NO_PART_OF_AN_ADDRESS and not _is_same_country(member, sent, shown)
    ]
    has_street = bool(sent.get("street")) and bool(shown.get("street"))
    return not others or (has_street and all(shown.get(each) in (None, "") for each in others))


def _is_same_country(member: str, sent: Mapping[str, Any], shown: Mapping[str, Any]) -> bool:
    """Return whether the member is a country code that differs only in its case."""
    return member == "countryCode" and str(sent[member]).upper() == str(shown.get(member)).upper()


def _settable(schema: Mapping[str, Any], shown: Any) -> dict[str, Any]:
    """Return the members of a shown object that an update sets."""
    schemas = schema["properties"]
    return {
        name: value
        for name, value in _object(shown).items()
        if value is not None and name in schemas and not schemas[name].get("readOnly")
    }


def _without_nulls(sent: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in sent.items() if value is not None}


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
