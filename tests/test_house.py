"""The house rules: who may import whom, what is public, where connexion is known."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import flask_ecwid
from flask_ecwid import contract, handlers

PACKAGE = Path(flask_ecwid.__file__).parent

# From the top of the house to its foundation: a module imports only what stands below it.
LAYOUT = [
    "testing",
    "cli",
    "terminal",
    "metrics",
    "extension",
    "routes",
    "auth",
    "checking",
    "stores",
    "handlers",
    "published",
    "problems",
    "request_signals",
    "audit",
    "request_log",
    "cache",
    "shelves",
    "importing",
    "idempotency",
    "exporting",
    "client",
    "unfinished",
    "rows",
    "columns",
    "creatable",
    "moving_list",
    "sharing",
    "gateway",
    "signals",
    "lookup",
    "guard",
    "budget",
    "state",
    "redis_link",
    "transport",
    "deadline",
    "names",
    "calls",
    "faults",
    "response_fields",
    "envelope",
    "drift",
    "contract",
    "operation",
    "strict_json",
    "schema",
    "errors",
    "settings",
    "api_keys",
    "secret",
    "clock",
]
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def imports(path: Path) -> set[str]:
    """Full names of the modules, and of what is imported from them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            joint = "" if base.endswith(".") else "."
            found |= {base} | {f"{base}{joint}{alias.name}" for alias in node.names}
    return found


def test_the_layout_is_whole() -> None:
    """Every module has its place in the layout."""
    assert sorted(LAYOUT) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_import_direction(module: str) -> None:
    """A module imports only what stands below it."""
    below = LAYOUT[LAYOUT.index(module) + 1 :]
    ours = {name.split(".")[1] for name in imports(PACKAGE / f"{module}.py") if name[0] == "."}
    assert ours - {"", "sandbox"} <= set(below)
    assert "sandbox" not in ours or module in ("testing", "cli", "stores")


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("connexion", {"routes"}),
        ("jsonschema_rs", {"schema"}),
        ("requests", {"transport", "deadline"}),
        ("urllib3", {"transport", "deadline", "faults"}),
        ("click", {"cli", "terminal"}),
        ("pytest", {"testing"}),
        ("redis", {"redis_link"}),
        ("limits", {"budget"}),
        ("cachetools", {"shelves"}),
        ("blinker", {"signals"}),
        ("prometheus_client", {"metrics"}),
    ],
)
def test_a_library_is_known_in_its_room_alone(library: str, rooms: set[str]) -> None:
    """Each library that could be changed one day is imported in its own rooms alone."""
    users = {
        module
        for module in MODULES
        if any(name.split(".")[0] == library for name in imports(PACKAGE / f"{module}.py"))
    }
    assert users == rooms


@pytest.mark.parametrize("module", LAYOUT[LAYOUT.index("client") :])
def test_flask_is_not_known_below(module: str) -> None:
    """The client and what is below it know nothing of Flask."""
    names = {name.split(".")[0] for name in imports(PACKAGE / f"{module}.py")}
    assert "flask" not in names


def test_public_names() -> None:
    """__all__ is sorted, whole, and what dir() and a star import give."""
    names = flask_ecwid.__all__
    assert names == sorted(names) == dir(flask_ecwid)
    given: dict[str, object] = {}
    exec("from flask_ecwid import *", given)
    assert set(given) - {"__builtins__"} == set(names)
    for name in names:
        assert getattr(flask_ecwid, name).__doc__, name


def test_the_title_page_is_short() -> None:
    """__init__ is a title page: under 40 lines."""
    assert len((PACKAGE / "__init__.py").read_text(encoding="utf-8").splitlines()) < 40


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module: str) -> None:
    """Every module begins with what it is about."""
    assert ast.get_docstring(ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8")))


@pytest.mark.parametrize("test", sorted(Path(__file__).parent.rglob("test_*.py")), ids=str)
def test_every_test_has_its_rule(test: Path) -> None:
    """Every test's docstring is one rule of the product."""
    for node in ast.walk(ast.parse(test.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            assert ast.get_docstring(node), f"{test.name}: {node.name}"


def test_one_word_in_five_places() -> None:
    """An operation has one name: operationId, handler, client method, sandbox view, test."""
    sandbox = "".join(p.read_text(encoding="utf-8") for p in (PACKAGE / "sandbox").glob("*.py"))
    tests = (Path(__file__).parent / "test_endpoints.py").read_text(encoding="utf-8")
    for operation in contract.load().operations:
        assert callable(getattr(handlers, operation))
        assert callable(getattr(flask_ecwid.EcwidClient, operation))
        assert re.search(rf"def {operation}\(", sandbox)
        assert f"def test_{operation}(" in tests
