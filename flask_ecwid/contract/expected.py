"""Say in the contract's words what the contract expects at a place of a request. Pure, without I/O.

A sentence consists of the contract's types, limits, allowed values, examples, descriptions and
names. No sentence repeats a text of the caller, because a text may be personal. The names that a
caller sent only choose among the known names.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any

from ..errors import Violation
from ..settings.nearest import is_same_name, nearest_name
from . import nodes
from .misplaced import INSTEAD
from .nodes import Node

_LISTED_WORDS = re.compile(r"\^\(([A-Za-z0-9_]+(?:\|[A-Za-z0-9_]+)*)\)\$")
_INDEX = re.compile(r"/[0-9]+(?=/|$)")
# A body can have 1,000 names, so the search for known names would otherwise hold a worker.
_MAX_NAMES = 3


def of_value(node: Node) -> str:
    """Return what the contract expects of the value of a schema or a parameter."""
    found = list(nodes.parts(node))
    facts = ChainMap(*map(dict, found))  # an outer part comes before the parts that it refers to
    form = _form(facts)
    if "example" in facts:
        form += f", for example `{facts['example']}`"
    sentences = [f"{form[0].upper()}{form[1:]}."]
    for part in reversed(found):
        text = " ".join(str(part.get("description", "")).split())
        if text and text not in sentences:
            sentences.append(text)
    return " ".join(sentences)


def explained(violation: Violation, node: Node, body: object) -> Violation:
    """Return a violation of a request's body with what the contract expects there.

    Args:
        violation: The place in the body. A violation that is explained already stays as it is.
        node: The schema of the body.
        body: The parsed body, whose unknown names choose the known names that are nearest.
    """
    place = _place(node, violation.pointer)
    if violation.expected is not None or place is None:
        return violation
    if violation.keyword == "additionalProperties":
        text = _of_unknown_members(violation.pointer, place, body)
    elif violation.keyword == "required":
        text = f"This member is required. {of_value(place)}"
    elif _value(body, violation.pointer) is None:
        text = f"Leave the member out instead of null. {of_value(place)}"
    else:
        text = of_value(place)
    return violation._replace(expected=text)


def of_unknown(
    sent: Iterable[str], known: Sequence[str], instead: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Return the known names, and those of them that are nearest to the first unknown names.

    Args:
        sent: The unknown names. The result never contains them.
        known: The names that the contract knows.
        instead: The members to send instead of names that the contract does not know.
    """
    first = list(islice(sent, _MAX_NAMES))
    misplaced = [name for name in instead if any(is_same_name(name, each) for each in first)]
    members = dict.fromkeys(instead[name] for name in misplaced)
    near = dict.fromkeys(
        name
        for each in first
        if not any(is_same_name(name, each) for name in misplaced)
        and (name := nearest_name(each, known))
    )
    sentences = []
    if members:
        sentences.append(f"Use {' and '.join(members)} instead.")
    if near:
        verb = "names are" if len(near) > 1 else "name is"
        sentences.append(f"The nearest known {verb} {_listed(near)}.")
    sentences.append(f"The known names are {_listed(known)}." if known else "No name is known.")
    return " ".join(sentences)


def _of_unknown_members(pointer: str, node: Node, body: object) -> str:
    known = nodes.members(node)
    return of_unknown(
        (name for name in _value(body, pointer) if name not in known),
        [name for name, member in known.items() if not member.get("readOnly")],
        INSTEAD.get(_INDEX.sub("", pointer), {}),
    )


def _place(node: Node, pointer: str) -> Node | None:
    """Return the schema of a place in a body, or None if the contract has no such place."""
    for step in _steps(pointer):
        for part in nodes.parts(node):
            inner = part.get("properties", {}).get(step) if "items" not in part else part["items"]
            if inner is not None:
                node = inner
                break
        else:
            return None
    return node


def _value(body: Any, pointer: str) -> Any:
    """Return the value at a place in a body."""
    for step in _steps(pointer):
        body = body[int(step)] if isinstance(body, list) else body[step]
    return body


def _steps(pointer: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def _form(facts: Mapping[str, Any]) -> str:
    """Return the type, the allowed values and the limits of a value."""
    words = _LISTED_WORDS.fullmatch(facts.get("pattern", ""))
    if allowed := facts.get("enum") or (words and words[1].split("|")):
        return f"one of {_listed(allowed)}"
    kind = facts.get("type")
    if kind == "boolean" and facts.get("in") == "query":
        return "`true` or `false`, also as `1` or `0`"
    if kind == "boolean":
        return "`true` or `false`"
    if kind in ("integer", "number"):
        noun = "a whole number" if kind == "integer" else "a number"
        return noun + _range(facts.get("minimum"), facts.get("maximum"))
    if kind == "string":
        return "a text" + _size(facts.get("minLength"), facts.get("maxLength"), "characters")
    if kind == "array":
        return "a list" + _size(facts.get("minItems"), facts.get("maxItems"), "items")
    return "an object" if kind == "object" else "any value"


def _range(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f" from {least} to {most}"
    if least is not None:
        return f" of {least} or more"
    return "" if most is None else f" of {most} or less"


def _size(least: int | None, most: int | None, unit: str) -> str:
    if least and most is not None:
        return f" of {least:,} to {most:,} {unit}"
    if least:
        return f" of at least {least:,} {unit}"
    return "" if most is None else f" of at most {most:,} {unit}"


def _listed(values: Iterable[object]) -> str:
    return ", ".join(f"`{value}`" for value in values)
