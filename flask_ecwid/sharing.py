"""Calls not made: equal reads that are under way share one call to Ecwid.

The first that comes makes the call; who asks the same before its reply is there gets that reply
too. A failure is not shared: where the call brought no reply, the others make their own. Nor does
anybody wait for another for more than half of his own time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from .calls import Call, Reply
from .transport import Transport

_Question = tuple[str, tuple[tuple[str, str], ...]]  # a path and a query in any order


class _UnderWay:
    """A read under way: `reply` is there when `done` is set, unless there was none."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.reply: Reply | None = None


class SharedReads:
    """Sends calls through the transport, equal reads at the same time as one.

    `after_write` is called when a write has ended, however it ended, and before its reply is known
    to whoever made it: reads from then on must see it.
    """

    def __init__(
        self, transport: Transport, deadline_s: float, after_write: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._deadline_s = deadline_s
        self._after_write = after_write
        self._under_way: dict[_Question, _UnderWay] = {}  # each step on it is atomic: no lock

    def send(self, call: Call) -> Reply:
        """The reply to a call, within the deadline.

        Raises:
            NotSent: no byte of the call reached Ecwid.
            NoReply: it may have, and no complete reply came back.
        """
        moment = time.monotonic() + self._deadline_s
        if call.method != "GET":
            try:
                return self._transport.send(call, moment)
            finally:
                self._forget()
        question = (call.path, tuple(sorted(call.query)))
        mine = _UnderWay()
        first = self._under_way.setdefault(question, mine)
        if first is not mine:
            first.done.wait(self._deadline_s / 2)
            return first.reply or self._transport.send(call, moment)
        try:
            mine.reply = self._transport.send(call, moment)
            return mine.reply
        finally:
            if self._under_way.get(question) is mine:  # and not one that began after a write
                self._under_way.pop(question, None)
            mine.done.set()

    def _forget(self) -> None:
        """From here on nobody joins a read that began before this write had ended."""
        self._under_way.clear()
        self._after_write()
