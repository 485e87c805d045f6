"""EcwidClient: the five calls on a store's customers, usable without Flask.

The middle is pure (calls.py): `build_call` makes a call of its arguments, `read_reply` makes a
value or an error of a reply; what is between them is the gateway's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

from .. import clock
from ..contract import load
from ..errors import (
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
from ..storage.cache_backend import Shelf
from ..storage.redis_connection import open_link
from ..throttling.guard import Guard, open_guard
from .calls import Call, Reply, build_call, read_reply
from .pagination import PAGE_SIZE, Customers
from .reconcile import date_ahead
from .retries import Gateway
from .shared_reads import SharedReads
from .transport import Transport

T = TypeVar("T")


class Look(NamedTuple):
    """How long Ecwid took to answer, and by how many seconds its clock is ahead of ours; None
    where its answer has no date.
    """

    seconds: float
    clock_ahead_s: float | None


class EcwidClient:
    """One store's customers, over Ecwid's REST API.

    Every method raises an `EcwidError` when the call fails; `errors.py` draws the tree. The values
    are Ecwid's own: parsed JSON, as it came.

    Raises:
        ValueError: the settings mean the sandbox, which is opened by mounting the plugin.
        SettingsError: `redis_url` cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        transport: Transport | None = None,
        *,
        guard: Guard | None = None,
        name: str = "ecwid",
        check: Callable[[str, dict[str, Any]], None] = lambda operation, value: None,
        shelf: Shelf | None = None,
    ) -> None:
        """`check` raises where what Ecwid answered to an operation is not as it must be; each write
        begins a new generation of the `shelf`. `name` is the store's in the signals.
        """
        if settings.sandbox and transport is None:
            raise ValueError("the sandbox is opened by mounting: use the client of Ecwid(app)")
        self._check = check
        self._guard = guard or open_guard(settings, open_link(settings.redis_url))
        told = CallSignals(self, name)
        gateway = Gateway(transport or Transport(settings), self._guard, told)
        self.calls = SharedReads(gateway, settings.deadline_s, shelf)

    def list_customers(self, **filters: Any) -> dict[str, Any]:
        """A page: `total`, `count`, `offset`, `limit`, `items`.

        The filters are Ecwid's query parameters (https://api-docs.ecwid.com/reference/search-customers);
        one that is None is left out, a list is joined by commas. Their values are not checked here.

        Raises:
            TypeError: there is no such filter: one that Ecwid overlooked would match everybody.
        """
        _check_names(filters)
        given = {name: value for name, value in filters.items() if value is not None}
        query = {"offset": 0, "limit": PAGE_SIZE, **given}

        def completed(page: dict[str, Any]) -> None:
            # A store that takes a selection of fields literally leaves these out; we know them.
            if isinstance(items := page.get("items"), list):
                page.setdefault("count", len(items))
            page.setdefault("offset", query["offset"])
            page.setdefault("limit", query["limit"])

        return self._answered(build_call("list_customers", query=query), completed)

    def get_customer(
        self,
        customer_id: int,
        *,
        responseFields: str | None = None,  # noqa: N803  # Ecwid's name for it
    ) -> dict[str, Any]:
        """A customer, with its `id`. https://api-docs.ecwid.com/reference/get-customer

        Raises:
            CustomerNotFound: the store has none with this id.
        """
        query = {"responseFields": responseFields}
        return self._answered(build_call("get_customer", customer_id, query=query))

    def add_customer(
        self, customer: Mapping[str, Any], *, since: float | None = None
    ) -> dict[str, Any]:
        """Create a customer: `{"id": int}`. https://api-docs.ecwid.com/reference/create-customer

        It is created once at most: where no good reply comes, it is looked up. `since`: an earlier
        try of the same, whose outcome is not known, began then (UNIX seconds): look first.

        Raises:
            OutcomeUnknown: it may have been created, and is not found.
            TypeError: the customer holds what is no JSON; as with the changes of an update.
            EmailTaken: another customer already has this e-mail.
        """
        return self._answered(build_call("add_customer", body=customer), since=since)

    def update_customer(self, customer_id: int, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change what is named: `{"updateCount": int}`.
        https://api-docs.ecwid.com/reference/update-customer

        Raises:
            CustomerNotFound: the store has none with this id.
            EmailTaken: another customer already has the new e-mail.
        """
        return self._answered(build_call("update_customer", customer_id, body=changes))

    def delete_customer(self, customer_id: int) -> dict[str, Any]:
        """Delete a customer: `{"deleteCount": int}`.
        https://api-docs.ecwid.com/reference/delete-customer

        Raises:
            CustomerNotFound: the store has none with this id.
        """
        return self._answered(build_call("delete_customer", customer_id))

    def iter_customers(self, *, cursor: str | None = None, **filters: Any) -> Customers:
        """Every customer that matches, each id once, though the list moves while it is read.

        It takes half of the budget at most, and waits for it. `Customers.cursor` is where to go on
        after the customer that came last, in another process too; `difference` is, at the end, how
        many fewer came than Ecwid's `total` says.

        Raises:
            TypeError: there is no such filter.
            ValueError: `sortBy` or `offset` is given, or the cursor is of other filters.
            EcwidError: from `next`, which then goes on in the same place.
        """
        _check_names(filters)
        return Customers(
            lambda **query: self.patiently(partial(self.list_customers, **query)),
            filters,
            cursor=cursor,
            before_page=self.take_turn,
        )

    def take_turn(self) -> None:
        """Wait until the next call of some bulk work may be made: all of it has half of the budget.

        Raises:
            HeldBack: the process is about to end.
        """
        while wait_s := self._guard.budget.take_bulk():
            if not clock.pause(wait_s):
                raise HeldBack(wait_s, "The process is about to end.")

    def patiently(self, ask: Callable[[], T]) -> T:
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

    def look(self) -> Look:
        """One small call, to see whether Ecwid answers.

        Raises:
            EcwidError: it does not, or refuses the token.
        """
        call = build_call("list_customers", query={"limit": 1})
        begun, asked = clock.now(), clock.wall()
        ahead_s: float | None = None

        def read(reply: Reply) -> dict[str, Any]:
            nonlocal ahead_s
            ahead_s = date_ahead(reply, asked, clock.wall())
            return read_reply(call.operation, reply)

        self._permitted(call, read)  # else it answers all the same
        return Look(clock.now() - begun, ahead_s)

    def granted_scopes(self) -> dict[str, bool | None]:
        """Which of the customers' scopes the token has; changes nothing in the store.

        Ecwid has no call that tells them. It refuses a call without its scope (403) before it reads
        the body, so a write whose body is no JSON is told apart, and can do nothing. An update
        needs the scope to read as well: without that one it is not known (None).

        Raises:
            EcwidError: the store does not answer, or refuses the token as such.
        """
        probes = {
            "read_customers": build_call("list_customers", query={"limit": 1}),
            "create_customers": Call("add_customer", "POST", "/customers", body=b"{"),
            "update_customers": Call("update_customer", "PUT", "/customers/0", body=b"{"),
        }
        scopes: dict[str, bool | None] = {
            scope: self._permitted(call, partial(read_reply, call.operation))
            for scope, call in probes.items()
        }
        if not scopes["read_customers"] and not scopes["update_customers"]:
            scopes["update_customers"] = None
        return scopes

    def _permitted(self, call: Call, read: Callable[[Reply], dict[str, Any]]) -> bool:
        try:
            self.calls.send(call, read)
        except ServiceRefused as exc:
            if exc.ecwid_code == "INSUFFICIENT_APP_SCOPE":
                return False
            raise
        except (Rejected, CustomerNotFound):
            pass  # it was let in
        return True

    def _answered(
        self,
        call: Call,
        complete: Callable[[dict[str, Any]], None] = lambda value: None,
        *,
        since: float | None = None,
    ) -> dict[str, Any]:
        def read(reply: Reply) -> dict[str, Any]:
            value = read_reply(call.operation, reply)
            complete(value)
            self._check(call.operation, value)
            return value

        return self.calls.send(call, read, since=since)


def _check_names(filters: Mapping[str, Any]) -> None:
    known = load().operations["list_customers"].parameters
    for name in filters:
        if ("query", name) not in known:
            raise TypeError(f"there is no filter {name!r}: they have Ecwid's names")
