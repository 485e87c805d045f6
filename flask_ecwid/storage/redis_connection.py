"""The way to Redis; the only module that knows redis-py.

Redis is a help, never a condition: it gets 0.2 s, and after a failure nobody asks it for 5 s.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .. import clock
from ..settings import SettingsError

if TYPE_CHECKING:
    import redis

log = logging.getLogger("flask_ecwid")

TIMEOUT_S = 0.2  # to connect, and for each answer
REST_S = 5.0  # how long to go on without it after a failure


class RedisGone(Exception):
    """Redis does not answer, or did not a moment ago."""


class RedisLink:
    """One store's way to Redis. Opens no connection before it is asked."""

    def __init__(self, url: str) -> None:
        """
        Raises:
            ImportError: redis-py is not installed.
            ValueError: the URL has an option that redis-py does not take.
        """
        import redis  # here: it is an extra, for those who have a Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._failures = (redis.RedisError, OSError)
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            # A connection that Redis closed meanwhile is made anew once; a timeout is one at once.
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
            retry_on_timeout=False,
        )
        weakref.finalize(self, self._redis.close)  # with the app, as in a host's tests
        self._rest = clock.Rest(REST_S)

    @contextmanager
    def asked(self) -> Iterator[redis.Redis]:
        """The client, to be asked inside.

        Raises:
            RedisGone: it failed inside, or has less than 5 s ago.
        """
        if not self._rest.is_over():
            raise RedisGone
        failed = False
        try:
            yield self._redis
        except self._failures:
            failed = True
        if failed:  # out here: the library's error, which may hold a value, stays behind
            log.warning("Redis fails; going on without it for %.0f s", REST_S)
            self._rest.begin()
            raise RedisGone

    def close(self) -> None:
        """Close the connections of this process. A later command opens new ones."""
        self._redis.close()

    @property
    def pool(self) -> redis.ConnectionPool:
        """Its connections, for a library that brings its own commands."""
        return self._redis.connection_pool


def open_link(url: str) -> RedisLink | None:
    """The way to the Redis of the settings, if they name one.

    Raises:
        SettingsError: redis-py is not installed, or refuses the URL.
    """
    if not url:
        return None
    try:
        return RedisLink(url)
    except ImportError:
        fault = "needs redis-py: flask-ecwid[redis]"
    except ValueError:  # an option in it; the error would repeat the URL
        fault = "holds an option that redis-py does not take"
    raise SettingsError([f"ECWID_REDIS_URL {fault}"])
