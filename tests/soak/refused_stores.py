"""The long run about many stores of which Ecwid refuses half of the tokens."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from ..helpers.fake_stores import token_of
from ..helpers.redis_server import RedisServer
from .services import Caller, Ecwid, Plugin, at_a_rate, hosts, named, plugin
from .verdict import Figures, Outcome, why

ACCEPTED = [str(number) for number in range(10_001, 11_001)]
REFUSED = [str(number) for number in range(20_001, 21_001)]
INSTALLED = [str(number) for number in range(30_001, 30_201)]  # before the refused tokens come
LATE = [str(number) for number in range(40_001, 40_201)]  # beside the refused tokens
REFUSALS_MOST = 60  # in 60 s
REFUSAL_STATUSES = {"502 service-refused", "503 throttled"}
PER_SECOND = 50
HANGS_AT_S = 68  # when the places of the first minute are free and taken again
HANGS_S = 8
CALLERS = 8
AGAIN_S = 0.2  # So 8 callers ask for each of 200 stores that have to wait about every 5 s.


def refused_stores(scale: float) -> Outcome:
    """Ask for 2,000 stores, of which 1,000 have tokens that Ecwid refuses.

    A host without Redis and two hosts with Redis have their load side by side.
    """
    with RedisServer() as redis, ThreadPoolExecutor(2) as threads:
        by_file = threads.submit(_run, scale, hosts_count=1)
        by_redis = threads.submit(_run, scale, hosts_count=2, redis=redis)
        (broken, figures), (more_broken, more_figures) = by_file.result(), by_redis.result()
    both = {"a host": figures, "two hosts with Redis": more_figures}
    return "; ".join(filter(None, (broken, more_broken))), both


def _run(scale: float, hosts_count: int, redis: RedisServer | None = None) -> Outcome:
    """Let each host use the accepted tokens, start new workers, and add the refused tokens.

    With Redis, the places of all hosts are in Redis, which hangs for a while.
    """
    seconds = max(80.0, 80 * scale)  # Ecwid counts the refused calls of a minute.
    with hosts(hosts_count) as folders, Ecwid() as ecwid, ExitStack() as stack:
        settings = ecwid.settings_of_host(
            ECWID_REDIS_URL=redis.url if redis else "", ECWID_HOSTS=str(hosts_count)
        )
        app, workers = "tests.soak.agency_app:app", 4 // hosts_count
        served = [stack.enter_context(plugin(host, settings, workers, app=app)) for host in folders]
        _open(ecwid, ACCEPTED)
        first = [_Load([each]).until_served(ACCEPTED) for each in served]
        for each in served:  # The new workers know the accepted tokens from the storage alone.
            each.reload()
        load = _Load(served)
        with ThreadPoolExecutor(2) as threads:
            asked = threads.submit(load.ask_all, ACCEPTED, 10)
            _open(ecwid, INSTALLED)
            installed = load.until_served(INSTALLED)
            before = asked.result()
            asked = threads.submit(load.ask_all, ACCEPTED + REFUSED, seconds)
            time.sleep(5)
            _open(ecwid, LATE)
            late_asked = threads.submit(load.until_served, LATE, seconds - 5)
            if redis:
                time.sleep(HANGS_AT_S - 5)
                redis.halt()
                time.sleep(HANGS_S)
                redis.go_on()
            during, late = asked.result(), late_asked.result()
        report = ecwid.report_all()
        lost_redis = sum(each.logged("Redis has failed") for each in served)
        lost_file = sum(each.logged("is unavailable") for each in served)
    good = before.of(ACCEPTED) + during.of(ACCEPTED)
    most = report["most_refused_in_60_s"]
    figures: Figures = {
        "most refused calls in 60 s": most,
        "refused calls": report["refused"],
        "of tokens": report["refused_tokens"],
        "accepted stores": dict(good),
        "all 1,000 served within s": during.all_served_s(ACCEPTED),
        "refused stores": dict(during.of(REFUSED)),
        "1,000 proved within s": [taken_s for _, taken_s in first],
        "installed before": "{} within {} s".format(*installed),
        "installed beside": "{} within {} s".format(*late),
        "losses of Redis": lost_redis,
        "without file": lost_file,
        "fake late by s": report["late_s"],
    }
    return why(
        (most > REFUSALS_MOST, "too many refused calls"),
        (most < REFUSALS_MOST * 0.9, "too few calls are refused to show anything"),
        (set(good) != {"200"}, "an accepted store is not served"),
        (during.all_served_s(ACCEPTED) == "never", "an accepted store was not asked for"),
        (installed[0] < len(INSTALLED), "a new merchant is not served"),
        (set(during.of(REFUSED)) - REFUSAL_STATUSES, "a refused store has another status"),
        (report["crossings"], "a call has the token of another store"),
        (redis and not lost_redis, "no worker noticed that Redis hangs"),
    ), figures


def _open(ecwid: Ecwid, stores: list[str]) -> None:
    """Let Ecwid have these stores, each with its own token and a customer."""
    for store in stores:
        ecwid.order("open_store", store=store, tokens=[token_of(store)], customers=1)


@dataclass
class _Seen:
    """The responses of some stores, with the seconds since the begin of the load."""

    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    served_s: dict[str, float] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        """The number of all responses."""
        return sum(self.statuses.values())

    def of(self, stores: list[str]) -> Counter[str]:
        """Return how often these stores got each status."""
        wanted, found = set(stores), Counter[str]()
        for (store, status), count in self.statuses.items():
            if store in wanted:
                found[status] += count
        return found

    def all_served_s(self, stores: list[str]) -> float | str:
        """Return after how many seconds each of these stores had been served, or `never`."""
        if set(stores) - set(self.served_s):
            return "never"
        return round(max(self.served_s[store] for store in stores), 1)


class _Load:
    """The callers of all stores."""

    def __init__(self, served: list[Plugin]) -> None:
        self._served = served
        self._lock = threading.Lock()

    def ask_all(self, stores: list[str], seconds: float) -> _Seen:
        """Ask for these stores again and again, in random orders."""
        orders: list[str] = []
        while len(orders) < PER_SECOND * seconds:
            orders += random.sample(stores, len(stores))
        seen, begun = _Seen(), time.monotonic()

        def ask(number: int) -> None:
            store = orders[number]
            status = self._ask(store)
            with self._lock:
                seen.statuses[store, status] += 1
                if status == "200":
                    seen.served_s.setdefault(store, time.monotonic() - begun)

        at_a_rate(PER_SECOND, seconds, ask)
        return seen

    def until_served(self, stores: list[str], seconds: float = 120) -> tuple[int, float]:
        """Ask for these stores until each has been served once.

        Args:
            stores: The stores, which come in turn. A store that has to wait comes again.
            seconds: The longest time.

        Returns:
            How many stores were served, and after how many seconds the last of them was.
        """
        begun, served_at = time.monotonic(), time.monotonic()
        waiting = deque(stores)

        def work() -> None:
            nonlocal served_at
            while time.monotonic() - begun < seconds:
                try:
                    store = waiting.popleft()
                except IndexError:
                    return
                if self._ask(store) == "200":
                    served_at = time.monotonic()
                    continue
                waiting.append(store)
                time.sleep(AGAIN_S)

        with ThreadPoolExecutor(CALLERS) as threads:
            for each in [threads.submit(work) for _ in range(CALLERS)]:
                each.result()
        return len(stores) - len(waiting), round(served_at - begun, 1)

    def _ask(self, store: str) -> str:
        """Read a customer of a store over a connection of its own, and return the status."""
        caller = Caller(random.choice(self._served).host)
        status, _, body = caller.exchange("GET", "/customers?limit=1", Store=store)
        caller.close()
        return named(status, body)
