"""A worker process with an app, which serves one request for each line of its standard input."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from ..conftest import PREFIX, ROOT, Config, environment

PROGRAM = f"""
import json, os, sys
import flask
from flask_ecwid import Ecwid
from flask_ecwid.storage import redis_connection
from tests.helpers.patience import PATIENCE

redis_connection.COOLDOWN_S = 0.1
for module, name, seconds in PATIENCE:
    setattr(module, name, seconds)
app = flask.Flask("host")
app.config.update(json.loads(os.environ["CONFIG"]))
Ecwid(app)
caller, client = app.test_client(), app.extensions["ecwid"]["ecwid"].client

def serve(what, *arguments):
    if what == "client":
        return 200, getattr(client, arguments[0])(*arguments[1:])
    response = caller.open({PREFIX!r} + arguments[0], method=what, json=(arguments + (None,))[1])
    return response.status_code, response.get_json()

for line in sys.stdin:
    request = json.loads(line)
    if request[0] == "fork":
        if os.fork():
            os.wait()
            continue
        print(json.dumps(serve(*request[1:])), flush=True)
        os._exit(0)
    print(json.dumps(serve(*request)), flush=True)
"""


class Worker:
    """A worker process of its own."""

    def __init__(self, config: Config, **variables: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={**environment(CONFIG=json.dumps(config)), **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def ask(self, *request: object) -> tuple[int, Any]:
        """Return the status and the JSON of the response to a request.

        A request is a method, a path and a body, or `client`, a method of the client and its
        arguments. After `fork`, a forked child serves the rest of the request.
        """
        self.begin(*request)
        return self.end()

    def begin(self, *request: object) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def end(self) -> tuple[int, Any]:
        assert self._process.stdout
        status, body = json.loads(self._process.stdout.readline())
        return status, body

    def lang(self, *before: str) -> str:
        """Return the language of customer 7, as a read shows it."""
        status, body = self.ask(*before, "GET", "/customer/7")
        assert status == 200, body
        return str(body["data"]["attributes"]["lang"])

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
