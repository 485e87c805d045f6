"""connexion as it comes, over our contract, with `validate_responses=True`: 2.15 and 3 alike."""

from __future__ import annotations

import sys
import uuid
from importlib.metadata import version
from pathlib import Path
from typing import Any

import connexion
import requests
import yaml
from connexion.resolver import Resolver
from requests.adapters import HTTPAdapter
from upstream import HEADERS, PREFIX, STORE, TIMEOUT, added_envelope, customer_envelope, envelope

session = requests.Session()
session.mount("http://", HTTPAdapter(pool_maxsize=256))
session.headers.update(HEADERS)


def call(method: str, path: str, **kwargs: Any) -> Any:
    reply = session.request(method, STORE + path, timeout=TIMEOUT, **kwargs)
    reply.raise_for_status()
    return reply.json()


def answer(document: Any) -> Any:
    headers = {"X-Request-ID": str(uuid.uuid4()), "Content-Type": "application/json"}
    return document, 200, headers


def list_customers(**filters: Any) -> Any:
    return answer(envelope(call("GET", "/customers", params=filters)))


def get_customer(customer_id: int, **_: Any) -> Any:
    return answer(customer_envelope(call("GET", f"/customers/{customer_id}")))


def add_customer(body: Any) -> Any:
    return answer(added_envelope(call("POST", "/customers", json=body)))


def nothing(**_: Any) -> Any:
    return {}, 501


CONTRACT = Path(__file__).parents[2] / "openapi" / "customers.yaml"
document = yaml.safe_load(CONTRACT.read_text(encoding="utf-8"))
for item in document["paths"].values():
    for operation in item.values():
        operation["security"] = []  # anybody may call here, as with all the others
application = connexion.FlaskApp(__name__)
application.add_api(
    document,
    base_path=PREFIX,
    resolver=Resolver(lambda name: getattr(sys.modules[__name__], name, nothing)),
    validate_responses=True,
)
app = application if version("connexion").startswith("3.") else application.app
