"""Tests of the signals, which hold counts and names and no value of a customer."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn

import flask
import pytest
from flask.signals import _signals as flasks
from pytest_httpserver import HTTPServer

from flask_ecwid import Ecwid, EcwidClient, EcwidError, Settings, StoreCredentials, errors, signals
from flask_ecwid.client.calls import Call
from flask_ecwid.contract import load
from flask_ecwid.sandbox import Fault

from ..conftest import STORE, TOKEN, Api, Config, app_of
from ..helpers.joined_reads import count_joined
from ..helpers.ordered_store import OrderedStore
from ..helpers.raw_server import RawServer, good, resets, sends
from ..helpers.waiting import happens

CANARY = "canary@example.com"
NAMES = {
    name.replace("_", "-"): getattr(signals, name)
    for name in (
        *("operation_started", "operation_finished", "call_started", "call_finished"),
        *("attempt_started", "attempt_finished", "call_throttled"),
    )
}
FOUND_NOBODY = good(b'{"total":0,"count":0,"offset":0,"limit":100,"items":[]}')
Facts = dict[str, Any]


class Heard:
    """A list of all signals in their order."""

    def __init__(self) -> None:
        self.signals: list[tuple[str, object, Facts]] = []

    def names(self) -> list[str]:
        return [name for name, _, _ in self.signals]

    def of(self, name: str) -> list[Facts]:
        """Return the facts of each signal of a name, without the duration."""
        return [
            {key: value for key, value in facts.items() if key != "duration_s"}
            for each, _, facts in self.signals
            if each == name
        ]


@contextmanager
def listening() -> Iterator[Heard]:
    heard = Heard()

    def receiver(name: str) -> Callable[..., None]:
        return lambda sender, **facts: heard.signals.append((name, sender, facts))

    with ExitStack() as stack:
        for name, signal in NAMES.items():
            stack.enter_context(signal.connected_to(receiver(name)))
        yield heard


@pytest.fixture
def heard() -> Iterator[Heard]:
    with listening() as heard:
        yield heard


def client_of(server: RawServer, **options: Any) -> EcwidClient:
    settings = Settings(store_id="1003", token=TOKEN, api_url=server.url, **options)
    return EcwidClient(settings, name="outlet")


def test_a_request(heard: Heard, app: flask.Flask, ecwid: HTTPServer) -> None:
    """The signals of a request enclose its call, and the signals of a call enclose its attempt."""
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json({"id": 7})
    assert Api(app.test_client()).get("/customer/7").status_code == 200
    assert heard.names() == [
        *("operation-started", "call-started", "attempt-started"),
        *("attempt-finished", "call-finished", "operation-finished"),
    ]
    what = {"operation": "get_customer", "store": "ecwid", "store_id": "1003"}
    counts = {"attempts": 1, "reconcile_attempts": 0}
    done = {**counts, "status": 200, "problem": None, "executed": None}
    assert heard.of("operation-started") == heard.of("call-started") == [what]
    assert heard.of("attempt-started") == [{**what, **counts, "reconciling": False}]
    assert heard.of("attempt-finished") == [{**what, **done, "reconciling": False}]
    assert heard.of("call-finished") == heard.of("operation-finished") == [{**what, **done}]
    took = [facts["duration_s"] for _, _, facts in heard.signals if "duration_s" in facts]
    assert 0 < took[0] <= took[1] <= took[2] < 60


def test_the_senders(heard: Heard, app: flask.Flask, ecwid: HTTPServer) -> None:
    """The app sends the signals of operations, and the store's client those of calls."""
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json({"id": 7})
    Api(app.test_client()).get("/customer/7")
    client = app.extensions["ecwid"]["ecwid"].client
    for name, sender, _ in heard.signals:
        assert sender is (app if name.startswith("operation") else client)


def test_one_apps_signals(ecwid: HTTPServer, config: Config) -> None:
    """A receiver that is connected to one app gets no signal of another app."""
    one, other = app_of(config), app_of(config)
    senders: list[object] = []

    def receive(sender: object, **_: object) -> None:
        senders.append(sender)

    with signals.operation_finished.connected_to(receive, sender=one):
        for app in (one, other):
            Api(app.test_client()).get("/customers?limit=0")
    assert senders == [one]


def test_the_store_is_the_mounts_name(heard: Heard) -> None:
    """The signals name the mount, so two stores of one app are distinct."""
    app = flask.Flask("host")
    app.config.update(ECWID_SANDBOX=True, OUTLET_ECWID_SANDBOX=True)
    Ecwid(app)
    Ecwid(app, name="outlet", url_prefix="/outlet", config_prefix="OUTLET_")
    Api(app.test_client()).get("/customers")
    Api(app.test_client(), "/outlet").get("/customers")
    assert [facts["store"] for facts in heard.of("operation-finished")] == ["ecwid", "outlet"]
    assert [facts["store"] for facts in heard.of("call-finished")] == ["ecwid", "outlet"]


@pytest.mark.parametrize("operation", sorted(load().operations))
def test_every_operation(heard: Heard, sandboxed: Api, operation: str) -> None:
    """The signals of an operation hold its name, and for writes whether it was executed."""
    added = sandboxed.post("/add_customer", {"email": CANARY}).json
    assert added is not None
    customer_id = added["data"]["id"]
    heard.signals.clear()
    response = {
        "list_customers": lambda: sandboxed.get("/customers"),
        "get_customer": lambda: sandboxed.get(f"/customer/{customer_id}"),
        "add_customer": lambda: sandboxed.post("/add_customer", {"email": "b@example.com"}),
        "update_customer": lambda: sandboxed.post(
            f"/update_customer/{customer_id}", {"acceptMarketing": True}
        ),
        "delete_customer": lambda: sandboxed.post(f"/delete_customer/{customer_id}"),
    }[operation]()
    assert response.status_code == 200
    executed = None if operation in ("list_customers", "get_customer") else "yes"
    for name in ("attempt-finished", "call-finished", "operation-finished"):
        [facts] = heard.of(name)
        assert (facts["operation"], facts["executed"]) == (operation, executed)


def test_no_call(heard: Heard, api: Api) -> None:
    """An invalid request sends signals of the operation with its problem, and none of a call."""
    assert api.post("/add_customer", {"email": 5}).status_code == 400
    assert heard.names() == ["operation-started", "operation-finished"]
    assert heard.of("operation-finished") == [
        {
            **{"operation": "add_customer", "store": "ecwid", "store_id": "1003", "status": 400},
            **{"problem": "invalid-request", "executed": "no"},
            **{"attempts": 0, "reconcile_attempts": 0},
        }
    ]


def test_what_is_no_operation(heard: Heard, api: Api) -> None:
    """A request for the contract, a wrong path or a wrong method sends no signal."""
    for path in ("/openapi.json", "/nothing", "/add_customer"):
        api.get(path)
    assert heard.signals == []


def test_a_request_that_the_host_answers(heard: Heard, app: flask.Flask) -> None:
    """A request that the host answers before the plugin's turn sends no signal."""
    app.before_request(lambda: ("no", 429))
    assert Api(app.test_client()).get("/customers").status_code == 429
    assert heard.signals == []


def test_a_response_that_is_made_again(heard: Heard, app: flask.Flask, ecwid: HTTPServer) -> None:
    """A request that fails in the host after its response sends one signal with the last status."""
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json({"id": 7})
    fails = [True]

    @app.after_request
    def fail(response: flask.Response) -> flask.Response:
        if fails.pop() if fails else False:
            raise RuntimeError
        return response

    assert Api(app.test_client()).get("/customer/7").status_code == 500
    [facts] = heard.of("operation-finished")
    assert (facts["status"], facts["problem"]) == (500, "internal-error")


def test_attempts(heard: Heard, no_waiting: list[float]) -> None:
    """Each attempt sends its result, and the call sends the number of attempts."""
    with RawServer(resets, sends(good(b'{"id":7}'))) as server:
        client_of(server).get_customer(7)
    what = {
        "operation": "get_customer",
        "store": "outlet",
        "store_id": "1003",
        "reconcile_attempts": 0,
        "executed": None,
    }
    lost, well = {"status": None, "problem": "upstream-lost"}, {"status": 200, "problem": None}
    assert heard.of("attempt-finished") == [
        {**what, **lost, "attempts": 1, "reconciling": False},
        {**what, **well, "attempts": 2, "reconciling": False},
    ]
    assert heard.of("call-finished") == [{**what, **well, "attempts": 2}]


def test_a_lost_creation(heard: Heard, no_waiting: list[float]) -> None:
    """The signals of a search say `reconciling`, and the search counts as no attempt to create."""
    with RawServer(resets, sends(FOUND_NOBODY)) as server, pytest.raises(errors.OutcomeUnknown):
        client_of(server).add_customer({"email": CANARY})
    seen = [
        (facts["reconciling"], facts["attempts"], facts["reconcile_attempts"], facts["executed"])
        for facts in heard.of("attempt-finished")
    ]
    assert seen == [
        (False, 1, 0, "unknown"),
        (True, 1, 1, None),
        (True, 1, 2, None),
        (True, 1, 3, None),
    ]
    [facts] = heard.of("call-finished")
    assert facts == {
        **{"operation": "add_customer", "store": "outlet", "store_id": "1003", "status": 200},
        **{"problem": "outcome-unknown", "executed": "unknown"},
        **{"attempts": 1, "reconcile_attempts": 3},
    }


def test_a_request_knows_its_calls(
    heard: Heard, ordered: OrderedStore, no_waiting: list[float]
) -> None:
    """A request's signal holds the numbers of its attempts and searches."""
    api = ordered.api()
    ordered.orders.inject(Fault("reset", operation="add_customer", after=True))
    assert api.post("/add_customer", {"email": CANARY}).status_code == 200
    [facts] = heard.of("operation-finished")
    assert (facts["attempts"], facts["reconcile_attempts"], facts["executed"]) == (1, 1, "yes")


def test_calls_that_are_throttled(heard: Heard, ordered: OrderedStore) -> None:
    """A throttled call sends a signal of its own and has no attempt."""
    api = ordered.api(ECWID_CALLS_PER_MINUTE=1)
    assert [api.get("/customers").status_code for _ in range(2)] == [200, 429]
    what = {
        "operation": "list_customers",
        "store": "ecwid",
        "store_id": "1003",
        "attempts": 0,
        "reconcile_attempts": 0,
    }
    throttled = {**what, "problem": "budget-spent"}
    assert heard.of("call-throttled") == [{**throttled, "reconciling": False}]
    assert heard.of("call-finished")[1] == {**throttled, "status": None, "executed": None}
    assert len(heard.of("attempt-started")) == 1


def test_a_search_that_is_throttled(heard: Heard, no_waiting: list[float]) -> None:
    """A throttled search sends the signal of a throttled call."""
    with RawServer(resets) as server, pytest.raises(errors.OutcomeUnknown):
        client_of(server, calls_per_minute=1).add_customer({"email": CANARY})
    [facts] = heard.of("call-throttled")
    assert (facts["reconciling"], facts["operation"], facts["problem"]) == (
        *(True, "add_customer"),
        "budget-spent",
    )


def test_a_shared_call(
    heard: Heard, app: flask.Flask, ecwid: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of equal requests that share a call a single request counts the attempt."""
    joined = count_joined(monkeypatch)

    def slow(_: object) -> Any:
        assert happens(lambda: joined() == 3)
        return flask.Response(json.dumps({"id": 7}), content_type="application/json")

    ecwid.expect_request(f"{STORE}/customers/7").respond_with_handler(slow)
    with ThreadPoolExecutor(4) as callers:
        ask = lambda _: Api(app.test_client()).get("/customer/7").status_code  # noqa: E731
        assert list(callers.map(ask, range(4))) == [200] * 4
    assert len(heard.of("call-finished")) == len(ecwid.log) == 1
    assert sorted(facts["attempts"] for facts in heard.of("operation-finished")) == [0, 0, 0, 1]


def test_the_count_ends_with_the_request(heard: Heard, ordered: OrderedStore) -> None:
    """A request without a call counts no attempt, whatever its thread did before."""
    api = ordered.api(ECWID_CACHE_TTL_S=60)
    for _ in range(2):
        assert api.get("/customers").status_code == 200
    assert [facts["attempts"] for facts in heard.of("operation-finished")] == [1, 0]


def test_the_count_is_the_requests_own(heard: Heard) -> None:
    """A call after a request does not count for the request."""
    count = signals.CallCount()
    with RawServer(sends(good(b'{"id":7}'))) as server:
        client = client_of(server)
        signals.call_count.set(count)
        client.get_customer(7)
        signals.call_count.set(None)
        client.get_customer(7)
    assert (count.attempts, len(heard.of("call-finished"))) == (1, 2)


def test_a_defect(heard: Heard) -> None:
    """A call that fails with an unexpected exception still sends its signals."""

    class Broken:
        def send(
            self, call: Call, credentials: StoreCredentials, deadline: float, check: object
        ) -> NoReturn:
            raise RuntimeError

        def close(self) -> None:
            pass

    settings = Settings(store_id="1003", token=TOKEN)
    with pytest.raises(RuntimeError):
        EcwidClient(settings, transport=Broken()).delete_customer(7)
    for name in ("attempt-finished", "call-finished"):
        [facts] = heard.of(name)
        assert (facts["problem"], facts["executed"]) == ("internal-error", "unknown")


def test_nothing_of_a_customer(
    heard: Heard, ordered: OrderedStore, no_waiting: list[float]
) -> None:
    """No signal holds an e-mail, an id, a key or the token."""
    key = "canary-key-canary-key-canary-key-canary"
    digest = "warehouse:read+write+delete:" + hashlib.sha256(key.encode()).hexdigest()
    api = ordered.api(ECWID_API_KEYS=digest)
    mine = {"Authorization": f"Bearer {key}"}
    ordered.orders.inject(Fault("reset", operation="add_customer", after=True))
    added = api.post("/add_customer", {"email": CANARY}, headers=mine).json
    assert added is not None
    customer_id = added["data"]["id"]
    api.get(f"/customers?email={CANARY}", headers=mine)
    api.get(f"/customers?email={CANARY}&limit=0", headers=mine)
    api.get(f"/customer/{customer_id}")
    api.post(f"/update_customer/{customer_id}", {"email": CANARY}, headers=mine)
    api.post(f"/delete_customer/{customer_id}", headers=mine)
    api.get(f"/customer/{customer_id}", headers=mine)
    assert len(heard.of("operation-finished")) == 7
    text = repr([facts for _, _, facts in heard.signals])
    for secret in ("canary", str(customer_id), digest, "secret_"):
        assert secret not in text
    kinds = {type(value) for _, _, facts in heard.signals for value in facts.values()}
    assert kinds <= {str, int, float, bool, type(None)}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_receiver_that_fails(
    ordered: OrderedStore, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """A failing receiver changes no response and stops no other receiver.

    The log has the name and place of its error, and not its text.
    """

    def fail(_: object, **facts: object) -> None:
        raise LookupError(CANARY)

    api = ordered.api(ECWID_CALLS_PER_MINUTE=1)
    with listening() as before, NAMES[name].connected_to(fail), listening() as after:
        assert api.post("/add_customer", {"email": "a@example.com"}).status_code == 200
        assert api.get("/customers").status_code == 429
    assert before.names() == after.names()
    lines = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(lines) == before.names().count(name) > 0
    assert all("LookupError" in line and "test_signals.py" in line for line in lines)
    assert CANARY not in caplog.text


def test_without_flask(heard: Heard) -> None:
    """The signals of a client outside of Flask hold the client's name."""
    with RawServer(sends(good(b'{"id":7}'))) as server:
        client = client_of(server)
        client.get_customer(7)
    assert [sender is client for _, sender, _ in heard.signals] == [True] * 4
    assert heard.of("call-started") == [
        {"operation": "get_customer", "store": "outlet", "store_id": "1003"}
    ]


def test_a_call_that_fails(heard: Heard) -> None:
    """The signal of a failed call holds the slug of its error and Ecwid's status."""
    reply = b"HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n{}"
    with RawServer(sends(reply)) as server, pytest.raises(EcwidError):
        client_of(server).update_customer(7, {"email": CANARY})
    [facts] = heard.of("call-finished")
    assert (facts["status"], facts["problem"], facts["executed"]) == (409, "email-taken", "no")


def test_the_names_are_not_flasks() -> None:
    """No signal has the name of a signal of Flask."""
    theirs = {name.replace("_", "-") for name in flasks} | set(dir(flask.signals))
    assert theirs.isdisjoint(NAMES)
    assert theirs.isdisjoint(name.replace("-", "_") for name in NAMES)
    assert sorted(signal.name for signal in NAMES.values()) == sorted(NAMES)


def test_no_client_is_kept(heard: Heard) -> None:
    """Signals keep no client alive."""
    gc.disable()
    try:
        gone = weakref.ref(EcwidClient(Settings(store_id="1003", token=TOKEN)))
        assert gone() is None
    finally:
        gc.enable()


def test_muted(heard: Heard, sandboxed: Api) -> None:
    """A muted signal is not sent."""
    with signals.operation_finished.muted():
        sandboxed.get("/customers")
    assert "operation-finished" not in heard.names()
    assert "call-finished" in heard.names()


def test_each_says_when_it_is_sent() -> None:
    """Each signal's documentation says when the signal is sent."""
    docs = [signal.__doc__ for signal in NAMES.values()]
    assert all(docs)
    assert len(set(docs)) == len(docs)
