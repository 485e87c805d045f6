"""The rate limit, which counts the calls per minute of one token.

With Redis, all workers and hosts count together in Redis. A quarter of the calls is the reserve,
which each host counts in its own file. A host takes from the reserve while Redis cannot be used or
has lost its calls. So the limit also holds when Redis fails. Without Redis, all processes of a host
count in the host's file.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import NamedTuple

from .. import chance, clock
from ..errors import BudgetSpent
from ..storage.memory_state import process_state
from ..storage.opening import Storage
from ..storage.process_memory import ProcessWide
from ..storage.state import State, StateUnavailable, Taken
from ..storage.window import HOST_S, SPAN_S
from .absence import Absence

WINDOW_S = 60
BULK_SHARE = 0.5  # of the limit, for reading all customers
_RESERVE = 4  # The reserve is the limit divided by this number.
_HOST_KEY = "flask-ecwid:host"
_HOST_TTL_S = 365 * 24 * 3600.0
_SWEEP_FROM = 1_000
_LOST = "lost"  # No storage has this epoch.
_UNKNOWN = Taken(False, 0, 1, "", 1)  # No storage can say how many calls were made.


class Remaining(NamedTuple):
    """How many calls of the limit remain.

    The oldest call leaves the window in `reset_s` seconds, and allows another call then.
    """

    limit: int
    remaining: int
    reset_s: int


class Hosts:
    """The hosts that Redis has seen with a token, as far as this process remembers."""

    __slots__ = ("is_new_until", "kept_until", "most", "until")

    def __init__(self) -> None:
        self.most = 0  # the most hosts
        self.until = 0.0  # until when that number counts, or 0 before the first reply of Redis
        self.kept_until = 0.0  # until when the host's file has that number
        self.is_new_until = 0.0  # until when this host is new


class Remembered:
    """The memory that all mounts and clients of a process have of their storages.

    A storage may lose its calls. If a mount that was idle is the first to notice, the calls of the
    other mounts have to count. The memory outlives the stores that are closed meanwhile.
    """

    def __init__(self) -> None:
        # The epoch of each window, and when the window was used. The key has the storage's name.
        self.epochs: dict[tuple[str, str], tuple[str, float]] = {}
        self.hosts: dict[str, Hosts] = {}  # The key names the token.
        self.absence = Absence()  # of the host's file
        self._swept_at = _SWEEP_FROM  # The number of tokens at which old ones are forgotten.

    def hosts_of(self, token_digest: str) -> Hosts:
        """Return the memory of the hosts that use a token."""
        return self.hosts.get(token_digest) or self.hosts.setdefault(token_digest, Hosts())

    def sweep(self) -> None:
        """Forget now and then what is over, because the tokens of many stores come and go."""
        if len(self.epochs) + len(self.hosts) < self._swept_at:
            return
        now = clock.now()
        for window, (_, used_at) in list(self.epochs.items()):
            if now - used_at >= SPAN_S:
                self.epochs.pop(window, None)
        for token_digest, hosts in list(self.hosts.items()):
            if now >= max(hosts.until, hosts.is_new_until):
                self.hosts.pop(token_digest, None)
        self._swept_at = 2 * (len(self.epochs) + len(self.hosts)) + _SWEEP_FROM


class RateLimit:
    """The calls per minute of one token. Threads share a rate limit."""

    def __init__(self, per_minute: int, hosts: int, counters: Counters, token_digest: str) -> None:
        """Store the limits, without a connection.

        Args:
            per_minute: How many calls a minute all processes may make together.
            hosts: How many hosts share the calls. Redis may know of more hosts, and the greater
                number counts.
            counters: Where processes and hosts count together.
            token_digest: Names the token whose calls are counted.
        """
        self._per_minute = per_minute
        self._host, self._shared = counters.host, counters.shared
        self._hosts = hosts
        self._known = _KnownHosts(hosts, counters, token_digest)
        self._token_digest = token_digest
        self._limit = per_minute if self._shared else self._of_host(per_minute)
        self._last = Taken(True, self._limit, 0, "", hosts)
        self._last_at = 0.0

    def acquire(self) -> None:
        """Count a call that is about to be made.

        Raises:
            BudgetSpent: No call remains.
        """
        self._last = taken = self._take(self._token_digest, self._per_minute)
        self._last_at = clock.now()
        if not taken.granted:
            raise BudgetSpent(min(taken.reset_s, WINDOW_S))

    def acquire_bulk(self) -> float:
        """Count a call of bulk work, which gets half of the limit.

        Returns:
            0 if the call may be made. Otherwise the seconds to wait before the next try.
        """
        limit = max(1, int(self._per_minute * BULK_SHARE))
        taken = self._take(f"{self._token_digest}:bulk", limit)
        return 0.0 if taken.granted else max(1.0, taken.reset_s)

    def remaining(self) -> Remaining:
        """Return how many calls remain, as of the last call."""
        passed_s = int(clock.now() - self._last_at)
        reset_s = min(max(0, self._last.reset_s - passed_s), WINDOW_S)
        return Remaining(self._limit, self._last.remaining, reset_s)

    def _of_host(self, limit: int) -> int:
        return max(1, limit // self._hosts)

    def _take(self, key: str, limit: int) -> Taken:
        """Count a call where the processes count together, otherwise in the reserve of the host."""
        if self._shared is None:
            return self._host.take(key, self._of_host(limit))
        reserve = limit // _RESERVE
        taken = _UNKNOWN
        try:
            taken = self._shared.take(key, limit - reserve, self._host.id())
        except StateUnavailable:
            self._known.recall()
        else:
            self._known.learn(taken)
        share = self._known.share(reserve)
        if taken.granted:
            return taken._replace(remaining=taken.remaining + share)
        return self._host.take(key, share) if share else taken


class Counters:
    """The counters of the storages, which the rate limits of all tokens share."""

    def __init__(self, storage: Storage, name: str) -> None:
        """Make the counters, without a connection.

        Args:
            storage: Where processes and hosts count together.
            name: Names the storages, because mounts with another Redis remember other epochs.
        """
        self.state = storage.host
        self.remembered = ProcessWide(Remembered, f"counters {name}")
        self.host = _HostCounter(storage.host, self.remembered)
        self.shared: _Counter | None = None
        if storage.shared is not storage.host:
            self.shared = _Counter(storage.shared, "shared", self.remembered)


class _KnownHosts:
    """The hosts that divide the reserve, as far as Redis has told a process of this host.

    The greatest number counts for an hour, also while Redis cannot be used or has lost its data.
    The host's file keeps the number, and whether this host is new. Without the file, a process that
    has just started and finds Redis down or emptied would take a part that belongs to others.
    """

    def __init__(self, hosts: int, counters: Counters, token_digest: str) -> None:
        self._hosts = hosts
        self._host = counters.state
        self._token_digest = token_digest
        self._key = f"{token_digest}:hosts"
        self._new_key = f"{token_digest}:new-host"
        self._remembered = counters.remembered

    @property
    def _seen(self) -> Hosts:
        return self._remembered.get().hosts_of(self._token_digest)

    @property
    def _most(self) -> int:
        return max(self._hosts, self._seen.most)

    def learn(self, taken: Taken) -> None:
        """Learn the number of hosts from a reply of Redis."""
        seen, now = self._seen, clock.now()
        if not seen.until:
            seen.until = seen.kept_until = now + self.recall()
        # The settings have given this host a part already, unless there are more hosts.
        is_extra = taken.is_new and taken.hosts > self._hosts
        if is_extra:
            if now >= seen.is_new_until:
                self._keep_newness()  # before the number, because `recall` reads the number first
            seen.is_new_until = now + SPAN_S
        before = self._most
        if taken.hosts >= before or now >= seen.until:
            seen.most, seen.until = taken.hosts, now + HOST_S
            has_grown = self._most > before
            is_due = now >= seen.kept_until - HOST_S / 2  # The file forgets the number soon.
            if has_grown or (is_due and self._most > self._hosts):
                seen.kept_until = now + HOST_S
                self._keep()
        # A Redis that shows fewer hosts has lost its data, so this host may still be new.
        if not is_extra and taken.hosts >= self._most:
            seen.is_new_until = 0.0

    def _keep(self) -> None:
        with suppress(StateUnavailable, ValueError):
            found = self._host.get(self._key)
            if found is None or int(found.value) <= self._most:
                before = found and found.value
                self._host.compare_and_swap(self._key, before, b"%d" % self._most, HOST_S)

    def _keep_newness(self) -> None:
        with suppress(StateUnavailable):
            self._host.compare_and_swap(self._new_key, None, b"1", SPAN_S)

    def recall(self) -> float:
        """Read what another process of this host has learned, because Redis tells nothing now.

        Returns:
            For how many more seconds the number counts, or 0 if the file has none.
        """
        seen = self._seen
        with suppress(StateUnavailable, ValueError):
            found = self._host.get(self._key)
            if found is None:
                return 0.0
            seen.most = max(seen.most, int(found.value))
            is_new = self._host.get(self._new_key) if seen.most > self._hosts else None
            if is_new:
                seen.is_new_until = clock.now() + is_new.left_s
            return found.left_s
        return 0.0

    def share(self, reserve: int) -> int:
        """Return how many calls of the reserve belong to this host."""
        # Another host may have used all of the reserve, until it has learned of this host.
        is_new = clock.now() < self._seen.is_new_until
        return 0 if is_new else reserve // self._most


class _Counter:
    """The windows of one storage, and the epochs that the storage had in the last minute."""

    def __init__(self, state: State, name: str, remembered: ProcessWide[Remembered]) -> None:
        self._state = state
        self._name = name
        self._remembered = remembered

    def take(self, key: str, limit: int, host: str = "") -> Taken:
        """Count a call.

        Raises:
            StateUnavailable: The storage cannot be reached.
        """
        remembered = self._remembered.get()
        epochs = remembered.epochs
        epoch, seen_at = epochs.get((self._name, key), ("", 0.0))
        # The process remembers for a minute, because a storage may forget older calls.
        seen = epoch if clock.now() - seen_at < SPAN_S else ""
        taken = self._state.take(key, limit, host=host, seen=seen)
        now = clock.now()
        # Another thread may have got another epoch meanwhile. Then the storage has lost calls and
        # does not know of the loss, so the next call has to close the window.
        others, _ = epochs.get((self._name, key), ("", 0.0))
        known = taken.epoch if others in ("", epoch, taken.epoch) else _LOST
        epochs[self._name, key] = known, now
        remembered.sweep()
        return taken


class _HostCounter:
    """The windows of this host in the host's file.

    While the file cannot be used, each process counts its share of the calls in memory.
    """

    def __init__(self, state: State, remembered: ProcessWide[Remembered]) -> None:
        self._state = state
        self._counter = _Counter(state, "host", remembered)
        self._remembered = remembered
        self._id = ""

    def take(self, key: str, limit: int) -> Taken:
        """Count a call."""
        remembered, share = self._remembered.get(), max(1, limit // worker_count())
        try:
            taken = self._counter.take(key, limit)
        except StateUnavailable as exc:
            if remembered.absence.is_too_short(exc):
                return _UNKNOWN
            return process_state().take(key, share)
        remembered.absence.end()
        if taken.granted and process_state().has_calls(key):
            # The file does not know the calls that this process has just counted in memory.
            in_memory = process_state().take(key, share)
            return taken if in_memory.granted else in_memory
        return taken

    def id(self) -> str:
        """Return the id of this host, or an id of this process while the file cannot be used."""
        if not self._id:
            own = chance.token_hex(8)
            try:
                self._state.compare_and_swap(_HOST_KEY, None, own.encode(), _HOST_TTL_S)
                found = self._state.get(_HOST_KEY)
            except StateUnavailable:
                found = None
            self._id = found.value.decode() if found else own
        return self._id


def worker_count() -> int:
    """Return how many workers server/ has counted, or how many gunicorn is to start."""
    for name in ("GUNICORN_ECWID_WORKERS", "WEB_CONCURRENCY"):
        if (text := os.environ.get(name, "")).isdecimal() and int(text):
            return int(text)
    return 1
