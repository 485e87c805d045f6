"""The sample of the log lines that anybody can cause."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

from flask_ecwid import clock
from flask_ecwid.web.sampling import MOST_LINES, WINDOW_S, Sampler

from ..conftest import run_python


class Time:
    """A clock that a test moves."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        patch.setattr(clock, "now", lambda: self.now)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "flask_ecwid")


def events(sampler: Sampler, count: int) -> int:
    """Cause events, and return the number of those that are logged."""
    return sum(sampler.takes() for _ in range(count))


def reported(caplog: pytest.LogCaptureFixture, name: str) -> list[int]:
    counts = [vars(r)["left_out"] for r in caplog.records if vars(r).get("events") == name]
    caplog.clear()
    return counts


def test_a_minute(time: Time, caplog: pytest.LogCaptureFixture) -> None:
    """The first events of each minute are logged, and the number of the others follows it."""
    sampler = Sampler("Storms", logging.INFO)
    assert events(sampler, 1000) == MOST_LINES
    time.now += WINDOW_S - 0.1
    assert events(sampler, 1) == 0
    assert reported(caplog, "Storms") == []
    time.now += 0.1
    assert events(sampler, 5) == 5
    assert reported(caplog, "Storms") == [1001 - MOST_LINES]
    time.now += WINDOW_S
    assert events(sampler, MOST_LINES + 3) == MOST_LINES
    assert reported(caplog, "Storms") == []


def test_any_request_reports(time: Time, caplog: pytest.LogCaptureFixture) -> None:
    """The number is logged once, as soon as the minute is over, without a further event."""
    sampler = Sampler("Floods", logging.INFO)
    events(sampler, MOST_LINES + 7)
    sampler.report()
    assert reported(caplog, "Floods") == []
    time.now += WINDOW_S
    sampler.report()
    sampler.report()
    assert reported(caplog, "Floods") == [7]


def test_threads_lose_no_event(caplog: pytest.LogCaptureFixture) -> None:
    """The number is exact while many threads count."""
    sampler = Sampler("Crowds", logging.INFO)
    with ThreadPoolExecutor(8) as threads:
        taken = sum(threads.map(lambda _: events(sampler, 1000), range(8)))
    sampler.report(at_exit=True)
    assert [taken, *reported(caplog, "Crowds")] == [MOST_LINES, 8000 - MOST_LINES]


def test_the_end_of_the_process() -> None:
    """The number of the last minute is logged when the process ends."""
    program = f"""
import logging
from flask_ecwid.web.sampling import Sampler
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
sampler = Sampler("Ends", logging.WARNING)
for _ in range({MOST_LINES} + 4):
    sampler.takes()
"""
    assert run_python(program).stderr == "WARNING Ends without a log line: 4\n"
