"""What a long run returns."""

from __future__ import annotations

from typing import Any

Figures = dict[str, Any]
Outcome = tuple[str, Figures]  # Why the promise is broken, or an empty text, and the figures.


def why(*checks: tuple[object, str]) -> str:
    """Return the reasons whose checks are true, as one text."""
    return "; ".join(reason for is_broken, reason in checks if is_broken)
