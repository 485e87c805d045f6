"""The core of a gunicorn worker, and the choice of a better one."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from flask_ecwid import chance
from flask_ecwid.server import cores
from flask_ecwid.server.cores import OneCore, Use, better_core, least_used_core

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="only Linux keeps a process on a core"
)
ALLOWED = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

FULL = Use(busy_s=2.0, idle_s=0.0)
HALF = Use(busy_s=1.1, idle_s=0.9)
FREE = Use(busy_s=0.2, idle_s=1.8)
FREER = Use(busy_s=0.1, idle_s=1.9)


@pytest.mark.parametrize(
    ("own_s", "use", "better"),
    [
        (0.9, {0: FULL, 1: FREE}, 1),
        (0.9, {0: FULL, 1: FREE, 2: FREER}, 2),
        (0.9, {0: FULL, 1: HALF}, 0),
        (0.9, {0: FULL, 1: FULL}, 0),
        (0.9, {0: FULL}, 0),
        (0.1, {0: HALF, 1: FREE}, 0),
        (1.9, {0: FULL, 1: FREE}, 0),
        (0.9, {1: FREE}, 0),
        (0.0, {0: Use(0.0, 0.0), 1: Use(0.0, 0.0)}, 0),
    ],
    ids=[
        "another program takes the core",
        "the most idle core",
        "no core is idle for long",
        "no core is idle",
        "no other core",
        "the core has time left",
        "the worker itself takes the core",
        "the core is switched off",
        "no time has passed",
    ],
)
def test_a_better_core(own_s: float, use: dict[int, Use], better: int) -> None:
    """A worker moves only if others take its core, no time is left there, and a core is idle."""
    assert better_core(0, own_s, use) == better


def test_the_least_used_core() -> None:
    """Each core gets a worker before a core gets a second one."""
    chosen: list[int | None] = []
    for _ in range(2 * len(ALLOWED)):
        chosen.append(least_used_core([None, *chosen]))
    assert Counter(chosen) == dict.fromkeys(ALLOWED, 2)


@pytest.fixture
def threads() -> Iterator[None]:
    """Keep four threads, and let each of the process have all cores at the end."""
    end = threading.Event()
    started = [threading.Thread(target=end.wait) for _ in range(4)]
    for thread in started:
        thread.start()
    yield
    end.set()
    for thread in started:
        thread.join()
    for thread in threading.enumerate():
        if thread.native_id is not None:
            os.sched_setaffinity(thread.native_id, ALLOWED)


def affinities() -> list[set[int]]:
    """Return the cores of each thread that Python knows."""
    return [os.sched_getaffinity(thread.native_id or 0) for thread in threading.enumerate()]


@pytest.mark.usefixtures("threads")
def test_each_thread_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """All threads are on one core, and move to the better core together."""
    first, last = ALLOWED[0], ALLOWED[-1]
    one_core = OneCore(first)
    assert affinities() == [{first}] * len(affinities())
    monkeypatch.setattr(cores, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(cores, "better_core", lambda *_: last)
    monkeypatch.setattr(chance, "uniform", lambda *_: 0.0)
    one_core.look()
    assert affinities() == [{last}] * len(affinities())
    os.sched_setaffinity(threading.get_native_id(), ALLOWED)
    one_core.look()
    assert affinities() == [{last}] * len(affinities())


@pytest.mark.usefixtures("threads")
def test_only_some_looks_lead_to_a_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker stays by chance, so two workers do not follow each other from core to core."""
    found: list[int] = []
    first, last = ALLOWED[0], ALLOWED[-1]

    def note(core: int, *_: Any) -> int:
        found.append(core)
        return last

    monkeypatch.setattr(cores, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(cores, "better_core", note)
    one_core = OneCore(first)
    for chosen in (0.9, 0.1, 0.9):
        monkeypatch.setattr(chance, "uniform", lambda *_, chosen=chosen: chosen)
        one_core.look()
    assert found == [first, first, last]


@pytest.mark.usefixtures("threads")
def test_the_use_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look compares the use of the allowed cores since the last look."""
    seen: list[tuple[int, float, dict[int, Use]]] = []

    def stay(*given: Any) -> Any:
        seen.append(given)
        return given[0]

    monkeypatch.setattr(cores, "better_core", stay)
    began = time.monotonic()
    one_core = OneCore(ALLOWED[0])
    one_core.look()
    assert not seen
    monkeypatch.setattr(cores, "LOOK_EVERY_S", 0.2)
    while not seen:
        one_core.look()
    [(core, own_s, use)] = seen
    assert core == ALLOWED[0]
    assert sorted(use) == ALLOWED
    passed_s = time.monotonic() - began
    assert 0 < own_s <= passed_s
    for busy_s, idle_s in use.values():
        assert busy_s + idle_s <= passed_s + 0.1
