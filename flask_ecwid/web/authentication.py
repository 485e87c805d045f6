"""Authentication of callers, by the API keys of the settings or by the host's `authorize`."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from flask import request
from werkzeug.exceptions import HTTPException

from ..contract.operation import Operation
from ..errors import CrossSite, Forbidden, Unauthorized, place_of
from ..settings import Secret, Settings, StoreCredentials, api_keys
from ..settings.api_keys import ApiKey
from ..settings.stores_file import StoresFile

log = logging.getLogger("flask_ecwid")

_BEARER = re.compile(r"bearer +([\x21-\x7e]+)", re.IGNORECASE)
_NAME = re.compile(r"[ -~]{1,64}")


@dataclass(frozen=True)
class Caller:
    """A permission from the host's `authorize`, with the name of the caller.

    The name stands in the audit log. Each name has a space of idempotency keys of its own.
    """

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError("the name of a caller must have 1 to 64 printable ASCII characters")


@dataclass(frozen=True)
class KeyCaller(Caller):
    """A caller whose API key of the stores file decides on the store."""

    credentials: StoreCredentials


ANYBODY = Caller("anybody")
HOST = Caller("host")  # every user whom the host's `authorize` lets pass with True

Authorize = Callable[[str], "bool | Caller"]


class Authenticator:
    """The check that a caller is known and may call an operation."""

    def __init__(
        self, settings: Settings, authorize: Authorize | None, stores: StoresFile | None = None
    ) -> None:
        """Take the host's `authorize`, or the API keys of the stores file or of the settings."""
        self._authorize = authorize
        self._stores = stores
        by_digest = api_keys.by_digest(settings.api_keys)
        self._api_keys = None if settings.auth == "none" else by_digest

    def authenticate(self, operation: Operation) -> Caller:
        """Return the caller of Flask's request.

        Raises:
            Unauthorized: The caller is not known.
            Forbidden: The caller lacks the operation's scope.
            CrossSite: The page of another site may have made a browser send the write.
        """
        if self._stores is not None:
            return _caller_of_a_store(self._stores, operation.scope)
        if self._authorize is None and self._api_keys is not None:
            return _caller_by_api_key(self._api_keys, operation.scope)
        # No page of another site knows an API key. Without this check, such a page could delete a
        # customer of an open store, or of a host that accepts a cookie.
        if operation.writes and _may_be_cross_site(is_open=self._authorize is None):
            raise CrossSite
        if self._authorize is not None:
            return _authorized_by_host(self._authorize, operation)
        return ANYBODY


def _caller_by_api_key(entries: Mapping[str, ApiKey], scope: str) -> Caller:
    sent = _sent_api_key()
    return Caller(_permitted(api_keys.find(entries, sent), sent, scope).name)


def _caller_of_a_store(stores: StoresFile, scope: str) -> Caller:
    sent = _sent_api_key()
    credentials, entry = stores.find_by_api_key(sent) or (None, None)
    name = _permitted(entry, sent, scope).name
    assert credentials is not None
    return KeyCaller(name, credentials)


def _permitted(entry: ApiKey | None, sent: str, scope: str) -> ApiKey:
    """Return the entry of the API key that was sent, if the entry has the scope."""
    if not entry:
        # WSGI joins two headers of one name with a comma.
        raise Unauthorized("two" if "," in sent else "wrong")
    if scope not in entry.scopes:
        raise Forbidden(scope)
    return entry


def _sent_api_key() -> Secret:
    """Return the API key of the request.

    Raises:
        Unauthorized: The request has no credential, two of them, or one of another scheme.
    """
    authorization, api_key = _sent("Authorization"), _sent("X-API-Key")
    sent = [value for value in (authorization, api_key) if value is not None]
    if not any(sent):
        raise Unauthorized("none")
    if len(sent) == 2:
        raise Unauthorized("two")
    if authorization is None:
        return sent[0]
    if bearer := _BEARER.fullmatch(authorization):
        return Secret(bearer[1])
    if authorization.partition(" ")[0].lower() != "bearer":
        raise Unauthorized("scheme")
    if not authorization.partition(" ")[2].strip():
        raise Unauthorized("none")
    # A key has no blank, so the header holds two keys or an invalid key.
    raise Unauthorized("two" if "," in authorization else "wrong")


def _sent(header: str) -> Secret | None:
    """Return the value of a header, which no traceback with variables may show."""
    text = request.headers.get(header)
    return None if text is None else Secret(text)


def _authorized_by_host(authorize: Authorize, operation: Operation) -> Caller:
    refused: Unauthorized | Forbidden = Forbidden(operation.scope, by_host=True)
    try:
        granted = authorize(operation.scope)
    except HTTPException as exc:
        if exc.code == 401:
            challenges = [value for name, value in exc.get_headers() if name == "WWW-Authenticate"]
            refused = Unauthorized("host", challenge=", ".join(challenges))
    except BaseException as exc:  # because a SystemExit would end the worker
        log.error("authorize raised %s at %s", type(exc).__name__, place_of(exc))
    else:
        if granted is True:
            return HOST
        if isinstance(granted, Caller):
            return granted
    # Raise outside of the except blocks, so that no context shows the error of authorize.
    raise refused


def _may_be_cross_site(*, is_open: bool) -> bool:
    """Return True if the page of another site could have made a browser send the request.

    The browser would add the cookies of its user. A browser sends JSON to another site only after a
    preflight request (CORS), and names the page's origin in a header.

    Args:
        is_open: The store lets anybody call, so a cookie or a login of the browser means nothing.
    """
    headers = request.headers
    if request.mimetype == "application/json":
        return False
    if site := headers.get("Sec-Fetch-Site"):
        return site not in ("same-origin", "none")
    if origin := headers.get("Origin"):
        return not _is_own(origin)
    # The client is no current browser, because current browsers send one of the two headers. An old
    # browser sends a cookie or one of these schemes without being asked.
    scheme = headers.get("Authorization", "").partition(" ")[0].lower()
    has_login = "Cookie" in headers or scheme in ("basic", "digest", "negotiate", "ntlm")
    return has_login and not is_open


def _is_own(origin: str) -> bool:
    own = urlsplit(request.host_url)
    return origin.lower() == f"{own.scheme}://{own.netloc}".lower()
