"""One outcome for each Idempotency-Key, however often and by whichever worker it is asked for.

A record tells how far the first request has come; it holds no personal data:

    running   with a lease, after which its worker is taken for dead
    done      the answer, or Ecwid's final refusal; kept for 24 h and given again
    unknown   it may have created: who comes next looks before he creates

What had no effect for sure (no call was made, Ecwid asked to wait) leaves no record.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import orjson

from .. import chance, clock
from ..errors import (
    EcwidError,
    EmailTaken,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    IdempotencyUnavailable,
    Rejected,
)
from ..storage.redis_connection import COOLDOWN_S
from ..storage.state import State, StateUnavailable

log = logging.getLogger("flask_ecwid")

KEPT_S = 24 * 3600.0
LEASE_S = 30.0  # at least; longer than a request may take

Answer = dict[str, Any]


@dataclass(frozen=True)
class _Record:
    state: str
    body: str  # HMAC of the request's body
    owner: str  # who runs it
    since: float  # when the first try began, UNIX seconds
    lease: float  # until when the owner is believed to live, UNIX seconds
    answer: Answer | None = None
    status: int = 0  # of a refusal
    ecwid_code: str | None = None

    @classmethod
    def read(cls, value: bytes) -> _Record:
        return cls(**orjson.loads(value))

    def written(self) -> bytes:
        return orjson.dumps(self)


class Idempotency:
    """The keys of one store's creations."""

    def __init__(self, state: State, name: str, deadline_s: float) -> None:
        self._state = state
        self._name = name
        self._lease_s = max(LEASE_S, deadline_s + 10)

    def run(
        self, caller: str, key: str, body: Any, create: Callable[[float | None], Answer]
    ) -> tuple[Answer, bool]:
        """The answer to a caller's request with this key, and whether it was given before.

        `create` is called if it was not. It gets the UNIX seconds of an earlier try of the same
        request whose outcome is not known, or None.

        Raises:
            IdempotencyKeyInUse: another request with the key is under way.
            IdempotencyKeyReused: the key came with another body before.
            IdempotencyUnavailable: records cannot be kept; nothing was done.
            EcwidError: what `create` raises, or raised before (`replayed`).
        """
        whose = hashlib.sha256(f"{caller}\n{key}".encode()).hexdigest()
        name = f"{self._name}:once:{whose}"
        # Keyed with the key itself, which nobody keeps: the body cannot be guessed from it.
        canonical = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
        fingerprint = hmac.new(key.encode(), canonical, hashlib.sha256).hexdigest()
        try:
            found, mine = self._begin(name, fingerprint)
        except StateUnavailable:
            found = mine = None
        if mine is None:  # out here, without the state's error as its context
            raise IdempotencyUnavailable(COOLDOWN_S)
        if found and found.state == "done":
            return _replayed(found), True
        since = found.since if found else None
        try:
            answer = create(since)
        except EcwidError as exc:
            self._settle(name, mine, _after(mine, exc, tried_before=since is not None))
            raise
        except BaseException:
            self._settle(name, mine, replace(mine, state="unknown"))
            raise
        self._settle(name, mine, replace(mine, state="done", answer=answer))
        return answer, False

    def _begin(self, name: str, fingerprint: str) -> tuple[_Record | None, _Record]:
        """What is known of the key, and this request's own record, unless all is done."""
        while True:
            value = self._state.get(name)
            found = _Record.read(value) if value else None
            now = clock.wall()
            if found:
                if found.body != fingerprint:
                    raise IdempotencyKeyReused
                if found.state == "done":
                    return found, found
                if found.state == "running" and now < found.lease:
                    raise IdempotencyKeyInUse
            since = found.since if found else now
            owner = chance.token_hex(8)
            mine = _Record("running", fingerprint, owner, since, now + self._lease_s)
            if self._state.compare_and_swap(name, value, mine.written(), KEPT_S):
                return found, mine

    def _settle(self, name: str, mine: _Record, after: _Record | None) -> None:
        """Keep the outcome, unless another request has taken over meanwhile."""
        try:
            if self._state.compare_and_swap(
                name, mine.written(), after.written() if after else None, KEPT_S
            ):
                return
            if after is not None:  # forgotten by its keeper, or taken over: then it is not put
                self._state.compare_and_swap(name, None, after.written(), KEPT_S)
        except StateUnavailable:
            # The lease runs out, and who comes next looks before he creates.
            log.warning("idempotency: an outcome could not be kept")


def _after(mine: _Record, error: EcwidError, *, tried_before: bool) -> _Record | None:
    """What is kept of a request that failed."""
    if error.executed == "unknown" or tried_before:
        return replace(mine, state="unknown")
    if isinstance(error, (Rejected, EmailTaken)):
        return replace(mine, state="done", status=error.status, ecwid_code=error.ecwid_code)
    return None


def _replayed(record: _Record) -> Answer:
    if record.answer is not None:
        return record.answer
    error: EcwidError = Rejected(record.status, ecwid_code=record.ecwid_code)
    if record.status == EmailTaken.status:
        error = EmailTaken(ecwid_code=record.ecwid_code)
    raise error.changed(replayed=True)
