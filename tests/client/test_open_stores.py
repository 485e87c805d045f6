"""The stores that are open, and what is left of a store that was closed."""

from __future__ import annotations

import pytest

from flask_ecwid import StoreCredentials, clock
from flask_ecwid.client.open_stores import OpenStores
from flask_ecwid.client.opening import open_upstream
from flask_ecwid.errors import EcwidUnavailable, Throttled
from flask_ecwid.settings import Settings
from flask_ecwid.storage.memory_state import MemoryState
from flask_ecwid.storage.opening import Storage
from flask_ecwid.storage.state import StateUnavailable, Stored

FIRST, SECOND = (StoreCredentials(id, f"secret_{id}_12345678") for id in ("1003", "1004"))


class Failing(MemoryState):
    """A storage that can fail at command."""

    fails = False

    def get(self, key: str) -> Stored | None:
        if self.fails:
            raise StateUnavailable
        return super().get(key)


@pytest.fixture
def state() -> Failing:
    return Failing()


@pytest.fixture
def stores(state: Failing) -> OpenStores:
    settings = Settings(stores="host", max_open_stores=1)
    return OpenStores(open_upstream(settings, storage=Storage(state, state)), "ecwid")


def test_a_store_in_use_stays_open(stores: OpenStores) -> None:
    """A store is not closed while a request uses it, although another store is opened."""
    used = stores.get(FIRST)
    stores.get(SECOND)
    assert stores.get(FIRST) is used
    assert len(stores) == 2


def test_the_least_recently_used_store_is_closed(stores: OpenStores) -> None:
    """A store that no request uses is closed as soon as another store is opened."""
    stores.get(FIRST)
    stores.get(SECOND)
    assert len(stores) == 1


def test_a_closed_store_keeps_its_pause(stores: OpenStores, state: Failing) -> None:
    """A process knows the pause of a store that it has closed, also if the storage fails."""
    guard = stores.get(FIRST).guard
    permit = guard.acquire(clock.now() + 20)
    guard.record_failure(permit, EcwidUnavailable(60))
    del guard
    stores.get(SECOND)
    state.fails = True
    with pytest.raises(Throttled, match="An earlier call failed"):
        stores.get(FIRST).guard.acquire(clock.now() + 20)
