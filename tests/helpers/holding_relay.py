"""A relay on loopback that holds a call to Ecwid, or its reply, until a test opens a gate."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from .raw_server import Gate, RawServer

Part = Literal["call", "reply"]


class HoldingRelay(RawServer):
    """A relay to another port of this host, which carries one call at a time on a connection."""

    def __init__(self, to_port: int) -> None:
        super().__init__(self._carry)
        self._to_port = to_port
        self._holds: list[tuple[bytes, Part, Gate]] = []

    @contextmanager
    def hold(self, part: Part, start: str) -> Iterator[Gate]:
        """Hold this part of the next call, whose first line has this start, until the gate opens.

        A held call has not arrived at the store. A held reply has left the store, so the store has
        executed the call.
        """
        gate = Gate()
        self._holds.append((start.encode(), part, gate))
        try:
            yield gate
        finally:
            gate.open()

    def _carry(self, caller: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._to_port)) as target:
            others = {caller: target, target: caller}
            gates: dict[socket.socket, Gate] = {}
            while True:
                for end in select.select([*others], [], [])[0]:
                    received = end.recv(65_536)
                    if not received:
                        return
                    for hold in [each for each in self._holds if received.startswith(each[0])]:
                        self._holds.remove(hold)
                        gates[caller if hold[1] == "call" else target] = hold[2]
                    if gate := gates.pop(end, None):
                        gate.wait()
                    others[end].sendall(received)
