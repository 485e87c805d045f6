"""`flask ecwid stores` changes the stores file in one step, and shows a token to nobody."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import flask
import pytest
from click.testing import CliRunner
from flask.cli import FlaskGroup

from flask_ecwid import Caller, Ecwid, clock
from flask_ecwid.settings.stores_file import StoresFile

from ..conftest import environment

TOKEN = "secret_canary" + "a1" * 13
NEW_TOKEN = "secret_canary" + "b2" * 13


class Stores:
    """The command in an app without a store, and the file of the environment."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self.path = folder / "stores.json"

    def run(self, *args: str, stdin: str | None = TOKEN) -> tuple[int, str, str]:
        """Run the command, and return the exit status and both outputs, which have no token."""
        group = FlaskGroup(create_app=lambda: flask.Flask("host"), load_dotenv=False)
        done = CliRunner().invoke(group, ["ecwid", "stores", *args], input=stdin)
        assert done.exception is None or isinstance(done.exception, SystemExit)
        assert "canary" not in done.output
        return done.exit_code, done.stdout, " ".join(done.stderr.split())

    def refused(self, *args: str, stdin: str | None = TOKEN) -> str:
        """Return the error of a command that is refused and changes nothing."""
        before = self.path.read_bytes() if self.path.is_file() else None
        files = sorted(os.listdir(self.path.parent))
        status, out, error = self.run(*args, stdin=stdin)
        assert (status, out) == (2, "")
        assert (self.path.read_bytes() if self.path.is_file() else None) == before
        assert sorted(os.listdir(self.path.parent)) == files
        return error

    def add(self, *args: str, stdin: str = TOKEN) -> str:
        """Add a store, and return the API key that is printed."""
        status, out, error = self.run("add", *args, stdin=stdin)
        assert (status, error) == (0, "")
        printed = re.fullmatch(r"key: (ecwid_[A-Za-z0-9_-]{43})\n", out)
        assert printed
        return printed[1]

    def file(self) -> StoresFile:
        return StoresFile(self.path)

    def write(self, document: Any) -> None:
        self.path.write_text(json.dumps(document))
        self.path.chmod(0o600)


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stores:
    made = Stores(tmp_path / "private")
    monkeypatch.setenv("ECWID_STORES", str(made.path))
    return made


def test_a_store_is_added(stores: Stores) -> None:
    """The first store makes the file, and the printed API key opens the store."""
    key = stores.add("1003", "--name", "warehouse", "--scopes", "read+write", stdin=f"{TOKEN}\n")
    other = stores.add("1004", stdin=NEW_TOKEN)
    for api_key, store_id, token, entry in (
        (key, "1003", TOKEN, "warehouse:read+write"),
        (other, "1004", NEW_TOKEN, "store-1004:read"),
    ):
        found = stores.file().find_by_api_key(api_key)
        assert found
        assert (found[0].store_id, found[0].token) == (store_id, token)
        assert found[1].entry().startswith(f"{entry}:")
    assert key not in stores.path.read_text()
    assert os.listdir(stores.path.parent) == ["stores.json"]


def test_the_file_is_private(stores: Stores) -> None:
    """The file has the mode 0600, also if it had another one or the process has no umask."""
    before = os.umask(0)
    try:
        stores.add("1003")
        assert stat.S_IMODE(stores.path.stat().st_mode) == 0o600
        stores.path.chmod(0o400)
        stores.add("1004")
        assert stat.S_IMODE(stores.path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_an_empty_file_is_a_new_one(stores: Stores) -> None:
    """A file that an administrator has made with its mode may be empty."""
    stores.path.touch(0o600)
    stores.add("1003")
    assert stores.file().store_ids() == ["1003"]


def test_list(stores: Stores) -> None:
    """The list has a line for each store with its API keys, and no token or digest."""
    assert stores.run("list")[0] == 2
    stores.add("1003", "--name", "a", "--scopes", "write+read")
    stores.add("1004")
    assert stores.run("add", "1003", "--replace", "--name", "b")[0] == 0
    assert stores.run("list") == (0, "1003 a:read+write b:read\n1004 store-1004:read\n", "")
    stores.write({"stores": []})
    assert stores.run("list") == (0, "", "")


def test_remove(stores: Stores) -> None:
    """A removed store is gone with its API keys, and the other stores stay."""
    keys = [stores.add(each) for each in ("1003", "1004")]
    assert stores.run("remove", "1003") == (0, "", "")
    assert stores.file().store_ids() == ["1004"]
    assert [bool(stores.file().find_by_api_key(key)) for key in keys] == [False, True]
    assert "has no store 1003" in stores.refused("remove", "1003")


def test_a_store_that_is_there(stores: Stores) -> None:
    """A second `add` of a store is refused, and the error says how to change the token."""
    stores.add("1003")
    error = stores.refused("add", "1003", stdin=NEW_TOKEN)
    assert "has store 1003 already. To change its token, use" in error
    assert "`flask ecwid stores add 1003 --replace`" in error


def test_a_token_is_replaced(stores: Stores) -> None:
    """A new token leaves the API keys as they are, and `--name` adds an API key."""
    key = stores.add("1003")
    assert stores.run("add", "1003", "--replace", stdin=NEW_TOKEN) == (0, "", "")
    found = stores.file().find_by_api_key(key)
    assert found
    assert found[0].token == NEW_TOKEN
    other = stores.add("1003", "--replace", "--name", "b", stdin=TOKEN)
    assert stores.file().find_by_api_key(key)
    assert stores.file().find_by_api_key(other)
    assert "has no store 1004" in stores.refused("add", "1004", "--replace")
    assert "needs the --name" in stores.refused("add", "1003", "--replace", "--scopes", "read")


def test_unknown_members_stay(stores: Stores) -> None:
    """Members that the plugin does not know stay as they were, with their order and texts."""
    others = {"label": "Müller \ud800", "n": [1.5, None], "stores": []}
    entry = {"note": "ü", "id": 1003, "token": TOKEN, "owner": {"a": 1}}
    stores.write({"version": 7, **others, "stores": [entry]})
    stores.add("1004")
    assert stores.run("add", "1003", "--replace", "--name", "a", stdin=NEW_TOKEN)[0] == 0
    assert stores.run("remove", "1004") == (0, "", "")
    document = json.loads(stores.path.read_text())
    [changed] = document.pop("stores")
    del others["stores"]
    assert document == {"version": 7, **others}
    assert changed.pop("api_keys")[0].startswith("a:read:")
    assert changed == {**entry, "token": NEW_TOKEN}
    assert list(changed) == list(entry)
    assert "Müller" in stores.path.read_text()


@pytest.mark.parametrize(
    ("args", "stdin", "said"),
    [
        (["10/03"], TOKEN, "the ID is not 1 to 20 decimal digits"),
        (["01003"], TOKEN, "without a zero in front"),
        (["1003", "--scopes", "admin"], TOKEN, "read+write+delete"),
        (["1003", "--name", "two words"], TOKEN, "read+write+delete"),
        (["1003"], "", "the token is missing"),
        (["1003"], "public_canary", "the token is a public token"),
        (["1003"], "secret_canary\u00fc", "the token is not visible ASCII characters"),
        (["1003"], "secret_canary" * 5_000, "the token is not visible ASCII characters, 512"),
    ],
)
def test_a_wrong_argument(stores: Stores, args: list[str], stdin: str, said: str) -> None:
    """A wrong id, scope, name or token is a usage error that leaves the value out."""
    assert said in stores.refused("add", *args, stdin=stdin)


@pytest.mark.parametrize("args", [["add", "1004"], ["list"], ["remove", "1003"]])
def test_a_file_that_cannot_be_used(stores: Stores, args: list[str]) -> None:
    """A file that a service would refuse is not changed, and the error has the same reason."""
    stores.add("1003")
    stores.path.chmod(0o644)
    assert "has permissions for others" in stores.refused(*args)
    stores.path.chmod(0o600)
    stores.path.parent.chmod(0o777)
    assert "is a folder that others can write" in stores.refused(*args)
    stores.path.parent.chmod(0o700)
    stores.write({"stores": [{"id": "1003", "token": "canary canary"}]})
    assert "(/stores/0: the token is not visible" in stores.refused(*args)
    stores.path.unlink()
    stores.path.symlink_to("other.json")
    assert "stores.json is a link" in stores.refused(*args)


def test_the_file_of_an_option(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--file` comes before the environment, and may be a path of the current folder."""
    monkeypatch.chdir(stores.path.parent)
    stores.add("1003", "--file", "other.json")
    assert StoresFile(stores.path.with_name("other.json")).store_ids() == ["1003"]
    assert not stores.path.exists()


def test_the_file_of_the_app(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an option and a variable, the app's config has the file."""
    monkeypatch.delenv("ECWID_STORES")
    stores.write({"stores": []})

    def create_app() -> flask.Flask:
        app = flask.Flask("host")
        app.config["ECWID_STORES"] = str(stores.path)
        Ecwid(app)
        return app

    group = FlaskGroup(create_app=create_app, load_dotenv=False)
    done = CliRunner().invoke(group, ["ecwid", "stores", "add", "1003"], input=TOKEN)
    assert done.exit_code == 0
    assert stores.file().store_ids() == ["1003"]


def test_no_file_is_named(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file, with a relative path or with a missing folder, nothing is changed."""
    monkeypatch.delenv("ECWID_STORES")
    assert "Use --file PATH, because ECWID_STORES is not set" in stores.refused("add", "1003")
    monkeypatch.setenv("ECWID_STORES", "stores.json")
    assert "ECWID_STORES is not the absolute path of a file" in stores.refused("add", "1003")
    missing = stores.path.parent / "missing" / "stores.json"
    assert "No such file or directory" in stores.refused("add", "1003", "--file", str(missing))


def test_an_app_that_keeps_its_stores(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app with `store` has no file, so the command asks for one."""
    monkeypatch.delenv("ECWID_STORES")

    def create_app() -> flask.Flask:
        app = flask.Flask("agency")
        app.config["ECWID_SANDBOX"] = "on"
        Ecwid(app, authorize=lambda scope: Caller("ann"), store=lambda caller: None)
        return app

    group = FlaskGroup(create_app=create_app, load_dotenv=False)
    done = CliRunner().invoke(group, ["ecwid", "stores", "list"])
    assert done.exit_code == 2
    assert "Use --file PATH, because ECWID_STORES is not set" in done.output


def test_stores_are_added_at_the_same_time(stores: Stores) -> None:
    """Commands of several processes wait for each other, so none undoes another one's change."""

    def add(number: int) -> str:
        args = ["-m", "flask", "ecwid", "stores", "add", str(1003 + number)]
        done = subprocess.run(
            [sys.executable, *args],
            env=environment(ECWID_STORES=str(stores.path)),
            input=TOKEN,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip().removeprefix("key: ")

    with ThreadPoolExecutor(4) as pool:
        keys = list(pool.map(add, range(4)))
    assert sorted(stores.file().store_ids()) == ["1003", "1004", "1005", "1006"]
    assert all(stores.file().find_by_api_key(key) for key in keys)


def test_a_lock_that_is_held(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command waits for the lock of another one, and not forever."""
    stores.add("1003")
    now = [0.0]
    monkeypatch.setattr(clock, "now", lambda: now[0])

    def wait(seconds: float) -> bool:
        now[0] += 4
        return now[0] < 60

    folder = os.open(stores.path.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        monkeypatch.setattr(clock, "sleep", wait)
        assert "another process has locked the folder" in stores.refused("add", "1004")
        assert now == [12]

        def release(seconds: float) -> bool:
            fcntl.flock(folder, fcntl.LOCK_UN)
            return True

        monkeypatch.setattr(clock, "sleep", release)
        stores.add("1004")
    finally:
        os.close(folder)


def test_a_killed_command_leaves_the_file(stores: Stores) -> None:
    """A file of a command that was killed while it wrote does not hinder the next command."""
    stores.add("1003")
    stores.path.with_name("stores.json.new").write_text('{"stores"')
    stores.add("1004")
    assert stores.file().store_ids() == ["1003", "1004"]
    assert os.listdir(stores.path.parent) == ["stores.json"]


def test_the_prompt_has_no_echo(stores: Stores) -> None:
    """On a terminal the command asks for the token, and the terminal does not show the token."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "ecwid", "stores", "add", "1003"],
        env=environment(ECWID_STORES=str(stores.path)),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,
        text=True,
    )
    os.close(theirs)
    shown = b""
    while b"Token: " not in shown:
        shown += os.read(ours, 1_000)
    os.write(ours, f"{TOKEN}\n".encode())
    out, _ = process.communicate(timeout=60)
    shown += os.read(ours, 1_000)
    os.close(ours)
    assert process.returncode == 0
    assert out.startswith("key: ecwid_")
    assert b"canary" not in shown
    assert b"has store 1003 with the new token" in shown
    assert stores.file().store_ids() == ["1003"]
