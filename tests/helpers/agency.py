"""An app of an agency, whose callers name their store in a header."""

from __future__ import annotations

import json
import os
from typing import Any

import flask

from flask_ecwid import Caller, Ecwid, StoreCredentials

from ..conftest import Api
from .fake_stores import token_of
from .patience import PATIENCE


class Agency:
    """An app whose callers name their store in a header."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.app = flask.Flask("agency")
        self.app.config.update(settings)
        self.ecwid = Ecwid(self.app, authorize=_authorize, store=_store_of)
        self.stores = self.app.extensions["ecwid"]["ecwid"].stores

    def of(self, store: str) -> Api:
        """Return a caller of the endpoints for a store."""
        client = self.app.test_client()
        client.environ_base = {**client.environ_base, "HTTP_STORE": store}
        return Api(client)

    def client(self, store: str) -> Any:
        """Return the client of a store."""
        with self.app.app_context():
            return self.ecwid.client_for(credentials(store))


def credentials(store: str) -> StoreCredentials:
    return StoreCredentials(store, token_of(store))


def _authorize(scope: str) -> Caller:
    return Caller("ann")


def _store_of(caller: Caller) -> StoreCredentials:
    return credentials(flask.request.headers["Store"])


def create() -> flask.Flask:
    """Return the app for gunicorn, whose settings are in the environment."""
    for module, name, seconds in PATIENCE:
        setattr(module, name, seconds)
    return Agency(json.loads(os.environ["CONFIG"])).app
