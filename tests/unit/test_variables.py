"""A traceback with the variables of each frame shows no secret, wherever an exception comes from.

Trackers of errors log such tracebacks. Only the frames of the package count, because a host and its
libraries have variables of their own.
"""

from __future__ import annotations

import base64
import os
import signal
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flask
import pytest
from werkzeug.exceptions import NotFound

import flask_ecwid
from flask_ecwid import Ecwid, EcwidClient, Settings, SettingsError, contract, errors, oauth
from flask_ecwid.client import retries
from flask_ecwid.settings import StoreCredentials
from flask_ecwid.signals import operation_started
from flask_ecwid.web import blueprint, incoming, webhook_event
from flask_ecwid.web.authentication import Authenticator

from ..helpers.raw_server import RawServer, receive_request, stalls

PACKAGE = f"{Path(flask_ecwid.__file__).parent}/"
CANARY = "canarySecret0815"
HIDDEN = (CANARY, base64.b64encode(f"user:{CANARY}".encode()).decode())
SETTINGS: dict[str, Any] = {"ECWID_STORE_ID": "1003", "ECWID_TOKEN": CANARY}
OF_THE_APP = {"ECWID_CLIENT_ID": "app-1", "ECWID_CLIENT_SECRET": CANARY}
URI = "https://app.example.com/ecwid"


class Interrupted(BaseException):
    """Raised by a signal handler, as a server does that stops a worker."""


def interrupt(*_: object, **__: object) -> None:
    raise Interrupted


@contextmanager
def interrupting_server() -> Iterator[RawServer]:
    """Interrupt the main thread of this process while it waits for a reply."""

    def script(connection: socket.socket) -> None:
        receive_request(connection)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with RawServer(script) as server:
            yield server
    finally:
        signal.signal(signal.SIGUSR1, before)


def client_of(url: str, **more: str) -> EcwidClient:
    config = {**SETTINGS, "ECWID_API_URL": url, **more}
    return EcwidClient(Settings.from_config(config, authorize=True))


def app_of(**more: str) -> flask.Flask:
    app = flask.Flask("host")
    app.config.update(SETTINGS, ECWID_AUTH="none", **more)
    Ecwid(app, webhook_path="/events")
    app.testing = True
    return app


def an_interrupted_call() -> None:
    with interrupting_server() as server:
        client_of(server.url).get_customer(7)


def an_interrupted_request() -> None:
    with interrupting_server() as server:
        app = app_of(ECWID_API_URL=server.url)
        app.test_client().get("/api/json/v1/ecwid/customer/7")


def an_interrupted_exchange() -> None:
    with interrupting_server() as server:
        config = {**OF_THE_APP, "ECWID_OAUTH_URL": server.url}
        oauth.exchange_code("1003", CANARY, URI, config=config)


def an_interrupted_tunnel() -> None:
    with interrupting_server() as server:
        proxy = f"http://user:{CANARY}@127.0.0.1:{server.port}"
        client_of("https://127.0.0.1:9/api/v3", ECWID_PROXY_URL=proxy).get_customer(7)


def a_late_call() -> None:
    """Send a call whose time is over when the connection is there."""
    with pytest.MonkeyPatch.context() as patched, RawServer(stalls()) as server:
        patched.setattr(retries, "COUNTED_MOST_S", -1.0)
        client_of(server.url).get_customer(7)


def a_wrong_setting() -> None:
    Settings.from_config({**SETTINGS, "ECWID_UI": "maybe", "DATABASE_PASSWORD": CANARY})


def a_wrong_setting_of_oauth() -> None:
    config = {**OF_THE_APP, "ECWID_DEADLINE_S": "zz", "DATABASE_PASSWORD": CANARY}
    oauth.exchange_code("1003", CANARY, URI, config=config)


def a_url_without_an_id() -> None:
    oauth.authorize_url(URI, "state", config={"DATABASE_PASSWORD": CANARY})


def a_token_in_quotes() -> None:
    StoreCredentials("1003", f"'{CANARY}'")


def a_wrong_signature() -> None:
    app = app_of(ECWID_CLIENT_SECRET=CANARY, ECWID_WEBHOOKS="on")
    sent = app.test_request_context(
        "/events",
        method="POST",
        data='{"eventCreated": 1, "eventId": "1"}',
        headers={webhook_event.SIGNATURE: CANARY},
    )
    with sent:
        app.preprocess_request()
        app.dispatch_request()


def a_hidden_slash() -> None:
    with app_of().test_request_context("/customer/a%2fb", headers={"X-API-Key": CANARY}):
        blueprint.refuse_hidden_slashes()


def a_receiver_that_ends_the_worker() -> None:
    app = app_of()
    with operation_started.connected_to(interrupt, sender=app):
        app.test_client().get(f"/api/json/v1/ecwid/customers?email={CANARY}")


def a_body_that_is_too_large() -> None:
    context = app_of().test_request_context(
        f"/?email={CANARY}", method="POST", data="{}", headers={"X-API-Key": CANARY}
    )
    with context:
        incoming.read_body(incoming.Received(flask.request), 1)


def a_refused_key(headers: dict[str, str]) -> Callable[[], None]:
    def refused() -> None:
        settings = Settings.from_config({**SETTINGS, "ECWID_API_KEYS": f"a:read:{'0' * 64}"})
        operation = contract.load().operations["list_customers"]
        with flask.Flask("host").test_request_context(headers=headers):
            Authenticator(settings, None).authenticate(operation)

    return refused


REFUSED_KEYS = {
    "a wrong key": {"X-API-Key": CANARY},
    "a wrong bearer": {"Authorization": f"Bearer {CANARY}"},
    "two credentials": {"Authorization": f"Bearer {CANARY}", "X-API-Key": CANARY},
    "another scheme": {"Authorization": f"Basic {CANARY}"},
    "a key with a blank": {"Authorization": f"Bearer {CANARY} {CANARY}"},
    "two keys": {"Authorization": f"Bearer {CANARY}, {CANARY}"},
}
RAISED: dict[str, tuple[Callable[[], None], type[BaseException]]] = {
    "an interrupted call": (an_interrupted_call, Interrupted),
    "an interrupted request": (an_interrupted_request, Interrupted),
    "an interrupted tunnel": (an_interrupted_tunnel, Interrupted),
    "an interrupted exchange": (an_interrupted_exchange, Interrupted),
    "a late call": (a_late_call, errors.EcwidError),
    "a wrong setting": (a_wrong_setting, SettingsError),
    "a wrong setting of OAuth": (a_wrong_setting_of_oauth, SettingsError),
    "a URL without an id": (a_url_without_an_id, SettingsError),
    "a token in quotes": (a_token_in_quotes, ValueError),
    "a wrong signature": (a_wrong_signature, errors.BadSignature),
    "a hidden slash": (a_hidden_slash, NotFound),
    "a receiver that ends the worker": (a_receiver_that_ends_the_worker, Interrupted),
    "a body that is too large": (a_body_that_is_too_large, errors.BodyTooLarge),
    **{
        name: (a_refused_key(headers), errors.Unauthorized)
        for name, headers in REFUSED_KEYS.items()
    },
}


@pytest.mark.parametrize("name", RAISED)
def test_no_variable_shows_a_secret(name: str) -> None:
    """No variable of a frame of the package has a secret in its repr."""
    raises, kind = RAISED[name]
    with pytest.raises(kind) as caught:
        raises()
    frames = [
        frame
        for error in chain(caught.value)
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename.startswith(PACKAGE)
    ]
    assert frames
    for frame in frames:
        for variable, value in frame.f_locals.items():
            assert not any(text in repr(value) for text in HIDDEN), (frame.f_code.co_name, variable)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and those that a traceback shows with it."""
    while error is not None:
        yield error
        hides = error.__suppress_context__
        error = error.__cause__ or (None if hides else error.__context__)
