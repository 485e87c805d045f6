"""The generated TypeScript client has types and works with all operations."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.helpers.fresh_folder import block, generate, served_sandbox, sh
from tests.helpers.shop_scenarios import SCENARIOS, Shop, play

TSC = "npx tsc --strict --target es2022 --module nodenext --skipLibCheck false"


@pytest.fixture(scope="module")
def folder() -> Path:
    """Return a folder with generated types and two programs."""
    folder = ROOT / "clients" / "build" / "typescript"  # finds what is installed in clients
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    generate(block("Get the contract", "sh"), folder)
    printed = generate(block("TypeScript", "sh"), folder)
    (folder / "printed").write_text(printed, encoding="utf-8")
    (folder / "program.ts").write_text(block("TypeScript", "ts"), encoding="utf-8")
    shutil.copy(ROOT / "docs" / "clients" / "ecwid-shop.ts", folder)
    for name in ("proof.ts", "shop-driver.ts"):
        shutil.copy(ROOT / "clients" / name, folder)
    sh(f"{TSC} program.ts proof.ts shop-driver.ts", folder)
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    """Run a server, and return the variables of the programs."""
    with served_sandbox() as variables:
        yield variables


def test_nothing_to_warn_of(folder: Path) -> None:
    """The generator accepts the contract without a warning."""
    printed = (folder / "printed").read_text(encoding="utf-8")
    assert "openapi-3.1.json → customers.d.ts" in printed
    assert "warn" not in printed.lower()


def test_no_any(folder: Path) -> None:
    """No type is any, and only a member without a type in the contract is unknown."""
    types = (folder / "customers.d.ts").read_text(encoding="utf-8")
    code = [line for line in types.splitlines() if not line.strip().startswith(("*", "/"))]
    assert len(code) > 500
    module = (folder / "ecwid-shop.ts").read_text(encoding="utf-8").splitlines()
    assert [line for line in [*code, *module] if re.search(r": any\b|<any>|as any", line)] == []
    unknown = {line.split()[0].rstrip(":?") for line in code if line.endswith(": unknown;")}
    members = {"[key", "[name"}  # members that Ecwid adds, and headers
    untyped = {"SortingNumber", "EntityTypes", "ExtraFieldValue"}
    read_only = {"readonly"}  # orderBy and entityTypes of an extra field in a request
    assert unknown == members | untyped | read_only
    assert sum(line.strip().startswith("readonly") for line in code if "unknown" in line) == 2


def test_the_program_of_the_documents(folder: Path, server: dict[str, str]) -> None:
    """The program of docs/clients.md works as the page says."""
    assert sh("node program.js", folder, **server).splitlines() == [
        "bob@example.com",
        "true",
        "no",
        "urn:flask-ecwid:problem:customer-not-found",
    ]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_module(scenario: Callable[[Shop], None], folder: Path, tmp_path: Path) -> None:
    """The module for TypeScript repeats, pages and fails as docs/clients.md says."""
    play(scenario, tmp_path, folder, "node shop-driver.js")


def test_all_five_and_their_failures(folder: Path, server: dict[str, str]) -> None:
    """The client calls each operation, and gives a type to each failure that a caller can cause."""
    assert sh("node proof.js", folder, **server) == "proven\n"
