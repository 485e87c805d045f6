"""Run `make bench` with every table, and write the results to results/.

Tables have ratios and medians of interleaved rounds, because absolute times drift on a shared
machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import report
from contenders import (
    ADAPTER,
    BASE,
    CONTENDERS,
    HERE,
    MANY_CALLERS,
    OURS,
    ROOT,
    SERVERS,
    VARIANTS,
    Contender,
)
from fake_store import PAGE_SIZES, write_files, write_nginx_conf
from in_process import interleave, measured
from load import Load, run_wrk
from processes import Server, free_port, require_programs, running, say, settings
from work import MOUNT, VARIETY, WORK

CALLERS = (8, 32, 128, 256)
DELAY_S = 0.2
PYTHONPATH = os.pathsep.join([str(ROOT), str(HERE / "apps"), str(HERE / ".environments")])
RESULTS = HERE / "results"
TRANSPORT = "own, on sockets"  # of flask_ecwid
BLOCKS = 20  # of requests in process, for each round


class Bench:
    """The servers under measurement, and their shared folder."""

    def __init__(
        self,
        folder: Path,
        environments: dict[str, Path],
        seconds: int,
        rounds: int,
        names: Collection[str] = (),
    ) -> None:
        self.folder = folder
        self.contenders = [who for who in CONTENDERS if not names or who.name in names]
        self.with_proxy = not names
        self.environments = environments
        self.seconds = seconds
        self.rounds = rounds
        self.slow_rounds = min(rounds, 3)  # because each run takes 10 seconds
        self.sizes = write_files(folder)
        self.store_port, self.limited_port, self.proxy_port = free_port(), free_port(), free_port()
        self.conf = write_nginx_conf(
            folder,
            port=self.store_port,
            limited_port=self.limited_port,
            proxy_port=self.proxy_port,
        )

    @contextmanager
    def nginx(self) -> Iterator[Server]:
        command = ["nginx", "-e", str(self.folder / "error.log"), "-c", str(self.conf)]
        with running(command, self.store_port, HERE, {}, self.folder) as server:
            yield server

    @contextmanager
    def slow_store(self) -> Iterator[int]:
        port = free_port()
        command = [sys.executable, "fake_store.py", str(port), str(DELAY_S), str(self.folder)]
        with running(command, port, HERE, {}, self.folder):
            yield port

    @contextmanager
    def started(
        self,
        who: Contender,
        store_port: int,
        threads: int = 32,
        others: Mapping[str, str] = MappingProxyType({}),
    ) -> Iterator[Server]:
        port = free_port()
        env = {**settings(store_port, self.folder), "PYTHONPATH": PYTHONPATH, **others}
        bin = self.environments[who.env] / "bin"
        command = who.command(bin, port, threads)
        with running(command, port, who.cwd, env, self.folder) as server:
            yield server

    def sample(self, server: Server, url: str, body: str = "", port: int = 0) -> dict[str, float]:
        """Return one measured run after a short run that warms the server up."""
        url = f"http://127.0.0.1:{port or server.port}{url}"
        before = server.cpu_s()
        variety = 0 if body else VARIETY
        load = run_wrk(url, seconds=self.seconds, connections=8, body=body, variety=variety)
        cpu_s = server.cpu_s() - before
        if load.good < load.requests:
            raise RuntimeError(f"{load.requests - load.good} bad answers from {url}")
        return {
            "cpu_ms": 1000 * cpu_s / load.requests,
            "requests_per_s": load.requests_per_s,
            "p50_ms": load.p50_ms,
            "p99_ms": load.p99_ms,
            "rss_mb": server.rss_mb(),
        }

    # The tables

    def contest(self) -> dict[str, Any]:
        """Measure every contender on the same work, round after round."""
        return self.rounds_of(self.contenders, self.with_proxy)

    def servers(self) -> dict[str, Any]:
        """Measure the same work under each server."""
        return self.rounds_of(SERVERS)

    def rounds_of(
        self, whos: Iterable[Contender], with_proxy: bool = False
    ) -> dict[str, dict[str, list[dict[str, float]]]]:
        """Return the samples of each contender and each work, in an order that turns."""
        with ExitStack() as stack:
            nginx = stack.enter_context(self.nginx())
            servers: list[tuple[str, Server, int]] = [
                (who.name, stack.enter_context(self.started(who, self.store_port)), 0)
                for who in whos
            ]
            if with_proxy:
                servers.append(("nginx proxy_pass", nginx, self.proxy_port))
            samples: dict[str, dict[str, list[dict[str, float]]]] = {
                name: {} for name, _, _ in servers
            }
            for number in range(self.rounds + 1):  # the first warms up
                for work, (url, body) in WORK.items():
                    turned = servers[number % len(servers) :] + servers[: number % len(servers)]
                    for name, server, port in turned:
                        sample = self.sample(server, url, body, port)
                        if number:
                            samples[name].setdefault(work, []).append(sample)
                say(f"round {number} of {self.rounds}")
        return samples

    def in_process(self) -> dict[str, Any]:
        """Measure the apps without a server, each in a process of its own."""
        apps = {BASE.name: "bare:session", ADAPTER.name: "bare:adapter", OURS.name: "wsgi:app"}
        with self.nginx(), ExitStack() as stack:
            measures = {
                name: stack.enter_context(
                    measured(
                        app,
                        cwd=ROOT,
                        env={
                            **settings(self.store_port, self.folder),
                            "PYTHONPATH": PYTHONPATH,
                        },
                        log=self.folder / f"{app}.log",
                    )
                )
                for name, app in apps.items()
            }
            return interleave(measures, WORK, blocks=BLOCKS * self.rounds)

    def checks(self) -> dict[str, bool]:
        """Find the contenders that pass on a reply whose `email` is a list."""
        import requests

        verdicts = {}
        with self.nginx():
            for who in self.contenders:
                with self.started(who, self.store_port) as server:
                    url = f"http://127.0.0.1:{server.port}{MOUNT}/customer/13"
                    verdicts[who.name] = requests.get(url, timeout=30).status_code >= 500
        return verdicts

    def growth(self) -> dict[str, Any]:
        """Measure CPU per request by the size of the page."""
        samples: dict[str, dict[str, list[float]]] = {}
        with self.nginx(), ExitStack() as stack:
            servers = [
                (who.name, stack.enter_context(self.started(who, self.store_port)))
                for who in (BASE, OURS)
            ]
            for number in range(self.rounds + 1):
                for size in PAGE_SIZES:
                    for name, server in servers:
                        sample = self.sample(server, f"{MOUNT}/customers?limit={size}&offset=")
                        if number:
                            cell = samples.setdefault(str(size), {}).setdefault(name, [])
                            cell.append(sample["cpu_ms"])
        return samples

    def concurrency(self) -> dict[str, Any]:
        """Measure requests per second as a share of the ideal, while Ecwid takes 200 ms."""
        table: dict[str, dict[str, list[float]]] = {}
        with self.slow_store() as store_port:
            for number in range(self.slow_rounds):
                for who in self.contenders:
                    if who in VARIANTS:
                        continue
                    cells = table.setdefault(who.name, {})
                    for callers in CALLERS:
                        share = self.share_of_ideal(who, store_port, callers, threads=callers)
                        cells.setdefault(str(callers), []).append(share)
                say(f"concurrency: round {number + 1}")
        return table

    def many_callers(self) -> dict[str, Any]:
        """Measure the same for the most callers, under each configuration of flask_ecwid."""
        table: dict[str, list[float]] = {}
        with self.slow_store() as store_port:
            for number in range(self.slow_rounds):
                for who, threads in MANY_CALLERS:
                    share = self.share_of_ideal(who, store_port, max(CALLERS), threads)
                    table.setdefault(who.name, []).append(share)
                say(f"many callers: round {number + 1}")
        return table

    def share_of_ideal(self, who: Contender, store_port: int, callers: int, threads: int) -> float:
        with self.started(who, store_port, threads=threads) as server:
            url = f"http://127.0.0.1:{server.port}{WORK['get'][0]}"
            answering(f"{url}1")  # This call also proves the token.
            load = run_wrk(url, seconds=max(10, self.seconds), connections=callers, variety=VARIETY)
        return load.requests_per_s * load.good / load.requests / (callers / DELAY_S)

    def startup(self) -> dict[str, Any]:
        """Measure the seconds, the CPU and the memory of the worker until the server accepts."""
        samples: dict[str, list[dict[str, float]]] = {}
        for _ in range(max(self.rounds, 5)):
            for who in self.contenders:
                if who in VARIANTS:
                    continue
                began = time.perf_counter()
                with self.started(who, self.store_port) as server:
                    answering(f"http://127.0.0.1:{server.port}/")
                    seconds = time.perf_counter() - began
                    sample = {
                        "seconds": seconds,
                        "cpu_s": server.cpu_s(),
                        "rss_mb": server.rss_mb(),
                    }
                samples.setdefault(who.name, []).append(sample)
        return samples

    def imports(self) -> dict[str, Any]:
        """Measure seconds and memory of a process that makes the app without a server."""
        programs = {BASE.name: ("bare", HERE / "apps"), OURS.name: ("wsgi", ROOT)}
        samples: dict[str, list[dict[str, float]]] = {}
        for _ in range(2 * max(self.rounds, 5)):
            for name, (module, cwd) in programs.items():
                samples.setdefault(name, []).append(
                    time_of_import(self.environments["rivals"], module, cwd)
                )
        return samples

    def export(self, pages: int = 100) -> dict[str, Any]:
        """Measure an export of 10,000 customers in pages of 100, beside the bare view."""
        samples: dict[str, list[dict[str, float]]] = {}
        url = WORK["page"][0]
        import requests

        with self.nginx(), ExitStack() as stack:
            servers = [
                (who.name, stack.enter_context(self.started(who, self.store_port)))
                for who in (BASE, OURS)
            ]
            for _ in range(self.rounds):
                for name, server in servers:
                    before, began = server.cpu_s(), time.perf_counter()
                    with requests.Session() as session:
                        for page in range(pages):
                            place = f"127.0.0.1:{server.port}{url}{100 * page}"
                            reply = session.get(f"http://{place}", timeout=30)
                            reply.raise_for_status()
                    sample = {
                        "seconds": time.perf_counter() - began,
                        "cpu_s": server.cpu_s() - before,
                    }
                    samples.setdefault(name, []).append(sample)
        return samples

    def budget(self, seconds: int = 60) -> dict[str, Any]:
        """Measure good responses per second in a minute of 600 calls, on 100 popular customers."""
        table = {}
        with self.nginx():
            for name, ttl_s in (("without", "0"), ("with", "60")):
                others = {"ECWID_CACHE_TTL_S": ttl_s, "ECWID_CALLS_PER_MINUTE": "540"}
                with self.started(OURS, self.limited_port, others=others) as server:
                    url = f"http://127.0.0.1:{server.port}{MOUNT}/customer/"
                    load: Load = run_wrk(url, seconds=seconds, connections=8, variety=100)
                    table[name] = load.good / seconds
        return table


def time_of_import(environment: Path, module: str, cwd: Path) -> dict[str, float]:
    program = (
        f"import {module}\n"
        "status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "print(int(status['VmRSS'].split()[0]))"
    )
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        done = subprocess.run(
            [environment / "bin" / "python", "-c", program],
            cwd=cwd,
            env={**os.environ, **settings(9, Path(folder))},
            capture_output=True,
            text=True,
            check=True,
        )
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "rss_mb": int(done.stdout) * 1024 / 1e6}


def answering(url: str) -> None:
    """Wait until the worker behind the listening socket responds, with any status."""
    import requests

    requests.get(url, timeout=30)


TABLES = (
    "contest",
    "checks",
    "in_process",
    "servers",
    "growth",
    "concurrency",
    "many_callers",
    "startup",
    "imports",
    "export",
    "budget",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2, help="of each measured run")
    parser.add_argument("--only", nargs="*", choices=TABLES, default=list(TABLES))
    parser.add_argument("--contenders", nargs="*", default=[], help="by name; default: all")
    parser.add_argument("--environments", type=Path, default=HERE / ".environments")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    require_programs()
    environments = {name: given.environments / name for name in ("rivals", "connexion3")}
    with tempfile.TemporaryDirectory(prefix="flask-ecwid-bench-") as folder:
        os.chmod(folder, 0o755)
        bench = Bench(Path(folder), environments, given.seconds, given.rounds, given.contenders)
        results: dict[str, Any] = {
            "date": date.today().isoformat(),
            "machine": report.machine(),
            "transport": TRANSPORT,
            "rounds": given.rounds,
            "sizes": bench.sizes,
        }
        for table in TABLES:
            if table in given.only:
                say(table)
                results[table] = getattr(bench, table)()
    given.results.mkdir(exist_ok=True)
    (given.results / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    report.write(results, given.results)
    if given.results == RESULTS and given.only == list(TABLES) and not given.contenders:
        report.fill_pages(results)


if __name__ == "__main__":
    main()
