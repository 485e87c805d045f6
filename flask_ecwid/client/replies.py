"""Turn a reply of Ecwid into a value or an error. Pure, without I/O.

A good reply is checked against the component that its operation names. A reply that does not fit is
converted as conversions.py says, and is checked again. The retry policy of each error stands with
its class in errors.py.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Literal

import orjson
import urllib3.exceptions

from .. import clock
from ..contract.schema import MAX_VIOLATIONS
from ..errors import (
    DEFAULT_RETRY_AFTER_S,
    REFUSED_TOKEN_S,
    SUSPICIONS_MOST,
    BadReply,
    ConnectionLost,
    ContractBroken,
    CustomerNotFound,
    DeadlineExceeded,
    EcwidError,
    EcwidFailed,
    EcwidTimedOut,
    EcwidUnavailable,
    EmailTaken,
    NoReply,
    NotJson,
    RateLimited,
    Redirected,
    Refusal,
    Rejected,
    Retries,
    ServiceRefused,
    TlsFailed,
    Unreachable,
    Violation,
)
from . import conversions
from .calls import Call
from .components import component, schemas
from .operations import EcwidOperation

MAX_RETRY_AFTER_S = 3600
BRIEF_S = 2  # A `Retry-After` up to this number of seconds is short enough to wait.
CLOSED_STORE_S = 60.0  # The pause after Ecwid has refused the whole store.

_TOO_DEEP = Violation("", "nesting")
_OF_THE_STORE = ("STORE_NOT_FOUND", "PROFILE_NOT_FOUND")
_DIGITS = re.compile(r"[0-9]{1,16}")
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


@dataclass(frozen=True)
class Reply:
    """A reply of Ecwid. Its headers are found by their names in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


class UnfitCustomer(dict[str, Any]):
    """A customer of a page who violates the contract in the places that `errors` lists."""

    def __init__(self, item: object, errors: Sequence[Violation]) -> None:
        super().__init__(item if isinstance(item, dict) else {})
        self.errors = errors


def read_reply(call: Call, reply: Reply) -> dict[str, Any]:
    """Return the JSON object of a good reply that fits the contract.

    In a page for bulk work, a customer that does not fit is an `UnfitCustomer`.

    Raises:
        NotJson: The status is 2xx, but the body is no JSON object.
        ContractBroken: The object does not fit the contract.
        EcwidError: The status is not 2xx. `error_from_status` chooses the class.
    """
    value, is_valid = _read(call, reply)
    if is_valid and not (call.bulk and _is_too_deep(value)):
        return value
    if call.operation.name == "list_customers":
        return _checked_page(call, value)
    schema, _ = component(call.operation.reply)
    raise ContractBroken([_TOO_DEEP] if is_valid else schema.violations(value))


def parse_reply(call: Call, reply: Reply) -> dict[str, Any]:
    """Return the JSON object of a good reply, which may not fit the contract.

    Raises:
        NotJson: The status is 2xx, but the body is no JSON object.
        ContractBroken: A page has more customers than the call asked for.
        EcwidError: The status is not 2xx. `error_from_status` chooses the class.
    """
    return _read(call, reply)[0]


def _read(call: Call, reply: Reply) -> tuple[dict[str, Any], bool]:
    """Return the JSON object of a good reply, and whether the object fits the contract.

    An object that does not fit is converted as conversions.py says, and is checked again.
    """
    value = _parsed(orjson.loads, reply.body)
    if not 200 <= reply.status < 300:
        code = value.get("errorCode") if isinstance(value, dict) else None
        raise error_from_status(
            call.operation,
            reply.status,
            code if isinstance(code, str) and _CODE.fullmatch(code) else None,
            reply.headers.get("retry-after"),
            body="object" if isinstance(value, dict) else "other" if reply.body else "none",
            date=date_of(reply),
        )
    schema, _ = component(call.operation.reply)
    if isinstance(value, dict):
        value = _prepared(call, value)
        if schema.is_valid(value):
            return value, True
    if conversions.has_few_values(reply.body):
        value = None  # Otherwise the reply would be in the memory twice.
        value = _parsed(partial(_parse_and_convert, call), reply.body)
        if isinstance(value, dict):
            value = _prepared(call, value)
            return value, schema.is_valid(value)
    if isinstance(value, dict):
        return value, False
    # Bulk work asks for smaller pages instead of a repetition, so each failure counts once only.
    # Without this, a single customer would open the breaker for all calls of the process.
    raise NotJson().changed(retries=Retries(), trips_breaker=False) if call.bulk else NotJson()


def _parsed(parse: Callable[[bytes], Any], body: bytes) -> Any:
    """Return the JSON in a body, or None if the body is not JSON or is nested too deep."""
    try:
        return parse(body)
    except (ValueError, RecursionError):
        return None


def _parse_and_convert(call: Call, body: bytes) -> Any:
    value = conversions.parse(body)
    _check_length(call, value)
    return conversions.convert(value, schemas()[call.operation.reply], schemas())


def _prepared(call: Call, value: dict[str, Any]) -> dict[str, Any]:
    """Return the members of a reply that the contract checks.

    Raises:
        ContractBroken: A page has more items than the call asked for.
    """
    if call.operation.is_paged:
        _check_length(call, value)
        _complete_page(call, value)
    _, members = component(call.operation.reply)
    if members is None:
        return value
    return {name: value[name] for name in members if name in value}


def _check_length(call: Call, value: Any) -> None:
    """Check that a page has no more items than the call asked for.

    Without this, the check and the conversions of a small compressed reply could take minutes.

    Raises:
        ContractBroken: The page has more items.
    """
    items = value.get("items") if isinstance(value, dict) else None
    limit = dict(call.query).get("limit", "")
    if isinstance(items, list) and _DIGITS.fullmatch(limit) and len(items) > int(limit):
        raise ContractBroken([Violation("/items", "maxItems")])


def _checked_page(call: Call, page: dict[str, Any]) -> dict[str, Any]:
    """Return a page for bulk work, after each customer was checked alone.

    Raises:
        ContractBroken: The page itself does not fit, or is not for bulk work.
    """
    schema, _ = component("CustomerPage")
    items = page.get("items")
    if not isinstance(items, list):
        raise ContractBroken(schema.violations(page))
    errors = schema.violations({**page, "items": []})
    if call.bulk and errors:
        raise ContractBroken(errors)
    checked = [_checked_item(call, index, item) for index, item in enumerate(items)]
    if call.bulk:
        return {**page, "items": checked}
    unfit = [item for item in checked if isinstance(item, UnfitCustomer)]
    errors += [each for item in unfit for each in item.errors]
    ids = [id for item in unfit if isinstance(id := item.get("id"), int) and id is not True]
    raise ContractBroken(errors[:MAX_VIOLATIONS], customer_ids=list(dict.fromkeys(ids)))


def _checked_item(call: Call, index: int, item: Any) -> Any:
    """Return a customer of a page, as an `UnfitCustomer` if the customer does not fit."""
    schema, _ = component("Customer")
    if not schema.is_valid(item):
        errors = schema.violations(item)
    elif call.bulk and _is_too_deep(item):
        errors = [_TOO_DEEP]
    else:
        return item
    in_page = [each._replace(pointer=f"/items/{index}{each.pointer}") for each in errors]
    return UnfitCustomer(item, in_page)


def _is_too_deep(value: Any) -> bool:
    """Return whether a value is nested deeper than JSON can be written."""
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        return True
    return False


def _complete_page(call: Call, page: dict[str, Any]) -> None:
    """Add the members that a page lacks.

    `count` is the number of items. `offset` and `limit` come from the call.
    """
    if isinstance(items := page.get("items"), list):
        page.setdefault("count", len(items))
    for name, text in call.query:
        if name in ("offset", "limit") and name not in page and _DIGITS.fullmatch(text):
            page[name] = int(text)


def error_from_exception(exc: Exception, *, sent: bool, received: bool) -> EcwidError:
    """Return the error of a call that broke before its reply was complete.

    Args:
        exc: The error that was raised. Its class matters little, because libraries change.
        sent: True if a byte of the call may have left.
        received: True if a byte of a reply has come.
    """
    if _has(exc, urllib3.exceptions.NewConnectionError) or not sent:
        return TlsFailed() if _has(exc, ssl.SSLCertVerificationError) else Unreachable()
    if isinstance(exc, NoReply):
        return exc
    if _has(exc, urllib3.exceptions.ReadTimeoutError, TimeoutError):
        return DeadlineExceeded()
    return BadReply() if received else ConnectionLost()


def error_from_status(
    operation: EcwidOperation,
    status: int,
    code: str | None,
    retry_after: str | None,
    *,
    body: Literal["object", "none", "other"],
    date: float | None = None,
) -> EcwidError:
    """Return the error that a reply with a status other than 2xx stands for.

    Args:
        operation: The operation of the call.
        status: The HTTP status.
        code: Ecwid's `errorCode`, if the reply has one.
        retry_after: The header `Retry-After`.
        body: The kind of the body, which is a JSON object, empty, or something else. Ecwid sends an
            object, and at times no body. An HTML page comes from a proxy or a gateway.
        date: The time of the reply on Ecwid's clock, in UNIX seconds, or None if it is not known.
    """
    if status < 300:  # A status 1xx announces another reply, so the call has no reply yet.
        return BadReply()
    if status < 400:
        return Redirected()
    if status in (400, 413, 422):
        return Rejected(status, ecwid_code=code)
    if status == 404 and operation.is_about_one_customer and code not in _OF_THE_STORE:
        return CustomerNotFound(by_ecwid=body != "other", ecwid_code=code)
    if status == 409 and operation.sets_email:
        return EmailTaken(ecwid_code=code)
    if status == 429:
        seconds = _seconds(retry_after, date)
        brief = seconds is not None and seconds <= BRIEF_S
        return RateLimited(seconds or DEFAULT_RETRY_AFTER_S, brief=brief, ecwid_code=code)
    if status == 503 and retry_after is not None:
        seconds = _seconds(retry_after, date)
        return EcwidUnavailable(seconds or DEFAULT_RETRY_AFTER_S, ecwid_code=code)
    if status in (408, 504):
        return EcwidTimedOut(ecwid_code=code)
    if status >= 500:
        return EcwidFailed(ecwid_code=code)
    return _service_refused(operation, status, code, empty=body == "none")


def _service_refused(
    operation: EcwidOperation, status: int, code: str | None, *, empty: bool
) -> EcwidError:
    # Without a code of Ecwid, the refusal may come from a firewall that refuses only this call.
    suspicions = SUSPICIONS_MOST if code is None else 0
    if status == 402:
        detail = "Ecwid's API is not available on the store's plan, or the store is suspended."
        reason: Refusal = "store" if code == "STORE_IS_SUSPENDED" else "plan"
        return ServiceRefused(
            detail,
            reason=reason,
            ecwid_code=code,
            pause_s=CLOSED_STORE_S,
            suspicions=suspicions,
        )
    if status == 404:
        detail = "Ecwid does not know the store."
        return ServiceRefused(
            detail,
            reason="store",
            ecwid_code=code,
            pause_s=CLOSED_STORE_S,
            suspicions=suspicions,
        )
    if code == "INSUFFICIENT_APP_SCOPE":
        detail = f"This service's token lacks the scope {operation.ecwid_scope}."
        return ServiceRefused(detail, reason="ecwid-scope", ecwid_code=code)
    if status == 403 and (code == "INVALID_API_TOKEN" or empty):
        detail = "Ecwid does not accept this service's token."
        return ServiceRefused(
            detail,
            reason="token",
            ecwid_code=code,
            pause_s=REFUSED_TOKEN_S,
            suspicions=suspicions,
        )
    return ServiceRefused(
        reason="token" if status == 401 else "unknown",
        ecwid_code=code,
        suspicions=int(status == 401 or (status == 403 and code is None)),
    )


def date_of(reply: Reply) -> float | None:
    """Return the time of a reply on Ecwid's clock, in UNIX seconds, or None if it is not known."""
    if "age" in reply.headers:  # A proxy has kept the reply, so the `Date` is old.
        return None
    return _parse_date(reply.headers.get("date", ""))


def _parse_date(text: str) -> float | None:
    """Return the UNIX seconds of the date in a header, or None if the text is no date."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None


def _seconds(retry_after: str | None, date: float | None) -> int | None:
    """Return the seconds of a `Retry-After`, at least 1, or None if the header is not valid.

    The header holds whole seconds or a date. A date counts from the time of the reply, because both
    come from Ecwid's clock. A reply without its time leaves only our own clock, which may differ
    from Ecwid's. Such a date never means a short wait. A date in the past is not valid.
    https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
    """
    text = (retry_after or "").strip()
    if re.fullmatch(r"[0-9]{1,30}", text):
        return min(max(int(text), 1), MAX_RETRY_AFTER_S)
    ends_at = _parse_date(text) if re.fullmatch(r"[A-Za-z]{3,9},? [ -~]{5,40}", text) else None
    if ends_at is None:
        return None
    if date is None:
        seconds, least_s = ends_at - clock.wall(), BRIEF_S + 1
    else:
        seconds, least_s = ends_at - date, 1
    return int(min(max(seconds, least_s), MAX_RETRY_AFTER_S)) if seconds >= 0 else None


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, which `requests` and urllib3 keep in `args` and `reason`."""
    yield exc
    for inner in (getattr(exc, "reason", None), *exc.args):
        if isinstance(inner, BaseException):
            yield from _causes(inner)


def _has(exc: BaseException, *kinds: type[BaseException]) -> bool:
    return any(isinstance(cause, kinds) for cause in _causes(exc))
