"""CONTRIBUTING.md, the hooks of pre-commit, and the workflow and templates of GitHub."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ..conftest import ROOT
from ..helpers import workflows
from ..helpers.pages import blocks

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):(?!=)", MAKEFILE, re.M))
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").iterdir())
TEMPLATES = sorted((GITHUB / "ISSUE_TEMPLATE").iterdir())
PULL_REQUEST = GITHUB / "PULL_REQUEST_TEMPLATE.md"
HOOKS = ROOT / ".pre-commit-config.yaml"
FILES = [ROOT / "CONTRIBUTING.md", HOOKS, PULL_REQUEST, *WORKFLOWS, *TEMPLATES]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def classifiers() -> set[str]:
    """Return the Pythons that setup.cfg names, such as 3.10."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    named = setup["metadata"]["classifiers"]
    return set(re.findall(r"Python :: (3\.\d+)$", named, re.M))


def matrix(job: str) -> list[str]:
    """Return the Pythons of a job of the workflow."""
    tests = workflows.read(text_of(GITHUB / "workflows" / "tests.yml"))
    pythons: list[str] = tests["jobs"][job]["strategy"]["matrix"]["python"]
    return pythons


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_valid(path: Path) -> None:
    """A workflow has the keys that GitHub knows, and each step uses an action or runs a command."""
    assert workflows.mistakes(text_of(path)) == []


GOOD = """
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    strategy: {matrix: {python: ["3.10"]}}
    steps:
      - uses: actions/setup-python@v6
        with: {python-version: "${{ matrix.python }}"}
      - run: make test
"""


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        ("", "", None),
        ("on: push", "true: push", None),
        ("on: push", "name: Tests", "workflow: on is missing"),
        ("on: push", "on: [pushed]", "on: pushed is unknown"),
        ("on: push", "on: push\nstep: 1", "workflow: step is unknown"),
        ("jobs:", "env:", "workflow: jobs is missing"),
        ("runs-on:", "name:", "test: runs-on is missing"),
        ("runs-on:", "runs_on:", "test: runs_on is unknown"),
        ("steps:", "outputs:", "test: steps is missing"),
        ('"3.10"', "3.10", "test.matrix.python: not a list of texts"),
        ("matrix.python", "matrix.version", "test: matrix.version is not defined"),
        ("matrix:", "matrices:", "test.strategy: matrices is unknown"),
        ("run: make", "name: make", "test.steps.1: not one of uses and run"),
        ("run: make", "runs: make", "test.steps.1: runs is unknown"),
        ("@v6", "", "test.steps.0: the action has no owner or no version"),
        ("run: make test", "run: make\n        with: {a: b}", "test.steps.1: with needs uses"),
    ],
)
def test_a_mistake_of_a_workflow_is_found(old: str, new: str, mistake: str | None) -> None:
    """Each mistake of a workflow is found, and a good workflow has none."""
    found = workflows.mistakes(GOOD.replace(old, new) if old else GOOD)
    assert found == [] if mistake is None else mistake in found


def test_the_workflow_runs_every_python() -> None:
    """The workflow runs each Python that setup.cfg names, in order."""
    assert matrix("highest") == sorted(classifiers(), key=lambda each: int(each[2:]))


def test_the_workflow_runs_the_lowest_versions() -> None:
    """The lowest versions of the dependencies meet the oldest Python."""
    oldest = re.search(r"python_requires = >=(\S+)", text_of(ROOT / "setup.cfg"))
    assert oldest is not None
    assert matrix("lowest") == [oldest[1]]


def test_the_workflow_leaves_no_test_out() -> None:
    """The workflow runs both commands, installs nginx, and takes a missing program for an error."""
    text = text_of(GITHUB / "workflows" / "tests.yml")
    lines = workflows.commands(text)
    assert {"make test", "make lowest"} <= set(lines)
    assert any("apt-get install" in line and "nginx-light" in line for line in lines)
    assert workflows.read(text)["jobs"]["highest"]["env"] == {"EVERY_TEST": "1"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_target_exists(path: Path) -> None:
    """Each command of make in a page, a template or a workflow is a target of the Makefile."""
    named = re.findall(r"(?:`|run: |^)make (?:\w+=\S+ )?([\w-]+)", text_of(path), re.M)
    assert named or path.name in (HOOKS.name, "feature_request.md")
    assert set(named) <= TARGETS


def test_the_page_has_every_command() -> None:
    """The page has a row for each command that the Makefile describes at its top."""
    top = MAKEFILE.partition("\n\n")[0]
    described = set(re.findall(r"\bmake ([a-z]+):", top))
    assert len(described) > 10
    rows = set(re.findall(r"^\| `make ([a-z]+)` \|", PAGE, re.M))
    assert described <= rows


def test_the_command_of_the_page() -> None:
    """The page sets up a checkout with the command that CI runs."""
    assert blocks(ROOT / "CONTRIBUTING.md") == ["make test\n"]
    assert text_of(ROOT / ".ci" / "run").strip().endswith("make test")


def test_every_file_that_the_page_names_exists() -> None:
    """The page names no file and no folder that is gone."""
    named = re.findall(r"`([\w/.-]+\.(?:py|yaml|cfg)|(?:tests|flask_ecwid)/\w+)`", PAGE)
    assert len(named) > 25
    assert [name for name in named if not (ROOT / name).exists()] == []


def hooks() -> list[dict[str, Any]]:
    """Return the hooks of pre-commit, which all belong to this repository."""
    repositories = yaml.safe_load(text_of(HOOKS))["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    found: list[dict[str, Any]] = repositories[0]["hooks"]
    return found


def test_the_hooks_are_make_lint() -> None:
    """The hooks run the commands of `make lint`, with the tools of the checkout."""
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.M)
    assert recipe is not None
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    assert [hook["entry"] for hook in hooks()] == commands


@pytest.mark.parametrize("hook", hooks(), ids=lambda hook: hook["id"])
def test_a_hook_installs_nothing(hook: dict[str, Any]) -> None:
    """A hook uses an installed tool on the whole checkout, and not only on the changed files."""
    assert hook.keys() == {"id", "name", "entry", "language", "pass_filenames"}
    assert (hook["language"], hook["pass_filenames"]) == ("system", False)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_of_an_issue(path: Path) -> None:
    """A template has a name and a description, and asks for no token and no personal data."""
    _, front, body = text_of(path).split("---\n", 2)
    matter = yaml.safe_load(front)
    assert {"name", "about"} <= matter.keys() <= {"name", "about", "title", "labels", "assignees"}
    assert all(isinstance(value, str) and value for value in matter.values())
    said = " ".join(body.split())
    assert "Paste no token, no API key and no data of a person" in said
    asked = " ".join(re.findall(r"^\*\*(.*)\*\*$", body, re.M)).lower()
    assert asked
    assert not re.search(r"token|\bkey\b|e-mail|your name|store id|contact", asked)


def test_the_templates_are_complete() -> None:
    """A bug and a feature each have a template."""
    assert [path.name for path in TEMPLATES] == ["bug_report.md", "feature_request.md"]


def test_the_checklist_is_the_pages() -> None:
    """The template of a pull request has the checklist of the page."""
    on_page, in_template = (
        re.findall(r"^ *- \[ \] (.+)$", text, re.M) for text in (PAGE, text_of(PULL_REQUEST))
    )
    assert len(on_page) > 3
    assert in_template == on_page


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_machine_is_named(path: Path) -> None:
    """A page, a template and a workflow name no registry and no folder of one machine."""
    assert not re.search(
        r"pypi|pythonhosted|npmjs|index-url|/home/|/root/|/work/|/tmp/", text_of(path)
    )
