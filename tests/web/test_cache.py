"""Tests of the cache of responses in memory and in a real Redis."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug.test import TestResponse

from flask_ecwid import EcwidClient, EcwidError, Settings, SettingsError, clock
from flask_ecwid.storage import redis_connection, response_memory

from ..conftest import REQUEST_ID, STORE, Api, Config, app_of
from ..helpers.raw_server import Gate, RawServer, good, sends
from ..helpers.redis_relay import EmptyingRelay, LosingRelay
from ..helpers.redis_server import RedisServer
from ..helpers.store_of_one import StoreOfOne
from ..helpers.worker import Worker

TTL_S = 60
CANARY = "canary@example.com"


@pytest.fixture(params=["memory", "redis"])
def cached(request: pytest.FixtureRequest, config: Config) -> Config:
    """Return the settings of a store with a cache in memory or in Redis."""
    config["ECWID_CACHE_TTL_S"] = TTL_S
    if request.param == "redis":
        config["ECWID_REDIS_URL"] = request.getfixturevalue("redis").url
    return config


def lang(response: TestResponse) -> str:
    attributes = response.get_json()["data"]["attributes"]
    return str(attributes.get("items", [attributes])[0]["lang"])


def test_off_by_default(store_of_one: StoreOfOne, config: Config) -> None:
    """Without the setting every read is a call, and responses carry no ETag."""
    api = Api(app_of(config).test_client())
    for _ in range(2):
        response = api.get("/customer/7")
        assert {"ETag", "Age"}.isdisjoint(response.headers.keys())
        assert response.headers["Cache-Control"] == "no-store"
    assert store_of_one.reads == 2


@pytest.mark.parametrize("path", ["/customer/7", "/customers", "/customers?email=a@example.com"])
def test_reads_are_cached(store_of_one: StoreOfOne, cached: Config, path: str) -> None:
    """The cache serves the second read without a call, under a request id of its own."""
    api = Api(app_of(cached).test_client())
    first, second = api.get(path), api.get(path, headers={"X-Request-ID": REQUEST_ID})
    assert store_of_one.reads == 1
    assert (first.status_code, second.status_code) == (200, 200)
    kept, given = second.get_json()["data"], first.get_json()["data"]
    assert kept["attributes"] == given["attributes"]
    assert kept["id"] == (7 if path == "/customer/7" else REQUEST_ID)
    assert second.headers["X-Request-ID"] == REQUEST_ID
    assert first.headers["ETag"] == second.headers["ETag"]
    assert first.headers["Cache-Control"] == "private, no-cache"
    assert first.headers["Age"] == "0"
    assert 0 <= int(second.headers["Age"]) < TTL_S


def test_age(store_of_one: StoreOfOne, cached: Config) -> None:
    """`Age` is the number of seconds since the read."""
    api = Api(app_of(cached).test_client())
    api.get("/customer/7")
    time.sleep(1.1)
    assert 1 <= int(api.get("/customer/7").headers["Age"]) <= 30


def test_not_modified(store_of_one: StoreOfOne, cached: Config) -> None:
    """A caller that has the current response gets a 304 without a body."""
    api = Api(app_of(cached).test_client())
    tag = api.get("/customers").headers["ETag"]
    given = {"If-None-Match": tag, "X-Request-ID": REQUEST_ID}
    kept = api.get("/customers", headers=given)
    assert (kept.status_code, kept.data, kept.headers["ETag"]) == (304, b"", tag)
    assert kept.headers["X-Request-ID"] == REQUEST_ID
    assert api.get("/customers", headers={"If-None-Match": 'W/"another"'}).status_code == 200
    for name in ("If-Match", "If-Unmodified-Since", "If-Range"):
        assert api.get("/customers", headers={name: '"another"'}).status_code == 200
    store_of_one.languages = 1
    api.post("/delete_customer/7")
    assert lang(api.get("/customers", headers=given)) == "x2"
    store_of_one.languages = 0
    elsewhere = {**cached, "ECWID_REDIS_URL": "", "ECWID_CACHE_TTL_S": 2 * TTL_S}
    other = Api(app_of(elsewhere).test_client())
    assert other.get("/customers", headers=given).status_code == 304


def test_a_cached_response_expires(store_of_one: StoreOfOne, cached: Config) -> None:
    """A cached response expires after ECWID_CACHE_TTL_S."""
    api = Api(app_of({**cached, "ECWID_CACHE_TTL_S": 0.5}).test_client())
    api.get("/customer/7")
    time.sleep(0.7)
    api.get("/customer/7")
    assert store_of_one.reads == 2


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize(
    "write", ["/add_customer", "/update_customer/7", "/delete_customer/7", "the host's"]
)
def test_every_write_empties_the_cache(
    store_of_one: StoreOfOne, cached: Config, write: str, status: int
) -> None:
    """Any write through the plugin empties the cache, even a write that failed."""
    app = app_of(cached)
    api = Api(app.test_client())
    api.get("/customer/7")
    api.get("/customers")
    store_of_one.status = status
    if write == "the host's":
        with contextlib.suppress(EcwidError):
            app.extensions["ecwid"]["ecwid"].client.update_customer(7, {"lang": "en"})
    else:
        response = api.post(write, {"email": "new@example.com"})
        assert response.status_code == status
        assert "ETag" not in response.headers
    store_of_one.status = 200
    assert lang(api.get("/customer/7")) == "x1"
    assert lang(api.get("/customers")) == "x1"
    assert store_of_one.reads == 4


def test_different_reads_are_cached_apart(store_of_one: StoreOfOne, cached: Config) -> None:
    """The cache keeps a response per set of arguments, and their order does not matter."""
    api = Api(app_of(cached).test_client())
    for query in ("", "?limit=5", "?limit=6", "?email=a", "?name=a", "?email=a&name=a"):
        api.get(f"/customers{query}")
    assert store_of_one.reads == 6
    api.get("/customers?name=a&email=a")
    assert store_of_one.reads == 6


@pytest.mark.parametrize("fault", ["refused", "violation"])
def test_failures_are_not_cached(store_of_one: StoreOfOne, cached: Config, fault: str) -> None:
    """The cache keeps only good replies that satisfy the contract."""
    api = Api(app_of(cached).test_client())
    if fault == "refused":
        store_of_one.status = 500
    else:
        store_of_one.customer_id = '"seven"'
    assert api.get("/customer/7").status_code == 502
    store_of_one.status, store_of_one.customer_id = 200, 7
    assert api.get("/customer/7").status_code == 200


def test_a_read_from_before_a_write_is_not_cached(cached: Config) -> None:
    """The cache does not keep a read that began before a write and ended after the write."""
    gate = Gate()
    old, new = good(b'{"id":7,"lang":"old"}'), good(b'{"id":7,"lang":"new"}')
    written = good(b'{"updateCount":1}')
    with RawServer(gate.before(sends(old)), sends(written), sends(new)) as server:
        app = app_of({**cached, "ECWID_API_URL": server.url})
        read = threading.Thread(target=lambda: Api(app.test_client()).get("/customer/7"))
        read.start()
        assert gate.asked.wait(20)
        assert Api(app.test_client()).post("/update_customer/7", {"lang": "new"}).status_code == 200
        gate.open()
        read.join(20)
        assert lang(Api(app.test_client()).get("/customer/7")) == "new"


@pytest.mark.parametrize("writer", ["worker", "mount", "client"])
def test_a_read_joins_no_call_from_before_a_write(cached: Config, writer: str) -> None:
    """A read that begins after a write elsewhere joins no call from before the write.

    The write comes from another worker, or from another mount or client of this process. The old
    reply is shown to nobody afterwards.
    """
    gate = Gate()
    old, new = good(b'{"id":7,"lang":"old"}'), good(b'{"id":7,"lang":"new"}')
    written = good(b'{"updateCount":1}')
    with RawServer(gate.before(sends(old)), sends(written), sends(new)) as server:
        config = {**cached, "ECWID_API_URL": server.url}
        app = app_of(config)
        read = threading.Thread(target=lambda: Api(app.test_client()).get("/customer/7"))
        read.start()
        assert gate.asked.wait(20)
        update_elsewhere(writer, config)
        with ThreadPoolExecutor(1) as pool:
            after = pool.submit(lambda: lang(Api(app.test_client()).get("/customer/7")))
            wait([after], 1)  # a read that joins waits for the gate
            gate.open()
            assert after.result(20) == "new"
        read.join(20)
        for each in (app, app_of(config)):
            assert lang(Api(each.test_client()).get("/customer/7")) == "new"


def test_deep_replies_are_not_cached(ecwid: HTTPServer, cached: Config) -> None:
    """A reply that is nested too deeply is a bad reply with the cache too."""
    body = '{"id": 7, "x": ' + "[" * 300 + "]" * 300 + "}"
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_data(
        body, content_type="application/json"
    )
    assert Api(app_of(cached).test_client()).get("/customer/7").status_code == 502


@pytest.mark.parametrize("key", ["", "ECWID_STORE_ID", "ECWID_TOKEN", "ECWID_CACHE_TTL_S"])
def test_apps_share_in_memory(
    store_of_one: StoreOfOne, ecwid: HTTPServer, config: Config, key: str
) -> None:
    """The apps of one process share the responses of one store, token and time to live."""
    ecwid.expect_request("/api/v3/1004/customers/7").respond_with_handler(store_of_one.get)
    config["ECWID_CACHE_TTL_S"] = TTL_S
    apps = [app_of(each) for each in (config, {**config, key: "1004"} if key else config)]
    for app in apps:
        Api(app.test_client()).get("/customer/7")
    assert store_of_one.reads == (2 if key else 1)


@pytest.mark.parametrize("writer", ["worker", "mount", "client", "another token"])
def test_a_write_elsewhere_is_seen(store_of_one: StoreOfOne, cached: Config, writer: str) -> None:
    """Each worker of a host, and each mount and client of a process, empties the others' cache."""
    app = app_of(cached)
    assert lang(Api(app.test_client()).get("/customer/7")) == "x0"
    update_elsewhere(writer, cached)
    assert lang(Api(app.test_client()).get("/customer/7")) == "x1"


def update_elsewhere(writer: str, config: Config) -> None:
    """Change customer 7 through another worker, or another mount or client of this process."""
    if writer == "worker":
        with Worker(config) as worker:
            assert worker.ask("POST", "/update_customer/7", {"lang": "new"})[0] == 200
        return
    if writer == "client":  # which keeps no responses
        settings = Settings(
            config["ECWID_STORE_ID"], config["ECWID_TOKEN"], api_url=config["ECWID_API_URL"]
        )
        EcwidClient(settings).update_customer(7, {"lang": "new"})
        return
    if writer == "another token":
        config = {**config, "ECWID_TOKEN": "secret_another", "ECWID_CACHE_TTL_S": 2 * TTL_S}
    api = Api(app_of(config).test_client())
    assert api.post("/update_customer/7", {"lang": "new"}).status_code == 200


def test_an_app_that_is_dropped_leaves_no_response(
    store_of_one: StoreOfOne, config: Config
) -> None:
    """An app finds no response of an app that no longer exists."""
    config["ECWID_CACHE_TTL_S"] = TTL_S
    for _ in range(2):
        Api(app_of(config).test_client()).get("/customer/7")
        gc.collect()
    assert store_of_one.reads == 2


@pytest.mark.parametrize("during_the_read", [False, True])
def test_a_suspended_host(
    store_of_one: StoreOfOne, cached: Config, monkeypatch: pytest.MonkeyPatch, during_the_read: bool
) -> None:
    """A response expires while the host is suspended, also if its read was under way then.

    Redis goes on meanwhile. The monotonic clock of the host stops, and the wall clock does not.
    """
    wall, asleep = clock.wall, [0.0]
    monkeypatch.setattr(clock, "wall", lambda: wall() + asleep[0])
    api = Api(app_of({**cached, "ECWID_CACHE_TTL_S": 2}).test_client())
    if during_the_read:
        store_of_one.on_read = lambda: asleep.insert(0, 3.0)
    api.get("/customer/7")
    store_of_one.on_read = lambda: None
    if not during_the_read and "ECWID_REDIS_URL" not in cached:
        asleep.insert(0, 3.0)
    elif not during_the_read:
        time.sleep(2.1)
    api.get("/customer/7")
    assert store_of_one.reads == 2


def test_memory_has_a_limit(
    store_of_one: StoreOfOne, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A response that is too large for the cache is sent but not kept."""
    monkeypatch.setattr(response_memory, "MAX_BYTES", 10)
    api = Api(app_of({**config, "ECWID_CACHE_TTL_S": TTL_S}).test_client())
    assert [api.get("/customer/7").status_code for _ in range(2)] == [200, 200]
    assert store_of_one.reads == 2


# Redis


@pytest.fixture
def in_redis(config: Config, redis: RedisServer) -> Config:
    return {**config, "ECWID_CACHE_TTL_S": TTL_S, "ECWID_REDIS_URL": redis.url}


def test_apps_share_in_redis(store_of_one: StoreOfOne, in_redis: Config) -> None:
    """Apps that serve the same store share the cache in Redis, until a write empties the cache."""
    one, other = (Api(app_of(in_redis).test_client()) for _ in range(2))
    one.get("/customer/7")
    other.get("/customer/7")
    assert store_of_one.reads == 1
    other.post("/delete_customer/7")
    assert lang(one.get("/customer/7")) == "x1"


@pytest.mark.parametrize("key", ["ECWID_STORE_ID", "ECWID_TOKEN"])
def test_stores_do_not_mix_in_redis(
    store_of_one: StoreOfOne, ecwid: HTTPServer, in_redis: Config, key: str
) -> None:
    """Another store, or another token, shares no cached response in Redis."""
    ecwid.expect_request("/api/v3/1004/customers/7").respond_with_handler(store_of_one.get)
    Api(app_of(in_redis).test_client()).get("/customer/7")
    Api(app_of({**in_redis, key: "1004"}).test_client()).get("/customer/7")
    assert store_of_one.reads == 2


def test_sandboxes_do_not_mix_in_redis(redis: RedisServer) -> None:
    """Two private sandboxes share no cached response in Redis."""
    config = {"ECWID_SANDBOX": "on", "ECWID_CACHE_TTL_S": TTL_S, "ECWID_REDIS_URL": redis.url}
    one, other = (Api(app_of(config).test_client()) for _ in range(2))
    total = one.get("/customers").get_json()["data"]["attributes"]["total"]
    one.post("/add_customer", {"email": "new@example.com"})
    other.get("/customers")
    found = one.get("/customers").get_json()["data"]["attributes"]["total"]
    assert found == total + 1


def test_cache_keys_hold_no_secret(
    store_of_one: StoreOfOne, in_redis: Config, redis: RedisServer
) -> None:
    """No cache key in Redis holds a filter, the store's id or the token, and each key expires."""
    Api(app_of(in_redis).test_client()).get(f"/customers?email={CANARY}")
    names = [str(name) for name in redis.client.scan_iter()]
    assert len(names) == 3  # the generation, the response and the window of the rate limit
    words = (CANARY, "1003", in_redis["ECWID_TOKEN"], "email")
    assert not any(word in name for word in words for name in names)
    assert all(redis.client.pttl(name) > 0 for name in redis.client.scan_iter())


def test_redis_emptied(store_of_one: StoreOfOne, in_redis: Config, redis: RedisServer) -> None:
    """The cache works on after Redis was emptied."""
    api = Api(app_of(in_redis).test_client())
    api.get("/customer/7")
    redis.client.flushall()
    for _ in range(2):
        assert api.get("/customer/7").status_code == 200
    assert store_of_one.reads == 2


def test_redis_is_emptied_all_the_time(
    store_of_one: StoreOfOne, in_redis: Config, redis: RedisServer
) -> None:
    """A Redis that is emptied after each of its replies keeps nothing and breaks no read."""
    with EmptyingRelay(redis) as relay:
        api = Api(app_of({**in_redis, "ECWID_REDIS_URL": relay.url}).test_client())
        assert [api.get("/customer/7").status_code for _ in range(3)] == [200] * 3
        assert relay.emptied >= 3
    assert store_of_one.reads == 3


def test_only_the_generation_lost(
    store_of_one: StoreOfOne, in_redis: Config, redis: RedisServer
) -> None:
    """The cache ignores responses in Redis of unknown age, because their generation is lost."""
    api = Api(app_of(in_redis).test_client())
    api.get("/customer/7")
    (name,) = redis.client.keys("*:generation")
    redis.client.delete(name)
    api.get("/customer/7")
    assert store_of_one.reads == 2


ENTRY = "a response"
GENERATION = "generation"


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        (ENTRY, lambda client, name: client.set(name, b"")),
        (ENTRY, lambda client, name: client.set(name, b"\xff\xfe garbage \x00")),
        (ENTRY, lambda client, name: client.set(name, client.get(name).partition(b" ")[2])),
        (ENTRY, lambda client, name: client.set(name, b"2" + client.get(name)[1:], ex=9)),
        (ENTRY, lambda client, name: client.set(name, client.get(name)[:-1], ex=9)),
        (ENTRY, lambda client, name: client.set(name, foreign(client.get(name), b"x"), ex=9)),
        (ENTRY, lambda client, name: client.set(name, foreign(client.get(name), b"x y"), ex=9)),
        (ENTRY, lambda client, name: client.persist(name)),
        (ENTRY, lambda client, name: (client.delete(name), client.rpush(name, "x"))),
        (GENERATION, lambda client, name: client.set(name, b"")),
        (GENERATION, lambda client, name: client.set(name, b"\xff\xfe garbage \x00")),
        (GENERATION, lambda client, name: (client.delete(name), client.rpush(name, "x"))),
    ],
    ids=[
        *("empty", "garbage", "no version", "another version", "cut", "foreign", "foreign tag"),
        *("lasting", "a list", "empty generation", "foreign generation", "generation list"),
    ],
)
def test_garbage_in_redis(
    store_of_one: StoreOfOne,
    in_redis: Config,
    redis: RedisServer,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    spoil: Callable[[Any, Any], None],
) -> None:
    """Garbage or another version's value in Redis is no hit, and the cache goes on."""
    api = Api(app_of(in_redis).test_client())
    api.get("/customer/7")
    texts = [name for name in redis.client.scan_iter() if redis.client.type(name) == b"string"]
    [name] = [name for name in texts if (b"generation" in name) == (kind == GENERATION)]
    store_of_one.languages = 5
    spoil(redis.client, name)
    assert [lang(api.get("/customer/7")) for _ in range(2)] == ["x5", "x5"]
    assert store_of_one.reads == 2
    assert "Redis has failed" not in caplog.text


def foreign(entry: bytes, value: bytes) -> bytes:
    """Return an entry of the same version and generation with another value and its digest."""
    tag = hashlib.blake2b(value, digest_size=16).hexdigest().encode()
    return b" ".join([*entry.split(b" ")[:2], tag, value])


def test_a_generation_never_comes_back(
    store_of_one: StoreOfOne, in_redis: Config, redis: RedisServer
) -> None:
    """A write whose reply from Redis is lost, and which is repeated, brings no old value back.

    Another worker writes between the two attempts of the invalidation.
    """
    other = Api(app_of(in_redis).test_client())

    def meanwhile() -> None:
        assert lang(other.get("/customer/7")) == "x1"
        update_elsewhere("worker", in_redis)

    with LosingRelay(redis, meanwhile) as relay:
        config = {**in_redis, "ECWID_REDIS_URL": relay.url}
        with Worker(config) as worker:
            assert worker.lang() == "x0"
            relay.loses = 2  # The first change comes before the call of the write.
            assert worker.ask("POST", "/delete_customer/7")[0] == 200
            assert relay.lost == 1
    assert lang(other.get("/customer/7")) == "x2"


@pytest.mark.parametrize("fault", ["stopped", "halted"])
def test_redis_fails(
    store_of_one: StoreOfOne, config: Config, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """Reads and writes go on within seconds without Redis.

    The log says so once, without the URL of Redis.
    """
    with RedisServer() as redis:
        url = redis.url.replace("redis://", "redis://:secret_redis@")
        api = Api(
            app_of({**config, "ECWID_CACHE_TTL_S": TTL_S, "ECWID_REDIS_URL": url}).test_client()
        )
        redis.client.config_set("requirepass", "secret_redis")
        api.get("/customer/7")
        assert lang(api.get("/customer/7")) == "x0"
        (redis.stop if fault == "stopped" else redis.halt)()
        try:
            begun = time.monotonic()
            assert api.post("/delete_customer/7").status_code == 200
            assert lang(api.get("/customer/7")) == "x1"
            assert lang(api.get("/customer/7")) == "x1"
            assert time.monotonic() - begun < 20
        finally:
            if fault == "halted":
                redis.go_on()
    warnings = [line for line in caplog.messages if line.startswith("Redis has failed")]
    assert len(warnings) == 1
    assert "secret_redis" not in caplog.text
    assert store_of_one.reads == 3


def test_a_write_that_cannot_empty_redis(
    store_of_one: StoreOfOne, in_redis: Config, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that could not empty Redis after a write reads nothing older from Redis."""
    monkeypatch.setattr(redis_connection, "COOLDOWN_S", 0.0)
    api = Api(app_of(in_redis).test_client())
    api.get("/customer/7")
    redis.client.config_set("min-replicas-to-write", 1)  # Redis can be read, but refuses changes
    api.post("/delete_customer/7")
    redis.client.config_set("min-replicas-to-write", 0)
    assert lang(api.get("/customer/7")) == "x1"


@pytest.mark.usefixtures("patience")
def test_redis_comes_back(
    store_of_one: StoreOfOne, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache works again when Redis is available again."""
    monkeypatch.setattr(redis_connection, "COOLDOWN_S", 0.2)
    with RedisServer() as redis:
        api = Api(
            app_of(
                {**config, "ECWID_CACHE_TTL_S": TTL_S, "ECWID_REDIS_URL": redis.url}
            ).test_client()
        )
        redis.stop()
        api.get("/customer/7")
        redis.start_again()
        time.sleep(0.3)
        for _ in range(3):
            api.get("/customer/7")
    assert store_of_one.reads == 2


def test_a_url_that_redis_py_refuses(config: Config) -> None:
    """An option in the URL that redis-py does not take is a fault of the settings."""
    url = "redis://:canary@127.0.0.1/?socket_timeout=canary"
    with pytest.raises(SettingsError) as caught:
        app_of({**config, "ECWID_CACHE_TTL_S": TTL_S, "ECWID_REDIS_URL": url})
    assert caught.value.faults == ["ECWID_REDIS_URL holds an option that redis-py does not take"]


def test_redis_py_is_an_extra(
    config: Config, monkeypatch: pytest.MonkeyPatch, redis: RedisServer
) -> None:
    """The start fails without redis-py and says what to install."""
    monkeypatch.setitem(__import__("sys").modules, "redis", None)
    with pytest.raises(SettingsError, match=r"flask-ecwid\[redis\]"):
        app_of({**config, "ECWID_CACHE_TTL_S": TTL_S, "ECWID_REDIS_URL": redis.url})
