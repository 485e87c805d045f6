"""Writes that a worker could not tell Redis about, with real processes and a real Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from flask_ecwid.storage import redis_connection

from ..conftest import Api, Config, app_of
from ..helpers.redis_server import RedisServer
from ..helpers.store_of_one import StoreOfOne, becomes
from ..helpers.worker import Worker

TTL_S = 3600


class Link:
    """A Redis user of one worker alone, whose commands Redis can refuse."""

    def __init__(self, redis: RedisServer) -> None:
        self._redis = redis
        self.url = redis.url.replace("redis://", "redis://lonely:lonely@")
        self._set("reset", "on", ">lonely", "~*", "+@all")

    def cut(self) -> None:
        self._set("-@all")

    def refuse_writes(self) -> None:
        self._set("-@write")

    def mend(self) -> None:
        self._set("+@all")
        time.sleep(0.15)  # until the worker's cooldown is over

    def _set(self, *rules: str) -> None:
        self._redis.client.execute_command(  # type: ignore[no-untyped-call]
            "ACL", "SETUSER", "lonely", *rules
        )


@pytest.fixture
def link(redis: RedisServer) -> Link:
    return Link(redis)


@pytest.fixture
def shared(config: Config, redis: RedisServer) -> Config:
    """Return the settings of workers with a cache in Redis."""
    return {**config, "ECWID_CACHE_TTL_S": TTL_S, "ECWID_REDIS_URL": redis.url}


@pytest.fixture
def lonely(store_of_one: StoreOfOne, shared: Config, link: Link) -> Iterator[Worker]:
    """Return a worker that reaches Redis through the link."""
    with Worker({**shared, "ECWID_REDIS_URL": link.url}) as worker:
        yield worker


@pytest.fixture
def other(store_of_one: StoreOfOne, shared: Config) -> Iterator[Worker]:
    with Worker(shared) as worker:
        yield worker


@pytest.mark.parametrize(
    ("fault", "request_"),
    [
        ("cut", ["GET", "/customer/7"]),
        ("refuse_writes", ["GET", "/customers?name=a"]),
        ("cut", ["client", "get_customer", 7]),
    ],
    ids=["cached", "another", "client"],
)
def test_the_next_request_delivers(
    lonely: Worker, other: Worker, link: Link, fault: str, request_: list[object]
) -> None:
    """The next request of any kind empties the cache for a write that could not do so."""
    assert (lonely.lang(), other.lang()) == ("x0", "x0")
    getattr(link, fault)()
    assert lonely.ask("POST", "/delete_customer/7")[0] == 200
    assert lonely.lang() == "x1"
    link.mend()
    assert lonely.ask(*request_)[0] == 200
    assert other.lang() == "x1"


def test_a_failed_delivery_is_tried_again(lonely: Worker, other: Worker, link: Link) -> None:
    """A worker uses no cached response until it has emptied the cache, however often it fails."""
    assert lonely.lang() == "x0"
    link.refuse_writes()
    assert lonely.ask("POST", "/delete_customer/7")[0] == 200
    for _ in range(3):
        assert lonely.lang() == "x1"
        time.sleep(0.15)
    link.mend()
    assert (lonely.lang(), other.lang()) == ("x1", "x1")


def test_many_threads_deliver(
    store_of_one: StoreOfOne,
    shared: Config,
    other: Worker,
    link: Link,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every write of many threads is told to the others, while Redis comes and goes."""
    monkeypatch.setattr(redis_connection, "COOLDOWN_S", 0.0)
    app = app_of({**shared, "ECWID_REDIS_URL": link.url})

    def work(number: int) -> int:
        api = Api(app.test_client())
        for _ in range(5):
            api.get("/customer/7")
            api.post("/update_customer/7", {"lang": f"{number}"})
        return api.get("/customer/7").status_code

    with ThreadPoolExecutor(8) as pool:
        works = [pool.submit(work, number) for number in range(8)]
        while not all(each.done() for each in works):
            link.refuse_writes()
            assert other.ask("GET", "/customer/7")[0] == 200
            link.mend()
        assert [each.result() for each in works] == [200] * 8
    assert Api(app.test_client()).get("/customer/7").status_code == 200
    assert other.lang() == f"x{store_of_one.languages}" == "x40"


def test_another_process_of_the_host_delivers(
    lonely: Worker, other: Worker, link: Link, store_of_one: StoreOfOne
) -> None:
    """The other processes of the host see the write within seconds, also if its worker was killed.

    The worker leaves a mark in the host's file. The process that delivers removes the mark, so the
    cache works on.
    """
    assert other.lang() == "x0"
    link.cut()
    assert lonely.ask("POST", "/delete_customer/7")[0] == 200
    lonely.kill()
    assert becomes("x1", other.lang)
    reads = store_of_one.reads
    assert other.lang() == "x1"
    assert store_of_one.reads == reads


def test_a_new_process_of_the_host_delivers(
    lonely: Worker, other: Worker, link: Link, shared: Config
) -> None:
    """The first request of the worker that replaces a killed worker empties the cache."""
    assert other.lang() == "x0"
    link.cut()
    assert lonely.ask("POST", "/delete_customer/7")[0] == 200
    lonely.kill()
    with Worker(shared) as replacement:
        assert replacement.lang() == "x1"
    assert other.lang() == "x1"


def test_a_child_delivers(lonely: Worker, other: Worker, link: Link) -> None:
    """A process that is forked before the delivery shows nothing older than the write."""
    assert (lonely.lang(), other.lang()) == ("x0", "x0")
    link.refuse_writes()
    assert lonely.ask("POST", "/delete_customer/7")[0] == 200
    link.mend()
    assert lonely.lang("fork") == "x1"
    assert other.lang() == "x1"


def test_without_the_file(
    store_of_one: StoreOfOne, shared: Config, link: Link, other: Worker
) -> None:
    """A worker that cannot use the host's file remembers the write by itself."""
    config = {**shared, "ECWID_REDIS_URL": link.url}
    with Worker(config, XDG_STATE_HOME="/dev/null") as lonely:
        assert (lonely.lang(), other.lang()) == ("x0", "x0")
        link.cut()
        assert lonely.ask("POST", "/delete_customer/7")[0] == 200
        link.mend()
        assert (lonely.lang(), other.lang()) == ("x1", "x1")
