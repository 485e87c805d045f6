"""Bad requests over raw sockets against the gunicorn that the README starts, with its settings.

The sandbox stands in for Ecwid on a port of its own.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, quote

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

from flask_ecwid.sandbox import STORE_ID, TOKEN, create_sandbox

from ..conftest import REQUEST_ID
from ..helpers.bad_requests import (
    BAD_REQUESTS,
    CREATE,
    EMAILS,
    EVENTS,
    GOOD,
    GOOD_REQUESTS,
    GUNICORN,
    HIDDEN,
    ID,
    NO_HTTP,
    NOT_FOUND,
    ONE,
    PLUGIN,
    REQUEST_IDS,
    SILENT,
    TEXTS,
    Gets,
    Row,
    Text,
    broken,
    get,
    post,
    wire,
)
from ..helpers.webhook_events import WEBHOOKS
from .test_deployment import Server, gunicorn

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

STORE_PATH = f"/api/v3/{STORE_ID}"
INVALID_ID = broken("/path/customer_id minimum")
LOGGED = {
    *("asctime", "levelname", "process", "name"),
    *("store", "store_id", "operation", "status", "duration_ms", "request_id"),
}
AUDITED = {
    *("asctime", "levelname", "process", "name", "phase", "store", "caller"),
    *("store_id", "operation", "customer_id", "result", "executed", "request_id"),
}
WARNING = re.compile(
    r"Invalid request(: \w+ request_id=[0-9a-f-]+)?|call failed operation=\w+ store_id=\d+ [a-z-]+"
    r"|Invalid requests without a log line: [0-9]+|ECWID_CALLS_PER_MINUTE is above [ -~]+"
)
# test_refused_requests.py has the exact positions.
POSITION = re.compile(r"(valid JSON|UTF-8) at line [0-9]+, column [0-9]+")
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class Heard(NamedTuple):
    """A call that Ecwid got."""

    what: str
    query: str
    body: bytes


class Ecwid:
    """The sandbox, with a record of every request that it gets.

    The ledger leaves out requests that do not belong to Ecwid's API.
    """

    def __init__(self, path: Path) -> None:
        self._app = create_sandbox(path)
        self.heard: list[Heard] = []

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
        path = environ["PATH_INFO"].removeprefix(STORE_PATH)
        what = f"{environ['REQUEST_METHOD']} {path}"
        self.heard.append(Heard(what, environ["QUERY_STRING"], body))
        return self._app(environ, start_response)

    @contextmanager
    def served(self) -> Iterator[str]:
        server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=_Quiet)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api/v3"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class _Quiet(WSGIRequestHandler):
    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass


class Response(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the value of a header, which must not come twice."""
        found = [value for each, value in self.headers if each.lower() == name.lower()]
        assert len(found) <= 1, name
        return found[0] if found else None


class Service:
    """The plugin under gunicorn in front of Ecwid, with its resources at the start."""

    def __init__(self, server: Server, ecwid: Ecwid, stop: Callable[[], None]) -> None:
        self.server = server
        self.ecwid = ecwid
        self.stop = stop
        self._start_all_threads()
        self.good()
        self.before = self.takes()

    def send(self, sent: bytes, *, hangs_up: bool = True) -> bytes:
        """Send bytes, and return all that comes back until either side closes the connection."""
        received = b""
        with socket.create_connection(self._address(), timeout=30) as connection:
            with suppress(OSError):  # a server that refuses a request need not read all of it
                connection.sendall(sent)
                if hangs_up:
                    connection.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):
                while chunk := connection.recv(65_536):
                    received += chunk
        return received

    def calls(self) -> list[Heard]:
        """Return the calls since the last call of this method."""
        heard, self.ecwid.heard = self.ecwid.heard, []
        return heard

    def good(self) -> None:
        """Send a good request over a new connection, and check its response."""
        [response] = responses(self.send(get(f"/customer/{ID}")), [GOOD])
        assert response.status == 200
        assert json.loads(response.body)["data"]["id"] == ID
        assert [call.what for call in self.calls()] == [ONE]

    def takes(self) -> tuple[int, int]:
        """Return the numbers of descriptors and threads of the worker."""
        return len(list((self._worker() / "fd").iterdir())), self._threads()

    def _address(self) -> tuple[str, int]:
        return "127.0.0.1", int(self.server.root.rpartition(":")[2])

    def _worker(self) -> Path:
        pid = self.server.process.pid
        [worker] = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        return Path("/proc", worker)

    def _threads(self) -> int:
        return len(list((self._worker() / "task").iterdir()))

    def _start_all_threads(self) -> None:
        """Start all threads, because gunicorn starts a thread only for a request."""
        with ExitStack() as stack:
            for _ in range(32):
                stack.enter_context(socket.create_connection(self._address()))
            assert within(20, lambda: self._threads() > 32)


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Return True if the condition holds within these seconds."""
    until = time.monotonic() + seconds
    while not holds() and time.monotonic() < until:
        time.sleep(0.02)
    return holds()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    ecwid = Ecwid(tmp_path_factory.mktemp("ecwid") / "store.sqlite3")
    with ExitStack() as stack:
        settings = {
            "ECWID_API_URL": stack.enter_context(ecwid.served()),
            "ECWID_STORE_ID": STORE_ID,
            "ECWID_TOKEN": TOKEN,
            "ECWID_AUTH": "none",
            "ECWID_CALLS_PER_MINUTE": "100000",
            **WEBHOOKS,
        }
        running = stack.enter_context(ExitStack())
        server = running.enter_context(gunicorn(**settings))
        yield Service(server, ecwid, running.close)


def responses(received: bytes, gets: Sequence[Gets]) -> list[Response]:
    """Split the received bytes into the expected number of responses, without a rest."""
    found = []
    for each in gets:
        head, end, received = received.partition(b"\r\n\r\n")
        assert end, "a response is missing"
        first, *rest = head.decode("latin-1").split("\r\n")
        assert first.startswith(("HTTP/1.1 ", "HTTP/1.0 "))
        headers = [(name, value.strip()) for name, _, value in (h.partition(":") for h in rest)]
        response = Response(int(first.split(" ")[1]), headers, b"")
        length = int(response.header("Content-Length") or 0) if each.body else 0
        found.append(response._replace(body=received[:length]))
        received = received[length:]
    assert received == b""
    return found


def check(response: Response, gets: Gets) -> None:
    """Check the status, the headers and the problem of a response, and that no input is
    repeated."""
    assert response.status == gets.status
    assert "canary" not in str(response).lower()
    for name, value in response.headers:
        assert not re.search(r"(?i)\d\.\d|/\d|python|werkzeug|flask", f"{name}: {value}")
    if gets.by == GUNICORN and gets.slug:
        assert response.header("Connection") == "close"
    if gets.by == PLUGIN or gets.slug:
        check_ours(response, gets)


def check_ours(response: Response, gets: Gets) -> None:
    request_id = response.header("X-Request-ID") or ""
    assert UUID4.fullmatch(request_id)
    assert response.header("Cache-Control") == "no-store"
    assert response.header("X-Content-Type-Options") == "nosniff"
    assert response.header("Referrer-Policy") == "no-referrer"
    assert (response.header("Allow") or "") == gets.allow
    if gets.slug:
        assert response.header("Content-Type") == "application/problem+json"
    if gets.slug and gets.body:
        body = json.loads(response.body)
        errors = [{"pointer": pointer, "keyword": keyword} for pointer, keyword in gets.errors]
        for violation in body.get("errors", ()):
            assert violation.pop("expected")
        body["detail"] = POSITION.sub("JSON in UTF-8", body["detail"])
        assert body == {
            "type": f"urn:flask-ecwid:problem:{gets.slug}",
            "title": gets.title,
            "status": gets.status,
            "detail": gets.detail,
            "instance": f"urn:uuid:{request_id}",
            "request_id": request_id,
            "origin": gets.origin,
            **({"errors": errors} if errors else {}),
            **({"executed": "no"} if gets.write else {}),
        }


def run(service: Service, row: Row, *, hangs_up: bool = True) -> None:
    """Check the responses to a row, the calls to Ecwid, and that the service still works."""
    service.calls()
    given = responses(service.send(row.sent, hangs_up=hangs_up), row.gets)
    for response, gets in zip(given, row.gets, strict=True):
        check(response, gets)
    assert [call.what for call in service.calls()] == list(row.calls)
    service.good()


def named(row: Row) -> str:
    return row.name


@pytest.mark.parametrize("row", BAD_REQUESTS, ids=named)
def test_bad_requests(service: Service, row: Row) -> None:
    """A bad request gets a problem without its values, and causes no call to Ecwid."""
    run(service, row)


@pytest.mark.parametrize("row", EVENTS, ids=named)
def test_events(service: Service, row: Row) -> None:
    """An event without Ecwid's signature is a problem without its values, and causes no call."""
    run(service, row)


@pytest.mark.parametrize("row", NO_HTTP, ids=named)
def test_no_http(service: Service, row: Row) -> None:
    """Bytes that are not HTTP end the connection, and a request hidden in them is not executed."""
    run(service, row, hangs_up=False)


@pytest.mark.parametrize("row", HIDDEN, ids=named)
def test_hidden_requests(service: Service, row: Row) -> None:
    """Bytes after a request with an ambiguous end do not count as a request."""
    run(service, row, hangs_up=False)


@pytest.mark.parametrize("row", SILENT, ids=named)
def test_silence(service: Service, row: Row) -> None:
    """An incomplete request gets no response."""
    run(service, row)


@pytest.mark.parametrize("row", GOOD_REQUESTS, ids=named)
def test_good_requests(service: Service, row: Row) -> None:
    """An unusual request that follows the rules works like any other."""
    run(service, row)


@pytest.mark.parametrize(("text", "kept"), REQUEST_IDS)
def test_request_ids(service: Service, text: Text, kept: bool) -> None:
    """The X-Request-ID of a caller is kept if it is a UUID v4, and is replaced otherwise."""
    header = b"X-Request-ID: " + wire(text)
    for sent, gets in (
        (get("/customer/0", header), INVALID_ID),
        (get("/canary", header), NOT_FOUND),
    ):
        [response] = responses(service.send(sent), [gets])
        check(response, gets)
        assert (response.header("X-Request-ID") == REQUEST_ID) == kept


def life_of(service: Service, document: dict[str, Any]) -> dict[str, Any]:
    """Add, update and read a customer with the same members, and check each call."""
    sent = json.dumps(document, ensure_ascii=False)
    [added] = responses(service.send(post("/add_customer", sent)), [GOOD])
    assert added.status == 200, added.body
    customer_id = json.loads(added.body)["data"]["id"]
    [response] = responses(service.send(post(f"/update_customer/{customer_id}", sent)), [GOOD])
    assert response.status == 200, response.body
    calls = service.calls()
    assert [call.what for call in calls] == [CREATE, f"PUT /customers/{customer_id}"]
    assert [json.loads(call.body) for call in calls] == [document, document]
    [found] = responses(service.send(get(f"/customer/{customer_id}")), [GOOD])
    attributes: dict[str, Any] = json.loads(found.body)["data"]["attributes"]
    service.calls()
    return attributes


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_texts(service: Service, text: str) -> None:
    """A text that looks dangerous is sent to Ecwid unchanged, and comes back unchanged."""
    email = f"canary{zlib.crc32(text.encode())}@example.com"
    document = {
        "email": email,
        "taxId": text,
        "privateAdminNotes": text,
        "billingPerson": {"companyName": text},
        "contacts": [{"contact": text, "type": "OTHER", "note": text}],
    }
    shown = life_of(service, document)
    assert shown["taxId"] == shown["privateAdminNotes"] == text
    assert shown["billingPerson"]["companyName"] == text
    assert [(each["contact"], each["note"]) for each in shown["contacts"]] == [(text, text)]


@pytest.mark.parametrize("email", EMAILS.values(), ids=EMAILS)
def test_emails(service: Service, email: str) -> None:
    """An e-mail that looks dangerous is sent to Ecwid unchanged, and comes back unchanged."""
    assert life_of(service, {"email": email})["email"] == email


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_texts_in_a_query(service: Service, text: str) -> None:
    """A search for a dangerous-looking text is sent unchanged, unless the text has a line end."""
    fits = not set("\r\n") & set(text)
    gets = GOOD if fits else broken("/query/keyword pattern")
    [response] = responses(service.send(get(f"/customers?keyword={quote(text, safe='')}")), [gets])
    check(response, gets)
    assert [parse_qs(call.query)["keyword"] for call in service.calls()] == [[text]] * fits


def test_nothing_leaks(service: Service) -> None:
    """After all requests no descriptor and no thread is left over, and the service is healthy."""
    descriptors, threads = service.before
    # Each of gunicorn's 32 threads keeps a connection to the state file, with two descriptors.
    assert within(20, lambda: service.takes()[0] <= descriptors + 2 * 32 + 1)
    assert within(20, lambda: service.takes()[1] <= threads)
    for path in ("/healthz", "/readyz"):
        sent = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        assert service.send(sent).startswith(b"HTTP/1.1 200 ")


def test_the_log(service: Service) -> None:
    """The log has only the kind of each bad request.

    This test runs last and ends gunicorn first.
    """
    service.stop()
    assert service.server.process.returncode == 0
    assert "canary" not in service.server.log.lower()
    for line in map(json.loads, service.server.log.splitlines()):
        assert line["levelname"] in ("INFO", "WARNING"), line
        if line["name"] == "flask_ecwid.request":
            assert LOGGED <= set(line) <= LOGGED | {"problem", "places", "event"}
            assert UUID4.fullmatch(line["request_id"])
        elif line["name"].startswith("flask_ecwid.audit"):
            assert set(line) == AUDITED
        elif line["message"].startswith("ECWID_AUTH is none"):
            continue
        elif line["levelname"] == "WARNING":
            assert WARNING.fullmatch(line["message"])
