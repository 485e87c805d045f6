"""An app that serves the plugin alone, with the settings from the environment.

Run it with `gunicorn wsgi:app`.
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_ecwid import Ecwid, SettingsError
from flask_ecwid.settings import switch

METRICS = "ECWID_METRICS"
PIN_WORKERS = "ECWID_PIN_WORKERS"  # gunicorn.conf.py uses this setting.
TRUSTED_PROXIES = "ECWID_TRUSTED_PROXIES"


def create_app() -> Flask:
    """Return an app with the plugin, two health checks and, if switched on, the metrics.

    Raises:
        SettingsError: The settings cannot work. The error names every fault.
    """
    app = Flask(__name__)
    # werkzeug would merge slashes by a redirect, which would repeat the caller's query.
    app.url_map.merge_slashes = False
    app.config.update({key: value for key, value in os.environ.items() if key.startswith("ECWID_")})
    faults = []
    try:
        Ecwid(app)
    except SettingsError as error:
        faults = error.faults
    proxies = app.config.get(TRUSTED_PROXIES, "").strip() or "0"
    if not re.fullmatch("[0-9]", proxies):
        faults.append(f"{TRUSTED_PROXIES} is not a number of proxies from 0 to 9")
    switches = dict.fromkeys([METRICS, PIN_WORKERS], False)
    for name in switches:
        try:
            switches[name] = switch(app.config.get(name, ""))
        except ValueError:
            faults.append(f"{name} is not on or off")
    with_metrics = switches[METRICS]
    if with_metrics and find_spec("prometheus_client") is None:
        faults.append(f"{METRICS} is on, but needs pip install 'flask-ecwid[metrics]'")
    if faults:
        raise SettingsError(faults)
    # Without a proxy in front, the caller writes the X-Forwarded headers. Trusting them would let
    # the caller choose their own address.
    if n := int(proxies):
        fixed = ProxyFix(app.wsgi_app, x_for=n, x_proto=n, x_host=n, x_prefix=n)
        app.wsgi_app = fixed  # type: ignore[method-assign]
    if with_metrics:
        from flask_ecwid import metrics

        metrics.attach()
        app.add_url_rule("/metrics", view_func=metrics.view)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """Return 200, because the process can respond."""
        return {"status": "alive"}

    @app.get("/readyz")
    def readyz() -> dict[str, str]:
        """Return 200, because an app with wrong settings would not have started."""
        return {"status": "configured"}

    return app


app = create_app()
