"""Turn a reply of Ecwid into a value or an error. Pure, without I/O.

A good reply is checked against the component that the contract names. The retry policy of each
error stands with its class in errors.py.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Literal

import orjson
import urllib3.exceptions

from .. import clock
from ..contract import load
from ..contract.schema import Schema
from ..errors import (
    DEFAULT_RETRY_AFTER_S,
    REFUSED_TOKEN_S,
    BadReply,
    ConnectionLost,
    CustomerNotFound,
    DeadlineExceeded,
    EcwidError,
    EcwidFailed,
    EcwidTimedOut,
    EcwidUnavailable,
    EmailTaken,
    NotJson,
    RateLimited,
    Redirected,
    Refusal,
    Rejected,
    ServiceRefused,
    TlsFailed,
    Unreachable,
)
from .calls import Call
from .operations import EcwidOperation

MAX_RETRY_AFTER_S = 3600
BRIEF_S = 2  # A `Retry-After` up to this number of seconds is short enough to wait.
CLOSED_STORE_S = 60.0  # The pause after Ecwid has refused the whole store.

_OF_THE_STORE = ("STORE_NOT_FOUND", "PROFILE_NOT_FOUND")
_DIGITS = re.compile(r"[0-9]{1,16}")
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


@dataclass(frozen=True)
class Reply:
    """A reply of Ecwid. Its headers are found by their names in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


def read_reply(call: Call, reply: Reply) -> dict[str, Any]:
    """Return the JSON object of a good reply that fits the contract.

    Raises:
        NotJson: The status is 2xx, but the body is no JSON object.
        ContractBroken: The object does not fit the contract.
        EcwidError: The status is not 2xx. `error_from_status` chooses the class.
    """
    value = parse_reply(call, reply)
    if call.operation.name == "list_customers":
        _complete_page(call, value)
    schema, members = _component(call.operation.reply)
    if members is not None:
        value = {name: value[name] for name in members if name in value}
    schema.validate(value)
    return value


def parse_reply(call: Call, reply: Reply) -> dict[str, Any]:
    """Return the JSON object of a good reply, which may not fit the contract.

    Raises:
        NotJson: The status is 2xx, but the body is no JSON object.
        EcwidError: The status is not 2xx. `error_from_status` chooses the class.
    """
    try:
        value: Any = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        value = None
    if not 200 <= reply.status < 300:
        code = value.get("errorCode") if isinstance(value, dict) else None
        raise error_from_status(
            call.operation,
            reply.status,
            code if isinstance(code, str) and _CODE.fullmatch(code) else None,
            reply.headers.get("retry-after"),
            body="object" if isinstance(value, dict) else "other" if reply.body else "none",
        )
    if not isinstance(value, dict):
        raise NotJson
    return value


def _complete_page(call: Call, page: dict[str, Any]) -> None:
    """Add the members that a page lacks.

    `count` is the number of items. `offset` and `limit` come from the call.
    """
    if isinstance(items := page.get("items"), list):
        page.setdefault("count", len(items))
    for name, text in call.query:
        if name in ("offset", "limit") and name not in page and _DIGITS.fullmatch(text):
            page[name] = int(text)


@cache
def _component(name: str) -> tuple[Schema, frozenset[str] | None]:
    """Return the schema of a component, and the members that `read_reply` keeps.

    A component that allows no other members has the list of its own. For example, Ecwid sent
    `success` beside `updateCount` until 2014. For any other component, all members are kept and the
    list is None.
    """
    contract = load()
    closed = contract.document["components"]["schemas"][name].get("additionalProperties") is False
    return contract.component(name), contract.members(name) if closed else None


def error_from_exception(exc: Exception, *, sent: bool, received: bool) -> EcwidError:
    """Return the error of a call that broke before its reply was complete.

    Args:
        exc: The error that the library raised. Its class matters little, because libraries change.
        sent: True if a byte of the call may have left.
        received: True if a byte of a reply has come.
    """
    if _has(exc, urllib3.exceptions.NewConnectionError) or not sent:
        return TlsFailed() if _has(exc, ssl.SSLCertVerificationError) else Unreachable()
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
) -> EcwidError:
    """Return the error that a reply with a status other than 2xx stands for.

    Args:
        operation: The operation of the call.
        status: The HTTP status.
        code: Ecwid's `errorCode`, if the reply has one.
        retry_after: The header `Retry-After`.
        body: The kind of the body, which is a JSON object, empty, or something else. Ecwid sends an
            object, and at times no body. An HTML page comes from a proxy or a gateway.
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
        seconds = _seconds(retry_after)
        brief = seconds is not None and seconds <= BRIEF_S
        return RateLimited(
            DEFAULT_RETRY_AFTER_S if seconds is None else seconds, brief=brief, ecwid_code=code
        )
    if status == 503 and retry_after is not None:
        seconds = _seconds(retry_after)
        return EcwidUnavailable(
            DEFAULT_RETRY_AFTER_S if seconds is None else max(1, seconds), ecwid_code=code
        )
    if status in (408, 504):
        return EcwidTimedOut(ecwid_code=code)
    if status >= 500:
        return EcwidFailed(ecwid_code=code)
    return _service_refused(operation, status, code, empty=body == "none")


def _service_refused(
    operation: EcwidOperation, status: int, code: str | None, *, empty: bool
) -> EcwidError:
    if status == 402:
        detail = "Ecwid's API is not available on the store's plan, or the store is suspended."
        reason: Refusal = "store" if code == "STORE_IS_SUSPENDED" else "plan"
        return ServiceRefused(detail, reason=reason, ecwid_code=code, pause_s=CLOSED_STORE_S)
    if status == 404:
        detail = "Ecwid does not know the store."
        return ServiceRefused(detail, reason="store", ecwid_code=code, pause_s=CLOSED_STORE_S)
    if code == "INSUFFICIENT_APP_SCOPE":
        detail = f"This service's token lacks the scope {operation.ecwid_scope}."
        return ServiceRefused(detail, reason="ecwid-scope", ecwid_code=code)
    if status == 403 and (code == "INVALID_API_TOKEN" or empty):
        detail = "Ecwid does not accept this service's token."
        return ServiceRefused(detail, reason="token", ecwid_code=code, pause_s=REFUSED_TOKEN_S)
    return ServiceRefused(
        reason="token" if status == 401 else "unknown",
        ecwid_code=code,
        suspects_token=status == 401 or (status == 403 and code is None),
    )


def _seconds(retry_after: str | None) -> int | None:
    """Return the seconds of a `Retry-After`, or None if the header is not valid.

    The header holds whole seconds or a date in the future. A date never means a short wait, because
    Ecwid's clock may differ from ours. https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
    """
    text = (retry_after or "").strip()
    if re.fullmatch(r"[0-9]{1,30}", text):
        return min(int(text), MAX_RETRY_AFTER_S)
    if not re.fullmatch(r"[A-Za-z]{3,9},? [ -~]{5,40}", text):
        return None
    try:
        seconds = parsedate_to_datetime(text).timestamp() - clock.wall()
    except (ValueError, OverflowError, TypeError):
        return None
    return min(max(int(seconds), BRIEF_S + 1), MAX_RETRY_AFTER_S) if seconds > 0 else None


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, which `requests` and urllib3 keep in `args` and `reason`."""
    yield exc
    for inner in (getattr(exc, "reason", None), *exc.args):
        if isinstance(inner, BaseException):
            yield from _causes(inner)


def _has(exc: BaseException, *kinds: type[BaseException]) -> bool:
    return any(isinstance(cause, kinds) for cause in _causes(exc))
