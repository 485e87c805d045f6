"""The long runs about many stores whose ids, e-mails and Idempotency-Keys are equal."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from random import Random

from ..helpers.fake_stores import token_of
from ..helpers.redis_server import RedisServer
from .fake_ecwid import FIRST_ID
from .services import Caller, Ecwid, Plugin, hosts, named, plugin
from .verdict import Figures, Outcome, why

STORES = [str(number) for number in range(1001, 1051)]
PAUSED, FAILING, SPENT, *HEALTHY = STORES
REQUESTS = 100_000
CALLERS = 24
A_CONNECTION = 25  # The requests over one connection, which stays with one worker.
KEYS = 20
IDS_OF_A_STORE = 1_000_000
SECRET = b"secret_"  # begins each token
LOGGED_NEVER = ("secret_", "mark-", "@example.com")
# A creation with a key that is under way, and more requests of a store than its threads.
OWN = {"200", "409 idempotency-key-in-use", "503 store-busy"}
# A busy machine may take Redis for slow, and each of these is the store's own.
WITHOUT_REDIS = {"503 idempotency-unavailable", "503 throttled", "429 budget-spent"}
MARK = re.compile(rb"mark-(\d+)-")


def isolation(scale: float, redis: RedisServer | None = None) -> Outcome:
    """Send 100,000 interleaved requests of 50 stores to 4 workers.

    One store is paused, one fails and one spends its calls, while the others are served.
    """
    requests = max(2000, int(REQUESTS * scale))
    limit = 100 + requests // 300  # so many calls a minute that only one store spends them
    with hosts() as [host], Ecwid() as ecwid:
        for store in STORES:
            ecwid.order(
                "open_store",
                store=store,
                tokens=[token_of(store)],
                customers=3,
                unique_emails=False,
                mark=f"mark-{store}-",
                created_from=int(store) * IDS_OF_A_STORE,
            )
        ecwid.fail(
            {"kind": "status", "status": 429, "retry_after": 600, "store": PAUSED},
            {"kind": "status", "status": 500, "store": FAILING},
            {"kind": "slow", "seconds": 0.02, "probability": 0.2},  # so that equal reads meet
        )
        settings = ecwid.settings_of_host(
            ECWID_CACHE_TTL_S="600",
            ECWID_CALLS_PER_MINUTE=str(limit),
            ECWID_REDIS_URL=redis.url if redis else "",
        )
        with plugin(host, settings, workers=4, app="tests.soak.agency_app:app") as served:
            begun = time.monotonic()
            seen = _Seen()
            seen.send(served, requests)
            seconds = time.monotonic() - begun
            leaks_in_log = sum(map(served.logged, LOGGED_NEVER))
            without_file = served.logged("is unavailable")
            losses_of_redis = served.logged("Redis has failed")
        report = ecwid.report_all()
        created = {
            store: sum(id >= FIRST_ID + 3 for id in ecwid.customers(store)) for store in HEALTHY
        }
    tokens_in_redis = _tokens_in(redis) if redis else 0
    doubled = sum(max(0, created[store] - len(seen.keys_of(store))) for store in HEALTHY)
    expected = OWN | (WITHOUT_REDIS if losses_of_redis else set())
    healthy = seen.statuses_of(*HEALTHY)
    figures: Figures = {
        "requests": requests,
        "a second": round(requests / seconds),
        "crossings in responses": len(seen.crossings),
        "crossings in calls": report["crossings"],
        "doubled creations": doubled,
        "calls": report["calls"],
        "statuses of 47 stores": dict(healthy),
        "of the paused store": dict(seen.statuses_of(PAUSED)),
        "of the failing store": dict(seen.statuses_of(FAILING)),
        "of the store without calls": dict(seen.statuses_of(SPENT)),
        "losses of Redis": losses_of_redis,
        "without file": without_file,
    }
    return why(
        (seen.crossings, f"a response shows another store: {seen.crossings[:3]}"),
        (report["crossings"] or report["refused"], "a call has the token of another store"),
        (leaks_in_log or tokens_in_redis, "a token or a customer is in the log or in Redis"),
        (doubled or seen.has_two_outcomes(), "a key has two outcomes"),
        (set(healthy) - expected, "a store has the failures of another store"),
        (report["calls_of_stores"][PAUSED] > 4, "a pause does not hold"),
        (seen.statuses_of(FAILING, PAUSED)["200"], "a fault did nothing"),
        (not seen.statuses_of(SPENT)["429 budget-spent"], "no store has spent its calls"),
        (report["calls"] > requests / 2, "the cache did too little to show anything"),
    ), figures


def isolation_with_redis(scale: float) -> Outcome:
    """Run `isolation` with everything that workers share in Redis."""
    with RedisServer() as redis:
        return isolation(scale, redis)


def _tokens_in(redis: RedisServer) -> int:
    """Return how many names and values of Redis hold a token."""
    found = 0
    for name in redis.client.scan_iter():
        is_hash = redis.client.type(name) == b"hash"
        value = redis.client.hgetall(name) if is_hash else redis.client.get(name)
        found += SECRET.decode() in repr((name, value))
    return found


class _Seen:
    """What the callers have seen in their responses."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._statuses: Counter[tuple[str, str]] = Counter()
        self._outcomes: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self.crossings: list[str] = []

    def send(self, served: Plugin, requests: int) -> None:
        """Send so many requests from many threads. Each is of a store that is chosen at random."""
        with ThreadPoolExecutor(CALLERS) as threads:
            shares = [range(first, requests, CALLERS) for first in range(CALLERS)]
            for each in [threads.submit(self._call, served, share) for share in shares]:
                each.result()

    def _call(self, served: Plugin, numbers: range) -> None:
        random = Random(numbers.start)
        for at in range(0, len(numbers), A_CONNECTION):
            caller = Caller(served.host)
            for number in numbers[at : at + A_CONNECTION]:
                store = SPENT if random.random() < 0.06 else random.choice(STORES)
                self._send(caller, store, number, random)
            caller.close()

    def _send(self, caller: Caller, store: str, number: int, random: Random) -> None:
        drawn, id, key = random.random(), FIRST_ID + random.randrange(3), ""
        if store == SPENT:
            path = f"/customers?offset={number}"  # Each read is another one, so each is a call.
            status, headers, body = caller.exchange("GET", path, Store=store)
        elif drawn < 0.6:
            status, headers, body = caller.exchange("GET", f"/customer/{id}", Store=store)
        elif drawn < 0.965:
            path = "/customers?email=seed-1@example.com"
            status, headers, body = caller.exchange("GET", path, Store=store)
        elif drawn < 0.995:
            # Each key has an e-mail of its own, because a search tells equal creations not apart.
            key = f"key {random.randrange(KEYS)}"
            sent = {"email": f"ann-{key[4:]}@example.com"}
            own = {"Store": store, "Idempotency-Key": key}
            status, headers, body = caller.exchange("POST", "/add_customer", sent, **own)
        else:
            path, sent = f"/update_customer/{id}", {"privateAdminNotes": f"mark-{store}-{number}"}
            status, headers, body = caller.exchange("POST", path, sent, Store=store)
        shown = {each.decode() for each in MARK.findall(headers.encode() + body)}
        is_read = store != SPENT and drawn < 0.965 and status == 200
        is_crossing = bool(shown - {store}) or (is_read and not shown) or SECRET in body
        with self._lock:
            self._statuses[store, named(status, body)] += 1
            if key and status == 200:
                made = json.loads(body)["data"]["id"]
                self._outcomes[store, key].add(made)
                is_crossing = is_crossing or int(made) // IDS_OF_A_STORE != int(store)
            if is_crossing:
                self.crossings.append(f"{store} {status} {sorted(shown)}")

    def statuses_of(self, *stores: str) -> Counter[str]:
        """Return how often these stores got each status."""
        found: Counter[str] = Counter()
        for (store, status), count in self._statuses.items():
            if store in stores:
                found[status] += count
        return found

    def keys_of(self, store: str) -> list[str]:
        """Return the keys with which the store has created a customer."""
        return [key for (of, key) in self._outcomes if of == store]

    def has_two_outcomes(self) -> bool:
        """Return whether a key of a store has given two ids."""
        return any(len(ids) > 1 for ids in self._outcomes.values())
