"""The Python client that comes out of the contract: typed, and driven through everything."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..conftest import ROOT
from ..helpers.fresh_folder import block, generate, sh, shop

CACHE = ROOT / ".mypy_cache" / "python_client"
MYPY = f"{sys.executable} -m mypy --strict --cache-dir {CACHE}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where somebody new has generated a client, and has written two programs."""
    folder = tmp_path_factory.mktemp("fresh")
    generate(block("Clients from the contract", "sh"), folder)
    printed = generate(block("Python", "sh"), folder)
    (folder / "printed").write_text(printed, encoding="utf-8")
    (folder / "program.py").write_text(block("Python", "python"), encoding="utf-8")
    shutil.copy(ROOT / "tests" / "clients" / "proof.py", folder)
    return folder


@pytest.fixture(scope="module")
def environment(folder: Path) -> Iterator[dict[str, str]]:
    """The server's, and the client's, as if it had been installed."""
    with shop() as variables:
        yield {**variables, "PYTHONPATH": str(folder / "ecwid-customers-client")}


def test_nothing_to_warn_of(folder: Path) -> None:
    """The generator takes the contract as it is and warns of nothing."""
    printed = (folder / "printed").read_text(encoding="utf-8")
    assert printed.split() == ["Generating", str(folder / "ecwid-customers-client")]


def test_types(folder: Path) -> None:
    """Customers, ids and problems have their own types: mypy's strict rules hold for both programs,
    and for the generated code.
    """
    variables = {"MYPYPATH": "ecwid-customers-client"}
    sh(f"{MYPY} program.py proof.py", folder, **variables)


def test_a_wrong_type_is_seen(folder: Path) -> None:
    """What is no type of the contract's is told by mypy before anything runs."""
    wrong = block("Python", "python").replace("accept_marketing=True", "accept_marketing=5")
    (folder / "wrong.py").write_text(wrong, encoding="utf-8")
    with pytest.raises(AssertionError, match=r'"accept_marketing" .* incompatible type "int"'):
        sh(f"{MYPY} wrong.py", folder, MYPYPATH="ecwid-customers-client")


def test_no_any(folder: Path) -> None:
    """No declared member of a customer, an answer or a problem is Any, and no operation's answer
    but the 304 of the two reads, which has no body.
    """
    package = folder / "ecwid-customers-client" / "ecwid_customers_client"
    members = [
        line
        for model in (package / "models").glob("*.py")
        for line in re.findall(r"^    \w+: .*", model.read_text(encoding="utf-8"), re.M)
    ]
    assert len(members) > 100
    untyped = {line.partition("=")[0].strip() for line in members if "Any" in line}
    assert untyped == {"additional_properties: dict[str, Any]"}  # what Ecwid adds
    untyped_calls = {
        api.stem
        for api in (package / "api" / "customers").glob("*.py")
        if re.search(r"\) -> (Response\[)?Any", api.read_text(encoding="utf-8"))
    }
    assert untyped_calls == {"get_customer", "list_customers"}


def test_the_program_of_the_documents(folder: Path, environment: dict[str, str]) -> None:
    """The program of docs/clients.md does what it says."""
    printed = sh(f"{sys.executable} program.py", folder, **environment)
    got, updated, listed, deleted, gone = printed.splitlines()
    assert got == "True anna@example.com"
    assert "UpdateCount(update_count=1)" in updated
    assert listed == "['anna@example.com']"
    assert "DeleteCount(delete_count=1)" in deleted
    assert gone == "404 urn:flask-ecwid:problem:customer-not-found ecwid"


def test_all_five_and_their_failures(folder: Path, environment: dict[str, str]) -> None:
    """Each operation is called, and each failure that a caller can cause comes back typed."""
    assert sh(f"{sys.executable} proof.py", folder, **environment) == "proven\n"
