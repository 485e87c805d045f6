"""The wheel and the sdist: what is inside, and that they work away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

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

TEST = """
def test_host(ecwid_sandbox, ecwid_app):
    ecwid_sandbox.seed()
    page = ecwid_app.test_client().get("/api/json/v1/ecwid/customers")
    assert page.json["data"]["attributes"]["total"] == 4
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and the wheel built from it."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return folder


def test_wheel(dist: Path) -> None:
    """The wheel holds the contract, the type marker and the package, and nothing else."""
    [wheel] = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        contract = archive.read("flask_ecwid/openapi/customers.yaml")
        [listed] = (name for name in names if name.endswith(".dist-info/entry_points.txt"))
        entry_points = archive.read(listed).decode()
    assert contract == (ROOT / "openapi" / "customers.yaml").read_bytes()
    assert {"flask_ecwid/py.typed", "flask_ecwid/sandbox/app.py"} <= names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"flask_ecwid"}
    assert "[pytest11]\necwid = flask_ecwid.testing\n" in entry_points
    assert any(name.endswith("licenses/LICENSE") or name.endswith("/LICENSE") for name in names)


def test_sdist(dist: Path) -> None:
    """The sdist holds what is needed to build, run and test: the wheel was built from it."""
    [sdist] = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "openapi/customers.yaml",
        "wsgi.py",
        "gunicorn.conf.py",
        "Makefile",
        "CHANGELOG.md",
        ".ci/run",
        "tests/test_endpoints.py",
        "tests/payloads/seed.customers.json",
    } <= names


def test_wheel_in_an_empty_environment(dist: Path, tmp_path: Path) -> None:
    """Installed in an empty environment outside the checkout, the wheel mounts and serves."""
    [wheel] = dist.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    quiet = ["--quiet", "--disable-pip-version-check"]
    subprocess.run([python, "-m", "pip", "install", *quiet, str(wheel)], check=True)
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", TRY], cwd=tmp_path, env=clean, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["200", "4", "200", "200"]
    # pytest rewrites the asserts of a package whose entry point it loads: of all its modules.
    subprocess.run([python, "-m", "pip", "install", *quiet, "pytest"], check=True)
    (tmp_path / "test_host.py").write_text(TEST, encoding="utf-8")
    pytest_run = [python, "-W", "error", "-m", "pytest", "-q", "test_host.py"]
    done = subprocess.run(pytest_run, cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert "1 passed" in done.stdout, done.stdout
    flask = [python, "-m", "flask", "ecwid", "openapi"]
    printed = subprocess.run(flask, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert printed.stdout.startswith("openapi: 3.0.3")
