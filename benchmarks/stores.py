"""Run `make bench-stores`, which measures 1, 100 and 10,000 stores, and write results/stores.md.

Ratios are taken within a round of one run, because absolute times drift on a shared machine.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import date
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import report
from fake_store import write_files, write_stores_conf
from in_process import interleave, measured
from load import Callers, patient_callers, run_wrk
from processes import Server, free_port, require_programs, running, say

HERE = Path(__file__).parent
ROOT = HERE.parent
CUSTOMER = "/api/json/v1/ecwid/customer/"
NUMBERS = (1, 100, 10_000)
MOST = max(NUMBERS)
FIRST = 1_000_000  # the number of the first store
STALLED = tuple(range(FIRST + MOST, FIRST + MOST + 3))
CONNECTIONS = 8
STALLED_CONNECTIONS = 16  # for each stalled store, which is twice what the plugin lets wait
STALL_S = 600
VARIETY = 1_000_000  # Equal reads at the same time would share a call.
BEFORE = "5b52a41"  # the last commit that serves one store in each mount
ALL_OPEN = {"ECWID_MAX_OPEN_STORES": str(MOST)}
LIBRARIES = ("flask", "connexion", "requests", "orjson", "gunicorn")
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})

Sample = dict[str, float]


class App(NamedTuple):
    """An app under measurement, with its settings and its callers."""

    module: str
    settings: Mapping[str, str] = NO_SETTINGS
    callers: Callers | None = None


class Stores:
    """The servers under measurement, and their shared folder."""

    def __init__(self, folder: Path, seconds: int, rounds: int) -> None:
        self.folder = folder
        self.seconds = seconds
        self.rounds = rounds
        self.port, self.stalled_port = free_port(), free_port()
        write_files(folder)
        self.conf = write_stores_conf(
            folder, port=self.port, stalled_port=self.stalled_port, stalled=STALLED
        )
        self.files = {number: self._stores_file(number) for number in NUMBERS}

    def _stores_file(self, number: int) -> Path:
        path = self.folder / f"stores-{number}.json"
        entries = [
            {"id": str(each), "token": f"secret_bench_{each}", "api_keys": [entry_of(each)]}
            for each in range(FIRST, FIRST + number)
        ]
        path.touch(mode=0o600)
        path.write_text(json.dumps({"stores": entries}))
        return path

    # The apps

    def by_settings(self) -> App:
        return App(
            "wsgi",
            {"ECWID_STORE_ID": str(FIRST), "ECWID_TOKEN": "secret_bench", "ECWID_AUTH": "none"},
        )

    def by_host(self, number: int, settings: Mapping[str, str] = ALL_OPEN) -> App:
        return App("agency", settings, Callers("Store", "", FIRST, number))

    def by_file(self, number: int, settings: Mapping[str, str] = ALL_OPEN, callers: int = 1) -> App:
        settings = {"ECWID_STORES": str(self.files[number]), **settings}
        return App("wsgi", settings, Callers("X-API-Key", "ecwid_bench_", FIRST, callers))

    # The servers

    @contextmanager
    def ecwid(self) -> Iterator[None]:
        command = ["nginx", "-e", str(self.folder / "error.log"), "-c", str(self.conf)]
        with running(command, self.port, HERE, {}, self.folder):
            yield

    @contextmanager
    def stall(self) -> Iterator[None]:
        command = [
            *(sys.executable, "fake_store.py"),
            *(str(self.stalled_port), str(STALL_S), str(self.folder)),
        ]
        with running(command, self.stalled_port, HERE, {}, self.folder):
            yield

    @contextmanager
    def started(self, app: App) -> Iterator[Server]:
        port = free_port()
        options = ["--threads=32", "--http-parser=python"]
        command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", *options]
        env = self._env(app.settings)
        with running([*command, f"{app.module}:app"], port, ROOT, env, self.folder) as server:
            yield server

    def _env(self, settings: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a process that counts its calls in a file of its own."""
        state = tempfile.mkdtemp(prefix="state-", dir=self.folder)
        return {
            "ECWID_API_URL": f"http://127.0.0.1:{self.port}/api/v3",
            "ECWID_CALLS_PER_MINUTE": "1000000",  # as many as a machine can make, and counted
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE / "apps")]),
            "STATE_DIRECTORY": state,
            **settings,
        }

    def sample(self, server: Server, callers: Callers | None) -> Sample:
        """Return one measured run.

        Raises:
            RuntimeError: A response was not good.
        """
        before = server.cpu_s()
        load = run_wrk(
            f"http://127.0.0.1:{server.port}{CUSTOMER}",
            seconds=self.seconds,
            connections=CONNECTIONS,
            variety=VARIETY,
            callers=callers,
        )
        if load.good < load.requests:
            raise RuntimeError(f"{load.requests - load.good} bad responses")
        cpu_us = 1e6 * (server.cpu_s() - before) / load.requests
        return {"rate": load.requests_per_s, "p99_ms": load.p99_ms, "cpu_us": cpu_us}

    def interleaved(self, measured: Mapping[str, Callable[[], Sample]]) -> dict[str, list[Sample]]:
        """Return the samples of all, in an order that turns. The first round warms up."""
        samples: dict[str, list[Sample]] = {name: [] for name in measured}
        names = list(measured)
        for number in range(self.rounds + 1):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                sample = measured[name]()
                if number:
                    samples[name].append(sample)
        return samples

    # The measurements

    def start(self) -> dict[str, list[Sample]]:
        """Measure the CPU and the seconds until the server answers."""
        apps = {"store=": self.by_host(1)}
        apps |= {str(number): self.by_file(number) for number in NUMBERS}
        return self.interleaved({name: partial(self._start, app) for name, app in apps.items()})

    def _start(self, app: App) -> Sample:
        began = time.perf_counter()
        with self.started(app) as server, Caller(server.port) as caller:
            caller.request("/")
            return {"cpu_s": server.cpu_s(), "seconds": time.perf_counter() - began}

    def speed(self) -> tuple[dict[str, float], dict[str, list[Sample]]]:
        """Measure the opening of stores and their memory, and then the rate of requests."""
        # The servers share a state, so each token is proven once.
        (self.folder / "state").mkdir(mode=0o700)
        state = {"STATE_DIRECTORY": str(self.folder / "state")}
        all_open = {**ALL_OPEN, **state}
        by_host = {number: self.by_host(number, all_open) for number in NUMBERS}
        by_file = {number: self.by_file(number, all_open) for number in NUMBERS}
        default = self.by_host(MOST, state)
        spread_keys = self.by_file(MOST, all_open, MOST)
        with ExitStack() as stack:
            agency = stack.enter_context(self.started(by_host[MOST]))
            thousand = stack.enter_context(self.started(default))
            files = {
                number: stack.enter_context(self.started(app)) for number, app in by_file.items()
            }
            stack.enter_context(self.ecwid())
            opening = self._open_all(agency)
            again = stack.enter_context(self.started(by_host[MOST]))
            opening["again"] = self._open_again(again)
            loads = {f"store= {number}": (agency, app) for number, app in by_host.items()}
            loads["store= default"] = thousand, default
            loads |= {f"keys {number}": (files[number], app) for number, app in by_file.items()}
            loads["keys spread"] = files[MOST], spread_keys
            samples = self.interleaved(
                {
                    name: partial(self.sample, server, app.callers)
                    for name, (server, app) in loads.items()
                }
            )
        return opening, samples

    def _open_all(self, server: Server) -> dict[str, float]:
        """Send two requests to each store of the first and the last hundreds, and one to others."""
        found: dict[str, float] = {}
        with Caller(server.port) as caller:
            for _ in range(500):
                caller.get(FIRST)
            found["rss 1"] = server.rss_mb()
            for few, most in pairwise(NUMBERS):
                extra = []
                for number in range(FIRST + few, FIRST + most):
                    first_s = caller.get(number)
                    if number >= FIRST + most - 1_000:
                        extra.append(first_s - caller.get(number))
                found[f"opening {most}"] = 1e3 * statistics.median(extra)
                found[f"rss {most}"] = server.rss_mb()
        return found

    def _open_again(self, server: Server) -> float:
        """Open a tenth of the stores in a new worker, which knows that Ecwid accepts the tokens."""
        with Caller(server.port) as caller:
            for _ in range(500):
                caller.get(FIRST)
            numbers = range(FIRST + 1, FIRST + 1 + MOST // 10)
            return 1e3 * statistics.median(caller.get(each) - caller.get(each) for each in numbers)

    def stalled(self) -> dict[str, list[Sample]]:
        """Measure 97 stores while no other store is stalled, then one, and then three."""
        url = "http://127.0.0.1:{}" + CUSTOMER
        long = {"ECWID_READ_TIMEOUT_S": str(STALL_S), "ECWID_DEADLINE_S": str(STALL_S)}
        others = Callers("Store", "", FIRST, 100 - len(STALLED))
        apps = {
            "none": (0, long),
            "one": (1, long),
            "three": (3, long),
            "three, no limit": (3, {**long, "ECWID_STORE_CONCURRENCY": "1000"}),
        }
        with ExitStack() as stack:
            servers = {
                name: stack.enter_context(self.started(App("agency", settings)))
                for name, (_, settings) in apps.items()
            }
            stack.enter_context(self.ecwid())
            stack.enter_context(self.stall())
            for name, (stalled, _) in apps.items():
                for number in STALLED[:stalled]:
                    stack.enter_context(
                        patient_callers(
                            url.format(servers[name].port),
                            seconds=STALL_S,
                            connections=STALLED_CONNECTIONS,
                            callers=Callers("Store", "", number, 1),
                            variety=VARIETY,
                            pause_s=1,  # as the Retry-After of a refusal says
                        )
                    )
            time.sleep(2)  # until the callers of the stalled stores have been refused once
            runs: dict[str, Callable[[], Sample]] = {
                name: partial(self.sample, server, others) for name, server in servers.items()
            }
            no_limit = "three, no limit"
            runs[no_limit] = partial(self._sample_of_none, servers[no_limit], others)
            return self.interleaved(runs)

    def _sample_of_none(self, server: Server, others: Callers) -> Sample:
        """Return the sample of a server that may have no thread left for anybody."""
        try:
            return self.sample(server, others)
        except RuntimeError:
            return {"rate": 0.0, "p99_ms": 1000.0 * self.seconds}

    def in_process(self) -> dict[str, list[float]]:
        """Measure a get in process, by settings in two versions, and with `store=`."""
        settings = self.by_settings()
        programs = {
            "settings": (ROOT, settings),
            "store=": (ROOT, self.by_host(1)),
        }
        if before := self._before():
            programs = {"before": (before, settings), **programs}
        with ExitStack() as stack:
            apps = {
                name: stack.enter_context(
                    measured(
                        f"{app.module}:app",
                        str(FIRST),
                        cwd=source,
                        env={
                            **self._env(app.settings),
                            "PYTHONPATH": os.pathsep.join([str(source), str(HERE / "apps")]),
                        },
                        log=self.folder / f"in-process-{name}.log",
                    )
                )
                for name, (source, app) in programs.items()
            }
            samples = interleave(apps, ["get"], blocks=200)
        return {name: works["get"] for name, works in samples.items()}

    def _before(self) -> Path | None:
        """Return a folder with the plugin before many stores, or None without git's history."""
        command = ["git", "archive", BEFORE, "flask_ecwid", "openapi", "wsgi.py"]
        try:
            packed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            say(f"there is no commit {BEFORE}, so nothing is compared with it")
            return None
        folder = self.folder / "before"
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")
        return folder


class Caller:
    """A caller over one connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def request(self, path: str, headers: Mapping[str, str] = NO_SETTINGS) -> int:
        """Send a GET, and return the status of the response."""
        self._connection.request("GET", path, headers=dict(headers))
        response = self._connection.getresponse()
        response.read()
        return response.status

    def get(self, store: int) -> float:
        """Get a customer of a store, and return the seconds.

        Raises:
            RuntimeError: The response was not good.
        """
        began = time.perf_counter()
        status = self.request(CUSTOMER + "177737165", {"Store": str(store)})
        seconds = time.perf_counter() - began
        if status != 200:
            raise RuntimeError(f"the status of store {store} is {status}")
        return seconds


def entry_of(store: int) -> str:
    """Return the entry of the API key of a store's caller."""
    digest = hashlib.sha256(f"ecwid_bench_{store}".encode()).hexdigest()
    return f"caller:read+write+delete:{digest}"


# The report


def ratios(samples: Mapping[str, list[Sample]], name: str, base: str, measure: str) -> str:
    """Return the samples divided by those of the base, round by round."""
    pairs = zip(samples[name], samples[base], strict=True)
    return report.spread([one[measure] / other[measure] for one, other in pairs])


def median(samples: Mapping[str, list[Sample]], name: str, measure: str) -> float:
    return statistics.median(sample[measure] for sample in samples[name])


def numbers_table(
    start: Mapping[str, list[Sample]],
    opening: Mapping[str, float],
    speed: Mapping[str, list[Sample]],
) -> str:
    """Return the table of 1, 100 and 10,000 stores."""

    def row(title: str, cells: Callable[[int], str], target: str = "") -> list[str]:
        return [title, *(cells(number) for number in NUMBERS), target]

    def kb(number: int) -> str:
        grown = opening[f"rss {number}"] - opening["rss 1"]
        return f"{1000 * grown / (number - 1):.1f} kB" if number > NUMBERS[1] else ""

    def rate(app: str, measure: str) -> Callable[[int], str]:
        return lambda number: ratios(speed, f"{app} {number}", f"{app} 1", measure)

    rows = [
        row(
            "start with `store=`, CPU",
            lambda number: (
                f"{median(start, 'store=', 'cpu_s'):.2f} s, for any number"
                if number == 1
                else "the same"
            ),
            "1.1 at most",
        ),
        row(
            "start with `ECWID_STORES`, CPU",
            lambda number: ratios(start, str(number), "1", "cpu_s"),
            "1.1 at most",
        ),
        row("memory of an idle open store", kb, "10 kB at most"),
        row(
            "opening: the first request beyond the second",
            lambda number: f"{opening['again']:.2f} ms" if number == MOST else "",
            "1 ms at most",
        ),
        row(
            "the same, and Ecwid has never accepted the token before",
            lambda number: f"{opening[f'opening {number}']:.2f} ms" if number > 1 else "",
            "1 ms at most",
        ),
        row("requests/s", rate("store=", "rate"), "0.9 or more"),
        row("CPU per request", rate("store=", "cpu_us")),
        row("p99", rate("store=", "p99_ms")),
        row(
            "requests/s, 1,000 of 10,000 open (the default)",
            lambda number: (
                ratios(speed, "store= default", "store= 1", "rate") if number == MOST else ""
            ),
        ),
        row(
            "CPU per request, 1,000 of 10,000 open",
            lambda number: (
                ratios(speed, "store= default", "store= 1", "cpu_us") if number == MOST else ""
            ),
        ),
        row("`ECWID_STORES`, one caller: requests/s", rate("keys", "rate"), "no difference"),
        row("`ECWID_STORES`, one caller: CPU per request", rate("keys", "cpu_us"), "no difference"),
        row(
            "`ECWID_STORES`, each API key in turn: CPU per request",
            lambda number: (
                ratios(speed, "keys spread", "keys 1", "cpu_us") if number == MOST else ""
            ),
        ),
    ]
    return report.table(["", "1 store", "100 stores", "10,000 stores", "target"], rows)


def stalled_table(stalled: Mapping[str, list[Sample]]) -> str:
    """Return the table of the stalled stores."""
    rows = []
    for name in stalled:
        target = {"one": "2 at most", "three": "2 at most"}.get(name, "")
        cells = [ratios(stalled, name, "none", each) for each in ("p99_ms", "rate")]
        if not median(stalled, name, "rate"):
            cells[0] = "no response"
        rows.append([name, *cells, target])
    return report.table(
        ["stalled stores", "p99 of the others", "requests/s", "target of p99"], rows
    )


def in_process_table(in_process: Mapping[str, list[float]]) -> str:
    """Return the table of a get in process."""
    base = "before" if "before" in in_process else "settings"
    names = {
        "before": f"one store by settings, before many stores ({BEFORE})",
        "settings": "one store by settings",
        "store=": "`store=`, with one store",
    }
    rows = []
    for name, costs in in_process.items():
        pairs = zip(costs, in_process[base], strict=True)
        low, middle, high = statistics.quantiles([one - other for one, other in pairs], n=4)
        tenths = [statistics.quantiles(each, n=10)[0] for each in (costs, in_process[base])]
        added = ["", ""]
        if name != base:
            added = [f"{middle:.0f} [{low:.0f} {high:.0f}]", f"{tenths[0] - tenths[1]:.0f}"]
        target = "15 us at most" if name == "settings" and base == "before" else ""
        rows.append([names[name], f"{statistics.median(costs):.0f}", *added, target])
    heads = ["a get in process", "CPU, us", "added, us", "added to the lowest tenth, us", "target"]
    return report.table(heads, rows)


def write(folder: Path, bench: Stores) -> None:
    """Measure all, and write the tables."""
    began = time.monotonic()
    load = os.getloadavg()[0]
    tables = []
    say("in process")
    tables.append(in_process_table(bench.in_process()))
    say("stalled stores")
    tables.append(stalled_table(bench.stalled()))
    say("start")
    start = bench.start()
    say("opening and speed")
    tables.append(numbers_table(start, *bench.speed()))
    in_process, stalled, numbers = tables
    parts = [
        "# Many stores",
        f"{date.today().isoformat()}, {report.machine(LIBRARIES)}. {bench.rounds} rounds, "
        "interleaved; medians, and in brackets the quartiles. Written by `make bench-stores` in "
        f"{time.monotonic() - began:.0f} s. The load average of the machine was {load:.1f} before "
        "the run.",
        "Ratios are to one store. The app of `store=` computes the credentials from a header, and "
        f"`ECWID_MAX_OPEN_STORES` is {MOST}.",
        numbers,
        f"{100 - len(STALLED)} stores share {CONNECTIONS} connections. Each stalled store has "
        f"{STALLED_CONNECTIONS} callers of its own, and Ecwid never replies to them. The worker "
        "has 32 threads.",
        stalled,
        "In process there is neither a server nor a socket, and the reply of Ecwid is made up. The "
        "file of calls is a real one.",
        in_process,
    ]
    folder.mkdir(exist_ok=True)
    (folder / "stores.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print("\n\n".join(parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=1, help="of each measured run")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    given = parser.parse_args()
    require_programs()
    with tempfile.TemporaryDirectory(prefix="flask-ecwid-bench-") as folder:
        os.chmod(folder, 0o755)
        write(given.results, Stores(Path(folder), given.seconds, given.rounds))


if __name__ == "__main__":
    main()
