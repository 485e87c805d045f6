"""The file of a store survives restarts and is shared by processes."""

from __future__ import annotations

import ast
import multiprocessing
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask.testing import FlaskClient

import flask_ecwid.sandbox
from flask_ecwid.sandbox import TOKEN, create_sandbox, seed
from flask_ecwid.sandbox.search import read_search
from flask_ecwid.sandbox.stores import Stores
from flask_ecwid.sandbox.tokens import ALL_SCOPES

CUSTOMERS = "/api/v3/1003/customers"


def caller(path: Path, customers: int = 0) -> FlaskClient:
    client = create_sandbox(path, customers=customers).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {TOKEN}"
    return client


def total(client: FlaskClient) -> int:
    page = client.get(CUSTOMERS).json
    assert page is not None
    return int(page["allCustomerCount"])


def test_opened_again(tmp_path: Path) -> None:
    """A store that is opened again has the same customers, because only a new file is seeded."""
    path = tmp_path / "a store?#%.sqlite3"
    first = caller(path, customers=10)
    assert first.delete(f"{CUSTOMERS}/172867214").status_code == 200
    assert total(caller(path, customers=500)) == 13
    assert [file.name for file in tmp_path.iterdir()] == [path.name], "nothing is left open"


def test_another_version(tmp_path: Path) -> None:
    """A file of another version of the sandbox is refused and stays unchanged."""
    path = tmp_path / "store.sqlite3"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 999")
    db.close()
    before = path.read_bytes()
    with pytest.raises(ValueError, match="another version"):
        create_sandbox(path)
    assert path.read_bytes() == before


def test_no_store(tmp_path: Path) -> None:
    """A file that is no SQLite database is refused when the sandbox is created."""
    path = tmp_path / "store.sqlite3"
    path.write_bytes(b"something else" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        create_sandbox(path)


@pytest.mark.parametrize("attempt", range(8))
def test_opened_at_the_same_time(tmp_path: Path, attempt: int) -> None:
    """Threads that open a new file at the same time share one store."""
    path = tmp_path / "store.sqlite3"
    start = threading.Barrier(8)

    # The threads make no apps. werkzeug parses Python for the rules of an app, and CPython 3.11.7
    # may fail with a SystemError when two threads parse at the same time (python/cpython#106905).
    def open_it(_: int) -> int:
        stores = Stores(path, customers=lambda: seed.customers(20))
        start.wait()
        stores.fill({TOKEN: ALL_SCOPES})
        return int(stores.store.list_customers(read_search({}))["allCustomerCount"])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(open_it, range(8))) == [24] * 8
    assert total(caller(path)) == 24


def test_busy_for_a_moment(tmp_path: Path) -> None:
    """The sandbox waits for a new file that another connection locks for a moment."""
    path = tmp_path / "store.sqlite3"
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.2, db.execute, ["ROLLBACK"])
    release.start()
    assert total(caller(path)) == 4
    release.join()
    db.close()


_start: threading.Barrier


def _worker_starts(start: threading.Barrier) -> None:
    global _start
    _start = start


def _write(job: tuple[Path, int]) -> list[tuple[str, int]]:
    """Open the store in a process, then create customers as fast as possible."""
    path, worker = job
    _start.wait()
    client = caller(path, customers=50)
    emails = [
        f"shared.{n}@example.com" if n % 2 else f"{worker}.{n}@example.com" for n in range(30)
    ]
    _start.wait()
    return [(email, client.post(CUSTOMERS, json={"email": email}).status_code) for email in emails]


def test_four_processes(tmp_path: Path) -> None:
    """Processes that open and fill a file at the same time create each customer once."""
    path = tmp_path / "store.sqlite3"
    context = multiprocessing.get_context("spawn")
    with context.Pool(4, _worker_starts, [context.Barrier(4)]) as pool:
        responses = [
            a for chunk in pool.map(_write, [(path, n) for n in range(4)], 1) for a in chunk
        ]
    assert {status for _, status in responses} == {200, 409}
    created = Counter(email for email, status in responses if status == 200)
    assert created == Counter({email for email, _ in responses}), "each e-mail exactly once"
    assert len(created) == 4 * 15 + 15
    assert total(caller(path)) == 4 + 50 + len(created)


def test_updates_at_the_same_time(tmp_path: Path) -> None:
    """Concurrent updates lose no change, because each update sees the one before."""
    path = tmp_path / "store.sqlite3"
    texts = ("companyName", "street", "city", "postalCode", "stateOrProvinceCode", "phone")
    clients = {text: caller(path) for text in texts}
    start = threading.Barrier(len(texts))

    def update(text: str) -> set[int]:
        start.wait()
        bodies = [{"billingPerson": {text: f"{text} {n}"}} for n in range(10)]
        return {clients[text].put(f"{CUSTOMERS}/172889711", json=b).status_code for b in bodies}

    with ThreadPoolExecutor(len(texts)) as pool:
        assert list(pool.map(update, texts)) == [{200}] * len(texts)
    customer = caller(path).get(f"{CUSTOMERS}/172889711").json
    assert customer is not None
    assert customer["billingPerson"].items() >= {text: f"{text} 9" for text in texts}.items()


def test_readers_during_a_write(tmp_path: Path) -> None:
    """A read does not wait for a write."""
    store = create_sandbox(tmp_path / "store.sqlite3").extensions["sandbox"].store
    db = sqlite3.connect(tmp_path / "store.sqlite3", isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    db.execute("DELETE FROM customers")
    assert store.list_customers(read_search({}))["total"] == 4
    db.execute("ROLLBACK")
    db.close()


SOURCES = sorted(Path(flask_ecwid.sandbox.__file__).parent.glob("*.py"))


def imported(source: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (
                [(node.level, node.module)]
                if node.module
                else [(node.level, alias.name) for alias in node.names]
            )


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_imports(source: Path) -> None:
    """The sandbox imports nothing of the client, because it stands in for Ecwid.

    Of the package, the sandbox imports only the module that makes its file private.
    """
    for level, name in imported(source):
        assert level < 2 or name == "private_files", f"{name} is outside the sandbox"
        assert level or name.split(".")[0] != "flask_ecwid"
    assert len(SOURCES) > 5
