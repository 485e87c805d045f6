"""Memory, the state file and Redis keep one promise for the state that processes share."""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
import redis

from flask_ecwid import clock
from flask_ecwid.storage import file_state, redis_connection
from flask_ecwid.storage.file_state import FileState, host_state
from flask_ecwid.storage.memory_state import MemoryState
from flask_ecwid.storage.redis_connection import RedisConnection
from flask_ecwid.storage.redis_state import RedisState
from flask_ecwid.storage.state import State, StateUnavailable
from flask_ecwid.storage.window import SPAN_S

from ..helpers.redis_server import RedisServer

ANY_BYTES = bytes(range(256))


OPENINGS = 20  # that fail
MODULE = FileState.__module__
NOBODY = 65534


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def no_garbage() -> None:
    """Collect the garbage of earlier tests, which could close files between two counts."""
    gc.collect()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a state neither wait for a busy file nor rest after a failure."""
    monkeypatch.setattr(f"{MODULE}._BUSY_S", 0.01)
    monkeypatch.setattr(f"{MODULE}.COOLDOWN_S", 0.0)


@contextmanager
def locked(path: Path, how: str = "EXCLUSIVE") -> Iterator[subprocess.Popen[bytes]]:
    """Hold the file in another process, which lets go when its input is closed."""
    holder = (
        "import sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('BEGIN ' + sys.argv[2])\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", holder, str(path), how]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        yield process


@contextmanager
def read_only(folder: Path, mode: int) -> Iterator[None]:
    """Mount a read-only file system whose root has this mode."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"ro,mode={mode:o}", "none", folder], capture_output=True
    )
    if made.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def run(script: str, *arguments: object, **environment: str) -> str:
    """Run a script in a process of its own, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={"PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def value_of(state: State, key: str) -> bytes | None:
    found = state.get(key)
    return found.value if found else None


@pytest.fixture(params=["memory", "file", "redis"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> State:
    if request.param == "memory":
        return MemoryState()
    if request.param == "file":
        return FileState(tmp_path / "private" / "state.sqlite3")
    redis: RedisServer = request.getfixturevalue("redis")
    return RedisState(RedisConnection(redis.url))


def test_nothing_at_first(state: State) -> None:
    """A key without a value has None."""
    assert value_of(state, "a") is None


def test_swap(state: State) -> None:
    """A value is replaced only if it is still the one that was read, and None counts as a value."""
    assert state.compare_and_swap("a", None, b"one", 60)
    assert not state.compare_and_swap("a", None, b"two", 60)
    assert not state.compare_and_swap("a", b"two", b"three", 60)
    assert value_of(state, "a") == b"one"
    assert state.compare_and_swap("a", b"one", ANY_BYTES, 60)
    assert value_of(state, "a") == ANY_BYTES
    assert state.compare_and_swap("a", ANY_BYTES, None, 0)
    assert value_of(state, "a") is None
    assert state.compare_and_swap("a", None, b"", 60)
    assert value_of(state, "a") == b""


def test_names_are_apart(state: State) -> None:
    """A value is of its name alone."""
    state.compare_and_swap("a", None, b"one", 60)
    assert value_of(state, "b") is None


def test_values_end(state: State) -> None:
    """After its time a value is gone, and another can be put there."""
    state.compare_and_swap("a", None, b"one", 0.05)
    time.sleep(0.1)
    assert value_of(state, "a") is None
    assert state.compare_and_swap("a", None, b"two", 60)


def test_one_wins(state: State) -> None:
    """Of many that swap at the same time exactly one does."""
    with ThreadPoolExecutor(8) as threads:
        for name in map(str, range(25)):
            wins = threads.map(
                lambda n, name=name: state.compare_and_swap(name, None, b"%d" % n, 60), range(8)
            )
            assert sum(wins) == 1


def test_processes_share_a_file(tmp_path: Path) -> None:
    """A forked process has its own connection, and sees and changes the same values."""
    # The script has a process of its own, because other tests may leave threads that use a state.
    script = f"""
import os, sys
from pathlib import Path
from {MODULE} import FileState

state = FileState(Path(sys.argv[1]))
state.compare_and_swap("a", None, b"one", 60)
child = os.fork()
if child == 0:
    good = state.get("a")[0] == b"one" and state.compare_and_swap("a", b"one", b"two", 60)
    os._exit(0 if good else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(state.get("a")[0])
"""
    assert run(script, tmp_path / "private" / "state.sqlite3") == "b'two'"


def test_nothing_is_opened_before_it_is_needed(tmp_path: Path) -> None:
    """A state that is not used makes no file, and a file belongs to one user alone."""
    state = FileState(tmp_path / "private" / "state.sqlite3")
    assert list(tmp_path.iterdir()) == []
    state.get("a")
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o700


def test_the_hosts_file() -> None:
    """All processes of a user on a host find the same file."""
    host_state().compare_and_swap("test", None, b"one", 60)
    assert value_of(host_state(), "test") == b"one"
    host_state().compare_and_swap("test", b"one", None, 0)


def test_the_file_of_a_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under systemd it is in the service's own folder, which a restart does not empty."""
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}:/elsewhere")
    host_state().compare_and_swap("test", None, b"one", 60)
    assert [path.name for path in tmp_path.glob("flask-ecwid-*/*.sqlite3")] == ["state.sqlite3"]


def test_the_path_is_found_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's file is looked for when the state is used, not when the store is mounted."""
    state = host_state()
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    state.compare_and_swap("test", None, b"one", 60)
    assert [path.name for path in tmp_path.glob("flask-ecwid-*/*.sqlite3")] == ["state.sqlite3"]


def test_a_worker_of_another_user(tmp_path: Path) -> None:
    """A worker that gives up root after the fork has a file of its own user."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    script = f"""
import os, sqlite3, sys, tempfile
from {MODULE} import host_state

state = host_state()
assert state.compare_and_swap("a", None, b"one", 60)
child = os.fork()
if child == 0:
    os.setuid({NOBODY})
    good = state.get("a") is None and state.compare_and_swap("a", None, b"two", 60)
    os._exit(0 if good else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert state.get("a")[0] == b"one"
"""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # other users may look there
        os.chmod(folder, 0o777)
        run(script, STATE_DIRECTORY=folder)
        assert sorted(os.listdir(folder)) == ["flask-ecwid-0", f"flask-ecwid-{NOBODY}"]


def test_no_temporary_directory(tmp_path: Path) -> None:
    """A host on which no file can be written mounts the store, and refuses keyed requests alone."""
    script = """
import logging, resource, sys
from flask import Flask
from flask_ecwid import Ecwid

logging.basicConfig(stream=sys.stdout, format="%(message)s")
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
app = Flask("test")
app.config.update(ECWID_STORE_ID="1", ECWID_TOKEN="secret_x", ECWID_API_URL="https://127.0.0.1:9")
Ecwid(app, authorize=lambda scope: True)
answer = app.test_client().post(
    "/api/json/v1/ecwid/add_customer",
    json={"email": "someone@example.com"},
    headers={"Idempotency-Key": "0123456789abcdef0123"},
)
print(answer.status_code, answer.get_json()["type"])
"""
    printed = run(script, TMPDIR=str(tmp_path / "missing"), HOME="/proc/missing")
    assert "because no temporary directory can be written to." in printed
    assert "503 " in printed
    assert "idempotency-unavailable" in printed


@pytest.mark.parametrize(
    ("trap", "reason"),
    [
        ("a link", "because {folder} is not a real directory."),
        ("a file", "because {folder} is not a real directory."),
        ("another user's", "because the folder {folder} belongs to another user."),
        ("no folder at all", "{folder}/state.sqlite3 is unavailable (FileNotFoundError, "),
    ],
)
def test_a_folder_that_is_not_ours_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, trap: str, reason: str
) -> None:
    """A folder that another user may have laid there is not used, and the log names the reason."""
    folder = tmp_path / "private"
    if trap == "another user's":
        if os.getuid() != 0:
            pytest.skip("only root can give a folder to another user")
        folder.mkdir(mode=0o700)
        os.chown(folder, NOBODY, NOBODY)
    elif trap == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    elif trap == "a file":
        folder.write_bytes(b"")
    else:
        folder = tmp_path / "missing" / "private"
    state = FileState(folder / "state.sqlite3")
    with pytest.raises(StateUnavailable):
        state.get("a")
    with pytest.raises(StateUnavailable):
        state.compare_and_swap("a", None, b"", 1)
    assert not (tmp_path / "elsewhere" / "state.sqlite3").exists()
    [line] = caplog.messages
    assert reason.format(folder=folder) in line


@pytest.mark.parametrize("mode", [0o770, 0o2770, 0o755, 0o701])
def test_a_folder_that_was_opened_to_others(tmp_path: Path, mode: int) -> None:
    """A folder of this user that got more permissions, as by an fsGroup, is set back to 0700."""
    folder = tmp_path / "private"
    folder.mkdir()
    folder.chmod(mode)
    assert FileState(folder / "state.sqlite3").compare_and_swap("a", None, b"one", 60)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_stays_open_to_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder that cannot be set back is not used, and the log names it and its mode."""
    if os.getuid() != 0:
        pytest.skip("only root can mount a file system")
    with read_only(tmp_path / "private", mode=0o770), pytest.raises(StateUnavailable):
        FileState(tmp_path / "private" / "state.sqlite3").get("a")
    assert caplog.messages == [
        f"The shared state is unavailable, because the folder {tmp_path / 'private'}"
        " has mode 0770 and cannot be set to 0700."
    ]


def rested(monkeypatch: pytest.MonkeyPatch) -> None:
    """So long after now that what has failed is asked again."""
    later = clock.now() + redis_connection.COOLDOWN_S + 0.1
    monkeypatch.setattr(clock, "now", lambda: later)


def test_a_broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign file means StateUnavailable, and its removal ends that."""
    path = tmp_path / "private" / "state.sqlite3"
    path.parent.mkdir(mode=0o700)
    path.write_bytes(b"no database at all, but long enough to be read as one" * 100)
    state = FileState(path)
    for _ in range(2):
        with pytest.raises(StateUnavailable):
            state.compare_and_swap("a", None, b"one", 60)
    path.unlink()
    rested(monkeypatch)
    assert state.compare_and_swap("a", None, b"one", 60)


def version(path: Path) -> int:
    db = sqlite3.connect(path)
    [[found]] = db.execute("PRAGMA user_version")
    db.close()
    return int(found)


@pytest.mark.parametrize("other", [0, 1])
def test_a_file_of_another_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, other: int
) -> None:
    """A file of another format is refused unchanged, until somebody removes it."""
    path = tmp_path / "private" / "state.sqlite3"
    FileState(path).compare_and_swap("a", None, b"one", 60)
    assert version(path) == 3
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {other}")
    db.close()
    before = path.read_bytes()
    state = FileState(path)
    with pytest.raises(StateUnavailable):
        state.get("a")
    assert caplog.messages == [
        f"The shared state is unavailable, because the file {path} has format {other} instead of 3."
        " Stop every process that uses the file, then remove it."
    ]
    assert path.read_bytes() == before
    path.unlink()
    rested(monkeypatch)
    assert state.compare_and_swap("a", None, b"two", 60)


THREADS = 32  # of a gunicorn worker
MOST_OPEN = 2 * THREADS + 1


@pytest.mark.usefixtures("no_garbage")
def test_descriptors_of_many_threads(tmp_path: Path) -> None:
    """Each thread has a connection of two descriptors, and the process one more for all."""
    state = FileState(tmp_path / "private" / "state.sqlite3")
    before = open_files()
    barrier = threading.Barrier(THREADS + 1)

    def read() -> None:
        state.get("a")
        barrier.wait(60)
        barrier.wait(60)

    threads = [threading.Thread(target=read) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    barrier.wait(60)
    while_they_live = open_files()
    barrier.wait(60)
    for thread in threads:
        thread.join()
    assert while_they_live - before == MOST_OPEN
    assert open_files() == before


@pytest.mark.usefixtures("no_garbage")
@pytest.mark.parametrize("kept", [False, True], ids=["alone", "beside another thread"])
def test_descriptors_of_ended_threads(tmp_path: Path, kept: bool) -> None:
    """The connection of a thread that has ended is closed."""
    state = FileState(tmp_path / "private" / "state.sqlite3")
    before = open_files()
    if kept:
        state.get("a")
    for _ in range(4 * THREADS):
        thread = threading.Thread(target=state.get, args=["a"])
        thread.start()
        thread.join()
    # SQLite closes one of the two later, and gives it to the next thread.
    assert open_files() - before == (4 if kept else 0)


@pytest.mark.usefixtures("no_garbage")
def test_a_fork_beside_an_idle_thread(tmp_path: Path) -> None:
    """A fork closes the connections of all threads, and the threads of the parent open new ones."""
    state = FileState(tmp_path / "private" / "state.sqlite3")
    with ThreadPoolExecutor(1) as threads:
        before = open_files()
        assert threads.submit(state.compare_and_swap, "a", None, b"one", 60).result()
        child = os.fork()
        if child == 0:
            os._exit(0 if open_files() <= before else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert threads.submit(value_of, state, "a").result() == b"one"


@pytest.mark.usefixtures("no_garbage")
def test_descriptors_of_dropped_states(tmp_path: Path) -> None:
    """A state that nobody refers to any more has nothing open, in no thread."""
    before = open_files()
    with ThreadPoolExecutor(4) as threads:
        for _ in range(50):
            state = FileState(tmp_path / "private" / "state.sqlite3")
            state.itself = state  # type: ignore[attr-defined]  # as an app refers to itself
            assert not any(threads.map(state.get, "abcdefgh"))
            state.get("a")
            del state
        gc.collect()
        assert open_files() == before


def test_a_thread_that_waits_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that waits for a busy file holds up no thread that can go on."""
    monkeypatch.setattr(f"{MODULE}._BUSY_S", 60.0)
    path = tmp_path / "private" / "state.sqlite3"
    state = FileState(path)
    state.compare_and_swap("a", None, b"one", 60)
    with ThreadPoolExecutor(1) as threads, locked(path, "IMMEDIATE"):
        waits = threads.submit(state.compare_and_swap, "a", b"one", b"two", 60)
        time.sleep(0.2)
        assert value_of(state, "a") == b"one"
        assert not waits.done()
    assert waits.result()


def test_an_interrupted_swap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A swap that a signal ends half way leaves no lock and no change."""
    monkeypatch.setattr(f"{MODULE}._BUSY_S", 60.0)
    path = tmp_path / "private" / "state.sqlite3"
    state = FileState(path)
    state.compare_and_swap("a", None, b"one", 60)
    previous = signal.signal(signal.SIGUSR1, lambda *_: sys.exit(1))
    try:
        with locked(path, "IMMEDIATE") as holder, ThreadPoolExecutor(1) as threads:

            def interrupt() -> None:
                time.sleep(0.2)
                os.kill(os.getpid(), signal.SIGUSR1)  # Python acts on it when SQLite returns
                assert holder.stdin
                holder.stdin.close()

            def swap() -> None:
                threads.submit(interrupt)
                state.compare_and_swap("a", b"one", b"two", 60)

            with pytest.raises(SystemExit):
                swap()
    finally:
        signal.signal(signal.SIGUSR1, previous)
    monkeypatch.setattr(f"{MODULE}._BUSY_S", 0.1)
    assert FileState(path).compare_and_swap("a", b"one", b"three", 60)
    assert value_of(state, "a") == b"three"


def test_parent_and_child_lose_nothing(tmp_path: Path) -> None:
    """A child goes on with the file that its parent used before the fork, and loses nothing."""
    path = tmp_path / "private" / "state.sqlite3"
    script = f"""
import os, sys
from pathlib import Path
from {MODULE} import FileState

path = Path(sys.argv[1])
state = FileState(path)
state.compare_and_swap("a", None, b"one", 60)
heard, told = os.pipe(), os.pipe()
if os.fork() == 0:
    assert state.get("a")[0] == b"one"
    os.write(told[1], b"open")
    os.read(heard[0], 1)
    os._exit(0 if state.compare_and_swap("a", b"one", b"two", 60) else 1)
os.read(told[0], 4)
state.get("a")
del state
state = FileState(path)
assert state.get("a")[0] == b"one"
os.write(heard[1], b"x")
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
print(state.get("a")[0])
"""
    assert run(script, path) == "b'two'"


FORKS_BESIDE_THREADS = f"""
import gc, logging, os, sys, threading
from pathlib import Path
from {MODULE} import FileState, StateUnavailable

logging.basicConfig(stream=sys.stdout, format="%(message)s")
path = Path(sys.argv[1])
state = FileState(path)
is_open, may_end = threading.Event(), threading.Event()

def hold():
    state.compare_and_swap("a", None, b"one", 60)
    if sys.argv[2] == "idle":
        is_open.set()
        may_end.wait()
    else:
        with state._connection():
            is_open.set()
            may_end.wait()

def use_in_a_child(generations):
    if os.fork():
        return os.waitstatus_to_exitcode(os.wait()[1])
    if generations > 1:
        os._exit(use_in_a_child(generations - 1))
    gc.collect()
    try:
        for used in state, FileState(path):
            used.compare_and_swap("a", b"one", b"two", 60)
    except StateUnavailable:
        sys.stdout.flush()
        os._exit(3)
    os._exit(0)

thread = threading.Thread(target=hold)
thread.start()
is_open.wait()
beside_a_thread = [use_in_a_child(1), use_in_a_child(2)]
kept = state.get("a").value
may_end.set()
thread.join()
print(beside_a_thread, kept, use_in_a_child(1), state.get("a").value)
"""


def test_a_fork_beside_threads_that_use_the_state(tmp_path: Path) -> None:
    """A child does not use a file that another thread of its parent used during the whole fork.

    The parent goes on with the file, and a fork after the end of the thread works again.
    """
    path = tmp_path / "private" / "state.sqlite3"
    *logged, result = run(FORKS_BESIDE_THREADS, path, "at work").splitlines()
    refusal = (
        "The shared state is unavailable, because another thread kept the state file open when this"
        " process was forked. Fork the process before other threads use the store."
    )
    assert logged == [refusal] * 2
    assert result == "[3, 3] b'one' 0 b'two'"


def test_a_fork_beside_threads_that_have_used_the_state(tmp_path: Path) -> None:
    """A child and its children use the file, although idle threads of the parent had it open."""
    path = tmp_path / "private" / "state.sqlite3"
    assert run(FORKS_BESIDE_THREADS, path, "idle") == "[0, 0] b'two' 0 b'two'"


@pytest.mark.usefixtures("no_garbage")
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
            with pytest.raises(StateUnavailable):
                state.compare_and_swap("a", None, b"one", 60)
        assert open_files() <= before


@pytest.mark.usefixtures("no_garbage")
def test_a_failed_move_leaves_nothing_open(tmp_path: Path, impatient: None) -> None:
    """A foreign file in the place of a removed state file costs no descriptor."""
    path = tmp_path / "private" / "state.sqlite3"
    state = FileState(path)
    before = open_files()
    for _ in range(OPENINGS):
        assert state.compare_and_swap("a", None, b"one", 60)
        shutil.rmtree(path.parent)
        path.parent.mkdir(mode=0o700)
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE state (name TEXT, ends REAL)")
        db.close()
        with pytest.raises(StateUnavailable):
            state.get("a")
        shutil.rmtree(path.parent)
    assert open_files() <= before


FAILING_PROCESS = f"""
import os, resource, sqlite3, sys, tempfile
from pathlib import Path
import {MODULE} as module

if os.getuid() == 0:  # Root may write to a read-only file, so another user has to fail.
    os.setuid({NOBODY})
module.COOLDOWN_S = 0.0
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "private" / "state.sqlite3"
    if sys.argv[1] == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    else:
        module.FileState(path).compare_and_swap("a", None, b"one", 60)
        path.chmod(0o400)
    state = module.FileState(path)
    before = len(os.listdir("/proc/self/fd"))
    failures = 0
    for _ in range({OPENINGS}):
        try:
            state.compare_and_swap("a", None, b"two", 60)
        except module.StateUnavailable:
            failures += 1
    print(failures, len(os.listdir("/proc/self/fd")) - before)
"""


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_file_that_cannot_be_written_leaves_nothing_open(fault: str) -> None:
    """A full disk and a read-only file cost no descriptor, however often a caller tries."""
    assert run(FAILING_PROCESS, fault) == f"{OPENINGS} 0"


def test_a_file_that_is_removed(tmp_path: Path) -> None:
    """A process that still has a removed file open moves its values into a new file."""
    path = tmp_path / "private" / "state.sqlite3"
    state, other = FileState(path), FileState(path)
    assert state.compare_and_swap("a", None, b"one", 60)
    assert value_of(other, "a") == b"one"
    shutil.rmtree(path.parent)
    assert value_of(state, "a") == b"one"
    assert value_of(FileState(path), "a") == b"one"
    assert state.compare_and_swap("a", b"one", b"two", 60)
    assert value_of(other, "a") == value_of(FileState(path), "a") == b"two"


USES_A_REMOVED_FILE = f"""
import logging, os, sys, threading
from pathlib import Path
from {MODULE} import FileState, StateUnavailable

logging.basicConfig(stream=sys.stdout, format="%(message)s")
path = Path(sys.argv[1])
state = FileState(path)
barrier = threading.Barrier(5)
failures = []

def use(name):
    for number in range(20):
        barrier.wait()
        barrier.wait()
        try:
            for key in range(5):
                assert state.compare_and_swap(f"{{name}} {{number}} {{key}}", None, b"one", 60)
        except StateUnavailable:
            failures.append((name, number))

threads = [threading.Thread(target=use, args=(name,)) for name in "abcd"]
for thread in threads:
    thread.start()
for number in range(20):
    barrier.wait()  # No thread uses the file now.
    path.unlink(missing_ok=True)
    barrier.wait()
for thread in threads:
    thread.join()
lost = [
    key
    for name in "abcd"
    for key in (f"{{name}} {{number}} {{key}}" for number in range(20) for key in range(5))
    if state.get(key) is None
]
print(len(failures), len(lost))
"""


def test_a_file_that_is_removed_without_its_companions(tmp_path: Path) -> None:
    """Removing the main file alone stops no thread, ends no process and loses no value.

    SQLite keeps two companions of the file, whose names end with `-wal` and `-shm`.
    """
    printed = run(USES_A_REMOVED_FILE, tmp_path / "private" / "state.sqlite3").splitlines()
    assert printed[-1] == "0 0"
    assert set(printed[:-1]) == {"The state file was removed, so its values move to a new file."}


@pytest.mark.usefixtures("no_garbage")
def test_a_new_file_waits_for_its_lock(tmp_path: Path, impatient: None) -> None:
    """Only the holder of the lock creates a file, but an existing file opens without the lock."""
    path = tmp_path / "private" / "state.sqlite3"
    path.parent.mkdir(mode=0o700)
    before = open_files()
    with (path.parent / "state.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for _ in range(OPENINGS):
            with pytest.raises(StateUnavailable):
                FileState(path).get("a")
        assert not path.exists()
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert FileState(path).compare_and_swap("a", None, b"one", 60)
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert value_of(FileState(path), "a") == b"one"
    assert open_files() == before


def test_a_removed_file_brings_nothing_back(tmp_path: Path) -> None:
    """A value that was deleted after its file was removed stays deleted."""
    path = tmp_path / "private" / "state.sqlite3"
    state, other = FileState(path), FileState(path)
    state.compare_and_swap("a", None, b"one", 60)
    assert value_of(other, "a") == b"one"
    shutil.rmtree(path.parent)
    assert state.compare_and_swap("a", b"one", None, 0)
    assert value_of(other, "a") is None
    assert value_of(FileState(path), "a") is None


def test_a_file_that_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that holds the file delays the others for a second. Later calls fail at once."""
    path = tmp_path / "private" / "state.sqlite3"
    state = FileState(path)
    state.compare_and_swap("a", None, b"one", 60)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    begun = time.monotonic()

    def is_gone(_: int) -> bool:
        try:
            state.compare_and_swap("a", b"one", b"two", 60)
        except StateUnavailable:
            return True
        return False

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(is_gone, range(1000)))
    assert time.monotonic() - begun < 30
    holder.execute("ROLLBACK")
    holder.close()
    assert is_gone(0)
    rested(monkeypatch)
    assert state.compare_and_swap("a", b"one", b"two", 60)


def test_a_busy_file_while_the_process_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is about to end still waits for a busy file, for the requests under way."""
    path = tmp_path / "private" / "state.sqlite3"
    state = FileState(path)
    state.compare_and_swap("a", None, b"one", 60)
    monkeypatch.setattr(file_state, "_BUSY_S", 60.0)
    monkeypatch.setattr(clock, "_stopping", False)  # The old value comes back after the test.
    clock.interrupt_sleeps()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with ThreadPoolExecutor(1) as threads:
        swapped = threads.submit(state.compare_and_swap, "a", b"one", b"two", 60)
        wait([swapped], timeout=0.5)  # The thread has met the busy file meanwhile.
        holder.execute("ROLLBACK")
        holder.close()
        assert swapped.result()


def test_threads_get_by(tmp_path: Path) -> None:
    """Many threads change the file at the same time, and none of them finds it busy for long."""
    state = FileState(tmp_path / "private" / "state.sqlite3")
    meeting = threading.Barrier(32)
    state.get("a")

    def change(number: int) -> list[bool]:
        state.get("a")  # opens the connection of this thread
        meeting.wait(60)
        done = []
        for each in range(20):
            done.append(state.take("calls", 10_000).granted)
            done.append(state.compare_and_swap(f"{number} {each}", None, b"one", 60))
        return done

    with ThreadPoolExecutor(32) as threads:
        assert all(all(done) for done in threads.map(change, range(32)))
    assert len(state.keys("")) == 32 * 20 + 1


def test_a_window_changes_in_one_statement(tmp_path: Path) -> None:
    """A counted call is one statement that changes the file, so no thread waits inside of it."""
    path = tmp_path / "private" / "state.sqlite3"
    state = FileState(path)
    state.take("calls", 5)  # makes the window
    statements: list[str] = []
    state._thread.connection.db.set_trace_callback(statements.append)
    assert state.take("calls", 5).granted
    assert [each.split()[0] for each in statements] == ["INSERT", "SELECT"]
    assert [state.take("calls", 2).granted for _ in range(2)] == [False, False]
    assert {each.split()[0] for each in statements} == {"INSERT", "SELECT"}


def spoil(client: redis.Redis, key: str, kind: str) -> None:
    """Store a foreign value under this key, of the named kind."""
    if kind == "a list":
        client.rpush(key, "x")
    elif kind == "a text":
        client.set(key, b"\xff\xfe")
    else:
        client.hset(key, "epoch", b"\xff\xfe")


@pytest.mark.parametrize("kind", ["a list", "a hash"])
def test_a_value_of_another_type(redis: RedisServer, kind: str) -> None:
    """A value of another type in Redis is an empty text, and a swap can replace the value."""
    state = RedisState(RedisConnection(redis.url))
    spoil(redis.client, "a", kind)
    found = state.get("a")
    assert found is not None
    assert found.value == b""
    assert not state.compare_and_swap("a", None, b"one", 60)
    assert state.compare_and_swap("a", b"", b"one", 60)
    assert value_of(state, "a") == b"one"


@pytest.mark.parametrize("kind", ["a list", "a text", "a hash"])
def test_a_foreign_window(redis: RedisServer, kind: str) -> None:
    """A foreign value in the place of a window is replaced by a new window, as after a loss."""
    state = RedisState(RedisConnection(redis.url))
    spoil(redis.client, "calls", kind)
    granted = [state.take("calls", 2).granted for _ in range(3)]
    assert granted == [True, True, False]
    redis.client.delete("calls")
    spoil(redis.client, "calls", kind)
    assert not state.take("calls", 2, seen="0123").granted


@pytest.mark.parametrize(
    "name",
    ["began", "closed_until", "c{second}", "cnan", "c-1", "cx", "c", "fA", "lA", "lnan", "x"],
)
@pytest.mark.parametrize("value", [b"", b"\xff", b"nan", b"inf", b"1e999", b"-5", b"1.5", b"0x10"])
def test_garbage_in_a_window(redis: RedisServer, name: str, value: bytes) -> None:
    """Redis counts with the known members of a window, whatever the other members are."""
    state = RedisState(RedisConnection(redis.url))
    state.take("calls", 100)
    second = int(redis.client.time()[0])
    for at in range(second, second + 9):
        redis.client.hset("calls", name.format(second=at), value)
    assert [state.take("calls", 100, host="A").granted for _ in range(3)] == [True] * 3


def test_what_is_over_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and windows whose time is over are taken out of the file, some seconds later."""
    path = tmp_path / "private" / "state.sqlite3"
    state = FileState(path)
    for name in map(str, range(20)):
        state.compare_and_swap(name, None, b"one", 100)
        state.take(name, 5)
    after_two_minutes = clock.now() + 2 * SPAN_S + 1
    monkeypatch.setattr(clock, "now", lambda: after_two_minutes)
    state.compare_and_swap("a", None, b"one", 60)
    with closing(sqlite3.connect(path)) as db:
        counts = [
            db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("state", "windows", "calls")
        ]
    assert counts == [1, 0, 0]


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.mark.parametrize("fault", ["stopped", "halted"])
def test_redis_gone(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """A Redis that stops or hangs means StateUnavailable until it is back."""
    state = RedisState(RedisConnection(own_redis.url))
    state.compare_and_swap("a", None, b"one", 60)
    (own_redis.stop if fault == "stopped" else own_redis.halt)()
    begun = time.monotonic()
    with pytest.raises(StateUnavailable):
        state.get("a")
    assert time.monotonic() - begun < 10
    begun = time.monotonic()
    for _ in range(100):
        with pytest.raises(StateUnavailable):
            state.compare_and_swap("a", None, b"", 1)
    assert time.monotonic() - begun < 10
    (own_redis.start_again if fault == "stopped" else own_redis.go_on)()
    with pytest.raises(StateUnavailable):
        state.get("a")
    rested(monkeypatch)
    assert value_of(state, "a") == (None if fault == "stopped" else b"one")


def test_redis_emptied(redis: RedisServer) -> None:
    """An emptied Redis has nothing, and takes new values."""
    state = RedisState(RedisConnection(redis.url))
    state.compare_and_swap("a", None, b"one", 60)
    redis.client.flushall()
    assert value_of(state, "a") is None
    assert state.compare_and_swap("a", None, b"two", 60)
