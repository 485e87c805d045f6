"""An invented token gets nothing of a store, and changes nothing of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from werkzeug.test import TestResponse

from flask_ecwid import Caller, Ecwid, StoreCredentials

from ..conftest import Api, is_throttled
from ..helpers.joined_reads import count_joined
from ..helpers.raw_server import Call
from ..helpers.redis_server import RedisServer
from ..helpers.token_server import TokenServer
from ..helpers.waiting import happens

VICTIM = StoreCredentials("1003", "secret_victim" + "1" * 8)
FORGED = StoreCredentials("1003", "secret_invented" + "2" * 8)
BODY = {"email": "ann@example.com"}
KEY = {"Idempotency-Key": "8e03978e-40d5-43e8-bc93-6894a57f9324"}
REFUSED = "urn:flask-ecwid:problem:service-refused"


class Agency:
    """An app whose users choose a pair by themselves. All users are one caller."""

    def __init__(self, ecwid: TokenServer, **settings: Any) -> None:
        self.ecwid = ecwid
        self.pair = VICTIM
        app = flask.Flask("agency")
        app.config.update(
            ECWID_API_URL=ecwid.url, ECWID_CACHE_TTL_S=60, ECWID_DEADLINE_S=20, **settings
        )
        Ecwid(app, authorize=lambda scope: Caller("all"), store=lambda caller: self.pair)
        self.api = Api(app.test_client())
        self.app = app

    def calls(self) -> int:
        """Return how many calls of the victim's token Ecwid has got."""
        return sum(token == VICTIM.token for _, _, token in self.ecwid.accepted)

    def is_cached(self) -> bool:
        """Return whether the victim's response comes from the cache."""
        self.pair = VICTIM
        before = self.calls()
        assert self.api.get("/customer/7").status_code == 200
        return self.calls() == before


@pytest.fixture
def ecwid() -> Iterator[TokenServer]:
    with TokenServer({VICTIM.store_id: VICTIM.token}) as server:
        yield server


@pytest.fixture(params=["file", "redis"])
def agency(request: pytest.FixtureRequest, ecwid: TokenServer, redis: RedisServer) -> Agency:
    """Return an app without Redis, and then an app with Redis."""
    is_shared = request.param == "redis"
    return Agency(ecwid, **({"ECWID_REDIS_URL": redis.url} if is_shared else {}))


def is_refused(response: TestResponse) -> bool:
    """Return whether the response is Ecwid's refusal, without anything of the victim."""
    problem = response.get_json()
    assert "1003" not in response.text.replace(problem["request_id"], "")
    is_refusal = problem["type"] == REFUSED and problem.get("executed", "no") == "no"
    return bool(is_refusal and response.status_code == 502)


ATTACKS = {
    "a read": lambda api: api.get("/customer/7"),
    "a list": lambda api: api.get("/customers"),
    "a new customer": lambda api: api.post("/add_customer", BODY),
    "a repeated creation": lambda api: api.post("/add_customer", BODY, headers=KEY),
    "an update": lambda api: api.post("/update_customer/7", {"lang": "en"}),
    "a deletion": lambda api: api.post("/delete_customer/7"),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_invented_token(agency: Agency, attack: Any) -> None:
    """An invented token gets Ecwid's refusal, and the cached responses of the store stay."""
    api = agency.api
    assert api.post("/add_customer", BODY, headers=KEY).status_code == 200
    assert not agency.is_cached()
    assert agency.is_cached()
    agency.pair = FORGED
    assert is_refused(attack(api))
    assert is_throttled(attack(api), 60)
    assert agency.is_cached()
    replayed = api.post("/add_customer", BODY, headers=KEY)
    assert replayed.headers["Idempotency-Replayed"] == "true"
    assert len(agency.ecwid.refused) == 1


def test_an_invented_token_beside_a_read(agency: Agency, monkeypatch: pytest.MonkeyPatch) -> None:
    """An invented token is refused beside a read under way, which others still share."""
    joined = count_joined(monkeypatch)
    ecwid = agency.ecwid
    shown: list[TestResponse] = []
    assert not agency.is_cached()
    arrived, may_reply = threading.Event(), threading.Event()
    reply = ecwid._reply

    def late(connection: Any, call: Call) -> bool:
        if VICTIM.token.encode() in call.headers:
            arrived.set()
            may_reply.wait(20)
        return reply(connection, call)

    ecwid.script = {"list_customers": [late]}

    def read() -> None:
        shown.append(agency.api.get("/customers"))

    before = agency.calls()
    readers = [threading.Thread(target=read) for _ in range(3)]
    readers[0].start()
    assert arrived.wait(20)
    agency.pair = FORGED
    readers[1].start()
    assert happens(lambda: bool(ecwid.refused), 8)  # It would wait for the other one for 10 s.
    readers[1].join(20)
    agency.pair = VICTIM
    readers[2].start()
    assert happens(lambda: joined() == 1)
    may_reply.set()
    for reader in readers:
        reader.join(20)
    assert is_refused(shown[0])
    assert [response.status_code for response in shown[1:]] == [200, 200]
    assert agency.calls() - before == 1


def test_the_first_write_of_a_pair(agency: Agency) -> None:
    """A write of an unproven pair follows the neutral question, and then counts as a write."""
    assert not agency.is_cached()
    assert agency.is_cached()
    second = StoreCredentials("1003", "secret_second" + "3" * 8)
    agency.ecwid.tokens["1003"] = second.token
    agency.pair = second
    before = len(agency.ecwid.heard)
    assert agency.api.post("/update_customer/7", {"lang": "en"}).status_code == 200
    kinds = [call.kind for call in agency.ecwid.heard[before:]]
    assert kinds == ["list_customers", "update_customer"]
    assert agency.api.post("/update_customer/7", {"lang": "de"}).status_code == 200
    assert len(agency.ecwid.heard) == before + 3
    agency.ecwid.tokens["1003"] = VICTIM.token
    assert not agency.is_cached()


def test_another_process_knows_the_proof(agency: Agency) -> None:
    """A worker that starts later asks no neutral question for a token that was accepted."""
    assert not agency.is_cached()
    later = Agency(agency.ecwid, **{"ECWID_REDIS_URL": agency.app.config.get("ECWID_REDIS_URL")})
    before = len(agency.ecwid.heard)
    assert later.api.post("/update_customer/7", {"lang": "en"}).status_code == 200
    assert len(agency.ecwid.heard) == before + 1


def test_a_token_that_ecwid_refuses_later(agency: Agency) -> None:
    """After a refusal, a pair gets no cached response until Ecwid accepts the token again."""
    assert not agency.is_cached()
    assert agency.is_cached()
    agency.ecwid.tokens["1003"] = "secret_another"
    assert is_refused(agency.api.get("/customers"))
    assert is_throttled(agency.api.get("/customer/7"), 60)


def test_a_new_token(agency: Agency) -> None:
    """A new token is used from the next request, and the pause of the old one is not its own."""
    agency.ecwid.tokens["1003"] = "secret_rotated" + "4" * 8
    assert is_refused(agency.api.get("/customer/7"))
    assert is_throttled(agency.api.get("/customer/7"), 60)
    agency.pair = StoreCredentials("1003", "secret_rotated" + "4" * 8)
    assert agency.api.get("/customer/7").status_code == 200


def test_a_token_without_the_scope_of_the_question(agency: Agency) -> None:
    """A token that may not read customers is accepted too, and its writes pass."""

    def lacks_scope(connection: Any, call: Call) -> bool:
        body = b'{"errorCode": "INSUFFICIENT_APP_SCOPE"}'
        head = b"HTTP/1.1 403 -\r\nContent-Type: application/json\r\n"
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        return True

    agency.ecwid.script = {"list_customers": [lacks_scope]}
    assert agency.api.post("/add_customer", BODY, headers=KEY).status_code == 200
    assert agency.api.post("/update_customer/7", {"lang": "en"}).status_code == 200
    assert agency.ecwid.count()["list_customers"] == 1


@pytest.mark.parametrize(
    "status", ["400 -", "404 -", "405 -", "413 -", "500 -", "403 SOMETHING_ELSE"]
)
def test_what_proves_no_token(agency: Agency, status: str) -> None:
    """A reply that the front of Ecwid may have sent before it looked at the token is no proof."""
    number, _, code = status.partition(" ")
    body = b"{}" if code == "-" else b'{"errorCode": "%s"}' % code.encode()
    head = b"HTTP/1.1 %s -\r\nContent-Type: application/json\r\n" % number.encode()

    def fails(connection: Any, call: Call) -> bool:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        return True

    assert agency.api.post("/add_customer", BODY, headers=KEY).status_code == 200
    agency.pair = FORGED
    agency.ecwid.script = {"get_customer": [fails]}
    assert agency.api.get("/customer/7").status_code >= 400
    response = agency.api.post("/add_customer", BODY, headers=KEY)
    assert response.status_code in (502, 503)
    assert response.get_json()["executed"] == "no"
