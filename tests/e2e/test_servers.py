"""The same requests under each server of docs/servers.md."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from flask_ecwid.testing import EcwidSandbox

from ..conftest import PREFIX, REQUEST_ID, ROOT, environment, free_port, wait_for
from ..helpers.pages import blocks

PAGE = (ROOT / "docs" / "servers.md").read_text(encoding="utf-8")
# The commands of the page, by the names of the servers.
COMMANDS: dict[str, str] = dict(re.findall(r"^# (.+)\n(\S.+)$", PAGE, re.M))
ID = 172890169
LIMIT = 262_144
JSON = "Content-Type: application/json"


class Probe(NamedTuple):
    """A request, and the status that it must get."""

    status: int
    first: str  # the method and the target
    headers: tuple[str, ...] = ()
    body: bytes = b""


def chunked(body: bytes, size: int = 7) -> bytes:
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def with_length(body: bytes) -> tuple[tuple[str, ...], bytes]:
    return (JSON, f"Content-Length: {len(body)}"), body


def in_chunks(body: bytes, size: int = 7) -> tuple[tuple[str, ...], bytes]:
    return (JSON, "Transfer-Encoding: chunked"), chunked(body, size)


def new(name: str) -> bytes:
    return json.dumps({"email": f"{name}@example.com"}).encode()


TOO_LARGE = json.dumps({"email": "x" * LIMIT}).encode()
ADD, DELETE = f"POST {PREFIX}/add_customer", f"POST {PREFIX}/delete_customer/{ID}"
PROBES = {
    "a list": Probe(200, f"GET {PREFIX}/customers?limit=2"),
    "a customer": Probe(200, f"GET {PREFIX}/customer/{ID}"),
    "HEAD": Probe(200, f"HEAD {PREFIX}/customers"),
    "OPTIONS": Probe(204, f"OPTIONS {PREFIX}/customers"),
    "the absolute form": Probe(200, f"GET http://x{PREFIX}/customers"),
    "a creation": Probe(200, ADD, *with_length(new("one"))),
    "a creation in chunks": Probe(200, ADD, *in_chunks(new("two"))),
    "a body over the limit": Probe(413, ADD, *with_length(TOO_LARGE)),
    "chunks over the limit": Probe(413, ADD, *in_chunks(TOO_LARGE, 65_536)),
    "no body": Probe(400, ADD, (JSON, "Content-Length: 0")),
    "a form of another site": Probe(403, DELETE, ("Origin: https://evil.example",)),
    "another path": Probe(404, f"GET {PREFIX}/nothing"),
    "an encoded slash": Probe(404, f"GET {PREFIX}/customer%2F{ID}"),
    "an encoded slash before": Probe(404, f"GET {PREFIX[:-6]}%2fecwid/customers"),
    "two slashes": Probe(404, f"GET /{PREFIX}/customers"),
    "three slashes": Probe(404, f"GET //{PREFIX}/customers"),
    "two slashes in the absolute form": Probe(404, f"GET http://x/{PREFIX}/customers"),
    "two slashes within": Probe(404, f"GET {PREFIX}//customers"),
    "no UTF-8": Probe(400, f"GET {PREFIX}/customers?keyword=%ff"),
    "another method": Probe(405, f"PUT {PREFIX}/customers", ("Content-Length: 0",)),
}
# A body that is cut must create nobody, whatever the server makes of the connection.
CUT = b'{"email": "cut@example.com"}'
CUT_OFF = (
    Probe(0, ADD, (JSON, "Content-Length: 100"), CUT),
    Probe(0, ADD, (JSON, "Transfer-Encoding: chunked"), chunked(CUT, 20)[:26]),
)

# The statuses that differ, because the plugin cannot mend them. docs/servers.md says each of them.
DIFFERENT: dict[str, dict[str, int]] = {
    "uWSGI": {"the absolute form": 404},
    "Granian": {"an encoded slash": 200, "an encoded slash before": 200},
    "werkzeug": {"two slashes": 200, "three slashes": 200},
}


@contextmanager
def running(command: str, store: EcwidSandbox, **others: str) -> Iterator[int]:
    """Run a server with a command of the page, and return its port."""
    port = free_port()
    settings = {**store.config, "ECWID_AUTH": "none", **others}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command.replace("8000", str(port)).split(),
            cwd=ROOT,
            env=environment(**settings),
            stdout=log,
            stderr=log,
        )
        try:
            wait_for(f"http://127.0.0.1:{port}/healthz", process)
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            finally:
                process.kill()
                log.seek(0)
                sys.stdout.write(log.read()[-4000:])  # pytest shows it if the test fails


def sent(port: int, probe: Probe) -> tuple[int, bytes]:
    """Send a request, and return the status and everything that came back."""
    lines = (f"{probe.first} HTTP/1.1", "Host: x", "Connection: close", *probe.headers)
    lines = (*lines, f"X-Request-ID: {REQUEST_ID}", "", "")
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        with suppress(OSError):  # A server that refuses a request need not read all of it.
            connection.sendall("\r\n".join(lines).encode() + probe.body)
            if not probe.status:
                connection.shutdown(socket.SHUT_WR)
        with suppress(OSError):
            while piece := connection.recv(65_536):
                received += piece
    found = re.match(rb"HTTP/1\.[01] (\d+)", received)
    return int(found[1]) if found else 0, received


def test_the_page_names_each_server() -> None:
    """The page has a command for each server."""
    assert len(COMMANDS) == 8
    assert set(DIFFERENT) <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_server(name: str, tmp_path: Path) -> None:
    """Each request has the same response under each server, except where the page says so."""
    store = EcwidSandbox(tmp_path / "store.sqlite3")
    store.seed()
    statuses = {}
    with running(COMMANDS[name], store) as port:
        for what, probe in PROBES.items():
            statuses[what], received = sent(port, probe)
            if f" {PREFIX}" in probe.first and statuses[what] == probe.status:
                assert REQUEST_ID.encode() in received, what
        for probe in CUT_OFF:
            assert sent(port, probe)[0] != 200
    expected = {what: probe.status for what, probe in PROBES.items()}
    assert statuses == {**expected, **DIFFERENT.get(name, {})}
    emails = [customer["email"] for customer in store.customers()]
    assert len(emails) == len(set(emails))
    assert "cut@example.com" not in emails


def test_granian_with_log_lines(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The file of the page adds the request lines of `gunicorn.conf.py` to Granian."""
    [code] = blocks(ROOT / "docs" / "servers.md", "Granian", "python")
    install, command = blocks(ROOT / "docs" / "servers.md", "Granian")[0].splitlines()
    assert install == "pip install '.[server]' granian"
    (tmp_path / "granian_app.py").write_text(code, encoding="utf-8")
    store = EcwidSandbox(tmp_path / "store.sqlite3")
    store.seed()
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    with running(command, store, PYTHONPATH=path) as port:
        assert sent(port, PROBES["a creation"])[0] == 200
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines() if line[:1] == "{"]
    requests = [line for line in lines if line["name"] == "flask_ecwid.request"]
    assert [line["request_id"] for line in requests] == [REQUEST_ID]


def test_the_benchmark_measures_granian_as_the_page_says() -> None:
    """The benchmark's app for Granian is the file of the page."""
    [code] = blocks(ROOT / "docs" / "servers.md", "Granian", "python")
    app = (ROOT / "benchmarks" / "apps" / "granian_app.py").read_text(encoding="utf-8")
    assert app.endswith(f'"""\n\n{code}')


def test_the_c_parser_needs_its_package() -> None:
    """The tests have the package of the C parser, and the page says how to install the package."""
    [install] = blocks(ROOT / "docs" / "servers.md", "gunicorn's C parser")
    assert install == "pip install gunicorn_h1c\n"
    assert find_spec("gunicorn_h1c")
