"""The contract passes the recommended rules of Spectral and Redocly."""

from __future__ import annotations

from tests.conftest import ROOT
from tests.helpers.fresh_folder import sh

CLIENTS = ROOT / "clients"
CONTRACT = ROOT / "openapi" / "customers.yaml"


def test_spectral() -> None:
    """Spectral finds nothing, apart from the exceptions with reasons in clients/spectral.yaml."""
    command = f"npx spectral lint --ruleset spectral.yaml --fail-severity hint {CONTRACT}"
    assert sh(command, CLIENTS).strip() == "No results with a severity of 'hint' or higher found!"


def test_redocly() -> None:
    """Redocly finds nothing, without any exception."""
    quiet = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    said = sh(f"npx redocly lint --config redocly.yaml {CONTRACT}", CLIENTS, **quiet)
    assert "Your API description is valid." in said
    assert "warning" not in said.lower().replace("deprecation warning", "")  # of Node's version
