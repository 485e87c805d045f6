"""Every command and snippet of the README, run."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from flask_ecwid import Settings

from .conftest import ROOT, environment, free_port, wait_for

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.M | re.S)
URL = "http://127.0.0.1:8000"

RUN, CURLS, INSTALL, SERVE, CHECK, SANDBOX, MAKE_KEY, FILES, ONCE, WRONG, TEST = (
    block for language, block in BLOCKS if language == "sh"
)
MOUNT, FACTORY, CLIENT, AUTHORIZE = (block for language, block in BLOCKS if language == "python")
[PROBLEM] = (block for language, block in BLOCKS if language == "json")


def stop(process: subprocess.Popen[str]) -> str:
    """End a command with all that it started; gives what it printed."""
    os.killpg(process.pid, signal.SIGTERM)
    return process.communicate(timeout=60)[0]


class Running:
    def __init__(self, url: str, printed: str) -> None:
        self.url = url
        self.printed = printed

    def sh(self, line: str) -> tuple[int, str]:
        """Run a curl line of the README against this server: its status and what it printed."""
        if shutil.which("curl") is None:
            pytest.fail("curl is missing: install Debian's package curl")
        line = line.replace(URL, self.url).replace("curl ", r"curl -sS -w '\n%{http_code}' ", 1)
        done = subprocess.run(line, shell=True, capture_output=True, text=True, check=True)
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body


@pytest.fixture(scope="module")
def make_run() -> Iterator[Running]:
    """What `make run` starts."""
    port = free_port()
    process = subprocess.Popen(
        f"{RUN.strip()} PORT={port}",
        shell=True,
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        printed = "".join(iter(process.stdout.readline, "\n"))  # the UI's address
        printed += "".join(iter(process.stdout.readline, "\n"))  # the five lines
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/healthz", process)
        yield Running(url, printed)
    finally:
        stop(process)


def test_make_run_prints_the_readmes_lines(make_run: Running) -> None:
    """`make run` prints the UI's address and the five curl lines of the README."""
    printed = make_run.printed.replace(make_run.url, URL)
    assert "/api/json/v1/ecwid/ui/" in printed
    assert CURLS in printed


@pytest.mark.parametrize("line", CURLS.splitlines())
def test_curl_lines(make_run: Running, line: str) -> None:
    """Each of the five lines is a success."""
    status, body = make_run.sh(line)
    assert status == 200
    assert json.loads(body)["data"]["type"] == "ecwid"


def test_once(make_run: Running) -> None:
    """The creation with an Idempotency-Key has the same answer when it is sent again."""
    first, again = make_run.sh(ONCE.strip()), make_run.sh(ONCE.strip())
    assert first[0] == 200
    assert again == first


def test_the_problem(make_run: Running) -> None:
    """The error that the README shows is the one that comes, but for its id."""
    status, body = make_run.sh(WRONG)
    came, shown = json.loads(body), json.loads(PROBLEM)
    assert status == 400
    shown["instance"] = shown["instance"].replace(shown["request_id"], came["request_id"])
    assert came == {**shown, "request_id": came["request_id"]}


def python(snippet: str, then: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"{snippet}\n{then}"], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_mount() -> None:
    """The snippet mounts the plugin, which nobody may call without the key."""
    then = """
client, url = app.test_client(), "/api/json/v1/ecwid/"
print([client.get(url + path).status_code for path in ("openapi.json", "customers")])
"""
    assert python(MOUNT, then) == "[200, 401]\n"


def test_authorize() -> None:
    """The snippet lets in whom the session knows, but for deletions."""
    then = """
app.secret_key = "x"
client = app.test_client()
with client.session_transaction() as anna:
    anna["staff"] = "anna"
url = "/api/json/v1/ecwid/"
print(client.get(url + "customers").status_code)
print(client.post(url + "delete_customer/5", content_type="application/json").status_code)
print(app.test_client().get(url + "customers").status_code)
"""
    assert python(AUTHORIZE, then) == "200\n403\n403\n"


def test_make_key() -> None:
    """The command prints a key and its entry."""
    done = subprocess.run(
        MAKE_KEY,
        shell=True,
        cwd=ROOT,
        env=environment(ECWID_SANDBOX="on"),
        capture_output=True,
        text=True,
        check=True,
    )
    key, entry = (line.partition(": ")[2] for line in done.stdout.splitlines())
    digest = hashlib.sha256(key.encode()).hexdigest()
    assert entry == f"warehouse:read+write:{digest}"


def test_files(tmp_path: Path) -> None:
    """The lines of export and import are run one after the other, and all go through."""
    settings = {"ECWID_SANDBOX": str(tmp_path / "store"), "FLASK_APP": str(ROOT / "wsgi.py")}
    for line in FILES.splitlines():
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, env=environment(**settings), capture_output=True
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (tmp_path / "customers.csv").read_bytes().count(b"@example.com") == 4
    assert (tmp_path / "refused.jsonl").read_bytes() == b""


def test_factory() -> None:
    """The factory serves two stores and a view of the host's own."""
    then = """
client = create_app().test_client()
paths = ("/api/json/v1/ecwid/customers", "/outlet/customers", "/newsletter")
print([client.get(path).status_code for path in paths], client.get("/newsletter").json)
"""
    assert python(FACTORY, then) == "[200, 200, 200] {'readers': 2}\n"


def test_client() -> None:
    """The client is made without Flask, and without a call."""
    assert python(CLIENT, "print(type(client).__name__)") == "EcwidClient\n"


def test_serve() -> None:
    """The gunicorn line starts a server that is alive and ready."""
    install, serve = SERVE.splitlines()
    assert install == "pip install '.[server]'"  # test_packaging installs the wheel that it builds
    port = free_port()
    process = subprocess.Popen(
        f"{serve} --bind 127.0.0.1:{port}",
        shell=True,
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/healthz", process)
        assert requests.get(f"http://127.0.0.1:{port}/readyz", timeout=30).status_code == 200
    finally:
        printed = stop(process)
    assert "secret_" not in printed


def test_check() -> None:
    """`flask ecwid check` answers for the app of wsgi.py."""
    done = subprocess.run(
        CHECK,
        shell=True,
        cwd=ROOT,
        env=environment(ECWID_SANDBOX="on"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("store: answers in ")


def test_sandbox() -> None:
    """The sandbox line prints the three settings."""
    process = subprocess.Popen(
        SANDBOX.strip().replace("8100", str(free_port())),
        shell=True,
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        keys = [process.stdout.readline().partition("=")[0] for _ in range(4)]
        assert keys == ["ECWID_API_URL", "ECWID_STORE_ID", "ECWID_TOKEN", "ECWID_AUTH"]
    finally:
        stop(process)


def test_the_other_commands() -> None:
    """What is left are the commands that install, and the one that runs this test."""
    assert INSTALL.strip() == "pip install ."
    assert TEST.strip() == "make test"
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").strip().endswith("make test")


def test_the_benchmark_is_told_as_it_was() -> None:
    """The figures of what it costs are the ones that the benchmark wrote, spread and all."""
    section = README.partition("## What it costs")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    written = (ROOT / "benchmarks" / "results" / "results.md").read_text(encoding="utf-8")
    assert len(rows) > 10
    assert [row for row in rows if row not in written.splitlines()] == []


def test_links() -> None:
    """Every link of the README leads to a file of the repository."""
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


# Besides the plugin's own, what wsgi.py reads.
DEFAULTS = {name: field.default for name, field in Settings.__dataclass_fields__.items()}
DEFAULTS |= {"trusted_proxies": 0, "metrics": False}
ROWS = re.findall(r"^\| (`ECWID_.*?) \| (.*?) \| .* \|$", README, re.M)


def test_every_setting_is_told() -> None:
    """The table of settings has every one of them, and no other."""
    told = re.findall(r"ECWID_(\w+)", " ".join(keys for keys, _ in ROWS))
    assert sorted(name.lower() for name in told) == sorted(DEFAULTS)


@pytest.mark.parametrize(("keys", "told"), ROWS)
def test_defaults_are_told_as_they_are(keys: str, told: str) -> None:
    """The table's defaults are the ones that hold."""
    words = {"": "none", (): "none", True: "on", False: "off"}
    for name, default in zip(re.findall(r"ECWID_(\w+)", keys), told.split(", ") * 3, strict=False):
        value = DEFAULTS[name.lower()]
        if isinstance(value, (float, int)) and not isinstance(value, bool):  # 0 is not off
            shown = f"{value:g}"
        else:
            shown = "off" if name == "SANDBOX" else str(words.get(value, value))
        assert default.strip("`") == shown


def test_the_contract_is_printed() -> None:
    """`flask ecwid openapi` prints the contract."""
    [line] = re.findall(r"`(flask ecwid openapi)`", README)
    done = subprocess.run(
        line, shell=True, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("openapi: 3.0.3")
