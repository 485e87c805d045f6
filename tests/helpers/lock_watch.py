"""A watch for threads that hold a lock of the package while they wait or do I/O."""

from __future__ import annotations

import socket
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flask_ecwid import clock
from flask_ecwid.client.transport import RequestsTransport
from flask_ecwid.storage.redis_connection import RedisConnection

OF_SOCKETS = (
    *("connect", "connect_ex"),
    *("send", "sendall", "sendto", "recv", "recv_into", "recvfrom"),
)
OF_DATABASES = ("execute", "executemany", "executescript", "commit", "rollback")


class LockWatch:
    """A replacement of `clock.Lock` that records each wait, I/O or other lock under a lock."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._held = threading.local()
        self._lock = threading.Lock()
        self.violations: set[str] = set()
        self.made = 0  # locks
        self.seen: set[str] = set()  # waits and I/O that happened
        patch.setattr(clock, "Lock", lambda: WatchedLock(self))
        patch.setattr(clock, "Event", self._event())
        patch.setattr(sqlite3, "connect", self._connect())
        for name in OF_SOCKETS:
            patch.setattr(socket.socket, name, self._watched(f"socket.{name}", name))
        seams: list[tuple[Any, str]] = [
            *((socket, name) for name in ("getaddrinfo", "create_connection")),
            *((clock, name) for name in ("sleep", "call_within")),
            (RequestsTransport, "send"),
            (RedisConnection, "connection"),
        ]
        for owner, name in seams:
            patch.setattr(owner, name, self._noting(f"{owner.__name__}.{name}", owner, name))

    def locks(self) -> list[str]:
        """Return the places where the current thread took its locks."""
        held: list[str] = self._held.__dict__.setdefault("places", [])
        return held

    def note(self, seam: str) -> None:
        with self._lock:
            self.seen.add(seam)
            self.violations |= {f"{seam} under the lock of {place}" for place in self.locks()}

    def _noting(self, seam: str, owner: Any, name: str) -> Callable[..., Any]:
        real = getattr(owner, name)

        def noted(*args: Any, **options: Any) -> Any:
            self.note(seam)
            return real(*args, **options)

        return noted

    def _watched(self, seam: str, name: str) -> Callable[..., Any]:
        """Return a watched method for sockets, in place of the method of their base class in C."""
        below = getattr(socket.socket.__base__, name)

        def watched(sock: Any, *args: Any, **options: Any) -> Any:
            self.note(seam)
            return below(sock, *args, **options)

        return watched

    def _event(self) -> type[threading.Event]:
        watch = self

        class Event(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                watch.note("Event.wait")
                return super().wait(timeout)

        return Event

    def _connect(self) -> Callable[..., sqlite3.Connection]:
        real = sqlite3.connect
        methods = {name: self._of_database(name) for name in OF_DATABASES}
        watched = type("Watched", (sqlite3.Connection,), methods)

        def connect(*args: Any, **options: Any) -> sqlite3.Connection:
            self.note("sqlite3.connect")
            db: sqlite3.Connection = real(*args, **{"factory": watched, **options})
            return db

        return connect

    def _of_database(self, name: str) -> Callable[..., Any]:
        below = getattr(sqlite3.Connection, name)

        def watched(db: Any, *args: Any) -> Any:
            self.note(f"sqlite3.{name}")
            return below(db, *args)

        return watched


class WatchedLock:
    """A lock that knows which thread holds the lock, and which other locks that thread holds."""

    def __init__(self, watch: LockWatch) -> None:
        self._watch = watch
        self._lock = threading.Lock()
        watch.made += 1
        if watch.locks():  # A fork holds back whoever makes a lock, and waits for all locks.
            watch.note("the making of a lock")

    def __enter__(self) -> None:
        self._lock.acquire()
        caller = sys._getframe(1)
        place = f"{Path(caller.f_code.co_filename).stem}.{caller.f_code.co_name}"
        if self._watch.locks():
            self._watch.note(f"the lock of {place}")
        self._watch.locks().append(place)

    def __exit__(self, *_: object) -> None:
        self._watch.locks().pop()
        self._lock.release()
