"""The served contract, as openapi.json, openapi.yaml and openapi-3.1.json."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import orjson
import yaml
from flask import Blueprint, Response, request

from ..errors import Forbidden, Unauthorized
from .openapi_31 import openapi_31

_NONE: Mapping[str, str] = MappingProxyType({})
# A variable of a prefix such as /shops/<int(min=1):shop>, with or without its converter.
_VARIABLE = re.compile(r"<(?:[A-Za-z_]\w*(?:\([^<>]*\))?:)?([A-Za-z_]\w*)>")
# The variables of the plugin's own routes. A rule cannot have a variable twice.
OWN_VARIABLES = frozenset({"customer_id", "filename", "rest"})
# With these signs, no URL would fit the prefix, or the served contract would have a variable that
# no converter has. A host merges two slashes by a redirect.
_NO_PART_OF_A_PREFIX = ("//", "?", "#", "{", "}")


def prefix_fault(url_prefix: str) -> str:
    """Return why a text cannot be the prefix of a mount, or an empty text."""
    if not url_prefix.startswith("/") or url_prefix.endswith("/"):
        return "must begin with a slash, and must not end with a slash"
    names = _VARIABLE.findall(url_prefix)
    if taken := sorted(OWN_VARIABLES.intersection(names)):
        return f"has a converter with the name {taken[0]}, which a route of the plugin has"
    fixed = _VARIABLE.sub("-", url_prefix)
    if found := [each for each in _NO_PART_OF_A_PREFIX if each in fixed]:
        return f"must not have {found[0]}"
    return ""


def add_routes(blueprint: Blueprint, document: dict[str, Any]) -> None:
    """Serve the contract below the mount."""
    template = _VARIABLE.sub(r"{\1}", blueprint.url_prefix or "")
    names = _VARIABLE.findall(blueprint.url_prefix or "")

    def address(values: Mapping[str, object]) -> tuple[str, tuple[tuple[str, str], ...]]:
        """Return the address of the mount, and the variables with the values of this request."""
        assert request.url_rule is not None, "a route has called the view"
        # The text of the URL may differ from the value, for example 0042 from 42.
        converters = request.url_rule._converters
        variables = tuple([(name, converters[name].to_url(values[name])) for name in names])
        return f"{request.script_root}{template}", variables

    def add(path: str, endpoint: str, kind: str, write: Callable[[Any], bytes | str]) -> None:
        # The address depends on the prefix that a proxy adds. A deployment has one or two.
        @lru_cache(maxsize=8)
        def written(mount: str, variables: tuple[tuple[str, str], ...]) -> bytes | str:
            return write(at_mount(document, mount, dict(variables)))

        def view(**values: object) -> Response:
            return Response(written(*address(values)), content_type=kind)

        # problems.py has the rule for OPTIONS on every path of the mount.
        blueprint.add_url_rule(path, endpoint, view, provide_automatic_options=False)

    add("/openapi.json", "openapi_json", "application/json", orjson.dumps)
    add("/openapi.yaml", "openapi_yaml", "application/yaml", to_yaml)
    add("/openapi-3.1.json", "openapi_31_json", "application/json", _to_json_31)


def _to_json_31(document: dict[str, Any]) -> bytes:
    return orjson.dumps(openapi_31(document))


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


def at_mount(
    document: dict[str, Any], mount: str, variables: Mapping[str, str] = _NONE
) -> dict[str, Any]:
    """Return the contract with the address of the mount.

    Args:
        document: The contract.
        mount: The address, in which `{name}` stands for a variable.
        variables: The default of each variable, for `Server Variable Objects`.
    """
    server: dict[str, Any] = {"url": mount}
    if variables:
        server["variables"] = {name: {"default": value} for name, value in variables.items()}
    return {**document, "servers": [server]}


def to_yaml(document: dict[str, Any]) -> str:
    """Return the document as YAML, with its members in their order."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """A YAML writer that keeps the line breaks of long texts."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
