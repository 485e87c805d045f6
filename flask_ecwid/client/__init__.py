"""EcwidClient: the five calls on a store's customers, usable without Flask."""

from __future__ import annotations

from .client import EcwidClient

__all__ = ["EcwidClient"]
