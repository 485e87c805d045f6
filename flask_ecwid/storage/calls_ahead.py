"""The calls that a process has counted ahead in the host's file, for the rest of the second.

A busy token would go to the file for each of its calls. So each visit of a busy second counts as
many calls as the second has had already. A call counted ahead is used in the same second, so no
minute gets more calls than without it. The next visit takes back the calls that were not used. A
process that ends or becomes idle leaves them counted for a minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .. import clock
from .state import Taken

# A visit counts at most the remaining calls divided by this number. So the last calls of the limit
# are counted one by one, and no process keeps them from another.
_SHARE = 64


class Unused(NamedTuple):
    """Calls of an earlier second that were counted ahead and not used."""

    second: int
    calls: int


@dataclass
class _Ahead:
    second: int
    limit: int
    taken: Taken  # the reply of the last visit
    calls: int = 0  # counted in this second by this process
    left: int = 0  # of them not used

    def is_of(self, second: int, limit: int) -> bool:
        """Return whether the calls may be used in this second by a caller with this limit."""
        return (self.second, self.limit) == (second, limit)


class CallsAhead:
    """The calls that the threads of a process have counted ahead, by the key of their window."""

    def __init__(self) -> None:
        self._lock = clock.Lock()
        self._process = clock.process_id()
        self._by_key: dict[str, _Ahead] = {}

    def use(self, key: str, limit: int, second: int, seen: str) -> Taken | None:
        """Use a call that was counted ahead, or return None if there is none."""
        with self._lock:
            ahead = self._of_process().get(key)
            if ahead is None or not ahead.left or not ahead.is_of(second, limit):
                return None
            if seen not in ("", ahead.taken.epoch):
                return None
            ahead.left -= 1
            return ahead.taken._replace(remaining=ahead.taken.remaining + ahead.left)

    def plan(self, key: str, limit: int, second: int) -> tuple[int, Unused | None]:
        """Return how many calls the next visit counts, and the calls that the visit takes back."""
        with self._lock:
            ahead = self._of_process().get(key)
            if ahead is None:
                return 1, None
            if ahead.is_of(second, limit):
                return max(1, min(ahead.calls, ahead.taken.remaining // _SHARE)), None
            del self._by_key[key]
            return 1, Unused(ahead.second, ahead.left) if ahead.left else None

    def add(self, key: str, limit: int, second: int, count: int, taken: Taken) -> Taken:
        """Note the reply of a visit that has counted calls, and return the reply to one call."""
        with self._lock:
            ahead = self._of_process().get(key)
            if ahead is None or not ahead.is_of(second, limit):
                # Another thread may have noted calls of another second, which stay counted.
                ahead = self._by_key[key] = _Ahead(second, limit, taken)
            ahead.taken = taken
            ahead.calls += count
            ahead.left += count - 1
            return taken._replace(remaining=taken.remaining + ahead.left)

    def over(self, second: int) -> list[tuple[str, Unused]]:
        """Forget the calls of earlier seconds, and return those that were not used."""
        with self._lock:
            keys = [key for key, each in self._of_process().items() if each.second != second]
            gone = [(key, self._by_key.pop(key)) for key in keys]
        return [(key, Unused(each.second, each.left)) for key, each in gone if each.left]

    def _of_process(self) -> dict[str, _Ahead]:
        """Return the calls of this process. A forked child must not use those of its parent."""
        if self._process != clock.process_id():
            self._by_key.clear()
            self._process = clock.process_id()
        return self._by_key
