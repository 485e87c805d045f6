"""The world of a history: true time, hosts with their clocks, processes, tasks and one scheduler.

A task stands for a thread that serves a request. Each task is a greenlet. A task runs until it
reaches a switch point, where it says when it goes on and switches to the scheduler. The scheduler
takes the earliest event of one heap. Only the judge sees true time.

Each task draws its random values from a generator of its own, which is seeded by the seed and the
name of the task. A plan without a request therefore leaves the other requests as they were, and
that is what makes a plan shrinkable.
"""

from __future__ import annotations

import heapq
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NamedTuple

from greenlet import getcurrent, greenlet

EPOCH_S = 1_790_000_000.0  # UNIX seconds at the beginning of each history
MONOTONIC_S = 1000.0  # the monotonic clock of each host at the beginning
MOST_STEPS = 30_000  # A history with more steps does not end by itself.


class Killed(BaseException):
    """Raised by each seam in a process that was killed, so that its code has no effect any more."""


class Endless(Exception):
    """The history has more than `MOST_STEPS` steps."""


class Line(NamedTuple):
    """A line of the trace, which is the history as people read it."""

    time: float
    who: str  # the process and the request, or empty for the world
    what: str
    facts: tuple[object, ...]


@dataclass(eq=False)
class Host:
    """A host with its two clocks."""

    name: str
    ahead_s: float  # by how much the wall clock is ahead of true time
    asleep_s: float = 0.0  # how long the host has been suspended, which its monotonic clock misses
    asleep_until: float = 0.0
    file: Any = None  # the model of the host's state file
    # The suspensions, each with its time and its seconds, and the steps of the wall clock.
    suspensions: list[tuple[float, float]] = field(default_factory=list)
    steps: list[tuple[float, float]] = field(default_factory=list)


@dataclass(eq=False)
class Process:
    """A process of a host. history.py sets the mounts."""

    name: str
    host: Host
    number: int
    started_at: float = 0.0
    limit: int = 0  # the calls per minute in the settings of the process
    dead: bool = False
    died_at: float = 0.0
    stopping: bool = False
    mounts: list[Any] = field(default_factory=list)


@dataclass(eq=False)
class Task:
    """A thread of a process that serves one request."""

    name: str
    process: Process
    request: int
    random: random.Random
    greenlet: Any = None
    wake_up: int = 0  # the number of the wake-up that is valid
    woken: bool = False  # True if another task has woken this task, False if its time was over
    until: float | None = None  # the end of a sleep on the host's monotonic clock
    interruptible: bool = False  # True during a sleep that ends when the process is asked to end
    locks: int = 0  # the locks that the task holds
    points: int = 0  # the switch points that the task has reached
    transactions: int = 0  # the transactions that the task has begun
    done: bool = False


@dataclass
class World:
    """One history's world. `preempt_p` is the chance of a switch at a lock or a look at a clock."""

    seed: int
    preempt_p: float = 0.0
    time: float = 0.0
    steps: int = 0
    trace: list[Line] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    current: Task | None = None
    # The process that the scheduler itself builds at the moment, outside of each task.
    building: Process | None = None
    # The faults at switch points, by the request and the number of the point.
    faults: dict[tuple[int, int], list[Callable[[], None]]] = field(default_factory=dict)
    # The same at the beginning of a transaction in a database.
    faults_of_transactions: dict[tuple[int, int], list[Callable[[], None]]] = field(
        default_factory=dict
    )
    processes: dict[int, Process] = field(default_factory=dict)
    breaches: list[str] = field(default_factory=list)  # where a lock was held over a switch point

    def __post_init__(self) -> None:
        self._heap: list[tuple[float, int, Any, Any]] = []
        self._events = 0
        self._scheduler = getcurrent()
        self._names = self.generator("names")

    # Chance

    def generator(self, name: str) -> random.Random:
        """Return the generator of random values for one part of the world."""
        return random.Random(f"{self.seed}/{name}")

    @property
    def random(self) -> random.Random:
        """The generator of the task that runs, or of the world outside of each task."""
        return self.current.random if self.current else self._names

    # Events

    def at(self, time: float, function: Callable[..., object], *args: object) -> None:
        """Let the scheduler call a function at this true time."""
        self._events += 1
        heapq.heappush(self._heap, (time, self._events, function, args))

    def log(self, what: str, *facts: object) -> None:
        """Write a line into the trace, in the name of the task that runs."""
        name = self.current.name if self.current else ""
        self.trace.append(Line(self.time, name, what, facts))

    def start(self, name: str, process: Process, request: int, work: Callable[[], None]) -> Task:
        """Start a task, which begins at its first turn."""
        task = Task(name, process, request, self.generator(name))
        self.tasks.append(task)

        def run() -> None:
            with suppress(Killed):
                work()
            task.done = True

        task.greenlet = greenlet(run, self._scheduler)
        self._schedule(self.time, task, woken=True)
        return task

    def run(self, until: float = float("inf")) -> None:
        """Let everything happen up to a true time, or until nothing is left.

        Raises:
            Endless: The history does not end.
        """
        heap = self._heap
        while heap and heap[0][0] <= until:
            time, _, what, args = heapq.heappop(heap)
            self.time = max(self.time, time)
            if not isinstance(what, Task):
                what(*args)
                continue
            number, woken = args
            host = what.process.host
            if what.wake_up != number or what.done or what.process.dead:
                continue
            if host.asleep_until > self.time:
                self._schedule(host.asleep_until, what, woken=woken)
                continue
            if not woken and what.until is not None:
                left_s = what.until - self.monotonic(host)
                if left_s > 1e-9:  # The host was suspended, and its timers wait for as much longer.
                    self._schedule(self.time + left_s, what, woken=False)
                    continue
            what.wake_up += 1
            what.woken, what.until, what.interruptible = woken, None, False
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise Endless
            self.current = what
            what.greenlet.switch()
            self.current = None
        if until < float("inf"):
            self.time = max(self.time, until)

    def end(self) -> None:
        """Unwind each task that has not ended, in a process that counts as killed.

        Python throws an exception into a greenlet that is collected, and the code inside would
        tidy up. In a killed process, each seam raises `Killed` instead.
        """
        for task in self.tasks:
            task.process.dead = True
        for task in self.tasks:
            if not task.done and task.greenlet:
                self.current = task
                task.greenlet.throw(Killed)
        self.current = None
        self.tasks.clear()
        self._heap.clear()

    def _schedule(self, time: float, task: Task, *, woken: bool) -> None:
        self._events += 1
        heapq.heappush(self._heap, (time, self._events, task, (task.wake_up, woken)))

    # Switch points of a task

    def me(self) -> Task:
        """Return the task that runs.

        Raises:
            Killed: The process of the task was killed.
        """
        task = self.current
        if task is None or task.process.dead:
            raise Killed
        return task

    def travel(self, seconds: float) -> None:
        """Wait for a message that takes this true time."""
        task = self._point()
        self._schedule(self.time + seconds, task, woken=True)
        self._switch(task)

    def sleep(self, seconds: float | None, *, interruptible: bool = False) -> bool:
        """Wait for a time on the host's monotonic clock, or for `wake`.

        Args:
            seconds: The time, or None to wait for `wake` only.
            interruptible: The sleep ends when the process is asked to end.

        Returns:
            True if another task or the world has woken the task, False if the time is over.
        """
        task = self._point()
        task.interruptible = interruptible
        if seconds is not None:
            task.until = self.monotonic(task.process.host) + seconds
            self._schedule(self.time + seconds, task, woken=False)
        self._switch(task)
        return task.woken

    def wake(self, task: Task) -> None:
        """Wake a task within a millisecond, so that chance decides who is first."""
        self._schedule(self.time + task.random.random() * 1e-3, task, woken=True)

    def preempt(self) -> None:
        """Let the other tasks go first, at random, as an operating system does at any moment."""
        task = self.current
        if not self.preempt_p or task is None or task.process.dead:
            return
        if task.random.random() < self.preempt_p:
            self._schedule(self.time + task.random.random() * 2e-3, task, woken=True)
            self._switch(task)

    def pass_point(self) -> None:
        """Let the faults happen that the plan has for a point at which no other task goes on.

        Raises:
            Killed: One of the faults has killed the process.
        """
        task = self._count_point()
        if task.process.dead:
            raise Killed

    def begin_transaction(self, seconds: float) -> None:
        """Let the faults happen that the plan has for the next transaction, and wait for it."""
        task = self.me()
        task.transactions += 1
        for fault in self.faults_of_transactions.pop((task.request, task.transactions), ()):
            fault()
        self.travel(seconds)

    def _point(self) -> Task:
        """Note a switch point, and let the faults happen that the plan has for the point."""
        if self.me().locks:
            self.breaches.append(_place())
        return self._count_point()

    def _count_point(self) -> Task:
        task = self.me()
        task.points += 1
        if self.faults:
            for fault in self.faults.pop((task.request, task.points), ()):
                fault()
        return task

    def _switch(self, task: Task) -> None:
        self._scheduler.switch()
        if task.process.dead:
            raise Killed

    # Clocks

    def host(self) -> Host | None:
        """Return the host on which the code runs, or None outside of each host."""
        if self.current is not None:
            return self.current.process.host
        return self.building.host if self.building else None

    def monotonic(self, host: Host | None) -> float:
        """Return the monotonic clock of a host, which stands still while the host is suspended."""
        if host is None:
            return MONOTONIC_S + self.time
        return MONOTONIC_S + max(self.time, host.asleep_until) - host.asleep_s

    def wall(self, host: Host | None) -> float:
        """Return the wall clock of a host, in UNIX seconds."""
        return EPOCH_S + self.time + (host.ahead_s if host else 0.0)

    # Faults of machines

    def kill(self, process: Process) -> None:
        """Kill a process. Its tasks never go on."""
        if not process.dead:
            process.dead, process.died_at = True, self.time
            self.log("KILLED", process.name)

    def stop(self, process: Process) -> None:
        """Ask a process to end, as SIGTERM does. Its sleeps end at once."""
        if process.dead or process.stopping:
            return
        process.stopping = True
        self.log("STOPPING", process.name)
        for task in self.tasks:
            if task.process is process and task.interruptible and not task.done:
                self.wake(task)

    def suspend(self, host: Host, seconds: float) -> None:
        """Suspend a host for a true time, which its monotonic clock misses."""
        before = max(self.time, host.asleep_until)
        host.asleep_until = max(host.asleep_until, self.time + seconds)
        host.asleep_s += host.asleep_until - before
        host.suspensions.append((self.time, host.asleep_until - before))
        self.log("SUSPENDED", host.name, f"{seconds:g} s")

    def step(self, host: Host, seconds: float) -> None:
        """Set the wall clock of a host forward, or back with a negative number."""
        host.ahead_s += seconds
        host.steps.append((self.time, seconds))
        self.log("CLOCK SET", host.name, f"{seconds:+g} s")


class Lock:
    """The lock of `clock.Lock` in a world. A task must not hold a lock over a switch point."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._owner: Task | None = None
        self._is_held = False
        self._waiting: list[Task] = []

    def __enter__(self) -> bool:
        self._world.preempt()
        task = self._world.current
        if task is not None and task.process.dead:
            raise Killed
        while self._is_held and task is not None:
            self._waiting.append(task)
            self._world._switch(task)
        self._is_held, self._owner = True, task
        if task is not None:
            task.locks += 1
        return True

    def __exit__(self, *_: object) -> None:
        self._is_held = False
        owner, self._owner = self._owner, None
        if owner is None:
            return
        owner.locks -= 1
        if self._waiting and not owner.process.dead:
            index = int(owner.random.random() * len(self._waiting))
            self._world.wake(self._waiting.pop(index))


class Turns:
    """The `clock.Slots` of one slot in a world. A task may hold the slot over a switch point."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: dict[int, list[Task]] = {}  # The first task of each process has the slot.

    @contextmanager
    def take(self, timeout_s: float) -> Iterator[None]:
        task = self._world.me()
        waiting = self._waiting.setdefault(task.process.number, [])
        waiting.append(task)
        try:
            if waiting[0] is not task and not self._world.sleep(timeout_s):
                raise TimeoutError
            yield
        finally:
            was_first = waiting[0] is task
            waiting.remove(task)
            if was_first and waiting and not task.process.dead:
                self._world.wake(waiting[0])


class Event:
    """The event of `clock.Event` in a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._is_set = False
        self._waiting: list[Task] = []

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            if not task.process.dead:
                self._world.wake(task)

    def wait(self, timeout: float | None = None) -> bool:
        task = self._world.me()
        if not self._is_set:
            self._waiting.append(task)
            self._world.sleep(timeout)
            if task in self._waiting:
                self._waiting.remove(task)
        return self._is_set


def _place() -> str:
    """Return the functions of the package that led to the present switch point."""
    names: list[str] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and len(names) < 4:
        path = frame.f_code.co_filename
        if "/flask_ecwid/" in path:
            names.append(f"{path.rpartition('/')[2][:-3]}.{frame.f_code.co_name}")
        frame = frame.f_back
    return " < ".join(names)
