"""flask-openapi3 with pydantic models made from our contract, checking what it answers."""

from __future__ import annotations

from typing import Any

import requests
from flask_openapi3 import OpenAPI
from models import AddedCustomerEnvelope, CustomerEnvelope, CustomerInput, CustomerPageEnvelope
from pydantic import BaseModel, Field
from requests.adapters import HTTPAdapter
from upstream import HEADERS, PREFIX, STORE, TIMEOUT, added_envelope, customer_envelope, envelope

app = OpenAPI(__name__, validate_response=True)
session = requests.Session()
session.mount("http://", HTTPAdapter(pool_maxsize=256))
session.headers.update(HEADERS)


class Paging(BaseModel):
    limit: int = Field(100, ge=1, le=100)
    offset: int = Field(0, ge=0)


class Path(BaseModel):
    customer_id: int


def call(method: str, path: str, **kwargs: Any) -> Any:
    reply = session.request(method, STORE + path, timeout=TIMEOUT, **kwargs)
    reply.raise_for_status()
    return reply.json()


@app.get(f"{PREFIX}/customers", responses={200: CustomerPageEnvelope})
def list_customers(query: Paging) -> Any:
    return envelope(call("GET", "/customers", params=query.model_dump()))


@app.get(f"{PREFIX}/customer/<int:customer_id>", responses={200: CustomerEnvelope})
def get_customer(path: Path) -> Any:
    return customer_envelope(call("GET", f"/customers/{path.customer_id}"))


@app.post(f"{PREFIX}/add_customer", responses={200: AddedCustomerEnvelope})
def add_customer(body: CustomerInput) -> Any:
    sent = body.model_dump(mode="json", exclude_unset=True)
    return added_envelope(call("POST", "/customers", json=sent))
