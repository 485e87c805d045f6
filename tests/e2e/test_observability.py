"""The snippets of docs/observability.md work, and leak no data."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from flask_ecwid import signals

from ..conftest import ROOT, STORE, TOKEN, run_python

DOCUMENT = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
SLOW, METRICS, TRACES = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.M | re.S)
[SERVE] = re.findall(r"^```sh\n(.*?)^```$", DOCUMENT, re.M | re.S)
CANARY = "canary@example.com"
URL = "/api/json/v1/ecwid"
SEMANTICS = pytest.mark.parametrize("semantics", ["", "http"], ids=["old", "new"])

SHOW = """
import json
print(json.dumps([json.loads(span.to_json()) for span in exporter.get_finished_spans()]))
"""
Span = dict[str, Any]


def run(program: str, **settings: str) -> str:
    done = run_python(program, **settings)
    assert done.returncode == 0, done.stderr
    return done.stdout


def spans(program: str, semantics: str = "") -> list[Span]:
    found: list[Span] = json.loads(run(program + SHOW, OTEL_SEMCONV_STABILITY_OPT_IN=semantics))
    return found


def of_kind(kind: str, found: list[Span]) -> list[Span]:
    return [span for span in found if span["kind"] == f"SpanKind.{kind}"]


def at(ecwid: HTTPServer, program: str) -> str:
    """Run the example over HTTP with a real token."""
    sandbox = 'app.config["ECWID_SANDBOX"] = True\n'
    assert sandbox in program
    store = {
        **{"ECWID_STORE_ID": "1003", "ECWID_TOKEN": TOKEN, "ECWID_AUTH": "none"},
        "ECWID_API_URL": ecwid.url_for("/api/v3"),
    }
    return program.replace(sandbox, f"app.config.update({store!r})\n")


@SEMANTICS
def test_traces(semantics: str) -> None:
    """A request creates one server span, named by its route, and a client span below."""
    then = f"""
client = app.test_client()
client.get("{URL}/customer/172890169")
"""
    found = spans(TRACES + then, semantics)
    [server], [call] = of_kind("SERVER", found), of_kind("CLIENT", found)
    assert len(found) == 2
    assert server["name"] == f"GET {URL}/customer/<customer_id>"
    assert server["attributes"]["http.route"] == f"{URL}/customer/<customer_id>"
    assert call["name"] == "ecwid get_customer"
    assert call["parent_id"] == server["context"]["span_id"]
    assert call["context"]["trace_id"] == server["context"]["trace_id"]
    assert server["start_time"] <= call["start_time"] <= call["end_time"] <= server["end_time"]


@SEMANTICS
def test_traces_hold_nothing_of_a_customer(ecwid: HTTPServer, semantics: str) -> None:
    """No span has a query, an e-mail, an id or the token, whatever the outcome of the call."""
    ecwid.expect_request(f"{STORE}/customers/777123").respond_with_json({"id": 777123})
    ecwid.expect_request(f"{STORE}/customers").respond_with_data("no", status=500)
    then = f"""
client = app.test_client()
client.get("{URL}/customer/777123")
for _ in range(3):
    client.get("{URL}/customers?email={CANARY}")
client.get("{URL}/customers?limit=0&email={CANARY}")
client.post("{URL}/add_customer", json={{"email": "{CANARY}"}})
"""
    found = spans(at(ecwid, TRACES) + then, semantics)
    assert len(of_kind("SERVER", found)) == 6
    calls = of_kind("CLIENT", found)
    # After five failures the neutral question fails as well, and the breaker opens.
    assert len(calls) == len(ecwid.log) == 7
    assert [span["status"].get("description") for span in calls[1:]] == ["upstream-failed"] * 6
    events = [event["name"] for span in found for event in span["events"]]
    assert set(events) == {"throttled"}
    shown = json.dumps(found)
    for secret in ("canary", "777123", "secret_", "email", "limit=0"):
        assert secret not in shown
    assert not [request for request, _ in ecwid.log if "Traceparent" in request.headers]


BARE = """
client = app.test_client()
client.get("{url}/customers?email={email}")
"""


URLLIB3 = """
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
URLLib3Instrumentor().instrument()
"""


@pytest.mark.parametrize("more", ["", URLLIB3], ids=["requests", "requests and urllib3"])
def test_no_other_instrumentation_sees_the_calls(ecwid: HTTPServer, more: str) -> None:
    """The instrumentations of requests and urllib3 see only the host's own calls.

    So no span holds a query, and Ecwid gets no `traceparent`.
    """
    ecwid.expect_request(f"{STORE}/customers").respond_with_json({"items": [], "total": 0})
    ask = BARE.format(url=URL, email=CANARY)
    own = f'import requests\nrequests.get("{ecwid.url_for("/own")}")\n'
    found = spans(at(ecwid, TRACES) + more + ask + own)
    [call, *others] = of_kind("CLIENT", found)
    assert call["name"] == "ecwid list_customers"
    assert others
    assert all("/own" in json.dumps(span) for span in others)
    assert "canary" not in json.dumps(found)
    [request] = [request for request, _ in ecwid.log if request.path != "/own"]
    assert "Traceparent" not in request.headers


def test_metrics() -> None:
    """The snippet serves the metrics."""
    then = f"""
client = app.test_client()
client.get("{URL}/customers")
print(client.get("/metrics").get_data(as_text=True))
"""
    printed = run(METRICS + then)
    assert 'flask_ecwid_requests_total{operation="list_customers",status="200"' in printed
    documented = set(re.findall(r"^\| `(flask_ecwid_\w+)`", DOCUMENT, re.M))
    helped = set(re.findall(r"^# HELP (flask_ecwid_\w+)", printed, re.M))
    assert {name for name in helped if not name.endswith("_created")} == documented


def test_the_receiver() -> None:
    """The signal calls the receiver of the snippet."""
    then = """
from flask import Flask
from flask_ecwid import Ecwid
app = Flask("host")
app.config["ECWID_SANDBOX"] = True
Ecwid(app)
app.test_client().get("/api/json/v1/ecwid/customers")
"""
    assert run(SLOW.replace("> 5", "> 0") + then).startswith("list_customers took ")


def test_every_signal_is_documented() -> None:
    """The table has every signal."""
    endings = "started|finished|throttled|changed|uninstalled|requested"
    documented = set(re.findall(rf"`(\w+_(?:{endings}))`", DOCUMENT))
    assert documented == {name.replace("-", "_") for name in signals._ours}


def test_serve() -> None:
    """The snippet that serves the metrics equals the code in test_metrics.py, with another port."""
    install, serve = SERVE.splitlines()
    assert install == "pip install '.[server,metrics]'"
    assert serve == "ECWID_SANDBOX=on ECWID_METRICS=on gunicorn --workers 3 wsgi:app"
