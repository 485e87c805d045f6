"""The one place where a fault gets its name: from a library's error, or from Ecwid's status. Pure.

What is done about each error stands with it, in errors.py.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Literal

import urllib3.exceptions

from .. import clock
from ..errors import (
    DEAD_TOKEN_S,
    DEFAULT_RETRY_AFTER_S,
    BadReply,
    ConnectionLost,
    CustomerNotFound,
    DeadlineExceeded,
    EcwidError,
    EcwidFailed,
    EcwidTimedOut,
    EcwidUnavailable,
    EmailTaken,
    RateLimited,
    Redirected,
    Rejected,
    ServiceRefused,
    TlsFailed,
    Unreachable,
)

MAX_RETRY_AFTER_S = 3600
BRIEF_S = 2  # a wait that Ecwid asks for and that is short enough to wait for
CLOSED_STORE_S = 60.0

_OF_ONE_CUSTOMER = ("get_customer", "update_customer", "delete_customer")
_OF_THE_STORE = ("STORE_NOT_FOUND", "PROFILE_NOT_FOUND")
_SCOPES = {
    "list_customers": "read_customers",
    "get_customer": "read_customers",
    "add_customer": "create_customers",
    "update_customer": "update_customers",
    "delete_customer": "update_customers",
}


def of_exchange(exc: Exception, *, sent: bool, received: bool) -> EcwidError:
    """An exchange that broke, by how far it had come: whatever the library calls it.

    `sent`: a byte of the call may have left; `received`: one of a reply has come.
    """
    if _has(exc, urllib3.exceptions.NewConnectionError) or not sent:
        return TlsFailed() if _has(exc, ssl.SSLCertVerificationError) else Unreachable()
    if _has(exc, urllib3.exceptions.ReadTimeoutError, TimeoutError):
        return DeadlineExceeded()
    return BadReply() if received else ConnectionLost()


def of_refusal(
    operation: str,
    status: int,
    code: str | None,
    retry_after: str | None,
    *,
    body: Literal["object", "none", "other"],
) -> EcwidError:
    """A reply whose status is not 2xx; `code` is Ecwid's errorCode.

    `body`: Ecwid answers with a JSON object, or at times with nothing; a page in HTML is from
    something on the way.
    """
    if status < 300:  # 1xx, which announces another reply and is none
        return BadReply()
    if status < 400:
        return Redirected()
    if status in (400, 413, 422):
        return Rejected(status, ecwid_code=code)
    if status == 404 and operation in _OF_ONE_CUSTOMER and code not in _OF_THE_STORE:
        return CustomerNotFound(by_ecwid=body != "other", ecwid_code=code)
    if status == 409 and operation in ("add_customer", "update_customer"):
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


def _service_refused(operation: str, status: int, code: str | None, *, empty: bool) -> EcwidError:
    if status == 402:
        detail = "Ecwid's API is not available on the store's plan, or the store is suspended."
        return ServiceRefused(detail, ecwid_code=code, holds_s=CLOSED_STORE_S)
    if status == 404:
        detail = "Ecwid does not know the store."
        return ServiceRefused(detail, ecwid_code=code, holds_s=CLOSED_STORE_S)
    if code == "INSUFFICIENT_APP_SCOPE":
        detail = f"This service's token lacks the scope {_SCOPES[operation]}."
        return ServiceRefused(detail, ecwid_code=code)
    if status == 403 and (code == "INVALID_API_TOKEN" or empty):
        detail = "Ecwid does not accept this service's token."
        return ServiceRefused(detail, ecwid_code=code, holds_s=DEAD_TOKEN_S)
    unexplained = status == 401 or (status == 403 and code is None)
    return ServiceRefused(ecwid_code=code, unexplained=unexplained)


def _seconds(retry_after: str | None) -> int | None:
    """Whole seconds, or a date in the future (RFC 9110, 10.2.3); None for anything else.

    A date is never so short a wait that it is waited for: Ecwid's clock is not ours.
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
    """An error and those it wraps: `requests` and urllib3 hand them on in `args` and `reason`."""
    yield exc
    for inner in (getattr(exc, "reason", None), *exc.args):
        if isinstance(inner, BaseException):
            yield from _causes(inner)


def _has(exc: BaseException, *kinds: type[BaseException]) -> bool:
    return any(isinstance(cause, kinds) for cause in _causes(exc))
