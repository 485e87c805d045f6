"""Secrets show nowhere: not in a repr, a pickle, a debugger's view of the config."""

from __future__ import annotations

import copy
import gc
import pickle
import pprint
import traceback
from dataclasses import fields, replace
from typing import Any

import flask
import pytest
from pytest_httpserver import HTTPServer

from flask_ecwid import Ecwid, EcwidClient, Settings, SettingsError, contract, errors
from flask_ecwid.settings import Secret, hide_secrets
from flask_ecwid.web.authentication import Authenticator

from ..conftest import Config, app_of

CANARY = "canary-secret"
SETTINGS: dict[str, Any] = {
    "ECWID_STORE_ID": "1003",
    "ECWID_TOKEN": CANARY,
    "ECWID_AUTH": "none",
    "ECWID_REDIS_URL": f"redis://:{CANARY}@127.0.0.1:1/0",
    "ECWID_PROXY_URL": f"http://user:{CANARY}@127.0.0.1:1",
}


def test_the_config_shows_none() -> None:
    """Whoever prints the config, as a debugger does, sees no secret; who reads it has it."""
    app = flask.Flask("host")
    app.config.update(SETTINGS)
    Ecwid(app)
    for shown in (repr(app.config), pprint.pformat(dict(app.config)), f"{app.config!s}"):
        assert CANARY not in shown
    assert app.config["ECWID_TOKEN"] == CANARY
    assert {key: app.config[key] for key in SETTINGS} == SETTINGS


def test_the_config_of_another_prefix() -> None:
    """The secrets of a second store are hidden as well; nothing else is touched."""
    app = flask.Flask("host")
    app.config.update({f"OUTLET_{key}": value for key, value in SETTINGS.items()})
    app.config["HOSTS_OWN"] = "canary-own"
    Ecwid(app, config_prefix="OUTLET_")
    assert CANARY not in repr(app.config)
    assert "'canary-own'" in repr(app.config)


def test_every_secret_setting() -> None:
    """The token and the URLs that may hold a password are secrets, in the settings and the config.

    Only they are changed in the config.
    """
    config: dict[str, Any] = {f"ECWID_{spec.name.upper()}": CANARY for spec in fields(Settings)}
    hide_secrets(config)
    hidden = {key for key, value in config.items() if isinstance(value, Secret)}
    assert hidden == {"ECWID_TOKEN", "ECWID_PROXY_URL", "ECWID_REDIS_URL"}
    for settings in (Settings.from_config(SETTINGS), Settings(store_id="1003", token=CANARY)):
        for key in hidden:
            name = key.removeprefix("ECWID_").lower()
            assert type(getattr(settings, name)) is Secret
            assert f"{name}=" not in repr(settings)


def test_no_object_of_ours_shows_one() -> None:
    """No object that the extension makes has a secret in its repr or in a member's."""
    app = app_of(SETTINGS)
    mount = app.extensions["ecwid"]["ecwid"]
    seen: set[int] = set()
    waiting: list[Any] = [mount]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, (type, str, bytes)):
            continue
        seen.add(id(each))
        module = type(each).__module__
        if module.startswith("flask_ecwid"):
            assert CANARY not in repr(each)
            members = getattr(each, "__dict__", {})
            assert CANARY not in repr(members), type(each)
            waiting += members.values()
    assert len(seen) > 5


def test_faulty_settings() -> None:
    """Nor does a traceback with its variables show any where settings are at fault."""
    app = flask.Flask("host")
    app.config.update(SETTINGS, ECWID_UI="maybe")
    with pytest.raises(SettingsError) as caught:
        Ecwid(app)
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    # Not this test's own frame, which has them in SETTINGS.
    text = "".join(report.format()).partition("extension.py")[2]
    assert "settings.py" in text
    assert CANARY not in text
    assert CANARY not in repr(app.config)


def test_a_key_that_is_refused() -> None:
    """The key of a caller who is not let in shows in no traceback with its variables."""
    app = flask.Flask("host")
    app.config.update(SETTINGS, ECWID_AUTH="keys", ECWID_API_KEYS=f"a:read:{'0' * 64}")
    Ecwid(app)
    operation = contract.load().operations["list_customers"]
    admit = Authenticator(app.extensions["ecwid"]["ecwid"].settings, None).authenticate
    for headers in ({"X-API-Key": CANARY}, {"Authorization": f"Bearer {CANARY}"}):
        context = app.test_request_context(headers=headers)
        with context, pytest.raises(errors.Unauthorized) as caught:
            admit(operation)
        report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        assert CANARY not in "".join(report.format()).partition("authentication.py")[2]


def test_settings_are_not_pickled() -> None:
    """A pickle would hold them in the clear: there is none."""
    settings = Settings.from_config(SETTINGS)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError) as caught:
            pickle.dumps(settings, protocol)
        assert CANARY not in str(caught.value)
    assert copy.deepcopy(settings) == copy.copy(settings) == replace(settings) == settings
    assert CANARY not in repr(copy.deepcopy(settings))


def test_a_secret_is_a_text() -> None:
    """Who uses it as a text has the text."""
    secret = Secret(CANARY)
    assert f"{secret}" == secret == CANARY
    assert secret.encode() == CANARY.encode()
    assert repr(secret) == "'***'"
    assert CANARY not in repr([secret]) + f"{secret!r}" + "%r" % secret  # noqa: UP031


def every_error(kind: type[errors.EcwidError] = errors.EcwidError) -> list[Any]:
    return [kind, *(each for below in kind.__subclasses__() for each in every_error(below))]


def test_errors_are_pickled_as_they_are() -> None:
    """An error may travel to another process: it holds nothing that must not."""
    for error in (
        errors.RateLimited(7, brief=False, ecwid_code="X"),
        errors.Rejected(422),
        errors.CustomerNotFound(by_ecwid=False),
        errors.Throttled(3),
        errors.InvalidRequest([errors.Violation("/a", "type")]),
        errors.Unauthorized(wrong=True),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert (str(again), vars(again)) == (str(error), vars(error))
    assert len(every_error()) > 30


def test_a_traceback_with_its_variables(ecwid: HTTPServer, config: Config) -> None:
    """What reports a failure with the variables of each frame shows no token."""
    ecwid.expect_request("/api/v3/1003/customers/7").respond_with_data("", status=500)
    client = EcwidClient(Settings.from_config({**config, "ECWID_TOKEN": CANARY}))
    with pytest.raises(errors.EcwidError) as caught:
        client.get_customer(7)
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    text = "".join(report.format())
    assert "retries.py" in text
    assert CANARY not in text
    assert ecwid.log[0][0].headers["Authorization"] == f"Bearer {CANARY}"
    gc.collect()
