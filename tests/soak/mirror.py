"""The long runs of the mirror, whose command is killed while customers change."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import datetime
from itertools import count, cycle
from pathlib import Path
from typing import Any

import requests
from sqlalchemy.exc import SQLAlchemyError

from ..conftest import ROOT
from ..helpers.copied_rows import CopiedRows, Row
from ..helpers.postgres_server import PostgresServer
from .services import STORE, Ecwid, hosts, on_host
from .verdict import Outcome, why

CUSTOMERS = 100_000
CHANGES = 1000
WRITERS = 3
CHANGES_A_SECOND = 8
# Without this, a busy machine would make most changes before the command begins its work again.
CHANGES_OF_A_START = 25
FIRST_KILLS = 3
FIRST_KILLED_WITHIN_S = 10.0  # of the first call of the command
KILLED_WITHIN_S = 4.0  # 2 s on average
RUNS_AT_THE_END = 5
WRITER_TOKEN = "secret_writerWriterWriterWriterWriter12"
FAULTS: list[dict[str, Any]] = [
    {"kind": "slow", "method": "GET", "seconds": 0.05, "probability": 0.3},
    {"kind": "cut", "method": "GET", "probability": 0.02},
]


def mirror(scale: float) -> Outcome:
    """Mirror 100,000 customers into SQLite, and kill the command while 1,000 changes are made."""
    with hosts() as [host]:
        return keep(host, f"sqlite:///{host / 'mirror.sqlite'}", *_counts(scale))


def mirror_with_postgresql(scale: float) -> Outcome:
    """Run `mirror` with a PostgreSQL."""
    with PostgresServer() as server, hosts() as [host]:
        return keep(host, server.url(server.create_database()), *_counts(scale))


def _counts(scale: float) -> tuple[int, int]:
    return max(1000, int(CUSTOMERS * scale)), max(100, int(CHANGES * scale))


def keep(
    host: Path,
    url: str,
    customers: int,
    changes: int,
    first_kills: int = FIRST_KILLS,
    least_kills: int = 1,
) -> Outcome:
    """Mirror the customers, kill the command while three writers change them, and compare.

    Args:
        host: The folder of the host.
        url: The URL of an empty database.
        customers: How many customers there are at the beginning.
        changes: How many changes the writers make together.
        first_kills: How often the command is killed at most while all customers come.
        least_kills: How often the command is killed at least, also after the last change.
    """
    with Ecwid(customers=customers) as ecwid:
        ecwid.order("accept", store=STORE, token=WRITER_TOKEN)
        command = _Command(host, ecwid, url)
        begun = time.monotonic()
        for _ in range(first_kills):
            command.kill(FIRST_KILLED_WITHIN_S)
        first_status = command.run()
        first_s = time.monotonic() - begun
        first_calls, killed_first = command.calls(), command.kills
        ecwid.fail(*FAULTS)
        with _Writers(ecwid, changes) as writers:
            for follows in cycle([True, False]):
                if not writers.are_busy() and command.kills >= least_kills:
                    break
                writers.allow(CHANGES_OF_A_START)
                # A command that does not follow the changes ends when the mirror is in sync.
                command.kill(KILLED_WITHIN_S, *(["--follow", "1"] if follows else []))
        ecwid.fail()
        runs, status = 0, 1
        while status and runs < RUNS_AT_THE_END:
            runs += 1
            status = command.run()
        found = _Compared(ecwid, command.copy)
        report = ecwid.report()
    figures = {
        "customers": customers,
        "mirrored in s": round(first_s, 1),
        "killed meanwhile": killed_first,
        "calls": first_calls,
        **writers.made,
        "changes": sum(writers.made.values()),
        "killed": command.kills - killed_first,
        "after a commit": command.kills_after_a_commit,
        "faults": report["faults"],
        "runs at the end": runs,
        "customers at the end": found.customers,
        "deleted rows": found.deleted,
        "lost": len(found.lost),
        "doubled": len(found.doubled),
        "stale": len(found.stale),
    }
    return why(
        (first_status, f"the first run ended with {first_status}"),
        (status, f"the last run ended with {status}"),
        (writers.failed, f"{writers.failed} changes failed"),
        (not command.kills_after_a_commit, "no kill came in the middle of the work"),
        (found.lost, f"customers are lost: {found.lost[:5]}"),
        (found.doubled, f"rows of nobody: {found.doubled[:5]}"),
        (found.stale, f"rows are stale: {found.stale[:5]}"),
        (found.gaps, "gaps are left"),
    ), figures


class _Command:
    """The command, which keeps the mirror of one store in a database."""

    def __init__(self, host: Path, ecwid: Ecwid, url: str) -> None:
        self._ecwid = ecwid
        self._arguments = [sys.executable, "-m", "flask", "--app", "wsgi", "ecwid", "sync"]
        self._env = on_host(host, ecwid.settings(ECWID_DATABASE_URL=url))
        self.copy = CopiedRows(url)
        self.kills = 0
        self.kills_after_a_commit = 0  # The command has moved the cursor in the database before.

    def begin(self, *options: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self._arguments, *options], cwd=ROOT, env=self._env, stderr=subprocess.DEVNULL
        )

    def run(self) -> int:
        """Run the command to its end, and return its exit status."""
        process = self.begin()
        try:
            return process.wait(1800)
        finally:
            process.kill()

    def calls(self) -> int:
        """Return how many calls the command has made. The writers have another token."""
        calls: int = self._ecwid.report()["calls"]
        return calls

    def kill(self, within_s: float, *options: str) -> None:
        """Start the command, and kill it within so many seconds of its first call."""
        cursor, calls = self._cursor(), self.calls()
        process = self.begin(*options)
        try:
            while process.poll() is None and self.calls() == calls:
                time.sleep(0.02)
            with suppress(subprocess.TimeoutExpired):
                process.wait(within_s * random.random())
        finally:  # The long run itself may be asked to end.
            process.kill()
        if process.wait() == -signal.SIGKILL:
            self.kills += 1
            self.kills_after_a_commit += self._cursor() != cursor

    def _cursor(self) -> str | None:
        """Return the cursor in the database, or None before the first run."""
        with suppress(SQLAlchemyError):
            return self.copy.cursor()
        return None


class _Writers:
    """Three threads which create, update and delete customers at random."""

    def __init__(self, ecwid: Ecwid, changes: int) -> None:
        self._url = f"{ecwid.settings()['ECWID_API_URL']}/{STORE}/customers"
        self._known = ecwid.customers()
        self._recent: list[int] = []  # Some customers change again and again.
        self._lock = threading.Lock()
        self._left = changes
        self._allowed = threading.Semaphore(0)
        self._numbers = count()  # CPython's `next` of a counter is atomic.
        self._threads = [threading.Thread(target=self._work) for _ in range(WRITERS)]
        self.made = {"created": 0, "updated": 0, "deleted": 0}
        self.failed = 0

    def __enter__(self) -> _Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if sys.exc_info()[0] is not None:
                self._left = 0
        self.allow(WRITERS)
        for thread in self._threads:
            thread.join()

    def allow(self, changes: int) -> None:
        """Let the writers go on with so many changes."""
        self._allowed.release(changes)

    def are_busy(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        with requests.Session() as session:
            session.headers["Authorization"] = f"Bearer {WRITER_TOKEN}"
            while self._takes():
                self._change(session)
                time.sleep(2 * WRITERS / CHANGES_A_SECOND * random.random())

    def _takes(self) -> bool:
        """Return whether this writer has to make another change, as soon as it is allowed."""
        self._allowed.acquire()
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def _change(self, session: requests.Session) -> None:
        """Make a change. A customer whom another writer has deleted meanwhile is no failure."""
        number = next(self._numbers)
        kind = random.choice(["created", "updated", "updated", "deleted"])
        body = {
            "email": f"changed-{number}@example.com",
            "taxId": str(number),
            "billingPerson": {"name": f"Ann {number}", "city": "Zürich"},
        }
        if kind == "created":
            response = session.post(self._url, json=body, timeout=60)
            id = response.json().get("id")
        else:
            with self._lock:
                id = random.choice(self._recent[-50:] or self._known)
                if random.random() < 0.5:
                    id = random.choice(self._known)
            method = "PUT" if kind == "updated" else "DELETE"
            sent = body if kind == "updated" else None
            response = session.request(method, f"{self._url}/{id}", json=sent, timeout=60)
        with self._lock:
            if response.status_code == 200:
                self.made[kind] += 1
                self._recent.append(id)
            elif response.status_code == 404:
                self._left += 1  # Another change is made instead.
            else:
                self.failed += 1


class _Compared:
    """The rows of the mirror beside the customers of the store."""

    def __init__(self, ecwid: Ecwid, copy: CopiedRows) -> None:
        # The row of a deleted customer has nothing but the id and the date of the deletion.
        deletions = ecwid.order("deletions", store=STORE)
        store = {int(id): Row(None, None, None, _moment(at)) for id, at in deletions.items()}
        for each in ecwid.order("documents", store=STORE):
            store[each["id"]] = Row(each["email"], _moment(each["updated"]), each, None)
        rows = copy.rows()
        self.customers = sum(row.deleted_at is None for row in store.values())
        self.deleted = len(store) - self.customers
        self.lost = sorted(store.keys() - rows.keys())
        self.doubled = sorted(rows.keys() - store.keys())
        self.stale = sorted(id for id, row in rows.items() if store.get(id, row) != row)
        self.gaps = copy.gaps()


def _moment(date: str) -> datetime:
    """Return a date of Ecwid in UTC, without a zone."""
    return datetime.strptime(date, "%Y-%m-%d %H:%M:%S +0000")
