"""The command `flask ecwid export` as a process, which is killed, stopped, or on a terminal."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ..helpers.command import Command, checkpoint, ids, slow, wait_for_progress
from ..helpers.waiting import happens


@pytest.mark.parametrize("name", ["all.jsonl", "all.csv"])
def test_killed_again_and_again(tmp_path: Path, name: str) -> None:
    """An export that is killed and resumed at any moment has every customer once."""
    command = Command(tmp_path, 250)
    slow(command, 0.1)
    chance = random.Random(name)
    kills = 0
    while True:
        before = checkpoint(command, name)
        process = command.begin("export", name, "--where", "limit=20", "--resume")
        if kills < 5:
            if chance.random() < 0.8:  # Otherwise the signal may come while the process starts.
                wait_for_progress(command, name, process, before)
            with suppress(subprocess.TimeoutExpired):
                process.wait(chance.random() / 4)
            process.kill()
        _, err = process.communicate()
        assert err == ""
        if process.returncode != -signal.SIGKILL:
            break
        kills += 1
    assert process.returncode == 0
    assert kills > 2
    exported = ids(command, name)
    assert len(exported) == len(set(exported))
    assert set(exported) == set(command.customers())
    assert command.files() == {name}
    # The resumed export equals an uninterrupted export.
    command.orders.clear_faults()
    assert command.run("export", f"again-{name}", "--where", "limit=20")[0] == 0
    read = [sorted((tmp_path / each).read_bytes().splitlines()) for each in (name, f"again-{name}")]
    assert read[0] == read[1]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_stopped(tmp_path: Path, signum: signal.Signals) -> None:
    """An export that is stopped prints how to resume, and exits with the status of its signal."""
    command = Command(tmp_path, 300)
    slow(command, 0.3)
    process = command.begin("export", "all.jsonl", "--where", "limit=20")
    wait_for_progress(command, "all.jsonl", process)
    process.send_signal(signum)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + signum, "")
    assert err == "stopped\nThe same command with --resume continues the export.\n"
    assert command.files() == {"all.jsonl.part", "all.jsonl.resume"}
    assert all((tmp_path / each).stat().st_mode & 0o777 == 0o600 for each in command.files())
    command.orders.clear_faults()
    # An export does not overwrite an unfinished export by mistake.
    status, _, err = command.run("export", "all.jsonl", "--where", "limit=20")
    assert status == 2
    assert "Continue it with --resume" in err
    # An export of another kind does not overwrite it either.
    for other in (["--where", "limit=30"], ["--where", "limit=20", "--format", "csv"]):
        status, _, err = command.run("export", "all.jsonl", *other, "--resume")
        assert status == 2
        assert "other filters" in err
    assert command.run("export", "all.jsonl", "--where", "limit=20", "--resume") == (0, "", "")
    assert sorted(ids(command, "all.jsonl")) == sorted(command.customers())


@pytest.mark.parametrize("at", ["before", "after"])
def test_killed_at_the_end(tmp_path: Path, at: str) -> None:
    """An export that is killed before or after its last rename is completed by --resume."""
    command = Command(tmp_path, 20)
    assert command.run("export", "all.jsonl")[0] == 0
    whole = (tmp_path / "all.jsonl").read_bytes()
    slow(command, 0.5)
    process = command.begin("export", "all.jsonl")
    wait_for_progress(command, "all.jsonl", process)
    process.kill()
    process.communicate()
    saved = json.loads((tmp_path / "all.jsonl.resume").read_text())
    saved.update(complete=True, bytes=len(whole))
    (tmp_path / "all.jsonl.resume").write_text(json.dumps(saved))
    if at == "before":
        (tmp_path / "all.jsonl").rename(tmp_path / "all.jsonl.part")
    else:
        (tmp_path / "all.jsonl.part").unlink()
    calls = len(command.orders.ledger())
    assert command.run("export", "all.jsonl", "--resume") == (0, "", "")
    assert (tmp_path / "all.jsonl").read_bytes() == whole
    assert command.files() == {"all.jsonl"}
    assert len(command.orders.ledger()) <= calls + 1  # the killed process may have sent one more


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="only Linux has this file")
def test_filters_of_a_file_are_hidden(tmp_path: Path) -> None:
    """The arguments of an export with --where-file show no value to other users of the host."""
    command = Command(tmp_path, 60)
    slow(command, 0.3)
    (tmp_path / "filters.txt").write_text("limit=20\nemail=example.com\n")
    process = command.begin("export", "all.jsonl", "--where-file", "filters.txt")
    wait_for_progress(command, "all.jsonl", process)
    shown = Path(f"/proc/{process.pid}/cmdline").read_text()
    process.terminate()
    process.communicate(timeout=60)
    assert "--where-file" in shown
    assert "example.com" not in shown


def test_a_pipe_that_closes(tmp_path: Path) -> None:
    """A pipe whose reader stops ends the export without a traceback."""
    command = Command(tmp_path, 300)
    process = command.begin("export", "-")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 1
    assert process.stderr.read() == ""
    process.stderr.close()


def test_within_the_rate_limit(tmp_path: Path) -> None:
    """An export uses at most half of the calls per minute."""
    command = Command(tmp_path, 100)
    command.settings["ECWID_CALLS_PER_MINUTE"] = "8"
    process = command.begin("export", "all.jsonl", "--where", "limit=10")
    assert happens(lambda: len(command.orders.ledger()) == 4, 60)
    time.sleep(1.5)  # A fifth call would come meanwhile.
    assert process.poll() is None
    assert len(command.orders.ledger()) == 4
    process.terminate()
    process.communicate(timeout=60)
