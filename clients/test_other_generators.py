"""Two more generators, as docs/clients.md has them."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.helpers.fresh_folder import block, generate, sh, shop


@pytest.fixture
def folder() -> Path:
    """A fresh folder with the contract."""
    folder = ROOT / "clients" / "build" / "others"  # finds what is installed in clients
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    generate(block("Clients from the contract", "sh"), folder)
    return folder


def test_models(folder: Path) -> None:
    """datamodel-code-generator makes models, which read what the server answers."""
    printed = generate(block("Only models", "sh"), folder)
    warned = set(re.findall(r"Warning: (.*?);", printed))
    assert warned == {f"Pydantic does not take pattern on {each}" for each in ("UUID", "SecretStr")}
    (folder / "program.py").write_text(block("Only models", "python"), encoding="utf-8")
    sh(f"{sys.executable} -m mypy --strict program.py", folder)
    with shop() as variables:
        printed = sh(f"{sys.executable} program.py", folder, **variables)
    assert printed == "172890169 demo.second@example.com\n"


def test_hey_api(folder: Path) -> None:
    """@hey-api/openapi-ts makes a function for each operation, with typed errors."""
    generate(block("Functions in TypeScript", "sh"), folder)
    (folder / "program.ts").write_text(block("Functions in TypeScript", "ts"), encoding="utf-8")
    tsc = "npx tsc --strict --target es2022 --module es2022 --moduleResolution bundler"
    sh(f"{tsc} --noEmit program.ts", folder)
    with shop() as variables:
        command = "npx tsx program.ts"
        assert sh(command, folder, **variables) == "[ 'customer@example.com' ]\n404 ecwid\n"
