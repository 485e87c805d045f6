"""Dates in the forms that callers send, in UNIX seconds and in Ecwid's own forms. Pure.

Ecwid accepts UNIX seconds, `2023-01-15`, `2023-01-15 19:27:50` and `2023-01-15 19:27:50 +0000`.
Callers may also send ISO 8601 and objects of `datetime`. A date without a zone is in UTC.
https://docs.ecwid.com/api-reference/rest-api/customers/search-customers
"""

from __future__ import annotations

import re
from datetime import date, datetime, timezone

_ECWIDS_FORM = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d( [+-]\d{4})?)?", flags=re.ASCII)
_ANY_FORM = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d)(?::(\d\d)(?:\.\d+)?)?(?: ?(Z|[+-]\d\d(?::?\d\d)?))?)?",
    flags=re.ASCII,
)


def to_seconds(value: object) -> int | None:
    """Return the UNIX seconds of a number or a date, or None if it cannot be read."""
    if isinstance(value, int):
        return value
    text = _text(value)
    if re.fullmatch(r"[0-9]{1,12}", text):
        return int(text)
    moment = _parse(text)
    return None if moment is None else int(moment.timestamp())


def to_ecwids_form(value: object) -> str:
    """Return a date as Ecwid accepts it. Text in any other form stays as it is."""
    text = _text(value)
    if _ECWIDS_FORM.fullmatch(text) or (moment := _parse(text)) is None:
        return text
    return f"{moment.isoformat(' ', 'seconds')[:19]} +0000"


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


def _parse(text: str) -> datetime | None:
    """Return the moment in UTC in whole seconds, or None if the text is no date."""
    found = _ANY_FORM.fullmatch(text)
    if found is None:
        return None
    day, minute, second, zone = found.groups()
    digits = "+0000" if zone in (None, "Z") else zone.replace(":", "").ljust(5, "0")
    iso = f"{day}T{minute or '00:00'}:{second or '00'}{digits[:3]}:{digits[3:]}"
    try:
        return datetime.fromisoformat(iso).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None
