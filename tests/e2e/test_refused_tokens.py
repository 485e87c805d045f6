"""Many stores under gunicorn, of which Ecwid refuses half of the tokens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from ..conftest import PREFIX, ROOT, environment, free_port, wait_for
from ..helpers.redis_server import RedisServer
from ..helpers.token_server import TokenServer

WORKERS = 3
MOST = 8
ACCEPTED = {str(number): f"secret_good_{number:08}" for number in range(1000, 1020)}
REFUSED = {str(number): f"secret_bad_{number:08}" for number in range(2000, 2020)}
APP = f"""
import os
import flask
from flask_ecwid import Caller, Ecwid, StoreCredentials
from flask_ecwid.throttling import trials

trials.REFUSALS_MOST = {MOST}  # so that few stores are enough
app = flask.Flask("agency")
app.config.update((name, text) for name, text in os.environ.items() if name[:6] == "ECWID_")
stores = {ACCEPTED | REFUSED!r}
Ecwid(
    app,
    authorize=lambda scope: Caller(flask.request.headers["Store"]),
    store=lambda caller: StoreCredentials(caller.name, stores[caller.name]),
)

@app.get("/healthz")
def healthz():
    return str(os.getpid())
"""


@contextmanager
def agency(folder: Path, **settings: str) -> Iterator[str]:
    """Serve the app with several workers, and yield its URL."""
    (folder / "agency.py").write_text(APP, encoding="utf-8")
    port = free_port()
    path = os.pathsep.join([str(folder), str(ROOT)])
    flags = ["--bind", f"127.0.0.1:{port}", "--workers", str(WORKERS), "--threads", "8"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *flags, "agency:app"],
        cwd=ROOT,
        env=environment(PYTHONPATH=path, **settings),
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/healthz", process)
        yield f"http://127.0.0.1:{port}{PREFIX}/customer/7"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def load(url: str, stores: list[str]) -> dict[str, Counter[int]]:
    """Read a customer of each of these stores, many at a time, and return the statuses."""

    def ask(store_id: str) -> tuple[str, int]:
        response = requests.get(url, headers={"Store": store_id}, timeout=60)
        if response.status_code == 200:
            assert response.json()["data"]["attributes"]["taxId"] == store_id
        return store_id, response.status_code

    statuses: dict[str, Counter[int]] = {store_id: Counter() for store_id in stores}
    with ThreadPoolExecutor(16) as threads:
        for store_id, status in threads.map(ask, stores):
            statuses[store_id][status] += 1
    return statuses


@pytest.mark.parametrize("kind", ["file", "redis"])
def test_half_of_the_tokens_are_refused(tmp_path: Path, redis: RedisServer, kind: str) -> None:
    """Ecwid gets few refused tokens a minute, and the accepted stores are served all the time.

    Workers that start later know the accepted tokens and the refused ones.
    """
    own = {"ECWID_REDIS_URL": redis.url} if kind == "redis" else {}
    mixed = [store_id for pair in zip(ACCEPTED, REFUSED, strict=True) for store_id in pair]
    with TokenServer(ACCEPTED) as ecwid:
        settings = {"ECWID_API_URL": ecwid.url, "XDG_STATE_HOME": str(tmp_path), **own}
        with agency(tmp_path, **settings) as url:
            assert set().union(*load(url, list(ACCEPTED)).values()) == {200}
            before = load(url, mixed * 5)
        tried = ecwid.refusals()
        with agency(tmp_path, **settings) as url:
            after = load(url, mixed * 5)
    for statuses in (before, after):
        assert all(statuses[store_id] == {200: 5} for store_id in ACCEPTED)
        assert all(set(statuses[store_id]) <= {502, 503} for store_id in REFUSED)
    assert 0 < ecwid.refused_at_once() <= MOST
    assert max(tried.values()) <= WORKERS
