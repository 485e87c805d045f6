"""The content of a stores file, which lists stores with their tokens and API keys. Pure.

    {"stores": [{"id": "1003", "token": "secret_...", "api_keys": ["NAME:SCOPES:SHA256HEX"]}]}

Other members have no effect, and the commands that change a file keep them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, NoReturn

from . import rules
from .api_keys import ApiKey
from .settings import StoreCredentials

EMPTY = b'{"stores": []}'


class StoresFault(ValueError):
    """The content of a file is wrong. The text names the place and the reason, without a value."""


@dataclass(frozen=True)
class Stores:
    """The stores of a file, in its order, and the API keys of their callers by digest."""

    by_id: dict[str, StoreCredentials]
    by_digest: dict[str, tuple[StoreCredentials, ApiKey]] = field(repr=False)


def parse(data: bytes) -> Stores:
    """Return the stores of a file.

    Raises:
        StoresFault: The content breaks a rule.
    """
    stores = Stores({}, {})
    for number, entry in enumerate(entries_of(load(data))):
        place = f"/stores/{number}"
        credentials, api_keys = _store(entry, place)
        if credentials.store_id in stores.by_id:
            raise StoresFault(f"{place}/id stands in an earlier entry, too")
        stores.by_id[credentials.store_id] = credentials
        for api_key in api_keys:
            if api_key.digest in stores.by_digest:
                raise StoresFault(f"{place}/api_keys has an API key of an earlier entry")
            stores.by_digest[api_key.digest] = credentials, api_key
    return stores


def load(data: bytes) -> Any:
    """Return the document of a file, in which each object has each member once.

    Raises:
        StoresFault: The content is not JSON in UTF-8, or names a member twice.
    """
    try:
        return _decoder.decode(data.decode("utf-8"))
    except StoresFault as exc:
        fault = str(exc)
    except UnicodeDecodeError:
        fault = "the file is not in UTF-8"
    except json.JSONDecodeError as exc:
        fault = f"the file is not valid JSON at line {exc.lineno}, column {exc.colno}"
    except (ValueError, RecursionError):
        fault = "the file has a number that is too long, or is nested too deeply"
    # The error is raised outside of the except clauses. Otherwise its context would be the
    # decoder's error, which holds the tokens.
    raise StoresFault(fault)


def dump(document: Any) -> bytes:
    """Return the bytes of a document, as a person can read them."""
    text = json.dumps(document, ensure_ascii=False, indent=2)
    # Half a surrogate pair becomes the escape that stood in the file.
    return f"{text}\n".encode("utf-8", "backslashreplace")


def entries_of(document: Any) -> list[Any]:
    """Return the entries of the stores in a document.

    Raises:
        StoresFault: The document has no such list.
    """
    entries = document.get("stores") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise StoresFault("the file is not an object with a list `stores`")
    return entries


def _store(entry: Any, place: str) -> tuple[StoreCredentials, tuple[ApiKey, ...]]:
    if not isinstance(entry, dict):
        raise StoresFault(f"{place} is not an object")
    try:
        credentials = StoreCredentials(entry.get("id", ""), entry.get("token", ""))
    except ValueError as exc:
        raise StoresFault(f"{place}: {exc}") from None
    api_keys: tuple[ApiKey, ...] = ()
    try:
        api_keys = rules.API_KEYS.read(entry.get("api_keys", []))
        fault = rules.api_keys_fault(api_keys)
    except (TypeError, ValueError):
        fault = rules.API_KEYS.fault
    if fault:
        raise StoresFault(f"{place}/api_keys {fault}")
    return credentials, api_keys


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise StoresFault("the file names a member of an object twice")
    return found


def _constant(_: str) -> NoReturn:
    raise StoresFault("the file has NaN or Infinity, which are not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
