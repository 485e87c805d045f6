"""Faults on demand, switches and the ledger of a sandbox, in process and on a port."""

from __future__ import annotations

import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from flask_ecwid.sandbox import (
    STORE_ID,
    TOKEN,
    Controls,
    Fault,
    InProcessAdapter,
    Switches,
    create_sandbox,
)
from flask_ecwid.sandbox.wire import RequestHandler
from flask_ecwid.testing import EcwidSandbox

from ..conftest import environment, free_port, wait_for
from .conftest import admitted

CUSTOMERS = f"/api/v3/{STORE_ID}/customers"
OURS = f"{CUSTOMERS}/172890169"
NEW = {"email": "new@example.com"}

Send = Callable[..., requests.Response]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create_sandbox(tmp_path / "store.sqlite3")
    return tmp_path / "store.sqlite3"


@pytest.fixture
def controls(path: Path) -> Controls:
    return Controls(path)


@pytest.fixture
def client(path: Path) -> FlaskClient:
    return admitted(create_sandbox(path))


@pytest.fixture(params=["in process", "served"])
def send(path: Path, request: pytest.FixtureRequest) -> Iterator[Send]:
    """Return a function that sends a call through `requests`, with or without a socket."""
    app = create_sandbox(path)
    if request.param == "in process":
        yield sender(InProcessAdapter(app), "https://sandbox.invalid")
        return
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=RequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with requests.Session() as session:
        yield sender(session.get_adapter("http://"), f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    thread.join()
    server.server_close()


def sender(adapter: Any, host: str) -> Send:
    def send(
        method: str = "GET", path: str = OURS, read_timeout_s: float = 20.0, **options: Any
    ) -> requests.Response:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        prepared = requests.Request(method, host + path, headers=headers, **options).prepare()
        response: requests.Response = adapter.send(
            prepared, stream=False, timeout=(20, read_timeout_s), proxies={}
        )
        response.content  # noqa: B018  # Read the body, because a fault may show only while it is read.
        return response

    return send


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("reset"), requests.ConnectionError),
        (Fault("close"), requests.ConnectionError),
        (Fault("stall", seconds=2), requests.Timeout),
        (Fault("truncate"), (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_below_http(
    send: Send, controls: Controls, fault: Fault, error: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """A fault below HTTP raises the exception of `requests`, and the server logs nothing.

    The next call without a fault gets a good reply.
    """
    controls.inject(fault)
    with pytest.raises(error) as caught:
        send(read_timeout_s=0.5 if fault.kind == "stall" else 20.0)
    assert ("RemoteDisconnected" in repr(caught.value)) == (fault.kind == "close")
    assert ("ConnectionResetError" in repr(caught.value)) == (fault.kind == "reset")
    controls.clear_faults()
    assert send().json()["id"] == 172890169
    assert "".join(capfd.readouterr()) == ""


def test_refused_in_process(path: Path, controls: Controls) -> None:
    """The fault `refuse` refuses a connection in process, and is a 500 from a server."""
    controls.inject(Fault("refuse"))
    with pytest.raises(requests.ConnectionError, match="NewConnectionError"):
        sender(InProcessAdapter(create_sandbox(path)), "https://sandbox.invalid")()
    assert admitted(create_sandbox(path)).get(OURS).status_code == 500


def test_drip(send: Send, controls: Controls) -> None:
    """A dripping reply has the body of a good reply, and arrives slowly."""
    controls.inject(Fault("drip", seconds=0.001))
    begun = time.monotonic()
    assert send("GET", f"{OURS}?responseFields=id").json() == {"id": 172890169}
    assert time.monotonic() - begun > 0.01


@pytest.mark.parametrize("after", [False, True])
def test_latency(send: Send, controls: Controls, after: bool) -> None:
    """A delayed reply has the body of a good reply, and arrives later."""
    controls.inject(Fault("latency", seconds=0.2, after=after))
    begun = time.monotonic()
    assert send().json()["id"] == 172890169
    assert time.monotonic() - begun > 0.2


def test_bomb(client: FlaskClient, controls: Controls) -> None:
    """A bomb is small on the wire and inflates to the size that the fault names."""
    controls.inject(Fault("bomb", size=10_000_000))
    response = client.get(OURS)
    assert response.headers["Content-Encoding"] == "gzip"
    assert len(response.data) < 100_000


@pytest.mark.parametrize("operation", ["GET list", "GET one", "POST", "PUT", "DELETE"])
def test_shape(client: FlaskClient, controls: Controls, operation: str) -> None:
    """The fault `shape` replies with JSON of a wrong shape, for each operation."""
    controls.inject(Fault("shape"))
    method, _, what = operation.partition(" ")
    path = OURS if what == "one" or method in ("PUT", "DELETE") else CUSTOMERS
    response = client.open(path, method=method, json=NEW if method in ("POST", "PUT") else None)
    assert response.status_code == 200
    assert "x" in (response.get_json() or {}).values()


def test_html_redirect_and_status(client: FlaskClient, controls: Controls) -> None:
    """Faults at the level of HTTP apply in the order of their injection."""
    controls.inject(
        Fault("html", times=1),
        Fault("redirect", status=307, location="https://other.example.com/x", times=1),
        Fault("status", status=429, code="RATE_LIMITED", retry_after="7", times=1),
        Fault("status", status=403, empty=True, times=1),
        Fault("status", status=503, retry_after="Wed, 21 Oct 2026 07:28:00 GMT", times=1),
    )
    page, redirect, limited, dead, later, good = (client.get(OURS) for _ in range(6))
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert redirect.status_code == 307
    assert redirect.headers["Location"] == "https://other.example.com/x"
    assert limited.get_json()["errorCode"] == "RATE_LIMITED"
    assert limited.headers["Retry-After"] == "7"
    assert (dead.status_code, dead.data) == (403, b"")
    assert later.headers["Retry-After"].endswith("GMT")
    assert good.status_code == 200


@pytest.mark.parametrize("seconds", [0, 30, "30"])
def test_seconds_of_retry_after(
    client: FlaskClient, controls: Controls, seconds: int | str
) -> None:
    """The seconds of a fault may be a number or a text, in Python and over HTTP."""
    fault = {"kind": "status", "status": 503, "retry_after": seconds, "times": 1}
    assert client.post("/admin/faults", json=fault).status_code == 200
    controls.inject(Fault("status", status=503, retry_after=seconds, times=1))
    assert [each.retry_after for each in controls.faults()] == [seconds] * 2
    replies = [client.get(OURS) for _ in range(2)]
    assert [reply.headers["Retry-After"] for reply in replies] == [str(seconds)] * 2


def test_which_calls(client: FlaskClient, controls: Controls) -> None:
    """A fault applies only to its operation, and to the nth call of that operation."""
    controls.inject(Fault("html", operation="get_customer", nth=2))
    assert [client.get(CUSTOMERS).mimetype for _ in range(3)] == ["application/json"] * 3
    seen = [client.get(OURS).mimetype for _ in range(3)]
    assert seen == ["application/json", "text/html", "application/json"]


def test_probability(client: FlaskClient, controls: Controls) -> None:
    """A fault with a probability strikes at random, and in the same way for the same seed."""

    def injected(seed: int) -> list[bool]:
        controls.clear_faults()
        controls.inject(Fault("html", probability=0.3, seed=seed))
        return [client.get(OURS).mimetype == "text/html" for _ in range(60)]

    one = injected(1)
    assert injected(1) == one != injected(2)
    assert 5 < sum(one) < 35


@pytest.mark.parametrize("after", [False, True])
def test_after(client: FlaskClient, controls: Controls, after: bool) -> None:
    """A call with a fault executes before the fault or not at all, and the ledger says which."""
    controls.inject(Fault("status", operation="add_customer", status=502, after=after))
    assert client.post(CUSTOMERS, json=NEW).status_code == 502
    assert (client.get(CUSTOMERS).get_json()["total"] == 5) is after
    entry = controls.ledger()[0]
    assert (entry.done, entry.customer_id is not None) == (after, after)
    assert (entry.fault, entry.status, entry.email) == ("status", 502, "new@example.com")


def test_ledger(client: FlaskClient, controls: Controls) -> None:
    """The ledger lists every call in order, with its outcome and without the token."""
    client.get(CUSTOMERS)
    created = client.post(CUSTOMERS, json=NEW).get_json()["id"]
    client.post(CUSTOMERS, json=NEW)
    client.put(OURS, json={"lang": "de"})
    client.delete(f"{CUSTOMERS}/1")
    client.get(OURS, headers={"Authorization": "Bearer nobody"})
    client.post(CUSTOMERS, data=b"{")
    seen = [
        (e.operation, e.customer_id, e.status, e.done, e.email, e.token_known)
        for e in controls.ledger()
    ]
    assert seen == [
        ("list_customers", None, 200, True, None, True),
        ("add_customer", created, 200, True, "new@example.com", True),
        ("add_customer", None, 409, False, "new@example.com", True),
        ("update_customer", 172890169, 200, True, None, True),
        ("delete_customer", 1, 404, False, None, True),
        ("get_customer", 172890169, 403, False, None, False),
        ("add_customer", None, 400, False, None, True),
    ]
    controls.clear_ledger()
    assert controls.ledger() == []


def test_ledger_under_load(path: Path, controls: Controls) -> None:
    """The ledger has each of many concurrent calls exactly once."""
    app = create_sandbox(path)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: admitted(app).get(OURS), range(80)))
    assert len(controls.ledger()) == 80
    assert len({entry.number for entry in controls.ledger()}) == 80


def test_search_lag(
    client: FlaskClient, controls: Controls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new customer can be read by its id at once, and appears in searches after the lag."""
    controls.switch(search_lag_s=60)
    created = client.post(CUSTOMERS, json=NEW).get_json()["id"]
    assert client.get(f"{CUSTOMERS}/{created}").status_code == 200
    assert client.get(CUSTOMERS).get_json()["total"] == 4
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 60)
    assert client.get(CUSTOMERS).get_json()["total"] == 5


def test_duplicate_emails(client: FlaskClient, controls: Controls) -> None:
    """A switch allows duplicate e-mails.

    Without the switch, creations and updates refuse a duplicate.
    """
    assert client.post(CUSTOMERS, json=NEW).status_code == 200
    assert client.post(CUSTOMERS, json=NEW).status_code == 409
    assert client.put(OURS, json=NEW).status_code == 409
    controls.switch(duplicate_emails=True)
    assert client.post(CUSTOMERS, json=NEW).status_code == 200
    assert client.put(OURS, json=NEW).status_code == 200


def ago(path: Path, seconds: float) -> None:
    """Move all recorded calls into the past by this many seconds."""
    with sqlite3.connect(path) as db:
        db.execute("UPDATE calls SET at = at - ?", [seconds])
    db.close()


def test_calls_per_minute(client: FlaskClient, path: Path, controls: Controls) -> None:
    """The store refuses calls beyond its limit per minute until the window has moved on."""
    controls.switch(calls_per_minute=5)
    assert [client.get(OURS).status_code for _ in range(6)] == [200] * 5 + [429]
    refused = client.get(OURS)
    assert refused.get_json()["errorCode"] == "RATE_LIMITED"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    ago(path, 61)
    assert client.get(OURS).status_code == 200


def test_a_token_that_goes_on_is_blocked(
    client: FlaskClient, path: Path, controls: Controls
) -> None:
    """A token that keeps calling beyond the limit is blocked for much longer."""
    controls.switch(calls_per_minute=1)
    client.get(OURS)
    waits = [int(client.get(OURS).headers["Retry-After"]) for _ in range(21)]
    assert all(wait <= 60 for wait in waits[:20])
    assert waits[20] > 60
    ago(path, 61)
    assert client.get(OURS).status_code == 429
    ago(path, 600)
    assert client.get(OURS).status_code == 200


def test_a_false_token_is_blocked(client: FlaskClient, controls: Controls) -> None:
    """A false token is a 403 at first, and a 429 after many calls."""
    controls.switch(calls_per_minute=600)
    headers = {"Authorization": "Bearer nobody"}
    statuses = [client.get(OURS, headers=headers).status_code for _ in range(21)]
    assert statuses == [403] * 20 + [429]
    assert client.get(OURS).status_code == 200


def test_no_token_is_kept(client: FlaskClient, path: Path, controls: Controls) -> None:
    """No file of the store contains a token."""
    controls.switch(calls_per_minute=600)
    client.get(OURS)
    client.get(OURS, headers={"Authorization": "Bearer secret_nobodys"})
    kept = b"".join(each.read_bytes() for each in path.parent.iterdir())
    assert TOKEN.encode() not in kept
    assert b"secret_nobodys" not in kept


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "boom"},
        {"kind": "html", "operation": "everything"},
        {"kind": "html", "nth": 0},
        {"kind": "html", "times": True},
        {"kind": "html", "probability": 1.1},
        {"kind": "html", "seed": "x"},
        {"kind": "html", "after": 1},
        {"kind": "stall", "seconds": -1},
        {"kind": "status", "status": 99},
        {"kind": "shape", "status": 500},
        {"kind": "redirect", "status": 304},
        {"kind": "status", "code": 5},
        {"kind": "status", "empty": 1},
        {"kind": "status", "retry_after": "1\r\n2"},
        {"kind": "status", "retry_after": -1},
        {"kind": "status", "retry_after": True},
        {"kind": "redirect", "location": "a\nb"},
        {"kind": "bomb", "size": 0},
        {"kind": "html", "unknown": 1},
        {"operation": None},
        [],
        None,
    ],
)
def test_an_invalid_fault(client: FlaskClient, wrong: Any) -> None:
    """An invalid fault is refused, in Python and over HTTP."""
    with pytest.raises(ValueError, match=r"."):
        Fault.from_json(wrong)
    given = [wrong] if isinstance(wrong, list) else wrong
    assert client.post("/admin/faults", json=given).status_code == 400
    assert client.get("/admin/faults").get_json() == []


def test_an_invalid_fault_names_its_field() -> None:
    """The error of an invalid fault names the field, its valid values and the value given."""
    with pytest.raises(ValueError, match=r"^Fault kind must be one of refuse, .*; got 'timeout'$"):
        Fault("timeout")
    with pytest.raises(ValueError, match=r"^Fault status must be 0 or from 200 to 599; got 99$"):
        Fault("status", status=99)


# An invalid value of each field of a fault, with the words for the valid values.
INVALID_FIELDS: dict[str, tuple[Any, str]] = {
    "kind": ("timeout", "one of refuse, reset, close, stall, drip, truncate, bomb, "),
    "operation": ("add", "None or one of list_customers, get_customer, add_customer, "),
    "nth": (0, "None or a whole number from 1"),
    "times": ("2", "None or a whole number from 1"),
    "probability": (1.5, "a number from 0 to 1"),
    "seed": ("x", "a whole number"),
    "after": ("yes", "True or False"),
    "seconds": ("1", "a number from 0 to 3600"),
    "status": ("503", "0 or from 200 to 599"),
    "code": (7, "None or a string"),
    "empty": (1, "True or False"),
    "retry_after": (1.5, "None, a whole number from 0 or a string of printable ASCII"),
    "location": (None, "a string of printable ASCII"),
    "size": (-1, "a whole number from 1 to 1073741824"),
}


@pytest.mark.parametrize("name", Fault.__dataclass_fields__)
def test_every_field_of_a_fault_names_its_choices(name: str) -> None:
    """The error of a field names the field, its valid values and the value given."""
    value, choices = INVALID_FIELDS[name]
    said = f"^Fault {name} must be {re.escape(choices)}.*; got {re.escape(repr(value))}$"
    given = {"kind": "status", name: value}
    with pytest.raises(ValueError, match=said):
        Fault(**given)
    with pytest.raises(ValueError, match=said):
        Fault.from_json(given)


def test_a_wrong_argument_names_its_choices(controls: Controls, tmp_path: Path) -> None:
    """The error of a wrong argument of a helper names the choices and the value given."""
    store = EcwidSandbox(tmp_path / "other.sqlite3")
    members = ", ".join(Fault.__dataclass_fields__)
    switches = "search_lag_s, duplicate_emails, calls_per_minute, send_events"
    scopes = {"token": ["read_customers", "read"]}
    wrong_fault = r"a Fault, such as Fault\('reset'\); got 'reset'"
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: Fault.from_json({"kind": "reset", "nht": 1}), f"some of {members}; got 'nht'"),
        (lambda: Fault.from_json({"nth": 1}), "kind must be one of refuse, .*; got none"),
        (lambda: Fault.from_json("reset"), "must be a JSON object; got 'reset'"),
        (lambda: EcwidSandbox("/nowhere/s"), "a folder that exists, .*; got '/nowhere/s'"),
        (lambda: EcwidSandbox(__file__), f"the file of a store; got {re.escape(repr(__file__))}"),
        (lambda: store.switch(search_lag=1), f"one of {switches}; got 'search_lag'"),
        (lambda: store.switch(search_lag_s="1"), "a number from 0 to 3600; got '1'"),
        (lambda: store.seed(-1), "a whole number from 0; got -1"),
        (lambda: store.seed("4"), "a whole number from 0; got '4'"),  # type: ignore[arg-type]
        (lambda: create_sandbox(tmp_path / "new", customers=-1), "whole number from 0; got -1"),
        (
            lambda: create_sandbox(tmp_path / "new", tokens=scopes),
            "some of create_customers, read_customers, read_store_profile, update_customers; "
            "got 'read'",
        ),
        (
            lambda: store.add_customer({"email": "a@example.com", "mail": 1}),
            "no member mail; the members are id, name, email, ",
        ),
        (lambda: controls.inject("reset"), wrong_fault),  # type: ignore[arg-type]
        (lambda: store.inject("reset"), wrong_fault),  # type: ignore[arg-type]
    ]
    for call, said in cases:
        with pytest.raises(ValueError, match=said):
            call()
    assert not (tmp_path / "new").exists()
    assert controls.faults() == []
    assert store.customers() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"search_lag_s": -1},
        {"search_lag_s": True},
        {"duplicate_emails": 1},
        {"calls_per_minute": 1.5},
        {"unknown": 1},
        [],
        None,
    ],
)
def test_an_invalid_switch(client: FlaskClient, controls: Controls, wrong: Any) -> None:
    """An invalid switch is refused and changes nothing."""
    assert client.patch("/admin/switches", json=wrong).status_code == 400
    assert controls.switches() == Switches()


def test_over_http(client: FlaskClient, controls: Controls) -> None:
    """Faults, switches and the ledger work over HTTP too."""
    rules = [{"kind": "html", "nth": 1}, {"kind": "reset", "nth": 9}]
    assert len(client.post("/admin/faults", json=rules).get_json()) == 2
    assert client.get(OURS).mimetype == "text/html"
    switches = client.patch("/admin/switches", json={"duplicate_emails": True}).get_json()
    assert switches == controls.switches()._asdict()
    assert controls.switches().duplicate_emails is True
    [entry] = client.get("/admin/ledger").get_json()
    assert (entry["operation"], entry["fault"]) == ("get_customer", "html")
    assert client.delete("/admin/ledger").get_json() == []
    assert client.delete("/admin/faults").get_json() == []
    assert controls.faults() == []


@pytest.mark.parametrize("peer", ["203.0.113.5", "::ffff:203.0.113.5", "", "unix:"])
def test_only_this_host_may_use_admin(client: FlaskClient, peer: str) -> None:
    """Only a client on this host can use the controls over HTTP."""
    for path in ("faults", "switches", "ledger"):
        response = client.get(f"/admin/{path}", environ_overrides={"REMOTE_ADDR": peer})
        assert response.status_code == 403


def test_switches_of_a_new_store(tmp_path: Path) -> None:
    """A store can be created with switches."""
    app = create_sandbox(tmp_path / "a.sqlite3", duplicate_emails=True, search_lag_s=2)
    controls = Controls(tmp_path / "a.sqlite3")
    assert controls.switches() == Switches(2.0, True, 0)
    assert app.extensions["sandbox"].controls.switches() == controls.switches()


def test_workers_share_controls(path: Path, controls: Controls) -> None:
    """Every worker of gunicorn injects a fault that was set from outside, and logs no error."""
    port = free_port()
    program = [sys.executable, "-m", "gunicorn", "-c", "/dev/null", "-w", "2", "-k", "gthread"]
    app = f"flask_ecwid.sandbox:create_sandbox({str(path)!r})"
    process = subprocess.Popen(
        [*program, "--log-level", "error", "--bind", f"127.0.0.1:{port}", app],
        env=environment(),
        stderr=subprocess.PIPE,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/", process)
        controls.inject(*(Fault(kind, nth=n) for n, kind in enumerate(("reset", "close"), start=1)))
        adapter = requests.Session().get_adapter("http://")
        send = sender(adapter, f"http://127.0.0.1:{port}")
        for name in ("ConnectionResetError", "RemoteDisconnected"):
            with pytest.raises(requests.ConnectionError, match=name):
                send()
        assert [send().status_code for _ in range(6)] == [200] * 6
        assert len(controls.ledger()) == 8
        with socket.create_connection(("127.0.0.1", port)) as connection:
            assert connection
    finally:
        process.terminate()
        _, logged = process.communicate(timeout=30)
    assert b"Traceback" not in logged
