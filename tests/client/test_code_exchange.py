"""The exchange of a code, against servers that fail in every way."""

from __future__ import annotations

import json
import socket
import ssl
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import flask
import pytest
import trustme

from flask_ecwid import SettingsError, errors, oauth
from flask_ecwid.errors import EcwidError

from ..conftest import TOKEN, free_port
from ..helpers.raw_server import (
    Call,
    RawServer,
    Script,
    ScriptedServer,
    good,
    receive_request,
    resets,
    sends,
    stalls,
)

CODE = "canaryCode-0815"
SECRET = "canarySecret0815"
URI = "https://app.example.com/ecwid?from=ecwid"
GRANT = {
    "access_token": TOKEN,
    "scope": "read_store_profile read_customers",
    "store_id": 1003,
    "token_type": "bearer",
}
SCOPES = {"read_store_profile", "read_customers"}


def config_of(port: int, **more: Any) -> dict[str, Any]:
    return {
        "ECWID_CLIENT_ID": "app-1",
        "ECWID_CLIENT_SECRET": SECRET,
        "ECWID_OAUTH_URL": f"http://127.0.0.1:{port}/api/oauth",
        **more,
    }


def reply(status: int, body: bytes, head: str = "Content-Type: application/json") -> bytes:
    return (
        f"HTTP/1.1 {status} Some\r\n{head}\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def of(**members: Any) -> bytes:
    """Return a good reply in which these members differ. A member that is None is absent."""
    changed = {**GRANT, **members}
    present = {name: value for name, value in changed.items() if value is not None}
    return good(json.dumps(present).encode())


def refused(error: str, status: int = 400) -> bytes:
    return reply(status, json.dumps({"error": error, "code": CODE}).encode())


HTML = f"<html>{CODE} {SECRET} {TOKEN}</html>".encode()


def test_the_code_travels_in_a_form() -> None:
    """The code and the secret are in the body of one POST, and no URL has them."""

    def once(connection: socket.socket, _: Call) -> bool:
        connection.sendall(of())
        return False

    with ScriptedServer(once) as server:
        credentials = oauth.exchange_code("1003", CODE, URI, config=config_of(server.port))
        [call] = server.heard
    assert (call.method, call.path, call.query) == ("POST", "/api/oauth/token/1003", "")
    assert b"Content-Type: application/x-www-form-urlencoded\r\n" in call.headers + b"\r\n"
    assert parse_qs(call.body.decode(), strict_parsing=True) == {
        "client_id": ["app-1"],
        "client_secret": [SECRET],
        "code": [CODE],
        "redirect_uri": [URI],
        "grant_type": ["authorization_code"],
    }
    assert (credentials.store_id, credentials.token) == ("1003", TOKEN)
    assert credentials.scopes == SCOPES


FAULTS: dict[str, tuple[Script, type[EcwidError], str]] = {
    "another store": (sends(of(store_id=1004)), errors.BadReply, "does not name this store"),
    "another store as a text": (sends(of(store_id="01003")), errors.BadReply, "this store"),
    "no store": (sends(of(store_id=None)), errors.BadReply, "does not name this store"),
    "no token": (sends(of(access_token=None)), errors.BadReply, "no usable token"),
    "a token of another type": (sends(of(access_token=[TOKEN])), errors.BadReply, "no usable"),
    "a public token": (sends(of(access_token=f"public_{TOKEN}")), errors.BadReply, "no usable"),
    "html": (sends(reply(200, HTML)), errors.NotJson, "is not a JSON object"),
    "a list": (sends(reply(200, b"[1]")), errors.NotJson, "is not a JSON object"),
    "nothing": (sends(reply(200, b"")), errors.NotJson, "is not a JSON object"),
    "invalid_grant": (
        sends(refused("invalid_grant")),
        errors.CodeRefused,
        "onnect the store again",
    ),
    "html of a 400": (sends(reply(400, HTML)), errors.CodeRefused, "onnect the store again"),
    "an empty 403": (sends(reply(403, b"")), errors.CodeRefused, "check redirect_uri"),
    "invalid_client": (
        *(sends(refused("invalid_client")), errors.ServiceRefused),
        "Check ECWID_CLIENT_ID and ECWID_CLIENT_SECRET.",
    ),
    "a 401": (sends(reply(401, b"")), errors.ServiceRefused, "Check ECWID_CLIENT_ID"),
    "a 404": (sends(reply(404, HTML)), errors.CodeRefused, "onnect the store again"),
    "a 429": (sends(reply(429, b"")), errors.EcwidFailed, "onnect the store again"),
    "a 500": (sends(reply(500, HTML)), errors.EcwidFailed, "onnect the store again"),
    "a redirect": (
        *(sends(reply(302, b"", f"Location: http://127.0.0.1/{CODE}")), errors.Redirected),
        "Check ECWID_OAUTH_URL.",
    ),
    "half a reply": (sends(of()[:-9]), errors.BadReply, "onnect the store again"),
    "another encoding": (
        *(sends(reply(200, b"x", "Content-Encoding: br")), errors.Undecodable),
        "onnect the store again",
    ),
    "a reset": (resets, errors.ConnectionLost, "onnect the store again"),
    "a timeout": (stalls(), errors.DeadlineExceeded, "onnect the store again"),
    "a slow reply": (
        *(sends(*[bytes([byte]) for byte in of()], pause_s=0.05), errors.DeadlineExceeded),
        "onnect the store again",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_exchange(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each fault is one error that says what to do, after one attempt, and repeats nothing."""
    script, kind, advice = FAULTS[fault]
    caplog.set_level("DEBUG")
    app = flask.Flask("host")
    with RawServer(script) as server, app.app_context():
        deadline = "2" if kind is errors.DeadlineExceeded else "60"
        app.config.update(config_of(server.port, ECWID_DEADLINE_S=deadline))
        with pytest.raises(EcwidError) as caught:
            oauth.exchange_code("1003", CODE, URI)
    error = caught.value
    assert type(error) is kind
    assert advice in error.detail
    assert str(error) == f"{error.slug}: {error.detail}"
    assert server.connections == 1
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    # The frame of this test, which is the first one, has the values.
    shown = "".join(report.format()).rpartition("test_oauth.py")[2].partition("  File ")[2]
    assert "flask_ecwid" in shown
    for text in (shown, repr(error), str(vars(error)), caplog.text, repr(app.config)):
        for value in (CODE, SECRET, TOKEN):
            assert value not in text


def test_a_host_that_is_not_there() -> None:
    """If Ecwid cannot be reached, the error says that the code can be sent again."""
    with pytest.raises(errors.Unreachable, match="has not seen the code, so try again"):
        oauth.exchange_code("1003", CODE, URI, config=config_of(free_port()))


@pytest.mark.parametrize(
    "store_id",
    ["", "01003", " 1003", "1003\n", "+1", "-1", "1/2", "12a", "\uff11003", "9" * 21, None],
)
def test_a_store_id_has_digits_only(store_id: Any) -> None:
    """A store id that is no number, or a second name of one, is refused before any call."""
    with RawServer(sends(of())) as server:
        with pytest.raises(errors.InvalidRequest, match="decimal digits") as caught:
            oauth.exchange_code(store_id, CODE, URI, config=config_of(server.port))
        assert server.connections == 0
    assert [each.pointer for each in caught.value.errors] == ["/query/store_id"]


@pytest.mark.parametrize("code", ["", "two canaries", "canary\n", "canarÿ", "c" * 1025, None])
def test_a_code_that_cannot_be_right(code: Any) -> None:
    """A code that is not visible ASCII characters is refused before any call."""
    with RawServer(sends(of())) as server:
        with pytest.raises(errors.InvalidRequest, match="The code is not") as caught:
            oauth.exchange_code("1003", code, URI, config=config_of(server.port))
        assert server.connections == 0
    assert not code or code not in str(caught.value)


def test_a_store_id_may_be_a_number() -> None:
    """A URL converter gives the id as a number, and Ecwid may send the id as a text."""
    with RawServer(sends(of(store_id="1003"))) as server:
        credentials = oauth.exchange_code(
            1003,  # type: ignore[arg-type]
            CODE,
            URI,
            config=config_of(server.port),
        )
    assert credentials.store_id == "1003"


@pytest.mark.parametrize("scope", [None, "", ["read_customers"]])
def test_no_scope_is_named(scope: Any) -> None:
    """A token without named scopes is kept, because the code is spent, and no scope is known."""
    with RawServer(sends(of(scope=scope))) as server:
        credentials = oauth.exchange_code("1003", CODE, URI, config=config_of(server.port))
    assert (credentials.token, credentials.scopes) == (TOKEN, frozenset())


def test_a_certificate_that_is_not_trusted(tmp_path: Path) -> None:
    """Only a host with a trusted certificate gets the code."""
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    bundle = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(bundle)
    received: list[bytes] = []

    def script(connection: Any) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            received.append(receive_request(tls))
            tls.sendall(of())

    with RawServer(script) as server:
        url = f"https://127.0.0.1:{server.port}/api/oauth"
        config = config_of(server.port, ECWID_OAUTH_URL=url)
        with pytest.raises(errors.TlsFailed, match="has not seen the code"):
            oauth.exchange_code("1003", CODE, URI, config=config)
        assert received == []
        config["ECWID_CA_BUNDLE"] = str(bundle)
        assert oauth.exchange_code("1003", CODE, URI, config=config).scopes == SCOPES
    assert len(received) == 1


def test_the_proxy_of_the_settings() -> None:
    """The exchange goes through the proxy of the settings."""
    heard: list[Call] = []

    def proxy(connection: Any, call: Call) -> bool:
        heard.append(call)
        connection.sendall(of())
        return False

    with ScriptedServer(proxy) as server:
        url = f"http://127.0.0.1:{free_port()}/api/oauth"
        more = {"ECWID_OAUTH_URL": url, "ECWID_PROXY_URL": f"http://127.0.0.1:{server.port}"}
        config = config_of(server.port, **more)
        assert oauth.exchange_code("1003", CODE, URI, config=config).store_id == "1003"
    assert [call.path for call in heard] == [f"{url}/token/1003"]


def test_the_settings_of_the_current_app() -> None:
    """In a view, the settings come from the config of the app, and each mount has its prefix."""
    app = flask.Flask("host")
    with app.app_context():
        with pytest.raises(SettingsError) as caught:
            oauth.exchange_code("1003", CODE, URI)
        assert [fault.split()[0] for fault in caught.value.faults] == [
            *("ECWID_CLIENT_ID", "ECWID_CLIENT_SECRET")
        ]
        with RawServer(sends(of())) as server:
            app.config.update({f"A_{key}": each for key, each in config_of(server.port).items()})
            credentials = oauth.exchange_code("1003", CODE, URI, config_prefix="A_")
    assert credentials.scopes == SCOPES
    with pytest.raises(RuntimeError, match="application context"):
        oauth.exchange_code("1003", CODE, URI)


@pytest.mark.parametrize("key", ["ECWID_OAUTH_URL", "ECWID_DEADLINE_S", "ECWID_CLIENT_SECRET"])
def test_a_wrong_setting(key: str) -> None:
    """A wrong setting is named before any call, and its value is left out."""
    with pytest.raises(SettingsError, match=f"^{key} ") as caught:
        oauth.exchange_code("1003", CODE, URI, config=config_of(1, **{key: "http://canary.com/ x"}))
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "scopes", ["read_customers  update_customers", ("read_customers", "update_customers")]
)
def test_the_url_of_ecwids_page(scopes: Any) -> None:
    """The URL leads to Ecwid, and has the app, the view, the scopes and the state."""
    url = oauth.authorize_url(URI, "s&t", scopes, config={"ECWID_CLIENT_ID": "app-1"})
    assert url.startswith("https://my.ecwid.com/api/oauth/authorize?")
    assert parse_qs(urlsplit(url).query, strict_parsing=True) == {
        "client_id": ["app-1"],
        "redirect_uri": [URI],
        "response_type": ["code"],
        "scope": ["read_customers update_customers"],
        "state": ["s&t"],
    }


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ((URI, ""), "must not be empty"),
        ((URI, "s", ()), "must not be empty"),
        (("/ecwid", "s"), "absolute URL"),
        (("app.example.com/ecwid", "s"), "absolute URL"),
    ],
)
def test_arguments_that_cannot_work(sent: Any, said: str) -> None:
    """A URL without a state, without scopes or back to no view is a mistake of the program."""
    with pytest.raises(ValueError, match=said):
        oauth.authorize_url(*sent, config={"ECWID_CLIENT_ID": "app-1"})


def test_the_exchange_needs_an_absolute_url() -> None:
    """The exchange refuses a path, which Ecwid would refuse and spend the code."""
    with RawServer(sends(of())) as server:
        with pytest.raises(ValueError, match="absolute URL"):
            oauth.exchange_code("1003", CODE, "/ecwid", config=config_of(server.port))
        assert server.connections == 0
