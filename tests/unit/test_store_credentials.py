"""The credentials of a store are checked when they are made, and show no token."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from flask_ecwid import StoreCredentials

TOKEN = "secret_" + "7" * 12 + "a" * 8


def test_a_store_id_may_be_a_number() -> None:
    """A database gives the id as a number, and a form gives the id as a text."""
    assert StoreCredentials(1003, TOKEN) == StoreCredentials(" 1003 ", TOKEN)  # type: ignore[arg-type]
    assert StoreCredentials("1003", TOKEN).store_id == "1003"


@pytest.mark.parametrize("store_id", ["", "12a", "1/2", "-1", "9" * 21, "\u0661", None, True, 1.5])
def test_a_store_id_has_digits_only(store_id: object) -> None:
    """An id that is no number is refused, because the id becomes a part of the URL."""
    with pytest.raises(ValueError, match="store id"):
        StoreCredentials(store_id, TOKEN)  # type: ignore[arg-type]


@pytest.mark.parametrize("store_id", ["01003", "0", 0])
def test_a_store_has_one_id(store_id: object) -> None:
    """A zero in front is refused. Otherwise two accounts could connect one store."""
    with pytest.raises(ValueError, match=r"the store id .* without a zero in front"):
        StoreCredentials(store_id, TOKEN)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("store_id", "token", "fault"),
    [
        (b"1003", TOKEN, "the store id is neither a text nor an integer"),
        (1003.0, TOKEN, "the store id is neither a text nor an integer"),
        (None, TOKEN, "the store id is missing"),
        ("1003", TOKEN.encode(), "the token is not a text"),
        ("1003", None, "the token is missing"),
    ],
)
def test_a_value_of_another_type(store_id: Any, token: Any, fault: str) -> None:
    """A value of another type is not called missing. Decrypted tokens may be bytes."""
    with pytest.raises(ValueError, match=fault):
        StoreCredentials(store_id, token)


@pytest.mark.parametrize("token", ["", "public_abc", "Bearer x", "secret_a b", "secret_ü", None])
def test_a_token_is_checked(token: object) -> None:
    """A text that cannot be a secret token is refused, and the error leaves out the text."""
    with pytest.raises(ValueError, match="the token") as caught:
        StoreCredentials("1003", token)  # type: ignore[arg-type]
    assert not token or str(token) not in str(caught.value)


def test_nothing_shows_the_token() -> None:
    """The repr hides the token, and pickle refuses the credentials."""
    credentials = StoreCredentials("1003", TOKEN)
    assert repr(credentials) == "StoreCredentials(store_id='1003', scopes=frozenset())"
    with pytest.raises(TypeError):
        pickle.dumps(credentials)


def test_scopes_may_be_a_text() -> None:
    """A database may keep the scopes as a text with blanks, as Ecwid sends them."""
    scopes: Any = "read_customers  create_customers"
    assert StoreCredentials("1003", TOKEN, scopes).scopes == {"read_customers", "create_customers"}


def test_scopes_are_no_part_of_the_identity() -> None:
    """Credentials with other scopes are equal, because store and token decide what is open."""
    assert StoreCredentials("1003", TOKEN, frozenset({"read_customers"})) == StoreCredentials(
        "1003", TOKEN
    )
