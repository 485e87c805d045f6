"""Ecwid's OAuth, with which a merchant connects a store to your app.

    from flask_ecwid import oauth
    redirect(oauth.authorize_url(redirect_uri, state))
    credentials = oauth.exchange_code(store_id, code, redirect_uri)

Both functions read the settings from the config of the current app. A script without an app passes
`config=os.environ`. The page docs/oauth.md has the view of a host, with the checks that only the
host can make.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson
from flask import current_app

from . import clock
from .client.connection import Attempt
from .client.replies import Reply
from .client.transport import post_form
from .errors import (
    BadReply,
    CodeRefused,
    EcwidError,
    EcwidFailed,
    InvalidRequest,
    NoReply,
    NotJson,
    NotSent,
    Redirected,
    ServiceRefused,
    Violation,
)
from .settings import (
    HiddenConfig,
    Secret,
    SettingsError,
    StoreCredentials,
    hide_secrets,
    read_some,
    rules,
)
from .settings.keys import key_of

CUSTOMER_SCOPES = ("read_customers", "create_customers", "update_customers")

_OF_THE_APP = ("client_id", "client_secret")
_OF_A_CALL = ("connect_timeout_s", "read_timeout_s", "deadline_s", "proxy_url", "ca_bundle")
_CODE = re.compile(r"[!-~]{1,1024}")
_AGAIN = "Connect the store again, because a code is valid only once."


def authorize_url(
    redirect_uri: str,
    state: str,
    scopes: str | Iterable[str] = CUSTOMER_SCOPES,
    *,
    config: Mapping[str, Any] | None = None,
    config_prefix: str = "",
) -> str:
    """Return the URL of Ecwid's page, on which a merchant lets your app use their store.

    Args:
        redirect_uri: The URL of your view, to which Ecwid sends the merchant with a code. The view
            has to be at the URL that Ecwid has registered for your app.
        state: A random text that your view finds in the merchant's session, and accepts once.
        scopes: The Ecwid scopes to ask for.
        config: The mapping with the settings. By default the config of the current app.
        config_prefix: Stands before each key.

    Raises:
        SettingsError: `ECWID_CLIENT_ID` is missing, or a setting is wrong.
        ValueError: `redirect_uri` is no absolute URL, or an argument is empty.
    """
    names = scopes.split() if isinstance(scopes, str) else list(scopes)
    if not state or not names:
        raise ValueError("state and scopes must not be empty")
    config = _hidden(config, config_prefix)
    settings = _settings(config, config_prefix, ("client_id",), ("oauth_url",))
    query = {
        "client_id": settings["client_id"],
        "redirect_uri": _absolute(redirect_uri),
        "response_type": "code",
        "scope": " ".join(names),
        "state": state,
    }
    return f"{settings['oauth_url']}/authorize?{urlencode(query)}"


def exchange_code(
    store_id: str,
    code: str,
    redirect_uri: str,
    *,
    config: Mapping[str, Any] | None = None,
    config_prefix: str = "",
) -> StoreCredentials:
    """Exchange the code of a merchant for the token of their store, with the granted Ecwid scopes.

    The code is sent once. Ecwid disables the token of a code that is exchanged twice.

    Args:
        store_id: The number of the store, as Ecwid has sent it to your view.
        code: The code that Ecwid has sent to your view.
        redirect_uri: The URL of your view, as in `authorize_url`.
        config: The mapping with the settings. By default the config of the current app.
        config_prefix: Stands before each key.

    Raises:
        SettingsError: `ECWID_CLIENT_ID` or `ECWID_CLIENT_SECRET` is missing, or a setting is wrong.
        ValueError: `redirect_uri` is no absolute URL.
        InvalidRequest: The store id or the code cannot be right.
        CodeRefused: Ecwid does not accept the code for this store.
        ServiceRefused: Ecwid does not accept the app.
        EcwidError: The exchange failed in another way, and `detail` says what to do.
    """
    store_id, code = str(store_id), Secret(code if isinstance(code, str) else "")
    config = _hidden(config, config_prefix)
    settings = _settings(config, config_prefix, _OF_THE_APP, ("oauth_url", *_OF_A_CALL))
    if not rules.is_store_id(store_id):
        raise _invalid("store_id", f"The store id {rules.STORE_ID_FAULT}.")
    if not _CODE.fullmatch(code):
        raise _invalid("code", "The code is not visible ASCII characters.")
    form = {
        "client_id": settings["client_id"],
        "client_secret": settings["client_secret"],
        "code": code,
        "redirect_uri": _absolute(redirect_uri),
        "grant_type": "authorization_code",
    }
    attempt = Attempt(
        clock.now() + settings["deadline_s"],
        settings["connect_timeout_s"],
        settings["read_timeout_s"],
    )
    try:
        reply = post_form(
            f"{settings['oauth_url']}/token/{store_id}",
            form,
            attempt,
            proxy_url=settings["proxy_url"],
            ca_bundle=settings["ca_bundle"],
        )
    except NotSent as exc:
        raise type(exc)(f"{exc.detail} Ecwid has not seen the code, so try again.") from None
    except NoReply as exc:
        raise type(exc)(f"{exc.detail} {_AGAIN}") from None
    return _credentials(store_id, reply)


def _hidden(config: Mapping[str, Any] | None, prefix: str) -> HiddenConfig:
    """Return the config, or that of the current app, with a repr that shows nothing.

    The caller gives it the name of its own argument, which a traceback would otherwise show.
    """
    if config is None:
        config = current_app.config
        hide_secrets(current_app.config, prefix)  # as `Ecwid` does, which the app may not have
    return HiddenConfig(config, prefix)


def _settings(
    config: HiddenConfig, prefix: str, needed: tuple[str, ...], more: tuple[str, ...]
) -> dict[str, Any]:
    settings = read_some(config, needed + more, prefix)
    missing = [name for name in needed if not settings[name]]
    if missing:
        raise SettingsError(
            [
                f"{key_of(name, prefix)} is missing, so set the {name} of your app in Ecwid"
                for name in missing
            ]
        )
    return settings


def _absolute(redirect_uri: str) -> str:
    parts = urlsplit(redirect_uri)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError("redirect_uri must be an absolute URL, as of url_for(..., _external=True)")
    return redirect_uri


def _invalid(name: str, detail: str) -> InvalidRequest:
    return InvalidRequest([Violation(f"/query/{name}", "pattern")], detail)


def _credentials(store_id: str, reply: Reply) -> StoreCredentials:
    """Return the credentials in a good reply.

    The frames of the errors hold no token, because a traceback with variables would show it.
    """
    members = _members(reply.body)
    if not 200 <= reply.status < 300:
        raise _refusal(reply.status, members.get("error") if members else None)
    if members is None:
        raise NotJson(f"{NotJson.detail} {_AGAIN}")
    named, scope, token = (members.get(name) for name in ("store_id", "scope", "access_token"))
    if isinstance(named, bool) or str(named) != store_id:
        detail = "Ecwid's reply does not name this store, so its token is not used."
        raise BadReply(f"{detail} {_AGAIN}")
    if isinstance(token, Secret):
        granted = scope.split() if isinstance(scope, str) else ()
        with suppress(ValueError):  # The frames of this error hold the token.
            return StoreCredentials(store_id, token, frozenset(granted))
    raise BadReply(f"Ecwid's reply has no usable token. {_AGAIN}")


def _members(body: bytes) -> dict[str, str | int] | None:
    """Return the texts and numbers of a JSON object, or None. Each text is a `Secret`."""
    try:
        value = orjson.loads(body)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    return {
        name: Secret(each) if isinstance(each, str) else each
        for name, each in value.items()
        if isinstance(each, (str, int))
    }


def _refusal(status: int, error: object) -> EcwidError:
    """Return the error of a reply that is not good.

    Args:
        status: The HTTP status.
        error: The member `error` of the reply, as RFC 6749 names it.
    """
    if 300 <= status < 400:
        return Redirected(f"{Redirected.detail} Check ECWID_OAUTH_URL.")
    if status in (408, 429) or not 400 <= status < 500:
        return EcwidFailed(f"Ecwid replied with the status {status}. {_AGAIN}")
    if status == 401 or error in ("invalid_client", "unauthorized_client"):
        return ServiceRefused(
            "Ecwid does not accept the app. Check ECWID_CLIENT_ID and ECWID_CLIENT_SECRET."
        )
    return CodeRefused()
