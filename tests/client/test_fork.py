"""Tests of forks while other threads call."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import TOKEN
from ..helpers.raw_server import ScriptedServer
from ..helpers.redis_server import RedisServer
from .test_client_lifetime import keeps

FORKS = 40
CHILD_MOST_S = 20

# The script prints the error of each child that has one, and `hung` for a child that does not end.
FORKS_BESIDE_CALLS = f"""
import faulthandler, os, signal, sys, threading, time, warnings
from flask_ecwid import EcwidClient, Settings
from flask_ecwid.errors import EcwidError

warnings.simplefilter("ignore")
url, redis_url = sys.argv[1:]
settings = Settings(
    store_id="1003", token="{TOKEN}", api_url=url, calls_per_minute=1_000_000, redis_url=redis_url
)
client = EcwidClient(settings)
client.get_customer(7)
ends = threading.Event()

def call():
    number = 0
    while not ends.is_set():
        number += 1
        try:
            client.get_customer(number % 3 + 1)
        except EcwidError:
            pass

def call_in_a_child():
    faulthandler.dump_traceback_later({CHILD_MOST_S - 5})
    try:
        client.get_customer(7)
        found = "good"
    except EcwidError as exc:
        found = type(exc).__name__
    os.write(1, f"{{found}}\\n".encode())
    os._exit(0)

threads = [threading.Thread(target=call, daemon=True) for _ in range(16)]
for thread in threads:
    thread.start()
children = {{}}
for _ in range({FORKS}):
    time.sleep(0.02)
    child = os.fork()
    if child == 0:
        call_in_a_child()
    children[child] = time.monotonic() + {CHILD_MOST_S}
ends.set()
for child, until in children.items():
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.write(1, b"hung\\n")
            break
        time.sleep(0.01)
for thread in threads:
    thread.join({CHILD_MOST_S})
os._exit(0)
"""


@pytest.mark.parametrize("where", ["file", "redis"])
def test_forks_while_threads_call(tmp_path: Path, redis: RedisServer, where: str) -> None:
    """A child that is forked while threads call can make calls, with the shared state."""
    with ScriptedServer(keeps) as server:
        done = subprocess.run(
            [
                *(sys.executable, "-c", FORKS_BESIDE_CALLS),
                *(server.url, redis.url if where == "redis" else ""),
            ],
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert done.stdout.split() == ["good"] * FORKS, done.stderr
    assert done.stderr == ""  # No child does without the shared state.


FORKS_BESIDE_LOCKS = """
import os, signal, sys, threading, time
from flask_ecwid import clock

locks = [clock.Lock() for _ in range(20)]
pairs = [[0, 0] for _ in locks]

def change(number):
    while True:
        lock, pair = locks[number % 20], pairs[number % 20]
        with lock:
            pair[0] += 1
            time.sleep(0.0001)  # Another thread can fork here.
            pair[1] += 1
        clock.Lock()
        number += 1

for number in range(8):
    threading.Thread(target=change, args=(number,), daemon=True).start()
for _ in range(100):
    time.sleep(0.001)
    child = os.fork()
    if child == 0:
        good = all(lock.acquire(timeout=5) for lock in locks) and clock.Lock().acquire(timeout=5)
        os._exit(0 if good and all(first == second for first, second in pairs) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
os._exit(0)
"""


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_locks_in_a_child() -> None:
    """Each lock of the package is free in a child, and each guarded value is consistent."""
    run(FORKS_BESIDE_LOCKS)


FORK_UNDER_A_LOCK = """
import os, signal
from flask_ecwid import clock

lock, other = clock.Lock(), clock.Lock()

def fork(*_):
    global child
    child = os.fork()

signal.signal(signal.SIGALRM, fork)
with lock:
    os.kill(os.getpid(), signal.SIGALRM)
if child == 0:
    good = lock.acquire(timeout=5) and other.acquire(timeout=5)
    os._exit(0 if good else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), lock.locked(), other.locked())
"""


def test_a_fork_of_a_thread_that_holds_a_lock() -> None:
    """A fork ends even if a signal handler forks while its thread holds a lock."""
    assert run(FORK_UNDER_A_LOCK) == "0 False False\n"


FORK_UNDER_GEVENT = """
from gevent import monkey; monkey.patch_all()
import os
import gevent
from flask_ecwid import clock

lock = clock.Lock()

def use(number):
    for _ in range(20):
        with lock:
            pass
        gevent.sleep(0.001)

greenlets = [gevent.spawn(use, number) for number in range(5)]
for _ in range(5):
    gevent.sleep(0.002)
    child = os.fork()
    if child == 0:
        os._exit(0 if lock.acquire(timeout=5) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
gevent.joinall(greenlets, raise_error=True)
"""


def test_a_fork_under_gevent() -> None:
    """A greenlet can fork beside greenlets that use locks."""
    pytest.importorskip("gevent")
    run(FORK_UNDER_GEVENT)


def test_a_server_that_forks_by_itself() -> None:
    """A child whose server has not announced the fork can go on."""
    run("""
import os
from flask_ecwid import clock
from flask_ecwid.storage import connections
lock = clock.Lock()
clock._after_fork()
connections._after_fork_in_child()
assert lock.acquire(timeout=5)
with connections.at_work():
    pass
""")
