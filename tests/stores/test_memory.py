"""Stores share the memory of a process, and an idle store takes little of it."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

import pytest

from flask_ecwid.storage import response_memory
from flask_ecwid.storage.store_memory import StoreMemory, store_memory

from ..helpers.agency import Agency
from ..helpers.fake_stores import FakeStores

TTL_S = 600.0
STORES = 500
IDLE_BYTES = 10_000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all stores have room for 64 responses together, and one store for 8."""
    monkeypatch.setattr(response_memory, "MAX_BYTES", 64 * size_of(b"value"))


def size_of(value: bytes) -> int:
    return len(value) + response_memory.ENTRY_BYTES


def keep(memory: StoreMemory, count: int, first: int = 0, ttl_s: float = TTL_S) -> None:
    for number in range(first, first + count):
        memory.set(str(number), ttl_s, memory.writes, b"value", 0.0)


def kept(memory: StoreMemory, ttl_s: float = TTL_S) -> list[int]:
    found = range(100)
    return [number for number in found if memory.get(str(number), ttl_s)[1] is not None]


def memories(count: int) -> list[StoreMemory]:
    return [store_memory(f"store {number}").get() for number in range(count)]


def test_one_store_has_an_eighth() -> None:
    """A store with many responses keeps an eighth of all bytes, and costs the others nothing."""
    small, large = memories(2)
    keep(small, 1)
    keep(large, 50)
    assert (kept(small), kept(large)) == ([0], [*range(42, 50)])


def test_all_stores_have_one_limit() -> None:
    """If all is full, the store whose responses were used least recently gives room."""
    stores = memories(9)
    for store in stores[:8]:
        keep(store, 8)
    assert len(kept(stores[0])) == 8  # which is a use
    keep(stores[8], 2)
    assert [len(kept(each)) for each in stores] == [8, 6, 8, 8, 8, 8, 8, 8, 2]


def test_a_write_costs_no_other_store() -> None:
    """A write empties the responses of its own store, whose room is free at once."""
    stores = memories(9)
    for store in stores[:8]:
        keep(store, 8)
    stores[3].end_write()
    keep(stores[8], 8)
    assert [len(kept(each)) for each in stores] == [8, 8, 8, 0, 8, 8, 8, 8, 8]


def test_a_closed_store_gives_its_room() -> None:
    """The responses of a closed store take no room, and a store that is opened has none."""
    stores = memories(8)
    for store in stores:
        keep(store, 8)
    del stores[3], store
    gc.collect()
    again = store_memory("store 3").get()
    assert kept(again) == []
    keep(again, 8)
    assert [len(kept(each)) for each in [*stores, again]] == [8] * 8


def test_an_interrupted_construction(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store whose construction was interrupted leaves nothing behind that fails."""

    def interrupted(self: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(response_memory.ResponseMemory, "add_store", interrupted)
    with pytest.raises(KeyboardInterrupt):
        StoreMemory()
    gc.collect()


def test_expired_responses_go() -> None:
    """Responses that have expired give their room, also at a store that is never read again."""
    idle, other = memories(2)
    keep(idle, 8, ttl_s=1e-9)
    keep(other, 1)
    assert len(idle._responses._stores) == 1


def test_large_responses() -> None:
    """Each response counts with its bytes, and one above the part of a store is not kept."""
    (store,) = memories(1)
    part = response_memory.MAX_BYTES // response_memory.STORE_PART
    for number, length in enumerate((part // 2, part // 2, part)):
        store.set(str(number), TTL_S, 0, b"x" * (length - response_memory.ENTRY_BYTES), 0.0)
    assert kept(store) == [2]
    store.set("3", TTL_S, 0, b"x" * (part + 1 - response_memory.ENTRY_BYTES), 0.0)
    assert kept(store) == [2]


def test_an_idle_store_is_small(agency: Callable[..., Agency], fake: FakeStores) -> None:
    """An open store that has served a request and is idle takes 10 kB or less."""
    app = agency(ECWID_MAX_OPEN_STORES=10_000, ECWID_CACHE_TTL_S=60)
    for number in range(50):  # What all stores share is there before the measurement.
        app.client(str(1 + number)).get_customer(7)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(50, 50 + STORES):
            app.client(str(1 + number)).get_customer(7)
        gc.collect()
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(app.stores) == STORES + 50
    assert grown / STORES <= IDLE_BYTES
