"""The report of the results, with a table, a chart and the machine."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

BASE = "bare Flask, Session"
WORK = {"page": "page of 100", "get": "get", "add": "add"}
MEASURES = {
    "cpu_ms": "CPU per request",
    "requests_per_s": "requests/s",
    "p50_ms": "p50",
    "p99_ms": "p99",
    "rss_mb": "RSS",
}
LIBRARIES = (
    "flask",
    "connexion",
    "requests",
    "orjson",
    "jsonschema-rs",
    "fastapi",
    "pydantic",
    "aiohttp",
    "flask-openapi3",
    "gunicorn",
    "uvicorn",
)


def machine(libraries: Iterable[str] = LIBRARIES) -> str:
    """Return the processor, the system and the versions, without other data of the machine."""
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    cores = sum(
        line.startswith("processor") for line in Path("/proc/cpuinfo").read_text().splitlines()
    )
    versions = ", ".join(f"{name} {version(name)}" for name in libraries)
    return f"{model}, {cores} cores, CPython {platform.python_version()}; {versions}"


def write(results: dict[str, Any], folder: Path) -> None:
    """Write `results.md`, and `results.svg` if there is a contest to draw."""
    parts = [
        "# Results",
        f"{results['date']}, {results['machine']}. {results['rounds']} rounds, interleaved; "
        "medians, and in brackets the quartiles. Written by `make bench`.",
    ]
    for table, part in PARTS.items():
        if table in results:
            parts += part(results)
    (folder / "results.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    if "contest" in results:
        draw(results["contest"], folder / "results.svg")


def ratios(contest: dict[str, Any], name: str, work: str, measure: str) -> list[float]:
    """Return the contender's figures divided by the bare view's, round by round."""
    pairs = zip(contest[name][work], contest[BASE][work], strict=True)
    return [one[measure] / base[measure] for one, base in pairs if base[measure]]


def _contest(results: dict[str, Any]) -> Iterator[str]:
    contest, checks = results["contest"], results.get("checks", {})
    yield "## The same work"
    yield (
        f"CPU is user and system time of the server's processes. 1.00 is the bare Flask view with "
        f"`requests.Session`. *Checks* says whether a customer whose e-mail is a number is held "
        f"back. A page is {results['sizes']['page-100'] / 1000:.0f} kB, a customer "
        f"{results['sizes']['customer'] / 1000:.1f} kB."
    )
    rows = [
        [
            name,
            {True: "yes", False: "no"}.get(checks.get(name), ""),
            *(spread(ratios(contest, name, work, "cpu_ms")) for work in WORK),
        ]
        for name in contest
    ]
    yield table(["CPU per request", "checks", *WORK.values()], rows)
    for work, title in WORK.items():
        rows = [
            [name, *(spread(ratios(contest, name, work, measure)) for measure in MEASURES)]
            for name in contest
        ]
        yield table([title, *MEASURES.values()], rows)
    base = contest[BASE]
    yield "In absolute figures, which hold for this machine and this hour alone, 1.00 is: " + (
        "; ".join(
            f"{title} {_median(base[work], 'cpu_ms'):.2f} ms CPU, "
            f"{_median(base[work], 'requests_per_s'):.0f} requests/s, "
            f"p50 {_median(base[work], 'p50_ms'):.0f} ms, "
            f"p99 {_median(base[work], 'p99_ms'):.0f} ms"
            for work, title in WORK.items()
        )
        + f"; RSS {_median(base['get'], 'rss_mb'):.0f} MB."
    )


def _growth(results: dict[str, Any]) -> Iterator[str]:
    yield "## By the size of the page"
    names = list(next(iter(results["growth"].values())))
    rows = []
    for size, cells in results["growth"].items():
        pairs = zip(cells[names[1]], cells[names[0]], strict=True)
        medians = [f"{statistics.median(cells[name]):.2f} ms" for name in names]
        rows.append([size, *medians, spread([ours / base for ours, base in pairs])])
    yield table(["customers", *names, "ratio"], rows)


def _concurrency(results: dict[str, Any]) -> Iterator[str]:
    yield "## While Ecwid takes 200 ms"
    yield (
        "Requests a second as a share of the ideal (callers / 0.2 s); gthread with as many threads "
        "as callers."
    )
    callers = list(next(iter(results["concurrency"].values())))
    rows = [
        [name, *(f"{cells[number]:.0%}" for number in callers)]
        for name, cells in results["concurrency"].items()
    ]
    yield table(["", *(f"{number} callers" for number in callers)], rows)


def _startup(results: dict[str, Any]) -> Iterator[str]:
    yield "## Starting"
    yield "Until the worker answers, CPU of master and worker until then, and the worker's memory."
    yield _started(results["startup"], ("seconds", "cpu_s"))


def _imports(results: dict[str, Any]) -> Iterator[str]:
    yield "A process that only makes the app, without a server:"
    yield _started(results["imports"], ("seconds",))


def _started(samples: dict[str, Any], measures: Iterable[str]) -> str:
    rows = []
    for name, runs in samples.items():
        cells = []
        for measure in measures:
            pairs = zip(runs, samples[BASE], strict=True)
            found = spread([one[measure] / base[measure] for one, base in pairs])
            cells += [f"{_median(runs, measure):.2f} s", found]
        rows.append([name, *cells, f"{_median(runs, 'rss_mb'):.0f} MB"])
    titles = {"seconds": "time", "cpu_s": "CPU"}
    heads = [head for measure in measures for head in (titles[measure], "ratio")]
    return table(["", *heads, "RSS"], rows)


def _export(results: dict[str, Any]) -> Iterator[str]:
    yield "## 10,000 customers, page by page"
    samples = results["export"]
    rows = []
    for name, runs in samples.items():
        pairs = list(zip(runs, samples[BASE], strict=True))
        rows.append(
            [
                name,
                f"{_median(runs, 'seconds'):.2f} s",
                spread([one["seconds"] / base["seconds"] for one, base in pairs]),
                spread([one["cpu_s"] / base["cpu_s"] for one, base in pairs]),
            ]
        )
    yield table(["one caller", "time", "ratio", "CPU, ratio"], rows)


def _budget(results: dict[str, Any]) -> Iterator[str]:
    yield "## Out of 600 calls a minute"
    without, kept = results["budget"]["without"], results["budget"]["with"]
    yield (
        "100 hot customers, asked for at random by 8 callers; the store refuses what is beyond 600 "
        "calls a minute, and the plugin makes 540 of them."
    )
    rows = [
        ["no cache", f"{without:.1f}", "1"],
        ["`ECWID_CACHE_TTL_S=60`", f"{kept:.0f}", f"{kept / without:.0f}"],
    ]
    yield table(["", "good answers a second", "ratio"], rows)


PARTS = {
    "contest": _contest,
    "growth": _growth,
    "concurrency": _concurrency,
    "startup": _startup,
    "imports": _imports,
    "export": _export,
    "budget": _budget,
}


def _median(runs: list[dict[str, float]], measure: str) -> float:
    return statistics.median(run[measure] for run in runs)


def spread(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.2f}"
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} [{low:.2f} {high:.2f}]"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def draw(contest: dict[str, Any], path: Path) -> None:
    """Draw CPU per request as bars on a logarithmic scale from a hundredth to thirty."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "flask_ecwid"  # the same figures make the same file
    from matplotlib import pyplot

    names = list(reversed(contest))
    colors = {"page": "#1f5fa8", "get": "#6fa8dc", "add": "#c5dbf2"}
    figure, axes = pyplot.subplots(figsize=(9, 0.62 * len(names) + 1.2))
    height = 0.26
    for index, work in enumerate(WORK):
        values = [statistics.median(ratios(contest, name, work, "cpu_ms")) for name in names]
        places = [place + (1 - index) * height for place in range(len(names))]
        bars = axes.barh(places, values, height, color=colors[work], label=WORK[work])
        axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=3, fontsize=7)
    axes.axvline(1, color="#444444", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("CPU per request, as a ratio of the bare Flask view (less is better)")
    axes.legend(loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
