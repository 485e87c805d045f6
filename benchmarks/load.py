"""The load from wrk, where each run is one sample."""

from __future__ import annotations

import json
import os
import subprocess
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


def run_wrk(
    url: str,
    *,
    seconds: int,
    connections: int,
    body: str = "",
    variety: int = 0,
    timeout_s: int = 30,
) -> Load:
    """Load `url` for so many seconds, with POST if there is a body.

    With `variety` each URL ends in another number, from 1 to `variety`.

    Raises:
        RuntimeError: No request got a response.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={timeout_s}s"]
    env = {**os.environ, "BODY": body, "VARIETY": str(variety)}
    printed = subprocess.run(
        [*command, "-s", str(_SCRIPT), url], env=env, capture_output=True, text=True, check=True
    ).stdout
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
