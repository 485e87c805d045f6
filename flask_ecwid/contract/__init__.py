"""customers.yaml, compiled: what the requests and the replies of each operation look like."""

from __future__ import annotations

from .document import Contract, load, spec_path

__all__ = ["Contract", "load", "spec_path"]
