"""The cached responses of all stores in the memory of one process, under one limit of bytes.

One store may have an eighth of the bytes. Without that part, a store with many reads would push
out the responses of all others. If the whole is too small, the store whose responses were used
least recently gives room.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from contextlib import suppress
from itertools import count

from cachetools import TLRUCache

from .. import clock

MAX_BYTES = 64 * 1024 * 1024  # of the responses of all stores
STORE_PART = 8  # One store may have this part of the bytes.
ENTRY_BYTES = 1_000  # A response takes so many bytes beside its own.

Key = tuple[float, str]  # The time to live, and the cache key.
Entry = tuple[clock.Moment, float, bytes]  # When the read began, the time to live, the value.


class ResponseMemory:
    """The cached responses of the stores. A store without responses takes no memory.

    The caller holds `lock` during `get`, `set` and `clear`.
    """

    def __init__(self) -> None:
        self.lock = clock.Lock()
        self._bytes = 0.0
        # The store whose responses were used least recently comes first.
        self._stores: OrderedDict[int, TLRUCache[Key, Entry]] = OrderedDict()
        self._closed: deque[int] = deque()
        self._numbers = count()

    def add_store(self) -> int:
        """Return a number for a store, which no other store has. Needs no lock."""
        return next(self._numbers)

    def close(self, store: int) -> None:
        """Forget the responses of a store soon. Needs no lock, so a finalizer may call it."""
        self._closed.append(store)

    def get(self, store: int, key: Key) -> Entry | None:
        """Return an entry, or None."""
        values = self._stores.get(store)
        if values is None:
            return None
        self._stores.move_to_end(store)
        return values.get(key)

    def set(self, store: int, key: Key, entry: Entry) -> None:
        """Keep an entry, unless it is too large for the part of one store."""
        while self._closed:
            self.clear(self._closed.popleft())
        self._drop_expired()
        size = MAX_BYTES // STORE_PART
        if _size(entry) > size:
            return
        values = self._stores.get(store)
        if values is None:
            values = self._stores[store] = TLRUCache(size, _expires_at, clock.now, _size)
        self._stores.move_to_end(store)
        before = values.currsize
        values[key] = entry
        self._bytes += values.currsize - before
        while self._bytes > MAX_BYTES:
            self._make_room()

    def clear(self, store: int) -> None:
        """Forget the responses of a store."""
        values = self._stores.pop(store, None)
        if values is not None:
            self._bytes -= values.currsize

    def _make_room(self) -> None:
        """Forget a response of the store that comes first."""
        store, values = next(iter(self._stores.items()))
        before = values.currsize
        with suppress(KeyError):  # if all of them have expired
            values.popitem()
        self._bytes += values.currsize - before
        if not values.currsize:
            self.clear(store)

    def _drop_expired(self) -> None:
        """Forget what has expired at the store that comes first, which may never be read again."""
        if not self._stores:
            return
        store, values = next(iter(self._stores.items()))
        before = values.currsize
        values.expire()
        self._bytes += values.currsize - before
        if not values.currsize:
            self.clear(store)


def _expires_at(_key: Key, entry: Entry, now: float) -> float:
    return now + entry[1] - entry[0].elapsed_s()


def _size(entry: Entry) -> int:
    return len(entry[2]) + ENTRY_BYTES
