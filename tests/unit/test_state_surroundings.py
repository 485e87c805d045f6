"""Tests of the state file under shifted clocks, removed companions, locks and foreign folders."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import Flask

from flask_ecwid import Ecwid, EcwidClient, Settings, SettingsError, clock
from flask_ecwid.storage import file_state
from flask_ecwid.storage.file_state import FileState, host_state

from .test_state import NOBODY, locked, run, value_of

DAY_S = 24 * 3600.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "private" / "state.sqlite3"


@pytest.mark.parametrize("by_s", [DAY_S, -DAY_S, 400 * DAY_S])
def test_a_wall_clock_that_is_set(path: Path, monkeypatch: pytest.MonkeyPatch, by_s: float) -> None:
    """A change of the wall clock neither removes a value nor keeps a value for longer."""
    state = FileState(path)
    state.compare_and_swap("short", None, b"one", 60)
    state.compare_and_swap("long", None, b"one", DAY_S)
    wall, now = clock.wall, clock.now
    monkeypatch.setattr(clock, "wall", lambda: wall() + by_s)
    for used in (state, FileState(path)):
        used.compare_and_swap("other", None, b"", 1)
        assert value_of(used, "short") == value_of(used, "long") == b"one"
    monkeypatch.setattr(clock, "now", lambda: now() + 61)
    assert value_of(state, "short") is None
    assert value_of(state, "long") == b"one"


@pytest.mark.parametrize(
    ("later_s", "is_kept"),
    [(0.0, True), (-DAY_S, True), (DAY_S - 60, True), (DAY_S + 3600, True), (3 * DAY_S, False)],
)
def test_a_restart_of_the_host(
    path: Path, monkeypatch: pytest.MonkeyPatch, later_s: float, is_kept: bool
) -> None:
    """A value outlives a restart of the host, even if the wall clock is then wrong by a day."""
    FileState(path).compare_and_swap("a", None, b"one", DAY_S)
    wall, now = clock.wall, clock.now
    monkeypatch.setattr(file_state, "_BOOT", "another start")
    monkeypatch.setattr(clock, "wall", lambda: wall() + later_s)
    begun = now()
    monkeypatch.setattr(clock, "now", lambda: now() - begun + 1)  # The clock begins again.
    state = FileState(path)
    found = state.get("a")
    assert (found is not None) is is_kept
    if found:
        assert found.value == b"one"
        assert 0 < found.left_s <= 2 * DAY_S
        assert state.compare_and_swap("a", b"one", b"two", 60)


def companions(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}-*"))


WRITES = f"""
import os, sys, signal
from pathlib import Path
from {FileState.__module__} import FileState

path, name = Path(sys.argv[1]), sys.argv[2]
state = FileState(path)
for line in sys.stdin:
    for number in range(int(line)):
        assert state.compare_and_swap(f"{{name}} {{line.strip()}} {{number}}", None, b"one", 600)
        state.take("calls", 10_000)
    print("told", flush=True)
"""


@contextmanager
def writer(path: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process that writes as many values as each line of its input says."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITES, path, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        yield process
        process.kill()


def write(process: subprocess.Popen[str], number: int) -> None:
    """Let a writer write, and wait until it has told that the values are written."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{number}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "told\n"


@pytest.mark.parametrize("removed", ["-wal", "-shm", "-*"])
def test_companions_removed_after_a_kill(path: Path, removed: str) -> None:
    """Values that were told as written outlive a kill of all processes and a cleaner of files."""
    with writer(path, "a") as first, writer(path, "b") as second:
        write(first, 20)
        write(second, 20)
        first.kill()
        second.kill()
        first.wait()
        second.wait()
    found = list(path.parent.glob(f"{path.name}{removed}"))
    assert found
    for each in found:
        each.unlink()
    state = FileState(path)
    assert [
        key for key in (f"{name} 20 {n}" for name in "ab" for n in range(20)) if not state.get(key)
    ] == []


@pytest.mark.parametrize("removed", ["-wal", "-shm", "-*"])
def test_companions_removed_while_processes_use_the_file(path: Path, removed: str) -> None:
    """A removal of the companions of a file in use loses no value, for old and new processes."""
    rounds = range(11, 16)
    with writer(path, "a") as first, writer(path, "b") as second:
        state = FileState(path)
        for number in rounds:
            write(first, number)
            for each in path.parent.glob(f"{path.name}{removed}"):
                each.unlink()
            with writer(path, f"new {number}") as third:
                write(third, number)
                write(second, number)
                write(first, number + 100)
                assert value_of(state, f"b {number} 0") == b"one"
    expected = [
        f"{name} {size} {n}"
        for number in rounds
        for name, size in (
            *(("a", number), ("b", number), (f"new {number}", number)),
            ("a", number + 100),
        )
        for n in range(size)
    ]
    assert [key for key in expected if not state.get(key) or not FileState(path).get(key)] == []


UNDER_GEVENT = f"""
from gevent import monkey; monkey.patch_all()
import sys, time
from pathlib import Path
import gevent
from {FileState.__module__} import FileState, StateUnavailable

state = FileState(Path(sys.argv[1]))
waits = gevent.spawn(state.compare_and_swap, "a", b"one", b"two", 60)
beats = 0
while not waits.ready():
    gevent.sleep(0.01)
    beats += 1
try:
    waits.get()
except StateUnavailable:
    print(beats)
"""


def test_greenlets_go_on_while_the_file_is_locked(path: Path) -> None:
    """A greenlet that waits for a locked file holds up no other greenlet of the process."""
    pytest.importorskip("gevent")
    FileState(path).compare_and_swap("a", None, b"one", 60)
    with locked(path, "EXCLUSIVE"):
        assert int(run(UNDER_GEVENT, path).splitlines()[-1]) > 10


FIRST_USE = f"""
import sys, threading
from pathlib import Path
from {FileState.__module__} import FileState, StateUnavailable

state = FileState(Path(sys.argv[1]))
barrier = threading.Barrier(12)
failures = []

def use(number):
    barrier.wait()
    try:
        state.compare_and_swap(f"{{sys.argv[2]}} {{number}}", None, b"one", 60)
    except StateUnavailable as exc:
        failures.append(str(exc))

print("ready", flush=True)
sys.stdin.readline()
threads = [threading.Thread(target=use, args=(number,)) for number in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(failures)
"""


@pytest.mark.parametrize("attempt", range(3))
def test_the_first_use_by_many(tmp_path: Path, path: Path, attempt: int) -> None:
    """Many threads of several processes can open the file at the same time, when there is none."""
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FIRST_USE, path, str(number)],
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=pipe,
            stdout=pipe,
            text=True,
        )
        for number in range(4)
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[0] for process in processes] == ["[]\n"] * 4


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Leave only a temporary directory for the state, as for a service without a home."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/proc/missing")
    folder = tempfile.mkdtemp(dir="/tmp")
    monkeypatch.setattr(tempfile, "tempdir", folder)
    yield Path(folder)
    shutil.rmtree(folder)


SANDBOX = {"ECWID_SANDBOX": "on"}


def start(prefix: str = "") -> str:
    """Mount a store and open a client, and return the one sentence of both errors, if any."""
    texts = set()
    app = Flask("host")
    app.config[f"{prefix}ECWID_SANDBOX"] = "on"
    for opens in (
        lambda: EcwidClient(Settings(sandbox="on")),
        lambda: Ecwid(app, config_prefix=prefix),
    ):
        try:
            opens()
        except SettingsError as exc:
            texts.add(str(exc))
        else:
            texts.add("")
    [text] = texts
    return text


@pytest.mark.parametrize("prefix", ["", "OUTLET_"])
@pytest.mark.parametrize("trap", ["another user's", "a link", "a file"])
def test_a_trap_in_the_temporary_directory(temporary: Path, trap: str, prefix: str) -> None:
    """The start fails with a sentence if another user may have made the folder for the state."""
    assert start(prefix) == ""  # The folder is missing, or is ours.
    folder = temporary / f"flask-ecwid-{os.getuid()}"
    fault = f"{folder} is not a real directory"
    if trap == "a file":
        folder.write_bytes(b"")
    elif trap == "a link":
        folder.symlink_to("/tmp")
    elif os.getuid() != 0:
        pytest.skip("only root can give a folder to another user")
    else:
        folder.mkdir(mode=0o700)
        os.chown(folder, NOBODY, NOBODY)
        fault = f"the folder {folder} belongs to another user"
    assert start(prefix) == (
        f"{fault}. Set STATE_DIRECTORY or XDG_STATE_HOME to the path of a folder of this user"
    )


def test_a_replaced_file_keeps_its_values(path: Path) -> None:
    """If somebody replaces the file by a copy and leaves its companions, no value is lost."""
    state = FileState(path)
    for key in ("a", "b"):
        state.compare_and_swap(key, None, b"one", 60)
    copy = shutil.copy(path, f"{path}.copy")
    state.compare_and_swap("c", None, b"one", 60)
    os.rename(copy, path)
    with ThreadPoolExecutor(1) as threads:
        for _ in range(2):  # each thread, with its connection to the replaced file
            assert [value_of(state, key) for key in "abc"] == [b"one"] * 3
            list(threads.map(state.get, "abc"))
    assert [value_of(FileState(path), key) for key in "abc"] == [b"one"] * 3


def test_a_missing_folder_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first use creates the folder that XDG_STATE_HOME names, for this user alone."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a" / "b"))
    state = host_state()
    assert list(tmp_path.iterdir()) == []
    assert state.compare_and_swap("a", None, b"one", 60)
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_the_way_out_of_the_trap(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named folder for the state is used, whatever is in the temporary directory."""
    (temporary / f"flask-ecwid-{os.getuid()}").write_bytes(b"")
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        with monkeypatch.context() as patch:
            patch.setenv(name, str(tmp_path))
            assert start() == ""


def test_the_folder_of_the_users_home(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a named folder, the state is in the user's home, and not in a shared folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (temporary / f"flask-ecwid-{os.getuid()}").write_bytes(b"")
    assert start() == ""
    found = file_state.host_state().try_out()
    assert found == tmp_path / f".local/state/flask-ecwid-{os.getuid()}/state.sqlite3"
