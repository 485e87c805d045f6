"""The plugin on its own: `gunicorn wsgi:app`, with the settings from the environment."""

from __future__ import annotations

import os

from flask import Flask

from flask_ecwid import Ecwid


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.update({key: value for key, value in os.environ.items() if key.startswith("ECWID_")})
    Ecwid(app)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "alive"}

    @app.get("/readyz")
    def readyz() -> dict[str, str]:
        """The settings are read and the store is mounted: else the start would have failed."""
        return {"status": "configured"}

    return app


app = create_app()
