"""The load from wrk, where each run is one sample."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True)
class Load:
    """The results of wrk, with latencies in milliseconds."""

    requests: int
    good: int  # answers with status 200
    requests_per_s: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Callers:
    """Callers who send their names, numbers from `first` with a prefix, in a header."""

    header: str
    prefix: str
    first: int
    count: int

    def __str__(self) -> str:
        return f"{self.header} {self.prefix} {self.first} {self.count}"


def run_wrk(
    url: str,
    *,
    seconds: int,
    connections: int,
    body: str = "",
    variety: int = 0,
    callers: Callers | None = None,
    timeout_s: int = 30,
) -> Load:
    """Load `url` for so many seconds, with POST if there is a body.

    With `variety` each URL ends in another number, from 1 to `variety`. With `callers`, which needs
    `variety`, each request has one of the callers.

    Raises:
        RuntimeError: No request got a response.
    """
    command = _command(url, seconds, connections, timeout_s)
    env = _environment(BODY=body, VARIETY=variety, CALLERS=callers or "")
    printed = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    seen = json.loads(printed[printed.index("{") :])
    if not seen["requests"]:
        raise RuntimeError(f"nothing answered at {url}")
    return Load(
        requests=seen["requests"],
        good=seen["requests"] - seen["bad"],
        requests_per_s=seen["requests"] / seen["seconds"],
        p50_ms=seen["p50"],
        p99_ms=seen["p99"],
    )


@contextmanager
def patient_callers(
    url: str, *, seconds: int, connections: int, callers: Callers, variety: int, pause_s: float
) -> Iterator[None]:
    """Let callers wait for responses until the end of the block, or for so many seconds.

    Each caller waits `pause_s` after a response, for example after a refusal.
    """
    env = _environment(CALLERS=callers, VARIETY=variety, PAUSE_MS=int(1000 * pause_s))
    process = subprocess.Popen(
        _command(url, seconds, connections, seconds), env=env, stdout=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def _command(url: str, seconds: int, connections: int, timeout_s: int) -> list[str]:
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={timeout_s}s"]
    return ["wrk", *options, "-s", str(_SCRIPT), url]


def _environment(**values: object) -> dict[str, str]:
    return {**os.environ, **{name: str(value) for name, value in values.items()}}
