"""The structure of the package, such as import directions and public names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import flask_ecwid
from flask_ecwid import contract
from flask_ecwid.web import handlers

PACKAGE = Path(flask_ecwid.__file__).parent

# The modules and packages in the order of their imports. Each imports only names further down.
LAYOUT = [
    "cli",
    "server",
    "testing",
    "metrics",
    "extension",
    "oauth",
    "web",
    "client",
    "throttling",
    "storage",
    "contract",
    "signals",
    "errors",
    "settings",
    "private_files",
    "clock",
    "chance",
]
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py"
}
OWN = {name: path for name, path in MODULES.items() if not name.startswith("sandbox.")}


# The modules of cli that are commands.
COMMANDS = {
    *("check", "export", "import_", "key", "openapi", "sandbox", "stores", "sync", "webhook"),
}


def imports(path: Path) -> set[str]:
    """Return the full names of the modules, and of the names that are imported from them."""
    package = ("flask_ecwid", *path.relative_to(PACKAGE).parent.parts)
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *(node.module or "").split("."))).strip(".")
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


def unit(module: str) -> str:
    """Return the package that a module belongs to, or the name of a single module."""
    return module.partition(".")[0]


def test_the_layout_is_whole() -> None:
    """Every package and every single module has its place in the layout."""
    assert sorted(LAYOUT) == sorted({unit(module) for module in OWN})


def test_the_package_shows_few_names() -> None:
    """The folder of the package shows at most 18 packages and modules."""
    shown = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py"}
    shown |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert len(shown - {"__init__"}) <= 18


@pytest.mark.parametrize("module", OWN)
def test_import_direction(module: str) -> None:
    """A module imports only its own package and the packages below it."""
    names = imports(OWN[module])
    ours = {name.split(".")[1] for name in names if name.startswith("flask_ecwid.")}
    allowed = {unit(module), *LAYOUT[LAYOUT.index(unit(module)) + 1 :]}
    assert ours - {"sandbox"} <= allowed
    assert "sandbox" not in ours or unit(module) in ("testing", "cli", "client")


def test_a_command_imports_no_other_command() -> None:
    """A module of a command imports no other command, so it can be read and removed alone."""
    commands = {f"flask_ecwid.cli.{name}" for name in COMMANDS}
    for module, path in OWN.items():
        if unit(module) == "cli":
            assert not imports(path) & commands, module


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("connexion", {"web.connexion_api"}),
        ("jsonschema_rs", {"contract.schema"}),
        ("requests", {"client.transport", "client.pool", "client.route"}),
        ("urllib3", {"client.route", "client.replies"}),
        ("click", {"cli"}),
        ("pytest", set()),  # flask_ecwid_plugins has the fixtures
        ("redis", {"storage.redis_connection"}),
        ("cachetools", {"storage.response_memory", "throttling.guard"}),
        ("blinker", {"signals"}),
        ("prometheus_client", {"metrics", "server"}),
        ("gunicorn", {"server"}),
        ("sqlalchemy", {"cli"}),
        ("psycopg", {"cli"}),
    ],
)
def test_a_library_is_imported_in_few_modules(library: str, rooms: set[str]) -> None:
    """A library that the project could replace is imported only in the modules listed for it."""
    users = {
        unit(module) if unit(module) in ("cli", "server") else module
        for module, path in OWN.items()
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert users == rooms


@pytest.mark.parametrize("module", OWN)
def test_time_and_threads_come_from_clock(module: str) -> None:
    """A module gets time, locks and threads from clock, so that tests can watch them."""
    names = {name.split(".")[0] for name in imports(OWN[module])}
    assert module == "clock" or names.isdisjoint({"threading", "time", "concurrent"})


@pytest.mark.parametrize("module", OWN)
def test_random_values_come_from_chance(module: str) -> None:
    """A module gets random values from chance, so that a simulation can choose them."""
    names = {name.split(".")[0] for name in imports(OWN[module])}
    assert module == "chance" or names.isdisjoint({"random", "secrets", "uuid"})


BELOW = LAYOUT[LAYOUT.index("client") :]


@pytest.mark.parametrize("module", [module for module in OWN if unit(module) in BELOW])
def test_flask_is_not_known_below(module: str) -> None:
    """The client and the packages below it do not import Flask."""
    assert "flask" not in {name.split(".")[0] for name in imports(OWN[module])}


def test_public_names() -> None:
    """`__all__` is sorted, documented, and equal to the names that a star import gives."""
    names = flask_ecwid.__all__
    assert names == sorted(names)
    given: dict[str, object] = {}
    exec("from flask_ecwid import *", given)
    assert set(given) - {"__builtins__"} == set(names)
    for name in names:
        assert getattr(flask_ecwid, name).__doc__, name


def test_the_title_page_is_short() -> None:
    """The file `__init__.py` has fewer than 50 lines."""
    assert len((PACKAGE / "__init__.py").read_text(encoding="utf-8").splitlines()) < 50


def test_the_configuration_of_gunicorn_is_short() -> None:
    """The file gunicorn.conf.py has at most 80 lines."""
    text = (PACKAGE.parent / "gunicorn.conf.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 80


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_docstring(module: str) -> None:
    """Every module has a docstring."""
    assert ast.get_docstring(ast.parse(MODULES[module].read_text(encoding="utf-8")))


@pytest.mark.parametrize("test", sorted(Path(__file__).parent.parent.rglob("test_*.py")), ids=str)
def test_every_test_has_a_docstring(test: Path) -> None:
    """Every test has a docstring, which states a rule of the product."""
    for node in ast.walk(ast.parse(test.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            assert ast.get_docstring(node), f"{test.name}: {node.name}"


def test_one_word_in_five_places() -> None:
    """An operation has the same name in the contract, handlers, client, sandbox and tests."""
    sandbox = "".join(p.read_text(encoding="utf-8") for p in (PACKAGE / "sandbox").glob("*.py"))
    tests = (Path(__file__).parent.parent / "web" / "test_endpoints.py").read_text(encoding="utf-8")
    for operation in contract.load().operations:
        assert callable(getattr(handlers, operation))
        assert callable(getattr(flask_ecwid.EcwidClient, operation))
        assert re.search(rf"def {operation}\(", sandbox)
        assert f"def test_{operation}(" in tests


def test_the_package_lists_its_packages() -> None:
    """The docstring of flask_ecwid lists every package in the order of the imports."""
    listed = re.findall(r"^    (\w+)  ", flask_ecwid.__doc__ or "", re.M)
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert listed == [name for name in (*LAYOUT, "sandbox") if name in packages]
