"""The plugin on its own: `gunicorn wsgi:app`, with the settings from the environment."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_ecwid import Ecwid, SettingsError
from flask_ecwid.settings import switch

METRICS = "ECWID_METRICS"
TRUSTED_PROXIES = "ECWID_TRUSTED_PROXIES"


def create_app() -> Flask:
    app = Flask(__name__)
    app.url_map.merge_slashes = False  # by a redirect, which would repeat the query
    app.config.update({key: value for key, value in os.environ.items() if key.startswith("ECWID_")})
    faults = []
    try:
        Ecwid(app)
    except SettingsError as error:
        faults = error.faults
    proxies = app.config.get(TRUSTED_PROXIES, "").strip() or "0"
    if not re.fullmatch("[0-9]", proxies):
        faults.append(f"{TRUSTED_PROXIES} is not a number of proxies from 0 to 9")
    measured = False
    try:
        measured = switch(app.config.get(METRICS, ""))
    except ValueError:
        faults.append(f"{METRICS} is not on or off")
    if measured and find_spec("prometheus_client") is None:
        faults.append(f"{METRICS} is on, and needs pip install 'flask-ecwid[metrics]'")
    if faults:
        raise SettingsError(faults)
    if n := int(proxies):  # with none in front, X-Forwarded-* are the caller's own words
        fixed = ProxyFix(app.wsgi_app, x_for=n, x_proto=n, x_host=n, x_prefix=n)
        app.wsgi_app = fixed  # type: ignore[method-assign]
    if measured:
        from flask_ecwid import metrics

        metrics.attach()
        app.add_url_rule("/metrics", view_func=metrics.view)

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
