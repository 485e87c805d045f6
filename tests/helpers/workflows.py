"""Find mistakes in the syntax of a workflow of GitHub Actions.

The rules are the part of GitHub's workflow syntax that a small workflow needs. Unknown keys are
mistakes, because GitHub refuses the whole file for one unknown key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

EVENTS = {"push", "pull_request", "schedule", "workflow_dispatch"}
TOP = {"name", "run-name", "on", "permissions", "env", "defaults", "concurrency", "jobs"}
JOB = {
    *("name", "permissions", "needs", "if", "runs-on", "concurrency", "outputs", "env"),
    *("defaults", "steps", "timeout-minutes", "strategy", "continue-on-error", "services"),
}
STEP = {
    *("id", "if", "name", "uses", "run", "working-directory", "shell", "with", "env"),
    *("continue-on-error", "timeout-minutes"),
}
STRATEGY = {"matrix", "fail-fast", "max-parallel"}
CONTEXTS = {"github", "env", "matrix", "steps", "runner"}


def read(text: str) -> dict[str, Any]:
    """Return a workflow. YAML 1.1 reads the key `on` as true, and GitHub reads a text."""
    loaded = yaml.safe_load(text)
    return {"on" if key is True else key: value for key, value in loaded.items()}


def mistakes(text: str) -> list[str]:
    """Return each mistake of a workflow as a path and a reason."""
    workflow = read(text)
    found = [*_unknown("workflow", workflow, TOP), *_missing("workflow", workflow, {"on", "jobs"})]
    events = workflow.get("on") or {}
    found += _unknown("on", dict.fromkeys([events] if isinstance(events, str) else events), EVENTS)
    for name, job in (workflow.get("jobs") or {}).items():
        found += _of_job(name, job)
    return found


def commands(text: str) -> list[str]:
    """Return the lines that the steps of a workflow run."""
    return [
        line
        for job in read(text)["jobs"].values()
        for step in job["steps"]
        for line in step.get("run", "").splitlines()
    ]


def _of_job(name: str, job: dict[str, Any]) -> Iterator[str]:
    yield from _unknown(name, job, JOB)
    yield from _missing(name, job, {"runs-on", "steps"})
    strategy = job.get("strategy", {})
    yield from _unknown(f"{name}.strategy", strategy, STRATEGY)
    matrix = strategy.get("matrix", {})
    for variable, values in matrix.items():
        # YAML reads 3.10 without quotes as the number 3.1.
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            yield f"{name}.matrix.{variable}: not a list of texts"
    for expression in re.findall(r"\$\{\{ *(.*?) *\}\}", str(job)):
        context, _, member = expression.partition(".")
        if context not in CONTEXTS or (context == "matrix" and member not in matrix):
            yield f"{name}: {expression} is not defined"
    for number, step in enumerate(job.get("steps", [])):
        place = f"{name}.steps.{number}"
        yield from _unknown(place, step, STEP)
        if ("uses" in step) == ("run" in step):
            yield f"{place}: not one of uses and run"
        if "uses" in step and not re.fullmatch(r"[\w.-]+/[\w./-]+@[\w.]+", step["uses"]):
            yield f"{place}: the action has no owner or no version"
        if "with" in step and "uses" not in step:
            yield f"{place}: with needs uses"


def _unknown(place: str, node: dict[str, Any], known: set[str]) -> list[str]:
    return [f"{place}: {key} is unknown" for key in node if key not in known]


def _missing(place: str, node: dict[str, Any], needed: set[str]) -> list[str]:
    return [f"{place}: {key} is missing" for key in sorted(needed - node.keys())]
