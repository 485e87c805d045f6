"""The difference between two clocks, estimated from the Date header of a reply."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from flask_ecwid.client.reconcile import credible_clock_ahead_s
from flask_ecwid.client.replies import Reply

ASKED = 1_800_000_000.5


def ahead(date: float, took_s: float = 0.0, **headers: str) -> float:
    all_headers = {"date": formatdate(date, usegmt=True), **headers}
    return credible_clock_ahead_s(Reply(200, all_headers), ASKED, ASKED + took_s)


@pytest.mark.parametrize(
    ("took_s", "later"),
    [
        (0, ASKED),
        (0.2, ASKED + 0.1),
        (9, ASKED),
        (9, ASKED + 4),
        (9, ASKED + 9),
        (0.6, ASKED + 0.5),
    ],
)
def test_the_same_clock(took_s: float, later: float) -> None:
    """A Date between a call and its reply shows no difference between the clocks."""
    assert ahead(ASKED + later, took_s) == 0


@pytest.mark.parametrize("seconds", [10, 60, 290])
def test_another_clock(seconds: float) -> None:
    """A Date outside of the call shows the least difference of the clocks, to the second."""
    assert -seconds <= ahead(ASKED - seconds, 3) <= -seconds + 1
    assert seconds - 1 <= ahead(ASKED + 3 + seconds, 3) <= seconds


@pytest.mark.parametrize("seconds", [302, 3600, ASKED])
def test_an_absurd_date(seconds: float) -> None:
    """A Date that is more than five minutes off is not credible, so the clocks count as equal."""
    assert ahead(ASKED - seconds) == 0
    assert ahead(ASKED + seconds) == 0


def test_a_cached_reply() -> None:
    """A reply with an Age header comes from a cache, so its Date is not the current time."""
    assert ahead(ASKED - 60, age="60") == 0


@pytest.mark.parametrize("text", ["", "soon", "Wed, 99 Oct 2015 07:28:00 GMT", "1", "\u0661"])
def test_no_date(text: str) -> None:
    """A missing or malformed Date shows no difference between the clocks."""
    assert credible_clock_ahead_s(Reply(200, {"date": text}), ASKED, ASKED) == 0
    assert credible_clock_ahead_s(Reply(200, {}), ASKED, ASKED) == 0
