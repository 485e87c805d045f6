"""Customers of a file into the store: every row is checked before the first call, each that fits is
created once, however often the file is imported.

A row's key follows from what it sets, so that the same row has the same key in every run and is
known for as long as keys are kept. After that Ecwid knows it by its e-mail.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any, Literal

import orjson

from .. import clock
from ..client import EcwidClient
from ..errors import (
    CustomerNotFound,
    EcwidError,
    EmailTaken,
    InvalidRequest,
    KeyInUse,
    Misfit,
    OutcomeUnknown,
    Rejected,
)
from ..web.idempotency import Idempotency
from ..client.reconcile import find_created, same_email
from .files import Row
from .new_customer import Creatable

CALLER = "flask ecwid import"  # no name of ECWID_API_KEYS has blanks

Body = dict[str, Any]


@dataclass(frozen=True)
class Refusal:
    """Why a row is not in the store: a line of the report. Holds no value."""

    line: int
    type: str
    pointer: str
    keyword: str
    ecwid_code: str | None = None

    def written(self) -> bytes:
        told = {name: value for name, value in asdict(self).items() if value is not None}
        return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)


@dataclass(frozen=True)
class Creation:
    """A row that fits."""

    line: int
    body: Body


@dataclass(frozen=True)
class Outcome:
    """What came of a creation; `there`: the customer was in the store already."""

    kind: Literal["created", "there", "refused", "unknown"]
    refusal: Refusal | None = None


def checked(rows: Iterable[Row], creatable: Creatable) -> tuple[list[Creation], list[Refusal]]:
    """The rows that fit, and why the others do not. An e-mail stands for one customer."""
    creations: list[Creation] = []
    refusals: list[Refusal] = []
    emails: set[str] = set()
    for row in rows:
        body = creatable.body(row.customer)
        misfits = [row.misfit] if row.misfit else creatable.misfits(body)
        if not misfits and (email := body["email"].casefold()) in emails:
            misfits = [Misfit("/email", "uniqueItems")]
        if misfits:
            refusals += [_refusal(row.line, InvalidRequest(), each) for each in misfits]
            continue
        emails.add(email)
        creations.append(Creation(row.line, body))
    return creations, refusals


class Importer:
    """Creates customers in one store, as bulk work."""

    def __init__(self, client: EcwidClient, idempotency: Idempotency) -> None:
        self._client = client
        self._idempotency = idempotency

    def create(self, creations: Iterable[Creation]) -> Iterator[Outcome]:
        """What came of each, until all have come or the process is told to end.

        Raises:
            EcwidError: no other row would fare better. What was done stays; the next run goes on.
        """
        waiting = deque(creations)
        while waiting and not clock.is_stopping():
            creation = waiting.popleft()
            try:
                yield self._outcome(creation)
            except KeyInUse as exc:
                # By another import, or one that was killed: until its lease has run out.
                waiting.append(creation)
                clock.pause(float(exc.retry_after_s or 0))

    def _outcome(self, creation: Creation) -> Outcome:
        try:
            created = self._created(creation.body)
        except EmailTaken as exc:
            if self._is_there(creation.body):
                return Outcome("there")
            misfit = Misfit("/email", "uniqueItems")
            return Outcome("refused", _refusal(creation.line, exc, misfit))
        except Rejected as exc:
            return Outcome("refused", _refusal(creation.line, exc, Misfit("", "rejected")))
        except OutcomeUnknown as exc:
            return Outcome("unknown", _refusal(creation.line, exc, Misfit("", "unknown")))
        return Outcome("created" if created else "there")

    def _created(self, body: Body) -> bool:
        """Whether it was created just now, and not by an earlier run."""
        canonical = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
        digest = hashlib.sha256(canonical).hexdigest()
        for attempt in count(1):
            self._client.take_turn()
            try:
                answer, replayed = self._client.patiently(self._once(f"{digest}-{attempt}", body))
            except (Rejected, EmailTaken) as exc:
                if exc.replayed:  # it made nothing then, and may be taken now
                    continue
                raise
            if not replayed:
                return True
            if self._still_there(answer["id"], body):
                return False
        raise AssertionError

    def _once(self, key: str, body: Body) -> Callable[[], tuple[dict[str, Any], bool]]:
        def create(since: float | None) -> dict[str, Any]:
            return self._client.add_customer(body, since=since)

        return lambda: self._idempotency.run(CALLER, key, body, create)

    def _still_there(self, customer_id: int, body: Body) -> bool:
        """Whether a customer that an earlier run created was not deleted since."""
        try:
            found = self._client.patiently(lambda: self._client.get_customer(customer_id))
        except CustomerNotFound:
            return False
        return same_email(body, found)  # else the store was made anew, as a sandbox may be

    def _is_there(self, body: Body) -> bool:
        """Whether who has the e-mail is, in all that the row sets, the customer of the row."""
        self._client.take_turn()
        page = self._client.patiently(
            lambda: self._client.list_customers(email=body["email"], useExactEmailMatch=True)
        )
        try:
            return find_created(body, page, since=0.0) is not None
        except EmailTaken:
            return False


def _refusal(line: int, error: EcwidError, misfit: Misfit) -> Refusal:
    return Refusal(line, error.urn, misfit.pointer, misfit.keyword, error.ecwid_code)
