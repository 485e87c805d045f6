"""The blocks of README.md and the pages in docs/, and functions that run them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask_ecwid.settings import api_keys

from ..conftest import ROOT, TOKEN, environment
from .programs import program


def blocks(page: Path, heading: str = "", language: str = "sh") -> list[str]:
    """Return the blocks of a language on a page in order, or the blocks below one heading."""
    return [
        text for where, kind, text in _blocks(page) if kind == language and heading in ("", where)
    ]


def commands(block: str) -> list[str]:
    """Return the commands of a block, each on one line."""
    return re.sub(r" \\\n +", " ", block).splitlines()


def headings(page: Path) -> set[str]:
    """Return the headings that have blocks to run."""
    return {where for where, language, _ in _blocks(page) if language in ("python", "sh")}


def _blocks(page: Path) -> list[tuple[str, str, str]]:
    found = []
    heading = ""
    text = page.read_text(encoding="utf-8")
    for title, language, block in re.findall(
        r"^#+ ([^\n]+)$|^```(\w*)\n(.*?)^```$", text, re.M | re.S
    ):
        if title:
            heading = title
        else:
            found.append((heading, language, block))
    return found


def filled_in(example: str, token: str = TOKEN) -> tuple[str, str]:
    """Return an example with a token and an entry in place of the dots, and the entry's API key.

    The examples of the pages have dots there, so that no reader opens a service by copying one.
    """
    api_key, entry = api_keys.make("warehouse", ["read", "write"])
    filled, entries = re.subn(r"\bwarehouse:[a-z+]+:\.\.\.", entry.entry(), example)
    assert entries == filled.count("secret_...") == 1
    return filled.replace("secret_...", token), api_key


def python(snippet: str, then: str) -> str:
    """Run a snippet and the code of a test, and return the output."""
    done = subprocess.run(
        [sys.executable, "-c", f"{snippet}\n{then}"], capture_output=True, text=True, check=True
    )
    return done.stdout


def sh(command: str, folder: Path = ROOT, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command in this folder until it ends, and return its output."""
    return subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=environment(**settings),
        capture_output=True,
        text=True,
    )


@contextmanager
def running(
    command: str, folder: Path = ROOT, *, stderr: int = subprocess.DEVNULL, **settings: str
) -> Iterator[subprocess.Popen[str]]:
    """Run a command until the block ends, and end all processes that the command started."""
    process = subprocess.Popen(
        command,
        shell=True,
        cwd=folder,
        env=environment(**settings),
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[str]) -> str:
    """End the process if it is running, and return the rest of its output."""
    if process.returncode is not None:
        return ""
    os.killpg(process.pid, signal.SIGTERM)
    return process.communicate(timeout=60)[0]


def curl(line: str, url: str) -> tuple[int, str]:
    """Run a curl line against the server at this URL, and return the status and the output."""
    program("curl")
    line = re.sub(r"http://127\.0\.0\.1:800\d", url, line)
    line = line.replace("curl ", r"curl -sS -w '\n%{http_code}' ", 1)
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=True)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body
