"""The errors of the package are complete when they are raised."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import flask_ecwid
from flask_ecwid import errors
from flask_ecwid.errors import EcwidError

PACKAGE = Path(flask_ecwid.__file__).parent
MODULES = [path.relative_to(PACKAGE).as_posix() for path in sorted(PACKAGE.rglob("*.py"))]
CLASSES = {
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, EcwidError)
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def changed_errors(source: str) -> list[int]:
    """Return the lines that assign to an attribute of an error, or delete one.

    A name stands for an error in three cases. An `except` clause binds the name, an annotation
    names an error class, or the value is a call of an error class.
    """
    tree = ast.parse(source)
    return sorted({line for scope in scopes(tree) for line in changes(scope, error_names(scope))})


def scopes(tree: ast.Module) -> Iterator[list[ast.AST]]:
    """Yield the nodes of each function, with the functions inside, and those of the module."""
    yield own_nodes(tree)
    for function in functions(tree):
        yield list(ast.walk(function))


def functions(tree: ast.AST) -> list[Function]:
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def own_nodes(node: ast.AST) -> list[ast.AST]:
    """Return the nodes below this node that are in no function."""
    nodes: list[ast.AST] = []
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Function):
            nodes += [child, *own_nodes(child)]
    return nodes


def error_names(nodes: list[ast.AST]) -> set[str]:
    """Return the names that stand for an error in these nodes."""
    names: set[str] = set()
    for node in nodes:
        targets: list[ast.expr] = []
        if isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
        elif isinstance(node, ast.arg) and names_an_error(node.annotation):
            names.add(node.arg)
        elif isinstance(node, ast.AnnAssign) and names_an_error(node.annotation):
            targets = [node.target]
        elif isinstance(node, ast.Assign) and makes_an_error(node.value):
            targets = node.targets
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def makes_an_error(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and names_an_error(node.func)


def names_an_error(node: ast.AST | None) -> bool:
    """Return True if an annotation, or the name of a called function, holds an error class."""
    parts = ast.walk(node) if node is not None else ()
    return any(
        (isinstance(part, ast.Name) and part.id in CLASSES)
        or (isinstance(part, ast.Attribute) and part.attr in CLASSES)
        for part in parts
    )


def changes(nodes: list[ast.AST], names: set[str]) -> Iterator[int]:
    """Yield the lines that assign to an attribute of one of the names, or delete one."""
    for node in nodes:
        changed: ast.expr | None = None
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del)):
            changed = node.value
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "delattr"):
            changed = node.args[0]
        if isinstance(changed, ast.Name) and changed.id in names:
            yield changed.lineno


@pytest.mark.parametrize("module", MODULES)
def test_no_code_changes_an_error(module: str) -> None:
    """An error is complete when it is raised, and no code assigns to its attributes afterwards."""
    assert changed_errors((PACKAGE / module).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    f()\nexcept E as exc:\n    exc.executed = 'no'",
        "def f():\n    try:\n        g()\n    except E as exc:\n        exc.executed = 'no'",
        "def f(error: EcwidError):\n    error.status = 1",
        "def f(error: errors.EcwidError | None):\n    error.status, x = 1, 2",
        "def f():\n    error: EcwidError = g()\n    error.pause_s += 1",
        "def f():\n    error = Rejected(400)\n    error.replayed = True",
        "def f(error: Throttled):\n    setattr(error, 'status', 1)",
        "def f(error: Throttled):\n    del error.detail",
    ],
)
def test_a_change_of_an_error_is_found(source: str) -> None:
    """The rule finds each way to assign to an error."""
    assert changed_errors(source) != []


@pytest.mark.parametrize(
    "source",
    [
        "def f(error: EcwidError):\n    return error.changed(status=1)",
        "def f(error: EcwidError):\n    x.error = error.status",
        "class E(EcwidError):\n    def __init__(self, x):\n        self.x = x",
        "def f(error: EcwidError):\n    pass\ndef g(error: Lamp):\n    error.on = True",
    ],
)
def test_other_assignments_are_left_alone(source: str) -> None:
    """The rule allows changed copies, constructors and objects that are no errors."""
    assert changed_errors(source) == []


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_the_docstring_of_an_error_is_one_sentence(name: str) -> None:
    """Each error class is explained by one plain sentence."""
    docstring = getattr(errors, name).__doc__
    assert docstring.endswith(".")
    assert len(docstring.splitlines()) == 1
    assert docstring.count(". ") == 0


def test_a_changed_error_is_a_copy() -> None:
    """A method that changes an error returns a copy, so the raised error stays as it is."""
    error = errors.Throttled(3)
    copy = error.changed(executed="unknown")
    assert (error.executed, copy.executed) == ("no", "unknown")
    assert (copy.retry_after_s, str(copy)) == (3, str(error))
