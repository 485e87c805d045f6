"""Calls not made: equal reads that are under way share one call to Ecwid.

The first that comes makes the call; who asks the same before its reply is there gets that reply
too, or Ecwid's refusal. A failure is not shared: where the call brought no answer, the others make
their own. Nor does anybody wait for another for more than half of his own time.
"""

from __future__ import annotations

import os
from copy import copy
from dataclasses import dataclass
from typing import Any

from .. import clock
from ..errors import Refused
from ..storage.cache_backend import CacheBackend
from .calls import Call
from .replies import Reply, read_reply
from .retries import RetryingSender

_Question = tuple[int, str, tuple[tuple[str, str], ...]]  # process, path, query in any order


@dataclass
class _UnderWay:
    """A read under way. When `done` is set, there is a reply or a refusal, unless it failed."""

    done: clock.Event
    reply: Reply | None = None
    refusal: Refused | None = None


class SharedReads:
    """Sends calls through the gateway, equal reads at the same time as one.

    When a write has ended, however it ended, all cached responses are invalidated before the
    caller knows the reply, because reads from then on must see the write.
    """

    def __init__(
        self, sender: RetryingSender, deadline_s: float, responses: CacheBackend | None
    ) -> None:
        self._sender = sender
        self._deadline_s = deadline_s
        self._responses = responses
        self._generation: str | None = None  # the last one that a read of this process found
        self._under_way: dict[_Question, _UnderWay] = {}  # each step on it is atomic: no lock

    def send(self, call: Call, *, first_attempt_at: float | None = None) -> Any:
        """Return the value of a good reply, within the deadline.

        The value fits the component of the contract that `call.operation.reply` names, so a method
        of the client may return it as the type of that name.

        Args:
            call: The call.
            first_attempt_at: When an earlier attempt of the same creation began, in UNIX seconds,
                if its outcome is not known.

        Raises:
            EcwidError: There is no good reply.
        """
        deadline = clock.now() + self._deadline_s
        if call.operation.kind != "read":
            try:
                return self._sender.send(call, deadline, first_attempt_at=first_attempt_at)[1]
            finally:
                self._forget()
        # The process is a part of the question, because a forked child inherits the reads that its
        # parent has under way. Without it, the child would wait for replies that never come.
        question = (os.getpid(), call.path, tuple(sorted(call.query)))
        mine = _UnderWay(clock.Event())
        first = self._under_way.setdefault(question, mine)
        if first is not mine:
            first.done.wait(self._deadline_s / 2)
            if first.reply:
                return read_reply(call, first.reply)
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
            if self._under_way.get(question) is mine:  # and not one that began after a write
                self._under_way.pop(question, None)
            mine.done.set()

    def join_only_in(self, generation: str) -> None:
        """Let no read from here on join a call that began before this generation was found.

        Another process may have begun the generation with a write. Without this, a read that begins
        after the write would get a reply from before it, and keep that reply under the generation.
        """
        if generation != self._generation:
            # Cleared before it is noted, because a thread that finds it noted joins at once.
            self._under_way.clear()
            self._generation = generation

    def _forget(self) -> None:
        """Let no read from here on join a call that began before this write had ended."""
        self._under_way.clear()
        if self._responses is not None:
            self._responses.invalidate_all()
