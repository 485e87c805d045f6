"""The rate limit of calls to Ecwid, in one process and shared through Redis."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from werkzeug.test import TestResponse

from flask_ecwid import clock
from flask_ecwid.errors import BudgetSpent
from flask_ecwid.sandbox import Fault
from flask_ecwid.storage.redis_connection import RedisConnection
from flask_ecwid.throttling.rate_limit import RateLimit, Remaining

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


def test_the_window_moves(ordered: OrderedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call stops counting a minute after the plugin sent it."""
    api = ordered.api(ECWID_CALLS_PER_MINUTE=1)
    real = time.time
    api.get("/customers")
    monkeypatch.setattr(time, "time", lambda: real() + 59)
    assert api.get("/customers").status_code == 429
    monkeypatch.setattr(time, "time", lambda: real() + 61)
    assert api.get("/customers").status_code == 200


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


def test_each_process_has_a_share(ordered: OrderedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Redis a process gets its share by the number of processes in the settings."""
    rate_limit = {"ECWID_CALLS_PER_MINUTE": 60}
    assert remaining_in(ordered.api(**rate_limit, ECWID_PROCESSES=3).get("/customers")).limit == 20
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    assert remaining_in(ordered.api(**rate_limit).get("/customers")).limit == 30
    monkeypatch.setenv("GUNICORN_ECWID_WORKERS", "6")
    assert remaining_in(ordered.api(**rate_limit).get("/customers")).limit == 10
    monkeypatch.setenv("GUNICORN_ECWID_WORKERS", "1000")
    assert remaining_in(ordered.api(**rate_limit).get("/customers")).limit == 1


def test_apps_in_a_process_share_nothing(ordered: OrderedStore) -> None:
    """Without Redis each app in a process has a rate limit of its own."""
    for _ in range(2):
        assert ordered.api(ECWID_CALLS_PER_MINUTE=1).get("/customers").status_code == 200


def test_a_forked_process_counts_for_itself() -> None:
    """A forked worker starts with a share of its own, without the calls of its parent process."""
    rate_limit = RateLimit(2, 1, None, "name")
    rate_limit.acquire()
    rate_limit.acquire()
    child = os.fork()
    if child == 0:
        rate_limit.acquire()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with pytest.raises(BudgetSpent):
        rate_limit.acquire()


# With Redis


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def spend(rate_limits: list[RateLimit], times: int) -> int:
    """Return how many of `calls` calls the rate limits allow in turn."""
    made = 0
    for number in range(times):
        try:
            rate_limits[number % len(rate_limits)].acquire()
        except BudgetSpent:
            continue
        made += 1
    return made


def rate_limits_of(redis: RedisServer, count: int, per_minute: int = 20) -> list[RateLimit]:
    return [RateLimit(per_minute, 2, RedisConnection(redis.url), "name") for _ in range(count)]


def test_hosts_share_in_redis(ordered: OrderedStore, redis: RedisServer) -> None:
    """All processes that share a Redis share one rate limit, to the last call."""
    apis = [ordered.api(ECWID_REDIS_URL=redis.url, ECWID_CALLS_PER_MINUTE=10) for _ in range(3)]
    statuses = [api.get("/customers").status_code for _ in range(5) for api in apis]
    assert statuses == [200] * 10 + [429] * 5
    assert remaining_in(apis[0].get("/customers")) == (
        10,
        0,
        remaining_in(apis[0].get("/customers")).reset_s,
    )


def test_no_token_in_redis(ordered: OrderedStore, redis: RedisServer) -> None:
    """No name in Redis contains the token or the store."""
    ordered.api(ECWID_REDIS_URL=redis.url).get("/customers")
    names = b"".join(redis.client.scan_iter())
    assert b"secret" not in names
    assert b"1003" not in names


@pytest.mark.parametrize("fault", ["stopped", "halted"])
def test_redis_gone(own_redis: RedisServer, fault: str) -> None:
    """Without Redis each process keeps to its share, which is never zero."""
    rate_limits = rate_limits_of(own_redis, 2)
    assert spend(rate_limits, 4) == 4
    (own_redis.stop if fault == "stopped" else own_redis.halt)()
    begun = time.monotonic()
    assert spend(rate_limits, 200) == 16  # each process has already spent 2 of 20
    assert time.monotonic() - begun < 20
    assert rate_limits[0].remaining().limit == 10
    if fault == "halted":
        own_redis.go_on()


def test_redis_slow(own_redis: RedisServer) -> None:
    """The rate limit waits for a slow Redis that replies in time, and all processes count there."""
    rate_limits = rate_limits_of(own_redis, 2)
    own_redis.client.client_pause(100)
    assert spend(rate_limits, 30) == 20
    assert rate_limits[0].remaining().limit == 20


def test_redis_back(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """After Redis comes back empty, each process keeps to its share for a minute."""
    rate_limits = rate_limits_of(own_redis, 2)
    own_redis.stop()
    assert spend(rate_limits, 50) == 20
    own_redis.start_again()
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now + 10)
    assert spend(rate_limits, 50) == 0


def test_redis_emptied(redis: RedisServer) -> None:
    """A process notices an emptied Redis by its own calls, and keeps to its share for a minute."""
    rate_limits = rate_limits_of(redis, 2)
    assert spend(rate_limits, 10) == 10
    redis.client.flushall()
    assert spend(rate_limits, 100) == 10  # the unused share of each process
    assert spend(rate_limits, 100) == 0


def test_redis_emptied_under_many_threads(redis: RedisServer) -> None:
    """While a process distrusts an emptied Redis, all its threads together keep to its share."""
    for _ in range(4):
        redis.client.flushall()
        rate_limit = rate_limits_of(redis, 1)[0]
        assert spend([rate_limit], 4) == 4
        redis.client.flushall()
        assert spend([rate_limit], 1) == 1  # this call finds Redis emptied
        redis.client.client_pause(50)
        with ThreadPoolExecutor(16) as threads:
            made = sum(threads.map(lambda _, b=rate_limit: spend([b], 1), range(32)))
        assert made == 5


def test_a_call_that_redis_refuses_is_not_counted(redis: RedisServer) -> None:
    """A call that Redis refuses does not count against the share of a process."""
    rate_limit, other = rate_limits_of(redis, 2)
    assert spend([rate_limit], 4) == 4
    redis.client.flushall()
    assert spend([rate_limit], 1) == 1  # this call finds Redis emptied
    assert spend([other], 30) == 19  # all that remains in Redis
    assert spend([rate_limit], 10) == 0
    redis.client.flushall()
    assert spend([rate_limit], 10) == 5


def test_redis_emptied_again_and_again(redis: RedisServer) -> None:
    """A process never exceeds its share because Redis loses its data again and again."""
    rate_limit = rate_limits_of(redis, 1)[0]
    made = 0
    for _ in range(30):
        made += spend([rate_limit], 1)
        redis.client.flushall()
    assert made == 10


def test_one_busy_host(redis: RedisServer) -> None:
    """Many calls at the same time are no sign that Redis lost its data."""
    # A busy machine may need longer than the plugin waits, and that is not the rule of this test.
    patient = f"{redis.url}?socket_timeout=20&socket_connect_timeout=20"
    for _ in range(8):
        redis.client.flushall()
        rate_limit = RateLimit(200, 2, RedisConnection(patient), "name")
        with ThreadPoolExecutor(16) as threads:
            made = sum(threads.map(lambda _, b=rate_limit: spend([b], 1), range(220)))
        assert made == 200
        assert rate_limit.remaining().limit == 200


def test_after_redis_was_gone(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process trusts Redis again a minute after Redis came back."""
    rate_limit = rate_limits_of(own_redis, 1)[0]
    own_redis.stop()
    assert spend([rate_limit], 20) == 10
    own_redis.start_again()
    now, wall = clock.now(), time.time()
    monkeypatch.setattr(clock, "now", lambda: now + 70)
    monkeypatch.setattr(time, "time", lambda: wall + 70)
    assert spend([rate_limit], 30) == 20


def test_bulk(redis: RedisServer) -> None:
    """A bulk read may use half of the rate limit, and learns how long to wait."""
    for rate_limit in (RateLimit(20, 2, None, "name"), *rate_limits_of(redis, 1)):
        share = 5 if rate_limit._redis is None else 10
        waits = [rate_limit.acquire_bulk() for _ in range(share + 1)]
        assert waits[:-1] == [0.0] * share
        assert 0 < waits[-1] <= 61
    gone = RateLimit(20, 2, RedisConnection("redis://127.0.0.1:9"), "name")
    assert [gone.acquire_bulk() == 0.0 for _ in range(6)] == [True] * 5 + [False]
