"""Open the storage of all stores of a mount, as the settings say."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..settings import Settings
from .cache_backend import CacheBackend, open_cache_backend
from .file_state import host_state
from .redis_connection import RedisConnection, open_redis
from .redis_state import RedisState
from .state import State, StateUnavailable, delete
from .store_memory import store_memory


@dataclass(frozen=True)
class Storage:
    """The storage that all processes and all stores share."""

    shared: State  # shared by all processes of all hosts, or the same as `host`
    host: State  # shared by all processes of this host
    redis: RedisConnection | None = None
    redis_url: str = field(default="", repr=False)
    cache_ttl_s: float = 0.0  # how long a response is kept

    def responses(self, store_digest: str) -> CacheBackend | None:
        """Return the storage of one store's responses, or None if no response is kept."""
        return open_cache_backend(
            self.cache_ttl_s, self.redis, self.redis_url, store_digest, self.host
        )

    def forget_responses(self, store_digest: str) -> None:
        """Forget the cached responses of a store, and the reads of this process under way.

        Raises:
            StateUnavailable: The other processes cannot be told, or Redis cannot be reached.
        """
        responses = self.responses(store_digest)
        if responses is None:
            store_memory(store_digest).get().end_write()
        elif not responses.invalidate_all():
            raise StateUnavailable
        if self.redis is not None:
            # Nobody finds the values any more. They would still stay in Redis until they expire.
            is_response = re.compile(r"[0-9]+:[0-9a-f]{64}").fullmatch
            delete(self.shared, f"{store_digest}:", lambda rest: bool(is_response(rest)))

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
        redis,
        settings.redis_url,
        settings.cache_ttl_s,
    )
