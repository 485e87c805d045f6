"""Cut a failing plan down: fewer events, then a simpler setting, while the same rule is broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .history import Result, play
from .plan import Plan

Holds = Callable[[Result], bool]


def shrink(plan: Plan, is_wanted: Holds) -> Plan:
    """Return a smaller plan whose history is still wanted.

    Args:
        plan: The plan, whose history is wanted.
        is_wanted: Holds on to the same violation with the same cause. Otherwise the shrinking
            would slide into another defect.
    """
    plan = _fewer_events(plan, is_wanted)
    for _ in range(8):
        simpler = next(
            (
                candidate
                for setting in plan.setting.simpler()
                if is_wanted(play(candidate := replace(plan, setting=setting)))
            ),
            None,
        )
        if simpler is None:
            break
        plan = simpler
    return _fewer_events(plan, is_wanted)


def _fewer_events(plan: Plan, is_wanted: Holds) -> Plan:
    """Leave out halves of the events, then quarters, and at last single events."""
    events = plan.events
    size = max(1, len(events) // 2)
    while size:
        first = 0
        while first < len(events):
            fewer = events[:first] + events[first + size :]
            if fewer and is_wanted(play(replace(plan, events=fewer))):
                events = fewer
            else:
                first += size
        size //= 2
    return replace(plan, events=events)
