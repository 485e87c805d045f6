"""The app of wsgi.py under gunicorn, over real sockets."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import requests
from pytest_httpserver import HTTPServer

from flask_ecwid import contract
from flask_ecwid.settings.rules import STORE_ID_FAULT

from ..conftest import (
    PREFIX,
    REQUEST_ID,
    ROOT,
    STORE,
    TOKEN,
    environment,
    free_port,
    run_python,
    wait_for,
)
from ..helpers.command import begin_sandbox, printed_settings

CANARY = "canary@example.com"


class Server:
    """A running gunicorn, whose `log` has its output after its end."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.root = f"http://127.0.0.1:{port}"
        self.url = self.root + PREFIX
        self.log = ""


@contextmanager
def gunicorn(*flags: str, **settings: str) -> Iterator[Server]:
    port = free_port()
    # The log is a file, because a full pipe without a reader would stop the server.
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", *flags, "wsgi:app"],
            cwd=ROOT,
            env=environment(**settings),
            stderr=log,
        )
        server = Server(process, port)
        try:
            wait_for(f"{server.root}/healthz", process)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            log.seek(0)
            server.log = log.read()


def until(true: Callable[[], bool]) -> None:
    moment = time.monotonic() + 60
    while not true():
        assert time.monotonic() < moment
        time.sleep(0.1)


def raw(server: Server, text: bytes) -> bytes:
    """Return all bytes that the server sends for these bytes."""
    address = ("127.0.0.1", int(server.root.rpartition(":")[2]))
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        return connection.makefile("rb").read()


def raw_problem(response: bytes, status: int) -> dict[str, str]:
    """Check that the response is a problem with this status, and return its headers."""
    head, _, body = response.partition(b"\r\n\r\n")
    first, *fields = head.decode("ascii").split("\r\n")
    headers = dict(field.split(": ", 1) for field in fields)
    problem = json.loads(body)
    assert first.startswith(f"HTTP/1.1 {status} ")
    contract.load().operations["add_customer"].validate_response(502, problem)
    assert problem["status"] == status
    assert problem["type"].startswith("urn:flask-ecwid:problem:")
    assert problem["instance"] == f"urn:uuid:{problem['request_id']}"
    assert headers["X-Request-ID"] == problem["request_id"]
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Content-Length"] == str(len(body))
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    return headers


def everywhere(url: str) -> list[requests.Response]:
    """Send the same request many times at once, so that every worker handles some."""
    with ThreadPoolExecutor(16) as callers:
        return list(callers.map(lambda _: requests.get(url, timeout=30), range(100)))


def life_of_a_customer(url: str) -> None:
    """Create, read, update, list and delete a customer, who is a 404 afterwards."""
    with requests.Session() as caller:
        added = caller.post(f"{url}/add_customer", json={"email": CANARY}, timeout=30)
        assert added.status_code == 200, added.text
        customer_id = added.json()["data"]["id"]
        found = everywhere(f"{url}/customer/{customer_id}")
        assert {response.status_code for response in found} == {200}
        assert {response.json()["data"]["attributes"]["email"] for response in found} == {CANARY}
        changes = {"acceptMarketing": True}
        done = caller.post(f"{url}/update_customer/{customer_id}", json=changes, timeout=30)
        assert done.json()["data"]["attributes"] == {"updateCount": 1}
        filters = {"email": CANARY, "useExactEmailMatch": "true", "acceptMarketing": "true"}
        page = caller.get(f"{url}/customers", params=filters, timeout=30)
        assert [item["id"] for item in page.json()["data"]["attributes"]["items"]] == [
            int(customer_id)
        ]
        done = caller.post(f"{url}/delete_customer/{customer_id}", timeout=30)
        assert done.json()["data"]["attributes"] == {"deleteCount": 1}
        gone = everywhere(f"{url}/customer/{customer_id}")
        assert {response.status_code for response in gone} == {404}


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["each", "preload"])
def test_four_workers(preload: list[str]) -> None:
    """Four workers share one sandbox, whether each worker loads the app or the app is preloaded."""
    with gunicorn("--workers", "4", *preload, ECWID_SANDBOX="on") as server:
        life_of_a_customer(server.url)
        assert requests.get(f"{server.root}/healthz", timeout=30).json() == {"status": "alive"}
        assert requests.get(f"{server.root}/readyz", timeout=30).json() == {"status": "configured"}
        assert requests.get(f"{server.url}/ui/", timeout=30).status_code == 200
    assert server.process.returncode == 0
    lines = [json.loads(line) for line in server.log.splitlines()]
    assert len({line["process"] for line in lines if "operation" in line}) > 1


def test_another_server_that_speaks_ecwids_api(tmp_path: Path) -> None:
    """A sandbox on a port works like Ecwid, with the settings that the sandbox prints."""
    sandbox = begin_sandbox(tmp_path)
    try:
        with gunicorn("--workers", "2", **printed_settings(sandbox)) as server:
            life_of_a_customer(server.url)
    finally:
        sandbox.send_signal(signal.SIGINT)
        sandbox.communicate(timeout=30)


def test_log_lines() -> None:
    """The log is JSON lines with the request's id and without personal data."""
    with gunicorn(ECWID_SANDBOX="on") as server:
        headers = {"X-Request-ID": REQUEST_ID}
        requests.get(f"{server.url}/customers?email={CANARY}", headers=headers, timeout=30)
        requests.get(f"{server.url}/customers?email={CANARY}&limit=0", headers=headers, timeout=30)
        requests.post(f"{server.url}/add_customer", json={"email": CANARY}, timeout=30)
    lines = [json.loads(line) for line in server.log.splitlines()]
    ours = [line for line in lines if line.get("request_id") == REQUEST_ID]
    for name, member in (("request", "status"), ("audit.reads", "result")):
        entries = [line for line in ours if line["name"] == f"flask_ecwid.{name}"]
        assert [(line["operation"], line[member]) for line in entries] == [
            ("list_customers", 200),
            ("list_customers", 400),
        ]
    assert [line["executed"] for line in lines if line["name"] == "flask_ecwid.audit"] == ["yes"]
    assert CANARY not in server.log


def test_a_real_store_does_not_start_open() -> None:
    """A real store without authentication does not start, and the log says why."""
    store = {"ECWID_STORE_ID": "1003", "ECWID_TOKEN": TOKEN}
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "wsgi:app"],
        cwd=ROOT,
        env=environment(**store),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "ECWID_AUTH is keys, but ECWID_API_KEYS is empty" in done.stderr
    assert TOKEN not in done.stderr


def test_a_log_configuration_of_your_own(tmp_path: Path) -> None:
    """A log configuration in gunicorn's settings replaces the JSON lines."""
    handler = {"class": "logging.StreamHandler", "formatter": "plain"}
    configuration = {
        "version": 1,
        "formatters": {"plain": {"format": "%(name)s says %(message)s"}},
        "handlers": {"stderr": handler},
        "loggers": {},
        "root": {"level": "INFO", "handlers": ["stderr"]},
    }
    (tmp_path / "log.json").write_text(json.dumps(configuration), encoding="utf-8")
    with gunicorn("--log-config-json", str(tmp_path / "log.json"), ECWID_SANDBOX="on") as server:
        requests.get(f"{server.url}/customers", timeout=30)
    said = "flask_ecwid.request says store=ecwid store_id=1003 operation=list_customers"
    assert said in server.log


def test_a_reload(tmp_path: Path) -> None:
    """SIGHUP reloads the module of the app and gunicorn.conf.py, and no request fails."""
    app = (
        "import os\n"
        "def app(environ, start_response):\n"
        '    start_response("200 OK", [])\n'
        '    return [b"%s", os.environ.get("OF_THE_FILE", "").encode()]\n'
    )
    module, config = tmp_path / "wsgi.py", tmp_path / "gunicorn.conf.py"
    config.write_text((ROOT / "gunicorn.conf.py").read_text(encoding="utf-8"), encoding="utf-8")
    module.write_text(app % "before", encoding="utf-8")
    with gunicorn("--config", str(config), "--chdir", str(tmp_path)) as server:
        assert requests.get(server.root, timeout=30).text == "before"
        module.write_text(app % "after the reload", encoding="utf-8")
        with config.open("a", encoding="utf-8") as settings:
            settings.write('raw_env = ["OF_THE_FILE= and with new settings"]\n')
        server.process.send_signal(signal.SIGHUP)
        expected = "after the reload and with new settings"
        until(lambda: requests.get(server.root, timeout=30).text == expected)


def configured(folder: Path, app: str) -> tuple[str, ...]:
    """Write a module with an app, and return gunicorn's flags for this app and our config."""
    (folder / "wsgi.py").write_text(app, encoding="utf-8")
    return "--config", str(ROOT / "gunicorn.conf.py"), "--chdir", str(folder)


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["each", "preload"])
def test_one_name_for_all_workers(tmp_path: Path, preload: list[str]) -> None:
    """The workers of one gunicorn share a name for their pauses, even after a reload.

    A preloaded app has the same name.
    """
    app = (
        "import os\nname = os.environ['GUNICORN_ECWID_SERVICE']\n"
        "def app(environ, start_response):\n"
        '    start_response("200 OK", [])\n'
        '    return [f"{os.getpid()} {name}".encode()]\n'
    )
    flags = (*configured(tmp_path, app), *preload)
    seen: dict[str, set[str]] = defaultdict(set)

    def workers_seen(url: str, number: int) -> bool:
        for response in everywhere(url):
            process, name = response.text.split()
            seen[name].add(process)
        return sum(map(len, seen.values())) >= number

    with gunicorn("--workers", "2", *flags) as server:
        until(lambda: workers_seen(server.root, 2))
        server.process.send_signal(signal.SIGHUP)
        until(lambda: workers_seen(server.root, 4))
    assert len(seen) == 1


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["each", "preload"])
def test_the_threads_of_a_worker_are_known(tmp_path: Path, preload: list[str]) -> None:
    """A request finds the number of gunicorn's threads, so that one store takes only a part."""
    app = (
        "from flask_ecwid import Settings\n"
        "settings = Settings(store_id='1003', token='secret_x')\n"
        "def app(environ, start_response):\n"
        '    start_response("200 OK", [])\n'
        '    return [f"{settings.threads_of_a_store}".encode()]\n'
    )
    flags = (*configured(tmp_path, app), *preload)
    with gunicorn("--threads", "24", *flags) as server:
        assert requests.get(server.root, timeout=30).text == "6"


def calls_until_refused(server: Server) -> int:
    """Return how many calls the workers allow, until all of them refuse."""
    made = 0
    while True:
        # Each request is another one, because equal reads share a call.
        urls = [f"{server.url}/customers?limit=1&offset={made + number}" for number in range(100)]
        with ThreadPoolExecutor(16) as callers:
            statuses = list(
                callers.map(lambda url: requests.get(url, timeout=30).status_code, urls)
            )
        assert set(statuses) <= {200, 429}
        made += statuses.count(200)
        if 200 not in statuses:
            return made


NO_FILE = {"XDG_STATE_HOME": "/dev/null"}


@pytest.mark.parametrize("file", [{}, NO_FILE], ids=["file", "no file"])
@pytest.mark.parametrize("flags", [(), ("--worker-class", "gthread")], ids=["ours", "gunicorns"])
def test_workers_share_the_calls_per_minute(flags: tuple[str, ...], file: dict[str, str]) -> None:
    """The workers together have the rate limit, also with gunicorn's own worker class.

    If the file of the host cannot be used, each worker has its part.
    """
    settings = {"ECWID_SANDBOX": "on", "ECWID_CALLS_PER_MINUTE": "30", **file}
    with gunicorn("--workers", "3", *flags, **settings) as server:
        assert calls_until_refused(server) == 30


CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
WORKERS = min(CORES, 4)
only_linux = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="only Linux keeps a process on a core"
)


@contextmanager
def workers_on_cores(folder: Path, *lines: str, setting: str = "") -> Iterator[Server]:
    """Start a worker for each core, with lines of Python behind the shipped configuration."""
    shipped = (ROOT / "gunicorn.conf.py").read_text(encoding="utf-8")
    config = folder / "conf.py"
    config.write_text("\n".join([shipped, "from flask_ecwid.server import cores", *lines, ""]))
    flags = ("--workers", str(WORKERS), "--config", str(config))
    with gunicorn(*flags, ECWID_SANDBOX="on", ECWID_PIN_WORKERS=setting) as server:
        yield server


def children(server: Server) -> list[int]:
    """Return the ids of the processes that gunicorn's master has started."""
    pid = server.process.pid
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in found.split()]


def has_ended(server: Server, child: int) -> bool:
    """Return True if gunicorn's master has seen the end of a process."""
    return child not in children(server)


def cores_of_workers(server: Server) -> list[set[int]]:
    return [os.sched_getaffinity(child) for child in children(server)]


@only_linux
@pytest.mark.parametrize("setting", ["", "on"])
def test_a_core_for_each_worker(tmp_path: Path, setting: str) -> None:
    """The workers have different cores, and a new worker takes the core that is free."""

    def is_fair(server: Server) -> bool:
        cores = cores_of_workers(server)
        return [len(each) for each in cores] == [1] * WORKERS and len(
            set().union(*cores)
        ) == WORKERS

    # No worker looks for a better core meanwhile.
    with workers_on_cores(tmp_path, "cores.LOOK_EVERY_S = 3600", setting=setting) as server:
        until(lambda: is_fair(server))
        for gone in children(server):
            os.kill(gone, signal.SIGKILL)
            until(partial(has_ended, server, gone))
            until(lambda: is_fair(server))
        assert os.sched_getaffinity(server.process.pid) == os.sched_getaffinity(0)


@only_linux
def test_all_cores_for_each_worker(tmp_path: Path) -> None:
    """A worker has all cores if the setting is off."""
    with workers_on_cores(tmp_path, setting="off") as server:
        until(lambda: cores_of_workers(server) == [os.sched_getaffinity(0)] * WORKERS)


@only_linux
@pytest.mark.parametrize("kind", ["OSError", "ValueError"])
def test_a_system_that_refuses(tmp_path: Path, kind: str) -> None:
    """A worker serves with all cores if the system does not tell their use, or forbids to move."""
    refuses = f"cores._read_use = lambda: (_ for _ in ()).throw({kind})"
    with workers_on_cores(tmp_path, "cores.LOOK_EVERY_S = 0.2", refuses) as server:
        assert requests.get(f"{server.root}/healthz", timeout=30).status_code == 200
        assert cores_of_workers(server) == [os.sched_getaffinity(0)] * WORKERS


@only_linux
def test_a_core_that_is_forbidden_later(tmp_path: Path) -> None:
    """A worker serves on when a look for a better core fails."""
    looks = tmp_path / "looks"
    fails = f"cores.better_core = lambda *_: open({str(looks)!r}, 'a').write('.') * 10**6"
    with workers_on_cores(tmp_path, "cores.LOOK_EVERY_S = 0.2", fails) as server:
        before = children(server)
        until(lambda: looks.exists() and len(looks.read_text(encoding="ascii")) >= 5 * WORKERS)
        assert requests.get(f"{server.root}/healthz", timeout=30).status_code == 200
        assert children(server) == before


@only_linux
def test_a_worker_moves(tmp_path: Path) -> None:
    """A worker moves to the core that is better than its own."""
    last = max(os.sched_getaffinity(0))
    better = f"cores.better_core = lambda *_: {last}"
    with workers_on_cores(tmp_path, "cores.LOOK_EVERY_S = 0.2", better) as server:
        until(lambda: cores_of_workers(server) == [{last}] * WORKERS)


@pytest.mark.parametrize(("file", "more"), [({}, 0), (NO_FILE, 15)], ids=["file", "no file"])
def test_a_worker_that_is_added(file: dict[str, str], more: int) -> None:
    """A worker that SIGTTIN adds has no calls of its own, or a part without a usable file."""
    with gunicorn(ECWID_SANDBOX="on", ECWID_CALLS_PER_MINUTE="30", **file) as server:
        assert calls_until_refused(server) == 30
        server.process.send_signal(signal.SIGTTIN)
        until(lambda: workers_of(server) == 2)
        added = 0

        def is_done() -> bool:
            nonlocal added
            added += calls_until_refused(server)
            return added == more

        until(is_done)
        assert calls_until_refused(server) == 0


def workers_of(server: Server) -> int:
    """Return how many processes gunicorn's master has started."""
    return len(children(server))


def test_variables_of_the_workers(tmp_path: Path) -> None:
    """The page on deployment names each variable that gunicorn.conf.py sets, and no other.

    The method `from_prefixed_env` of a host reads none of them.
    """
    reader = (
        "import os\nfrom flask import Flask\napp = Flask('host')\nbefore = set(app.config)\n"
        "app.config.from_prefixed_env()\n"
        "@app.get('/')\n"
        "def show():\n"
        "    return [sorted(os.environ), sorted(set(app.config) - before)]\n"
    )
    (tmp_path / "wsgi.py").write_text(reader, encoding="utf-8")
    flags = ("--config", str(ROOT / "gunicorn.conf.py"), "--chdir", str(tmp_path))
    settings = {"ECWID_SANDBOX": "on", "ECWID_METRICS": "on"}
    with gunicorn(*flags, **settings) as server:
        names, of_flask = requests.get(server.root, timeout=30).json()
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    table = page.partition("## What gunicorn.conf.py passes to the workers")[2].partition("\n## ")[
        0
    ]
    documented = set(re.findall(r"^\| `(\w+)`", table, re.M))
    assert documented == set(names) - set(environment(**settings)) - {"SERVER_SOFTWARE"}
    assert of_flask == []


def test_all_faults_at_once() -> None:
    """An invalid number of proxies is reported with the other faults, without its value."""
    for value in ("canary", "-1", "1.0", "10", "\u0663", "on"):
        done = run_python("import wsgi", ECWID_TRUSTED_PROXIES=value, ECWID_STORE_ID="x")
        assert done.returncode != 0
        error = done.stderr.splitlines()[-1]
        assert f"ECWID_STORE_ID {STORE_ID_FAULT} (found in the environment)" in error
        assert error.endswith("ECWID_TRUSTED_PROXIES is not a number of proxies from 0 to 9")
        assert "canary" not in done.stderr


def test_settings_of_the_environment(ecwid: HTTPServer) -> None:
    """wsgi.py takes its settings from the environment."""
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json({"id": 7})
    store = {"ECWID_STORE_ID": "1003", "ECWID_TOKEN": TOKEN, "ECWID_AUTH": "none"}
    with gunicorn(ECWID_API_URL=ecwid.url_for("/api/v3"), ECWID_UI="off", **store) as server:
        assert requests.get(f"{server.url}/customer/7", timeout=30).json()["data"]["id"] == 7
        assert requests.get(f"{server.url}/ui/", timeout=30).status_code == 404
    assert ecwid.log[0][0].headers["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("chunks", [b"zz\r\n{}\r\n0\r\n\r\n", b"5\r\n{}", b"-1\r\n{}\r\n0\r\n\r\n"])
def test_bad_chunks(chunks: bytes) -> None:
    """A body with invalid chunks is a 400 problem."""
    head = f"POST {PREFIX}/add_customer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with gunicorn(ECWID_SANDBOX="on") as server:
        response = raw(server, head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert response.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in response
    assert "Traceback" not in server.log


def test_a_chunked_body() -> None:
    """A chunked body is accepted up to the same limit as any other body."""
    with gunicorn(ECWID_SANDBOX="on", ECWID_MAX_BODY_BYTES="100") as server:
        for body, status in (
            ([b'{"email": ', b'"chunked@example.com"}'], 200),
            ([b'{"email": "'] + [b"x" * 50] * 3, 413),
        ):
            response = requests.post(
                f"{server.url}/add_customer",
                data=iter(body),
                headers={"Content-Type": "application/json"},
                timeout=30,
            )
            assert response.status_code == status


MANY_FIELDS = "canary: x\r\n" * 101
NO_HTTP = [
    (400, f"GET {PREFIX}/customers?email={CANARY} x HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, f"GET {PREFIX}/customers?email={CANARY}\xff HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, f"GET {PREFIX}/customers HTTP/1.1{CANARY}\r\nHost: x\r\n\r\n"),
    (400, f"get {PREFIX}/customers?email={CANARY} HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, f"<{CANARY}> / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, f"GET {PREFIX}/customers HTTP/1.1\r\nHost: x\r\n{CANARY}\r\n\r\n"),
    (400, f"GET {PREFIX}/customers HTTP/1.1\r\nHost: x\r\nA: b\r\n {CANARY}\r\n\r\n"),
    (400, f"POST {PREFIX}/customers?{CANARY} HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
    (414, f"GET {PREFIX}/customers?email={CANARY}{'x' * 66_000} HTTP/1.1\r\nHost: x\r\n\r\n"),
    (417, f"GET {PREFIX}/customers HTTP/1.1\r\nHost: x\r\nExpect: {CANARY}\r\n\r\n"),
    (431, f"GET {PREFIX}/customers HTTP/1.1\r\nHost: x\r\n{MANY_FIELDS}\r\n"),
    (501, f"POST {PREFIX}/customers HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: {CANARY}\r\n\r\n"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Run a gunicorn on the sandbox, for tests that leave its data unchanged."""
    with gunicorn(ECWID_SANDBOX="on") as running:
        yield running


@pytest.mark.parametrize(("status", "text"), NO_HTTP)
def test_invalid_http(server: Server, status: int, text: str) -> None:
    """The server refuses invalid HTTP with a problem that repeats nothing of the request."""
    response = raw(server, text.encode("latin-1"))
    assert raw_problem(response, status)["Connection"] == "close"
    assert b"canary" not in response


@pytest.mark.parametrize("flags", [(), ("--worker-class", "gthread")], ids=["ours", "gunicorns"])
def test_invalid_http_is_not_logged(flags: tuple[str, ...]) -> None:
    """The log mentions invalid HTTP without its text, also with gunicorn's own worker class."""
    with gunicorn(*flags, ECWID_SANDBOX="on") as server:
        for _, text in NO_HTTP:
            assert raw(server, text.encode("latin-1"))
    assert server.log.count("Invalid request") == len(NO_HTTP)
    assert "canary" not in server.log


@pytest.mark.parametrize(
    "failure",
    [
        f'raise RuntimeError("{CANARY}")',
        f'start_response("200 OK", [("Canary", "{CANARY}\\n")])',
    ],
)
def test_an_app_that_fails_outside_of_flask(tmp_path: Path, failure: str) -> None:
    """A failure outside of Flask is a 500 problem, and its data is in no response or log."""
    app = f"def app(environ, start_response):\n    {failure}\n    return []\n"
    (tmp_path / "wsgi.py").write_text(app, encoding="utf-8")
    flags = ("--config", str(ROOT / "gunicorn.conf.py"), "--chdir", str(tmp_path))
    with gunicorn(*flags) as server:
        response = raw(server, f"GET /?{CANARY} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    headers = raw_problem(response, 500)
    assert b"canary" not in response.lower()
    assert headers["X-Request-ID"] in server.log
    assert "canary" not in server.log.lower()


def test_the_longest_search() -> None:
    """A search with terms of the greatest length is accepted, in any alphabet."""
    parameters = contract.load().document["components"]["parameters"]
    terms = {
        name: "\N{GRINNING FACE}" * 255
        for name, node in parameters.items()
        if node["schema"] == {"$ref": "#/components/schemas/SearchTerm"}
    }
    with gunicorn(ECWID_SANDBOX="on") as server:
        response = requests.get(f"{server.url}/customers", params=terms, timeout=30)
    assert len(response.request.path_url) > 36_000
    assert response.status_code == 200, response.text


def test_no_header_moves_the_app() -> None:
    """A header whose name looks like a WSGI variable has no effect."""
    with gunicorn(ECWID_SANDBOX="on") as server:
        for name in ("SCRIPT_NAME", "PATH_INFO", "X-Forwarded-Prefix", "X-Script-Name"):
            head = f"GET {PREFIX}/openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            response = raw(server, f"{head}{name}: /canary\r\n\r\n".encode())
            assert response.startswith(b"HTTP/1.1 200")
            assert b"canary" not in response


MIRROR = f"""
import runpy
from flask import request
app = runpy.run_path({str(ROOT / "wsgi.py")!r})["app"]
@app.get("/mirror")
def mirror():
    return [request.remote_addr, request.url]
"""
FORWARDED = (
    "X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\n"
    "X-Forwarded-Proto: http, https\r\n"
    "X-Forwarded-Host: one.example, two.example\r\n"
    "X-Forwarded-Prefix: /one, /two\r\n"
)


@pytest.mark.parametrize(
    ("trusted", "seen"),
    [
        ({}, ["127.0.0.1", "http://x/mirror"]),
        ({"ECWID_TRUSTED_PROXIES": ""}, ["127.0.0.1", "http://x/mirror"]),
        ({"ECWID_TRUSTED_PROXIES": "1"}, ["192.0.2.2", "https://two.example/two/mirror"]),
        ({"ECWID_TRUSTED_PROXIES": "2"}, ["192.0.2.1", "http://one.example/one/mirror"]),
        ({"ECWID_TRUSTED_PROXIES": "3"}, ["127.0.0.1", "http://x/mirror"]),
    ],
)
def test_trusted_proxies(tmp_path: Path, trusted: dict[str, str], seen: list[str]) -> None:
    """The app trusts X-Forwarded-* of as many proxies as its setting says, by default none."""
    (tmp_path / "wsgi.py").write_text(MIRROR, encoding="utf-8")
    flags = ("--config", str(ROOT / "gunicorn.conf.py"), "--chdir", str(tmp_path))
    with gunicorn(*flags, ECWID_SANDBOX="on", FORWARDED_ALLOW_IPS="*", **trusted) as server:
        text = f"GET /mirror HTTP/1.1\r\nHost: x\r\n{FORWARDED}\r\n"
        assert json.loads(raw(server, text.encode()).partition(b"\r\n\r\n")[2]) == seen


@pytest.mark.parametrize("header", ["Proto: https", "Protocol: ssl", "Ssl: on"])
def test_gunicorn_trusts_no_header(tmp_path: Path, header: str) -> None:
    """No header turns a request into an https request, over a UNIX socket either."""
    (tmp_path / "wsgi.py").write_text(MIRROR, encoding="utf-8")
    path = str(tmp_path / "socket")
    flags = ("--config", str(ROOT / "gunicorn.conf.py"), "--chdir", str(tmp_path))
    with (
        gunicorn(*flags, "--bind", f"unix:{path}", ECWID_SANDBOX="on"),
        socket.socket(socket.AF_UNIX) as connection,
    ):
        connection.connect(path)
        text = f"GET /mirror HTTP/1.1\r\nHost: x\r\nX-Forwarded-{header}\r\n\r\n"
        connection.sendall(text.encode())
        connection.shutdown(socket.SHUT_WR)
        assert b"http://x/mirror" in connection.makefile("rb").read()


def test_no_response_names_a_version(server: Server) -> None:
    """The Server header has gunicorn's name and no version."""
    for path in ("/healthz", f"{PREFIX}/customers", "/nowhere"):
        response = requests.get(server.root + path, timeout=30)
        assert response.headers["Server"] == "gunicorn"
        assert "X-Powered-By" not in response.headers


def test_no_control_socket(tmp_path: Path) -> None:
    """The server opens no control socket, neither at home nor in the user's runtime folder."""
    folders = {"HOME": str(tmp_path / "home"), "XDG_RUNTIME_DIR": str(tmp_path)}
    with gunicorn(ECWID_SANDBOX="on", **folders) as server:
        assert requests.get(f"{server.url}/customers", timeout=30).status_code == 200
        assert list(tmp_path.iterdir()) == []


GOOD_KEY = "canary-key"
WHO = {
    "Authorization: Bearer canary-key": 200,
    "X-API-Key: canary-key": 200,
    "x-api-key:   canary-key  ": 200,
    "Authorization: bearer canary-key": 200,
    "X-Nothing: canary": 401,
    "X-API-Key: canary-wrong": 401,
    "X-API-Key:": 401,
    "X-API-Key: canary-key\r\nX-API-Key: canary-key": 401,
    "X_API_Key: canary-key": 401,
    "X-API-Key: canary-key,canary-key": 401,
    "X-API-Key: \xc3\xa9canary": 401,
    "Authorization: Bearer canary-key\r\nAuthorization: Bearer canary-key": 401,
    "Authorization: Bearer canary-key\r\nX-API-Key: canary-key": 401,
    "Authorization: Basic Y2FuYXJ5OmNhbmFyeS1rZXk=": 401,
    "Authorization: canary-key": 401,
    "Cookie: Authorization=canary-key": 401,
    "X-Original-Authorization: Bearer canary-key": 401,
    "X-Forwarded-User: canary-key": 401,
}


@pytest.fixture(scope="module")
def closed() -> Iterator[Server]:
    digest = hashlib.sha256(GOOD_KEY.encode()).hexdigest()
    with gunicorn(ECWID_SANDBOX="on", ECWID_API_KEYS=f"canary:read:{digest}") as server:
        yield server
    assert "canary-" not in server.log
    assert "ECWID_AUTH" not in server.log


@pytest.mark.parametrize(("headers", "status"), WHO.items())
def test_keys_on_the_wire(closed: Server, headers: str, status: int) -> None:
    """One valid key in one header authenticates a request, and no other form does."""
    for path in ("/customers", "/customer/172890169"):
        text = f"GET {PREFIX}{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n\r\n"
        response = raw(closed, text.encode("latin-1"))
        assert response.startswith(b"HTTP/1.1 %d " % status)
        if status == 401:
            head, _, body = response.partition(b"\r\n\r\n")
            assert b"\r\nwww-authenticate: bearer " in head.lower()
            assert b"canary" not in body
