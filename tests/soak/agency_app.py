"""A host app of many stores, whose callers name their store in a header."""

from __future__ import annotations

import os

from ..helpers.agency import Agency

app = Agency({key: value for key, value in os.environ.items() if key.startswith("ECWID_")}).app
