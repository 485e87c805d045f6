"""The command `flask ecwid openapi`, which prints the contract as the endpoints serve it."""

from __future__ import annotations

import json

import click

from .. import contract
from ..extension import URL_PREFIX
from ..web import openapi as published
from ..web.openapi_31 import openapi_31
from . import terminal


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of YAML.")
@click.option(
    "--mount", default=URL_PREFIX, show_default=True, help="The URL that serves the endpoints."
)
@click.option(
    "--openapi",
    "version",
    type=click.Choice(["3.0", "3.1"]),
    default="3.0",
    show_default=True,
    help="The version of OpenAPI. 3.1 also lists Ecwid's webhook events.",
)
def openapi(as_json: bool, mount: str, version: str) -> None:
    """Print the OpenAPI contract of the endpoints.

    \b
    Example:
      flask ecwid openapi --mount https://shop.example.com/api/json/v1/ecwid > customers.yaml
    """
    document = published.at_mount(contract.load().document, mount)
    if version == "3.1":
        document = openapi_31(document)
    terminal.show(
        json.dumps(document, ensure_ascii=False, indent=2)
        if as_json
        else published.to_yaml(document)
    )
