"""The view that users would otherwise write, with Flask, `requests` and orjson, and without checks.

`bare:session` calls through a `requests.Session`, `bare:adapter` through its `HTTPAdapter` alone.
"""

from __future__ import annotations

from typing import Any

import orjson
import requests
from flask import Flask, Response, request
from requests.adapters import HTTPAdapter
from upstream import HEADERS, PREFIX, STORE, TIMEOUT, added_envelope, customer_envelope, envelope


def by_session() -> Any:
    session = requests.Session()
    session.mount("http://", HTTPAdapter(pool_maxsize=256))
    session.headers.update(HEADERS)

    def call(method: str, path: str, **kwargs: Any) -> bytes:
        reply = session.request(method, STORE + path, timeout=TIMEOUT, **kwargs)
        reply.raise_for_status()
        return reply.content

    return call


def by_adapter() -> Any:
    adapter = HTTPAdapter(pool_maxsize=256)

    def call(method: str, path: str, headers: Any = None, **kwargs: Any) -> bytes:
        headers = {**HEADERS, **(headers or {})}
        prepared = requests.Request(method, STORE + path, headers=headers, **kwargs).prepare()
        reply = adapter.send(prepared, timeout=TIMEOUT)
        reply.raise_for_status()
        return reply.content

    return call


def create_app(call: Any) -> Flask:
    app = Flask(__name__)

    def answer(document: object) -> Response:
        return Response(orjson.dumps(document), content_type="application/json")

    @app.get(f"{PREFIX}/customers")
    def list_customers() -> Response:
        return answer(envelope(orjson.loads(call("GET", "/customers", params=request.args))))

    @app.get(f"{PREFIX}/customer/<int:customer_id>")
    def get_customer(customer_id: int) -> Response:
        return answer(customer_envelope(orjson.loads(call("GET", f"/customers/{customer_id}"))))

    @app.post(f"{PREFIX}/add_customer")
    def add_customer() -> Response:
        body = orjson.dumps(orjson.loads(request.get_data()))
        headers = {"Content-Type": "application/json"}
        reply = call("POST", "/customers", data=body, headers=headers)
        return answer(added_envelope(orjson.loads(reply)))

    return app


session = create_app(by_session())
adapter = create_app(by_adapter())
