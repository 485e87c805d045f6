"""JSON from outside, read so strictly that nothing in it can mean two things (RFC 8259, RFC 7493).

Two readers must not see two documents: no repeated names, no number that a double cannot hold, no
text that is no Unicode; and nothing that would be work out of proportion: depth and names are few.
"""

from __future__ import annotations

import json
import math
from typing import Any

from ..errors import InvalidRequest

MAX_DEPTH = 32
MAX_NAMES = 1000  # in the whole document
_MAX_INTEGER = 2**53 - 1  # beyond it a double, which is what most readers have, skips integers


def read(body: bytes) -> Any:
    """The document in a body.

    Raises:
        InvalidRequest: there is none that could be read in one way only. It says which rule is
            broken, never by what.
    """
    try:
        document = _decoder.decode(body.decode("utf-8"))
    except RecursionError:
        fault = "The body is nested too deep."
    except ValueError:  # of the text's encoding, and of JSON
        fault = "The body is not JSON in UTF-8."
    else:
        _check(document)
        return document
    # Raised out here: the decoder's error, which holds the body, stays behind.
    raise InvalidRequest(detail=fault)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise InvalidRequest(detail="The body names a member twice.")
    return found


def _integer(text: str) -> int:
    # By its length first: converting takes the square of the digits.
    if len(text) > len(str(-_MAX_INTEGER)) or abs(number := int(text)) > _MAX_INTEGER:
        raise InvalidRequest(detail="The body has an integer beyond 2^53 - 1.")
    return number


def _number(text: str) -> float:
    if math.isinf(number := float(text)):
        raise InvalidRequest(detail="The body has a number that is too large.")
    return number


def _constant(_: str) -> None:
    raise InvalidRequest(detail="The body has a number that is none.")


_decoder = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_number,
    parse_constant=_constant,
)


def _check(document: Any) -> None:
    """Its depth, its names and its texts."""
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
            elif isinstance(value, str) and ("\0" in value or not _is_unicode(value)):
                raise InvalidRequest(
                    detail="The body has a text with a NUL or half a surrogate pair."
                )
        if names > MAX_NAMES:
            raise InvalidRequest(detail="The body has too many members.")
        if depth == MAX_DEPTH and any(isinstance(value, (dict, list)) for value in level):
            raise InvalidRequest(detail="The body is nested too deep.")
        level = below
        depth += 1


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
