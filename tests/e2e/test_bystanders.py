"""The entry points cost other projects in the environment nothing, and break nothing there."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import ROOT, environment

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
ENTRY_POINTS = {
    group: value.strip().partition(" = ")[2]
    for group, value in SETUP["options.entry_points"].items()
}
HEAVY = {"flask_ecwid", "connexion", "requests", "jsonschema_rs", "yaml"}

# The first lines of a program, which simulate a defect of the system.
WITHOUT_POSIX = "import os, sys; sys.modules['fcntl'] = None; del os.getuid\n"
WITHOUT_CONNEXION = "import sys; sys.modules['connexion'] = None\n"

BARE = "from flask import Flask\napp = Flask('bare')\n"
MOUNTED = BARE + "from flask_ecwid import Ecwid\napp.config['ECWID_SANDBOX'] = 'on'\nEcwid(app)\n"
FLASK = """
import atexit, sys
from flask.cli import main
sys.argv[0] = "flask"
atexit.register(lambda: print("imported:", *{each.partition(".")[0] for each in sys.modules}))
main()
"""


def run(program: str, *args: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *args],
        cwd=folder,
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=120,
    )


def flask(
    folder: Path, *args: str, app: str = BARE, first: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a `flask` command of an app in this folder."""
    (folder / "host.py").write_text(app, encoding="utf-8")
    return run(first + FLASK, "--app", "host", *args, folder=folder)


@pytest.mark.parametrize("group", ["flask.commands", "pytest11"])
def test_an_entry_point_imports_nothing_heavy(tmp_path: Path, group: str) -> None:
    """An entry point imports neither flask_ecwid nor another module that takes long to load."""
    program = (
        "import sys; from importlib.metadata import EntryPoint\n"
        f"EntryPoint('ecwid', {ENTRY_POINTS[group]!r}, {group!r}).load()\n"
        "print(*{each.partition('.')[0] for each in sys.modules})"
    )
    done = run(program, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not HEAVY & set(done.stdout.split())


@pytest.mark.parametrize("command", ["--help", "routes"])
def test_a_flask_command_of_another_app(tmp_path: Path, command: str) -> None:
    """A `flask` command of an app without the plugin imports nothing of flask_ecwid."""
    done = flask(tmp_path, command)
    assert (done.returncode, done.stderr) == (0, "")
    printed, _, imported = done.stdout.partition("imported: ")
    assert command != "--help" or "ecwid   Work with the customers of an Ecwid store." in printed
    assert not HEAVY & set(imported.split())


def test_help_of_the_group(tmp_path: Path) -> None:
    """`flask ecwid --help` lists all commands, each with its first sentence."""
    done = flask(tmp_path, "ecwid", "--help")
    assert done.returncode == 0
    for line in (
        "check ",
        "export ",
        "import ",
        "key ",
        "openapi  Print the OpenAPI contract of the endpoints.",
        "sandbox ",
    ):
        assert f"\n  {line}" in done.stdout


def test_a_broken_dependency_breaks_no_other_command(tmp_path: Path) -> None:
    """If flask_ecwid cannot be imported, every other command of flask still works."""
    for command in ("--help", "routes"):
        done = flask(tmp_path, command, first=WITHOUT_CONNEXION)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("args", [[], ["--help"], ["check"], ["no-such-command"]])
def test_a_broken_dependency_is_one_line(tmp_path: Path, args: list[str]) -> None:
    """If flask_ecwid cannot be imported, `flask ecwid` says so in one line."""
    done = flask(tmp_path, "ecwid", *args, first=WITHOUT_CONNEXION)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: flask ecwid does not work, because flask_ecwid cannot be ")
    assert "connexion" in line


def test_mounting_needs_posix(tmp_path: Path) -> None:
    """Without fcntl or os.getuid the package can be imported, and mounting names the module."""
    for first, missing in (
        (WITHOUT_POSIX, "fcntl"),
        ("import os; del os.getuid\n", "os.getuid"),
    ):
        done = run(first + "import flask_ecwid\nprint('imported')\n" + MOUNTED, folder=tmp_path)
        assert done.stdout == "imported\n"
        assert done.stderr.splitlines()[-1] == (
            "flask_ecwid.settings.settings.SettingsError: flask_ecwid needs a POSIX system such as"
            f" Linux or macOS, and this system has no {missing}"
        )


def test_commands_without_posix(tmp_path: Path) -> None:
    """Without fcntl the help works, and a command that needs a store names the missing module."""
    done = flask(tmp_path, "ecwid", "--help", first=WITHOUT_POSIX)
    assert (done.returncode, done.stderr) == (0, "")
    assert flask(tmp_path, "routes", first=WITHOUT_POSIX).returncode == 0
    done = flask(tmp_path, "ecwid", "check", app=MOUNTED, first=WITHOUT_POSIX)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "needs a POSIX system" in line
