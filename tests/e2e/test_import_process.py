"""The command `flask ecwid import` as a process, which is killed, stopped, or on a terminal."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from flask_ecwid.sandbox import Fault

from ..helpers.command import GOOD, Command, new, write
from ..helpers.waiting import happens


def test_killed_again_and_again(tmp_path: Path) -> None:
    """An import that is killed at any moment and repeated each time creates every row once."""
    command = Command(tmp_path)
    command.orders.switch(duplicate_emails=True)  # Otherwise the store would refuse a duplicate.
    command.orders.inject(Fault("latency", operation="add_customer", seconds=0.05))
    rows = [{"email": f"new-{n:03}@example.com"} for n in range(16)]
    write(command, "new.jsonl", *rows)
    chance = random.Random(7)
    kills = 0
    while True:
        made = len(new(command))
        process = command.begin("import", "new.jsonl")
        if kills < 3:
            while len(new(command)) == made and process.poll() is None:
                time.sleep(0.02)
            time.sleep(chance.random() * 0.4)
            process.kill()
        _, err = process.communicate(timeout=100)
        if process.returncode != -signal.SIGKILL:
            break
        kills += 1
    assert (process.returncode, err) == (0, "")
    assert kills == 3
    assert new(command) == [row["email"] for row in rows]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_stopped(tmp_path: Path, signum: signal.Signals) -> None:
    """A stopped import finishes its current row, and the next import does not wait."""
    command = Command(tmp_path)
    command.orders.inject(Fault("latency", operation="add_customer", seconds=0.3))
    rows = [{"email": f"new-{n:03}@example.com"} for n in range(60)]
    write(command, "new.jsonl", *rows)
    process = command.begin("import", "new.jsonl")
    while not new(command):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signum)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + signum, "")
    assert "rows are left. The same command continues the import." in err
    made = len(new(command))
    assert 0 < made < 60
    command.orders.clear_faults()
    assert command.run("import", "new.jsonl") == (0, "", "")
    assert new(command) == [row["email"] for row in rows]
    assert len([e for e in command.orders.ledger() if e.operation == "add_customer"]) == 60


def test_within_the_rate_limit(tmp_path: Path) -> None:
    """An import uses at most half of the calls per minute."""
    command = Command(tmp_path, ECWID_CALLS_PER_MINUTE="8")
    write(command, "new.jsonl", *GOOD)
    process = command.begin("import", "new.jsonl")
    # Each row takes a search and a creation.
    assert happens(lambda: len(command.orders.ledger()) == 4, 60)
    time.sleep(1.5)  # A fifth call would come meanwhile.
    assert process.poll() is None
    assert len(command.orders.ledger()) == 4
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
