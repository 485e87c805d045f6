"""The seams where the real modules get simulated time, waits, locks and random values.

This module is the whole list of the attributes that a history replaces. Everything else that
reaches outside is handed in. The network is a `Transport`, and the storage is a `Storage`.
"""

from __future__ import annotations

import gc
import logging
import os
import uuid
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from unittest.mock import patch

from flask_ecwid import chance, clock
from flask_ecwid.cli import mirror
from flask_ecwid.client import change_cursor
from flask_ecwid.storage import calls_ahead, memory_state, process, process_memory
from flask_ecwid.throttling import trials

from .setting import Setting
from .world import Event, Lock, Turns, World


class Clock:
    """The functions of `clock` in a world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> float:
        self._world.preempt()
        return self._world.monotonic(self._world.host())

    def wall(self) -> float:
        return self._world.wall(self._world.host())

    def sleep(self, seconds: float) -> bool:
        process = self._world.me().process
        if not process.stopping:
            self._world.sleep(max(seconds, 0.0), interruptible=True)
        return not process.stopping

    def is_stopping(self) -> bool:
        return self._world.me().process.stopping

    def process_id(self) -> int:
        task = self._world.current
        process = task.process if task else self._world.building
        return process.number if process else 0


class Marks:
    """The functions of `storage.process` in a world, for the host of the task that runs."""

    def __init__(self, world: World) -> None:
        self._world = world

    def own_mark(self) -> str:
        process = self._world.me().process
        return f"{process.host.name} {process.number}"

    def is_gone(self, mark: str) -> bool:
        host, _, number = mark.partition(" ")
        if host != self._world.me().process.host.name:
            return False
        return self._world.processes[int(number)].dead


class Chance:
    """The functions of `chance` in a world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self._world.random.random()

    def token_hex(self, length: int) -> str:
        return f"{self._world.random.getrandbits(8 * length):0{2 * length}x}"

    def uuid4(self) -> uuid.UUID:
        return uuid.UUID(int=self._world.random.getrandbits(128), version=4)


@contextmanager
def installed(world: World, setting: Setting) -> Iterator[None]:
    """Give the real modules this world's time and chance, and put everything back at the end.

    The processes of a history have their own process ids, so a registry of the modules has a part
    for each process. The next history has the same ids, and therefore new registries.
    """
    # A finalizer of the package keeps locks and clocks until an object of the same world is gone.
    # With a plain reference to the world, each history would therefore stay in memory for ever.
    world = weakref.proxy(world)
    the_clock, the_chance, marks = Clock(world), Chance(world), Marks(world)
    replaced: list[tuple[object, str, object]] = [
        (clock, "now", the_clock.now),
        (clock, "wall", the_clock.wall),
        (clock, "sleep", the_clock.sleep),
        (clock, "is_stopping", the_clock.is_stopping),
        (clock, "Lock", partial(Lock, world)),
        (clock, "Event", partial(Event, world)),
        (chance, "uniform", the_chance.uniform),
        (chance, "token_hex", the_chance.token_hex),
        (chance, "uuid4", the_chance.uuid4),
        (clock, "process_id", the_clock.process_id),
        (process, "own_mark", marks.own_mark),
        (process, "is_gone", marks.is_gone),
        (memory_state, "_of_process", {}),
        (process_memory, "_of_process", {}),
        (calls_ahead, "_SHARE", 4),  # The limits of the plans are too low for 64.
        (trials, "_turns", Turns(world)),
        (trials, "REFUSALS_MOST", setting.refusals_most),
        (trials, "AGAIN_MOST", max(1, setting.refusals_most // 3)),
        (change_cursor, "MOST_IDS", setting.most_ids),
        (change_cursor, "FEW_IDS", min(change_cursor.FEW_IDS, setting.most_ids // 3)),
        (mirror, "BATCH", 3),  # The histories have few customers.
    ]
    most_workers = max(map(setting.processes.count, setting.processes))
    environment = {
        # The workers of a host share a pause under this name.
        "GUNICORN_ECWID_SERVICE": "simulated",
        "GUNICORN_ECWID_WORKERS": str(most_workers),
    }
    with ExitStack() as stack:
        # A store stays open until nothing uses it, so Python must not decide when that is.
        if gc.isenabled():
            gc.disable()
            stack.callback(gc.enable)
        for owner, name, value in replaced:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        stack.enter_context(patch.dict(os.environ, environment))
        stack.callback(logging.disable, logging.root.manager.disable)
        logging.disable()  # With handlers, logging would cost more than the code.
        yield
