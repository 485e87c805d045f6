"""Calls not made: equal reads that are under way share one call to Ecwid.

The first that comes makes the call; who asks the same before its reply is there gets that reply
too, or Ecwid's refusal. A failure is not shared: where the call brought no answer, the others make
their own. Nor does anybody wait for another for more than half of his own time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from copy import copy
from typing import Any

from . import clock
from .calls import Call, Reply
from .errors import Refused
from .gateway import Gateway, Read

_Question = tuple[str, tuple[tuple[str, str], ...]]  # a path and a query in any order


class _UnderWay:
    """A read under way: when `done` is set, there is a reply or a refusal, unless it failed."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.reply: Reply | None = None
        self.refusal: Refused | None = None


class SharedReads:
    """Sends calls through the gateway, equal reads at the same time as one.

    `after_write` is called when a write has ended, however it ended, and before its reply is known
    to whoever made it: reads from then on must see it.
    """

    def __init__(
        self, gateway: Gateway, deadline_s: float, after_write: Callable[[], None]
    ) -> None:
        self._gateway = gateway
        self._deadline_s = deadline_s
        self._after_write = after_write
        self._under_way: dict[_Question, _UnderWay] = {}  # each step on it is atomic: no lock

    def send(self, call: Call, read: Read, *, since: float | None = None) -> dict[str, Any]:
        """What `read` makes of the reply to a call, within the deadline.

        `since`: as the gateway has it.

        Raises:
            EcwidError: there is no good reply.
        """
        moment = clock.now() + self._deadline_s
        if call.method != "GET":
            try:
                return self._gateway.send(call, read, moment, since=since)[1]
            finally:
                self._forget()
        question = (call.path, tuple(sorted(call.query)))
        mine = _UnderWay()
        first = self._under_way.setdefault(question, mine)
        if first is not mine:
            first.done.wait(self._deadline_s / 2)
            if first.reply:
                return read(first.reply)
            if first.refusal:
                raise copy(first.refusal)
            return self._gateway.send(call, read, moment)[1]
        try:
            mine.reply, value = self._gateway.send(call, read, moment)
            return value
        except Refused as exc:
            if not exc.of_gateway:
                mine.refusal = exc
            raise
        finally:
            if self._under_way.get(question) is mine:  # and not one that began after a write
                self._under_way.pop(question, None)
            mine.done.set()

    def _forget(self) -> None:
        """From here on nobody joins a read that began before this write had ended."""
        self._under_way.clear()
        self._after_write()
