"""The generated TypeScript client has types and works with all operations."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.helpers.fresh_folder import block, generate, served_sandbox, sh

TSC = "npx tsc --strict --target es2022 --module nodenext --skipLibCheck false"


@pytest.fixture(scope="module")
def folder() -> Path:
    """Return a folder with generated types and two programs."""
    folder = ROOT / "clients" / "build" / "typescript"  # finds what is installed in clients
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    generate(block("Clients from the contract", "sh"), folder)
    printed = generate(block("TypeScript", "sh"), folder)
    (folder / "printed").write_text(printed, encoding="utf-8")
    (folder / "program.ts").write_text(block("TypeScript", "ts"), encoding="utf-8")
    shutil.copy(ROOT / "clients" / "proof.ts", folder)
    sh(f"{TSC} program.ts proof.ts", folder)
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    """Run a server, and return the variables of the programs."""
    with served_sandbox() as variables:
        yield variables


def test_nothing_to_warn_of(folder: Path) -> None:
    """The generator accepts the contract without a warning."""
    printed = (folder / "printed").read_text(encoding="utf-8")
    assert "customers.yaml → customers.d.ts" in printed
    assert "warn" not in printed.lower()


def test_no_any(folder: Path) -> None:
    """No type is any, and tsc accepts both programs under its strict rules."""
    types = (folder / "customers.d.ts").read_text(encoding="utf-8")
    code = [line for line in types.splitlines() if not line.strip().startswith(("*", "/"))]
    assert len(code) > 500
    assert [line for line in code if " any" in line] == []


def test_the_program_of_the_documents(folder: Path, server: dict[str, str]) -> None:
    """The program of docs/clients.md works as the page says."""
    assert sh("node program.js", folder, **server).splitlines() == [
        "true bob@example.com",
        "1",
        "[ 'bob@example.com' ]",
        "1",
        "404 urn:flask-ecwid:problem:customer-not-found ecwid",
    ]


def test_all_five_and_their_failures(folder: Path, server: dict[str, str]) -> None:
    """The client calls each operation, and gives a type to each failure that a caller can cause."""
    assert sh("node proof.js", folder, **server) == "proven\n"
