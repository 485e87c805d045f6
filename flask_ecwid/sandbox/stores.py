"""The simulated stores of a sandbox, by their ids.

The file of the sandbox is the default store. Each further store is a file beside that file, so no
query can find anything of another store. All processes that serve the sandbox see a further store
as soon as its file is complete.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flask import current_app

from .controls import Controls
from .documents import Document
from .outbox import Outbox
from .store import Store
from .tokens import ALL_SCOPES, STORE_ID

STORES = "sandbox"  # the name of the stores among the extensions of a sandbox
_ID = re.compile(r"[1-9][0-9]{0,19}")


class Simulated(NamedTuple):
    """One store of the sandbox, with its controls and its events."""

    store: Store
    controls: Controls
    outbox: Outbox


def path_of(path: str | os.PathLike[str], store_id: str) -> Path:
    """Return the file of a further store.

    Args:
        path: the file of the sandbox.
        store_id: the number of the store.

    Raises:
        ValueError: `store_id` is not a number of at most 20 digits, or has a zero in front.
    """
    if not isinstance(store_id, str) or not _ID.fullmatch(store_id):
        expected = "1 to 20 decimal digits without a zero in front"
        raise ValueError(f"The id of a store must be {expected}; got {store_id!r}")
    return Path(f"{os.fspath(path)}-{store_id}")


class Stores:
    """The stores of the sandbox in a file.

    Args:
        path: the file of the sandbox.
        store_id: the id of the default store, whose customers are in this file.
        customers: returns the customers of a new store.
        switches: the switches to set in each store that this object adds.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        store_id: str = STORE_ID,
        customers: Callable[[], Iterable[tuple[Document, list[int]]]] = list,
        switches: Mapping[str, Any] | None = None,
    ) -> None:
        self._path = Path(path).absolute()  # the folder of the process may change
        self._customers = customers
        self._switches = dict(switches or {})
        self.store = Store(path)
        self.controls = Controls(path)
        self.default = Simulated(self.store, self.controls, Outbox(store_id, self.store))
        self._found = {store_id: self.default}

    def fill(
        self, tokens: Mapping[str, Collection[str]], *, accept_new_stores: bool = False
    ) -> None:
        """Turn a new file into a sandbox. Do nothing with an existing sandbox.

        Args:
            tokens: the scopes of each token of the default store.
            accept_new_stores: whether `accept` adds stores to the new sandbox, and a token to the
                default store.

        Raises:
            ValueError: another version of the sandbox wrote the file, or a switch is invalid.
            sqlite3.Error: the file cannot be opened, or is not a SQLite file.
            OSError: the file cannot be created, or another user may have made the file.
        """
        self.store.fill(self._customers, tokens, accept_new_stores=accept_new_stores)
        self._switch(self.controls)

    def find(self, store_id: str) -> Simulated | None:
        """Return a store of the sandbox, or None if the sandbox has no such store."""
        if found := self._found.get(store_id):
            return found
        if not _ID.fullmatch(store_id):
            return None  # no file has such a name, which may be a path to another folder
        path = path_of(self._path, store_id)
        store = Store(path)
        if not store.is_complete():
            return None
        opened = Simulated(store, Controls(path), Outbox(store_id, store))
        return self._found.setdefault(store_id, opened)

    def opened(self) -> list[Simulated]:
        """Return the default store, and each further store that this object has opened."""
        return list(self._found.values())

    def add(self, store_id: str, tokens: Mapping[str, Collection[str]]) -> Simulated:
        """Add a store with these tokens, or return the store that the sandbox has already.

        If several processes add a store at the same time, the tokens of one of them count.

        Raises:
            ValueError: `store_id` is not a number, or a scope or a switch is invalid.
            OSError: the file cannot be created, or another user may have made the file.
        """
        found = self.find(store_id)
        if found is None:
            store = Store(path_of(self._path, store_id))
            store.fill(self._customers, tokens)
            found = self.find(store_id)
            assert found is not None
            self._switch(found.controls)
        return found

    def accept(self, store_id: str, token: str | None) -> Simulated | None:
        """Return a store that a call names, and add a new store if the sandbox accepts new stores.

        The first token that is used for a new store is the token of the store from then on. The
        default store has a token already, and accepts the first other token as well.
        """
        found = self.find(store_id)
        if found is self.default and token:
            found.store.accept_token(token)
        if found or not token or not _ID.fullmatch(store_id) or not self.store.accepts_new_stores():
            return found
        return self.add(store_id, {token: ALL_SCOPES})

    def _switch(self, controls: Controls) -> None:
        if self._switches:
            controls.switch(**self._switches)


def served_stores() -> Stores:
    """Return the stores of the sandbox that serves the request under way."""
    stores: Stores = current_app.extensions[STORES]
    return stores
