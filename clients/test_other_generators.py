"""Two more generators of docs/clients.md work with the contract."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.helpers.fresh_folder import block, generate, served_sandbox, sh

# The members that have no type in the contract, as in tests/e2e/test_python_client.py.
UNTYPED_MEMBERS = 11


@pytest.fixture
def folder() -> Path:
    """Return a fresh folder with the contract."""
    folder = ROOT / "clients" / "build" / "others"  # finds what is installed in clients
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    generate(block("Get the contract", "sh"), folder)
    return folder


def test_models(folder: Path) -> None:
    """The models of datamodel-code-generator parse the responses of the server."""
    printed = generate(block("Only models", "sh"), folder)
    warned = set(re.findall(r"Warning: (.*?);", printed))
    assert warned == {f"Pydantic does not take pattern on {each}" for each in ("UUID", "SecretStr")}
    models = (folder / "customers.py").read_text(encoding="utf-8")
    assert len(re.findall(r"\bAny \| None", models)) == UNTYPED_MEMBERS
    assert re.findall(r"^.*(?<!\[str, )\bAny\b(?! \| None).*$", models, re.M) == [
        "from typing import Annotated, Any"
    ]
    (folder / "program.py").write_text(block("Only models", "python"), encoding="utf-8")
    sh(f"{sys.executable} -m mypy --strict program.py", folder)
    with served_sandbox() as variables:
        printed = sh(f"{sys.executable} program.py", folder, **variables)
    assert printed == "172890169 demo.second@example.com\n"


def test_hey_api(folder: Path) -> None:
    """The client of @hey-api/openapi-ts has a function for each operation, and typed errors."""
    generate(block("Functions in TypeScript", "sh"), folder)
    types = (folder / "shop" / "types.gen.ts").read_text(encoding="utf-8")
    assert re.findall(r".*(?:: any\b|<any>).*", types) == []
    (folder / "program.ts").write_text(block("Functions in TypeScript", "ts"), encoding="utf-8")
    tsc = "npx tsc --strict --target es2022 --module es2022 --moduleResolution bundler"
    sh(f"{tsc} --noEmit program.ts", folder)
    with served_sandbox() as variables:
        command = "npx tsx program.ts"
        assert sh(command, folder, **variables) == "[ 'customer@example.com' ]\n404 ecwid\n"
