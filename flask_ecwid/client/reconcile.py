"""Whether a customer that was found is the one that we may have created. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from ..errors import EmailTaken
from .calls import Call, build_call
from .replies import Reply

# A lookup at once, and 1 s and 3 s after the first: Ecwid's search lags behind a creation.
WAITS_S = (0.0, 1.0, 2.0)
CLOCKS_DIFFER_S = 5.0  # besides what a reply's Date tells
CLOCKS_DIFFER_MOST_S = 300.0  # a Date that is further off is no clock's
_DATE = "%Y-%m-%d %H:%M:%S %z"
# Ecwid drops the first two, never shows the next, and the e-mail is compared without case.
_NOT_COMPARED = frozenset({"name", "customerGroupName", "password", "primaryPhone", "email"})


def lookup_call(email: str) -> Call:
    """Asks for the customers with exactly this e-mail."""
    query = {"email": email, "useExactEmailMatch": True, "offset": 0, "limit": 100}
    return build_call("list_customers", query=query)


def date_ahead(reply: Reply, asked: float, came: float) -> float | None:
    """By how many seconds Ecwid's clock is ahead of ours, at least, as far as its reply tells.

    That was asked for and came then, in UNIX seconds: a Date between both says nothing, and it is
    of whole seconds. None if it has none. https://www.rfc-editor.org/rfc/rfc9110#section-6.6.1
    """
    if "age" in reply.headers:  # it was kept on the way, and its Date is not of now
        return None
    try:
        date = parsedate_to_datetime(reply.headers.get("date", "")).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None
    return min(0.0, date + 1 - asked) if date < came else date - came


def clock_ahead(reply: Reply, asked: float, came: float) -> float:
    """The same, where it can be a clock's; else 0."""
    ahead = date_ahead(reply, asked, came)
    return ahead if ahead is not None and abs(ahead) <= CLOCKS_DIFFER_MOST_S else 0.0


def find_created(sent: Mapping[str, Any], page: Mapping[str, Any], since: float) -> int | None:
    """The id of the customer on the page that was created of `sent`; None if there is none.

    `since` is when the creation began, in UNIX seconds of Ecwid's clock.

    Raises:
        EmailTaken: those with this e-mail are older, or others.
    """
    items = page.get("items")
    found = [
        item
        for item in (items if isinstance(items, list) else [])
        if isinstance(item, dict) and same_email(sent, item) and _is_id(item.get("id"))
    ]
    for item in found:
        registered = _moment(item.get("registered"))
        if registered is None:
            return None  # whose it is cannot be told
        compared = {name: value for name, value in sent.items() if name not in _NOT_COMPARED}
        if registered >= int(since - CLOCKS_DIFFER_S) and _matches(compared, item):
            return int(item["id"])
    if found:
        raise EmailTaken
    return None


def same_email(sent: Mapping[str, Any], item: Mapping[str, Any]) -> bool:
    """Whether both have the same e-mail, as Ecwid compares them."""
    emails = sent.get("email"), item.get("email")
    mine, theirs = (e.strip().casefold() if isinstance(e, str) else None for e in emails)
    return mine is not None and mine == theirs


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _moment(text: object) -> float | None:
    """Ecwid's date, `2021-12-21 06:05:58 +0000`, in UNIX seconds."""
    try:
        return datetime.strptime(text, _DATE).timestamp() if isinstance(text, str) else None
    except ValueError:
        return None


def _matches(sent: Any, shown: Any) -> bool:
    """Whether nothing that was sent is shown otherwise; what is not shown says nothing."""
    if isinstance(sent, dict):
        return isinstance(shown, dict) and all(
            _matches(value, shown[name]) for name, value in sent.items() if name in shown
        )
    if isinstance(sent, list):
        # In their order, others between them: Ecwid adds the e-mail to the contacts by itself.
        left: Iterator[Any] = iter(shown if isinstance(shown, list) else ())
        return all(any(_matches(one, other) for other in left) for one in sent)
    if isinstance(sent, str) and isinstance(shown, str):
        return _letters(sent) == _letters(shown)
    return sent is None or shown is None or bool(sent == shown)


def _letters(text: str) -> str:
    """What is left of a text however a store tidies it: of a phone number, the digits."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(character for character in folded if character.isalnum())
