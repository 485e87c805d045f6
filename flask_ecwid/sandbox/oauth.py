"""Ecwid's side of OAuth, with the page that asks a merchant and the URL that takes codes.

The page asks nobody, and sends the merchant back at once. The query of its URL may say more than at
Ecwid. `store_id` is the merchant's store, and `deny=1` means that the merchant refuses. Without a
`state`, the page behaves as an installation from Ecwid's app market.

The letters in comments, for example D26, name the sources that `sandbox/__init__.py` lists.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Callable, Collection
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import orjson
from flask import Flask, Response, redirect, request

CLIENT_ID = "sandbox-app"
CLIENT_SECRET = "thisIsNoSecretItConnectsTheSandbox0"
VALID_S = 300  # "a few minutes" (R24)

# Returns the token that the app has in a store and its scopes, or None for an unknown store.
Grant = Callable[[str], tuple[str, Collection[str]] | None]


class _Code(NamedTuple):
    store_id: str
    redirect_uri: str
    ends_at: float


class _OAuth:
    """The codes that this process has given out."""

    def __init__(self, store_id: str, grant: Grant) -> None:
        self._store_id = store_id
        self._grant = grant
        self._lock = threading.Lock()
        self._codes: dict[str, _Code] = {}

    def authorize(self) -> Any:
        """Send the merchant back with a code, or with the reason why there is no code."""
        given = request.args
        redirect_uri = given.get("redirect_uri", "")
        parts = urlsplit(redirect_uri)
        if given.get("client_id") != CLIENT_ID or parts.scheme not in ("http", "https"):
            return _json({"error": "invalid_request"}, 400)
        store_id = given.get("store_id", self._store_id)
        members = {"state": given["state"]} if "state" in given else {}
        if given.get("response_type") != "code" or not given.get("scope"):
            members["error"] = "invalid_request"
        elif given.get("deny") or self._grant(store_id) is None:
            members["error"] = "access_denied"  # S20
        else:
            code = secrets.token_urlsafe(16)
            with self._lock:
                self._codes[code] = _Code(store_id, redirect_uri, time.time() + VALID_S)
            members |= {"code": code, "store_id": store_id}  # D25, 2025-09-19
        return redirect(f"{redirect_uri}{'&' if parts.query else '?'}{urlencode(members)}")

    def token(self, store_id: str) -> Response:
        """Exchange a code for the token of a store.

        The documents show no error of this URL, so the errors are those of RFC 6749 (I).
        """
        form = request.form
        secret = form.get("client_secret", "").encode()
        is_app = hmac.compare_digest(secret, CLIENT_SECRET.encode())
        if form.get("client_id") != CLIENT_ID or not is_app:
            return _json({"error": "invalid_client"}, 401)
        if form.get("grant_type") != "authorization_code":
            return _json({"error": "unsupported_grant_type"}, 400)
        with self._lock:
            code = self._codes.pop(form.get("code", ""), None)
        granted = self._grant(store_id)
        wanted = (store_id, form.get("redirect_uri", ""))
        if code is None or granted is None or code[:2] != wanted or code.ends_at < time.time():
            return _json({"error": "invalid_grant"}, 400)
        token, scopes = granted
        return _json(
            {
                "access_token": token,
                "token_type": "bearer",
                "scope": " ".join(sorted({"read_store_profile", *scopes})),  # always granted (S20)
                "store_id": int(store_id),
            }
        )


def add_routes(app: Flask, store_id: str, grant: Grant) -> None:
    """Add both URLs to a sandbox.

    Args:
        app: The sandbox.
        store_id: The store of a merchant, if the URL of the page names no other store.
        grant: Returns the token that the app has in a store and its scopes, or None for an unknown
            store.
    """
    oauth = _OAuth(store_id, grant)
    app.add_url_rule("/api/oauth/authorize", "authorize", oauth.authorize, methods=["GET"])
    app.add_url_rule("/api/oauth/token/<store_id>", "token", oauth.token, methods=["POST"])


def _json(document: dict[str, Any], status: int = 200) -> Response:
    response = Response(orjson.dumps(document), status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
