"""The receiver of Ecwid's webhook events: each event has its effect once, and proves little."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import flask
import pytest
from werkzeug.test import TestResponse

from flask_ecwid import Caller, Ecwid, SettingsError, StoreCredentials, clock, signals
from flask_ecwid.sandbox import Fault
from flask_ecwid.storage.file_state import FileState
from flask_ecwid.storage.state import StateUnavailable
from flask_ecwid.testing import EcwidSandbox
from flask_ecwid.web.webhook_record import begin_delivery

from ..conftest import PREFIX, Api, Config, free_port
from ..helpers.ordered_store import OrderedStore
from ..helpers.redis_server import RedisServer
from ..helpers.webhook_events import (
    CLIENT_SECRET,
    SIGNATURE,
    WEBHOOKS,
    Event,
    delivery_of,
    event_of,
    signature_of,
)

PATH = "/webhooks"
URN = "urn:flask-ecwid:problem:"
PERSONAL_DATA = {
    "customer.personalDataRemovalRequest": "removal",
    "customer.personal_data_removal_request": "removal",
    "customer.personalDataExportRequest": "export",
    "customer.personal_data_export_request": "export",
}
OTHER = "2004"

Facts = dict[str, Any]


class Heard(list[tuple[str, Facts]]):
    """The names and the facts of the signals of events, in their order."""


@pytest.fixture
def heard() -> Iterator[Heard]:
    heard = Heard()
    with listening(lambda name, facts: heard.append((name, facts))):
        yield heard


@contextmanager
def listening(hear: Callable[[str, Facts], None]) -> Iterator[None]:
    """Pass each signal of an event on to this function."""

    def customer(sender: object, **facts: Any) -> None:
        hear("customer-changed", facts)

    def store(sender: object, **facts: Any) -> None:
        hear("store-uninstalled", facts)

    def person(sender: object, **facts: Any) -> None:
        hear("personal-data-requested", facts)

    with (
        signals.customer_changed.connected_to(customer),
        signals.store_uninstalled.connected_to(store),
        signals.personal_data_requested.connected_to(person),
    ):
        yield


@pytest.fixture
def api(ordered: OrderedStore) -> Api:
    return ordered.api(**WEBHOOKS)


def post(api: Api, event: Event, path: str = PATH, **headers: str) -> TestResponse:
    return api.post(path, **delivery_of(event, **headers))


def outcome(response: TestResponse) -> tuple[int, str]:
    """Return the status and the slug of a problem."""
    return response.status_code, response.get_json()["type"].removeprefix(URN)


def is_accepted(response: TestResponse) -> bool:
    """Return whether the event was accepted, and the response tells nothing more."""
    headers = {name for name, _ in response.headers}
    told = {"X-Request-ID", "Cache-Control", "X-Content-Type-Options", "Referrer-Policy"}
    assert headers == told | {"Content-Length"}
    return (response.status_code, response.data) == (200, b"")


@pytest.mark.parametrize("kind", ["created", "updated", "deleted"])
def test_a_signed_event(ordered: OrderedStore, shared: Config, heard: Heard, kind: str) -> None:
    """A signed event sends the signal with the store, the customer and the kind, and is a 200."""
    event = event_of(f"customer.{kind}", entityId=310808192)
    assert is_accepted(post(ordered.api(**WEBHOOKS, **shared), event))
    facts = {
        "store_id": "1003",
        "customer_id": 310808192,
        "kind": kind,
        "event_id": event["eventId"],
    }
    assert heard == [("customer-changed", facts)]


def test_the_cache_is_invalidated_first(ordered: OrderedStore, shared: Config) -> None:
    """Cached responses of the store are gone when a receiver hears of the change."""
    api = ordered.api(ECWID_CACHE_TTL_S=600, **WEBHOOKS, **shared)
    seen: list[str] = []

    def read(*_: Any, **__: Any) -> None:
        seen.append(api.get("/customers").headers["Age"])

    assert api.get("/customers").status_code == api.get("/customers").status_code == 200
    assert ordered.calls() == 1
    with signals.customer_changed.connected_to(read):
        assert is_accepted(post(api, event_of()))
    assert (seen, ordered.calls()) == (["0"], 2)
    assert api.get("/customers").status_code == 200
    assert ordered.calls() == 2


FORGED: dict[str, Callable[[Event], str]] = {
    "another secret": lambda event: signature_of(event, CLIENT_SECRET + "x"),
    "an empty secret": lambda event: signature_of(event, ""),
    "another event": lambda event: signature_of({**event, "eventId": "x"}),
    "another time": lambda event: signature_of(
        {**event, "eventCreated": event["eventCreated"] + 1}
    ),
    "truncated": lambda event: signature_of(event)[:-1],
    "without padding": lambda event: signature_of(event).rstrip("="),
    "a line end": lambda event: signature_of(event) + "%0A",
    "two": lambda event: f"{signature_of(event)},{signature_of(event)}",
    "in the URL's alphabet": lambda event: signature_of(event).replace("+", "-").replace("/", "_"),
    "quoted": lambda event: f'"{signature_of(event)}"',
    "beyond ASCII": lambda event: signature_of(event)[:-1] + "\xe9",
    "the secret": lambda event: CLIENT_SECRET,
    "empty": lambda event: "",
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_forged_event(
    api: Api, heard: Heard, forge: Callable[[Event], str], caplog: pytest.LogCaptureFixture
) -> None:
    """A header that is not exactly the signature is a 401 without effect and without a value."""
    caplog.set_level(logging.DEBUG, "flask_ecwid")
    event = event_of()
    while not {"+", "/"} & set(signature_of(event)):
        event = event_of()
    response = post(api, event, **{SIGNATURE: forge(event)})
    assert outcome(response) == (401, "bad-signature")
    assert response.headers["WWW-Authenticate"] == 'X-Ecwid-Webhook-Signature realm="ecwid"'
    assert heard == []
    for value in (event["eventId"], signature_of(event)[:20], "canary", str(event["eventCreated"])):
        assert value not in response.text + caplog.text
    assert is_accepted(post(api, event))


def test_no_signature(api: Api, heard: Heard) -> None:
    """An event without the header is a 401, and so is the header with another name."""
    event = event_of()
    for headers in ({}, {"X-Webhook-Signature": signature_of(event)}):
        response = api.post(PATH, event, headers=headers)
        assert outcome(response) == (401, "bad-signature")
    assert heard == []


def test_a_forged_event_learns_nothing(api: Api) -> None:
    """Members that nobody has signed are looked at only after the signature."""
    event = event_of(storeId="x", entityId=None, eventType=5)
    forged = signature_of(event, "x")
    assert outcome(post(api, event, **{SIGNATURE: forged})) == (401, "bad-signature")
    assert outcome(post(api, event)) == (400, "invalid-request")


WRONG: dict[str, tuple[Event, str, str]] = {
    "no id": ({"eventId": None}, "/eventId", "type"),
    "an empty id": ({"eventId": ""}, "/eventId", "pattern"),
    "a long id": ({"eventId": "a" * 65}, "/eventId", "pattern"),
    "an id with a dot": ({"eventId": "1.2"}, "/eventId", "pattern"),
    "an id with a line end": ({"eventId": "a\n"}, "/eventId", "pattern"),
    "an id beyond ASCII": ({"eventId": "\u0661"}, "/eventId", "pattern"),
    "an id that is a number": ({"eventId": 5}, "/eventId", "type"),
    "a time that is a text": ({"eventCreated": "1700000000"}, "/eventCreated", "type"),
    "a time that is a bool": ({"eventCreated": True}, "/eventCreated", "type"),
    "a time with a fraction": ({"eventCreated": 1.7e9}, "/eventCreated", "type"),
    "no time": ({"eventCreated": None}, "/eventCreated", "type"),
    "a type that is a number": ({"eventType": 5}, "/eventType", "type"),
    "a store that is a text": ({"storeId": "shop"}, "/storeId", "type"),
    "a store that is a bool": ({"storeId": True}, "/storeId", "type"),
    "a store with a zero in front": ({"storeId": "01003"}, "/storeId", "type"),
    "a customer below 1": ({"entityId": 0}, "/entityId", "type"),
    "a customer with a fraction": ({"entityId": 5.0}, "/entityId", "type"),
    "no customer": ({"entityId": None}, "/entityId", "type"),
    "a personal request without a customer": (
        {"entityId": None, "eventType": "customer.personalDataRemovalRequest"},
        "/entityId",
        "type",
    ),
}


@pytest.mark.parametrize(("members", "pointer", "keyword"), WRONG.values(), ids=WRONG)
def test_a_wrong_member(api: Api, heard: Heard, members: Event, pointer: str, keyword: str) -> None:
    """A signed event with a member that is missing or wrong is a 400 that names the place."""
    response = post(api, event_of(**members))
    assert outcome(response) == (400, "invalid-request")
    [violation] = response.get_json()["errors"]
    assert (violation["pointer"], violation["keyword"]) == (pointer, keyword)
    assert heard == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"canary",
        b"[]",
        b"null",
        b"5",
        b'{"eventId": "a", "eventId": "b", "eventCreated": 5}',
        b'{"eventId": "a", "eventCreated": NaN}',
        b'\xef\xbb\xbf{"eventId": "a"}',
        b"eventId=a&eventCreated=5",
        b'{"eventId": "\xff"}',
        b'{"a":' * 40 + b"1" + b"}" * 40,
    ],
)
def test_no_json(api: Api, body: bytes) -> None:
    """A body that is no JSON object is a 400, with or without a signature."""
    for headers in ({}, {SIGNATURE: signature_of(event_of())}):
        response = api.post(PATH, data=body, headers=headers)
        assert outcome(response) == (400, "invalid-request")
        assert "canary" not in response.text


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 413)])
def test_the_limit_of_a_body(api: Api, more: int, status: int) -> None:
    """A body has at most 64 kB, whatever ECWID_MAX_BODY_BYTES says."""
    delivery = delivery_of(event_of())
    delivery["data"] += b" " * (65_536 + more - len(delivery["data"]))
    response = api.post(PATH, **delivery)
    assert response.status_code == status
    if status == 413:
        assert "65536" in response.get_json()["detail"]


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "x", "", None]
)
def test_any_content_type(api: Api, heard: Heard, content_type: str | None) -> None:
    """The Content-Type does not matter, because the signature shows who has sent the body."""
    delivery = delivery_of(event_of())
    del delivery["headers"]["Content-Type"]
    assert is_accepted(api.post(PATH, **delivery, content_type=content_type))
    assert len(heard) == 1


def test_the_query_is_ignored(api: Api, heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    """The `eventtype` that Ecwid adds to the URL has no effect and is not logged."""
    caplog.set_level(logging.DEBUG, "flask_ecwid")
    for query in ("eventtype=customer.canary", "eventtype=%ff", "eventtype=a&eventtype=b"):
        assert is_accepted(post(api, event_of("customer.deleted"), f"{PATH}?{query}"))
    assert [facts["kind"] for _, facts in heard] == ["deleted"] * 3
    assert "canary" not in caplog.text


@pytest.mark.parametrize(
    ("age_s", "status", "keyword"),
    [
        (24 * 3600, 200, ""),
        (25 * 3600 + 60, 400, "minimum"),
        (-200, 200, ""),
        (-400, 400, "maximum"),
    ],
)
def test_late_and_ahead(api: Api, heard: Heard, age_s: int, status: int, keyword: str) -> None:
    """An event of the last 25 hours is accepted, and one that is at most 5 minutes ahead."""
    response = post(api, event_of(eventCreated=int(clock.wall()) - age_s))
    assert response.status_code == status
    assert len(heard) == (status == 200)
    if keyword:
        [violation] = response.get_json()["errors"]
        assert (violation["pointer"], violation["keyword"]) == ("/eventCreated", keyword)


def test_a_replayed_event(ordered: OrderedStore, shared: Config, heard: Heard) -> None:
    """Each further delivery of an event is a 200 without effect, in every worker."""
    event = event_of()
    for _ in range(3):
        assert is_accepted(post(ordered.api(**WEBHOOKS, **shared), event))
    assert len(heard) == 1


def test_reordered_events(api: Api, heard: Heard) -> None:
    """Events are passed on in the order of their arrival, because Ecwid keeps none."""
    now = int(clock.wall())
    kinds = ["deleted", "updated", "created"]
    for number, kind in enumerate(kinds):
        post(api, event_of(f"customer.{kind}", eventCreated=now - 60 * number))
    assert [facts["kind"] for _, facts in heard] == kinds


class Merchants:
    """An app with the stores of many merchants, of which store 1003 and store 2004 are known."""

    def __init__(self, sandbox: EcwidSandbox, **settings: Any) -> None:
        self.stores = {each: sandbox.store(each).credentials for each in ("1003", OTHER)}
        self.asked: list[str] = []
        self.lookup: Callable[[str], Any] = self.stores.get
        self.app = flask.Flask("agency")
        self.app.config.update({**sandbox.config, **WEBHOOKS, **settings})
        self.ecwid = Ecwid(
            self.app,
            authorize=lambda scope: Caller(flask.request.headers["Store"]),
            store=lambda caller: self.stores.get(caller.name),
            find_store=self._find,
        )
        self.api = Api(self.app.test_client())

    def _find(self, store_id: str) -> StoreCredentials | None:
        self.asked.append(store_id)
        found: StoreCredentials | None = self.lookup(store_id)
        return found

    def read(self, store_id: str) -> None:
        assert self.api.get("/customers", headers={"Store": store_id}).status_code == 200


@pytest.fixture
def merchants(ordered: OrderedStore) -> Merchants:
    return Merchants(ordered.orders)


def test_another_body(ordered: OrderedStore, shared: Config, heard: Heard) -> None:
    """A captured signature has one effect, whatever store, customer and type a body names."""
    merchants = Merchants(ordered.orders, ECWID_CACHE_TTL_S=600, **shared)
    first = event_of()
    assert is_accepted(post(merchants.api, first))
    merchants.read(OTHER)
    ledger = ordered.orders.store(OTHER).ledger
    calls = len(ledger())
    for members in (
        {"storeId": int(OTHER)},
        {"entityId": 6},
        {"eventType": "customer.deleted"},
        {"eventType": "application.uninstalled", "entityId": "x", "storeId": int(OTHER)},
        {"eventType": "customer.personalDataRemovalRequest"},
        {"storeId": 999},
    ):
        assert is_accepted(post(merchants.api, {**first, **members}))
    merchants.read(OTHER)
    assert (len(heard), len(ledger())) == (1, calls)


def test_only_the_store_of_the_event(ordered: OrderedStore, heard: Heard) -> None:
    """An event invalidates the cached responses of its own store."""
    merchants = Merchants(ordered.orders, ECWID_CACHE_TTL_S=600)
    for store_id in ("1003", OTHER):
        merchants.read(store_id)
    post(merchants.api, event_of(storeId=int(OTHER)))
    for store_id in ("1003", OTHER):
        merchants.read(store_id)
    assert len(ordered.orders.store("1003").ledger()) == 1
    assert len(ordered.orders.store(OTHER).ledger()) == 2
    assert [facts["store_id"] for _, facts in heard] == [OTHER]


EFFECTS = ["customer.updated", "application.uninstalled", *PERSONAL_DATA]


@pytest.mark.parametrize("event_type", EFFECTS)
@pytest.mark.parametrize("many", [True, False])
def test_a_store_that_is_not_ours(
    ordered: OrderedStore,
    heard: Heard,
    caplog: pytest.LogCaptureFixture,
    event_type: str,
    many: bool,
) -> None:
    """An event for an unknown store is a 200 like any other, and nothing happens."""
    caplog.set_level(logging.INFO)
    api = Merchants(ordered.orders).api if many else ordered.api(**WEBHOOKS)
    event = event_of(event_type, storeId=987654321)
    assert is_accepted(post(api, event))
    assert (heard, ordered.calls()) == ([], 0)
    [line] = [each for each in caplog.records if each.name == "flask_ecwid.request"]
    assert (line.store_id, line.event) == ("-", event_type)  # type: ignore[attr-defined]
    assert "987654321" not in caplog.text


@pytest.mark.parametrize(
    "event_type", ["order.created", "customer_group.updated", "application.installed", "canary", ""]
)
def test_an_unknown_type(
    ordered: OrderedStore, heard: Heard, caplog: pytest.LogCaptureFixture, event_type: str
) -> None:
    """An event of another type is a 200, and is ignored. No line has its type."""
    caplog.set_level(logging.INFO)
    merchants = Merchants(ordered.orders)
    assert is_accepted(post(merchants.api, event_of(event_type, entityId="x")))
    assert (heard, merchants.asked) == ([], [])
    [line] = [each for each in caplog.records if each.name == "flask_ecwid.request"]
    assert not hasattr(line, "event")
    assert "canary" not in caplog.text


@pytest.mark.parametrize(("event_type", "kind"), PERSONAL_DATA.items())
def test_personal_data(api: Api, heard: Heard, event_type: str, kind: str) -> None:
    """Both spellings of a personal data request send the signal, which nobody has verified."""
    event = event_of(event_type)
    assert is_accepted(post(api, event))
    facts = {
        "store_id": "1003",
        "customer_id": 5,
        "kind": kind,
        "event_id": event["eventId"],
        "verified": False,
    }
    assert heard == [("personal-data-requested", facts)]


def uninstalled() -> Event:
    return event_of("application.uninstalled", entityId="some-app")


def test_an_uninstalled_app(ordered: OrderedStore, heard: Heard) -> None:
    """The signal comes after Ecwid has refused the token in one call of this event."""
    merchants = Merchants(ordered.orders, ECWID_CACHE_TTL_S=600)
    merchants.read("1003")
    ordered.orders.clear_ledger()
    ordered.orders.revoke_token()
    event = uninstalled()
    assert is_accepted(post(merchants.api, event))
    assert heard == [("store-uninstalled", {"store_id": "1003", "event_id": event["eventId"]})]
    assert ordered.asked() == ["list_customers"]


def test_an_app_that_is_still_installed(ordered: OrderedStore, heard: Heard) -> None:
    """A token that Ecwid accepts stays, and so do the cached responses, whatever an event says."""
    api = ordered.api(ECWID_CACHE_TTL_S=600, **WEBHOOKS)
    assert api.get("/customers").status_code == 200
    assert is_accepted(post(api, uninstalled()))
    assert heard == []
    assert ordered.calls() == 2
    assert api.get("/customers").status_code == 200
    assert ordered.calls() == 2


def test_a_token_without_the_scope(ordered: OrderedStore, heard: Heard) -> None:
    """A token that only lacks an Ecwid scope is not refused."""
    ordered.orders.inject(Fault("status", status=403, code="INSUFFICIENT_APP_SCOPE"))
    assert is_accepted(post(ordered.api(**WEBHOOKS), uninstalled()))
    assert heard == []


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("status", [402, 404, 500])
def test_an_uninstalled_app_without_a_reply(
    ordered: OrderedStore, heard: Heard, status: int
) -> None:
    """Without Ecwid's word on the token the event fails, and a later delivery has the effect."""
    api = ordered.api(**WEBHOOKS)
    code = {402: "X_Y", 404: "STORE_NOT_FOUND"}.get(status)
    ordered.orders.inject(Fault("status", status=status, code=code))
    event = uninstalled()
    assert post(api, event).status_code == 502
    assert heard == []
    ordered.orders.clear_faults()
    ordered.orders.revoke_token()
    assert is_accepted(post(ordered.api(**WEBHOOKS), event))
    assert [name for name, _ in heard] == ["store-uninstalled"]


def test_the_guard_holds_for_events(
    ordered: OrderedStore, heard: Heard, later: Callable[[float], None]
) -> None:
    """An event makes no call while Ecwid's pause holds, and Ecwid delivers the event again."""
    merchants = Merchants(ordered.orders)
    ordered.orders.inject(Fault("status", status=429, retry_after="20"))
    event = uninstalled()
    assert outcome(post(merchants.api, event)) == (429, "rate-limited")
    assert outcome(post(merchants.api, event)) == (503, "throttled")
    assert ordered.calls() == 1
    later(21)
    ordered.orders.clear_faults()
    ordered.orders.revoke_token()
    assert is_accepted(post(merchants.api, event))
    assert (ordered.calls(), len(heard)) == (2, 1)


@pytest.mark.parametrize("has_code", [True, False])
def test_a_token_that_others_found_refused(
    ordered: OrderedStore, heard: Heard, has_code: bool
) -> None:
    """Each event asks Ecwid itself and once, although the pause of a refused token holds."""
    merchants = Merchants(ordered.orders)
    merchants.read("1003")
    if has_code:
        ordered.orders.inject(Fault("status", status=403, code="INVALID_API_TOKEN"))
    else:
        ordered.orders.revoke_token()
    read = {"headers": {"Store": "1003"}}
    while (response := merchants.api.get("/customers", **read)).status_code != 503:
        assert outcome(response) == (502, "service-refused")
    calls = ordered.calls()
    event = uninstalled()
    for _ in range(2):
        assert is_accepted(post(merchants.api, event))
    assert (ordered.calls(), len(heard)) == (calls + 1, 1)
    assert merchants.api.get("/customers", **read).status_code == 503
    assert ordered.calls() == calls + 1


def test_a_receiver_that_raises(
    ordered: OrderedStore,
    shared: Config,
    heard: Heard,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An exception of a receiver is a 500, and the next delivery reaches all receivers again."""
    event = event_of()

    def fail(*_: Any, **__: Any) -> None:
        raise LookupError("canary")

    with signals.customer_changed.connected_to(fail):
        response = post(ordered.api(**WEBHOOKS, **shared), event)
    assert outcome(response) == (500, "receiver-failed")
    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "a receiver of customer-changed raised LookupError at" in record.getMessage()
    assert "test_webhooks.py" in record.getMessage()
    assert "canary" not in caplog.text + response.text
    assert len(heard) == 1
    for _ in range(2):
        assert is_accepted(post(ordered.api(**WEBHOOKS, **shared), event))
    assert len(heard) == 2


def test_several_receivers_that_raise(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """Each receiver is called, also after another one has raised an exception."""

    def one(*_: Any, **__: Any) -> None:
        raise LookupError

    def other(*_: Any, **__: Any) -> None:
        raise OSError

    connect = signals.customer_changed.connected_to
    with connect(one), connect(other):
        assert outcome(post(api, event_of())) == (500, "receiver-failed")
    errors = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert sorted(each.split()[5] for each in errors) == ["LookupError", "OSError"]


def test_a_receiver_that_ends_the_worker(api: Api, heard: Heard) -> None:
    """A receiver that ends the worker leaves no record, so the next delivery has the effect."""
    event = event_of()

    def leave(*_: Any, **__: Any) -> None:
        raise SystemExit

    with signals.customer_changed.connected_to(leave), pytest.raises(SystemExit):
        post(api, event)
    heard.clear()
    assert is_accepted(post(api, event))
    assert len(heard) == 1


@pytest.mark.parametrize(("seconds", "logged"), [(2.9, 0), (3.1, 1)])
def test_a_slow_receiver(
    api: Api,
    later: Callable[[float], None],
    caplog: pytest.LogCaptureFixture,
    seconds: float,
    logged: int,
) -> None:
    """A receiver that takes more than 3 s is logged by its name, because Ecwid gives up at 10 s."""

    def slow(*_: Any, **__: Any) -> None:
        later(seconds)

    with signals.customer_changed.connected_to(slow):
        assert is_accepted(post(api, event_of()))
    found = [each.getMessage() for each in caplog.records if "took" in each.getMessage()]
    assert len(found) == logged
    assert all("slow of customer-changed took 3." in line for line in found)


def test_a_delivery_under_way(ordered: OrderedStore, shared: Config, heard: Heard) -> None:
    """A second delivery is a 503 while the receivers of the first one work, for any body."""
    event = event_of()
    seen: list[TestResponse] = []

    def deliver_again(*_: Any, **__: Any) -> None:
        for each in (event, {**event, "storeId": 987654321}):
            seen.append(post(ordered.api(**WEBHOOKS, **shared), each))

    with signals.customer_changed.connected_to(deliver_again):
        assert is_accepted(post(ordered.api(**WEBHOOKS, **shared), event))
    assert [outcome(each) for each in seen] == [(503, "event-under-way")] * 2
    assert all(1 <= int(each.headers["Retry-After"]) <= 15 for each in seen)
    assert len(heard) == 1


def test_the_lease(
    ordered: OrderedStore,
    shared: Config,
    heard: Heard,
    later: Callable[[float], None],
    request: pytest.FixtureRequest,
) -> None:
    """The event of a worker that was killed has its effect after 15 s."""
    event = event_of()
    api = ordered.api(**WEBHOOKS, **shared)
    mount = api._client.application.extensions["ecwid"]["ecwid"]
    begin_delivery(mount.stores.upstream.storage.shared, signed(event))
    assert outcome(post(api, event)) == (503, "event-under-way")
    if shared:
        request.getfixturevalue("redis").age(16)
    else:
        later(16)
    assert is_accepted(post(api, event))
    assert len(heard) == 1


def signed(event: Event) -> str:
    return f"{event['eventCreated']}.{event['eventId']}"


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"canary", b"[]", b"{}", b'{"state": 5}', b'{"state": "running"}'),
        *(b'{"state": "later"}', None),
    ],
)
def test_a_damaged_record(
    ordered: OrderedStore, redis: RedisServer, heard: Heard, value: bytes | None
) -> None:
    """A record that cannot be read, or a value of another kind, stops no delivery."""
    api = ordered.api(ECWID_REDIS_URL=redis.url, **WEBHOOKS)
    event = event_of()
    assert is_accepted(post(api, event))
    [name] = redis.client.scan_iter("flask-ecwid:event:*")
    redis.client.delete(name)
    if value is None:
        redis.client.rpush(name, "x")
    else:
        redis.client.set(name, value, ex=60)
    for _ in range(2):
        assert is_accepted(post(api, event))
    assert len(heard) == 2


def test_a_record_names_nobody(ordered: OrderedStore, redis: RedisServer, heard: Heard) -> None:
    """A record is kept for 26 hours, and holds nothing of the event."""
    event = event_of()
    assert is_accepted(post(ordered.api(ECWID_REDIS_URL=redis.url, **WEBHOOKS), event))
    [name] = redis.client.scan_iter("flask-ecwid:event:*")
    value: Any = redis.client.get(name)
    left_s: Any = redis.client.ttl(name)
    assert 26 * 3600 - 60 < left_s <= 26 * 3600
    for text in (event["eventId"], "1003", "canary", str(event["eventCreated"])):
        assert text not in (name + value).decode()


@pytest.mark.parametrize("storage", ["file", "redis"])
def test_without_the_storage(
    ordered: OrderedStore, heard: Heard, monkeypatch: pytest.MonkeyPatch, storage: str
) -> None:
    """While the storage cannot be reached, an event is a 503 without effect for any store."""
    settings = {}
    if storage == "redis":
        settings["ECWID_REDIS_URL"] = f"redis://127.0.0.1:{free_port()}/0"
    else:
        monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    api = ordered.api(**settings, **WEBHOOKS)
    for store_id in (1003, 987654321):
        response = post(api, event_of(storeId=store_id))
        assert outcome(response) == (503, "events-unavailable")
        assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert heard == []


def test_a_change_of_which_the_others_hear_nothing(
    ordered: OrderedStore, heard: Heard, later: Callable[[float], None]
) -> None:
    """If the storage fails after the event was recorded, the event is a 503, and comes again."""
    merchants = Merchants(ordered.orders, ECWID_CACHE_TTL_S=600)
    event = event_of()

    def fail(*_: object, **__: object) -> None:
        raise StateUnavailable

    with pytest.MonkeyPatch.context() as patch:

        def lookup(store_id: str) -> StoreCredentials:
            patch.setattr(FileState, "get", fail)
            patch.setattr(FileState, "compare_and_swap", fail)
            return merchants.stores[store_id]

        merchants.lookup = lookup
        assert outcome(post(merchants.api, event)) == (503, "events-unavailable")
    assert heard == []
    merchants.lookup = merchants.stores.get
    later(16)  # The lease of the first delivery is over.
    assert is_accepted(post(merchants.api, event))
    assert len(heard) == 1


@pytest.mark.parametrize("kind", ["raises", "exits", "another store"])
def test_a_lookup_that_fails(
    merchants: Merchants, heard: Heard, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If the host cannot look the store up, the event is a 503, and has its effect later."""

    def lookup(store_id: str) -> Any:
        if kind == "another store":
            return merchants.stores[OTHER]
        raise KeyError("canary") if kind == "raises" else SystemExit("canary")

    event = event_of()
    merchants.lookup = lookup
    response = post(merchants.api, event)
    assert outcome(response) == (503, "store-lookup-failed")
    assert "canary" not in caplog.text + response.text
    merchants.lookup = merchants.stores.get
    assert is_accepted(post(merchants.api, event))
    assert (len(heard), merchants.asked) == (1, ["1003", "1003"])


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
def test_other_methods(api: Api, method: str) -> None:
    """Only POST delivers an event. Another method is a 405 that names POST."""
    response = api.open(method, PATH, **delivery_of(event_of()))
    assert response.status_code == 405
    assert response.headers["Allow"] == "OPTIONS, POST"
    assert response.content_type == "application/problem+json"


@pytest.mark.parametrize("path", [f"{PATH}/", f"/{PATH}", f"{PATH}%2f", f"{PATH}/x"])
def test_no_redirect(api: Api, path: str) -> None:
    """A path that is nearly right is a 404, because Ecwid takes a redirect for a failure."""
    assert outcome(post(api, event_of(), path)) == (404, "not-found")


def test_no_api_key(ordered: OrderedStore, heard: Heard) -> None:
    """An event needs no API key, and no rule about other sites holds for it."""
    key = "warehouse:read:" + "0123456789abcdef" * 4
    api = ordered.api(ECWID_AUTH="keys", ECWID_API_KEYS=key, **WEBHOOKS)
    assert api.get("/customers").status_code == 401
    delivery = delivery_of(event_of(), Origin="https://evil.example", Cookie="a=b")
    delivery["headers"] |= {"Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"}
    assert is_accepted(api.post(PATH, **delivery))
    assert len(heard) == 1


def test_off_by_default(ordered: OrderedStore) -> None:
    """Without ECWID_WEBHOOKS nothing is at the path."""
    api = ordered.api(ECWID_CLIENT_SECRET=CLIENT_SECRET)
    assert outcome(post(api, event_of())) == (404, "not-found")


def app_with(settings: dict[str, Any], **arguments: Any) -> flask.Flask:
    app = flask.Flask("host")
    app.config.update({"ECWID_SANDBOX": "on", **settings})
    Ecwid(app, **arguments)
    return app


def test_a_path_elsewhere(heard: Heard) -> None:
    """`webhook_path` may be outside of a prefix with converters, and keeps the problems."""
    app = app_with(
        {**WEBHOOKS, "ECWID_SANDBOX": "on"},
        url_prefix="/shops/<int:shop>",
        webhook_path="/hooks/ecwid",
    )
    api = Api(app.test_client(), "")
    assert is_accepted(post(api, event_of(), "/hooks/ecwid"))
    response = post(api, event_of(), "/hooks/ecwid", **{SIGNATURE: "x"})
    assert outcome(response) == (401, "bad-signature")
    assert response.headers["X-Request-ID"]
    assert api.get("/hooks/ecwid").status_code == 405
    assert api.get("/shops/5/customers").status_code == 200
    assert len(heard) == 1


@pytest.mark.parametrize(
    "path",
    [
        *("", "hooks", "/", "/hooks/", "//hooks", "/hooks?a=b", "/<shop>/hooks", "/a b", "/%2f"),
        *("/../hooks", "/./hooks", "/hooks/.."),
    ],
)
def test_a_path_that_cannot_be_right(path: str) -> None:
    """`webhook_path` is a plain path, because Ecwid knows one URL for an app."""
    with pytest.raises(ValueError, match="webhook_path must"):
        Ecwid(webhook_path=path)


def store_of(caller: Caller) -> None:
    return None


@pytest.mark.parametrize(
    ("settings", "arguments", "fault"),
    [
        ({"ECWID_CLIENT_SECRET": ""}, {}, "ECWID_CLIENT_SECRET is missing"),
        (
            {},
            {"url_prefix": "/shops/<int:shop>"},
            "url_prefix has converters, so pass webhook_path",
        ),
        ({}, {"store": store_of, "authorize": lambda scope: True}, "so pass find_store"),
    ],
)
def test_settings_that_cannot_work(
    settings: dict[str, str], arguments: dict[str, Any], fault: str
) -> None:
    """Webhooks need a secret, a path without converters, and a way to find the store."""
    with pytest.raises(SettingsError, match=f"ECWID_WEBHOOKS is on,? .*{fault}"):
        app_with({**WEBHOOKS, **settings}, **arguments)
    app_with({**WEBHOOKS, **settings, "ECWID_WEBHOOKS": "off"}, **arguments)


def test_a_path_that_is_taken() -> None:
    """A path at which the app receives something else is refused at the start."""
    with pytest.raises(ValueError, match="already has a route"):
        app_with(WEBHOOKS, webhook_path=f"{PREFIX}/add_customer")
    app = flask.Flask("host")
    app.config.update({"ECWID_SANDBOX": "on", **WEBHOOKS})
    app.add_url_rule("/hooks", "page", lambda: "a page", methods=["GET"])
    Ecwid(app, webhook_path="/hooks")
    assert app.test_client().get("/hooks").text == "a page"
    assert Api(app.test_client(), "").post("/hooks", **delivery_of(event_of())).status_code == 200


def test_refusals_are_sampled(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """Of the events that are refused, only a sample is logged, because anybody can send them."""
    caplog.set_level(logging.INFO)
    for _ in range(50):
        assert post(api, event_of(), **{SIGNATURE: "x"}).status_code == 401
    assert len([each for each in caplog.records if each.name == "flask_ecwid.request"]) == 20


def test_the_line_of_an_event(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """The line of an event has the store and the type, and nothing else of the event."""
    caplog.set_level(logging.INFO)
    event = event_of(entityId=876543)
    response = post(api, event)
    [line] = [each for each in caplog.records if each.name == "flask_ecwid.request"]
    assert line.message.startswith("store=ecwid store_id=1003 operation=receive_event status=200 ")
    assert line.message.endswith(
        f"request_id={response.headers['X-Request-ID']} event=customer.updated"
    )
    for text in (event["eventId"], "876543", "canary", CLIENT_SECRET, signature_of(event)):
        assert text not in caplog.text
    assert [each for each in caplog.records if each.name.startswith("flask_ecwid.audit")] == []


def test_the_host_may_refuse(ordered: OrderedStore, heard: Heard) -> None:
    """A hook of the host runs before the event, and its refusal is a problem."""
    app = app_with(WEBHOOKS)
    app.before_request(lambda: flask.abort(403, "Closed."))
    response = post(Api(app.test_client()), event_of())
    assert (response.status_code, response.get_json()["detail"]) == (403, "Closed.")
    assert heard == []


def test_an_event_for_each_mount(heard: Heard) -> None:
    """Each mount of an app has its own client secret and its own path."""
    app = app_with(WEBHOOKS)
    app.config.update(
        {
            "OUTLET_ECWID_SANDBOX": "on",
            "OUTLET_ECWID_WEBHOOKS": "on",
            "OUTLET_ECWID_CLIENT_SECRET": CLIENT_SECRET[::-1],
        }
    )
    Ecwid(app, name="outlet", url_prefix="/outlet", config_prefix="OUTLET_")
    event = event_of()
    own = {SIGNATURE: signature_of(event, CLIENT_SECRET[::-1])}
    outlet = Api(app.test_client(), "/outlet")
    assert outcome(post(outlet, event)) == (401, "bad-signature")
    assert is_accepted(post(outlet, event, **own))
    assert outcome(post(Api(app.test_client()), event, **own)) == (401, "bad-signature")
    assert len(heard) == 1


def test_an_encoded_body(api: Api) -> None:
    """A compressed body is refused, because a small one may decode to a large one."""
    response = post(api, event_of(), **{"Content-Encoding": "gzip"})
    assert outcome(response) == (415, "unsupported-media-type")


def test_ecwids_example(api: Api, heard: Heard) -> None:
    """Ecwid's documented body has all members that the receiver reads. Its time is not yet."""
    example = json.loads(
        '{"eventId": "80aece08-40e8-4145-8764-6c2f0d38678", "eventCreated": 7891234567,'
        ' "storeId": 1003, "entityId": 1663830, "eventType": "customer.created",'
        ' "data": {"customerEmail":"user@example.com"}}'
    )
    response = post(api, example)
    assert response.get_json()["errors"][0]["keyword"] == "maximum"
    assert is_accepted(post(api, {**example, "eventCreated": int(clock.wall())}))
    assert heard[0][1]["customer_id"] == 1663830
