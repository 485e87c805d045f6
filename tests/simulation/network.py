"""The way to Ecwid: a `Transport` whose calls and replies are late, lost, cut, doubled or refused.

A call that has left arrives, even if the process that sent the call is dead by then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from flask_ecwid.client.calls import Call, neutral_call
from flask_ecwid.client.replies import Reply
from flask_ecwid.client.transport import Transport
from flask_ecwid.errors import (
    BadReply,
    ConnectionLost,
    DeadlineExceeded,
    EcwidError,
    NotSent,
    Unreachable,
)
from flask_ecwid.settings import Settings, StoreCredentials

from .ecwid_model import Ecwid, Effect, name_of
from .setting import Setting
from .world import Process, Task, World

# The fates of a call.
FATES = (
    "refused",  # No connection, at once.
    "unreachable",  # No connection, after the timeout.
    "lost-before",  # The call is lost, and the connection breaks.
    "kept-lost",  # The same over a kept connection that the way has forgotten.
    "lost-after",  # The reply is lost, and the connection breaks.
    "stall",  # The reply does not come.
    "late",  # The call arrives up to 25 s late.
    "cut",  # The reply is cut short.
    "doubled",  # The reply comes twice over the same connection.
    "call-doubled",  # A read or an update arrives twice.
    "500-before",  # A 500 instead of the effect.
    "500-after",  # A 500 after the effect.
    "503-after",  # A 503 with Retry-After after the effect.
    "html",  # A page of HTML with status 200, after the effect.
    "404-html",  # A page of HTML with status 404, instead of the effect.
)
LATE_S = 25.0
NEW_CONNECTION_P = 0.2  # A new connection takes time between the checks of a call and its sending.
FAILURES = 5  # in a row, after which a process doubts that Ecwid works
OPEN_S = 9.9  # how long a process sends nothing at least when the neutral question has failed
ADMITTED_S = 0.5  # A call that was admitted before may leave so much later.
UNPAID = ("search", "neutral")  # Such calls are no repetitions.
# The way doubles no creation, and no deletion, whose second reply would be a 404.
ONCE = frozenset({"add_customer", "delete_customer"})


class Sent(NamedTuple):
    """A call that has left a process."""

    time: float
    token: str
    process: Process
    mount: int  # the number of the mount in its process
    request: int
    operation: str  # `search` for the search for the customer of a creation
    question: object  # equal for the repetitions of a call


class Heard(NamedTuple):
    """A reply that asks a process for a pause, or makes the client begin a pause."""

    time: float
    token: str
    process: Process
    mount: int
    seconds: float
    probed: bool
    request: int


class Refused(NamedTuple):
    """A refusal of the token or of the store that a process has heard."""

    time: float
    token: str
    process: Process
    mount: int
    is_clear: bool  # It names the token, or it is the reply to a neutral question.


@dataclass(eq=False)
class Network:
    """The network of a history, with the ledger of the calls that have left."""

    world: World
    setting: Setting
    ecwid: Ecwid
    sent: list[Sent] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    # When neutral questions with each token were asked that had a good reply.
    accepted: list[tuple[float, str]] = field(default_factory=list)
    # The effects of calls that the way has sent a second time.
    doubled: list[Effect] = field(default_factory=list)
    # When calls with each token were tried, also without a connection.
    tried: list[tuple[float, str]] = field(default_factory=list)
    # The outages under way, as the end, the name of a host or of a token or None for all, and the
    # fate.
    outages: list[tuple[float, str | None, str]] = field(default_factory=list)
    # The slow period under way, as the end, the seconds of one way, and a host, a method or None.
    slow: tuple[float, float, str | None] = (-1.0, 0.0, None)
    healed: bool = False

    def fate(self, task: Task, token: str) -> str:
        if self.healed:
            return "ok"
        for until, host, fate in self.outages:
            if self.world.time < until and host in (None, task.process.host.name, token):
                return fate
        fates = self.setting.fates
        if fates and task.random.random() < self.setting.fate_p:
            return fates[int(task.random.random() * len(fates))]
        return "ok"

    def one_way_s(self, task: Task, call: Call) -> float:
        chance = task.random.random
        until, seconds, what = self.slow
        if self.world.time < until and what in (
            None,
            task.process.host.name,
            call.operation.method,
        ):
            return seconds * (0.5 + chance())
        if self.healed or not self.setting.slow_s or chance() < 0.75:
            return 0.01 + 0.1 * chance()
        return 0.1 + self.setting.slow_s * chance()


class SimulatedTransport(Transport):
    """The transport of one mount of a process."""

    def __init__(
        self, network: Network, process: Process, settings: Settings, mount: int = 0
    ) -> None:
        self._network = network
        self._world = network.world
        self._process = process
        self._mount = mount
        self._has_many = bool(settings.stores)
        self._connect_timeout_s = settings.connect_timeout_s
        self._read_timeout_s = settings.read_timeout_s
        self._watches: dict[str, tuple[BreakerWatch, RetryWatch]] = {}
        self.host = HostWatch()

    @property
    def watches(self) -> list[tuple[str, BreakerWatch, RetryWatch]]:
        """The watches of each token."""
        return [(token, *watches) for token, watches in self._watches.items()]

    def watch(self, token: str) -> tuple[BreakerWatch, RetryWatch]:
        found = self._watches.get(token)
        return found or self._watches.setdefault(token, (BreakerWatch(), RetryWatch()))

    def opened(self, token: str) -> None:
        """Note that a store is open for the first time, or again after it was closed."""
        if token in self._watches:
            self._world.log("opened", token)
            self._watches[token][0].forget(self._world.time)

    def close(self) -> None:
        """Do nothing, because the model has no connections."""

    def send(
        self,
        call: Call,
        credentials: StoreCredentials,
        deadline: float,
        check: Callable[[], None],
    ) -> Reply:
        """Send a call once. Note what the judge has to know of the call."""
        world, task = self._world, self._world.me()
        operation, token = _described(call), name_of(credentials)
        self._network.tried.append((world.time, token))
        if task.random.random() < NEW_CONNECTION_P:
            world.travel(0.05 * task.random.random())
        try:
            check()
        except NotSent as exc:
            world.log("not sent", exc.slug)
            raise
        breaker, retries = self.watch(token)
        breaker.sends(world.time, task.request, operation)
        self.host.sends(world.time, task.request, operation)
        attempt = (task.request, operation, deadline)
        retries.sends(attempt)
        asked_at = world.time
        try:
            reply = self._exchange(call, credentials, operation, task, deadline)
        except EcwidError as exc:
            world.log("reply", _REASONS[exc.slug])
            if exc.blames_connection:
                breaker.asking_since = None  # The failure says nothing about Ecwid.
            else:
                breaker.ends(world.time, operation, failed=True)
                self.host.ends(world.time, failed=isinstance(exc, Unreachable))
            cost = 10 if isinstance(exc, DeadlineExceeded) else 5
            retries.fails(attempt, 1 if exc.blames_connection else cost)
            raise
        self.host.ends(world.time, failed=False)
        world.log("reply", reply.status)
        is_good = reply.status == 200 and not _is_html(reply)
        if is_good and operation == "neutral":
            self._network.accepted.append((asked_at, token))
        # In a reading of all customers, a page that is not JSON may be too large. Ecwid is up.
        is_failure = not is_good and reply.status in ([500] if call.bulk else [200, 500])
        breaker.ends(world.time, operation, failed=is_failure)
        if is_good:
            retries.succeeds(attempt)
        else:
            retries.fails(attempt, 5)
        self._note_pause(reply, token, operation)
        return reply

    def _exchange(
        self,
        call: Call,
        credentials: StoreCredentials,
        operation: str,
        task: Task,
        deadline: float,
    ) -> Reply:
        network, world, token = self._network, self._world, name_of(credentials)
        left_s = deadline - world.monotonic(task.process.host)
        fate = network.fate(task, token)
        if fate == "refused":
            world.log("call", operation, call.path, "no connection")
            world.travel(0.02 * task.random.random())
            raise Unreachable
        if fate == "unreachable" or left_s <= 0:
            world.log("call", operation, call.path, "no connection in time")
            world.sleep(max(0.0, min(left_s, self._connect_timeout_s)))
            raise Unreachable
        question = call.operation.name, call.path, call.query
        sender = token, self._process, self._mount
        network.sent.append(Sent(world.time, *sender, task.request, operation, question))
        world.log("call", operation, call.path, "" if fate == "ok" else fate)
        out_s, back_s = network.one_way_s(task, call), network.one_way_s(task, call)
        if fate in ("lost-before", "kept-lost"):
            world.travel(min(out_s, left_s))
            raise ConnectionLost().changed(blames_connection=fate == "kept-lost")
        if fate == "late":
            out_s = 1 + (LATE_S - 1) * task.random.random()
        replies: list[Reply] = []
        travel = _Travel(self, call, credentials, task, fate, world.time, task.wake_up, replies)
        world.at(world.time + out_s, travel.arrive, back_s)
        if fate == "call-doubled" and call.operation.name not in ONCE:
            world.at(world.time + out_s + 0.5, travel.arrive_again, back_s)
        came = world.sleep(min(left_s, self._read_timeout_s))
        if not came:
            raise DeadlineExceeded
        if fate == "lost-after":
            raise ConnectionLost
        if fate in ("cut", "doubled"):
            raise BadReply
        return replies[0]

    def _note_pause(self, reply: Reply, token: str, operation: str) -> None:
        """Note a reply after which the client pauses.

        After a 401, or a 403 with HTML, the client counts. Such pauses are left out.
        """
        is_html = reply.body.startswith(b"<html>")
        seconds, probed = 0.0, False
        if "retry-after" in reply.headers and reply.status in (429, 503):
            seconds = float(reply.headers["retry-after"])
        elif reply.status == 402 or (reply.status == 404 and b"STORE" in reply.body):
            seconds, probed = 60.0, True
        elif reply.status == 403 and (
            b"INVALID_API_TOKEN" in reply.body or (operation == "neutral" and not reply.body)
        ):
            is_named = self._has_many and b"INVALID_API_TOKEN" in reply.body
            seconds, probed = 60.0 if is_named else 30.0, True
        if reply.status in (401, 402, 403) or (reply.status == 404 and is_html):
            is_clear = probed or operation == "neutral"
            refused = Refused(self._world.time, token, self._process, self._mount, is_clear)
            self._network.refused.append(refused)
        if seconds:
            now, request = self._world.time, self._world.me().request
            sender = token, self._process, self._mount
            heard = Heard(now, *sender, seconds, probed, request)
            self._network.heard.append(heard)


@dataclass(eq=False)
class _Travel:
    """A call on its way to Ecwid, and its reply on the way back."""

    transport: SimulatedTransport
    call: Call
    credentials: StoreCredentials
    task: Task
    fate: str
    sent_at: float
    wake_up: int  # the wait of the task that the reply ends
    replies: list[Reply]

    def arrive(self, back_s: float) -> None:
        network = self.transport._network
        world, ecwid, fate = network.world, network.ecwid, self.fate
        if fate == "500-before":
            reply = ecwid.reply(500, b"{}")
        elif fate == "404-html":
            reply = ecwid.reply(404, b"<html>")
        else:
            host = self.task.process.host.name
            sender = self.task.request, self.credentials, self.sent_at, host
            reply = ecwid.handle(self.call, *sender)
            world.log("  Ecwid", self.task.name, _described(self.call), _summary(self.call, reply))
            if reply.status == 200 and fate == "500-after":
                reply = ecwid.reply(500, b"{}")
            elif reply.status == 200 and fate == "503-after":
                reply = ecwid.reply(503, b"{}", 3)
            elif fate == "html":
                reply = ecwid.reply(200, b"<html>")
        if fate != "stall":
            world.at(world.time + back_s, self.come_back, reply)

    def arrive_again(self, back_s: float) -> None:
        network = self.transport._network
        before = len(network.ecwid.effects)
        self.arrive(back_s)
        network.doubled += network.ecwid.effects[before:]

    def come_back(self, reply: Reply) -> None:
        # The task may have given up, and wait for something else now.
        if self.task.wake_up == self.wake_up and not self.replies:
            self.replies.append(reply)
            self.transport._world.wake(self.task)


@dataclass
class BreakerWatch:
    """What an observer outside sees of a process's breaker: failures in a row, and calls after.

    After five failures in a row, the process asks the neutral question before it sends other calls.
    If the neutral question fails, the process sends nothing for 10 s. `breaches` has the calls that
    left in spite of that, each with its time, its request, and the seconds since the failure.
    """

    failures: int = 0
    doubted_since: float = 0.0
    asked: bool = False  # The neutral question has left since the doubt began.
    open_since: float | None = None
    asking_since: float | None = None  # The neutral question of an open breaker is under way.
    breaches: list[tuple[float, int, float]] = field(default_factory=list)
    doubts: list[float] = field(default_factory=list)  # when a doubt began

    def sends(self, time: float, request: int, operation: str) -> None:
        if operation == "search" or self.failures < FAILURES:
            return
        is_neutral = operation == "neutral"
        if self.open_since is not None:
            is_early = ADMITTED_S < time - self.open_since < OPEN_S
            is_second = self.asking_since is not None and time - self.asking_since < OPEN_S
            if is_early or is_second or (not is_neutral and time - self.open_since >= OPEN_S):
                self.breaches.append((time, request, time - self.open_since))
            self.asking_since = time
        elif is_neutral:
            self.asked = True
        elif not self.asked and time - self.doubted_since > ADMITTED_S:
            self.breaches.append((time, request, time - self.doubted_since))

    def forget(self, time: float) -> None:
        """Forget the failures of a store that was closed, unless its breaker is open."""
        if self.open_since is None or time - self.open_since >= OPEN_S:
            self.failures, self.open_since, self.asked, self.asking_since = 0, None, False, None

    def ends(self, time: float, operation: str, *, failed: bool) -> None:
        if operation == "neutral":
            self.asking_since = None
        if not failed:
            self.failures, self.open_since, self.asked = 0, None, False
            return
        self.failures += 1
        if self.failures == FAILURES:
            self.doubted_since, self.asked = time, False
            self.doubts.append(time)
        if operation == "neutral" and self.asked:
            self.open_since = time


@dataclass
class HostWatch:
    """What an observer outside sees of the breaker for connections, which all stores share.

    After five failures to connect in a row, the mount sends no call for 10 s.
    """

    failures: int = 0
    open_since: float = 0.0
    breaches: list[tuple[float, int, float]] = field(default_factory=list)
    doubts: list[float] = field(default_factory=list)  # when the breaker opened

    def sends(self, time: float, request: int, operation: str) -> None:
        after_s = time - self.open_since
        if operation != "search" and self.failures >= FAILURES and ADMITTED_S < after_s < OPEN_S:
            self.breaches.append((time, request, after_s))

    def ends(self, time: float, *, failed: bool) -> None:
        self.failures = self.failures + 1 if failed else 0
        if self.failures >= FAILURES:
            self.open_since = time
            self.doubts.append(time)


_Attempt = tuple[int, str, float]  # the request, the operation, and the deadline of the call


@dataclass
class RetryWatch:
    """What an observer outside sees of a process's retry budget."""

    level: int = 50
    debt: int = 0  # the most by which repeated calls have cost more than the budget held
    failed: dict[_Attempt, int] = field(default_factory=dict)  # the cost of a repetition

    def sends(self, attempt: _Attempt) -> None:
        if attempt[1] not in UNPAID:
            self.level -= self.failed.get(attempt, 0)
            self.debt = max(self.debt, -self.level)

    def fails(self, attempt: _Attempt, cost: int) -> None:
        self.failed[attempt] = cost

    def succeeds(self, attempt: _Attempt) -> None:
        if attempt[1] not in UNPAID and not self.failed.pop(attempt, 0):
            self.level += 1


_NEUTRAL = neutral_call()
_REASONS = {
    Unreachable.slug: "none, no connection",
    ConnectionLost.slug: "none, connection lost",
    DeadlineExceeded.slug: "none in time",
    BadReply.slug: "cut short",
}


def _described(call: Call) -> str:
    if dict(call.query).get("useExactEmailMatch") == "true":
        return "search"
    if call.query == _NEUTRAL.query:
        return "neutral"
    if dict(call.query).get("sortBy", "").startswith("UPDATED"):
        return "list-updated"
    return call.operation.name.partition("_")[0]


def _is_html(reply: Reply) -> bool:
    return reply.status == 200 and reply.body.startswith(b"<html>")


def _summary(call: Call, reply: Reply) -> str:
    if reply.status == 200 and call.operation.name == "list_customers":
        return f"{orjson.loads(reply.body)['count']} found"
    if reply.status == 200 and call.operation.name == "add_customer":
        return f"created {orjson.loads(reply.body)['id']}"
    return str(reply.status)
