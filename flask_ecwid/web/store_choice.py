"""Choose the store of a request, after its caller is known.

The store follows from the caller, and never from a parameter alone. Otherwise any caller could
name the store of somebody else.
https://owasp.org/API-Security/editions/2023/en/0xa1-broken-object-level-authorization/
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from ..errors import NoStoreAssigned, StoreLookupFailed, place_of
from ..settings import StoreCredentials
from ..settings.stores_file import StoresFile
from .authentication import Caller, KeyCaller

log = logging.getLogger("flask_ecwid")

StoreOfCaller = Callable[[Caller], "StoreCredentials | None"]
FindStore = Callable[[str], "StoreCredentials | None"]


class StoreChoice(Protocol):
    """The stores of a mount, and the choice among them."""

    only: StoreCredentials | None  # The single store, or None if there are many.

    def store_ids(self) -> list[str] | None:
        """Return the numbers of all stores, or None if only the host knows them."""

    def of(self, caller: Caller) -> StoreCredentials:
        """Return the store of a caller.

        Raises:
            NoStoreAssigned: The caller has no store.
            StoreLookupFailed: The store could not be looked up.
        """

    def find(self, store_id: str) -> StoreCredentials | None:
        """Return the store with this number, or None if there is none.

        Raises:
            StoreLookupFailed: The store could not be looked up.
        """


class OnlyStore:
    """The choice of a mount with one store, which serves every caller."""

    def __init__(self, credentials: StoreCredentials) -> None:
        self.only: StoreCredentials | None = credentials

    def of(self, caller: Caller) -> StoreCredentials:
        """Return the store."""
        assert self.only is not None
        return self.only

    def store_ids(self) -> list[str] | None:
        """Return the number of the store."""
        return [self.only.store_id] if self.only else None

    def find(self, store_id: str) -> StoreCredentials | None:
        """Return the store if this is its number."""
        return self.only if self.only and self.only.store_id == store_id else None


class ListedStores:
    """The choice of the stores file, in which the API key of a caller belongs to one store."""

    only: StoreCredentials | None = None

    def __init__(self, stores: StoresFile) -> None:
        self._stores = stores

    def of(self, caller: Caller) -> StoreCredentials:
        """Return the store of the caller's API key."""
        assert isinstance(caller, KeyCaller)
        return caller.credentials

    def store_ids(self) -> list[str] | None:
        """Return the numbers of the stores in the file."""
        return self._stores.store_ids()

    def find(self, store_id: str) -> StoreCredentials | None:
        """Return the store with this number, as the file has it now."""
        return self._stores.find_store(store_id)


class HostStores:
    """The choice of the host, which keeps the credentials of its merchants."""

    only: StoreCredentials | None = None

    def __init__(self, store_of: StoreOfCaller, find_store: FindStore | None) -> None:
        self._store_of = store_of
        self._find_store = find_store

    def of(self, caller: Caller) -> StoreCredentials:
        """Return the store of a caller, as the host's `store` says."""
        credentials = _asked("store", self._store_of, caller)
        if credentials is None:
            raise NoStoreAssigned
        return credentials

    def store_ids(self) -> list[str] | None:
        """Return None, because the host has no function that lists its stores."""
        return None

    def find(self, store_id: str) -> StoreCredentials | None:
        """Return the store with this number, as the host's `find_store` says."""
        if self._find_store is None:
            log.error("the app has passed no find_store, so no store is found by its number")
            raise StoreLookupFailed
        credentials = _asked("find_store", self._find_store, store_id)
        if credentials is not None and credentials.store_id != store_id:
            log.error("find_store returned another store than it was asked for")
            raise StoreLookupFailed
        return credentials


def _asked(name: str, function: Callable[..., object], argument: object) -> StoreCredentials | None:
    """Return the answer of a function of the host.

    Raises:
        StoreLookupFailed: The function raised an exception, or returned anything else.
    """
    found: object
    try:
        found = function(argument)
    except BaseException as exc:  # because a SystemExit would end the worker
        log.error("%s raised %s at %s", name, type(exc).__name__, place_of(exc))
    else:
        if found is None or isinstance(found, StoreCredentials):
            return found
        log.error("%s returned %s instead of StoreCredentials", name, type(found).__name__)
    # The error is raised outside of the except block, so that no context shows the host's error.
    raise StoreLookupFailed
