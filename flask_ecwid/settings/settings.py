"""The settings of a store. Each setting is declared once, and one error reports all faults."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping, MutableMapping, Set
from dataclasses import Field, dataclass, field, fields
from inspect import cleandoc
from typing import Any, NoReturn

from . import credentials, rules
from .api_keys import ApiKey
from .keys import is_set, key_of, origin, without_effect

API_URL = "https://app.ecwid.com/api/v3"
OAUTH_URL = "https://my.ecwid.com/api/oauth"
MAX_CACHE_TTL_S = 3600
_THREADS_OF_A_STORE = 4  # where the number of threads is unknown


class Secret(str):
    """A secret text, for example a token, or a URL with a password.

    The repr hides the text, because a printed config, a debugger and a traceback with variables
    show reprs. Pickle refuses a secret.
    """

    __slots__ = ()

    def __new__(cls, text: str = "") -> Secret:
        """Take the text as it is. The `str` of an Enum, for example, is another text."""
        return super().__new__(cls, str.__str__(text))

    def __repr__(self) -> str:
        return "'***'"

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret cannot be pickled")


class SecretBytes(bytes):
    """Secret bytes, for example a request with a token. The repr hides them."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "b'***'"


class SettingsError(ValueError):
    """Settings are missing, wrong or contradict each other. `faults` has a text for each fault."""

    def __init__(self, faults: list[str]) -> None:
        """Make the error from its faults, which name the keys and leave out the values."""
        self.faults = faults
        super().__init__("; ".join(faults))


@dataclass(frozen=True)
class StoreCredentials:
    """A store, and the token for its calls.

    Args:
        store_id: The number of the store, as digits or as an integer.
        token: The secret token of the app in this store. The repr hides it.
        scopes: The Ecwid scopes that are known to be granted to the token. OAuth tells them. A text
            has blanks between the scopes.

    Raises:
        ValueError: `store_id` is not a number, or the token cannot be a secret token of Ecwid.
    """

    store_id: str
    token: str = field(repr=False)
    scopes: frozenset[str] = field(default=frozenset(), compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "store_id", rules.read_store_id(self.store_id))
        token = "" if self.token is None else self.token
        if not isinstance(token, str):
            # A library that decrypts the tokens of a database may return bytes, for example.
            raise ValueError("the token is not a text")
        token = Secret(token.strip())
        if fault := credentials.token_fault(token):
            raise ValueError(f"the token {fault}")
        object.__setattr__(self, "token", token)
        scopes = self.scopes.split() if isinstance(self.scopes, str) else self.scopes
        object.__setattr__(self, "scopes", frozenset(scopes))


@dataclass(frozen=True)
class Settings:
    """The settings of one store. The config key of `store_id` is `ECWID_STORE_ID`, for example.

    Names end in a unit, where `_s` means seconds.

    Raises:
        SettingsError: A setting is missing or out of its range.
    """

    store_id: str = rules.setting(
        "",
        rules.DIGITS,
        rules.Rule("decimal digits, no zero in front", rules.store_id_fault),
        "The number of the store. Needed without the sandbox and ECWID_STORES.",
    )
    token: str = rules.setting(
        "",
        rules.TEXT,
        rules.Rule("visible ASCII characters", credentials.token_fault),
        "The token of the store. Needed without the sandbox and ECWID_STORES.",
        secret=True,
    )
    sandbox: str = rules.setting(
        "",
        rules.SANDBOX,
        rules.Rule("on, off or the absolute path of a file", rules.sandbox_fault),
        "A simulated store in a private file, or in the named one.",
    )
    api_url: str = rules.setting(
        API_URL,
        rules.URL,
        rules.Rule("an https URL, or an http URL of this host", rules.api_url_fault),
        "The address of Ecwid's API.",
    )
    oauth_url: str = rules.setting(
        OAUTH_URL,
        rules.URL,
        rules.Rule("an https URL, or an http URL of this host", rules.api_url_fault),
        "The address of Ecwid's OAuth.",
    )
    client_id: str = rules.setting(
        "",
        rules.TEXT,
        rules.Rule("visible ASCII characters", credentials.client_id_fault),
        "The client_id of your app in Ecwid. Needed for OAuth.",
    )
    client_secret: str = rules.setting(
        "",
        rules.TEXT,
        rules.Rule("visible ASCII characters", credentials.client_secret_fault),
        "The client_secret of your app in Ecwid. For OAuth and webhooks.",
        secret=True,
    )
    webhooks: bool = rules.setting(
        False, rules.SWITCH, None, "Receive Ecwid's webhook events. Needs ECWID_CLIENT_SECRET."
    )
    auth: str = rules.setting(
        "keys",
        rules.TEXT,
        rules.Rule("keys or none", rules.auth_fault),
        "Either keys or none. With keys, each caller needs an API key.",
    )
    api_keys: tuple[ApiKey, ...] = rules.setting(
        (),
        rules.API_KEYS,
        rules.Rule("a list of NAME:SCOPES:SHA256HEX", rules.api_keys_fault),
        "The API keys of the callers, with their scopes.",
        in_repr=False,
    )
    connect_timeout_s: float = rules.setting(
        3.0, rules.NUMBER, rules.between(0.01, 600, "seconds"), "Seconds to connect to Ecwid."
    )
    read_timeout_s: float = rules.setting(
        10.0,
        rules.NUMBER,
        rules.between(0.01, 600, "seconds"),
        "Seconds to wait for each part of a reply.",
    )
    deadline_s: float = rules.setting(
        20.0,
        rules.NUMBER,
        rules.between(0.01, 600, "seconds"),
        "Seconds for one request with all its calls to Ecwid.",
    )
    max_body_bytes: int = rules.setting(
        262_144, rules.WHOLE_NUMBER, rules.above_zero("bytes"), "The largest body of a request."
    )
    require_idempotency_key: bool = rules.setting(
        False, rules.SWITCH, None, "Refuse an add_customer request without an Idempotency-Key."
    )
    proxy_url: str = rules.setting(
        "",
        rules.TEXT,
        rules.Rule("an http or https URL", rules.proxy_url_fault),
        "The proxy between this host and Ecwid.",
        secret=True,
    )
    ca_bundle: str = rules.setting(
        "",
        rules.TEXT,
        rules.Rule("a file of certificates", rules.ca_bundle_fault),
        "The certificates to trust, instead of those of certifi.",
    )
    ui: bool = rules.setting(True, rules.SWITCH, None, "Swagger UI at /ui/.")
    cache_ttl_s: float = rules.setting(
        0.0,
        rules.NUMBER,
        rules.between(0.1, MAX_CACHE_TTL_S, "seconds", or_zero=True),
        "Seconds to keep the responses of reads. 0 keeps none.",
    )
    redis_url: str = rules.setting(
        "",
        rules.TEXT,
        rules.Rule("a redis, rediss or unix URL", rules.redis_url_fault),
        "The Redis that all workers and hosts share.",
        secret=True,
    )
    calls_per_minute: int = rules.setting(
        540,
        rules.WHOLE_NUMBER,
        rules.above_zero("calls"),
        "The share of the 600 calls that Ecwid allows a token.",
    )
    hosts: int = rules.setting(
        1,
        rules.WHOLE_NUMBER,
        rules.between(1, 1_000, "hosts"),
        "Hosts that share the calls. The processes of a host share them by themselves.",
    )
    stores: str = rules.setting(
        "",
        rules.PATH,
        rules.Rule(rules.PATH.name, rules.stores_fault),
        "A file of many stores. The API key of a request decides its store.",
    )
    max_open_stores: int = rules.setting(
        1_000,
        rules.WHOLE_NUMBER,
        rules.above_zero("stores"),
        "The stores that a process keeps open after their use.",
    )
    store_concurrency: int = rules.setting(
        0,
        rules.WHOLE_NUMBER,
        rules.between(1, 1_000, "threads", or_zero=True),
        "Threads that one store may take. 0 is a quarter of gunicorn's.",
    )

    def __post_init__(self) -> None:
        changed = {spec.name for spec in fields(self) if getattr(self, spec.name) != spec.default}
        if faults := _faults(vars(self), changed):
            raise SettingsError(_sentences(faults))
        for spec in fields(self):
            if spec.metadata["secret"]:
                object.__setattr__(self, spec.name, Secret(getattr(self, spec.name)))

    @property
    def credentials(self) -> StoreCredentials:
        """The store of these settings with its token."""
        return StoreCredentials(self.store_id, self.token)

    def store_digest(self, credentials: StoreCredentials) -> str:
        """Return a name that is the same in every process that serves the store.

        The name stays the same when the store gets another token.
        """
        return self.digest_of(credentials.store_id)

    def digest_of(self, store_id: str) -> str:
        """Return the name of the store with this number, as `store_digest` does."""
        return _digest(self.api_url, store_id, self.sandbox)

    def token_digest(self, credentials: StoreCredentials) -> str:
        """Return a name that is the same in every process that serves the store with this token.

        The name begins with the store's name. The rest is keyed with the token, so a reader of
        the storage cannot check a guess of the store against it.
        """
        name = self.store_digest(credentials)
        key = hashlib.blake2b(credentials.token.encode()).digest()
        return f"{name}:{hashlib.blake2b(name.encode(), key=key, digest_size=16).hexdigest()}"

    @property
    def threads_of_a_store(self) -> int:
        """The threads of this process that one store may take, after the default is known.

        server/ counts gunicorn's threads. Under another server nobody knows the number. Ask when
        a request comes, because a preloaded app exists before gunicorn counts.
        """
        threads = os.environ.get("GUNICORN_ECWID_THREADS", "")
        quarter = int(threads) // 4 if threads.isdecimal() else _THREADS_OF_A_STORE
        return self.store_concurrency or max(1, quarter)

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        prefix: str = "",
        *,
        authorize: bool = False,
        many: bool = False,
    ) -> Settings:
        """Read the settings of a mount, from the keys `<prefix>ECWID_*`.

        Values may be strings, as in the environment, or Python values. The method ignores all other
        keys, because a host has settings of its own. An error also names the keys near a setting.

        Args:
            config: The config of a Flask app, or any other mapping.
            prefix: Stands before the name of each key.
            authorize: The host decides itself who may call.
            many: The host chooses the store of each request.

        Raises:
            SettingsError: The settings cannot work. The error names the key of every fault.
        """
        config = HiddenConfig(config, prefix)  # under the same name, which a traceback shows
        values, given, unreadable = _read_all(config, prefix)
        if "auth" not in given:
            values["auth"] = ""
        for name in _unused(values, unreadable.keys()):
            unreadable.pop(name, None)
        if values["stores"] == rules.BY_HOST:  # Only `store` of the extension may say so.
            unreadable["stores"] = rules.PATH.fault
        if many:
            values["stores"] = rules.BY_HOST
        has_keys = unreadable.keys() & {"api_keys", "stores"}
        values["auth"] = values["auth"] or _default_auth(values, authorize or bool(has_keys))
        serving = {} if has_keys else _serving_faults(values, authorize, prefix)
        if many:
            serving |= _faults_of_many(values, given)
        if "auth" in serving and "auth" not in given:
            serving["auth"] += " (keys is the default)"
        ranges = _faults(values, given, prefix, unreadable.keys())
        has_stores = _has_file(values) and not {"stores"} & (ranges.keys() | unreadable.keys())
        pairs = _stores_faults(values, given, authorize, prefix) if has_stores else {}
        if faults := {**ranges, **serving, **pairs, **unreadable}:
            names = [spec.name for spec in fields(cls)]
            others = without_effect(config, prefix, names)
            found = _with_origins(faults, given, config, prefix)
            raise SettingsError([*_sentences(found, prefix), *others])
        return cls(**values)


Settings.__doc__ = "\n".join(
    [
        cleandoc(Settings.__doc__ or ""),
        "\nAttributes:",
        *(f"    {spec.name}: {spec.metadata['doc']}" for spec in fields(Settings)),
    ]
)


def read_some(config: HiddenConfig, names: Collection[str], prefix: str = "") -> dict[str, Any]:
    """Read some settings only, for work that needs no store.

    Args:
        config: The config of a Flask app, or any other mapping, with the same prefix.
        names: The names of the settings, for example `deadline_s`.
        prefix: Stands before the name of each key.

    Raises:
        SettingsError: A named setting cannot work. The error has the key of every fault.
    """
    values, given, unreadable = _read_all(config, prefix)
    faults = {**_faults(values, given, prefix, unreadable.keys()), **unreadable}
    if faults := {name: fault for name, fault in faults.items() if name in names}:
        raise SettingsError(_sentences(_with_origins(faults, given, config, prefix), prefix))
    return {name: values[name] for name in names}


def hide_secrets(config: MutableMapping[str, Any], prefix: str = "") -> None:
    """Replace the secrets of a config by equal texts that the config's repr hides."""
    for key in _secret_keys(prefix):
        if isinstance(value := config.get(key), str):
            config[key] = Secret(value)


class HiddenConfig(Mapping[str, Any]):
    """A config whose repr shows nothing, and whose values of our secret settings are secrets.

    A config such as `os.environ` also has the secrets of other programs, and a traceback with
    variables would show them. A host's mapping may read a value only when somebody asks for it, so
    no value is copied.
    """

    def __init__(self, config: Mapping[str, Any], prefix: str = "") -> None:
        """Refer to a config, whose keys begin with the prefix."""
        self._config = config
        self._secret_keys = _secret_keys(prefix)

    def __getitem__(self, key: str) -> Any:
        return self._hidden(key, self._config[key])

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of the config, or the default."""
        return self._hidden(key, self._config.get(key, default))

    def __contains__(self, key: object) -> bool:
        return key in self._config

    def __iter__(self) -> Iterator[str]:
        return iter(self._config)

    def __len__(self) -> int:
        return len(self._config)

    def _hidden(self, key: str, value: Any) -> Any:
        return Secret(value) if key in self._secret_keys and isinstance(value, str) else value


def _secret_keys(prefix: str) -> frozenset[str]:
    return frozenset(
        key_of(spec.name, prefix) for spec in fields(Settings) if spec.metadata["secret"]
    )


def _read_all(
    config: Mapping[str, Any], prefix: str
) -> tuple[dict[str, Any], set[str], dict[str, str]]:
    """Return all values, the names of those that the config has, and the unreadable ones."""
    values: dict[str, Any] = {spec.name: spec.default for spec in fields(Settings)}
    given = {spec.name for spec in fields(Settings) if is_set(config, key_of(spec.name, prefix))}
    unreadable: dict[str, str] = {}
    for spec in fields(Settings):
        if spec.name not in given:
            continue
        raw = config[key_of(spec.name, prefix)]
        if isinstance(raw, str) and (fault := credentials.quotes_fault(raw)):
            unreadable[spec.name] = fault
            raw = credentials.without_quotes(raw)  # so that no other fault follows from this
        try:
            values[spec.name] = _read(spec, raw)
        except (TypeError, ValueError):
            unreadable.setdefault(spec.name, spec.metadata["kind"].fault)
    return values, given, unreadable


def _read(spec: Field[Any], raw: object) -> Any:
    value = spec.metadata["kind"].read(raw)
    return Secret(value) if spec.metadata["secret"] else value


def _with_origins(
    faults: Mapping[str, str], given: Set[str], config: Mapping[str, Any], prefix: str
) -> dict[str, str]:
    """Return the faults with the places where the wrong values were found."""
    return {
        name: f"{fault} (found in {origin(config, key_of(name, prefix))})"
        if name in given
        else fault
        for name, fault in faults.items()
    }


def _sentences(faults: Mapping[str, str], prefix: str = "") -> list[str]:
    """Return the faults with their keys, in the order of the declarations."""
    names = [spec.name for spec in fields(Settings)]
    return [f"{key_of(name, prefix)} {faults[name]}" for name in names if name in faults]


def _faults(
    values: Mapping[str, Any],
    given: Set[str],
    prefix: str = "",
    unreadable: Set[str] = frozenset(),
) -> dict[str, str]:
    """Return the fault of each setting that is out of its range, or contradicts another setting.

    Args:
        values: All settings.
        given: The names of the settings that somebody has set.
        prefix: Stands before the keys in the texts.
        unreadable: The names of the settings that have faults already, so no other fault follows.
    """
    unused = _unused(values, unreadable)
    faults: dict[str, str] = {}
    for spec in fields(Settings):
        try:
            fault = spec.metadata["rule"].fault(values[spec.name])
        except (TypeError, ValueError, AttributeError):  # a Python value of another type
            fault = spec.metadata["kind"].fault
        if fault and spec.name not in unused:
            faults[spec.name] = fault
    if "store_id" in faults and not given & {"store_id", "token"}:
        sandbox = key_of("sandbox", prefix)
        faults["store_id"] += f", or set {sandbox}=on to try the plugin without a store"
    sound = values.keys() - faults.keys() - unreadable
    return {**_pair_faults(values, given, prefix, sound), **faults}


def _pair_faults(
    values: Mapping[str, Any], given: Set[str], prefix: str, sound: Set[str]
) -> dict[str, str]:
    """Return the fault of each sound setting that cannot work together with another one."""
    found = {}
    timeout, deadline, calls, hosts = (
        values[name] if name in sound else 0
        for name in ("connect_timeout_s", "deadline_s", "calls_per_minute", "hosts")
    )
    # The default of the timeout does not count. Otherwise a short deadline would need two settings.
    if timeout > deadline > 0 and "connect_timeout_s" in given:
        key = key_of("deadline_s", prefix)
        found["connect_timeout_s"] = f"is above {key}, which would end the wait earlier"
    if hosts > calls > 0:
        key = key_of("calls_per_minute", prefix)
        found["hosts"] = f"is above {key}, so some hosts could make no call"
    has_no_secret = "client_secret" in sound and not values["client_secret"]
    if "webhooks" in sound and values["webhooks"] and has_no_secret:
        key = key_of("client_secret", prefix)
        found["webhooks"] = f"is on, but {key} is missing, so no signature could be verified"
    return found


def _unused(values: Mapping[str, Any], unreadable: Set[str]) -> tuple[str, ...]:
    """Return the settings without effect, because there are other stores than theirs."""
    has_stores = values["sandbox"] or values["stores"] or "stores" in unreadable
    return ("store_id", "token") if has_stores else ()


def _faults_of_many(values: Mapping[str, Any], given: Set[str]) -> dict[str, str]:
    """Return the faults of settings beside a host that chooses the store of each request."""
    faults = dict.fromkeys(
        ("store_id", "token", "stores"), "has no effect if store is given, so remove one of them"
    )
    faults = {name: fault for name, fault in faults.items() if name in given}
    if values["auth"] == "none" and not values["sandbox"]:
        faults["auth"] = "is none, but the store of a request follows from its caller"
    return faults


def _has_file(values: Mapping[str, Any]) -> bool:
    """Return whether a file has the stores, and not the settings or the host."""
    return values["stores"] not in ("", rules.BY_HOST)


def _default_auth(values: Mapping[str, Any], closed: bool) -> str:
    """Return the default of `auth`, which is none for a sandbox without API keys.

    The data of the sandbox is fake, so a sandbox starts open.
    """
    has_keys = closed or values["api_keys"] or _has_file(values)
    return "none" if values["sandbox"] and not has_keys else "keys"


def _serving_faults(values: Mapping[str, Any], authorize: bool, prefix: str) -> dict[str, str]:
    """Return the faults of settings that contradict each other about the allowed callers.

    A real store is open to every caller only if ECWID_AUTH is none. A setting without effect is
    refused, because the operator would rely on the setting.
    """
    if values["auth"] == "none":
        if authorize:
            return {"auth": "is none, but authorize is given, so remove one of them"}
        if values["api_keys"]:
            return {"api_keys": f"has no effect while {key_of('auth', prefix)} is none"}
    if values["auth"] == "keys":
        if authorize and values["api_keys"]:
            return {"api_keys": "has no effect if authorize is given"}
        if not authorize and not values["api_keys"] and not _has_file(values):
            api_keys = key_of("api_keys", prefix)
            return {
                "auth": f"is keys, but {api_keys} is empty, so make an API key with "
                "`flask ecwid key`, pass authorize, or set none to serve every caller"
            }
    return {}


def _stores_faults(
    values: Mapping[str, Any], given: Set[str], authorize: bool, prefix: str
) -> dict[str, str]:
    """Return the faults of settings beside a file of stores, whose API keys decide the store."""
    stores = key_of("stores", prefix)
    beside = {"store_id", "token", "api_keys"} & given
    found = dict.fromkeys(beside, f"has no effect beside {stores}, so remove one of them")
    if authorize:
        found["stores"] = "has no effect if authorize is given, so remove one of them"
    elif values["auth"] == "none":
        found["auth"] = f"is none, but the API key of a request decides its store in {stores}"
    return found


def _digest(*parts: str) -> str:
    """Return a digest that differs for different values and reveals none of them."""
    # Each value follows its length. Without the length, "1" and "23" would give the digest of "12"
    # and "3", so two stores could share a name. The repr of a Secret cannot be used, because the
    # repr is the same for all secrets.
    values = [part.encode("utf-8", "surrogatepass") for part in parts]
    prefixed = b"".join(b"%d:%b" % (len(value), value) for value in values)
    return "flask-ecwid:" + hashlib.blake2b(prefixed, digest_size=16).hexdigest()
