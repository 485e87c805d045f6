"""Every command and snippet of the README works."""

from __future__ import annotations

import configparser
import hashlib
import json
import re
import runpy
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import requests

from ..conftest import ROOT, free_port, wait_for
from ..helpers.pages import blocks, curl, filled_in, python, running, sh, stop

PAGE = ROOT / "README.md"
README = PAGE.read_text(encoding="utf-8")
URL = "http://127.0.0.1:8000"
REPORT = runpy.run_path(str(ROOT / "benchmarks" / "report.py"))

RUN, CURLS, SERVE = blocks(PAGE)
[MOUNT] = blocks(PAGE, language="python")
[SETTINGS] = blocks(PAGE, language="ini")


class Running(NamedTuple):
    url: str
    printed: str


def paragraph(process: subprocess.Popen[str]) -> str:
    """Return the lines before the next empty line that a process prints.

    The end of the output is an error. Without the check a process that dies is read forever.
    """
    assert process.stdout is not None
    lines = ""
    for line in process.stdout:
        if line == "\n":
            return lines
        lines += line
    raise AssertionError(f"the process has ended after: {lines}")


@pytest.fixture(scope="module")
def make_run() -> Iterator[Running]:
    """Run `make run`, and return its output."""
    port = free_port()
    with running(f"{RUN.strip()} PORT={port}") as process:
        printed = paragraph(process)  # the address of the UI
        printed += paragraph(process)  # the five curl lines
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/healthz", process)
        yield Running(url, printed)


def test_make_run_prints_the_readmes_lines(make_run: Running) -> None:
    """`make run` prints the UI's address and the five curl lines of the README."""
    printed = make_run.printed.replace(make_run.url, URL)
    assert "/api/json/v1/ecwid/ui/" in printed
    assert CURLS in printed


def test_make_run_says_that_its_data_is_new(make_run: Running) -> None:
    """`make run` says that the data of the sandbox is new after each start."""
    assert "The data is new after each start." in make_run.printed


def test_make_run_on_a_port_that_is_taken() -> None:
    """`make run` on a taken port names the command with the next port, and ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with running(f"{RUN.strip()} PORT={port}", stderr=subprocess.STDOUT) as process:
            with pytest.raises(AssertionError, match="the process has ended") as ended:
                paragraph(process)
            process.communicate(timeout=60)
            assert process.returncode != 0
    assert f"make run PORT={port + 1}" in str(ended.value)


@pytest.mark.parametrize("line", CURLS.splitlines())
def test_curl_lines(make_run: Running, line: str) -> None:
    """Each of the five curl lines succeeds."""
    status, body = curl(line, make_run.url)
    assert status == 200
    assert json.loads(body)["data"]["type"] == "ecwid"


def test_mount() -> None:
    """The snippet mounts the plugin, which refuses callers without the key."""
    then = """
client, url = app.test_client(), "/api/json/v1/ecwid/"
print([client.get(url + path).status_code for path in ("openapi.json", "customers")])
with app.app_context():
    print(type(shop.client).__name__)
"""
    assert python(filled_in(MOUNT)[0], then) == "[200, 401]\nEcwidClient\n"


def test_make_key() -> None:
    """The command prints a key and its entry."""
    [command] = re.findall(r"`(flask ecwid key [^`]+)`", README)
    done = sh(command, ECWID_SANDBOX="on")
    key, entry = (line.partition(": ")[2] for line in done.stdout.splitlines())
    digest = hashlib.sha256(key.encode()).hexdigest()
    assert entry == f"warehouse:read+write:{digest}"


def test_serve(tmp_path: Path) -> None:
    """The gunicorn line starts a server with the settings of a file that is alive and ready."""
    install, settings, _, serve = SERVE.splitlines()
    assert install == "pip install '.[server]'"  # test_packaging.py installs the wheel
    for name in ("wsgi.py", "gunicorn.conf.py"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "ecwid.env").write_text(filled_in(SETTINGS)[0], encoding="utf-8")
    port = free_port()
    started = f"{settings}\n{serve} --bind 127.0.0.1:{port}"
    with running(started, tmp_path, stderr=subprocess.STDOUT) as process:
        wait_for(f"http://127.0.0.1:{port}/healthz", process)
        assert requests.get(f"http://127.0.0.1:{port}/readyz", timeout=30).status_code == 200
        assert "secret_" not in stop(process)


def test_check() -> None:
    """The command `flask ecwid check` works with the app of wsgi.py."""
    done = sh(SERVE.splitlines()[2], ECWID_SANDBOX="on")
    assert done.returncode == 0
    assert done.stdout.startswith("store: Ecwid replied in ")


def test_the_versions() -> None:
    """The README names the versions of Python and Flask that the package supports."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    oldest = setup["options"]["python_requires"].removeprefix(">=")
    assert f"Python {oldest} or newer" in README
    [flask] = re.findall(r"^flask>=(\S+)$", setup["options"]["install_requires"], re.M)
    assert f"Flask {flask} or newer" in README


@pytest.mark.parametrize("name", REPORT["PAGES"])
def test_figures_of_the_benchmark(name: str) -> None:
    """A page has the figures of the last results of the benchmark."""
    page = (ROOT / name).read_text(encoding="utf-8")
    results = json.loads((ROOT / "benchmarks/results/results.json").read_text(encoding="utf-8"))
    assert "<!-- figures: " in page
    assert page == REPORT["filled"](page, results)


def test_no_other_page_has_figures() -> None:
    """The benchmark fills every page that has a place for figures."""
    pages = [PAGE, *(ROOT / "docs").rglob("*.md")]
    found = [page for page in pages if "<!-- figures" in page.read_text(encoding="utf-8")]
    assert {page.relative_to(ROOT).as_posix() for page in found} == set(REPORT["PAGES"])


def test_the_readme_has_five_lines_of_figures() -> None:
    """The table of the costs has five rows below its head."""
    section = README.partition("## What it costs")[2].partition("\n## ")[0]
    assert len([line for line in section.splitlines() if line.startswith("| ")]) == 2 + 5


def test_the_readme_is_short() -> None:
    """The README has at most 120 lines of at most 160 characters."""
    lines = README.splitlines()
    assert len(lines) <= 120
    assert [line for line in lines if len(line) > 160] == []


def test_every_page_is_named() -> None:
    """The list of pages has every page of docs/ except the records of decisions."""
    found = {str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")}
    pages = {page for page in found if not re.match(r"docs/decisions/\d", page)}
    listed = README.partition("## Where to read on")[2].partition("\n## ")[0]
    assert pages == {target for target in re.findall(r"\]\((.*?)\)", listed) if "/" in target}
