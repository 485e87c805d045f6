"""The invariants. Each is one function that yields a text for each violation in a ledger.

The docstring states the rule. The exceptions stand below the rule, and each is stated in
docs/evidence.md as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import combinations, pairwise
from typing import NamedTuple

from flask_ecwid.errors import EcwidError, Throttled
from flask_ecwid.storage.file_state import _BUSY_S
from flask_ecwid.throttling import trials

from .ecwid_model import GONE, ONLY_STORE, Customer, Shop
from .ledger import BULK, DEADLINE_S, Ledger, Request, Row
from .network import Heard, Sent
from .storage_model import RedisServer
from .world import Process

MINUTE_S = 60.0
COUNTED_S = 63.0  # how long a call counts in the rate limit, and a second for its sending
SENDING_S = 1.0  # from the count of a call to its first byte at most
ADMITTED_S = 0.5  # A call that was admitted before a pause may leave so much later.
COUNTED_FILE_S = 1.05  # The same where the count in a slow or locked file takes up to a second.
SUSPICIONS = 4  # refusals after which a process takes the token for refused, one of them neutral
TRIP_S = 0.2  # the longest trip to Redis
FILE_S = 0.8  # the longest step of a slow file
# The longest pauses after so many refusals of the token of one of many stores.
REFUSED_S = (62.0, 62.0, 300.0, 1800.0, 7200.0, 86400.0)
LONGEST_PAUSE_S = 60.0  # the longest pause that the model of Ecwid causes
SEARCHES_S = 3.0  # from the first search for the customer of a creation to the third
HIDDEN_S = 4.0  # Clocks may differ by 5 s, and the dates of Ecwid have whole seconds.
LEASE_S = 31.0  # of a key, and a second for the way
CLOCKS_DIFFER_S = 298.0  # Five minutes, and the whole seconds of a Date and of its way.
FILE_FAULTS = frozenset({"file-gone", "file-locked", "file-slow"})
DELIVERED_S = 5.5  # A process leaves a storage that failed alone for 5 s.
KNOWN_S = 1.0  # after which each process of a host knows of a write of another process
JOINED_S = 0.5  # The most by which a shared call may begin before a read.
OPEN = "Ecwid has failed several times in a row."  # what the breaker tells while it is open
IN_DOUBT = (
    "Several calls have failed in a row.",
    "Several calls have failed, and the reason is not known yet.",
)
AFTER_FAILURE = "An earlier call failed."  # how the detail of a pause begins
UNPROVEN = "Ecwid has not accepted this store's token yet."
# What a caller with an invented token must not be told.
TELLING = frozenset(
    {
        *("ok", "email-taken", "customer-not-found", "rejected-by-ecwid", "outcome-unknown"),
        *("idempotency-key-reused", "idempotency-key-in-use"),
    }
)
LEAST_SHARE = 3  # the fewest calls of a token after which the smallest limit of a plan is spent
REDIS_S = 0.3  # for all trips to Redis of a request
# How often a request may send a call.
ATTEMPTS = {"get": 3, "list": 3, "update": 2, "delete": 2, "add": 2, "search": 6}
BACK_S = 130.0  # how long after the faults the service may need

Invariant = Callable[[Ledger], Iterator[str]]
FINAL = frozenset({"ok", "email-taken", "rejected-by-ecwid", "idempotency-key-reused"})


class Violation(NamedTuple):
    """A broken rule: the name of the invariant, and what happened."""

    invariant: str
    text: str


def judge(ledger: Ledger) -> list[Violation]:
    """Return the violations of all invariants in a ledger."""
    return [
        Violation(invariant.__name__, text)
        for invariant in INVARIANTS
        for text in invariant(ledger)
    ]


# Creations


def one_key_makes_one_customer(ledger: Ledger) -> Iterator[str]:
    """One idempotency key makes at most one customer, and so does one request without a key.

    Exceptions: after records were lost, a store that takes an e-mail twice may get two customers,
    and so may two bodies with different e-mails. The same holds after the clock of Redis was set
    forward, because a lease ends early then. Such a store may also get two customers if a worker
    was killed and another request took over. Ecwid then shows the first customer only after the
    last search of the other request, and over 3 s after its first. The killed worker can tell
    nobody about its call, and no wait is long enough for every call.
    """
    shops = ledger.ecwid.shops.values()
    created = [(shop, tag, ids) for shop in shops for tag, ids in shop.created.items()]
    for shop, tag, ids in created:
        if len(ids) < 2 or tag.startswith(("seed", "shop")):
            continue
        emails = {shop.customers[id].email for id in ids}
        may_be_new = ledger.has_lost_records or ledger.redis_forward_s
        takes_twice = not ledger.plan.setting.unique
        if may_be_new and (takes_twice or len(emails) > 1):
            continue
        if takes_twice and len(emails) == 1 and _came_after_takeovers(ledger, shop, ids):
            continue
        yield f"{tag} has made the customers {ids}"


def _came_after_takeovers(ledger: Ledger, shop: Shop, ids: list[int]) -> bool:
    """Return whether Ecwid showed each customer too late for the requests that took over."""
    makers = [
        (request, shop.customers[effect.customer_id])
        for request in ledger.requests
        for effect in ledger.effects.get(request.id, ())
        if effect.kind == "created" and effect.customer_id in ids
    ]
    makers.sort(key=lambda each: each[0].begin)
    return all(
        _came_after_searches(ledger, first, customer, second)
        for (first, customer), (second, _) in combinations(makers, 2)
    )


def _came_after_searches(
    ledger: Ledger, first: Request, customer: Customer, second: Request
) -> bool:
    """Return whether the worker of the first request was killed, and its customer came too late.

    The second request has to search for 3 s before its creation. Ecwid shows the customer later.
    """
    was_killed = first.end is None and first.process is not None and first.process.dead
    sent = [each for each in ledger.network.sent if each.request == second.id]
    added_at = min(each.time for each in sent if each.operation == "add")
    searched = [each.time for each in sent if each.operation == "search" and each.time < added_at]
    if first is second or not was_killed or not searched:
        return False
    return customer.visible_at > max(searched[0] + SEARCHES_S, searched[-1])


def the_id_belongs_to_the_key(ledger: Ledger) -> Iterator[str]:
    """A caller who is told an id is told the id of the customer of the request.

    Exception: after records were lost.
    """
    for request in ledger.requests:
        if request.operation == "create" and request.outcome == "ok":
            own = ledger.shop(request).created.get(request.tag, ())
            if request.value not in own and not ledger.has_lost_records:
                yield f"r{request.id} was told {request.value}, and {request.tag} has made {own}"


def one_key_has_one_body(ledger: Ledger) -> Iterator[str]:
    """Of the requests with one key, only requests with one body succeed.

    Exception: after records were lost.
    """
    bodies: dict[tuple[str, str], set[object]] = {}
    for request in ledger.requests:
        if request.own_key and request.outcome == "ok":
            bodies.setdefault(request.own_key, set()).add(request.target)
    for key, targets in bodies.items():
        if len(targets) > 1 and not ledger.has_lost_records:
            yield f"{key} has succeeded with {len(targets)} bodies"


def no_409_for_the_own_customer(ledger: Ledger) -> Iterator[str]:
    """A 409 never means the customer of the same key.

    Exceptions: after records were lost. A 409 with `executed: unknown` if the clock of the host
    differs by more than five minutes from Ecwid's clock, because Ecwid's `Date` is not believed
    then. The same if the clock of Redis was set back, because the earlier attempt seems younger.
    The same if the host was suspended and its wall clock was set back, because no clock then shows
    how old the earlier attempt is.
    """
    for request in ledger.requests:
        if request.outcome != "email-taken" or not request.key or ledger.has_lost_records:
            continue
        has_wrong_clock = _has_wrong_clock(ledger, request) or ledger.redis_back_s
        has_hidden_time = _hidden_s(ledger, request) > HIDDEN_S
        if request.executed != "no" and (has_wrong_clock or has_hidden_time):
            continue
        customers = ledger.shop(request).customers.values()
        owners = {each.tag for each in customers if each.email == request.target}
        if owners == {request.key}:
            yield f"r{request.id} was told that the e-mail of its own customer is taken"


def _has_wrong_clock(ledger: Ledger, request: Request) -> bool:
    """Return whether the clock of the request's host differed by five minutes from Ecwid's."""
    if request.process is None:
        return False
    host = request.process.host
    later_s = sum(s for at, s in host.steps if at > (request.end or 0.0))
    ahead_s = host.ahead_s - later_s - ledger.plan.setting.ecwid_ahead_s
    return abs(ahead_s) > CLOCKS_DIFFER_S


def _hidden_s(ledger: Ledger, request: Request) -> float:
    """Return the seconds since the first attempt of a key that no clock of the host has shown.

    The monotonic clock misses a suspension, and the wall clock misses a step back. The clock of
    Redis misses neither, so with Redis only the time within the requests counts.
    """
    attempts = [
        each
        for each in ledger.requests
        if each.own_key == request.own_key and each.process and each.begin <= request.begin
    ]
    end = request.end or 0.0
    if ledger.redis is None:
        attempts = [min(attempts, key=lambda each: each.begin)]
    hidden_s = 0.0
    for each in attempts:
        assert each.process is not None
        host, until = each.process.host, end if ledger.redis is None else each.end or end
        asleep_s = sum(s for at, s in host.suspensions if each.begin <= at <= until)
        back_s = sum(max(0.0, -s) for at, s in host.steps if each.begin <= at <= until)
        hidden_s += min(asleep_s, back_s)
    return hidden_s


def no_key_is_in_use_by_nobody(ledger: Ledger) -> Iterator[str]:
    """A key is "in use" only while a request with the key is under way.

    Exceptions: the lease of a request whose process was killed on another host, or that could not
    reach the storage at its end. Such a lease ends 30 s after the request began, by the clock of
    the storage. The clock of a host's file stands still while the host is suspended, and the clock
    of Redis may be set back.
    """
    is_in_file = not ledger.plan.setting.redis
    is_cut_off = ledger.has_redis_faults or bool(ledger.faults & FILE_FAULTS)

    def holds(other: Request, request: Request) -> bool:
        if other.process is None or other.begin > (request.end or 0.0):
            return False
        here = request.process.host if request.process else None
        lease_began_at = request.begin - LEASE_S - ledger.redis_back_s
        if is_in_file:
            lease_began_at -= other.process.host.asleep_s
        if other.end is None and other.process.dead and other.process.host is here:
            return other.process.died_at > request.begin
        if other.end is None:
            return not other.process.dead or other.process.died_at > lease_began_at
        return other.end > request.begin - 2 or (is_cut_off and other.begin > lease_began_at)

    for request in ledger.requests:
        if request.outcome == "idempotency-key-in-use":
            others = [each for each in ledger.requests if each.own_key == request.own_key]
            if not any(holds(each, request) for each in others if each is not request):
                yield f"r{request.id} was told that {request.key} is in use"


def every_key_settles(ledger: Ledger) -> Iterator[str]:
    """After the faults have ended, each key gets a final outcome.

    Exception: a key whose record cannot be read, until the storage drops the record.
    """
    keys = {each.own_key for each in ledger.requests if each.is_final and each.own_key}
    for key in sorted(keys):
        final = [each for each in ledger.requests if each.is_final and each.own_key == key]
        outcomes = {each.outcome for each in final}
        if "garbage" in ledger.faults and outcomes == {"idempotency-unavailable"}:
            continue
        if not outcomes & FINAL:
            yield f"{key} has the outcome {final[-1].outcome}"


# What a caller is told


def executed_no_means_no_effect(ledger: Ledger) -> Iterator[str]:
    """`executed: no` is never said of a request that had an effect, however late.

    Exception: the way sends an update twice, and Ecwid executes the second update alone.
    """
    for request in ledger.requests:
        effects = [
            effect
            for effect in ledger.effects.get(request.id, ())
            if effect not in ledger.network.doubled
        ]
        if request.executed == "no" and effects:
            effect = effects[0]
            yield f"r{request.id} {request.outcome} says no, and {effect.kind} {effect.customer_id}"


def no_404_after_the_own_deletion(ledger: Ledger) -> Iterator[str]:
    """A request that has deleted the customer is not told that there is no such customer.

    Exception: a proxy that sends a 404 in HTML.
    """
    setting = ledger.plan.setting
    for request in ledger.requests:
        is_told = request.operation == "delete" and request.outcome == "customer-not-found"
        if is_told and request.id in ledger.effects and "404-html" not in setting.fates:
            yield f"r{request.id} has deleted the customer, and was told 404"


def only_our_errors_come_out(ledger: Ledger) -> Iterator[str]:
    """A request ends with a result or with an `EcwidError`."""
    for request in ledger.requests:
        if request.error is not None and not isinstance(request.error, EcwidError):
            yield f"r{request.id} ended with {type(request.error).__name__}"


def ok_means_that_it_happened(ledger: Ledger) -> Iterator[str]:
    """An update or a deletion that is told `ok` has happened.

    Exception: a repeated deletion whose reply is a 404, because an earlier attempt may have deleted
    the customer.
    """
    for request in ledger.requests:
        if request.outcome != "ok" or request.id in ledger.effects:
            continue
        sent = [each for each in ledger.network.sent if each.request == request.id]
        is_repeated = sum(each.operation == "delete" for each in sent) > 1
        if request.operation == "update" or (request.operation == "delete" and not is_repeated):
            yield f"r{request.id} {request.operation} was told ok without an effect"


def a_read_shows_its_own_customer(ledger: Ledger) -> Iterator[str]:
    """A read shows a version of the customer that was asked for."""
    for request in ledger.requests:
        if request.operation == "get" and request.outcome == "ok":
            assert isinstance(request.target, int)
            customer = ledger.shop(request).customers[ledger.targets[request.target]]
            if all(version.tag != request.value for version in customer.versions):
                yield f"r{request.id} shows {request.value}"


def a_key_that_is_done_sends_no_call(ledger: Ledger) -> Iterator[str]:
    """A request whose key is done repeats the outcome without a call.

    The rule is checked where the storage has not failed, and where no request was suspended so
    long that another request took over the key.
    """
    if ledger.has_redis_faults or ledger.has_lost_records:
        return
    if ledger.faults & {*FILE_FAULTS, "file-lost", "suspend", "redis-clock"}:
        return
    done: dict[object, Request] = {}
    for request in sorted(ledger.requests, key=lambda each: each.end or float("inf")):
        is_final = request.outcome == "ok" or (
            request.outcome == "email-taken" and request.executed == "no"
        )
        if request.key and request.end is not None and is_final:
            done.setdefault(request.own_key, request)
    calls = {each.request for each in ledger.network.sent if each.operation in ("add", "search")}
    for request in ledger.requests:
        first = done.get(request.own_key)
        if first and request.begin > (first.end or 0.0) and request.id in calls:
            yield f"r{request.id} has sent a call, and r{first.id} had ended {request.key}"


def keys_are_available_while_the_storage_is(ledger: Ledger) -> Iterator[str]:
    """A key is unavailable only if the storage fails."""
    if ledger.has_redis_faults or ledger.faults & FILE_FAULTS:
        return
    for request in ledger.requests:
        if request.outcome == "idempotency-unavailable":
            yield f"r{request.id} was told that keys are unavailable"


def no_request_outlives_its_deadline(ledger: Ledger) -> Iterator[str]:
    """A request ends within its deadline and 0.5 s, while its host is awake.

    Exception: the last change of a slow or locked file waits for the lock.
    """
    most_s = DEADLINE_S + 0.5
    if ledger.faults & FILE_FAULTS:
        most_s += _BUSY_S + FILE_S
    for request in ledger.requests:
        if request.operation not in BULK and request.end is not None:
            took_s = request.end - request.begin - request.asleep_s
            if took_s > most_s:
                yield f"r{request.id} {request.operation} took {took_s:.1f} s"


def reads_see_the_writes_before(ledger: Ledger) -> Iterator[str]:
    """A read shows no older version than the last write that had ended before the read began.

    Exceptions: after a failover to older data. Without Redis, another process of the host knows of
    the write after a second, and another host never does. Without a cached response, a read may
    share a call that began up to half a second before. After a write whose process could not
    reach Redis, the other processes show older responses until the writer's host reaches Redis with
    a later request. Without Redis, the same holds for the host's file and the writer's process.
    These exceptions end with the time to live of a cached response.
    """
    setting = ledger.plan.setting
    is_own = bool(setting.cache_ttl_s) and not setting.redis
    if "redis-failover" in ledger.faults:
        return
    writers: dict[tuple[str, int | str, str], Request] = {}
    for request in ledger.requests:
        if request.operation == "update":
            writers[request.store, request.target, request.tag] = request
        elif request.operation == "delete" and request.id in ledger.effects:
            writers[request.store, request.target, GONE] = request
    for request in ledger.requests:
        if request.operation != "get" or request.outcome not in ("ok", "customer-not-found"):
            continue
        assert isinstance(request.target, int)
        versions = ledger.shop(request).customers[ledger.targets[request.target]].versions
        seen = request.value if request.outcome == "ok" else GONE
        tags = [version.tag for version in versions]
        if seen not in tags:
            continue  # A 404 in HTML shows no version.
        last = len(tags) - 1 - tags[::-1].index(str(seen))
        for version in versions[last + 1 :]:
            writer = writers.get((request.store, request.target, version.tag))
            if writer is None or writer.end is None or writer.end < version.time:
                continue
            if writer.end >= request.begin:
                continue
            age_s = request.begin - writer.end
            is_other = writer.process is not request.process
            has_expired = age_s > setting.cache_ttl_s + 1 and not (
                ledger.faults & {"step", "redis-clock"}
            )
            is_told = (_is_known if is_own else _is_delivered)(ledger, writer, request)
            if is_other and (
                (age_s < JOINED_S and _shares_a_call(ledger, request, writer.end))
                or not (is_told or has_expired)
            ):
                continue
            yield f"r{request.id} shows {seen}, and r{writer.id} ended {age_s:.2f} s before"
            break


def _shares_a_call(ledger: Ledger, request: Request, since: float) -> bool:
    """Return whether a read may share the call of another read that began before a moment."""
    if ledger.plan.setting.cache_ttl_s and not _lacks_storage(ledger, request):
        return False
    return any(
        other.operation == "get"
        and other.process is request.process
        and (other.store, other.target) == (request.store, request.target)
        and other.begin < since
        and (other.end is None or other.end >= request.begin)
        for other in ledger.requests
        if other is not request
    )


def _lacks_storage(ledger: Ledger, request: Request) -> bool:
    """Return whether the process of a request may not know the generation at times."""
    if ledger.redis is not None:
        return ledger.has_redis_faults
    assert request.process is not None
    return any(process is request.process for _, process in request.process.host.file.failures)


def _is_known(ledger: Ledger, writer: Request, request: Request) -> bool:
    """Return whether a read without Redis has to know of a write of another process."""
    process, begin, end = writer.process, writer.begin, writer.end
    assert process is not None
    assert request.process is not None
    assert end is not None
    if process.host is not request.process.host or request.begin - end <= KNOWN_S:
        return False
    if not _fails_file(process, begin, end):
        return True
    if ledger.plan.setting.pairs:
        return False  # A store that is closed meanwhile owes nothing any more.
    return any(
        other.process is process
        and other.begin > end + DELIVERED_S
        and other.end is not None
        and other.end < request.begin - KNOWN_S
        and not _fails_file(process, other.begin, other.end)
        for other in ledger.requests
    )


def _fails_file(process: Process, begin: float, end: float) -> bool:
    """Return whether a process could not use the file of its host at a time between two."""
    failures = process.host.file.failures
    return any(failed is process and begin <= at <= end for at, failed in failures)


def _is_delivered(ledger: Ledger, writer: Request, request: Request) -> bool:
    """Return whether the cached responses in Redis have to be newer than a write for a read."""
    if not ledger.has_redis_faults or not ledger.plan.setting.cache_ttl_s:
        return True
    assert writer.process is not None
    assert writer.end is not None
    if writer.process.dead and ledger.faults & {*FILE_FAULTS, "file-lost"}:
        return False  # The process could leave no mark for the others.
    since = max(writer.end, ledger.faults_ended_at) + DELIVERED_S
    host = writer.process.host
    return any(
        other.process is not None
        and other.process.host is host
        and other.begin > since
        and (other.end or request.begin) < request.begin
        for other in ledger.requests
    )


# Calls


def no_minute_has_too_many_calls(ledger: Ledger) -> Iterator[str]:
    """In each minute of true time, at most the configured calls leave for a token.

    All mounts, processes and hosts count together. While the settings change process by process,
    the greatest limit counts.
    Exceptions: Redis fails over to older data. The clock of Redis is set forward. The host's file
    fails. Within the minute, Redis has lost the count, and the first call comes from a process that
    had no reply to a count of the last minute when it asked Redis. There are more hosts than the
    settings name, and a call of the minute came from a host that Redis did not know yet, or that
    had got no reply of Redis since the last host came. A process knows of a reply to another
    process after a second, if that process lives and their file works.
    """
    if ledger.faults & {"redis-failover", "file-gone", "file-lost", "garbage"}:
        return
    if ledger.redis_forward_s:
        return
    for token in sorted({sent.token for sent in ledger.network.sent}):
        calls = [sent for sent in ledger.network.sent if sent.token == token]
        first = 0
        for index, sent in enumerate(calls):
            while sent.time - calls[first].time >= MINUTE_S:
                first += 1
            minute = calls[first : index + 1]
            limit = _limit_within(ledger, minute[0].time, sent.time)
            if len(minute) > limit and not _is_uncountable(ledger, minute):
                yield f"{len(minute)} calls in the minute before {sent.time:.2f} instead of {limit}"
                break


def _limit_within(ledger: Ledger, begin: float, end: float) -> int:
    """Return the greatest limit of the processes that lived within a time."""
    setting = ledger.plan.setting
    if "limit-changed" not in ledger.faults:
        return setting.calls_per_minute
    return max(
        process.limit
        for process in ledger.processes
        if process.started_at <= end and (not process.dead or process.died_at >= begin)
    )


def bulk_work_takes_half_of_the_limit(ledger: Ledger) -> Iterator[str]:
    """In each minute, readings of all customers send at most half of the configured calls.

    The other half is left for requests. So a request is told that no call remains only if other
    requests have made as many calls.
    Exceptions: repetitions of a call count for the other half. Each reading may send one call that
    was counted a minute before, because the reading then waited for the rate limit or for a pause.
    The exceptions of the rate limit hold as well.
    """
    setting = ledger.plan.setting
    if "bulk" not in ledger.faults or ledger.faults & {"redis-failover", "redis-clock"}:
        return
    if ledger.faults & {"redis-emptied", "redis-evicted", "file-lost", "garbage", *FILE_FAULTS}:
        return
    readings = {each.id for each in ledger.requests if each.operation in BULK}
    before: dict[int, object] = {}
    bulk: list[float] = []
    others: list[float] = []
    for sent in ledger.network.sent:
        is_bulk = sent.request in readings and sent.operation != "neutral"
        if is_bulk and before.get(sent.request) != sent.question:
            bulk.append(sent.time)
        else:
            others.append(sent.time)
        if is_bulk:
            before[sent.request] = sent.question
    for index, time in enumerate(bulk):
        count = sum(time - each < MINUTE_S for each in bulk[: index + 1])
        half = _limit_within(ledger, time - MINUTE_S, time) // 2
        if count > half + len(readings):
            yield f"{count} calls of bulk work in the minute before {time:.2f} instead of {half}"
            break
    if ledger.has_redis_faults or ledger.has_uncounted_calls or "limit-changed" in ledger.faults:
        return
    # A host does not have the parts of the reserve that belong to the other hosts.
    reserve = setting.calls_per_minute // 4 if setting.redis else 0
    left = setting.calls_per_minute - setting.calls_per_minute // 2 - len(readings)
    left -= reserve - reserve // len(setting.ahead_s)
    for request in ledger.requests:
        if request.outcome == "budget-spent" and request.operation not in BULK:
            count = sum(request.begin - COUNTED_S < each <= (request.end or 0) for each in others)
            if count < left:
                yield f"r{request.id} was refused, and requests had made {count} calls of {left}"
                break


def _is_uncountable(ledger: Ledger, minute: list[Sent]) -> bool:
    """Return whether no process could know of all calls of a minute."""
    if ledger.redis is None:
        return False
    return _is_begun_anew(ledger.redis, minute) or _has_unknown_hosts(ledger, minute)


def _is_begun_anew(redis: RedisServer, minute: list[Sent]) -> bool:
    """Return whether a process that knew of no count used a Redis first that has lost the count."""
    begin, end = minute[0].time - SENDING_S, minute[-1].time
    return any(
        begin < at <= end
        and not any(
            (other, its) == (process, window) and counted_at > at - MINUTE_S and came_at < asked_at
            for counted_at, came_at, other, its in redis.told
        )
        for at, asked_at, process, window in redis.begun_anew
    )


def _has_unknown_hosts(ledger: Ledger, minute: list[Sent]) -> bool:
    """Return whether a call came from a host that did not know of another, or was not known."""
    redis = ledger.redis
    if not ledger.plan.setting.known_hosts or redis is None:
        return False
    first: dict[str, float] = {}
    for at, process, _ in redis.counted:
        first.setdefault(process.host.name, at)
    for sent in minute:
        host = sent.process.host.name
        # A reply that was lost tells the process of no host.
        told = [
            at
            for at, came_at, process, _ in redis.told
            if (process is sent.process and came_at <= sent.time)
            or (process.host is sent.process.host and _is_kept(ledger, process, came_at, sent))
        ]
        known_at = max(told, default=-1.0)
        came = [at for name, at in first.items() if name != host]
        if first.get(host, sent.time) >= sent.time or any(
            known_at < at <= sent.time for at in came
        ):
            return True
    return False


def _is_kept(ledger: Ledger, process: Process, came_at: float, sent: Sent) -> bool:
    """Return whether the file told the sender of a reply that another process of its host got."""
    end = min(sent.time, process.died_at) if process.dead else sent.time
    return came_at + SENDING_S <= end and not ledger.faults & FILE_FAULTS


def no_call_during_a_pause(ledger: Ledger) -> Iterator[str]:
    """After a reply that asks for a pause, no call leaves before the pause is over.

    The mount that heard the reply stops at once, and the others within a second.
    Exceptions: calls that were admitted before, and searches for the customer of a creation. A
    pause that a slow Redis or a slow file tells ends earlier by the time of the trip. Without
    Redis, only the host that heard the reply stops. Only the mount stops if the storage failed, if
    a host was suspended, or if the process was killed before it could tell the others. A pause that
    the storage has lost, or that a Redis with a clock set forward keeps, may end early everywhere.
    A pause for a refusal ends as soon as Ecwid accepts a later neutral question.
    """
    if ledger.has_lost_pauses or ledger.redis_forward_s:
        return
    early_s = 0.05 + (TRIP_S if ledger.has_redis_faults else 0.0)
    early_s += FILE_S if ledger.faults & FILE_FAULTS else 0.0
    is_shared = not (
        ledger.has_redis_faults
        or ledger.faults & {"suspend", "two-tokens", *FILE_FAULTS}
        or ledger.has_separate_hosts
    )
    for heard in ledger.network.heard:
        for sent in ledger.network.sent:
            if sent.time > heard.time + heard.seconds - early_s:
                break
            if sent.token != heard.token or sent.operation == "search":
                continue
            same = (sent.process, sent.mount) == (heard.process, heard.mount)
            grace_s = _admitted_s(ledger) if same else 2 * ADMITTED_S
            has_told = not heard.process.dead or heard.process.died_at > heard.time + 1
            if heard.probed and _is_accepted(ledger, heard, sent):
                break
            if sent.time > heard.time + grace_s and (same or (is_shared and has_told)):
                yield (
                    f"{heard.seconds:g} s were asked for at {heard.time:.2f}, and r{sent.request}"
                    f" left at {sent.time:.2f}"
                )
                return


def _is_accepted(ledger: Ledger, heard: Heard, sent: Sent) -> bool:
    """Return whether Ecwid has accepted a neutral question after a refusal and before a call."""
    return any(
        heard.time < at < sent.time and token == heard.token
        for at, token in ledger.network.accepted
    )


def _admitted_s(ledger: Ledger) -> float:
    """Return how long before its sending a call may have passed breaker and pause."""
    return COUNTED_FILE_S if ledger.faults & FILE_FAULTS else ADMITTED_S


def one_probe_after_a_pause(ledger: Ledger) -> Iterator[str]:
    """After a pause for a refusal, one call goes first, and the others wait for its reply.

    The rule is checked where one refusal of 402 or 403 goes on and all processes share the pause.
    """
    refusals = [each for each in ledger.plan.events if each["do"] == "refuse"]
    if len(refusals) != 1 or refusals[0]["refusal"] not in ("402", "403", "403-token"):
        return
    if ledger.has_redis_faults or ledger.has_lost_pauses or ledger.has_separate_hosts:
        return
    if ledger.faults & {"suspend", "evil", "reload", "kill", "two-tokens", *FILE_FAULTS}:
        return
    if ledger.faults & {"redis-clock", "limit-changed"}:
        return
    heard: dict[str, float] = {}
    for each in ledger.network.heard:
        if each.probed:
            heard.setdefault(each.token, each.time)
    for token, heard_at in heard.items():
        # The way may double a call, which then has left once.
        late = sorted(
            {
                each.sent_at
                for each in ledger.ecwid.bad_calls
                if each.token == token and not each.is_search and each.sent_at > heard_at + 1
            }
        )
        for first, second in pairwise(late):
            if second - first < 25:
                yield f"probes left at {first:.2f} and {second:.2f}"
                return


def the_breaker_stops_calls(ledger: Ledger) -> Iterator[str]:
    """After five failures in a row, a mount asks the neutral question before it sends a call.

    If the neutral question fails, the mount sends no call for 10 s, and then asks again.
    Exceptions: searches for the customer of a creation, and calls that were admitted before.
    """
    admitted_s = _admitted_s(ledger)
    for time, request, after_s in ledger.breaker_breaches:
        if after_s > admitted_s:
            yield f"r{request} called at {time:.2f} in spite of five failures in a row"
            return


def the_breaker_opens_after_five_failures(ledger: Ledger) -> Iterator[str]:
    """A request is held back by the breaker only after five failures in a row of its process."""
    for request in ledger.requests:
        error, process = request.error, request.process
        if process is None or not isinstance(error, Throttled) or error.detail != OPEN:
            continue
        if not _may_be_open(ledger, request, process.name):
            yield f"r{request.id} was held back by the breaker without five failures"


def _may_be_open(ledger: Ledger, request: Request, process: str) -> bool:
    """Return whether the breaker of the request's token may be open, or that of connections."""
    end = request.end or 0.0
    doubts = ledger.doubts
    return any(
        at <= end
        for (name, token), times in doubts.items()
        if name == process and token in ("", request.token)
        for at in times
    )


def a_call_is_repeated_a_few_times(ledger: Ledger) -> Iterator[str]:
    """A request sends a read three times at most, and a change twice.

    It searches three times at most before a creation, and three times after its failure.
    """
    counts: dict[tuple[int, str], int] = {}
    for sent in ledger.network.sent:
        if sent.operation in ATTEMPTS:
            attempt = sent.request, sent.operation
            counts[attempt] = counts.get(attempt, 0) + 1
    readings = {each.id for each in ledger.requests if each.operation in BULK}
    for (request, operation), count in counts.items():
        if count > ATTEMPTS[operation] and request not in readings:
            yield f"r{request} has sent {operation} {count} times"


def no_change_leaves_late(ledger: Ledger) -> Iterator[str]:
    """No change leaves after its deadline, also if the host was suspended meanwhile.

    Exception: a wall clock that is set, because only that clock shows how long a host sleeps.
    """
    if "step" in ledger.faults:
        return
    begun = {each.id: each.begin for each in ledger.requests}
    for sent in ledger.network.sent:
        if sent.operation in ("add", "update", "delete"):
            late_s = sent.time - begun[sent.request] - DEADLINE_S
            if late_s > 0.01:
                yield f"r{sent.request} sent {sent.operation} {late_s:.1f} s after the deadline"


def refused_tokens_get_few_calls(ledger: Ledger) -> Iterator[str]:
    """Ecwid never blocks a token because of more than 20 bad calls in a minute.

    Exceptions: calls that were under way when the first refusal came, searches for the customers of
    creations, and calls before a mount has heard `SUSPICIONS` refusals, because a reply may be lost
    or may not name the token. The other mounts learn of it from the neutral question, or from a
    refusal that names the token. If the storage fails, or hosts share none, each mount has to hear
    as many refusals itself.
    """
    is_shared = not (
        ledger.has_redis_faults or ledger.faults & FILE_FAULTS or ledger.has_separate_hosts
    )
    senders = {
        (sent.time, sent.token): (sent.process.name, sent.mount)
        for sent in ledger.network.sent
        if sent.operation != "search"
    }
    for time, token in ledger.ecwid.blocks:
        heard: Counter[tuple[str, int]] = Counter()
        known_at: dict[tuple[str, int] | None, float] = {}  # None stands for all mounts
        for refusal in ledger.network.refused:
            if ledger.plan.setting.pairs and refusal.token != token:
                continue  # Each of many stores counts for itself.
            name = refusal.process.name, refusal.mount
            heard[name] += 1
            if refusal.token == token and heard[name] >= SUSPICIONS:
                known_at.setdefault(name, refusal.time)
                if is_shared and refusal.is_clear:
                    known_at.setdefault(None, refusal.time)
        late: Counter[tuple[str, int] | None] = Counter()
        for each in ledger.ecwid.bad_calls:
            mount = senders.get((each.sent_at, token))
            if mount is None:
                continue
            since = min(known_at.get(mount, time), known_at.get(None, time)) + 1
            if each.token == token and since < each.sent_at <= time < each.sent_at + 60:
                late[None if is_shared else mount] += 1
        if late and max(late.values()) > 5:
            count = max(late.values())
            yield f"Ecwid has blocked {token} at {time:.2f}, {count} bad calls after the refusal"


def no_search_with_a_refused_token(ledger: Ledger) -> Iterator[str]:
    """A request that has heard that the token or the store is refused sends no search.

    A request that has not heard the refusal sends its searches in spite of the pause, because only
    a search can find out whether its customer was created.
    """
    for heard in ledger.network.heard:
        if not heard.probed:
            continue
        for sent in ledger.network.sent:
            if (
                sent.operation == "search"
                and (sent.process, sent.request) == (heard.process, heard.request)
                and heard.time < sent.time < heard.time + heard.seconds - 0.05
            ):
                yield f"r{sent.request} searches at {sent.time:.2f}, refused at {heard.time:.2f}"
                return


def repeated_calls_stay_in_their_budget(ledger: Ledger) -> Iterator[str]:
    """The repeated calls of a mount cost no more than 50 and its first attempts that succeeded.

    A repetition costs 5, 10 after a timeout, and 1 after the loss of a kept connection.
    """
    for process, debt in ledger.retry_debts:
        yield f"{process} has repeated calls for {debt} more than its budget"


def no_pause_is_longer_than_asked(ledger: Ledger) -> Iterator[str]:
    """No caller is told to wait longer than the longest pause that Ecwid asked for.

    Exceptions: the clock of Redis was set back, by that time. A reading of all customers waits
    itself. The refused token of one of many stores waits longer after each refusal in a row.
    """
    for request in ledger.requests:
        error = request.error if request.operation not in BULK else None
        wait_s = (error.retry_after_s or 0) if isinstance(error, Throttled) else 0
        if wait_s > _longest_pause_s(ledger, request) + 1 + ledger.redis_back_s:
            yield f"r{request.id} was told to wait {wait_s} s"


def _longest_pause_s(ledger: Ledger, request: Request) -> float:
    """Return the longest pause that Ecwid's replies to the token of a request can have begun."""
    if not ledger.plan.setting.pairs:
        return LONGEST_PAUSE_S
    times = [each.time for each in ledger.network.refused if each.token == request.token]
    # Calls that were under way at the first refusal may be refused as well.
    in_a_row = sum(each - before > 1 for before, each in pairwise(times)) + bool(times)
    return REFUSED_S[min(in_a_row, len(REFUSED_S) - 1)]


def nobody_waits_for_the_token_of_others(ledger: Ledger) -> Iterator[str]:
    """A refused token holds back only the calls with that token."""
    refused = {each["token"] for each in ledger.plan.events if each["do"] == "refuse"}
    if "two-tokens" not in ledger.faults or "*" in refused or _has_other_reasons(ledger):
        return
    for request in ledger.requests:
        if request.outcome == "throttled" and request.process is not None:
            token = ledger.plan.setting.tokens[request.slot]
            is_asked_for = _is_asked_for(ledger, request, token)
            if not is_asked_for and token not in refused and "evil" not in ledger.faults:
                yield f"r{request.id} was held back for another token"
                return


def nobody_waits_for_the_question_of_others(ledger: Ledger) -> Iterator[str]:
    """A question that something in front of Ecwid refuses holds back no other request.

    Exception: Ecwid itself has asked for a pause.
    """
    if "evil" not in ledger.faults or _has_other_reasons(ledger):
        return
    if ledger.faults & {"refusal", "refused", "brief"}:
        return
    for request in ledger.requests:
        if request.outcome != "throttled" or request.operation == "search":
            continue
        if not _is_asked_for(ledger, request, ledger.plan.setting.tokens[request.slot]):
            yield f"r{request.id} was held back for a question"
            return


def _is_asked_for(ledger: Ledger, request: Request, token: str) -> bool:
    """Return whether Ecwid has asked for a pause of the token that holds the request back."""
    return any(
        each.token == token and each.time < request.begin < each.time + each.seconds + 1
        for each in ledger.network.heard
    )


def _has_other_reasons(ledger: Ledger) -> bool:
    """Return whether a call may be held back for other reasons, such as the breaker."""
    others = {"fates", "outage", "slow", "suspend", "step", "foreign", "garbage", *FILE_FAULTS}
    return bool(ledger.faults & others)


# Many stores


def no_store_shows_another(ledger: Ledger) -> Iterator[str]:
    """A response shows nothing of another store, although ids, e-mails and keys are equal."""
    shops = ledger.ecwid.shops.values()
    for request in ledger.requests:
        if request.outcome != "ok":
            continue
        for shop in shops:
            if shop.id == request.store:
                continue
            is_seen = request.operation == "create" and request.value in shop.customers
            if request.operation == "get":
                assert isinstance(request.target, int)
                versions = shop.customers[ledger.targets[request.target]].versions
                is_seen = any(each.tag == request.value for each in versions)
            if is_seen:
                yield f"r{request.id} of store {request.store} shows {request.value} of {shop.id}"


def an_invented_token_gets_nothing(ledger: Ledger) -> Iterator[str]:
    """A request whose token Ecwid has not accepted gets nothing but a failure of its own.

    So the request shows no customer, and does not tell whether a customer or a key exists.
    """
    if not ledger.plan.setting.pairs:
        return
    for request in ledger.requests:
        accepted_at = ledger.ecwid.accepted.get(request.token, float("inf"))
        # A proxy may send a 404 in HTML in the name of Ecwid.
        is_told = request.outcome in TELLING and getattr(request.error, "by_ecwid", True)
        if is_told and accepted_at > (request.end or 0.0):
            yield f"r{request.id} was told {request.outcome}, and Ecwid never accepted its token"


def few_unproven_tokens_are_refused(ledger: Ledger) -> Iterator[str]:
    """In each minute, Ecwid refuses few calls with tokens that it has never accepted.

    All processes of a host count together, or all hosts with one Redis.
    Exceptions: the storage has lost the refusals of the last minute, or the clock of Redis was set
    forward. There are more hosts than the settings name. While a process cannot use the storage,
    the process has its part of the places in memory.
    """
    setting = ledger.plan.setting
    if not setting.pairs or ledger.has_lost_places or ledger.redis_forward_s:
        return
    most = setting.refusals_most
    if ledger.has_missed_proofs:
        most_workers = max(map(setting.processes.count, setting.processes))
        hosts = len(setting.ahead_s) if setting.redis else 1
        most += len(ledger.processes) * max(1, most // (most_workers * hosts))
    accepted = ledger.ecwid.accepted
    # The way may double a call, which then has left once.
    bad = {
        (each.sent_at, each.token, "" if setting.redis else each.host)
        for each in ledger.ecwid.bad_calls
        if each.sent_at < accepted.get(each.token, float("inf"))
    }
    for host in sorted({host for *_, host in bad}):
        times = sorted(at for at, _, its in bad if its == host)
        for index, time in enumerate(times):
            count = sum(time - MINUTE_S < each for each in times[: index + 1])
            if count > most:
                yield f"{count} unproven tokens were refused in the minute before {time:.2f}"
                break


def nobody_waits_for_another_store(ledger: Ledger) -> Iterator[str]:
    """A request is held back only for what happened to the token of its own store.

    Exceptions: all stores share the breaker for connections. Tokens that Ecwid has not accepted
    share a few places, and a process has to know that a token was accepted.
    """
    if not ledger.plan.setting.pairs:
        return
    for request in ledger.requests:
        if request.outcome not in ("throttled", "budget-spent") or request.process is None:
            continue
        error, end = request.error, request.end or 0.0
        detail = error.detail if isinstance(error, EcwidError) else ""
        token = request.token
        if request.outcome == "budget-spent":
            since = request.begin - COUNTED_S
            tried = [at for at, its in ledger.network.tried if its == token and since < at <= end]
            may_wait = len(tried) >= LEAST_SHARE or ledger.has_uncertain_counts
        elif detail.startswith(AFTER_FAILURE):
            own = [(each.time, each.token) for each in ledger.network.heard]
            own += [(each.time, each.token) for each in ledger.network.refused]
            may_wait = any(at <= end and its == token for at, its in own)
        elif detail in (OPEN, *IN_DOUBT):
            may_wait = _may_be_open(ledger, request, request.process.name)
            may_wait |= any(each.token == token for each in ledger.network.refused)
        elif detail == trials._DETAIL or detail == UNPROVEN:
            may_wait = not _is_known_to_be_accepted(ledger, request)
        else:
            continue
        if not may_wait:
            yield f"r{request.id} was held back: {detail or request.outcome}"


def _is_known_to_be_accepted(ledger: Ledger, request: Request) -> bool:
    """Return whether the process of a request has to know that Ecwid has accepted its token."""
    if ledger.has_missed_proofs or any(
        each.token == request.token and each.time <= (request.end or 0.0)
        for each in ledger.network.refused
    ):
        return False
    return any(
        other.outcome == "ok"
        and other.token == request.token
        and other.end is not None
        and other.end + 0.2 < request.begin
        and other.process is not None
        and request.process is not None
        and (other.process.host is request.process.host or ledger.plan.setting.redis)
        for other in ledger.requests
    )


# Redis


def redis_takes_little_time(ledger: Ledger) -> Iterator[str]:
    """A request waits for Redis for 0.3 s in all."""
    readings = {each.id for each in ledger.requests if each.operation in BULK}
    waited_s = ledger.redis.waited_s if ledger.redis else {}
    for request, seconds in waited_s.items():
        if seconds > REDIS_S + 0.02 and request not in readings:
            yield f"r{request} has waited for Redis for {seconds:.2f} s"


def redis_rests_after_a_failure(ledger: Ledger) -> Iterator[str]:
    """A process whose trip to Redis took too long sends Redis no command for 5 s.

    Exceptions: trips under way, and the outcome of an idempotency key.
    """
    if ledger.redis is None or "mounts" in ledger.faults:
        return  # Each mount has its own connections.
    for failed_at, failed in ledger.redis.timeouts:
        for time, process, what in ledger.redis.asked:
            is_record = " record" in what
            if process is failed and failed_at + TRIP_S < time < failed_at + 4.9 and not is_record:
                yield f"{process.name} asked Redis at {time:.2f}, and failed at {failed_at:.2f}"
                return


# Lists


def an_export_yields_each_customer_once(ledger: Ledger) -> Iterator[str]:
    """A reading of all customers ends, and yields each customer exactly once.

    Exceptions: the process is asked to end. A customer who is deleted meanwhile, or whom the search
    did not show yet when the second pass began. More deletions between two pages than half a page,
    where a second has more customers than a page.
    """
    for request in ledger.requests:
        if request.operation != "export" or request.process is None or request.process.stopping:
            continue
        if request.outcome != "ok":
            yield f"the reading ended with {request.outcome}"
            return
        ids = request.exported
        if len(set(ids)) < len(ids):
            yield "a customer came twice"
        sent = [each for each in ledger.network.sent if each.request == request.id]
        second = [each.time for each in sent if each.operation == "list-updated"]
        known_at = min(second or [each.time for each in sent][-1:], default=request.begin)
        missing = [
            each.id
            for each in ledger.shop(request).customers.values()
            if each.visible_at <= known_at
            and (each.gone_at is None or each.gone_at > (request.end or 0))
            and each.id not in ids
        ]
        if missing and not _too_many_deletions(ledger, request):
            yield f"{missing} did not come"


def a_feed_yields_each_change_once(ledger: Ledger) -> Iterator[str]:
    """A feed that is read several times yields each change exactly once, deletions too.

    No change of a customer comes after the deletion. The last version of each customer comes, but
    not each version before.
    Exceptions: the process is asked to end. A change that Ecwid did not show yet when the last
    reading began, and other updates of the same second, because a second with more updates than a
    page is read by offset. A deletion that was listed before the first reading.
    """
    for request in ledger.requests:
        if request.operation != "follow" or request.process is None or request.process.stopping:
            continue
        if request.outcome != "ok":
            yield f"the feed ended with {request.outcome}"
            return
        if len(set(request.followed)) < len(request.followed):
            yield "a change came twice"
        last: dict[int, str] = {}
        for id, tag in request.followed:
            if last.get(id) == GONE:
                yield f"{id} was deleted, and came again"
            last[id] = tag
        customers = ledger.shop(request).customers.values()
        late = {each.updated for each in customers if each.visible_at > request.last_reading_at}
        for customer in customers:
            wanted = customer.versions[-1]
            shown_at = max(wanted.time, customer.visible_at)
            if customer.gone_at is not None:
                shown_at = customer.listed_at or 0.0
                if customer.gone_at < request.begin:
                    continue
            elif customer.updated in late:
                continue
            if shown_at < request.last_reading_at and last.get(customer.id) != wanted.tag:
                yield f"{customer.id} is {wanted.tag}, and the feed says {last.get(customer.id)}"


def a_mirror_equals_the_store(ledger: Ledger) -> Iterator[str]:
    """After a whole reading that begins late enough, a mirror equals the store.

    Each customer has a row with the last version. A deleted customer has a row without data, or no
    row. A customer whose data violates the contract has a gap, and may have the row of an earlier
    version. There are no other rows and no other gaps.
    """
    mirror = ledger.mirror
    if mirror is None:
        return
    for request in ledger.requests:
        if request.operation == "mirror" and request.is_final and request.outcome != "ok":
            yield f"the last reading ended with {request.outcome}"
            return
    customers = ledger.ecwid.shop(ONLY_STORE).customers
    for customer in customers.values():
        row = mirror.rows.get(customer.id)
        if not _is_true(row, customer):
            yield f"{customer.id} is {customer.versions[-1].tag}, and has the row {row}"
    others = sorted(mirror.rows.keys() - customers.keys())
    if others:
        yield f"there are rows of {others}, and no such customers"
    unfit = {each.id: "unreadable" for each in customers.values() if each.is_unfit}
    if mirror.gaps != unfit:
        yield f"the gaps are {mirror.gaps} instead of {unfit}"


def _is_true(row: Row | None, customer: Customer) -> bool:
    """Return whether the row of a mirror says what the customer is."""
    if customer.gone_at is not None:
        return row is None or (
            row.deleted_at is not None and row == Row(None, None, None, row.deleted_at)
        )
    if customer.is_unfit:
        earlier = [each.tag for each in customer.versions]
        return row is None or (row.deleted_at is None and row.document["taxId"] in earlier)
    return row == Row(customer.email, customer.updated, customer.shown(), None)


def a_mirror_deletes_only_the_deleted(ledger: Ledger) -> Iterator[str]:
    """A row says "deleted" only if the customer was deleted, even if a list misses the customer."""
    for time, id in ledger.buried[:1]:
        yield f"{id} lives, and the mirror of {time:.2f} says that {id} was deleted"


def a_mirror_is_complete_when_it_says_so(ledger: Ledger) -> Iterator[str]:
    """After a complete reading, each customer has the last version from before the reading.

    Exceptions: Ecwid shows the version, or another update of the same second, after the beginning
    of the reading. A customer whose data violates the contract.
    """
    for time, id in ledger.lacking[:1]:
        yield f"the mirror of {time:.2f} is complete, and lacks the last version of {id}"


def _too_many_deletions(ledger: Ledger, request: Request) -> bool:
    """Return whether more than half a page of customers was deleted between two pages.

    A page has five customers. After a page of HTML, pages may have a single customer.
    """
    setting = ledger.plan.setting
    most = 0 if "html" in setting.fates else 1 if setting.short_pages else 2
    customers = ledger.shop(request).customers.values()
    deleted = [each.gone_at for each in customers if each.gone_at]
    if sum(each.operation == "export" for each in ledger.requests) > 1:
        # Equal pages of two readings share a call, so only the whole reading is known.
        pages = [request.begin, request.end or request.begin]
    else:
        sent = [each for each in ledger.network.sent if each.request == request.id]
        pages = [each.time for each in sent if each.operation.startswith("list")]
    return any(
        sum(first <= time <= second + 0.2 for time in deleted) > most
        for first, second in pairwise(pages)
    )


# The service


def service_is_back_after_the_faults(ledger: Ledger) -> Iterator[str]:
    """Within `BACK_S` after the faults have ended, each process serves a read."""
    for slot, name in enumerate(ledger.slots):
        final = [
            each
            for each in ledger.requests
            if each.is_final and each.operation == "get" and each.slot == slot
        ]
        if final and not any(each.outcome in ("ok", "customer-not-found") for each in final):
            yield f"{name} ends with {final[-1].outcome}"


def no_task_waits_for_ever(ledger: Ledger) -> Iterator[str]:
    """At the end, no request of a living process is under way."""
    if ledger.is_endless:
        yield "the history does not end"
    for name in ledger.stuck[:1]:
        yield f"{name} has not ended"


def no_lock_over_a_switch_point(ledger: Ledger) -> Iterator[str]:
    """No thread holds a lock while it waits for the network, the storage or the clock."""
    yield from sorted(set(ledger.world.breaches))


INVARIANTS: tuple[Invariant, ...] = (
    one_key_makes_one_customer,
    the_id_belongs_to_the_key,
    one_key_has_one_body,
    no_409_for_the_own_customer,
    no_key_is_in_use_by_nobody,
    every_key_settles,
    executed_no_means_no_effect,
    no_404_after_the_own_deletion,
    only_our_errors_come_out,
    ok_means_that_it_happened,
    a_read_shows_its_own_customer,
    a_key_that_is_done_sends_no_call,
    keys_are_available_while_the_storage_is,
    no_request_outlives_its_deadline,
    reads_see_the_writes_before,
    no_minute_has_too_many_calls,
    bulk_work_takes_half_of_the_limit,
    no_call_during_a_pause,
    one_probe_after_a_pause,
    the_breaker_stops_calls,
    the_breaker_opens_after_five_failures,
    a_call_is_repeated_a_few_times,
    no_change_leaves_late,
    refused_tokens_get_few_calls,
    no_search_with_a_refused_token,
    repeated_calls_stay_in_their_budget,
    no_pause_is_longer_than_asked,
    nobody_waits_for_the_token_of_others,
    nobody_waits_for_the_question_of_others,
    no_store_shows_another,
    an_invented_token_gets_nothing,
    few_unproven_tokens_are_refused,
    nobody_waits_for_another_store,
    redis_takes_little_time,
    redis_rests_after_a_failure,
    an_export_yields_each_customer_once,
    a_feed_yields_each_change_once,
    a_mirror_equals_the_store,
    a_mirror_deletes_only_the_deleted,
    a_mirror_is_complete_when_it_says_so,
    service_is_back_after_the_faults,
    no_task_waits_for_ever,
    no_lock_over_a_switch_point,
)
