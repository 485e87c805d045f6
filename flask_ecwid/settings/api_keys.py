"""The API keys of the callers. The plugin knows an API key only by its SHA-256 digest."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass

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
        scopes = frozenset(match[2].split("+")) if match else frozenset()
        if not match or not scopes <= set(SCOPES):
            raise ValueError("not NAME:SCOPES:SHA256HEX")
        return cls(match[1], scopes, match[3].lower())

    def entry(self) -> str:
        """Return the text of the entry."""
        scopes = "+".join(scope for scope in SCOPES if scope in self.scopes)
        return f"{self.name}:{scopes}:{self.digest}"


def parse_all(entries: str | Iterable[str]) -> tuple[ApiKey, ...]:
    """Parse a list of entries, or a text with commas or white space between the entries.

    Raises:
        ValueError: At least one text is not an entry.
    """
    texts = re.split(r"[,\s]+", entries) if isinstance(entries, str) else entries
    return tuple(ApiKey.parse(text.strip()) for text in texts if text.strip())


def make(name: str, scopes: Iterable[str]) -> tuple[str, ApiKey]:
    """Return a new API key and its entry.

    Raises:
        ValueError: The name or a scope is not allowed.
    """
    api_key = f"ecwid_{chance.token_urlsafe(32)}"
    return api_key, ApiKey.parse(f"{name}:{'+'.join(scopes)}:{_digest(api_key)}")


def find(entries: Iterable[ApiKey], api_key: str) -> ApiKey | None:
    """Return the entry of an API key, or None.

    The duration does not depend on the entry that matches, because every entry is compared in full.
    Otherwise a caller could find out an API key by measuring time.
    """
    digest, match = _digest(api_key), None
    for entry in entries:
        if hmac.compare_digest(entry.digest, digest):
            match = entry
    return match


def _digest(api_key: str) -> str:
    return hashlib.sha256(api_key.encode("utf-8", "surrogatepass")).hexdigest()
