"""Programs that pip cannot install. Tests are skipped where their program is missing."""

from __future__ import annotations

import os
import shutil

import pytest

PACKAGES = {"curl": "curl", "nginx": "nginx-light"}


def program(name: str) -> str:
    """Return the path of a program, or skip the test if the program is missing.

    With `EVERY_TEST=1` in the environment, as in CI, a missing program fails the test.
    """
    path = shutil.which(name, path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if path is None and os.environ.get("EVERY_TEST") == "1":
        pytest.fail(missing(name))
    if path is None:
        pytest.skip(missing(name))
    return path


def missing(name: str) -> str:
    """Return the sentence that says which package has a program."""
    return f"{name} is missing. Debian's package {PACKAGES[name]} has it."


def left_out(reasons: list[str]) -> list[str]:
    """Return one line for each missing program with the number of tests that were skipped.

    Args:
        reasons: The reason of each skipped test, as pytest reports the reason.
    """
    counts = {name: sum(missing(name) in reason for reason in reasons) for name in PACKAGES}
    return [
        f"{count} tests were left out, because {missing(name)}"
        for name, count in counts.items()
        if count
    ]
