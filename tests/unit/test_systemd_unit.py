"""The service file docs/deploy/flask-ecwid.service agrees with gunicorn and nginx."""

from __future__ import annotations

import re

from ..conftest import ROOT

UNIT = (ROOT / "docs" / "deploy" / "flask-ecwid.service").read_text(encoding="utf-8")
GUNICORN = (ROOT / "gunicorn.conf.py").read_text(encoding="utf-8")


def value(name: str, text: str = UNIT) -> str:
    [found] = re.findall(rf"^{name} ?= ?(\S*)", text, re.M)
    return str(found)


def test_requests_under_way_can_end() -> None:
    """On stop, systemd signals gunicorn alone, and waits for its requests to finish."""
    assert (value("KillMode"), value("KillSignal")) == ("mixed", "SIGTERM")
    assert int(value("TimeoutStopSec")) >= int(value("graceful_timeout", GUNICORN)) + 5


def test_state_outlives_a_restart() -> None:
    """The service has a folder that survives a restart, and that no other user can read."""
    assert value("StateDirectory") == "flask-ecwid"
    assert value("StateDirectoryMode") == "0700"


def test_the_service_trusts_nginx() -> None:
    """The service listens on loopback and trusts one proxy, which is nginx on the same host."""
    assert value("Environment") == "ECWID_TRUSTED_PROXIES=1"
    assert value("bind", GUNICORN) == '"127.0.0.1:8000"'
