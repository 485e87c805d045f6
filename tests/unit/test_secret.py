"""Secrets do not show in a repr, a pickle, a traceback or a debugger's view of the config."""

from __future__ import annotations

import copy
import enum
import gc
import pickle
import pprint
import traceback
from dataclasses import fields, replace
from typing import Any

import flask
import pytest
from pytest_httpserver import HTTPServer

from flask_ecwid import Ecwid, EcwidClient, Settings, SettingsError, errors
from flask_ecwid.settings import Secret, hide_secrets

from ..conftest import Config, app_of

CANARY = "canary-secret"
SETTINGS: dict[str, Any] = {
    "ECWID_STORE_ID": "1003",
    "ECWID_TOKEN": CANARY,
    "ECWID_AUTH": "none",
    "ECWID_REDIS_URL": f"redis://:{CANARY}@127.0.0.1:1/0",
    "ECWID_PROXY_URL": f"http://user:{CANARY}@127.0.0.1:1",
}


def test_a_printed_config_shows_no_secret() -> None:
    """A printed config shows no secret, and code that reads the config gets the value."""
    app = flask.Flask("host")
    app.config.update(SETTINGS)
    Ecwid(app)
    for shown in (repr(app.config), pprint.pformat(dict(app.config)), f"{app.config!s}"):
        assert CANARY not in shown
    assert app.config["ECWID_TOKEN"] == CANARY
    assert {key: app.config[key] for key in SETTINGS} == SETTINGS


def test_the_config_of_another_prefix() -> None:
    """The config hides the secrets of a second store too, and keeps all other values."""
    app = flask.Flask("host")
    app.config.update({f"OUTLET_{key}": value for key, value in SETTINGS.items()})
    app.config["HOSTS_OWN"] = "canary-own"
    Ecwid(app, config_prefix="OUTLET_")
    assert CANARY not in repr(app.config)
    assert "'canary-own'" in repr(app.config)


def test_every_secret_setting() -> None:
    """The token, the client secret and the URLs that may hold a password are secrets.

    No other setting in the config is changed.
    """
    config: dict[str, Any] = {f"ECWID_{spec.name.upper()}": CANARY for spec in fields(Settings)}
    hide_secrets(config)
    hidden = {key for key, value in config.items() if isinstance(value, Secret)}
    assert hidden == {*("ECWID_TOKEN", "ECWID_CLIENT_SECRET", "ECWID_PROXY_URL", "ECWID_REDIS_URL")}
    for settings in (Settings.from_config(SETTINGS), Settings(store_id="1003", token=CANARY)):
        for key in hidden:
            name = key.removeprefix("ECWID_").lower()
            assert type(getattr(settings, name)) is Secret
            assert f"{name}=" not in repr(settings)


def test_no_object_of_the_extension_shows_a_secret() -> None:
    """No object that the extension makes shows a secret in its repr or in the repr of a member."""
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
    """A traceback with variables shows no secret when a setting is invalid."""
    app = flask.Flask("host")
    app.config.update(SETTINGS, ECWID_UI="maybe")
    with pytest.raises(SettingsError) as caught:
        Ecwid(app)
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    # The frame of this test has the secrets in SETTINGS, so the check leaves it out.
    text = "".join(report.format()).partition("extension.py")[2]
    assert "settings.py" in text
    assert CANARY not in text
    assert CANARY not in repr(app.config)


def test_settings_are_not_pickled() -> None:
    """Settings cannot be pickled, because a pickle would hold the secrets in plain text."""
    settings = Settings.from_config(SETTINGS)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError) as caught:
            pickle.dumps(settings, protocol)
        assert CANARY not in str(caught.value)
    assert copy.deepcopy(settings) == copy.copy(settings) == replace(settings) == settings
    assert CANARY not in repr(copy.deepcopy(settings))


def test_a_secret_is_a_text() -> None:
    """A secret works as a text, and its repr hides the value."""
    secret = Secret(CANARY)
    assert f"{secret}" == secret == CANARY
    assert secret.encode() == CANARY.encode()
    assert repr(secret) == "'***'"
    assert CANARY not in repr([secret]) + f"{secret!r}" + "%r" % secret  # noqa: UP031


def every_error(kind: type[errors.EcwidError] = errors.EcwidError) -> list[Any]:
    return [kind, *(each for below in kind.__subclasses__() for each in every_error(below))]


def test_errors_are_pickled_as_they_are() -> None:
    """An error can be pickled, because its members hold no secret."""
    for error in (
        errors.RateLimited(7, brief=False, ecwid_code="X"),
        errors.Rejected(422),
        errors.CustomerNotFound(by_ecwid=False),
        errors.Throttled(3),
        errors.InvalidRequest([errors.Violation("/a", "type")]),
        errors.Unauthorized("wrong"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert (str(again), vars(again)) == (str(error), vars(error))
    assert len(every_error()) > 30


def test_a_traceback_with_its_variables(ecwid: HTTPServer, config: Config) -> None:
    """A traceback with the variables of each frame shows no token when a call fails."""
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


class Token(str, enum.Enum):
    """Tokens of a host, whose `str` is the name of the member."""

    SHOP = "canary-secret"


class Lazy(dict[str, Any]):
    """A config that reads a value when somebody asks for it, and cannot read all values."""

    def __getitem__(self, key: str) -> Any:
        return super().__getitem__(key)()

    def get(self, key: str, default: Any = None) -> Any:
        found = super().get(key)
        return default if found is None else found()


def fails() -> Any:
    raise FileNotFoundError("a file of another program")


@pytest.mark.parametrize(
    "config",
    [
        {"ECWID_STORE_ID": "1003", "ECWID_TOKEN": Token.SHOP},
        Lazy(ECWID_STORE_ID=lambda: "1003", ECWID_TOKEN=lambda: CANARY, OTHER=fails),
    ],
    ids=["an Enum", "lazy values"],
)
def test_the_text_of_a_secret_is_kept(config: dict[str, Any]) -> None:
    """A secret is the text that the config has, and no other value of the config is read."""
    settings = Settings.from_config(config, authorize=True)
    assert (settings.store_id, settings.token) == ("1003", CANARY)
    assert repr(settings.token) == "'***'"
