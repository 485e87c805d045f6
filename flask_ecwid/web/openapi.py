"""The served contract, as openapi.json and openapi.yaml."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import orjson
import yaml
from flask import Blueprint, Response, request

from ..errors import Forbidden, Unauthorized


def add_routes(blueprint: Blueprint, document: dict[str, Any]) -> None:
    """Serve the contract below the mount."""

    # The path of the mount depends on the prefix that a proxy adds. A deployment has one or two.
    @lru_cache(maxsize=8)
    def as_json(mount: str) -> bytes:
        return orjson.dumps(at_mount(document, mount))

    @lru_cache(maxsize=8)
    def as_yaml(mount: str) -> str:
        return to_yaml(at_mount(document, mount))

    def openapi_json() -> Response:
        return Response(as_json(_mount()), content_type="application/json")

    def openapi_yaml() -> Response:
        return Response(as_yaml(_mount()), content_type="application/yaml")

    def _mount() -> str:
        return f"{request.script_root}{request.path.rpartition('/')[0]}"

    # problems.py has the rule for OPTIONS on every path of the mount.
    for view, path in ((openapi_json, "/openapi.json"), (openapi_yaml, "/openapi.yaml")):
        blueprint.add_url_rule(path, view_func=view, provide_automatic_options=False)


def secured(document: dict[str, Any], schemes: dict[str, Any] | None) -> dict[str, Any]:
    """Return the contract with the security schemes of this mount.

    Args:
        document: The contract.
        schemes: The schemes to declare, or {} for an open store. None keeps the contract's schemes.
            The scope of each operation stays.
    """
    if schemes is None:
        return document

    def operation(node: dict[str, Any]) -> dict[str, Any]:
        scopes = next(iter(node["security"][0].values()))
        return {**node, "security": [{name: scopes} for name in schemes]}

    paths = {
        path: {method: operation(node) for method, node in item.items()}
        for path, item in document["paths"].items()
    }
    examples = document["components"]["examples"]
    components = {
        **document["components"],
        "securitySchemes": schemes,
        "examples": {**examples, **_refusals_by_host(examples)},
    }
    return {**document, "paths": paths, "components": components}


def with_required_idempotency_key(document: dict[str, Any]) -> dict[str, Any]:
    """Return the contract with an Idempotency-Key that each request of `add_customer` needs."""
    components = document["components"]
    parameters = components["parameters"]
    required = {**parameters["IdempotencyKey"], "required": True}
    changed = {**components, "parameters": {**parameters, "IdempotencyKey": required}}
    return {**document, "components": changed}


def _refusals_by_host(examples: dict[str, Any]) -> dict[str, Any]:
    """Return the examples of a 401 and a 403, where the host and no API key decides."""
    refusals = {
        "UnauthorizedProblem": ("An unknown caller", Unauthorized("host")),
        "ForbiddenProblem": ("A caller without the scope", Forbidden("delete", by_host=True)),
    }
    return {
        name: {"summary": summary, "value": {**examples[name]["value"], "detail": error.detail}}
        for name, (summary, error) in refusals.items()
    }


def at_mount(document: dict[str, Any], mount: str) -> dict[str, Any]:
    """Return the contract with the address of the mount."""
    return {**document, "servers": [{"url": mount}]}


def to_yaml(document: dict[str, Any]) -> str:
    """Return the document as YAML, with its members in their order."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """A YAML writer that keeps the line breaks of long texts."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
