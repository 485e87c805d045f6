"""The gunicorn worker and logger classes that gunicorn.conf.py names, and its hooks.

    worker_class = "flask_ecwid.server.ProblemWorker"
    logger_class = "flask_ecwid.server.RedactingLogger"

gunicorn imports this module in its master process. A reload (SIGHUP) keeps the package's code,
because new workers are forks of the same master.
"""

from __future__ import annotations

from .hooks import child_exit, on_exit, on_starting, pre_exec, pre_fork
from .logger import LOGGING, RedactingLogger
from .shared import share
from .worker import ProblemWorker

__all__ = [
    "LOGGING",
    "ProblemWorker",
    "RedactingLogger",
    "child_exit",
    "on_exit",
    "on_starting",
    "pre_exec",
    "pre_fork",
    "share",
]
