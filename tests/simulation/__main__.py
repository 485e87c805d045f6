"""Play many histories and print figures, or play one history and print its lines.

    python -m tests.simulation --histories 2000 --first 0 --jobs 2
    python -m tests.simulation --seed 7
    python -m tests.simulation --seed 7 --shrink --keep NAME

The exit status is 1 if a history breaks an invariant.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from .history import play, printed
from .plan import AIMS, Plan, make
from .shrink import shrink

PLANS = Path(__file__).parent / "plans"
_CHUNK = 250  # the histories of one piece of work


@dataclass
class Figures:
    """The figures of many histories."""

    histories: int = 0
    steps: int = 0
    cpu_s: float = 0.0  # of all processes, because the time on a busy machine says little
    seeds: dict[str, list[int]] = field(default_factory=dict)  # of each broken invariant

    def add(self, other: Figures) -> None:
        self.histories += other.histories
        self.steps += other.steps
        self.cpu_s += other.cpu_s
        for name, seeds in other.seeds.items():
            self.seeds.setdefault(name, []).extend(seeds)

    def lines(self, seconds: float) -> Iterator[str]:
        yield (
            f"{self.histories} histories, {self.steps} steps"
            f" ({self.steps / max(1, self.histories):.0f} for each), {seconds:.1f} s,"
            f" {self.cpu_s:.1f} s of CPU ({self.histories / self.cpu_s:.0f} histories a second)"
        )
        for name, seeds in sorted(self.seeds.items(), key=lambda item: -len(item[1])):
            yield f"VIOLATED {len(seeds):6} {name}, seeds {' '.join(map(str, sorted(seeds)[:5]))}"
        yield f"{sum(map(len, self.seeds.values()))} violations"


def play_seeds(seeds: Iterable[int], aim: str | None) -> Figures:
    """Play the histories of these seeds, and return their figures."""
    figures = Figures()
    begun = time.process_time()
    gc.collect()  # Otherwise the garbage of the histories before would stay for ever.
    gc.freeze()
    for seed in seeds:
        result = play(make(seed, aim))
        figures.histories += 1
        figures.steps += result.steps
        for name in dict.fromkeys(violation.invariant for violation in result.violations):
            figures.seeds.setdefault(name, []).append(seed)
    figures.cpu_s = time.process_time() - begun
    return figures


def play_many(arguments: argparse.Namespace) -> int:
    begun = time.monotonic()
    first, end = arguments.first, arguments.first + arguments.histories
    pieces = [range(at, min(at + _CHUNK, end)) for at in range(first, end, _CHUNK)]
    figures = Figures()
    if arguments.jobs == 1:
        for piece in pieces:
            figures.add(play_seeds(piece, arguments.aim))
    else:
        with ProcessPoolExecutor(arguments.jobs) as pool:
            count = len(pieces)
            for each in pool.map(play_seeds, pieces, [arguments.aim] * count):
                figures.add(each)
    print("\n".join(figures.lines(time.monotonic() - begun)))
    return 1 if figures.seeds else 0


def play_one(plan: Plan, arguments: argparse.Namespace) -> int:
    result = play(plan)
    if arguments.shrink and result.violations:
        wanted = result.violations[0].invariant
        plan = shrink(
            plan,
            lambda candidate: wanted in {each.invariant for each in candidate.violations},
        )
        result = play(plan)
    print(printed(result))
    if arguments.shrink:
        print(plan.to_json().decode())
    if arguments.keep:
        (PLANS / f"{arguments.keep}.json").write_bytes(plan.to_json())
    return 1 if result.violations else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--histories", type=int, default=2000, help="how many histories to play")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the work")
    parser.add_argument("--seed", type=int, help="play the history of this seed and print it")
    parser.add_argument("--plan", type=Path, help="play the plan of this file and print it")
    parser.add_argument("--aim", choices=AIMS, help="the aim of each plan")
    parser.add_argument("--shrink", action="store_true", help="cut the plan down first")
    parser.add_argument("--keep", metavar="NAME", help="write the plan to plans/NAME.json")
    arguments = parser.parse_args()
    if arguments.plan:
        return play_one(Plan.from_json(arguments.plan.read_bytes()), arguments)
    if arguments.seed is not None:
        return play_one(make(arguments.seed, arguments.aim), arguments)
    return play_many(arguments)


if __name__ == "__main__":
    sys.exit(main())
