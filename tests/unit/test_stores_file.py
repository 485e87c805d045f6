"""The stores file is checked as a whole, is read again after a change, and shows no token."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flask_ecwid import SettingsError, StoreCredentials, clock, private_files
from flask_ecwid.settings import api_keys, stores_file
from flask_ecwid.settings.api_keys import ApiKey
from flask_ecwid.settings.stores_file import StoresFile

NOBODY = 65_534


def token(name: str) -> str:
    """Return a token that no text of the plugin may show."""
    return f"secret_canary{hashlib.sha256(name.encode()).hexdigest()[:26]}"


def key_entry(api_key: str, scopes: str = "read") -> str:
    return f"caller:{scopes}:{api_keys.digest_of(api_key)}"


def store(store_id: str, *keys: str, **members: Any) -> dict[str, Any]:
    entries = [key_entry(each) for each in keys]
    return {"id": store_id, "token": token(store_id), "api_keys": entries, **members}


class File:
    """A stores file, and a clock that the test moves."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.mkdir(mode=0o700)
        self.path = folder / "stores.json"
        self._now = 1_000.0
        monkeypatch.setattr(clock, "now", lambda: self._now)

    def write(self, *stores: Any) -> None:
        self.write_text(json.dumps({"stores": list(stores)}))

    def write_text(self, text: str) -> None:
        """Replace the file, as an editor does."""
        new = self.path.with_name("new")
        new.write_text(text, encoding="utf-8")
        new.chmod(0o600)
        os.replace(new, self.path)

    def open(self) -> StoresFile:
        return StoresFile(self.path)

    def fault(self) -> str:
        with pytest.raises(SettingsError) as caught:
            self.open()
        [fault] = caught.value.faults
        assert fault.startswith("ECWID_STORES names a file that cannot be used (")
        assert "canary" not in fault
        assert caught.value.__context__ is None or "canary" not in str(caught.value.__context__)
        return fault.partition("(")[2].removesuffix(")")

    def wait(self, seconds: float = stores_file.LOOK_S) -> None:
        self._now += seconds


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> File:
    return File(tmp_path / "private", monkeypatch)


@pytest.fixture
def errors(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return a function that gives the errors of the log so far, without a token."""

    def logged() -> list[str]:
        assert "canary" not in caplog.text
        return [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]

    return logged


def test_stores_are_found(file: File) -> None:
    """A store is found by its id and by each API key of its callers, and nothing else is."""
    file.write(store("1003", "a", "b", label="x"), store("1004", "c"), {**store("1005"), "more": 1})
    stores = file.open()
    assert stores.store_ids() == ["1003", "1004", "1005"]
    assert stores.find_store("1004") == StoreCredentials("1004", token("1004"))
    for key, store_id in {"a": "1003", "b": "1003", "c": "1004"}.items():
        found = stores.find_by_api_key(key)
        assert found == (StoreCredentials(store_id, token(store_id)), ApiKey.parse(key_entry(key)))
    assert stores.find_store("1006") is None
    for wrong in ("", "d", "A", api_keys.digest_of("a")):
        assert stores.find_by_api_key(wrong) is None
    assert "canary" not in repr(vars(stores))


def test_a_file_without_stores(file: File) -> None:
    """A service may start before its first store is there."""
    file.write()
    assert file.open().store_ids() == []


def test_a_store_may_lack_api_keys(file: File) -> None:
    """A store without API keys can be used by the commands alone."""
    entry = store("1003")
    del entry["api_keys"]
    file.write(entry)
    assert file.open().store_ids() == ["1003"]


class Unsearchable(dict[str, Any]):
    """A dictionary whose entries cannot be searched one by one."""

    def __iter__(self) -> Any:
        raise AssertionError("searched")

    keys = values = items = __iter__


def test_a_key_is_not_searched(file: File) -> None:
    """The number of API keys does not count, because a key is looked up by its digest."""
    entries = api_keys.by_digest(ApiKey.parse(key_entry(each)) for each in "abc")
    found = api_keys.find(Unsearchable(entries), "b")
    assert found == entries[api_keys.digest_of("b")]
    assert api_keys.find(Unsearchable(entries), "d") is None
    file.write(store("1003", "a"))
    stores = file.open()
    vars(stores)["_last"].stores.__dict__["by_digest"] = Unsearchable(stores._last.stores.by_digest)
    assert stores.find_by_api_key("a")
    assert stores.find_by_api_key("b") is None


WRONG = {
    "": "the file is not valid JSON at line 1, column 1",
    '{"stores": [\n  canary]}': "the file is not valid JSON at line 2, column 3",
    "\ufeff{}": "the file is not valid JSON at line 1, column 1",
    '{"stores": [NaN]}': "the file has NaN or Infinity",
    '{"stores": [], "stores": []}': "the file names a member of an object twice",
    '{"stores": ' + "[" * 100_000: "the file has a number that is too long, or is nested too deep",
    "[]": "the file is not an object with a list `stores`",
    "{}": "the file is not an object with a list `stores`",
    '{"stores": {}}': "the file is not an object with a list `stores`",
    '{"stores": [5]}': "/stores/0 is not an object",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:20])
def test_a_text_that_is_no_stores_file(file: File, text: str) -> None:
    """A text that cannot be read as stores stops the start with its place and the reason."""
    file.write_text(text)
    assert file.fault().startswith(WRONG[text])


def test_a_file_in_another_encoding(file: File) -> None:
    """A file is in UTF-8."""
    file.write_text("")
    file.path.write_bytes('{"stores": [], "label": "ü"}'.encode("latin-1"))
    assert file.fault() == "the file is not in UTF-8"


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([store("1003"), {"id": "1004"}], "/stores/1: the token is missing"),
        ([{"token": token("x")}], "/stores/0: the store id is missing"),
        ([store("canary")], "/stores/0: the store id is not 1 to 20 decimal digits"),
        ([store("1003"), store("01003")], "/stores/1: the store id is not 1 to 20 decimal digits"),
        ([{**store("1003"), "token": "secret_..."}], "/stores/0: the token is a placeholder"),
        ([{**store("1003"), "token": "public_canary"}], "/stores/0: the token is a public token"),
        ([{**store("1003"), "api_keys": ["canary"]}], "/stores/0/api_keys is not a list of NAME:"),
        ([{**store("1003"), "api_keys": None}], "/stores/0/api_keys is not a list of NAME:SCOPES"),
        ([{**store("1003"), "api_keys": [5]}], "/stores/0/api_keys is not a list of NAME:SCOPES"),
        ([store("1003", "test")], "/stores/0/api_keys has an API key that anybody could guess"),
        ([store("1003", "a", "a")], "/stores/0/api_keys holds an API key twice"),
        ([store("1003", "a"), store("1004", "a")], "/stores/1/api_keys has an API key of an earl"),
        ([store("1003"), store("1004"), store("1003")], "/stores/2/id stands in an earlier entry"),
        ([store("1003"), {**store("1003"), "id": 1003}], "/stores/1/id stands in an earlier entry"),
    ],
)
def test_a_wrong_entry(file: File, entries: list[Any], said: str) -> None:
    """An entry that is wrong or stands twice refuses the whole file, by its place alone.

    Otherwise an API key under two stores would open one of them by chance.
    """
    file.write(*entries)
    assert file.fault().startswith(said)


def link(path: Path) -> None:
    path.rename(path.with_name("other.json"))
    path.symlink_to("other.json")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def of_another_user(path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can make a file of another user")
    os.chown(path, NOBODY, NOBODY)


def folder_of_another_user(path: Path) -> None:
    of_another_user(path.parent)


UNSAFE: dict[str, tuple[Callable[[Path], None], str]] = {
    "link": (link, "stores.json is a link"),
    "pipe": (pipe, "stores.json is not a regular file"),
    "folder": (lambda path: (path.unlink(), path.mkdir(0o700)), "is not a regular file"),  # type: ignore[dict-item,func-returns-value]
    "readable by the group": (lambda path: path.chmod(0o640), "so set its mode to 0600"),
    "writable by others": (lambda path: path.chmod(0o602), "so set its mode to 0600"),
    "owner": (of_another_user, "stores.json belongs to another user"),
    "folder of the group": (lambda path: path.parent.chmod(0o770), "others can write"),
    "folder of others": (lambda path: path.parent.chmod(0o1777), "others can write"),
    "folder's owner": (folder_of_another_user, "private belongs to another user"),
    "missing": (lambda path: path.unlink(), "missing, so make it with `flask ecwid stores add ID"),
}


@pytest.mark.parametrize("spoil", UNSAFE)
def test_a_file_that_others_could_have_made(
    file: File, spoil: str, errors: Callable[[], list[str]]
) -> None:
    """A file that another user could read or change stops the start.

    While a service runs, the last good content stays in force, and the log has the reason.
    """
    file.write(store("1003"))
    stores = file.open()
    attack, said = UNSAFE[spoil]
    attack(file.path)
    assert said in file.fault()
    file.wait()
    assert stores.store_ids() == ["1003"]
    [error] = errors()
    assert said in error


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_private_file_is_used(file: File, mode: int) -> None:
    """A file without permissions for others is used, and its mode stays."""
    file.write(store("1003"))
    file.path.chmod(mode)
    file.path.parent.chmod(0o755)
    assert file.open().store_ids() == ["1003"]
    assert file.path.stat().st_mode & 0o7777 == mode


def test_a_change_is_seen(file: File, errors: Callable[[], list[str]]) -> None:
    """A changed file is in force within a second, and no log line says so."""
    file.write(store("1003", "a"))
    stores = file.open()
    new_token = {**store("1003", "b"), "token": token("new")}
    file.write(new_token, store("1004"))
    file.wait(0.9)
    assert stores.store_ids() == ["1003"]
    file.wait(0.1)
    assert stores.store_ids() == ["1003", "1004"]
    assert stores.find_store("1003") == StoreCredentials("1003", token("new"))
    assert stores.find_by_api_key("a") is None
    assert stores.find_by_api_key("b")
    assert errors() == []


def test_a_change_in_place_is_seen(file: File) -> None:
    """A file that an editor writes in place, with the same size and inode, is read again."""
    file.write(store("1003"))
    stores = file.open()
    text = file.path.read_text()
    os.utime(file.path, ns=(0, 0))
    file.wait()
    assert stores.store_ids() == ["1003"]
    file.path.write_text(text.replace('"1003"', '"1009"'))
    file.wait()
    assert stores.store_ids() == ["1009"]


def test_the_file_is_looked_at_once_a_second(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of requests in a second looks at the file once, and reads it after a change."""
    looks = []
    look = private_files.read_if_new

    def counted(path: Path, known: Any) -> Any:
        found = look(path, known)
        looks.append(found[1] is not None)
        return found

    monkeypatch.setattr(private_files, "read_if_new", counted)
    file.write(store("1003"))
    stores = file.open()
    for _ in range(3):
        file.wait()
        for _ in range(10):
            stores.find_by_api_key("a")
    assert looks == [True, False, False, False]


def test_the_last_good_file_stays(file: File, errors: Callable[[], list[str]]) -> None:
    """A file that does not parse changes nothing, and the log has an error each minute.

    The error names the place and the reason. A repaired file is in force at once.
    """
    file.write(store("1003", "a"))
    stores = file.open()
    file.write(store("1003", "a"), store("1004", "a"))
    for _ in range(121):
        file.wait()
        assert stores.find_by_api_key("a")
        assert stores.find_store("1004") is None
    said = "/stores/1/api_keys has an API key of an earlier entry"
    text = f"The stores file cannot be used ({said}), so the last good one stays in force."
    assert errors() == [text] * 3
    file.write_text("canary")
    file.wait()
    assert stores.store_ids() == ["1003"]
    assert "is not valid JSON" in errors()[3]
    file.write(store("1004"))
    file.wait()
    assert stores.store_ids() == ["1004"]
    file.wait(61)
    assert len(errors()) == 4


def test_a_repaired_permission_is_seen(file: File, errors: Callable[[], list[str]]) -> None:
    """A file that has the right mode again is in force, also if its content is as before."""
    file.write(store("1003"))
    stores = file.open()
    file.write(store("1004"))
    file.path.chmod(0o644)
    file.wait()
    assert stores.store_ids() == ["1003"]
    file.path.chmod(0o600)
    file.wait()
    assert stores.store_ids() == ["1004"]
    file.path.parent.chmod(0o777)
    file.wait(61)
    stores.store_ids()
    file.path.parent.chmod(0o700)
    file.wait(61)
    stores.store_ids()
    assert len(errors()) == 2


def test_a_wrong_file_is_parsed_once(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong file costs a parsing once, and not one each second."""
    file.write(store("1003"))
    stores = file.open()
    file.write_text("canary")
    file.wait()
    stores.store_ids()
    monkeypatch.setattr(stores_file, "stores_document", None)
    file.wait()
    assert stores.store_ids() == ["1003"]


def held_look(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Let the next look wait between reading and parsing. Return when it waits, and its end."""
    waits, go_on = threading.Event(), threading.Event()
    read = private_files.read_if_new

    def held(path: Path, known: Any) -> Any:
        found = read(path, known)
        if not waits.is_set():
            waits.set()
            assert go_on.wait(60)
        return found

    monkeypatch.setattr(private_files, "read_if_new", held)
    return waits, go_on


def test_no_thread_waits_for_another(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hangs holds one thread, and the others go on with the last content.

    A later look counts although the held one ends after it.
    """
    file.write(store("1003"))
    stores = file.open()
    file.write(store("1004"))
    waits, go_on = held_look(monkeypatch)
    file.wait()
    thread = threading.Thread(target=stores.store_ids)
    thread.start()
    assert waits.wait(60)
    assert stores.store_ids() == ["1003"]
    file.write(store("1005"))
    file.wait()
    assert stores.store_ids() == ["1005"]
    go_on.set()
    thread.join()
    assert stores.store_ids() == ["1005"]
