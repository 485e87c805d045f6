"""Responses that are kept for `ECWID_CACHE_TTL_S` seconds. Cached responses hold personal data.

The cache stores only responses that fit the contract. A generation is all cached responses between
two writes. Each write through the plugin begins a new generation, so no read finds an older
response. A response belongs to the generation in which its read began. Otherwise a read that a
write overtakes would store old data in the new generation.

A token that Ecwid has not accepted finds no response. The first read that Ecwid accepts is stored.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import orjson

from ..client.calls import Call
from ..client.shared_reads import SharedReads
from ..clock import Moment
from ..storage.cache_backend import CacheBackend
from .envelope import Envelope, encode


@dataclass(frozen=True)
class CachedResponse:
    """A response that fits the contract, as the parts from which its body and headers are made."""

    etag: str
    attributes: bytes  # the attributes of the envelope, as JSON
    customer_id: int | None  # None for a page, because its envelope has the id of the request
    age_s: int = 0  # whole seconds since the read began

    @classmethod
    def from_envelope(cls, document: Envelope) -> CachedResponse:
        """Return the cached form of an envelope that is about to be sent."""
        data = document["data"]
        attributes = encode(data["attributes"])
        customer_id = data["id"] if isinstance(data["id"], int) else None
        etag = _etag(b"%d " % (customer_id or 0) + attributes)
        return cls(etag.decode(), attributes, customer_id)

    @classmethod
    def from_bytes(cls, value: bytes, age_s: int) -> CachedResponse | None:
        """Parse the bytes of `to_bytes`, or return None if the bytes are anything else.

        Redis may hold garbage, or a value of another version of the plugin.
        """
        etag, _, tagged = value.partition(b" ")
        customer_id, _, attributes = tagged.partition(b" ")
        if etag != _etag(tagged) or not customer_id.isdigit():
            return None
        return cls(etag.decode(), attributes, int(customer_id) or None, age_s)

    def to_bytes(self) -> bytes:
        """Return the bytes for a backend."""
        return f"{self.etag} {self.customer_id or 0} ".encode() + self.attributes

    def body(self, request_id: str) -> bytes:
        """Return the body for a request.

        The body differs from the checked body in nothing but the id of a page.
        """
        id = request_id if self.customer_id is None else self.customer_id
        attributes = orjson.Fragment(self.attributes)
        return orjson.dumps({"data": {"id": id, "type": "ecwid", "attributes": attributes}})


def _etag(tagged: bytes) -> bytes:
    return hashlib.blake2b(tagged, digest_size=16).hexdigest().encode()


@dataclass(frozen=True)
class Lookup:
    """The result of a look into the cache."""

    response: CachedResponse | None  # None if the cache has no response
    cache_key: str
    generation: str  # the store's generation at the time of the look
    began: Moment  # before the look, so that no response is younger than its age says


class Cache:
    """The cached responses of one store's reads."""

    def __init__(self, backend: CacheBackend, reads: SharedReads, secret: str) -> None:
        """Make a cache whose cache keys depend on a secret, which is the token.

        Processes with another token therefore find nothing in a shared backend.
        """
        self._backend = backend
        self._reads = reads
        self._secret = hashlib.blake2b(secret.encode()).digest()

    def get(self, call: Call) -> Lookup:
        """Look for the response to a request that makes this call."""
        began = Moment.seconds_ago()
        cache_key = self._cache_key(call)
        generation, value, age_s = self._backend.get(cache_key)
        response = None
        if self._reads.is_proven:
            self._reads.join_only_in(generation)
            response = None if value is None else CachedResponse.from_bytes(value, int(age_s))
        return Lookup(response, cache_key, generation, began)

    def set(self, lookup: Lookup, document: Envelope) -> CachedResponse:
        """Store the envelope as the response that the lookup did not find, and return it."""
        response = CachedResponse.from_envelope(document)
        age_s = lookup.began.elapsed_s()
        self._backend.set(lookup.cache_key, lookup.generation, response.to_bytes(), age_s)
        return response

    def _cache_key(self, call: Call) -> str:
        """Return a digest, because filters hold e-mails and names that a backend must not see.

        Requests that differ only in blanks or in the form of a date make the same call.
        """
        question = orjson.dumps([call.path, sorted(call.query)])
        return hashlib.blake2b(question, key=self._secret, digest_size=32).hexdigest()
