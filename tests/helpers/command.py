"""The command `flask ecwid` on the file of a sandbox, in this process or in another."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from flask import Flask
from flask.cli import FlaskGroup

from flask_ecwid import Ecwid
from flask_ecwid.sandbox import Controls, Fault, create_sandbox

from ..conftest import ROOT, environment


def begin_sandbox(folder: Path, *options: str, **settings: str) -> subprocess.Popen[str]:
    """Start `flask ecwid sandbox` on a free port, in a folder and with further settings."""
    return subprocess.Popen(
        [sys.executable, "-m", "flask", "ecwid", "sandbox", "--port", "0", *options],
        cwd=folder,
        env=environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def printed_settings(sandbox: subprocess.Popen[str]) -> dict[str, str]:
    """Return the settings that the sandbox prints at its start."""
    assert sandbox.stdout is not None
    return dict(sandbox.stdout.readline().strip().split("=", 1) for _ in range(4))


def change_customer(store: Path, id: int, **members: Any) -> None:
    """Give a customer of a sandbox members that no call could set."""
    with sqlite3.connect(store) as db:
        [document] = db.execute("SELECT document FROM customers WHERE id = ?", [id]).fetchone()
        changed = json.dumps({**json.loads(document), **members})
        db.execute("UPDATE customers SET document = ? WHERE id = ?", [changed, id])
    db.close()


class Command:
    """The command line on one store, whose files are in its folder."""

    def __init__(self, folder: Path, customers: int = 0, **settings: str) -> None:
        self.folder = folder
        self.store = folder / "store.sqlite3"
        create_sandbox(self.store, customers=customers)
        self.orders = Controls(self.store)
        self.settings = {
            "ECWID_SANDBOX": str(self.store),
            "ECWID_CALLS_PER_MINUTE": "100000",
            **settings,
        }

    def begin(self, *args: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "flask", "--app", str(ROOT / "wsgi.py"), "ecwid", *args],
            cwd=self.folder,
            env=environment(**self.settings),
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )

    def run(self, *args: str, stdin: bytes | None = None) -> tuple[int, str, str]:
        """Run the command in this process, and return the exit status and both outputs."""

        def create_app() -> Flask:
            app = Flask("host")
            app.config.update(self.settings)
            Ecwid(app)
            return app

        group = FlaskGroup(create_app=create_app, load_dotenv=False)
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            done = CliRunner().invoke(group, ["ecwid", *args], input=stdin)
        finally:
            os.chdir(before)
        assert done.exception is None or isinstance(done.exception, SystemExit)
        return done.exit_code, done.stdout, done.stderr

    def customers(self) -> dict[int, dict[str, Any]]:
        """Return the customers of the store by id."""
        with sqlite3.connect(self.store) as db:
            rows = db.execute("SELECT id, document FROM customers").fetchall()
        db.close()
        return {id: json.loads(document) for id, document in rows}

    def emails(self) -> list[str]:
        return sorted(each["email"] for each in self.customers().values())

    def lines(self, name: str) -> list[Any]:
        """Return the objects of a file of JSON Lines."""
        text = (self.folder / name).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def files(self) -> set[str]:
        return {
            path.name
            for path in self.folder.iterdir()
            if path.is_file() and not path.name.startswith("store.sqlite3")
        }


GOOD = [{"email": f"new-{n}@example.com", "lang": "de"} for n in range(6)]


def ids(command: Command, name: str) -> list[int]:
    """Return the ids of an export, in its order."""
    if name.endswith(".csv"):
        with (command.folder / name).open(encoding="utf-8-sig", newline="") as file:
            return [int(row["id"]) for row in csv.DictReader(file)]
    return [line["id"] for line in command.lines(name)]


def slow(command: Command, seconds: float = 0.05) -> None:
    """Let each page of an export take this time."""
    command.orders.inject(Fault("latency", operation="list_customers", seconds=seconds))


def checkpoint(command: Command, name: str) -> bytes:
    """Return the checkpoint of an unfinished export."""
    try:
        return (command.folder / f"{name}.resume").read_bytes()
    except FileNotFoundError:
        return b""


def wait_for_progress(
    command: Command, name: str, process: subprocess.Popen[str], before: bytes = b""
) -> None:
    """Wait until an export has a newer checkpoint, or has ended."""
    while checkpoint(command, name) == before and process.poll() is None:
        time.sleep(0.02)


def write(command: Command, name: str, *rows: Any) -> None:
    """Write a file of JSON Lines. A text is a line as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (command.folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def new(command: Command) -> list[str]:
    """Return the e-mails of the customers that an import of `GOOD` creates."""
    return [email for email in command.emails() if email.startswith("new-")]
