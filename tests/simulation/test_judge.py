"""The judge takes an exception of the rate limit only where its situation is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from .defects import planted
from .history import play
from .plan import Event, Plan
from .setting import Setting

LIMIT = 8
ONE_HOST = Setting(redis=True, calls_per_minute=LIMIT)
TWO_HOSTS = replace(
    ONE_HOST,
    known_hosts=1,
    ahead_s=(0.0, 0.0),
    processes=(0, 1),
    tokens=("secret_a", "secret_a"),
)
# A new worker is the first to use a Redis that has lost the count.
LOST: list[Event] = [
    {"at": 2.0, "do": "redis-evicted", "kind": "calls"},
    {"at": 3.0, "do": "kill", "process": 0, "back_s": 0.5},
]
# While Redis is down, a host calls that Redis does not know yet.
DOWN: list[Event] = [{"at": 0.05, "do": "redis-mode", "mode": "down", "seconds": 2.0}]


def calls(*times: float, process: int = 0) -> list[Event]:
    """Return a read at each of these times."""
    request: Event = {"do": "request", "operation": "get", "key": None, "process": process}
    return [{"at": at, **request, "target": number % 3} for number, at in enumerate(times)]


def burst(begin: float, process: int = 0) -> list[Event]:
    """Return more reads within two seconds than the rate limit has calls."""
    return calls(*(begin + 0.1 * number for number in range(2 * LIMIT)), process=process)


def violations(setting: Setting, events: list[Event]) -> list[str]:
    """Return the names of the invariants that a history with these events breaks."""
    numbered = [{**event, "id": number} for number, event in enumerate(events, 1)]
    return [each.invariant for each in play(Plan(1, "limit", setting, numbered)).violations]


@pytest.mark.parametrize("kind", ["calls", "generation", "response"])
def test_redis_evicts_a_key_of_the_kind(kind: str) -> None:
    """A plan that names a kind of key lets Redis evict a key of that kind."""
    events: list[Event] = [{"at": 2.0, "do": "redis-evicted", "kind": kind}]
    plan = Plan(
        1, "limit", replace(ONE_HOST, cache_ttl_s=60.0), [{**calls(1.0)[0], "id": 1}, *events]
    )
    trace = play(plan).trace
    evicted = [" ".join(map(str, line.facts)) for line in trace if line.what == "REDIS"]
    assert [each.split()[:2] for each in evicted] == [["evicts", kind]]


@pytest.mark.parametrize(
    ("setting", "events"),
    [
        (ONE_HOST, [*burst(0.1), *LOST, *burst(5.0)]),
        (
            TWO_HOSTS,
            [*DOWN, *burst(0.1), *burst(5.0, process=1), *calls(80.0), *calls(81.0, process=1)],
        ),
    ],
    ids=["a lost count", "an unknown host"],
)
def test_an_exception_ends_with_its_minute(setting: Setting, events: list[Event]) -> None:
    """A limit that is exceeded later is a violation, whatever happened in an earlier minute."""
    later = [*events, *burst(150.0), *burst(150.0, process=len(setting.processes) - 1)]
    assert violations(setting, later) == []
    with planted("a window grants one call more"):
        assert violations(setting, later) == ["no_minute_has_too_many_calls"]
