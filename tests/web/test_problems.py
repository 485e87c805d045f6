"""Tests that every failure below the mount becomes a problem."""

from __future__ import annotations

import logging
from typing import Any

import flask
import pytest
import requests
from pytest_httpserver import HTTPServer
from werkzeug.exceptions import HTTPException, NotFound

from flask_ecwid import contract
from flask_ecwid.errors import EcwidError
from flask_ecwid.web import handlers

from ..conftest import REQUEST_ID, STORE, Api, Config, app_of

CANARY = "canary@example.com"


def check_problem(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    body: dict[str, Any] = response.json
    # Any operation will do, because all operations share the schema of a problem.
    contract.load().operations["add_customer"].validate_response(502, body)
    assert body["status"] == status
    assert body["type"].startswith("urn:flask-ecwid:problem:")
    assert body["instance"] == f"urn:uuid:{body['request_id']}"
    assert response.headers["X-Request-ID"] == body["request_id"]
    return body


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/nope",
        "/customers/",
        "/customers/7",
        "/customer",
        "/customer/",
        "/customer/7/x",
        "/customer/7%2Fx",
        "/customer/..%2f7/x",
        "/openapi.jsn",
        f"/{CANARY}",
        "/%00",
        "/%ff",
        "/%0d%0aX:y",
        "/a%0ab/c",
        "//customers",
        "//",
        "/customer//7",
        "/customers//",
        "/{}",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "BREW"])
def test_not_found(api: Api, method: str, path: str) -> None:
    """A path that the mount does not have is a 404 problem with every method."""
    response = api.open(method, path)
    body = check_problem(response, 404)
    assert body["origin"] == "request"
    assert "executed" not in body
    assert CANARY not in response.text


@pytest.mark.parametrize("variable", ["RAW_URI", "REQUEST_URI"])
@pytest.mark.parametrize(
    "target",
    [
        "//api/json/v1/ecwid/customers",
        "///api/json/v1/ecwid/customers",
        "http://x//api/json/v1/ecwid/customers",
        "/api%2fjson/v1/ecwid/customers",
        "/api/json/v1/ecwid%2Fcustomers?a=b",
    ],
)
def test_a_slash_that_the_server_dropped(
    ecwid: HTTPServer, api: Api, target: str, variable: str
) -> None:
    """A target with a hidden slash is a 404, even if the server gives a plain path."""
    check_problem(api.get("/customers", environ_overrides={"RAW_URI": "", variable: target}), 404)
    assert ecwid.log == []


@pytest.mark.parametrize(
    "target",
    ["/api/json/v1/ecwid/customers?limit=a%2Fb//", "http://x/api/json/v1/ecwid/customers?a=//"],
)
def test_a_slash_in_the_query(api: Api, target: str) -> None:
    """A slash in the query hides no path."""
    response = api.get("/customers?limit=0", environ_overrides={"RAW_URI": target})
    assert response.status_code == 400


def test_a_file_that_the_ui_does_not_have(api: Api) -> None:
    """A file that Swagger UI does not have is a 404 problem."""
    check_problem(api.get("/ui/nope.js"), 404)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/customers", "GET, HEAD, OPTIONS"),
        ("/customer/7", "GET, HEAD, OPTIONS"),
        ("/customer/abc", "GET, HEAD, OPTIONS"),
        ("/add_customer", "OPTIONS, POST"),
        ("/update_customer/7", "OPTIONS, POST"),
        ("/delete_customer/7", "OPTIONS, POST"),
        ("/openapi.json", "GET, HEAD, OPTIONS"),
        ("/openapi-3.1.json", "GET, HEAD, OPTIONS"),
        ("/ui/", "GET, HEAD, OPTIONS"),
    ],
)
def test_not_allowed(ecwid: HTTPServer, api: Api, path: str, allowed: str) -> None:
    """A method that a path does not have is a 405 problem with Allow.

    OPTIONS is a 204 with Allow.
    """
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "BREW"} - set(allowed.split(", ")):
        response = api.open(method, path)
        check_problem(response, 405)
        assert response.headers["Allow"] == allowed
    response = api.open("OPTIONS", path)
    assert (response.status_code, response.data) == (204, b"")
    assert "Content-Type" not in response.headers
    assert response.headers["Allow"] == allowed
    assert ecwid.log == []


def test_method_override_is_ignored(ecwid: HTTPServer, api: Api) -> None:
    """No header changes a request's method."""
    headers = {"X-HTTP-Method-Override": "POST"}
    check_problem(api.open("GET", "/delete_customer/7", headers=headers), 405)
    assert ecwid.log == []


def test_unexpected_exception(
    ecwid: HTTPServer,
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An unexpected exception is a 500 problem, and the log holds its place and not its text."""

    def boom(reply: dict[str, Any]) -> None:
        raise KeyError(CANARY)

    monkeypatch.setattr("flask_ecwid.web.envelope.customer", boom)
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json({"id": 7, "email": CANARY})
    response = api.get("/customer/7", headers={"X-Request-ID": REQUEST_ID})
    body = check_problem(response, 500)
    assert body["origin"] == "service"
    [line] = [record.getMessage() for record in caplog.records if record.name == "flask_ecwid"]
    assert "unexpected exception KeyError" in line
    assert REQUEST_ID in line
    assert "test_problems.py" in line
    assert CANARY not in response.text + caplog.text


@pytest.mark.parametrize("setting", ["TESTING", "DEBUG", "PROPAGATE_EXCEPTIONS"])
def test_unexpected_exception_while_developing(
    ecwid: HTTPServer, app: flask.Flask, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """Flask's settings for developers do not change what a caller gets."""
    app.config[setting] = True
    monkeypatch.setattr("flask_ecwid.web.envelope.customer", lambda *_: 1 / 0)
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json({"id": 7})
    check_problem(Api(app.test_client()).get("/customer/7"), 500)


class Teapot(EcwidError):
    slug = "teapot"
    title = "A teapot"
    status = 418
    origin = "ecwid"
    detail = "No coffee."


def test_undeclared_status(
    config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A status that the contract does not declare for the operation becomes a 500."""

    def brew(**_: object) -> None:
        raise Teapot

    monkeypatch.setattr(handlers, "get_customer", brew)
    response = Api(app_of(config).test_client()).get("/customer/7")
    check_problem(response, 500)
    assert "not in the contract: status=418" in caplog.text


def test_undeclared_response() -> None:
    """A response whose status the contract does not declare is invalid."""
    operation = contract.load().operations["get_customer"]
    with pytest.raises(EcwidError, match="status 201"):
        operation.validate_response(201, {"data": {"id": 7, "type": "ecwid", "attributes": {}}})


@pytest.mark.parametrize("status", [401, 403, 418, 429, 451, 503])
def test_the_hosts_refusals(app: flask.Flask, status: int) -> None:
    """A host's refusal before the plugin's turn becomes a problem with the same status."""

    @app.before_request
    def refuse() -> None:
        flask.abort(status)

    response = Api(app.test_client()).post("/delete_customer/7")
    body = check_problem(response, status)
    assert body["executed"] == "no"
    assert ("Retry-After" in response.headers) is (status in (429, 503))


@pytest.mark.parametrize("declared", [True, False], ids=["too large", "refused by the host"])
def test_the_hosts_limit_of_bodies(app: flask.Flask, declared: bool) -> None:
    """The problem of a body that exceeds the host's limit names the limit.

    A 413 that the host chose for another reason names no limit.
    """
    app.config["MAX_CONTENT_LENGTH"] = 20

    @app.before_request
    def read() -> None:
        if not declared:
            flask.abort(413)
        flask.request.get_data()

    body = {"email": "longer.than.that@example.com"} if declared else {}
    response = Api(app.test_client()).post("/add_customer", body)
    detail = "Send a body of at most 20 bytes." if declared else "Send a smaller body."
    assert check_problem(response, 413)["detail"] == detail


@pytest.mark.parametrize("code", [[], [403]], ids=["response", "code and response"])
def test_the_hosts_own_response(app: flask.Flask, code: list[int]) -> None:
    """A response that the host made on purpose stays unchanged."""

    @app.before_request
    def refuse() -> None:
        response = flask.Response("come back at nine", 403)
        if code:
            flask.abort(*code, response=response)
        flask.abort(response)

    response = Api(app.test_client()).get("/customer/7")
    assert (response.status_code, response.text) == (403, "come back at nine")


@pytest.mark.parametrize("failure", [RuntimeError("canary"), HTTPException(), NotFound()])
def test_a_failure_after_the_write(
    ecwid: HTTPServer, app: flask.Flask, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The problem for a host's failure after a write never says that the write did not happen."""

    @app.after_request
    def broken(response: flask.Response) -> flask.Response:
        raise failure

    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json({"deleteCount": 1})
    failure_status = failure.code if isinstance(failure, NotFound) else 500
    response = Api(app.test_client()).post("/delete_customer/7")
    assert len(ecwid.log) == 1
    assert response.status_code == failure_status
    assert response.json is not None
    assert response.json["executed"] == "unknown"
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("flask_ecwid")]
    assert "canary" not in response.text + "".join(ours)  # Flask itself logs the host's exception


def test_missing_handler(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start fails if an operation of the contract has no handler."""
    monkeypatch.delattr(handlers, "delete_customer")
    with pytest.raises(Exception, match="delete_customer"):
        app_of(config)


def test_log_line(ecwid: HTTPServer, api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """Each request logs a line with its id, and without any value of a customer or the query."""
    caplog.set_level(logging.INFO, "flask_ecwid")
    ecwid.expect_request(f"{STORE}/customers").respond_with_json(
        {"total": 1, "items": [{"id": 1, "email": CANARY}]}
    )
    api.get(f"/customers?email={CANARY}", headers={"X-Request-ID": REQUEST_ID})
    [record] = [record for record in caplog.records if record.name == "flask_ecwid.request"]
    facts = vars(record)
    assert facts["operation"] == "list_customers"
    assert facts["status"] == 200
    assert facts["request_id"] == REQUEST_ID
    assert facts["store"] == "ecwid"
    assert 0 < facts["duration_ms"] < 60_000
    assert REQUEST_ID in record.getMessage()
    assert CANARY not in repr(facts)


def test_nothing_personal_in_any_log(
    ecwid: HTTPServer, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """No logger of the process shows a body, a query or a token at DEBUG."""
    caplog.set_level(logging.DEBUG)
    ecwid.expect_request(f"{STORE}/customers").respond_with_json({"id": 5, "name": "canary"})
    api.post("/add_customer", {"email": "canary@example.com"})
    api.get("/customers?name=canary&limit=0")
    api.get("/customers?name=canary")
    api.get("/customer/7?responseFields=canary")
    names = {record.name for record in caplog.records}
    assert {"flask_ecwid", "flask_ecwid.request", "werkzeug"} <= names
    for record in caplog.records:
        if record.name != "werkzeug":  # werkzeug logs for the simulated Ecwid
            assert "canary" not in repr(vars(record)).lower(), record.name


def test_the_hosts_own_urllib3_log(
    ecwid: HTTPServer, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """urllib3's log of the host's own requests stays unchanged."""
    caplog.set_level(logging.DEBUG, "urllib3")
    ecwid.expect_request(f"{STORE}/customers/7").respond_with_json({"id": 7})
    api.get("/customer/7")
    assert [r for r in caplog.records if r.name.startswith("urllib3")] == []
    requests.get(ecwid.url_for(f"{STORE}/customers/7"), timeout=30)
    assert [r for r in caplog.records if r.name.startswith("urllib3")] != []
