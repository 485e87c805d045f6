"""Tests of pages with customers that do not fit the contract, or that are too large."""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from flask_ecwid import EcwidClient, Settings, clock
from flask_ecwid.client import conversions, replies, retries
from flask_ecwid.client.page_reader import Skipped
from flask_ecwid.client.pagination import CustomerIterator
from flask_ecwid.client.transport import RequestsTransport
from flask_ecwid.contract.schema import Schema
from flask_ecwid.errors import (
    BadReply,
    ConnectionLost,
    ContractBroken,
    DeadlineExceeded,
    NotJson,
    ReplyTooLarge,
    Violation,
)
from flask_ecwid.sandbox import STORE_ID, TOKEN, Controls, InProcessAdapter, create_sandbox

from ..conftest import REQUEST_ID, STORE, Api, Config
from ..helpers.command import change_customer

CANARY = "canary"
URN = "urn:flask-ecwid:problem:"
ANY_PATH = re.compile(".*")

pytestmark = pytest.mark.usefixtures("no_waiting")


class Store:
    """A sandbox whose customers a test makes odd."""

    def __init__(self, path: Path, customers: int = 60) -> None:
        self.path = path / "store.sqlite3"
        create_sandbox(self.path, customers=customers)
        self.orders = Controls(self.path)

    def client(self) -> EcwidClient:
        url = "https://sandbox.invalid/api/v3"
        settings = Settings(store_id=STORE_ID, token=TOKEN, api_url=url, calls_per_minute=100_000)
        sandbox = create_sandbox(self.path)
        transport = RequestsTransport(settings, lambda: InProcessAdapter(sandbox))
        return EcwidClient(settings, transport=transport)

    def ids(self) -> list[int]:
        with sqlite3.connect(self.path) as db:
            rows = db.execute("SELECT id FROM customers ORDER BY registered, id").fetchall()
        db.close()
        return [id for (id,) in rows]

    def change(self, id: int, **members: Any) -> None:
        change_customer(self.path, id, **members)

    def asked(self) -> list[str]:
        return [entry.operation for entry in self.orders.ledger()]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_odd_customers_are_skipped(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A reading leaves out the customers that do not fit, and names their ids and places."""
    ids = store.ids()
    odd = {ids[0]: "lang", ids[30]: "taxId", ids[-1]: "b2b_b2c"}
    for id, member in odd.items():
        store.change(id, **{member: {CANARY: 1}})
    reading = store.client().iter_customers(limit=20)
    assert sorted(customer["id"] for customer in reading) == sorted(set(ids) - set(odd))
    assert sorted(reading.skipped) == sorted(
        Skipped(id, [Violation(f"/{member}", "type")]) for id, member in odd.items()
    )
    assert reading.difference == 0
    assert store.asked().count("get_customer") == 2 * len(odd)  # a broken read is repeated once
    lines = [line for line in caplog.messages if line.startswith("customer left out")]
    assert sorted(lines) == sorted(
        f"customer left out customer_id={id} places=/{member}:type" for id, member in odd.items()
    )
    assert CANARY not in caplog.text


def test_a_page_of_odd_customers(store: Store) -> None:
    """A reading in which no customer fits ends, and names each customer once."""
    for id in store.ids():
        store.change(id, lang=True)
    reading = store.client().iter_customers(limit=20)
    assert list(reading) == []
    assert sorted(each.customer_id or 0 for each in reading.skipped) == sorted(store.ids())


def test_a_customer_who_fits_alone(ecwid: HTTPServer, config: Config) -> None:
    """A customer who does not fit in a page comes if the reply about them alone fits."""
    pages = [[{"id": 1, "lang": {}}, {"id": 2}, {"id": 3, "lang": {}}], []]
    queries: list[dict[str, str]] = []

    def page(request: Request) -> Response:
        queries.append(dict(request.args))
        items = pages[0] if request.args["offset"] == "0" and "sortBy" in request.args else []
        items = [] if request.args.get("sortBy", "").startswith("UPDATED") else items
        return Response(json.dumps({"total": 3, "items": items}), content_type="application/json")

    ecwid.expect_request(f"{STORE}/customers").respond_with_handler(page)
    ecwid.expect_request(f"{STORE}/customers/1").respond_with_json({"id": 1, "lang": "en"})
    ecwid.expect_request(f"{STORE}/customers/3").respond_with_data("", 404)
    client = EcwidClient(Settings.from_config(config))
    reading = client.iter_customers(responseFields="items(lang)")
    assert list(reading) == [{"id": 1, "lang": "en"}, {"id": 2}]
    assert reading.skipped == []
    assert reading.difference == 1  # The third customer was deleted meanwhile.
    gets = [request for request, _ in ecwid.log if request.path.endswith("/customers/1")]
    assert [request.args["responseFields"] for request in gets] == ["lang,id,registered,updated"]


@pytest.mark.parametrize("id", [None, "x", {}, 1.5, True, [], "absent"])
def test_a_customer_without_an_id(ecwid: HTTPServer, config: Config, id: Any) -> None:
    """A customer without a usable id is skipped with the place in the page, once."""
    odd = {"email": CANARY, "registered": "2026-01-01 00:00:03 +0000", "id": id}
    if id == "absent":
        del odd["id"]
    customers = [
        {"id": 1, "registered": "2026-01-01 00:00:01 +0000"},
        odd,
        {"id": 2, "registered": "2026-01-01 00:00:03 +0000"},
    ]

    def page(request: Request) -> Response:
        since = 1 if int(request.args.get("createdFrom", 0)) > 1767225600 else 0
        start = since + int(request.args["offset"])
        items = customers[start : start + int(request.args["limit"])]
        items = [] if "updatedFrom" in request.args else items
        return Response(json.dumps({"total": 3, "items": items}), content_type="application/json")

    ecwid.expect_request(f"{STORE}/customers").respond_with_handler(page)
    reading = EcwidClient(Settings.from_config(config)).iter_customers()
    assert [customer["id"] for customer in reading] == [1, 2]
    [skipped] = reading.skipped
    assert skipped.customer_id is None
    assert Violation("/items/1/id", "required" if id == "absent" else "type") in skipped.errors
    assert reading.difference == 0


@pytest.mark.parametrize("id", [0, -1, -(2**63), 2**63, 2**64 - 1])
def test_any_integer_is_an_id(ecwid: HTTPServer, config: Config, id: int) -> None:
    """A customer with an id that Ecwid has never used comes too, and a cursor can be made."""

    def page(request: Request) -> Response:
        first = request.args["offset"] == "0" and "REGISTERED" in request.args.get("sortBy", "")
        body = {"total": 1, "items": [{"id": id}] if first else []}
        return Response(json.dumps(body), content_type="application/json")

    ecwid.expect_request(f"{STORE}/customers").respond_with_handler(page)
    client = EcwidClient(Settings.from_config(config))
    reading = client.iter_customers()
    assert next(reading)["id"] == id
    resumed = client.iter_customers(cursor=reading.cursor)
    assert list(resumed) == []


def test_an_error_while_a_customer_is_asked_for(store: Store) -> None:
    """After a failed call for one customer, the reading continues with that customer."""
    ids = store.ids()
    store.change(ids[3], lang={})
    client = store.client()
    failing = True

    def get(customer_id: int, selection: str | None) -> Any:
        nonlocal failing
        if failing:
            failing = False
            raise ConnectionLost
        return client._get_for_bulk(customer_id, selection)

    reading = CustomerIterator(client.list_with_unfit, {"limit": 20}, get_customer=get)
    came = [next(reading)["id"] for _ in range(3)]
    with pytest.raises(ConnectionLost):
        next(reading)
    came += [customer["id"] for customer in reading]
    assert sorted(came) == sorted(set(ids) - {ids[3]})
    assert [each.customer_id for each in reading.skipped] == [ids[3]]


def test_resumed_after_odd_customers(store: Store) -> None:
    """A resumed reading neither asks again for a skipped customer nor counts the customer twice."""
    ids = store.ids()
    for id in ids[5:9]:
        store.change(id, lang={})
    client = store.client()
    first = client.iter_customers(limit=20)
    came = [next(first)["id"] for _ in range(12)]
    assert len(first.skipped) == 4
    calls = store.asked().count("get_customer")
    second = client.iter_customers(limit=20, cursor=first.cursor)
    came += [customer["id"] for customer in second]
    assert sorted(came) == sorted(set(ids) - set(ids[5:9]))
    assert second.skipped == []
    assert store.asked().count("get_customer") == calls
    assert second.difference == 0


# Large and unreadable replies


@pytest.mark.parametrize("size", [2 << 20, 9 << 20])
def test_large_customers(tmp_path: Path, size: int) -> None:
    """A page that is too large is read in smaller parts, and the pages grow again afterwards.

    Only a customer who is too large alone is skipped.
    """
    store = Store(tmp_path, 200)
    ids = store.ids()
    for id in ids[50:56]:
        store.change(id, privateAdminNotes="x" * size)
    sizes: list[int] = []
    client = store.client()

    def page(**query: Any) -> Any:
        sizes.append(query["limit"])
        return client.list_with_unfit(**query)

    reading = CustomerIterator(page, {}, get_customer=client._get_for_bulk)
    came = sorted(customer["id"] for customer in reading)
    if size < 8 << 20:
        assert came == sorted(ids)
        assert reading.skipped == []
    else:
        assert came == sorted(set(ids) - {*ids[50:56]})
        assert sorted(reading.skipped) == [
            Skipped(id, [Violation("", "size")]) for id in sorted(ids[50:56])
        ]
        assert 1 in sizes
    assert reading.difference == 0
    assert sizes[:2] == [100, 50]
    # The last page of each pass and the total have the whole size again, or the limit 1.
    assert sizes[-2] == 100
    assert len(sizes) < 90


def test_a_page_that_is_no_json(ecwid: HTTPServer, config: Config) -> None:
    """A customer who makes each page unreadable is skipped, and the others come."""
    customers = [{"id": id, "email": f"{id}@example.com"} for id in range(1, 31)]

    def page(request: Request) -> Response:
        offset, limit = int(request.args["offset"]), int(request.args["limit"])
        shown = customers[offset : offset + limit]
        shown = [] if "updatedFrom" in request.args else shown
        body = json.dumps({"total": 30, "items": shown}).encode()
        if "email" in request.args.get("responseFields", "email"):
            body = body.replace(b"17@", b"\xff@")
        return Response(body, content_type="application/json")

    ecwid.expect_request(f"{STORE}/customers").respond_with_handler(page)
    ecwid.expect_request(f"{STORE}/customers/17").respond_with_data(b'{"id": 17, "email": "\xff"}')
    reading = EcwidClient(Settings.from_config(config)).iter_customers()
    assert [customer["id"] for customer in reading] == [*range(1, 17), *range(18, 31)]
    assert reading.skipped == [Skipped(17, [Violation("", "json")])]


@pytest.mark.parametrize("error", [NotJson, ReplyTooLarge])
def test_no_page_can_be_read(error: type[Exception]) -> None:
    """A reading in which even a page of one id cannot be read raises the error."""
    sizes: list[int] = []

    def page(**query: Any) -> Any:
        sizes.append(query["limit"])
        raise error

    reading = CustomerIterator(page, {"limit": 10})
    with pytest.raises(error):
        next(reading)
    assert sizes == [10, 5, 2, 1, 1]


@pytest.mark.parametrize("items", [None, {}, [{}], [{"id": "7"}], ["x"]])
def test_a_page_that_is_no_list(items: Any) -> None:
    """A page without a list of customers with ids ends the reading, and changes nothing."""
    with pytest.raises(BadReply) as caught:
        next(CustomerIterator(lambda **query: {"total": 1, "items": items}, {}))  # type: ignore[arg-type]
    assert caught.value.executed == "no"


def test_a_nested_customer(ecwid: HTTPServer, config: Config) -> None:
    """A customer who is nested deeper than JSON can be written is skipped."""
    nested = b'{"id": 2, "x": ' + b"[" * 300 + b"]" * 300 + b"}"

    def page(request: Request) -> Response:
        first = request.args["offset"] == "0" and "REGISTERED" in request.args.get("sortBy", "")
        items = b'{"id": 1}, ' + nested + b', {"id": 3}' if first else b""
        return Response(b'{"total": 3, "items": [' + items + b"]}")

    ecwid.expect_request(f"{STORE}/customers").respond_with_handler(page)
    ecwid.expect_request(f"{STORE}/customers/2").respond_with_data(nested)
    reading = EcwidClient(Settings.from_config(config)).iter_customers()
    assert [customer["id"] for customer in reading] == [1, 3]
    assert reading.skipped == [Skipped(2, [Violation("", "nesting")])]


def test_a_page_with_more_customers_than_asked(
    ecwid: HTTPServer, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page with more customers than the limit is refused before any customer is checked."""
    checked: list[Any] = []
    is_valid = Schema.is_valid

    def noted(schema: Schema, document: Any) -> bool:
        if isinstance(document, dict):  # and not the value of a parameter
            checked.append(document)
        return is_valid(schema, document)

    monkeypatch.setattr(Schema, "is_valid", noted)
    monkeypatch.setattr(conversions, "convert", lambda *_: checked.append(None))
    pages: list[list[Any]] = [[{"id": 1}] * 6, ["\ud83d"] * 6, [{}] * 6]
    for items in pages:
        ecwid.clear()
        ecwid.expect_request(f"{STORE}/customers").respond_with_json({"total": 6, "items": items})
        response = api.get("/customers?limit=5")
        assert response.status_code == 502
        assert response.json is not None
        assert response.json["errors"] == [
            {"pointer": "/data/attributes/items", "keyword": "maxItems"}
        ]
    assert checked == []


def test_the_list_endpoint_names_the_customers(
    ecwid: HTTPServer, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """A page with odd customers is a 502 whose problem and log lines have their ids."""
    items = [
        *({"id": id} for id in range(1, 60)),
        {"id": 60, "lang": {CANARY: 1}},
        {"id": 61, "contacts": [{"note": "n"}, {"note": [CANARY]}]},
        {"email": CANARY},
        {"id": 60, "taxId": True},
        {"id": "x"},
        5,
    ]
    page = {"total": 65, "items": items, "allCustomerCount": "canary"}
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(page)
    response = api.get("/customers", headers={"X-Request-ID": REQUEST_ID})
    assert response.status_code == 502
    assert response.json is not None
    assert response.json["type"] == URN + "contract-broken"
    assert response.json["customer_ids"] == [60, 61]
    places = [(each["pointer"], each["keyword"]) for each in response.json["errors"]]
    below = "/data/attributes"
    assert places[0] == (f"{below}/allCustomerCount", "type")
    assert {
        (f"{below}/items/59/lang", "type"),
        (f"{below}/items/60/contacts/1/note", "type"),
        (f"{below}/items/61/id", "required"),
        (f"{below}/items/62/taxId", "type"),
        (f"{below}/items/63/id", "type"),
        (f"{below}/items/64", "type"),
    } <= set(places)
    lines = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert sum("customer_ids=60,61" in line for line in lines) >= 2
    assert any("customer_ids=60,61" in line and REQUEST_ID in line for line in lines)
    assert CANARY not in response.text + caplog.text


def test_an_error_of_a_page_has_few_places(ecwid: HTTPServer, config: Config) -> None:
    """An error has all ids of the customers that do not fit, and 20 places at most."""
    items = [{"id": id, "lang": id % 2 == 0} for id in range(1, 101)]
    ecwid.expect_request(f"{STORE}/customers").respond_with_json({"total": 100, "items": items})
    with pytest.raises(ContractBroken) as caught:
        EcwidClient(Settings.from_config(config)).list_customers()
    assert caught.value.customer_ids == [*range(1, 101)]
    assert len(caught.value.errors) == 20


def in_threads(count: int, work: Callable[[int], object]) -> list[object]:
    """Return the results of the work of several threads that begin at the same time."""
    barrier, results = threading.Barrier(count), []

    def run(number: int) -> None:
        barrier.wait()
        try:
            results.append(work(number))
        except Exception as exc:
            results.append(exc)

    threads = [threading.Thread(target=run, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class Readers:
    """A JSON parser that notes how many threads parse a large body at the same time."""

    JSONDecodeError, JSONEncodeError = orjson.JSONDecodeError, orjson.JSONEncodeError
    dumps = staticmethod(orjson.dumps)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0
        self.too_many = threading.Event()

    def loads(self, body: bytes) -> Any:
        if len(body) < 1000:
            return orjson.loads(body)
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            if self.most > 2:
                self.too_many.set()
        self.too_many.wait(0.3)  # the time in which a third thread would come
        try:
            return orjson.loads(body)
        finally:
            with self._lock:
                self._now -= 1


def test_large_replies_are_read_two_at_a_time(
    ecwid: HTTPServer, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most two replies over 1 MiB are parsed at the same time, however small their gzip is."""
    small = gzip.compress(b'{"id": 7, "x": "' + b"x" * ((8 << 20) - 100) + b'"}')
    assert len(small) < 16_000
    ecwid.expect_request(ANY_PATH).respond_with_data(small, headers={"Content-Encoding": "gzip"})
    readers = Readers()
    monkeypatch.setattr(replies, "orjson", readers)
    client = EcwidClient(Settings.from_config(config))
    found = in_threads(8, lambda number: client.get_customer(number + 1)["id"])
    assert found == [7] * 8
    assert readers.most == 2


LARGE = b'{"id": 7, "x": "' + b"x" * (2 << 20) + b'"}'


def large_and_late(_: Request) -> Response:
    """Return a large reply, so late that reads which begin together share the call."""
    time.sleep(0.5)
    return Response(LARGE)


def test_joined_large_replies_are_read_two_at_a_time(
    ecwid: HTTPServer, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads that share one call to Ecwid parse its large reply two at a time, too."""
    ecwid.expect_request(ANY_PATH).respond_with_handler(large_and_late)
    readers = Readers()
    monkeypatch.setattr(replies, "orjson", readers)
    client = EcwidClient(Settings.from_config(config))
    assert in_threads(6, lambda _: client.get_customer(1)["id"]) == [7] * 6
    assert readers.most == 2


def test_a_large_reply_waits_no_longer_than_the_deadline(ecwid: HTTPServer, config: Config) -> None:
    """A call that finds no slot for its large reply ends at its deadline."""
    ecwid.expect_request(ANY_PATH).respond_with_data(LARGE)
    client = EcwidClient(Settings.from_config({**config, "ECWID_DEADLINE_S": 2}))
    with (
        retries._large_replies.take(0),
        retries._large_replies.take(0),
        pytest.raises(DeadlineExceeded),
    ):
        client.get_customer(1)
    assert client.get_customer(1)["id"] == 7


class SecondWaits:
    """orjson, whose second call waits until a thread has failed."""

    def __init__(self) -> None:
        self.failed = threading.Event()
        self._number = count(1)

    def loads(self, body: bytes) -> Any:
        if next(self._number) == 2:
            self.failed.wait(20)
        return orjson.loads(body)


def test_a_joined_read_has_no_effect(
    ecwid: HTTPServer, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read that joins a call and finds no slot for its large reply says that it had no effect."""
    ecwid.expect_request(ANY_PATH).respond_with_handler(large_and_late)
    reader = SecondWaits()
    monkeypatch.setattr(replies, "orjson", reader)
    client = EcwidClient(Settings.from_config({**config, "ECWID_DEADLINE_S": 2}))

    def read(_: int) -> str | None:
        try:
            return str(client.get_customer(1)["id"])
        except DeadlineExceeded as exc:
            reader.failed.set()
            return exc.executed

    with retries._large_replies.take(0):
        assert sorted(map(str, in_threads(3, read))) == ["7", "7", "no"]
    assert len(ecwid.log) == 1


def test_slots_after_a_fork() -> None:
    """A forked process has all slots, although its parent has taken some."""
    slots = clock.Slots(1)
    with slots.take(0):
        child = os.fork()
        if not child:
            try:
                with slots.take(5):
                    os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with pytest.raises(TimeoutError), slots.take(0):
            pass
    with slots.take(0):
        pass


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *[(500, ""), (500, '{"errorCode": "INTERNAL_ERROR"}'), (504, ""), (400, ""), (422, "")],
        *[(403, "no"), (404, "<html>"), (302, ""), (200, "<html>"), (200, '{"id": 2}')],
    ],
)
def test_a_customer_whose_own_read_fails(
    ecwid: HTTPServer, config: Config, no_waiting: list[float], status: int, body: str
) -> None:
    """A reading leaves out an odd customer whose own read fails in any way, and goes on."""

    def page(request: Request) -> Response:
        items = [{"id": 1, "lang": {}}, {"id": 2}] if request.args["offset"] == "0" else []
        items = [] if request.args.get("sortBy", "").startswith("UPDATED") else items
        return Response(json.dumps({"total": 2, "items": items}), content_type="application/json")

    ecwid.expect_request(f"{STORE}/customers").respond_with_handler(page)
    ecwid.expect_request(f"{STORE}/customers/1").respond_with_data(
        body, status, content_type="application/json"
    )
    reading = EcwidClient(Settings.from_config(config)).iter_customers()
    assert list(reading) == [{"id": 2}]
    assert [each.customer_id for each in reading.skipped] == [1]
    assert reading.skipped[0].places
    assert reading.difference == 0


def test_an_odd_page_refuses_no_other_call(ecwid: HTTPServer, config: Config) -> None:
    """A page that is not JSON opens no breaker, because smaller pages may be JSON."""

    def page(request: Request) -> Response:
        first, limit = int(request.args["offset"]), int(request.args["limit"])
        ids = range(1, 31)[first : first + limit]
        ids = range(0) if "updatedFrom" in request.args else ids
        items = ",".join(json.dumps({"id": id}) for id in ids)
        broken = "" if 17 not in ids or request.args.get("responseFields") else "<html>"
        return Response(f'{{"total": 30, "items": [{broken}{items}]}}')

    ecwid.expect_request(f"{STORE}/customers").respond_with_handler(page)
    ecwid.expect_request(f"{STORE}/customers/17").respond_with_json({"id": 17})
    ecwid.expect_request(f"{STORE}/customers/1").respond_with_json({"id": 1})
    client = EcwidClient(Settings.from_config(config))
    ids = []
    for customer in client.iter_customers():
        ids.append(customer["id"])
        assert client.get_customer(1) == {"id": 1}
    assert ids == [*range(1, 31)]
