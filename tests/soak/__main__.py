"""The long runs, whose figures are in docs/evidence.md.

    python -m tests.soak [NAME ...] [--scale 0.1] [--jobs 2]          make soak

Each run uses loopback only, ends by itself, and ends the processes that it started. A run prints
one line. Several runs are processes of their own, two of them at a time, because most runs wait
more than they work. The exit status is 1 if the promise of a run is broken.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from .scenarios import SCENARIOS

_BY_NAME = {scenario.__name__: scenario for scenario in SCENARIOS}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*_BY_NAME, []], help="all of them by default")
    parser.add_argument("--scale", type=float, default=1.0, help="0.1 is a tenth of the length")
    parser.add_argument("--jobs", type=int, default=2, help="how many runs there are at a time")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # Each run ends its processes.
    names = given.names or list(_BY_NAME)
    if len(names) == 1:
        return _run(names[0], given.scale)
    return _run_all(names, given.scale, given.jobs)


def _run(name: str, scale: float) -> int:
    """Run one scenario in a folder of its own, print its line, and return the exit status."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        os.environ["XDG_STATE_HOME"] = os.environ["TMPDIR"] = tempfile.tempdir = folder
        why, figures = _BY_NAME[name](scale)
    listed = ", ".join(f"{figure} {value}" for figure, value in figures.items())
    seconds = time.monotonic() - begun
    print(f"{name} ({seconds:.0f} s): {listed}: {'BROKEN: ' + why if why else 'kept'}", flush=True)
    return 1 if why else 0


def _run_all(names: Sequence[str], scale: float, jobs: int) -> int:
    """Run scenarios as processes of their own, and return 1 if one of them has failed."""
    begun = time.monotonic()
    processes: list[subprocess.Popen[bytes]] = []

    def run(name: str) -> int:
        command = [sys.executable, "-m", "tests.soak", name, "--scale", str(scale)]
        processes.append(process := subprocess.Popen(command))
        return process.wait()

    with ThreadPoolExecutor(jobs) as threads:
        runs = [threads.submit(run, name) for name in names]
        try:
            broken = sum(each.result() != 0 for each in runs)
        except BaseException:
            for each in runs:
                each.cancel()
            for process in processes:
                process.terminate()
            raise
    print(f"{broken} broken, in {time.monotonic() - begun:.0f} s")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
