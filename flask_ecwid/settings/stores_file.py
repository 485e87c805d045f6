"""The stores file of `ECWID_STORES`, which is read again when it changes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from .. import clock, private_files
from ..private_files import UnsafeFile, Version
from . import stores_document
from .api_keys import ApiKey, digest_of
from .settings import SettingsError, StoreCredentials
from .stores_document import Stores, StoresFault

log = logging.getLogger("flask_ecwid")

LOOK_S = 1.0  # how long a process does not look whether the file has changed
LOG_S = 60.0  # how long a fault that stays is not logged again


@dataclass(frozen=True)
class _Look:
    """The result of a look at the file.

    Args:
        version: The version of the content, None before the first.
        stores: The stores of the last version without a fault.
        content_fault: The fault of this version, or an empty text.
        fault: The reason why the file is not in force, or an empty text.
    """

    version: Version | None
    stores: Stores
    content_fault: str = ""
    fault: str = ""


class StoresFile:
    """The stores, their tokens and the API keys of their callers, as a file lists them now.

    A file that cannot be used keeps the last good one in force, so a mistake of an editor stops
    nothing. The log has an error each minute meanwhile.
    """

    def __init__(self, path: str | Path) -> None:
        """Read the file.

        Raises:
            SettingsError: The file cannot be used.
        """
        self._path = Path(path)
        self._lock = clock.Lock()  # guards the numbers and the times, and is not held during I/O
        self._begun = 0  # the number of looks that have begun
        self._ended = 0  # the number of the last look that counts
        self._look_at = clock.now() + LOOK_S
        self._log_at = 0.0
        self._last = _look(self._path, _Look(None, Stores({}, {})))
        if self._last.fault:
            fault = f"names a file that cannot be used ({self._last.fault})"
            raise SettingsError([f"ECWID_STORES {fault}"])

    def find_store(self, store_id: str) -> StoreCredentials | None:
        """Return a store by its id, or None."""
        return self._stores().by_id.get(store_id)

    def store_ids(self) -> list[str]:
        """Return the ids of all stores, in the order of the file."""
        return list(self._stores().by_id)

    def find_by_api_key(self, api_key: str) -> tuple[StoreCredentials, ApiKey] | None:
        """Return the store of an API key with the entry of the key, or None.

        The docstring of `api_keys.find` says why a dictionary may do this.
        """
        return self._stores().by_digest.get(digest_of(api_key))

    def _stores(self) -> Stores:
        """Return the stores in force. One thread looks at the file, at most once in `LOOK_S`."""
        if clock.now() >= self._look_at:
            with self._lock:
                number = 0
                if clock.now() >= self._look_at:
                    self._look_at = clock.now() + LOOK_S
                    number = self._begun = self._begun + 1
            if number:
                self._finish(number, _look(self._path, self._last))
        return self._last.stores

    def _finish(self, number: int, found: _Look) -> None:
        """Let a look count, unless a later one has ended before, and log its fault."""
        with self._lock:
            if number < self._ended:
                return
            self._ended = number
            before, self._last = self._last, found
            is_new = found.fault != before.fault
            is_logged = bool(found.fault) and (is_new or clock.now() >= self._log_at)
            if is_logged:
                self._log_at = clock.now() + LOG_S
        if is_logged:
            text = "The stores file cannot be used (%s), so the last good one stays in force."
            log.error(text, found.fault)
        elif is_new:
            log.info("The stores file can be used again.")


def _look(path: Path, last: _Look) -> _Look:
    """Return what the file has now, after the last look."""
    try:
        version, data = private_files.read_if_new(path, last.version)
    except OSError as exc:
        return _Look(last.version, last.stores, last.content_fault, reason(exc))
    if data is None:
        return _Look(version, last.stores, last.content_fault, last.content_fault)
    try:
        return _Look(version, stores_document.parse(data))
    except StoresFault as exc:
        return _Look(version, last.stores, str(exc), str(exc))


def reason(error: OSError) -> str:
    """Return why a stores file cannot be read, in a few words."""
    if isinstance(error, FileNotFoundError):
        return "the file is missing, so make it with `flask ecwid stores add ID --file PATH`"
    return str(error) if isinstance(error, UnsafeFile) else error.strerror or type(error).__name__
