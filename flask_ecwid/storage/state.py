"""The storage that processes share. Each key has a small value and a time to live.

A pause, a lease and a record need `get` and `compare_and_swap`. The rate limit needs `take`. Each
of them is one atomic step, and each time is told by the clock of the storage. So processes whose
clocks differ agree on every time.

Three classes keep the values. `RedisState` shares them between hosts, `FileState` between the
processes of one user on this host, and `MemoryState` between the threads of one process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

_DELETE_TRIES = 10


class StateUnavailable(Exception):
    """The storage of the state is unavailable. The text is the reason, if the storage knows one."""

    def __init__(self, reason: str = "", *, is_there: bool = True) -> None:
        """Make the error.

        Args:
            reason: The reason.
            is_there: The storage exists, so other processes may use the storage.
        """
        self.is_there = is_there
        super().__init__(reason)


class Stored(NamedTuple):
    """A value, and for how many more seconds the storage keeps the value.

    The clock of a host's file stops while the host is suspended. `missed_s` says for how many
    seconds at most the clock has stopped since the value was written.
    """

    value: bytes
    left_s: float
    missed_s: float = 0.0


class Taken(NamedTuple):
    """The storage's reply to `take`.

    `remaining` calls are left in the window, and the next one becomes free in `reset_s` seconds.
    `epoch` is a random text that differs after the storage has lost its values.
    """

    granted: bool
    remaining: int
    reset_s: int
    epoch: str
    hosts: int  # How many hosts have taken calls within the last hour.
    is_new: bool = False  # True if this host has begun within the last minute, beside others.


class State(Protocol):
    """Storage of small values. Threads and processes share a state."""

    def get(self, key: str) -> Stored | None:
        """Return the value of the key, or None if the key has no value.

        Raises:
            StateUnavailable: The storage cannot be reached.
        """

    def compare_and_swap(
        self, key: str, before: bytes | None, after: bytes | None, ttl_s: float
    ) -> bool:
        """Replace the value of the key in one atomic step.

        Args:
            key: The key.
            before: The value that the key must have, or None if the key must have no value.
            after: The new value, or None to delete the key.
            ttl_s: How long the new value is kept.

        Returns:
            False if the key has another value than `before`. Nothing has changed then.

        Raises:
            StateUnavailable: The storage cannot be reached.
        """

    def take(self, key: str, limit: int, *, host: str = "", seen: str = "") -> Taken:
        """Count a call in the window of this key, unless the window holds `limit` calls.

        Args:
            key: The key of the window. Its calls of the last minute count, whatever limit they had.
            limit: How many calls the window may hold.
            host: The id of the host, if hosts share the storage.
            seen: The epoch of a reply of the last minute. If the storage has another epoch, the
                storage has lost calls, and grants no call for a minute.

        Raises:
            StateUnavailable: The storage cannot be reached.
        """

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with a prefix, of values and of windows, in any order.

        The method is no atomic step. A key that is there all the time is in the list.

        Raises:
            StateUnavailable: The storage cannot be reached.
        """


def delete(
    state: State,
    prefix: str,
    is_meant: Callable[[str], bool],
    may_go: Callable[[Stored], bool] = lambda stored: True,
) -> None:
    """Delete values whose keys begin with a prefix.

    Args:
        state: The storage.
        prefix: The beginning of the keys.
        is_meant: Tells by the rest of a key whether its value is meant. A window is never meant.
        may_go: Tells whether a value may be deleted.

    Raises:
        StateUnavailable: The storage cannot be reached.
    """
    for key in state.keys(prefix):
        if not is_meant(key[len(prefix) :]):
            continue
        for _ in range(_DELETE_TRIES):
            found = state.get(key)
            if found is None or not may_go(found):
                break
            if state.compare_and_swap(key, found.value, None, 0.0):
                break
