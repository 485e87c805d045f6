"""The generated Python client has types and works with all operations."""

from __future__ import annotations

import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..conftest import ROOT
from ..helpers.fresh_folder import block, generate, round_trip, served_sandbox, sh
from ..helpers.samples import SCHEMAS, flat
from ..helpers.shop_scenarios import SCENARIOS, Shop, play

CACHE = ROOT / ".mypy_cache" / "python_client"
MYPY = f"{sys.executable} -m mypy --strict --cache-dir {CACHE}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a generated client and two programs."""
    folder = tmp_path_factory.mktemp("fresh")
    generate(block("Get the contract", "sh"), folder)
    printed = generate(block("Python", "sh"), folder)
    (folder / "printed").write_text(printed, encoding="utf-8")
    (folder / "program.py").write_text(block("Python", "python"), encoding="utf-8")
    for name in ("proof.py", "round_trip.py", "shop_driver.py"):
        shutil.copy(ROOT / "tests" / "clients" / name, folder)
    shutil.copy(ROOT / "docs" / "clients" / "ecwid_shop.py", folder)
    return folder


@pytest.fixture(scope="module")
def environment(folder: Path) -> Iterator[dict[str, str]]:
    """Return the variables of the server and the path of the client."""
    with served_sandbox() as variables:
        yield {**variables, "PYTHONPATH": str(folder / "ecwid-customers-client")}


def test_nothing_to_warn_of(folder: Path) -> None:
    """The generator accepts the contract without a warning."""
    printed = (folder / "printed").read_text(encoding="utf-8")
    assert printed.split() == ["Generating", str(folder / "ecwid-customers-client")]


def test_types(folder: Path) -> None:
    """Customers, ids and problems have types of their own, which strict mypy checks."""
    variables = {"MYPYPATH": "ecwid-customers-client"}
    sh(f"{MYPY} program.py proof.py shop_driver.py ecwid_shop.py", folder, **variables)


def test_a_wrong_type_is_seen(folder: Path) -> None:
    """mypy reports a value of a wrong type before the program runs."""
    wrong = block("Python", "python").replace("accept_marketing=True", "accept_marketing=5")
    (folder / "wrong.py").write_text(wrong, encoding="utf-8")
    with pytest.raises(AssertionError, match=r'"accept_marketing" .* incompatible type "int"'):
        sh(f"{MYPY} wrong.py", folder, MYPYPATH="ecwid-customers-client")


def test_only_untyped_members_are_any(folder: Path) -> None:
    """Any is the type of what has no type in the contract, and of nothing else."""
    package = folder / "ecwid-customers-client" / "ecwid_customers_client"
    members = [
        line
        for model in (package / "models").glob("*.py")
        for line in re.findall(r"^    \w+: .*", model.read_text(encoding="utf-8"), re.M)
    ]
    assert len(members) > 100
    untyped = Counter(line.partition("=")[0].strip() for line in members if "Any" in line)
    del untyped["additional_properties: dict[str, Any]"]  # members that Ecwid adds
    assert untyped == Counter(f"{python_name(name)}: Any | Unset" for name in untyped_members())
    assert sum(untyped.values()) == 11
    untyped_calls = {
        api.stem
        for api in (package / "api" / "customers").glob("*.py")
        if re.search(r"\) -> (Response\[)?Any", api.read_text(encoding="utf-8"))
    }
    assert untyped_calls == {"get_customer", "list_customers"}  # a 304 has no body
    module = (folder / "ecwid_shop.py").read_text(encoding="utf-8")
    assert re.findall(r"\b(?:Any|cast|type: ignore)\b", module) == []


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_module(scenario: Callable[[Shop], None], folder: Path, tmp_path: Path) -> None:
    """The module for Python repeats, pages and fails as docs/clients.md says."""
    driver = f"{sys.executable} shop_driver.py"
    play(scenario, tmp_path, folder, driver, PYTHONPATH=str(folder / "ecwid-customers-client"))


def python_name(name: str) -> str:
    return re.sub(r"(?=[A-Z])", "_", name).lower()


def untyped_members() -> list[str]:
    """Return the name of each member that has no type, once for each object that has it."""
    return [
        name
        for schema in SCHEMAS.values()
        for name, node in schema.get("properties", {}).items()
        if "type" not in flat(node)
    ]


def test_nothing_is_lost(folder: Path) -> None:
    """The models write each document as they have read the document."""
    path = {"PYTHONPATH": str(folder / "ecwid-customers-client")}
    assert round_trip(f"{sys.executable} round_trip.py", folder, **path) == {}


def test_the_program_of_the_documents(folder: Path, environment: dict[str, str]) -> None:
    """The program of docs/clients.md works as the page says."""
    assert sh(f"{sys.executable} program.py", folder, **environment).splitlines() == [
        "anna@example.com",
        "['customer@example.com', 'demo.second@example.com', 'anna@example.com']",
        "no",
        "urn:flask-ecwid:problem:customer-not-found",
    ]


def test_all_five_and_their_failures(folder: Path, environment: dict[str, str]) -> None:
    """The client calls each operation, and gives a type to each failure that a caller can cause."""
    assert sh(f"{sys.executable} proof.py", folder, **environment) == "proven\n"
