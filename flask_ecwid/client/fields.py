"""Ecwid's `responseFields`: a selection of members, for example `total,items(id,name)`.

A list with commas, members of members in parentheses, no blanks. Ecwid leaves out what is not
named, even what the contract requires; `complete` names it too.
"""

from __future__ import annotations

import re

Selection = dict[str, "Selection"]  # an empty selection is the whole member

_TOKEN = re.compile(r"[A-Za-z0-9_]+|[(),]")


def complete(fields: str, required: str) -> str:
    """`fields` with everything that `required` names, in the same syntax.

    Raises:
        ValueError: `fields` is not in Ecwid's syntax.
    """
    return _written(_union(_read(fields), _read(required)))


def _read(fields: str) -> Selection:
    tokens = _TOKEN.findall(fields)
    if "".join(tokens) != fields:
        raise ValueError("a character that Ecwid's syntax does not have")
    tokens.append("")  # the end, so that there always is a next one
    selection = _read_list(tokens)
    if tokens != [""]:
        raise ValueError("an unexpected comma or parenthesis")
    return selection


def _read_list(tokens: list[str]) -> Selection:
    selection: Selection = {}
    while True:
        name = tokens.pop(0)
        if not name or name in "(),":
            raise ValueError("a name is missing")
        members: Selection = {}
        if tokens[0] == "(":
            tokens.pop(0)
            members = _read_list(tokens)
            if tokens.pop(0) != ")":
                raise ValueError("a parenthesis is not closed")
        selection = _union(selection, {name: members})
        if tokens[0] != ",":
            return selection
        tokens.pop(0)


def _union(one: Selection, other: Selection) -> Selection:
    union = dict(one)
    for name, members in other.items():
        both = union.get(name) and members  # where either asks for the whole member, it is whole
        union[name] = _union(union[name], members) if both else {} if name in union else members
    return union


def _written(selection: Selection) -> str:
    return ",".join(
        f"{name}({_written(members)})" if members else name for name, members in selection.items()
    )
