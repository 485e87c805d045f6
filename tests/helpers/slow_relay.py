"""A relay to a real Redis that is slow, or that loses a reply after its command was executed."""

from __future__ import annotations

import select
import socket
import time

from .raw_server import RawServer
from .redis_server import RedisServer


class SlowRelay(RawServer):
    """A relay that delays each reply by `delay_s`, and counts the delays in `delayed_s`.

    While `cuts` is not 0, the relay drops a reply, closes its connection, and takes one off `cuts`.
    """

    def __init__(self, redis: RedisServer) -> None:
        super().__init__(self._carry)
        self._to_port = int(redis.url.rpartition(":")[2].partition("/")[0])
        self.redis_url = f"redis://127.0.0.1:{self.port}/0"
        self.delay_s = 0.0
        self.delayed_s = 0.0
        self.cuts = 0
        self.commands = 0

    def __enter__(self) -> SlowRelay:
        super().__enter__()
        return self

    def _carry(self, caller: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._to_port)) as target:
            while True:
                for end in select.select([caller, target], [], [], 20)[0]:
                    received = end.recv(65_536)
                    if not received:
                        return
                    if end is caller:
                        self.commands += 1
                        target.sendall(received)
                        continue
                    if self.cuts:
                        self.cuts -= 1
                        return
                    self.delayed_s += self.delay_s
                    time.sleep(self.delay_s)
                    caller.sendall(received)
