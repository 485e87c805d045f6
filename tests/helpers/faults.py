"""Faults on the way to Ecwid, and the response that the caller gets, in one table.

A row has the events on the wire, the calls of each operation and the response if retries do not
help. A fault changes a reply that is otherwise good, wherever possible. An implementation that
overlooks the fault then responds with 200, and its test fails. Every reply of Ecwid contains the
word `canary`.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, NamedTuple

from .raw_server import Answer, Call

READS = ("list_customers", "get_customer")
CHANGES = ("update_customer", "delete_customer")
WRITES = (*CHANGES, "add_customer")
OPERATIONS = (*READS, *CHANGES, "add_customer")

EMAIL = "canary@example.com"
NEW = {"email": EMAIL, "billingPerson": {"name": "Canary Name"}, "acceptMarketing": True}


class Problem(NamedTuple):
    """The problem that the caller gets. Only the problem of a write has `executed`."""

    status: int
    slug: str
    executed: str = "unknown"
    retry_after: tuple[int, int] | None = None  # least, most
    code: str | None = None
    detail: str = ""  # a pattern

    def after(self, least: int, most: int | None = None) -> Problem:
        return self._replace(retry_after=(least, least if most is None else most))

    def coded(self, code: str) -> Problem:
        return self._replace(code=code)


SOME_TIME = (1, 3600)
UNREACHABLE = Problem(503, "upstream-unreachable", "no", SOME_TIME)
TLS = Problem(502, "upstream-tls", "no")
LOST = Problem(502, "upstream-lost")
TIMEOUT = Problem(504, "upstream-timeout")
BAD_REPLY = Problem(502, "upstream-bad-reply")
BROKEN = Problem(502, "contract-broken")
UNKNOWN_OUTCOME = Problem(504, "outcome-unknown")
FAILED = Problem(502, "upstream-failed")
TIMED_OUT = Problem(504, "upstream-timed-out")
UNAVAILABLE = Problem(503, "upstream-unavailable", "unknown", SOME_TIME)
RATE_LIMITED = Problem(429, "rate-limited", "no", SOME_TIME)
REFUSED = Problem(502, "service-refused", "no")
NOT_FOUND = Problem(404, "customer-not-found", "no")
TAKEN = Problem(409, "email-taken", "no")
OTHER = TAKEN._replace(executed="unknown")
REJECTED = Problem(400, "rejected-by-ecwid", "no")


class Word(NamedTuple):
    """The number of calls that each kind of operation makes if the fault stays."""

    word: str
    read: int
    change: int
    create: int
    heals: bool = True
    sure: bool = True  # False if the number is not specified, so one call is enough


RETRY = Word("retry", 3, 2, 3)
ONE = Word("one", 2, 2, 2)
WAIT = Word("wait, one", 2, 2, 2)
NO = Word("no", 1, 1, 1, heals=False)
RECONCILE = Word("reconcile", 0, 0, 1)  # followed by up to three searches
MAY = Word("not said", 3, 2, 1, heals=False, sure=False)
GOOD = Word("good", 1, 1, 1, heals=False)  # a 200

# The part of the caller's time that a fault takes.
NO_TIME = "none"
A_RECEIVE = "a receive"  # each attempt takes a whole timeout
ALL = "all"  # the first attempt takes the whole time

# The outcome of the next request after the fault has gone.
CLEAN = "clean"
HELD = "held back"
OTHERS = "clean, if it is another operation"
EITHER = "clean or held back"  # not specified
ASKED = "clean, after the neutral question"


@dataclass(frozen=True, eq=False)
class Fault:
    """A row of the table, where a word is None if the row is not about the operation.

    The fault `before` replaces a connection, and `answer` replaces the reply to a call.
    """

    name: str
    read: Word | None
    change: Word | None
    create: Word | None
    gets: Problem | None
    answer: Answer | None = None
    next: str = CLEAN
    takes: str = NO_TIME
    before: str = ""
    warm: bool = False  # a good call precedes the fault over the same connection
    fresh: bool = False  # Ecwid keeps the connection open, and no call may reuse it
    but: Mapping[str, tuple[Word | None, Problem | None]] = field(default_factory=dict)
    pause_s: float = 0.0  # the least wait before a call succeeds
    bodies: Mapping[str, bytes] | None = None  # the good bodies that the caller gets unchanged

    def cell(self, operation: str) -> tuple[Word | None, Problem | None]:
        """Return the rule for an operation, and the problem if the calls do not help."""
        if operation in self.but:
            return self.but[operation]
        if operation == "add_customer":
            lost = self.create is RECONCILE and self.gets and self.gets.status != 503
            return self.create, UNKNOWN_OUTCOME if lost else self.gets
        return (self.read if operation in READS else self.change), self.gets

    def attempts(self, operation: str) -> tuple[int, int]:
        """Return the least and the greatest number of calls while the fault stays."""
        word, _ = self.cell(operation)
        if word is None:
            raise ValueError(f"{self.name} is not about {operation}")
        most = word.read if operation in READS else word.change
        most = word.create if operation == "add_customer" else most
        if self.takes == ALL:
            return 1, 1
        if not word.sure:
            return 1, most
        return (min(most, 2) if self.takes == A_RECEIVE else most), most

    def reconcile_attempts(self, operation: str) -> tuple[int, int]:
        """Return the least and the greatest number of searches that follow."""
        word, _ = self.cell(operation)
        if word is not RECONCILE:
            return 0, 0
        return (0 if self.takes == ALL else 1), 3


# ---------------------------------------------------------------------------------------------
# Good replies


def written(body: object) -> bytes:
    return json.dumps(body).encode()


def registered(seconds_ago: float = 0.0) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S +0000", time.gmtime(time.time() - seconds_ago))


def customer(seconds_ago: float = 0.0, **changes: Any) -> dict[str, Any]:
    """Return the customer that `NEW` creates, as Ecwid shows the customer."""
    more = {"firstName": "Canary", "lastName": "Name"}
    return {
        "id": 7,
        **NEW,
        "billingPerson": {"name": "Canary Name", **more},
        "registered": registered(seconds_ago),
        "customerGroupId": 0,
        "customerGroupName": "General",
        "shippingAddresses": [],
        **changes,
    }


def page(*customers: dict[str, Any]) -> dict[str, Any]:
    count = len(customers)
    return {"total": count, "count": count, "offset": 0, "limit": 100, "items": list(customers)}


GOOD_BODIES: dict[str, bytes] = {
    "list_customers": written(page(customer(86_400))),
    "get_customer": written(customer(86_400)),
    "update_customer": b'{"updateCount": 1}',
    "delete_customer": b'{"deleteCount": 1}',
    "add_customer": b'{"id": 7}',
    "reconcile": written(page()),
}


def envelope(operation: str, body: bytes, request_id: str) -> dict[str, Any]:
    """Return the response of the caller for a good body."""
    value = json.loads(body)
    if operation == "get_customer":
        attributes = {name: member for name, member in value.items() if name != "id"}
        return {"data": {"id": value["id"], "type": "ecwid", "attributes": attributes}}
    if operation == "add_customer":
        return {"data": {"id": str(value["id"]), "type": "ecwid", "attributes": {}}}
    if operation in CHANGES:
        name = f"{operation.partition('_')[0]}Count"
        value = {name: value[name]}
    return {"data": {"id": request_id, "type": "ecwid", "attributes": value}}


# ---------------------------------------------------------------------------------------------
# Replies, byte by byte

OK = (b"HTTP/1.1 200 OK", b"X-Note: canary in a header", b"Content-Type: application/json")
LENGTH = b"Content-Length: %(length)d"
CHUNKED = b"Transfer-Encoding: chunked"
END = b""  # of the headers
BODY = b"%(body)s"
HALF = b"%(half)s"
CHUNK = b"%(length)x"  # the size of one
LAST = (b"0", b"", b"")  # chunk
HTML = b"<html><title>canary</title></html>"


def lines(*parts: bytes, keep: bool = False) -> Answer:
    """Return a reply of these lines with a good body, after which the connection is closed."""
    template = b"\r\n".join(parts)

    def answer(connection: socket.socket, call: Call) -> bool:
        body = GOOD_BODIES[call.kind]
        known = {b"body": body, b"length": len(body), b"half": body[: len(body) // 2]}
        connection.sendall(template % known)
        return keep

    return answer


def reply(
    status: int,
    body: bytes | Mapping[str, bytes] | Callable[[bytes], bytes] = b"",
    *headers: bytes,
    keep: bool = True,
) -> Answer:
    """Return a whole reply with this body, or with a changed good body."""

    def answer(connection: socket.socket, call: Call) -> bool:
        made = body(GOOD_BODIES[call.kind]) if callable(body) else body
        made = made[call.kind] if isinstance(made, Mapping) else made
        length = () if status == 204 else (b"Content-Length: %d" % len(made),)
        first = (b"HTTP/1.1 %d Canary" % status, *OK[1:], *length, *headers, END)
        connection.sendall(b"\r\n".join((*first, made)))
        return keep

    return answer


good = reply(200, GOOD_BODIES)
STRAYS: list[Callable[[], None]] = []


def error(status: int, code: str, *headers: bytes) -> Answer:
    """Return a refusal with Ecwid's code, and with a text that the plugin must not pass on."""
    text = {"errorCode": code, "errorMessage": f"{EMAIL}: canary", "email": EMAIL}
    return reply(status, written(text), *headers)


def redirect(status: int, to: str) -> Answer:
    """Return a redirect to `here`, which is the same server, to another host or to nowhere."""

    def answer(connection: socket.socket, call: Call) -> bool:
        host = host_of(call.headers)
        places = {"here": b"Location: http://%s/canary/customers/7" % host, "nowhere": b"X-No: no"}
        place = places.get(to, b"Location: %s/canary/customers/7" % to.encode())
        return reply(status, b"", place)(connection, call)

    return answer


def host_of(headers: bytes) -> bytes:
    found = [line for line in headers.split(b"\r\n") if line.lower().startswith(b"host:")]
    return found[0].partition(b":")[2].strip()


def stops(*parts: bytes) -> Answer:
    """Return a reply that begins, and then sends nothing until the caller hangs up."""
    beginning = lines(*parts, keep=True)

    def answer(connection: socket.socket, call: Call) -> bool:
        beginning(connection, call)
        while connection.recv(65_536):
            pass
        return False

    return answer


def drips(*parts: bytes) -> Answer:
    """Return a reply that sends a beginning and then single bytes, each in time."""
    beginning = lines(*parts, keep=True)

    def answer(connection: socket.socket, call: Call) -> bool:
        beginning(connection, call)
        for _ in range(500):
            connection.sendall(b" ")
            time.sleep(0.05)
        return False

    return answer


def then_sends(*stray: bytes) -> Answer:
    """Return a whole reply, after which `STRAYS` has a function that sends bytes.

    Nobody has asked for these bytes. The test sends them after the caller has read the reply.
    """
    follows = lines(*stray)

    def answer(connection: socket.socket, call: Call) -> bool:
        def send() -> None:
            with contextlib.suppress(OSError):  # the caller has hung up
                follows(connection, call)

        STRAYS.append(send)
        return good(connection, call)

    return answer


def closes(connection: socket.socket, call: Call) -> bool:
    return False


def resets(connection: socket.socket, call: Call) -> bool:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    return False


def resets_after(*parts: bytes) -> Answer:
    """Return a reply that begins, and then resets the connection."""
    beginning = lines(*parts)

    def answer(connection: socket.socket, call: Call) -> bool:
        beginning(connection, call)
        time.sleep(0.02)
        return resets(connection, call)

    return answer


def zipped(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)


def corrupt(body: bytes) -> bytes:
    """Return gzip with a wrong checksum."""
    whole = zipped(body)
    return whole[:-8] + bytes(8 - 4) + whole[-4:]


def bomb() -> bytes:
    """Return the body after 32 MiB of blanks, in 32 kB."""
    made = zlib.compressobj(9, zlib.DEFLATED, 31)
    return made.compress(b" " * (32 << 20)) + made.compress(b'{"id": 7}') + made.flush()


BOMB = bomb()
GZIP = b"Content-Encoding: gzip"
NESTED = b"[" * 5_000 + b"]" * 5_000


def with_member(member: bytes) -> dict[str, bytes]:
    """Return the good bodies with one more member."""
    return {kind: body[:-1] + b", " + member + b"}" for kind, body in GOOD_BODIES.items()}


def bodies(**by_operation: object) -> dict[str, bytes]:
    return {operation: written(body) for operation, body in by_operation.items()}


def of_each(body: Callable[[dict[str, Any]], object]) -> dict[str, bytes]:
    """Return the good bodies after a change."""
    return {kind: written(body(json.loads(good))) for kind, good in GOOD_BODIES.items()}


NULLS = bodies(
    list_customers=page({**customer(), "email": None, "billingPerson": None, "stats": None}),
    get_customer={**customer(), "email": None, "billingPerson": None, "stats": None},
    update_customer={"updateCount": 1, "success": None},
    delete_customer={"deleteCount": 1, "success": None},
    add_customer={"id": 7, "email": None},
)
BARE = bodies(
    list_customers=page({"id": 7}),
    get_customer={"id": 7},
    update_customer={"updateCount": 1},
    delete_customer={"deleteCount": 1},
    add_customer={"id": 7},
)
NOTHING_DONE = bodies(update_customer={"updateCount": 0}, delete_customer={"deleteCount": 0})
NEW_MEMBER = with_member(b'"brandNew": {"canary": [1, null]}')
WRONG_TYPE = bodies(
    list_customers={**page(customer()), "total": "canary"},
    get_customer={**customer(), "stats": "canary"},
    update_customer={"updateCount": "canary"},
    delete_customer={"deleteCount": "canary"},
    add_customer={"id": "canary"},
)
WRONG_INSIDE = bodies(
    list_customers=page({"id": 1}, {**customer(), "lang": {"canary": 1}}),
    get_customer={**customer(), "contacts": [{"contact": {"canary": 1}}]},
    update_customer={"updateCount": {"canary": 1}},
    delete_customer={"deleteCount": [1, "canary"]},
    add_customer={"id": {"canary": 7}},
)
NO_ID = bodies(
    list_customers=page({"email": EMAIL}),
    get_customer={"email": EMAIL},
    update_customer={"success": "canary"},
    delete_customer={"updateCount": 1, "note": "canary"},
    add_customer={"success": True, "note": "canary"},
)
OUT_OF_RANGE = bodies(
    list_customers={**page({"id": 0}), "total": -1},
    get_customer={**customer(), "id": 2**53},
    update_customer={"updateCount": -1},
    delete_customer={"deleteCount": -(2**63)},
    add_customer={"id": 0},
)
TO_CONVERT = bodies(
    list_customers={
        "total": "1",
        "count": 1.0,
        "offset": "0",
        "limit": 100,
        "items": [{"id": "7"}],
    },
    get_customer={"id": "7", "stats": []},
    update_customer={"updateCount": "1"},
    delete_customer={"deleteCount": 1.0},
    add_customer={"id": "7.0"},
)


def scope(operation: str) -> Problem:
    name = {"add_customer": "create_customers", "delete_customer": "(update|delete)_customers"}
    names = dict.fromkeys(READS, "read_customers") | {"update_customer": "update_customers"} | name
    return REFUSED.coded("INSUFFICIENT_APP_SCOPE")._replace(detail=names[operation])


def wait(seconds: bytes) -> bytes:
    return b"Retry-After:" + (b" " + seconds if seconds else b"")


def limited(*headers: bytes) -> Answer:
    return error(429, "TOO_MANY_REQUESTS", *headers)


LIMITED = RATE_LIMITED.coded("TOO_MANY_REQUESTS")


def found(
    *customers: dict[str, Any],
    seconds_ago: float = 0.0,
    clock_behind_s: float | None = None,
    kept: bool = False,
    **changes: Any,
) -> Answer:
    """Return the reply to a search, with the customer that was just created and these changes.

    `clock_behind_s` sets Ecwid's clock back, as the Date of the reply shows. `kept` adds an Age, as
    a cache does.
    """

    def answer(connection: socket.socket, call: Call) -> bool:
        ago = seconds_ago + (clock_behind_s or 0)
        headers = []
        if clock_behind_s is not None:
            headers = [b"Date: " + formatdate(time.time() - clock_behind_s, usegmt=True).encode()]
        if kept:
            headers.append(b"Age: 60")
        body = written(page(*customers, customer(ago, **changes)))
        return reply(200, body, *headers)(connection, call)

    return answer


def nested(levels: int) -> object:
    value: object = "canary"
    for _ in range(levels):
        value = [value]
    return value


def among_others(answer: Callable[..., Answer] = found) -> Answer:
    """Return a reply with the customer behind others with similar e-mails."""
    return answer({"id": 5, "email": f"x{EMAIL}"}, {"id": 6, "email": f"{EMAIL}.test"})


nobody = reply(200, written(page()))
only_others = reply(200, written(page({"id": 5, "email": f"x{EMAIL}", "registered": None})))


# ---------------------------------------------------------------------------------------------
# The table of faults, where a comment names the faults of the rows below. The columns are read,
# update and delete, create, and the problem if the fault stays. `HOST` is the URL of another host.
HOST = "http://127.0.0.1:9"  # No process listens there. Another test uses a server that listens.


def row(
    name: str,
    read: Word | None,
    change: Word | None,
    create: Word | None,
    gets: Problem | None,
    answer: Answer | None = None,
    **more: Any,
) -> Fault:
    return Fault(name, read, change, create, gets, answer, **more)


# fmt: off
FAULTS: list[Fault] = [
    # refused, DNS, connect timeout, TLS handshake reset
    row("refused",                          RETRY, RETRY, RETRY, UNREACHABLE, before="refused"),
    row("no such name",                     RETRY, RETRY, RETRY, UNREACHABLE, before="no name"),
    row("connect timeout",                  RETRY, RETRY, RETRY, UNREACHABLE, before="full",
        takes=A_RECEIVE),
    row("TLS handshake reset",              RETRY, RETRY, RETRY, UNREACHABLE, before="TLS reset"),
    row("TLS handshake closed",             RETRY, RETRY, RETRY, UNREACHABLE, before="TLS closed"),
    row("TLS handshake answered in plain",  RETRY, RETRY, RETRY, UNREACHABLE, before="TLS plain"),
    row("TLS handshake stalled",            RETRY, RETRY, RETRY, UNREACHABLE, before="TLS stalled",
        takes=A_RECEIVE),

    # TLS certificate bad, expired, wrong host
    row("TLS certificate not trusted",      NO, NO, NO, TLS, before="TLS not trusted"),
    row("TLS certificate expired",          NO, NO, NO, TLS, before="TLS expired"),
    row("TLS certificate of another host",  NO, NO, NO, TLS, before="TLS other host"),

    # closed or reset before any byte, pooled connection closed
    row("closed before any byte",           RETRY, RETRY, RECONCILE, LOST, closes),
    row("reset before any byte",            RETRY, RETRY, RECONCILE, LOST, resets),
    row("kept connection closed as the call comes", RETRY, RETRY, RECONCILE, LOST, closes,
        warm=True),
    row("kept connection reset as the call comes", RETRY, RETRY, RECONCILE, LOST, resets,
        warm=True),
    row("kept connection closed while idle", GOOD, GOOD, GOOD, None,
        reply(200, GOOD_BODIES, keep=False), warm=True, bodies=GOOD_BODIES),

    # no first byte in time, stall, slow drip
    row("no first byte",                    RETRY, ONE, RECONCILE, TIMEOUT,
        stops(), takes=A_RECEIVE),
    row("stall in the status line",         RETRY, ONE, RECONCILE, TIMEOUT,
        stops(b"HTTP/1.1 20"), takes=A_RECEIVE),
    row("stall in the headers",             RETRY, ONE, RECONCILE, TIMEOUT,
        stops(*OK, LENGTH), takes=A_RECEIVE),
    row("stall in the body",                RETRY, ONE, RECONCILE, TIMEOUT,
        stops(*OK, LENGTH, END, HALF), takes=A_RECEIVE),
    row("stall in a chunk",                 RETRY, ONE, RECONCILE, TIMEOUT,
        stops(*OK, CHUNKED, END, CHUNK, HALF), takes=A_RECEIVE),
    row("drip of headers",                  RETRY, ONE, RECONCILE, TIMEOUT,
        drips(*OK, LENGTH, b"X-Drip: "), takes=ALL),
    row("drip of the body",                 RETRY, ONE, RECONCILE, TIMEOUT,
        drips(*OK, b"Content-Length: 9000", END, HALF), takes=ALL),

    # headers cut, garbage status line, > 100 headers, two lengths, 1xx as final, truncated body,
    # bad chunk, truncated gzip, extra bytes
    row("reset after the headers",          RETRY, ONE, RECONCILE, BAD_REPLY,
        resets_after(*OK, LENGTH, END, b"")),
    row("reset in the body",                RETRY, ONE, RECONCILE, BAD_REPLY,
        resets_after(*OK, LENGTH, END, HALF)),
    row("status line cut",                  RETRY, ONE, RECONCILE, BAD_REPLY, lines(b"HTTP/1.1 2")),
    row("headers cut in a line",            RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, b"Content-Len")),
    row("headers cut between lines",        RETRY, ONE, RECONCILE, BAD_REPLY, lines(*OK, b"")),
    row("garbage for a status line",        RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(b"canary garbage", END, BODY)),
    row("no status line",                   RETRY, ONE, RECONCILE, BAD_REPLY, lines(BODY)),
    row("HTTP/9.9",                         RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(b"HTTP/9.9 200 OK", *OK[1:], LENGTH, END, BODY)),
    row("status below zero",                RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(b"HTTP/1.1 -200 OK", *OK[1:], LENGTH, END, BODY)),
    row("status that is no number",         RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(b"HTTP/1.1 canary OK", *OK[1:], LENGTH, END, BODY)),
    row("status of four digits",            RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(b"HTTP/1.1 2000 OK", *OK[1:], LENGTH, END, BODY)),
    row("more than 100 headers",            RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, *[b"X-More: canary"] * 120, LENGTH, END, BODY)),
    row("a header of 100 kB",               RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, b"X-Long: " + b"canary" * 17_000, LENGTH, END, BODY)),
    row("a header without a colon",         RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, b"canary", LENGTH, END, BODY)),
    row("a header without a name",          RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, b": canary", LENGTH, END, BODY)),
    row("a blank before the colon",         RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, b"X-Canary : 1", LENGTH, END, BODY)),
    row("a header in two lines",            RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, b" canary", LENGTH, END, BODY)),
    row("a bare CR in a header",            RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, b"X-Canary: 1\rX: 2", LENGTH, END, BODY)),
    row("a bare LF in the headers",         RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, b"X-Canary: 1\nX: 2", LENGTH, END, BODY)),
    row("a NUL in a header",                RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, b"X-Canary: \0", LENGTH, END, BODY)),
    row("two equal lengths",                RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, LENGTH, LENGTH, END, BODY)),
    row("two different lengths",            RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, LENGTH, b"Content-Length: 5", END, BODY)),
    row("two different lengths in a line",  RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, LENGTH + b", 5", END, BODY)),
    row("a length and chunks",              RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, LENGTH, CHUNKED, END, CHUNK, BODY, *LAST)),
    row("a length and another coding",      RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, LENGTH, b"Transfer-Encoding: identity", END, BODY)),
    row("two codings",                      RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, CHUNKED, CHUNKED, END, CHUNK, BODY, *LAST)),
    row("a coding nobody knows",            RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, b"Transfer-Encoding: canary", END, BODY)),
    row("a length below zero",              RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, b"Content-Length: -1", END, BODY)),
    row("a length with a sign",             RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, b"Content-Length: +%(length)d", END, BODY)),
    row("a length that is no number",       RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, b"Content-Length: canary", END, BODY)),
    row("100 and nothing more",             RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(b"HTTP/1.1 100 Continue", END, b"")),
    row("101 as the final status",          RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(b"HTTP/1.1 101 Canary", b"Upgrade: canary", b"Connection: Upgrade", END, BODY)),
    row("103 as the final status",          RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(b"HTTP/1.1 103 Canary", *OK[1:], LENGTH, END, BODY)),
    row("body cut",                         RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, LENGTH, END, HALF)),
    row("body missing",                     RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, LENGTH, END, b"")),
    row("whole JSON, and the length says more", RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, b"Content-Length: 9000", END, BODY)),
    row("bad chunk size",                   RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, CHUNKED, END, b"canary", BODY, *LAST)),
    row("chunk size below zero",            RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, CHUNKED, END, b"-5", BODY, *LAST)),
    row("chunk size with a prefix",         RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, CHUNKED, END, b"0x" + CHUNK, BODY, *LAST)),
    row("cut chunk",                        RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, CHUNKED, END, CHUNK, HALF)),
    row("missing last chunk",               RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, CHUNKED, END, CHUNK, BODY, b"")),
    row("last chunk cut",                   RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, CHUNKED, END, CHUNK, BODY, b"0", b"X-Canary: 1")),
    row("chunk longer than its size",       RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, CHUNKED, END, CHUNK, BODY + b"canary", *LAST)),
    row("truncated gzip",                   RETRY, ONE, RECONCILE, BAD_REPLY,
        reply(200, lambda body: zipped(body)[:-9], GZIP)),
    row("gzip without its checksum",        RETRY, ONE, RECONCILE, BAD_REPLY,
        reply(200, lambda body: zipped(body)[:-8], GZIP)),
    row("extra bytes",                      RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, LENGTH, END, BODY + b"canary", keep=True), fresh=True),
    row("two replies at once",              RETRY, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, LENGTH, END, BODY + OK[0], *OK[1:], LENGTH, END, BODY, keep=True), fresh=True),

    # bytes that come after a whole reply over a kept connection
    *(row(f"kept connection with {name}",   GOOD, GOOD, GOOD, None,
          then_sends(*stray), warm=True, fresh=True, bodies=GOOD_BODIES)
      for name, stray in (
          ("another reply", (*OK, LENGTH, END, BODY)),
          ("a refusal", (b"HTTP/1.1 408 Canary", b"Content-Length: 0", END, b"")),
          ("a hint", (b"HTTP/1.1 103 Canary", END, b"")),
          ("a byte", (b"x",)),
      )),

    # body > 8 MiB, gzip bomb, corrupt gzip, unknown encoding
    row("body over 8 MiB",                  NO, NO, RECONCILE, BAD_REPLY,
        reply(200, lambda body: b" " * (8 << 20) + body)),
    row("chunks over 8 MiB",                NO, NO, RECONCILE, BAD_REPLY,
        lines(*OK, CHUNKED, END, *[b"10000", b" " * 65_536] * 130, CHUNK, BODY, *LAST)),
    row("gzip bomb",                        NO, NO, RECONCILE, BAD_REPLY,
        reply(200, lambda _: BOMB, GZIP)),
    row("corrupt gzip",                     NO, NO, RECONCILE, BAD_REPLY,
        reply(200, corrupt, GZIP)),
    row("plain body said to be gzip",       NO, NO, RECONCILE, BAD_REPLY,
        reply(200, GOOD_BODIES, GZIP)),
    row("encoding br",                      NO, NO, RECONCILE, BAD_REPLY,
        reply(200, GOOD_BODIES, b"Content-Encoding: br")),
    row("encoding gzip, gzip",              NO, NO, RECONCILE, BAD_REPLY,
        reply(200, lambda body: zipped(zipped(body)), b"Content-Encoding: gzip, gzip")),
    row("encoding nobody knows",            NO, NO, RECONCILE, BAD_REPLY,
        reply(200, GOOD_BODIES, b"Content-Encoding: canary")),

    # 200 with HTML, empty, 204, text, invalid UTF-8, NaN, too deep
    row("200 with HTML",                    ONE, ONE, RECONCILE, BAD_REPLY, reply(200, HTML)),
    row("200 and empty",                    ONE, ONE, RECONCILE, BAD_REPLY, reply(200)),
    row("204",                              ONE, ONE, RECONCILE, BAD_REPLY, reply(204)),
    row("200 with text",                    ONE, ONE, RECONCILE, BAD_REPLY, reply(200, b"canary")),
    row("200 with a body cut without a length", ONE, ONE, RECONCILE, BAD_REPLY,
        lines(*OK, END, HALF)),
    row("200 with invalid UTF-8",           ONE, ONE, RECONCILE, BAD_REPLY,
        reply(200, with_member(b'"x": "canary\xff"'))),
    row("200 with UTF-16",                  ONE, ONE, RECONCILE, BAD_REPLY,
        reply(200, lambda body: body.decode().encode("utf-16"))),
    row("200 with a BOM",                   ONE, ONE, RECONCILE, BAD_REPLY,
        reply(200, lambda body: b"\xef\xbb\xbf" + body)),
    row("200 with NaN",                     ONE, ONE, RECONCILE, BAD_REPLY,
        reply(200, with_member(b'"x": NaN'))),
    row("200 with Infinity",                ONE, ONE, RECONCILE, BAD_REPLY,
        reply(200, with_member(b'"x": -Infinity'))),
    row("200, nested 5,000 deep",           ONE, ONE, RECONCILE, BAD_REPLY,
        reply(200, with_member(b'"x": ' + NESTED))),
    row("200 with two objects",             ONE, ONE, RECONCILE, BAD_REPLY,
        reply(200, lambda body: body + body)),
    row("200 with a JSON array",            ONE, ONE, RECONCILE, BAD_REPLY,
        reply(200, lambda body: b"[" + body + b"]")),
    row("200 with a JSON string",           ONE, ONE, RECONCILE, BAD_REPLY,
        reply(200, b'"canary"')),
    row("200 with a JSON number",           ONE, ONE, RECONCILE, BAD_REPLY, reply(200, b"7")),
    row("200 with null",                    ONE, ONE, RECONCILE, BAD_REPLY, reply(200, b"null")),

    # JSON of the wrong shape
    row("an empty object",                  ONE, NO, RECONCILE, BROKEN, reply(200, b"{}")),
    row("a member of the wrong type",       ONE, NO, RECONCILE, BROKEN, reply(200, WRONG_TYPE)),
    row("the wrong type further down",      ONE, NO, RECONCILE, BROKEN, reply(200, WRONG_INSIDE)),
    row("the id or the count missing",      ONE, NO, RECONCILE, BROKEN, reply(200, NO_ID)),
    row("a number out of any range",        GOOD, GOOD, GOOD, None,
        reply(200, OUT_OF_RANGE), bodies=OUT_OF_RANGE),
    row("numbers as texts",                 GOOD, GOOD, GOOD, None,
        reply(200, TO_CONVERT), bodies=BARE),

    # an unknown new field, an optional field null or missing
    row("an unknown new member",            GOOD, GOOD, GOOD, None,
        reply(200, NEW_MEMBER), bodies=NEW_MEMBER),
    row("optional members null",            GOOD, GOOD, GOOD, None,
        reply(200, NULLS), bodies=NULLS),
    row("optional members missing",         GOOD, GOOD, GOOD, None,
        reply(200, BARE), bodies=BARE),

    # another 2xx than 200 with a body that fits
    row("201 with a good body",             GOOD, GOOD, GOOD, None,
        reply(201, GOOD_BODIES), bodies=GOOD_BODIES),
    row("202 with a good body",             GOOD, GOOD, GOOD, None,
        reply(202, GOOD_BODIES), bodies=GOOD_BODIES),
    row("gzip, as asked for",               GOOD, GOOD, GOOD, None,
        reply(200, zipped, GZIP), bodies=GOOD_BODIES),
    row("chunks",                           GOOD, GOOD, GOOD, None,
        lines(*OK, CHUNKED, END, CHUNK, BODY, *LAST, keep=True), bodies=GOOD_BODIES),
    row("chunks, with all that may be there", GOOD, GOOD, GOOD, None,
        lines(*OK, CHUNKED, END, b"00" + CHUNK + b" ;x=canary", BODY, b"000", b"X-Canary: 1", END,
              b"", keep=True), bodies=GOOD_BODIES),
    row("no length",                        GOOD, GOOD, GOOD, None,
        lines(*OK, END, BODY), bodies=GOOD_BODIES),
    row("HTTP/1.0",                         GOOD, GOOD, GOOD, None,
        lines(b"HTTP/1.0 200", *OK[1:], LENGTH, END, BODY, keep=True),
        bodies=GOOD_BODIES, warm=True, fresh=True),
    row("Connection: close",                GOOD, GOOD, GOOD, None,
        reply(200, GOOD_BODIES, b"Connection: x, Close"),
        bodies=GOOD_BODIES, warm=True, fresh=True),
    row("100 and the reply",                GOOD, GOOD, GOOD, None,
        lines(b"HTTP/1.1 100 Continue", END, *OK, LENGTH, END, BODY, keep=True),
        bodies=GOOD_BODIES),

    # updateCount: 0, deleteCount: 0
    row("a count of 0",                     None, GOOD, None, None,
        reply(200, NOTHING_DONE), bodies=NOTHING_DONE),

    # 301 302 303 307 308, any host
    *(row(f"{status}, {name}",              NO, NO, NO, BAD_REPLY, redirect(status, to))
      for status in (301, 302, 303, 307, 308)
      for name, to in (("same host", "here"), ("another host", HOST), ("no Location", "nowhere"))),

    # 400 WRONG_PARAMETER
    row("400 WRONG_PARAMETER",              NO, NO, NO, REJECTED.coded("WRONG_PARAMETER"),
        error(400, "WRONG_PARAMETER")),
    row("400 and empty",                    NO, NO, NO, REJECTED, reply(400)),
    row("400 with HTML",                    NO, NO, NO, REJECTED, reply(400, HTML)),

    # 402 plan or suspended
    row("402",                              NO, NO, NO, REFUSED.coded("STORE_IS_SUSPENDED"),
        error(402, "STORE_IS_SUSPENDED"), next=HELD),
    row("402 and empty",                    NO, NO, NO, REFUSED, reply(402), next=ASKED),

    # 403 INVALID_API_TOKEN, and 403 with an empty body
    row("403 INVALID_API_TOKEN",            NO, NO, NO, REFUSED.coded("INVALID_API_TOKEN"),
        error(403, "INVALID_API_TOKEN"), next=HELD),
    row("403 and empty",                    NO, NO, NO, REFUSED, reply(403), next=ASKED),
    row("403 with HTML",                    NO, NO, NO, REFUSED, reply(403, HTML), next=EITHER),

    # 403 INSUFFICIENT_APP_SCOPE
    row("403 INSUFFICIENT_APP_SCOPE",       NO, NO, NO, None,
        error(403, "INSUFFICIENT_APP_SCOPE"), next=OTHERS,
        but={operation: (NO, scope(operation)) for operation in OPERATIONS}),

    # 404 for a customer / STORE_NOT_FOUND
    row("404 for a customer",               NO, NO, None, NOT_FOUND,
        reply(404, written({"errorMessage": "canary not found"})),
        but={"list_customers": (None, None)}),
    row("404 where there is no customer",   NO, None, NO, REFUSED,
        reply(404, written({"errorMessage": "canary not found"})), next=ASKED,
        but={"get_customer": (None, None)}),
    row("404 STORE_NOT_FOUND",              NO, NO, NO, REFUSED.coded("STORE_NOT_FOUND"),
        error(404, "STORE_NOT_FOUND"), next=HELD),

    # 405 415 other 4xx that we caused
    *(row(f"{status}",                      NO, NO, NO, REFUSED, reply(status, HTML))
      for status in (401, 405, 406, 410, 411, 415, 418, 431, 449, 451)),

    # 408, 500, and 502 503 504 52x without Retry-After
    row("408",                              RETRY, ONE, RECONCILE, TIMED_OUT, reply(408, HTML)),
    row("500",                              RETRY, ONE, RECONCILE, FAILED.coded("INTERNAL_ERROR"),
        error(500, "INTERNAL_ERROR")),
    row("502 with HTML",                    RETRY, ONE, RECONCILE, FAILED, reply(502, HTML)),
    row("503 without Retry-After",          RETRY, ONE, RECONCILE, FAILED, reply(503, HTML)),
    row("504",                              RETRY, ONE, RECONCILE, TIMED_OUT, reply(504, HTML)),
    *(row(f"{status}",                      RETRY, ONE, RECONCILE, FAILED, reply(status, HTML))
      for status in (520, 521, 522, 523, 524, 525, 526)),
    *(row(f"{status}",                      MAY, MAY, RECONCILE, FAILED, reply(status, HTML))
      for status in (501, 505, 530, 599)),

    # 409 duplicate e-mail
    row("409",                              NO, NO, NO, TAKEN.coded("CONSTRAINT_VIOLATION"),
        error(409, "CONSTRAINT_VIOLATION"),
        but=dict.fromkeys((*READS, "delete_customer"),
                          (NO, REFUSED.coded("CONSTRAINT_VIOLATION")))),

    # 413 422
    row("413",                              NO, NO, NO, REJECTED._replace(status=413),
        reply(413, HTML)),
    row("422",                              NO, NO, NO,
        REJECTED._replace(status=422).coded("WRONG_URL"), error(422, "WRONG_URL")),

    # 429, Retry-After <= 2 s. After the repetition, which fails as well, a brief pause follows.
    row("429, Retry-After 0",               WAIT, WAIT, WAIT, LIMITED.after(1),
        limited(wait(b"0")), next=HELD, pause_s=1),
    row("429, Retry-After 1",               WAIT, WAIT, WAIT, LIMITED.after(1, 2),
        limited(wait(b"1")), next=HELD, pause_s=1),
    row("429, Retry-After 2",               WAIT, WAIT, WAIT, LIMITED.after(1, 3),
        limited(wait(b"2")), next=HELD, pause_s=2),

    # 429 with more, a date, none, or absurd, and 503 with Retry-After (create reconciles first)
    *(row(f"429, Retry-After {name}",       NO, NO, NO, LIMITED.after(*told),
          limited(*headers), next=HELD)
      for name, headers, told in (
          ("3", [wait(b"3")], (3,)),
          ("30", [wait(b"30")], (30,)),
          ("86400", [wait(b"86400")], (3600,)),
          ("999999999", [wait(b"999999999")], (3600,)),
          ("missing", [], (10,)),
          ("empty", [wait(b"")], (10,)),
          ("-1", [wait(b"-1")], (10,)),
          ("1.5", [wait(b"1.5")], (10,)),
          ("1e9", [wait(b"1e9")], (10,)),
          ("abc", [wait(b"abc canary")], (10,)),
          ("a date gone by", [wait(b"Wed, 21 Oct 2015 07:28:00 GMT")], SOME_TIME),
          ("a date to come", [wait(b"Sun, 21 Oct 2096 07:28:00 GMT")], SOME_TIME),
      )),
    *(row(f"503, Retry-After {name}",       NO, NO, RECONCILE, UNAVAILABLE.after(*told),
          reply(503, HTML, wait(after)), next=HELD)
      for name, after, told in (
          ("30", b"30", (30,)),
          ("86400", b"86400", (3600,)),
          ("empty", b"", (10,)),
          ("-1", b"-1", (10,)),
          ("abc", b"abc canary", (10,)),
          ("a date to come", b"Sun, 21 Oct 2096 07:28:00 GMT", SOME_TIME),
      )),
]
# fmt: on


class Story(NamedTuple):
    """Several replies in order. The last reply of a kind repeats."""

    name: str
    operation: str
    script: Mapping[str, list[Answer]]
    gets: Problem | None  # None is the operation's good reply
    calls: Mapping[str, tuple[int, int]]  # the least and the most calls of each kind
    body: Mapping[str, Any] = NEW


def create(
    name: str,
    gets: Problem | None,
    reconcile_attempts: tuple[int, int],
    *answers: Answer,
    first: Answer = resets,
    body: Mapping[str, Any] = NEW,
) -> Story:
    """Return a creation whose reply is lost, with the replies to its searches."""
    script = {"add_customer": [first], "reconcile": list(answers)}
    calls = {"add_customer": (1, 1), "reconcile": reconcile_attempts}
    return Story(name, "add_customer", script, gets, calls, body)


def story(name: str, operation: str, gets: Problem | None, calls: int, *answers: Answer) -> Story:
    return Story(name, operation, {operation: list(answers)}, gets, {operation: (calls, calls)})


SECRETS = {**NEW, "password": "canary password", "primaryPhone": "canary phone"}
TIDIED = {"phone": "+1 (555) 010-0100", "name": " Canary  Name"}
TWO_OF_A_NAME = {**NEW, "email": EMAIL.title()}

# fmt: off
STORIES: list[Story] = [
    # Reconcile (create): found, registered no earlier than our start less 5 s, and alike
    create("found",                           None, (1, 1), found()),
    create("found, in another case",          None, (1, 1), found(email=EMAIL.upper())),
    create("found, sent in another case",     None, (1, 1), found(), body=TWO_OF_A_NAME),
    create("found among others",              None, (1, 1), among_others()),
    create("found, with members we did not send", None, (1, 1), found(taxId="canary", brandNew=1)),
    create("found, without what Ecwid never shows", None, (1, 1), found(), body=SECRETS),
    create("found, by a clock 3 s behind",    None, (1, 1), found(seconds_ago=3)),
    create("found at the second search",      None, (2, 2), nobody, found()),
    create("found at the third search",       None, (3, 3), nobody, nobody, found()),
    create("found after a stall",             None, (1, 1), found(), first=stops()),
    create("found after a 503 with Retry-After", None, (1, 1), found(),
           first=reply(503, HTML, wait(b"30"))),
    create("found, by a clock a minute behind", None, (1, 1), found(clock_behind_s=60)),
    create("found, by a clock a minute ahead", None, (1, 1), found(clock_behind_s=-60)),
    create("found, with the phone tidied",    None, (1, 1), found(billingPerson=TIDIED),
           body={**NEW, "billingPerson": {"name": "canary name", "phone": "+15550100100"}}),
    # An older or other customer is a 409. Our customer may appear later if a store allows two.
    create("found, an hour old",              OTHER, (1, 3), found(seconds_ago=3_600)),
    create("found, a minute old",             OTHER, (1, 3), found(seconds_ago=60)),
    create("found, a minute old, kept on the way", OTHER, (1, 3),
           found(clock_behind_s=60, kept=True)),
    create("found, registered nobody knows when", UNKNOWN_OUTCOME, (1, 3),
           found(registered=nested(900))),
    create("found, a minute old by a clock behind", OTHER, (1, 3),
           found(seconds_ago=60, clock_behind_s=60)),
    create("found, a minute old by a clock ahead", OTHER, (1, 3),
           found(seconds_ago=60, clock_behind_s=-60)),
    create("found, old, by a clock of 1970",  OTHER, (1, 3),
           found(seconds_ago=60 - time.time(), clock_behind_s=time.time())),
    create("found, another name",             OTHER, (1, 3), found(billingPerson={"name": "No"})),
    create("found, no billing person",        OTHER, (1, 3), found(billingPerson=None)),
    create("found, another acceptMarketing",  OTHER, (1, 3), found(acceptMarketing=False)),
    # no customer is a 504
    create("never found",                     UNKNOWN_OUTCOME, (3, 3), nobody),
    create("only others found",               UNKNOWN_OUTCOME, (3, 3), only_others),
    create("search lost",                     UNKNOWN_OUTCOME, (1, 3), closes),
    create("search reset",                    UNKNOWN_OUTCOME, (1, 3), resets),
    create("search fails with 500",           UNKNOWN_OUTCOME, (1, 3), reply(500, HTML)),
    create("search is limited",               UNKNOWN_OUTCOME, (1, 3), limited(wait(b"30"))),
    create("search is refused",               UNKNOWN_OUTCOME, (1, 3), reply(403)),
    create("search brings HTML",              UNKNOWN_OUTCOME, (1, 3), reply(200, HTML)),
    create("search brings no page",           UNKNOWN_OUTCOME, (1, 3), reply(200, b'{"id": 7}')),
    create("search brings no customers",      UNKNOWN_OUTCOME, (1, 3),
           reply(200, written({**page(), "items": ["canary", None, {"email": 7}]}))),

    # A 404 for a retried delete means that the delete was executed.
    story("reset, then 404", "delete_customer", None, 2, resets, reply(404)),
    story("closed, then 404", "delete_customer", None, 2, closes,
          error(404, "CUSTOMER_NOT_FOUND")),
    # A 404 of a proxy proves nothing.
    story("closed, then 404 with HTML", "delete_customer",
          NOT_FOUND._replace(executed="unknown"), 2, closes, reply(404, HTML)),
    story("500, then 404", "delete_customer", None, 2, reply(500), reply(404)),
    story("no first byte, then 404", "delete_customer", None, 2, stops(), reply(404)),
    story("limited, then 404", "delete_customer", NOT_FOUND, 2, limited(wait(b"1")), reply(404)),
    story("reset, then STORE_NOT_FOUND", "delete_customer",
          REFUSED.coded("STORE_NOT_FOUND")._replace(executed="unknown"), 2,
          resets, error(404, "STORE_NOT_FOUND")),

    # A creation with a 429 was not executed, so the e-mail belongs to another customer.
    story("limited, then 409", "add_customer", TAKEN.coded("CONSTRAINT_VIOLATION"), 2,
          limited(wait(b"1")), error(409, "CONSTRAINT_VIOLATION")),

    # several faults in succession
    story("closed, 502, then good", "get_customer", None, 3, closes, reply(502, HTML), good),
    story("closed, 502, then good", "list_customers", None, 3, closes, reply(502, HTML), good),
    story("closed, then 400", "get_customer", REJECTED, 2, closes, reply(400)),
    story("closed, then 404", "get_customer", NOT_FOUND, 2, closes, reply(404)),
    story("closed, then 500", "update_customer", FAILED, 2, closes, reply(500)),
    story("500, then closed", "update_customer", LOST, 2, reply(500), closes),
    story("closed, then the wrong shape", "update_customer", BROKEN, 2,
          closes, reply(200, b"{}")),
]
# fmt: on
