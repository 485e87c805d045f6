"""Open the storage of one store, as the settings say."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import Settings
from .cache_backend import CacheBackend, open_cache_backend
from .file_state import host_state
from .redis_connection import RedisConnection, open_redis
from .redis_state import RedisState
from .state import State


@dataclass(frozen=True)
class Storage:
    """The storage that all processes of one store share."""

    shared: State  # shared by all processes of all hosts, or the same as `host`
    host: State  # shared by all processes of this host
    responses: CacheBackend | None  # None if the settings switch the cache off
    redis: RedisConnection | None = None

    def close(self) -> None:
        """Close the connections of this process to Redis."""
        if self.redis is not None:
            self.redis.close()


def open_storage(settings: Settings) -> Storage:
    """Open the storage that the settings name, without opening a connection or a file.

    Raises:
        SettingsError: redis-py is not installed, or refuses the URL.
    """
    redis = open_redis(settings.redis_url)
    host = host_state()
    return Storage(
        RedisState(redis) if redis else host,
        host,
        open_cache_backend(
            settings.cache_ttl_s, redis, settings.redis_url, settings.store_digest, host
        ),
        redis,
    )
