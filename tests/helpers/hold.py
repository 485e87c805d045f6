"""Holding a method back, so that a test can act while the method is under way."""

from __future__ import annotations

import threading
from typing import Any

import pytest


class Hold:
    """A method that begins, and goes on when the test says so."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        """Hold back each call of the method until `release`."""
        self._begun = threading.Event()
        self._released = threading.Event()
        method = getattr(owner, name)

        def held(*args: Any, **options: Any) -> Any:
            self._begun.set()
            assert self._released.wait(60)
            return method(*args, **options)

        patch.setattr(owner, name, held)

    def wait(self) -> None:
        """Wait until the method has begun."""
        assert self._begun.wait(60)

    def release(self) -> None:
        """Let each call of the method go on."""
        self._released.set()
