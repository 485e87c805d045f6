"""The known name that is nearest to an unknown name. Pure, without I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

_OTHER_CHARACTERS = re.compile(r"[^a-z0-9]+")
# A longer name is left alone. A caller may send names of any length, so the search would otherwise
# hold a worker.
_MAX_LENGTH = 40
_ALIKE = 0.65  # the least likeness of a name that is worth a mention
_MISSPELT = 0.8  # the least likeness of a name with a few wrong letters


def nearest_name(sent: str, names: Iterable[str]) -> str:
    """Return the name that a caller probably meant, or an empty text."""
    plain = _plain(sent) if len(sent) <= _MAX_LENGTH else ""
    if not plain:
        return ""
    likeness = {name: _likeness(plain, _plain(name)) for name in names}
    nearest = max(likeness, key=likeness.__getitem__, default="")
    return nearest if likeness.get(nearest, 0) >= _ALIKE else ""


def is_same_name(one: str, other: str) -> bool:
    """Return whether two names differ in nothing but case and punctuation."""
    return len(other) <= _MAX_LENGTH and _plain(one) == _plain(other)


def misspelt_name(sent: str, names: Iterable[str]) -> str:
    """Return the name that differs from this one by a few letters, or an empty text."""
    name = nearest_name(sent, names)
    matcher = SequenceMatcher(None, _plain(sent), _plain(name), autojunk=False)
    return name if name and matcher.ratio() >= _MISSPELT else ""


def _plain(name: str) -> str:
    return _OTHER_CHARACTERS.sub("", name.casefold())


def _likeness(sent: str, name: str) -> float:
    """Return a number from 0 for unlike names to more than 1 for equal names.

    A name within the other name counts more. For example, `state` stands for `stateOrProvinceCode`.
    """
    matcher = SequenceMatcher(None, sent, name, autojunk=False)
    within = len(sent) > 2 and (sent in name or name in sent)
    bonus = 0.25 if within else 0.0
    if matcher.real_quick_ratio() + bonus < _ALIKE or matcher.quick_ratio() + bonus < _ALIKE:
        return 0.0
    return matcher.ratio() + bonus
