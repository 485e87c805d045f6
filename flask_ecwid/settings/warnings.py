"""The warnings about settings that work, but probably not as somebody meant them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from .keys import is_set, key_of, origin, without_effect
from .settings import Settings

CALLS_OF_ECWID = 600  # a minute, for each token
_OF_A_STORE = ("store_id", "token", "api_url", "proxy_url", "ca_bundle")


def setting_warnings(
    settings: Settings, config: Mapping[str, Any], prefix: str = ""
) -> tuple[str, ...]:
    """Return a text for each warning, with the keys and without their values.

    Args:
        settings: The settings as they were read.
        config: The config with the settings.
        prefix: Stands before each key.
    """
    found = []
    keys = {spec.name: key_of(spec.name, prefix) for spec in fields(Settings)}
    given = {name: key for name, key in keys.items() if is_set(config, key)}
    where = {name: f" (found in {origin(config, key)})" for name, key in given.items()}
    if settings.auth == "none" and not settings.sandbox:
        text = f"{keys['auth']} is none, so any caller of this service may change the store"
        found.append(text + where["auth"])
    unused = [key for name, key in given.items() if name in _OF_A_STORE]
    if settings.sandbox and unused:
        have = "has" if len(unused) == 1 else "have"
        found.append(f"{keys['sandbox']} is on, so {_listed(unused)} {have} no effect")
    if settings.calls_per_minute > CALLS_OF_ECWID:
        text = f"{keys['calls_per_minute']} is above the {CALLS_OF_ECWID} calls a minute that Ecwid"
        found.append(f"{text} allows a token{where['calls_per_minute']}")
    if "read_timeout_s" in given and settings.read_timeout_s > settings.deadline_s:
        text = f"{keys['read_timeout_s']} is above {keys['deadline_s']}, so has no effect"
        found.append(text + where["read_timeout_s"])
    return (*found, *without_effect(config, prefix, list(keys)))


def _listed(keys: list[str]) -> str:
    *others, last = keys
    return f"{', '.join(others)} and {last}" if others else last
