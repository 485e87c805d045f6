"""Tests of the marks by which a process is taken for gone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_ecwid.storage import process

SLEEPS = [sys.executable, "-c", "import sys; sys.stdin.read()"]


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(SLEEPS, stdin=subprocess.PIPE) as running:
        yield running
        running.kill()


def mark_of(child: subprocess.Popen[bytes]) -> str:
    """Return the mark that a child of this process has."""
    found = process._stat(child.pid)
    assert found
    return f"{process._host(os.getpid())} {child.pid} {found.started}"


def test_a_process_has_one_mark() -> None:
    """A process has the same mark always, which another process can check."""
    mark = process.own_mark()
    assert mark == process.own_mark()
    assert not process.is_gone(mark)
    check = (
        "from flask_ecwid.storage import process; import sys; print(process.is_gone(sys.argv[1]))"
    )
    for checked, is_gone in ((mark, b"False\n"), (other_start(mark), b"True\n")):
        assert subprocess.check_output([sys.executable, "-c", check, checked]) == is_gone


def other_start(mark: str) -> str:
    """Return the mark of an earlier process with the same id."""
    host, _, started = mark.rpartition(" ")
    return f"{host} {int(started) - 1}"


def test_a_process_that_runs_is_not_gone(child: subprocess.Popen[bytes]) -> None:
    """A process that runs is not gone, also if it belongs to another user."""
    mark = mark_of(child)
    assert not process.is_gone(mark)
    assert process.is_gone(other_start(mark))
    if os.getuid() == 0:
        ask = (
            "import os, sys; from flask_ecwid.storage import process; os.setuid(65534)\n"
            "print(process.is_gone(sys.argv[1]))"
        )
        asked = subprocess.check_output([sys.executable, "-c", ask, mark])
        assert asked == b"False\n"


@pytest.mark.parametrize("is_reaped", [False, True])
def test_a_process_that_was_killed_is_gone(child: subprocess.Popen[bytes], is_reaped: bool) -> None:
    """A killed process is gone, whether or not its parent has asked for its status."""
    mark = mark_of(child)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | (0 if is_reaped else os.WNOWAIT))
    assert process.is_gone(mark)


def test_a_process_of_another_host(child: subprocess.Popen[bytes]) -> None:
    """A process of another host or container is never gone, because only its own host can know."""
    mark = mark_of(child)
    child.kill()
    child.wait()
    boot, space, *rest = mark.split(" ")
    assert process.is_gone(mark)
    for other in (["other-boot", space, *rest], [boot, "pid:[1]", *rest]):
        assert not process.is_gone(" ".join(other))


@pytest.mark.parametrize(
    "mark", ["", " ", "1", "1 2", "a b c", "a b c d", "{host} x 1", "{host} 1"]
)
def test_a_text_that_is_no_mark(mark: str) -> None:
    """A text that is no mark names no process that is gone."""
    assert not process.is_gone(mark.format(host=process._host(os.getpid())))


def test_a_system_without_proc(
    child: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without /proc, or with the /proc of another container, no process has a mark or is gone."""
    mark = mark_of(child)
    child.kill()
    child.wait()
    for target in (None, "1"):
        if target:
            (tmp_path / "self").symlink_to(target)
        monkeypatch.setattr(process, "_PROC", tmp_path)
        assert process.own_mark() == ""
        assert not process.is_gone(mark)
