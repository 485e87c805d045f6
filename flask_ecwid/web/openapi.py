"""The contract as it is served: openapi.json, openapi.yaml, and Swagger UI without the network."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import jinja2
import orjson
import yaml
from flask import Blueprint, Response, request, send_from_directory
from swagger_ui_bundle import swagger_ui_path


def add_routes(blueprint: Blueprint, document: dict[str, Any], *, ui: bool) -> None:
    """Serve the contract below the mount, and Swagger UI at `/ui/` if `ui` is true."""

    @lru_cache(maxsize=8)  # by proxy prefix, of which a deployment has one or two
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
    """The contract with the security that is really on: other schemes, none of them ({}), or its
    own (None). What scope an operation takes stays.
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
    components = {**document["components"], "securitySchemes": schemes}
    return {**document, "paths": paths, "components": components}


def at_mount(document: dict[str, Any], mount: str) -> dict[str, Any]:
    """The contract as a client of this mount needs it."""
    return {**document, "servers": [{"url": mount}]}


def to_yaml(document: dict[str, Any]) -> str:
    """The document in YAML, in its own order."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes text of several lines as such."""


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
        return template.render(openapi_spec_url="../openapi.json")  # right behind any proxy

    def ui() -> Response:
        return Response(page(), content_type="text/html; charset=utf-8")

    def ui_static(filename: str) -> Response:
        return send_from_directory(str(swagger_ui_path), filename, conditional=False)

    def to_ui() -> Response:
        # Here, or werkzeug would do it, with the query and whatever host was asked for.
        return Response(status=308, headers={"Location": "ui/"})

    _add(blueprint, "/ui", to_ui)
    _add(blueprint, "/ui/", ui)
    _add(blueprint, "/ui/<path:filename>", ui_static)


def _add(blueprint: Blueprint, path: str, view: Any) -> None:
    # OPTIONS is answered for all paths of the mount alike, in problems.py.
    blueprint.add_url_rule(path, view.__name__, view, provide_automatic_options=False)
