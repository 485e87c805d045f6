"""The sandbox through `requests`, in process and on a port."""

from __future__ import annotations

import http.client
import io
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import requests
from flask import Flask, Response, request
from werkzeug.serving import make_server

from flask_ecwid.sandbox import TOKEN, InProcessAdapter

HOST = "https://sandbox.invalid"
CUSTOMERS = "/api/v3/1003/customers"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


def send(app: Flask, method: str, path: str, **options: Any) -> requests.Response:
    options.setdefault("headers", HEADERS)
    prepared = requests.Request(method, HOST + path, **options).prepare()
    return InProcessAdapter(app).send(prepared, stream=True, timeout=(1, 1), proxies={})


@pytest.fixture
def echo() -> Flask:
    """Return an app that replies with the request it got."""
    app = Flask("echo")

    @app.route("/<path:path>", methods=["GET", "POST"])
    def what(path: str) -> dict[str, Any]:
        return {
            "url": request.url,
            "path": request.path,
            "query": request.query_string.decode(),
            "body": request.get_data().decode(),
            "length": request.content_length,
            "header": request.headers.get("X-One"),
        }

    @app.get("/odd")
    def odd() -> Response:
        chunks = (b"chunk " for _ in range(3))
        return Response(chunks, 418, {"X-Odd": "Yes", "Content-Type": "text/plain"})

    return app


@pytest.mark.parametrize(
    "read",
    [
        lambda response: response.content,
        lambda response: response.raw.read(),
        lambda response: b"".join(response.raw.stream(7, decode_content=True)),
        lambda response: b"".join(response.iter_content(7)),
        lambda response: response.text.encode(),
    ],
)
def test_body(sandbox: Flask, read: Callable[[requests.Response], bytes]) -> None:
    """The body of a reply can be read in every way that a body from a socket can."""
    response = send(sandbox, "GET", CUSTOMERS, params={"responseFields": "total,items(id)"})
    assert response.status_code == 200
    assert read(response).startswith(b'{"total":4,"items":[{"id":')
    response.close()


def test_status_and_headers(echo: Flask) -> None:
    """Status, reason and headers are the app's, and names of headers ignore case."""
    response = send(echo, "GET", "/odd?x=1")
    assert (response.status_code, response.reason) == (418, "I'M A TEAPOT")
    assert (response.raw.status, response.raw.headers["x-odd"]) == (418, "Yes")
    assert response.headers["x-ODD"] == "Yes"
    assert response.encoding == "ISO-8859-1"
    assert response.url == f"{HOST}/odd?x=1"
    assert response.request.method == "GET"
    assert response.content == b"chunk chunk chunk "


@pytest.mark.parametrize(
    ("path", "seen", "query"),
    [
        ("/a%20b", "/a b", ""),
        ("/ä", "/ä", ""),
        ("/a%2Bb+c", "/a+b+c", ""),
        ("/a%2525", "/a%25", ""),
        ("/a;b=1", "/a;b=1", ""),
        ("/a?x=%2B+1&y=ü#z", "/a", "x=%2B+1&y=%C3%BC"),
    ],
)
def test_url(echo: Flask, path: str, seen: str, query: str) -> None:
    """The path arrives decoded once and the query arrives unchanged, as over a socket."""
    got = send(echo, "GET", path).json()
    assert (got["path"], got["query"]) == (seen, query)
    assert got["url"].startswith(HOST)


def chunks() -> Iterable[bytes]:
    yield b'{"a"'
    yield b": 1}"


@pytest.mark.parametrize(
    "make_body",
    [lambda: b'{"a": 1}', lambda: '{"a": 1}', lambda: io.BytesIO(b'{"a": 1}'), chunks],
)
def test_request_body(echo: Flask, make_body: Callable[[], Any]) -> None:
    """The body of a request may be bytes, text, a file or an iterable."""
    got = send(echo, "POST", "/x", data=make_body(), headers={"X-One": "1"}).json()
    assert (got["body"], got["length"], got["header"]) == ('{"a": 1}', 8, "1")


def test_no_request_body(echo: Flask) -> None:
    """A missing body arrives as an empty body."""
    assert send(echo, "GET", "/x").json()["body"] == ""


def test_inside_a_request(sandbox: Flask, echo: Flask) -> None:
    """A host app may call the sandbox while it handles a request of its own."""

    @echo.get("/nested")
    def nested() -> dict[str, Any]:
        inner = send(sandbox, "GET", f"{CUSTOMERS}/172867214")
        return {"inner": inner.json()["id"], "path": request.path}

    assert send(echo, "GET", "/nested").json() == {"inner": 172867214, "path": "/nested"}


def test_a_session(sandbox: Flask) -> None:
    """The adapter works in a session, with all five operations."""
    with requests.Session() as session:
        session.mount(HOST, InProcessAdapter(sandbox))
        session.headers.update(HEADERS)
        all_customers = HOST + CUSTOMERS
        new = session.post(all_customers, json={"email": "new@example.com"}).json()["id"]
        one = f"{all_customers}/{new}"
        assert session.get(all_customers).json()["total"] == 5
        assert session.put(one, json={"lang": "en"}).json() == {"updateCount": 1}
        assert session.get(one).json()["lang"] == "en"
        assert session.head(one).content == b""
        assert session.delete(one).json() == {"deleteCount": 1}
        assert session.get(one).status_code == 404


@pytest.fixture
def port(sandbox: Flask) -> Iterator[int]:
    server = make_server("127.0.0.1", 0, sandbox, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_on_a_port(sandbox: Flask, port: int) -> None:
    """A sandbox on a port replies as a sandbox in process."""
    url = f"http://127.0.0.1:{port}{CUSTOMERS}"
    with requests.Session() as session:
        session.trust_env = False
        over_http = session.get(url, headers=HEADERS)
    in_process = send(sandbox, "GET", CUSTOMERS)
    assert over_http.content == in_process.content
    assert over_http.status_code == in_process.status_code == 200
    assert over_http.headers["Content-Type"] == in_process.headers["Content-Type"]


def test_without_a_content_type_on_a_port(port: int) -> None:
    """A body without a Content-Type counts as JSON, and a 403 has an empty body."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", CUSTOMERS, body=b'{"email": "new@example.com"}', headers=HEADERS)
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b'{"id":188278629}')
    connection.request("GET", CUSTOMERS)
    response = connection.getresponse()
    assert (response.status, response.getheader("Content-Length")) == (403, "0")
    assert response.read() == b""
    connection.close()
