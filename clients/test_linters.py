"""The contract passes the recommended rules of Spectral and Redocly, in 3.0 and in 3.1."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.helpers.fresh_folder import sh

CLIENTS = ROOT / "clients"


@pytest.fixture(params=["3.0", "3.1"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the contract in a version of OpenAPI."""
    sh(f"flask ecwid openapi --openapi {request.param} > contract.yaml", tmp_path)
    return tmp_path / "contract.yaml"


def test_spectral(file: Path) -> None:
    """Spectral finds nothing, apart from the exceptions with reasons in clients/spectral.yaml."""
    command = f"npx spectral lint --ruleset spectral.yaml --fail-severity hint {file}"
    assert sh(command, CLIENTS).strip() == "No results with a severity of 'hint' or higher found!"


def test_redocly(file: Path) -> None:
    """Redocly finds nothing, without any exception."""
    quiet = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    said = sh(f"npx redocly lint --config redocly.yaml {file}", CLIENTS, **quiet)
    assert "Your API description is valid." in said
    assert "warning" not in said.lower().replace("deprecation warning", "")  # of Node's version
