"""docs/deploy/flask-ecwid.service: in harmony with what it runs."""

from __future__ import annotations

import re

from ..conftest import ROOT

UNIT = (ROOT / "docs" / "deploy" / "flask-ecwid.service").read_text(encoding="utf-8")
GUNICORN = (ROOT / "gunicorn.conf.py").read_text(encoding="utf-8")


def value(name: str, text: str = UNIT) -> str:
    [found] = re.findall(rf"^{name} ?= ?(\S*)", text, re.M)
    return str(found)


def test_requests_under_way_can_end() -> None:
    """gunicorn alone is told to end, by the signal that lets requests end, and has the time."""
    assert (value("KillMode"), value("KillSignal")) == ("mixed", "SIGTERM")
    assert int(value("TimeoutStopSec")) >= int(value("graceful_timeout", GUNICORN)) + 5


def test_state_outlives_a_restart() -> None:
    """The service has a folder of its own that stays, which nobody else can read."""
    assert value("StateDirectory") == "flask-ecwid"
    assert value("StateDirectoryMode") == "0700"


def test_it_believes_the_nginx_in_front() -> None:
    """It runs behind one proxy, the nginx beside it, and is on loopback."""
    assert value("Environment") == "ECWID_TRUSTED_PROXIES=1"
    assert value("bind", GUNICORN) == '"127.0.0.1:8000"'
