"""The long runs. Each run returns why its promise is broken, or an empty text, and its figures.

The runs keep what only real processes show, and tests/simulation shows the rest.
"""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis as redis_library

from ..conftest import ROOT, TOKEN
from ..helpers.redis_server import RedisServer
from .freshness import freshness, freshness_with_redis
from .isolation import isolation, isolation_with_redis
from .mirror import mirror, mirror_with_postgresql
from .refused_stores import refused_stores
from .services import (
    STORE,
    Ecwid,
    Plugin,
    Repeated,
    ask,
    at_a_rate,
    hosts,
    on_host,
    plugin,
    status_of,
)
from .steady import steady
from .verdict import Figures, Outcome, why

IN_USE = "409 idempotency-key-in-use"
LIMIT = 120  # The calls a minute of the runs about the rate limit.


def kills(scale: float, redis_url: str = "") -> Outcome:
    """Create 1,500 customers with keys while a random worker is killed with -9 every 2 s."""
    wanted = max(100, int(1500 * scale))
    with hosts() as [host], Ecwid(unique_emails=False) as ecwid:
        # Calls are so slow that each killed worker has some under way, executed or not.
        ecwid.fail(
            {"kind": "slow", "method": "POST", "seconds": 0.2, "probability": 0.5},
            {"kind": "slow", "method": "POST", "seconds": 0.2, "after": True},
        )
        with (
            plugin(host, ecwid.settings(ECWID_REDIS_URL=redis_url), workers=4) as served,
            Repeated(2, served.kill_a_worker) as killing,
        ):
            ids = _created_until_done(served, wanted, per_second=30)
        report = ecwid.report()
    lost = [tag for tag, id in ids.items() if report["created"].get(tag, [None])[0] != int(id)]
    figures = {
        "creations": wanted,
        "killed": killing.count,
        "responses": len(ids),
        "lost": len(lost) + wanted - len(ids),
        "doubled": len(report["doubled"]),
    }
    return why(
        (not killing.count, "no worker was killed"),
        (figures["lost"], "customers of a response are lost"),
        (figures["doubled"], "customers are doubled"),
    ), figures


def kills_with_redis(scale: float) -> Outcome:
    """Run `kills` with the keys in Redis."""
    with RedisServer() as redis:
        return kills(scale, redis.url)


def same_key(scale: float) -> Outcome:
    """Send the same key from 50 threads, 100 times, to 4 workers."""
    rounds = max(5, int(100 * scale))
    statuses: Counter[str] = Counter()
    differing = 0
    with hosts() as [host], Ecwid(unique_emails=False) as ecwid:
        with plugin(host, ecwid.settings(), workers=4) as served, ThreadPoolExecutor(50) as threads:
            for number in range(rounds):
                key, tag = str(uuid.uuid4()), f"same-{number}"
                barrier = threading.Barrier(50)

                def create(key: str = key, tag: str = tag, barrier: Any = barrier) -> Any:
                    barrier.wait()
                    return _asked_to_create(served, key, tag)

                responses = [each.result() for each in [threads.submit(create) for _ in range(50)]]
                responses.append(_created(served, key, tag))
                statuses.update(map(status_of, responses))
                differing += (
                    len({a.json()["data"]["id"] for a in responses if a is not None and a.ok}) > 1
                )
        created = ecwid.report()["created"]
    creations = sum(map(len, created.values()))
    figures = {"rounds": rounds, "creations": creations, "statuses": dict(statuses)}
    return why(
        (differing, "one key has two ids"),
        (creations != rounds, "not one creation for each key"),
        (set(statuses) - {"200", IN_USE}, "another status than 200 and 409"),
    ), figures


def reloads(scale: float) -> Outcome:
    """Reload 12 times under load, without a failed request."""
    times = max(2, int(12 * scale))
    with (
        hosts() as [host],
        Ecwid(customers=200) as ecwid,
        plugin(host, ecwid.settings(), workers=2) as served,
    ):
        done = threading.Event()

        def reload() -> None:
            for _ in range(times):
                time.sleep(3)
                served.reload()
            done.set()

        threading.Thread(target=reload).start()
        url = f"{served.url}/customers?limit=5"
        statuses = Counter(
            at_a_rate(40, 3.0 * times + 4, lambda number: status_of(ask("GET", url)))
        )
        assert done.wait(60)
        without_file = served.logged("is unavailable")
    requests = sum(statuses.values())
    failed = requests - statuses["200"]
    figures = {
        "reloads": times,
        "requests": requests,
        "statuses": dict(statuses),
        "without file": without_file,
    }
    return why((failed, f"{failed} requests failed")), figures


def rate_limit(scale: float) -> Outcome:
    """Send four times the rate limit to two gunicorns of a host for 80 s.

    Workers are killed and gunicorns are reloaded meanwhile.
    """
    seconds = max(75.0, 80 * scale)
    with hosts() as [host], Ecwid(customers=2000) as ecwid, ExitStack() as stack:
        settings = ecwid.settings(ECWID_CALLS_PER_MINUTE=str(LIMIT))
        both = [stack.enter_context(plugin(host, settings, workers=2)) for _ in range(2)]
        killing = stack.enter_context(_each_in_turn(2, both, Plugin.kill_a_worker))
        reloading = stack.enter_context(_each_in_turn(9, both, Plugin.reload))
        statuses = _many_reads(both, seconds, ecwid.customers())
        events = {"killed": killing.count, "reloads": reloading.count}
        return _judge_rate(ecwid, events, statuses)


def rate_limit_with_redis(scale: float) -> Outcome:
    """Send four times the rate limit to gunicorns of two hosts with Redis for 160 s.

    Redis is read-only, emptied, killed and started again meanwhile, and workers are killed.
    """
    del scale  # The counts of Redis take minutes to come back.
    with (
        RedisServer() as redis,
        hosts(2) as two,
        Ecwid(customers=2000) as ecwid,
        ExitStack() as stack,
    ):
        settings = ecwid.settings(
            ECWID_CALLS_PER_MINUTE=str(LIMIT), ECWID_REDIS_URL=redis.url, ECWID_HOSTS="2"
        )
        both = [stack.enter_context(plugin(host, settings, workers=2)) for host in two]
        steps: list[tuple[float, Any]] = [
            (15, lambda: redis.client.replicaof("127.0.0.1", "1")),  # Then writes are refused.
            (25, lambda: redis.client.replicaof("NO", "ONE")),
            (40, redis.client.flushall),
            (110, redis.stop),
            (120, redis.start_again),
        ]
        stack.enter_context(_Steps(steps))
        killing = stack.enter_context(_each_in_turn(7, both, Plugin.kill_a_worker))
        reloading = stack.enter_context(_each_in_turn(31, both, Plugin.reload))
        statuses = _many_reads(both, 160, ecwid.customers())
        events = {"steps of Redis": len(steps), "killed": killing.count, "reloads": reloading.count}
        return _judge_rate(ecwid, events, statuses)


def revoked(scale: float) -> Outcome:
    """Revoke a token under load for 60 s, and accept the token again."""
    del scale  # Ecwid counts the refused calls of a minute.
    with hosts() as [host], Ecwid(customers=100) as ecwid:
        with plugin(host, ecwid.settings(), workers=4) as served:
            moments: list[float] = []
            back: list[float] = []

            def read(number: int) -> str:
                if number == 100:
                    moments.append(ecwid.order("refuse", store=STORE, token=TOKEN))
                if number == 1300:
                    ecwid.order("accept", store=STORE, token=TOKEN)
                    moments.append(time.monotonic())
                begun = time.monotonic()
                status = status_of(ask("GET", f"{served.url}/customers?offset={number % 100}"))
                if status == "200" and len(moments) == 2 and begun > moments[1]:
                    back.append(time.monotonic())
                return status

            statuses = Counter(at_a_rate(20, 105, read))
        report = ecwid.report()
    figures = {
        "refused calls": report["refused"],
        "most in 60 s": report["most_refused_in_60_s"],
        "back after s": round(min(back) - moments[1], 1) if back else "never",
        "statuses": dict(statuses),
    }
    return why(
        (not report["refused"], "no call was refused"),
        (report["most_refused_in_60_s"] > 20, "Ecwid would block the token"),
        (not back or min(back) - moments[1] > 35, "service is not back within 35 s"),
    ), figures


def export(scale: float) -> Outcome:
    """Export 10,000 customers with a kill -9 in the middle, while 15 % of the calls fail."""
    count = max(500, int(10_000 * scale))
    with hosts() as [host], Ecwid(customers=count) as ecwid:
        ecwid.fail(
            {"kind": "cut", "probability": 0.02},
            {"kind": "cut", "after": True, "probability": 0.02},
            {"kind": "truncate", "probability": 0.02},
            {"kind": "status", "status": 500, "probability": 0.04},
            {"kind": "status", "status": 429, "retry_after": 1, "probability": 0.02},
            {"kind": "slow", "seconds": 1, "probability": 0.03},
        )
        path = host / "all.jsonl"
        command = ["flask", "--app", "wsgi", "ecwid", "export", str(path), "--resume"]
        env, begun = on_host(host, ecwid.settings()), time.monotonic()
        killed = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL)
        _wait_for_lines(host / "all.jsonl.part", count // 3, killed)
        killed.kill()
        was_killed = killed.wait() == -signal.SIGKILL
        runs = 1
        while runs < 10:  # An export that meets too many faults in a row ends, and is resumed.
            runs += 1
            resumed = subprocess.run(
                command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True, timeout=300
            )
            if resumed.returncode != 1:
                break
        seconds = time.monotonic() - begun
        ids = [json.loads(line)["id"] for line in path.read_text().splitlines()]
        report, expected = ecwid.report(), ecwid.customers()
    figures = {
        "customers": len(expected),
        "exported": len(ids),
        "doubled": len(ids) - len(set(ids)),
        "runs": runs,
        "calls": report["calls"],
        "faults": report["faults"],
        "seconds": round(seconds, 1),
    }
    return why(
        (not was_killed, "the export ended before the kill"),
        (resumed.returncode, f"the export ended with {resumed.returncode}"),
        (sorted(ids) != sorted(expected), "not every customer once"),
        (not report["faults"], "no call failed"),
    ), figures


def forks(scale: float) -> Outcome:
    """Fork 40 children in a threaded host app while 12 callers keep its threads busy."""
    children = max(5, int(40 * scale))
    with hosts() as [host], Ecwid(customers=100) as ecwid:
        ecwid.fail({"kind": "slow", "seconds": 0.02})
        app = "tests.soak.forking_app:app"
        with plugin(host, ecwid.settings(), workers=1, app=app) as served:
            ids, ends = ecwid.customers(), threading.Event()

            def read(number: int) -> int:
                calls = 0
                while not ends.is_set():
                    id = ids[(calls * 12 + number) % len(ids)]
                    calls += ask("GET", f"{served.url}/customer/{id}") is not None
                return calls

            with ThreadPoolExecutor(12) as threads:
                reading = [threads.submit(read, number) for number in range(12)]
                responses = [
                    ask("POST", f"http://{served.host}/fork/{ids[number]}")
                    for number in range(children)
                ]
                ends.set()
                requests = sum(each.result() for each in reading)
            without_file = served.logged("is unavailable")
    ends_of = Counter("none" if r is None else r.text for r in responses)
    figures = {"children": dict(ends_of), "requests beside": requests, "without file": without_file}
    return why(
        (ends_of["good"] != children, "a child hung or failed"),
        (without_file, "a process does without the state file"),
        (not requests, "no thread called"),
    ), figures


SCENARIOS = [
    kills,
    kills_with_redis,
    same_key,
    reloads,
    rate_limit,
    rate_limit_with_redis,
    revoked,
    freshness,
    freshness_with_redis,
    export,
    forks,
    isolation,
    isolation_with_redis,
    refused_stores,
    mirror,
    mirror_with_postgresql,
    steady,
]


def _created_until_done(served: Plugin, wanted: int, per_second: float) -> dict[str, str]:
    """Repeat each creation until it succeeds, and return the id for each tag."""
    waiting: queue.Queue[tuple[float, str, str]] = queue.Queue()
    for number in range(wanted):
        waiting.put((number / per_second, f"kill-{number}", str(uuid.uuid4())))
    ids: dict[str, str] = {}
    begun = time.monotonic()

    def work() -> None:
        while len(ids) < wanted and time.monotonic() - begun < wanted / per_second + 120:
            try:
                due, tag, key = waiting.get(timeout=1)
            except queue.Empty:
                continue
            if time.monotonic() - begun < due:
                waiting.put((due, tag, key))
                time.sleep(0.01)
                continue
            response = _asked_to_create(served, key, tag)
            if response is not None and response.status_code == 200:
                ids[tag] = response.json()["data"]["id"]
            else:
                waiting.put((time.monotonic() - begun + 1, tag, key))

    threads = [threading.Thread(target=work) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ids


def _asked_to_create(served: Plugin, key: str, tag: str) -> Any:
    body = {"email": f"{tag}@example.com", "privateAdminNotes": tag}
    headers = {"Idempotency-Key": key}
    return ask("POST", f"{served.url}/add_customer", json=body, headers=headers)


def _created(served: Plugin, key: str, tag: str) -> Any:
    """Repeat a request with this key until it succeeds, and return the response."""
    for _ in range(60):
        response = _asked_to_create(served, key, tag)
        if response is not None and response.status_code == 200:
            return response
        time.sleep(1)
    return None


def _each_in_turn(every_s: float, both: list[Plugin], do: Any) -> Repeated:
    """Do something to one gunicorn after the other."""
    turns = iter(range(1_000_000))
    return Repeated(every_s, lambda: do(both[next(turns) % len(both)]))


def _many_reads(both: list[Plugin], seconds: float, ids: list[int]) -> Counter[str]:
    """Read at four times the rate limit. Each read is another one, so none shares a call."""

    def read(number: int) -> str:
        id = ids[number % len(ids)]
        return status_of(ask("GET", f"{both[number % len(both)].url}/customer/{id}"))

    return Counter(at_a_rate(LIMIT * 4 / 60, seconds, read))


def _judge_rate(ecwid: Ecwid, events: Figures, statuses: Counter[str]) -> Outcome:
    report = ecwid.report()
    figures = {
        "limit": LIMIT,
        "most calls in 60 s": report["most_in_60_s"],
        "calls": report["calls"],
        **events,
        "statuses": dict(statuses),
        "fake late by s": report["late_s"],
    }
    return why(
        (report["most_in_60_s"] > LIMIT, "more calls than the limit"),
        (report["most_in_60_s"] < LIMIT * 0.7, "too few calls to show anything"),
        # A request is lost with the worker that is killed.
        (set(statuses) - {"200", "429 budget-spent", "none"}, "another status than 200 and 429"),
    ), figures


class _Steps(threading.Thread):
    """A thread that takes each step at its second. The end of a `with` block waits for the last."""

    def __init__(self, steps: list[tuple[float, Any]]) -> None:
        super().__init__()
        self._steps = steps
        self._error: Exception | None = None

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self.join()
        if self._error is not None:
            raise self._error

    def run(self) -> None:
        begun = time.monotonic()
        try:
            for second, step in self._steps:
                time.sleep(max(0.0, begun + second - time.monotonic()))
                step()
        except (redis_library.RedisError, OSError) as exc:
            self._error = exc


def _wait_for_lines(path: Path, lines: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a file has so many lines, or the process has ended."""
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        if path.exists() and path.read_bytes().count(b"\n") >= lines:
            return
        time.sleep(0.02)
