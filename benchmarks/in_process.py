"""Measure the CPU time of requests to an app in a process of its own, without a server.

    python in_process.py MODULE:APP [STORE]

Each line of the standard input has a work and a number of requests. The program prints the
microseconds per request. With STORE, the requests name that store in a header, and replies of Ecwid
are made up in place of the transport.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from itertools import count
from logging.config import dictConfig
from pathlib import Path
from typing import Any

from werkzeug.test import create_environ
from work import WORK

WARMING = 5  # because another process has just used the caches of the processor

Measure = Callable[[str, int], float]

_numbers = count(1)


@contextmanager
def measured(
    app: str, store: str = "", *, cwd: Path, env: Mapping[str, str], log: Path
) -> Iterator[Measure]:
    """Start the process of an app, and yield the function that measures requests to it."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, __file__, app, *filter(None, [store])],
            cwd=cwd,
            env={**os.environ, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )
    stdin, stdout = process.stdin, process.stdout
    assert stdin
    assert stdout

    def measure(work: str, requests: int) -> float:
        print(work, requests, file=stdin, flush=True)
        printed = stdout.readline()
        if not printed:
            raise RuntimeError(f"{app} has ended:\n{log.read_text()[-2000:]}")
        return float(printed)

    try:
        yield measure
    finally:
        stdin.close()
        process.wait(10)
        stdout.close()


def interleave(
    apps: Mapping[str, Measure], works: Iterable[str], *, blocks: int, requests: int = 20
) -> dict[str, dict[str, list[float]]]:
    """Return the microseconds per request of short blocks, in an order that turns.

    The first block of each app and work warms up, and is left out.
    """
    samples: dict[str, dict[str, list[float]]] = {
        name: {work: [] for work in works} for name in apps
    }
    names = list(apps)
    for number in range(blocks + 1):
        turn = number % len(names)
        for work in works:
            for name in names[turn:] + names[:turn]:
                cost_us = apps[name](work, requests)
                if number:
                    samples[name][work].append(cost_us)
    return samples


# The process of an app


def load(name: str) -> Any:
    """Return the app. An app of flask_ecwid gets the log lines and settings of gunicorn.conf.py."""
    module, _, attribute = name.partition(":")
    app = getattr(import_module(module), attribute)
    if "flask_ecwid" in sys.modules:
        from flask_ecwid.server import LOGGING

        dictConfig(LOGGING)
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 100)
    return app


def prepare(work: str, requests: int, store: str = "") -> list[dict[str, Any]]:
    """Return the WSGI environments of so many requests."""
    url, body = WORK[work]
    headers = {"User-Agent": "wrk", **({"Store": store} if store else {})}
    if body:
        headers["Content-Type"] = "application/json"
        return [
            create_environ(url, method="POST", data=body, headers=headers) for _ in range(requests)
        ]
    return [create_environ(f"{url}{next(_numbers)}", headers=headers) for _ in range(requests)]


def respond(app: Any, environ: dict[str, Any]) -> None:
    """Send a request to the app.

    Raises:
        RuntimeError: The response was not good.
    """
    statuses: list[str] = []
    response = app(environ, lambda status, headers: statuses.append(status))
    b"".join(response)
    if hasattr(response, "close"):
        response.close()
    if statuses != ["200 OK"]:
        raise RuntimeError(f"the app responded with {statuses}")


def make_replies_up() -> None:
    """Replace the transport, so that also an older version of the plugin can be compared."""
    from flask_ecwid.client.replies import Reply
    from flask_ecwid.client.transport import RequestsTransport

    reply = Reply(
        200, {"content-type": "application/json"}, b'{"id":177737165,"email":"ana@example.com"}'
    )

    def send(transport: RequestsTransport, *arguments: Any) -> Reply:
        *_, check = arguments
        check()
        return reply

    RequestsTransport.send = send  # type: ignore[method-assign]


def main(name: str, store: str = "") -> None:
    app = load(name)
    if store:
        make_replies_up()
    for line in sys.stdin:
        work, requests = line.split()
        for environ in prepare(work, WARMING, store):
            respond(app, environ)
        environs = prepare(work, int(requests), store)
        began = time.process_time()
        for environ in environs:
            respond(app, environ)
        print(1e6 * (time.process_time() - began) / len(environs), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
