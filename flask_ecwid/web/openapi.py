"""The served contract, as openapi.json and openapi.yaml, and Swagger UI from local files."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import jinja2
import orjson
import yaml
from flask import Blueprint, Response, request, send_from_directory
from swagger_ui_bundle import swagger_ui_path

from ..errors import Forbidden, Unauthorized


def add_routes(blueprint: Blueprint, document: dict[str, Any], *, ui: bool) -> None:
    """Serve the contract below the mount, and Swagger UI at `/ui/` if `ui` is true."""

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

    _add(blueprint, "/openapi.json", openapi_json)
    _add(blueprint, "/openapi.yaml", openapi_yaml)
    if ui:
        _add_ui(blueprint)


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


def _add_ui(blueprint: Blueprint) -> None:
    @cache
    def page() -> str:
        template = jinja2.Environment(autoescape=True).from_string(
            (swagger_ui_path / "index.j2").read_text(encoding="utf-8")
        )
        # A relative address, because a proxy may add a prefix to the path.
        return template.render(openapi_spec_url="../openapi.json")

    def ui() -> Response:
        return Response(page(), content_type="text/html; charset=utf-8")

    def ui_static(filename: str) -> Response:
        return send_from_directory(str(swagger_ui_path), filename, conditional=False)

    def to_ui() -> Response:
        # Without this route, werkzeug would redirect with the caller's query and Host header.
        return Response(status=308, headers={"Location": "ui/"})

    _add(blueprint, "/ui", to_ui)
    _add(blueprint, "/ui/", ui)
    _add(blueprint, "/ui/<path:filename>", ui_static)


def _add(blueprint: Blueprint, path: str, view: Any) -> None:
    # problems.py has the rule for OPTIONS on every path of the mount.
    blueprint.add_url_rule(path, view.__name__, view, provide_automatic_options=False)
