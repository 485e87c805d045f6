"""Backends of several processes over one file, without Redis."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from flask_ecwid import clock
from flask_ecwid.storage import cache_backend, host_mark
from flask_ecwid.storage.cache_backend import CacheBackend
from flask_ecwid.storage.file_state import FileState
from flask_ecwid.storage.state import Stored

STORE = "digest"
TTL_S = 3600.0
LONG_S = 10.0  # longer than a process leaves a file alone that has failed
Pair = tuple["Process", "Process"]


class File(FileState):
    """A file that counts the looks."""

    looks = 0

    def get(self, key: str) -> Stored | None:
        self.looks += 1
        return super().get(key)


class Clocks:
    """The clocks of the host, which the test sets, and the process that runs."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now, self.suspended_s, self.process = 1000.0, 0.0, 0
        patch.setattr(clock, "now", lambda: self.now)
        patch.setattr(clock, "wall", lambda: 1e9 + self.now + self.suspended_s)
        patch.setattr(clock, "process_id", lambda: self.process)


class Process:
    """A process with a backend of one store, and with a connection of its own to the file."""

    def __init__(self, number: int, clocks: Clocks, path: Path, redis_url: str = "") -> None:
        self._number, self._clocks = number, clocks
        self.file = File(path)
        with self._runs():
            found = cache_backend.open_cache_backend(TTL_S, None, redis_url, STORE, self.file)
        assert found is not None
        self._backend: CacheBackend = found

    @contextmanager
    def _runs(self) -> Iterator[None]:
        self._clocks.process = self._number
        yield

    def read(self, current: str) -> str:
        """Return the cached value, or read the current value and keep it."""
        with self._runs():
            generation, value, _ = self._backend.get("key")
            if value is None:
                self._backend.set("key", generation, current.encode(), 0.0)
                return current
            return value.decode()

    def write(self) -> bool:
        with self._runs():
            return self._backend.invalidate_all()

    def deliver(self) -> bool:
        with self._runs():
            return self._backend.deliver()


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "own" / "state.sqlite3"


@pytest.fixture
def two(clocks: Clocks, path: Path) -> Pair:
    return Process(1, clocks, path), Process(2, clocks, path)


def fill(processes: Pair) -> None:
    assert [each.read("old") for each in processes] == ["old", "old"]
    assert [each.read("new") for each in processes] == ["old", "old"]


@contextmanager
def unusable(path: Path) -> Iterator[None]:
    """Put something else in the place of the folder, and put the folder back at the end."""
    away = path.parent.rename(path.parent.with_name("away"))
    path.parent.touch()
    yield
    path.parent.unlink()
    away.rename(path.parent)


def test_the_time_between_two_looks(two: Pair, clocks: Clocks) -> None:
    """A process looks at the file at most every 0.1 s, and sees a write by its next look."""
    fill(two)
    looks = two[1].file.looks
    assert two[0].write()
    clocks.now += host_mark.LOOK_EVERY_S / 2
    assert [two[1].read("new") for _ in range(20)] == ["old"] * 20
    assert two[1].file.looks == looks
    clocks.now += host_mark.LOOK_EVERY_S
    assert [two[1].read("new") for _ in range(20)] == ["new"] * 20
    assert two[1].file.looks == looks + 1


def test_a_write_is_one_change_of_the_file(two: Pair) -> None:
    """The beginning of a generation needs one look, and the own process looks no more."""
    fill(two)
    looks = two[0].file.looks
    assert two[0].write()
    assert two[0].read("new") == "new"
    assert two[0].file.looks == looks + 1


def test_a_suspended_host(two: Pair, clocks: Clocks) -> None:
    """A process looks again after the host was suspended, although its clock stood still."""
    fill(two)
    assert two[0].write()
    clocks.suspended_s += 60
    assert two[1].read("new") == "new"


def test_a_file_that_cannot_be_used(two: Pair, clocks: Clocks, path: Path) -> None:
    """A process that cannot look shows no value, and no value from before the failure later."""
    fill(two)
    with unusable(path):
        clocks.now += 1
        assert [two[1].read(each) for each in ("new", "newer")] == ["new", "newer"]
    clocks.now += LONG_S
    assert [two[1].read(each) for each in ("newest", "next")] == ["newest", "newest"]


def test_a_failure_of_which_a_process_learns_nothing(two: Pair, clocks: Clocks, path: Path) -> None:
    """A process without requests during the failure shows no value from before the failure either.

    A write may have been missed, so each process that has noticed the failure begins a generation.
    """
    fill(two)
    with unusable(path):
        clocks.now += 1
        assert two[0].read("new") == "new"
    clocks.now += LONG_S
    assert two[0].read("newer") == "newer"
    assert two[1].read("newer") == "newer"


def test_an_undelivered_invalidation_comes_first(two: Pair, clocks: Clocks, path: Path) -> None:
    """A write that cannot be told is delivered before the next use of the storage."""
    fill(two)
    with unusable(path):
        assert not two[0].write()
        assert not two[0].deliver()
        assert [two[0].read(each) for each in ("new", "newer")] == ["new", "newer"]
    clocks.now += LONG_S
    assert two[0].deliver()
    assert two[1].read("newest") == "newest"
    assert [two[0].read(each) for each in ("newest", "next")] == ["newest", "newest"]


def test_a_file_that_has_lost_its_values(two: Pair, clocks: Clocks, path: Path) -> None:
    """A file without a mark gets a new mark, so a write whose mark was lost is seen."""
    fill(two)
    assert two[0].write()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DELETE FROM state")
    clocks.now += 1
    assert [each.read("new") for each in two] == ["new", "new"]


def test_a_read_that_a_write_overtakes(two: Pair, clocks: Clocks) -> None:
    """A value is not kept if its generation has ended meanwhile, in this process or in another."""
    for writer in two:
        backend = two[1]._backend
        clocks.process, clocks.now = 2, clocks.now + 1
        generation, _, _ = backend.get("key")
        writer.write()
        clocks.process, clocks.now = 2, clocks.now + 1
        backend.set("key", generation, b"old", 0.0)
        assert backend.get("key")[1] is None
