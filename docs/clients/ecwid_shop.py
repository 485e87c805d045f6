"""The generated client with retries, pages, Idempotency-Keys and typed errors."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, TypeVar
from uuid import uuid4

import httpx
from ecwid_customers_client import AuthenticatedClient
from ecwid_customers_client.api.customers import (
    add_customer,
    delete_customer,
    get_customer,
    list_customers,
    update_customer,
)
from ecwid_customers_client.models import (
    AddedCustomerEnvelope,
    Customer,
    CustomerAttributes,
    CustomerChanges,
    CustomerEnvelope,
    CustomerInput,
    CustomerPage,
    CustomerPageEnvelope,
    DeletedCustomerEnvelope,
    ListCustomersSortBy,
    Problem,
    ProblemExecuted,
    UpdatedCustomerEnvelope,
)

T = TypeVar("T")
PAGE = 100
TIMEOUT_S = 30.0  # The plugin replies within 20 seconds, unless its operator changed the deadline.
NO_REPLY = 0
# The statuses of failures that pass. Each request of this module may be repeated after them.
PASSING = {NO_REPLY, 429, 500, 502, 503, 504}
KEY_IN_USE = "urn:flask-ecwid:problem:idempotency-key-in-use"


class ShopError(Exception):
    """A request that failed, after all repeats.

    Attributes:
        problem: The problem that the plugin sent, or None if no problem arrived.
        executed: Whether a change may have happened, "no" or "unknown".
        attempts: How often the request was sent.
    """

    def __init__(self, problem: Problem | None, attempts: int) -> None:
        super().__init__(problem.title if problem else "The plugin sent no problem and no result")
        self.problem = problem
        self.attempts = attempts
        is_no = problem is not None and problem.executed is ProblemExecuted.NO
        self.executed = "no" if is_no else "unknown"


class Invalid(ShopError):
    """400, 413, 415 or 422: `problem.errors` has the places to mend."""


class NotAllowed(ShopError):
    """401 or 403: the key is unknown, or lacks the scope of the operation."""


class NotFound(ShopError):
    """404: the store has no such customer."""


class EmailTaken(ShopError):
    """409: another customer has the e-mail."""


class Unavailable(ShopError):
    """429, a status above 499, or no reply, until no time was left for a repeat."""


CLASSES: dict[int, type[ShopError]] = {
    **dict.fromkeys((400, 413, 415, 422), Invalid),
    **dict.fromkeys((401, 403), NotAllowed),
    **{404: NotFound, 409: EmailTaken},
}


class Reply(Protocol):
    """The part of the generated `Response` that this module reads."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def parsed(self) -> object: ...


class Shop:
    """The customers of one store.

    Args:
        url: The address of the mount, which ends in /api/json/v1/ecwid by default.
        key: An API key of the plugin.
        patience_s: For how many seconds a failed request may be repeated.
    """

    def __init__(self, url: str, key: str, patience_s: float = 120.0) -> None:
        hooks = {"response": [refuse_pages]}
        self._client = AuthenticatedClient(
            url, key, timeout=httpx.Timeout(TIMEOUT_S), httpx_args={"event_hooks": hooks}
        )
        self._patience_s = patience_s

    def close(self) -> None:
        """Close the connections."""
        self._client.get_httpx_client().close()

    def get(self, customer_id: int) -> CustomerAttributes:
        """Return a customer without the id."""
        found = self._send(
            CustomerEnvelope, lambda: get_customer.sync_detailed(customer_id, client=self._client)
        )
        return found.data.attributes

    def add(self, customer: CustomerInput, idempotency_key: str | None = None) -> int:
        """Create a customer once, and return the id.

        Store the key beside your own record first, if your program may end during the call. A
        later call with the same key and the same customer returns the same id.
        """
        key = idempotency_key or str(uuid4())
        added = self._send(
            AddedCustomerEnvelope,
            lambda: add_customer.sync_detailed(
                client=self._client, body=customer, idempotency_key=key
            ),
        )
        return int(added.data.id)

    def update(self, customer_id: int, changes: CustomerChanges) -> None:
        """Change the members of a customer that `changes` names."""
        self._send(
            UpdatedCustomerEnvelope,
            lambda: update_customer.sync_detailed(customer_id, client=self._client, body=changes),
        )

    def delete(self, customer_id: int) -> None:
        """Delete a customer. A 404 of a repeat means that an earlier attempt was successful."""
        try:
            self._send(
                DeletedCustomerEnvelope,
                lambda: delete_customer.sync_detailed(customer_id, client=self._client),
            )
        except NotFound as error:
            if error.attempts == 1:
                raise

    def customers(self) -> Iterator[Customer]:
        """Yield every customer once, the oldest first, while the list may change.

        A page begins with the last customer of the page before. If that customer is not there,
        somebody has deleted customers, so the reading goes back by a page.
        """
        offset, seen = 0, set[int]()
        while True:
            page = self._page(offset)
            new = [customer for customer in page.items if customer.id not in seen]
            if offset and len(new) == len(page.items):
                offset = max(0, offset - PAGE)
                continue
            seen |= {customer.id for customer in new}
            yield from new
            if offset + len(page.items) >= page.total:
                return
            offset += max(1, len(page.items) - 1)

    def _page(self, offset: int) -> CustomerPage:
        envelope = self._send(
            CustomerPageEnvelope,
            lambda: list_customers.sync_detailed(
                client=self._client,
                sort_by=ListCustomersSortBy.REGISTERED_DATE_ASC,
                offset=offset,
                limit=PAGE,
            ),
        )
        return envelope.data.attributes

    def _send(self, kind: type[T], send: Callable[[], Reply]) -> T:
        """Send a request until it succeeds, fails for good, or no time is left.

        Raises:
            ShopError: A subclass says how the request failed.
        """
        deadline = time.monotonic() + self._patience_s
        attempts = 0
        while True:
            attempts += 1
            status, problem, retry_after = NO_REPLY, None, ""
            try:
                reply = send()
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
            except httpx.TransportError:
                pass
            else:
                if isinstance(reply.parsed, kind):
                    return reply.parsed
                if isinstance(reply.parsed, Problem):
                    problem = reply.parsed
                status, retry_after = reply.status_code, reply.headers.get("Retry-After", "")
            if problem and problem.type_ == KEY_IN_USE:
                status = 503  # An earlier attempt is still under way.
            backoff_s = min(8.0, 0.25 * 2.0**attempts) * random.uniform(0.5, 1.0)
            wait_s = float(retry_after) if retry_after.isdecimal() else backoff_s
            if status not in PASSING:
                raise (CLASSES.get(status, ShopError) if problem else ShopError)(problem, attempts)
            if time.monotonic() + wait_s > deadline:
                raise Unavailable(problem, attempts)
            time.sleep(wait_s)


def refuse_pages(response: httpx.Response) -> None:
    """Refuse a page of a proxy or of the host, which the generated client cannot read.

    Raises:
        httpx.HTTPStatusError: The content is no JSON.
    """
    if "json" not in response.headers.get("Content-Type", ""):
        raise httpx.HTTPStatusError("No JSON", request=response.request, response=response)
