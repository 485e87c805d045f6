"""Shared parts of the fuzzing tests, such as JSON that is nearly valid."""

from __future__ import annotations

import copy
import json
import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

MUCH = os.environ.get("FUZZ") == "much"  # `make fuzz` sets FUZZ, and `make test` does not


def rounds(count: int) -> range:
    """Return the numbers of the rounds.

    Hypothesis remembers all examples of a round, so many examples need several rounds.
    """
    return range(count if MUCH else 1)


def tries(few: int, much: int) -> settings:
    """Return the settings of a round. Without `make fuzz` the examples are the same each time."""
    return settings(
        max_examples=much if MUCH else few,
        derandomize=not MUCH,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


class Members(list[Any]):
    """A JSON object as a list of [name, value], so order and duplicate names are kept."""


class Text(str):
    """JSON as the text to write, valid or not."""


def members(document: Any) -> Any:
    """Return a document with Members in place of its objects."""
    if isinstance(document, dict):
        return Members([name, members(value)] for name, value in document.items())
    if isinstance(document, list):
        return [members(value) for value in document]
    return document


def written(document: Any, *, escaped: bool = True) -> str:
    """Return the JSON of such a document."""
    if isinstance(document, Text):
        return str(document)
    if isinstance(document, Members):
        pairs = (
            f"{written(name, escaped=escaped)}:{written(value, escaped=escaped)}"
            for name, value in document
        )
        return "{" + ",".join(pairs) + "}"
    if isinstance(document, list):
        return "[" + ",".join(written(value, escaped=escaped) for value in document) + "]"
    return json.dumps(document, ensure_ascii=escaped)


def nested(depth: int, pattern: str = "[", inside: str = "1") -> Text:
    """Return a value of this depth, made of arrays, objects or both in turn."""
    opened = (pattern * depth)[:depth]
    before = "".join('{"n":' if sign == "{" else "[" for sign in opened)
    after = "".join("}" if sign == "{" else "]" for sign in reversed(opened))
    return Text(before + inside + after)


_PIECES = [
    *("NaN", "-Infinity", "1e999", "-1e999", "9" * 400, "-" + "9" * 5000, "1e308", "1e-999"),
    *(str(2**53 - 1), str(2**53), str(-(2**53)), str(2**63), str(2**64), "-0", "1.0", "1E2"),
    *("01", "+1", "1.", ".5", "0x1", "1_0", "--1", "\u0661", "", "nul", "True", "undefined"),
    *('"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\u000"', '"\\x41"'),
    *('"a\nb"', '"a\tb"', '"\0"', '"', "'a'", '"\ud800"', '"\ufeff"', '"\u2028"', "/**/1", "1//"),
    *("null", "true", "false", "0", "-1", "1.5", '""', "[]", "{}", '{"a":1,"a":1}', "[,]"),
    *("[1,]", '{"a":1,}', '{"a"}', "{1:1}", '{"\\ud800":1}', '{"\\u0000":1}', '{"__proto__":{}}'),
]
DEEP = st.builds(
    nested,
    st.sampled_from([30, 31, 32, 33, 200, 253, 254, 255, 256, 500, 1000, 1100, 5000]),
    st.sampled_from(["[", "{", "{["]),
)
PIECES = st.sampled_from([Text(piece) for piece in _PIECES])


def _places(holder: Any) -> list[tuple[Any, int]]:
    """Return the place of each value of a document, as a list and an index."""
    found = []
    for place, value in enumerate(holder):
        pair = isinstance(holder, Members)
        found.append((value, 1) if pair else (holder, place))
        inner = value[1] if pair else value
        if isinstance(inner, list):
            found += _places(inner)
    return found


@st.composite
def nearly(draw: st.DrawFn, originals: list[Any], most: int = 3) -> bytes:
    """Draw the bytes of a document with a few changes of structure, value or byte."""
    root = [members(copy.deepcopy(draw(st.sampled_from(originals))))]
    if draw(st.integers(0, 9)) == 9 and isinstance(root[0], Members):
        root[0].append(["deep", draw(DEEP)])
        return written(root[0]).encode()
    for _ in range(draw(st.integers(0, most))):
        places = _places(root)
        holder, place = places[draw(st.integers(0, len(places) - 1))]
        value = holder[place]
        match draw(st.integers(0, 7)):
            case 0:
                holder[place] = draw(PIECES)
            case 1:
                holder[place] = draw(st.none() | st.booleans() | st.integers() | st.floats())
            case 2:
                holder[place] = draw(st.text(st.characters(), max_size=20))
            case 3:
                holder[place] = [value] if draw(st.booleans()) else Members([["x", value]])
            case 4 if isinstance(value, list):
                value.append(["x", draw(PIECES)] if isinstance(value, Members) else draw(PIECES))
            case 5 if isinstance(value, Members):
                value.append([draw(st.text(max_size=5)), draw(st.integers(0, 9) | DEEP)])
            case 6 if isinstance(value, list) and value:
                value.append(copy.deepcopy(draw(st.sampled_from(value))))
            case _ if isinstance(value, list) and value:
                del value[draw(st.integers(0, len(value) - 1))]
    body = written(root[0], escaped=draw(st.booleans())).encode("utf-8", "surrogatepass")
    return _spoilt(draw, body) if draw(st.integers(0, 7)) == 7 else body


def _spoilt(draw: st.DrawFn, body: bytes) -> bytes:
    """Return the bytes with some removed, changed or added, or in another encoding."""
    if draw(st.integers(0, 7)) == 0:
        text = body.decode("utf-8", "replace")
        return text.encode(draw(st.sampled_from(["utf-16", "utf-8-sig", "utf-32", "utf-7"])))
    at = draw(st.integers(0, len(body)))
    removed = draw(st.sampled_from([0, 0, 1, 1, 2, 10, len(body)]))
    return body[:at] + draw(st.binary(max_size=3)) + body[at + removed :]
