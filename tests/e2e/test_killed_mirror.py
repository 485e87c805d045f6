"""The long run of the mirror, made short. Its judge is the fake Ecwid of the long runs."""

from __future__ import annotations

from pathlib import Path

from ..soak.mirror import keep


def test_killed_while_customers_change(tmp_path: Path, database_url: str) -> None:
    """No customer is lost, doubled or stale after kills of the command between the changes."""
    reason, figures = keep(
        tmp_path, database_url, customers=400, changes=40, first_kills=1, least_kills=3
    )
    assert not reason, figures
    assert figures["changes"] == 40
