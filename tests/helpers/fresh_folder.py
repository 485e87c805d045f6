"""The commands and programs of docs/clients.md in a fresh folder, and a server with keys."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask_ecwid.settings import api_keys

from ..conftest import ROOT, environment
from ..e2e.test_deployment import gunicorn
from .pages import commands
from .samples import losses, program_input

DOCUMENT = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")


def block(heading: str, language: str) -> str:
    """Return the first block of a language below a heading."""
    title = heading.replace("#", r"\\?#")  # At the end of a heading, # needs a backslash.
    found = re.search(rf"^#+ {title}\n.*?^```{language}\n(.*?)^```$", DOCUMENT, re.M | re.S)
    assert found, (heading, language)
    return found[1]


def sh(command: str, folder: Path, **variables: str) -> str:
    """Run a command that must succeed, and return its output on both channels."""
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def generate(text: str, folder: Path) -> str:
    """Run the commands of a block, except the commands that install packages."""
    lines = [line for line in commands(text) if " install " not in line]
    return "".join(sh(line, folder) for line in lines)


def round_trip(program: str, folder: Path, **variables: str) -> dict[str, str]:
    """Send documents through generated models, and return the losses with an example of each."""
    (folder / "documents.json").write_text(program_input(), encoding="utf-8")
    printed = sh(f"{program} < documents.json > written.json", folder, **variables)
    assert printed == ""
    return losses((folder / "written.json").read_text(encoding="utf-8"))


@contextmanager
def served_sandbox() -> Iterator[dict[str, str]]:
    """Run a server with two keys on the sandbox, and return the variables of the programs."""
    key, entry = api_keys.make("all", api_keys.SCOPES)
    reader, reads = api_keys.make("reader", ["read"])
    with gunicorn(ECWID_SANDBOX="on", ECWID_API_KEYS=f"{entry.entry()} {reads.entry()}") as server:
        yield {"SHOP_URL": server.url, "SHOP_KEY": key, "READER_KEY": reader}
