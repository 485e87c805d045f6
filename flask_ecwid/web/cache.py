"""Responses that are kept for `ECWID_CACHE_TTL_S` seconds. They hold personal data.

Only checked responses are kept, each under the generation of the store in which its read began. A
write of this service begins a new generation, and older responses are not found in it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from ..client.shared_reads import SharedReads
from ..storage.cache_backend import CacheBackend
from .envelope import Envelope, encode


@dataclass(frozen=True)
class CachedResponse:
    """A response with its tag, its age in whole seconds and the parts of its body."""

    etag: str
    attributes: bytes  # JSON
    customer_id: int | None  # None where the envelope's id is the request's
    age_s: int = 0

    @classmethod
    def from_envelope(cls, document: Envelope) -> CachedResponse:
        """Make it of an envelope that is about to be sent."""
        data = document["data"]
        attributes = encode(data["attributes"])
        customer_id = data["id"] if isinstance(data["id"], int) else None
        tag = hashlib.blake2b(b"%d " % (customer_id or 0) + attributes, digest_size=16)
        return cls(tag.hexdigest(), attributes, customer_id)

    @classmethod
    def from_bytes(cls, value: bytes, age_s: int) -> CachedResponse:
        """Read what `to_bytes` wrote."""
        etag, customer_id, attributes = value.split(b" ", 2)
        return cls(etag.decode(), attributes, int(customer_id) or None, age_s)

    def to_bytes(self) -> bytes:
        """Return the bytes that a backend keeps."""
        return f"{self.etag} {self.customer_id or 0} ".encode() + self.attributes

    def body(self, request_id: str) -> bytes:
        """Return the body for a request, of which only the id may differ from the checked one."""
        id = request_id if self.customer_id is None else self.customer_id
        attributes = orjson.Fragment(self.attributes)
        return orjson.dumps({"data": {"id": id, "type": "ecwid", "attributes": attributes}})


@dataclass(frozen=True)
class Lookup:
    """A look into the cache: the response that was found, or where to keep the one to come."""

    response: CachedResponse | None
    key: str
    generation: str


class Cache:
    """The cached responses of one store's reads."""

    def __init__(self, backend: CacheBackend, reads: SharedReads, secret: str) -> None:
        """Make a cache whose keys depend on `secret`, so that other tokens find nothing in it."""
        self._backend = backend
        self._reads = reads
        self._secret = hashlib.blake2b(secret.encode()).digest()

    def get(self, operation_id: str, arguments: Any) -> Lookup:
        """Look for the response to an operation with these arguments."""
        key = self._key(operation_id, arguments)
        generation, value, age_s = self._backend.get(key)
        self._reads.join_only_in(generation)
        found = None if value is None else CachedResponse.from_bytes(value, int(age_s))
        return Lookup(found, key, generation)

    def set(self, lookup: Lookup, document: Envelope) -> CachedResponse:
        """Keep the envelope as the response that the lookup did not find, and return it."""
        response = CachedResponse.from_envelope(document)
        self._backend.set(lookup.key, lookup.generation, response.to_bytes())
        return response

    def _key(self, operation_id: str, arguments: Any) -> str:
        """Return a name from which no filter can be read. Filters hold e-mails and names."""
        question = orjson.dumps([operation_id, arguments], option=orjson.OPT_SORT_KEYS)
        return hashlib.blake2b(question, key=self._secret, digest_size=32).hexdigest()
