"""The long runs about cached responses: no response is older than the rule after a write."""

from __future__ import annotations

import base64
import hmac
import math
import random
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from requests import Response

from ..helpers.redis_server import RedisServer
from .services import STORE, Caller, Ecwid, Plugin, ask, hosts, plugin
from .verdict import Figures, Outcome, why

TTL_S = 4
RULE_S = 1.0  # No response of a host is older than this time after a write.
LONG_TTL_S = 600  # longer than a run, so that no response expires
WRITES_A_SECOND = 2  # and as many events
CLIENT_SECRET = "secret_of_the_app"
READS_A_CALL = 50  # the fewest, while nobody writes
WRITERS = 4
READERS = 8
READS_OF_A_CONNECTION = 50  # A kept connection stays with one worker.
MEMBER = "privateAdminNotes"


@dataclass
class _Watched:
    """A customer whose writes are numbered, with the moments at which their responses came."""

    id: int
    ended: list[tuple[int, float]] = field(default_factory=list)  # Only writes that succeeded.
    reads: list[tuple[float, int]] = field(default_factory=list)  # The begin, and the number.

    def oldest_s(self) -> float:
        """Return the longest time by which a read began after a write that it does not show."""
        ages = [
            begun - ended
            for begun, shown in self.reads
            for number, ended in self.ended
            if number > shown and ended < begun
        ]
        return max(ages, default=0.0)


@dataclass
class _Phase:
    """What one phase has seen."""

    oldest_s: float
    unseen: int  # Reads over the connection of a write, thus of the same worker, without the write.
    writes: int
    reads: int
    cached: int
    lost_redis: int


def freshness(scale: float) -> Outcome:
    """Change customers by writes and by events at 4 workers without Redis, and read meanwhile.

    Each write and each event comes to any worker. After that, nobody changes anything.
    """
    seconds = max(10.0, 60 * scale)
    with hosts() as [host], Ecwid(customers=2 * WRITERS) as ecwid:
        ecwid.fail(
            {"kind": "slow", "seconds": 0.2, "probability": 0.3},
            {"kind": "slow", "seconds": 0.2, "probability": 0.3, "after": True},
        )
        watched = [_Watched(id) for id in ecwid.customers()]
        settings = ecwid.settings(
            ECWID_CACHE_TTL_S=str(LONG_TTL_S),
            ECWID_WEBHOOKS="on",
            ECWID_CLIENT_SECRET=CLIENT_SECRET,
        )
        with plugin(host, settings, workers=4) as served:
            changes = [_Write(served)] * WRITERS + [_Event(served, ecwid)] * WRITERS
            with _Readers(served, watched), ThreadPoolExecutor(len(watched)) as threads:
                for customer, change in zip(watched, changes, strict=True):
                    threads.submit(_change_in_turn, customer, change, seconds)
            calls, reads = ecwid.report()["calls"], _reads(watched)
            with _Readers(served, watched):
                time.sleep(max(30.0, seconds / 2))
            calm_calls, calm_reads = ecwid.report()["calls"] - calls, _reads(watched) - reads
    oldest_s = max(customer.oldest_s() for customer in watched)
    writes, events = (
        sum(len(customer.ended) for customer in part)
        for part in (watched[:WRITERS], watched[WRITERS:])
    )
    figures = {
        "writes": writes,
        "events": events,
        "reads": reads,
        "of the cache": max(0, reads - (calls - writes)),
        "oldest s": round(oldest_s, 2),
        "reads without writes": calm_reads,
        "their calls": calm_calls,
    }
    return why(
        (oldest_s > RULE_S, "a response is older than the rule"),
        (not figures["of the cache"], "no response came from the cache"),
        (writes < WRITES_A_SECOND * seconds, "a write failed"),
        (events < WRITES_A_SECOND * seconds, "an event failed"),
        (calm_reads < READS_A_CALL * calm_calls, "too many calls while nobody wrote"),
    ), figures


def freshness_with_redis(scale: float) -> Outcome:
    """Write and read with Redis, and again while Redis is killed for a third of the time.

    While Redis works, each read shows every earlier write of each worker. While Redis cannot be
    reached, the cache time is the rule.
    """
    seconds = max(10.0, 30 * scale)
    with RedisServer() as redis, hosts(2) as [first, second]:
        seen = _watch(first, seconds, redis)
        rule_s = TTL_S if seen.lost_redis else 0
        killed = _watch(second, seconds, redis, outage=True)
    figures = {**_figures(seen), "rule s": rule_s, "with the kill": _figures(killed)}
    return why(
        (seen.unseen or killed.unseen, "a worker does not show its own write"),
        (seen.oldest_s > rule_s, "a response is older than the rule"),
        (killed.oldest_s > TTL_S, "a response is older than the cache time"),
        (not seen.cached, "no response came from the cache"),
        (not killed.lost_redis, "no worker noticed that Redis was killed"),
    ), figures


def _figures(seen: _Phase) -> Figures:
    return {
        "writes": seen.writes,
        "reads": seen.reads,
        "of the cache": seen.cached,
        "oldest s": round(seen.oldest_s, 2),
        "unseen by the writer": seen.unseen,
        "workers that lost Redis": seen.lost_redis,
    }


def _watch(
    host: Path, seconds: float, redis: RedisServer | None = None, *, outage: bool = False
) -> _Phase:
    """Write and read for so many seconds, and compare each read with the writes before it.

    Args:
        host: The folder of the host.
        seconds: The length.
        redis: Where the workers share, instead of the host's file.
        outage: Whether Redis is killed after a third of the time, for a third of the time.
    """
    with Ecwid(customers=WRITERS) as ecwid:
        ecwid.fail(
            {"kind": "slow", "seconds": 0.2, "probability": 0.3},
            {"kind": "slow", "seconds": 0.2, "probability": 0.3, "after": True},
        )
        watched = [_Watched(id) for id in ecwid.customers()]
        settings = ecwid.settings(
            ECWID_CACHE_TTL_S=str(TTL_S), ECWID_REDIS_URL=redis.url if redis else ""
        )
        # A worker with writers empties its cache too often to show old responses, so the writers
        # have one gunicorn. A kept connection stays with one worker.
        with plugin(host, settings, workers=2) as one, plugin(host, settings, workers=2) as other:
            until, both = time.monotonic() + seconds, (one, other)
            writers = [_Writer(one, customer, until) for customer in watched]
            readers = [_Reader(both[at % 2], watched, until) for at in range(READERS)]
            for thread in (*writers, *readers):
                thread.start()
            if redis and outage:
                time.sleep(seconds / 3)
                redis.stop()
                time.sleep(seconds / 3)
                redis.start_again()
            for thread in (*writers, *readers):
                thread.join()
            lost = sum(each.logged("Redis has failed") for each in both)
        calls = ecwid.report()["calls"]
    attempts = sum(writer.attempts for writer in writers)
    reads = sum(len(customer.reads) for customer in watched)
    return _Phase(
        oldest_s=max(customer.oldest_s() for customer in watched),
        unseen=sum(writer.unseen for writer in writers),
        writes=sum(len(customer.ended) for customer in watched),
        reads=reads,
        cached=max(0, reads - (calls - attempts)),
        lost_redis=lost,
    )


def _change_in_turn(customer: _Watched, change: _Write | _Event, seconds: float) -> None:
    """Change a customer again and again, and note when the response to each change came.

    A change begins when the change before has ended. Otherwise Ecwid could execute the later one
    first, and a response without it would be right.
    """
    begun, per_second = time.monotonic(), WRITES_A_SECOND / WRITERS
    for number in range(1, int(seconds * per_second) + 1):
        time.sleep(max(0.0, begun + number / per_second - time.monotonic()))
        response = change.make(customer.id, {MEMBER: str(number)})
        if response is not None and response.ok:
            customer.ended.append((number, time.monotonic()))


class _Write:
    """A write through any worker."""

    def __init__(self, served: Plugin) -> None:
        self._served = served

    def make(self, id: int, members: dict[str, str]) -> Response | None:
        return ask("POST", f"{self._served.url}/update_customer/{id}", json=members)


class _Event:
    """A change in Ecwid's control panel, and Ecwid's event of the change at any worker.

    https://docs.ecwid.com/api-reference/webhooks
    """

    def __init__(self, served: Plugin, ecwid: Ecwid) -> None:
        self._served = served
        self._ecwid = ecwid

    def make(self, id: int, members: dict[str, str]) -> Response | None:
        self._ecwid.change(id, members)
        created, event_id = int(time.time()), str(uuid.uuid4())
        signed = hmac.new(CLIENT_SECRET.encode(), f"{created}.{event_id}".encode(), "sha256")
        event = {
            "eventId": event_id,
            "eventCreated": created,
            "storeId": int(STORE),
            "entityId": id,
            "eventType": "customer.updated",
        }
        headers = {"X-Ecwid-Webhook-Signature": base64.b64encode(signed.digest()).decode()}
        return ask("POST", f"{self._served.url}/webhooks", json=event, headers=headers)


def _reads(watched: list[_Watched]) -> int:
    return sum(len(customer.reads) for customer in watched)


def _read(caller: Caller, customer: _Watched) -> int | None:
    """Read a customer, and return the number of the write that the response shows."""
    begun = time.monotonic()
    status, body = caller.ask("GET", f"/customer/{customer.id}")
    if status != 200:
        return None
    shown = int(body["data"]["attributes"].get(MEMBER, 0))
    customer.reads.append((begun, shown))
    return shown


class _Writer(threading.Thread):
    """Writes to a customer again and again, and looks over the same connection.

    Each look comes late, because the worker may deliver an owed invalidation before the look.
    """

    def __init__(self, served: Plugin, customer: _Watched, until: float) -> None:
        super().__init__()
        self._caller = Caller(served.host)
        self._customer = customer
        self._until = until
        self.attempts = 0
        self.unseen = 0

    def run(self) -> None:
        while time.monotonic() < self._until:
            self.attempts += 1
            number = self.attempts
            path = f"/update_customer/{self._customer.id}"
            status, _ = self._caller.ask("POST", path, {MEMBER: str(number)})
            if status == 200:
                self._customer.ended.append((number, time.monotonic()))
            connection = self._caller.connection_number
            time.sleep(random.uniform(0, 0.7))
            shown = _read(self._caller, self._customer)
            same = self._caller.connection_number == connection
            self.unseen += status == 200 and same and shown is not None and shown < number
            time.sleep(random.uniform(0, 0.3))
        self._caller.close()


class _Reader(threading.Thread):
    """Reads customers at random, and changes the connection now and then."""

    def __init__(self, served: Plugin, customers: list[_Watched], until: float) -> None:
        super().__init__()
        self._caller = Caller(served.host)
        self._customers = customers
        self.until = until

    def run(self) -> None:
        count = 0
        while time.monotonic() < self.until:
            _read(self._caller, random.choice(self._customers))
            time.sleep(random.uniform(0, 0.1))
            count += 1
            if count % READS_OF_A_CONNECTION == 0:
                self._caller.close()
        self._caller.close()


class _Readers:
    """Threads that read until the end of a `with` block."""

    def __init__(self, served: Plugin, watched: list[_Watched]) -> None:
        self._threads = [_Reader(served, watched, math.inf) for _ in range(READERS)]

    def __enter__(self) -> _Readers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.until = 0.0
        for thread in self._threads:
            thread.join()
