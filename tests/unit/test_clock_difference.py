"""The time on Ecwid's clock, read from the Date header of a reply."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from flask_ecwid.client.reconcile import clock_ahead_s, ecwid_time
from flask_ecwid.client.replies import Reply, date_of

ASKED = 1_800_000_000.5


def reply(date: float, **headers: str) -> Reply:
    return Reply(200, {"date": formatdate(date, usegmt=True), **headers})


@pytest.mark.parametrize("seconds", [-290, -10, 0, 10, 290])
def test_the_date_is_believed(seconds: float) -> None:
    """The Date of a reply is the time on Ecwid's clock."""
    assert ecwid_time(reply(ASKED + seconds), ASKED) == int(ASKED + seconds)


@pytest.mark.parametrize("seconds", [-ASKED, -3600, -302, 302, 3600])
def test_an_absurd_date(seconds: float) -> None:
    """A Date that is more than five minutes off is not credible, so our time counts."""
    assert ecwid_time(reply(ASKED + seconds), ASKED) == ASKED


@pytest.mark.parametrize(("took_s", "later"), [(0, 0), (0.2, 0.1), (9, 0), (9, 4), (9, 9)])
def test_the_same_clock(took_s: float, later: float) -> None:
    """A Date between a call and its reply shows no difference between the clocks."""
    ahead = clock_ahead_s(reply(ASKED + later), ASKED, ASKED + took_s)
    assert ahead is not None
    assert -1 < ahead <= 0


@pytest.mark.parametrize("seconds", [10, 60, 3600])
def test_another_clock(seconds: float) -> None:
    """A Date outside of the call shows the least difference of the clocks, to the second."""
    behind = clock_ahead_s(reply(ASKED - seconds), ASKED, ASKED + 3)
    ahead = clock_ahead_s(reply(ASKED + 3 + seconds), ASKED, ASKED + 3)
    assert behind is not None
    assert ahead is not None
    assert -seconds <= behind <= -seconds + 1
    assert seconds - 1 <= ahead <= seconds


def test_a_cached_reply() -> None:
    """A reply with an Age header comes from a cache, so its Date is not the current time."""
    late = reply(ASKED - 60, age="60")
    assert (date_of(late), ecwid_time(late, ASKED)) == (None, ASKED)


@pytest.mark.parametrize("text", ["", "soon", "Wed, 99 Oct 2015 07:28:00 GMT", "1", "\u0661"])
def test_no_date(text: str) -> None:
    """A reply without a Date, or with a malformed one, has no known time."""
    assert date_of(Reply(200, {"date": text})) is None
    assert date_of(Reply(200, {})) is None
