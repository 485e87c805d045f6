"""Parts of a long run: the fake Ecwid, plugins in front of it, callers."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from ..conftest import PREFIX, ROOT, TOKEN, environment, free_port, wait_for

STORE = "1003"
THREADS = 16  # of each worker


class Ecwid:
    """The fake Ecwid in a process of its own, with one store."""

    def __init__(self, customers: int = 0, *, unique_emails: bool = True) -> None:
        self._address = f"http://127.0.0.1:{free_port()}"
        self._store = {"customers": customers, "unique_emails": unique_emails}
        self._orders = requests.Session()

    def __enter__(self) -> Ecwid:
        port = str(urlsplit(self._address).port)
        program = [sys.executable, "tests/soak/fake_ecwid.py", port]
        self._process = subprocess.Popen(program, cwd=ROOT)
        try:
            wait_for(self._address, self._process)
            self.order("open_store", store=STORE, tokens=[TOKEN], **self._store)
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._orders.close()
        _end(self._process)

    def order(self, name: str, **arguments: Any) -> Any:
        reply = self._orders.post(f"{self._address}/control/{name}", json=arguments, timeout=60)
        return reply.json()["result"]

    def fail(self, *faults: dict[str, Any]) -> None:
        """Replace the faults of the calls."""
        self.order("set_faults", faults=faults)

    def report(self) -> Any:
        """Return the figures of the token."""
        return self.order("report", store=STORE, token=TOKEN)

    def report_all(self) -> Any:
        """Return the figures of all stores and tokens together."""
        return self.order("report_all")

    def customers(self, store: str = STORE) -> list[int]:
        """Return the ids of the customers that the store has."""
        ids: list[int] = self.order("customers", store=store)
        return ids

    def change(self, id: int, members: dict[str, Any]) -> None:
        """Change a customer without a call, as somebody does in Ecwid's control panel."""
        self.order("change", store=STORE, id=id, members=members)

    def settings(self, **more: str) -> dict[str, str]:
        """Return the settings of a plugin in front of Ecwid."""
        own = {"ECWID_STORE_ID": STORE, "ECWID_TOKEN": TOKEN, "ECWID_AUTH": "none"}
        return self.settings_of_host(**own, **more)

    def settings_of_host(self, **more: str) -> dict[str, str]:
        """Return the settings of a plugin whose host app chooses the store of each request."""
        return {
            "ECWID_API_URL": f"{self._address}/api/v3",
            "ECWID_CALLS_PER_MINUTE": "1000000",
            **more,
        }


class Plugin:
    """A gunicorn with the plugin, as in production."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self._process = process
        self.host = f"127.0.0.1:{port}"
        self.url = f"http://{self.host}{PREFIX}"
        self._log = log

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(each) for each in children.split()]

    def reload(self) -> None:
        self._process.send_signal(signal.SIGHUP)

    def kill_a_worker(self) -> None:
        os.kill(random.choice(self.workers()), signal.SIGKILL)

    def logged(self, text: str) -> int:
        """Return how many lines of the log have the text."""
        return sum(text in line for line in self._log.read_text(errors="replace").splitlines())


@contextmanager
def plugin(
    host: Path,
    settings: dict[str, str],
    workers: int,
    threads: int = THREADS,
    app: str = "wsgi:app",
) -> Iterator[Plugin]:
    """Run a gunicorn with the repository's gunicorn.conf.py.

    Args:
        host: The folder of a host. Gunicorns of one host share the file for the state.
        settings: The settings of the plugin.
        workers: The number of workers.
        threads: The number of threads of each worker.
        app: The app that gunicorn serves.
    """
    port = free_port()
    log = host / f"plugin-{port}.log"
    options = ["--workers", str(workers), "--threads", str(threads)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["gunicorn", "--bind", f"127.0.0.1:{port}", "-c", "gunicorn.conf.py", *options, app],
            cwd=ROOT,
            env=on_host(host, settings),
            stdout=output,
            stderr=output,
        )
        try:
            wait_for(f"http://127.0.0.1:{port}/", process)
            assert process.poll() is None, "gunicorn does not start"
            yield Plugin(process, port, log)
        finally:
            _end(process)


def on_host(host: Path, settings: dict[str, str]) -> dict[str, str]:
    """Return the environment of a process of this host."""
    return environment(**settings, XDG_STATE_HOME=str(host), TMPDIR=str(host))


@contextmanager
def hosts(count: int = 1) -> Iterator[list[Path]]:
    """Make a folder for each host, whose processes share no file with the other hosts."""
    with ExitStack() as stack:
        folders = [tempfile.TemporaryDirectory(prefix="soak-") for _ in range(count)]
        yield [Path(stack.enter_context(folder)) for folder in folders]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Repeated:
    """A thread that does something at an interval, until the end of a `with` block."""

    def __init__(self, every_s: float, do: Callable[[], None]) -> None:
        self._every_s = every_s
        self._do = do
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.count = 0

    def __enter__(self) -> Repeated:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ends.wait(self._every_s):
            self._do()
            self.count += 1


class Caller:
    """A caller that keeps the connection, so that the same worker serves all requests on it."""

    def __init__(self, host: str) -> None:
        self._connection = http.client.HTTPConnection(host, timeout=60)
        self.connection_number = 0

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Return the status and the JSON of a response, or 0 if no response comes."""
        status, _, received = self.exchange(method, path, body, **headers)
        return status, json.loads(received) if status else None

    def exchange(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, str, bytes]:
        """Return the status, the headers and the body of a response, or 0 if no response comes."""
        if self._connection.sock is None:
            self.connection_number += 1
        try:
            sent = None if body is None else json.dumps(body)
            kind = {} if sent is None else {"Content-Type": "application/json"}
            self._connection.request(method, PREFIX + path, sent, {**kind, **headers})
            response = self._connection.getresponse()
            return response.status, str(response.headers), response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0, "", b""

    def close(self) -> None:
        self._connection.close()


def ask(method: str, url: str, **options: Any) -> requests.Response | None:
    """Send a request over a connection of its own, and return None if no response comes."""
    headers = {"Connection": "close", **options.pop("headers", {})}
    try:
        return requests.request(method, url, headers=headers, timeout=60, **options)
    except requests.RequestException:
        return None


def status_of(response: requests.Response | None) -> str:
    """Return the status with the name of the problem, for example `503 throttled`."""
    if response is None:
        return "none"
    return named(response.status_code, response.content)


def named(status: int, body: bytes) -> str:
    """Return a status with the name of the problem in this body."""
    if not status:
        return "none"
    kind = str(json.loads(body).get("type", "")).rpartition(":")[2] if status >= 400 else ""
    return f"{status} {kind}".rstrip()


def at_a_rate(per_second: float, seconds: float, do: Callable[[int], Any]) -> list[Any]:
    """Call `do` with increasing numbers at this rate from 64 threads, and return its results."""
    begun = time.monotonic()
    futures = []
    with ThreadPoolExecutor(64) as threads:
        for number in range(int(per_second * seconds)):
            time.sleep(max(0.0, begun + number / per_second - time.monotonic()))
            futures.append(threads.submit(do, number))
    return [each.result() for each in futures]
