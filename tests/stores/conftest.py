"""Fixtures: a fake Ecwid with many stores, and apps that serve all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ..helpers.agency import Agency
from ..helpers.fake_stores import FakeStores


@pytest.fixture(autouse=True)
def _patience(patience: None) -> None:
    """Give each test here time for Redis."""


@pytest.fixture
def fake() -> Iterator[FakeStores]:
    with FakeStores() as stores:
        yield stores


@pytest.fixture
def agency(fake: FakeStores) -> Callable[..., Agency]:
    """Return a function that makes an app with these settings."""

    def make(**settings: Any) -> Agency:
        return Agency({"ECWID_API_URL": fake.url, **settings})

    return make
