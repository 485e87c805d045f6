"""`responseFields`: the members that a caller asks for, `total,items(id,name)`. Pure."""

from __future__ import annotations

import re
from typing import Any

from .errors import WrongParameter

Selection = dict[str, "Selection"]  # an empty selection is the whole member


def read_selection(fields: str) -> Selection:
    """A list with commas, members of members in parentheses; blanks are no part of the syntax.

    Raises:
        WrongParameter: it is not in that syntax. An empty one names nothing, and is not either.
    """
    tokens = re.findall(r"[A-Za-z0-9_]+|[(),]", fields)
    if "".join(tokens) != fields:
        raise _malformed()
    tokens.append("")  # the end
    try:
        selection = _read_list(tokens)
    except RecursionError:
        raise _malformed() from None
    if tokens != [""]:
        raise _malformed()
    return selection


def _read_list(tokens: list[str]) -> Selection:
    selection: Selection = {}
    while True:
        name = tokens.pop(0)
        if name in ("", "(", ")", ","):
            raise _malformed()
        members: Selection = {}
        if tokens[0] == "(":
            del tokens[0]
            members = _read_list(tokens)
            if tokens.pop(0) != ")":
                raise _malformed()
        _add(selection, name, members)
        if tokens[0] != ",":
            return selection
        del tokens[0]


def _add(selection: Selection, name: str, members: Selection) -> None:
    """A member that is asked for twice: whole if one asks so, else with what both ask for."""
    if name not in selection:
        selection[name] = members
    elif not members or not selection[name]:
        selection[name] = {}
    else:
        for inner, its_members in members.items():
            _add(selection[name], inner, its_members)


def selected(value: Any, selection: Selection) -> Any:
    """What is named of a document; of lists, of each of their elements. Unknown names are ignored.

    Members of what has none (`email(x)`) leave it as it is: nothing says what Ecwid does.
    """
    if selection and isinstance(value, list):
        return [selected(item, selection) for item in value]
    if selection and isinstance(value, dict):
        return {
            name: selected(member, selection[name])
            for name, member in value.items()
            if name in selection
        }
    return value


def _malformed() -> WrongParameter:
    return WrongParameter("Wrong parameter 'responseFields' value: malformed list of fields")
