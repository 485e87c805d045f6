"""Reads documents through the generated models, and prints what the models write."""

from __future__ import annotations

import json
import sys
from typing import Any

from ecwid_customers_client import models

written: dict[str, list[Any]] = {}
for name, documents in json.load(sys.stdin)["documents"].items():
    model = getattr(models, name)
    written[name] = [model.from_dict(document).to_dict() for document in documents]
json.dump(written, sys.stdout)
