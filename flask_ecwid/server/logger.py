"""gunicorn's logger, with JSON lines and without query strings."""

from __future__ import annotations

import sys
from logging.config import dictConfig
from typing import Any

from gunicorn.glogging import Logger

# One JSON object per line, with the fields that flask_ecwid adds to a record.
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"class": "flask_ecwid.web.log_lines.JsonFormatter"}},
    "handlers": {
        "stderr": {"class": "flask_ecwid.web.log_lines.StderrHandler", "formatter": "json"}
    },
    "root": {"level": "INFO", "handlers": ["stderr"]},
    "loggers": {"gunicorn.error": {"handlers": ["stderr"], "propagate": False}},
}


class RedactingLogger(Logger):
    """A logger of JSON lines that leaves out gunicorn's request lines, which hold query strings."""

    def setup(self, cfg: Any) -> None:
        """Configure JSON lines, unless gunicorn's settings name a log configuration."""
        super().setup(cfg)
        if not (cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json):
            dictConfig(LOGGING)

    def access(self, *_: Any) -> None:
        """Write nothing, because `flask_ecwid.request` logs every request without its query."""

    def warning(self, msg: object, *args: object, **options: Any) -> None:
        """Cut the text of a malformed request, which gunicorn's own workers log."""
        if str(msg).startswith("Invalid request from"):
            msg, args = "Invalid request", ()
        super().warning(msg, *args, **options)

    def exception(self, msg: object, *args: object, **options: Any) -> None:
        """Log only the error's name when a request fails outside of the app."""
        if str(msg).startswith("Error handling"):
            self.error("Error handling a request: %s", getattr(sys.exc_info()[0], "__name__", ""))
        else:
            super().exception(msg, *args, **options)
