"""`flask ecwid webhook send`, and the events of `flask ecwid sandbox`."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
import requests
from click.testing import CliRunner
from flask.cli import FlaskGroup
from pytest_httpserver import HTTPServer

from flask_ecwid import Ecwid
from flask_ecwid.sandbox import CLIENT_SECRET, EVENT_TYPES

from ..conftest import ROOT, environment, free_port
from ..helpers.command import begin_sandbox, printed_settings
from ..helpers.raw_server import RawServer, sends
from ..helpers.webhook_receiver import Receiver

SECRET = "canaryClientSecret0123456789abcd"
UPDATED = ("--type", "customer.updated", "--customer-id", "5")


def run(*args: str, **config: Any) -> tuple[int, str, str]:
    """Run the command in an app with these settings, and return the status and both outputs.

    No output has the secret of the app, or a text of the response.
    """

    def create_app() -> flask.Flask:
        app = flask.Flask("host")
        app.config.update({"ECWID_SANDBOX": "on", "ECWID_CLIENT_SECRET": SECRET, **config})
        Ecwid(app)
        return app

    group = FlaskGroup(create_app=create_app, load_dotenv=False)
    done = CliRunner().invoke(group, ["ecwid", "webhook", "send", *args])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert "canary" not in done.output
    return done.exit_code, done.stdout, " ".join(done.stderr.split())


@pytest.fixture
def app(httpserver: HTTPServer) -> Receiver:
    """Return the app that gets the event."""
    return Receiver(httpserver, SECRET)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 209])
def test_a_delivered_event(app: Receiver, status: int) -> None:
    """The command sends one signed event, and exits with 0 if Ecwid counts it as delivered."""
    app.statuses = [status]
    before = int(time.time())
    done = run(*UPDATED, "--url", app.url)
    assert done == (0, f"{status}: Ecwid counts the event as delivered.\n", "")
    [event] = app.bodies
    assert before <= event.pop("eventCreated") <= time.time()
    assert len(event.pop("eventId")) == 36
    assert event == {
        "storeId": 1003,
        "entityId": 5,
        "eventType": "customer.updated",
        "data": {"customerEmail": "user@example.com"},
    }


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (203, "Ecwid counts the event as failed and sends it again"),
        (208, "Ecwid counts the event as failed and sends it again"),
        *((each, "follows no redirect") for each in (301, 302, 303, 304, 307, 308)),
        (400, "takes the event for invalid"),
        (401, "refuses the signature"),
        (404, "no receiver at this URL"),
        (405, "no POST"),
        (413, "Ecwid counts the event as failed"),
        (500, "Ecwid counts the event as failed"),
        (503, "Ecwid counts the event as failed"),
    ],
)
def test_an_event_that_is_not_delivered(app: Receiver, status: int, said: str) -> None:
    """For every other status, the command says the meaning and exits with 1.

    The command follows no redirect, and prints nothing of the response.
    """
    app.statuses = [status]
    code, out, err = run(*UPDATED, "--url", app.url)
    assert (code, err) == (1, "")
    assert out.startswith(f"{status}: ")
    assert said in out
    assert out.count("\n") == 1
    assert len(app.bodies) == 1


def test_no_response() -> None:
    """An app that cannot be reached or does not respond has no status, and the exit status is 1."""
    code, out, err = run(*UPDATED, "--url", f"http://127.0.0.1:{free_port()}/hook")
    assert (code, err) == (1, "")
    assert out.startswith("no status: no connection to the app was possible within 3 seconds, so ")
    with RawServer(sends(b"canary\r\n\r\n")) as server:
        code, out, err = run(*UPDATED, "--url", f"http://127.0.0.1:{server.port}/hook")
    assert (code, err) == (1, "")
    assert out.startswith("no status: the app did not respond with HTTP, so Ecwid counts ")


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_every_type(app: Receiver, event_type: str) -> None:
    """The command sends each known type, in both spellings, for any store."""
    customer = ["--customer-id", "5"] if event_type.startswith("customer.") else []
    args = ["--type", event_type, *customer, "--store-id", "1004", "--url", f"{app.url}?a=1"]
    assert run(*args)[0] == 0
    [event] = app.bodies
    assert (event["eventType"], event["storeId"]) == (event_type, 1004)
    assert event["entityId"] == (5 if customer else "1004")


@pytest.mark.parametrize(
    ("args", "config", "said"),
    [
        (["--type", "customer.updated"], {}, "need --customer-id"),
        (["--type", "application.uninstalled", "--customer-id", "5"], {}, "need --customer-id"),
        (["--type", "order.created"], {}, "is not one of"),
        ([*UPDATED, "--store-id", "canary"], {}, "is not 1 to 20 decimal digits"),
        ([*UPDATED, "--store", "other"], {}, "no Ecwid store named"),
        (list(UPDATED), {"ECWID_CLIENT_SECRET": ""}, "ECWID_CLIENT_SECRET is missing"),
        (list(UPDATED), {"ECWID_CLIENT_SECRET": "canary canary"}, "ECWID_CLIENT_SECRET is not"),
        ([*UPDATED, "--secret", "x"], {}, "No such option"),
    ],
)
def test_a_wrong_argument(
    app: Receiver, args: list[str], config: dict[str, str], said: str
) -> None:
    """A wrong argument or setting has the exit status 2, and nothing is sent."""
    code, out, err = run(*args, "--url", app.url, **config)
    assert (code, out) == (2, "")
    assert said in err
    assert app.bodies == []


@pytest.mark.parametrize("url", ["", "canary", "ftp://h/canary", "http:///canary", "http://h:x/"])
def test_a_wrong_url(url: str) -> None:
    """A value of --url that is no URL of a web server is refused and not repeated."""
    code, out, err = run(*UPDATED, "--url", url)
    assert (code, out) == (2, "")
    assert "the value of --url is not an http or https URL with a host" in err


def test_many_stores(app: Receiver, tmp_path: Path) -> None:
    """With many stores, the command needs --store-id, and takes the secret of the app."""
    path = tmp_path / "stores.json"
    path.write_text('{"stores": []}')
    path.chmod(0o600)
    config = {"ECWID_SANDBOX": "", "ECWID_STORES": str(path)}
    code, _, err = run(*UPDATED, "--url", app.url, **config)
    assert code == 2
    assert "--store-id" in err
    assert run(*UPDATED, "--url", app.url, "--store-id", "77", **config)[0] == 0
    assert app.bodies[0]["storeId"] == 77


@pytest.mark.parametrize(("status", "code"), [(209, 0), (302, 1)])
def test_as_a_process(app: Receiver, status: int, code: int) -> None:
    """The command works as a process, and takes the secret from the environment of the app."""
    app.statuses = [status]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "flask", "--app", str(ROOT / "wsgi.py"), "ecwid"),
            *("webhook", "send", *UPDATED, "--url", app.url),
        ],
        env=environment(ECWID_SANDBOX="on", ECWID_CLIENT_SECRET=SECRET),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout[:4], done.stderr) == (code, f"{status}:", "")
    assert len(app.bodies) == 1


# The events of `flask ecwid sandbox`


@pytest.fixture
def sandbox(tmp_path: Path, httpserver: HTTPServer) -> Iterator[tuple[Any, Receiver]]:
    """Run a sandbox that sends its events to an app."""
    receiver = Receiver(httpserver, CLIENT_SECRET)
    process = begin_sandbox(tmp_path, "--webhook-url", receiver.url)
    try:
        yield process, receiver
    finally:
        process.kill()
        process.communicate(timeout=60)


def test_the_sandbox_sends_events(sandbox: tuple[Any, Receiver]) -> None:
    """`flask ecwid sandbox --webhook-url` sends signed events, and prints what the app needs."""
    process, receiver = sandbox
    settings = printed_settings(process)
    more = dict(process.stdout.readline().strip().split("=", 1) for _ in range(4))
    assert more["ECWID_WEBHOOKS"] == "on"
    assert more["ECWID_CLIENT_SECRET"] == CLIENT_SECRET
    url = f"{settings['ECWID_API_URL']}/{settings['ECWID_STORE_ID']}/customers"
    headers = {"Authorization": f"Bearer {settings['ECWID_TOKEN']}"}
    created = requests.post(url, json={"email": "n@example.com"}, headers=headers, timeout=30)
    assert receiver.wait_for(1) == [("customer.created", created.json()["id"])]
    admin = settings["ECWID_API_URL"].replace("/api/v3", "/admin")
    order = {"eventType": "customer.personal_data_export_request", "entityId": 5}
    assert requests.post(f"{admin}/events", json=order, timeout=30).status_code == 200
    assert receiver.wait_for(1) == [(order["eventType"], 5)]
    ids = [body["eventId"] for body in receiver.bodies]
    sent = requests.post(f"{admin}/deliveries", json=[ids[1], ids[0], ids[1]], timeout=30).json()
    assert [each["status"] for each in sent] == [200] * 3
    assert [body["eventId"] for body in receiver.bodies] == [*ids, ids[1], ids[0], ids[1]]
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"events: {admin}/events" in err


def test_a_sandbox_without_a_url(tmp_path: Path) -> None:
    """Without --webhook-url, the sandbox sends no events, and does not print ECWID_WEBHOOKS.

    A URL that is no URL of a web server is refused.
    """
    process = begin_sandbox(tmp_path)
    settings = printed_settings(process)
    admin = settings["ECWID_API_URL"].replace("/api/v3", "/admin")
    assert requests.post(f"{admin}/deliveries", json=[], timeout=30).status_code == 409
    assert requests.get(f"{admin}/switches", timeout=30).json()["send_events"] is False
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, "ECWID_WEBHOOKS" in out) == (0, False)
    refused = begin_sandbox(tmp_path, "--webhook-url", "canary")
    _, err = refused.communicate(timeout=60)
    assert (refused.returncode, "canary" in err) == (2, False)
