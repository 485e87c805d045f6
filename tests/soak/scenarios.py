"""The long runs. Each run returns its figures by name, and True if its promise held."""

from __future__ import annotations

import os
import queue
import random
import signal
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from flask_ecwid import EcwidClient, Settings
from flask_ecwid.sandbox import STORE_ID, TOKEN, Fault

from ..helpers.redis_server import RedisServer
from .services import THREADS, Ecwid, Plugin, ask, at_a_rate, folder, most_in, plugin

Figures = dict[str, Any]


def kills(scale: float, redis_url: str = "") -> tuple[bool, Figures]:
    """Create 5,000 customers with keys while a random worker is killed with -9 every 2 s."""
    wanted = max(100, int(5000 * scale))
    settings = {"ECWID_REDIS_URL": redis_url} if redis_url else {}
    with folder() as here, Ecwid(here).served() as ecwid:
        # Calls are so slow that each killed worker has some under way, executed or not.
        ecwid.orders.inject(
            Fault("latency", operation="add_customer", seconds=0.2, probability=0.5),
            Fault("latency", operation="add_customer", seconds=0.2, after=True),
        )
        with plugin(here, ecwid.settings(**settings), workers=4) as served:
            killed = _Killer(served, every_s=2)
            ids = _created_until_done(served, wanted, per_second=50)
            killed.stop()
        created = _creations(ecwid)
    lost = [email for email, number in ids.items() if created.get(email, []) != [int(number)]]
    doubled = [email for email, numbers in created.items() if len(numbers) > 1]
    figures = {
        "creations": wanted,
        "workers killed": killed.count,
        "answered": len(ids),
        "lost": len(lost) + wanted - len(ids),
        "doubled": len(doubled),
    }
    return not figures["lost"] and not doubled, figures


def kills_with_redis(scale: float) -> tuple[bool, Figures]:
    """Run `kills` with the keys in Redis."""
    with RedisServer() as redis:
        return kills(scale, redis.url)


def same_key(scale: float) -> tuple[bool, Figures]:
    """Send the same key from 50 threads, 200 times, to 4 workers."""
    rounds = max(5, int(200 * scale))
    statuses: Counter[str] = Counter()
    same = True
    with folder() as here, Ecwid(here).served() as ecwid:
        with plugin(here, ecwid.settings(), workers=4) as served, ThreadPoolExecutor(50) as threads:
            for number in range(rounds):
                key, body = str(uuid.uuid4()), {"email": f"same-{number}@example.com"}
                barrier = threading.Barrier(50)

                def create(key: str = key, body: Any = body, barrier: Any = barrier) -> Any:
                    barrier.wait()
                    headers = {"Idempotency-Key": key}
                    return ask("POST", f"{served.url}/add_customer", json=body, headers=headers)

                responses = [each.result() for each in [threads.submit(create) for _ in range(50)]]
                responses.append(_created(served, key, body))
                statuses.update("none" if a is None else str(a.status_code) for a in responses)
                ids = {a.json()["data"]["id"] for a in responses if a is not None and a.ok}
                same = same and len(ids) == 1
        creations = sum(len(numbers) for numbers in _creations(ecwid).values())
    kept = same and creations == rounds and set(statuses) <= {"200", "409"}
    return kept, {"rounds": rounds, "creations": creations, "answers": dict(statuses)}


def reloads(scale: float) -> tuple[bool, Figures]:
    """Reload 20 times under load, without a failed request."""
    times = max(2, int(20 * scale))
    with (
        folder() as here,
        Ecwid(here, customers=200).served() as ecwid,
        plugin(here, ecwid.settings(), workers=2) as served,
    ):
        done = threading.Event()

        def reload() -> None:
            for _ in range(times):
                time.sleep(3)
                served.reload()
            done.set()

        threading.Thread(target=reload).start()
        responses = at_a_rate(
            40, 3.0 * times + 4, lambda number: ask("GET", f"{served.url}/customers?limit=5")
        )
        assert done.is_set()
    bad = [response for response in responses if response is None or response.status_code != 200]
    return not bad, {"reloads": times, "requests": len(responses), "failed": len(bad)}


def budget(scale: float) -> tuple[bool, Figures]:
    """Send four times the rate limit for 150 s to two gunicorn masters that share Redis."""
    seconds = max(65.0, 150 * scale)
    with RedisServer() as redis, folder() as here, Ecwid(here).served() as ecwid:
        settings = ecwid.settings(ECWID_REDIS_URL=redis.url, ECWID_CALLS_PER_MINUTE="540")
        with plugin(here, settings, workers=2) as one, plugin(here, settings, workers=2) as other:
            urls = [one.url, other.url]
            responses = at_a_rate(
                36, seconds, lambda number: ask("GET", f"{urls[number % 2]}/customer/{number + 1}")
            )
        moments = [entry.at for entry in ecwid.orders.ledger()]
    statuses = Counter("none" if a is None else str(a.status_code) for a in responses)
    most = most_in(60, moments)
    figures = {
        "requests": len(responses),
        "calls": len(moments),
        "most calls in 60 s": most,
        "answers": dict(statuses),
    }
    return 500 <= most <= 600 and "none" not in statuses, figures


def revoked(scale: float) -> tuple[bool, Figures]:
    """Revoke a token under load, and count the calls in the 60 s after."""
    del scale  # the scale does not change the 60 s
    with folder() as here, Ecwid(here).served() as ecwid:
        with plugin(here, ecwid.settings(), workers=4) as served:
            began: list[float] = []

            def read(number: int) -> Any:
                if number == 200:
                    ecwid.orders.inject(Fault(kind="status", status=403, empty=True))
                    began.append(time.time())
                return ask("GET", f"{served.url}/customers?offset={number}")

            responses = at_a_rate(20, 75, read)
        calls = [entry for entry in ecwid.orders.ledger() if entry.at > began[0]]
        within = [entry for entry in calls if entry.at <= began[0] + 60 and entry.status == 403]
    statuses = Counter("none" if a is None else str(a.status_code) for a in responses)
    figures = {"calls with the dead token in 60 s": len(within), "answers": dict(statuses)}
    return 1 <= len(within) <= 20, figures


def export(scale: float) -> tuple[bool, Figures]:
    """Export 10,000 customers with 10 % faults."""
    customers = max(500, int(10_000 * scale))
    with folder() as here, Ecwid(here, customers=customers).served() as ecwid:
        _order_faults(ecwid, 0.10)
        client = EcwidClient(
            Settings(store_id=STORE_ID, token=TOKEN, api_url=ecwid.url, calls_per_minute=1_000_000)
        )
        begun = time.monotonic()
        reading = client.iter_customers()
        ids = [customer["id"] for customer in reading]
        seconds = time.monotonic() - begun
        faults = sum(entry.fault is not None for entry in ecwid.orders.ledger())
        calls = len(ecwid.orders.ledger())
        ecwid.orders.clear_faults()
        total = client.list_customers(limit=1)["total"]
    figures = {
        "customers": total,
        "read": len(ids),
        "doubled": len(ids) - len(set(ids)),
        "calls": calls,
        "faults": faults,
        "seconds": round(seconds, 1),
    }
    return len(ids) == len(set(ids)) == total and faults > 0, figures


def half_hour(scale: float) -> tuple[bool, Figures]:
    """Send 50 requests/s with 5 % faults for 30 minutes, while all resources stay flat."""
    seconds = max(60.0, 1800 * scale)
    with (
        folder() as here,
        Ecwid(here, customers=1000).served() as ecwid,
        plugin(here, ecwid.settings(), workers=2) as served,
    ):
        page = ask("GET", f"{served.url}/customers?limit=100&responseFields=items(id)")
        assert page is not None
        ids = [each["id"] for each in page.json()["data"]["attributes"]["items"]]
        _order_faults(ecwid, 0.05)
        watch = _Watch(served, ecwid, every_s=seconds / 30)
        responses = Counter(at_a_rate(50, seconds, lambda number: _mixed(served, ids, number)))
        watch.stop()
    early, late = watch.samples[len(watch.samples) // 5], watch.samples[-1]
    figures = {
        "requests": sum(responses.values()),
        "answers": dict(responses),
        "workers, early": early,
        "workers, late": late,
    }
    flat = all(
        after["rss_mb"] <= before["rss_mb"] * 1.10 + 5
        and after["threads"] <= THREADS + 4  # gunicorn starts threads when requests need them
        and after["descriptors"] <= before["descriptors"] + THREADS  # a connection per thread
        for before, after in zip(early, late, strict=True)
    )
    return flat and "none" not in responses, figures


SCENARIOS = [kills, kills_with_redis, same_key, reloads, budget, revoked, export, half_hour]


def _created_until_done(served: Plugin, wanted: int, per_second: float) -> dict[str, str]:
    """Repeat each creation until it succeeds, and return the id for each e-mail."""
    waiting: queue.Queue[tuple[float, str, str]] = queue.Queue()
    for number in range(wanted):
        waiting.put((number / per_second, f"kill-{number}@example.com", str(uuid.uuid4())))
    ids: dict[str, str] = {}
    begun = time.monotonic()

    def work() -> None:
        while len(ids) < wanted and time.monotonic() - begun < wanted / per_second + 300:
            try:
                due, email, key = waiting.get(timeout=1)
            except queue.Empty:
                continue
            if time.monotonic() - begun < due:
                waiting.put((due, email, key))
                time.sleep(0.005)
                continue
            response = _asked_to_create(served, key, {"email": email})
            if response is not None and response.status_code == 200:
                ids[email] = response.json()["data"]["id"]
            else:
                waiting.put((time.monotonic() - begun + 1, email, key))

    threads = [threading.Thread(target=work) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ids


def _asked_to_create(served: Plugin, key: str, body: Any) -> Any:
    headers = {"Idempotency-Key": key}
    return ask("POST", f"{served.url}/add_customer", json=body, headers=headers)


def _created(served: Plugin, key: str, body: Any) -> Any:
    """Repeat a request with this key until it succeeds, and return the response."""
    while True:
        response = _asked_to_create(served, key, body)
        if response is not None and response.status_code == 200:
            return response
        time.sleep(1)


def _creations(ecwid: Ecwid) -> dict[str, list[int]]:
    """Return the created ids by e-mail, from Ecwid's own ledger."""
    created: dict[str, list[int]] = {}
    for entry in ecwid.orders.ledger():
        if entry.operation == "add_customer" and entry.done and entry.email and entry.customer_id:
            created.setdefault(entry.email, []).append(entry.customer_id)
    return created


def _order_faults(ecwid: Ecwid, share: float) -> None:
    """Inject each kind of fault equally often, at this share of all calls together."""
    kinds: list[dict[str, Any]] = [
        {"kind": "reset"},
        {"kind": "reset", "after": True},
        {"kind": "truncate"},
        {"kind": "html"},
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 502, "after": True},
        {"kind": "shape"},
        {"kind": "latency", "seconds": 1.0},
    ]
    for seed, options in enumerate(kinds):
        ecwid.orders.inject(Fault(probability=share / len(kinds), seed=seed, **options))


def _mixed(served: Plugin, ids: list[int], number: int) -> str:
    """Send a request for one of the five operations."""
    customer = random.choice(ids)
    method, path, body = random.choice(
        [
            ("GET", "customers?limit=20", None),
            ("GET", f"customer/{customer}", None),
            ("POST", "add_customer", {"email": f"half-hour-{number}@example.com"}),
            ("POST", f"update_customer/{customer}", {"lang": "en"}),
            ("POST", f"delete_customer/{1 + number}", None),
        ]
    )
    response = ask(method, f"{served.url}/{path}", json=body)
    return "none" if response is None else str(response.status_code)


class _Killer:
    """A thread that kills a random worker with -9 at this interval."""

    def __init__(self, served: Plugin, every_s: float) -> None:
        self._served = served
        self._every_s = every_s
        self._stop = threading.Event()
        self.count = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            if workers := self._served.workers():
                os.kill(random.choice(workers), signal.SIGKILL)
                self.count += 1


class _Watch:
    """A thread that samples the resources of the workers."""

    def __init__(self, served: Plugin, ecwid: Ecwid, every_s: float) -> None:
        self._served = served
        self._ecwid = ecwid
        self._every_s = every_s
        self._stop = threading.Event()
        self.samples: list[list[dict[str, float]]] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self.samples.append([_held(worker) for worker in self._served.workers()])
            self._ecwid.orders.clear_ledger()


def _held(worker: int) -> dict[str, float]:
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{worker}/status").read_text().splitlines()
        if ":\t" in line
    )
    return {
        "rss_mb": round(int(status["VmRSS"].split()[0]) / 1024, 1),
        "threads": int(status["Threads"]),
        "descriptors": len(os.listdir(f"/proc/{worker}/fd")),
    }
