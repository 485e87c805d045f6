"""Tests of the iterator over all customers while customers are added, changed and deleted."""

from __future__ import annotations

import itertools
import math
import random
import re
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from flask_ecwid import EcwidClient, Settings, clock
from flask_ecwid.client import Customer
from flask_ecwid.client.overlap_ids import LAG_S
from flask_ecwid.client.page_reader import PAGE_SIZE
from flask_ecwid.client.pagination import CustomerIterator
from flask_ecwid.client.transport import RequestsTransport
from flask_ecwid.errors import BadReply, BudgetSpent, ConnectionLost, EcwidError, InvalidRequest
from flask_ecwid.sandbox import STORE_ID, TOKEN, Controls, InProcessAdapter, create_sandbox

from ..helpers.moving_store import NOW, MovingStore, date

DAY = 86_400


@pytest.fixture(autouse=True)
def _a_clock_that_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "wall", lambda: float(NOW))


def read(store: MovingStore, **options: Any) -> list[int]:
    return [customer["id"] for customer in CustomerIterator(store.list_page, {}, **options)]


def read_by_offset(store: MovingStore) -> list[int]:
    """Read by offset alone, as the control."""
    ids: list[int] = []
    while True:
        page = store.list_page(sortBy="REGISTERED_DATE_ASC", limit=PAGE_SIZE, offset=len(ids))
        if not page["items"]:
            return ids
        ids += [item["id"] for item in page["items"]]


def spread(count: int, seed: int = 1) -> list[int]:
    """Return registrations over a year, some in the same second."""
    chance = random.Random(seed)
    return sorted(NOW - DAY - chance.randrange(365 * DAY) // 60 * 60 for _ in range(count))


class Commotion:
    """Add, change and delete a few customers between any two pages."""

    def __init__(self, seed: int, lag: bool = False) -> None:
        self.chance = random.Random(seed)
        self.lag = lag
        self.stayed: set[int] | None = None
        self.added: set[int] = set()
        self.calm_after = 60

    def __call__(self, store: MovingStore) -> None:
        if self.stayed is None:
            self.stayed = set(store.customers)
        store.now += self.chance.randrange(3)
        if store.pages > self.calm_after:
            store.hidden.clear()
            return
        for _ in range(self.chance.randrange(4)):
            ids = sorted(store.customers)
            if self.chance.random() < 0.4 and len(ids) > 5:
                gone = self.chance.choice(ids)
                del store.customers[gone]
                self.stayed.discard(gone)
                self.added.discard(gone)
            elif self.chance.random() < 0.5 and ids:
                store.change(self.chance.choice(ids))
            else:
                self.added.add(store.add(hidden=self.lag and self.chance.random() < 0.5))


@pytest.mark.parametrize("seed", range(60))
def test_nothing_is_lost_or_doubled(seed: int) -> None:
    """A customer that exists during the whole reading comes exactly once."""
    chance = random.Random(seed)
    commotion = Commotion(seed, lag=chance.random() < 0.5)
    store = MovingStore(
        spread(chance.choice([0, 1, 99, 100, 101, 1000]), seed),
        commotion,
        most=chance.choice([PAGE_SIZE, 37]),
        exclusive=chance.random() < 0.5,
    )
    ids = read(store)
    assert len(ids) == len(set(ids))
    assert (commotion.stayed or set()) <= set(ids)


def test_the_control_fails() -> None:
    """Reading by offset alone loses customers while the list changes."""
    lost = 0
    for seed in range(10):
        commotion = Commotion(seed)
        ids = read_by_offset(MovingStore(spread(1000, seed), commotion))
        assert commotion.stayed is not None
        lost += len(commotion.stayed - set(ids))
    assert lost > 0


@pytest.mark.parametrize("seed", range(20))
def test_customers_who_come_meanwhile(seed: int) -> None:
    """A customer that is created during the reading comes, even if the search is late."""
    commotion = Commotion(seed, lag=True)
    commotion.calm_after = 6
    store = MovingStore(spread(1000, seed), commotion)
    assert commotion.added <= set(read(store))


def test_a_customer_who_shows_late() -> None:
    """A new customer comes, even if the search shows the customer after the first pass."""
    store = MovingStore(spread(300))
    late = store.add(hidden=True)
    store.customers[late] = (NOW - 5, NOW - 5)
    store._happens = lambda store: store.hidden.clear() if store.pages == 6 else None
    assert late in read(store)


@pytest.mark.parametrize("count", [100, 101, 250, 3000])
@pytest.mark.parametrize("most", [PAGE_SIZE, 37])
def test_many_in_one_second(count: int, most: int) -> None:
    """Thousands of customers in the same second come, and the customers after them too."""
    store = MovingStore([NOW - DAY] * count + [NOW - DAY + 1, NOW - 50], most=most)
    ids = read(store)
    assert sorted(ids) == sorted(store.customers)
    assert store.pages < 5 * count / min(most, count) + 40


def test_some_deleted_in_one_second() -> None:
    """A few deletions within one second lose no other customer."""
    chance = random.Random(5)

    def happens(store: MovingStore) -> None:
        for _ in range(5):
            del store.customers[chance.choice(sorted(store.customers))]

    store = MovingStore([NOW - DAY] * 1000, happens)
    ids = read(store)
    assert set(store.customers) <= set(ids)


def test_no_dates() -> None:
    """Customers without a readable date come too."""
    store = MovingStore(spread(250))

    def dateless(**query: Any) -> Any:
        page = store.list_page(**query)
        return {**page, "items": [{"id": item["id"], "registered": "?"} for item in page["items"]]}

    ids = [customer["id"] for customer in CustomerIterator(dateless, {})]
    assert sorted(ids) == sorted(store.customers)


@pytest.mark.parametrize(("total", "difference"), [(250, 0), (260, 10), (240, -10)])
def test_the_difference_is_reported(
    total: int, difference: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The iterator reports and logs a `total` that differs from the number of customers."""
    store = MovingStore(spread(250), total_is=total)
    customers = CustomerIterator(store.list_page, {})
    assert customers.difference is None
    assert len(list(customers)) == 250
    assert customers.difference == difference
    lines = [line for line in caplog.messages if line.startswith("customers read=250")]
    assert len(lines) == (1 if difference else 0)
    assert list(customers) == []


@pytest.mark.parametrize("stop_at", [0, 1, 50, 99, 100, 101, 150, 349, 350])
def test_resumed(stop_at: int) -> None:
    """A reading that stops anywhere resumes without a lost or doubled customer."""
    store = MovingStore([NOW - DAY] * 150 + spread(200, seed=3))
    reading = CustomerIterator(store.list_page, {})
    first = [next(reading)["id"] for _ in range(stop_at)]
    rest = read(store, cursor=reading.cursor)
    assert sorted(first + rest) == sorted(store.customers)


def read_in_parts(store: MovingStore, step: int) -> list[int]:
    """Read with a new iterator after every `step` customers."""
    ids: list[int] = []
    cursor = None
    while True:
        reading = CustomerIterator(store.list_page, {}, cursor=cursor)
        some = [customer["id"] for customer in itertools.islice(reading, step)]
        ids += some
        cursor = reading.cursor
        if len(some) < step:
            return ids


@pytest.mark.parametrize("seed", range(40))
def test_resumed_again_and_again(seed: int) -> None:
    """A reading that resumes after every few customers loses and doubles no customer."""
    chance = random.Random(seed)
    commotion = Commotion(seed, lag=chance.random() < 0.5)
    store = MovingStore(
        sorted(spread(500, seed) + [NOW - chance.randrange(400) for _ in range(300)]),
        commotion,
        most=chance.choice([PAGE_SIZE, 37]),
        exclusive=chance.random() < 0.5,
    )
    store.undated = set(chance.sample(range(1, 801), 50))
    ids = read_in_parts(store, chance.choice([7, 37, 250]))
    assert len(ids) == len(set(ids))
    assert (commotion.stayed or set()) <= set(ids)


@pytest.mark.parametrize("undated", [0, 30])
def test_both_passes_show_the_newest(undated: int) -> None:
    """Customers that were registered just before the reading come once, resumed or not."""
    registered = sorted(NOW - LAG_S - 20 + each for each in range(250))
    for step in (10_000, 1, 60):
        store = MovingStore(registered)
        store.undated = set(range(1, 1 + undated))
        assert sorted(read_in_parts(store, step)) == sorted(store.customers)


@pytest.mark.parametrize("undated", [False, True])
def test_all_are_changed_meanwhile(undated: bool) -> None:
    """Customers that are changed after they came do not come again, resumed or not."""
    for step in (10_000, 60):

        def happens(store: MovingStore) -> None:
            if store.pages == 6:
                for id in store.customers:
                    store.change(id)

        store = MovingStore(spread(300), happens)
        store.undated = set(store.customers) if undated else set()
        assert sorted(read_in_parts(store, step)) == sorted(store.customers)


def test_a_customer_from_before_1970() -> None:
    """Dates before 1970 are read, and no page is asked for with a negative bound."""
    store = MovingStore([-DAY] * 150 + [0] * 75 + [5] * 75 + [NOW - DAY])
    bounds: list[int] = []

    def noted(**query: Any) -> Any:
        bounds.append(query.get("createdFrom", 0))
        return store.list_page(**query)

    assert [customer["id"] for customer in CustomerIterator(noted, {})] == [*range(1, 302)]
    assert min(bounds) == 0
    assert sorted(read_in_parts(store, 40)) == sorted(store.customers)
    filters = {"createdFrom": "1960-01-01"}
    cursor = CustomerIterator(store.list_page, filters).cursor
    assert CustomerIterator(store.list_page, filters, cursor=cursor).cursor == cursor


def test_the_difference_of_a_resumed_reading() -> None:
    """The difference counts the customers from before the resumption too."""
    store = MovingStore(spread(250), total_is=260)
    reading = CustomerIterator(store.list_page, {})
    for _ in range(130):
        next(reading)
    resumed = CustomerIterator(store.list_page, {}, cursor=reading.cursor)
    assert len(list(resumed)) == 120
    assert resumed.difference == 10


def test_a_cursor_of_the_end() -> None:
    """A cursor of the end gives no customer."""
    store = MovingStore(spread(150))
    reading = CustomerIterator(store.list_page, {})
    list(reading)
    assert read(store, cursor=reading.cursor) == []


@pytest.mark.parametrize(
    "cursor", ["", "x", "é", "......", "0" * 16 + ".1.0..0.x", "0" * 16 + ".1.0..0.AAAA.00000000"]
)
def test_a_malformed_cursor(cursor: str) -> None:
    """A text that is not a cursor is refused, and the message does not repeat it."""
    with pytest.raises(ValueError, match="the cursor is damaged"):
        CustomerIterator(MovingStore([]).list_page, {}, cursor=cursor)


def test_a_cursor_of_other_filters() -> None:
    """A cursor is refused with other filters."""
    store = MovingStore(spread(5))
    cursor = CustomerIterator(store.list_page, {"lang": "en"}).cursor
    with pytest.raises(ValueError, match="belongs to other filters"):
        CustomerIterator(store.list_page, {"lang": "de"}, cursor=cursor)
    assert CustomerIterator(store.list_page, {"lang": "en"}, cursor=cursor)


class HugeStore:
    """Many customers whose pages are generated when the iterator asks for them.

    Every `every_s` seconds `per_second` customers are registered. Ids are `gap` apart on average,
    and the ids of a second are shuffled. A few customers are changed during the reading. A few
    others show only in the second pass, because the search shows them late.
    """

    first_id = 100_000_000
    first_second = NOW - 10 * 365 * DAY

    def __init__(self, count: int, *, per_second: int, every_s: int = 1, gap: int) -> None:
        self.count = count
        self.per_second = per_second
        self.every_s = every_s
        self.gap = gap
        self.late = range(count, count + 50)
        self.changed_or_late = [*range(0, count, 2000), *self.late]
        self.jitter = random.Random(1).randbytes(self.late.stop)
        self.came = bytearray(self.late.stop)

    def customer(self, place: int) -> dict[str, Any]:
        begin = place - place % self.per_second
        # The factor shuffles a second, because it has no divisor in common with `per_second`.
        number = begin + (place - begin) * 7_001 % self.per_second
        registered = date(self.first_second + place // self.per_second * self.every_s)
        if place in self.late:
            number, registered = place, date(NOW - 10)
        id = self.first_id + number * self.gap + self.jitter[number] * self.gap // 256
        return {"id": id, "registered": registered, "updated": registered}

    def list_page(self, **query: Any) -> Any:
        page = slice(query["offset"], query["offset"] + query["limit"])
        if query.get("sortBy") == "UPDATED_DATE_ASC":
            updates = [(NOW + n // 100, place) for n, place in enumerate(self.changed_or_late)]
            shown = [update for update in updates if update[0] >= query["updatedFrom"]][page]
            items = [{**self.customer(place), "updated": date(at)} for at, place in shown]
        else:
            seconds = max(0, query.get("createdFrom", 0) - self.first_second)
            behind = math.ceil(seconds / self.every_s) * self.per_second
            items = [self.customer(place) for place in range(self.count)[behind:][page]]
        return {"total": len(self.came), "items": items}

    def note(self, customer: Customer) -> None:
        self.came[(customer["id"] - self.first_id) // self.gap] += 1


@pytest.mark.parametrize(
    ("store", "most_characters", "resumed_at"),
    [
        pytest.param(
            HugeStore(200_000, per_second=1, every_s=1500, gap=900),
            5_000,
            [0.000_005, 0.333, 0.7],
            id="200,000 over ten years",
        ),
        pytest.param(
            HugeStore(1_000_000, per_second=1_000_000, gap=10),
            999_999,
            [0.25],
            id="1,000,000 in one second",
        ),
        pytest.param(
            HugeStore(200_000, per_second=20_000, gap=900),
            100_000,
            [0.333, 0.51, 0.999],
            id="200,000 in ten seconds",
        ),
    ],
)
def test_a_cursor_has_a_bounded_size(
    store: HugeStore, most_characters: int, resumed_at: list[float]
) -> None:
    """The cursor stays under 1 MB, and each customer comes once, resumed or not."""
    filters = {"limit": 1000}  # More than Ecwid allows, so that the test takes fewer pages.
    reading = CustomerIterator(store.list_page, filters)
    count = 0
    for share in sorted({*resumed_at, 0.001, 0.5, 0.9, 1}):
        stop = int(share * store.count)
        for customer in itertools.islice(reading, stop - count):
            store.note(customer)
        count = stop
        cursor = reading.cursor
        assert len(cursor) <= most_characters
        if share in resumed_at:
            reading = CustomerIterator(store.list_page, filters, cursor=cursor)
    for customer in reading:
        store.note(customer)
    assert store.came == bytearray([1]) * len(store.came)
    assert reading.difference == 0
    assert len(reading.cursor) <= most_characters


def test_a_cursor_holds_no_secret() -> None:
    """A cursor holds ids, dates and a count, in letters that every file and shell takes."""
    store = MovingStore(spread(300))
    reading = CustomerIterator(store.list_page, {"email": "canary@example.com"})
    next(reading)
    assert re.fullmatch(r"[A-Za-z0-9._=-]+", reading.cursor)
    assert "canary" not in reading.cursor


def test_a_damaged_cursor() -> None:
    """A cursor in which any character is changed or missing is refused."""
    reading = CustomerIterator(MovingStore(spread(300)).list_page, {})
    next(reading)
    cursor = reading.cursor
    for place in range(len(cursor)):
        for put in ("1" if cursor[place] == "0" else "0", ""):
            damaged = cursor[:place] + put + cursor[place + 1 :]
            with pytest.raises(ValueError, match="the cursor is damaged"):
                CustomerIterator(MovingStore([]).list_page, {}, cursor=damaged)


def test_an_error_in_the_middle() -> None:
    """After an error the reading continues at the same place."""
    store = MovingStore(spread(1000))
    chance = random.Random(4)

    def failing(**query: Any) -> Any:
        if chance.random() < 0.4:
            raise ConnectionLost
        return store.list_page(**query)

    reading = CustomerIterator(failing, {})
    ids = []
    while True:
        try:
            ids.append(next(reading)["id"])
        except ConnectionLost:
            continue
        except StopIteration:
            break
    assert sorted(ids) == sorted(store.customers)


def test_the_same_page_again() -> None:
    """A store that ignores the offset ends the reading with an error."""
    same: Any = {"total": 2, "items": [{"id": 1}, {"id": 2}]}
    reading = CustomerIterator(lambda **_: same, {})
    assert [next(reading)["id"], next(reading)["id"]] == [1, 2]
    for _ in range(2):
        with pytest.raises(BadReply, match="same page"):
            next(reading)
    assert reading.cursor


def test_a_list_that_grows_before_its_last_customer() -> None:
    """A page that repeats because the list grows does not end the reading."""
    at = NOW - 10

    def happens(store: MovingStore) -> None:
        if len(store.customers) < 30:  # The last customer stays the last one.
            store.customers[100 - len(store.customers)] = (at, at)

    store = MovingStore([], happens, most=2)
    store.customers[200] = (at, at)
    reading = CustomerIterator(store.list_page, {})
    assert sorted(each["id"] for each in reading) == sorted(store.customers)


def test_a_page_that_repeats_for_a_while() -> None:
    """A store that ignores the offset for a while loses no customer after the error."""
    at = date(NOW - 10)
    customers = [{"id": id, "registered": at, "updated": at} for id in range(1, 5)]
    calls = itertools.count()

    def list_page(**query: Any) -> Any:
        first = 0 if next(calls) < 8 else query["offset"]
        return {"total": 4, "items": customers[first : first + 2]}

    reading = CustomerIterator(list_page, {"limit": 2})
    assert [next(reading)["id"], next(reading)["id"]] == [1, 2]
    with pytest.raises(BadReply, match="same page"):
        next(reading)
    assert [each["id"] for each in reading] == [3, 4]


@pytest.mark.parametrize("filters", [{"sortBy": "NAME_ASC"}, {"offset": 5}])
def test_the_order_is_not_the_callers(filters: dict[str, Any]) -> None:
    """Another order or an offset is refused, because customers would be lost."""
    with pytest.raises(ValueError, match="leave out sortBy and offset"):
        CustomerIterator(MovingStore([]).list_page, filters)


def iso(seconds: int) -> str:
    """Return a moment in ISO 8601, in another zone and without the blank of Ecwid's form."""
    return datetime.fromtimestamp(seconds, timezone(timedelta(hours=-5, minutes=30))).isoformat()


def aware(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


@pytest.mark.parametrize("form", [int, str, date, iso, aware])
def test_the_callers_bounds(form: Callable[[int], Any]) -> None:
    """The caller's bounds hold in every page."""
    store = MovingStore([NOW - DAY - 10 * each for each in range(200)])
    since = NOW - DAY - 500
    queries: list[dict[str, Any]] = []

    def noted(**query: Any) -> Any:
        queries.append(query)
        created = query["createdFrom"]
        number = created if isinstance(created, int) else since
        return store.list_page(**{**query, "createdFrom": number})

    found = [c["id"] for c in CustomerIterator(noted, {"createdFrom": form(since), "limit": 7})]
    assert len(found) == 51
    assert all(query["createdFrom"] in (form(since), *range(since, NOW)) for query in queries)
    assert queries[-2]["updatedFrom"] == NOW - LAG_S


def test_a_malformed_bound() -> None:
    """A bound that cannot be read is refused."""
    with pytest.raises(ValueError, match="createdFrom"):
        CustomerIterator(MovingStore([]).list_page, {"createdFrom": "yesterday"})


def test_fields() -> None:
    """Pages have the caller's fields and the needed ones, and malformed fields are refused."""
    seen = []

    def noted(**query: Any) -> Any:
        seen.append(query["responseFields"])
        return {"total": 0, "items": []}

    list(CustomerIterator(noted, {"responseFields": "items(email)"}))
    assert seen[0] == "items(email,id,registered,updated),total,count,offset,limit"
    with pytest.raises(InvalidRequest):
        CustomerIterator(noted, {"responseFields": "items("})


# With the real client


def client_of(path: Path, **options: Any) -> EcwidClient:
    url = "https://sandbox.invalid/api/v3"
    given = {"calls_per_minute": 100_000, **options}
    settings = Settings(store_id=STORE_ID, token=TOKEN, api_url=url, **given)
    transport = RequestsTransport(settings, lambda: InProcessAdapter(create_sandbox(path)))
    return EcwidClient(settings, transport=transport)


def test_over_the_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost or doubled while three threads change the sandbox's customers."""
    monkeypatch.undo()
    path = tmp_path / "store.sqlite3"
    create_sandbox(path, customers=1000, search_lag_s=0.2)
    stop = threading.Event()
    writer = client_of(path)
    # The writer makes its app here, because CPython 3.11.7 may fail if several threads make one.
    stayed = {c["id"] for c in writer.iter_customers()}
    assert len(stayed) == 1004
    victims = sorted(stayed)[::10]

    def write(number: int) -> None:
        chance = random.Random(number)
        for each in range(1000):
            if stop.wait(0.002):
                return
            if number == 0:
                writer.add_customer({"email": f"moving-{each}@example.com"})
            elif number == 1:
                writer.update_customer(chance.choice(sorted(stayed - {*victims})), {"lang": "de"})
            elif each < len(victims):
                writer.delete_customer(victims[each])

    threads = [threading.Thread(target=write, args=[number]) for number in range(3)]
    for thread in threads:
        thread.start()
    ids = [customer["id"] for customer in client_of(path).iter_customers(limit=20)]
    stop.set()
    for thread in threads:
        thread.join()
    assert len(ids) == len(set(ids))
    assert stayed - {*victims} <= set(ids)


def test_half_of_the_rate_limit(tmp_path: Path, no_waiting: list[float]) -> None:
    """A reading takes half of the rate limit at most, so requests have the other half."""
    path = tmp_path / "store.sqlite3"
    create_sandbox(path, customers=300)
    client = client_of(path, calls_per_minute=10)
    orders = Controls(path)
    reading = client.iter_customers(limit=10)
    while len(orders.ledger()) < 5:
        next(reading)
    assert no_waiting == []
    assert client.store.guard.rate_limit.acquire_bulk() > 0
    for _ in range(5):
        client.get_customer(172890169)
    with pytest.raises(BudgetSpent):
        client.get_customer(172890169)


def test_a_reading_waits_for_the_rate_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reading waits when the rate limit is used up, and raises an error when the process ends."""
    monkeypatch.undo()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = tmp_path / "store.sqlite3"
    create_sandbox(path)
    client = client_of(path, calls_per_minute=2)
    client.get_customer(172890169)
    client.get_customer(172890169)
    waits: list[float] = []

    def pause(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) < 3

    monkeypatch.setattr(clock, "sleep", pause)
    with pytest.raises(EcwidError):
        next(client.iter_customers())
    assert len(waits) == 3
    assert all(0 < wait <= 61 for wait in waits)
