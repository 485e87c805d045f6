"""The open stores of a mount. A store is opened at its first use, and closed when others need room.

Nobody has to close a store, because all stores share the connections and the storage.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from weakref import WeakValueDictionary

from .. import clock
from ..settings import StoreCredentials
from ..signals import CallSignals
from .opening import OpenStore, Upstream, open_store


class OpenStores:
    """The open stores behind one way to Ecwid. Threads share the stores.

    At most `max_open_stores` of the settings stay open. Beyond that number, a store stays open
    while a request uses the store, or while other processes have to hear of its pause. Two open
    stores with one token would not know of each other's failures. A request uses a store as long as
    a name of its code refers to the `OpenStore`.
    """

    def __init__(self, upstream: Upstream, name: str, sender: object | None = None) -> None:
        """Open no store yet.

        Args:
            upstream: The way to Ecwid.
            name: The name of the mount, for the signals.
            sender: The sender of the signals. By default the open stores themselves.
        """
        self.upstream = upstream
        self._name = name
        # A plain reference would keep a dropped client alive.
        self._sender = weakref.ref(sender or self)
        self._most = upstream.settings.max_open_stores
        self._lock = clock.Lock()
        self._recent: OrderedDict[StoreCredentials, OpenStore] = OrderedDict()
        # Tells which of the stores a request uses.
        self._used: WeakValueDictionary[StoreCredentials, OpenStore] = WeakValueDictionary()

    def get(self, credentials: StoreCredentials) -> OpenStore:
        """Return the open store of these credentials, which is opened if necessary."""
        with self._lock:
            store = self._recent.get(credentials)
            if store is not None:
                self._recent.move_to_end(credentials)
                return store
        # The store is opened without the lock, because its parts make locks of their own.
        signals = CallSignals(self._sender(), self._name, credentials.store_id)
        opened = open_store(self.upstream, credentials, signals)
        with self._lock:
            store = self._used.setdefault(credentials, opened)
            self._recent[credentials] = store
            self._close_oldest()
        return store

    def forget(self, store_id: str) -> None:
        """Forget the pauses and the cached responses of a store, and close the store.

        The rate limit keeps its counts, because Ecwid keeps its own.

        Raises:
            Throttled: The storage cannot be reached, so a part may not be forgotten.
        """
        with self._lock:
            for credentials in [each for each in self._recent if each.store_id == store_id]:
                del self._recent[credentials]
            used = [store for key, store in self._used.items() if key.store_id == store_id]
        self.upstream.forget(store_id)
        for store in used:
            store.guard.forget_pause()

    def __len__(self) -> int:
        """Return how many stores are open."""
        return len(self._recent)

    def close(self) -> None:
        """Close the connections of this process. A later call opens new connections."""
        self.upstream.close()

    def _close_oldest(self) -> None:
        """Close the stores that were used least recently, without those that must stay open."""
        for _ in range(len(self._recent) - self._most):
            credentials, store = self._recent.popitem(last=False)
            guard = store.guard
            kept = store if guard.must_stay else None
            del store  # Otherwise this name would use the store.
            kept = kept or self._used.get(credentials)
            if kept is not None:
                self._recent[credentials] = kept
            else:
                self.upstream.guards.close(credentials, guard)
