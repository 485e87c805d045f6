"""Tests are skipped where a program is missing that pip cannot install."""

from __future__ import annotations

import pytest

from ..helpers import programs


@pytest.fixture(autouse=True)
def _missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(programs.PACKAGES, "no-such-program", "no-such-package")
    monkeypatch.delenv("EVERY_TEST", raising=False)


def test_a_missing_program() -> None:
    """A test is skipped where its program is missing, and the reason names the package."""
    with pytest.raises(pytest.skip.Exception, match="Debian's package no-such-package has it"):
        programs.program("no-such-program")


def test_a_missing_program_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """With EVERY_TEST=1 a missing program fails the test."""
    monkeypatch.setenv("EVERY_TEST", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-program is missing"):
        programs.program("no-such-program")


def test_the_last_line() -> None:
    """The last line counts the tests that were skipped because of a missing program."""
    reasons = [programs.missing("no-such-program")] * 2 + ["Redis has no Unix socket here"]
    assert programs.left_out(reasons) == [
        "2 tests were left out, because no-such-program is missing. "
        "Debian's package no-such-package has it."
    ]
    assert programs.left_out([]) == []
