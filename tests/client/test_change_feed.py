"""Tests of the change feed while customers are created, changed and deleted."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from flask_ecwid import EcwidClient, Settings, clock
from flask_ecwid.client import (
    Change,
    ChangeIterator,
    CursorExpired,
    CustomerDeleted,
    CustomerUnreadable,
    CustomerUpdated,
    change_cursor,
    dates,
)
from flask_ecwid.client.overlap_ids import LAG_S
from flask_ecwid.client.pagination import CustomerIterator
from flask_ecwid.errors import BadReply, ConnectionLost, ContractBroken, ServiceRefused, Violation
from flask_ecwid.sandbox import TOKEN, Controls, create_sandbox

from ..conftest import STORE, Config
from ..helpers.command import change_customer
from ..helpers.moving_store import NOW, MovingStore, date
from .test_moving_list import client_of, spread

DAY = 86_400


class ChangingStore(MovingStore):
    """A simulated store whose customers have versions, and which lists its deletions.

    The search and the list of deletions show a change up to `lag_s` later.
    """

    def __init__(
        self,
        registered: list[int],
        happens: Callable[[ChangingStore], None] = lambda store: None,
        *,
        lag_s: int = 0,
        ascending: bool = False,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(registered, lambda store: self._before_call(), **options)
        self.truth = {id: (at, 0) for id, (_, at) in self.customers.items()}
        self.gone: dict[int, int] = {}  # the second of each deletion
        self.calls = 0
        self.lag_s = lag_s
        self._shown = dict(self.truth)
        self._listed: dict[int, int] = {}
        self._ascending = ascending
        self._change = happens
        self._chance = random.Random(seed)
        self._late: list[tuple[int, int, Callable[[], None]]] = []

    def add(self, *, hidden: bool = False) -> int:
        id = super().add(hidden=hidden)
        moments = self.customers.pop(id)
        self.truth[id] = (self.now, 0)
        self._show_later(id, lambda: self._show(id, moments, (moments[1], 0)))
        return id

    def change(self, id: int) -> None:
        updated = self.now
        self.truth[id] = version = (updated, self.truth[id][1] + 1)
        self._show_later(id, lambda: self._show(id, (self.customers[id][0], updated), version))

    def delete(self, id: int) -> None:
        del self.truth[id]
        self.gone[id] = at = self.now
        self._show_later(id, lambda: self._list(id, at))

    def stop(self) -> None:
        """Let nothing change any more, and let the lag pass."""
        self._change = lambda store: None
        self.now += self.lag_s + 1
        self._catch_up()

    def list_page(self, **query: Any) -> Any:
        page = super().list_page(**query)
        for item in page["items"]:
            item["taxId"] = str(self._shown[item["id"]][1])
        return page

    def list_deleted(self, **query: Any) -> Any:
        self._before_call()
        less = int(self._exclusive)
        found = sorted(
            (at, id)
            for id, at in self._listed.items()
            if query["from_date"] + less <= at <= query.get("to_date", 2**62) - less
        )
        if not self._ascending:
            found.reverse()
        limit = min(query["limit"], self._most)
        items = [{"id": id, "date": date(at)} for at, id in found[query["offset"] :][:limit]]
        return {"total": len(found), "count": len(items), "items": items, **query}

    def _before_call(self) -> None:
        self.calls += 1
        assert self.calls < 20_000, "without an end"
        self._change(self)
        self._catch_up()

    def _show_later(self, id: int, show: Callable[[], None]) -> None:
        before = max((at for at, of, _ in self._late if of == id), default=0)
        lag_s = self._chance.randrange(self.lag_s + 1)
        self._late.append((max(before, self.now + lag_s), id, show))

    def _catch_up(self) -> None:
        due = [each for each in self._late if each[0] <= self.now]
        self._late = [each for each in self._late if each[0] > self.now]
        for _, _, show in due:
            show()

    def _show(self, id: int, moments: tuple[int, int], version: tuple[int, int]) -> None:
        self.customers[id] = moments
        self._shown[id] = version

    def _list(self, id: int, at: int) -> None:
        self.customers.pop(id, None)
        self._listed[id] = at


@pytest.fixture(autouse=True)
def _a_clock_that_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "wall", lambda: float(NOW))


@pytest.fixture
def clock_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that lets our clock show the time of a store."""

    def follow(store: MovingStore, ahead_s: int = 0) -> None:
        monkeypatch.setattr(clock, "wall", lambda: float(store.now + ahead_s))

    return follow


class Copy:
    """A copy of a store, which is kept by a feed, and the breaches of the feed's promise."""

    def __init__(self) -> None:
        self.customers: dict[int, tuple[int, int]] = {}
        self.seen: set[object] = set()
        self.deleted: set[int] = set()
        self.breaches: list[str] = []

    def apply(self, change: Change) -> None:
        if isinstance(change, CustomerDeleted):
            fact: object = change.customer_id
            self.deleted.add(change.customer_id)
            self.customers.pop(change.customer_id, None)
        else:
            assert isinstance(change, CustomerUpdated)
            fact = moment_of(change), change.customer_id, change.customer["taxId"]
            if change.customer_id in self.deleted:
                self.breaches.append("a change after the deletion")
            version = int(change.customer["taxId"] or 0)
            self.customers[change.customer_id] = (moment_of(change), version)
        if fact in self.seen:
            self.breaches.append("a change came twice")
        self.seen.add(fact)

    def compare(self, store: ChangingStore, since: int = NOW) -> list[str]:
        """Return all breaches, after the last reading of a store that no longer changes."""
        if self.customers != store.truth:
            self.breaches.append("the copy is stale")
        if {id for id, at in store.gone.items() if at >= since} - self.deleted:
            self.breaches.append("a deletion is missing")
        return self.breaches


def moment_of(change: Change) -> int:
    """Return the second of a change."""
    if isinstance(change, CustomerDeleted):
        return int(change.deleted_at.timestamp())
    assert isinstance(change, CustomerUpdated)
    return dates.to_seconds(change.customer["updated"]) or 0


def feed(of: ChangingStore, cursor: str | None = None, **options: Any) -> ChangeIterator:
    return ChangeIterator(of.list_page, of.list_deleted, cursor=cursor, **options)


Read = Callable[[ChangingStore, "str | None", int], tuple[list[Change], str, bool]]


def read(store: ChangingStore, cursor: str | None, step: int) -> tuple[list[Change], str, bool]:
    """Return the next changes, the cursor after them, and whether the feed has ended."""
    changes = feed(store, cursor, limit=20)
    some = list(itertools.islice(changes, step))
    return some, changes.cursor, len(some) < step


def read_by_updated_from(
    store: ChangingStore, cursor: str | None, step: int
) -> tuple[list[Change], str, bool]:
    """Read by `updatedFrom` alone, as the control."""
    since, offset = int(cursor or 0), 0
    changes: list[Change] = []
    newest = since
    while True:
        page = store.list_page(
            updatedFrom=since, sortBy="UPDATED_DATE_ASC", limit=20, offset=offset
        )
        changes += [CustomerUpdated(item) for item in page["items"]]
        if not page["items"]:
            return changes, str(newest + 1), True
        offset += len(page["items"])
        newest = max(newest, moment_of(changes[-1]))


def keep_a_copy(store: ChangingStore, read: Read, *, step: int, readings: int) -> list[str]:
    """Keep a copy with several readings, and return the breaches of the promise."""
    copy, cursor, calm = Copy(), None, False
    while readings:
        some, cursor, is_over = read(store, cursor, step)
        for change in some:
            copy.apply(change)
        if is_over:
            readings -= 1
            store.now += 7
        if readings == 1 and not calm:
            store.stop()
            calm = True
    return copy.compare(store)


class Commotion:
    """Create, change and delete a few customers before any call."""

    def __init__(self, seed: int, gaps_s: tuple[int, ...] = (0, 0, 0, 1, 40)) -> None:
        self.chance = random.Random(seed)
        self.gaps_s = gaps_s

    def __call__(self, store: ChangingStore) -> None:
        chance = self.chance
        store.now += chance.choice(self.gaps_s)
        for _ in range(chance.choice([0, 1, 3, 30]) if store.calls < 150 else 0):
            ids = sorted(store.truth)
            drawn = chance.random()
            if drawn < 0.3 and len(ids) > 5:
                store.delete(chance.choice(ids))
            elif drawn < 0.8:
                store.change(chance.choice(ids))
            else:
                store.add()


def make_store(seed: int, commotion: Commotion, lag_s: int = 0) -> ChangingStore:
    chance = random.Random(seed)
    return ChangingStore(
        spread(chance.choice([7, 60, 100, 300]), seed),
        commotion,
        lag_s=lag_s,
        ascending=chance.random() < 0.5,
        exclusive=chance.random() < 0.5,
        most=chance.choice([100, 7]),
        seed=seed,
    )


@pytest.mark.parametrize("seed", range(40))
def test_each_change_comes_once(seed: int, clock_of: Callable[..., None]) -> None:
    """A copy that follows the feed equals the store, and no change comes twice."""
    chance = random.Random(seed)
    store = make_store(seed, Commotion(seed), lag_s=chance.choice([0, 0, 100]))
    clock_of(store, ahead_s=chance.choice([-100, 0, 100]))
    step = chance.choice([5, 29, 10_000])
    assert keep_a_copy(store, read, step=step, readings=4) == []


def test_the_control_fails(clock_of: Callable[..., None]) -> None:
    """Reading by `updatedFrom` alone misses deletions, and keeps a stale copy."""
    breaches: set[str] = set()
    for seed in range(10):
        store = make_store(seed, Commotion(seed))
        clock_of(store)
        breaches.update(keep_a_copy(store, read_by_updated_from, step=10_000, readings=4))
    assert breaches >= {"the copy is stale", "a deletion is missing"}


# Each write is some steps, with the ids of the customers. Before the writes, the store has 70.
WRITES: dict[str, list[tuple[str, Iterable[int]]]] = {
    "create": [("add", [71])],
    "change the oldest": [("change", [1])],
    "change the newest": [("change", [70])],
    "change twice": [("change", [3]), ("change", [3])],
    "delete the oldest": [("delete", [1])],
    "delete the newest": [("delete", [70])],
    "create and delete": [("add", [71]), ("delete", [71])],
    "change and delete": [("change", [3]), ("delete", [3])],
    "delete and create again": [("delete", [3]), ("add", [71])],
    "change all": [("change", range(1, 71))],
    "delete most": [("delete", range(3, 40))],
}


def write_to(store: ChangingStore, steps: list[tuple[str, Iterable[int]]]) -> None:
    for what, ids in steps:
        for id in ids:
            if what == "add":
                assert store.add() == id
            elif what == "change":
                store.change(id)
            else:
                store.delete(id)


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("exclusive", [False, True])
def test_a_write_before_any_call(
    write: str, exclusive: bool, clock_of: Callable[..., None]
) -> None:
    """A write before any call of a reading comes once, with the reading or with the next one."""
    call = 1
    while True:

        def happens(store: ChangingStore, call: int = call) -> None:
            if store.calls == call:
                write_to(store, WRITES[write])

        # Many customers in one second, some older ones, and some of the last minutes.
        registered = [NOW - DAY] * 30 + spread(20) + [NOW - 100 + each for each in range(20)]
        store = ChangingStore(registered, happens, exclusive=exclusive, ascending=exclusive)
        clock_of(store)
        copy = Copy()
        changes = feed(store, limit=10)
        for change in changes:
            copy.apply(change)
        calls = store.calls
        store.now += 1
        store.calls = 10_000  # No write happens any more.
        for change in feed(store, changes.cursor, limit=10):
            copy.apply(change)
        assert copy.compare(store) == [], call
        if call > calls:
            break
        call += 1
    assert call > 10


@pytest.mark.parametrize("seed", range(20))
def test_the_changes_are_in_order(seed: int, clock_of: Callable[..., None]) -> None:
    """The changes of a reading are in the order of time, deletions too.

    A second is over when it is read. Otherwise Ecwid could show the rest of the second later.
    """
    store = make_store(seed, Commotion(seed, gaps_s=(1, 1, 40)))
    clock_of(store)
    cursor = None
    for _ in range(3):
        changes = feed(store, cursor, limit=20)
        moments = [moment_of(change) for change in changes]
        assert moments == sorted(moments)
        cursor = changes.cursor


@pytest.mark.parametrize("fails_at", range(1, 40))
def test_a_failed_call(fails_at: int, clock_of: Callable[..., None]) -> None:
    """After an error, `next` goes on at the same place, and so does the cursor."""

    def happens(store: ChangingStore) -> None:
        if store.calls == fails_at:
            store.change(5)
            store.delete(8)
            raise ConnectionLost

    registered = [NOW - DAY] * 30 + spread(20) + [NOW - 100 + each for each in range(20)]
    for resumes in (False, True):
        store = ChangingStore(registered, happens)
        clock_of(store)
        copy, changes = Copy(), feed(store, limit=10)
        for _ in range(2):
            try:
                for change in changes:
                    copy.apply(change)
            except ConnectionLost:
                changes = feed(store, changes.cursor, limit=10) if resumes else changes
        if store.calls < fails_at:
            return  # The reading has fewer calls.
        store.now += 1
        for change in feed(store, changes.cursor, limit=10):
            copy.apply(change)
        assert copy.compare(store) == []


def test_two_versions_in_one_second() -> None:
    """A customer that changes again in the second in which it was read comes again."""
    store = ChangingStore([NOW - DAY, NOW])
    changes = feed(store)
    assert len(list(changes)) == 2
    store.change(2)
    [change] = feed(store, changes.cursor)
    assert isinstance(change, CustomerUpdated)
    assert change.customer_id == 2


def test_the_order_in_a_list_is_no_change() -> None:
    """A customer whose addresses come in another order has not changed."""
    turns = itertools.count()

    def list_page(**query: Any) -> Any:
        addresses = [{"id": 1, "city": "A"}, {"id": 2, "city": "B"}]
        if next(turns) % 2:
            addresses.reverse()
        item = {"id": 7, "updated": date(NOW), "shippingAddresses": addresses}
        return {"total": 1, "count": 1, "items": [item], **query}

    empty = ChangingStore([])
    changes = ChangeIterator(list_page, empty.list_deleted)
    assert len(list(changes)) == 1
    assert list(ChangeIterator(list_page, empty.list_deleted, cursor=changes.cursor)) == []


def test_no_change_after_the_deletion() -> None:
    """A customer whom the search still shows after the deletion does not come again."""
    store = ChangingStore(spread(3))
    changes = feed(store)
    list(changes)
    store.change(2)
    store._listed[2] = NOW
    cursor = changes.cursor
    kinds = [type(change) for change in feed(store, cursor)]
    assert kinds == [CustomerDeleted]


def test_a_customer_that_never_came() -> None:
    """The deletion of a customer that never came, comes once."""
    store = ChangingStore(spread(3))
    changes = feed(store)
    list(changes)
    store.delete(store.add())
    [change] = changes = feed(store, changes.cursor)
    assert (type(change), change.customer_id) == (CustomerDeleted, 4)
    assert list(feed(store, changes.cursor)) == []


def test_a_change_that_shows_late() -> None:
    """A change that the search shows minutes later comes, although newer changes came before."""
    store = ChangingStore([NOW - DAY] * 3)
    store.customers[2] = (NOW - DAY, NOW)
    changes = feed(store)
    list(changes)
    store.customers[3] = (NOW - DAY, NOW - LAG_S + 1)
    assert [change.customer_id for change in feed(store, changes.cursor)] == [3]


def test_an_idle_store_costs_two_calls(clock_of: Callable[..., None]) -> None:
    """A reading without changes makes one call for updates and one for deletions."""
    store = ChangingStore(spread(250) + [NOW - 5 - each % 50 for each in range(250)])
    clock_of(store)
    changes = feed(store)
    list(changes)
    store.now += 2 * LAG_S
    changes = feed(store, changes.cursor)
    assert list(changes) == []
    store.calls = 0
    assert list(feed(store, changes.cursor)) == []
    assert store.calls == 2


# Crowds and bursts


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("most", [100, 37])
@pytest.mark.parametrize("age_s", [0, DAY])
def test_many_in_one_second(
    exclusive: bool, most: int, age_s: int, clock_of: Callable[..., None]
) -> None:
    """Of thousands in one second each comes once, although hundreds leave between two pages."""
    chance = random.Random(1)

    def happens(store: ChangingStore) -> None:
        crowd = [id for id, (at, _) in store.truth.items() if at == NOW - age_s]
        for id in chance.sample(crowd, min(len(crowd), 150)):
            if store.calls % 3 == 0:
                chance.choice([store.change, store.delete])(id)

    store = ChangingStore([NOW - age_s] * 1500, happens, exclusive=exclusive, most=most)
    store.now += 1
    clock_of(store)
    copy, cursor = Copy(), None
    for step in (50, 170, 10_000, 10_000, 10_000):
        changes = feed(store, cursor)
        for change in itertools.islice(changes, step):
            copy.apply(change)
        cursor = changes.cursor
        store.now += 1
    assert copy.compare(store) == []


def test_a_burst_comes_later(
    monkeypatch: pytest.MonkeyPatch, clock_of: Callable[..., None]
) -> None:
    """A burst of more changes than the cursor may hold comes whole, but some of it later."""
    monkeypatch.setattr(change_cursor, "MOST_IDS", 300)
    store = ChangingStore([NOW - each % 20 for each in range(1500)])
    for id in range(1, 600):
        store.delete(id)
    clock_of(store)
    copy, cursor, longest, counts = Copy(), None, 0, []
    for _ in range(8):
        changes = feed(store, cursor)
        came = list(changes)
        counts.append(len(came))
        for change in came:
            copy.apply(change)
        cursor = changes.cursor
        longest = max(longest, len(cursor))
        store.now += 100
    assert 300 <= counts[0] <= 800
    assert copy.compare(store) == []
    assert longest < 6000


def test_the_cursor_is_bounded(clock_of: Callable[..., None]) -> None:
    """The cursor of 12,000 changes within seconds has less than 150 kB, at any moment."""
    chance = random.Random(1)
    store = ChangingStore([NOW - each % 20 for each in range(12_000)])
    ids = chance.sample(range(1, 10**9), 12_000)
    store.customers = dict(zip(ids, store.customers.values(), strict=True))
    store._shown = dict.fromkeys(ids, (0, 0))
    for age_s in (0, 400):
        store.now = NOW + age_s
        clock_of(store)
        changes = feed(store)
        longest = 0
        for number, _ in enumerate(changes):
            if number % 3001 == 0:
                longest = max(longest, len(changes.cursor))
        longest = max(longest, len(changes.cursor))
        assert longest < 150_000
    assert longest < 20_000  # All changes are older than the overlap.
    assert number == 11_999


# The cursor


def test_an_expired_cursor(clock_of: Callable[..., None]) -> None:
    """A cursor that is older than six months is refused, and a younger one is not."""
    store = ChangingStore(spread(3))
    changes = feed(store)
    list(changes)
    clock_of(store)
    store.now = NOW + 180 * DAY
    assert list(feed(store, changes.cursor)) == []
    store.now = NOW + 184 * DAY
    with pytest.raises(CursorExpired, match="six months"):
        feed(store, changes.cursor)


def test_each_reading_renews_the_cursor(clock_of: Callable[..., None]) -> None:
    """A cursor stays young as long as the feed is read, also without changes."""
    store = ChangingStore(spread(3))
    clock_of(store)
    cursor = None
    for _ in range(4):
        changes = feed(store, cursor)
        list(changes)
        cursor = changes.cursor
        store.now += 100 * DAY


@pytest.mark.parametrize("cursor", ["", "x", "é", "......", "0" * 16 + ".1.AA.1.AA.00000000"])
def test_a_malformed_cursor(cursor: str) -> None:
    """A text that is not a cursor is refused, and the message does not repeat it."""
    with pytest.raises(ValueError, match="the cursor is damaged"):
        feed(ChangingStore([]), cursor)


def test_a_damaged_cursor() -> None:
    """A cursor with one other character is refused."""
    changes = feed(ChangingStore(spread(5)))
    list(changes)
    for at, letter in enumerate(changes.cursor):
        damaged = changes.cursor[:at] + ("0" if letter != "0" else "1") + changes.cursor[at + 1 :]
        with pytest.raises(ValueError, match="the cursor"):
            feed(ChangingStore([]), damaged)


def test_a_cursor_of_another_store() -> None:
    """A cursor is refused for another store, and so is a cursor of iter_customers."""
    store = ChangingStore(spread(5))
    changes = feed(store, store="a")
    list(changes)
    with pytest.raises(ValueError, match="another store"):
        feed(store, changes.cursor, store="b")
    with pytest.raises(ValueError, match="damaged"):
        feed(store, CustomerIterator(store.list_page, {}, store="a").cursor, store="a")


# With the real client


def test_over_the_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy equals the sandbox after three threads have changed customers during readings."""
    monkeypatch.undo()
    path = tmp_path / "store.sqlite3"
    create_sandbox(path, customers=300)
    client, writer = client_of(path), client_of(path)
    copy: dict[int, Any] = {}
    deletions: list[int] = []
    cursor: str | None = None
    ids = [customer["id"] for customer in client.iter_customers()]
    stop = threading.Event()

    def write(number: int) -> None:
        chance = random.Random(number)
        for each in range(60):
            if stop.wait(0.005):
                return
            if number == 0:
                writer.add_customer({"email": f"moving-{each}@example.com"})
            elif number == 1:
                writer.update_customer(chance.choice(ids[100:]), {"taxId": str(each)})
            else:
                writer.delete_customer(ids[each])

    def read_once() -> str:
        changes = client.iter_changes(cursor, limit=20)
        for change in changes:
            if isinstance(change, CustomerDeleted):
                copy.pop(change.customer_id, None)
                deletions.append(change.customer_id)
            else:
                assert isinstance(change, CustomerUpdated)
                copy[change.customer_id] = change.customer
        return changes.cursor

    threads = [threading.Thread(target=write, args=[number]) for number in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        cursor = read_once()
    stop.set()
    cursor = read_once()
    assert copy == {customer["id"]: customer for customer in client.iter_customers()}
    assert sorted(deletions) == sorted(ids[:60])
    assert list(client.iter_changes(cursor)) == []


def test_unreadable_customers(tmp_path: Path) -> None:
    """A customer who does not fit the contract comes as unreadable, once, with the places."""
    path = tmp_path / "store.sqlite3"
    create_sandbox(path)
    client = client_of(path)
    id = client.list_customers()["items"][1]["id"]
    change_customer(path, id, lang={"canary": 1})
    changes = client.iter_changes()
    found = [change for change in changes if not isinstance(change, CustomerUpdated)]
    assert found == [CustomerUnreadable(id, [Violation("/lang", "type")])]
    assert list(client.iter_changes(changes.cursor)) == []


def test_a_token_that_may_not_read_deletions(tmp_path: Path) -> None:
    """Without the scope of deletions, the first `next` raises the refusal, and nothing comes."""
    path = tmp_path / "store.sqlite3"
    create_sandbox(path, tokens={TOKEN: {"read_customers"}})
    client = client_of(path)
    assert client.can_list_deleted() is False
    with pytest.raises(ServiceRefused, match="read_store_profile"):
        next(client.iter_changes())


def test_half_of_the_rate_limit(tmp_path: Path, no_waiting: list[float]) -> None:
    """A feed takes half of the rate limit at most, so requests have the other half."""
    path = tmp_path / "store.sqlite3"
    create_sandbox(path, customers=300)
    client = client_of(path, calls_per_minute=10)
    changes = client.iter_changes(limit=10)
    while len(Controls(path).ledger()) < 5:
        next(changes)
    assert no_waiting == []
    assert client.store.guard.rate_limit.acquire_bulk() > 0


@pytest.mark.parametrize(
    ("item", "place"),
    [
        ({"id": "x", "date": date(NOW)}, "/items/0/id:type"),
        ({"date": date(NOW)}, "/items/0/id:required"),
        ({"id": 7}, "/items/0/date:required"),
        ({"id": 7, "date": "canary"}, "/items/0/date:format"),
    ],
)
def test_a_malformed_deletion(
    ecwid: HTTPServer, config: Config, item: Any, place: str, no_waiting: list[float]
) -> None:
    """A deletion that violates its component ends the reading with the place, not with a value."""
    page = {"total": 0, "count": 0, "offset": 0, "limit": 100, "items": []}
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(page)
    deleted = {**page, "total": 1, "items": [item]}
    ecwid.expect_request(f"{STORE}/customers/deleted").respond_with_json(deleted)
    settings = Settings(
        store_id="1003", token=config["ECWID_TOKEN"], api_url=config["ECWID_API_URL"]
    )
    with pytest.raises(ContractBroken) as caught:
        next(EcwidClient(settings).iter_changes())
    assert [each.place for each in caught.value.errors] == [place]
    assert caught.value.executed == "no"
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("second", [None, NOW - 9000])
def test_a_page_of_updates_without_its_seconds(
    ecwid: HTTPServer, config: Config, second: int | None, no_waiting: list[float]
) -> None:
    """A page without a date, or from before the bound, ends the reading, and changes nothing."""
    page: dict[str, Any] = {"total": 9, "count": 1, "offset": 0, "limit": 100, "items": [{"id": 7}]}
    nobody = {**page, "total": 0, "count": 0, "items": []}
    ecwid.expect_request(f"{STORE}/customers/deleted").respond_with_json(nobody)
    client = EcwidClient(Settings.from_config(config))
    if second is not None:
        page["items"][0]["updated"] = date(NOW)
        ecwid.expect_oneshot_request(f"{STORE}/customers").respond_with_json(page)
        page["items"][0]["updated"] = date(second)
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(page)
    changes = client.iter_changes()
    with pytest.raises(ContractBroken if second is None else BadReply) as caught:
        list(changes)
    assert caught.value.executed == "no"


@pytest.mark.parametrize(
    "form", [str(NOW), NOW, "2026-09-21 14:13:20", "2026-09-21 14:13:20 +0000"]
)
def test_the_forms_of_a_date(
    ecwid: HTTPServer, config: Config, form: object, no_waiting: list[float]
) -> None:
    """The date of a deletion may be in any of Ecwid's forms."""
    page = {"total": 0, "count": 0, "offset": 0, "limit": 100, "items": []}
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(page)
    deleted = {**page, "total": 1, "count": 1, "items": [{"id": 7, "date": form}]}
    ecwid.expect_request(f"{STORE}/customers/deleted").respond_with_json(deleted)
    settings = Settings(
        store_id="1003", token=config["ECWID_TOKEN"], api_url=config["ECWID_API_URL"]
    )
    deleted_at = datetime.fromtimestamp(NOW, timezone.utc)
    assert list(EcwidClient(settings).iter_changes()) == [CustomerDeleted(7, deleted_at)]


def test_a_repr_shows_no_customer() -> None:
    """The repr of a change shows the id, and nothing else of the customer."""
    customer: Any = {"id": 7, "email": "canary@example.com"}
    assert repr(CustomerUpdated(customer)) == "CustomerUpdated(customer_id=7)"
