"""Answers kept for a few seconds, if `ECWID_CACHE_TTL_S` says so. They hold personal data.

Kept are checked answers only, each under the generation of the store in which its read began; a
write through us begins a new generation, and nothing older is answered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from ..client.shared_reads import SharedReads
from ..storage.cache_backend import Shelf


@dataclass(frozen=True)
class Kept:
    """An answer that is kept: its tag, its age in whole seconds, and what its body is made of."""

    etag: str
    attributes: bytes
    customer_id: int | None  # None where the envelope's id is the request's
    age_s: int = 0

    @classmethod
    def of(cls, attributes: bytes, id: object) -> Kept:
        """Of an envelope's attributes, written as JSON, and its id."""
        customer_id = id if isinstance(id, int) else None
        tag = hashlib.blake2b(b"%d " % (customer_id or 0) + attributes, digest_size=16)
        return cls(tag.hexdigest(), attributes, customer_id)

    def body(self, request_id: str) -> bytes:
        """The answer to a request; only its id may differ from the one that was checked."""
        id = request_id if self.customer_id is None else self.customer_id
        attributes = orjson.Fragment(self.attributes)
        return orjson.dumps({"data": {"id": id, "type": "ecwid", "attributes": attributes}})


class Cache:
    """The answers of one store's reads."""

    def __init__(self, shelf: Shelf, reads: SharedReads, secret: str) -> None:
        self._shelf = shelf
        self._reads = reads
        self._secret = hashlib.blake2b(secret.encode()).digest()

    def get(self, operation: str, arguments: Mapping[str, Any], ask: Callable[[], Kept]) -> Kept:
        """What is kept for an operation with these arguments, or else what `ask` brings."""
        key = self._key(operation, arguments)
        generation, value, age_s = self._shelf.find(key)
        self._reads.join_only_in(generation)
        if value is not None:
            etag, customer_id, attributes = value.split(b" ", 2)
            return Kept(etag.decode(), attributes, int(customer_id) or None, int(age_s))
        kept = ask()
        head = f"{kept.etag} {kept.customer_id or 0} ".encode()
        self._shelf.keep(key, generation, head + kept.attributes)
        return kept

    def _key(self, operation: str, arguments: Mapping[str, Any]) -> str:
        """Nothing can be read out of it: filters hold e-mails and names."""
        question = orjson.dumps([operation, arguments], option=orjson.OPT_SORT_KEYS)
        return hashlib.blake2b(question, key=self._secret, digest_size=32).hexdigest()
