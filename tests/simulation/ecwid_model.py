"""A small Ecwid, and the ledger of everything that its store has done.

Where Ecwid's documents are silent, the plan draws: whether a bound includes its second, in which
order customers of one second come, and whether pages come short.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from flask_ecwid.client.calls import Call
from flask_ecwid.client.replies import Reply
from flask_ecwid.settings import StoreCredentials

from .setting import Setting
from .world import EPOCH_S, World

BAD_CALLS_A_MINUTE = 20  # More bad calls with a token get the token blocked, as Ecwid's page says.
BLOCKED_S = 600.0  # how long the model blocks such a token. Ecwid says "much longer".
EVIL = "evil"  # the keyword of the search that something in front of Ecwid refuses
SEEDS = 3  # the customers of each store from the beginning
GONE = "gone"  # the tag of the version in which a customer is deleted
UNFIT = "unfit"  # the tag of a version that violates the contract
LISTED_S = 182 * 86_400  # how long Ecwid lists a deletion
# The refusals by their names in a plan, as status, body and seconds of Retry-After.
REFUSALS: dict[str, tuple[int, bytes, int | None]] = {
    "429-1": (429, b'{"errorCode":"RATE_LIMITED"}', 1),
    "429-2": (429, b"", 2),
    "429-10": (429, b"", 10),
    "503-5": (503, b"{}", 5),
    "401": (401, b"{}", None),
    "402": (402, b'{"errorCode":"STORE_IS_SUSPENDED"}', None),
    "403": (403, b"", None),
    "403-token": (403, b'{"errorCode":"INVALID_API_TOKEN"}', None),
    "403-html": (403, b"<html>", None),
    "404-store": (404, b'{"errorCode":"STORE_NOT_FOUND"}', None),
    "500": (500, b"{}", None),
}
# The refusals that Ecwid counts as bad calls.
BAD = frozenset({"401", "402", "403", "403-token", "403-html", "404-store"})
ONLY_STORE = "7"  # the store by settings
_CREATED_FROM = 1000  # the ids that are equal in all stores


def name_of(credentials: StoreCredentials) -> str:
    """Return the name of a token in the plan and in the ledger."""
    store_id, token = credentials.store_id, str(credentials.token)
    return token if store_id == ONLY_STORE else f"{store_id} {token}"


def is_invented(name: str) -> bool:
    """Return whether Ecwid never gave this token to this store of many."""
    store_id, _, token = name.rpartition(" ")
    return bool(store_id) and not token.startswith(f"secret_{store_id}_")


class Version(NamedTuple):
    """What a customer was from a true time on. The tag names the request that made the version."""

    time: float
    tag: str


class Effect(NamedTuple):
    """A change that a call has made."""

    time: float
    request: int
    kind: str  # created, updated or deleted
    customer_id: int


class BadCall(NamedTuple):
    """A call that Ecwid refused because of the token or the store."""

    sent_at: float
    token: str
    is_search: bool  # A search for the customer of a creation, which a pause does not stop.
    host: str  # the name of the host that has sent the call


@dataclass(eq=False)
class Customer:
    """A customer of the store. Dates are in UNIX seconds of Ecwid's clock."""

    id: int
    email: str
    tag: str  # of the creation
    registered: int
    updated: int
    visible_at: float  # the true time from which the search shows the customer
    versions: list[Version]
    gone_at: float | None = None
    listed_at: float | None = None  # the true time from which the deletion is listed
    missed_until: float = 0.0  # the true time up to which each list misses the customer
    failing_until: float = 0.0  # the true time up to which each question for the customer fails

    @property
    def is_unfit(self) -> bool:
        """True if the customer violates the contract, so that no reading can show the customer."""
        return self.versions[-1].tag == UNFIT

    @property
    def shown_at(self) -> float:
        """The true time from which the lists show the last version."""
        return max(self.versions[-1].time, self.visible_at, self.missed_until)

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "email": self.email,
            "taxId": {} if self.is_unfit else self.versions[-1].tag,
            "registered": _date(self.registered),
            "updated": _date(self.updated),
        }


@dataclass(eq=False)
class Shop:
    """One store. Its first customers have the same ids as those of other stores."""

    id: str
    customers: dict[int, Customer] = field(default_factory=dict)
    created: dict[str, list[int]] = field(default_factory=dict)  # the ids that each tag has created

    def next_id(self) -> int:
        """Return the id of the next customer, which no other store has after the first ones."""
        count = len(self.customers) + 1
        own = _CREATED_FROM * (int(self.id) - int(ONLY_STORE)) if count > SEEDS else 0
        return _CREATED_FROM + count + own


@dataclass(eq=False)
class Ecwid:
    """The model. `handle` is the only way for calls."""

    world: World
    setting: Setting
    shops: dict[str, Shop] = field(default_factory=dict)
    accepted: dict[str, float] = field(default_factory=dict)  # when each token was accepted first
    effects: list[Effect] = field(default_factory=list)
    bad_calls: list[BadCall] = field(default_factory=list)
    # The refusals under way, by token or "*", and the time at which each token's block ends.
    refusing: dict[str, str] = field(default_factory=dict)
    blocked_until: dict[str, float] = field(default_factory=dict)
    blocks: list[tuple[float, str]] = field(default_factory=list)
    evil: str | None = None  # the refusal of each search for the evil keyword

    def __post_init__(self) -> None:
        self._random = self.world.generator("ecwid")
        self._random_lists = self.world.generator("deleted")
        self._arrivals: dict[str, deque[float]] = {}
        self._bad: dict[str, deque[float]] = {}

    # The shop

    @property
    def clock(self) -> float:
        """The UNIX seconds of Ecwid's clock."""
        return EPOCH_S + self.world.time + self.setting.ecwid_ahead_s

    def shop(self, store_id: str) -> Shop:
        return self.shops.get(store_id) or self.shops.setdefault(store_id, Shop(store_id))

    def put(
        self, email: str, tag: str, shop: Shop | None = None, *, lag_s: float | None = None
    ) -> Customer:
        """Create a customer. The search shows the customer after a lag."""
        now = self.world.time
        lag_s = self.setting.lag_s * self._random.random() if lag_s is None else lag_s
        second = int(self.clock)
        shop = shop or self.shop(ONLY_STORE)
        customer = Customer(
            shop.next_id(), email, tag, second, second, now + lag_s, [Version(now, tag)]
        )
        shop.customers[customer.id] = customer
        shop.created.setdefault(tag, []).append(customer.id)
        return customer

    def change(self, customer: Customer, tag: str) -> None:
        """Begin a new version of a customer. The tag `GONE` deletes the customer."""
        customer.versions.append(Version(self.world.time, tag))
        customer.updated = int(self.clock)
        if tag == GONE:
            customer.gone_at = self.world.time
            lag_s = self.setting.lag_s * self._random_lists.random()
            customer.listed_at = self.world.time + lag_s

    # The calls

    def handle(
        self, call: Call, request: int, credentials: StoreCredentials, sent_at: float, host: str
    ) -> Reply:
        """Do what a call asks for, and return the reply."""
        token = name_of(credentials)
        if refusal := self._refusal(call, token, sent_at, host):
            status, body, retry_after = REFUSALS[refusal]
            return self.reply(status, body, retry_after)
        if wait_s := self._wait_s(token):
            return self.reply(429, b'{"errorCode":"RATE_LIMITED"}', wait_s)
        self.accepted.setdefault(token, self.world.time)
        operation: Callable[[Shop, Call, int], Reply] = getattr(self, call.operation.name)
        return operation(self.shop(credentials.store_id), call, request)

    def reply(self, status: int, body: bytes, retry_after: int | None = None) -> Reply:
        headers = {"date": formatdate(self.clock, usegmt=True)}
        if retry_after is not None:
            headers["retry-after"] = str(retry_after)
        return Reply(status, headers, body)

    def _refusal(self, call: Call, token: str, sent_at: float, host: str) -> str | None:
        """Return the refusal of a call because of its token, the store or its question."""
        now = self.world.time
        refusal = self.refusing.get(token) or self.refusing.get("*")
        if is_invented(token) or now < self.blocked_until.get(token, 0.0):
            refusal = "403-token"
        if refusal in BAD:
            is_search = dict(call.query).get("useExactEmailMatch") == "true"
            self.bad_calls.append(BadCall(sent_at, token, is_search, host))
            bad = self._bad.setdefault(token, deque())
            bad.append(now)
            while now - bad[0] >= 60:
                bad.popleft()
            if len(bad) > BAD_CALLS_A_MINUTE and now >= self.blocked_until.get(token, 0.0):
                self.blocked_until[token] = now + BLOCKED_S
                self.blocks.append((now, token))
                self.world.log("ECWID BLOCKS", token)
        if refusal is None and self.evil and ("keyword", EVIL) in call.query:
            return self.evil
        return refusal

    def _wait_s(self, token: str) -> int:
        """Return the seconds of Retry-After if the token has made too many calls, otherwise 0."""
        now = self.world.time
        arrivals = self._arrivals.setdefault(token, deque())
        while arrivals and now - arrivals[0] >= 60:
            arrivals.popleft()
        if len(arrivals) >= self.setting.ecwid_limit:
            return 1 + int(60 - (now - arrivals[0]))
        arrivals.append(now)
        return 0

    def _json(self, value: object) -> Reply:
        return self.reply(200, orjson.dumps(value))

    def _missing(self) -> Reply:
        return self.reply(404, b'{"errorCode":"CUSTOMER_NOT_FOUND"}')

    def _customer(self, shop: Shop, call: Call) -> Customer | None:
        customer = shop.customers.get(int(call.path.rpartition("/")[2]))
        return customer if customer and customer.gone_at is None else None

    # One method for each operation

    def list_customers(self, shop: Shop, call: Call, request: int) -> Reply:
        query = dict(call.query)
        exclusive = int(not self.setting.inclusive)
        by = "updated" if query.get("sortBy", "").startswith("UPDATED") else "registered"
        found = [
            each
            for each in shop.customers.values()
            if each.gone_at is None
            and each.visible_at <= self.world.time
            and each.missed_until <= self.world.time
            and each.email == query.get("email", each.email)
            and each.registered >= int(query.get("createdFrom", 0)) + exclusive
            and each.updated >= int(query.get("updatedFrom", 0)) + exclusive
            and each.updated <= int(query.get("updatedTo", 2**62)) - exclusive
        ]
        sign = -1 if self.setting.ties_reversed else 1
        found.sort(key=lambda each: (getattr(each, by), sign * each.id))
        offset, limit = int(query.get("offset", 0)), int(query.get("limit", 100))
        page = found[offset : offset + limit]
        if self.setting.short_pages and len(page) > 2 and self._random.random() < 0.3:
            page = page[: len(page) // 2 + 1]
        return self._json(
            {
                "total": len(found),
                "count": len(page),
                "offset": offset,
                "limit": limit,
                "items": [each.shown() for each in page],
            }
        )

    def get_customer(self, shop: Shop, call: Call, request: int) -> Reply:
        customer = self._customer(shop, call)
        if customer and customer.failing_until > self.world.time:
            return self.reply(500, b"{}")
        return self._json(customer.shown()) if customer else self._missing()

    def list_deleted(self, shop: Shop, call: Call, request: int) -> Reply:
        query = dict(call.query)
        exclusive = int(not self.setting.inclusive)
        first = int(query.get("from_date", 0)) + exclusive
        last = int(query.get("to_date", 2**62)) - exclusive
        found = [
            each
            for each in shop.customers.values()
            if each.listed_at is not None
            and each.listed_at <= self.world.time
            and each.updated > self.clock - LISTED_S
            and first <= each.updated <= last
        ]
        found.sort(key=lambda each: each.updated, reverse=self.setting.ties_reversed)
        offset, limit = int(query.get("offset", 0)), int(query.get("limit", 100))
        page = found[offset : offset + limit]
        if self.setting.short_pages and len(page) > 2 and self._random_lists.random() < 0.3:
            page = page[: len(page) // 2 + 1]
        items = [{"id": each.id, "date": _date(each.updated)} for each in page]
        counts = {"total": len(found), "count": len(page), "offset": offset, "limit": limit}
        return self._json({**counts, "items": items})

    def add_customer(self, shop: Shop, call: Call, request: int) -> Reply:
        body = orjson.loads(call.body or b"")
        email = body["email"]
        if self.setting.unique and any(
            each.email == email and each.gone_at is None for each in shop.customers.values()
        ):
            return self.reply(409, b'{"errorCode":"EMAIL_TAKEN"}')
        customer = self.put(email, body["taxId"], shop)
        self.effects.append(Effect(self.world.time, request, "created", customer.id))
        return self._json({"id": customer.id})

    def update_customer(self, shop: Shop, call: Call, request: int) -> Reply:
        customer = self._customer(shop, call)
        if customer is None:
            return self._missing()
        self.change(customer, orjson.loads(call.body or b"")["taxId"])
        self.effects.append(Effect(self.world.time, request, "updated", customer.id))
        return self._json({"updateCount": 1})

    def delete_customer(self, shop: Shop, call: Call, request: int) -> Reply:
        customer = self._customer(shop, call)
        if customer is None:
            return self._missing()
        self.change(customer, GONE)
        self.effects.append(Effect(self.world.time, request, "deleted", customer.id))
        return self._json({"deleteCount": 1})


@lru_cache(4096)
def _date(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S +0000", time.gmtime(second))
