"""Make the plan of a history from a seed. A plan is data, so a plan can be cut down and kept.

A plan is a setting and a list of events. Only latencies and the fates of single calls are drawn
later, while the plan is played. An event happens at a time, or when a request reaches its nth
switch point. Uniform chance finds few defects, so each plan has an aim, such as one key at several
hosts while Ecwid is slow.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import orjson

from .ecwid_model import EVIL
from .network import FATES
from .setting import Setting

Event = dict[str, Any]

# The faults that a plan may have, each with its probability in a plan that does not aim at it.
_FAULTS = {
    "skew": 0.4,  # The wall clocks of the hosts differ.
    "step": 0.2,  # The wall clock of a host is set.
    "suspend": 0.2,  # A host is suspended.
    "kill": 0.3,  # A process is killed, and starts again.
    "reload": 0.1,  # A process is asked to end, and a new process takes its place at once.
    "fates": 0.5,  # Single calls fail.
    "outage": 0.2,  # All calls fail for a while.
    "slow": 0.35,
    "refusal": 0.25,  # Ecwid asks for a pause of several seconds.
    "refused": 0.25,  # Ecwid refuses the token or the store.
    "brief": 0.1,  # Ecwid refuses all calls with a Retry-After of 2 s or less.
    "evil": 0.06,  # Something in front of Ecwid refuses one question.
    "two-tokens": 0.06,
    "ecwid-clock": 0.35,
    "preempt": 0.35,
    "redis-mode": 0.3,  # Redis is down, hangs, is read-only or slow.
    "redis-loss": 0.25,  # Single commands fail, with the effect or without it.
    "redis-emptied": 0.12,
    "redis-failover": 0.08,
    "extra-hosts": 0.1,  # There are more hosts than the settings name.
    "file-gone": 0.1,
    "file-lost": 0.06,
    "foreign": 0.06,  # A record of another version of the package.
    "garbage": 0.04,  # A record that cannot be read.
}
# Faults with generators of their own, so that they leave the rest of a plan as it is.
_LATER_FAULTS = {
    "mounts": 0.08,  # Each process has two mounts.
    "bulk": 0.3,  # An export works beside a small rate limit. Only in an export.
    "limit-changed": 0.25,  # The rate limit changes process by process. Only if it is small.
    "redis-evicted": 0.08,  # Redis evicts single keys.
    "redis-clock": 0.06,
    "file-slow": 0.05,
    "file-locked": 0.06,
}
FAULTS = _FAULTS | _LATER_FAULTS
_DRAWN_AIMS = (
    *("create", "contend", "takeover", "limit", "cache", "pause", "refused", "probe", "export"),
    *("export", "repeat", "mixed", "stores"),
)
AIMS = (*_DRAWN_AIMS, "mirror")
_MIRROR_P = 0.06  # the chance of the last aim, which leaves the other plans as they are
# The refusals of each fault.
_REFUSALS = {
    "brief": ("429-1", "429-2"),
    "refusal": ("429-10", "503-5"),
    "refused": ("401", "402", "403", "403-token", "403-html", "404-store"),
}
_UNSURE = ("500-after", "500-before", "lost-after", "lost-before")
_REDIS_FAULTS = (
    *("redis-mode", "redis-loss", "redis-emptied", "redis-failover", "foreign", "garbage"),
)
FOLLOW_ID = 900  # the id of the feed among the requests
MIRROR_ID = 901  # the id of the first process that keeps the mirror
EXPIRED_S = 190 * 86_400.0  # A cursor that is so old has expired.
SMALL_LIMIT = 100  # A rate limit below is small enough for a plan to reach it.
_OWN_FAULTS = ("export", "mirror")  # the aims whose faults are their own
_MACHINES = ("kill", "suspend", "step", "reload")


@dataclass(frozen=True)
class Plan:
    """A plan, and everything that a history needs to be played again."""

    seed: int
    aim: str
    setting: Setting
    events: list[Event]

    def to_json(self) -> bytes:
        """Return the plan as JSON, without the members of the setting that have their defaults."""
        simplest = asdict(Setting())
        given = asdict(self.setting).items()
        setting = {name: value for name, value in given if value != simplest[name]}
        plan = {"seed": self.seed, "aim": self.aim, "setting": setting, "events": self.events}
        return orjson.dumps(plan, option=orjson.OPT_INDENT_2) + b"\n"

    @classmethod
    def from_json(cls, text: bytes) -> Plan:
        plan = orjson.loads(text)
        setting: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in plan["setting"].items()
        }
        return cls(plan["seed"], plan["aim"], Setting(**setting), plan["events"])

    @property
    def faults(self) -> frozenset[str]:
        """The faults of `FAULTS` that the plan has, whatever it was made for."""
        found = {_fault_of(event) for event in self.events}
        setting = self.setting
        given = {
            "skew": len(set(setting.ahead_s)) > 1,
            "fates": bool(setting.fates),
            "slow": bool(setting.slow_s),
            "two-tokens": len(set(setting.tokens)) > 1,
            "ecwid-clock": bool(setting.ecwid_ahead_s),
            "preempt": bool(setting.preempt_p),
            "extra-hosts": bool(setting.known_hosts),
            "mounts": setting.mounts > 1,
            "bulk": setting.calls_per_minute < SMALL_LIMIT
            and any(event["do"] == "export" for event in self.events),
            "redis-loss": bool(
                setting.redis_lost_p or setting.redis_refused_p or setting.redis_timeout_p
            ),
        }
        found |= {name for name, is_given in given.items() if is_given}
        return frozenset(found & FAULTS.keys())

    @property
    def features(self) -> frozenset[str]:
        """The faults, and the parts of the setting that a defect may need."""
        setting = self.setting
        given = {
            "redis": setting.redis,
            "no-redis": not setting.redis,
            "cache": bool(setting.cache_ttl_s),
            "no-cache": not setting.cache_ttl_s,
            "small-limit": setting.calls_per_minute < SMALL_LIMIT,
            "processes": len(setting.processes) > 1,
            "stores": bool(setting.pairs),
            "unique": setting.unique,
            "not-unique": not setting.unique,
        }
        return self.faults | {name for name, is_given in given.items() if is_given}


def _fault_of(event: Event) -> str:
    what: str = event["do"]
    if what == "refuse":
        return next(name for name, all in _REFUSALS.items() if event["refusal"] in all)
    if what == "mirror-kill":
        return "kill"
    if what == "foreign":
        return "garbage" if event["how"] == "garbage" else "foreign"
    return what


def make(seed: int, aim: str | None = None, without: Collection[str] = ()) -> Plan:
    """Return the plan of a seed.

    Args:
        seed: The seed of the plan and of everything that is drawn while it is played.
        aim: One of `AIMS`. By default the seed chooses.
        without: The faults that the plan leaves out.
    """
    chance = random.Random(f"{seed}/plan")
    drawn = chance.choice(_DRAWN_AIMS)
    if random.Random(f"{seed}/mirror").random() < _MIRROR_P:
        drawn = "mirror"
    return _Maker(chance, seed, aim or drawn, frozenset(without)).plan()


@dataclass
class _Maker:
    """The plan that is being made."""

    chance: random.Random
    seed: int
    aim: str
    without: frozenset[str]
    events: list[Event] = field(default_factory=list)
    requests: list[Event] = field(default_factory=list)
    last_id: int = 0  # of a request
    span_s: float = 40.0
    is_unsure: bool = False  # Half of the calls fail at once, so that the searches say little.
    is_behind: bool = False  # The clock of Ecwid is behind, and the searches are slow.
    is_calm: bool = False  # Nothing fails but what the plan aims at.

    def plan(self) -> Plan:
        chance, aim = self.chance, self.aim
        on = {name: chance.random() < p for name, p in _FAULTS.items()}
        self._aim_faults(on)
        later = random.Random(f"{self.seed}/later")
        on |= {name: later.random() < p and not self.is_calm for name, p in _LATER_FAULTS.items()}
        if aim == "limit":
            on["mounts"] = on["mounts"] or (later.random() < 0.2 and not self.is_calm)
        on.update(dict.fromkeys(self.without, False))
        self.on = on
        self.setting = self._setting() if aim not in _OWN_FAULTS else _list_setting(chance, on)
        getattr(self, f"_{aim}")()
        if aim == "export":
            self._follow(random.Random(f"{self.seed}/follow"))
        if aim not in _OWN_FAULTS:
            self._faults()
        self.chance = later
        if aim not in _OWN_FAULTS or (aim == "export" and on["bulk"]):
            self._later_faults()
        self.events.sort(key=lambda event: (event.get("at", 0.0), event["do"]))
        return Plan(self.seed, aim, self.setting, self.events)

    def _aim_faults(self, on: dict[str, bool]) -> None:
        likely = {
            "contend": ("slow",),
            "takeover": ("kill", "suspend"),
            "cache": ("slow",),
            "repeat": ("fates",),
            "pause": ("refusal", "refused"),
            "refused": ("refused",),
            "probe": ("fates",),
        }
        for name in likely.get(self.aim, ()):
            on[name] = on[name] or self.chance.random() < 0.7
        if self.aim == "limit":  # The limit has to hold without the help of failing calls.
            on["fates"] = on["outage"] = False
            for name in ("redis-mode", "redis-emptied", "kill", "extra-hosts"):
                on[name] = on[name] or self.chance.random() < 0.4
            if self.chance.random() < 0.2:
                self._be_calm(on)
        if self.aim == "pause" and self.chance.random() < 0.4:
            # Nothing fails but the token, so that each call after the pause is judged.
            self._be_calm(on)
            on["refused"], on["two-tokens"] = True, self.chance.random() < 0.3
        if self.aim == "stores":
            on["two-tokens"] = on["evil"] = on["refusal"] = False
            on["slow"] = on["slow"] or self.chance.random() < 0.3
            if self.chance.random() < 0.4:  # No store is excused by a fault.
                self._be_calm(on)
        if self.aim == "cache":
            drawn = self.chance.random()
            if drawn < 0.2:  # A process may be killed before it can tell the others of a write.
                on["redis-mode"] = on["kill"] = True
            elif drawn < 0.6:  # While Redis works, no read may share an older call.
                on.update(dict.fromkeys(_REDIS_FAULTS, False))

    def _be_calm(self, on: dict[str, bool]) -> None:
        """Leave out the faults, so that the aim alone decides what happens."""
        on.update(dict.fromkeys(FAULTS.keys() - {"skew", "step", "preempt"}, False))
        self.is_calm = True

    def _setting(self) -> Setting:
        chance, aim, on = self.chance, self.aim, self.on
        unique = chance.random() < (0.2 if aim == "contend" else 0.4)
        unsure_p = {"create": 0.45, "takeover": 0.3}.get(aim, 0.0)
        self.is_unsure = is_unsure = chance.random() < unsure_p
        # A slow search tells little of a clock that is behind.
        self.is_behind = is_behind = is_unsure and aim == "create" and chance.random() < 0.7
        if is_unsure:
            unique = False
        often = {"cache": 0.8, "limit": 0.75, "contend": 0.9, "takeover": 0.8}.get(aim, 0.65)
        redis = chance.random() < often
        hosts = chance.choice([2, 3] if aim == "contend" else [1, 2, 2, 3])
        if not redis:  # Hosts share nothing without Redis, so no key may go to two hosts.
            hosts = chance.choice([1, 1, 2]) if aim == "limit" else 1
        processes = tuple(host for host in range(hosts) for _ in range(chance.choice([1, 1, 2])))
        if aim == "cache" and not redis:  # Each process has a cache of its own.
            processes = (0, 0)
        small = aim == "limit" or (aim == "mixed" and chance.random() < 0.3)
        # Below five calls for each process no key settles, because three searches and a creation
        # are four calls.
        limit = max(chance.choice([4, 6, 8, 10]), 5 * len(processes)) if small else 540
        fates = tuple(chance.sample(FATES, chance.choice([1, 2, 4, 8]))) if on["fates"] else ()
        if not unique:  # docs/faults.md, known limits: a late creation may come twice.
            fates = tuple(fate for fate in fates if fate != "late")
        if is_unsure:
            fates = tuple(chance.sample(_UNSURE, 2))
        if aim == "repeat":  # One kind of failure, so that many calls in a row fail alike.
            fates = fates[:1]
        self.span_s = 100.0 if small else chance.choice([5.0, 40.0, 100.0])
        tokens = tuple(
            "secret_b" if on["two-tokens"] and number % 2 else "secret_a"
            for number in range(len(processes))
        )
        lost = redis and on["redis-loss"]
        return Setting(
            unique=unique,
            lag_s=chance.choice(self._lags(unique)),
            inclusive=chance.random() < 0.5,
            ecwid_ahead_s=(
                -20.0
                if is_behind
                else float(chance.choice([4, -20, 120]))
                if on["ecwid-clock"]
                else 0.0
            ),
            ecwid_limit=max(limit + 1, int(limit / 0.9)),
            ahead_s=(
                0.0,
                *(
                    chance.choice([-1.0, 1.0]) * chance.choice([3, 10, 35, 45, 300, 1500])
                    if on["skew"]
                    else 0.0
                    for _ in range(hosts - 1)
                ),
            ),
            processes=processes,
            tokens=tokens,
            calls_per_minute=limit,
            known_hosts=1 if on["extra-hosts"] and redis and hosts > 1 else 0,
            redis=redis,
            cache_ttl_s=(
                chance.choice([3600.0, 20.0])
                if chance.random() < (0.9 if aim == "cache" else 0.3)
                else 0.0
            ),
            fates=fates,
            fate_p=0.5 if aim == "repeat" or is_unsure else chance.choice([0.05, 0.15, 0.4]),
            slow_s=(
                12.0
                if is_behind
                else chance.choice([2.0, 12.0])
                if on["slow"] and chance.random() < 0.5
                else 0.0
            ),
            redis_lost_p=chance.choice([0.01, 0.1]) if lost else 0.0,
            redis_refused_p=chance.choice([0.0, 0.1]) if lost else 0.0,
            redis_timeout_p=chance.choice([0.0, 0.05]) if lost else 0.0,
            preempt_p=0.1 if on["preempt"] else 0.0,
        )

    def _lags(self, unique: bool) -> list[float]:
        """Return the search lags of a store. Three searches after a creation span 3 s."""
        lags = [2.0, 6.0] if unique else [1.0, 2.5]
        return lags if self.aim == "create" else [0.0, *lags]

    # Requests

    def _request(
        self,
        at: float,
        operation: str,
        target: object,
        key: str | None = None,
        process: int | None = None,
        pair: int | None = None,
    ) -> None:
        if process is None:
            process = self.chance.randrange(len(self.setting.processes))
        self.last_id += 1
        event: Event = {
            "at": round(at, 3),
            "do": "request",
            "id": self.last_id,
            "process": process,
            "operation": operation,
            "target": target,
            "key": key,
        }
        if pair is not None:
            event["pair"] = pair
        self.requests.append(event)
        self.events.append(event)

    def _time(self) -> float:
        return self.chance.random() * self.span_s

    def _creations(self, count: int, gaps: tuple[float, ...]) -> None:
        """Add creations with keys, each with some repeats after one of these gaps."""
        chance = self.chance
        for number in range(count):
            key = f"k{number}"
            email = _email(number if chance.random() < 0.9 else 0)
            at = self._time()
            self._request(at, "create", email, key)
            for _ in range(chance.choice([0, 1, 2, 3])):
                at += chance.choice(gaps) * (0.5 + chance.random())
                same = chance.random() < 0.95
                self._request(at, "create", email if same else f"other-{email}", key)

    def _without_key(self, count: int) -> None:
        for number in range(count):
            self._request(self._time(), "create", f"u{number}@x.example")

    def _reads(self, count: int) -> None:
        for _ in range(count):
            self._request(self._time(), "get", self.chance.randrange(3))

    def _writes(self, count: int) -> None:
        for _ in range(count):
            operation = "update" if self.chance.random() < 0.7 else "delete"
            self._request(self._time(), operation, self.chance.randrange(3))

    # Aims

    def _create(self) -> None:
        """Aim at creations whose replies fail."""
        self._creations(self.chance.choice([2, 4, 6]), (0.001, 0.05, 0.5, 0.5, 3.0, 20.0, 45.0))
        if self.is_behind:  # Few of the searches take so long that they tell little.
            for number in range(20):
                self._request(self._time(), "create", f"b{number}@x.example", f"b{number}")
        self._without_key(2)
        self._reads(2)
        self._writes(3)

    def _contend(self) -> None:
        """Aim at one key at several places while Ecwid takes its time."""
        chance = self.chance
        for number in range(chance.choice([1, 2, 3])):
            at = 1 + self._time()
            for _ in range(chance.choice([2, 3, 4])):
                self._request(at, "create", _email(number), f"k{number}")
                at += chance.choice([0.001, 0.5, 2.0, 5.0, 31.0]) * (0.5 + chance.random())
        self._reads(2)

    def _takeover(self) -> None:
        """Aim at a key whose process is killed at any point, and at the request that takes over."""
        chance = self.chance
        if self.is_unsure:
            self._hurry()
            return
        for number in range(chance.choice([1, 2])):
            at = 1 + self._time()
            self._request(at, "create", _email(number), f"k{number}")
            first = self.requests[-1]
            if len(self.setting.ahead_s) > 1 and self.on["suspend"] and chance.random() < 0.3:
                self._outlive(first)
                continue
            fault = chance.choice(["kill", "suspend", "reload"])
            if self.on[fault]:
                self._fault_at_point(self._machine_fault(fault, first), first)
            for _ in range(chance.choice([1, 2, 3])):
                at += chance.choice([0.3, 2.0, 10.0, 31.0, 35.0, 91.0]) * (
                    0.8 + 0.4 * chance.random()
                )
                self._request(at, "create", _email(number), f"k{number}")

    def _hurry(self) -> None:
        """Kill a process after its creation, and take over before the search shows the customer."""
        # docs/faults.md, known limits: a creation that arrives late may come twice.
        self.setting, self.on["slow"] = replace(self.setting, lag_s=2.5, slow_s=0.0), False
        for number in range(4):
            at = 1 + self._time()
            self._request(at, "create", _email(number), f"k{number}")
            process = self.requests[-1]["process"]
            self._add("kill", at + 0.1 + 0.1 * self.chance.random(), process=process, back_s=0.05)
            for after_s in (0.4, 20.0):
                self._request(at + after_s, "create", _email(number), f"k{number}", process)

    def _outlive(self, first: Event) -> None:
        """Suspend a request until another host has its key, and let a third request follow."""
        host = self.setting.processes[first["process"]]
        self._fault_at_point({"do": "suspend", "host": host, "seconds": 45}, first)
        others = [number for number, its in enumerate(self.setting.processes) if its != host]
        for after_s in (33.0, 50.0, 55.0):
            at = first["at"] + after_s + 4 * self.chance.random()
            process = self.chance.choice(others)
            self._request(at, "create", first["target"], first["key"], process=process)

    def _limit(self) -> None:
        """Aim at the rate limit with bursts of reads."""
        if self.setting.known_hosts and self.chance.random() < 0.5:
            self._join()
            return
        if self.is_calm and self.setting.redis and len(self.setting.ahead_s) > 1:
            self._hold()
            return
        count = len(self.setting.processes)
        for _ in range(self.chance.choice([2, 3, 4])):
            at = self._time()
            # Some bursts come from some processes only, so that hosts join and rest.
            processes = self.chance.sample(range(count), self.chance.choice([1, count, count]))
            for _ in range(int(self.setting.calls_per_minute * 1.3)):
                target, process = self.chance.randrange(3), self.chance.choice(processes)
                self._request(at + 3 * self.chance.random(), "get", target, process=process)
        self._writes(2)

    def _join(self) -> None:
        """Let a host spend the limit, and let hosts that nobody knows join within a minute."""
        setting, at = self.setting, 1.0
        for host in range(len(setting.ahead_s)):
            own = [number for number, its in enumerate(setting.processes) if its == host]
            for _ in range(2 * setting.calls_per_minute):
                process, target = self.chance.choice(own), self.chance.randrange(3)
                self._request(at + 5 * self.chance.random(), "get", target, process=process)
            at += 5 + 15 * self.chance.random()

    def _hold(self) -> None:
        """Let a call that was counted wait with its host, and fill the minute after that."""
        process = self.chance.randrange(len(self.setting.processes))
        self._request(0.5, "get", 0, process=process)
        self._request(1.0, "get", 1, process=process)
        request, host = self.requests[-1]["id"], self.setting.processes[process]
        point = self.chance.choice([4, 4, 5])  # between the count and the sending
        event = {"do": "suspend", "host": host, "seconds": 64, "request": request, "point": point}
        self.events.append(event)
        for _ in range(2 * self.setting.calls_per_minute):
            self._request(64 + 12 * self.chance.random(), "get", self.chance.randrange(3))

    def _repeat(self) -> None:
        """Aim at the retry budget of a process with many calls that fail."""
        self.span_s = self.chance.choice([40.0, 100.0])
        for _ in range(30):
            self._request(self._time(), "get", self.chance.randrange(3), process=0)
        self._creations(2, (0.5, 3.0, 20.0))
        self._writes(6)

    def _cache(self) -> None:
        """Aim at reads around writes of the same customer."""
        drawn = self.chance.random()
        if drawn < 0.2 and self.setting.redis:
            self._miss()
            return
        if drawn < 0.35 and len(self.setting.processes) > 1:
            self._overtake()
            return
        chance, at = self.chance, 0.0
        for _ in range(chance.choice([4, 7, 10])):
            at += chance.random() * self.span_s / 8
            target = chance.randrange(2)
            self._request(at, "get", target)
            operation = chance.choice(["update", "delete", "get", "get", "get"])
            if self.on["slow"] and chance.random() < 0.5:  # The first read outlives the write.
                self._slow(max(0.0, at - 0.01), 2.0, 2.0, "GET")
                operation = "update"
            self._request(at + 0.3 * chance.random(), operation, target)
            self._request(at + 2 * chance.random(), "get", target)
            self._request(at + self.span_s / 4 * chance.random(), "get", target)

    def _overtake(self) -> None:
        """Let a write of another process overtake a slow read, while a second read may join it."""
        chance = self.chance
        reader, writer = chance.sample(range(len(self.setting.processes)), 2)
        for at in (1.0, 8.0, 15.0):
            target = chance.randrange(2)
            self._slow(at, 0.05, 2.0, "GET")
            self._request(at + 0.02, "get", target, process=reader)
            self._request(at + 0.1 + 0.3 * chance.random(), "update", target, process=writer)
            self._request(at + 1 + chance.random(), "get", target, process=reader)
            self._request(at + 4 + chance.random(), "get", target)

    def _miss(self) -> None:
        """Aim at a write that Redis misses, and whose process is killed afterwards."""
        chance = self.chance
        process = chance.randrange(len(self.setting.processes))
        for _ in range(3):
            self._request(1 + chance.random(), "get", 0)
        self._add("redis-mode", 3.0, mode=chance.choice(["down", "hang", "readonly"]), seconds=3.0)
        self._request(3.5, "update", 0, process=process)
        self._add("kill", 4.5 + chance.random(), process=process, back_s=chance.choice([5.0, 40.0]))
        for _ in range(3):
            self._request(10 + 20 * chance.random(), "get", 0)

    def _pause(self) -> None:
        """Aim at pauses with several requests at the same moment."""
        if self.is_calm:
            self.span_s = 100.0
        self._reads(8)
        self._writes(3)
        self._creations(1, (0.5, 3.0, 20.0))
        for _ in range(5):
            at = self._time()
            for _ in range(3):
                self._request(at + 0.004 * self.chance.random(), "get", self.chance.randrange(3))

    def _refused(self) -> None:
        """Aim at a token that Ecwid refuses while many requests come."""
        self.span_s = self.chance.choice([40.0, 100.0])
        self._creations(4, (0.05, 0.5, 3.0))
        self._without_key(8)
        self._reads(25)

    def _probe(self) -> None:
        """Aim at the breaker with many requests during an outage."""
        chance = self.chance
        self.span_s = 60.0
        at = 5 * chance.random()
        if self.on["outage"] or self.on["fates"]:
            self._outage(at, chance.choice([10, 25, 45]))
        for _ in range(chance.choice([12, 20, 30])):
            at += chance.choice([0.0, 0.01, 0.5, 2.0, 4.0]) * (0.5 + chance.random())
            self._request(at, "get", chance.randrange(3))

    def _stores(self) -> None:
        """Aim at equal requests of many stores, of which few are open at a time."""
        chance = self.chance
        stores = [str(11 + number) for number in range(chance.choice([2, 3, 4]))]
        pairs = [f"{store} secret_{store}_a" for store in stores]
        good = len(pairs)
        owes = chance.random() < 0.35 and not self.without & {"redis-mode", "file-gone", "slow"}
        is_flood = not owes and chance.random() < 0.35
        for number in range(8 if is_flood else chance.choice([0, 1, 1, 2])):
            # Somebody enters the number of another store, with an own token or an invented one.
            token = f"secret_{stores[0]}_a" if number == 0 else f"secret_invented{number}"
            pairs.append(f"{stores[-1]} {token}")
        self.span_s = chance.choice([40.0, 100.0])
        is_small = not owes and chance.random() < 0.3
        limit = max(8, 5 * len(self.setting.processes)) if is_small else 540
        self.setting = replace(
            self.setting,
            pairs=tuple(pairs),
            max_open_stores=chance.choice([1, 1, 2]),
            refusals_most=chance.choice([3, 4, 6]) if is_flood else 60,
            calls_per_minute=limit,
            ecwid_limit=max(limit + 1, int(limit / 0.9)),
        )
        others = range(good, len(pairs))
        if owes:
            self.on.update(dict.fromkeys(self.on, False))
            calm = {"fates": (), "slow_s": 0.0, "preempt_p": 0.0}
            no_loss = {"redis_lost_p": 0.0, "redis_refused_p": 0.0, "redis_timeout_p": 0.0}
            self.setting = replace(self.setting, **calm, **no_loss)  # type: ignore[arg-type]
            self._owe(good)
            return
        if is_flood:
            for number in others:
                at = self._time() / 2
                for later_s in (0.0, 61.5 + 3 * chance.random()):
                    operation = chance.choice(["get", "get", "update"])
                    self._request(at + later_s, operation, chance.randrange(3), pair=number)
        for number in range(chance.choice([3, 5, 8])):
            at, gap_s = self._time(), chance.choice([0.002, 0.3, 3.0])
            operation = chance.choice(["get", "get", "get", "update", "create", "create", "delete"])
            target = _email(number % 3) if operation == "create" else chance.randrange(2)
            key = f"k{number % 3}" if operation == "create" else None
            callers = [*range(good), *chance.sample(others, min(2, len(others)))]
            chance.shuffle(callers)
            for pair in callers[: chance.choice([2, len(callers)])]:
                self._request(at + gap_s * chance.random(), operation, target, key, pair=pair)
        if is_small:
            self._spend(limit, good)
        if chance.random() < 0.4:
            self._trouble(good)
        if chance.random() < 0.3:
            self._rotate(stores)

    def _spend(self, limit: int, good: int) -> None:
        """Let one store spend its limit, while the others have a few requests."""
        chance, at = self.chance, self._time()
        for number in range(int(1.4 * limit)):
            pair = chance.randrange(good) if number % 4 == 3 else 0
            self._request(at + 5 * chance.random(), "get", chance.randrange(3), pair=pair)

    def _trouble(self, good: int) -> None:
        """Let Ecwid fail the calls of one store, which has requests before and after."""
        chance = self.chance
        pair, at = chance.randrange(good), self._time() / 2
        token, seconds = self.setting.pairs[pair], chance.choice([15.0, 70.0])
        refusal = chance.choice(["429-10", "503-5", "403-token", "403-token", "402", "403-html"])
        if chance.random() < 0.3 and not self.without & {"outage"} and not self.is_calm:
            fate = chance.choice(["500-before", "stall", "lost-before"])
            self._add("outage", at, seconds=seconds, host=token, fate=fate)
        else:
            self._add("refuse", at, refusal=refusal, token=token, seconds=seconds)
        for number in range(chance.choice([8, 14])):
            own = pair if number % 2 else chance.randrange(good)
            later_s = (seconds + 5) * chance.random()
            self._request(at + later_s, "get", chance.randrange(3), pair=own)

    def _owe(self, good: int) -> None:
        """Let a store get a pause while the storage fails, and another store is opened."""
        chance, at = self.chance, 4 + 10 * self.chance.random()
        process = chance.randrange(len(self.setting.processes))
        host, (own, other) = self.setting.processes[process], chance.sample(range(good), 2)
        refusal = chance.choice(["429-10", "403-token"])
        self.setting = replace(self.setting, max_open_stores=1)
        for pair, before_s in ((own, 3.0), (other, 1.5)):  # Both tokens are accepted.
            self._request(at - before_s, "get", 2, process=process, pair=pair)
        self._add("refuse", at, refusal=refusal, token=self.setting.pairs[own], seconds=15.0)
        self._slow(at, 1.5, 1.5, "GET")
        self._request(at + 0.1, "get", 0, process=process, pair=own)
        if chance.random() < 0.5:  # The store is then in use when the other one is opened.
            self._request(at + 0.2 + chance.random(), "get", 0, process=process, pair=other)
        # The pause cannot be stored, or the storage fails after that.
        fails_at = at + chance.choice([0.4, 0.4, 4.8])
        if self.setting.redis:
            self._add("redis-mode", fails_at, mode="down", seconds=6.0)
        else:
            self._add("file-gone", fails_at, host=host, seconds=6.0)
        for pair, later_s in ((other, 5), (own, 6), (other, 11), (own, 12), (own, 20)):
            self._request(at + later_s + chance.random(), "get", 1, process=process, pair=pair)

    def _rotate(self, stores: list[str]) -> None:
        """Give a store a new token, also while the old one is refused."""
        chance = self.chance
        pair, at = chance.randrange(len(stores)), self._time()
        token = f"{stores[pair]} secret_{stores[pair]}_b"
        self._add("rotate", at, pair=pair, token=token, refuses=chance.random() < 0.5)
        for _ in range(4):
            later_s = chance.choice([0.1, 5.0]) * chance.random()
            self._request(at + later_s, "get", chance.randrange(3), pair=pair)

    def _mixed(self) -> None:
        self._creations(3, (0.001, 0.5, 3.0, 20.0, 45.0))
        self._without_key(2)
        self._reads(8)
        self._writes(4)

    def _export(self) -> None:
        """Aim at a list that changes while it is read, with several customers in one second."""
        chance, at, count = self.chance, 0.0, 0
        for _ in range(chance.choice([3, 5])):
            at += chance.choice([0.0, 1.0, 2.0, 30.0])
            for _ in range(chance.choice([1, 3, 12, 20])):
                self._shop(at, "create", count)
                count += 1
        begin = at + chance.choice([1, 20, 400])  # The second pass reads the last five minutes.
        event = {"at": round(begin, 3), "do": "export", "process": 0, "limit": 5}
        # The reader is made anew from its cursor after so many customers, and never for 0.
        self.events.append({**event, "resumes_after": chance.choice([0, 0, 7])})
        for _ in range(chance.choice([0, 4, 10, 20])):
            what = chance.choice(["create", "delete", "delete", "delete", "update"])
            number = count if what == "create" else chance.randrange(count)
            self._shop(begin + 3 * chance.random(), what, number)
            count += what == "create"

    def _follow(self, chance: random.Random) -> None:
        """Let a feed read the changes several times, in some of the plans.

        Its pages have four customers. A page of the export's size would share a call.
        """
        if chance.random() < 0.6:
            return
        begin, count = 1 + 40 * chance.random(), 1000
        gaps_s = [chance.choice([0, 1, 3, 30, 400]) for _ in range(chance.choice([1, 2, 3]))]
        self._add(
            "follow",
            begin,
            id=FOLLOW_ID,
            process=0,
            limit=4,
            resumes_after=chance.choice([0, 0, 0, 7]),
            gaps_s=[0, *gaps_s, 30],
        )
        known = [each["number"] for each in self.events if each["do"] == "shop"]
        for _ in range(chance.choice([4, 10, 20])):
            at = begin + chance.choice([0.2, 3, sum(gaps_s)]) * chance.random()
            number = chance.choice([count, *known[-8:]])
            whats = ("update", "update", "delete")
            what = "create" if number == count else chance.choice(whats)
            for each in range(number, number + chance.choice([1, 1, 6])):
                self._shop(at, what, each)
            if what == "create":
                known.append(number)
                count += 10
        if chance.random() < 0.5:  # One customer changes several times in the second of a reading.
            number = chance.choice(known)
            for step in range(16):
                self._shop(begin + gaps_s[0] + 0.3 * step, "update", number)

    def _mirror(self) -> None:
        """Aim at a mirror whose processes are killed, suspended or replaced at any step."""
        chance = self.chance
        self.setting = replace(
            self.setting,
            ahead_s=(0.0, chance.choice([0.0, 30.0, -100.0])),
            # A burst of more changes than this ends a reading early.
            most_ids=chance.choice([10_000, 10_000, 8]),
        )
        if chance.random() < 0.25:
            self._overtake_mirror()
            return
        at, count = 0.0, 0
        for _ in range(chance.choice([1, 3])):
            at += chance.choice([0.0, 1.0, 30.0])
            for _ in range(chance.choice([1, 3, 12])):
                self._shop(at, "create", count)
                count += 1
        times = [at + chance.choice([1, 20, 400])]
        for _ in range(chance.choice([0, 1, 2])):
            times.append(times[-1] + chance.choice([2, 30, 400]))
        if chance.random() < 0.5:
            count = self._expire_mirror(times, count)
        for time in times:
            self._run_mirror(time)
            if chance.random() < 0.3:  # A reading fails only if several calls in a row fail.
                self._outage(time + 2 * chance.random(), chance.choice([2, 20]))
            for _ in range(chance.choice([2, 6, 12])):
                changed_at = time + chance.choice([-60.0, 0.5, 3.0]) * chance.random()
                number = chance.choice([count, *range(count)])
                what = chance.choice(["update", "update", "delete", "break"])
                self._shop(max(0.0, changed_at), "create" if number == count else what, number)
                count += number == count

    def _expire_mirror(self, times: list[float], count: int) -> int:
        """Add a run whose cursor has expired, and return the number of customers."""
        chance = self.chance
        for _ in range(chance.choice([0, 1, 3])):  # Ecwid no longer lists these deletions.
            self._shop(times[-1] + 5e5 * (1 + chance.random()), "delete", chance.randrange(count))
        times.append(times[-1] + EXPIRED_S)
        if chance.random() < 0.4:  # The first reading ends early, because of a burst.
            self.setting = replace(self.setting, most_ids=8)
            for number in range(count, count + 12):
                self._shop(1.0, "create", number)
            count += 12
            for number in range(count):
                self._shop(times[-1] - 10 - 150 * chance.random(), "update", number)
        self._miss_in_lists(times[-1], count)
        return count

    def _miss_in_lists(self, at: float, count: int) -> None:
        """Let the lists miss some customers, in half of the plans whose cursor has expired.

        The seconds and the lag of the search stay below the five minutes of `LAG_S`.
        """
        chance = random.Random(f"{self.seed}/missed")  # which leaves the other plans as they are
        if chance.random() < 0.5:
            return
        begin = at - chance.choice([1.0, 1.0, 0.0])
        for number in chance.sample(range(count), min(count, chance.choice([1, 2, 6]))):
            seconds, fails_s = chance.choice([5, 20, 120]), chance.choice([0, 0, 10])
            self._add("miss", begin, number=number, seconds=seconds, fails_s=fails_s)

    def _run_mirror(self, at: float) -> None:
        """Let the mirror be brought up to date, perhaps by two processes at a time."""
        chance = self.chance
        runs = [at]
        if chance.random() < 0.4:
            runs.append(at + chance.choice([0.0, 0.3, 2.0]) * chance.random())
        for run_at in runs:
            number = self._add_mirror(run_at, chance.randrange(2), [[0], [0, 1], [0, 3, 30]])
            drawn, number = chance.random(), number - chance.choice([0, 1])
            place = {"transaction": chance.randrange(1, 9)}
            if drawn < 0.1:
                self._strike(number, {"do": "commit-lost"}, **place)
                continue
            if chance.random() < 0.5:
                place = {"point": int(chance.choice([10, 40, 160]) * chance.random()) + 1}
            if drawn < 0.5:
                back_s = chance.choice([0.1, 5.0, 400.0])
                self._strike(number, {"do": "mirror-kill", "back_s": back_s}, **place)
            elif drawn < 0.7:
                seconds = chance.choice([1, 20, 400])
                fault = {"do": "suspend", "host": chance.randrange(2), "seconds": seconds}
                self._strike(number, fault, **place)

    def _overtake_mirror(self) -> None:
        """Let a process write what it has read before a suspend, while another process reads."""
        chance, at, count = self.chance, 400.0, 24
        for each in range(count):
            self._shop(each, "create", each)
            # The other process reads these customers at its end, and some of them before others.
            self._shop(at + 2 + 3 * chance.random(), chance.choice(["update", "delete"]), each)
        number = self._add_mirror(at, 0, [[0]])
        first = chance.randrange(3, 6)
        seconds = 10 + 15 * chance.random()
        self._strike(number, {"do": "suspend", "host": 0, "seconds": seconds}, transaction=first)
        self._strike(number, {"do": "mirror-kill", "back_s": 400.0}, transaction=first + 1)
        self._add_mirror(at + 6, 1, [[0]])
        self._slow(at + 6, 60.0, 0.7, "B")

    def _add_mirror(self, at: float, host: int, gaps_s: list[list[int]]) -> int:
        """Start a process that keeps the mirror, and return its number among these processes."""
        self._add("mirror", at, host=host, limit=4, gaps_s=self.chance.choice(gaps_s))
        return len([event for event in self.events if event["do"] == "mirror"]) - 1

    def _strike(self, number: int, fault: Event, **place: int) -> None:
        """Let a fault happen at a point or at a transaction of a process that keeps the mirror."""
        self.events.append({**fault, "request": MIRROR_ID + max(0, number), **place})

    def _bulk(self) -> None:
        """Let exports work beside a small rate limit, which requests use as well."""
        chance = self.chance
        limit = chance.choice([8, 12, 20])
        redis = chance.random() < 0.6
        processes = chance.choice([(0,), (0, 0), (0, 1), (0, 1, 1)] if redis else [(0,), (0, 0)])
        self.setting = replace(
            self.setting,
            calls_per_minute=limit,
            ecwid_limit=2 * limit,
            redis=redis,
            processes=processes,
            tokens=("secret_a",) * len(processes),
            ahead_s=(0.0,) * len(set(processes)),
        )
        [first] = [event for event in self.events if event["do"] == "export"]
        first["id"] = 1
        if chance.random() < 0.4:
            again = {**first, "id": 2, "process": len(processes) - 1}
            self.events.append({**again, "at": first["at"] + chance.choice([0.0, 5.0])})
        self.last_id = 2  # The ids of the reads begin after the exports.
        for _ in range(chance.choice([2, 4])):
            at = first["at"] + 200 * chance.random()
            spread_s = chance.choice([1.0, 60.0])
            for _ in range(int(limit * chance.choice([0.3, 0.6, 1.2]))):
                self._request(at + spread_s * chance.random(), "get", chance.randrange(3))

    def _shop(self, at: float, what: str, number: int) -> None:
        self.events.append({"at": round(at, 3), "do": "shop", "what": what, "number": number})

    # Faults

    def _later_faults(self) -> None:
        chance, on = self.chance, self.on
        if self.aim == "export":
            self._bulk()
        is_own = self.aim == "cache" and not self.setting.redis
        if on["mounts"] or (is_own and chance.random() < 0.3):
            self._add_mount()
        setting = self.setting
        if on["limit-changed"] and setting.calls_per_minute < SMALL_LIMIT:
            self._change_limit()
        faults: list[tuple[str, Event]] = []
        if setting.redis:
            for _ in range(chance.choice([1, 3])):
                kinds = ["calls", "calls", "record", "pause", "generation", "response"]
                faults.append(("redis-evicted", {"kind": chance.choice(kinds)}))
            step_s = chance.choice([-60, -35, -10, 10, 35, 61, 300])
            faults.append(("redis-clock", {"seconds": step_s}))
        host = chance.randrange(len(setting.ahead_s))
        slow_s, most_s = chance.choice([0.3, 3.0, 20.0, 70.0]), chance.choice([0.05, 0.3, 0.8])
        faults.append(("file-slow", {"host": host, "seconds": slow_s, "most_s": most_s}))
        locked_s = chance.choice([0.1, 0.7, 3.0, 20.0, 130.0])
        faults.append(("file-locked", {"host": host, "seconds": locked_s}))
        for name, facts in faults:
            if on[name] and chance.random() < 0.5:
                self._fault_at_point({"do": name, **facts}, chance.choice(self.requests))
            elif on[name]:
                self._add(name, self._near(), **facts)

    def _add_mount(self) -> None:
        """Add a second mount to each process. A key belongs to one mount."""
        self.setting = replace(self.setting, mounts=2)
        # In some plans, the second mount gets no request before this time.
        turns_at = self.chance.choice([None, self.chance.choice(self.requests)["at"]])
        for event in self.requests:
            number = int(event["key"][1:]) if event.get("key") else event.get("id", 1)
            is_late = turns_at is not None and not event.get("key")
            event["mount"] = int(event["at"] >= turns_at) if is_late else number % 2
        if self.aim == "limit" and turns_at and "redis-evicted" not in self.without:
            self._add("redis-evicted", turns_at, kind="calls")

    def _change_limit(self) -> None:
        """Change the limit in the settings of one process after the other."""
        chance, count = self.chance, len(self.setting.processes)
        at = chance.choice(self.requests)["at"] + 3
        for _ in range(chance.choice([1, 1, 2])):
            limit = max(chance.choice([4, 8, 12, 20, 30]), 5 * count)
            most = max(self.setting.ecwid_limit, limit + 1, int(limit / 0.9))
            self.setting = replace(self.setting, ecwid_limit=most)
            gap_s = chance.choice([0.1, 3.0, 20.0])
            for process in range(count):
                self._add("limit-changed", at, process=process, limit=limit)
                at += gap_s * chance.random()
            for _ in range(2 * limit):  # The calls before and after the change must not add up.
                self._request(at + 5 * chance.random(), "get", chance.randrange(3))
            at += 40 * chance.random()

    def _near(self, before_s: float = 0.3) -> float:
        """Return a time near a request, and more often near a request with a key."""
        keyed = [each for each in self.requests if each["key"]]
        requests = keyed if keyed and self.chance.random() < 0.6 else self.requests
        at: float = self.chance.choice(requests)["at"]
        return round(max(0.0, at + (before_s + 0.4) * self.chance.random() - before_s), 3)

    def _machine_fault(self, what: str, request: Event) -> Event:
        """Return a fault of the process or of the host that serves a request."""
        chance, process = self.chance, request["process"]
        host = self.setting.processes[process]
        if what == "kill":
            return {"do": what, "process": process, "back_s": chance.choice([0.5, 5.0, 40.0])}
        if what == "reload":
            return {"do": what, "process": process}
        seconds = chance.choice([5, 45, 90] if what == "suspend" else [-61, -5, 10, 35, 61, 300])
        return {"do": what, "host": host, "seconds": seconds}

    def _fault_at_point(self, fault: Event, request: Event) -> None:
        point = self.chance.randrange(1, 14)
        self.events.append({**fault, "request": request["id"], "point": point})

    def _add(self, do: str, at: float, /, **facts: object) -> None:
        self.events.append({"at": round(at, 3), "do": do, **facts})

    def _slow(self, at: float, seconds: float, one_way_s: float, what: str | None) -> None:
        """Let calls take long for some seconds: all, those of a host, or those of a method."""
        self._add("slow", at, seconds=seconds, one_way_s=one_way_s, what=what)

    def _outage(self, at: float, seconds: float) -> None:
        fates = ["refused", "unreachable", "stall", "500-before", "lost-before"]
        self._add("outage", at, seconds=seconds, host=None, fate=self.chance.choice(fates))

    def _faults(self) -> None:
        chance, on, setting = self.chance, self.on, self.setting
        keyed = [each for each in self.requests if each["key"]] or self.requests
        for what in _MACHINES:
            for _ in range(chance.choice([1, 2, 3]) if on[what] and what == "kill" else on[what]):
                request = chance.choice(keyed if chance.random() < 0.7 else self.requests)
                fault = self._machine_fault(what, request)
                if chance.random() < 0.5:
                    self._fault_at_point(fault, request)
                else:
                    self._add(fault.pop("do"), self._near(), **fault)
        if on["slow"] and not setting.slow_s:
            seconds, one_way_s = chance.choice([2.0, 5.0, 20.0]), chance.choice([3.0, 6.0])
            self._slow(self._near(1.0), seconds, one_way_s, chance.choice([None, "A", "POST"]))
        if on["outage"]:
            self._outage(self._near(), chance.choice([3, 20]))
        self._storage_faults()
        self._refusals()

    def _storage_faults(self) -> None:
        chance, on, setting = self.chance, self.on, self.setting
        if setting.redis:
            for _ in range(chance.choice([1, 2]) if on["redis-mode"] else 0):
                mode = chance.choice(["down", "hang", "readonly", "slow"])
                seconds = chance.choice([0.3, 3.0, 20.0, 70.0])
                self._add("redis-mode", self._near(), mode=mode, seconds=seconds)
            if on["redis-emptied"]:
                self._add("redis-emptied", self._near())
            if on["redis-failover"]:
                at = self._time()
                self._add("redis-snapshot", at)
                self._add("redis-failover", at + 5 * chance.random())
        host = chance.randrange(len(setting.ahead_s))
        if on["file-gone"]:
            self._add("file-gone", self._near(), host=host, seconds=chance.choice([1.0, 6.0]))
        if on["file-lost"]:
            self._add("file-lost", self._near(), host=host)
        for fault, how in (("foreign", "member"), ("garbage", "garbage")):
            if on[fault]:
                what = chance.choice(["pause", "records"])
                self._add("foreign", self._near(-0.3), what=what, how=how)

    def _refusals(self) -> None:
        chance, on, setting = self.chance, self.on, self.setting
        for fault, refusals in _REFUSALS.items():
            if on[fault]:
                refusal = chance.choice(refusals)
                of_token = refusal.startswith(("401", "403"))
                token = chance.choice(setting.pairs or setting.tokens) if of_token else "*"
                seconds = 70.0 if self.is_calm else chance.choice([2.0, 15.0, 70.0])
                self._add("refuse", self._near(), refusal=refusal, token=token, seconds=seconds)
        if on["evil"]:
            self._add("evil", 0.0, refusal=chance.choice(["403", "403-html", "500"]))
            for _ in range(6):
                self._request(self._time(), "search", EVIL, process=0)


def _list_setting(chance: random.Random, on: dict[str, bool]) -> Setting:
    fates = ["refused", "lost-before", "lost-after", "cut", "500-before", "html"]
    return Setting(
        lag_s=chance.choice([0.0, 2.0, 5.0]),
        inclusive=chance.random() < 0.5,
        ties_reversed=chance.random() < 0.3,
        short_pages=chance.random() < 0.3,
        ecwid_ahead_s=float(chance.choice([4, -120, 120])) if on["ecwid-clock"] else 0.0,
        fates=tuple(chance.sample(fates, 2)) if on["fates"] else (),
        fate_p=0.1,
    )


def _email(number: int) -> str:
    return f"e{number}@x.example"
