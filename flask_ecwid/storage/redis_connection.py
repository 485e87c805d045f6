"""The connection to Redis. No other module knows redis-py.

The plugin works without Redis. The process gives up a command after 0.2 s. After a failure, the
process sends no command for 5 s.
"""

from __future__ import annotations

import logging
import socket
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .. import clock
from ..settings import SettingsError
from . import names

if TYPE_CHECKING:
    import redis

log = logging.getLogger("flask_ecwid")

TIMEOUT_S = 0.2  # to resolve the name and connect, and to wait for each result
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
        self._redis = redis.Redis.from_url(
            url,
            **_connection_class(url),
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            # A lost connection is opened again once, because Redis closes idle connections. A
            # timeout is not repeated, because a second wait would hold the request.
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
            retry_on_timeout=False,
        )
        # The connections close with the app. Without it, a host's tests would leave them open.
        weakref.finalize(self, self._redis.close)
        self._cooldown = clock.Cooldown(COOLDOWN_S)

    @contextmanager
    def connection(self) -> Iterator[redis.Redis]:
        """Lend the client of redis-py, and turn its failures into `RedisUnavailable`.

        Raises:
            RedisUnavailable: Redis failed inside, or less than `COOLDOWN_S` ago.
        """
        if not self._cooldown.is_over():
            raise RedisUnavailable
        failed = False
        try:
            yield self._redis
        except self._failures:
            failed = True
        # The error is raised outside of the except clause. Otherwise its context would be the
        # library's error, which may hold a value.
        if failed:
            log.warning("Redis has failed. Working without Redis for %.0f s.", COOLDOWN_S)
            self._cooldown.begin()
            raise RedisUnavailable

    def close(self) -> None:
        """Close the connections of this process. A later command opens new ones."""
        # A connection that another thread uses goes back to the pool and is closed later.
        self._redis.connection_pool.disconnect(inuse_connections=False)

    @property
    def pool(self) -> redis.ConnectionPool:
        """The connections, for a library that sends its own commands."""
        return self._redis.connection_pool


def _connection_class(url: str) -> dict[str, Any]:
    """Return the option of redis-py for connections that resolve the host's name in bounded time.

    redis-py leaves the name to the operating system, whose resolver takes no timeout. A resolver
    that hung would hold every request.
    """
    from redis.connection import Connection, SSLConnection

    class Bounded(Connection):
        def _connect(self) -> socket.socket:
            return _connected(self)

    class BoundedTls(SSLConnection, Bounded):
        """TLS over `Bounded`, because `SSLConnection` calls `super()._connect()`."""

    scheme, _, _ = url.partition("://")
    classes = {"redis": Bounded, "rediss": BoundedTls}
    return {"connection_class": classes[scheme]} if scheme in classes else {}


def _connected(connection: redis.Connection) -> socket.socket:
    """Return a connected socket, after `socket_connect_timeout` at most.

    Each address gets an equal part of the time that is left. Otherwise a dead address before a
    good one would use up all of the time.

    Raises:
        OSError: No address accepted a connection in time.
    """
    deadline = clock.now() + (connection.socket_connect_timeout or TIMEOUT_S)
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
            failure = exc
            continue
        try:
            _set_options(sock, connection)
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
    sock.settimeout(connection.socket_timeout)


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
