"""The part of the cache and of the shared reads that all mounts and clients of a process share."""

from __future__ import annotations

from typing import Any

from .. import clock
from .process_memory import ProcessWide
from .response_memory import ResponseMemory


class StoreMemory:
    """The reads under way, the writes and the cached responses of one store in one process."""

    __slots__ = (
        "__weakref__",
        "_number",
        "_responses",
        "forgotten",
        "next_look_at",
        "under_way",
        "writes",
    )

    def __init__(self) -> None:
        self.under_way: dict[Any, Any] = {}  # needs no lock, because each step on it is atomic
        self.writes = 0  # The writes of this process that have ended.
        self.forgotten = b""  # The last forgetting by another process that this process followed.
        self.next_look_at = 0.0  # When this process looks for another forgetting.
        self._responses = ProcessWide(ResponseMemory, "").get()
        self._number = self._responses.add_store()

    def __del__(self) -> None:
        self._responses.close(self._number)

    def end_write(self) -> None:
        """Forget the reads and responses from before a write, which no later read may see."""
        with self._responses.lock:
            self.writes += 1
            self._responses.clear(self._number)
        self.under_way.clear()

    @property
    def has_responses(self) -> bool:
        """True if responses of the store are cached in this process."""
        return self._responses.has(self._number)

    def get(self, key: str, ttl_s: float) -> tuple[int, bytes | None, float]:
        """Return the number of writes, a value or None, and the age of the value in seconds."""
        with self._responses.lock:
            entry = self._responses.get(self._number, (ttl_s, key))
            if entry is not None and (age_s := entry[0].elapsed_s()) < ttl_s:
                return self.writes, entry[2], age_s
            return self.writes, None, 0.0

    def set(self, key: str, ttl_s: float, writes: int, value: bytes, age_s: float) -> None:
        """Keep a value, if no write has ended since there were so many writes."""
        entry = clock.Moment.seconds_ago(age_s), ttl_s, value
        with self._responses.lock:
            if writes == self.writes:
                self._responses.set(self._number, (ttl_s, key), entry)


def store_memory(store_digest: str) -> ProcessWide[StoreMemory]:
    """Return the memory that all mounts and clients of this store share in each process."""
    return ProcessWide(StoreMemory, store_digest)
