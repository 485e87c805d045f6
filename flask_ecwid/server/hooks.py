"""The hooks that gunicorn.conf.py names. gunicorn calls each with its arbiter as `server`."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from typing import Any

from .cores import least_used_core
from .shared import COUNTS, SANDBOX, TEMPORARY, WORKERS, is_on

_PIN_WORKERS = "ECWID_PIN_WORKERS"


def on_starting(server: Any) -> None:
    """Delete the metrics of earlier processes, unless an old master still counts (SIGUSR2)."""
    folder = os.environ.get(COUNTS)
    if folder and not server.master_pid:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        for name in os.listdir(folder):
            if re.fullmatch(r"(counter|histogram|summary|gauge_[a-z]+)_[0-9]+\.db", name):
                os.unlink(os.path.join(folder, name))


def pre_fork(server: Any, worker: Any) -> None:
    """Pass on the number of workers, with the workers that SIGTTIN added, and choose a core."""
    os.environ[WORKERS] = str(server.num_workers)
    if is_on(_PIN_WORKERS, default="on"):
        workers = server.WORKERS.values()
        worker.core = least_used_core(getattr(each, "core", None) for each in workers)


def child_exit(server: Any, worker: Any) -> None:
    """Take the requests of a worker that has ended out of the gauge, but keep its counters."""
    if os.environ.get(COUNTS):
        with suppress(ImportError):  # Without prometheus_client no worker counts.
            from prometheus_client.multiprocess import mark_process_dead

            mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def pre_exec(server: Any) -> None:
    """Hand the shared files to a new master (SIGUSR2), because gunicorn resets its environment."""
    for name in (TEMPORARY, SANDBOX, COUNTS):
        if name in os.environ:
            server.cfg.env_orig[name] = os.environ[name]


def on_exit(server: Any) -> None:
    """Delete the folders that `share` made, unless another master still uses them."""
    if server.reexec_pid or os.getppid() == server.master_pid:
        return
    for folder in filter(None, os.environ.get(TEMPORARY, "").split(os.pathsep)):
        shutil.rmtree(folder, ignore_errors=True)
