"""Objects that all mounts and clients of one process share.

Two mounts of one store share the count of writes. So a read through one mount sees a write through
the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

from .. import clock

_T = TypeVar("_T")


class _Objects:
    """The objects of one process, each of which lives as long as a `ProcessWide` refers to it.

    So an app that is dropped leaves nothing behind for another app with the same settings.
    """

    def __init__(self) -> None:
        self._lock = clock.Lock()
        self._objects: WeakValueDictionary[tuple[Any, str], Any] = WeakValueDictionary()

    def find(self, make: Callable[[], _T], key: str) -> _T:
        """Return the object of this key, which is made if there is none."""
        # The object is made before the lock is taken, because it may make a lock of its own. A fork
        # holds back a thread that makes a lock, and waits for all other locks.
        made = make()
        with self._lock:
            found: _T = self._objects.setdefault((make, key), made)
            return found


# The key is the process id, because a forked process may not share locks and counts with its
# parent. Without the id, the child would wait for a lock that a thread of its parent had.
_of_process: dict[int, _Objects] = {}


class ProcessWide(Generic[_T]):
    """Finds the object that all mounts and clients of this process share under one key."""

    def __init__(self, make: Callable[[], _T], key: str) -> None:
        """Make the object if no other mount or client of this process has made it."""
        self._make = make
        # A digest, because a key may hold the URL of a Redis with its password.
        self._key = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
        self._found = self._find()

    def get(self) -> _T:
        """Return the object of this process, which is another object in a forked process."""
        process, found = self._found
        if process != clock.process_id():
            process, found = self._found = self._find()
        return found

    def _find(self) -> tuple[int, _T]:
        process = clock.process_id()
        return process, _of_process.setdefault(process, _Objects()).find(self._make, self._key)
