"""The command `flask ecwid` on the file of a sandbox, in this process or in another."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from flask import Flask
from flask.cli import FlaskGroup

from flask_ecwid import Ecwid
from flask_ecwid.sandbox import Controls, create_sandbox

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
