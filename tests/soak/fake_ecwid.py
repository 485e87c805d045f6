"""A fake Ecwid in a process of its own, which counts the calls and fails on demand.

    python tests/soak/fake_ecwid.py PORT

It is no model of Ecwid, as the sandbox is. It has only what the long runs need, and imports nothing
of the package, so that a mistake of the package is not repeated in its judge. A call belongs to a
store and a token. A test gives its orders as `POST /control/ORDER` with the arguments as JSON.

A customer is tagged by `privateAdminNotes`. Two customers with one tag are doubled, whether or not
the store keeps e-mails unique.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import random
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qs, urlsplit

WINDOW_S = 60.0
TICK_S = 0.05
FIRST_ID = 1_000_001
SEEDS_OF_AN_IMPORT = 250  # The first seeded customers share a second, as after an import.
SEEDS_IN_A_SECOND = 7
BY_UPDATE = "UPDATED_DATE_ASC"
PAGING = {"sortBy", "updatedFrom", "offset", "limit", "responseFields"}
EMAIL_TAKEN = {"errorMessage": "customer with the given email already exists"}

Json = dict[str, Any]


class Reply(NamedTuple):
    """A reply of Ecwid. Without a body, the reply is empty, as Ecwid's 403 is."""

    status: int
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()


def most_in(seconds: float, moments: list[float]) -> int:
    """Return the greatest number of these ordered moments that lie within so many seconds."""
    most = first = 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def date(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S +0000", time.gmtime(second))


@dataclass
class Customer:
    """A customer. The dates are in UNIX seconds, which the filters compare."""

    id: int
    registered: int
    updated: int
    members: Json

    def shown(self) -> Json:
        dates = {"registered": date(self.registered), "updated": date(self.updated)}
        return {"id": self.id, **dates, **self.members}

    def email(self) -> str:
        return str(self.members["email"]).strip().lower()

    def change(self, members: Json) -> None:
        """Change the given members. An object is merged, and a null changes nothing."""
        for name, value in members.items():
            if isinstance(value, dict):
                value = {**self.members.get(name, {}), **value}
            if value is not None:
                self.members[name] = value
        self.updated = int(time.time())


@dataclass
class Store:
    """The customers of a store, and the tokens that the store accepts."""

    tokens: set[str]
    unique_emails: bool
    mark: str = ""  # The `taxId` of all customers, which shows whose customers they are.
    created_from: int = FIRST_ID  # The ids of customers who are created begin here.
    customers: dict[int, Customer] = field(default_factory=dict)
    deleted: dict[int, int] = field(default_factory=dict)  # the second of each deletion
    by_update: list[tuple[int, int]] = field(default_factory=list)  # the second and the id, sorted
    by_email: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    created: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    next_id: int = FIRST_ID

    def seed(self, count: int) -> None:
        begun = int(time.time()) - 86_400 - count // SEEDS_IN_A_SECOND
        for number in range(count):
            second = begun + max(0, number - SEEDS_OF_AN_IMPORT) // SEEDS_IN_A_SECOND
            self._insert({"email": f"seed-{number}@example.com"}, second)
        self.next_id = max(self.next_id, self.created_from)

    def is_taken(self, email: str, id: int | None = None) -> bool:
        return self.unique_emails and bool(self.by_email[email.strip().lower()] - {id})

    def _insert(self, members: Json, second: int) -> Customer:
        marked = {**members, "taxId": self.mark} if self.mark else members
        customer = Customer(self.next_id, second, second, marked)
        self.next_id += 1
        self.customers[customer.id] = customer
        self.by_email[customer.email()].add(customer.id)
        bisect.insort(self.by_update, (second, customer.id))
        return customer

    def change(self, customer: Customer, members: Json) -> None:
        self._leave_order(customer)
        self.by_email[customer.email()].discard(customer.id)
        customer.change(members)
        self.by_email[customer.email()].add(customer.id)
        bisect.insort(self.by_update, (customer.updated, customer.id))

    def _leave_order(self, customer: Customer) -> None:
        """Remove a customer from the order of updates, which a bisection finds quickly."""
        del self.by_update[bisect.bisect_left(self.by_update, (customer.updated, customer.id))]

    def create(self, body: Json) -> Reply:
        if not isinstance(body.get("email"), str):
            return Reply(400, {"errorMessage": "Field Customer.email is absent"})
        if self.is_taken(body["email"]):
            return Reply(409, EMAIL_TAKEN)
        customer = self._insert(body, int(time.time()))
        self.created[str(body.get("privateAdminNotes", customer.id))].append(customer.id)
        return Reply(200, {"id": customer.id})

    def update(self, customer: Customer, body: Json) -> Reply:
        email = body.get("email") or customer.members["email"]
        if self.is_taken(email, customer.id):
            return Reply(409, EMAIL_TAKEN)
        self.change(customer, body)
        return Reply(200, {"updateCount": 1})

    def delete(self, customer: Customer) -> Reply:
        del self.customers[customer.id]
        self._leave_order(customer)
        self.by_email[customer.email()].discard(customer.id)
        self.deleted[customer.id] = int(time.time())
        return Reply(200, {"deleteCount": 1})

    def search(self, query: dict[str, str]) -> Reply:
        if query.get("sortBy") == BY_UPDATE and query.keys() <= PAGING:
            # The store of the mirror is too large to be searched and sorted for each page.
            first = bisect.bisect_left(self.by_update, (int(query.get("updatedFrom", 0)), 0))
            return _page(query, self.by_update, self._shown, first)
        found = self._matching(query)
        if query.get("sortBy") == BY_UPDATE:
            found.sort(key=lambda customer: (customer.updated, customer.id))
        return _page(query, found, Customer.shown)

    def list_deleted(self, query: dict[str, str]) -> Reply:
        """Return a page of the deletions between two seconds, the newest first."""
        first, last = int(query.get("from_date", 0)), int(query.get("to_date", sys.maxsize))
        found = [each for each in self.deleted.items() if first <= each[1] <= last]
        found.reverse()
        return _page(query, found, lambda each: {"id": each[0], "date": date(each[1])})

    def _shown(self, place: tuple[int, int]) -> Json:
        return self.customers[place[1]].shown()

    def _matching(self, query: dict[str, str]) -> list[Customer]:
        """Return the customers that match, in the order of registration."""
        email = query.get("email", "").strip().lower()
        if email and query.get("useExactEmailMatch") == "true":
            found = [self.customers[id] for id in sorted(self.by_email[email])]
        else:
            found = [each for each in self.customers.values() if email in each.email()]
        if keyword := query.get("keyword", "").lower():
            found = [each for each in found if keyword in each.email()]
        for name, attribute in (("created", "registered"), ("updated", "updated")):
            first = int(query.get(f"{name}From", 0))
            last = int(query.get(f"{name}To", sys.maxsize))
            if first or last < sys.maxsize:
                found = [each for each in found if first <= getattr(each, attribute) <= last]
        return found

    def reply_to(self, method: str, name: str | None, query: dict[str, str], body: Any) -> Reply:
        """Return the reply to a call about all customers, about `deleted`, or about an id."""
        if method in ("POST", "PUT") and not isinstance(body, dict):
            return Reply(400, {"errorMessage": "Wrong JSON format"})
        if name is None:
            if method == "GET":
                return self.search(query)
            return self.create(body) if method == "POST" else Reply(405)
        if name == "deleted":
            return self.list_deleted(query) if method == "GET" else Reply(405)
        customer = self.customers.get(int(name))
        if customer is None:
            return Reply(404, {"errorMessage": f"Customer #{name} not found"})
        if method == "GET":
            return Reply(200, customer.shown())
        if method == "PUT":
            return self.update(customer, body)
        return self.delete(customer) if method == "DELETE" else Reply(405)


T = TypeVar("T")


def _page(
    query: dict[str, str], found: list[T], show: Callable[[T], Json], first: int = 0
) -> Reply:
    """Return the page of what a query has found, from the place `first` on."""
    offset, limit = int(query.get("offset", 0)), min(100, int(query.get("limit", 100)))
    items = [show(each) for each in found[first + offset : first + offset + limit]]
    total = len(found) - first
    numbers = {"total": total, "count": len(items), "offset": offset, "limit": limit}
    return Reply(200, {**numbers, "items": items})


@dataclass(frozen=True)
class Fault:
    """A fault of a share of the calls, before or after their effect.

    `slow` waits for `seconds`, `cut` closes the connection, `status` replies with a status and
    `truncate` sends half of the body. Every other reply of a status is HTML, as of a proxy.
    """

    kind: str
    after: bool = False
    probability: float = 1.0
    method: str = ""  # All methods by default.
    store: str = ""  # All stores by default.
    seconds: float = 0.0
    status: int = 500
    retry_after: int | None = None

    def concerns(self, store: str, method: str) -> bool:
        return self.store in ("", store) and self.method in ("", method)

    def reply(self) -> Reply:
        if self.retry_after is None:
            return Reply(self.status, "<html>failed</html>")
        body = {"errorCode": "RATE_LIMITED", "errorMessage": "Too many requests"}
        return Reply(self.status, body, (("Retry-After", str(self.retry_after)),))


@dataclass
class Calls:
    """The calls of one token at one store, with their moments of the monotonic clock."""

    arrived: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)

    def figures(self) -> Json:
        return {
            "calls": len(self.arrived),
            "most_in_60_s": most_in(WINDOW_S, self.arrived),
            "refused": len(self.refused),
            "most_refused_in_60_s": most_in(WINDOW_S, self.refused),
            "faults": dict(self.faults),
        }


class Ecwid:
    """All stores, and what the calls did to them. The orders are the methods of `ORDERS`."""

    ORDERS = (
        *("open_store", "set_faults", "accept", "refuse", "report", "report_all", "customers"),
        *("change", "forget", "documents", "deletions"),
    )

    def __init__(self) -> None:
        self.stores: dict[str, Store] = {}
        self.calls: defaultdict[tuple[str, str], Calls] = defaultdict(Calls)
        self.faults: list[Fault] = []
        self.chance = random.Random(1)
        self.late_s = 0.0

    def open_store(self, store: str, tokens: list[str], customers: int = 0, **more: Any) -> None:
        self.stores[store] = Store(set(tokens), **{"unique_emails": True, **more})
        self.stores[store].seed(customers)

    def set_faults(self, faults: list[Json]) -> None:
        self.faults = [Fault(**fault) for fault in faults]

    def accept(self, store: str, token: str) -> None:
        self.stores[store].tokens.add(token)

    def refuse(self, store: str, token: str) -> float:
        """Refuse the token from now on, and return the moment."""
        self.stores[store].tokens.discard(token)
        return time.monotonic()

    def report(self, store: str, token: str) -> Json:
        """Return the figures of a token, and the doubled customers of its store.

        `late_s` is the longest time that this process was late, which blurs each moment.
        """
        created = self.stores[store].created
        doubled = {tag: ids for tag, ids in created.items() if len(ids) > 1}
        figures = self.calls[store, token].figures()
        return {**figures, "created": created, "doubled": doubled, "late_s": round(self.late_s, 2)}

    def report_all(self) -> Json:
        """Return the figures of all stores and tokens together.

        A crossing is a call with a token that only another store accepts. `most_of_a_token` is the
        greatest number of calls of one token in 60 s.
        """
        owners = {token: id for id, store in self.stores.items() for token in store.tokens}
        by_store: Counter[str] = Counter()
        together, crossings, most = Calls(), 0, 0
        for (store, token), calls in self.calls.items():
            together.arrived += calls.arrived
            together.refused += calls.refused
            together.faults += calls.faults
            by_store[store] += len(calls.arrived)
            crossings += len(calls.arrived) * (owners.get(token, store) != store)
            most = max(most, most_in(WINDOW_S, calls.arrived))
        together.arrived.sort()
        together.refused.sort()
        return {
            **together.figures(),
            "calls_of_stores": by_store,
            "refused_tokens": sum(bool(calls.refused) for calls in self.calls.values()),
            "crossings": crossings,
            "most_of_a_token": most,
            "late_s": round(self.late_s, 2),
        }

    def customers(self, store: str) -> list[int]:
        return list(self.stores[store].customers)

    def change(self, store: str, id: int, members: Json) -> None:
        """Change a customer without a call, as somebody does in Ecwid's control panel."""
        self.stores[store].change(self.stores[store].customers[id], members)

    def documents(self, store: str) -> list[Json]:
        """Return all customers as Ecwid shows them."""
        return [customer.shown() for customer in self.stores[store].customers.values()]

    def deletions(self, store: str) -> dict[str, str]:
        """Return the date of each deletion, by the id of the customer as text."""
        return {str(id): date(second) for id, second in self.stores[store].deleted.items()}

    def forget(self) -> None:
        """Forget all calls, so that a long run does not fill the memory."""
        self.calls.clear()

    async def watch(self) -> None:
        """Measure by how much this process is late."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(TICK_S)
            self.late_s = max(self.late_s, time.monotonic() - before - TICK_S)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the requests of a connection, until either side closes it."""
        try:
            while await self._serve_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve a request, and return whether the connection is kept."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        arrived_at = time.monotonic()
        line, *lines = head.rstrip().split("\r\n")
        method, target, _ = line.split(" ")
        headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in lines)}
        sent = await reader.readexactly(int(headers.get("content-length", 0)))
        try:
            body = json.loads(sent) if sent else None
        except ValueError:
            body = sent.decode("latin-1")
        url = urlsplit(target)
        if url.path.startswith("/control/"):
            order = url.path.removeprefix("/control/")
            assert order in self.ORDERS
            result = getattr(self, order)(**(body or {}))
            return await _send(writer, Reply(200, {"result": result}))
        found = re.fullmatch(r"/api/v3/(\d+)/customers(?:/(\d+|deleted))?", url.path)
        if found is None:
            return await _send(writer, Reply(404))
        store, name = found[1], found[2]
        token = headers.get("authorization", "").removeprefix("Bearer ")
        calls = self.calls[store, token]
        calls.arrived.append(arrived_at)
        if store not in self.stores or token not in self.stores[store].tokens:
            calls.refused.append(arrived_at)
            return await _send(writer, Reply(403))
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        faults = [
            fault
            for fault in self.faults
            if fault.concerns(store, method) and self.chance.random() < fault.probability
        ]
        calls.faults.update(fault.kind for fault in faults)
        reply, cut = await _fail([fault for fault in faults if not fault.after])
        if cut or reply:
            return await _send(writer, reply, cut=cut)
        reply = self.stores[store].reply_to(method, name, query, body)
        failed, cut = await _fail([fault for fault in faults if fault.after])
        truncated = any(fault.kind == "truncate" for fault in faults)
        return await _send(writer, failed or reply, cut=cut, truncated=truncated)


async def _fail(faults: list[Fault]) -> tuple[Reply | None, bool]:
    """Wait as the faults say, and return their reply and whether they cut the connection."""
    for fault in faults:
        if fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
    replies = [fault.reply() for fault in faults if fault.kind == "status"]
    return replies[0] if replies else None, any(fault.kind == "cut" for fault in faults)


async def _send(
    writer: asyncio.StreamWriter, reply: Reply | None, *, cut: bool = False, truncated: bool = False
) -> bool:
    """Send a reply, and return whether the connection is kept."""
    if cut or reply is None:
        writer.transport.abort()
        return False
    kind = "text/html" if isinstance(reply.body, str) else "application/json; charset=utf-8"
    text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
    body = b"" if reply.body is None else text.encode()
    head = [
        f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}",
        f"Date: {formatdate(usegmt=True)}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in reply.headers),
    ]
    writer.write("\r\n".join([*head, "", ""]).encode() + body[: len(body) // (1 + truncated)])
    await writer.drain()
    return not truncated


async def main(port: int) -> None:
    ecwid = Ecwid()
    watching = asyncio.create_task(ecwid.watch())
    server = await asyncio.start_server(ecwid.serve, "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()
    await watching


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
