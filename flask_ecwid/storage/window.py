"""The calls of the last minute, counted by seconds, pure.

`redis_state.py` has the same steps as a script, because Redis runs them in one atomic step.
`file_window.py` has the usual case as a statement of SQLite, for the same reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .state import Taken

# The present second and the 61 seconds before it. A call may reach Ecwid a second after the
# counting. With a window of exactly 60 s, one call too many could arrive within 60 s.
SPAN_S = 62
HOST_S = 3600  # A host that takes no call for so long counts no more.
KEPT_S = 2 * HOST_S  # How long a storage keeps a window after its last call.


@dataclass
class Window:
    """The calls of one key. All times are whole seconds of the storage's clock."""

    epoch: str  # a random text
    began: int
    closed_until: int = 0  # No call is granted before.
    counts: dict[str, int] = field(default_factory=dict)  # The calls of each second.
    hosts: dict[str, list[int]] = field(default_factory=dict)  # The first and last second of each.

    def has_calls(self, second: int) -> bool:
        """Return whether the window holds a call."""
        self._forget(second)
        return any(self.counts.values())

    def is_idle(self, second: int) -> bool:
        """Return whether a new window would grant the same calls."""
        return not self.has_calls(second) and second >= self.closed_until

    def take(self, second: int, limit: int, host: str, seen: str) -> Taken:
        """Count a call, as `State.take` describes."""
        if seen not in ("", self.epoch):
            self.closed_until = max(self.closed_until, self.began + SPAN_S)
        self._forget(second)
        used = sum(self.counts.values())
        granted = used < limit and second >= self.closed_until
        if granted:
            self.counts[str(second)] = self.counts.get(str(second), 0) + 1
            used += 1
        hosts, is_new = 1, False
        if host:
            first, _ = self.hosts.get(host, (second, second))
            self.hosts[host] = [first, second]
            hosts = len(self.hosts)
            is_new = hosts > 1 and second - first < SPAN_S
        oldest = min(map(int, self.counts), default=second - SPAN_S)
        frees_at = max(oldest + SPAN_S, self.closed_until)
        remaining = max(0, limit - used) if second >= self.closed_until else 0
        return Taken(granted, remaining, max(0, frees_at - second), self.epoch, hosts, is_new)

    def _forget(self, second: int) -> None:
        """Forget what is older than the window, and move calls of the future to this second.

        The clock of a storage can be set back. Without the move, its calls would count for as long
        as the clock was set back.
        """
        future = sum(count for at, count in self.counts.items() if int(at) > second)
        self.counts = {
            at: count for at, count in self.counts.items() if second - SPAN_S < int(at) <= second
        }
        if future:
            self.counts[str(second)] = self.counts.get(str(second), 0) + future
        self.closed_until = min(self.closed_until, second + SPAN_S)
        self.hosts = {
            id: [min(first, second), min(last, second)]
            for id, (first, last) in self.hosts.items()
            if last > second - HOST_S
        }
