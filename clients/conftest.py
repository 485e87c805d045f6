"""The last lines of `make clients` name the languages that were left out."""

from __future__ import annotations

import pytest

LEFT_OUT = " is left out, because "


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Print below pytest's last line each language that was left out, and the missing packages."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    for report in reporter.stats.get("skipped", []):
        _, _, reason = report.longrepr
        if LEFT_OUT in reason:
            reporter.write_line(reason.removeprefix("Skipped: "))
