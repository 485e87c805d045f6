"""The cache of several workers of a host without Redis, with real processes and the real file."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flask_ecwid.storage.redis_connection import COOLDOWN_S

from ..conftest import Config
from ..helpers.store_of_one import StoreOfOne, becomes
from ..helpers.worker import Worker

RULE_S = 1.0  # No response is older than this time after a write.


@pytest.fixture
def cached(config: Config) -> Config:
    """Return the settings of workers with a cache in the memory of each."""
    return {**config, "ECWID_CACHE_TTL_S": 3600}


@pytest.fixture
def one(store_of_one: StoreOfOne, cached: Config) -> Iterator[Worker]:
    with Worker(cached) as worker:
        yield worker


@pytest.fixture
def other(store_of_one: StoreOfOne, cached: Config) -> Iterator[Worker]:
    with Worker(cached) as worker:
        yield worker


@pytest.mark.parametrize(
    "write",
    [["POST", "/delete_customer/7"], ["client", "delete_customer", 7]],
    ids=["endpoint", "client"],
)
def test_a_write_is_seen_by_each_worker(
    one: Worker, other: Worker, store_of_one: StoreOfOne, write: list[object]
) -> None:
    """A second after a write, no worker shows an older response, and the cache works on."""
    for number in range(3):
        assert (one.lang(), other.lang()) == (f"x{number}", f"x{number}")
        assert one.ask(*write)[0] == 200
        assert one.lang() == f"x{number + 1}"
        time.sleep(RULE_S)
        reads = store_of_one.reads
        assert [other.lang() for _ in range(3)] == [f"x{number + 1}"] * 3
        assert store_of_one.reads == reads + 1


def test_a_write_that_fails_is_seen(one: Worker, other: Worker, store_of_one: StoreOfOne) -> None:
    """A write without a good reply counts as well, because Ecwid may have executed it."""
    assert (one.lang(), other.lang()) == ("x0", "x0")
    store_of_one.status = 500
    assert one.ask("POST", "/delete_customer/7")[0] == 502
    store_of_one.status = 200
    changes = store_of_one.languages
    time.sleep(RULE_S)
    assert (one.lang(), other.lang()) == (f"x{changes}", f"x{changes}")


def test_a_worker_that_is_killed_during_a_write(
    one: Worker, other: Worker, store_of_one: StoreOfOne
) -> None:
    """A read after the call shows the write, although its worker could not end the write.

    The mark before the call tells the other workers. A read during the call may be cached.
    """
    assert other.lang() == "x0"
    store_of_one.on_write = one.kill
    one.begin("POST", "/delete_customer/7")
    assert store_of_one.is_written()
    assert becomes("x1", other.lang)


def test_without_the_file(store_of_one: StoreOfOne, cached: Config) -> None:
    """A worker that cannot use the host's file finds no cached response, and reads from Ecwid.

    Otherwise the worker could show a response from before a write of another worker.
    """
    with Worker(cached, XDG_STATE_HOME="/dev/null") as lonely:
        assert [lonely.lang(), lonely.lang()] == ["x0", "x0"]
        assert store_of_one.reads == 2
        assert lonely.ask("POST", "/delete_customer/7")[0] == 200
        assert lonely.lang() == "x1"


def test_a_write_that_could_not_be_told(
    one: Worker, other: Worker, store_of_one: StoreOfOne
) -> None:
    """A worker that could not change the file after its call tells the others of the write later.

    The next request of any kind does so, as soon as the file can be used.
    """
    assert (one.lang(), other.lang()) == ("x0", "x0")
    with closing(_state_file()) as db:
        # The file is locked after the mark before the call, so the mark after the call is missing.
        store_of_one.on_write = lambda: db.execute("BEGIN IMMEDIATE")
        assert one.ask("POST", "/delete_customer/7")[0] == 200
    assert other.lang() == "x1"
    store_of_one.languages += 1  # as if the other worker had read during the call
    assert other.lang() == "x1"
    time.sleep(COOLDOWN_S + RULE_S)  # until the worker uses the file again
    assert one.ask("GET", "/customers")[0] == 200
    time.sleep(RULE_S)
    assert (one.lang(), other.lang()) == ("x2", "x2")


def _state_file() -> sqlite3.Connection:
    folder = Path(os.environ["XDG_STATE_HOME"]) / f"flask-ecwid-{os.getuid()}"
    return sqlite3.connect(folder / "state.sqlite3", isolation_level=None, check_same_thread=False)
