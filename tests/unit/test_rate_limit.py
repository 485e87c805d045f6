"""The rate limit of calls to Ecwid, over threads, mounts, processes and hosts."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from flask_ecwid import clock
from flask_ecwid.errors import BudgetSpent
from flask_ecwid.sandbox import Fault
from flask_ecwid.storage.file_state import FileState
from flask_ecwid.storage.memory_state import MemoryState
from flask_ecwid.storage.opening import Storage
from flask_ecwid.storage.redis_connection import RedisConnection
from flask_ecwid.storage.redis_state import RedisState
from flask_ecwid.storage.state import Taken
from flask_ecwid.throttling.rate_limit import Counters, RateLimit, Remaining

from ..conftest import ROOT, environment, free_port, run_python
from ..helpers.ordered_store import OrderedStore
from ..helpers.redis_server import RedisServer

CANARY = "canary@example.com"
POLICY = re.compile(r'"calls";q=([0-9]+);w=60')
LIMIT = re.compile(r'"calls";r=([0-9]+);t=([0-9]+)')


def remaining_in(response: TestResponse) -> Remaining:
    policy = POLICY.fullmatch(response.headers["RateLimit-Policy"])
    limit = LIMIT.fullmatch(response.headers["RateLimit"])
    assert policy is not None
    assert limit is not None
    return Remaining(int(policy[1]), int(limit[1]), int(limit[2]))


def test_a_call_beyond_the_rate_limit(ordered: OrderedStore) -> None:
    """A call beyond the rate limit is not sent, and the caller gets a 429 with Retry-After."""
    api = ordered.api(ECWID_CALLS_PER_MINUTE=3)
    for _ in range(3):
        assert api.get("/customers").status_code == 200
    for response in (api.get("/customers"), api.post("/add_customer", {"email": CANARY})):
        body = response.get_json()
        assert response.status_code == 429
        assert body["type"] == "urn:flask-ecwid:problem:budget-spent"
        assert (body["origin"], body.get("executed", "no")) == ("service", "no")
        assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert ordered.calls() == 3


def test_many_threads_share_the_rate_limit(ordered: OrderedStore) -> None:
    """Many threads together send exactly as many calls as the rate limit allows."""
    api = ordered.api(ECWID_CALLS_PER_MINUTE=20)
    with ThreadPoolExecutor(16) as threads:
        asked = threads.map(lambda n: api.get(f"/customers?offset={n}").status_code, range(100))
        assert sorted(asked) == [200] * 20 + [429] * 80
    assert ordered.calls() == 20


def test_every_response_names_the_rate_limit(ordered: OrderedStore) -> None:
    """Every response of an operation names the rate limit and the calls that remain."""
    api = ordered.api(ECWID_CALLS_PER_MINUTE=10)
    before_the_first_call = remaining_in(api.get("/customers?limit=0"))
    assert before_the_first_call == Remaining(10, 10, 0)
    for left in (9, 8, 7):
        limit, remaining, reset_s = remaining_in(api.get("/customers"))
        assert (limit, remaining) == (10, left)
        assert 0 < reset_s <= 60
    assert remaining_in(api.get("/customer/5")).remaining == 6  # a 404
    for path in ("/nothing", "/openapi.json", "/ui/"):
        assert "RateLimit" not in api.get(path).headers


@pytest.mark.usefixtures("no_waiting")
def test_retries_count_and_cached_responses_do_not(ordered: OrderedStore) -> None:
    """Retries and searches count against the rate limit, and a cached response does not."""
    api = ordered.api(ECWID_CALLS_PER_MINUTE=100, ECWID_CACHE_TTL_S=60)
    ordered.orders.inject(Fault("status", operation="get_customer", status=500, times=1))
    assert remaining_in(api.get("/customer/172890169")).remaining == 98
    assert remaining_in(api.get("/customer/172890169")).remaining == 98
    ordered.orders.inject(Fault("reset", operation="add_customer"))
    assert remaining_in(api.post("/add_customer", {"email": CANARY})).remaining == 94


_numbers = count()


class Host:
    """A host, whose processes share a file. With Redis, the hosts share Redis."""

    def __init__(self, folder: Path, redis: RedisServer | None = None, *, patient: bool = False):
        """Name the file.

        Args:
            folder: A folder of this host alone.
            redis: The Redis of all hosts.
            patient: Wait long for Redis, because a busy machine may need longer than the plugin
                waits. A test of failures must not do so.
        """
        self.folder = folder / "own"
        self._url = redis and redis.url + "?socket_timeout=20&socket_connect_timeout=20" * patient
        folder.mkdir(exist_ok=True)

    def process(self, per_minute: int = 40, hosts: int = 1) -> RateLimit:
        """Return the rate limit of a new process."""
        return self.mount(f"process {next(_numbers)}", per_minute, hosts)

    def mount(self, process: str, per_minute: int = 40, hosts: int = 1) -> RateLimit:
        """Return the rate limit of a mount or client of the process with this name."""
        host = FileState(self.folder / "state.sqlite3")
        redis = RedisConnection(self._url) if self._url else None
        storage = Storage(RedisState(redis) if redis else host, host, redis)
        return RateLimit(per_minute, hosts, Counters(storage, process), "name")

    def break_file(self) -> None:
        """Make the file useless to the processes that have it open, and to new ones."""
        path = self.folder / "state.sqlite3"
        for each in self.folder.glob("state.sqlite3*"):
            each.unlink()
        path.mkdir(parents=True)


class Later:
    """A function that moves the monotonic clock forward."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._by = 0.0
        now = clock.now
        monkeypatch.setattr(clock, "now", lambda: now() + self._by)

    def __call__(self, seconds: float) -> None:
        self._by += seconds


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    return Later(monkeypatch)


@pytest.fixture(params=["file", "redis"])
def host(request: pytest.FixtureRequest, tmp_path: Path, redis: RedisServer) -> Host:
    """Return a host without Redis, and then a host with Redis."""
    return Host(tmp_path / "host", redis if request.param == "redis" else None, patient=True)


def spend(rate_limits: list[RateLimit], times: int) -> int:
    """Return how many of `times` calls the rate limits allow in turn."""
    made = 0
    for number in range(times):
        try:
            rate_limits[number % len(rate_limits)].acquire()
        except BudgetSpent:
            continue
        made += 1
    return made


def spend_at_once(rate_limits: list[RateLimit], times: int) -> int:
    """Return how many of `times` calls the rate limits allow to 16 threads."""
    with ThreadPoolExecutor(16) as threads:
        return sum(
            threads.map(lambda n: spend([rate_limits[n % len(rate_limits)]], 1), range(times))
        )


def test_mounts_of_a_process_share(ordered: OrderedStore) -> None:
    """All mounts and clients of a process with one token share the rate limit."""
    apis = [ordered.api(ECWID_CALLS_PER_MINUTE=10) for _ in range(3)]
    statuses = [api.get("/customers").status_code for _ in range(5) for api in apis]
    assert statuses == [200] * 10 + [429] * 5


def test_threads_and_clients_share(host: Host) -> None:
    """Threads of several clients together get exactly the limit, in the file and in Redis."""
    assert spend_at_once([host.process() for _ in range(3)], 100) == 40


def test_a_call_counts_for_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call counts for a minute and the second that it may need to reach Ecwid."""
    for number, begun in enumerate((1000.0, 1000.999)):
        rate_limit = Host(tmp_path / str(number)).process(1)
        for passed_s, made in ((0.0, 1), (59.0, 0), (61.0, 0), (62.0, 1)):
            monkeypatch.setattr(clock, "now", lambda at=begun + passed_s: at)
            assert spend([rate_limit], 5) == made


@pytest.mark.parametrize("step_s", [-3600, -61, 45, 61, 86_400])
def test_wall_clocks_change_nothing(
    host: Host, step_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wall clock that is stepped, or that differs between hosts, changes no count."""
    processes = [host.process(), host.process()]
    assert spend(processes, 20) == 20
    wall = clock.wall
    monkeypatch.setattr(clock, "wall", lambda: wall() + step_s)
    processes.append(host.process())
    assert spend(processes, 100) == 20
    monkeypatch.setattr(clock, "wall", wall)
    assert spend(processes, 100) == 0


def test_a_changed_limit(host: Host) -> None:
    """The calls that were made under the old limit count under the new limit."""
    assert spend([host.process(20)], 30) == 20
    assert spend([host.process(8)], 30) == 0
    assert spend([host.process(40)], 60) == 20
    assert spend([host.process(40), host.process(20)], 60) == 0


def test_hosts_divide_the_limit_without_redis(tmp_path: Path) -> None:
    """Without Redis, each host gets the limit divided by the hosts, and at least one call."""
    hosts = [Host(tmp_path / str(number)) for number in range(3)]
    assert [spend([host.process(20, 3)], 30) for host in hosts] == [6, 6, 6]
    assert hosts[0].process(20, 3).remaining().limit == 6
    assert spend([Host(tmp_path / "other").process(1, 3)], 5) == 1


FORKS = """
import os, sys
from tests.unit.test_rate_limit import Host, Path, spend
process = Host(Path(sys.argv[1])).process()
made = spend([process], 4)
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        os._exit(spend([process], 40))
    children.append(child)
print(made + sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def test_forked_processes_share(tmp_path: Path) -> None:
    """Forked processes and their parent together get exactly the limit."""
    result = run_python(FORKS.replace("sys.argv[1]", repr(str(tmp_path / "host"))))
    assert result.stdout == "40\n", result.stderr


SPENDS = """
import os, time
from tests.unit.test_rate_limit import BudgetSpent, Host, Path
process = Host(Path(FOLDER)).process()
made = os.open(MADE, os.O_WRONLY | os.O_APPEND)
while True:
    try:
        process.acquire()
    except BudgetSpent:
        break
    os.write(made, b".")
    time.sleep(0.01)
"""


def test_killed_processes_share(tmp_path: Path) -> None:
    """Processes that are killed and restarted together get exactly the limit."""
    made = tmp_path / "made"
    made.touch()
    program = SPENDS.replace("FOLDER", repr(str(tmp_path / "host"))).replace(
        "MADE", repr(str(made))
    )
    for calls in (8, 16, 24, 1000):
        process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=environment())
        while made.stat().st_size < calls and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    # A process may have been killed after the counting of a call, and before its write.
    assert 37 <= made.stat().st_size <= 40


# The file of the host fails


def test_a_file_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: Later
) -> None:
    """If the host has no usable file, all clients of each worker share its part in memory."""
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    host = Host(tmp_path / "host")
    host.break_file()
    processes = [host.process(), host.process()]
    assert spend(processes, 50) == 10
    later(62)
    monkeypatch.setenv("GUNICORN_ECWID_WORKERS", "1000")
    assert spend(processes, 50) == 1


def test_a_file_that_fails(tmp_path: Path, later: Later) -> None:
    """A process whose file fails makes no call for a minute, because the file knew the calls."""
    host = Host(tmp_path / "host")
    process = host.process()
    assert spend([process], 1) == 1
    host.break_file()
    later(1)  # The process looks at the file again.
    assert spend([process], 50) == 0
    later(60)
    assert spend([process], 50) == 0
    later(2)
    assert spend([process], 50) == 40


def test_a_file_that_others_have_used(tmp_path: Path, later: Later) -> None:
    """A process that has not used the file makes no call while the file fails.

    Another process may have spent the limit in the file.
    """
    host = Host(tmp_path / "host")
    assert spend([host.process()], 50) == 40
    new = host.process()
    (host.folder / "state.sqlite3").write_bytes(b"no database" * 100)
    assert spend([new], 50) == 0
    later(61)
    assert spend([new], 50) == 0
    later(1)
    assert spend([new], 50) == 40


def test_a_file_that_can_be_used_at_last(tmp_path: Path, later: Later) -> None:
    """The calls that a process has counted in memory count also when the file can be used."""
    host = Host(tmp_path / "host")
    host.break_file()
    process = host.process()
    assert spend([process], 50) == 40
    (host.folder / "state.sqlite3").rmdir()
    later(6)  # The process tries the file again.
    assert spend([process], 50) == 0
    later(63)
    assert spend([process], 50) == 40


# With Redis


def test_a_new_process_knows_the_hosts(
    own_redis: RedisServer, tmp_path: Path, later: Later
) -> None:
    """A process that finds no Redis knows from the host's file how many hosts there are."""
    machines = [Host(tmp_path / f"host{number}", own_redis) for number in range(2)]
    processes = [machine.process() for machine in machines]
    for _ in range(2):
        spend(processes, 2)
        let_pass(own_redis, later, 63)
    assert spend(processes, 2) == 2
    own_redis.stop()
    made = spend([machine.process() for machine in machines], 100)
    own_redis.start_again()
    assert made == 10


def test_an_idle_process_knows_the_hosts(
    own_redis: RedisServer, tmp_path: Path, later: Later
) -> None:
    """A process that was idle when a host came knows of the host when Redis fails."""
    first, second = (Host(tmp_path / name, own_redis, patient=True) for name in ("a", "b"))
    idle, busy, new = first.process(), first.process(), second.process()
    assert spend([idle, new, busy], 3) == 3
    let_pass(own_redis, later, 63)
    own_redis.stop()
    made = spend([idle], 100)
    own_redis.start_again()
    assert made == 5


def test_a_new_process_finds_an_emptied_redis(
    redis: RedisServer, tmp_path: Path, later: Later
) -> None:
    """A process that finds an emptied Redis knows from the host's file how many hosts there are."""
    machines = [Host(tmp_path / f"host{number}", redis, patient=True) for number in range(2)]
    processes = [machine.process() for machine in machines]
    for _ in range(2):
        spend(processes, 2)
        let_pass(redis, later, 63)
    assert spend(processes, 2) == 2
    redis.client.flushall()
    assert spend(processes[:1], 1) == 1  # This call notices the loss, and takes from the reserve.
    assert spend([machines[0].process()], 100) == 4


def test_another_process_of_a_new_host(redis: RedisServer, tmp_path: Path) -> None:
    """All processes of a new host get no reserve for a minute, although Redis was emptied."""
    old, new = (Host(tmp_path / name, redis, patient=True) for name in ("old", "new"))
    assert spend([old.process()], 100) == 40
    knows = new.process()
    assert spend([knows], 1) == 0
    redis.client.flushall()
    assert spend([knows], 1) == 0  # This call notices the loss.
    assert spend([new.process()], 100) == 0


def test_the_file_knows_the_hosts_for_hours(
    own_redis: RedisServer, tmp_path: Path, later: Later
) -> None:
    """The host's file knows the number of hosts for as long as Redis sees the hosts."""
    machines = [Host(tmp_path / f"host{number}", own_redis, patient=True) for number in range(2)]
    processes = [machine.process() for machine in machines]
    for _ in range(4):
        assert spend(processes, 4) == 4
        let_pass(own_redis, later, 40 * 60)
    own_redis.stop()
    made = spend([machine.process() for machine in machines], 100)
    own_redis.start_again()
    assert made == 10


def known_hosts(
    redis: RedisServer, folder: Path, later: Later, count: int = 2, hosts: int = 2
) -> list[RateLimit]:
    """Return two processes of each host. The hosts have known each other for over a minute."""
    machines = [Host(folder / f"host{number}", redis) for number in range(count)]
    processes = [machine.process(hosts=hosts) for machine in machines for _ in range(2)]
    for _ in range(2):
        assert spend(processes, len(processes)) == len(processes)
    let_pass(redis, later, 63)
    return processes


def let_pass(redis: RedisServer, later: Later, seconds: int) -> None:
    later(seconds)
    redis.age(seconds)


def test_hosts_share_in_redis(redis: RedisServer, tmp_path: Path, later: Later) -> None:
    """Hosts that share Redis together get exactly the limit, also if the settings name fewer."""
    for hosts in (1, 2):
        redis.client.flushall()
        folder = tmp_path / str(hosts)
        folder.mkdir()
        assert spend_at_once(known_hosts(redis, folder, later, hosts=hosts), 160) == 40


def test_a_new_host(redis: RedisServer, tmp_path: Path, later: Later) -> None:
    """A host that is new beside others gets no reserve for a minute, and then its part."""
    old, new = (Host(tmp_path / name, redis, patient=True).process() for name in ("old", "new"))
    assert spend([old], 100) == 40
    assert spend([new], 100) == 0
    let_pass(redis, later, 63)
    assert spend([old], 1) == 1  # This call learns of the other host.
    assert (spend([new], 100), spend([old], 100)) == (34, 5)


def test_no_token_in_redis(ordered: OrderedStore, redis: RedisServer) -> None:
    """No name in Redis contains the token or the store."""
    ordered.api(ECWID_REDIS_URL=redis.url).get("/customers")
    names = b"".join(redis.client.scan_iter())
    assert b"secret" not in names
    assert b"1003" not in names


@pytest.fixture(scope="module")
def _own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def own_redis(_own_redis: RedisServer) -> RedisServer:
    """Return an empty Redis that a test may stop, if the test starts it again."""
    _own_redis.client.flushall()
    return _own_redis


# Each fault of Redis has a beginning and an end.
FAULTS: dict[str, tuple[Callable[[RedisServer], object], Callable[[RedisServer], object]]] = {
    "killed": (RedisServer.stop, RedisServer.start_again),
    "halted": (RedisServer.halt, RedisServer.go_on),
    "emptied": (lambda redis: redis.client.flushall(), lambda redis: redis.client.flushall()),
    "read-only": (
        lambda redis: redis.client.replicaof("127.0.0.1", str(free_port())),
        lambda redis: redis.client.replicaof("NO", "ONE"),
    ),
}


@pytest.mark.parametrize("hosts", [1, 2, 3])
@pytest.mark.parametrize("before", [0, 12, 29, 60])
@pytest.mark.parametrize("fault", FAULTS)
def test_redis_fails(
    own_redis: RedisServer, tmp_path: Path, later: Later, fault: str, before: int, hosts: int
) -> None:
    """Before, during and after a failure of Redis, all hosts together never exceed the limit.

    Some calls go on, unless the hosts had used their reserve. A minute after the failure, the hosts
    get the whole limit again. The settings may name fewer hosts than there are.
    """
    processes = known_hosts(own_redis, tmp_path, later, hosts, hosts=min(hosts, 2))
    made = spend(processes, before)
    begin, end = FAULTS[fault]
    begin(own_redis)
    try:
        during = spend(processes, 100)
    finally:
        end(own_redis)
    later(6)  # The plugin tries Redis again.
    after = spend(processes, 100)
    assert made + during + after <= 40
    assert during > 0 or before == 60
    let_pass(own_redis, later, 63)
    known = spend(processes, len(processes))  # In an emptied Redis, the hosts are new once more.
    let_pass(own_redis, later, 63)
    assert known == len(processes)
    assert spend(processes, 100) == 40 - 10 % hosts


def test_redis_is_slow(redis: RedisServer, tmp_path: Path) -> None:
    """The rate limit waits for a slow Redis that replies in time, and all processes count there."""
    host = Host(tmp_path / "host", redis)
    processes = [host.process(), host.process()]
    redis.client.client_pause(100)
    assert spend(processes, 1) == 1
    assert sum(int(count) for count in counts_in(redis)) == 1


def counts_in(redis: RedisServer) -> list[bytes]:
    """Return the counts of the window in Redis."""
    members: dict[Any, Any] = redis.client.hgetall("name")
    return [value for name, value in members.items() if re.fullmatch(b"c[0-9]+", name)]


def test_redis_is_emptied_again_and_again(redis: RedisServer, tmp_path: Path) -> None:
    """No process exceeds the limit because Redis loses its data again and again."""
    host = Host(tmp_path / "host", redis, patient=True)
    processes = [host.process(), host.process()]
    made = spend(processes, 2)
    for _ in range(30):
        redis.client.flushall()
        made += spend(processes, 2)
    assert made == 2 + 10  # The reserve is all that is left.


def test_an_idle_mount_notices_that_redis_has_lost_calls(
    redis: RedisServer, tmp_path: Path
) -> None:
    """A mount that was idle knows the epochs that another mount of its process has seen."""
    host = Host(tmp_path / "a", redis, patient=True)
    busy, idle = host.mount("the process"), host.mount("the process")
    assert spend([busy], 100) == 40
    redis.client.flushall()
    assert spend([idle], 100) == 0


class _Overtaken(MemoryState):
    """A Redis that loses its windows while a call of another thread is on its way."""

    def __init__(self, overtake: Callable[[], object]) -> None:
        super().__init__()
        self.overtake: Callable[[], object] | None = overtake

    def take(self, key: str, limit: int, *, host: str = "", seen: str = "") -> Taken:
        overtake, self.overtake = self.overtake, None
        if overtake:
            overtake()
            self._windows.clear()
        return super().take(key, limit, host=host, seen=seen)


def test_redis_is_emptied_while_the_first_call_is_on_its_way() -> None:
    """A process whose threads got two epochs at once tells Redis that calls were lost."""
    made = []
    redis = _Overtaken(lambda: made.append(spend([process], 10)))
    storage = Storage(redis, MemoryState(), None)
    counters = Counters(storage, f"process {next(_numbers)}")
    process = RateLimit(40, 1, counters, "name")
    assert spend([process], 1) == 1
    assert made == [10]
    assert spend([process], 100) == 10  # the reserve


def test_redis_is_emptied_under_many_threads(
    redis: RedisServer, tmp_path: Path, later: Later
) -> None:
    """All threads of all hosts keep to the limit when Redis loses its data under them."""
    processes = known_hosts(redis, tmp_path, later)
    with ThreadPoolExecutor(1) as other:
        spending = other.submit(spend_at_once, processes, 400)
        while not counts_in(redis):
            time.sleep(0.001)
        for _ in range(5):
            redis.client.flushall()
    assert 0 < spending.result() + spend_at_once(processes, 100) <= 40


def test_bulk(host: Host) -> None:
    """A bulk read may use half of the rate limit, and learns how long to wait."""
    process = host.process()
    waits = [process.acquire_bulk() for _ in range(21)]
    assert waits[:-1] == [0.0] * 20
    assert 1 <= waits[-1] <= 62
    assert spend([process], 100) == 40  # Bulk work counts its calls once more, as all calls.
