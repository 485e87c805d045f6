"""gunicorn's settings for `gunicorn wsgi:app`, with and without --preload."""

from __future__ import annotations

import gc
from typing import Any

from flask_ecwid import server

bind = "127.0.0.1:8000"
threads = 32  # A thread spends most of its time waiting for Ecwid.
keepalive = 5
# Keep this above ECWID_DEADLINE_S. Otherwise gunicorn kills a request that could still end.
graceful_timeout = 30
# A search with every parameter at its longest has 51 kB, encoded. ProblemWorker applies the
# setting, because gunicorn caps the length at 8190 bytes.
limit_request_line = 65_536
# Otherwise gunicorn would use its C parser as soon as gunicorn_h1c is installed. That parser
# responds with 400 to some malformed requests that get a 413, 431 or 501 from the Python parser.
http_parser = "python"

# No header sets the app's path. Otherwise a process on this host could change it with SCRIPT_NAME.
forwarder_headers = ""
# No header sets the scheme, because wsgi.py trusts only the proxies of ECWID_TRUSTED_PROXIES.
# Otherwise gunicorn would trust every peer on a UNIX socket.
secure_scheme_headers: dict[str, str] = {}
# gunicorn 25.1 and newer would otherwise open a socket in the user's home that controls the server.
control_socket_disable = True

worker_class = "flask_ecwid.server.ProblemWorker"
logger_class = "flask_ecwid.server.RedactingLogger"

server.share()
on_starting = server.on_starting
pre_fork = server.pre_fork
child_exit = server.child_exit
pre_exec = server.pre_exec
on_exit = server.on_exit


def post_worker_init(worker: Any) -> None:
    """Exclude the objects of the start from garbage collection, and collect less often.

    Without this, a collection runs for every page of customers.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
