"""Fixtures: a sandbox, and a caller with its token."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_ecwid.sandbox import TOKEN, create_sandbox


@pytest.fixture
def sandbox(tmp_path: Path) -> Flask:
    """Make a new store with the four customers of the seed."""
    return create_sandbox(tmp_path / "store.sqlite3")


@pytest.fixture
def store(sandbox: Flask) -> FlaskClient:
    """Return a caller whose token has every scope."""
    return admitted(sandbox)


@pytest.fixture(scope="session")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """Return a caller of a store with 1,000 generated customers, for reading only."""
    return admitted(
        create_sandbox(tmp_path_factory.mktemp("crowd") / "store.sqlite3", customers=1000)
    )


def admitted(sandbox: Flask) -> FlaskClient:
    client = sandbox.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {TOKEN}"
    return client
