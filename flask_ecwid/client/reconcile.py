"""Find out whether a creation without a good reply has created its customer. Pure, without I/O.

The search is by e-mail, and Ecwid may show several customers or old ones. A customer counts as
created by the call if its registration and its members agree with the call.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from ..errors import EmailTaken
from .calls import Call, build_call
from .replies import Reply, date_of

# The waits before three searches, because Ecwid's search shows some new customers late.
WAITS_S = (0.0, 1.0, 2.0)
CLOCKS_DIFFER_S = 5.0  # The most that clocks may differ beyond the difference that a Date shows.
CLOCKS_DIFFER_MOST_S = 300.0  # A Date that differs by more does not come from a clock.
_DATE = "%Y-%m-%d %H:%M:%S %z"
# `same_email` compares the e-mail. Ecwid gives new ids, and derives the names of countries and
# states from their codes. Ecwid also keeps one default contact of each type, orders lists itself,
# and may replace a type. Without this, a caller who sends other values would get a 409 for a
# customer that was created.
_NOT_COMPARED = frozenset(
    {"email", "id", "countryName", "stateOrProvinceName", "default", "orderBy", "type"}
)


def search_call(email: str) -> Call:
    """Return the call that searches for the customers with exactly this e-mail.

    https://docs.ecwid.com/api-reference/rest-api/customers/search-customers
    """
    query = {"email": email, "useExactEmailMatch": True, "offset": 0, "limit": 100}
    return build_call("list_customers", query=query)


def clock_ahead_s(reply: Reply, sent_at: float, received_at: float) -> float | None:
    """Return by how many seconds, at least, Ecwid's clock is ahead of ours.

    A `Date` between the sending and the receiving shows no difference. A `Date` has whole seconds.
    https://www.rfc-editor.org/rfc/rfc9110#section-6.6.1

    Args:
        reply: The reply, whose header `Date` is compared.
        sent_at: When the call was sent, in UNIX seconds.
        received_at: When the reply was received, in UNIX seconds.

    Returns:
        The seconds, which are negative if Ecwid's clock is behind. None without a current `Date`.
    """
    date = date_of(reply)
    if date is None:
        return None
    return min(0.0, date + 1 - sent_at) if date < received_at else date - received_at


def ecwid_time(reply: Reply, wall: float) -> float:
    """Return the time of a reply on Ecwid's clock, or our time if the reply has no credible date.

    Args:
        reply: The reply.
        wall: Our time when the reply was received, in UNIX seconds.
    """
    date = date_of(reply)
    if date is None or abs(date - wall) > CLOCKS_DIFFER_MOST_S:
        return wall
    return date


def find_created(sent: Mapping[str, Any], page: Mapping[str, Any], started_at: float) -> int | None:
    """Return the id of the customer that a creation has created, or None.

    Args:
        sent: The members that the creation sent.
        page: The page of Ecwid's search for the e-mail.
        started_at: When the creation began, in UNIX seconds of Ecwid's clock.

    Raises:
        EmailTaken: Customers with the e-mail exist, but the creation has not created them.
    """
    items = page.get("items")
    found = [
        item
        for item in (items if isinstance(items, list) else [])
        if isinstance(item, dict) and same_email(sent, item) and _is_id(item.get("id"))
    ]
    for item in found:
        registered = _parse_date(item.get("registered"))
        if registered is None:
            return None  # Without the date, nobody can say which call created the customer.
        if registered >= int(started_at - CLOCKS_DIFFER_S) and _agrees(sent, item):
            return int(item["id"])
    if found:
        raise EmailTaken
    return None


def same_email(sent: Mapping[str, Any], item: Mapping[str, Any]) -> bool:
    """Return whether both have the same e-mail. Like Ecwid, ignore case and outer blanks.

    The texts are compared in lower case, because `casefold` takes `ß` for `ss`. With `casefold`,
    the customer of another domain would be found.
    """
    emails = sent.get("email"), item.get("email")
    mine, theirs = (e.strip().lower() if isinstance(e, str) else None for e in emails)
    return mine is not None and mine == theirs


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _parse_date(text: object) -> float | None:
    """Return the UNIX seconds of Ecwid's date, for example `2021-12-21 06:05:58 +0000`.

    https://docs.ecwid.com/api-reference/rest-api/customers/get-customer
    """
    try:
        return datetime.strptime(text, _DATE).timestamp() if isinstance(text, str) else None
    except ValueError:
        return None


def _agrees(sent: Any, shown: Any) -> bool:
    """Return whether Ecwid shows no sent value differently.

    A member that Ecwid does not show proves nothing, so such a member agrees.
    """
    if isinstance(sent, dict):
        return isinstance(shown, dict) and all(
            _agrees(value, shown[name])
            for name, value in sent.items()
            if name in shown and name not in _NOT_COMPARED
        )
    if isinstance(sent, list):
        # The items must come in the sent order. Other items may stand between them, because Ecwid
        # adds the e-mail to the contacts by itself.
        left: Iterator[Any] = iter(shown if isinstance(shown, list) else ())
        return all(any(_agrees(item, other) for other in left) for item in sent)
    if isinstance(sent, str) or isinstance(shown, str):  # Ecwid may show a number as a text.
        return None in (sent, shown) or _normalized(str(sent)) == _normalized(str(shown))
    return sent is None or shown is None or bool(sent == shown)


def _normalized(text: str) -> str:
    """Return the letters and digits of a text, in lower case.

    A store may tidy a text. For example, a phone number keeps only its digits.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(character for character in folded if character.isalnum())
