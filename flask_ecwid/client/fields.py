"""Ecwid's parameter `responseFields`, which selects members, for example `total,items(id,name)`.

The syntax is a list with commas, with the members of a member in parentheses, and without blanks.
Callers may write blanks after commas, and `complete` removes the blanks. Ecwid leaves out every
member that the selection does not name, even a member that the contract requires. `complete` adds
the required members.
https://docs.ecwid.com/api-reference/rest-api/customers/search-customers
"""

from __future__ import annotations

import re

Selection = dict[str, "Selection"]  # An empty selection means the whole member.

_TOKEN = re.compile(r"[A-Za-z0-9_]+|[(),]")


def complete(fields: str, required: str) -> str:
    """Return the selection `fields` with the members that `required` names.

    Raises:
        ValueError: `fields` is not in Ecwid's syntax.
    """
    return _to_text(_union(_parse(fields), _parse(required)))


def members_of(name: str, fields: str) -> str | None:
    """Return the selection of a member's members, or None if `fields` names the whole member.

    Raises:
        ValueError: `fields` is not in Ecwid's syntax.
    """
    return _to_text(_parse(fields).get(name, {})) or None


def _parse(fields: str) -> Selection:
    fields = re.sub(", +", ",", fields)
    tokens = _TOKEN.findall(fields)
    if "".join(tokens) != fields:
        raise ValueError("the selection has a character that Ecwid's syntax does not have")
    tokens.append("")  # The end, so that there always is a next token.
    selection = _parse_list(tokens)
    if tokens != [""]:
        raise ValueError("the selection has an unexpected comma or parenthesis")
    return selection


def _parse_list(tokens: list[str]) -> Selection:
    selection: Selection = {}
    while True:
        name = tokens.pop(0)
        if not name or name in "(),":
            raise ValueError("the selection lacks a name")
        members: Selection = {}
        if tokens[0] == "(":
            tokens.pop(0)
            members = _parse_list(tokens)
            if tokens.pop(0) != ")":
                raise ValueError("the selection has an open parenthesis")
        selection = _union(selection, {name: members})
        if tokens[0] != ",":
            return selection
        tokens.pop(0)


def _union(one: Selection, other: Selection) -> Selection:
    union = dict(one)
    for name, members in other.items():
        # If either selection names the whole member, the union names the whole member.
        both = union.get(name) and members
        union[name] = _union(union[name], members) if both else {} if name in union else members
    return union


def _to_text(selection: Selection) -> str:
    return ",".join(
        f"{name}({_to_text(members)})" if members else name for name, members in selection.items()
    )
