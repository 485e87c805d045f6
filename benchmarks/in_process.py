"""The CPU time of a get in process, without a server and without sockets.

    python in_process.py wsgi|agency STORE

Each line of the standard input is a number of gets, and is answered with the microseconds per get.
The reply of Ecwid is made up in place of the transport. So also older versions of the plugin can be
measured beside the newest.
"""

from __future__ import annotations

import gc
import sys
import time
from importlib import import_module
from logging.config import dictConfig
from typing import Any

from werkzeug.test import create_environ

from flask_ecwid.client.replies import Reply
from flask_ecwid.client.transport import RequestsTransport
from flask_ecwid.server import LOGGING

PATH = "/api/json/v1/ecwid/customer/177737165"
REPLY = Reply(
    200, {"content-type": "application/json"}, b'{"id":177737165,"email":"ana@example.com"}'
)
WARMING_GETS = 5  # because another process has just used the caches of the processor


def send(transport: RequestsTransport, *arguments: Any) -> Reply:
    *_, check = arguments
    check()
    return REPLY


def get(app: Any, environ: dict[str, Any]) -> None:
    statuses: list[str] = []
    response = app(environ.copy(), lambda status, headers: statuses.append(status))
    b"".join(response)
    if statuses != ["200 OK"]:
        raise RuntimeError(f"the app answered with {statuses}")


def main(module: str, store: str) -> None:
    RequestsTransport.send = send  # type: ignore[method-assign]
    app = import_module(module).app
    dictConfig(LOGGING)
    environ = create_environ(PATH, headers={"Store": store})
    get(app, environ)
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)  # as gunicorn.conf.py
    for line in sys.stdin:
        gets = int(line)
        for _ in range(WARMING_GETS):
            get(app, environ)
        began = time.process_time()
        for _ in range(gets):
            get(app, environ)
        print(1e6 * (time.process_time() - began) / gets, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
