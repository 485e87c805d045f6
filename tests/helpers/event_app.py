"""An app for gunicorn whose receiver of events writes a line for each event."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import flask

from flask_ecwid import Ecwid, signals

from .patience import PATIENCE

RECEIVER_S = 1.0  # How long the receiver works, so that other deliveries come meanwhile.


def create() -> flask.Flask:
    """Return the app, whose settings and whose file are in the environment."""
    for module, name, seconds in PATIENCE:
        setattr(module, name, seconds)
    app = flask.Flask("shop")
    app.config.update(json.loads(os.environ["CONFIG"]))
    Ecwid(app)

    def note(sender: object, event_id: str, **_: Any) -> None:
        with open(os.environ["EVENTS"], "a", encoding="utf-8") as file:
            file.write(f"{event_id} {os.getpid()}\n")
        time.sleep(RECEIVER_S)

    signals.customer_changed.connect(note, weak=False)
    return app
