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
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import orjson

from flask_ecwid import chance, clock, errors
from flask_ecwid.cli import mirror
from flask_ecwid.client import (
    CustomerDeleted,
    CustomerUnreadable,
    change_cursor,
    change_feed,
    deletions,
    open_stores,
    overlap_ids,
    page_reader,
    pagination,
    reconcile,
    replies,
    retries,
    shared_reads,
    updates,
)
from flask_ecwid.storage import (
    cache_backend,
    calls_ahead,
    host_mark,
    memory_state,
    opening,
    process_memory,
    redis_connection,
    redis_state,
    state,
    store_memory,
    window,
    work,
)
from flask_ecwid.throttling import breaker, guard, pause, rate_limit, trials
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


def _lease_for_ever(original: Any) -> Any:
    def init(self: Any, *arguments: Any) -> None:
        original(self, *arguments)
        self._lease_s = 1e6

    return init


def _no_deletions(original: Any) -> Any:
    def init(self: Any, *arguments: Any) -> None:
        original(self, *arguments)
        self.until = deletions.FOREVER

    return init


def _refusal_is_forgotten(original: Any) -> Any:
    def after(own: Any, error: Any, *, tried_before: bool) -> Any:
        found = original(own, error, tried_before=tried_before)
        return None if found is not None and found.state == "done" else found

    return after


def _failure_keeps_the_lease(original: Any) -> Any:
    def settle(self: Any, name: str, own: Any, outcome: Any, begun: Any) -> None:
        if outcome is not None and outcome.state == "done":
            original(self, name, own, outcome, begun)

    return settle


def _first_age_is_forgotten(original: Any) -> Any:
    def settle(self: Any, name: str, own: Any, outcome: Any, begun: Any) -> None:
        original(self, name, own, outcome, clock.Moment.seconds_ago(-own.tried_s))

    return settle


def _done_is_begun_again(original: Any) -> Any:
    def begin(self: Any, name: str, fingerprint: str) -> Any:
        earlier, own, begun = original(self, name, fingerprint)
        is_done = own.state == "done"
        return earlier, replace(own, state="running") if is_done else own, begun

    return begin


def _only_known_members(original: Any) -> Any:
    return classmethod(lambda cls, value: cls(**orjson.loads(value)))


def _pause_of_known_members(original: Any) -> Any:
    def from_stored(cls: Any, stored: Any, asked_at: float) -> Any:
        members = orjson.loads(stored.value)
        left_s = stored.left_s - (pause._KEPT_S if members["probed"] else 0.0)
        return cls(**members, ends_at=asked_at + left_s, stored_as=stored.value)

    return classmethod(from_stored)


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


_Found = retries.Found


class _Never(Exception):
    """An error that nothing raises."""


def _searched_in_spite_of_all(searched: bool, reply: Any) -> Any:
    return _Found(True, reply)


def _searched_once(original: Any) -> Any:
    """Return a search that forgets its later failures."""

    def search(self: Any, call: Any, since: Any, deadline: float, span: Any, **options: Any) -> Any:
        replied: list[bool] = []

        def once(*arguments: Any) -> Any:
            found = type(self)._search_once(self, *arguments)
            replied.append(True)
            return found

        sender = copy(self)
        sender._search_once = once
        found = original(sender, call, since, deadline, span, **options)
        return found._replace(searched=bool(replied))

    return search


_searched_at: ContextVar[float] = ContextVar("searched_at")


def _note_begin(original: Any) -> Any:
    def search_once(self: Any, *arguments: Any) -> Any:
        _searched_at.set(clock.wall())
        return original(self, *arguments)

    return search_once


def _time_by_the_trip(reply: Any, wall: float) -> float:
    """Return the time of Ecwid as exactly as the trip of the search was short."""
    return wall + (reconcile.clock_ahead_s(reply, _searched_at.get(), wall) or 0.0)


def _any_404_is_a_deletion(original: Any) -> Any:
    def inferred(self: Any, call: Any, error: Any, *rest: Any) -> Any:
        return original(self, call, error, *rest[:-1], True)

    return inferred


def _repeat_without_end(original: Any) -> Any:
    return lambda self, call, error, attempts: original(self, call, error, 1)


def _left_on_the_monotonic_clock(call: Any, deadline: float) -> float:
    return deadline - clock.now()


def _another_customer_is_certain(original: Any) -> Any:
    def search(self: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return original(self, *arguments, **options)
        except errors.EmailTaken as exc:
            raise exc.changed(executed="no") from None

    return search


def _brief_pause_for_nobody(original: Any) -> Any:
    def init(self: Any, retry_after_s: int, **options: Any) -> None:
        original(self, retry_after_s, **options)
        self.pause_s = 0.0 if options.get("brief") else self.pause_s

    return init


# Reads and cached responses


def _end_write_without_reads(self: Any) -> None:
    with self._responses.lock:
        self.writes += 1
        self._begin_generation()


def _forget_only_reads(self: Any) -> None:
    self._memory.get().under_way.clear()


def _set_in_new_generation(self: Any, lookup: Any, document: Any) -> Any:
    response = cache.CachedResponse.from_envelope(document)
    generation, _, _ = self._backend.get(lookup.cache_key)
    self._backend.set(lookup.cache_key, generation, response.to_bytes(), 0.0)
    return response


def _generation_without_end(self: Any) -> None:
    self._generation += 1


def _set_in_any_generation(self: Any, key: str, ttl_s: float, _: int, *rest: Any) -> None:
    entry = clock.Moment.seconds_ago(rest[1]), ttl_s, rest[0]
    with self._responses.lock:
        self._responses.set(self._number, (ttl_s, key), entry)


def _invalidate_after_success(original: Any) -> Any:
    begun: ContextVar[object] = ContextVar("begun", default=None)

    def invalidate(self: Any) -> None:
        is_before, _ = begun.get() is not work.current_work(), begun.set(work.current_work())
        if not is_before and sys.exc_info()[0] is None:
            original(self)

    return invalidate


def _first_mark_for_ever(original: Any) -> Any:
    def find(self: Any) -> Any:
        look = self._last.get().look
        return original(self) if look is None else look.mark

    return find


def _invalidate_only_before(original: Any) -> Any:
    begun: ContextVar[object] = ContextVar("begun", default=None)

    def invalidate(self: Any) -> None:
        if begun.get() is not work.current_work():
            begun.set(work.current_work())
            original(self)
            return
        memory = self._memory.get()
        with memory._responses.lock:
            memory._begin_generation()
        memory.under_way.clear()

    return invalidate


def _one_cache_key(original: Any) -> Any:
    return lambda self, call: original(self, replace(call, path="/customers/1"))


def _memory_of_a_mount(original: Any) -> Any:
    def init(self: Any, make: Any, key: str) -> None:
        original(self, make, key + chance.token_hex(4))

    return init


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


def _shorter(self: Any, other: Any) -> Any:
    return self if other is None or self.ends_at <= other.ends_at else other


def _success_of_each_attempt(original: Any) -> Any:
    return lambda self, permit, *, first: original(self, permit, first=True)


def _failures_stay(original: Any) -> Any:
    def record_success(self: Any) -> None:
        failures = self.failures
        original(self)
        self.failures = min(failures, breaker.BREAKER_FAILURES - 1)

    return record_success


def _no_doubt(original: Any) -> Any:
    def record_failure(self: Any, permit: Any, error: Any) -> None:
        if not error.suspicions:
            original(self, permit, error)

    return record_failure


def _minute_of_the_wall_clock(original: Any) -> Any:
    def take(self: Any, key: str, limit: int, **options: Any) -> Any:
        return original(self, f"{key} {int(clock.wall()) // 60}", limit, **options)

    return take


def _no_probe(original: Any) -> Any:
    def of(cls: Any, seconds: float, *, probed: bool, detail: str) -> Any:
        return original.__func__(cls, seconds, probed=False, detail=detail)

    return classmethod(of)


def _same_pause(original: Any) -> Any:
    return lambda self, shared, key, *_: original(self, shared, "pause")


def _one_more(original: Any) -> Any:
    def take(self: Any, second: int, limit: int, host: str, seen: str) -> Any:
        return original(self, second, limit + 1, host, seen)

    return take


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


def _limit_has_a_window(original: Any) -> Any:
    def take(self: Any, key: str, limit: int, host: str = "") -> Any:
        return original(self, f"{key} {limit}", limit, host)

    return take


def _mount_counts_for_itself(original: Any) -> Any:
    def init(self: Any, per_minute: int, hosts: int, storage: Any, digest: str, *rest: Any) -> None:
        original(self, per_minute, hosts, storage, digest + chance.token_hex(4), *rest)

    return init


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


def _loss_counts(original: Any) -> Any:
    def record_failure(self: Any, permit: Any, error: Any) -> None:
        if isinstance(error, errors.ConnectionLost):
            error = error.changed(blames_connection=False)
        original(self, permit, error)

    return record_failure


def _look_under_lock(original: Any) -> Any:
    def read(self: Any) -> Any:
        with self._lock:
            return original(self)

    return read


def _short_page_ends(original: Any) -> Any:
    def position_after(self: Any, at: Any, seconds: list[int]) -> Any:
        limit = int(self._filters["limit"])
        return original(self, at, seconds if len(seconds) == limit else [])

    return position_after


def _no_cooldown(self: Any) -> bool:
    return True


# Many stores


def _one_secret(original: Any) -> Any:
    return lambda self, backend, reads, secret: original(self, backend, reads, "same")


def _responses_of_all(original: Any) -> Any:
    return lambda self, store_digest: original(self, "same")


def _records_of_all(original: Any) -> Any:
    return lambda self, state, name, deadline_s: original(self, state, "same", deadline_s)


def _close_what_is_used(self: Any) -> None:
    for _ in range(len(self._recent) - self._most):
        credentials, store = self._recent.popitem(last=False)
        if store.guard.must_stay:
            self._recent[credentials] = store


def _pause_in_memory(original: Any) -> Any:
    return lambda _, key, *__: original(memory_state.MemoryState(), key)


def _pause_of_the_store(original: Any) -> Any:
    return lambda shared, key, *__: original(shared, f"{key.partition(':')[0]}:pause")


def _one_window(original: Any) -> Any:
    return lambda per_minute, hosts, counters, digest: original(per_minute, hosts, counters, "same")


def _new_window(original: Any) -> Any:
    def rate_limit_of(per_minute: int, hosts: int, counters: Any, digest: str) -> Any:
        return original(per_minute, hosts, counters, digest + chance.token_hex(4))

    return rate_limit_of


def _one_breaker(original: Any) -> Any:
    def init(self: Any, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        self._breaker = self._host

    return init


def _places_of_a_process(original: Any) -> Any:
    def init(self: Any, *arguments: Any) -> None:
        original(self, *arguments)
        self._state = memory_state.MemoryState()

    return init


# The mirror


def _cursor_before_rows(original: Any) -> Any:
    def store(self: Any, changes: Any, cursor: str | None = None) -> None:
        original(self, (), cursor)
        original(self, changes, cursor)

    return store


def _store_without(kind: type) -> Make:
    """Return what makes a mirror that forgets the changes of a kind."""

    def make_store(original: Any) -> Any:
        def store(self: Any, changes: Any, cursor: str | None = None) -> None:
            original(self, [each for each in changes if not isinstance(each, kind)], cursor)

        return store

    return make_store


def _failure_forgets_changes(original: Any) -> Any:
    def take(changes: Any) -> Any:
        batch, failure = original(changes)
        return ([] if failure else batch), failure

    return take


def _claim_without_comparison(original: Any) -> Any:
    def claim(self: Any, connection: Any, **values: Any) -> Any:
        query = f"SELECT revision FROM ecwid_sync WHERE store_id = '{self._store_id}'"
        self._revision = connection.exec_driver_sql(query).scalar_one()
        return original(self, connection, **values)

    return claim


def _deleted_keeps_data(original: Any) -> Any:
    def upsert(connection: Any, rows: Any) -> None:
        deleted = [row for row in rows if row["deleted_at"]]
        if others := [row for row in rows if not row["deleted_at"]]:
            original(connection, others)
        for row in deleted:
            date = f"{row['deleted_at']:%Y-%m-%d %H:%M:%S}"
            connection.exec_driver_sql(
                f"UPDATE ecwid_customers SET deleted_at = '{date}' WHERE id = {row['id']}"
            )

    return upsert


def _deleted_unasked(client: Any, customer_id: int) -> Any:
    return CustomerDeleted(customer_id, datetime.fromtimestamp(clock.wall(), timezone.utc))


def _failure_deletes(original: Any) -> Any:
    def ask(client: Any, customer_id: int) -> Any:
        try:
            return original(client, customer_id)
        except errors.EcwidError:
            return _deleted_unasked(client, customer_id)

    return ask


def _call_within_a_transaction(original: Any) -> Any:
    def update(client: Any, copy: Any) -> Iterator[int]:
        with copy._engine.begin():
            next(client.iter_changes(), None)
        yield from original(client, copy)

    return update


# The world replaces the functions of the module itself.
_NO_MARKS = SimpleNamespace(own_mark=lambda: "", is_gone=lambda mark: False)
_ALL_GONE = SimpleNamespace(own_mark=lambda: "", is_gone=lambda mark: True)


def _calls_ahead_for_ever(original: Any) -> Any:
    """Return a use of calls that were counted in any earlier second."""

    def use(self: Any, key: str, limit: int, second: int, seen: str) -> Any:
        ahead = self._by_key.get(key)
        return original(self, key, limit, ahead.second if ahead else second, seen)

    return use


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
        is_now(shared_reads.SharedReads, "invalidate", _forget_only_reads),
    ),
    "a read joins a read of another generation": (
        is_now(shared_reads.SharedReads, "join_only_in", _nothing),
    ),
    "a write that Redis missed is forgotten": (
        is_now(cache_backend._Redis, "deliver", _deliver_once),
    ),
    "a response is kept in the generation of its end": (
        is_now(cache.Cache, "set", _set_in_new_generation),
    ),
    "the memory cache ignores writes": (
        is_now(store_memory.StoreMemory, "_begin_generation", _generation_without_end),
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
        Change(
            overlap_ids.OverlapIds,
            "pack",
            lambda pack: lambda self: pack(overlap_ids.OverlapIds()),
        ),
    ),
    "a feed reads no deletions": (Change(deletions.Deletions, "__init__", _no_deletions),),
    "a feed has no overlap": (is_now(change_cursor, "LAG_S", 0),),
    "a feed tells versions by the second": (is_now(updates, "_version_key", page_reader.key_of),),
    "a lease for ever": (Change(idempotency.Idempotency, "__init__", _lease_for_ever),),
    "a refusal leaves no record": (Change(idempotency, "_after", _refusal_is_forgotten),),
    "a failed request keeps its key": (
        Change(idempotency.Idempotency, "_settle", _failure_keeps_the_lease),
    ),
    "the age of the first attempt is forgotten": (
        Change(idempotency.Idempotency, "_settle", _first_age_is_forgotten),
    ),
    "a key that is done is begun again": (
        Change(idempotency.Idempotency, "_begin", _done_is_begun_again),
    ),
    "a record with a new member cannot be read": (
        Change(idempotency._Record, "from_json", _only_known_members),
    ),
    "a pause with a new member cannot be read": (
        Change(pause.Pause, "from_stored", _pause_of_known_members),
    ),
    "a creation follows a search without a reply": (
        is_now(retries, "Found", _searched_in_spite_of_all),
    ),
    "a creation follows a failed last search": (
        Change(retries.RetryingSender, "_search", _searched_once),
    ),
    "searches go on with a refused token": (is_now(retries, "ServiceRefused", _Never),),
    "the clock of Ecwid is known as well as the trip is short": (
        Change(retries.RetryingSender, "_search_once", _note_begin),
        is_now(retries, "ecwid_time", _time_by_the_trip),
    ),
    "each 404 proves a deletion": (
        Change(retries.RetryingSender, "_inferred", _any_404_is_a_deletion),
    ),
    "a call is repeated without end": (
        Change(retries.RetryingSender, "_may_repeat", _repeat_without_end),
    ),
    "a change leaves late after a suspend": (
        is_now(retries, "COUNTED_MOST_S", 600.0),
        is_now(retries, "_left_s", _left_on_the_monotonic_clock),
    ),
    "a call leaves long after its count": (is_now(retries, "COUNTED_MOST_S", 600.0),),
    "a 409 after an earlier attempt is believed": (is_now(retries, "EmailTaken", _Never),),
    "another customer proves that nothing was created": (
        Change(retries.RetryingSender, "_search", _another_customer_is_certain),
    ),
    "each process is gone": (is_now(idempotency, "process", _ALL_GONE),),
    "a pause has no probe": (Change(pause.Pause, "of", _no_probe),),
    "all tokens share a pause": (Change(pause.SharedPause, "__init__", _same_pause),),
    "calls that were counted ahead never end": (
        Change(calls_ahead.CallsAhead, "use", _calls_ahead_for_ever),
    ),
    "a window grants one call more": (Change(window.Window, "take", _one_more),),
    "a brief 429 pauses nobody": (Change(errors.RateLimited, "__init__", _brief_pause_for_nobody),),
    "a failed write does not empty the cache": (
        Change(shared_reads.SharedReads, "invalidate", _invalidate_after_success),
    ),
    "all customers share a cached response": (Change(cache.Cache, "_cache_key", _one_cache_key),),
    "a write that Redis missed leaves no mark": (is_now(host_mark.HostMark, "leave", _nothing),),
    "a worker never reads the generation": (
        Change(host_mark.HostMark, "find", _first_mark_for_ever),
    ),
    "a writer begins no new generation after its call": (
        Change(shared_reads.SharedReads, "invalidate", _invalidate_only_before),
    ),
    "the shorter of two pauses holds": (is_now(pause.Pause, "joined", _shorter),),
    "a pause ends before its probe": (is_now(pause, "_KEPT_S", 0.0),),
    "a repetition pays for repetitions": (
        Change(guard.Guard, "record_success", _success_of_each_attempt),
    ),
    "a repetition after a timeout costs as much as others": (is_now(guard, "TIMEOUT_COST", 5),),
    "the breaker counts failures that are not in a row": (
        Change(breaker.Breaker, "record_success", _failures_stay),
    ),
    "the breaker counts the loss of a kept connection": (
        Change(guard.Guard, "record_failure", _loss_counts),
    ),
    "the breaker never closes": (is_now(breaker.Breaker, "record_success", _nothing),),
    "the breaker opens for 1 s": (is_now(breaker, "BREAKER_OPEN_S", 1.0),),
    "a refusal without a code raises no suspicion": (
        Change(guard.Guard, "record_failure", _no_doubt),
    ),
    "no call is counted": (is_now(rate_limit.RateLimit, "acquire", _nothing),),
    "the wall clock of a host begins the minute in Redis": (
        Change(redis_state.RedisState, "take", _minute_of_the_wall_clock),
    ),
    "each limit has a window": (Change(rate_limit._Counter, "take", _limit_has_a_window),),
    "each mount counts for itself": (
        Change(rate_limit.RateLimit, "__init__", _mount_counts_for_itself),
    ),
    "each mount has a memory": (
        Change(process_memory.ProcessWide, "__init__", _memory_of_a_mount),
    ),
    "a list takes the whole limit": (is_now(rate_limit, "BULK_SHARE", 1.0),),
    "a minute of the rate limit has 60 s": (is_now(window, "SPAN_S", 60),),
    "a process that Redis kept waiting asks Redis again": (
        is_now(clock.Cooldown, "is_over", _no_cooldown),
    ),
    "a short page ends a list": (
        Change(pagination.CustomerIterator, "_position_after", _short_page_ends),
    ),
    "the ids of a list are forgotten at once": (is_now(overlap_ids.OverlapIds, "add", _nothing),),
    "the second pass of a list begins late": (is_now(pagination, "LAG_S", 0),),
    "all stores share cached responses": (
        Change(opening.Storage, "responses", _responses_of_all),
        Change(cache.Cache, "__init__", _one_secret),
    ),
    "an invented token finds cached responses": (
        is_now(shared_reads.SharedReads, "is_proven", True),
        Change(cache.Cache, "__init__", _one_secret),
    ),
    "an invented token shares reads": (is_now(shared_reads, "id", lambda self: 0),),
    "an invented token replays an outcome": (is_now(shared_reads.SharedReads, "prove", _nothing),),
    "all stores share records": (Change(idempotency.Idempotency, "__init__", _records_of_all),),
    "a store is closed while it is used": (
        is_now(open_stores.OpenStores, "_close_oldest", _close_what_is_used),
    ),
    "a store with a pause of its own is closed": (is_now(guard.Guard, "must_stay", False),),
    "a closed store forgets its pause": (Change(guard, "SharedPause", _pause_in_memory),),
    "a closed store forgets the pause that it knew": (is_now(guard.Guards, "close", _nothing),),
    "the tokens of a store share a pause": (Change(guard, "SharedPause", _pause_of_the_store),),
    "all stores share a window": (Change(guard, "RateLimit", _one_window),),
    "a store that is opened again has a new window": (Change(guard, "RateLimit", _new_window),),
    "all stores share a breaker of replies": (Change(guard.Guard, "__init__", _one_breaker),),
    "refusals keep no place": (is_now(trials.Trials, "keep", trials.Trials.give_back),),
    "each process has places of its own": (
        Change(trials.Trials, "__init__", _places_of_a_process),
    ),
    "the cursor of a mirror is committed before the rows": (
        Change(mirror.Mirror, "store", _cursor_before_rows),
    ),
    "a mirror forgets deletions": (
        Change(mirror.Mirror, "store", _store_without(CustomerDeleted)),
    ),
    "a mirror forgets unreadable customers": (
        Change(mirror.Mirror, "store", _store_without(CustomerUnreadable)),
    ),
    "a mirror forgets the changes before a failure": (
        Change(mirror, "_take", _failure_forgets_changes),
    ),
    "a mirror keeps the gap of a customer who has come": (
        is_now(mirror.Mirror, "_close_gaps", _nothing),
    ),
    "a part of a reading counts as complete": (
        is_now(change_feed.ChangeIterator, "ended_early", False),
    ),
    "a mirror keeps rows that nobody has seen again": (
        is_now(mirror.Mirror, "_expect_all", _nothing),
    ),
    "nobody asks for unseen customers": (is_now(mirror, "_ask_for_unseen", lambda *_: ()),),
    "a customer whom a list misses counts as deleted": (is_now(mirror, "ask", _deleted_unasked),),
    "a question that fails counts as a 404": (Change(mirror, "ask", _failure_deletes),),
    "the row of a deleted customer keeps the data": (
        Change(mirror, "upsert", _deleted_keeps_data),
    ),
    "two processes keep one mirror": (Change(mirror.Mirror, "_claim", _claim_without_comparison),),
    "a mirror calls Ecwid within a transaction": (
        Change(mirror, "update", _call_within_a_transaction),
    ),
    "an unproven token takes no place": (is_now(trials.Trials, "begin", lambda *_, **__: None),),
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Plant a defect, and take the defect out at the end."""
    with ExitStack() as stack:
        for change in DEFECTS[name]:
            new = change.make(getattr(change.owner, change.name, None))
            stack.enter_context(patch.object(change.owner, change.name, new, create=True))
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


class Measured(NamedTuple):
    """What a piece of work has found out about one defect."""

    name: str
    counts: list[int | None]  # the histories that each start needed, or None
    rules: list[str]  # the rule that was broken first, for each start
    cpu_s: float

    @property
    def is_missed(self) -> bool:
        return None in self.counts

    def line(self) -> str:
        counts = " ".join(f"{count or '-':>5}" for count in self.counts)
        return f"{counts}  {self.name}  ({', '.join(dict.fromkeys(self.rules))})"


def measured(name: str) -> Measured:
    """Measure a defect from each start."""
    begun = time.process_time()
    found = [seeds_until_found(name, start) for start in STARTS]
    counts, rules = [count for count, _ in found], [rule for _, rule in found]
    return Measured(name, counts, rules, time.process_time() - begun)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.defects")
    parser.add_argument("names", nargs="*", help="all of them by default")
    parser.add_argument("--jobs", type=int, default=2, help="processes that share the work")
    arguments = parser.parse_args()
    begun = time.monotonic()
    names = arguments.names or list(DEFECTS)
    missed, cpu_s = 0, 0.0
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for found in pool.map(measured, names):
            missed += found.is_missed
            cpu_s += found.cpu_s
            print(found.line(), flush=True)
    seconds = time.monotonic() - begun
    print(f"{len(names)} defects, {missed} missed, {seconds:.0f} s, {cpu_s:.0f} s of CPU")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
