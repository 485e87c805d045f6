"""A file that a command cannot write ends the command before its first call."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from flask_ecwid.cli.report import Refusal
from flask_ecwid.signals import call_started

from ..helpers.command import GOOD, Command, write

LINE = {"line": 2, "type": "urn:x", "pointer": "/lang", "keyword": "type"}
# The longest name of a file has 255 bytes on most file systems.
LONG = "x" * 300 + ".jsonl"
NO_FILES = [
    *("no/all.jsonl", "shop.csv/all.jsonl", "folder.jsonl", "link.jsonl", "dangling.jsonl"),
    *("pipe.jsonl", "/dev/full", "/proc/all.jsonl", LONG, ".", ""),
]
EXPORTS = [
    ["all.xml"],
    ["all.jsonl", "--store", "other"],
    ["all.jsonl", "--where", "canary=1"],
    *([path, "--format", "jsonl"] for path in NO_FILES),
    # Files beside PATH have longer names.
    *([path] for path in ("x" * 243 + ".jsonl", "x" * 240 + ".jsonl")),
    *([f"{name}.jsonl"] for name in ("part", "resume", "new", "odd", "unfinished")),
    *([f"{name}.jsonl", "--resume"] for name in ("part", "resume", "new", "odd", "unfinished")),
]
IMPORTS = [
    *(["new.jsonl", "--report", path] for path in NO_FILES),
    *(["new.jsonl", "--report", path] for path in ("new.jsonl", "./new.jsonl", "shop.csv")),
    ["shop.csv", "--report", "report.jsonl"],
    ["new.jsonl", "--report", "-"],
    ["new.jsonl", "--store", "other", "--report", "report.jsonl"],
    ["new.jsonl", "--map", "canary=email", "--report", "report.jsonl"],
]
REFUSED = [
    *(["export", *args] for args in EXPORTS),
    *(["import", *args] for args in IMPORTS),
    *(["sandbox", "--port", "0", "--file", path] for path in NO_FILES),
]


def fill(folder: Path) -> None:
    """Make files that no command may change."""
    shop = folder / "shop.csv"
    shop.write_text("email;canary\ncanary@example.com;1\n")
    shop.chmod(0o644)
    (folder / "folder.jsonl").mkdir()
    (folder / "link.jsonl").symlink_to("shop.csv")
    (folder / "dangling.jsonl").symlink_to("missing")
    os.mkfifo(folder / "pipe.jsonl")
    for name in ("part.jsonl.part", "resume.jsonl.resume", "new.jsonl.resume.new"):
        (folder / name).symlink_to("shop.csv")
    (folder / "odd.jsonl.resume").write_text("canary")
    (folder / "unfinished.jsonl.resume").write_text('{"job": "another", "bytes": 5}')
    for path in folder.glob("*.resume"):
        if not path.is_symlink():
            path.chmod(0o600)


def state_of(folder: Path) -> dict[str, Any]:
    """Return the content, the mode and the identity of each file, except those of the store."""
    return {
        path.name: (
            os.readlink(path) if path.is_symlink() else path.is_file() and path.read_bytes(),
            path.lstat().st_mode,
            path.lstat().st_ino,
        )
        for path in folder.iterdir()
        if not path.name.startswith("store.sqlite3")
    }


@pytest.mark.parametrize("args", REFUSED, ids=lambda args: " ".join(args)[:60])
def test_refused_before_the_first_call(tmp_path: Path, args: list[str]) -> None:
    """An argument that cannot work ends the command with 2 and one sentence.

    The command makes no call, changes no file, and leaves no file behind.
    """
    command = Command(tmp_path)
    write(command, "new.jsonl", *GOOD)
    fill(tmp_path)
    before = state_of(tmp_path)
    status, out, err = command.run(*args)
    assert (status, out) == (2, "")
    assert err.count("Error: ") == 1
    assert "canary" not in err
    assert command.orders.ledger() == []
    assert state_of(tmp_path) == before


def test_refused_settings_leave_no_report(tmp_path: Path) -> None:
    """An import with wrong settings leaves no new report behind."""
    command = Command(tmp_path, ECWID_AUTH="canary")
    write(command, "new.jsonl", *GOOD)
    status, _, err = command.run("import", "new.jsonl", "--report", "report.jsonl")
    assert status == 2
    assert err.startswith("ECWID_AUTH ")
    assert command.files() == {"new.jsonl"}


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["export", "all.jsonl", "--where", "limit=20"], "all.jsonl.resume.new"),
        (["export", "all.jsonl", "--where", "limit=20"], "all.jsonl.resume"),
    ],
)
def test_a_failure_after_the_first_call(tmp_path: Path, options: list[str], name: str) -> None:
    """A link that appears while the command runs is a failure with 1, and is not followed."""
    command = Command(tmp_path, 60)
    victim = tmp_path / "victim"
    victim.write_text("canary")

    def plant(sender: object, **_: object) -> None:
        if not (tmp_path / name).is_symlink():
            (tmp_path / name).symlink_to(victim)

    with call_started.connected_to(plant):
        status, _, err = command.run(*options)
    assert status == 1
    assert f"{name} is a link" in err
    assert victim.read_text() == "canary"


def without(name: str) -> str:
    return json.dumps({key: value for key, value in LINE.items() if key != name})


@pytest.mark.parametrize(
    "text",
    [
        *("\n", "canary\n", "email,lang\n", "5\n", "[]\n", "{}\n", '{"email": "canary"}\n'),
        *(without("keyword"), json.dumps({**LINE, "email": "canary"}), " " * 70_000),
    ],
)
def test_a_file_that_is_no_report(tmp_path: Path, text: str) -> None:
    """A file of the user that has not the form of a report is not emptied."""
    command = Command(tmp_path)
    write(command, "new.jsonl", *GOOD)
    path = tmp_path / "report.jsonl"
    path.write_text(text)
    path.chmod(0o644)
    for dry_run in ([], ["--dry-run"]):
        status, _, err = command.run("import", "new.jsonl", *dry_run, "--report", "report.jsonl")
        assert status == 2
        assert "report.jsonl holds other data than a report, so choose another file" in " ".join(
            err.split()
        )
        assert "canary" not in err
        assert path.read_text() == text
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert command.orders.ledger() == []


WHOLE = Refusal(2, "urn:x", "", "rejected", "A text. " * 1_000, "CODE").to_json()


@pytest.mark.parametrize(
    "data", [b"", WHOLE, json.dumps(LINE).encode() + b"\n", WHOLE * 2], ids=range(4)
)
def test_an_earlier_report_is_replaced(tmp_path: Path, data: bytes) -> None:
    """An empty file, or a report with any members of a report, is replaced."""
    command = Command(tmp_path)
    (tmp_path / "report.jsonl").write_bytes(data)
    write(command, "new.jsonl", *GOOD)
    assert command.run("import", "new.jsonl", "--report", "report.jsonl") == (0, "", "")
    assert (tmp_path / "report.jsonl").read_bytes() == b""
