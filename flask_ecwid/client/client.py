"""EcwidClient: the five calls on a store's customers, and what bulk work needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

from .. import clock
from ..contract import load
from ..errors import (
    ContractBroken,
    CustomerNotFound,
    EcwidUnavailable,
    HeldBack,
    KeysUnavailable,
    RateLimited,
    Rejected,
    ServiceRefused,
)
from ..settings import Settings
from ..signals import CallSignals
from ..storage.opening import Storage
from ..throttling.rate_limit import Remaining
from .calls import Call, build_call
from .opening import open_store
from .operations import OPERATIONS
from .pagination import PAGE_SIZE, CustomerIterator
from .reconcile import date_ahead
from .transport import Transport
from .types import Customer, CustomerIdentity, CustomerPage, DeleteCount, UpdateCount

T = TypeVar("T")


class Ping(NamedTuple):
    """How long Ecwid took to answer, and by how many seconds its clock is ahead of ours; None
    where its answer has no date.
    """

    duration_s: float
    clock_ahead_s: float | None


class EcwidClient:
    """One store's customers, over Ecwid's REST API.

    Every method raises an `EcwidError` when the call fails; `errors.py` draws the tree. The values
    are Ecwid's own: parsed JSON, as it came.

    A client may be used by several threads. A process that is forked from one with a client opens
    connections of its own.

    Raises:
        SettingsError: The sandbox's file cannot be a store, or `redis_url` cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        name: str = "ecwid",
        transport: Transport | None = None,
        storage: Storage | None = None,
    ) -> None:
        """Open the store that the settings name. `name` is the store's in the signals."""
        self._deadline_s = settings.deadline_s
        self.store = open_store(
            settings, CallSignals(self, name), transport=transport, storage=storage
        )

    def close(self) -> None:
        """Close the connections of this process. A later call opens new ones."""
        self.store.close()

    def remaining_calls(self) -> Remaining:
        """Return how many calls to Ecwid remain, as of the last call."""
        return self.store.guard.rate_limit.remaining()

    def list_customers(self, **filters: Any) -> CustomerPage:
        """A page: `total`, `count`, `offset`, `limit`, `items`.

        The filters are Ecwid's query parameters (https://api-docs.ecwid.com/reference/search-customers);
        one that is None is left out, a list is joined by commas. Their values are not checked here.

        Raises:
            TypeError: there is no such filter: one that Ecwid overlooked would match everybody.
        """
        _check_names(filters)
        given = {name: value for name, value in filters.items() if value is not None}
        query = {"offset": 0, "limit": PAGE_SIZE, **given}
        page: CustomerPage = self.store.reads.send(build_call("list_customers", query=query))
        return page

    def get_customer(
        self,
        customer_id: int,
        *,
        responseFields: str | None = None,  # noqa: N803  # Ecwid's name for it
    ) -> Customer:
        """A customer, with its `id`. https://api-docs.ecwid.com/reference/get-customer

        Raises:
            CustomerNotFound: the store has none with this id.
        """
        query = {"responseFields": responseFields}
        call = build_call("get_customer", customer_id, query=query)
        customer: Customer = self.store.reads.send(call)
        return customer

    def add_customer(
        self, customer: Mapping[str, Any], *, first_attempt_at: float | None = None
    ) -> CustomerIdentity:
        """Create a customer: `{"id": int}`. https://api-docs.ecwid.com/reference/create-customer

        It is created once at most: where no good reply comes, it is looked up. `since`: an earlier
        try of the same, whose outcome is not known, began then (UNIX seconds): look first.

        Raises:
            OutcomeUnknown: it may have been created, and is not found.
            TypeError: the customer holds what is no JSON; as with the changes of an update.
            EmailTaken: another customer already has this e-mail.
        """
        call = build_call("add_customer", body=customer)
        identity: CustomerIdentity = self.store.reads.send(call, first_attempt_at=first_attempt_at)
        return identity

    def update_customer(self, customer_id: int, changes: Mapping[str, Any]) -> UpdateCount:
        """Change what is named: `{"updateCount": int}`.
        https://api-docs.ecwid.com/reference/update-customer

        Raises:
            CustomerNotFound: the store has none with this id.
            EmailTaken: another customer already has the new e-mail.
        """
        call = build_call("update_customer", customer_id, body=changes)
        count: UpdateCount = self.store.reads.send(call)
        return count

    def delete_customer(self, customer_id: int) -> DeleteCount:
        """Delete a customer: `{"deleteCount": int}`.
        https://api-docs.ecwid.com/reference/delete-customer

        Raises:
            CustomerNotFound: the store has none with this id.
        """
        count: DeleteCount = self.store.reads.send(build_call("delete_customer", customer_id))
        return count

    def iter_customers(self, *, cursor: str | None = None, **filters: Any) -> CustomerIterator:
        """Iterate over the customers that match, each id once, though the list changes meanwhile.

        The reading takes half of the budget at most, and waits for it. `CustomerIterator.cursor`
        resumes the reading after the customer that came last, in another process too.
        `CustomerIterator.difference` is, at the end, Ecwid's `total` minus the number that came.

        Raises:
            TypeError: there is no such filter.
            ValueError: `sortBy` or `offset` is given, or the cursor is damaged or belongs to other
                filters.
            EcwidError: from `next`. Calling `next` again continues at the same place.
        """
        _check_names(filters)
        return CustomerIterator(
            lambda **query: self.wait_while_unavailable(partial(self.list_customers, **query)),
            filters,
            cursor=cursor,
            before_page=self.wait_for_budget,
        )

    def wait_for_budget(self) -> None:
        """Wait until the next call of some bulk work may be made: all of it has half of the budget.

        Raises:
            HeldBack: the process is about to end.
        """
        while wait_s := self.store.guard.rate_limit.acquire_bulk():
            if not clock.pause(wait_s):
                raise HeldBack(wait_s, "The process is about to end.")

    def wait_while_unavailable(self, ask: Callable[[], T]) -> T:
        """What `ask` gives, for whoever has time: it waits where others would be refused.

        Raises:
            EcwidError: what waiting does not help; anything, when the process is about to end.
        """
        while True:
            try:
                return ask()
            except KeysUnavailable:
                raise
            except (HeldBack, RateLimited, EcwidUnavailable) as exc:
                if not clock.pause(float(exc.retry_after_s or 0)):
                    raise

    def ping(self) -> Ping:
        """Make one small call, to see whether Ecwid replies.

        Raises:
            EcwidError: Ecwid does not reply, or refuses the token.
        """
        call = _smallest_call()
        started_at, asked_at = clock.now(), clock.wall()
        ahead_s: float | None = None
        try:
            reply, _ = self.store.sender.send(call, started_at + self._deadline_s)
            ahead_s = date_ahead(reply, asked_at, clock.wall())
        except ContractBroken:
            pass  # Ecwid has replied
        except ServiceRefused as exc:
            if not _lacks_scope(exc):
                raise  # a token without the scope is known to Ecwid all the same
        return Ping(clock.now() - started_at, ahead_s)

    def granted_scopes(self) -> dict[str, bool | None]:
        """Return which of the customers' Ecwid scopes the token has, without a change.

        Ecwid has no call that tells them. It refuses a call without its scope (403) before it reads
        the body, so a write whose body is no JSON tells them apart and can do nothing. An update
        needs the scope to read as well. Without that scope it is not known (None).

        Raises:
            EcwidError: The store does not reply, or refuses the token as such.
        """
        broken = {
            name: replace(OPERATIONS[name], kind="change")
            for name in ("add_customer", "update_customer")
        }
        probes = (
            _smallest_call(),
            Call(broken["add_customer"], "/customers", body=b"{"),
            Call(broken["update_customer"], "/customers/0", body=b"{"),
        )
        scopes: dict[str, bool | None] = {
            call.operation.ecwid_scope: self._is_permitted(call) for call in probes
        }
        if not scopes["read_customers"] and not scopes["update_customers"]:
            scopes["update_customers"] = None
        return scopes

    def _is_permitted(self, call: Call) -> bool:
        try:
            self.store.sender.send(call, clock.now() + self._deadline_s)
        except ServiceRefused as exc:
            if _lacks_scope(exc):
                return False
            raise
        except (Rejected, CustomerNotFound, ContractBroken):
            pass  # Ecwid had let the call in
        return True


def _smallest_call() -> Call:
    return build_call("list_customers", query={"offset": 0, "limit": 1})


def _lacks_scope(error: ServiceRefused) -> bool:
    return error.ecwid_code == "INSUFFICIENT_APP_SCOPE"


def _check_names(filters: Mapping[str, Any]) -> None:
    known = load().operations["list_customers"].parameters
    for name in filters:
        if ("query", name) not in known:
            raise TypeError(f"there is no filter {name!r}: they have Ecwid's names")
