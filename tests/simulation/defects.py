"""Planted defects, each of which a history has to show within `WITHIN` seeds.

    python -m tests.simulation.defects [NAME ...]           make simulate-planted

A defect replaces functions or constants of the real modules. No history breaks a rule without a
defect, so each violation is the defect's.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from flask_ecwid import clock, errors
from flask_ecwid.client import pagination, reconcile, replies, retries, shared_reads
from flask_ecwid.storage import (
    cache_backend,
    memory_state,
    redis_connection,
    redis_state,
    state,
    store_memory,
    window,
    work,
)
from flask_ecwid.throttling import breaker, guard, pause, rate_limit
from flask_ecwid.web import cache, idempotency

from .history import play
from .plan import make
from .world import EPOCH_S, MONOTONIC_S

WITHIN = 2000
STARTS = (0, 100_000)  # Each defect is measured from two seeds.

Make = Callable[[Any], Any]


@dataclass(frozen=True)
class Change:
    """A replaced attribute. `make` makes the new value of the old value."""

    owner: Any
    name: str
    make: Make


def is_now(owner: Any, name: str, value: Any) -> Change:
    return Change(owner, name, lambda _: value)


def _nothing(*_: object, **__: object) -> None:
    """Do nothing."""


# Idempotency keys


def _no_lease(original: Any) -> Any:
    def init(self: Any, *arguments: Any) -> None:
        original(self, *arguments)
        self._lease_s = 0.0

    return init


def _unknown_is_forgotten(original: Any) -> Any:
    def after(own: Any, error: Any, *, tried_before: bool) -> Any:
        return None if error.executed == "unknown" else original(own, error, tried_before=False)

    return after


def _unknown_is_final(original: Any) -> Any:
    def after(own: Any, error: Any, *, tried_before: bool) -> Any:
        found = original(own, error, tried_before=tried_before)
        is_unknown = found is not None and found.state == "unknown"
        return replace(own, state="done", status=409) if is_unknown else found

    return after


def _first_attempt_is_forgotten(original: Any) -> Any:
    def run(self: Any, owner: Any, key: str, body: Any, create: Any) -> Any:
        return original(self, owner, key, body, lambda _: create(None))

    return run


def _settle_over_others(self: Any, name: str, own: Any, outcome: Any, begun: Any) -> None:
    try:
        found = self._state.get(name)
        new = None
        if outcome:
            new = replace(outcome, tried_s=own.tried_s + begun.elapsed_s()).to_json()
        self._state.compare_and_swap(name, found and found.value, new, idempotency.TTL_S)
    except state.StateUnavailable:
        pass


def _same_fingerprint(original: Any) -> Any:
    return lambda self, name, fingerprint: original(self, name, "same")


def _swap_without_comparison(original: Any) -> Any:
    def swap(self: Any, key: str, before: Any, after: Any, ttl_s: float) -> Any:
        found = self.get(key)
        return original(self, key, found and found.value, after, ttl_s)

    return swap


# Calls


def _wait_without_deadline(error: Any, attempts: int, deadline: float) -> bool:
    return clock.sleep(8.0)


def _no_inference_for_deletions(original: Any) -> Any:
    def inferred(self: Any, call: Any, *arguments: Any) -> Any:
        is_deletion = call.operation.name == "delete_customer"
        return None if is_deletion else original(self, call, *arguments)

    return inferred


def _first_with_the_email(sent: Any, page: Any, started_at: float) -> int | None:
    items = page.get("items") or []
    return int(items[0]["id"]) if items else None


def _outcome_of_last_attempt(original: Any) -> Any:
    return lambda call, error, may_have_executed: original(call, error, False)


# Reads and cached responses


def _end_write_without_reads(self: Any) -> None:
    with self._responses.lock:
        self.writes += 1
        self._responses.clear(self._number)


def _forget_only_reads(self: Any) -> None:
    self._memory.get().under_way.clear()


def _set_in_new_generation(self: Any, lookup: Any, document: Any) -> Any:
    response = cache.CachedResponse.from_envelope(document)
    generation, _, _ = self._backend.get(lookup.cache_key)
    self._backend.set(lookup.cache_key, generation, response.to_bytes(), 0.0)
    return response


def _end_write_without_values(self: Any) -> None:
    with self._responses.lock:
        self.writes += 1
    self.under_way.clear()


def _set_in_any_generation(self: Any, key: str, ttl_s: float, _: int, *rest: Any) -> None:
    entry = clock.Moment.seconds_ago(rest[1]), ttl_s, rest[0]
    with self._responses.lock:
        self._responses.set(self._number, (ttl_s, key), entry)


# Throttling


def _begin_only_here(self: Any, error: Any, pause_s: float) -> None:
    self._known = pause.Pause.of(pause_s, probed=error.probed, detail="An earlier call failed.")


def _claim_without_asking(self: Any, known: Any) -> Any:
    return known.again(known.seconds)


def _end_by_any_reply(original: Any) -> Any:
    def record_success(self: Any, permit: Any, *, first: bool) -> None:
        known = self._pause._known
        original(self, replace(permit, pause=known) if known else permit, first=first)

    return record_success


def _search_without_counting(self: Any) -> Any:
    return guard.Permit(clock.Moment.seconds_ago())


def _deliver_once(self: Any) -> bool:
    delivered, writes = self._delivered.get(), self._memory.get().writes
    if delivered.writes < writes:
        delivered.up_to(writes)
        with suppress(redis_connection.RedisUnavailable):
            self._run(cache_backend.INVALIDATE, [], ["word"])
    return True


def _skew_s() -> float:
    return (clock.wall() - EPOCH_S) - (clock.now() - MONOTONIC_S)


def _pause_by_the_wall_clock(original: Any) -> Any:
    def from_stored(cls: Any, stored: Any, asked_at: float) -> Any:
        return original.__func__(cls, stored, asked_at + _skew_s())

    return classmethod(from_stored)


def _age_by_the_wall_clock(original: Any) -> Any:
    def get(self: Any, key: str) -> Any:
        found = original(self, key)
        return found and found._replace(left_s=found.left_s - _skew_s())

    return get


def _epoch_is_ignored(original: Any) -> Any:
    def take(self: Any, second: int, limit: int, host: str, seen: str) -> Any:
        return original(self, second, limit, host, "")

    return take


def _learn_nothing_of_new_hosts(original: Any) -> Any:
    return lambda self, taken: original(self, taken._replace(is_new=False))


def _granted_while_redis_fails(original: Any) -> Any:
    def take(self: Any, key: str, limit: int) -> Any:
        return original(self, key, limit)._replace(granted=True)

    return take


def _each_process_counts_for_itself(self: Any, key: str, limit: int) -> Any:
    return memory_state.process_state().take(key, limit)


def _failed_question_is_no_failure(original: Any) -> Any:
    def record_failure(self: Any, permit: Any, error: Any) -> None:
        original(self, replace(permit, is_probe=False), error)

    return record_failure


def _failed_question_is_neutral(original: Any) -> Any:
    def record_failure(self: Any, permit: Any, error: Any) -> None:
        original(self, replace(permit, is_probe=True), error)

    return record_failure


def _swap_again_without_look(original: Any) -> Any:
    return lambda self, command, again=None: original(self, command)


def _acquire_without_question(original: Any) -> Any:
    return lambda self: False


def _look_under_lock(original: Any) -> Any:
    def read(self: Any) -> Any:
        with self._lock:
            return original(self)

    return read


# The world replaces the functions of the module itself.
_NO_MARKS = SimpleNamespace(own_mark=lambda: "", is_gone=lambda mark: False)

DEFECTS: dict[str, tuple[Change, ...]] = {
    "a lease of 0 s": (Change(idempotency.Idempotency, "__init__", _no_lease),),
    "an unknown outcome leaves no record": (Change(idempotency, "_after", _unknown_is_forgotten),),
    "an unknown outcome is kept as final": (Change(idempotency, "_after", _unknown_is_final),),
    "a takeover does not search first": (
        Change(idempotency.Idempotency, "run", _first_attempt_is_forgotten),
    ),
    "an outcome replaces the record of another request": (
        is_now(idempotency.Idempotency, "_settle", _settle_over_others),
    ),
    "fingerprints are not compared": (
        Change(idempotency.Idempotency, "_begin", _same_fingerprint),
    ),
    "the swap in Redis does not compare": (
        Change(redis_state.RedisState, "compare_and_swap", _swap_without_comparison),
    ),
    "a creation is repeated after a lost connection": (
        is_now(errors.ConnectionLost, "needs_reconciliation", False),
        is_now(errors.ConnectionLost, "retries", errors.Retries(2, 1, 2)),
    ),
    "a creation is repeated after a timeout": (
        is_now(errors.DeadlineExceeded, "needs_reconciliation", False),
        is_now(errors.DeadlineExceeded, "retries", errors.Retries(2, 1, 2)),
    ),
    "a 500 says that nothing was executed": (
        is_now(errors.EcwidFailed, "needs_reconciliation", False),
        is_now(errors.EcwidFailed, "executed", "no"),
    ),
    "the outcome forgets earlier attempts": (
        Change(retries, "_outcome", _outcome_of_last_attempt),
    ),
    "one search instead of three": (is_now(retries, "WAITS_S", (0.0,)),),
    "any customer with the e-mail is ours": (
        is_now(retries, "find_created", _first_with_the_email),
    ),
    "a customer with other members is ours": (
        is_now(reconcile, "_agrees", lambda sent, shown: True),
    ),
    "the clock of Ecwid is not asked": (is_now(retries, "ecwid_time", lambda reply, wall: wall),),
    "a repeated deletion ends with a 404": (
        Change(retries.RetryingSender, "_inferred", _no_inference_for_deletions),
    ),
    "a wait ignores the deadline": (is_now(retries, "_wait", _wait_without_deadline),),
    "a write does not end the sharing of reads": (
        is_now(store_memory.StoreMemory, "end_write", _end_write_without_reads),
    ),
    "a write does not empty the cache": (
        is_now(shared_reads.SharedReads, "_forget", _forget_only_reads),
    ),
    "a read joins a read of another generation": (
        is_now(shared_reads.SharedReads, "join_only_in", _nothing),
    ),
    "a write that Redis missed is forgotten": (
        is_now(cache_backend._Redis, "_deliver", _deliver_once),
    ),
    "a response is kept in the generation of its end": (
        is_now(cache.Cache, "set", _set_in_new_generation),
    ),
    "the memory cache ignores writes": (
        is_now(store_memory.StoreMemory, "end_write", _end_write_without_values),
        is_now(store_memory.StoreMemory, "set", _set_in_any_generation),
    ),
    "no pause begins": (is_now(pause.SharedPause, "begin", _nothing),),
    "a pause is not published": (is_now(pause.SharedPause, "begin", _begin_only_here),),
    "each process sends a probe": (
        is_now(pause.SharedPause, "claim_probe", _claim_without_asking),
    ),
    "any good reply ends the pause": (Change(guard.Guard, "record_success", _end_by_any_reply),),
    "a Retry-After counts up to 5 s": (is_now(replies, "MAX_RETRY_AFTER_S", 5),),
    "a lock is held during a look": (Change(pause.SharedPause, "_read", _look_under_lock),),
    "the breaker never opens": (is_now(breaker.Breaker, "record_failure", _nothing),),
    "all calls are probes of the breaker": (
        is_now(breaker.Breaker, "claim_probe", lambda self: None),
    ),
    "the retry budget has no bottom": (is_now(guard.RetryBudget, "take", lambda self, cost: True),),
    "searches are not counted": (
        is_now(guard.Guard, "acquire_for_search", _search_without_counting),
    ),
    "a new epoch closes no window": (Change(window.Window, "take", _epoch_is_ignored),),
    "a minute of the rate limit has 30 s": (is_now(window, "SPAN_S", 30),),
    "the reserve is not divided": (
        is_now(rate_limit._KnownHosts, "share", lambda self, reserve: reserve),
    ),
    "a new host has a part of the reserve": (
        Change(rate_limit._KnownHosts, "learn", _learn_nothing_of_new_hosts),
    ),
    "the reserve has no bottom": (
        Change(rate_limit._HostCounter, "take", _granted_while_redis_fails),
    ),
    "each process has a reserve": (
        is_now(rate_limit._HostCounter, "take", _each_process_counts_for_itself),
    ),
    "a failed question does not open the breaker": (
        Change(guard.Guard, "record_failure", _failed_question_is_no_failure),
    ),
    "the neutral question is not asked": (
        Change(guard.Guard, "_is_in_doubt", _acquire_without_question),
    ),
    "each failed question counts as the neutral question": (
        Change(guard.Guard, "record_failure", _failed_question_is_neutral),
    ),
    "a call is not checked before it is sent": (
        is_now(retries, "COUNTED_MOST_S", 600.0),
        is_now(retries, "_left_s", lambda call, deadline: 1.0),
    ),
    "a swap with a lost reply is not looked for": (
        Change(redis_connection.RedisConnection, "run", _swap_again_without_look),
    ),
    "the time for Redis has no bound": (is_now(work, "REDIS_S", 60.0),),
    "nobody is gone": (is_now(idempotency, "process", _NO_MARKS),),
    "a pause is told by the wall clock": (
        Change(pause.Pause, "from_stored", _pause_by_the_wall_clock),
    ),
    "the age of a record is told by the wall clock": (
        Change(redis_state.RedisState, "get", _age_by_the_wall_clock),
    ),
    "a list is read without the second before": (is_now(pagination, "OVERLAP_S", -1),),
    "a list is read from its last second on": (is_now(pagination, "OVERLAP_S", 0),),
    "pages by offset do not overlap": (is_now(pagination, "OVERLAP", 0),),
    "a list is read in one pass": (is_now(pagination, "_PASSES", pagination._PASSES[:1]),),
    "a cursor forgets the ids": (
        is_now(pagination._OverlapIds, "pack", lambda self: pagination._OverlapIds().pack()),
    ),
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Plant a defect, and take the defect out at the end."""
    with ExitStack() as stack:
        for change in DEFECTS[name]:
            new = change.make(getattr(change.owner, change.name))
            stack.enter_context(patch.object(change.owner, change.name, new))
        yield


def seeds_until_found(name: str, start: int) -> tuple[int | None, str]:
    """Return after how many seeds a history shows the defect, and which rule is broken first.

    A history that breaks the rule without the defect does not count.
    """
    for count in range(1, WITHIN + 1):
        plan = make(start + count - 1)
        with planted(name):
            violations = play(plan).violations
        if violations and not play(plan).violations:
            return count, violations[0].invariant
    return None, "not found"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.defects")
    parser.add_argument("names", nargs="*", help="all of them by default")
    missed = 0
    begun = time.monotonic()
    names = parser.parse_args().names or list(DEFECTS)
    for name in names:
        found = [seeds_until_found(name, start) for start in STARTS]
        counts = " ".join(f"{count or '-':>5}" for count, _ in found)
        missed += any(count is None for count, _ in found)
        print(f"{counts}  {name}  ({', '.join(dict.fromkeys(rule for _, rule in found))})")
        sys.stdout.flush()
    print(f"{len(names)} defects, {missed} missed, {time.monotonic() - begun:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
