"""The ledger of a history: what the judge knows. The judge never looks into the modules."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from flask_ecwid.errors import EcwidError

from .ecwid_model import ONLY_STORE, Ecwid, Effect, Shop
from .network import Network
from .plan import Event, Plan
from .storage_model import RedisServer
from .world import Process, World

DEADLINE_S = 20.0
BULK = frozenset({"export", "follow", "mirror"})  # the operations that read as bulk work


@dataclass(eq=False)
class Request:
    """A request, and what its caller was told."""

    id: int
    slot: int  # the number of the process in the setting
    operation: str
    target: int | str
    key: str | None
    is_final: bool = False  # The request comes after the faults have ended.
    mount: int = 0  # the number of the mount in its process
    pair: int = 0  # the number of the caller, who has a store of the many
    store: str = ONLY_STORE
    token: str = ""  # the name of the token with which the request began
    process: Process | None = None  # None if no process was there to serve the request
    begin: float = 0.0
    end: float | None = None  # None if the process was killed meanwhile
    asleep_s: float = 0.0  # how long the host was suspended meanwhile
    outcome: str = "unserved"  # ok, crash or the slug of the error
    error: BaseException | None = None
    value: object = None  # the id that the caller was told, or the tag of the customer
    exported: list[int] = field(default_factory=list)  # the ids that an export has yielded
    # What a feed has yielded: the ids of customers, each with the tag of the version or `GONE`.
    followed: list[tuple[int, str]] = field(default_factory=list)
    last_reading_at: float = 0.0  # when the feed was read for the last time
    mirror: Event = field(default_factory=dict)  # how a process keeps the mirror

    @property
    def tag(self) -> str:
        """The mark of the customer that the request creates, or of the version that it makes."""
        return self.key or f"r{self.id}"

    @property
    def own_key(self) -> tuple[str, str] | None:
        """The key with its store, because each store has keys of its own."""
        return (self.store, self.key) if self.key else None

    @property
    def executed(self) -> str | None:
        return self.error.executed if isinstance(self.error, EcwidError) else None


@dataclass(frozen=True)
class Row:
    """The row of a customer in a mirror. The dates are in UNIX seconds."""

    email: str | None
    updated: float | None
    document: Any
    deleted_at: float | None


@dataclass(frozen=True)
class Copy:
    """What the tables of a mirror hold, by the ids of the customers."""

    rows: dict[int, Row]
    gaps: dict[int, str]  # the reason of each gap


@dataclass(eq=False)
class Ledger:
    """Everything that the judge reads."""

    plan: Plan
    world: World
    ecwid: Ecwid
    network: Network
    targets: list[int]  # the ids of the customers that the requests read and change
    redis: RedisServer | None
    requests: list[Request] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    slots: list[str] = field(default_factory=list)  # the names of the last processes
    breaker_breaches: list[tuple[float, int, float]] = field(default_factory=list)
    retry_debts: list[tuple[str, int]] = field(default_factory=list)
    # When each process has had five failures in a row with a token, or without a connection, so
    # that a breaker may open. Those without a connection have no token.
    doubts: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    stuck: list[str] = field(default_factory=list)  # the tasks that wait for ever
    mirror: Copy | None = None  # the mirror at the end, if the history has kept one
    # When each living customer had a row that said "deleted", after a transaction.
    buried: list[tuple[float, int]] = field(default_factory=list)
    # The customers whose last version lacked when a reading was complete.
    lacking: list[tuple[float, int]] = field(default_factory=list)
    is_endless: bool = False
    faults_ended_at: float = 0.0

    @cached_property
    def faults(self) -> frozenset[str]:
        return self.plan.faults

    @cached_property
    def effects(self) -> dict[int, list[Effect]]:
        """The effects of each request."""
        found: dict[int, list[Effect]] = {}
        for effect in self.ecwid.effects:
            found.setdefault(effect.request, []).append(effect)
        return found

    def shop(self, request: Request) -> Shop:
        """Return the store of a request."""
        return self.ecwid.shop(request.store)

    @cached_property
    def has_lost_records(self) -> bool:
        """True if the storage may have lost records, after which a key counts as new."""
        return self._has_lost("record")

    @cached_property
    def has_lost_pauses(self) -> bool:
        """True if the storage may have lost a pause."""
        return self._has_lost("pause")

    @cached_property
    def has_lost_places(self) -> bool:
        """True if the storage may have lost the refusals of the last minute."""
        return self._has_lost("trials") or bool(self.plan.setting.known_hosts)

    @cached_property
    def has_missed_proofs(self) -> bool:
        """True if a process may not know the proof of a token."""
        of_file = self.faults & {"file-gone", "file-lost", "file-slow", "file-locked"}
        is_evicted = self.redis is not None and bool(self.redis.evicted)
        return bool(self.has_redis_faults or of_file or is_evicted)

    @cached_property
    def has_uncertain_counts(self) -> bool:
        """True if the storage may grant fewer calls than the limit."""
        return (
            self.has_missed_proofs
            or bool(self.faults & {"redis-clock", "suspend"})
            or bool(self.plan.setting.known_hosts)
        )

    def _has_lost(self, kind: str) -> bool:
        of_file = "file-lost" in self.faults and self.redis is None
        is_evicted = self.redis is not None and kind in self.redis.evicted
        is_lost = bool(self.faults & {"redis-emptied", "redis-failover", "garbage"})
        return of_file or is_evicted or is_lost

    @cached_property
    def redis_forward_s(self) -> float:
        """By how much the clock of Redis was set forward."""
        return sum(max(0.0, each) for each in self.redis.steps_s) if self.redis else 0.0

    @cached_property
    def redis_back_s(self) -> float:
        """By how much the clock of Redis was set back."""
        return sum(max(0.0, -each) for each in self.redis.steps_s) if self.redis else 0.0

    @cached_property
    def has_uncounted_calls(self) -> bool:
        """True if a call may be counted by the rate limit that does not leave."""
        return bool(self.faults & {"fates", "outage", "slow", "kill", "suspend", "preempt"})

    @cached_property
    def has_separate_hosts(self) -> bool:
        """True if hosts share nothing, because there is no Redis."""
        return self.redis is None and len(self.plan.setting.ahead_s) > 1

    @cached_property
    def has_redis_faults(self) -> bool:
        return bool(
            self.faults & {"redis-mode", "redis-loss", "redis-emptied", "redis-failover"}
            or self.faults & {"foreign", "garbage"}
        )
