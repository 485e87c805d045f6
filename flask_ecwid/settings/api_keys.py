"""The API keys of the callers. The plugin knows an API key only by its SHA-256 digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from .. import chance

SCOPES = ("read", "write", "delete")

_ENTRY = re.compile(r"([A-Za-z0-9_.-]{1,64}):([a-z+]+):([0-9A-Fa-f]{64})")


@dataclass(frozen=True)
class ApiKey:
    """An entry of `ECWID_API_KEYS`, written as `NAME:SCOPES:SHA256HEX` with `+` between scopes."""

    name: str
    scopes: frozenset[str]
    digest: str  # the SHA-256 of the API key, in hexadecimal digits

    @classmethod
    def parse(cls, entry: str) -> ApiKey:
        """Parse an entry.

        Raises:
            ValueError: The text is not an entry. The error does not show the text, because somebody
                may have put an API key there.
        """
        match = _ENTRY.fullmatch(entry)
        if not match:
            raise ValueError("not NAME:SCOPES:SHA256HEX")
        return cls(match[1], _scopes(match[2]), match[3].lower())

    def entry(self) -> str:
        """Return the text of the entry."""
        scopes = "+".join(scope for scope in SCOPES if scope in self.scopes)
        return f"{self.name}:{scopes}:{self.digest}"


@lru_cache(maxsize=100)
def _scopes(text: str) -> frozenset[str]:
    """Return the scopes of an entry. Thousands of entries share a few objects.

    Raises:
        ValueError: A scope is unknown.
    """
    scopes = frozenset(text.split("+"))
    if not scopes <= set(SCOPES):
        raise ValueError("not NAME:SCOPES:SHA256HEX")
    return scopes


def parse_all(entries: str | Iterable[str]) -> tuple[ApiKey, ...]:
    """Parse a list of entries, or a text with commas or white space between the entries.

    Raises:
        ValueError: At least one text is not an entry.
    """
    texts = re.split(r"[,\s]+", entries) if isinstance(entries, str) else entries
    return tuple(ApiKey.parse(text) for text in map(str.strip, texts) if text)


def make(name: str, scopes: Iterable[str]) -> tuple[str, ApiKey]:
    """Return a new API key and its entry.

    Raises:
        ValueError: The name or a scope is not allowed.
    """
    api_key = f"ecwid_{chance.token_urlsafe(32)}"
    return api_key, ApiKey.parse(f"{name}:{'+'.join(scopes)}:{digest_of(api_key)}")


def by_digest(entries: Iterable[ApiKey]) -> dict[str, ApiKey]:
    """Return the entries by their digests, for `find`."""
    return {entry.digest: entry for entry in entries}


def find(entries: Mapping[str, ApiKey], api_key: str) -> ApiKey | None:
    """Return the entry of an API key, or None.

    The dictionary makes the duration independent of the number of entries. A lookup compares a
    whole digest only if the hash of both texts is equal. Python keys this hash with a random value
    for each process. So the duration tells a caller nothing about a part of a digest. Even a whole
    digest would not help, because nobody can find 32 random bytes by their SHA-256.
    """
    return entries.get(digest_of(api_key))


def digest_of(api_key: str) -> str:
    """Return the SHA-256 of an API key, in hexadecimal digits."""
    return hashlib.sha256(api_key.encode("utf-8", "surrogatepass")).hexdigest()
