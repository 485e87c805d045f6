"""Tests of the plugin beside the extensions, hooks and settings that hosts use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask
import pytest
from flask_cors import CORS
from flask_wtf.csrf import CSRFProtect, generate_csrf
from werkzeug.exceptions import Forbidden, HTTPException
from werkzeug.routing import RequestRedirect
from werkzeug.sansio.utils import get_host

from flask_ecwid import Caller, Ecwid

from ..conftest import PREFIX, Api
from ..helpers.ordered_store import OrderedStore
from ..helpers.webhook_events import WEBHOOKS, delivery_of, event_of
from .test_problems import CANARY, check_problem

DELETE = "/delete_customer/172890169"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def app(ordered: OrderedStore) -> flask.Flask:
    """Return a host app on the sandbox, without the plugin."""
    app = flask.Flask("host")
    app.config.update(ECWID_SANDBOX=str(ordered.path), SECRET_KEY="secret of the test")
    return app


# Flask-WTF


def test_csrf_protect_asks_for_its_token(ordered: OrderedStore, app: flask.Flask) -> None:
    """With Flask-WTF's CSRFProtect, a write without its token is a 400 that gives its reason."""
    CSRFProtect(app)
    Ecwid(app)
    api = Api(app.test_client())
    body = check_problem(api.post(DELETE), 400)
    assert body["detail"] == "The CSRF token is missing."
    assert body["executed"] == "no"
    assert ordered.calls() == 0
    assert api.get("/customers").status_code == 200


def test_csrf_protect_takes_its_token(ordered: OrderedStore, app: flask.Flask) -> None:
    """With Flask-WTF's CSRFProtect, a write with the header X-CSRFToken is executed."""
    CSRFProtect(app)
    Ecwid(app, authorize=lambda scope: Caller("anna"))
    app.add_url_rule("/token", view_func=generate_csrf)
    client = app.test_client()
    token = client.get("/token").text
    headers = {**JSON, "X-CSRFToken": token}
    assert Api(client).post(DELETE, headers=headers).status_code == 200


def test_csrf_protect_exempts_the_mount(ordered: OrderedStore, app: flask.Flask) -> None:
    """An exempted mount needs no token, and still refuses the writes of another site's page."""
    csrf = CSRFProtect(app)
    Ecwid(app, authorize=lambda scope: True)
    csrf.exempt(app.blueprints["ecwid"])
    api = Api(app.test_client())
    foreign = {"Origin": "https://evil.example.com"}
    assert check_problem(api.post(DELETE, headers=foreign), 403)["type"].endswith("cross-site")
    assert api.post(DELETE, headers=JSON).status_code == 200


def test_csrf_protect_and_events(app: flask.Flask) -> None:
    """Ecwid has no CSRF token, so events need an exempted mount."""
    app.config.update(WEBHOOKS)
    csrf = CSRFProtect(app)
    Ecwid(app)
    api = Api(app.test_client())
    delivery = delivery_of(event_of())
    assert check_problem(api.post("/webhooks", **delivery), 400)["detail"].startswith("The CSRF")
    csrf.exempt(app.blueprints["ecwid"])
    assert api.post("/webhooks", **delivery).status_code == 200


# TRUSTED_HOSTS


@pytest.mark.skipif(
    "TRUSTED_HOSTS" not in flask.Flask.default_config, reason="Flask has no TRUSTED_HOSTS yet"
)
def test_trusted_hosts(ordered: OrderedStore, app: flask.Flask) -> None:
    """Flask refuses a host that is not trusted, and no call is sent."""
    app.config["TRUSTED_HOSTS"] = ["shop.example.com"]
    Ecwid(app)
    api = Api(app.test_client())
    for host, status in (("shop.example.com", 200), ("evil.example.com", 400)):
        assert api.get("/customers", headers={"Host": host}).status_code == status
    assert ordered.calls() == 1


# Redirects


def redirected() -> Any:
    return flask.redirect("/login")


def aborted() -> Any:
    flask.abort(flask.redirect("/login"))


def raised() -> Any:
    raise RequestRedirect("/login")


@pytest.mark.parametrize("redirect", [redirected, aborted, raised])
@pytest.mark.parametrize("path", ["/customers", "/ui/", "/nothing"])
def test_a_before_request_that_redirects(
    ordered: OrderedStore, app: flask.Flask, redirect: Callable[[], Any], path: str
) -> None:
    """A redirect by the host's before_request reaches the caller, and no call is sent."""
    app.before_request(redirect)
    Ecwid(app)
    response = Api(app.test_client()).get(path)
    assert (response.status_code // 100, response.headers["Location"]) == (3, "/login")
    assert response.headers["Cache-Control"] == "no-store"
    assert ordered.calls() == 0


# Other origins

EXPOSED = ["X-Request-ID", "RateLimit", "RateLimit-Policy", "Retry-After", "Idempotency-Replayed"]


def test_cors_with_exposed_headers(ordered: OrderedStore, app: flask.Flask) -> None:
    """With flask-cors, a page of an allowed origin may write and read the exposed headers."""
    origins = {"origins": ["https://app.example.com"]}
    CORS(app, resources={rf"{PREFIX}/.*": origins}, expose_headers=EXPOSED)
    Ecwid(app)
    api = Api(app.test_client())
    origin = {"Origin": "https://app.example.com"}
    asking = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type, idempotency-key",
    }
    asked = api.open("OPTIONS", "/add_customer", headers={**origin, **asking})
    assert asked.status_code == 204
    assert asked.headers["Access-Control-Allow-Headers"] == "content-type, idempotency-key"
    headers = {**origin, "Idempotency-Key": "the-first"}
    for _ in range(2):
        response = api.post("/add_customer", {"email": "new@example.com"}, headers=headers)
        assert response.status_code == 200
        exposed = response.headers["Access-Control-Expose-Headers"]
        assert sorted(exposed.split(", ")) == sorted(EXPOSED)
    assert set(EXPOSED) - {"Retry-After"} <= set(response.headers.keys())
    assert api.get("/nothing", headers=origin).headers["Access-Control-Expose-Headers"] == exposed


# Factories


def test_options_in_a_factory(ordered: OrderedStore) -> None:
    """Each option of the constructor holds in every app that a factory makes."""
    asked = []

    def authorize(scope: str) -> bool:
        asked.append((flask.current_app.name, scope))
        return True

    scheme = {"type": "apiKey", "in": "cookie", "name": "session"}
    shop = Ecwid(
        name="shop",
        url_prefix="/shop",
        config_prefix="SHOP_",
        authorize=authorize,
        security_scheme=scheme,
    )

    def create_app(name: str) -> flask.Flask:
        app = flask.Flask(name)
        app.config["SHOP_ECWID_SANDBOX"] = str(ordered.path)
        shop.init_app(app)
        return app

    apps = [create_app("one"), create_app("two")]
    for app in apps:
        client = app.test_client()
        assert client.get("/shop/customers").status_code == 200
        served = client.get("/shop/openapi.json").json
        assert served is not None
        assert served["components"]["securitySchemes"] == {"host": scheme}
        assert list(app.extensions["ecwid"]) == ["shop"]
        with app.app_context():
            assert shop.client is app.extensions["ecwid"]["shop"].client
    assert asked == [("one", "read"), ("two", "read")]


# The host's reasons


class Closed(Forbidden):
    """A host's own refusal."""

    description = "The shop is closed."


class Lazy:
    """A text that is translated when it is shown."""

    def __str__(self) -> str:
        return "Später."


GIVEN: list[tuple[HTTPException | tuple[Any, ...], str]] = [
    ((400, "Say please."), "Say please."),
    ((403, "The shop is closed."), "The shop is closed."),
    ((404, "Moved to the new shop."), "Moved to the new shop."),
    ((413, "Too large for today."), "Too large for today."),
    ((418, "Short and stout."), "Short and stout."),
    ((429, "One a minute."), "One a minute."),
    ((500, "The database is away."), "The database is away."),
    ((503, "Back at nine."), "Back at nine."),
    ((400, Lazy()), "Später."),
    (Closed(), "The shop is closed."),
    (Forbidden("Not on Sundays."), "Not on Sundays."),
]


@pytest.mark.parametrize("hook", ["before_request", "after_request"])
@pytest.mark.parametrize(("given", "detail"), GIVEN)
def test_the_hosts_reason(app: flask.Flask, given: Any, detail: str, hook: str) -> None:
    """A reason that the host gave is the detail of the problem."""

    def refuse(*_: object) -> Any:
        if isinstance(given, HTTPException):
            raise given
        flask.abort(*given)

    getattr(app, hook)(refuse)
    Ecwid(app)
    status = given.code if isinstance(given, HTTPException) else given[0]
    assert status is not None
    assert check_problem(Api(app.test_client()).get("/customers"), status)["detail"] == detail


@pytest.mark.parametrize("given", [(), (None,), ("",), (" ",)])
@pytest.mark.parametrize("status", [400, 401, 403, 418, 429, 503])
def test_no_reason_of_the_host(app: flask.Flask, status: int, given: tuple[Any, ...]) -> None:
    """Without a reason of the host, the detail is the plugin's and not werkzeug's."""

    @app.before_request
    def refuse() -> None:
        flask.abort(status, *given)

    Ecwid(app)
    detail = check_problem(Api(app.test_client()).get("/customers"), status)["detail"]
    assert detail == f"The status of the response is {status}."


def missing_field() -> None:
    flask.request.args[CANARY]


def no_json() -> None:
    flask.request.get_json()


def untrusted_host() -> None:
    get_host("http", CANARY, None, ["shop.example.com"])


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("failure", [missing_field, no_json, untrusted_host])
def test_a_reason_of_werkzeug(
    app: flask.Flask, failure: Callable[[], None], *, debug: bool
) -> None:
    """A description that werkzeug or Flask wrote may repeat the request, so it is not sent."""
    app.before_request(failure)
    app.debug = debug
    Ecwid(app)
    response = Api(app.test_client()).post(
        "/add_customer", data=f'{{"\\{CANARY}', content_type="application/json"
    )
    assert check_problem(response, 400)["detail"] == "The status of the response is 400."
    assert CANARY not in response.text
