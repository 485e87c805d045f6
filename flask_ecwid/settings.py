"""The settings of a store. Each setting is declared once, and one error reports all faults."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import ssl
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import Field, dataclass, field, fields
from inspect import cleandoc
from typing import Any, NoReturn
from urllib.parse import urlsplit

from .api_keys import ApiKey, parse_all

API_URL = "https://app.ecwid.com/api/v3"
SANDBOX_ON = "on"
MAX_CACHE_TTL_S = 3600

_HOST = re.compile(r"(?!.*\.\.)[A-Za-z0-9_:]([A-Za-z0-9_.:-]{0,251}[A-Za-z0-9_.:])?")
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})


class Secret(str):
    """A secret text, for example a token, or a URL with a password.

    The repr hides the text, because a printed config, a debugger and a traceback with variables
    show reprs. Pickle refuses a secret.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret cannot be pickled")


class SettingsError(ValueError):
    """Settings are missing, wrong or contradict each other. `faults` has a text for each fault."""

    def __init__(self, faults: list[str]) -> None:
        """Make the error from its faults, which name the keys and leave out the values."""
        self.faults = faults
        super().__init__("; ".join(faults))


@dataclass(frozen=True)
class Kind:
    """The type of a setting, for example a whole number, a secret or a list of API keys."""

    name: str
    read: Callable[[object], Any]  # raises TypeError or ValueError for a value of another kind


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
API_KEYS = Kind(
    "a list of NAME:SCOPES:SHA256HEX with scopes such as read+write+delete", _read_api_keys
)
NUMBER = Kind("a number", _read_number)
WHOLE_NUMBER = Kind("a whole number", _read_whole_number)


def _matches(pattern: str, allowed: str) -> Rule:
    def fault(value: object) -> str:
        return "" if re.fullmatch(pattern, str(value)) else f"is missing, or is not {allowed}"

    return Rule(allowed, fault)


def _between(lowest: float, highest: float, unit: str, *, or_zero: bool = False) -> Rule:
    allowed = f"from {lowest:g} to {highest:g}"
    message = f"is not a number of {unit} {allowed}"
    if or_zero:
        allowed = f"0, or {allowed}"
        message = message.replace("is not", "is neither 0 nor")

    def fault(value: float) -> str:
        # NaN is outside of every range, because each comparison with NaN is false.
        return "" if lowest <= value <= highest or (or_zero and value == 0) else message

    return Rule(allowed, fault)


def _above_zero(unit: str) -> Rule:
    return Rule("above 0", lambda value: "" if value > 0 else f"is not a number of {unit} above 0")


def _sandbox_fault(value: str) -> str:
    if not value or value == SANDBOX_ON or os.path.isabs(value):
        return ""
    return "is not on, off or the absolute path of a file"


def _auth_fault(value: str) -> str:
    return "" if value in ("keys", "none") else "is not keys or none"


def _api_keys_fault(entries: tuple[ApiKey, ...]) -> str:
    return "holds an API key twice" if len({each.digest for each in entries}) < len(entries) else ""


def _api_url_fault(url: str) -> str:
    if fault := _http_url_fault(url):
        return fault
    parts = urlsplit(url)
    if parts.username is not None or parts.query or parts.fragment or url[-1] in "?#":
        return "holds credentials, a query or a fragment"
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        return "is plain http to another host, which would send the token unencrypted"
    return ""


def _proxy_url_fault(url: str) -> str:
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


def _ca_bundle_fault(path: str) -> str:
    if path:
        try:
            ssl.create_default_context(cafile=path)
        except (OSError, ValueError):  # ssl.SSLError is an OSError
            return "names no file of certificates"
    return ""


def _redis_url_fault(url: str) -> str:
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


@dataclass(frozen=True)
class Settings:
    """The settings of one store. The config key of `store_id` is `ECWID_STORE_ID`, for example.

    Names end in a unit, where `_s` means seconds.

    Raises:
        SettingsError: A setting is missing or out of its range.
    """

    store_id: str = setting(
        "",
        DIGITS,
        _matches(r"[0-9]{1,20}", "decimal digits"),
        "The number of the store. Needed unless the sandbox is on.",
    )
    token: str = setting(
        "",
        TEXT,
        _matches(r"[!-~]{1,512}", "visible ASCII characters"),
        "The token of the store. Needed unless the sandbox is on.",
        secret=True,
    )
    sandbox: str = setting(
        "",
        SANDBOX,
        Rule("on, off or the absolute path of a file", _sandbox_fault),
        "A simulated store in a private file, or in the named one.",
    )
    api_url: str = setting(
        API_URL,
        URL,
        Rule("an https URL, or an http URL of this host", _api_url_fault),
        "The address of Ecwid's API.",
    )
    auth: str = setting(
        "keys",
        TEXT,
        Rule("keys or none", _auth_fault),
        "Either keys or none. With keys, each caller needs an API key.",
    )
    api_keys: tuple[ApiKey, ...] = setting(
        (),
        API_KEYS,
        Rule("a list of NAME:SCOPES:SHA256HEX", _api_keys_fault),
        "The API keys of the callers, with their scopes.",
        in_repr=False,
    )
    connect_timeout_s: float = setting(
        3.0, NUMBER, _between(0.01, 600, "seconds"), "Seconds to connect to Ecwid."
    )
    read_timeout_s: float = setting(
        10.0, NUMBER, _between(0.01, 600, "seconds"), "Seconds to wait for each part of a reply."
    )
    deadline_s: float = setting(
        20.0,
        NUMBER,
        _between(0.01, 600, "seconds"),
        "Seconds for one request with all its calls to Ecwid.",
    )
    max_body_bytes: int = setting(
        262_144, WHOLE_NUMBER, _above_zero("bytes"), "The largest body of a request."
    )
    require_idempotency_key: bool = setting(
        False, SWITCH, None, "Refuse an add_customer request without an Idempotency-Key."
    )
    proxy_url: str = setting(
        "",
        TEXT,
        Rule("an http or https URL", _proxy_url_fault),
        "The proxy between this host and Ecwid.",
        secret=True,
    )
    ca_bundle: str = setting(
        "",
        TEXT,
        Rule("a file of certificates", _ca_bundle_fault),
        "The certificates to trust, instead of those of certifi.",
    )
    ui: bool = setting(True, SWITCH, None, "Swagger UI at /ui/.")
    cache_ttl_s: float = setting(
        0.0,
        NUMBER,
        _between(0.1, MAX_CACHE_TTL_S, "seconds", or_zero=True),
        "Seconds to keep the responses of reads. 0 keeps none.",
    )
    redis_url: str = setting(
        "",
        TEXT,
        Rule("a redis, rediss or unix URL", _redis_url_fault),
        "The Redis that all workers and hosts share.",
        secret=True,
    )
    calls_per_minute: int = setting(
        540,
        WHOLE_NUMBER,
        _above_zero("calls"),
        "The share of the 600 calls that Ecwid allows a token.",
    )
    processes: int = setting(
        0,
        WHOLE_NUMBER,
        _between(0, 10_000, "processes"),
        "Processes that share the calls without Redis. 0 means gunicorn's workers.",
    )

    def __post_init__(self) -> None:
        if faults := _faults(vars(self)):
            raise _error(faults)
        for spec in fields(self):
            if spec.metadata["secret"]:
                object.__setattr__(self, spec.name, Secret(getattr(self, spec.name)))

    @property
    def store_digest(self) -> str:
        """A name that is the same in every process that serves this store."""
        return _digest(self.api_url, self.store_id, self.sandbox)

    @property
    def token_digest(self) -> str:
        """A name that is the same in every process that serves this store with this token."""
        return _digest(self.api_url, self.store_id, self.sandbox, self.token)

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], prefix: str = "", *, authorize: bool = False
    ) -> Settings:
        """Read the settings of a store that will be served, from the keys `<prefix>ECWID_*`.

        Values may be strings, as in the environment, or Python values. The method ignores all other
        keys, because a host has settings of its own.

        Args:
            config: The config of a Flask app, or any other mapping.
            prefix: Stands before the name of each key.
            authorize: The host decides itself who may call.

        Raises:
            SettingsError: The settings cannot work. The error names the key of every fault.
        """
        values: dict[str, Any] = {spec.name: spec.default for spec in fields(cls)}
        values["auth"] = ""
        unreadable: dict[str, str] = {}
        for spec in fields(cls):
            raw = config.get(_key(spec, prefix))
            if raw is None or raw == "":  # an empty variable counts as unset
                continue
            try:
                values[spec.name] = _read(spec, raw)
            except (TypeError, ValueError):
                unreadable[spec.name] = f"is not {spec.metadata['kind'].name}"
        closed = authorize or "api_keys" in unreadable
        values["auth"] = values["auth"] or _default_auth(values, closed)
        serving = {} if "api_keys" in unreadable else _serving_faults(values, authorize)
        if faults := {**_faults(values), **serving, **unreadable}:
            raise _error(faults, prefix)
        return cls(**values)


Settings.__doc__ = "\n".join(
    [
        cleandoc(Settings.__doc__ or ""),
        "\nAttributes:",
        *(f"    {spec.name}: {spec.metadata['doc']}" for spec in fields(Settings)),
    ]
)


def hide_secrets(config: MutableMapping[str, Any], prefix: str = "") -> None:
    """Replace the secrets of a config by equal texts that the config's repr hides."""
    for spec in fields(Settings):
        key = _key(spec, prefix)
        if spec.metadata["secret"] and isinstance(value := config.get(key), str):
            config[key] = Secret(value)


def _key(spec: Field[Any], prefix: str) -> str:
    return f"{prefix}ECWID_{spec.name.upper()}"


def _read(spec: Field[Any], raw: object) -> Any:
    value = spec.metadata["kind"].read(raw)
    return Secret(value) if spec.metadata["secret"] else value


def _error(faults: Mapping[str, str], prefix: str = "") -> SettingsError:
    """Return the error that reports these faults, in the order of the declarations."""
    lines = [
        f"{_key(spec, prefix)} {faults[spec.name]}"
        for spec in fields(Settings)
        if spec.name in faults
    ]
    return SettingsError(lines)


def _faults(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the fault of each setting that is out of its range."""
    unused = ("store_id", "token") if values["sandbox"] else ()
    faults: dict[str, str] = {}
    for spec in fields(Settings):
        try:
            fault = spec.metadata["rule"].fault(values[spec.name])
        except (TypeError, ValueError, AttributeError):  # a Python value of another type
            fault = f"is not {spec.metadata['kind'].name}"
        if fault and spec.name not in unused:
            faults[spec.name] = fault
    return faults


def _default_auth(values: Mapping[str, Any], closed: bool) -> str:
    """Return the default of `auth`, which is none for a sandbox without API keys.

    The data of the sandbox is fake, so a sandbox starts open.
    """
    return "none" if values["sandbox"] and not closed and not values["api_keys"] else "keys"


def _serving_faults(values: Mapping[str, Any], authorize: bool) -> dict[str, str]:
    """Return the faults of settings that contradict each other about the allowed callers.

    A real store is open to every caller only if ECWID_AUTH is none. A setting without effect is
    refused, because the operator would rely on the setting.
    """
    if values["auth"] == "none":
        if authorize:
            return {"auth": "is none, but authorize is given, so remove one of them"}
        if values["api_keys"]:
            return {"api_keys": "has no effect while ECWID_AUTH is none"}
    if values["auth"] == "keys":
        if authorize and values["api_keys"]:
            return {"api_keys": "has no effect if authorize is given"}
        if not authorize and not values["api_keys"]:
            return {
                "auth": "is keys, but ECWID_API_KEYS is empty, so make an API key with "
                "`flask ecwid key`, pass authorize, or set none to serve every caller"
            }
    return {}


def _digest(*parts: str) -> str:
    """Return a digest that differs for different values and reveals none of them."""
    # Each value follows its length. Without the length, "1" and "23" would give the digest of "12"
    # and "3", so two stores could share a name. The repr of a Secret cannot be used, because the
    # repr is the same for all secrets.
    values = [part.encode("utf-8", "surrogatepass") for part in parts]
    prefixed = b"".join(b"%d:%b" % (len(value), value) for value in values)
    return "flask-ecwid:" + hashlib.blake2b(prefixed, digest_size=16).hexdigest()
