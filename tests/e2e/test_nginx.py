"""The shipped docs/deploy/nginx.conf, with a real nginx in front of a real gunicorn."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import requests

from flask_ecwid import Settings
from flask_ecwid.errors import BodyTooLarge

from ..conftest import PREFIX, REQUEST_ID, ROOT, free_port
from ..helpers.programs import program
from ..helpers.raw_server import RawServer, Script, receive_request, resets, sends, stalls
from ..helpers.webhook_events import WEBHOOKS, delivery_of, event_of
from .test_deployment import CANARY, gunicorn, life_of_a_customer, raw_problem

PROFILE = (ROOT / "docs" / "deploy" / "nginx.conf").read_text(encoding="utf-8")
ADD = f"POST {PREFIX}/add_customer HTTP/1.1\r\nHost: x\r\n"
GET = f"GET {PREFIX}/customers HTTP/1.1\r\nHost: x\r\n"
UUID4 = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Front:
    """A running nginx with the profile, whose `folder` has its logs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.root = f"http://127.0.0.1:{self.port}"
        self.url = self.root + PREFIX

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def wait_until_it_listens(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + 60
        while True:
            with suppress(OSError), self.connect():
                return
            assert process.poll() is None, self.logs()
            assert time.monotonic() < until, "nginx does not listen"
            time.sleep(0.05)

    def raw(self, text: bytes) -> bytes:
        """Return the response to these bytes."""
        with self.connect() as connection, connection.makefile("rb") as response:
            connection.sendall(text)
            head = b"".join(iter(response.readline, b"\r\n")) + b"\r\n"
            length = re.search(rb"\r\nContent-Length: ([0-9]+)\r\n", head)
            return head + response.read(int(length[1]) if length else -1)

    def logs(self) -> str:
        """Return all log lines so far."""
        return "".join(path.read_text(encoding="utf-8") for path in self.folder.glob("*.log"))

    def log(self) -> list[dict[str, object]]:
        """Return the lines of the access log."""
        text = (self.folder / "flask-ecwid.log").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def log_of(self, request_id: str) -> dict[str, object]:
        """Return the only access log line of this request, which is written after its response."""
        until = time.monotonic() + 20
        while not (lines := [each for each in self.log() if each["request_id"] == request_id]):
            assert time.monotonic() < until
            time.sleep(0.05)
        [line] = lines
        return line


@contextmanager
def nginx(folder: Path, *upstreams: int, profile: str = PROFILE) -> Iterator[Front]:
    """Run an nginx with the profile, with other ports and folders."""
    path = program("nginx")
    front = Front(folder)
    # Each process of nginx would else leave out a server for 10 s after a failure. The process that
    # takes the next request differs.
    servers = " ".join(f"server 127.0.0.1:{port} max_fails=0;" for port in upstreams)
    modules = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = " ".join(f"{module}_temp_path {folder}/{module};" for module in modules)
    for old, new in (
        ("listen 127.0.0.1:8080 ", f"listen 127.0.0.1:{front.port} "),
        ("server 127.0.0.1:8000;", servers),
        ("/run/nginx.pid", f"{folder}/nginx.pid"),
        ("/var/log/nginx/", f"{folder}/"),
        ("http {", f"http {{ {folders}"),
    ):
        assert old in profile
        profile = profile.replace(old, new)
    conf = folder / "nginx.conf"
    conf.write_text(profile, encoding="utf-8")
    process = subprocess.Popen(
        [path, "-e", folder / "error.log", "-c", conf, "-g", "daemon off;"],
        stderr=subprocess.DEVNULL,  # the log has the same text
    )
    try:
        front.wait_until_it_listens(process)
        yield front
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Run nginx in front of a gunicorn with four threads on the sandbox."""
    with ExitStack() as stack:
        flags = ("--threads", "4")
        server = stack.enter_context(gunicorn(*flags, ECWID_SANDBOX="on"))
        port = int(server.root.rpartition(":")[2])
        yield stack.enter_context(nginx(tmp_path_factory.mktemp("nginx"), port))


def test_the_five_endpoints(front: Front) -> None:
    """All five operations work through nginx."""
    life_of_a_customer(front.url)


def test_problems_of_the_plugin_are_passed_on(front: Front) -> None:
    """nginx passes the plugin's problems on unchanged, with their headers."""
    response = requests.get(f"{front.url}/customers?limit=101", timeout=30)
    [violation] = response.json()["errors"]
    assert violation["pointer"] == "/query/limit"
    assert "from 1 to 100" in violation["expected"]
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert requests.get(f"{front.root}/readyz", timeout=30).json() == {"status": "configured"}


def test_slow_clients_stop_nobody(front: Front) -> None:
    """Slow clients do not delay other requests, and nginx ends their connections."""
    head = f"{ADD}Content-Type: application/json\r\nContent-Length: 40\r\n\r\n"
    with ExitStack() as stack:
        slow = [stack.enter_context(front.connect()) for _ in range(40)]
        for number, connection in enumerate(slow):
            connection.sendall((GET + "X-Slow: " if number % 2 else head + '{"email": ').encode())
        for _ in range(20):
            response = requests.get(f"{front.url}/customers?limit=1", timeout=9)
            assert response.status_code == 200
        assert [connection.recv(1) for connection in slow] == [b""] * 40


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 413)])
def test_the_limit_of_a_body(front: Front, more: int, status: int, chunked: bool) -> None:
    """A body of ECWID_MAX_BODY_BYTES is accepted, and one more byte is a 413 problem."""
    body = b'{"email": "limit-%d-%d@example.com"}' % (more, chunked)
    body += b" " * (Settings.max_body_bytes + more - len(body))
    response = requests.post(
        f"{front.url}/add_customer",
        data=iter([body]) if chunked else body,
        headers={"Content-Type": "application/json"},
        timeout=30,
    )
    assert response.status_code == status


REFUSED = [
    (400, f"GET {PREFIX}/customers?email={CANARY} x HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, f"GET {PREFIX}/customers HTTP/1.1{CANARY}\r\nHost: x\r\n\r\n"),
    (400, f"get {PREFIX}/customers?email={CANARY} HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, f"<{CANARY}> / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, f"{CANARY}\r\n\r\n"),
    (400, f"GET {PREFIX}/customers?email={CANARY} HTTP/1.1\r\n\r\n"),
    (400, f"GET {PREFIX}/customers HTTP/1.1\r\nHost: {CANARY}/\r\n\r\n"),
    (400, f"GET {PREFIX}/%00{CANARY} HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, f"GET {PREFIX}/customers?email={CANARY}\xff HTTP/1.1\r\nHost: x\r\n\r\n"),  # gunicorn
    (400, f"{ADD}Content-Length: {CANARY}\r\n\r\n"),
    (400, f"{ADD}Content-Length: 1\r\nContent-Length: 2\r\n\r\n{CANARY}"),
    (400, f"{ADD}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{CANARY}"),
    (400, f"{ADD}Transfer-Encoding: chunked\r\n\r\n{CANARY}"),
    (405, f"TRACE {PREFIX}/customers?email={CANARY} HTTP/1.1\r\nHost: x\r\n\r\n"),
    (413, f"{ADD}Content-Length: 262145\r\n\r\n{CANARY}"),
    (414, f"GET {PREFIX}/customers?email={CANARY}{'x' * 66_000} HTTP/1.1\r\nHost: x\r\n\r\n"),
    (431, f"{GET}X-Long: {CANARY}{'x' * 9000}\r\n\r\n"),
    (431, f"{GET}{'X-Many: canary$'.replace('$', chr(13) + chr(10)) * 101}\r\n"),  # gunicorn
    (501, f"{ADD}Transfer-Encoding: {CANARY}\r\n\r\n"),
    (505, f"GET {PREFIX}/customers?email={CANARY} HTTP/2.0\r\nHost: x\r\n\r\n"),
]


@pytest.mark.parametrize(("status", "text"), REFUSED)
def test_refused_requests(front: Front, status: int, text: str) -> None:
    """An invalid or too large request gets a problem that repeats nothing of the request."""
    response = front.raw(text.encode("latin-1"))
    headers = raw_problem(response, status)
    assert headers["Server"] == "nginx"
    assert ("Allow" in headers) == (status == 405)
    assert "canary" not in response.decode("latin-1").lower()


def test_no_response_names_a_version(front: Front) -> None:
    """The Server header has nginx's name and no version."""
    for path in ("/healthz", f"{PREFIX}/customers", "/nowhere"):
        assert requests.get(front.root + path, timeout=30).headers["Server"] == "nginx"


def test_the_request_id(front: Front) -> None:
    """The UUID of a caller is the request's id everywhere, and nginx creates a missing id."""
    close = "Connection: close\r\n\r\n"
    given = front.raw(f"{GET}X-Request-ID: {REQUEST_ID}\r\n{close}".encode())
    assert f"X-Request-ID: {REQUEST_ID}\r\n".encode() in given
    assert front.log_of(REQUEST_ID)["operation"] == "list_customers"
    other = REQUEST_ID.replace("6", "7", 1)
    head = f"{ADD}X-Request-ID: {other}\r\n"
    assert raw_problem(front.raw(f"{head}Content-Length: 999999\r\n\r\n".encode()), 413)
    assert front.log_of(other)["status"] == 413
    for text in (f"{GET}X-Request-ID: {CANARY}\r\n{close}", f"{GET}{close}"):
        [new] = re.findall(rb"X-Request-ID: (.*)\r\n", front.raw(text.encode()))
        assert UUID4.fullmatch(new.decode())
        assert front.log_of(new.decode())["status"] == 200


def test_the_log_holds_nothing_personal(tmp_path: Path) -> None:
    """No log has a query, a path, an invalid method, a header or an address."""
    personal = (
        f"X-Request-ID: {CANARY}\r\nReferer: https://{CANARY}/\r\nUser-Agent: {CANARY}\r\n"
        "Authorization: Basic Y2FuYXJ5OmNhbmFyeQ==\r\nCookie: a=canary\r\nConnection: close\r\n\r\n"
    )
    texts = [
        *(text for _, text in REFUSED),
        f"GET {PREFIX}/customers?email={CANARY} HTTP/1.1\r\nHost: x\r\n{personal}",
        f"GET {PREFIX}/{CANARY} HTTP/1.1\r\nHost: {CANARY.replace('@', '.')}\r\n{personal}",
        f"CANARY {PREFIX}/customers HTTP/1.1\r\nHost: x\r\n{personal}",
    ]
    with gunicorn(ECWID_SANDBOX="on") as server:
        port = int(server.root.rpartition(":")[2])
        with nginx(tmp_path, port) as front:
            for text in texts:
                assert front.raw(text.encode("latin-1"))
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(60)
            for text in texts:  # also without gunicorn
                assert front.raw(text.encode("latin-1"))
            lines = front.log()
    assert {"list_customers", "add_customer", "other"} <= {line["operation"] for line in lines}
    assert {line["method"] for line in lines} == {"GET", "POST", "other"}
    assert "canary" not in front.logs().lower()
    assert "127.0.0.1" not in front.logs()


POST = f"{ADD}Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
READ = f"{GET}Connection: close\r\n\r\n"


def executed(response: bytes) -> object:
    problem: dict[str, object] = json.loads(response.partition(b"\r\n\r\n")[2])
    return problem.get("executed")


def test_without_gunicorn(tmp_path: Path) -> None:
    """Without gunicorn a request is a 503 problem with Retry-After, and was not executed."""
    with nginx(tmp_path, free_port()) as front:
        for text, done in ((READ, None), (POST, "no")):
            response = front.raw(text.encode())
            assert raw_problem(response, 503)["Retry-After"] == "10"
            assert executed(response) == done


BREAKS = {
    "resets": resets,
    "closes": sends(),
    "cut in the status": sends(b"HTTP/1.1 2"),
    "cut in the headers": sends(b"HTTP/1.1 200 OK\r\nContent-Le"),
}


@pytest.mark.parametrize("script", BREAKS.values(), ids=BREAKS)
def test_a_post_is_sent_once(tmp_path: Path, script: Script) -> None:
    """A POST whose connection breaks is a 502 problem, and is not sent again."""
    with (
        RawServer(script) as first,
        RawServer(script) as second,
        nginx(tmp_path, first.port, second.port) as front,
    ):
        response = front.raw(POST.encode())
        assert first.connections + second.connections == 1
    raw_problem(response, 502)
    assert executed(response) == "unknown"


def test_the_rate_of_events(tmp_path: Path) -> None:
    """nginx limits the rate of webhook events alone, and Ecwid gets a 429 for more of them."""
    slow = PROFILE.replace("rate=20r/s", "rate=1r/m").replace("burst=100 ", "burst=2 ")
    assert slow.count("rate=1r/m") == slow.count("burst=2 ") == 1
    with gunicorn(ECWID_SANDBOX="on", **WEBHOOKS) as server:
        port = int(server.root.rpartition(":")[2])
        with nginx(tmp_path, port, profile=slow) as front:
            responses = [
                requests.post(
                    f"{front.url}/webhooks?eventtype=canary", **delivery_of(event_of()), timeout=30
                )
                for _ in range(5)
            ]
            assert [each.status_code for each in responses] == [200, 200, 200, 429, 429]
            problem = responses[-1].json()
            assert problem["type"] == "urn:flask-ecwid:problem:too-many-requests"
            assert (problem["executed"], responses[-1].headers["Retry-After"]) == ("no", "10")
            for _ in range(5):
                assert requests.get(f"{front.url}/customers", timeout=30).status_code == 200
            assert front.log_of(problem["request_id"])["operation"] == "receive_event"
            assert "canary" not in front.logs()


def test_a_post_cut_in_its_response(tmp_path: Path) -> None:
    """A POST is not sent again when its response breaks off."""
    cut = sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    with RawServer(cut) as upstream, nginx(tmp_path, upstream.port) as front:
        assert front.raw(POST.encode()).endswith(b"\r\n\r\n{")
        assert upstream.connections == 1


def test_no_response_in_time(tmp_path: Path) -> None:
    """A request without a response in time is a 504 problem, and a POST may have been executed."""
    soon = PROFILE.replace("proxy_read_timeout 60s;", "proxy_read_timeout 1s;")
    assert soon != PROFILE
    with RawServer(stalls()) as upstream, nginx(tmp_path, upstream.port, profile=soon) as front:
        response = front.raw(POST.encode())
        assert upstream.connections == 1
    raw_problem(response, 504)
    assert executed(response) == "unknown"


def test_a_read_is_made_once_more(tmp_path: Path) -> None:
    """A read whose connection breaks is sent once more, over another connection."""
    # Without the header, nginx may send the next read over the connection that was just closed.
    closing = OK.replace(b"Content-Length", b"Connection: close\r\nContent-Length")
    scripts = [resets, sends(closing), resets]
    with RawServer(*scripts) as upstream, nginx(tmp_path, upstream.port, upstream.port) as front:
        assert front.raw(READ.encode()).startswith(b"HTTP/1.1 200 ")
        assert upstream.connections == 2
        raw_problem(front.raw(READ.encode()), 502)
        assert upstream.connections == 4


def test_a_post_has_a_connection_of_its_own(tmp_path: Path) -> None:
    """Reads reuse a connection, and a POST does not, because the connection may be closing."""
    long = PROFILE.replace("keepalive_timeout 1s;", "keepalive_timeout 60s;")
    assert long != PROFILE
    heard: list[list[bytes]] = []

    def keeps(connection: socket.socket) -> None:
        methods: list[bytes] = []
        heard.append(methods)
        while request := receive_request(connection):
            methods.append(request.split(b" ")[0])
            connection.sendall(OK)

    with (
        RawServer(keeps) as upstream,
        nginx(tmp_path, upstream.port, profile=long) as front,
        requests.Session() as caller,  # One connection uses only one process of nginx.
    ):
        for method in ("GET", "GET", "POST", "GET", "POST"):
            assert caller.request(method, f"{front.url}/x", timeout=30).status_code == 200
    assert heard == [[b"GET", b"GET", b"GET"], [b"POST"], [b"POST"]]


def test_forwarded_headers(tmp_path: Path) -> None:
    """nginx sets X-Forwarded-* itself, and drops the values that a client sends."""
    heard: list[bytes] = []

    def listens(connection: socket.socket) -> None:
        heard.append(receive_request(connection))
        connection.sendall(OK)

    names = ("For", "Proto", "Protocol", "Host", "Prefix", "Port", "Ssl")
    lies = "".join(f"X-Forwarded-{name}: canary\r\n" for name in names)
    lies += "X_Forwarded_For: canary\r\nX-Real-IP: canary\r\nForwarded: for=canary\r\n"
    with RawServer(listens) as upstream, nginx(tmp_path, upstream.port) as front:
        text = f"GET / HTTP/1.1\r\nHost: shop.example\r\n{lies}Connection: close\r\n\r\n"
        assert front.raw(text.encode()).startswith(b"HTTP/1.1 200 ")
    fields = sorted(heard[-1].decode("ascii").split("\r\n"))
    assert [field for field in fields if field.startswith(("X-F", "Host", "Forw", "X-Real"))] == [
        "Host: shop.example",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Host: shop.example",
        "X-Forwarded-Proto: http",
    ]
    assert b"canary" not in heard[-1]


def seconds(name: str, text: str = PROFILE) -> list[int]:
    return [int(value) for value in re.findall(rf"^ *{name} =? ?([0-9]+)", text, re.M)]


def test_limits_agree_with_the_service() -> None:
    """The limits of time and size in nginx agree with the plugin and gunicorn.conf.py."""
    server = (ROOT / "gunicorn.conf.py").read_text(encoding="utf-8")
    [read], [size] = seconds("proxy_read_timeout"), seconds("client_max_body_size")
    [kept], [graceful] = seconds("keepalive", server), seconds("graceful_timeout", server)
    assert Settings.deadline_s < graceful < read
    assert size == Settings.max_body_bytes
    assert BodyTooLarge(size).detail in PROFILE
    assert seconds("keepalive_timeout")[-1] < kept
    assert "non_idempotent;" not in PROFILE
