"""Write the results as tables and a chart, and put their figures into the pages.

python report.py      write all again from results/results.json
"""

from __future__ import annotations

import json
import platform
import re
import statistics
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
# Each of these pages has blocks between `<!-- figures: NAME -->` and `<!-- end of figures -->`.
PAGES = ("README.md", "docs/deployment.md")
BASE = "bare Flask, Session"
OURS = "flask_ecwid"
WORK = {"page": "page of 100", "get": "get", "add": "add"}
# This sentence stands above the tables in which Ecwid is slow.
_ROUNDS = "The figures are medians of few rounds, with the lowest and the highest in brackets."
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
    "gunicorn_h1c",
    "gevent",
    "granian",
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
        f"{results['date']}, {results['machine']}. {results['rounds']} rounds, interleaved. "
        "The figures are medians, with the quartiles in brackets. A ratio is the median of the "
        "ratios of all rounds, so it may differ from the ratio of two medians. `make bench` "
        "writes this page.",
    ]
    if "transport" in results:
        parts.append(
            f"The transport of flask_ecwid is its {results['transport']}. If a table names no "
            "other server, the server is gunicorn with one gthread worker and its Python parser, "
            "or uvicorn for FastAPI and connexion 3. 1.00 is the bare Flask view with "
            "`requests.Session`, orjson and no checks, under that gunicorn. flask_ecwid keeps "
            "each worker of gunicorn on one core. A name says if another contender is kept on one "
            "core, or if flask_ecwid uses all cores."
        )
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
        "CPU is user and system time of the server's processes. 1.00 is the bare Flask view with "
        "`requests.Session`. *Checks* says whether the server refuses a customer whose e-mail is "
        f"a list. A page is {results['sizes']['page-100'] / 1000:.0f} kB, a customer "
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
    yield "On this machine and in this hour, 1.00 was: " + (
        "; ".join(
            f"{title} {_median(base[work], 'cpu_ms'):.2f} ms CPU, "
            f"{_median(base[work], 'requests_per_s'):.0f} requests/s, "
            f"p50 {_median(base[work], 'p50_ms'):.0f} ms, "
            f"p99 {_median(base[work], 'p99_ms'):.0f} ms"
            for work, title in WORK.items()
        )
        + f"; RSS {_median(base['get'], 'rss_mb'):.0f} MB."
    )


def _in_process(results: dict[str, Any]) -> Iterator[str]:
    samples = results["in_process"]
    yield "## In process"
    yield (
        "Each app runs in a process of its own, which calls the app without a server and in one "
        "thread. Ecwid is on loopback. flask_ecwid has the log lines and the garbage collection "
        "of `gunicorn.conf.py`. The target of flask_ecwid is 0.60 for a get and 0.62 for an add, "
        "at most."
    )
    rows = []
    for name, works in samples.items():
        cells = []
        for work in WORK:
            pairs = zip(works[work], samples[BASE][work], strict=True)
            cells.append(spread([one / base for one, base in pairs]))
        rows.append([name, *cells, *(f"{statistics.median(works[work]):.0f}" for work in WORK)])
    titles = list(WORK.values())
    yield table(["CPU per request", *titles, *(f"{title}, us" for title in titles)], rows)


def _servers(results: dict[str, Any]) -> Iterator[str]:
    yield "## Servers"
    yield (
        "The same work under other servers, each with one process and 32 threads. 1.00 is the "
        "bare Flask view with `requests.Session` under gunicorn's gthread with the Python parser. "
        "The bare view with an HTTPAdapter checks nothing. gunicorn has its Python parser, unless "
        "the name says C parser."
    )
    servers = results["servers"]
    rows = [
        [name, *(spread(ratios(servers, name, work, "cpu_ms")) for work in WORK)]
        for name in servers
    ]
    yield table(["CPU per request", *WORK.values()], rows)


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
        "Requests a second, as a share of the ideal (callers / 0.2 s). gunicorn has as many "
        "threads as there are callers. The target of flask_ecwid is 90 % for 128 callers. "
        f"{_ROUNDS}"
    )
    callers = list(next(iter(results["concurrency"].values())))
    rows = [
        [name, *(_lowest_median_highest(cells[number]) for number in callers)]
        for name, cells in results["concurrency"].items()
    ]
    yield table(["", *(f"{number} callers" for number in callers)], rows)


def _many_callers(results: dict[str, Any]) -> Iterator[str]:
    yield "## 256 callers by configuration"
    yield (
        "The same for flask_ecwid, under other servers and with other numbers of processes. "
        f"*1 x 256 threads* means one process with 256 threads. {_ROUNDS}"
    )
    rows = [
        [name, _lowest_median_highest(shares)] for name, shares in results["many_callers"].items()
    ]
    yield table(["256 callers", "share of the ideal"], rows)


def _startup(results: dict[str, Any]) -> Iterator[str]:
    yield "## Starting"
    yield "The time and the CPU until the worker responds, and the memory of the worker then."
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
        "8 callers ask for 100 popular customers at random in one minute. The store refuses more "
        "than 600 calls a minute, and the plugin makes 540 at most. Without a cache, equal reads "
        "at the same time share a call, so there are more responses than calls."
    )
    rows = [
        ["no cache", f"{without:.1f}", "1"],
        ["`ECWID_CACHE_TTL_S=60`", f"{kept:.0f}", f"{kept / without:.0f}"],
    ]
    yield table(["", "good responses a second", "ratio"], rows)


PARTS = {
    "contest": _contest,
    "in_process": _in_process,
    "servers": _servers,
    "growth": _growth,
    "concurrency": _concurrency,
    "many_callers": _many_callers,
    "startup": _startup,
    "imports": _imports,
    "export": _export,
    "budget": _budget,
}


# The figures of the pages


def _costs(results: dict[str, Any]) -> str:
    """Return five lines of the contest."""
    # The line without checks is on one core, as flask_ecwid is.
    without = "bare Flask, HTTPAdapter, one core"
    shown = (BASE, without, OURS, "FastAPI, aiohttp", "connexion 2.15")
    rows = []
    for name in shown:
        cells = [
            f"{statistics.median(ratios(results['contest'], name, work, 'cpu_ms')):.2f}"
            for work in WORK
        ]
        rows.append([name, "yes" if results["checks"][name] else "no", *cells])
    return table(["CPU per request", "checks", *WORK.values()], rows)


def _threads(results: dict[str, Any]) -> str:
    shares = results["concurrency"][OURS]
    rows = [[number, f"{statistics.median(found):.0%}"] for number, found in shares.items()]
    return table(["threads, and as many callers", "share of the ideal requests a second"], rows)


def _worker(results: dict[str, Any]) -> str:
    ours, started = results["contest"][OURS], results["startup"][OURS]
    cpu = ", ".join(f"{_median(ours[work], 'cpu_ms'):.1f} ms" for work in WORK)
    rows = [
        ["CPU for a page of 100, one customer, a creation", cpu],
        ["start", f"{_median(started, 'seconds'):.1f} s"],
        ["memory of a worker, at its start", f"{_median(started, 'rss_mb'):.0f} MB"],
    ]
    return table(["", "measured"], rows)


FIGURES: dict[str, Callable[[dict[str, Any]], str]] = {
    "costs": _costs,
    "threads": _threads,
    "worker": _worker,
}
_BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(\n<!-- end of figures -->)", re.S)


def filled(text: str, results: dict[str, Any]) -> str:
    """Return the text of a page with the figures of the results in its blocks."""
    return _BLOCK.sub(lambda block: f"{block[1]}\n{FIGURES[block[2]](results)}\n{block[3]}", text)


def fill_pages(results: dict[str, Any]) -> None:
    """Put the figures into the pages."""
    for name in PAGES:
        page = ROOT / name
        page.write_text(filled(page.read_text(encoding="utf-8"), results), encoding="utf-8")


def _median(runs: list[dict[str, float]], measure: str) -> float:
    return statistics.median(run[measure] for run in runs)


def _lowest_median_highest(shares: list[float]) -> str:
    low, middle, high = min(shares), statistics.median(shares), max(shares)
    return f"{middle:.0%} [{low:.0%} {high:.0%}]"


def spread(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.2f}"
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} [{low:.2f} {high:.2f}]"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# The line at 1.00 does not cross a figure.
LABEL = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}


def draw(contest: dict[str, Any], path: Path) -> None:
    """Draw CPU per request as bars on a logarithmic scale from a hundredth to thirty.

    The drawing is as narrow as a phone, where the letters of a wider one would be too small.
    """
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "flask_ecwid"  # the same figures make the same file
    from matplotlib import pyplot

    names = list(reversed(contest))
    colors = {"page": "#1f5fa8", "get": "#6fa8dc", "add": "#c5dbf2"}
    figure, axes = pyplot.subplots(figsize=(4.6, 0.62 * len(names) + 1.2))
    height = 0.26
    for index, work in enumerate(WORK):
        values = [statistics.median(ratios(contest, name, work, "cpu_ms")) for name in names]
        places = [place + (1 - index) * height for place in range(len(names))]
        bars = axes.barh(places, values, height, color=colors[work], label=WORK[work])
        figures = [f"{value:.2f}" for value in values]
        axes.bar_label(bars, figures, padding=3, fontsize=7, bbox=LABEL)
    axes.axvline(1, color="#444444", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), [name.replace(", ", ",\n") for name in names], fontsize=9)
    axes.set_xlabel("ratio to the bare Flask view (less is better)", fontsize=9)
    axes.tick_params(axis="x", labelsize=9)
    axes.legend(loc="lower right", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    found = json.loads((HERE / "results" / "results.json").read_text(encoding="utf-8"))
    write(found, HERE / "results")
    fill_pages(found)
