"""Keeping a gunicorn worker on one core of the machine.

The threads of a process run Python in turn. A turn costs much less if the next thread is on the
same core.

The system moves other programs away from a busy core. But a program that is kept on that core as
well stays there, so the worker then moves to an idle core itself. Only Linux has these functions.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from .. import chance, clock

LOOK_EVERY_S = 2.0
# Parts of the time between two looks. A worker moves if all three hold.
_TAKEN_BY_OTHERS = 0.3  # At least so much of the worker's core.
_LEFT_IDLE = 0.05  # At most so much of the worker's core.
_IDLE_ELSEWHERE = 0.5  # More than so much of another core.


class Use(NamedTuple):
    """How long a core has worked and waited, in seconds."""

    busy_s: float
    idle_s: float

    def since(self, earlier: Use) -> Use:
        """Return the use after an earlier moment."""
        return Use(self.busy_s - earlier.busy_s, self.idle_s - earlier.idle_s)


def least_used_core(used: Iterable[int | None]) -> int | None:
    """Return the core of the fewest workers, or None where a process cannot be kept on a core.

    Among equal cores any is chosen, because another service may choose a core of the same machine.

    Args:
        used: The core of each worker, or None for a worker without a core.
    """
    try:
        allowed = os.sched_getaffinity(0)
    except (AttributeError, OSError):
        return None
    workers = Counter(used)
    return min(allowed, key=lambda core: (workers[core], chance.uniform(0, 1)))


def better_core(core: int, own_s: float, use: Mapping[int, Use]) -> int:
    """Return the core on which the worker gets more time, which is mostly its own.

    Args:
        core: The core of the worker.
        own_s: How long the worker has run since the last look.
        use: The use of each core since the last look.
    """
    if core not in use:  # The core was switched off.
        return core
    busy_s, idle_s = use[core]
    passed_s = busy_s + idle_s
    if busy_s - own_s < _TAKEN_BY_OTHERS * passed_s or idle_s > _LEFT_IDLE * passed_s:
        return core
    other = max(use, key=lambda each: use[each].idle_s)
    return other if use[other].idle_s > _IDLE_ELSEWHERE * passed_s else core


class OneCore:
    """Keeps this process on one core, and moves it if another core has more time for it."""

    def __init__(self, core: int) -> None:
        """Keep the process on a core.

        Raises:
            OSError: The process may not use this core.
            ValueError: The system tells the use of the cores in another form.
        """
        self._allowed = os.sched_getaffinity(0)
        self._core = core
        self._looked_at, self._own_s, self._use = clock.now(), clock.cpu(), _read_use()
        _move(core)

    def look(self) -> None:
        """Move if another core has more time for the process. Looks every `LOOK_EVERY_S` at most.

        Raises:
            OSError: The process may not use the core any longer.
            ValueError: The system tells the use of the cores in another form.
        """
        if clock.now() < self._looked_at + LOOK_EVERY_S:
            return
        self._looked_at = clock.now()
        own_before_s, before = self._own_s, self._use
        self._own_s, self._use = clock.cpu(), _read_use()
        use = {
            core: self._use[core].since(before[core])
            for core in self._allowed & self._use.keys() & before.keys()
        }
        better = better_core(self._core, self._own_s - own_before_s, use)
        # Two workers that share a core see the same idle core. Without chance, both may move to it,
        # and then follow each other from core to core.
        if chance.uniform(0, 1) < 0.5:
            self._core = better
        # A thread that was made during the last move may be on the earlier core.
        _move(self._core)


def _move(core: int) -> None:
    """Move each thread of this process to a core. A new thread has the core of its creator.

    Raises:
        OSError: The process may not use this core.
    """
    for thread in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):  # The thread has ended.
            os.sched_setaffinity(int(thread), {core})


def _read_use() -> dict[int, Use]:
    """Return the use of each core since the machine has started.

    Raises:
        OSError: The system does not tell.
        ValueError: The system tells in another form.
    """
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    use = {}
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu") and name != "cpu":
            user, nice, system, idle, waiting, interrupt, soft_interrupt, *_ = map(int, ticks)
            busy = user + nice + system + interrupt + soft_interrupt
            use[int(name[3:])] = Use(busy / ticks_per_s, (idle + waiting) / ticks_per_s)
    return use
