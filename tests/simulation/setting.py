"""The setting of a plan, which is everything about its world that does not change."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Setting:
    """The hosts, the processes, the store, and the chance of faults of single calls.

    The defaults are the simplest world. shrink.py goes back to them where a violation stays.
    """

    unique: bool = True  # The store refuses an e-mail that it has.
    lag_s: float = 0.0  # the most seconds until the search shows a new customer
    inclusive: bool = True  # A bound of a search includes its own second.
    ties_reversed: bool = False  # Customers of one second come with the newest first.
    short_pages: bool = False  # Some pages have fewer customers than they could.
    ecwid_ahead_s: float = 0.0  # by how much Ecwid's clock is ahead of true time
    ecwid_limit: int = 600  # Ecwid's calls per token in a minute
    ahead_s: tuple[float, ...] = (0.0,)  # by how much the clock of each host is ahead
    processes: tuple[int, ...] = (0,)  # the host of each process
    tokens: tuple[str, ...] = ("secret_a",)  # the token of each process
    mounts: int = 1  # the mounts of each process, which all have its token
    # The stores of each mount, as pairs such as `11 secret_11_a`. One store by settings if empty.
    pairs: tuple[str, ...] = ()
    max_open_stores: int = 1000
    refusals_most: int = 60  # the places of trials.py
    calls_per_minute: int = 540
    known_hosts: int = 0  # the hosts that the settings name, or 0 for all of them
    redis: bool = False
    cache_ttl_s: float = 0.0
    fates: tuple[str, ...] = ()  # the fates that a call may have
    fate_p: float = 0.0
    slow_s: float = 0.0  # the most seconds of one way of a quarter of the calls
    redis_lost_p: float = 0.0  # Redis replies, and the reply is lost
    redis_refused_p: float = 0.0
    redis_timeout_p: float = 0.0  # Redis does not reply in time, with the effect or without it
    most_ids: int = 10_000  # the most ids in a part of a cursor of the feed
    preempt_p: float = 0.0  # the chance of a switch at each lock and each look at a clock

    def simpler(self) -> list[Setting]:
        """Return the settings that have one member less of the world, the simplest first."""
        simplest = Setting()
        names = [
            *("preempt_p", "redis_lost_p", "redis_refused_p", "redis_timeout_p", "slow_s"),
            *("fates", "lag_s", "ecwid_ahead_s", "cache_ttl_s", "calls_per_minute", "inclusive"),
            *("ties_reversed", "short_pages", "ecwid_limit", "unique", "mounts"),
            *("max_open_stores", "refusals_most", "most_ids"),
        ]
        found = [
            replace(self, **{name: getattr(simplest, name)})
            for name in names
            if getattr(self, name) != getattr(simplest, name)
        ]
        if any(self.ahead_s):
            found.append(replace(self, ahead_s=tuple(0.0 for _ in self.ahead_s)))
        found += [
            replace(self, fates=tuple(each for each in self.fates if each != fate))
            for fate in self.fates
            if len(self.fates) > 1
        ]
        return found
