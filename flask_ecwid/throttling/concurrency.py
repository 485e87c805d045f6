"""The threads of a process that wait for Ecwid, counted for each token.

A store whose calls stall holds each of its threads until the deadline. Without a limit, one such
store takes all threads of the process, and the requests of the other stores wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from .. import clock
from ..errors import StoreBusy
from ..settings import Settings


class StoreThreads:
    """The threads that each token takes now. A store that waits for nothing takes no memory."""

    def __init__(self, settings: Settings) -> None:
        """Count nothing yet.

        Args:
            settings: The limit. A mount of one store has none, because there is no other store.
        """
        self._settings = settings
        self._has_limit = bool(settings.stores)
        self._lock = clock.Lock()
        self._process = clock.process_id()
        self._taken: Counter[str] = Counter()

    def take(self, token_digest: str) -> AbstractContextManager[None]:
        """Count this thread as one of the token's until the end of the block.

        Raises:
            StoreBusy: At the begin of the block, the token has taken all threads that one store may
                take.
        """
        return self._take(token_digest) if self._has_limit else nullcontext()

    @contextmanager
    def _take(self, token_digest: str) -> Iterator[None]:
        most = self._settings.threads_of_a_store
        process = clock.process_id()
        with self._lock:
            if self._process != process:  # The threads of the parent do not exist in a fork.
                self._taken.clear()
                self._process = process
            if self._taken[token_digest] >= most:
                raise StoreBusy
            self._taken[token_digest] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[token_digest] -= 1
                if not self._taken[token_digest]:
                    del self._taken[token_digest]
