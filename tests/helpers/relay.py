"""A relay on loopback that forgets its flows, as a NAT does."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import Literal

from .raw_server import RawServer

By = Literal["reset", "silence"]


class Relay(RawServer):
    """A relay to another port of this host.

    After `forget`, the older flows carry nothing more, and their ends are told nothing. The next
    bytes of the caller get a reset, or silence. The resets wait until `at_once` flows have bytes.
    """

    def __init__(self, to_port: int, by: By, at_once: int = 1) -> None:
        super().__init__(self._carry)
        self._barrier = threading.Barrier(at_once)
        self._to_port = to_port
        self._by = by
        self._flows: set[threading.Event] = set()

    def __enter__(self) -> Relay:
        super().__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.forget()
        super().__exit__()

    def flows(self) -> int:
        """Return the number of flows that neither side has closed."""
        return len(self._flows)

    def forget(self) -> None:
        """Forget every flow that is open now."""
        for flow in [*self._flows]:
            flow.set()

    def _carry(self, caller: socket.socket) -> None:
        flow = threading.Event()
        self._flows.add(flow)
        try:
            with socket.create_connection(("127.0.0.1", self._to_port)) as target:
                self._pump(caller, target, flow)
        finally:
            self._flows.discard(flow)

    def _pump(self, caller: socket.socket, target: socket.socket, flow: threading.Event) -> None:
        others = {caller: target, target: caller}
        while True:
            ready, _, _ = select.select([*others], [], [], 20)
            for end in ready:
                received = b""
                with contextlib.suppress(ConnectionResetError):
                    received = end.recv(65_536)
                if not received:
                    return
                if not flow.is_set():
                    others[end].sendall(received)
                elif self._by == "reset":
                    self._barrier.wait(20)
                    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01" + bytes(7))
                    return
