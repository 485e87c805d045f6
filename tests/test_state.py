"""What processes know together: one contract for memory, file and Redis."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from flask_ecwid import clock
from flask_ecwid.storage import redis_connection
from flask_ecwid.storage.redis_connection import RedisLink
from flask_ecwid.storage.state import (
    FileState,
    MemoryState,
    RedisState,
    State,
    StateGone,
    host_state,
)

from .redis_server import RedisServer

ANY_BYTES = bytes(range(256))


@pytest.fixture(params=["memory", "file", "redis"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> State:
    if request.param == "memory":
        return MemoryState()
    if request.param == "file":
        return FileState(tmp_path / "private" / "state.sqlite3")
    redis: RedisServer = request.getfixturevalue("redis")
    return RedisState(RedisLink(redis.url))


def test_nothing_at_first(state: State) -> None:
    """Where nothing was put, there is nothing."""
    assert state.read("a") is None


def test_swap(state: State) -> None:
    """A value is put only where what was read still is; nothing is a value like any other."""
    assert state.swap("a", None, b"one", 60)
    assert not state.swap("a", None, b"two", 60)
    assert not state.swap("a", b"two", b"three", 60)
    assert state.read("a") == b"one"
    assert state.swap("a", b"one", ANY_BYTES, 60)
    assert state.read("a") == ANY_BYTES
    assert state.swap("a", ANY_BYTES, None, 0)
    assert state.read("a") is None
    assert state.swap("a", None, b"", 60)
    assert state.read("a") == b""


def test_names_are_apart(state: State) -> None:
    """A value is of its name alone."""
    state.swap("a", None, b"one", 60)
    assert state.read("b") is None


def test_values_end(state: State) -> None:
    """After its time a value is gone, and another can be put there."""
    state.swap("a", None, b"one", 0.05)
    time.sleep(0.1)
    assert state.read("a") is None
    assert state.swap("a", None, b"two", 60)


def test_one_wins(state: State) -> None:
    """Of many that swap at the same time exactly one does."""
    with ThreadPoolExecutor(8) as threads:
        for name in map(str, range(25)):
            wins = threads.map(lambda n, name=name: state.swap(name, None, b"%d" % n, 60), range(8))
            assert sum(wins) == 1


def test_processes_share_a_file(tmp_path: Path) -> None:
    """A forked process has its own connection, and sees and changes the same values."""
    state = FileState(tmp_path / "private" / "state.sqlite3")
    state.swap("a", None, b"one", 60)
    child = os.fork()
    if child == 0:
        good = state.read("a") == b"one" and state.swap("a", b"one", b"two", 60)
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert state.read("a") == b"two"


def test_nothing_is_opened_before_it_is_needed(tmp_path: Path) -> None:
    """A state that nobody asks makes no file; one that is asked is this user's alone."""
    state = FileState(tmp_path / "private" / "state.sqlite3")
    assert list(tmp_path.iterdir()) == []
    state.read("a")
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o700


def test_the_hosts_file() -> None:
    """All processes of a user on a host find the same file."""
    host_state().swap("test", None, b"one", 60)
    assert host_state().read("test") == b"one"
    host_state().swap("test", b"one", None, 0)


def test_the_file_of_a_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under systemd it is in the service's own folder, which a restart does not empty."""
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}:/elsewhere")
    host_state().swap("test", None, b"one", 60)
    assert [path.name for path in tmp_path.glob("flask-ecwid-*/*.sqlite3")] == ["state.sqlite3"]


@pytest.mark.parametrize("trap", ["open to others", "a link", "a file", "no folder at all"])
def test_a_folder_that_is_not_ours_alone(tmp_path: Path, trap: str) -> None:
    """A folder that somebody else may have laid there is not used."""
    folder = tmp_path / "private"
    if trap == "open to others":
        folder.mkdir(mode=0o700)
        folder.chmod(0o770)
    elif trap == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    elif trap == "a file":
        folder.write_bytes(b"")
    else:
        folder = tmp_path / "missing" / "private"
    state = FileState(folder / "state.sqlite3")
    with pytest.raises(StateGone):
        state.read("a")
    with pytest.raises(StateGone):
        state.swap("a", None, b"", 1)
    assert not (tmp_path / "elsewhere" / "state.sqlite3").exists()


def rested(monkeypatch: pytest.MonkeyPatch) -> None:
    """So long after now that what has failed is asked again."""
    later = clock.now() + redis_connection.REST_S + 0.1
    monkeypatch.setattr(clock, "now", lambda: later)


def test_a_broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is none of ours is StateGone, and nothing worse; when it is gone, all goes on."""
    path = tmp_path / "private" / "state.sqlite3"
    path.parent.mkdir(mode=0o700)
    path.write_bytes(b"no database at all, but long enough to be read as one" * 100)
    state = FileState(path)
    for _ in range(2):
        with pytest.raises(StateGone):
            state.swap("a", None, b"one", 60)
    path.unlink()
    rested(monkeypatch)
    assert state.swap("a", None, b"one", 60)


OPENINGS = 20  # that fail
MODULE = FileState.__module__


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a state neither wait for a busy file nor rest after a failure."""
    monkeypatch.setattr(f"{MODULE}._BUSY_S", 0.01)
    monkeypatch.setattr(f"{MODULE}.REST_S", 0.0)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file in another process."""
    holder = (
        "import sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('BEGIN EXCLUSIVE')\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        yield
        process.communicate()


@pytest.mark.parametrize("fault", ["corrupted", "foreign", "locked", "a folder"])
def test_a_failed_opening_leaves_nothing_open(tmp_path: Path, impatient: None, fault: str) -> None:
    """A state file that cannot be opened costs no descriptor, however often a caller tries."""
    path = tmp_path / "private" / "state.sqlite3"
    path.parent.mkdir(mode=0o700)
    with ExitStack() as stack:
        if fault == "corrupted":
            path.write_bytes(b"no database at all, but long enough to be read as one" * 100)
        elif fault == "foreign":
            db = sqlite3.connect(path)
            db.execute("CREATE TABLE state (something TEXT)")
            db.close()
        elif fault == "locked":
            stack.enter_context(locked(path))
        else:
            path.mkdir()
        state = FileState(path)
        before = open_files()
        for _ in range(OPENINGS):
            with pytest.raises(StateGone):
                state.swap("a", None, b"one", 60)
        assert open_files() <= before


def test_a_failed_move_leaves_nothing_open(tmp_path: Path, impatient: None) -> None:
    """A foreign file in the place of a removed state file costs no descriptor."""
    path = tmp_path / "private" / "state.sqlite3"
    state = FileState(path)
    before = open_files()
    for _ in range(OPENINGS):
        assert state.swap("a", None, b"one", 60)
        shutil.rmtree(path.parent)
        path.parent.mkdir(mode=0o700)
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE state (name TEXT, ends REAL)")
        db.close()
        with pytest.raises(StateGone):
            state.read("a")
        shutil.rmtree(path.parent)
    assert open_files() <= before


FAILING_PROCESS = f"""
import os, resource, sqlite3, sys, tempfile
from pathlib import Path
import {MODULE} as module

if os.getuid() == 0:  # Root may write to a read-only file, so another user has to fail.
    os.setuid(65534)
module.REST_S = 0.0
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "private" / "state.sqlite3"
    if sys.argv[1] == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    else:
        module.FileState(path).swap("a", None, b"one", 60)
        path.chmod(0o400)
    state = module.FileState(path)
    before = len(os.listdir("/proc/self/fd"))
    failures = 0
    for _ in range({OPENINGS}):
        try:
            state.swap("a", None, b"two", 60)
        except module.StateGone:
            failures += 1
    print(failures, len(os.listdir("/proc/self/fd")) - before)
"""


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_file_that_cannot_be_written_leaves_nothing_open(fault: str) -> None:
    """A full disk and a read-only file cost no descriptor, however often a caller tries."""
    done = subprocess.run(
        [sys.executable, "-c", FAILING_PROCESS, fault],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [str(OPENINGS), "0"], done.stderr


def test_a_file_that_is_removed(tmp_path: Path) -> None:
    """Who still has it open puts what it held into a new one, for the processes that come later."""
    path = tmp_path / "private" / "state.sqlite3"
    state, other = FileState(path), FileState(path)
    assert state.swap("a", None, b"one", 60)
    assert other.read("a") == b"one"
    shutil.rmtree(path.parent)
    assert state.read("a") == b"one"
    assert FileState(path).read("a") == b"one"
    assert state.swap("a", b"one", b"two", 60)
    assert other.read("a") == FileState(path).read("a") == b"two"


def test_a_file_that_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that holds the file for long stops nobody for ever: who needs it waits for a
    second, all others with it, and then nobody for a while.
    """
    path = tmp_path / "private" / "state.sqlite3"
    state = FileState(path)
    state.swap("a", None, b"one", 60)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    begun = time.monotonic()

    def is_gone(_: int) -> bool:
        try:
            state.swap("a", b"one", b"two", 60)
        except StateGone:
            return True
        return False

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(is_gone, range(100)))
    assert time.monotonic() - begun < 5
    holder.execute("ROLLBACK")
    holder.close()
    assert is_gone(0)
    rested(monkeypatch)
    assert state.swap("a", b"one", b"two", 60)


def test_what_is_over_leaves_the_file(tmp_path: Path) -> None:
    """Values whose time is over are taken out of the file."""
    path = tmp_path / "private" / "state.sqlite3"
    state = FileState(path)
    for name in map(str, range(20)):
        state.swap(name, None, b"one", 0.01)
    time.sleep(0.05)
    state.swap("a", None, b"one", 60)
    db = sqlite3.connect(path)
    [[count]] = db.execute("SELECT count(*) FROM state")
    db.close()
    assert count == 1


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.mark.parametrize("fault", ["stopped", "halted"])
def test_redis_gone(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """A Redis that stops or hangs is StateGone soon, then at once for a while; then it is back."""
    state = RedisState(RedisLink(own_redis.url))
    state.swap("a", None, b"one", 60)
    (own_redis.stop if fault == "stopped" else own_redis.halt)()
    begun = time.monotonic()
    with pytest.raises(StateGone):
        state.read("a")
    assert time.monotonic() - begun < 2  # 0.2 s, and what a busy machine adds
    begun = time.monotonic()
    for _ in range(100):
        with pytest.raises(StateGone):
            state.swap("a", None, b"", 1)
    assert time.monotonic() - begun < 1
    (own_redis.start_again if fault == "stopped" else own_redis.go_on)()
    with pytest.raises(StateGone):
        state.read("a")
    rested(monkeypatch)
    assert state.read("a") == (None if fault == "stopped" else b"one")


def test_redis_emptied(redis: RedisServer) -> None:
    """An emptied Redis has nothing, and takes new values."""
    state = RedisState(RedisLink(redis.url))
    state.swap("a", None, b"one", 60)
    redis.client.flushall()
    assert state.read("a") is None
    assert state.swap("a", None, b"two", 60)
