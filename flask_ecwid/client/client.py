"""EcwidClient, which makes the five calls for the customers of a store, and helps bulk work."""

from __future__ import annotations

import logging
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
    IdempotencyUnavailable,
    RateLimited,
    Rejected,
    ServiceRefused,
    Throttled,
)
from ..settings import Settings, StoreCredentials
from ..storage.opening import Storage
from ..throttling.rate_limit import Remaining
from . import bodies, upsert
from .calls import Call, build_call, neutral_call
from .change_feed import ChangeIterator
from .open_stores import OpenStores
from .opening import OpenStore, open_upstream
from .operations import OPERATIONS
from .page_reader import PAGE_SIZE
from .pagination import CustomerIterator
from .reconcile import clock_ahead_s
from .transport import Transport
from .types import (
    Customer,
    CustomerIdentity,
    CustomerPage,
    DeleteCount,
    DeletionPage,
    UpdateCount,
)
from .upsert import Put

T = TypeVar("T")

log = logging.getLogger("flask_ecwid")


class Ping(NamedTuple):
    """The result of a ping.

    `duration_s` is the time that Ecwid took to reply. `clock_ahead_s` says by how many seconds
    Ecwid's clock is ahead of ours, and is None if the reply has no date.
    """

    duration_s: float
    clock_ahead_s: float | None


class EcwidClient:
    """The customers of one store, over Ecwid's REST API.

    Each call ends within `deadline_s` of the settings, with all its attempts. A method returns the
    JSON of Ecwid's reply after the contract has checked the reply. `types.py` has the types of the
    replies. A method that has no good reply raises an `EcwidError`, and `errors.py` draws the tree
    of these errors. https://docs.ecwid.com/api-reference/rest-api/customers describes Ecwid's side.

    A client opens no connection before its first call. A `with` statement closes the connections:

        with EcwidClient(Settings(store_id="1003", token="secret_...")) as client:
            print(client.get_customer(172890169).get("email"))

    Threads may share a client. No two threads use a connection at the same time. Equal reads at
    the same time share one call to Ecwid.

    A process may fork after it has used a client, and both processes may go on using the client.
    The child opens its own connections to Ecwid, to Redis and to the state file. The state file has
    a connection for each thread of each process. `close` in the child closes no connection of the
    parent. Other threads may make calls during the fork. The fork waits until no thread holds a
    lock or uses the state file. If a thread uses the file for more than two seconds, the child logs
    a warning, and does without the file.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        name: str = "ecwid",
        transport: Transport | None = None,
        storage: Storage | None = None,
    ) -> None:
        """Open the store that the settings name, without a connection.

        Args:
            settings: The store, its token and all limits.
            name: The name of the store in the signals.
            transport: Sends the calls. By default a `RequestsTransport`, to Ecwid or to the
                sandbox in this process.
            storage: Keeps the state that processes share. By default Redis if the settings name a
                Redis, and otherwise a file.

        Raises:
            SettingsError: The sandbox's file cannot be a store, or `redis_url` cannot be used.
        """
        upstream = open_upstream(settings, transport=transport, storage=storage)
        self._begin(OpenStores(upstream, name, self), upstream.settings.credentials)

    @classmethod
    def of(cls, stores: OpenStores, credentials: StoreCredentials) -> EcwidClient:
        """Return a client of one of many stores.

        The client looks its store up at each call. So the client may be kept, and the store may be
        closed and opened again meanwhile.
        """
        client = cls.__new__(cls)
        client._begin(stores, credentials)
        return client

    def _begin(self, stores: OpenStores, credentials: StoreCredentials) -> None:
        self.stores = stores
        self._credentials = credentials
        self._deadline_s = stores.upstream.settings.deadline_s

    @property
    def store(self) -> OpenStore:
        """The open store of this client."""
        return self.stores.get(self._credentials)

    def __enter__(self) -> EcwidClient:
        """Return this client."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the client, whether or not an error was raised inside."""
        self.close()

    def close(self) -> None:
        """Close the connections of this process to Ecwid and to Redis.

        Clients of many stores share the connections, so this closes the connections of all.
        A call that another thread has under way still gets its reply. A later call opens new
        connections. A connection to the state file closes when its thread ends.
        """
        self.stores.close()

    def remaining_calls(self) -> Remaining:
        """Return how many calls to Ecwid remain, as of the last call."""
        return self.store.guard.rate_limit.remaining()

    def list_customers(self, **filters: Any) -> CustomerPage:
        """Return a page of the customers that match.

        Args:
            **filters: Ecwid's query parameters. A filter that is None is left out. A list becomes a
                text with commas, and a date may be a `datetime` or a text in ISO 8601. Ecwid checks
                the values, and the client does not.
                https://docs.ecwid.com/api-reference/rest-api/customers/search-customers

        Raises:
            TypeError: Ecwid has no such filter. Ecwid would ignore a misspelt filter and return all
                customers.
            InvalidRequest: `responseFields` is not in Ecwid's syntax.
        """
        page: CustomerPage = self._send(_page_call(filters))
        return page

    def list_with_unfit(self, **filters: Any) -> CustomerPage:
        """Return a page for bulk work, in which a customer may be an `UnfitCustomer`.

        Such a customer violates the contract, and stops `list_customers`.

        Args:
            **filters: The filters of `list_customers`.

        Raises:
            TypeError: Ecwid has no such filter.
            InvalidRequest: `responseFields` is not in Ecwid's syntax.
        """
        page: CustomerPage = self._send(replace(_page_call(filters), bulk=True))
        return page

    def get_customer(
        self,
        customer_id: int,
        *,
        responseFields: str | None = None,  # noqa: N803  # Ecwid's name for it
    ) -> Customer:
        """Return a customer.

        https://docs.ecwid.com/api-reference/rest-api/customers/get-customer

        Args:
            customer_id: The id of the customer.
            responseFields: The members to return, for example `email,stats(numberOfOrders)`. The
                `id` is always returned. By default Ecwid returns all members.

        Raises:
            CustomerNotFound: The store has no customer with this id.
            InvalidRequest: The id is not a positive integer, or `responseFields` is not in Ecwid's
                syntax.
        """
        query = {"responseFields": responseFields}
        call = build_call("get_customer", customer_id, query=query)
        customer: Customer = self._send(call)
        return customer

    def add_customer(
        self, customer: Mapping[str, Any], *, first_attempt_age_s: float | None = None
    ) -> CustomerIdentity:
        """Create a customer at most once, and return the id.

        If a creation gets no good reply, the client searches for the customer before it tries
        again. The method takes no idempotency key. Ecwid's page describes the members.
        https://docs.ecwid.com/api-reference/rest-api/customers/create-customer

        Args:
            customer: The members of the new customer. Ecwid requires `email`.
            first_attempt_age_s: How many seconds ago an earlier attempt of the same creation
                began, if its outcome is not known. The client then searches before the first
                attempt.

        Raises:
            OutcomeUnknown: The customer may have been created, and the search does not find them.
                Use `find_customer` later.
            EmailTaken: Another customer already has this e-mail.
            InvalidRequest: Ecwid would drop a member that the customer sets.
            TypeError: The customer holds a value that JSON does not have.
        """
        call = build_call("add_customer", body=_settable("add_customer", customer))
        identity: CustomerIdentity = self._send(call, first_attempt_age_s=first_attempt_age_s)
        return identity

    def update_customer(self, customer_id: int, changes: Mapping[str, Any]) -> UpdateCount:
        """Change some members of a customer, and return how many customers were changed.

        The attributes that a read returns may be changed and sent back, because the client drops
        the members that only Ecwid sets. Ecwid's page describes the members.
        https://docs.ecwid.com/api-reference/rest-api/customers/update-customer

        Args:
            customer_id: The id of the customer.
            changes: The members to change. The other members keep their values.

        Raises:
            CustomerNotFound: The store has no customer with this id.
            EmailTaken: Another customer already has the new e-mail.
            InvalidRequest: The id is not a positive integer, or Ecwid would drop a member that the
                changes set.
            TypeError: The changes hold a value that JSON does not have.
        """
        body = _settable("update_customer", changes)
        call = build_call("update_customer", customer_id, body=body)
        count: UpdateCount = self._send(call)
        return count

    def delete_customer(self, customer_id: int) -> DeleteCount:
        """Delete a customer, and return how many customers were deleted.

        https://docs.ecwid.com/api-reference/rest-api/customers/delete-customer

        Raises:
            CustomerNotFound: The store has no customer with this id.
            InvalidRequest: The id is not a positive integer.
        """
        count: DeleteCount = self._send(build_call("delete_customer", customer_id))
        return count

    def list_deleted(
        self,
        *,
        from_date: object = None,
        to_date: object = None,
        offset: int = 0,
        limit: int = PAGE_SIZE,
    ) -> DeletionPage:
        """Return a page of the deleted customers, of which Ecwid keeps the last six months.

        The token needs the Ecwid scope `read_store_profile`. Ecwid documents no order of the list.
        https://docs.ecwid.com/api-reference/rest-api/store-profile/store-reports/get-deleted-items-history

        Args:
            from_date: The earliest date of a deletion, in UNIX seconds, as a `datetime` or as text.
            to_date: The latest date.
            offset: The number of deletions to leave out at the beginning.
            limit: The most deletions on the page, up to 100.
        """
        query = {"from_date": from_date, "to_date": to_date, "offset": offset, "limit": limit}
        page: DeletionPage = self._send(build_call("list_deleted", query=query))
        return page

    def find_customer(self, email: str) -> Customer | None:
        """Return the customer with exactly this e-mail in any case, or None.

        If a store has several customers with the e-mail, the oldest is returned. Ecwid's search
        also finds longer e-mails, and no such customer is ever returned.

        Raises:
            InvalidRequest: The e-mail is empty.
        """
        return upsert.find(self, email, _no_wait)

    def put_customer(self, customer: Mapping[str, Any]) -> Put:
        """Create the customer, or bring the customer with the same e-mail to these members.

        A put may be repeated. A put makes several calls, and each has its own deadline.
        https://docs.ecwid.com/api-reference/rest-api/customers

        - The customer is found by the exact e-mail, in any case. If a store has several customers
          with the e-mail, the oldest is changed.
        - Members that `customer` leaves out keep their values. An empty text clears a member, and
          `None` does not.
        - Addresses, contacts and extra fields are added or completed, and none is removed. To
          replace a list, use `update_customer`.
        - An address with another name, company, street, place or phone is a new address. The old
          address stays, and a repeated put adds no other. Another `note`, `orderBy` or
          `defaultAddress`, or a country code that only lacks capitals, changes an address.
        - `countryName` and `stateOrProvinceName` never count as a difference, because Ecwid derives
          them from the codes.
        - Ecwid never shows a `password` or a `primaryPhone`. A put that sets one of them sends an
          update each time.
        - A put creates one customer at most. If two puts of one e-mail run at the same time, Ecwid
          refuses the second creation, and the second put updates the customer. A store that accepts
          an e-mail twice gets two customers then.

        Args:
            customer: The members to set, with `email`.

        Returns:
            The id, and the outcome `created`, `updated` or `unchanged`.

        Raises:
            OutcomeUnknown: The customer may have been created. Put the customer again.
            EmailTaken: Ecwid refuses the e-mail, and its search shows no customer with the e-mail.
            ContractBroken: The customer's data violates the contract.
            InvalidRequest: `email` is missing, or Ecwid would drop a member.
            TypeError: The customer holds a value that JSON does not have.
        """
        return upsert.put(self, _settable("add_customer", customer), _no_wait)

    def iter_customers(self, *, cursor: str | None = None, **filters: Any) -> CustomerIterator:
        """Iterate over the customers that match, each id once, although the list changes meanwhile.

        The reading waits for its calls, and takes half of `calls_per_minute` at most.

        Args:
            cursor: The `cursor` of an earlier iterator of this store with equal filters, also of
                another process. The reading continues after the customer that came last.
            **filters: The filters of `list_customers`, without `sortBy` and `offset`.

        Returns:
            An iterator whose `next` raises an `EcwidError` if a page cannot be read. Calling `next`
            again continues at the same place. A customer whose data violates the contract is left
            out, and `skipped` names the customer. At the end, `difference` is Ecwid's `total` minus
            the number of customers that came or were skipped.

        Raises:
            TypeError: Ecwid has no such filter.
            ValueError: `sortBy` or `offset` is given. Or the cursor is damaged, or belongs to other
                filters or to another store.
            InvalidRequest: `responseFields` is not in Ecwid's syntax.
        """
        _check_names(filters)
        return CustomerIterator(
            self._list_for_bulk,
            filters,
            cursor=cursor,
            before_call=self.wait_for_budget,
            get_customer=self._get_for_bulk,
            store=self.store.digest,
        )

    def iter_changes(self, cursor: str | None = None, *, limit: int = PAGE_SIZE) -> ChangeIterator:
        """Iterate over the changes of customers since a cursor, each once and in order of time.

        Without a cursor, all customers come first. The reading waits for its calls, and takes half
        of `calls_per_minute` at most. The token needs the Ecwid scopes `read_customers` and
        `read_store_profile`.
        https://docs.ecwid.com/api-reference/rest-api/store-profile/store-reports/get-deleted-items-history

        Args:
            cursor: The `cursor` of an earlier iterator of this store, also of another process. The
                reading continues after the change that came last. A cursor is valid for six months.
            limit: The customers on a page of Ecwid, up to 100.

        Returns:
            An iterator of `CustomerUpdated`, `CustomerDeleted` and `CustomerUnreadable`, which ends
            after the latest change. Its `next` raises an `EcwidError` if a page cannot be read.
            Calling `next` again continues at the same place.

        Raises:
            CursorExpired: The cursor is older than six months. Begin again without a cursor.
            ValueError: The cursor is damaged, or belongs to another store.
        """
        return ChangeIterator(
            self._list_for_bulk,
            self._list_deleted_for_bulk,
            cursor=cursor,
            before_call=self.wait_for_budget,
            get_customer=self._get_for_bulk,
            store=self.store.digest,
            limit=limit,
        )

    def _send(self, call: Call, *, first_attempt_age_s: float | None = None) -> Any:
        store = self.store  # The store stays open as long as this name refers to it.
        return store.reads.send(call, first_attempt_age_s=first_attempt_age_s)

    def _list_for_bulk(self, **query: Any) -> CustomerPage:
        return self.wait_while_unavailable(partial(self.list_with_unfit, **query))

    def _list_deleted_for_bulk(self, **query: Any) -> DeletionPage:
        return self.wait_while_unavailable(partial(self.list_deleted, **query))

    def _get_for_bulk(self, customer_id: int, selection: str | None) -> Customer:
        query = {"responseFields": selection}
        call = replace(build_call("get_customer", customer_id, query=query), bulk=True)
        customer: Customer = self.wait_while_unavailable(lambda: self._send(call))
        return customer

    def wait_for_budget(self) -> None:
        """Wait until bulk work may make its next call.

        All bulk work together takes half of `calls_per_minute` at most.

        Raises:
            Throttled: The process is about to end.
        """
        while wait_s := self.store.guard.rate_limit.acquire_bulk():
            if not clock.sleep(wait_s):
                raise Throttled(wait_s, "The process is about to end.")

    def wait_while_unavailable(self, ask: Callable[[], T]) -> T:
        """Return the result of `ask`, after waiting while no call can be made.

        Bulk work has the time to wait, while a web request would be refused.

        Args:
            ask: Makes the calls. The client calls it again after each wait.

        Raises:
            EcwidError: Waiting does not help, or the process is about to end.
        """
        while True:
            try:
                return ask()
            except IdempotencyUnavailable:
                raise
            except (Throttled, RateLimited, EcwidUnavailable) as exc:
                # A token that Ecwid has refused may be refused for days.
                if exc.reason == "token" or not clock.sleep(float(exc.retry_after_s or 0)):
                    raise

    def ping(self) -> Ping:
        """Make one small call, to see whether Ecwid replies.

        A token without the Ecwid scope `read_customers` is good enough.

        Raises:
            EcwidError: Ecwid does not reply, or refuses the token.
        """
        call = neutral_call()
        started_at, sent_at = clock.now(), clock.wall()
        ahead_s: float | None = None
        try:
            store = self.store
            reply, _ = store.sender.send(call, started_at + self._deadline_s)
            ahead_s = clock_ahead_s(reply, sent_at, clock.wall())
        except ContractBroken:
            pass  # Ecwid has replied.
        except ServiceRefused as exc:
            if not _lacks_scope(exc):
                raise
        return Ping(clock.now() - started_at, ahead_s)

    def granted_scopes(self) -> dict[str, bool | None]:
        """Return which Ecwid scopes for customers the token has, without changing the store.

        No call of Ecwid returns the scopes. But Ecwid checks the scope of a call before the body,
        and replies with 403 if the token lacks the scope. So the client sends writes whose body is
        no JSON, which can change nothing.

        Returns:
            True or False for each scope. An update also needs the scope `read_customers`. Without
            `read_customers`, the value of `update_customers` is None if it cannot be found out.

        Raises:
            EcwidError: Ecwid does not reply, or refuses the token for another reason.
        """
        broken = {
            name: replace(OPERATIONS[name], kind="change")
            for name in ("add_customer", "update_customer")
        }
        probes = (
            neutral_call(),
            Call(broken["add_customer"], "/customers", body=b"{"),
            Call(broken["update_customer"], "/customers/0", body=b"{"),
        )
        scopes: dict[str, bool | None] = {
            call.operation.ecwid_scope: self._is_permitted(call) for call in probes
        }
        if not scopes["read_customers"] and not scopes["update_customers"]:
            scopes["update_customers"] = None
        return scopes

    def can_list_deleted(self) -> bool:
        """Return whether the token has the scope `read_store_profile`, which deletions need.

        Raises:
            EcwidError: Ecwid does not reply, or refuses the call for another reason.
        """
        return self._is_permitted(build_call("list_deleted", query={"limit": 1}))

    def _is_permitted(self, call: Call) -> bool:
        """Return whether the token has the scope of the call.

        Raises:
            EcwidError: The call failed for another reason.
        """
        try:
            store = self.store
            store.sender.send(call, clock.now() + self._deadline_s)
        except ServiceRefused as exc:
            if _lacks_scope(exc):
                return False
            raise
        except (Rejected, CustomerNotFound, ContractBroken):
            pass  # Ecwid checks the scope first, so the token has the scope.
        return True


def _no_wait() -> None:
    """Do not wait before a call. Only bulk work waits for its budget."""


def _settable(operation_name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body to send, and log the places that are dropped from the caller's body."""
    prepared = bodies.prepare(operation_name, body)
    if prepared.dropped:
        places = " ".join(prepared.dropped)
        log.info("dropped members operation=%s places=%s", operation_name, places)
    return prepared.body


def _page_call(filters: Mapping[str, Any]) -> Call:
    """Return the call that lists the customers that match.

    Raises:
        TypeError: Ecwid has no such filter.
        InvalidRequest: `responseFields` is not in Ecwid's syntax.
    """
    _check_names(filters)
    given = {name: value for name, value in filters.items() if value is not None}
    return build_call("list_customers", query={"offset": 0, "limit": PAGE_SIZE, **given})


def _lacks_scope(error: ServiceRefused) -> bool:
    return error.ecwid_code == "INSUFFICIENT_APP_SCOPE"


def _check_names(filters: Mapping[str, Any]) -> None:
    known = load().operations["list_customers"].parameters
    for name in filters:
        if ("query", name) not in known:
            raise TypeError(f"Ecwid has no filter {name!r}")
