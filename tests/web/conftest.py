"""Fixtures: a store with one customer, and settings of workers that share their records."""

from __future__ import annotations

import pytest
from pytest_httpserver import HTTPServer

from ..conftest import Config
from ..helpers.redis_server import RedisServer
from ..helpers.store_of_one import StoreOfOne


@pytest.fixture
def store_of_one(ecwid: HTTPServer) -> StoreOfOne:
    return StoreOfOne(ecwid)


@pytest.fixture(params=["file", "redis"])
def shared(request: pytest.FixtureRequest) -> Config:
    """Return settings that keep the records in this host's file or in Redis."""
    if request.param == "file":
        return {}
    redis: RedisServer = request.getfixturevalue("redis")
    return {"ECWID_REDIS_URL": redis.url}
