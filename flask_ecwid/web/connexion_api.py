"""contract + handlers -> flask.Blueprint. The only module that imports connexion.

connexion routes, converts and calls. Whether a request or an answer fits is decided by
operation.py, plugged in through connexion's own `validator_map`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import orjson
from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import ClientDisconnected, HTTPException

from .. import signals
from ..contract import Contract
from ..contract.operation import Operation
from ..errors import BodyTooLarge, InvalidRequest, Misfit, Undecodable, UnsupportedMediaType
from ..throttling.rate_limit import WINDOW_S, Budget
from . import audit, context, handlers, openapi, problems, request_signals
from .authentication import Admit
from .cache import Kept
from .envelope import Envelope
from .mount import Store


@contextmanager
def _connexion_as_it_is() -> Iterator[None]:
    """connexion 2.15 uses what jsonschema has deprecated, and will not be changed. A host whose
    warnings are errors could not mount us but for this; nothing else is silenced.
    """
    with warnings.catch_warnings():
        about = r"jsonschema\.|Accessing jsonschema|Passing a schema to Validator"
        warnings.filterwarnings("ignore", about, DeprecationWarning)
        yield


@contextmanager
def _without_aiohttp() -> Iterator[None]:
    """connexion imports aiohttp for a kind of app that nobody makes here, and takes it well when
    there is none: a third of its import, and 10 MB. Not so where the host has imported either.
    """
    if "connexion" in sys.modules or "aiohttp" in sys.modules:
        yield
        return
    sys.modules["aiohttp"] = None  # type: ignore[assignment]  # makes its import an ImportError
    try:
        yield
    finally:
        del sys.modules["aiohttp"]


with _connexion_as_it_is(), _without_aiohttp():
    from connexion import FlaskApi, Resolver

View = Callable[..., Response]


def make_blueprint(
    name: str,
    url_prefix: str,
    contract: Contract,
    store: Store,
    admit: Admit,
    document: dict[str, Any],
    *,
    max_body_bytes: int,
    ui: bool,
) -> Blueprint:
    """The blueprint of one store, with everything that is below its mount. `admit` says who may
    call; `document` is the contract as it is served.

    Raises:
        connexion.exceptions.ResolverError: an operation of the contract has no handler.
    """
    with _connexion_as_it_is():
        api = _Api(name, url_prefix, contract, store, admit, max_body_bytes)
    blueprint: Blueprint = api.blueprint
    context.attach(blueprint)
    audit.attach(blueprint, contract)
    request_signals.attach(blueprint, contract)
    _tell_budget(blueprint, contract, store.guard.budget)
    blueprint.after_request(_keep_private)
    openapi.attach(blueprint, document, ui=ui)
    problems.attach(blueprint, contract)
    return blueprint


class _Api(FlaskApi):
    """connexion's Flask API with our blueprint and our views."""

    def __init__(
        self,
        name: str,
        url_prefix: str,
        contract: Contract,
        store: Store,
        admit: Admit,
        max_body_bytes: int,
    ) -> None:
        self._name = name
        self._contract = contract
        self._store = store
        self._admit = admit
        self._max_body_bytes = max_body_bytes
        super().__init__(
            _outline(contract.document),
            base_path=url_prefix,
            resolver=Resolver(
                lambda operation_id: partial(getattr(handlers, operation_id), store.client)
            ),
            options={"serve_spec": False, "swagger_ui": False},
        )

    def _set_blueprint(self) -> None:
        # Named where it is made: a blueprint renamed at registration breaks url_for inside it.
        self.blueprint = Blueprint(self._name, __name__, url_prefix=self.base_path)

    def _add_operation_internal(self, method: str, path: str, operation: Any) -> None:
        operation_id = operation.operation_id
        checked = self._contract.operations[operation_id]
        handler = self.resolver.resolve(operation).function
        view = _view(checked, handler, self._store, self._admit, self._max_body_bytes)
        # Text converters for every path parameter: Flask's own for integers answers `abc` with the
        # host's 404 before anybody could say what is wrong with it.
        self.blueprint.add_url_rule(
            path.replace("{", "<").replace("}", ">"),
            operation_id,
            view,
            methods=[method],
            provide_automatic_options=False,
        )


def _outline(document: dict[str, Any]) -> dict[str, Any]:
    """What connexion needs of the contract to make the routes. At every start it copies, resolves
    and validates all that it is given, and the contract is valid: the tests hold that.
    """
    nothing: dict[str, Any] = {"responses": {"200": {"description": ""}}}
    paths = {
        path: {
            method: {"operationId": node["operationId"], **nothing} for method, node in item.items()
        }
        for path, item in document["paths"].items()
    }
    return {"openapi": document["openapi"], "info": document["info"], "paths": paths}


def _view(
    operation: Operation,
    handler: Callable[..., Envelope],
    store: Store,
    admit: Admit,
    max_body_bytes: int,
) -> View:
    """What happens to a request of the operation, from Flask's route to the answer."""
    cache = None if operation.writes else store.cache

    def view(**path: str) -> Response:
        notes = context.notes()
        notes.caller = admit(operation)
        body = _body(max_body_bytes) if _has_body(operation) else b""
        arguments = operation.read_parameters(path, _query())
        notes.customer_id = arguments.get("customer_id")
        if operation.body is not None:
            charset = request.mimetype_params.get("charset", "")
            arguments["body"] = operation.read_body(request.mimetype, charset, body)
        if operation.key and (key := request.headers.get(operation.key.name)) is not None:
            return once(operation.read_key(key), arguments)
        if cache is None:
            return _json(_encoded(noted(ask(arguments))))
        kept = cache.get(operation.operation_id, arguments, lambda: keep(arguments))
        return _tagged(_json(kept.body(notes.request_id)), kept)

    def ask(arguments: dict[str, Any]) -> Envelope:
        notes = context.notes()
        notes.handler_has_run = True
        if operation.scope == "delete":
            audit.before(operation)
        with signals.counted(notes.calls):
            return handler(request_id=notes.request_id, **arguments)

    def once(key: str, arguments: dict[str, Any]) -> Response:
        document, replayed = store.idempotency.run(
            context.notes().caller or "",
            key,
            arguments["body"],
            lambda since: ask({**arguments, "since": since}),
        )
        response = _json(_encoded(noted(document)))
        if replayed:
            response.headers["Idempotency-Replayed"] = "true"
        return response

    def noted(document: Envelope) -> Envelope:
        """A creation's line in the audit log names the customer that it made."""
        if operation.operation_id == "add_customer":
            context.notes().customer_id = document["data"]["id"]
        return document

    def keep(arguments: dict[str, Any]) -> Kept:
        data = ask(arguments)["data"]
        return Kept.of(_encoded(data["attributes"]), data["id"])

    return view


def _tell_budget(blueprint: Blueprint, contract: Contract, budget: Budget) -> None:
    """Every answer of an operation says how many calls are left, as of the last one.
    https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
    """

    operations = {f"{blueprint.name}.{operation_id}" for operation_id in contract.operations}

    def tell(response: Response) -> Response:
        if request.endpoint in operations and context.notes().caller:
            left = budget.left()
            response.headers["RateLimit-Policy"] = f'"calls";q={left.limit};w={WINDOW_S}'
            response.headers["RateLimit"] = f'"calls";r={left.remaining};t={left.reset_s}'
        return response

    blueprint.after_request(tell)


def _keep_private(response: Response) -> Response:
    """Answers hold personal data: nobody on the way keeps them, guesses what they are, or learns
    from where a reader of them came.
    """
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _json(body: bytes) -> Response:
    return Response(body, content_type="application/json")


def _tagged(response: Response, kept: Kept) -> Response:
    """The answer, or a 304 if the caller has it already."""
    if request.if_none_match.contains_weak(kept.etag):
        response = Response(status=304)
        del response.headers["Content-Type"]
    response.set_etag(kept.etag, weak=True)  # weak: a page's own id is another in each answer
    response.headers["Age"] = str(kept.age_s)
    # Whatever is kept on the way must ask us each time: we could not empty it.
    response.headers["Cache-Control"] = "private, no-cache"
    return response


def _query() -> list[tuple[str, str]]:
    """The query as it came: connexion would keep the last of repeated parameters, and werkzeug
    put another character for what is no UTF-8.

    Raises:
        InvalidRequest: it is not UTF-8.
    """
    raw = request.query_string
    if not raw:
        return []
    try:
        return parse_qsl(raw.decode("utf-8"), keep_blank_values=True, errors="strict")
    except ValueError:
        pass
    raise InvalidRequest([Misfit("/query", "type")])  # out here: without the text


def _has_body(operation: Operation) -> bool:
    """Whether there may be one: reads seldom have any, and then none is looked for."""
    environ = request.environ
    return bool(
        operation.body or environ.get("CONTENT_LENGTH") or environ.get("HTTP_TRANSFER_ENCODING")
    )


def _body(max_bytes: int) -> bytes:
    """The request's body.

    Raises:
        UnsupportedMediaType: it is encoded: small for us to take may be large to decode.
        BodyTooLarge: it is larger than that, or than the host takes.
        InvalidRequest: it cannot be read.
    """
    if request.headers.get("Content-Encoding"):
        raise UnsupportedMediaType
    host_limit = current_app.config["MAX_CONTENT_LENGTH"]
    limit = max_bytes if host_limit is None else min(max_bytes, host_limit)
    # One more than allowed: werkzeug silently cuts a chunked body at its limit.
    request.max_content_length = limit + 1
    try:
        body = request.get_data(cache=False)
    except Exception as exc:  # each server has errors of its own for a body that is cut or mangled
        if isinstance(exc, HTTPException) and not isinstance(exc, ClientDisconnected):
            raise
        raise InvalidRequest(detail="The body could not be read.") from None
    if len(body) > limit:
        raise BodyTooLarge
    # gunicorn hands on what came of a body that was cut, and that may be JSON all the same.
    if len(body) < (request.content_length or 0):
        raise InvalidRequest(detail="The body could not be read.")
    return body


def _encoded(document: object) -> bytes:
    try:
        return orjson.dumps(document)
    except orjson.JSONEncodeError:  # what it can read it cannot always write: nested too deep
        pass
    raise Undecodable("Ecwid's answer is nested too deep.")
