"""Requests that schemathesis generates from the contract, against gunicorn as in production.

The requests go over sockets, because gunicorn refuses some of them before the app.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import ROOT, environment
from ..helpers.fuzzing import MUCH
from .test_deployment import gunicorn

PHASES = ("Examples", "Coverage", "Fuzzing", "Stateful")


def schemathesis(folder: Path, url: str, *flags: str) -> str:
    """Run schemathesis without findings, and return its output."""
    command = [sys.executable, "-m", "schemathesis.cli"]
    command += ["--config-file", str(ROOT / "schemathesis.toml"), "run", f"{url}/openapi.json"]
    command += ["--phases", ",".join(PHASES).lower(), "--checks", "all", "--no-color", *flags]
    env = environment(SCHEMATHESIS_HOOKS=str(ROOT / "tests" / "helpers" / "fuzz_hooks.py"))
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=3600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


OPEN = {"ECWID_CALLS_PER_MINUTE": "1000000"}  # so that no request is throttled
AS_SHIPPED: dict[str, str] = {}  # so that most requests get a 429 soon
RUNS = [(1, 10, OPEN)]
if MUCH:
    RUNS = [(1, 1000, OPEN), (2, 1000, OPEN), (3, 1000, OPEN), (4, 100, AS_SHIPPED)]


@pytest.mark.parametrize(("seed", "examples", "settings"), RUNS)
def test_any_request(tmp_path: Path, seed: int, examples: int, settings: dict[str, str]) -> None:
    """Each generated request gets a response of the contract.

    Valid requests are accepted and invalid requests are refused.
    """
    with gunicorn(ECWID_SANDBOX="on", **settings) as server:
        flags = ("--seed", str(seed), "--max-examples", str(examples))
        printed = schemathesis(tmp_path, server.url, *flags)
    for phase in PHASES:
        assert f"✅ {phase}" in printed, printed
    assert ('"status":429' in server.log) is (settings is AS_SHIPPED)
    assert "Traceback" not in server.log
    print(printed)
