"""State in the memory of this process."""

from __future__ import annotations

from .. import chance, clock
from .state import Stored, Taken
from .window import Window

# The states of this process. The key is the process id, because a forked process has calls of its
# own.
_of_process: dict[int, MemoryState] = {}


class MemoryState:
    """State that the threads of one process share. Its clock is the monotonic clock."""

    def __init__(self) -> None:
        self._lock = clock.Lock()
        self._values: dict[str, tuple[bytes, float]] = {}
        self._windows: dict[str, Window] = {}

    def get(self, key: str) -> Stored | None:
        """Return the value, or None."""
        value, ends_at = self._values.get(key, (b"", 0.0))
        left_s = ends_at - clock.now()
        return Stored(value, left_s) if left_s > 0 else None

    def compare_and_swap(
        self, key: str, before: bytes | None, after: bytes | None, ttl_s: float
    ) -> bool:
        """Replace a value, or return False if it has changed."""
        with self._lock:
            found = self.get(key)
            if (found and found.value) != before:
                return False
            self._values.pop(key, None)
            if after is not None:
                self._values[key] = (after, clock.now() + ttl_s)
            return True

    def has_calls(self, key: str) -> bool:
        """Return whether a call of the last minute counts in the window of this key."""
        with self._lock:
            window = self._windows.get(key)
            return window is not None and window.has_calls(int(clock.now()))

    def take(self, key: str, limit: int, *, host: str = "", seen: str = "") -> Taken:
        """Count a call, as `State.take` describes."""
        second = int(clock.now())
        with self._lock:
            if key not in self._windows:
                self._windows[key] = Window(chance.token_hex(8), second)
            return self._windows[key].take(second, limit, host, seen)


def process_state() -> MemoryState:
    """Return the state that all mounts and clients of this process share."""
    return _of_process.setdefault(clock.process_id(), MemoryState())
