"""Who may call: by the API keys of the settings, or by the host's own word."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from flask import request
from werkzeug.exceptions import HTTPException

from .. import api_keys
from ..api_keys import ApiKey
from ..contract.operation import Operation
from ..errors import CrossSite, Forbidden, Unauthorized, place_of
from ..settings import Secret, Settings

log = logging.getLogger("flask_ecwid")

ANYBODY = "anybody"

_BEARER = re.compile(r"bearer +([\x21-\x7e]+)", re.IGNORECASE)
_NAME = re.compile(r"[ -~]{1,64}")


@dataclass(frozen=True)
class Caller:
    """A grant of the host's `authorize`, with the name that the audit log has for who it is."""

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError("a caller's name is printable ASCII, 64 characters at most")


Authorize = Callable[[str], "bool | Caller"]


class Authenticator:
    """Tells who sends a request, by API keys or by the host's `authorize`."""

    def __init__(self, settings: Settings, authorize: Authorize | None) -> None:
        self._authorize = authorize
        self._api_keys = None if settings.auth == "none" else settings.api_keys

    def authenticate(self, operation: Operation) -> str:
        """Return the name of the caller of Flask's request.

        Raises:
            Unauthorized: The caller is not known.
            Forbidden: The caller lacks the operation's scope.
            CrossSite: The page of another site may have made a browser send the write.
        """
        if self._authorize is not None:
            return _authorized_by_host(self._authorize, operation)
        if self._api_keys is None:
            return ANYBODY
        return _caller_by_key(self._api_keys, operation.scope)


def _caller_by_key(keys: Sequence[ApiKey], scope: str) -> str:
    if "Authorization" not in request.headers and "X-API-Key" not in request.headers:
        raise Unauthorized
    given = Secret(_given_key())
    found = api_keys.find(keys, given) if given else None
    if not found:
        raise Unauthorized(wrong=True)
    if scope not in found.scopes:
        raise Forbidden(scope)
    return found.name


def _given_key() -> str:
    """The request's one key; nothing if there are two, or another kind of credential."""
    authorization, alone = request.headers.get("Authorization"), request.headers.get("X-API-Key")
    if authorization is None:
        return alone or ""
    bearer = _BEARER.fullmatch(authorization)
    return bearer[1] if bearer and alone is None else ""


def _authorized_by_host(authorize: Authorize, operation: Operation) -> str:
    if operation.writes and _may_be_cross_site():
        raise CrossSite
    refused: Unauthorized | Forbidden = Forbidden(operation.scope)
    try:
        granted = authorize(operation.scope)
    except HTTPException as exc:
        if exc.code == 401:
            challenges = [value for name, value in exc.get_headers() if name == "WWW-Authenticate"]
            refused = Unauthorized(challenge=", ".join(challenges))
    except BaseException as exc:  # a SystemExit would take the worker with it, or the whole service
        log.error("authorize raised %s at %s", type(exc).__name__, place_of(exc))
    else:
        if granted is True:
            return "host"
        if isinstance(granted, Caller):
            return granted.name
    raise refused  # out here: without what authorize raised


def _may_be_cross_site() -> bool:
    """Whether another site's page could have made a browser send this, with the cookies of its
    user. It cannot send JSON without asking first (CORS), and says where it comes from.
    """
    headers = request.headers
    if request.mimetype == "application/json":
        return False
    if site := headers.get("Sec-Fetch-Site"):
        return site not in ("same-origin", "none")
    if origin := headers.get("Origin"):
        return not _is_own(origin)
    # No browser of today; one of old is told by what it sends of its own accord.
    scheme = headers.get("Authorization", "").partition(" ")[0].lower()
    return "Cookie" in headers or scheme in ("basic", "digest", "negotiate", "ntlm")


def _is_own(origin: str) -> bool:
    own = urlsplit(request.host_url)
    return origin.lower() == f"{own.scheme}://{own.netloc}".lower()
