"""After `forget_store`, nothing of the store is left but what protects it."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flask
import pytest

from flask_ecwid import Ecwid
from flask_ecwid.errors import Throttled
from flask_ecwid.storage import host_mark

from ..conftest import free_port
from ..helpers.agency import Agency, credentials
from ..helpers.fake_stores import FakeStores, rate_limited
from ..helpers.redis_server import RedisServer

BODY = {"email": "ann@example.com"}


@pytest.fixture(params=["file", "redis"])
def shared(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings of workers that share a state."""
    monkeypatch.setenv("GUNICORN_ECWID_SERVICE", "service")
    settings: dict[str, Any] = {"ECWID_CACHE_TTL_S": 600}
    if request.param == "redis":
        settings["ECWID_REDIS_URL"] = request.getfixturevalue("redis").url
    return settings


def forget(app: Agency, store: str) -> None:
    with app.app.app_context():
        app.ecwid.forget_store(store)


def create(app: Agency, store: str, key: str) -> Any:
    return app.of(store).post("/add_customer", BODY, headers={"Idempotency-Key": key})


def test_the_records(
    agency: Callable[..., Agency], fake: FakeStores, shared: dict[str, Any]
) -> None:
    """The outcomes of idempotency keys go, and those of other stores stay."""
    app = agency(**shared)
    for store in ("1", "11"):
        create(app, store, "key")
    forget(app, "1")
    assert "Idempotency-Replayed" not in create(app, "1", "key").headers
    assert "Idempotency-Replayed" in create(app, "11", "key").headers
    assert fake.created == {"1": 2, "11": 1}


def test_a_running_lease(
    agency: Callable[..., Agency], fake: FakeStores, shared: dict[str, Any]
) -> None:
    """The record of a creation under way stays, so no repeat can create a second customer."""
    app = agency(**shared)
    assert app.of("1").get("/customer/7").status_code == 200  # which proves the token
    fake.stalled.add("1")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(create, app, "1", "key")
        fake.wait_for_calls("1", 2)
        forget(app, "1")
        assert create(app, "1", "key").status_code == 409
        fake.go_on.set()
        assert first.result(60).status_code == 200
    assert fake.created == {"1": 1}


def test_the_pause(agency: Callable[..., Agency], fake: FakeStores, shared: dict[str, Any]) -> None:
    """A pause ends in every process, and the pause of another store holds."""
    app, other = agency(**shared), agency(**shared)
    for store in ("1", "2"):
        fake.faults[store] = rate_limited(600)
        assert app.of(store).get("/customer/7").status_code == 429
    fake.faults.clear()
    forget(app, "1")
    assert [each.of("1").get("/customer/7").status_code for each in (app, other)] == [200, 200]
    assert [each.of("2").get("/customer/7").status_code for each in (app, other)] == [503, 503]


def test_a_pause_of_this_process(agency: Callable[..., Agency], fake: FakeStores) -> None:
    """Without gunicorn and Redis, the pause of this process ends."""
    app = agency()
    fake.faults["1"] = rate_limited(600)
    client = app.client("1")
    store = client.store  # so that the store stays open
    assert app.of("1").get("/customer/7").status_code == 429
    fake.faults.clear()
    assert app.of("1").get("/customer/7").status_code == 503
    forget(app, "1")
    assert (app.of("1").get("/customer/7").status_code, client.store is store) == (200, True)


def test_the_cache(agency: Callable[..., Agency], fake: FakeStores, shared: dict[str, Any]) -> None:
    """The cached responses go, and those of another store stay."""
    app = agency(**shared)
    for store in ("1", "2"):
        app.of(store).get("/customer/7")
    forget(app, "1")
    for store in ("1", "2"):
        app.of(store).get("/customer/7")
    assert (fake.calls["1"], fake.calls["2"]) == (2, 1)


def test_the_cache_of_another_process(
    agency: Callable[..., Agency],
    fake: FakeStores,
    shared: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cached responses of another worker go as well, and then its new responses stay."""
    monkeypatch.setattr(host_mark, "LOOK_EVERY_S", 0.0)
    app = agency(**shared)
    for store in ("1", "2"):
        app.of(store).get("/customer/7")
    child = os.fork()
    if not child:
        status = 1
        try:
            forget(app, "1")
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    for store in ("1", "2", "1"):
        app.of(store).get("/customer/7")
    assert (fake.calls["1"], fake.calls["2"]) == (2, 1)


def test_what_redis_keeps(
    agency: Callable[..., Agency], fake: FakeStores, redis: RedisServer
) -> None:
    """In Redis, the store has its counts left, its generation and the proofs of its tokens.

    All of these expire, so nothing of a merchant stays for ever.
    """
    app = agency(ECWID_REDIS_URL=redis.url, ECWID_CACHE_TTL_S=600)
    digest = app.stores.upstream.settings.digest_of("1")
    app.of("1").get("/customer/7")
    create(app, "1", "key")
    app.of("1").get("/customer/7")
    fake.faults["1"] = rate_limited(600)
    app.of("1").get("/customer/8")
    before = keys_in(redis, digest)
    forget(app, "1")
    dropped = before - keys_in(redis, digest)
    token = app.stores.upstream.settings.token_digest(credentials("1")).removeprefix(f"{digest}:")
    assert f"{token}:pause" in dropped
    assert len([key for key in dropped if key.startswith("once:")]) == 1
    assert len([key for key in dropped if key.startswith("600000:")]) == 1
    kept = before - dropped
    assert kept == {token, f"{token}:accepted", "generation"}
    assert all(redis.client.ttl(f"{digest}:{key}") > 0 for key in kept)


def keys_in(redis: RedisServer, digest: str) -> set[str]:
    """Return the rests of the keys of a store."""
    names = {key.decode() for key in redis.client.scan_iter()}
    return {name.removeprefix(f"{digest}:") for name in names if name.startswith(digest)}


def test_the_calls_still_count(
    agency: Callable[..., Agency], fake: FakeStores, shared: dict[str, Any]
) -> None:
    """A store that is forgotten has as many calls left as before, because Ecwid counts as well."""
    app = agency(**shared, ECWID_CALLS_PER_MINUTE=8)
    statuses = []
    for number in range(10):
        statuses.append(app.of("1").get(f"/customer/{number + 1}").status_code)
        if number == 4:
            forget(app, "1")
    assert statuses == [200] * 8 + [429] * 2


def test_a_storage_that_fails(agency: Callable[..., Agency]) -> None:
    """If the storage cannot be used, the method says so, and may be called again."""
    app = agency(ECWID_CACHE_TTL_S=600, ECWID_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(Throttled, match="again later") as caught:
        forget(app, "1")
    assert caught.value.retry_after_s


@pytest.mark.parametrize("store_id", [None, "", "01", "*", credentials("1")])
def test_no_store_id(agency: Callable[..., Agency], store_id: Any) -> None:
    """A value that is no store id is an error. Otherwise the host would take the store for gone."""
    with pytest.raises(ValueError, match="the store id"):
        forget(agency(), store_id)


@pytest.mark.parametrize("store_id", [1, " 1 "])
def test_a_store_id_as_a_database_gives_it(
    agency: Callable[..., Agency], fake: FakeStores, store_id: Any
) -> None:
    """The id may be a number or have blanks, as in `StoreCredentials`."""
    app = agency(ECWID_CACHE_TTL_S=600)
    app.of("1").get("/customer/7")
    forget(app, store_id)
    app.of("1").get("/customer/7")
    assert fake.calls["1"] == 2


def test_the_only_store(app: flask.Flask) -> None:
    """The store of the settings cannot be forgotten, because the mount has no other store."""
    with app.app_context(), pytest.raises(ValueError, match="only the store of its settings"):
        Ecwid().forget_store("1003")
