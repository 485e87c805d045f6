"""Parts of a long run: Ecwid (the sandbox, served), plugins in front of it, callers."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from flask_ecwid.sandbox import STORE_ID, TOKEN, Controls, create_sandbox

from ..conftest import PREFIX, ROOT, environment, free_port, wait_for

THREADS = 16  # of each worker


class Ecwid:
    """A sandbox at a port, with its faults and its ledger."""

    def __init__(self, folder: Path, customers: int = 0) -> None:
        self._path = folder / "store.sqlite3"
        create_sandbox(self._path, customers=customers)
        self.orders = Controls(self._path)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/api/v3"

    @contextmanager
    def served(self) -> Iterator[Ecwid]:
        app = f"flask_ecwid.sandbox:create_sandbox({str(self._path)!r})"
        options = ["-c", "/dev/null", "-w", "2", "-k", "gthread", "--threads", "32"]
        with _gunicorn(self.port, {}, *options, "--log-level", "error", app):
            yield self

    def settings(self, **more: str) -> dict[str, str]:
        """Return the settings of a plugin in front of Ecwid."""
        return {
            "ECWID_STORE_ID": STORE_ID,
            "ECWID_TOKEN": TOKEN,
            "ECWID_AUTH": "none",
            "ECWID_API_URL": self.url,
            "ECWID_CALLS_PER_MINUTE": "1000000",
            **more,
        }


class Plugin:
    """A gunicorn with the plugin, as in production."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}{PREFIX}"
        self.log = log

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(each) for each in children.read_text().split()]

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)


@contextmanager
def plugin(
    folder: Path, settings: dict[str, str], workers: int, threads: int = THREADS
) -> Iterator[Any]:
    """Run a gunicorn with the plugin, which shares the state files in the folder."""
    port = free_port()
    log = folder / f"plugin-{port}.log"
    options = ["-c", "gunicorn.conf.py", "-w", str(workers), "--threads", str(threads)]
    given = {**settings, "TMPDIR": str(folder)}
    with _gunicorn(port, given, *options, "wsgi:app", log=log) as process:
        yield Plugin(process, port, log)


@contextmanager
def _gunicorn(
    port: int, settings: dict[str, str], *options: str, log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with (log or Path(os.devnull)).open("ab") as output:
        process = subprocess.Popen(
            ["gunicorn", "--bind", f"127.0.0.1:{port}", *options],
            cwd=ROOT,
            env=environment(**settings),
            stdout=output,
            stderr=output,
        )
        try:
            wait_for(f"http://127.0.0.1:{port}/", process)
            assert process.poll() is None, "gunicorn does not start"
            yield process
        finally:
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="flask-ecwid-soak-") as name:
        yield Path(name)


def ask(method: str, url: str, **options: Any) -> requests.Response | None:
    """Send a request over a connection of its own, and return None if no response comes."""
    headers = {"Connection": "close", **options.pop("headers", {})}
    try:
        return requests.request(method, url, headers=headers, timeout=60, **options)
    except requests.RequestException:
        return None


def at_a_rate(per_second: float, seconds: float, do: Callable[[int], Any]) -> list[Any]:
    """Call `do` with increasing numbers at this rate from 64 threads, and return its results."""
    begun = time.monotonic()
    futures = []
    with ThreadPoolExecutor(64) as threads:
        for number in range(int(per_second * seconds)):
            time.sleep(max(0.0, begun + number / per_second - time.monotonic()))
            futures.append(threads.submit(do, number))
    return [each.result() for each in futures]


def most_in(seconds: float, moments: list[float]) -> int:
    """Return the greatest number of these moments, in order, that lie within so many seconds."""
    most = first = 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most
