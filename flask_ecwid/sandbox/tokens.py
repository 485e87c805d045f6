"""The tokens of a store, each with its Ecwid scopes. The module is pure.

A store keeps only digests, because the token of a real store may come here by mistake.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping

STORE_ID = "1003"  # the store in the examples of Ecwid's documents
TOKEN = "secret_thisIsNoSecretItOpensTheSandbox0"
ALL_SCOPES = frozenset(
    {"read_customers", "create_customers", "update_customers", "read_store_profile"}
)


def token_of(store_id: str, number: int = 0) -> str:
    """Return the token number `number` that the sandbox gives to a store.

    Every run gives the same tokens, so they are no secrets.
    """
    if store_id == STORE_ID and not number:
        return TOKEN
    return f"secret_{digest(f'sandbox {store_id} {number}')[:32]}"


def digest(token: str) -> str:
    """Return the name of a token in the file of a store."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def check_scopes(tokens: Mapping[str, Collection[str]]) -> None:
    """Check the scopes of tokens.

    Raises:
        ValueError: Ecwid has no such scope. The message names the choices and the value.
    """
    for scope in (scope for scopes in tokens.values() for scope in scopes):
        if scope not in ALL_SCOPES:
            known = ", ".join(sorted(ALL_SCOPES))
            raise ValueError(f"The scopes of a token must be some of {known}; got {scope!r}")
