"""The long runs, whose figures are in docs/reliability.md.

    python -m tests.soak [NAME ...] [--scale 0.1]          make soak

Each run uses loopback only, ends by itself, and ends the processes that it started. A run prints
one line. The exit status is 1 if the promise of a run is broken.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time

from .scenarios import SCENARIOS


def main() -> int:
    by_name = {scenario.__name__: scenario for scenario in SCENARIOS}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*by_name, []], help="all of them by default")
    parser.add_argument("--scale", type=float, default=1.0, help="0.1 is a tenth of the length")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # Each run ends its processes.
    all_begun = time.monotonic()
    broken = 0
    for name in given.names or by_name:
        begun = time.monotonic()
        why, figures = by_name[name](given.scale)
        broken += bool(why)
        listed = ", ".join(f"{figure} {value}" for figure, value in figures.items())
        seconds = time.monotonic() - begun
        print(f"{name} ({seconds:.0f} s): {listed}: {'BROKEN: ' + why if why else 'kept'}")
        sys.stdout.flush()
    print(f"{broken} broken, in {time.monotonic() - all_begun:.0f} s")
    return 1 if broken else 0


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        os.environ["XDG_STATE_HOME"] = os.environ["TMPDIR"] = tempfile.tempdir = folder
        sys.exit(main())
