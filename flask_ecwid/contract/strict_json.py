"""Parse JSON from outside so strictly that every other parser reads the same document.

A document has no repeated name, no number that a double cannot hold, and no text outside of
Unicode. Depth and number of names are limited, because a small document could otherwise cost much
work. https://www.rfc-editor.org/rfc/rfc8259 https://www.rfc-editor.org/rfc/rfc7493
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

from ..errors import InvalidRequest

MAX_DEPTH = 32
MAX_NAMES = 1000  # in the whole document
_TOO_DEEP = f"The body is nested deeper than {MAX_DEPTH} levels."
_MAX_INTEGER = 2**53 - 1  # Most parsers use doubles, which skip some larger integers.


def parse(body: bytes) -> Any:
    """Return the document in a body.

    Raises:
        InvalidRequest: The body breaks a rule. The detail names the place or the limit, and holds
            no value.
    """
    try:
        document = _decoder.decode(body.decode("utf-8"))
    except RecursionError:
        fault = _TOO_DEEP
    except UnicodeDecodeError as exc:
        before = body[: exc.start].decode("utf-8")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        fault = f"The body is not UTF-8 at line {line}, column {column}."
    except json.JSONDecodeError as exc:
        fault = f"The body is not valid JSON at line {exc.lineno}, column {exc.colno}."
    else:
        _check(document)
        return document
    # The error is raised outside of the except clause. Otherwise its context would be the decoder's
    # error, which holds the body.
    raise InvalidRequest(detail=fault)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise InvalidRequest(detail="The body names a member twice.")
    return found


def _integer(text: str) -> int:
    # The length is checked first, because the time of a conversion grows with the square of the
    # digits. Without the check, one long number could hold a worker.
    if len(text) > len(str(-_MAX_INTEGER)) or abs(number := int(text)) > _MAX_INTEGER:
        raise InvalidRequest(
            detail=f"The body has an integer beyond 2^53 - 1, which is {_MAX_INTEGER}."
        )
    return number


def _number(text: str) -> float:
    if math.isinf(number := float(text)):
        raise InvalidRequest(detail=f"The body has a number beyond {sys.float_info.max}.")
    return number


def _constant(_: str) -> None:
    raise InvalidRequest(detail="The body has NaN or Infinity, which are not JSON.")


_decoder = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_number,
    parse_constant=_constant,
)


def _check(document: Any) -> None:
    """Check the depth, the number of names and the texts of a document.

    Raises:
        InvalidRequest: The document breaks a rule.
    """
    names = depth = 0
    level = [document]
    while level:
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                names += len(value)
                below += value
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str) and (
                "\0" in value or not (value.isascii() or _is_unicode(value))
            ):
                raise InvalidRequest(
                    detail="The body has a text with a NUL or half a surrogate pair."
                )
        if names > MAX_NAMES:
            raise InvalidRequest(detail=f"The body has more than {MAX_NAMES:,} members.")
        if depth == MAX_DEPTH and any(isinstance(value, (dict, list)) for value in level):
            raise InvalidRequest(detail=_TOO_DEEP)
        level = below
        depth += 1


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
