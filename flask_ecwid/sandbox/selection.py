"""The parameter `responseFields`, which names the members to return.

An example is `total,items(id,name)`. The module is pure.
"""

from __future__ import annotations

import re
from typing import Any

from .errors import WrongParameter

Selection = dict[str, "Selection"]  # an empty selection is the whole member


def read_selection(fields: str) -> Selection:
    """Return the selection that the parameter describes.

    Commas separate the names, and parentheses hold the members of a member. Blanks are invalid.

    Raises:
        WrongParameter: the list is empty or malformed.
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
    """Add a member to the selection, and combine both if the selection has this member already.

    A whole member includes any part of the member.
    """
    if name not in selection:
        selection[name] = members
    elif not members or not selection[name]:
        selection[name] = {}
    else:
        for inner, its_members in members.items():
            _add(selection[name], inner, its_members)


def selected(value: Any, selection: Selection) -> Any:
    """Return the selected members of a document, or of each element of a list.

    Unknown names are ignored. A text or number stays whole if members of it are selected, as in
    `email(x)`, because no document says what Ecwid does then.
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
