"""The callers' API keys. Of each only its SHA-256 is known here, with a name and scopes."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass

from . import chance

SCOPES = ("read", "write", "delete")

_ENTRY = re.compile(r"([A-Za-z0-9_.-]{1,64}):([a-z+]+):([0-9A-Fa-f]{64})")


@dataclass(frozen=True)
class ApiKey:
    """An entry of `ECWID_API_KEYS`: `NAME:SCOPES:SHA256HEX`, scopes joined by `+`."""

    name: str
    scopes: frozenset[str]
    digest: str

    @classmethod
    def read(cls, entry: str) -> ApiKey:
        """
        Raises:
            ValueError: it is no entry. Does not say what is there instead: it may be a key.
        """
        found = _ENTRY.fullmatch(entry)
        scopes = frozenset(found[2].split("+")) if found else frozenset()
        if not found or not scopes <= set(SCOPES):
            raise ValueError("not NAME:SCOPES:SHA256HEX")
        return cls(found[1], scopes, found[3].lower())

    def entry(self) -> str:
        scopes = "+".join(scope for scope in SCOPES if scope in self.scopes)
        return f"{self.name}:{scopes}:{self.digest}"


def read_all(entries: str | Iterable[str]) -> tuple[ApiKey, ...]:
    """Entries as the environment has them, separated by commas or white space, or a list.

    Raises:
        ValueError: one of them is none.
    """
    texts = re.split(r"[,\s]+", entries) if isinstance(entries, str) else entries
    return tuple(ApiKey.read(text.strip()) for text in texts if text.strip())


def make(name: str, scopes: Iterable[str]) -> tuple[str, ApiKey]:
    """A new key, and what is kept of it.

    Raises:
        ValueError: the name or a scope is none.
    """
    key = f"ecwid_{chance.token_urlsafe(32)}"
    return key, ApiKey.read(f"{name}:{'+'.join(scopes)}:{_digest(key)}")


def find(keys: Iterable[ApiKey], given: str) -> ApiKey | None:
    """The entry of a key. How long it takes tells nothing of which entry it is, or how near."""
    digest, found = _digest(given), None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
