"""A host app whose view forks beside the threads of its server."""

from __future__ import annotations

import os
import signal
import time
import warnings

import flask

from flask_ecwid import Ecwid, EcwidError

CHILD_MOST_S = 30

# Python warns of each fork in a process with threads, and that is the purpose of this app.
warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork")

app = flask.Flask("forking")
app.config.update({key: value for key, value in os.environ.items() if key.startswith("ECWID_")})
ecwid = Ecwid(app)


@app.post("/fork/<int:customer_id>")
def fork(customer_id: int) -> str:
    """Return whether a forked child could make a call, or `hung` if the child did not end."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            ecwid.client.get_customer(customer_id)
            os.write(write, b"good")
        except EcwidError as exc:
            os.write(write, type(exc).__name__.encode())
        finally:
            os._exit(0)
    os.close(write)
    until = time.monotonic() + CHILD_MOST_S
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(read)
            return "hung"
        time.sleep(0.01)
    with os.fdopen(read) as found:
        return found.read() or "died"
