"""Prometheus metrics cover all workers of gunicorn, and have few labels."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from pytest_httpserver import HTTPServer

from ..conftest import ROOT, STORE, TOKEN, environment, free_port, run_python, wait_for
from .test_deployment import Server, gunicorn, until

CANARY = "canary@example.com"


def samples(text: str) -> Iterable[Sample]:
    for family in text_string_to_metric_families(text):
        yield from family.samples


def total(text: str, name: str, **labels: str) -> float:
    """Return the sum of the series of a metric that have these labels."""
    return sum(
        sample.value
        for sample in samples(text)
        if sample.name == f"flask_ecwid_{name}" and labels.items() <= sample.labels.items()
    )


def scraped(server: Server) -> str:
    response = requests.get(f"{server.root}/metrics", timeout=30)
    assert response.status_code == 200
    return response.text


def ask(server: Server, times: int) -> None:
    def one(number: int) -> None:
        path = "customers" if number % 3 else "customers?limit=0"
        requests.get(f"{server.url}/{path}", timeout=30)

    with ThreadPoolExecutor(12) as callers:
        list(callers.map(one, range(times)))


def workers(server: Server) -> set[int]:
    pid = server.process.pid
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def replaced(server: Server, gone: set[int]) -> None:
    """Wait until there are three workers again and all old workers are gone."""
    until(lambda: len(now := workers(server)) == 3 and not now & gone)


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["each", "preload"])
def test_three_workers(preload: list[str]) -> None:
    """Every request is counted once, even if its worker was killed or replaced."""
    settings = {"ECWID_SANDBOX": "on", "ECWID_METRICS": "on", "ECWID_CALLS_PER_MINUTE": "100000"}
    with gunicorn("--workers", "3", *preload, **settings) as server:
        replaced(server, set())
        asked = 0

        def asked_and_counted() -> None:
            nonlocal asked
            ask(server, 90)
            asked += 90
            for _ in range(6):  # any worker
                text = scraped(server)
                assert total(text, "requests_total") == asked
                assert total(text, "requests_total", status="400") == asked / 3
                assert total(text, "request_duration_seconds_count") == asked
                assert total(text, "calls_total", outcome="ok") <= asked * 2 / 3
                assert total(text, "requests_in_progress") == 0

        asked_and_counted()
        killed = set(list(workers(server))[:2])
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        replaced(server, killed)
        asked_and_counted()
        before = workers(server)
        server.process.send_signal(signal.SIGHUP)
        replaced(server, before)
        asked_and_counted()
    assert server.process.returncode == 0
    assert "Traceback" not in server.log


def test_a_worker_that_was_killed_has_nothing_under_way(ecwid: HTTPServer) -> None:
    """Requests in a killed worker no longer count as under way."""
    answer_now = threading.Event()
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_handler(
        lambda _: answer_now.wait(60)  # type: ignore[arg-type,return-value]
    )
    store = {"ECWID_STORE_ID": "1003", "ECWID_TOKEN": TOKEN, "ECWID_AUTH": "none"}
    settings = {"ECWID_API_URL": ecwid.url_for("/api/v3"), "ECWID_METRICS": "on", **store}
    with gunicorn("--workers", "3", **settings) as server, ThreadPoolExecutor(1) as callers:
        try:
            asking = callers.submit(requests.get, f"{server.url}/customer/7", timeout=60)
            until(lambda: total(scraped(server), "requests_in_progress", store="ecwid") == 1)
            before = workers(server)
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            assert isinstance(asking.exception(60), requests.ConnectionError)
            replaced(server, before)
            text = scraped(server)
        finally:
            answer_now.set()  # All tests of this process share the server of pytest-httpserver.
    assert total(text, "requests_in_progress") == 0
    assert total(text, "requests_total") == 0


def test_a_process_that_has_just_begun(tmp_path: Path) -> None:
    """A scrape meets the empty file that a process creates before its first count."""
    settings = {"ECWID_SANDBOX": "on", "ECWID_METRICS": "on"}
    with gunicorn(PROMETHEUS_MULTIPROC_DIR=str(tmp_path), **settings) as server:
        ask(server, 3)
        for kind in ("counter", "histogram", "gauge_livesum"):
            (tmp_path / f"{kind}_{os.getpid()}.db").touch()
        assert total(scraped(server), "requests_total") == 3


def test_the_folder_of_the_counts(tmp_path: Path) -> None:
    """The start creates PROMETHEUS_MULTIPROC_DIR, and removes only old counts from it."""
    folder = tmp_path / "new" / "counts"
    settings = {"ECWID_SANDBOX": "on", "ECWID_METRICS": "on"}

    def count() -> None:
        with gunicorn(PROMETHEUS_MULTIPROC_DIR=str(folder), **settings) as server:
            ask(server, 3)
            assert total(scraped(server), "requests_total") == 3

    count()
    assert [path for path in folder.iterdir() if path.name.startswith("counter_")]
    (folder / "shop.db").write_bytes(bytes(8))
    count()
    assert (folder / "shop.db").exists()


@pytest.mark.parametrize("own", [True, False], ids=["own", "given"])
def test_a_new_master(tmp_path: Path, own: bool) -> None:
    """After SIGUSR2 a new master continues with the counts and the sandbox of the old master.

    The old master keeps both if the new master ends, and the last master removes its files.
    """
    port, pidfile, temporary = free_port(), tmp_path / "pid", tmp_path / "temporary"
    temporary.mkdir()
    settings = {"ECWID_SANDBOX": "on", "ECWID_METRICS": "on", "TMPDIR": str(temporary)}
    if not own:
        settings["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path / "counts")
    command = [  # not `python -m gunicorn`, whose new master finds gunicorn's http for Python's
        *(str(Path(sys.executable).with_name("gunicorn")), "--bind", f"127.0.0.1:{port}"),
        *("--workers", "3", "--pid", str(pidfile), "wsgi:app"),
    ]
    log = tmp_path / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen(command, cwd=ROOT, env=environment(**settings), stderr=stderr)
    server, beside, asked = Server(process, port), Path(f"{pidfile}.2"), 0
    masters = [process.pid]

    def asked_and_counted() -> None:
        nonlocal asked
        ask(server, 30)
        asked += 30
        assert total(scraped(server), "requests_total") == asked
        assert requests.get(f"{server.url}/customer/{customer_id}", timeout=30).status_code == 200
        asked += 1

    def begin_another() -> int:
        process.send_signal(signal.SIGUSR2)
        until(beside.exists)
        masters.append(int(beside.read_text()))
        until(lambda: log.read_text().count("Booting worker") == 3 * len(masters))
        return masters[-1]

    try:
        wait_for(f"{server.root}/healthz", process)
        new = {"email": CANARY}
        added = requests.post(f"{server.url}/add_customer", json=new, timeout=30)
        customer_id, asked = added.json()["data"]["id"], 1
        asked_and_counted()
        other = begin_another()
        os.kill(other, signal.SIGTERM)
        # The old master ignores SIGUSR2 until it has reaped the new one.
        until(lambda: other not in workers(server))
        assert not beside.exists()
        asked_and_counted()
        other = begin_another()
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        asked_and_counted()
        os.kill(other, signal.SIGTERM)
        until(lambda: not pidfile.exists())
        until(lambda: not list(temporary.glob("flask-ecwid-[sm]*")))
    finally:
        for pid in masters:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        process.wait(60)
    assert "Traceback" not in log.read_text()


def test_metrics_are_off_by_default() -> None:
    """Metrics are off without ECWID_METRICS."""
    with gunicorn(ECWID_SANDBOX="on") as server:
        assert requests.get(f"{server.root}/metrics", timeout=30).status_code == 404


@pytest.mark.parametrize(
    ("before", "value", "fault"),
    [
        ("", "maybe", "ECWID_METRICS is not on or off"),
        ("sys.modules['prometheus_client'] = None", "on", "flask-ecwid[metrics]"),
    ],
)
def test_a_start_that_fails(before: str, value: str, fault: str) -> None:
    """Invalid values and missing libraries of the metrics are reported with all other faults."""
    program = f"import sys\n{before}\nimport wsgi"
    done = run_python(program, "-W", "error", ECWID_METRICS=value, ECWID_STORE_ID="7")
    assert done.returncode != 0
    assert fault in done.stderr
    assert "ECWID_TOKEN is missing" in done.stderr


EVERYTHING = """
import flask, tempfile, pathlib
from flask_ecwid import Ecwid, metrics
from flask_ecwid.sandbox import Fault, Controls, create_sandbox

path = pathlib.Path(tempfile.mkdtemp()) / "store.sqlite3"
create_sandbox(path)
app = flask.Flask("host")
app.config.update(ECWID_SANDBOX=str(path), ECWID_CALLS_PER_MINUTE=30)
Ecwid(app, name="shop")
metrics.attach()
metrics.attach()
app.add_url_rule("/metrics", view_func=metrics.view)
client, url = app.test_client(), "/api/json/v1/ecwid"
orders = Controls(path)
orders.inject(Fault("status", operation="get_customer", status=500, times=1))
orders.inject(Fault("reset", operation="add_customer", after=True, times=1))
added = client.post(f"{url}/add_customer", json={"email": "canary@example.com"})
customer_id = added.json["data"]["id"]
client.get(f"{url}/customer/{customer_id}")
for number in range(40):
    client.get(f"{url}/customers?email=canary{number}@example.com")
    client.get(f"{url}/nothing/canary{number}")
    client.get(f"{url}/customer/canary{number}")
print(client.get("/metrics").get_data(as_text=True))
"""


@pytest.fixture(scope="module")
def everything() -> str:
    """Return the metrics of one process after many requests, some of which failed."""
    done = run_python(EVERYTHING, "-W", "error")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_counted(everything: str) -> None:
    """The metrics count requests, calls, attempts, reconciliations and throttled calls."""
    whose = {"store": "shop"}
    assert total(everything, "requests_total", operation="add_customer", status="200") == 1
    assert (
        total(everything, "requests_total", operation="get_customer", status="400", **whose) == 40
    )
    assert total(everything, "request_duration_seconds_count", operation="list_customers") == 40
    assert total(everything, "attempts_total", operation="add_customer", kind="call") == 1
    assert total(everything, "attempts_total", operation="add_customer", kind="reconcile") == 1
    failed = total(everything, "attempts_total", outcome="upstream-failed", **whose)
    assert (failed, total(everything, "calls_total", operation="get_customer", outcome="ok")) == (
        *(1, 1),
    )
    # The limit is 30 calls per minute, and 4 calls came before.
    listed = {"operation": "list_customers", **whose}
    assert total(everything, "calls_total", outcome="ok", **listed) == 26
    assert total(everything, "calls_total", outcome="budget-spent", **listed) == 14
    assert total(everything, "throttled_total", problem="budget-spent", kind="call") == 14
    assert total(everything, "call_duration_seconds_count", **listed) == 40
    assert total(everything, "requests_total", status="429", **listed) == 14


def test_labels_are_few(everything: str) -> None:
    """No label holds a value of a caller, so the number of series is bounded."""
    assert "canary" not in everything
    series = Counter(
        sample.name for sample in samples(everything) if not sample.name.endswith("_bucket")
    )
    assert max(series.values()) < 10
