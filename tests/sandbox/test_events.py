"""The events of the simulated stores, and their way to an app."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import flask
import pytest
from flask.testing import FlaskClient
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from flask_ecwid import Ecwid, signals
from flask_ecwid.sandbox import (
    CLIENT_SECRET,
    EVENT_TYPES,
    Controls,
    Deliveries,
    Event,
    Fault,
    create_sandbox,
    token_of,
)
from flask_ecwid.sandbox.events import is_delivered, new_event, sign, url_fault
from flask_ecwid.sandbox.outbox import REPEATS
from flask_ecwid.sandbox.posting import NoResponse, Posting
from flask_ecwid.testing import EcwidSandbox, SimulatedStore

from ..conftest import free_port, payload
from ..helpers.raw_server import Gate, RawServer, good, resets, sends, stalls
from ..helpers.webhook_events import SIGNATURE, signature_of
from ..helpers.webhook_receiver import Receiver
from .conftest import admitted

CUSTOMERS = "/api/v3/1003/customers"
OURS = f"{CUSTOMERS}/172890169"
NEW = {"email": "new@example.com"}
EVENT = Event("e-1", 1_700_000_000, "1003", "customer.updated", 5, {"customerEmail": "a@b.c"})

Types = list[str]


# An event and its request


@pytest.mark.parametrize("change", ["created", "updated", "deleted"])
def test_the_body_is_that_of_the_documents(change: str) -> None:
    """An event has the members, the order and the types of the examples in Ecwid's documents."""
    example = payload(f"webhook.customer.{change}")
    event = Event(
        example["eventId"],
        example["eventCreated"],
        str(example["storeId"]),
        f"customer.{change}",
        example["entityId"],
        {"customerEmail": "user@example.com"},
    )
    body = json.loads(sign(event, "http://localhost/", "s").body)
    assert (list(body), body) == (list(example), example)


def test_the_signature_is_that_of_openssl() -> None:
    """The signature is base64 of HMAC-SHA256 over the creation and the id, with a dot between."""
    event = EVENT._replace(event_id="80aece08-40e8-4145-8764-6c2f0d38678", created=7891234567)
    signature = "H0QpF3bADGcwiAQaU32SOkNKa0TPg2RK4HYEIGTsiZo="
    request = sign(event, "http://localhost/", "abcde123456789")
    assert request.headers[SIGNATURE] == signature
    assert request.headers["Content-Type"].startswith("application/json")
    other_store = event._replace(store_id="1004", entity_id=6, data={})
    assert sign(other_store, "http://localhost/", "abcde123456789").headers == request.headers


@pytest.mark.parametrize(
    ("url", "signed"),
    [
        (
            "https://shop.example.com/hook",
            "https://shop.example.com/hook?eventtype=customer.updated",
        ),
        ("http://localhost:5000/?a=1", "http://localhost:5000/?a=1&eventtype=customer.updated"),
        ("http://localhost", "http://localhost?eventtype=customer.updated"),
        ("http://localhost/x#y", "http://localhost/x?eventtype=customer.updated"),
    ],
)
def test_the_type_is_in_the_url(url: str, signed: str) -> None:
    """Ecwid adds the type of the event to the URL, behind the query that the URL has."""
    assert sign(EVENT, url, "s").url == signed


def test_a_delivered_event() -> None:
    """Ecwid counts five statuses as delivered. No redirect is among them, and neither is 203."""
    assert [each for each in range(100, 600) if is_delivered(each)] == [200, 201, 202, 204, 209]
    assert not is_delivered(None)


@pytest.mark.parametrize(
    "url",
    ["", "shop", "ftp://h/", "http://", "http://h:x/", "http://h:0/", "http://h/ä", "http://h/ "],
)
def test_no_webhook_url(url: str) -> None:
    """A webhook URL is an absolute URL of a web server."""
    assert url_fault(url)
    with pytest.raises(ValueError, match="http or https URL"):
        Deliveries(url, "s")


@pytest.mark.parametrize(
    "arguments",
    [
        {"event_type": "customer", "customer_id": 5},
        {"event_type": "customer.up dated", "customer_id": 5},
        {"event_type": "", "customer_id": 5},
        {"event_type": None, "customer_id": 5},
        {"event_type": "customer.updated"},
        {"event_type": "customer.updated", "customer_id": 0},
        {"event_type": "customer.updated", "customer_id": "5"},
        {"event_type": "customer.updated", "customer_id": True},
        {"event_type": "application.uninstalled", "customer_id": 0},
        {"event_type": "customer.updated", "customer_id": 5, "data": [1]},
        {"event_type": "customer.updated", "customer_id": 5, "age_s": 1.5},
    ],
    ids=str,
)
def test_an_invalid_event(ecwid_sandbox: EcwidSandbox, arguments: dict[str, Any]) -> None:
    """The sandbox refuses an event without a type or id, and keeps no part of the event."""
    with pytest.raises(ValueError, match=r"[Ee]vent"):
        ecwid_sandbox.add_event(**arguments)
    assert ecwid_sandbox.events() == []


# The events of changes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


def of_store(path: Path, store_id: str = "1003") -> SimulatedStore:
    """Return a store of the sandbox in a file, as a test of an app sees the store."""
    sandbox = EcwidSandbox(path)
    return sandbox if store_id == "1003" else sandbox.store(store_id)


def seen(store: SimulatedStore) -> list[tuple[str, int | str, Any]]:
    return [(each.event_type, each.entity_id, each.data) for each in store.events()]


def test_each_change_has_an_event(path: Path) -> None:
    """A creation, an update and a deletion have events with the customer's id and e-mail."""
    caller = admitted(create_sandbox(path))
    created = caller.post(CUSTOMERS, json=NEW).get_json()["id"]
    one = f"{CUSTOMERS}/{created}"
    assert caller.put(one, json={"email": "other@example.com"}).status_code == 200
    assert caller.get(one).status_code == 200
    assert caller.delete(one).status_code == 200
    events = of_store(path).events()
    assert seen(of_store(path)) == [
        ("customer.created", created, {"customerEmail": "new@example.com"}),
        ("customer.updated", created, {"customerEmail": "other@example.com"}),
        ("customer.deleted", created, {"customerEmail": "other@example.com"}),
    ]
    assert {each.store_id for each in events} == {"1003"}
    assert len({each.event_id for each in events}) == 3
    assert all(type(each.created) is int for each in events)


def test_a_call_without_a_change_has_no_event(path: Path) -> None:
    """Reads, refused calls and calls that a fault prevents have no event."""
    caller, controls = admitted(create_sandbox(path)), Controls(path)
    caller.get(CUSTOMERS)
    assert caller.post(CUSTOMERS, json={"email": "customer@example.com"}).status_code == 409
    assert caller.put(OURS, json={"email": 5}).status_code == 400
    assert caller.delete(f"{CUSTOMERS}/1").status_code == 404
    controls.inject(Fault("status", status=500))
    assert caller.delete(OURS).status_code == 500
    assert of_store(path).events() == []


def test_a_change_with_a_lost_reply_has_an_event(path: Path) -> None:
    """A change whose reply is lost has an event, because the customer has changed."""
    caller = admitted(create_sandbox(path))
    Controls(path).inject(Fault("status", status=502, after=True))
    assert caller.delete(OURS).status_code == 502
    assert [each.event_type for each in of_store(path).events()] == ["customer.deleted"]


def test_the_events_of_a_store_are_its_own(path: Path) -> None:
    """Each store has only the events of its own changes, with its own number."""
    app = create_sandbox(path, stores=["1004"])
    headers = {"Authorization": f"Bearer {token_of('1004')}"}
    app.test_client().delete(OURS.replace("1003", "1004"), headers=headers)
    assert of_store(path).events() == []
    [event] = of_store(path, "1004").events()
    assert (event.store_id, event.body()["storeId"]) == ("1004", 1004)


# An app in this process


class Shop:
    """An app that keeps the events it gets, and responds with the statuses of a list."""

    def __init__(self) -> None:
        self.app = flask.Flask("shop")
        self.bodies: list[dict[str, Any]] = []
        self.statuses: list[int] = []
        self.verified: list[bool] = []
        self.app.add_url_rule("/hook", "hook", self.hook, methods=["POST"])

    def hook(self) -> tuple[str, int]:
        body = flask.request.get_json()
        self.bodies.append(body)
        assert flask.request.args["eventtype"] == body["eventType"]
        self.verified.append(flask.request.headers[SIGNATURE] == signature_of(body, CLIENT_SECRET))
        return "", self.statuses.pop(0) if self.statuses else 200

    @property
    def types(self) -> Types:
        return [body["eventType"] for body in self.bodies]


@pytest.fixture
def shop() -> Shop:
    return Shop()


def test_the_events_of_calls_reach_an_app(
    ecwid_sandbox: EcwidSandbox, ecwid_client: Any, shop: Shop
) -> None:
    """The events of an app's own calls reach the app in the order of the changes, each once."""
    hooks = ecwid_sandbox.webhooks(shop.app, "/hook")
    customer_id = ecwid_client.add_customer(NEW)["id"]
    ecwid_client.update_customer(customer_id, {"lang": "de"})
    ecwid_client.delete_customer(customer_id)
    assert shop.bodies == []
    assert hooks.deliver() == [200, 200, 200]
    assert shop.types == ["customer.created", "customer.updated", "customer.deleted"]
    assert {body["entityId"] for body in shop.bodies} == {customer_id}
    assert shop.verified == [True] * 3
    assert hooks.deliver() == []


@pytest.mark.parametrize("failure", [500, 401, 301, 203, 208])
def test_an_event_that_failed_comes_again(
    ecwid_sandbox: EcwidSandbox, shop: Shop, failure: int
) -> None:
    """An event that the app has not accepted is delivered again, with the same id and creation."""
    hooks = ecwid_sandbox.webhooks(shop.app, "/hook")
    for customer_id in (5, 6):
        ecwid_sandbox.add_event("customer.updated", customer_id)
    shop.statuses = [failure, 204, failure]
    assert [hooks.deliver() for _ in range(4)] == [[failure, 204], [failure], [200], []]
    assert [body["entityId"] for body in shop.bodies] == [5, 6, 5, 5]
    assert shop.bodies[0] == shop.bodies[2] == shop.bodies[3]


def test_a_test_chooses_the_order(ecwid_sandbox: EcwidSandbox, shop: Shop) -> None:
    """Events can come twice, reordered, late and of several stores, and stay signed."""
    hooks = ecwid_sandbox.webhooks(shop.app, "/hook")
    outlet = ecwid_sandbox.store("1004")
    first = ecwid_sandbox.add_event("customer.created", 5)
    second = ecwid_sandbox.add_event("customer.deleted", 5, age_s=26 * 3600)
    third = outlet.add_event("customer.updated", 5)
    assert hooks.send(third, second, first, first, third.aged(60)) == [200] * 5
    ids = [body["eventId"] for body in shop.bodies]
    assert ids == [each.event_id for each in (third, second, first, first, third)]
    assert [body["storeId"] for body in shop.bodies] == [1004, 1003, 1003, 1003, 1004]
    assert shop.bodies[0]["eventCreated"] - shop.bodies[4]["eventCreated"] == 60
    assert first.created - second.created >= 26 * 3600 - 1
    assert shop.verified == [True] * 5
    assert hooks.deliver() == []


def test_an_event_of_an_unknown_store(ecwid_sandbox: EcwidSandbox, shop: Shop) -> None:
    """An event of a store that the sandbox does not have can be sent as well."""
    hooks = ecwid_sandbox.webhooks(shop.app, "/hook")
    event = new_event("e-1", 1_700_000_000, "99", "customer.updated", 5)
    assert hooks.send(event) == [200]
    assert shop.bodies[0]["storeId"] == 99


@pytest.mark.parametrize("event_type", [*EVENT_TYPES, "order.created"])
def test_an_event_of_any_type(ecwid_sandbox: EcwidSandbox, shop: Shop, event_type: str) -> None:
    """A store can have events of each known type, in both spellings, and of unknown types."""
    hooks = ecwid_sandbox.webhooks(shop.app, "/hook")
    is_of_app = event_type.startswith("application.")
    event = ecwid_sandbox.add_event(event_type, None if is_of_app else 5)
    assert hooks.deliver() == [200]
    [body] = shop.bodies
    assert body == event.body()
    assert body["entityId"] == ("1003" if is_of_app else 5)
    assert ("customerEmail" in body["data"]) == event_type.startswith("customer.")


def test_the_types_of_personal_data() -> None:
    """The known types have the two requests for personal data, each in two spellings."""
    assert {each for each in EVENT_TYPES if "ersonal" in each} == {
        "customer.personalDataRemovalRequest",
        "customer.personalDataExportRequest",
        "customer.personal_data_removal_request",
        "customer.personal_data_export_request",
    }
    assert "application.uninstalled" in EVENT_TYPES


def test_a_forged_event(ecwid_sandbox: EcwidSandbox, shop: Shop) -> None:
    """A test can forge an event, by another secret or by a captured signature and another body."""
    event = ecwid_sandbox.add_event("customer.updated", 5)
    assert ecwid_sandbox.webhooks(shop.app, "/hook", "another").send(event) == [200]
    hooks = ecwid_sandbox.webhooks(shop.app, "/hook")
    captured = hooks.sign(event)
    body = json.dumps({**event.body(), "entityId": 6}).encode()
    assert hooks.post(captured._replace(body=body)).status_code == 200
    assert shop.verified == [False, True]
    assert [each["entityId"] for each in shop.bodies] == [5, 6]


def test_the_receiver_of_the_plugin_takes_the_events(
    ecwid_sandbox: EcwidSandbox, ecwid_client: Any
) -> None:
    """The plugin accepts the events of the sandbox, of changes and of each known type."""
    app = flask.Flask("shop")
    app.config.update(ecwid_sandbox.config, ECWID_WEBHOOKS=True, ECWID_CLIENT_SECRET=CLIENT_SECRET)
    Ecwid(app)
    hooks = ecwid_sandbox.webhooks(app)
    heard: list[tuple[int, str]] = []

    def note(sender: object, customer_id: int, kind: str, **_: Any) -> None:
        heard.append((customer_id, kind))

    with signals.customer_changed.connected_to(note):
        customer_id = ecwid_client.add_customer(NEW)["id"]
        ecwid_client.update_customer(customer_id, {"lang": "de"})
        ecwid_client.delete_customer(customer_id)
        assert hooks.deliver() == [200] * 3
        assert hooks.send(*ecwid_sandbox.events()) == [200] * 3
    assert heard == [(customer_id, kind) for kind in ("created", "updated", "deleted")]
    ecwid_sandbox.clear_events()
    for event_type in EVENT_TYPES:
        ecwid_sandbox.add_event(event_type, 5 if event_type.startswith("customer.") else None)
    assert hooks.deliver() == [200] * len(EVENT_TYPES)
    [first, *_] = ecwid_sandbox.events()
    assert hooks.send(first.aged(26 * 3600), first._replace(event_id="a b")) == [400] * 2
    assert ecwid_sandbox.webhooks(app, secret="another").send(first) == [401]


def test_forgotten_events(ecwid_sandbox: EcwidSandbox, shop: Shop) -> None:
    """A store forgets its events on demand."""
    ecwid_sandbox.add_event("customer.updated", 5)
    ecwid_sandbox.clear_events()
    assert ecwid_sandbox.events() == []
    assert ecwid_sandbox.webhooks(shop.app, "/hook").deliver() == []


# A sandbox with a URL


@pytest.fixture
def receiver(httpserver: HTTPServer) -> Receiver:
    return Receiver(httpserver, CLIENT_SECRET)


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    """Expect that no thread of the sandbox is left after a test."""
    before = set(threading.enumerate())
    yield
    assert ours(before) == []


def ours(before: set[threading.Thread]) -> list[str]:
    """Return the names of new threads that the sandbox has started."""
    names = [each.name for each in set(threading.enumerate()) - before]
    return [name for name in names if name.startswith("sandbox")]


def served(path: Path, deliveries: Deliveries, **options: Any) -> FlaskClient:
    return admitted(create_sandbox(path, deliveries=deliveries, send_events=True, **options))


def test_the_sandbox_sends_events(path: Path, receiver: Receiver) -> None:
    """A sandbox with a URL sends the event of each change, in the order of the changes."""
    with Deliveries(receiver.url, CLIENT_SECRET) as deliveries:
        caller = served(path, deliveries, stores=["1004"])
        headers = {"Authorization": f"Bearer {token_of('1004')}"}
        assert caller.put(OURS, json={"lang": "de"}).status_code == 200
        assert caller.delete(OURS).status_code == 200
        assert receiver.wait_for(2) == [
            ("customer.updated", 172890169),
            ("customer.deleted", 172890169),
        ]
        caller.delete(OURS.replace("1003", "1004"), headers=headers)
        assert receiver.wait_for(1) == [("customer.deleted", 172890169)]
        assert receiver.bodies[-1]["storeId"] == 1004


@pytest.mark.parametrize("failure", [500, 302, 203])
def test_the_sandbox_repeats_an_event(
    path: Path, receiver: Receiver, httpserver: HTTPServer, failure: int
) -> None:
    """An event that failed comes again, and no redirect is followed. Later events do not wait."""
    receiver.statuses = [failure, failure]
    with Deliveries(receiver.url, CLIENT_SECRET, repeat_s=0.01) as deliveries:
        caller = served(path, deliveries)
        caller.delete(OURS)
        assert receiver.wait_for(3) == [("customer.deleted", 172890169)] * 3
        caller.post(CUSTOMERS, json=NEW)
        receiver.wait_for(1)
    assert receiver.bodies[0] == receiver.bodies[1] == receiver.bodies[2]
    assert [body["eventType"] for body in receiver.bodies[3:]] == ["customer.created"]
    assert {request.path for request, _ in httpserver.log} == {"/hook"}


def test_a_failing_event_holds_up_no_other(path: Path, receiver: Receiver) -> None:
    """The sandbox sends new events while an older event waits for its next attempt."""
    receiver.statuses = [500]
    with Deliveries(receiver.url, CLIENT_SECRET, repeat_s=3600) as deliveries:
        caller = served(path, deliveries)
        caller.delete(OURS)
        receiver.wait_for(1)
        new = caller.post(CUSTOMERS, json=NEW).get_json()["id"]
        assert receiver.wait_for(1) == [("customer.created", new)]
    assert len(receiver.bodies) == 2


def test_the_sandbox_gives_up(path: Path, receiver: Receiver) -> None:
    """An event comes at most 28 times, as at Ecwid."""
    receiver.statuses = [500] * 100
    with Deliveries(receiver.url, CLIENT_SECRET, repeat_s=0) as deliveries:
        caller = served(path, deliveries)
        caller.delete(OURS)
        receiver.wait_for(REPEATS + 1)
        receiver.statuses = []
        caller.post(CUSTOMERS, json=NEW)
        assert receiver.wait_for(1)[0][0] == "customer.created"
    assert len(receiver.bodies) == REPEATS + 2 == 29


def test_the_store_does_not_wait_for_the_app(path: Path) -> None:
    """The store replies while the app has not responded, and the end cuts off the app."""
    gate = Gate()
    with RawServer(gate.before(sends(good(b"")))) as app:
        with Deliveries(f"http://127.0.0.1:{app.port}/", CLIENT_SECRET) as deliveries:
            caller = served(path, deliveries)
            assert caller.delete(OURS).status_code == 200
            assert gate.asked.wait(30)
            assert caller.post(CUSTOMERS, json=NEW).status_code == 200
        assert ours(set()) == []
        gate.open()
    assert app.connections == 1


def test_events_of_an_earlier_process(path: Path, receiver: Receiver) -> None:
    """A sandbox begins with the events that an earlier process has not delivered."""
    caller = admitted(create_sandbox(path, send_events=True))
    caller.put(OURS, json={"lang": "de"})
    caller.delete(OURS)
    with Deliveries(receiver.url, CLIENT_SECRET) as deliveries:
        served(path, deliveries)
        assert receiver.wait_for(2) == [
            ("customer.updated", 172890169),
            ("customer.deleted", 172890169),
        ]


# The controls over HTTP


def test_a_test_orders_events_over_http(path: Path, receiver: Receiver) -> None:
    """Without `send_events`, events wait until a request names their ids in the wanted order."""
    with Deliveries(receiver.url, CLIENT_SECRET) as deliveries:
        caller = served(path, deliveries)
        admin = "/admin/stores/1003"
        assert caller.patch(f"{admin}/switches", json={"send_events": False}).status_code == 200
        caller.delete(OURS)
        order = {"eventType": "application.uninstalled", "ageS": 90_000}
        shown = caller.post(f"{admin}/events", json=order).get_json()
        assert [each["eventType"] for each in shown] == [
            "customer.deleted",
            "application.uninstalled",
        ]
        assert shown[0]["eventCreated"] - shown[1]["eventCreated"] >= 89_999
        deleted, uninstalled = (each["eventId"] for each in shown)
        receiver.statuses = [200, 500, 200]
        sent = caller.post(f"{admin}/deliveries", json=[uninstalled, deleted, uninstalled])
        assert sent.get_json() == [
            {"eventId": uninstalled, "status": 200},
            {"eventId": deleted, "status": 500},
            {"eventId": uninstalled, "status": 200},
        ]
        assert [body["eventId"] for body in receiver.bodies] == [uninstalled, deleted, uninstalled]
        outcomes = [
            (each["attempts"], each["status"], each["delivered"])
            for each in caller.get("/admin/events").get_json()
        ]
        assert outcomes == [(1, 500, False), (2, 200, True)]
        assert caller.delete(f"{admin}/events").get_json() == []


def test_an_ordered_event_is_sent_by_itself(path: Path, receiver: Receiver) -> None:
    """With `send_events`, an event that a test orders is sent at once."""
    with Deliveries(receiver.url, CLIENT_SECRET) as deliveries:
        order = {"eventType": "customer.updated", "entityId": 5, "data": {}}
        assert served(path, deliveries).post("/admin/events", json=order).status_code == 200
        assert receiver.wait_for(1) == [("customer.updated", 5)]
        assert receiver.bodies[0]["data"] == {}


@pytest.mark.parametrize(
    ("path_of", "wrong", "status"),
    [
        ("events", {"eventType": "customer.updated"}, 400),
        ("events", {"entityId": 5}, 400),
        ("events", {"eventType": "a.b", "entityId": 5, "age": 1}, 400),
        ("events", [], 400),
        ("deliveries", {}, 400),
        ("deliveries", [5], 400),
        ("deliveries", ["nobody"], 400),
        ("deliveries", [], 409),
    ],
)
def test_a_wrong_order_over_http(path: Path, path_of: str, wrong: Any, status: int) -> None:
    """A wrong order is refused, and a sandbox without a URL can send nothing."""
    caller = admitted(create_sandbox(path))
    assert caller.post(f"/admin/{path_of}", json=wrong).status_code == status
    assert caller.get("/admin/events").get_json() == []


# A request over a socket


def posted(url: str, respond_s: float = 10.0) -> int:
    return Posting(sign(EVENT, url, CLIENT_SECRET), respond_s).send()


def test_a_request_over_a_socket(httpserver: HTTPServer) -> None:
    """The request has the whole event, and its path and query arrive unchanged."""
    received: list[Request] = []

    def respond(request: Request) -> Response:
        received.append(request)
        return Response(request.get_data(), 209)

    httpserver.expect_request("/a%20b/hook").respond_with_handler(respond)
    httpserver.expect_request("/a b/hook").respond_with_handler(respond)
    assert posted(httpserver.url_for("/a%20b/hook?x=1")) == 209
    [request] = received
    assert request.get_json() == EVENT.body()
    assert parse_qs(urlsplit(request.url).query) == {"x": ["1"], "eventtype": ["customer.updated"]}


def test_a_proxy_of_the_environment(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event goes to its URL, whatever proxy the environment names."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    httpserver.expect_request("/").respond_with_data("")
    assert posted(httpserver.url_for("/")) == 200


DRIPS = [bytes([byte]) for byte in b"HTTP/1.1 200 OK\r\n\r\n"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        # Each app ends after some seconds, or has then sent a good response.
        (stalls(for_s=8.0), "did not respond within 1 seconds"),
        (stalls(b"HTTP/1.1 200 OK\r\nX-Y: ", for_s=8.0), "did not respond within 1 seconds"),
        (sends(*DRIPS, pause_s=0.5), "did not respond within 1 seconds"),
        (resets, "closed the connection"),
        (sends(), "closed the connection"),
        (sends(b"canary\r\n\r\n"), "not respond with HTTP"),
    ],
)
def test_no_response(script: Callable[[Any], None], reason: str) -> None:
    """An app that does not respond in time has no status. The error repeats no byte of it."""
    with RawServer(script) as app, pytest.raises(NoResponse, match=reason) as caught:
        posted(f"http://127.0.0.1:{app.port}/hook", respond_s=1.0)
    assert "canary" not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_no_connection() -> None:
    """An app that cannot be reached has no status."""
    with pytest.raises(NoResponse, match="no connection to the app"):
        posted(f"http://127.0.0.1:{free_port()}/hook")
    server = RawServer(lambda connection: connection.sendall(b"no TLS"))
    with server as app, pytest.raises(NoResponse, match="TLS"):
        posted(f"https://127.0.0.1:{app.port}/hook")
