"""The chain of connexion, with the checks of the plugin. No other module imports connexion.

security                 authentication.py             401 403
uri_parser_class         path, query, body limits      400 413 415
validator_map body       strict JSON and the schema    400 415
resolver                 handlers.py
validator_map response   the schema of the envelope    502
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Blueprint, Request, Response

from ..contract import Contract
from ..contract.operation import Operation
from ..errors import IdempotencyKeyRequired
from ..signals import call_count
from ..storage.work import piece_of_work
from . import envelope, handlers, incoming, responses
from .cache import CachedResponse
from .context import CONTEXT, RequestContext, flask_request, request_var
from .mount import Mount


@contextmanager
def _deprecations_of_connexion() -> Iterator[None]:
    """Silence the warnings about the parts of jsonschema and asyncio that connexion 2.15 uses.

    Without this, a host whose warnings are errors could not mount the plugin. Other warnings still
    appear.
    """
    with warnings.catch_warnings():
        about = r"jsonschema\.|Accessing jsonschema|Passing a schema to Validator"
        about += r"|'asyncio\.iscoroutinefunction'"  # deprecated in Python 3.14
        warnings.filterwarnings("ignore", about, DeprecationWarning)
        yield


with _deprecations_of_connexion():
    from connexion import FlaskApi, Resolver
    from connexion.security import FlaskSecurityHandlerFactory

Function = Callable[["_Request"], Any]  # the rest of the chain, which connexion wraps in our checks


def make_blueprint(mount: Mount) -> Blueprint:
    """Return a blueprint with a route for each operation of the contract.

    Raises:
        connexion.exceptions.ResolverError: An operation of the contract has no handler.
    """
    with _deprecations_of_connexion():
        blueprint: Blueprint = _Api(mount).blueprint
    return blueprint


class _Api(FlaskApi):
    """connexion's Flask API for one mount."""

    def __init__(self, mount: Mount) -> None:
        self._name = mount.name
        super().__init__(
            outline(mount.contract),
            base_path=mount.url_prefix,
            resolver=Resolver(lambda operation_id: getattr(handlers, operation_id)),
            validate_responses=True,
            validator_map={"parameter": _NoValidator, "body": _Body, "response": _Response},
            options={
                "serve_spec": False,
                "swagger_ui": False,
                "uri_parser_class": _Parameters,
            },
        )

    @staticmethod
    def make_security_handler_factory(_: object) -> _Security:
        return _Security(None)

    @staticmethod
    def get_request(**path: Any) -> _Request:
        http = flask_request()
        context: RequestContext = http.environ[CONTEXT]
        assert context.operation is not None, "a route of connexion has an operation"
        # The values of converters in the prefix belong to the host, which finds them in
        # `request.view_args`.
        parameters = context.operation.parameters
        own = {name: value for name, value in path.items() if ("path", name) in parameters}
        return _Request(http, context, context.operation, own)

    @staticmethod
    def get_response(response: Response, *_: object, **__: object) -> Response:
        """Return the response as it is. connexion would log its URL, with the query, at DEBUG."""
        return response

    def _set_blueprint(self) -> None:
        # The name is set here, because url_for fails in a blueprint that gets another name later.
        self.blueprint = Blueprint(self._name, __name__, url_prefix=self.base_path)

    def _add_operation_internal(self, method: str, path: str, operation: Any) -> None:
        # Every path parameter is a text for Flask. With Flask's converter for integers, a path such
        # as /customer/abc would get the host's 404 instead of a 400 that names the place.
        self.blueprint.add_url_rule(
            path.replace("{", "<").replace("}", ">"),
            operation.operation_id,
            operation.function,
            methods=[method],
            provide_automatic_options=False,
        )


def outline(contract: Contract) -> dict[str, Any]:
    """Return the parts of the contract that connexion needs for routing and for arguments.

    At every start connexion copies, resolves and validates its whole document, which takes 0.2 s
    for the contract. The outline declares no security, so every operation passes `_Security`.
    """
    document = contract.document
    paths = {
        path: {method: _outlined(contract, node) for method, node in item.items()}
        for path, item in document["paths"].items()
    }
    return {"openapi": document["openapi"], "info": document["info"], "paths": paths}


def _outlined(contract: Contract, node: dict[str, Any]) -> dict[str, Any]:
    operation = contract.operations[node["operationId"]]
    outlined: dict[str, Any] = {
        "operationId": operation.operation_id,
        "parameters": [
            {
                "name": parameter.name,
                "in": parameter.location,
                "required": parameter.required,
                "schema": {"type": parameter.type},
            }
            for parameter in operation.parameters.values()
        ],
        "responses": {"200": {"description": "", "content": _JSON}},
    }
    if operation.body is not None:
        outlined["requestBody"] = {"content": _JSON}
    return outlined


_JSON = {"application/json": {"schema": {"type": "object"}}}


class _Request(incoming.Received):
    """The request that connexion passes along its chain. Nothing is read before `_Security`."""

    json: Any = None
    # connexion only reads these two. A member of `context` would be passed to the handler.
    files: dict[str, Any] = {}  # noqa: RUF012
    context: dict[str, Any] = {}  # noqa: RUF012

    def __init__(
        self,
        http: Request,
        context: RequestContext,
        operation: Operation,
        path: dict[str, str],
    ) -> None:
        super().__init__(http)
        self.request_context = context
        self.operation = operation
        self.path_params: dict[str, Any] = path
        self.query: dict[str, Any] = {}
        self.body = b""


class _Security(FlaskSecurityHandlerFactory):
    """The check of the caller and the choice of the store, before any other check."""

    def security_passthrough(self, function: Function) -> Function:
        def wrapper(received: _Request) -> Any:
            context = received.request_context
            caller = context.mount.authenticator.authenticate(received.operation)
            context.caller = caller.name
            credentials = context.mount.choice.of(caller)
            context.store_id = credentials.store_id
            context.store = context.mount.runtime(credentials)
            return function(received)

        return wrapper


class _Parameters:
    """The strict checks of the path and the query, and the limits of the body."""

    def __init__(self, *_: object) -> None:
        """Ignore connexion's description of the parameters, because the contract is compiled."""

    def __call__(self, function: Function) -> Function:
        def wrapper(received: _Request) -> Any:
            operation, context = received.operation, received.request_context
            limit = context.mount.settings.max_body_bytes
            received.body, query = incoming.read(received, limit)
            values = operation.parse_parameters(received.path_params, query)
            received.path_params = {name: values.pop(name) for name in received.path_params}
            received.query = values
            context.customer_id = received.path_params.get("customer_id")
            return function(received)

        return wrapper


class _NoValidator:
    """No further check of parameters, because `_Parameters` has checked them."""

    def __init__(self, *_: object, **__: object) -> None:
        """Ignore connexion's description of the parameters."""

    def __call__(self, function: Function) -> Function:
        return function


class _Body:
    """The check that the body is strict JSON and follows the schema."""

    def __init__(self, *_: object, **__: object) -> None:
        """Ignore connexion's description of the body, because the contract is compiled."""

    def __call__(self, function: Function) -> Function:
        def wrapper(received: _Request) -> Any:
            charset = received.http.mimetype_params.get("charset", "")
            media_type = received.http.mimetype
            received.json = received.operation.parse_body(media_type, charset, received.body)
            return function(received)

        return wrapper


def _call_in_context(handler: Function, received: _Request) -> Any:
    """Call the handler while its request is the current one.

    An outer request, if there is one, is the current request again afterwards.
    """
    context = received.request_context
    tokens = request_var.set(context), call_count.set(context.calls)
    try:
        with piece_of_work():
            return handler(received)
    finally:
        request_var.reset(tokens[0])
        call_count.reset(tokens[1])


class _Response:
    """The call of the handler, and the check of the envelope that the handler returns."""

    def __init__(self, *_: object, **__: object) -> None:
        """Ignore connexion's description of the response, because the contract is compiled."""

    def __call__(self, function: Function) -> Function:
        def wrapper(received: _Request) -> Response:
            context = received.request_context
            operation = received.operation
            if operation.idempotency_key is not None:
                context.idempotency_key = operation.parse_idempotency_key(received.http.headers)
                required = context.mount.settings.require_idempotency_key
                if required and context.idempotency_key is None:
                    raise IdempotencyKeyRequired
            context.handler_has_run = True
            result = _call_in_context(function, received)
            if isinstance(result, CachedResponse):  # checked before the cache stored the response
                return responses.cached(result, context.request_id)
            document, headers = result if isinstance(result, tuple) else (result, {})
            operation.envelope.validate(document)
            return Response(
                envelope.encode(document), headers=headers, content_type="application/json"
            )

        return wrapper
