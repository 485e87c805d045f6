"""The connection to Redis. No other module knows redis-py.

The plugin works without Redis. A trip to Redis ends after 0.2 s, and all trips of a piece of work
together end after 0.3 s. After a failure, the process sends no command for 5 s.
"""

from __future__ import annotations

import logging
import socket
import ssl
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from .. import clock
from ..settings import Secret, SettingsError
from . import names
from .work import TRIP_S, current_work, piece_of_work

if TYPE_CHECKING:
    import redis

log = logging.getLogger("flask_ecwid")

T = TypeVar("T")

COOLDOWN_S = 5.0  # how long the process works without Redis after a failure


class RedisUnavailable(Exception):
    """Redis has failed now, or less than `COOLDOWN_S` ago."""


class RedisConnection:
    """The connections of one store to Redis. The first command opens the first connection."""

    def __init__(self, url: str) -> None:
        """Read the URL, without a connection.

        Raises:
            ImportError: redis-py is not installed.
            ValueError: The URL has an option that redis-py does not take.
        """
        # The import stands here, because redis-py is an extra. Without redis-py, this module must
        # still load.
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._failures = (redis.RedisError, OSError)
        self._lost = redis.ConnectionError
        self._url = Secret(url)
        self._options: dict[str, Any] = {
            **_connection_class(url),
            "socket_timeout": TRIP_S,
            "socket_connect_timeout": TRIP_S,
            # `run` repeats a command, because redis-py does not know which commands may be
            # repeated. Its repetitions would also take the time of the trips that follow.
            "retry": Retry(NoBackoff(), 0),
            "retry_on_timeout": False,
            # The older protocol needs no exchange before the first command. Each exchange would
            # take a part of the trip's time.
            "protocol": 2,
        }
        self._from_url = redis.Redis.from_url
        # The keys are process ids. A thread of the parent may have held a lock of redis-py during
        # the fork, and nobody in the child would release the lock.
        self._clients: dict[int, redis.Redis] = {clock.process_id(): self._opened()}
        # The connections close with the app. Without it, a host's tests would leave them open.
        weakref.finalize(self, _close, self._clients)
        self._cooldown = clock.Cooldown(COOLDOWN_S)

    def run(
        self,
        command: Callable[[redis.Redis], T],
        again: Callable[[redis.Redis], T] | None = None,
    ) -> T:
        """Return the result of a command, which is repeated once if the connection breaks.

        Redis and a NAT close idle connections. Redis may have executed a command whose connection
        broke. A command that gets no reply in time is not repeated, because no time is left.

        Args:
            command: Sends the command.
            again: Sends the repetition, by default like `command`.

        Raises:
            RedisUnavailable: Redis failed, or the time for Redis is over.
        """
        with self.connection() as client:
            try:
                return command(client)
            except self._lost:
                pass
            # The repetition needs a new connection, because a NAT that has forgotten one idle
            # connection has probably forgotten the others.
            self.close()
            return (again or command)(client)

    @contextmanager
    def connection(self) -> Iterator[redis.Redis]:
        """Lend the client of redis-py for one trip, and turn failures into `RedisUnavailable`.

        The trip takes its time from the piece of work under way. When the time is spent, the
        cooldown begins, because the next piece of work would be as slow.

        Raises:
            RedisUnavailable: Redis failed inside or less than `COOLDOWN_S` ago, or the time for
                Redis is over.
        """
        with piece_of_work() as work:
            # Redis has a record of the work, so the outcome is worth another trip.
            is_due = work.stores_outcome and work.reached_redis
            if not (is_due or self._cooldown.is_over()):
                raise RedisUnavailable
            failed = True
            try:
                if work.begin_trip():
                    yield self._client()
                    failed = False
                    work.reached_redis = True
            except self._failures:
                pass
        # The error is raised outside of the except clause. Otherwise its context would be the
        # library's error, which may hold a value.
        if failed:
            log.warning("Redis has failed. Working without Redis for %.0f s.", COOLDOWN_S)
            self._cooldown.begin()
            raise RedisUnavailable

    def close(self) -> None:
        """Close the connections of this process. A later command opens new ones."""
        # A connection that another thread uses goes back to the pool and is closed later.
        self._client().connection_pool.disconnect(inuse_connections=False)

    def _client(self) -> redis.Redis:
        process = clock.process_id()
        return self._clients.get(process) or self._clients.setdefault(process, self._opened())

    def _opened(self) -> redis.Redis:
        return self._from_url(self._url, **self._options)


def _close(clients: dict[int, redis.Redis]) -> None:
    """Close the connections of this process, and leave those of its parent alone."""
    client = clients.get(clock.process_id())
    if client is not None:
        client.close()


def _connection_class(url: str) -> dict[str, Any]:
    """Return the option of redis-py for connections whose time is that of the trip under way.

    redis-py leaves the name to the operating system, whose resolver takes no timeout. A resolver
    that hung would hold every request. A timeout of redis-py holds for a single receive, so a
    server that sends a byte now and then would hold every request, too.
    """
    from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection

    class Bounded:
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            # redis-py would send its name and version, and wait for two replies.
            self.driver_info = self.lib_name = self.lib_version = None

        def _connect(self) -> _BoundedSocket:
            with current_work().wait(None) as timeout_s:
                self.socket_connect_timeout = timeout_s
                sock: socket.socket = super()._connect()  # type: ignore[misc]
            return _BoundedSocket(sock)

    class Tcp(Connection):
        def _connect(self) -> socket.socket:
            return _connected(self)

    class Tls(SSLConnection, Tcp):
        """TLS over `Tcp`, because `SSLConnection` calls `super()._connect()`."""

    classes = {"redis": Tcp, "rediss": Tls, "unix": UnixDomainSocketConnection}
    scheme, _, _ = url.partition("://")
    if scheme not in classes:
        return {}
    return {"connection_class": type("Connection", (Bounded, classes[scheme]), {})}


class _BoundedSocket:
    """A socket whose waits take their time from the trip under way."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._timeout_s = sock.gettimeout()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s

    def recv(self, *args: Any) -> bytes:
        return self._bounded(self._sock.recv, *args)

    def recv_into(self, *args: Any) -> int:
        return self._bounded(self._sock.recv_into, *args)

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._bounded(self._sock.send, view) :]

    def _bounded(self, step: Callable[..., T], *args: Any) -> T:
        """Do a step at once if it needs no wait, otherwise within the time of the trip."""
        self._sock.settimeout(0)
        try:
            return step(*args)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if self._timeout_s == 0:
                raise
        with current_work().wait(self._timeout_s) as timeout_s:
            self._sock.settimeout(timeout_s)
            return step(*args)
        raise AssertionError


def _connected(connection: redis.Connection) -> socket.socket:
    """Return a connected socket, after `socket_connect_timeout` at most.

    Each address gets an equal part of the time that is left. Otherwise a dead address before a
    good one would use up all of the time.

    Raises:
        OSError: No address accepted a connection in time.
    """
    deadline = clock.now() + (connection.socket_connect_timeout or TRIP_S)
    addresses = names.addresses(connection.host, deadline - clock.now())
    failure: OSError = TimeoutError("no time was left")
    for tried, address in enumerate(addresses):
        left_s = deadline - clock.now()
        if left_s <= 0:
            break
        timeout_s = left_s / (len(addresses) - tried)
        try:
            sock = socket.create_connection((address, connection.port), timeout_s)
        except OSError as exc:
            # Without its traceback, the error does not keep this frame and the socket alive.
            failure = exc.with_traceback(None)
            continue
        try:
            _set_options(sock, connection)
            # The time that is left is for the handshake of TLS.
            sock.settimeout(max(deadline - clock.now(), 0.001))
        except OSError:
            sock.close()
            raise
        return sock
    raise failure


def _set_options(sock: socket.socket, connection: redis.Connection) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if connection.socket_keepalive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in connection.socket_keepalive_options.items():
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def open_redis(url: str) -> RedisConnection | None:
    """Return the connections to the Redis of the settings, or None without a URL.

    Raises:
        SettingsError: redis-py is not installed, or redis-py does not take the URL.
    """
    if not url:
        return None
    try:
        return RedisConnection(url)
    except ImportError:
        fault = "needs redis-py: flask-ecwid[redis]"
    except ValueError:  # The error is dropped, because its text repeats the URL.
        fault = "holds an option that redis-py does not take"
    raise SettingsError([f"ECWID_REDIS_URL {fault}"])
