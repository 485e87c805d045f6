"""Fixtures: an app with the plugin, and a server that stands in for Ecwid."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flask
import pytest
import requests
from flask.testing import FlaskClient
from pytest_httpserver import HTTPServer
from werkzeug.test import TestResponse

from flask_ecwid import Ecwid, clock
from flask_ecwid.storage import memory_state, process_memory

from .helpers.patience import PATIENCE
from .helpers.programs import left_out

if TYPE_CHECKING:
    from .helpers.ordered_store import OrderedStore
    from .helpers.postgres_server import PostgresServer
    from .helpers.redis_server import RedisServer

PREFIX = "/api/json/v1/ecwid"
STORE = "/api/v3/1003"
TOKEN = "secret_canaryCanaryCanaryCanaryCanary12"
REQUEST_ID = "6bb19930-6728-4901-bfbc-53456e85d0d0"
ROOT = Path(__file__).parent.parent
PAYLOADS = Path(__file__).parent / "payloads"

Config = dict[str, Any]

# A shell starts background jobs with SIGINT ignored, and each child inherits that. Without this
# line, the commands that the tests start would never end on SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["flask_ecwid_plugins.fixtures"]


def payload(name: str) -> Any:
    """Return one of Ecwid's documented payloads."""
    return json.loads((PAYLOADS / f"{name}.json").read_text(encoding="utf-8"))


def free_port() -> int:
    """Return a port of this host on which no process listens.

    The kernel chooses from 32768 for other sockets, perhaps before a server of the test binds the
    port. So the port is below.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_768)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def run_python(program: str, *flags: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a new process with these settings, and return its output.

    Args:
        program: The text of the program.
        flags: The options of the interpreter.
        settings: The settings in the environment of the process.
    """
    return subprocess.run(
        [sys.executable, *flags, "-c", program],
        cwd=ROOT,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=120,
    )


def environment(**settings: str) -> dict[str, str]:
    """Return the environment of an activated virtual environment, with these settings.

    flask sets a variable of its own when a test runs a command in this process.
    """
    own = ("ECWID_", "FLASK_")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(own)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if "XDG_STATE_HOME" not in clean:  # A server of several tests has a state file of its own.
        clean["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="state-")
    return {**clean, "PATH": path, **settings}


def wait_for(url: str, process: subprocess.Popen[Any]) -> None:
    """Wait until the process responds at this URL, or has ended."""
    until = time.monotonic() + 60
    while process.poll() is None:
        try:
            requests.get(url, timeout=20)
            return
        except requests.RequestException:
            assert time.monotonic() < until, f"nothing answers at {url}"
            time.sleep(0.1)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Print below pytest's last line how many tests were skipped because of a missing program."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        for line in left_out(
            [str(report.longrepr) for report in reporter.stats.get("skipped", [])]
        ):
            reporter.write_line(line)


@pytest.fixture(autouse=True, scope="session")
def _own_temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the tests temporary files of their own, apart from other plugins on this host."""
    with pytest.MonkeyPatch.context() as patch:
        folder = str(tmp_path_factory.mktemp("temporary"))
        patch.setattr(tempfile, "tempdir", folder)
        patch.setenv("TMPDIR", folder)
        yield


@pytest.fixture(autouse=True)
def _own_state(
    _own_temporary_files: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Give each test a state file and a memory of its own, because all tests share one process."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    monkeypatch.setattr(memory_state, "_of_process", {})
    monkeypatch.setattr(process_memory, "_of_process", {})


class Api:
    """A caller of the five endpoints."""

    def __init__(self, client: FlaskClient, prefix: str = PREFIX) -> None:
        self._client = client
        self._prefix = prefix

    def get(self, path: str, **options: Any) -> TestResponse:
        return self._client.get(self._prefix + path, **options)

    def post(self, path: str, json: Any = None, **options: Any) -> TestResponse:
        return self._client.post(self._prefix + path, json=json, **options)

    def open(self, method: str, path: str, **options: Any) -> TestResponse:
        return self._client.open(self._prefix + path, method=method, **options)


@pytest.fixture
def ecwid(httpserver: HTTPServer) -> HTTPServer:
    """Run a server that stands in for Ecwid, whose replies the tests choose."""
    return httpserver


def config_of(ecwid: HTTPServer) -> Config:
    """Return the settings of a store on that server."""
    return {
        "ECWID_STORE_ID": "1003",
        "ECWID_TOKEN": TOKEN,
        "ECWID_AUTH": "none",
        "ECWID_API_URL": ecwid.url_for("/api/v3"),
        "ECWID_CALLS_PER_MINUTE": 100_000,
    }


def app_of(config: Config) -> flask.Flask:
    app = flask.Flask("host")
    app.config.update(config)
    Ecwid(app)
    return app


@pytest.fixture
def config(ecwid: HTTPServer) -> Config:
    return config_of(ecwid)


@pytest.fixture
def app(config: Config) -> flask.Flask:
    """Return a host app with the plugin, which a test may change."""
    return app_of(config)


@pytest.fixture
def api(app: flask.Flask) -> Api:
    """Return a caller of that app."""
    return Api(app.test_client())


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let all waits end at once, and return a list of their seconds."""
    waits: list[float] = []

    def pause(seconds: float) -> bool:
        waits.append(seconds)
        return True

    monkeypatch.setattr(clock, "sleep", pause)
    return waits


@pytest.fixture
def sandboxed() -> Api:
    """Return a caller of the plugin on its sandbox."""
    app = flask.Flask("shop")
    app.config["ECWID_SANDBOX"] = True
    Ecwid(app)
    return Api(app.test_client())


@pytest.fixture(scope="session")
def _redis() -> Iterator[RedisServer]:
    from .helpers.redis_server import RedisServer  # the server needs a free port of this module

    with RedisServer() as server:
        yield server


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the trips to Redis so much time that a busy machine is fast enough."""
    for module, name, seconds in PATIENCE:
        monkeypatch.setattr(module, name, seconds)


@pytest.fixture
def redis(_redis: RedisServer, patience: None) -> RedisServer:
    """Return a real and empty Redis, for tests that do not stop it."""
    _redis.client.flushall()
    return _redis


@pytest.fixture(scope="session")
def _postgres() -> Iterator[PostgresServer]:
    from .helpers.postgres_server import PostgresServer

    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres(_postgres: PostgresServer) -> PostgresServer:
    """Return a real PostgreSQL that runs. A test may kill the server."""
    _postgres.start_again()
    return _postgres


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """Return the URL of an empty database of the real PostgreSQL."""
    return postgres.url(postgres.create_database())


@pytest.fixture
def ordered(tmp_path: Path) -> OrderedStore:
    """Return a simulated store that fails on demand."""
    from .helpers.ordered_store import OrderedStore

    return OrderedStore(tmp_path / "store.sqlite3")


def is_throttled(response: TestResponse, most_s: int) -> bool:
    """Return whether the response is the problem of a throttled call, with a `Retry-After`.

    Args:
        response: The response.
        most_s: The most seconds that `Retry-After` may say.
    """
    body = response.get_json()
    return (
        response.status_code == 503
        and body["type"] == "urn:flask-ecwid:problem:throttled"
        and body["origin"] == "service"
        and body.get("executed", "no") == "no"
        and 1 <= int(response.headers["Retry-After"]) <= most_s
    )


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that moves both clocks forward."""
    by = [0.0]
    now, wall = clock.now, clock.wall
    monkeypatch.setattr(clock, "now", lambda: now() + by[0])
    monkeypatch.setattr(clock, "wall", lambda: wall() + by[0])

    def move(seconds: float) -> None:
        by[0] += seconds

    return move


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database for a copy of the customers."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/copy.sqlite"
    url: str = request.getfixturevalue("postgres_url")
    return url
