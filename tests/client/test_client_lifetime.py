"""Tests of the connections of EcwidClient across threads, forks and `close`."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from flask_ecwid import EcwidClient, Settings
from flask_ecwid.errors import CustomerNotFound

from ..conftest import STORE, TOKEN
from ..helpers.raw_server import Call, Gate, RawServer, ScriptedServer, good, sends
from ..helpers.redis_server import RedisServer


def keeps(connection: socket.socket, call: Call) -> bool:
    """Reply with a customer or a 404, and keep the connection for the next call."""
    status = b"404 Not Found" if call.path.endswith("/404") else b"200 OK"
    connection.sendall(b'HTTP/1.1 %s\r\nContent-Length: 8\r\n\r\n{"id":7}' % status)
    return True


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """Provide a server that keeps its connections and counts them."""
    with ScriptedServer(keeps) as server:
        yield server


def client_of(server: RawServer) -> EcwidClient:
    return EcwidClient(Settings(store_id="1003", token=TOKEN, api_url=server.url))


def test_a_closed_client_can_be_used_again(server: ScriptedServer) -> None:
    """A call after `close` opens a new connection, and a second `close` does no harm."""
    client = client_of(server)
    client.close()
    assert [client.get_customer(7), client.get_customer(7)] == [{"id": 7}] * 2
    assert server.connections == 1
    client.close()
    client.close()
    assert client.get_customer(7) == {"id": 7}
    assert server.connections == 2
    client.close()


def test_a_with_statement_closes_the_client(server: ScriptedServer) -> None:
    """A `with` statement closes the connections, even if its block raises an error."""
    client = client_of(server)
    with client as same:
        assert same is client
        client.get_customer(7)
    with pytest.raises(CustomerNotFound), client:
        client.get_customer(404)
    client.get_customer(7)
    assert server.connections == 3
    client.close()


def test_closing_leaves_calls_under_way_alone() -> None:
    """A call that is under way gets its reply, although another thread closes the client."""
    gate = Gate()
    script = gate.before(sends(good(b'{"id":7}')))
    with RawServer(script) as server, ThreadPoolExecutor(1) as pool:
        client = client_of(server)
        under_way = pool.submit(client.get_customer, 7)
        assert gate.asked.wait(20)
        client.close()
        gate.open()
        assert under_way.result(20) == {"id": 7}
        assert server.connections == 1


FORKS = """
import json, os, sys
from flask_ecwid.client import EcwidClient
from flask_ecwid import Settings

url, redis_url = sys.argv[1:]
client = EcwidClient(
    Settings(store_id="1003", token="secret_x", api_url=url, redis_url=redis_url)
)
storage = client.stores.upstream.storage
shared, link = storage.shared, storage.redis

def use(name):
    assert client.get_customer(7) == {"id": 7}
    assert shared.compare_and_swap(name, None, b"kept", 60)
    if link is None:
        return None
    with link.connection() as redis:
        return redis.client_id()

before = use("parent, before")
read, write = os.pipe()
child = os.fork()
if child == 0:
    used = [use("child, before closing")]
    client.close()
    used.append(use("child, after closing"))
    os.write(write, json.dumps(used).encode())
    client.close()
    os._exit(0)  # a failed assertion ends the child with another status
_, status = os.waitpid(child, 0)
after = use("parent, after")
names = ["parent, before", "child, before closing", "child, after closing", "parent, after"]
kept = [name for name in names if (shared.get(name) or [b""])[0] == b"kept"]
os.close(write)
in_child = json.loads(os.read(read, 1000) or b"[]")
print(json.dumps({"status": status, "kept": len(kept), "ids": [before, *in_child, after]}))
"""


def run(script: str, *arguments: str) -> Any:
    """Run a script in a process of its own, and return the JSON that it prints."""
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_fork(server: ScriptedServer) -> None:
    """A child has its own connections, and its `close` leaves the connections of the parent open.

    Both processes see what the other writes into the state file.
    """
    found = run(FORKS, server.url, "")
    assert found == {"status": 0, "kept": 4, "ids": [None] * 4}
    assert len(server.heard) == 4
    assert server.connections == 3  # one of the parent, and two of the child, which closes


def test_a_fork_with_redis(server: ScriptedServer, redis: RedisServer) -> None:
    """A child has its own connections to Redis, and its `close` leaves the parent's open."""
    found = run(FORKS, server.url, redis.url)
    before, child_before, child_after, after = found["ids"]
    assert (found["status"], found["kept"]) == (0, 4)
    assert before == after
    assert len({before, child_before, child_after}) == 3


FORKS_DURING_A_CALL = """
import os, sys, threading, time
from flask_ecwid import EcwidClient, Settings

settings = Settings(store_id="1003", token="secret_x", api_url=sys.argv[1], deadline_s=120)
client = EcwidClient(settings)
under_way = threading.Thread(target=client.get_customer, args=(7,))
under_way.start()
sys.stdin.readline()  # the call has reached the server
child = os.fork()
if child == 0:
    begun = time.monotonic()
    assert client.get_customer(7) == {"id": 7}
    os._exit(0 if time.monotonic() - begun < 30 else 2)
_, status = os.waitpid(child, 0)
print(status, flush=True)
os._exit(0)
"""


def test_a_fork_during_a_call() -> None:
    """A read in a child does not wait for an equal read that its parent had under way."""
    gate = Gate()
    throttled, at_once = gate.before(sends(good(b'{"id":7}'))), sends(good(b'{"id":7}'))
    with RawServer(throttled, at_once) as server:
        command = [sys.executable, "-c", FORKS_DURING_A_CALL, server.url]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
            assert gate.asked.wait(20)
            printed, _ = process.communicate("go\n")
        gate.open()
    assert printed == "0\n"


def test_closed_while_other_threads_call(ecwid: HTTPServer, redis: RedisServer) -> None:
    """A client with Redis that is closed again and again fails no call of another thread."""
    ecwid.expect_request(f"{STORE}/customers/5").respond_with_json({"id": 5})
    settings = Settings(
        store_id="1003",
        token=TOKEN,
        api_url=ecwid.url_for("/api/v3"),
        redis_url=redis.url,
        calls_per_minute=100_000,
    )
    client = EcwidClient(settings)
    closed = threading.Event()

    def call() -> int:
        calls = 0
        while not closed.is_set():
            assert client.get_customer(5) == {"id": 5}
            calls += 1
        return calls

    with ThreadPoolExecutor(3) as pool:
        calling = [pool.submit(call) for _ in range(3)]
        for _ in range(60):
            client.close()
            time.sleep(0.03)
        closed.set()
        assert all(each.result(30) > 0 for each in calling)
