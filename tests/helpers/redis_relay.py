"""Relays to a real Redis, which can empty Redis or lose its replies."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from typing_extensions import Self

from .redis_server import RedisServer


class RedisRelay:
    """A relay to Redis, which asks `_may_reply` about each reply."""

    def __init__(self, redis: RedisServer) -> None:
        self._redis = redis
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed, so the thread ends
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._relay, args=(connection,), daemon=True).start()

    def _relay(self, connection: socket.socket) -> None:
        port = int(self._redis.url.rpartition(":")[2].partition("/")[0])
        with connection, socket.create_connection(("127.0.0.1", port)) as server:
            while command := connection.recv(65_536):
                server.sendall(command)
                reply = server.recv(65_536)
                if not self._may_reply(command):
                    return
                connection.sendall(reply)

    def _may_reply(self, command: bytes) -> bool:
        """Return False to lose the reply and the connection."""
        raise NotImplementedError


class EmptyingRelay(RedisRelay):
    """A relay to Redis that empties Redis before it passes on each reply."""

    emptied = 0

    def _may_reply(self, command: bytes) -> bool:
        self._redis.client.flushall()
        self.emptied += 1
        return True


class LosingRelay(RedisRelay):
    """A relay to Redis that loses the reply of one command that changes the generation.

    `loses` counts the changes up to the one whose reply is lost. With 0, no reply is lost.
    `meanwhile` runs after the effect of the command, before the caller learns of the loss.
    """

    loses = 0
    lost = 0

    def __init__(self, redis: RedisServer, meanwhile: Callable[[], None]) -> None:
        super().__init__(redis)
        self._meanwhile = meanwhile
        self._generations: list[bytes | str | None] = []

    def _may_reply(self, command: bytes) -> bool:
        generations = [
            self._redis.client.get(key) for key in self._redis.client.keys("*:generation")
        ]
        before, self._generations = self._generations, generations
        if not self.loses or generations == before:
            return True
        self.loses -= 1
        if self.loses:
            return True
        self.lost += 1
        self._meanwhile()
        return False
