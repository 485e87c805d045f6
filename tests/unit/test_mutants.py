"""The mutants of tests/mutants.py follow the code."""

from __future__ import annotations

import pytest

from ..mutants import MUTANTS, ROOT, Mutant, pytest_arguments


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_code(mutant: Mutant) -> None:
    """The text of every mutant occurs once in its module, and its test file exists."""
    assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1
    assert pytest_arguments(mutant.tests)


def test_names_of_mutants() -> None:
    """Every mutant has a unique name, because `tests/mutants.py` selects mutants by name."""
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
