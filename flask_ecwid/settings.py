"""Settings: read once from a Flask config (or any mapping), every fault told at once."""

from __future__ import annotations

import hashlib
import ipaddress
import math
import os
import re
import ssl
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn
from urllib.parse import urlsplit

from .api_keys import ApiKey, read_all

API_URL = "https://app.ecwid.com/api/v3"
SANDBOX_ON = "on"
MAX_CACHE_TTL_S = 3600

# What a config holds and must not show.
_SECRETS = ("token", "proxy_url", "redis_url")

_HOST = re.compile(r"(?!.*\.\.)[A-Za-z0-9_:]([A-Za-z0-9_.:-]{0,251}[A-Za-z0-9_.:])?")
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})


class Secret(str):
    """Text that is not shown, for example a token, or a URL with a password.

    Its repr shows nothing, because a printed config, a debugger and a traceback with variables show
    reprs. Pickle refuses it.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not pickled")


class SettingsError(ValueError):
    """Settings that cannot work. `faults` has a line for each, by key name, without the value."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("; ".join(faults))


@dataclass(frozen=True)
class Settings:
    """What one store needs to be served.

    Each field is the config key `ECWID_<FIELD>`. Units are in the names: `_s` is seconds.

    Raises:
        SettingsError: a field is missing or out of its range.
    """

    store_id: str = ""
    token: str = field(default="", repr=False)
    sandbox: str = ""  # "" is off, "on" a private file, anything else the path of the SQLite file
    api_url: str = API_URL
    auth: str = "keys"
    api_keys: tuple[ApiKey, ...] = field(default=(), repr=False)
    connect_timeout_s: float = 3.0
    read_timeout_s: float = 10.0
    deadline_s: float = 20.0
    max_body_bytes: int = 262_144
    proxy_url: str = field(default="", repr=False)
    ca_bundle: str = ""
    ui: bool = True
    cache_ttl_s: float = 0.0  # 0 is off
    redis_url: str = field(default="", repr=False)
    calls_per_minute: int = 540  # of Ecwid's 600 for a token
    processes: int = 0  # that share them without Redis; 0: as many as gunicorn has workers

    def __post_init__(self) -> None:
        if faults := _faults(vars(self)):
            raise SettingsError([f"ECWID_{name.upper()} {fault}" for name, fault in faults.items()])
        for name in _SECRETS:
            object.__setattr__(self, name, Secret(getattr(self, name)))

    @property
    def store_digest(self) -> str:
        """The same for every process that serves this store."""
        return _digest(self.api_url, self.store_id, self.sandbox)

    @property
    def token_digest(self) -> str:
        """The same for every process that serves this store with this token."""
        return _digest(self.api_url, self.store_id, self.sandbox, self.token)

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], prefix: str = "", *, authorize: bool = False
    ) -> Settings:
        """Settings for a store that is to be served, from the keys `<prefix>ECWID_*`.

        Values may be strings, as the environment has them, or Python values. Other keys are left
        alone: a host has settings of its own. `authorize`: the host says itself who may call.

        Raises:
            SettingsError: every fault there is, by key name.
        """
        values: dict[str, Any] = {spec.name: spec.default for spec in fields(cls)}
        values["auth"] = ""
        unreadable: dict[str, str] = {}
        for name, (read, kind) in _READERS.items():
            raw = config.get(f"{prefix}ECWID_{name.upper()}")
            if raw is None or raw == "":  # an empty variable is an unset one
                continue
            try:
                values[name] = read(raw)
            except (TypeError, ValueError):
                unreadable[name] = f"is not {kind}"
        if not values["auth"]:
            # The sandbox's data is fake: it starts open, unless somebody has closed it.
            closed = authorize or "api_keys" in unreadable or values["api_keys"]
            values["auth"] = "none" if values["sandbox"] and not closed else "keys"
        serving = {} if "api_keys" in unreadable else _serving_faults(values, authorize)
        faults = {**_faults(values), **serving, **unreadable}
        if faults:
            raise SettingsError(
                [f"{prefix}ECWID_{name.upper()} {fault}" for name, fault in faults.items()]
            )
        return cls(**values)


def _faults(values: Mapping[str, Any]) -> dict[str, str]:
    """What cannot work, as field -> fault."""
    faults: dict[str, str] = {}
    if values["sandbox"]:
        if values["sandbox"] != SANDBOX_ON and not os.path.isabs(values["sandbox"]):
            faults["sandbox"] = "is neither on, off nor the absolute path of a file"
    else:
        if not re.fullmatch(r"[0-9]{1,20}", str(values["store_id"])):
            faults["store_id"] = "is missing, or not decimal digits"
        if not re.fullmatch(r"[!-~]{1,512}", values["token"]):
            faults["token"] = "is missing, or not visible ASCII characters"
    if fault := _url_fault(values["api_url"]):
        faults["api_url"] = fault
    if values["proxy_url"] and (fault := _url_fault(values["proxy_url"], proxy=True)):
        faults["proxy_url"] = fault
    if values["ca_bundle"] and not _is_ca_bundle(values["ca_bundle"]):
        faults["ca_bundle"] = "names no file of certificates"
    if values["auth"] not in ("keys", "none"):
        faults["auth"] = "is neither keys nor none"
    if len({key.digest for key in values["api_keys"]}) < len(values["api_keys"]):
        faults["api_keys"] = "holds one key twice"
    for name in ("connect_timeout_s", "read_timeout_s", "deadline_s"):
        if not (math.isfinite(values[name]) and 0.01 <= values[name] <= 600):
            faults[name] = "is not a number of seconds from 0.01 to 600"
    if values["cache_ttl_s"] != 0 and not 0.1 <= values["cache_ttl_s"] <= MAX_CACHE_TTL_S:
        faults["cache_ttl_s"] = (
            f"is neither 0 nor a number of seconds from 0.1 to {MAX_CACHE_TTL_S}"
        )
    if values["redis_url"] and not _is_redis_url(values["redis_url"]):
        faults["redis_url"] = "is not a redis, rediss or unix URL"
    if values["calls_per_minute"] < 1:
        faults["calls_per_minute"] = "is not a number of calls above 0"
    if not 0 <= values["processes"] <= 10_000:
        faults["processes"] = "is not a number of processes"
    if values["max_body_bytes"] < 1:
        faults["max_body_bytes"] = "is not a number of bytes above 0"
    return faults


def hide_secrets(config: MutableMapping[str, Any], prefix: str = "") -> None:
    """What the config holds of ours stays as it is, but no longer shows in its repr."""
    for name in _SECRETS:
        key = f"{prefix}ECWID_{name.upper()}"
        if isinstance(value := config.get(key), str):
            config[key] = Secret(value)


def _serving_faults(values: Mapping[str, Any], authorize: bool) -> dict[str, str]:
    """What must not be served: a store that is open though nobody has said so; and what looks
    honoured and is not.
    """
    if values["auth"] == "none":
        if authorize:
            return {"auth": "is none, and authorize is given: take one of them away"}
        if values["api_keys"]:
            return {"api_keys": "has no effect while ECWID_AUTH is none"}
    if values["auth"] == "keys":
        if authorize and values["api_keys"]:
            return {"api_keys": "has no effect where authorize is given"}
        if not authorize and not values["api_keys"]:
            return {
                "auth": "is keys, and ECWID_API_KEYS has none: make one with `flask ecwid key`, "
                "or give authorize, or say none to serve anybody"
            }
    return {}


def _digest(*parts: str) -> str:
    """Return a name that tells these values apart and from which none of them can be read."""
    # Each value with its length, because the repr of a Secret is the same for all secrets, and
    # values that are only joined could be cut elsewhere.
    values = [part.encode("utf-8", "surrogatepass") for part in parts]
    told_apart = b"".join(b"%d:%b" % (len(value), value) for value in values)
    return "flask-ecwid:" + hashlib.blake2b(told_apart, digest_size=16).hexdigest()


def _is_ca_bundle(path: str) -> bool:
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        return False
    return True


def _url_fault(url: str, *, proxy: bool = False) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return "is not a URL"
    if parts.scheme not in ("http", "https") or not _HOST.fullmatch(host):
        return "is not an http or https URL"
    if proxy:  # a proxy may need credentials, and stands wherever it stands
        return ""
    if parts.username is not None or parts.query or parts.fragment or url[-1] in "?#":
        return "holds credentials, a query or a fragment"
    if parts.scheme == "http" and not _is_loopback(host):
        return "is plain http to another host than this one: the token would travel in the clear"
    return ""


def _is_redis_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    if parts.scheme == "unix":
        return os.path.isabs(parts.path)
    return parts.scheme in ("redis", "rediss") and _HOST.fullmatch(parts.hostname or "") is not None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _text(raw: object) -> str:
    if not isinstance(raw, str):
        raise TypeError
    return raw.strip()


def _secret(raw: object) -> Secret:
    return Secret(_text(raw))


def _digits(raw: object) -> str:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return str(raw)
    return _text(raw)


def _url(raw: object) -> str:
    return _text(raw).rstrip("/")


def switch(raw: object) -> bool:
    """On or off, in any of the usual words.

    Raises:
        ValueError: it is neither.
    """
    word = str(raw).strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError
    return word in _TRUE


def _sandbox(raw: object) -> str:
    if isinstance(raw, os.PathLike):
        return str(os.fspath(raw))
    word = str(raw).strip()
    if word.lower() in _FALSE:
        return ""
    return SANDBOX_ON if word.lower() in _TRUE else word


def _api_keys(raw: object) -> tuple[ApiKey, ...]:
    if not isinstance(raw, (str, list, tuple)) or not all(isinstance(each, str) for each in raw):
        raise TypeError
    return read_all(raw)


def _seconds(raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, (str, int, float)):
        raise TypeError
    return float(raw)


def _whole(raw: object) -> int:
    if isinstance(raw, bool) or not isinstance(raw, (str, int)):
        raise TypeError
    if isinstance(raw, str) and not re.fullmatch(r"[0-9]{1,18}", raw.strip()):
        raise ValueError
    return int(raw)


_READERS: dict[str, tuple[Callable[[object], Any], str]] = {
    "store_id": (_digits, "text"),
    "token": (_secret, "text"),
    "sandbox": (_sandbox, "on, off or a path"),
    "api_url": (_url, "text"),
    "auth": (_text, "text"),
    "api_keys": (_api_keys, "a list of NAME:SCOPES:SHA256HEX (scopes: read+write+delete)"),
    "connect_timeout_s": (_seconds, "a number"),
    "read_timeout_s": (_seconds, "a number"),
    "deadline_s": (_seconds, "a number"),
    "max_body_bytes": (_whole, "a whole number"),
    "proxy_url": (_secret, "text"),
    "ca_bundle": (_text, "text"),
    "ui": (switch, "on or off"),
    "cache_ttl_s": (_seconds, "a number"),
    "redis_url": (_secret, "text"),
    "calls_per_minute": (_whole, "a whole number"),
    "processes": (_whole, "a whole number"),
}
