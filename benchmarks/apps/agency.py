"""An app of many stores, whose callers name their store in a header. It has no database."""

from __future__ import annotations

import os

from flask import Flask, request

from flask_ecwid import Caller, Ecwid, StoreCredentials

app = Flask("agency")
app.config.update({key: value for key, value in os.environ.items() if key.startswith("ECWID_")})


def authorize(scope: str) -> Caller:
    return Caller(request.headers["Store"])


def store_of(caller: Caller) -> StoreCredentials:
    return StoreCredentials(caller.name, f"secret_bench_{caller.name}")


Ecwid(app, authorize=authorize, store=store_of)
