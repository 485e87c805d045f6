"""State in the memory of this process."""

from __future__ import annotations

from .. import chance, clock
from .state import Stored, Taken
from .window import Window

# The states of this process. The key is the process id, because a forked process has calls of its
# own.
_of_process: dict[int, MemoryState] = {}


_SWEEP_FROM = 1_000


class MemoryState:
    """State that the threads of one process share. Its clock is the monotonic clock."""

    def __init__(self) -> None:
        self._lock = clock.Lock()
        self._values: dict[str, tuple[bytes, float]] = {}
        self._windows: dict[str, Window] = {}
        self._swept_at = _SWEEP_FROM  # The number of keys at which old keys are dropped.

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
            self._sweep()
            return True

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with the prefix."""
        with self._lock:
            now = clock.now()
            values = [key for key, (_, ends_at) in self._values.items() if ends_at > now]
            return [key for key in (*values, *self._windows) if key.startswith(prefix)]

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
                self._sweep()
                self._windows[key] = Window(chance.token_hex(8), second)
            return self._windows[key].take(second, limit, host, seen)

    def _sweep(self) -> None:
        """Drop what is over, now and then, because the keys of many stores come and go."""
        if len(self._values) + len(self._windows) < self._swept_at:
            return
        now = clock.now()
        over = [key for key, (_, ends_at) in self._values.items() if ends_at <= now]
        idle = [key for key, window in self._windows.items() if window.is_idle(int(now))]
        for key in over:
            del self._values[key]
        for key in idle:
            del self._windows[key]
        self._swept_at = 2 * (len(self._values) + len(self._windows)) + _SWEEP_FROM


def process_state() -> MemoryState:
    """Return the state that all mounts and clients of this process share."""
    return _of_process.setdefault(clock.process_id(), MemoryState())
