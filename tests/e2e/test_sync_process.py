"""The command `flask ecwid sync` as a process, which is killed, stopped, doubled or woken."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from flask_ecwid import EcwidClient, Settings
from flask_ecwid.sandbox import Fault

from ..helpers.app_workers import app_workers
from ..helpers.command import Command, begin_sandbox, slow
from ..helpers.copied_rows import CopiedRows
from ..helpers.webhook_events import WEBHOOKS, delivery_of, event_of

GOES_ON = "The same command continues the copy.\n"


@pytest.fixture
def copy(database_url: str) -> CopiedRows:
    """Return the empty copy in the database."""
    return CopiedRows(database_url)


def client_of(command: Command) -> EcwidClient:
    return EcwidClient(Settings(sandbox=str(command.store), calls_per_minute=100_000))


@contextmanager
def running(command: Command, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command until the block ends."""
    process = command.begin("sync", *args)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def truth(command: Command) -> dict[int, Any]:
    return {id: {"id": id, **each} for id, each in command.customers().items()}


def until(has_come: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until something is true, while the process runs."""
    ends_at = time.monotonic() + 120
    while not _is_true(has_come):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends_at
        time.sleep(0.05)


def line_of(process: subprocess.Popen[str]) -> str:
    """Return the next message of a process."""
    assert process.stderr is not None
    return process.stderr.readline()


def _is_true(has_come: Callable[[], bool]) -> bool:
    with suppress(Exception):  # The tables may be missing yet.
        return has_come()
    return False


def wait_for_progress(copy: CopiedRows, process: subprocess.Popen[str], before: str | None) -> None:
    """Wait until the copy has another cursor, or the process has ended."""
    while process.poll() is None and not _is_true(lambda: copy.cursor() != before):
        time.sleep(0.02)


def test_killed_again_and_again(tmp_path: Path, database_url: str, copy: CopiedRows) -> None:
    """A copy whose command is killed at any moment has each customer once, and no gap."""
    command = Command(tmp_path, 600)
    slow(command, 0.1)
    chance = random.Random(7)
    client = client_of(command)
    kills = 0
    while True:
        process = command.begin("sync", database_url)
        if kills < 6:
            before = copy.cursor() if kills else None
            if chance.random() < 0.8:  # Otherwise the process may be killed while it starts.
                wait_for_progress(copy, process, before)
            with suppress(subprocess.TimeoutExpired):
                process.wait(chance.random() / 4)
            process.kill()
        _, err = process.communicate(timeout=120)
        assert err == ""
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        kills += 1
        if _is_true(lambda: copy.cursor() is not None):
            left = {change.customer_id for change in client.iter_changes(copy.cursor())}
            assert left.isdisjoint(copy.documents())
            assert left | set(copy.documents()) == set(command.customers())
    assert kills > 2
    assert copy.documents() == truth(command)
    assert copy.gaps() == {}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("options", [(), ("--follow", "3600")])
def test_stopped(
    tmp_path: Path,
    database_url: str,
    copy: CopiedRows,
    signum: signal.Signals,
    options: tuple[str, ...],
) -> None:
    """A command that is stopped says how to continue, and exits with the status of its signal."""
    command = Command(tmp_path, 300)
    if not options:
        slow(command, 1.0)
    with running(command, database_url, *options) as process:
        until(lambda: copy.is_synced() if options else copy.cursor() is not None, process)
        process.send_signal(signum)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + signum, "")
    assert err == f"stopped\n{GOES_ON}"
    command.orders.clear_faults()
    assert command.run("sync", database_url) == (0, "", "")
    assert copy.documents() == truth(command)


def test_two_at_once(tmp_path: Path, database_url: str, copy: CopiedRows) -> None:
    """Of commands that run at the same time, at least one succeeds, and no customer is lost."""
    command = Command(tmp_path, 500)
    slow(command, 0.2)
    running = [command.begin("sync", database_url) for _ in range(3)]
    statuses = []
    for process in running:
        out, err = process.communicate(timeout=120)
        statuses.append(process.returncode)
        assert out == ""
        if process.returncode:
            assert err == (
                "store 1003: failed: another command updates the copy of the same store\n" + GOES_ON
            )
    assert set(statuses) <= {0, 1}
    assert 0 in statuses
    command.orders.clear_faults()
    assert copy.documents() == truth(command)
    client = client_of(command)
    client.delete_customer(min(command.customers()))
    assert command.run("sync", database_url)[0] == 0
    assert copy.documents() == truth(command)


def test_follow_waits_for_ecwid(tmp_path: Path, database_url: str, copy: CopiedRows) -> None:
    """A failure is said once, and the command goes on as soon as Ecwid is there again."""
    command = Command(tmp_path)
    with running(command, database_url, "--follow", "1") as process:
        until(copy.is_synced, process)
        # Each reading makes three attempts, so at least two readings fail.
        command.orders.inject(Fault("status", status=500, times=6))
        calls = len(command.orders.ledger())
        until(lambda: len(command.orders.ledger()) > calls + 6, process)
        client_of(command).update_customer(min(command.customers()), {"lang": "de"})
        until(lambda: copy.documents() == truth(command), process)
        lines = [line_of(process) for _ in range(3)]
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert lines[0].startswith("store 1003: failed: ")
    assert lines[1:] == ["The command tries again.\n", "store 1003: in sync again\n"]
    assert err == f"stopped\n{GOES_ON}"


def test_follow_waits_for_the_database(tmp_path: Path) -> None:
    """A database that is away is said once, and a new file is private and gets all customers."""
    command = Command(tmp_path)
    path = tmp_path / "copy.sqlite"
    copy = CopiedRows(f"sqlite:///{path}")
    with running(command, f"sqlite:///{path}", "--follow", "1") as process:
        until(copy.is_synced, process)
        path.rename(tmp_path / "away.sqlite")
        path.mkdir()
        lines = [line_of(process) for _ in range(2)]
        time.sleep(4)  # The command tries again meanwhile, and must not say so.
        path.rmdir()
        client_of(command).update_customer(min(command.customers()), {"lang": "de"})
        until(lambda: copy.documents() == truth(command), process)
        while lines[-1] != "store 1003: in sync again\n":
            lines.append(line_of(process))
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert lines[0] == "store 1003: failed: the database failed (is not a regular file)\n"
    failures = [line for line in lines if "failed" in line]
    assert len(failures) == len(set(failures)) <= 2
    assert err == f"stopped\n{GOES_ON}"
    assert path.stat().st_mode & 0o777 == 0o600


def test_follow_does_not_wait_for_another_table(
    tmp_path: Path, database_url: str, copy: CopiedRows
) -> None:
    """A table that no wait mends ends the command, also while it follows the changes."""
    command = Command(tmp_path)
    copy.change("CREATE TABLE ecwid_sync (id INTEGER PRIMARY KEY)")
    with running(command, database_url, "--follow", "1") as process:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 2
    assert "another table with the name ecwid_sync" in " ".join(err.split())


@pytest.mark.parametrize("ttl_s", ["0", "600"])
@pytest.mark.parametrize("storage", ["file", "redis"])
def test_an_event_wakes_the_command(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    database_url: str,
    copy: CopiedRows,
    storage: str,
    ttl_s: str,
) -> None:
    """After a webhook event, the change is in the copy long before the interval ends."""
    more = {"ECWID_CACHE_TTL_S": ttl_s, "XDG_STATE_HOME": str(tmp_path)}
    if storage == "redis":
        more["ECWID_REDIS_URL"] = request.getfixturevalue("redis").url
    command = Command(tmp_path, 0, **more)
    config = {**command.settings, **WEBHOOKS}
    events = tmp_path / "events.txt"
    events.touch()
    with running(command, database_url, "--follow", "86400") as process:
        until(copy.is_synced, process)
        serving = app_workers(
            "event_app", config, tmp_path, workers=2, threads=2, EVENTS=str(events)
        )
        with serving as url:
            for lang in ("de", "fr"):
                id = min(command.customers())
                client_of(command).update_customer(id, {"lang": lang})
                delivery = delivery_of(event_of(entityId=id))
                assert requests.post(f"{url}/webhooks", **delivery, timeout=60).status_code == 200
                until(lambda: copy.documents() == truth(command), process)
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert err == f"stopped\n{GOES_ON}"


def test_many_stores(tmp_path: Path, database_url: str, copy: CopiedRows) -> None:
    """The stores of a mount share the tables, and each has a cursor of its own."""
    with begin_sandbox(tmp_path, "--stores", "3", "--customers", "20") as sandbox:
        try:
            assert sandbox.stdout is not None
            lines = [sandbox.stdout.readline().strip().partition("=") for _ in range(5)]
            settings = {key: value for key, _, value in lines if key.startswith("ECWID_")}
            command = Command(tmp_path, 0, **settings)
            del command.settings["ECWID_SANDBOX"]
            status, _, err = command.run("sync", database_url)
            assert (status, "choose one with --store-id" in " ".join(err.split())) == (2, True)
            options = [f"--store-id={number}" for number in (1003, 1005, 1003)]
            assert command.run("sync", database_url, *options) == (0, "", "")
            assert {store: len(copy.documents(store)) for store in ("1003", "1004", "1005")} == {
                **{"1003": 24, "1004": 0, "1005": 24},
            }
            assert copy.cursor("1004") is None
            # A store that fails ends none of the others.
            url = settings["ECWID_API_URL"].partition("/api/")[0]
            requests.put(
                f"{url}/admin/stores/1003", json={"tokens": ["secret_otherOther"]}, timeout=30
            ).raise_for_status()
            options = ["--store-id=1003", "--store-id=1004"]
            status, _, err = command.run("sync", database_url, *options)
            assert status == 1
            assert err.startswith("store 1003: failed: ")
            assert "store 1004" not in err
            assert len(copy.documents("1004")) == 24
            assert len(copy.documents("1003")) == 24
        finally:
            sandbox.terminate()
