"""The contract, customers.yaml, compiled into checks of requests, responses and replies."""

from __future__ import annotations

from .document import Contract, load, spec_path

__all__ = ["Contract", "load", "spec_path"]
