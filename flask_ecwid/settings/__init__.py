"""The settings of a store, with the checks and the warnings about them."""

from __future__ import annotations

from .rules import SANDBOX_ON, switch
from .settings import (
    HiddenConfig,
    Secret,
    SecretBytes,
    Settings,
    SettingsError,
    StoreCredentials,
    hide_secrets,
    read_some,
)
from .warnings import setting_warnings

__all__ = [
    "SANDBOX_ON",
    "HiddenConfig",
    "Secret",
    "SecretBytes",
    "Settings",
    "SettingsError",
    "StoreCredentials",
    "hide_secrets",
    "read_some",
    "setting_warnings",
    "switch",
]
