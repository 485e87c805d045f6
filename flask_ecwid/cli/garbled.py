"""Texts of a CSV file that nobody has written, because a program took a wrong encoding. Pure."""

from __future__ import annotations

import codecs
import re

from ..errors import Violation

# A tab and line ends are no fault. U+0080 to U+009F are the C1 characters.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_C1 = re.compile("[\x80-\x9f]")
_NO_CONTROL = "Text without control characters."
# In Latin-1, the bytes of the letters and quotes of windows-1252 are C1 characters.
_LATIN_1 = frozenset({"iso8859-1", "iso8859-15"})
_SAY_1252 = "The text looks like windows-1252, so use --encoding windows-1252."
# The bytes of UTF-8 are pairs such as `Ã¼` in these encodings, which nobody writes. In an encoding
# of Cyrillic or Greek letters, such a pair can be a word.
_PAIRS_ARE_NO_WORDS = frozenset(
    {
        *("cp1250", "cp1252", "cp1254", "iso8859-1", "iso8859-2", "iso8859-9", "iso8859-15"),
        *("mac-roman", "cp437", "cp850"),
    }
)
_PAIR = re.compile(rb"[\xc2-\xc5][\x80-\xbf]|\xe2[\x80-\xbf]{2}")


def garbled(text: str, encoding: str) -> Violation | None:
    """Return the violation of a cell with control characters or with UTF-8 in another encoding."""
    codec = codecs.lookup(encoding).name
    if _is_utf_8(text, codec):
        expected = f"Text in {encoding}. The cell is in UTF-8, so the file has two encodings."
        return Violation("", "encoding", expected)
    if _CONTROL.search(text):
        hint = f" {_SAY_1252}" if codec in _LATIN_1 and _C1.search(text) else ""
        return Violation("", "control", f"{_NO_CONTROL}{hint}")
    return None


def _is_utf_8(text: str, codec: str) -> bool:
    """Return whether the bytes of a text are UTF-8 with the pairs of Latin letters or signs."""
    if text.isascii() or codec not in _PAIRS_ARE_NO_WORDS:
        return False
    data = text.encode(codec)
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return _PAIR.search(data) is not None
