"""Servers as processes that are started, awaited, measured and ended."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil


def require_programs() -> None:
    """End the run if a program is missing that Debian has."""
    os.environ["PATH"] += ":/usr/sbin"  # where Debian has nginx
    for program, package in (("nginx", "nginx-light"), ("wrk", "wrk")):
        if shutil.which(program) is None:
            sys.exit(f"{program} is missing: install Debian's {package}")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def settings(ecwid_port: int, folder: Path) -> dict[str, str]:
    """Return the settings of one store, whose calls are counted in a file of their own."""
    return {
        "ECWID_API_URL": f"http://127.0.0.1:{ecwid_port}/api/v3",
        "ECWID_STORE_ID": "1003",
        "ECWID_TOKEN": "secret_bench",
        "ECWID_AUTH": "none",
        "ECWID_CALLS_PER_MINUTE": "1000000",  # as many as a machine can make, and counted
        "STATE_DIRECTORY": tempfile.mkdtemp(prefix="state-", dir=folder),
    }


class Server:
    """A server and the processes that it starts."""

    def __init__(
        self, command: Sequence[str], port: int, cwd: Path, env: Mapping[str, str], log: Path
    ) -> None:
        self.port = port
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                command, cwd=cwd, env={**os.environ, **env}, stdout=stream, stderr=stream
            )
        self._log = log

    def wait(self, seconds: float = 30) -> None:
        """Wait until the server accepts connections.

        Raises:
            RuntimeError: The server ended, or did not accept in time.
        """
        until = time.monotonic() + seconds
        while time.monotonic() < until and self._process.poll() is None:
            with socket.socket() as sock:
                sock.settimeout(0.2)
                if sock.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.005)
        raise RuntimeError(f"no server at port {self.port}:\n{self._log.read_text()[-2000:]}")

    def cpu_s(self) -> float:
        """Return user and system time of the whole process tree so far, in seconds."""
        return sum(sum(process.cpu_times()[:2]) for process in self._tree())

    def rss_mb(self) -> float:
        """Return the resident memory of the largest process of the tree in MB (10^6 bytes)."""
        return float(max(process.memory_info().rss for process in self._tree())) / 1e6

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tree(self) -> list[psutil.Process]:
        root = psutil.Process(self._process.pid)
        return [root, *root.children(recursive=True)]


@contextmanager
def running(
    command: Sequence[str], port: int, cwd: Path, env: Mapping[str, str], folder: Path
) -> Iterator[Server]:
    """Run a server until the end of the block. Its log is in the folder."""
    server = Server(command, port, cwd, env, folder / f"{port}.log")
    try:
        server.wait()
        yield server
    finally:
        server.stop()
