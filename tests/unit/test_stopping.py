"""A signal may come at any moment of a sleep."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Any

import pytest

from flask_ecwid.cli import sync, terminal

from ..conftest import run_python

# Each child sends itself a signal at another step of its sleep. The walk ends after the last step.
WALK = """
import os, signal, sys, threading
from flask_ecwid import clock

event = threading.Event()
sleep, stop = {way}

def child(step):
    signal.signal(signal.SIGTERM, lambda *_: stop())
    signal.alarm({limit_s})
    steps = 0
    def trace(frame, kind, _):
        nonlocal steps
        frame.f_trace_opcodes = True
        steps += kind == "opcode"
        if kind == "opcode" and steps == step:
            signal.raise_signal(signal.SIGTERM)
        return trace
    sys.settrace(trace)
    sleep(0.12)
    sys.settrace(None)
    os._exit(0 if steps >= step else 3)

step, status = 0, 0
while status == 0:
    step += 1
    pid = os.fork()
    if not pid:
        child(step)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(step, status)
"""
OURS = "clock.sleep, clock.interrupt_sleeps"
EVENT = "event.wait, event.set"


def walk(way: str, limit_s: int) -> tuple[int, int]:
    """Return the number of the last step, and the exit status of its process."""
    done = run_python(WALK.format(way=way, limit_s=limit_s))
    assert done.stderr == ""
    step, status = done.stdout.split()
    return int(step), int(status)


def test_a_signal_at_each_step_of_a_sleep() -> None:
    """A signal handler can end the sleeps at each step of a sleep in the same thread."""
    steps, status = walk(OURS, 60)
    assert (steps > 20, status) == (True, 3)


def test_the_walk_finds_a_deadlock() -> None:
    """The walk finds the step at which the handler of an event waits for its own thread."""
    assert walk(EVENT, 3)[1] == -signal.SIGALRM


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_sleep_of_no_length(seconds: float) -> None:
    """A sleep of no length ends at once, and says whether the process is about to end."""
    program = f"""
from flask_ecwid import clock
print(clock.sleep({seconds}), clock.is_stopping())
clock.interrupt_sleeps()
print(clock.sleep({seconds}), clock.sleep(1e9), clock.is_stopping())
"""
    assert run_python(program).stdout == "True False\nFalse False True\n"


class StoppedInDestructor:
    """A copy whose reading gets SIGTERM in a destructor, where Python drops the exception."""

    def __init__(self) -> None:
        self.readings = 0

    def is_due(self) -> bool:
        return True

    def follow(self, interval_s: float) -> None:
        self.readings += 1
        assert self.readings == 1
        with suppress(terminal.Stopped):
            signal.raise_signal(signal.SIGTERM)


def test_a_signal_in_a_destructor() -> None:
    """A command without an end stops before its next step, although the exception was dropped."""
    copy: Any = StoppedInDestructor()
    with pytest.raises(terminal.Stopped) as caught, terminal.stop_at_once() as raise_again:
        sync._follow([copy], 1, raise_again)
    assert caught.value.status == 128 + signal.SIGTERM
