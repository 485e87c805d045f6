"""The keys of settings in an app's config and in the environment, with and without an effect.

No text of this module has the value of a key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .nearest import misspelt_name, nearest_name

# wsgi.py and gunicorn.conf.py read these keys, which have no prefix.
_OF_WSGI = ("METRICS", "TRUSTED_PROXIES")


def key_of(name: str, prefix: str = "") -> str:
    """Return the key of a setting, for example `ECWID_STORE_ID` for `store_id`."""
    return f"{prefix}ECWID_{name.upper()}"


def is_set(config: Mapping[str, Any], key: str) -> bool:
    """Return whether the config has a value for the key. An empty variable counts as unset."""
    return config.get(key) is not None and config[key] != ""


def origin(config: Mapping[str, Any], key: str) -> str:
    """Return where a key has its value, which is the environment or app.config."""
    value = config.get(key, "")
    is_variable = os.environ.get(key, "") == value or not is_set(config, key)
    return "the environment" if is_variable else "app.config"


def without_effect(config: Mapping[str, Any], prefix: str, names: Sequence[str]) -> list[str]:
    """Return a sentence for each key that somebody probably took for a setting of the plugin.

    Args:
        config: The config of the app.
        prefix: Stands before each key of the mount.
        names: The names of all settings.
    """
    known = {key_of(name, prefix): name for name in names}
    if not prefix:
        known |= {key_of(name): name.lower() for name in _OF_WSGI}
    found = []
    for key in _candidates(config, prefix):
        where = origin(config, key)
        if key in known:
            if key not in config and known[key] in names:
                found.append(f"{key} is set in {where} but not in app.config, so has no effect")
        elif nearest := _nearest_key(key, config, prefix, known):
            found.append(f"{key} is set in {where} but is no setting. The nearest is {nearest}")
    return found


def _candidates(config: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Yield the keys that look like keys of this mount, of the config and of the environment."""
    own = re.compile(rf"{re.escape(prefix)}ECWID_(?!\w*ECWID_)\w+", re.IGNORECASE)
    for key in sorted({key for key in config if isinstance(key, str)} | set(os.environ)):
        if own.fullmatch(key) and (is_set(config, key) or os.environ.get(key)):
            yield key


def _nearest_key(key: str, config: Mapping[str, Any], prefix: str, known: Mapping[str, str]) -> str:
    """Return the known key that somebody probably meant, or an empty text.

    A key that is set needs more likeness. Otherwise a host's own `ECWID_PUBLIC_TOKEN` would stand
    for `ECWID_TOKEN`. So does `ECWID_STORES`, and every other key comes first. Otherwise
    `ECWID_STORE` would stand for it, and so would a host's own `ECWID_STORE_NAME`.
    """
    sent = key[len(key_of("", prefix)) :]
    others = {each: name for each, name in known.items() if name != "stores"}
    unset = [name for each, name in others.items() if not is_set(config, each)]
    name = misspelt_name(sent, others.values()) or nearest_name(sent, unset)
    name = name or misspelt_name(sent, known.values())
    return key_of(name, prefix) if name else ""
