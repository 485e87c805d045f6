"""The part of the cache and of the shared reads that all mounts and clients of a process share."""

from __future__ import annotations

import weakref
from typing import Any

from .. import clock
from .process_memory import ProcessWide
from .response_memory import ResponseMemory


class StoreMemory:
    """The reads under way, the writes and the cached responses of one store in one process."""

    __slots__ = (
        "__weakref__",
        "_generation",
        "_mark",
        "_number",
        "_responses",
        "under_way",
        "writes",
    )

    def __init__(self) -> None:
        self.under_way: dict[Any, Any] = {}  # needs no lock, because each step on it is atomic
        self.writes = 0  # The writes of this process, of which the others have to learn.
        self._generation = 0  # The number of the generation in this process.
        self._mark = b""  # names the generation for all processes of the host
        self._responses = ProcessWide(ResponseMemory, "").get()
        self._number = self._responses.add_store()
        weakref.finalize(self, self._responses.close, self._number).atexit = False

    def end_write(self) -> None:
        """Forget the reads and responses from before a write, which no later read may see."""
        with self._responses.lock:
            self.writes += 1
            self._begin_generation()
        self.under_way.clear()

    def follow(self, mark: bytes) -> None:
        """Forget the responses of an earlier generation than that of the host."""
        with self._responses.lock:
            if mark != self._mark:
                self._mark = mark
                self._begin_generation()

    def _begin_generation(self) -> None:
        self._generation += 1
        self._responses.clear(self._number)

    def get(self, key: str, ttl_s: float) -> tuple[int, bytes | None, float]:
        """Return the number of the generation, a value or None, and its age in seconds."""
        with self._responses.lock:
            entry = self._responses.get(self._number, (ttl_s, key))
            if entry is not None and (age_s := entry[0].elapsed_s()) < ttl_s:
                return self._generation, entry[2], age_s
            return self._generation, None, 0.0

    def set(self, key: str, ttl_s: float, generation: int, value: bytes, age_s: float) -> None:
        """Keep a value, if its generation has not ended."""
        entry = clock.Moment.seconds_ago(age_s), ttl_s, value
        with self._responses.lock:
            if generation == self._generation:
                self._responses.set(self._number, (ttl_s, key), entry)


def store_memory(store_digest: str) -> ProcessWide[StoreMemory]:
    """Return the memory that all mounts and clients of this store share in each process."""
    return ProcessWide(StoreMemory, store_digest)
