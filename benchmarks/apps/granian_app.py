"""The app of wsgi.py for Granian, with the log lines and the settings of gunicorn.conf.py."""

import gc
from logging.config import dictConfig

from flask_ecwid.server import LOGGING
from wsgi import app as app

dictConfig(LOGGING)
gc.collect()
gc.freeze()
gc.set_threshold(20_000, 20, 100)
