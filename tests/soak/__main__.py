"""The long runs, whose figures are in docs/reliability.md.

    python -m tests.soak [NAME ...] [--scale 0.1]          make soak

Each run uses loopback only, ends by itself, and ends the processes that it started.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from .scenarios import SCENARIOS


def main() -> int:
    by_name = {scenario.__name__: scenario for scenario in SCENARIOS}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*by_name, []], help="all of them by default")
    parser.add_argument("--scale", type=float, default=1.0, help="0.1 is a tenth of the length")
    given = parser.parse_args()
    broken = 0
    for name in given.names or by_name:
        begun = time.monotonic()
        kept, figures = by_name[name](given.scale)
        seconds = time.monotonic() - begun
        print(f"{'kept' if kept else 'BROKEN'}  {name}  ({seconds:.0f} s)")
        print(f"    {(by_name[name].__doc__ or '').strip()}")
        for figure, value in figures.items():
            print(f"    {figure}: {json.dumps(value)}")
        sys.stdout.flush()
        broken += not kept
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
