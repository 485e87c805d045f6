"""Simulated histories break no rule, and the simulator itself can be trusted."""

from __future__ import annotations

import builtins
import gc
import os
import random
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from flask_ecwid import chance, clock

from ..conftest import ROOT
from . import seams
from .database import Database
from .defects import DEFECTS, planted, seeds_until_found
from .history import play, printed
from .invariants import INVARIANTS
from .plan import AIMS, FAULTS, Plan, make
from .world import Host, Process, World

# `make quick` plays 300 histories, and `make test` plays 2,000.
HISTORIES = int(os.environ.get("SIMULATED_HISTORIES", "300"))
PARTS = 10
PLANS = sorted((Path(__file__).parent / "plans").glob("*.json"))
_DIGESTS = """
from tests.simulation.history import play
from tests.simulation.plan import make
print([play(make(seed)).digest for seed in {seeds}])
"""


@pytest.mark.parametrize("part", range(PARTS))
def test_no_history_breaks_a_rule(part: int) -> None:
    """No history breaks an invariant."""
    for seed in range(part, HISTORIES, PARTS):
        result = play(make(seed))
        assert not result.violations, printed(result)


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_a_kept_plan(path: Path) -> None:
    """The plan of a mended defect breaks no rule."""
    result = play(Plan.from_json(path.read_bytes()))
    assert not result.violations, printed(result)


def test_a_seed_has_one_history() -> None:
    """A seed makes the same history each time, also after others and with another hash seed."""
    seeds = list(range(60))
    first = [play(make(seed)).digest for seed in seeds]
    random.shuffle(seeds)
    assert first == [digest for _, digest in sorted((s, play(make(s)).digest) for s in seeds)]
    output = subprocess.run(
        [sys.executable, "-c", _DIGESTS.format(seeds=sorted(seeds))],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output.strip() == str(first)


def test_a_plan_survives_json() -> None:
    """A plan that was written and read makes the same history."""
    for seed in range(20):
        plan = make(seed)
        assert play(Plan.from_json(plan.to_json())).digest == play(plan).digest


def test_each_aim_and_each_fault_occurs() -> None:
    """Some plan has each aim, and some plan has each fault."""
    plans = [make(seed) for seed in range(500)]
    assert {plan.aim for plan in plans} == set(AIMS)
    assert frozenset().union(*(plan.faults for plan in plans)) == set(FAULTS)


def test_each_request_has_its_own_id() -> None:
    """No two requests of a plan have one id, because the judge counts the calls by the id."""
    for seed in range(500):
        ids = [event["id"] for event in make(seed).events if "id" in event]
        assert len(set(ids)) == len(ids)


def test_each_invariant_is_documented() -> None:
    """The page on the tests of reliability names each invariant, and no other."""
    page = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    section = page.partition("\n## The invariants\n")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)
    assert sorted(named) == sorted(each.__name__ for each in INVARIANTS)


def test_the_time_is_put_back() -> None:
    """After a history, the real modules have the real time, locks and random values."""
    lock = clock.Lock
    play(make(0))
    assert (clock.now, clock.wall, clock.Lock) == (time.monotonic, time.time, lock)
    assert (clock.Event, chance.uniform) == (threading.Event, random.uniform)


def test_a_lock_over_a_switch_point_is_found() -> None:
    """A lock that is held during I/O is a violation, which names the functions."""
    with planted("a lock is held during a look"):
        found = [each for seed in range(5) for each in play(make(seed)).violations]
    assert any(each.invariant == "no_lock_over_a_switch_point" for each in found)
    assert any("pause." in each.text for each in found)


def test_a_killed_process_runs_nothing() -> None:
    """After its death, no line of a process stands in the trace."""
    killed = 0
    for seed in range(300):
        dead: set[str] = set()
        for line in play(make(seed)).trace:
            assert line.who.partition("/")[0] not in dead
            if line.what == "KILLED":
                dead.add(str(line.facts[0]))
        killed += len(dead)
    assert killed > 10


def test_a_killed_task_does_not_tidy_up() -> None:
    """The end of a world unwinds a killed task without a further effect."""
    world = World(seed=0)
    process = Process("A1", Host("A", 0.0), 1)
    effects: list[str] = []

    def work() -> None:
        try:
            world.travel(1.0)
            effects.append("after the switch")
        finally:
            seams.Clock(world).is_stopping()
            effects.append("in the finally block")

    world.start("A1/r1", process, 1, work)
    world.at(0.5, world.kill, process)
    world.run()
    world.end()
    assert effects == []


@pytest.mark.parametrize(("point", "tables"), [(2, 0), (3, 0), (4, 0), (5, 1)])
def test_a_killed_transaction(point: int, tables: int) -> None:
    """The database rolls a transaction back if its process is killed at the commit or before."""
    world = World(seed=0)
    process = Process("A1", Host("A", 0.0), 1)
    database = Database(world)

    def work() -> None:
        with database.engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE t (id INTEGER)")
        world.travel(1.0)

    world.faults[1, point] = [lambda: world.kill(process)]
    world.start("A1/r1", process, 1, work)
    world.run()
    world.end()
    [found] = database.connect().execute("SELECT count(*) FROM sqlite_master").fetchone()
    database.close()
    assert (process.dead, found) == (True, tables)


def test_a_switch_within_a_transaction_is_found() -> None:
    """A task that waits for the network within a transaction holds a lock meanwhile."""
    world = World(seed=0)
    database = Database(world)

    def work() -> None:
        with database.engine.begin():
            pass
        assert not world.breaches
        with database.engine.begin():
            world.travel(1.0)

    world.start("A1/r1", Process("A1", Host("A", 0.0), 1), 1, work)
    world.run()
    world.end()
    database.close()
    assert len(world.breaches) == 1


def test_a_suspended_host_loses_time_on_one_clock() -> None:
    """During a suspend, the wall clock goes on, the monotonic clock stops, and sleeps wait."""
    world = World(seed=0)
    host = Host("A", 0.0)
    process = Process("A1", host, 1)
    seen: list[float] = []

    def work() -> None:
        begun = world.monotonic(host), world.wall(host)
        world.sleep(10.0)
        seen.extend((world.monotonic(host) - begun[0], world.wall(host) - begun[1]))

    world.start("A1/r1", process, 1, work)
    world.at(4.0, world.suspend, host, 60.0)
    world.run()
    world.end()
    assert seen == pytest.approx([10.0, 70.0])


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_replaces_what_is_there(name: str) -> None:
    """Each planted defect replaces an attribute, or a built-in function, of this name."""
    for change in DEFECTS[name]:
        assert hasattr(change.owner, change.name) or hasattr(builtins, change.name)


@pytest.mark.parametrize(
    "name",
    [
        "the swap in Redis does not compare",
        "a list is read without the second before",
        "a mirror forgets unreadable customers",
    ],
)
def test_a_planted_defect_is_found(name: str) -> None:
    """A defect that is planted in a real module breaks a rule, and is gone afterwards."""
    count, invariant = seeds_until_found(name, 0)
    assert count is not None
    assert invariant in {each.__name__ for each in INVARIANTS}
    assert not play(make(count - 1)).violations


def worlds() -> int:
    gc.collect()
    return sum(isinstance(each, World) for each in gc.get_objects())


def test_no_history_stays_in_memory() -> None:
    """The memory of a history is free again, so that 100,000 of them fit into a process."""
    before = worlds()
    for seed in range(12):
        play(make(seed))
    assert worlds() <= before + 1  # The class of the databases keeps the last one.
