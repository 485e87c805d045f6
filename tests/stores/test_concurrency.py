"""A store whose calls stall leaves threads to the other stores."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import flask
import pytest

from flask_ecwid import Settings
from flask_ecwid.errors import StoreBusy
from flask_ecwid.settings.rules import BY_HOST
from flask_ecwid.throttling.concurrency import StoreThreads

from ..conftest import Api
from ..helpers.agency import Agency
from ..helpers.fake_stores import FakeStores, token_of


@pytest.mark.parametrize("paths", [["/customer/7"], ["/customer/7", "/customer/8", "/customer/9"]])
def test_a_stalled_store(agency: Callable[..., Agency], fake: FakeStores, paths: list[str]) -> None:
    """A stalled store gets a 503 at once beyond its threads, and other stores are served.

    A request that waits for the equal read of another request counts as well.
    """
    app = agency(ECWID_STORE_CONCURRENCY=3)
    assert app.of("1").get("/customer/1").status_code == 200  # which proves the token
    fake.stalled.add("1")
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(app.of("1").get, paths[n % len(paths)]) for n in range(3)]
        fake.wait_for_calls("1", 1 + len(paths))
        until_counted(app, 3)
        refused = app.of("1").get("/customer/10")
        problem = refused.get_json()
        assert (refused.status_code, problem["type"]) == (503, "urn:flask-ecwid:problem:store-busy")
        assert int(refused.headers["Retry-After"]) == 1
        created = app.of("1").post("/add_customer", {"email": "ann@example.com"})
        assert (created.status_code, created.get_json()["executed"]) == (503, "no")
        assert fake.calls["1"] == 1 + len(paths)
        assert app.of("2").get("/customer/7").status_code == 200
        fake.go_on.set()
        assert [each.result(60).status_code for each in waiting] == [200] * 3
    assert app.of("1").get("/customer/10").status_code == 200


def until_counted(app: Agency, count: int) -> None:
    """Wait until so many threads of a store are counted."""
    while sum(app.stores.upstream.threads._taken.values()) < count:
        os.sched_yield()


def test_a_cached_response_needs_no_thread(agency: Callable[..., Agency], fake: FakeStores) -> None:
    """A busy store still gets its cached responses."""
    app = agency(ECWID_STORE_CONCURRENCY=1, ECWID_CACHE_TTL_S=60)
    assert app.of("1").get("/customer/7").status_code == 200
    fake.stalled.add("1")
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(app.of("1").get, "/customer/8")
        fake.wait_for_calls("1", 2)
        assert app.of("1").get("/customer/9").status_code == 503
        assert app.of("1").get("/customer/7").status_code == 200
        fake.go_on.set()
        assert waiting.result(60).status_code == 200


def test_one_store_by_settings_has_no_limit(fake: FakeStores) -> None:
    """A mount with one store gives all threads to its store."""
    from flask_ecwid import Ecwid

    app = flask.Flask("shop")
    app.config.update(
        ECWID_STORE_ID="1",
        ECWID_TOKEN=token_of("1"),
        ECWID_AUTH="none",
        ECWID_API_URL=fake.url,
        ECWID_STORE_CONCURRENCY=1,
    )
    Ecwid(app)
    fake.stalled.add("1")
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(Api(app.test_client()).get, f"/customer/{n}") for n in (7, 8, 9)]
        fake.wait_for_calls("1", 3)
        fake.go_on.set()
        assert [each.result(60).status_code for each in waiting] == [200] * 3


def test_a_fork_begins_without_threads() -> None:
    """A forked process does not count the threads of its parent, which it does not have."""
    threads = StoreThreads(Settings(stores=BY_HOST, sandbox="on", store_concurrency=1))
    with threads.take("a"):
        with pytest.raises(StoreBusy), threads.take("a"):
            pass
        child = os.fork()
        if not child:
            status = 1
            try:
                with threads.take("a"):
                    status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
    with threads.take("a"), threads.take("b"):
        assert len(threads._taken) == 2
    assert not threads._taken
