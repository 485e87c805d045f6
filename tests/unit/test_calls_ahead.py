"""Tests of the calls that a process counts ahead in the host's file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from flask_ecwid import clock
from flask_ecwid.storage import file_state
from flask_ecwid.storage.file_state import FileState
from flask_ecwid.storage.window import SPAN_S

KEY = "calls"


class Now:
    """A clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100_000.0
        monkeypatch.setattr(clock, "now", lambda: self.now)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Now:
    return Now(monkeypatch)


def processes(folder: Path, count: int) -> list[FileState]:
    """Return states of one file, each of which counts ahead for itself."""
    return [FileState(folder / "own" / "state.sqlite3") for _ in range(count)]


def visits(state: FileState) -> list[str]:
    """Return a list that grows with each statement that counts calls."""
    statements: list[str] = []

    def note(statement: str) -> None:
        if statement.strip().startswith("INSERT INTO calls"):
            statements.append(statement)

    state._thread.connection.db.set_trace_callback(note)
    return statements


def test_a_busy_second_visits_the_file_a_few_times(tmp_path: Path, now: Now) -> None:
    """A thousand calls in a second take few visits, and a call in a quiet second takes one."""
    [state] = processes(tmp_path, 1)
    state.take(KEY, 100_000)
    made = visits(state)
    assert all(state.take(KEY, 100_000).granted for _ in range(1_000))
    assert 8 <= len(made) <= 12
    for _ in range(5):
        now.now += 1
        made.clear()
        state.take(KEY, 100_000)
        assert len(made) == 1


def test_the_remaining_calls_are_exact(tmp_path: Path, now: Now) -> None:
    """A process that is alone sees each of its calls in the number of the remaining calls."""
    [state] = processes(tmp_path, 1)
    seen = [state.take(KEY, 540).remaining for _ in range(540)]
    assert seen == list(range(539, -1, -1))
    assert not state.take(KEY, 540).granted


@pytest.mark.parametrize("limit", [1, 20, 63, 120])
def test_the_last_calls_are_counted_one_by_one(tmp_path: Path, now: Now, limit: int) -> None:
    """A process that has made some calls of a second keeps no last call from another."""
    first, second = processes(tmp_path, 2)
    made = [first.take(KEY, limit).granted for _ in range(limit // 2)]
    made += [second.take(KEY, limit).granted for _ in range(2 * limit)]
    assert sum(made) == limit


def test_more_calls_ahead_than_remain(tmp_path: Path, now: Now) -> None:
    """A process counts no more calls than remain, although it has not seen those of another."""
    first, second = processes(tmp_path, 2)
    made = [first.take(KEY, 200).granted for _ in range(6)]
    assert first._ahead.plan(KEY, 200, int(now.now)) == (3, None)
    made += [second.take(KEY, 200).granted for _ in range(192)]
    made += [first.take(KEY, 200).granted for _ in range(20)]
    made += [second.take(KEY, 200).granted for _ in range(20)]
    assert sum(made) == 200


@pytest.mark.parametrize("seed", range(12))
def test_no_minute_gets_more_calls(tmp_path: Path, now: Now, seed: int) -> None:
    """In any minute, the calls of all processes stay within the limit."""
    random = Random(seed)
    states = processes(tmp_path, 3)
    limit = random.choice((200, 540, 2_000))
    used: Counter[int] = Counter()
    for _ in range(60):
        now.now += random.choice((0.2, 0.5, 1, 1, 5, 30, SPAN_S))
        for state in random.sample(states, random.randint(1, 3)):
            for _ in range(random.choice((1, 3, 40, 300))):
                used[int(now.now)] += state.take(KEY, limit).granted
    assert used
    for second in used:
        span = range(second, second + SPAN_S)
        assert sum(used[each] for each in span) <= limit


@pytest.mark.parametrize("by", ["the next call", "the sweep"])
def test_calls_that_were_not_used_are_taken_back(
    tmp_path: Path, now: Now, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """A later visit takes back the calls of a busy second that were not used."""
    busy, other = processes(tmp_path, 2)
    for _ in range(300):
        busy.take(KEY, 10_000)
    assert other.take(KEY, 10_000).remaining < 10_000 - 301
    now.now += 1
    if by == "the sweep":
        monkeypatch.setattr(file_state, "_SWEEP_EVERY_S", 0.5)
        busy.take("another", 10_000)
        used = 302
    else:
        busy.take(KEY, 10_000)
        used = 303
    assert other.take(KEY, 10_000).remaining == 10_000 - used


def test_a_thread_that_counts_late(tmp_path: Path, now: Now) -> None:
    """A thread that has read the clock before another moves no call of the other into the past."""
    late, other = processes(tmp_path, 2)
    late.take(KEY, 3)
    now.now += 1
    assert other.take(KEY, 3).granted
    now.now -= 1
    assert late.take(KEY, 3).granted
    now.now += 1
    assert not other.take(KEY, 3).granted
    now.now += SPAN_S - 1  # The calls of the first second are over, and that of the other is not.
    assert [other.take(KEY, 3).granted for _ in range(3)] == [True, True, False]


def test_a_call_that_waits_for_the_file(
    tmp_path: Path, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that had to wait for the file is counted in the second in which it was counted."""
    [state] = processes(tmp_path, 1)
    assert state.take(KEY, 2).granted
    connection = state._connection

    @contextmanager
    def late(**options: Any) -> Iterator[Any]:
        now.now += 3
        with connection(**options) as db:
            yield db

    monkeypatch.setattr(state, "_connection", late)
    assert state.take(KEY, 2).granted
    monkeypatch.setattr(state, "_connection", connection)
    now.now += SPAN_S - 2  # The second call is 60 s old.
    assert [state.take(KEY, 2).granted for _ in range(2)] == [True, False]


def test_a_lost_window_is_noticed(tmp_path: Path, now: Now) -> None:
    """A caller that has seen another epoch goes to the file, and closes the window."""
    [state] = processes(tmp_path, 1)
    for _ in range(5):
        state.take(KEY, 10_000)
    assert not state.take(KEY, 10_000, seen="another").granted


def test_a_lower_limit_uses_nothing_of_a_higher_one(tmp_path: Path, now: Now) -> None:
    """A caller with a lower limit goes to the file, although calls were counted ahead."""
    [state] = processes(tmp_path, 1)
    for _ in range(9):
        state.take(KEY, 10_000)
    assert not state.take(KEY, 8).granted


def test_a_forked_child_uses_no_call_of_its_parent(tmp_path: Path, now: Now) -> None:
    """A child counts its own calls, because its parent uses what the parent has counted ahead."""
    [state] = processes(tmp_path, 1)
    for _ in range(9):
        state.take(KEY, 10_000)
    assert state._ahead._by_key[KEY].left
    child = os.fork()
    if not child:
        code = 1
        try:
            code = int(state.take(KEY, 10_000).remaining != 10_000 - 17)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
