"""connexion's own chain, with our checks in its seams. The only module that imports connexion.

security           -> authentication.py            401 403
uri_parser_class   -> path, query, body limits     400 413 415
validator_map body -> strict JSON and the schema   400 415
resolver           -> handlers.py
validator_map response -> the envelope's schema    502
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Blueprint, Response, request

from ..contract import Contract
from . import envelope, handlers, incoming, responses
from .cache import CachedResponse
from .context import RequestContext, current_request
from .mount import Mount


@contextmanager
def _deprecations_of_connexion() -> Iterator[None]:
    """Silence what connexion 2.15 cannot help: it uses parts that jsonschema has deprecated.

    A host whose warnings are errors could not mount the plugin otherwise. No other warning is
    silenced.
    """
    with warnings.catch_warnings():
        about = r"jsonschema\.|Accessing jsonschema|Passing a schema to Validator"
        warnings.filterwarnings("ignore", about, DeprecationWarning)
        yield


with _deprecations_of_connexion():
    from connexion import FlaskApi, Resolver
    from connexion.security import FlaskSecurityHandlerFactory

Seam = Callable[["_Request"], Any]


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
    def get_request(**path: str) -> _Request:
        return _Request(current_request(), path)

    @staticmethod
    def get_response(response: Response, *_: object, **__: object) -> Response:
        """Return the response as it is. connexion would log its URL, with the query, at DEBUG."""
        return response

    def _set_blueprint(self) -> None:
        # Named where it is made, because url_for fails inside of a blueprint that is renamed later.
        self.blueprint = Blueprint(self._name, __name__, url_prefix=self.base_path)

    def _add_operation_internal(self, method: str, path: str, operation: Any) -> None:
        # Text converters for every path parameter, because Flask's own for integers answers `abc`
        # with the host's 404 before a check could say where the fault is.
        self.blueprint.add_url_rule(
            path.replace("{", "<").replace("}", ">"),
            operation.operation_id,
            operation.function,
            methods=[method],
            provide_automatic_options=False,
        )


def outline(contract: Contract) -> dict[str, Any]:
    """Return as much of the contract as connexion needs to route and to pass arguments.

    At every start connexion copies, resolves and validates the whole document that it is given,
    which takes 0.2 s for the contract. The outline declares no security, so that every operation
    comes by `_Security`.
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


class _Request:
    """The request as connexion hands it from seam to seam. Nothing is read before `_Security`."""

    json: Any = None
    files: dict[str, Any] = {}  # noqa: RUF012  # there are none, and connexion only reads it
    context: dict[str, Any] = {}  # noqa: RUF012  # else its members would go to the handler

    def __init__(self, context: RequestContext, path: dict[str, str]) -> None:
        self.request_context = context
        assert context.operation is not None, "a route of connexion has an operation"
        self.operation = context.operation
        self.path_params: dict[str, Any] = path
        self.query: dict[str, Any] = {}
        self.body = b""


class _Security(FlaskSecurityHandlerFactory):
    """Authenticates the caller before anything else of the request is looked at."""

    def security_passthrough(self, function: Seam) -> Seam:
        def wrapper(given: _Request) -> Any:
            context = given.request_context
            context.caller = context.mount.authenticator.authenticate(given.operation)
            return function(given)

        return wrapper


class _Parameters:
    """Reads path and query strictly, and the body within its limits."""

    def __init__(self, *_: object) -> None:
        """Take what connexion passes, which the compiled operation knows already."""

    def __call__(self, function: Seam) -> Seam:
        def wrapper(given: _Request) -> Any:
            operation, context = given.operation, given.request_context
            given.body, query = incoming.read(context.mount.settings.max_body_bytes)
            values = operation.parse_parameters(given.path_params, query)
            given.path_params = {name: values.pop(name) for name in given.path_params}
            given.query = values
            context.customer_id = given.path_params.get("customer_id")
            return function(given)

        return wrapper


class _NoValidator:
    """Leaves parameters alone, because `_Parameters` has checked them."""

    def __init__(self, *_: object, **__: object) -> None:
        """Take what connexion passes."""

    def __call__(self, function: Seam) -> Seam:
        return function


class _Body:
    """Reads the body as strict JSON and validates it."""

    def __init__(self, *_: object, **__: object) -> None:
        """Take what connexion passes, which the compiled operation knows already."""

    def __call__(self, function: Seam) -> Seam:
        def wrapper(given: _Request) -> Any:
            charset = request.mimetype_params.get("charset", "")
            given.json = given.operation.parse_body(request.mimetype, charset, given.body)
            return function(given)

        return wrapper


class _Response:
    """Calls the handler, validates its envelope and encodes it."""

    def __init__(self, *_: object, **__: object) -> None:
        """Take what connexion passes, which the compiled operation knows already."""

    def __call__(self, function: Seam) -> Seam:
        def wrapper(given: _Request) -> Response:
            context = given.request_context
            operation = given.operation
            if operation.idempotency_key is not None:
                context.idempotency_key = operation.parse_idempotency_key(request.headers)
            context.handler_has_run = True
            result = function(given)
            if isinstance(result, CachedResponse):  # validated before the cache kept it
                return responses.cached(result, context.request_id)
            document, headers = result if isinstance(result, tuple) else (result, {})
            operation.envelope.validate(document)
            return Response(
                envelope.encode(document), headers=headers, content_type="application/json"
            )

        return wrapper
