"""What docs/clients.md says, done by somebody new: its commands in a fresh folder, its programs
against a server that asks for a key.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask_ecwid import api_keys

from ..conftest import ROOT, environment
from ..e2e.test_deployment import gunicorn

DOCUMENT = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")


def block(heading: str, language: str) -> str:
    """The first block of a language below a heading."""
    found = re.search(rf"^#+ {heading}\n.*?^```{language}\n(.*?)^```$", DOCUMENT, re.M | re.S)
    assert found, (heading, language)
    return found[1]


def sh(command: str, folder: Path, **variables: str) -> str:
    """What the command prints, on either channel. It has to succeed."""
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


def generate(commands: str, folder: Path) -> str:
    """Run the commands, but for those that install: what they would is there."""
    lines = [line for line in commands.splitlines() if " install " not in line]
    return "".join(sh(line, folder) for line in lines)


@contextmanager
def shop() -> Iterator[dict[str, str]]:
    """A server on the sandbox with two keys: the variables that the programs read."""
    key, entry = api_keys.make("all", api_keys.SCOPES)
    reader, reads = api_keys.make("reader", ["read"])
    with gunicorn(ECWID_SANDBOX="on", ECWID_API_KEYS=f"{entry.entry()} {reads.entry()}") as server:
        yield {"SHOP_URL": server.url, "SHOP_KEY": key, "READER_KEY": reader}
