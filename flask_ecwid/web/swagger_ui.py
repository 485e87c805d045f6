"""Swagger UI at /ui/, from local files and without inline scripts, styles and images."""

from __future__ import annotations

import re
from base64 import b64decode
from functools import cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from flask import Blueprint, Response
from swagger_ui_bundle import swagger_ui_path
from werkzeug.exceptions import NotFound

# Without the second directive, another site could show the page in a frame and mislead the clicks
# of a user.
POLICY = "default-src 'self'; frame-ancestors 'none'"

# The address of the contract is relative, because a proxy may add a prefix to the path.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Swagger UI</title>
<link rel="stylesheet" href="./index.css">
<link rel="stylesheet" href="./swagger-ui.css">
<link rel="stylesheet" href="./narrow.css">
<link rel="icon" href="./favicon-32x32.png">
</head>
<body>
<div id="swagger-ui" data-contract="../openapi.json"></div>
<script src="./swagger-ui-bundle.js"></script>
<script src="./start.js"></script>
</body>
</html>
"""
_START = """const place = document.getElementById("swagger-ui");
SwaggerUIBundle({
  url: place.dataset.contract,
  domNode: place,
  deepLinking: true,
  validatorUrl: null,
});
"""
# On a phone, a wide table scrolls in its own box. Without the rule, it widens the whole page.
_NARROW = """.swagger-ui :is(.responses-inner, .parameters-container, .model-container) {
  overflow-x: auto;
}
"""
_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "png": "image/png",
    "jpeg": "image/jpeg",
    "svg": "image/svg+xml",
}
# An inline image of a style sheet or a script, with quotation marks or without.
_IMAGE = re.compile(r"""("?)data:image/(png|jpeg|svg)[^,]*?(;base64)?,(.*?[^\\])\1(?=[)};,])""")


class _File(NamedTuple):
    content_type: str
    content: bytes


def add_routes(blueprint: Blueprint) -> None:
    """Serve Swagger UI, and no file that its page does not need."""

    def ui(**_: object) -> Response:
        return _response(_File("text/html; charset=utf-8", _PAGE.encode()))

    def ui_static(filename: str, **_: object) -> Response:
        file = _files().get(filename)
        if file is None:
            raise NotFound
        return _response(file)

    def to_ui(**_: object) -> Response:
        # Without this route, werkzeug would redirect with the caller's query and Host header.
        return Response(status=308, headers={"Location": "ui/"})

    # problems.py has the rule for OPTIONS on every path of the mount.
    for view, path in ((to_ui, "/ui"), (ui, "/ui/"), (ui_static, "/ui/<filename>")):
        blueprint.add_url_rule(path, view_func=view, provide_automatic_options=False)


def _response(file: _File) -> Response:
    headers = {"Content-Security-Policy": POLICY}
    return Response(file.content, headers=headers, content_type=file.content_type)


@cache
def _files() -> dict[str, _File]:
    """Return the files beside the page by their names."""
    names = ("index.css", "swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
    contents = {name: (swagger_ui_path / name).read_bytes() for name in names}
    contents |= {"start.js": _START.encode(), "narrow.css": _NARROW.encode()}
    for name in ("swagger-ui.css", "swagger-ui-bundle.js"):
        text, images = separate_images(contents[name].decode("utf-8"), name)
        contents |= {name: text.encode(), **images}
    return {
        name: _File(_TYPES[name.rpartition(".")[2]], content) for name, content in contents.items()
    }


def separate_images(text: str, name: str) -> tuple[str, dict[str, bytes]]:
    """Return a style sheet or script, and its inline images as files.

    The policy bans images in `data:` URLs.

    Args:
        text: The style sheet or script.
        name: The name of its file, with which the names of the images begin.
    """
    images: dict[str, bytes] = {}

    def separated(match: re.Match[str]) -> str:
        quote, kind, is_base64, content = match.groups()
        image = f"{name}.{len(images)}.{kind}"
        # A backslash there only escapes the quotation mark behind it.
        content = content.replace("\\", "")
        images[image] = b64decode(content) if is_base64 else unquote_to_bytes(content)
        return f"{quote}{image}{quote}"

    return _IMAGE.sub(separated, text), images
