"""The text of a cursor: its parts with dots between them, and a checksum. Pure, without I/O."""

from __future__ import annotations

import hashlib
import re
from typing import Any


def write_cursor(*parts: object) -> str:
    """Return the cursor of these parts."""
    text = ".".join(map(str, parts))
    return f"{text}.{_checksum_of(text)}"


def read_cursor(cursor: str, form: re.Pattern[str], method: str) -> tuple[str | Any, ...]:
    """Return the parts of a cursor.

    Args:
        cursor: The text that `write_cursor` returned.
        form: The form of the text before the checksum, with a group for each part.
        method: The method of the client that makes such cursors.

    Returns:
        The groups of the form. A group that the text does not have is None.

    Raises:
        ValueError: The cursor is damaged, or another method made it.
    """
    text, _, checksum = cursor.rpartition(".")
    found = form.fullmatch(text)
    if found is None or checksum != _checksum_of(text):
        raise ValueError(f"the cursor is damaged, or {method} did not make it")
    return found.groups()


def _checksum_of(text: str) -> str:
    """Return the checksum of a text. Without it, a damaged cursor could lose customers."""
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
