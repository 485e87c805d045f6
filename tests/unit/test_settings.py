"""Settings are validated at the start, and every fault names its setting without the value."""

from __future__ import annotations

import hashlib
import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import flask
import pytest

from flask_ecwid import Ecwid, Settings, SettingsError
from flask_ecwid.sandbox import token_of
from flask_ecwid.settings import HiddenConfig, read_some, setting_warnings

GOOD: dict[str, Any] = {
    "ECWID_STORE_ID": "1003",
    "ECWID_TOKEN": "secret_x",
    "ECWID_AUTH": "none",
}


STORE = {"ECWID_STORE_ID": GOOD["ECWID_STORE_ID"], "ECWID_TOKEN": GOOD["ECWID_TOKEN"]}


def faults(config: dict[str, Any], prefix: str = "") -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.from_config(config, prefix)
    return [fault.split()[0] for fault in caught.value.faults]


def fault_of(key: str, value: object) -> str:
    """Return the only fault of good settings with this value, without the key."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_config({**GOOD, key: value})
    [fault] = caught.value.faults
    assert fault.startswith(f"{key} ")
    return fault.removeprefix(f"{key} ")


def test_defaults() -> None:
    """A setting that is missing has its documented default."""
    settings = Settings.from_config(GOOD)
    assert settings.api_url == "https://app.ecwid.com/api/v3"
    assert (settings.connect_timeout_s, settings.read_timeout_s, settings.deadline_s) == (3, 10, 20)
    assert settings.max_body_bytes == 262_144
    assert settings.ui is True
    assert settings.require_idempotency_key is False
    assert settings.sandbox == ""


def test_text_and_python_values() -> None:
    """A value may be a string, as in the environment, or a Python value."""
    as_text = {
        **GOOD,
        "ECWID_READ_TIMEOUT_S": "1.5",
        "ECWID_MAX_BODY_BYTES": "10",
        "ECWID_UI": "off",
        "ECWID_REQUIRE_IDEMPOTENCY_KEY": "on",
    }
    as_values = {
        **GOOD,
        "ECWID_STORE_ID": 1003,
        "ECWID_READ_TIMEOUT_S": 1.5,
        "ECWID_MAX_BODY_BYTES": 10,
        "ECWID_UI": False,
        "ECWID_REQUIRE_IDEMPOTENCY_KEY": True,
    }
    assert Settings.from_config(as_text) == Settings.from_config(as_values)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ECWID_STORE_ID", ""),
        ("ECWID_STORE_ID", "10/03"),
        ("ECWID_STORE_ID", "01003"),
        ("ECWID_STORE_ID", 1.5),
        ("ECWID_TOKEN", ""),
        ("ECWID_TOKEN", "two\nlines"),
        ("ECWID_TOKEN", "a blank"),
        ("ECWID_TOKEN", 5),
        ("ECWID_API_URL", "http://app.ecwid.com/api/v3"),
        ("ECWID_API_URL", "http://localhost.example.com/api"),
        ("ECWID_API_URL", "ftp://app.ecwid.com"),
        ("ECWID_API_URL", "https://user:pass@app.ecwid.com/api/v3"),
        ("ECWID_API_URL", "https://app.ecwid.com/api/v3?token=x"),
        ("ECWID_API_URL", "https://app.ecwid.com/api/v3#x"),
        ("ECWID_API_URL", "https://app.ecwid.com/api/v3?"),
        ("ECWID_API_URL", "https://[::1/"),
        ("ECWID_API_URL", "https://app.ecwid.com:port/"),
        ("ECWID_API_URL", "app.ecwid.com"),
        ("ECWID_AUTH", "nobody"),
        ("ECWID_AUTH", "keys"),
        ("ECWID_AUTH", None),
        ("ECWID_CONNECT_TIMEOUT_S", "0"),
        ("ECWID_READ_TIMEOUT_S", "-1"),
        ("ECWID_READ_TIMEOUT_S", "nan"),
        ("ECWID_DEADLINE_S", "inf"),
        ("ECWID_DEADLINE_S", "soon"),
        ("ECWID_DEADLINE_S", True),
        ("ECWID_MAX_BODY_BYTES", "0"),
        ("ECWID_MAX_BODY_BYTES", "1.5"),
        ("ECWID_MAX_BODY_BYTES", True),
        ("ECWID_PROXY_URL", "socks5://127.0.0.1"),
        ("ECWID_PROXY_URL", "http://"),
        ("ECWID_PROXY_URL", "http://["),
        ("ECWID_CA_BUNDLE", "/nowhere/ca.pem"),
        ("ECWID_CA_BUNDLE", __file__),
        ("ECWID_API_URL", "https://ho st/api/v3"),
        ("ECWID_API_URL", "https://a..com/api/v3"),
        ("ECWID_DEADLINE_S", "1e-9"),
        ("ECWID_MAX_BODY_BYTES", "1_000"),
        ("ECWID_MAX_BODY_BYTES", "\u0663"),
        ("ECWID_UI", "maybe"),
        ("ECWID_REQUIRE_IDEMPOTENCY_KEY", "always"),
        ("ECWID_SANDBOX", "ture"),
        ("ECWID_SANDBOX", "here/store.sqlite3"),
        ("ECWID_API_KEYS", "shop:read:00"),
        ("ECWID_REDIS_URL", "http://127.0.0.1"),
        ("ECWID_CACHE_TTL_S", "-1"),
        ("ECWID_CACHE_TTL_S", "3601"),
        ("ECWID_CACHE_TTL_S", "0.0001"),
        ("ECWID_CACHE_TTL_S", "nan"),
        ("ECWID_CACHE_TTL_S", "soon"),
        ("ECWID_CALLS_PER_MINUTE", "0"),
        ("ECWID_CALLS_PER_MINUTE", "many"),
        ("ECWID_HOSTS", "0"),
        ("ECWID_HOSTS", 1_001),
        ("ECWID_STORES", "here/stores.json"),
        ("ECWID_STORES", 5),
        ("ECWID_MAX_OPEN_STORES", "0"),
        ("ECWID_STORE_CONCURRENCY", "-1"),
        ("ECWID_STORE_CONCURRENCY", "1001"),
    ],
)
def test_fault(key: str, value: object) -> None:
    """A setting that cannot work, or has no support yet, is reported by its name."""
    assert faults({**GOOD, key: value}) == [key]


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1", "127.0.0.1:6379", "redis://", "redis://a:port", "redis://[", "unix:x"],
)
def test_redis_url(url: str) -> None:
    """The URL of Redis has the scheme redis, rediss or unix, and no repr shows its password."""
    cached = {**GOOD, "ECWID_CACHE_TTL_S": "30"}
    assert faults({**cached, "ECWID_REDIS_URL": url}) == ["ECWID_REDIS_URL"]
    for good in (
        "redis://:canary@127.0.0.1:6379/1",
        "rediss://redis.internal",
        "unix:///run/r.sock",
    ):
        settings = Settings.from_config({**cached, "ECWID_REDIS_URL": good})
        assert settings.redis_url == good
        assert "canary" not in repr(settings)


def test_an_empty_variable_is_an_unset_one() -> None:
    """An empty variable counts as missing, so its setting has the default or is reported."""
    empty = {f"ECWID_{name.upper()}": "" for name in Settings.__dataclass_fields__}
    assert Settings.from_config({**empty, **GOOD}) == Settings.from_config(GOOD)
    assert faults(empty) == ["ECWID_STORE_ID", "ECWID_TOKEN", "ECWID_AUTH"]


def test_all_faults_at_once() -> None:
    """One error reports all faults, in the order of the declarations."""
    config = {"ECWID_UI": "maybe", "ECWID_DEADLINE_S": "soon", "ECWID_API_URL": "x"}
    assert faults(config) == [
        "ECWID_STORE_ID",
        "ECWID_TOKEN",
        "ECWID_API_URL",
        "ECWID_AUTH",
        "ECWID_DEADLINE_S",
        "ECWID_UI",
    ]


def test_faults_of_another_prefix() -> None:
    """A fault names the key with its prefix, and keys of another prefix are not read."""
    assert faults(GOOD, "OUTLET_") == [
        "OUTLET_ECWID_STORE_ID",
        "OUTLET_ECWID_TOKEN",
        "OUTLET_ECWID_AUTH",
    ]


def test_faults_hold_no_value() -> None:
    """A fault names the key and the rule, and never the value."""
    config = dict.fromkeys(("ECWID_STORE_ID", "ECWID_TOKEN", "ECWID_API_URL"), "canary canary")
    with pytest.raises(SettingsError) as caught:
        Settings.from_config(config)
    assert "canary" not in str(caught.value)


QUOTES = [("'", "'"), ('"', '"'), ("`", "`"), ("\u2018", "\u2019"), ("“", "”"), ("«", "»")]


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (("", None), "is missing, so set the secret token"),
        (
            ("secret_...", "secret_", "secret_…", "SECRET_XXXXXXXX", "xxxxxxxx", "secret_********"),
            "is a placeholder, so set the secret token",
        ),
        (
            ("<token>", "$TOKEN", "${ECWID_TOKEN}", "{{ token }}", "%TOKEN%", "your-token"),
            "is a placeholder, so set the secret token",
        ),
        (
            [
                *("secret_YOURTOKEN", "secret_TOKEN", "TOKEN", "secret_token", "your_token"),
                *("xxx", "secret_xxx", "secret____", "changeme", "secret_change-me", "secret"),
                *("secret_example", "ecwid_token", "placeholder", "secret_insert_here"),
                *("x" * 32, "secret_" + "-" * 32, "secret_your_key_from_the_admin_of_ecwid"),
            ],
            "is a placeholder, so set the secret token",
        ),
        (("public_canary", "PUBLIC_canary"), "is a public token, which cannot read customers, so"),
        (("Bearer secret_canary", "bearer canary"), "begins with the word Bearer, so remove"),
        (
            [f"{a}secret_canary{b}" for a, b in QUOTES] + ["'secret_canary", "secret_canary'"],
            "has quotes around the value, so remove the quotes",
        ),
        (("two canaries", "c\nanary", "canarÿ", "ca" * 257), "is not visible ASCII characters"),
    ],
    ids=["missing", "dots", "variable", "word", "public", "Bearer", "quotes", "other"],
)
def test_a_token_that_cannot_be_right(tokens: list[str | None], said: str) -> None:
    """A placeholder, a public or a quoted token stops the start, and the fault says what to do."""
    for token in tokens:
        fault = fault_of("ECWID_TOKEN", token)
        assert said in fault, token
        assert "canar" not in fault
        with pytest.raises(SettingsError, match=f"^ECWID_TOKEN {said}"):
            Settings(store_id="1003", token=token or "")


@pytest.mark.parametrize(
    "token",
    [
        *("secret_x", "secret_test", "secret_" + "Ab1" * 10 + "xx", "3secret_a", "a-b.c/d=~"),
        *("secret_000", "secret_0000", "secret_1111", "secret_" + "0" * 32, "a" * 32),
        *(token_of(store_id, number) for store_id in ("1003", "1004") for number in range(3)),
        *(f"secret_{word:0<32}"[:39] for word in ("token1", "1yours2", "xxx", "Example", "todo")),
    ],
)
def test_a_token_that_may_be_right(token: str) -> None:
    """A token that is no known mistake passes, because Ecwid alone knows its tokens.

    A token of Ecwid's length may have a word by chance.
    """
    assert Settings(store_id="1003", token=token).token == token


@pytest.mark.parametrize("spec", fields(Settings), ids=lambda spec: spec.name)
def test_quotes_around_a_value(spec: Any) -> None:
    """Quotes around the value of any setting are a fault that says to remove them."""
    for left, right in QUOTES:
        fault = fault_of(f"ECWID_{spec.name.upper()}", f"{left}canary{right}")
        assert "has quotes around the value, so remove the quotes" in fault
        assert "canary" not in fault


@pytest.mark.parametrize(
    ("key", "value", "more"),
    [
        ("ECWID_SANDBOX", "'on'", {}),
        ("ECWID_SANDBOX", '"/tmp/store.sqlite3"', {}),
        ("ECWID_AUTH", "'none'", STORE),
        ("ECWID_API_KEYS", f"'a:read:{'0' * 64}'", STORE),
        ("ECWID_DEADLINE_S", "'30'", {**GOOD, "ECWID_CONNECT_TIMEOUT_S": "25"}),
        ("ECWID_DEADLINE_S", "30s", {**GOOD, "ECWID_CONNECT_TIMEOUT_S": "25"}),
        ("ECWID_CALLS_PER_MINUTE", "9,000", {**GOOD, "ECWID_PROCESSES": "600"}),
        ("ECWID_REDIS_URL", "'redis://host'", {**GOOD, "ECWID_PROCESSES": "600"}),
        ("ECWID_REDIS_URL", 5, {**GOOD, "ECWID_PROCESSES": "600"}),
        ("ECWID_STORES", "'/srv/stores.json'", {}),
        ("ECWID_STORES", "stores.json", {}),
        ("ECWID_STORES", 5, {}),
    ],
)
def test_nothing_follows_from_a_fault(key: str, value: object, more: dict[str, Any]) -> None:
    """A setting in quotes, or of a wrong kind, is the only fault, and no other follows from it."""
    assert faults({**more, key: value}) == [key]


def key_entry(name: str, api_key: str) -> str:
    return f"{name}:read:{hashlib.sha256(api_key.encode()).hexdigest()}"


@pytest.mark.parametrize(
    "api_key",
    [
        *("", "test", "Test", "TEST", "test\n", "password", "Password1", "123456", "letmein"),
        *("secret", "api-key", "changeme", "key", "\n"),
    ],
)
def test_an_api_key_that_anybody_could_guess(api_key: str) -> None:
    """The digest of an empty text or of a common password stops the start.

    The fault has the place of the entry, and neither the name nor the digest.
    """
    config = {**GOOD, "ECWID_AUTH": "keys"}
    entries = [key_entry("other", "canary-0815"), key_entry("canary-caller", api_key)]
    capitals = entries[1][:-64] + entries[1][-64:].upper()
    for written in (entries, " ".join(entries), [entries[0], capitals]):
        with pytest.raises(SettingsError) as caught:
            Settings.from_config({**config, "ECWID_API_KEYS": written})
        [fault] = caught.value.faults
        assert fault.startswith("ECWID_API_KEYS ")
        assert "has an API key that anybody could guess (entry 2), so make an API key" in fault
        assert "canary" not in fault
        assert entries[1][-64:] not in fault
    good = {**config, "ECWID_API_KEYS": entries[0]}
    assert len(Settings.from_config(good).api_keys) == 1


def test_a_placeholder_of_an_entry() -> None:
    """The entry of an example is a fault that names the command for a real entry."""
    for written in ("warehouse:read:...", ["warehouse:read+write:..."], "NAME:SCOPES:SHA256HEX"):
        config = {**GOOD, "ECWID_AUTH": "", "ECWID_API_KEYS": written}
        with pytest.raises(SettingsError, match=r"so make an API key with `flask ecwid key NAME`"):
            Settings.from_config(config)


@pytest.mark.parametrize("word", ["on", "On", "1", "true", "YES", True])
def test_sandbox_on(word: object) -> None:
    """The sandbox needs no store, no token and no setting for authentication."""
    assert Settings.from_config({"ECWID_SANDBOX": word}).sandbox == "on"


@pytest.mark.parametrize("word", ["off", "0", "false", "no", "", False])
def test_sandbox_off(word: object) -> None:
    """A store is required without the sandbox."""
    assert Settings.from_config({**GOOD, "ECWID_SANDBOX": word}).sandbox == ""


def test_sandbox_path(tmp_path: Path) -> None:
    """A setting may name the file in which the sandbox keeps its store."""
    path = tmp_path / "store.sqlite3"
    assert Settings.from_config({"ECWID_SANDBOX": path}).sandbox == str(path)


STORES = {"ECWID_STORES": "/srv/stores.json"}


def test_a_file_of_stores() -> None:
    """With a file of stores, no store, token or API key is needed. Nobody reads the file here."""
    settings = Settings.from_config(STORES)
    assert (settings.stores, settings.auth, settings.store_id) == ("/srv/stores.json", "keys", "")
    as_path = {"ECWID_STORES": Path("/srv/stores.json"), "ECWID_AUTH": "keys"}
    assert Settings.from_config(as_path) == settings
    assert Settings.from_config({**STORES, "ECWID_SANDBOX": "on"}).auth == "keys"


@pytest.mark.parametrize("key", ["ECWID_STORE_ID", "ECWID_TOKEN", "ECWID_API_KEYS"])
def test_a_store_beside_a_file_of_stores(key: str) -> None:
    """A store, a token or API keys beside a file of stores are a fault, and so in a sandbox.

    The operator would otherwise rely on a setting that nobody reads.
    """
    config = {**STORES, key: {**GOOD, "ECWID_API_KEYS": key_entry("a", "b")}[key]}
    said = f"{key} has no effect beside ECWID_STORES, so remove one of them"
    for more in ({}, {"ECWID_SANDBOX": "on"}):
        with pytest.raises(SettingsError, match=said):
            Settings.from_config({**config, **more})
        assert faults({**config, **more}) == [key]


def test_who_may_call_beside_a_file_of_stores() -> None:
    """A caller without an API key has no store, so an open service or `authorize` is a fault."""
    for auth in ({"ECWID_AUTH": "none"}, {"ECWID_AUTH": "none", "ECWID_SANDBOX": "on"}):
        with pytest.raises(SettingsError, match="ECWID_AUTH is none, but the API key of a request"):
            Settings.from_config({**STORES, **auth})
    with pytest.raises(SettingsError, match="ECWID_STORES has no effect if authorize is given"):
        Settings.from_config(STORES, authorize=True)


@pytest.mark.parametrize(
    ("given", "threads", "expected"),
    [("0", "32", 8), ("0", "3", 1), ("0", "", 4), ("0", "x", 4), ("6", "32", 6), ("", "16", 4)],
)
def test_the_threads_of_a_store(
    monkeypatch: pytest.MonkeyPatch, given: str, threads: str, expected: int
) -> None:
    """One store takes a quarter of gunicorn's threads, or as many as the setting says.

    A store takes at least one thread, and 4 if the number of threads is unknown.
    """
    monkeypatch.setenv("GUNICORN_ECWID_THREADS", threads)
    settings = Settings.from_config({**GOOD, "ECWID_STORE_CONCURRENCY": given})
    assert settings.threads_of_a_store == expected


def test_a_file_that_is_no_sandbox(tmp_path: Path) -> None:
    """A file that the sandbox cannot open is reported at the start as a fault of its setting."""
    for path in (tmp_path / "nowhere" / "x.sqlite3", Path(__file__)):
        app = flask.Flask("host")
        app.config["ECWID_SANDBOX"] = str(path)
        with pytest.raises(SettingsError, match="ECWID_SANDBOX"):
            Ecwid(app)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8100/api/v3", "http://[::1]/api/v3", "http://localhost/api/v3"]
)
def test_plain_http_to_this_host(url: str) -> None:
    """Plain http is allowed only to this host, and a trailing slash makes no difference."""
    assert Settings.from_config({**GOOD, "ECWID_API_URL": url + "/"}).api_url == url


def test_the_hosts_own_keys() -> None:
    """Other keys that begin with ECWID_ belong to the host and cause no fault."""
    assert Settings.from_config({**GOOD, "ECWID_WIDGET_COLOUR": "x"}).store_id == "1003"


def warnings(config: dict[str, Any], prefix: str = "") -> tuple[str, ...]:
    return setting_warnings(Settings.from_config(config, prefix), config, prefix)


NEAR = {
    "CACHE_TTL": "CACHE_TTL_S",
    "DEADLINE": "DEADLINE_S",
    "API_KEY": "API_KEYS",
    "TOKN": "TOKEN",
    "STOREZ": "STORES",
    "STORE": "STORE_ID",
    "STOREID": "STORE_ID",
    "REDIS": "REDIS_URL",
    "CONNECT_TIMEOUT": "CONNECT_TIMEOUT_S",
    "CALLS": "CALLS_PER_MINUTE",
    "CACHE_TTL_SECONDS": "CACHE_TTL_S",
    "METRIC": "METRICS",
    "TRUSTED_PROXY": "TRUSTED_PROXIES",
    "WEBHOOK": "WEBHOOKS",
    "WEBHOOK_SECRET": "WEBHOOKS",
}


@pytest.mark.parametrize(("name", "nearest"), NEAR.items())
@pytest.mark.parametrize("place", ["app.config", "the environment", "both"])
def test_a_key_near_a_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str, place: str
) -> None:
    """An unknown key near a setting is a warning with both keys and its place, without a value."""
    key, config = f"ECWID_{name}", dict(GOOD)
    if place != "the environment":
        config[key] = "canary"
    if place != "app.config":
        monkeypatch.setenv(key, "canary")
    where = "app.config" if place == "app.config" else "the environment"
    said = f"{key} is set in {where} but is no setting. The nearest is ECWID_{nearest}"
    assert warnings({**config, "ECWID_SANDBOX": "on"})[-1:] == (said,)
    with pytest.raises(SettingsError) as caught:
        Settings.from_config({**config, "ECWID_UI": "maybe"})
    assert caught.value.faults[1:] == [said]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "CLIENT_SECRET",
            "CLIENT_ID",
            "PUBLIC_TOKEN",
            "STORE_URL",
            "STORE_NAME",
        ),
        *("LOG_LEVEL", "DEBUG", "METRICS", "TRUSTED_PROXIES", "OUTLET_ECWID_TOKEN", "", "É" * 99),
    ],
)
def test_a_key_of_the_host(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A key of the host, of wsgi.py or of another mount is no warning."""
    before = warnings(GOOD)
    monkeypatch.setenv(f"ECWID_{name}", "x")
    assert warnings({**GOOD, f"ECWID_{name}": "x", "ECWID_CACHE_TTL": ""}) == before


def test_a_key_near_a_setting_of_another_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount warns of the keys with its own prefix alone."""
    outlet = {f"OUTLET_{key}": value for key, value in GOOD.items()}
    monkeypatch.setenv("OUTLET_ECWID_CACHE_TTL", "5")
    monkeypatch.setenv("ECWID_DEADLINE", "5")
    [_, near] = warnings(outlet, "OUTLET_")
    assert near.startswith("OUTLET_ECWID_CACHE_TTL is set in the environment but is no setting. ")
    assert near.endswith(" The nearest is OUTLET_ECWID_CACHE_TTL_S")
    [_, near] = warnings({**GOOD, **outlet})
    assert near.startswith("ECWID_DEADLINE is set in the environment")


def test_a_setting_that_app_config_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting of the environment that app.config does not have is a warning."""
    before = warnings(GOOD)
    monkeypatch.setenv("ECWID_CACHE_TTL_S", "5")
    said = "ECWID_CACHE_TTL_S is set in the environment but not in app.config, so has no effect"
    assert warnings(GOOD) == (*before, said)
    assert warnings({**GOOD, "ECWID_CACHE_TTL_S": ""}) == before
    assert warnings({**GOOD, "ECWID_CACHE_TTL_S": 7}) == before


@pytest.mark.parametrize("prefix", ["", "OUTLET_"])
def test_a_fault_says_where_the_key_was_found(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    """A fault says whether the environment or app.config has the key, and names the mount's key."""
    config = {f"{prefix}{key}": value for key, value in GOOD.items()}
    config |= {f"{prefix}ECWID_UI": "maybe", f"{prefix}ECWID_CACHE_TTL_S": "soon"}
    monkeypatch.setenv(f"{prefix}ECWID_UI", "maybe")
    monkeypatch.setenv(f"{prefix}ECWID_CACHE_TTL_S", "5")
    with pytest.raises(SettingsError) as caught:
        Settings.from_config(config, prefix)
    assert caught.value.faults == [
        f"{prefix}ECWID_UI is not on or off (found in the environment)",
        f"{prefix}ECWID_CACHE_TTL_S is not a number (found in app.config)",
    ]


@pytest.mark.parametrize("prefix", ["", "OUTLET_"])
def test_every_key_of_a_message_has_the_prefix(prefix: str) -> None:
    """A message of a mount with a prefix names the keys with that prefix."""
    real = {"STORE_ID": "1003", "TOKEN": "secret_x"}
    entry = f"a:read:{'0' * 64}"
    for config in (
        {},
        real,
        {**real, "AUTH": "none", "API_KEYS": entry},
        {**real, "AUTH": "none", "CONNECT_TIMEOUT_S": "9", "DEADLINE_S": "5"},
        {**real, "AUTH": "none", "HOSTS": "9", "CALLS_PER_MINUTE": "5"},
        {"SANDBOX": "/nowhere/x.sqlite3"},
        {"STORES": "/srv/stores.json", "API_KEYS": entry},
        {"STORES": "/srv/stores.json", "AUTH": "none"},
        {"SANDBOX": "on", "REDIS_URL": "redis://127.0.0.1?canary=1&db=x"},
    ):
        app = flask.Flask("host")
        app.config.update({f"{prefix}ECWID_{name}": value for name, value in config.items()})
        with pytest.raises(SettingsError) as caught:
            Ecwid(app, config_prefix=prefix)
        keys = re.findall(r"\w*ECWID_\w+", str(caught.value))
        assert keys
        assert all(key.startswith(f"{prefix}ECWID_") for key in keys), config


def test_nothing_is_set() -> None:
    """Without a store and a token, the fault says how to start without a store."""
    for prefix in ("", "OUTLET_"):
        with pytest.raises(SettingsError, match=f"set {prefix}ECWID_SANDBOX=on to try the plugin"):
            Settings.from_config({f"{prefix}ECWID_UI": "on"}, prefix)
    with pytest.raises(SettingsError, match="ECWID_SANDBOX=on"):
        Settings()
    for key in ("ECWID_STORE_ID", "ECWID_TOKEN"):
        with pytest.raises(SettingsError) as caught:
            Settings.from_config({key: GOOD[key]})
        assert "ECWID_SANDBOX" not in str(caught.value)


def test_a_connect_timeout_above_the_deadline() -> None:
    """A connect timeout above the deadline is a fault, unless the timeout is the default."""
    short = {**GOOD, "ECWID_DEADLINE_S": "2"}
    assert Settings.from_config(short).connect_timeout_s == 3
    assert Settings(store_id="1003", token="secret_x", deadline_s=2).connect_timeout_s == 3
    for config in (
        {**short, "ECWID_CONNECT_TIMEOUT_S": "3"},
        {**short, "ECWID_CONNECT_TIMEOUT_S": 2.5},
        {**GOOD, "ECWID_CONNECT_TIMEOUT_S": "20.5"},
    ):
        assert faults(config) == ["ECWID_CONNECT_TIMEOUT_S"]
    with pytest.raises(SettingsError, match="ECWID_CONNECT_TIMEOUT_S is above ECWID_DEADLINE_S"):
        Settings(store_id="1003", token="secret_x", connect_timeout_s=2.5, deadline_s=2)
    equal = Settings.from_config({**short, "ECWID_CONNECT_TIMEOUT_S": "2"})
    assert equal.connect_timeout_s == equal.deadline_s


def test_more_hosts_than_calls() -> None:
    """More hosts than calls a minute are a fault, because each host makes a call."""
    config = {**GOOD, "ECWID_HOSTS": "6", "ECWID_CALLS_PER_MINUTE": "5"}
    assert faults(config) == ["ECWID_HOSTS"]
    assert faults({**config, "ECWID_REDIS_URL": "redis://127.0.0.1"}) == ["ECWID_HOSTS"]
    assert Settings.from_config({**config, "ECWID_CALLS_PER_MINUTE": "6"}).hosts == 6


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"ECWID_CALLS_PER_MINUTE": "601"}, "is above the 600 calls a minute that Ecwid allows"),
        ({"ECWID_CALLS_PER_MINUTE": "600"}, ""),
        ({"ECWID_READ_TIMEOUT_S": "21"}, "is above ECWID_DEADLINE_S, so has no effect"),
        ({"ECWID_DEADLINE_S": "5"}, ""),
        ({"ECWID_READ_TIMEOUT_S": "5", "ECWID_DEADLINE_S": "5"}, ""),
    ],
)
def test_a_setting_that_works_badly(
    caplog: pytest.LogCaptureFixture, config: dict[str, str], said: str
) -> None:
    """A setting that has no effect, or that Ecwid may refuse, is a warning at the start."""
    app = flask.Flask("host")
    app.config.update({**GOOD, **config})
    Ecwid(app)
    others = [each.getMessage() for each in caplog.records if "ECWID_AUTH" not in each.getMessage()]
    assert len(others) == bool(said)
    assert all(f"{next(iter(config))} {said}" in each for each in others)
    logged = [each.getMessage().removesuffix(".") for each in caplog.records]
    assert app.extensions["ecwid"]["ecwid"].warnings == tuple(logged)


def test_what_a_sandbox_does_not_use() -> None:
    """The settings of a store are a warning beside the sandbox, and only those that are set."""
    sandbox = {"ECWID_SANDBOX": "on"}
    assert warnings(sandbox) == ()
    said = "ECWID_SANDBOX is on, so ECWID_PROXY_URL has no effect"
    assert warnings({**sandbox, "ECWID_PROXY_URL": "http://127.0.0.1:1"}) == (said,)
    said = "ECWID_SANDBOX is on, so ECWID_STORE_ID, ECWID_TOKEN and ECWID_API_URL have no effect"
    store = {**GOOD, "ECWID_API_URL": "https://app.ecwid.com/api/v3"}
    assert warnings({**sandbox, **store}) == (said,)


def test_direct_faults() -> None:
    """Settings that are created without a config are validated too."""
    with pytest.raises(SettingsError, match="ECWID_STORE_ID"):
        Settings(token="secret_x")


def test_names_of_stores_and_tokens() -> None:
    """Digests differ if their stores or tokens differ, and no digest shows a value."""
    stores = [
        ("1003", "secret_a"),
        ("1003", "secret_b"),
        ("1004", "secret_a"),
        ("100", "3secret_a"),
    ]
    all_settings = [Settings(store_id=store, token=token) for store, token in stores]
    names = [
        (each.store_digest(each.credentials), each.token_digest(each.credentials))
        for each in all_settings
    ]
    assert len({token_digest for _, token_digest in names}) == len(stores)
    assert len({store_digest for store_digest, _ in names}) == 3
    for settings, (store_digest, token_digest) in zip(all_settings, names, strict=True):
        again = Settings(store_id=settings.store_id, token=str(settings.token))
        assert again.store_digest(again.credentials) == store_digest
        assert again.token_digest(again.credentials) == token_digest
        assert token_digest.startswith(store_digest)
        assert settings.token not in token_digest


def documented(text: str | None, line: str) -> list[tuple[str, str]]:
    """Return the names and the sentences of the lines in a docstring that match."""
    return re.findall(line, inspect.cleandoc(text or ""), re.M)


def test_help_lists_every_setting() -> None:
    """The docstrings of Settings and init_app have one line for each setting, in the same order."""
    declared = [(spec.name, spec.metadata["doc"]) for spec in fields(Settings)]
    assert all(doc for _, doc in declared)
    assert documented(Settings.__doc__, r"^    ([a-z_]+): (.+)$")[-len(declared) :] == declared
    keys = [(f"ECWID_{name.upper()}", doc) for name, doc in declared]
    assert documented(Ecwid.init_app.__doc__, r"^- (\w+): (.+)$") == keys


def test_the_fault_of_a_number_names_the_range() -> None:
    """The fault of a number outside its range names the range of the declaration."""
    numbers = [spec for spec in fields(Settings) if spec.metadata["kind"].name.endswith("number")]
    assert numbers
    for spec in numbers:
        with pytest.raises(SettingsError) as caught:
            Settings(store_id="1003", token="secret_x", **{spec.name: -1})  # type: ignore[arg-type]
        [fault] = caught.value.faults
        allowed = spec.metadata["rule"].allowed.removeprefix("0, or ")
        assert fault.startswith(f"ECWID_{spec.name.upper()} ")
        assert fault.endswith(f" {allowed}")


@pytest.mark.parametrize(
    ("name", "value"),
    [("sandbox", True), ("api_url", None), ("deadline_s", "x"), ("proxy_url", 5)],
)
def test_a_python_value_of_another_type(name: str, value: Any) -> None:
    """A value of another type is a fault of its setting, and not a TypeError."""
    with pytest.raises(SettingsError, match=f"ECWID_{name.upper()} "):
        Settings(**{"store_id": "1003", "token": "secret_x", name: value})


@pytest.mark.parametrize("key", ["ECWID_CLIENT_ID", "ECWID_CLIENT_SECRET"])
@pytest.mark.parametrize(
    ("value", "said"),
    [("your-canary", "is a placeholder"), ("two canaries", "is not visible ASCII characters")],
)
def test_an_app_of_ecwid_that_cannot_be_right(key: str, value: str, said: str) -> None:
    """A placeholder for the app's id or secret stops the start, and the fault says what to do."""
    fault = fault_of(key, value)
    assert fault.startswith(said)
    assert f"the {key.removeprefix('ECWID_').lower()} of your app in Ecwid" in fault
    assert "canar" not in fault


def test_some_settings_need_no_store() -> None:
    """Settings can be read without a store, and only their own faults count."""
    config = {"O_ECWID_CLIENT_ID": "app", "O_ECWID_UI": "maybe", "O_ECWID_DEADLINE_S": "9"}
    some = read_some(HiddenConfig(config, "O_"), ("client_id", "deadline_s", "proxy_url"), "O_")
    assert some == {"client_id": "app", "deadline_s": 9.0, "proxy_url": ""}
    wrong = HiddenConfig({**config, "O_ECWID_DEADLINE_S": "'canary'"}, "O_")
    with pytest.raises(SettingsError) as caught:
        read_some(wrong, ("client_id", "deadline_s"), "O_")
    [fault] = caught.value.faults
    assert fault.startswith("O_ECWID_DEADLINE_S has quotes")
    assert fault.endswith("(found in app.config)")
    assert "canary" not in fault
