"""The kinds and the ranges of settings. A fault names the rule and leaves out the value."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from . import credentials
from .api_keys import ApiKey, parse_all

SANDBOX_ON = "on"
BY_HOST = "host"  # The value of `Settings.stores` if the host chooses the store of each request.
_MAKE_KEY = "so make an API key with `flask ecwid key NAME`"

_HOST = re.compile(r"(?!.*\.\.)[A-Za-z0-9_:]([A-Za-z0-9_.:-]{0,251}[A-Za-z0-9_.:])?")
# A zero in front would give a store a second name, under which another account could connect it.
_STORE_ID = re.compile(r"[1-9][0-9]{0,19}")
STORE_ID_FAULT = "is not 1 to 20 decimal digits without a zero in front"
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True)
class Kind:
    """The type of a setting, for example a whole number, a secret or a list of API keys."""

    name: str
    read: Callable[[object], Any]  # raises TypeError or ValueError for a value of another kind
    advice: str = ""  # how to make a value of the kind

    @property
    def fault(self) -> str:
        """The fault of a value of another kind."""
        return f"is not {self.name}{self.advice}"


@dataclass(frozen=True)
class Rule:
    """The range of a setting."""

    allowed: str  # the range in words
    fault: Callable[[Any], str]  # returns the fault of a value, or "" for an allowed value


def setting(
    default: object,
    kind: Kind,
    rule: Rule | None,
    doc: str,
    *,
    secret: bool = False,
    in_repr: bool = True,
) -> Any:
    """Declare a setting as a field of `Settings`.

    Args:
        default: The value where the config has none, or the empty string.
        kind: Reads the values of the config.
        rule: The range. None if every value of the kind is allowed.
        doc: One line for `help(Settings)` and the docstring of `Ecwid.init_app`.
        secret: The value is a `Secret`, also in the config.
        in_repr: The repr of the settings shows the value, unless it is a secret.
    """
    return field(
        default=default,
        repr=in_repr and not secret,
        metadata={
            "kind": kind,
            "rule": rule or Rule(kind.name, lambda value: ""),
            "doc": doc,
            "secret": secret,
        },
    )


def _read_text(raw: object) -> str:
    if not isinstance(raw, str):
        raise TypeError
    return raw.strip()


def _read_digits(raw: object) -> str:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return str(raw)
    return _read_text(raw)


def _read_url(raw: object) -> str:
    return _read_text(raw).rstrip("/")


def switch(raw: object) -> bool:
    """Return whether a word such as on, off, yes or 0 means on.

    Raises:
        ValueError: The word means neither on nor off.
    """
    word = str(raw).strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError
    return word in _TRUE


def _read_sandbox(raw: object) -> str:
    if isinstance(raw, os.PathLike):
        return str(os.fspath(raw))
    word = str(raw).strip()
    if word.lower() in _FALSE:
        return ""
    return SANDBOX_ON if word.lower() in _TRUE else word


def _read_api_keys(raw: object) -> tuple[ApiKey, ...]:
    if not isinstance(raw, (str, list, tuple)) or not all(isinstance(each, str) for each in raw):
        raise TypeError
    return parse_all(raw)


def _read_path(raw: object) -> str:
    return _read_text(os.fspath(raw) if isinstance(raw, os.PathLike) else raw)


def _read_number(raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, (str, int, float)):
        raise TypeError
    return float(raw)


def _read_whole_number(raw: object) -> int:
    if isinstance(raw, bool) or not isinstance(raw, (str, int)):
        raise TypeError
    if isinstance(raw, str) and not re.fullmatch(r"[0-9]{1,18}", raw.strip()):
        raise ValueError
    return int(raw)


TEXT = Kind("text", _read_text)
DIGITS = Kind("text", _read_digits)
URL = Kind("text", _read_url)
SWITCH = Kind("on or off", switch)
SANDBOX = Kind("on, off or a path", _read_sandbox)
PATH = Kind("the absolute path of a file", _read_path)
API_KEYS = Kind(
    "a list of NAME:SCOPES:SHA256HEX with scopes such as read+write+delete",
    _read_api_keys,
    f", {_MAKE_KEY}",
)
NUMBER = Kind("a number", _read_number)
WHOLE_NUMBER = Kind("a whole number", _read_whole_number)


def between(lowest: float, highest: float, unit: str, *, or_zero: bool = False) -> Rule:
    """Return the rule of a number within bounds."""
    allowed = f"from {lowest:g} to {highest:g}"
    message = f"is not a number of {unit} {allowed}"
    if or_zero:
        allowed = f"0, or {allowed}"
        message = message.replace("is not", "is neither 0 nor")

    def fault(value: float) -> str:
        # NaN is outside of every range, because each comparison with NaN is false.
        return "" if lowest <= value <= highest or (or_zero and value == 0) else message

    return Rule(allowed, fault)


def above_zero(unit: str) -> Rule:
    """Return the rule of a number above 0."""
    return Rule("above 0", lambda value: "" if value > 0 else f"is not a number of {unit} above 0")


def is_store_id(value: str) -> bool:
    """Return whether a text can be the number of a store."""
    return _STORE_ID.fullmatch(value) is not None


def read_store_id(raw: object) -> str:
    """Return the number of a store as a text.

    Raises:
        ValueError: The value is not the number of a store. The text has the reason without a value.
    """
    try:
        store_id: str = DIGITS.read("" if raw is None else raw)
    except TypeError:
        raise ValueError("the store id is neither a text nor an integer") from None
    if fault := store_id_fault(store_id):
        raise ValueError(f"the store id {fault}")
    return store_id


def store_id_fault(value: str) -> str:
    """Return the fault of a store's number, or an empty text."""
    if not value:
        return "is missing, so set the number of the store"
    return "" if is_store_id(value) else STORE_ID_FAULT


def stores_fault(value: str) -> str:
    """Return the fault of the path of the stores' file, or an empty text."""
    return "" if value == BY_HOST else path_fault(value)


def sandbox_fault(value: str) -> str:
    """Return the fault of a sandbox, or an empty text."""
    if not value or value == SANDBOX_ON or os.path.isabs(value):
        return ""
    return "is not on, off or the absolute path of a file"


def path_fault(value: str) -> str:
    """Return the fault of a path, or an empty text."""
    return "" if not value or os.path.isabs(value) else PATH.fault


def auth_fault(value: str) -> str:
    """Return the fault of an authentication, or an empty text."""
    return "" if value in ("keys", "none") else "is not keys or none"


def api_keys_fault(entries: tuple[ApiKey, ...]) -> str:
    """Return the fault of the API keys, or an empty text."""
    guessable = [
        str(number)
        for number, each in enumerate(entries, start=1)
        if credentials.is_guessable(each.digest)
    ]
    if guessable:
        return (
            f"has an API key that anybody could guess (entry {', '.join(guessable)}), {_MAKE_KEY}"
        )
    return "holds an API key twice" if len({each.digest for each in entries}) < len(entries) else ""


def api_url_fault(url: str) -> str:
    """Return the fault of the address of Ecwid's API, or an empty text."""
    if fault := _http_url_fault(url):
        return fault
    parts = urlsplit(url)
    if parts.username is not None or parts.query or parts.fragment or url[-1] in "?#":
        return "holds credentials, a query or a fragment"
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        return "is plain http to another host, which would send the token unencrypted"
    return ""


def proxy_url_fault(url: str) -> str:
    """Return the fault of the address of a proxy, or an empty text."""
    # A proxy may need credentials and plain http, because the token is encrypted end to end.
    return _http_url_fault(url) if url else ""


def _http_url_fault(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return "is not a URL"
    if parts.scheme not in ("http", "https") or not _HOST.fullmatch(host):
        return "is not an http or https URL"
    return ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def ca_bundle_fault(path: str) -> str:
    """Return the fault of a file of certificates, or an empty text."""
    if path:
        try:
            ssl.create_default_context(cafile=path)
        except (OSError, ValueError):  # ssl.SSLError is an OSError
            return "names no file of certificates"
    return ""


def redis_url_fault(url: str) -> str:
    """Return the fault of the address of a Redis, or an empty text."""
    return "" if not url or _is_redis_url(url) else "is not a redis, rediss or unix URL"


def _is_redis_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    if parts.scheme == "unix":
        return os.path.isabs(parts.path)
    return parts.scheme in ("redis", "rediss") and _HOST.fullmatch(parts.hostname or "") is not None
