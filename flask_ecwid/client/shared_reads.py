"""Share one call to Ecwid between equal reads at the same time.

The first read makes the call. Equal reads that begin up to `JOIN_MOST_S` later wait, and get the
same reply or the same refusal. If the call fails without a reply, each waiting read makes a call of
its own. A read waits for half of its time at most, so that the other half is left for its own call.

A token shares only its own reads. A write is sent after Ecwid has accepted the token. Otherwise an
invented token could get the replies of a store, or invalidate its cached responses.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass
from typing import Any

from .. import clock
from ..errors import EcwidError, Refused
from ..storage.cache_backend import CacheBackend
from ..storage.process_memory import ProcessWide
from ..storage.store_memory import StoreMemory
from ..storage.work import current_work, in_piece_of_work
from .calls import Call
from .replies import Reply
from .retries import RetryingSender, read_in_turn

# A customer may change elsewhere after the read under way has begun. Without the limit, a read
# after the change would get a reply from before, which may come many seconds late.
JOIN_MOST_S = 0.5


@dataclass
class _UnderWay:
    """A read under way. Once `done` is set, it has a reply or a refusal, unless it failed."""

    began: clock.Moment
    done: clock.Event
    reply: Reply | None = None
    refusal: Refused | None = None


class SharedReads:
    """Sends the calls of one store, and sends equal reads at the same time once.

    Before and after each write, even a failed write, all cached responses are invalidated. The
    second time comes before the caller gets the result, because every later read must see the
    write. All mounts and clients of the store in this process forget their reads under way, too.
    """

    def __init__(
        self,
        sender: RetryingSender,
        deadline_s: float,
        responses: CacheBackend | None,
        memory: ProcessWide[StoreMemory],
        thread: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._sender = sender
        self._deadline_s = deadline_s
        self.responses = responses
        self._memory = memory
        self._thread = thread  # Counts a thread of the store, or raises StoreBusy.
        self._generation: str | None = None  # The generation that a read saw last.

    @in_piece_of_work
    def send(self, call: Call, *, first_attempt_age_s: float | None = None) -> Any:
        """Return the value of a good reply, within the deadline of the piece of work.

        The value fits the component of the contract that `call.operation.reply` names. A method of
        the client may therefore return it as the type of that name.

        Args:
            call: The call.
            first_attempt_age_s: How many seconds ago an earlier attempt of the same creation
                began, if its outcome is not known.

        Raises:
            StoreBusy: Other calls have taken all threads that one store may take.
            EcwidError: There is no good reply.
        """
        with self._thread():
            return self._send(call, first_attempt_age_s)

    def _send(self, call: Call, first_attempt_age_s: float | None) -> Any:
        deadline = self._deadline()
        # A moment, because the host may be suspended before the call is sent.
        first_attempt_at = (
            None if first_attempt_age_s is None else clock.Moment.seconds_ago(first_attempt_age_s)
        )
        if self.responses is not None:
            self.responses.deliver()
        if call.operation.kind != "read":
            self._sender.prove(deadline)
            # This worker may be killed during the call. Only the responses of reads that began
            # meanwhile can then be older than the write.
            self.invalidate()
            try:
                return self._sender.send(call, deadline, first_attempt_at=first_attempt_at)[1]
            finally:
                self.invalidate()
        # The object is a part of the key, because another client may have other limits, or another
        # token, which Ecwid may refuse.
        call_key = (id(self), call.path, tuple(sorted(call.query)))
        mine = _UnderWay(clock.Moment.seconds_ago(), clock.Event())
        under_way = self._memory.get().under_way
        first: _UnderWay = under_way.setdefault(call_key, mine)
        if first.began.elapsed_s() >= JOIN_MOST_S:
            under_way[call_key] = first = mine  # Later reads join this read.
        if first is not mine:
            first.done.wait(self._deadline_s / 2)
            if first.reply:
                try:
                    return read_in_turn(call, first.reply, deadline)
                except EcwidError as exc:
                    raise exc.changed(executed="no") from None
            if first.refusal:
                raise copy(first.refusal)
            return self._sender.send(call, deadline)[1]
        try:
            mine.reply, value = self._sender.send(call, deadline)
            return value
        except Refused as exc:
            if not exc.trips_breaker:
                mine.refusal = exc
            raise
        finally:
            if under_way.get(call_key) is mine:  # Otherwise a newer read has the key.
                under_way.pop(call_key, None)
            mine.done.set()

    @property
    def is_proven(self) -> bool:
        """True if Ecwid has accepted the token, or if the token needs no proof."""
        return self._sender.is_proven

    @in_piece_of_work
    def prove(self) -> None:
        """Ask the neutral question, if Ecwid has not accepted the token yet.

        Raises:
            StoreBusy: Other calls have taken all threads that one store may take.
            EcwidError: Ecwid has not accepted the token.
        """
        if not self.is_proven:
            with self._thread():
                self._sender.prove(self._deadline())

    def _deadline(self) -> float:
        return current_work().begun.monotonic + self._deadline_s

    def join_only_in(self, generation: str) -> None:
        """Forget the reads that began in an earlier generation, so that later reads join none.

        Another process may have begun the generation with a write. Without this, a read after the
        write could get a reply from before the write, and cache the reply in the new generation.
        """
        if generation != self._generation:
            # The reads are forgotten before the generation is noted. Otherwise a thread that sees
            # the new generation could join an old read.
            self._memory.get().under_way.clear()
            self._generation = generation

    @in_piece_of_work
    def invalidate(self) -> bool:
        """Forget the reads and responses from before a change, which no later read may see.

        Returns:
            False if the other processes do not know of the change yet. This process tells them
            before its next call.
        """
        if self.responses is not None:
            return self.responses.invalidate_all()
        self._memory.get().end_write()
        return True
