"""The contents of the wheel and the sdist, which work without the checkout."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import requests
from packaging.metadata import Metadata
from trove_classifiers import classifiers

from ..conftest import ROOT, free_port, wait_for
from ..helpers.pages import blocks

TRY = """
import flask, flask_ecwid, pathlib, sys
assert pathlib.Path(flask_ecwid.__file__).is_relative_to(sys.prefix), flask_ecwid.__file__
assert flask_ecwid.spec_path().is_relative_to(sys.prefix)
app = flask.Flask("host")
app.config["ECWID_SANDBOX"] = True
flask_ecwid.Ecwid(app)
client = app.test_client()
page = client.get("/api/json/v1/ecwid/customers")
print(page.status_code, page.json["data"]["attributes"]["total"])
print(client.get("/api/json/v1/ecwid/openapi.yaml").status_code)
print(client.get("/api/json/v1/ecwid/ui/swagger-ui.css", buffered=True).status_code)
"""

SHOP = """
from flask import Flask
from flask_ecwid import Ecwid
app = Flask("shop")
app.config["ECWID_SANDBOX"] = True
Ecwid(app)
"""
CANARY = "canary@example.com"

TEST = """
def test_host(ecwid_sandbox, ecwid_app):
    ecwid_sandbox.seed()
    page = ecwid_app.test_client().get("/api/json/v1/ecwid/customers")
    assert page.json["data"]["attributes"]["total"] == 4
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist, and the wheel from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return folder


def test_wheel(dist: Path) -> None:
    """The wheel holds the contract, the type marker and the two packages, and nothing else."""
    [wheel] = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        contract = archive.read("flask_ecwid/openapi/customers.yaml")
        [listed] = (name for name in names if name.endswith(".dist-info/entry_points.txt"))
        entry_points = archive.read(listed).decode()
    assert contract == (ROOT / "openapi" / "customers.yaml").read_bytes()
    assert {
        "flask_ecwid/py.typed",
        "flask_ecwid/cli/check.py",
        "flask_ecwid/sandbox/app.py",
    } <= names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "flask_ecwid",
        "flask_ecwid_plugins",
    }
    assert "[flask.commands]\necwid = flask_ecwid_plugins.commands:ecwid\n" in entry_points
    assert "[pytest11]\necwid = flask_ecwid_plugins.fixtures\n" in entry_points
    assert any(name.endswith("licenses/LICENSE") or name.endswith("/LICENSE") for name in names)


def test_metadata(dist: Path) -> None:
    """The metadata is valid, and its classifiers and extras are those that exist."""
    [wheel] = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        [listed] = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Metadata.from_email(archive.read(listed), validate=True)
    assert metadata.license_expression == "MIT"
    assert metadata.license_files == ["LICENSE"]
    assert metadata.description_content_type == "text/markdown"
    assert metadata.description == (ROOT / "README.md").read_text(encoding="utf-8")
    assert metadata.author
    assert metadata.summary
    for address in (metadata.project_urls or {"": ""}).values():
        assert address.startswith("https://")
    assert set(metadata.classifiers or [""]) <= classifiers
    used = set(re.findall(r"flask-ecwid\[(\w+)\]|'\.\[(\w+)\]'", pages_text()))
    names = {one or other for one, other in used}
    assert {"server", "redis", "metrics"} <= names <= set(metadata.provides_extra or [])
    for requirement in metadata.requires_dist or []:
        assert requirement.specifier or requirement.name == metadata.name, requirement


def pages_text() -> str:
    """Return the text of all pages, and of the modules that name an extra in a message."""
    files = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("flask_ecwid/**/*.py")]
    return "".join(path.read_text(encoding="utf-8") for path in files)


def test_sdist(dist: Path) -> None:
    """The sdist holds all files to build, run and test the project."""
    [sdist] = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "openapi/customers.yaml",
        "wsgi.py",
        "gunicorn.conf.py",
        "Makefile",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        ".ci/run",
        ".github/workflows/tests.yml",
        ".pre-commit-config.yaml",
        "docs/clients/ecwid_shop.py",
        "openapi/released/1.0.0.yaml",
        "tests/web/test_endpoints.py",
        "tests/payloads/seed.customers.json",
    } <= names


@pytest.fixture(scope="module")
def python(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Install the wheel in an empty environment, and return the path of its Python."""
    [wheel] = dist.glob("*.whl")
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    install(str(folder / "bin" / "python"), str(wheel))
    return str(folder / "bin" / "python")


def install(python: str, package: str) -> None:
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, package], env=away_from_the_checkout(), check=True)


def away_from_the_checkout() -> dict[str, str]:
    """Return the environment without settings, and without a PYTHONPATH to the checkout."""
    names = os.environ.keys() - {"PYTHONPATH"}
    return {name: os.environ[name] for name in names if not name.startswith("ECWID_")}


def test_wheel_in_an_empty_environment(python: str, tmp_path: Path) -> None:
    """The wheel works in an empty environment outside the checkout."""
    clean = away_from_the_checkout()
    done = subprocess.run(
        [python, "-c", TRY], cwd=tmp_path, env=clean, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["200", "4", "200", "200"]
    # pytest rewrites the asserts in all modules of a package whose entry point it loads.
    install(python, "pytest")
    (tmp_path / "test_host.py").write_text(TEST, encoding="utf-8")
    pytest_run = [python, "-W", "error", "-m", "pytest", "-q", "test_host.py"]
    done = subprocess.run(pytest_run, cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert "1 passed" in done.stdout, done.stdout
    flask = [python, "-m", "flask", "ecwid", "openapi"]
    printed = subprocess.run(
        flask, cwd=tmp_path, env=clean, capture_output=True, text=True, check=True
    )
    assert printed.stdout.startswith("openapi: 3.0.3")


def test_sdist_in_an_empty_environment(dist: Path, tmp_path: Path) -> None:
    """The sdist can be installed in an empty environment, and works outside the checkout."""
    [sdist] = dist.glob("*.tar.gz")
    folder = tmp_path / "environment"
    venv.create(folder, with_pip=True)
    install(str(folder / "bin" / "python"), str(sdist))
    done = subprocess.run(
        [folder / "bin" / "python", "-c", TRY],
        cwd=tmp_path,
        env=away_from_the_checkout(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["200", "4", "200", "200"]


def test_two_lines_of_configuration(dist: Path, python: str, tmp_path: Path) -> None:
    """With the wheel, two lines of configuration are enough for a gunicorn with several workers."""
    [wheel] = dist.glob("*.whl")
    install(python, f"{wheel}[server]")
    [lines] = blocks(ROOT / "docs" / "deployment.md", "gunicorn for your own app", "python")
    assert len(lines.splitlines()) == 2
    (tmp_path / "gunicorn.conf.py").write_text(lines, encoding="utf-8")
    (tmp_path / "shop.py").write_text(SHOP, encoding="utf-8")
    clean = away_from_the_checkout()
    port = free_port()
    with (tmp_path / "log").open("w") as log:
        command = [python, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "2"]
        process = subprocess.Popen([*command, "shop:app"], cwd=tmp_path, env=clean, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}/api/json/v1/ecwid/customers"
            wait_for(url, process)
            page = requests.get(url, params={"email": CANARY}, timeout=30)
            assert page.status_code == 200, page.text
            assert page.headers["RateLimit-Policy"] == '"calls";q=540;w=60'
            with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                connection.sendall(f"GET /?{CANARY} no HTTP\r\n\r\n".encode())
                refused = connection.makefile("rb").read()
        finally:
            process.terminate()
            process.wait(60)
    assert b"application/problem+json" in refused
    assert b"canary" not in refused
    written = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert page.headers["X-Request-ID"] in {line.get("request_id") for line in written}
    assert "canary" not in (tmp_path / "log").read_text()
